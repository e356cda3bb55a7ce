//! SIGKILL of the real process at random moments of a run of programs, again and again: what it told of is in its journal afterwards, no
//! finished step is begun again, and every effect comes about exactly once. On real databases and a real name server: `killed_anywhere`.
//!
//! `cargo xtask torture kill-loop --rounds 1000` kills so often; `--seed` repeats the moments of a seed.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lifeboat_engine::journal::{Event, Outcome};
use support::chance::Chance;
use support::clock;
use support::journal::{self, Journal};
use support::process::{Going, PATIENCE, binary, run};
use support::stage::write;
use xtask::look_until;

/// Kills where nobody asks for more.
const KILLS: u64 = 40;
/// After so many kills a run is left alone, so that the next one begins from the start again.
const KILLS_OF_ONE_RUN: u64 = 10;
/// A kill comes at most so long after the line of progress it waited for: longer than a commit, shorter than most programs.
const AFTER_LINE: Duration = Duration::from_millis(30);

/// Steps with what they need: two branches that join, and one beside them.
const STEPS: [(&str, &[&str]); 8] =
    [("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b"]), ("e", &["c"]), ("f", &["d", "e"]), ("g", &[]), ("h", &["f", "g"])];

/// Appends a line for each effect, as one write, and tells afterwards whether it did. Some time passes before the effect and after it.
const PROGRAM: &str = "#!/bin/sh\ncase \"$2\" in\n  do) sleep 0.01; echo \"$1\" >> \"$3\"; sleep 0.01 ;;\n  seen) grep -qx \"$1\" \"$3\" || exit 1 ;;\nesac\n";

/// One run's files.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")) };
        let (program, effects) = (place.path("program"), place.path("effects"));
        write(&program, PROGRAM);
        write(&effects, "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
        write(&place.path("lifeboat.yaml"), &format!("lifeboat: v1\npolicies: {{ programs: [{}] }}\n", program.display()));
        let mut text = "lifeboat: v1\nname: killed\nsteps:\n".to_owned();
        for (step, needs) in STEPS {
            let (program, effects, needs) = (program.display(), effects.display(), needs.join(", "));
            text.push_str(&format!(
                "  - id: {step}\n    type: command\n    needs: [{needs}]\n    retry: {{ attempts: 3, backoff: 1ms..1ms }}\n    with:\n      program: {program}\n      args: [{step}, do, {effects}]\n      check: {{ program: {program}, args: [{step}, seen, {effects}] }}\n"
            ));
        }
        write(&place.path("runbook.yaml"), &text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.path("lifeboat.yaml")).arg("--data").arg(self.data()).args(words);
        command
    }

    fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("effects")).unwrap_or_else(|error| panic!("{error}"));
        text.lines().map(str::to_owned).collect()
    }
}

/// What has been covered so far.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    runs: u64,
    acknowledged: u64,
    /// Kills by the last entry of the journal at that moment.
    places: BTreeMap<String, u64>,
    /// Kills with an effect in the world and its outcome not yet in the journal.
    between: u64,
}

#[test]
fn killed_again_and_again_a_run_loses_no_acknowledgement_and_repeats_no_finished_step() {
    let seed = clock::wish("KILL_LOOP_SEED").unwrap_or_else(|| Chance::new(clock::wall().to_bits()).next() % 1_000_000);
    let wanted = clock::wish("KILL_LOOP_ROUNDS").unwrap_or(KILLS);
    println!("KILL_LOOP_SEED={seed}");
    let mut chance = Chance::new(seed);
    let mut tally = Tally::default();
    let span = undisturbed();
    // The bound is for a product that ends before it can ever be killed; it would make the test go on for ever.
    while tally.kills < wanted && tally.runs < wanted {
        one_run(&mut chance, span, &mut tally);
    }
    println!(
        "{} kills in {} runs, {} acknowledged things held against the journal: none lost, no finished step begun again; {} kills between an effect and its outcome",
        tally.kills, tally.runs, tally.acknowledged, tally.between
    );
    println!("by last entry: {:#?}", tally.places);
    assert!(tally.kills >= wanted, "{tally:?}");
    assert!(tally.acknowledged > tally.kills, "too little was acknowledged: {tally:?}");
    assert!(wanted < KILLS || tally.between > 0, "no kill came between an effect and its outcome: {tally:?}");
}

/// How long a run takes when nobody disturbs it.
fn undisturbed() -> Duration {
    let place = Place::new();
    let runbook = place.path("runbook.yaml").display().to_string();
    let began = clock::now();
    run(&mut place.command(&["run", &runbook, "--no-wait"])).expect(0);
    let span = clock::now().duration_since(began);
    check_end(&place, &journal::only(&place.data()));
    span
}

/// One run, killed and resumed until it is done.
fn one_run(chance: &mut Chance, span: Duration, tally: &mut Tally) {
    let place = Place::new();
    let runbook = place.path("runbook.yaml").display().to_string();
    tally.runs += 1;
    let mut before: Option<Journal> = None;
    let mut told: Vec<String> = Vec::new();
    for kills in 0.. {
        let words = if before.is_some() { vec!["resume", "--no-wait"] } else { vec!["run", &runbook, "--no-wait"] };
        let mut going = Going::start(&mut place.command(&words));
        let killed = kills < KILLS_OF_ONE_RUN && wait_for_the_moment(&mut going, chance, span);
        let ended = if killed { going.kill() } else { going.end() };
        told.extend(ended.stderr.lines().map(str::to_owned));
        let now = journal::all(&place.data()).pop();
        tally.acknowledged += held_against(&told, now.as_ref());
        let lost = before.as_ref().is_some_and(|before| now.as_ref().is_none_or(|now| !now.entries.starts_with(&before.entries)));
        assert!(!lost, "entries were lost or changed: {before:#?}\nnow:\n{now:#?}");
        if ended.code.is_none() {
            tally.kills += 1;
            let at = now.as_ref().map_or_else(|| "before admission".to_owned(), Journal::last);
            *tally.places.entry(at.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
            let done = |effect: &String| now.as_ref().is_some_and(|journal| journal.successes(effect) > 0);
            tally.between += u64::from(!place.effects().iter().all(done));
        } else {
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
        let over = now.as_ref().is_some_and(|journal| journal.outcome().is_some());
        before = now;
        if over {
            break;
        }
    }
    match before {
        Some(journal) => check_end(&place, &journal),
        None => panic!("a run ended without a journal"),
    }
}

/// Waits for a moment of chance. False where the process ended before.
fn wait_for_the_moment(going: &mut Going, chance: &mut Chance, span: Duration) -> bool {
    let (lines, then) = (usize::try_from(chance.below(12)).unwrap_or_default(), chance.length(AFTER_LINE));
    let by_age = if chance.below(3) == 0 { Some(chance.length(span)) } else { None };
    let mut due = by_age;
    let killed = look_until(PATIENCE, || {
        let age = going.age();
        if due.is_none() && going.line_count() >= lines {
            due = Some(age + then);
        }
        if due.is_some_and(|due| age >= due) {
            return Some(true);
        }
        going.has_ended().then_some(false)
    });
    killed.unwrap_or_else(|| panic!("it neither ended nor came to the moment:\n{}", going.lines().concat()))
}

/// Everything that was told is in the journal; answers how many things that were.
fn held_against(told: &[String], now: Option<&Journal>) -> u64 {
    let mut acknowledged = 0;
    for line in told {
        if line.contains(" is admitted") {
            assert!(now.is_some(), "the run that was acknowledged is gone: {line}");
            acknowledged += 1;
        }
        for (step, _) in STEPS {
            if line.contains(&format!("✓ {step} succeeded")) {
                assert!(now.is_some_and(|journal| journal.successes(step) == 1), "it was told that {step} is done: {line}\n{now:#?}");
                acknowledged += 1;
            } else if line.contains(&format!("▶ {step} running")) {
                assert!(now.is_some_and(|journal| journal.starts(step) > 0), "it was told that {step} runs: {line}\n{now:#?}");
                acknowledged += 1;
            }
        }
    }
    acknowledged
}

fn check_end(place: &Place, journal: &Journal) {
    assert_eq!(journal.outcome(), Some(Outcome::Succeeded));
    assert_eq!(journal.done_and_started_again(), Vec::<String>::new());
    for (step, _) in STEPS {
        assert_eq!(journal.successes(step), 1, "{step}");
    }
    let mut effects = place.effects();
    effects.sort_unstable();
    assert_eq!(effects, STEPS.map(|(step, _)| step), "each effect exactly once");
    let ended = journal.entries.iter().filter(|entry| matches!(entry.event, Event::RunEnded { .. })).count();
    assert_eq!(ended, 1, "a run ends once");
    verify(&place.data());
}

fn verify(data: &Path) {
    run(Command::new(binary()).arg("--data").arg(data).args(["store", "verify"])).expect(0);
}
