//! Killed anywhere, it ends the same: SIGKILL of the real process at random moments of a real failover, resumed until it is done.
//!
//! `KILL_SEED=7 cargo test --test killed_anywhere` repeats the moments of a seed; `cargo xtask torture kill --rounds 300` kills more often.
#![expect(clippy::print_stdout, reason = "a person reads the moments of the kills beside a failure")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_engine::journal::Outcome;
use support::chance::Chance;
use support::clock;
use support::journal::{self, Journal};
use support::process::{Going, PATIENCE};
use support::stage::{Stage, WEST};
use xtask::lab::dns;
use xtask::lab::postgres::PRIMARY;
use xtask::look_until;

/// Kills in CI. More with `KILL_ROUNDS`.
const KILLS: u64 = 60;
/// After so many kills a failover is left alone, so that the next one begins from the start again.
const KILLS_OF_ONE_FAILOVER: u64 = 12;
/// How long after its trigger a kill may come: longer than any commit, shorter than most steps.
const AFTER_TRIGGER: Duration = Duration::from_millis(60);

/// When to kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the process was started.
    Age(Duration),
    /// So long after it has told so many things: each line of progress is an entry that is durable.
    Told(usize, Duration),
    /// So long after the world shows the effect, whatever was told or journaled of it.
    Effect(Effect, Duration),
}

/// What a step did to the world, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// The old primary's data directory says that it comes back as a standby.
    Fence,
    /// The new primary's log says that it was asked.
    Promote,
    /// The zone has a new serial.
    Dns,
}

const EFFECTS: [Effect; 3] = [Effect::Fence, Effect::Promote, Effect::Dns];

impl Effect {
    fn step(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Promote => "promote",
            Self::Dns => "dns",
        }
    }

    fn is_seen(self, stage: &Stage) -> bool {
        match self {
            Self::Fence => stage.lab.node(PRIMARY).data.join("standby.signal").exists(),
            Self::Promote => stage.lab.node(WEST).log_count("received promote request").is_ok_and(|count| count > 0),
            Self::Dns => stage.lab.dns().serial().is_ok_and(|serial| serial > dns::FIRST_SERIAL),
        }
    }
}

/// How a process was stopped.
#[derive(Debug)]
enum Stopped {
    /// By us.
    Killed,
    /// It came to its end before.
    Ended(Option<i32>, String),
}

/// What has been covered so far.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    failovers: u64,
    /// Kills by the last entry of the journal at that moment.
    places: BTreeMap<String, u64>,
    /// Kills while an intent was journaled and its outcome was not.
    open: BTreeMap<String, u64>,
    /// Kills with the effect in the world and its outcome not yet in the journal.
    between: BTreeMap<Effect, u64>,
}

impl Tally {
    fn covers(&self, kills: u64) -> bool {
        self.kills >= kills && EFFECTS.iter().all(|effect| self.between.contains_key(effect))
    }
}

#[test]
fn killed_at_any_moment_a_failover_ends_the_same() {
    let seed = clock::wish("KILL_SEED").unwrap_or_else(|| Chance::new(clock::wall().to_bits()).next() % 1_000_000);
    let wanted = clock::wish("KILL_ROUNDS").unwrap_or(KILLS);
    println!("KILL_SEED={seed}");
    let mut chance = Chance::new(seed);
    let span = undisturbed();
    println!("an undisturbed failover takes {span:?}");
    let mut tally = Tally::default();
    // The bound is for a product that can never be killed between an effect and its entry; it would make the test go on for ever.
    while !tally.covers(wanted) && tally.failovers < wanted {
        failover(&mut chance, span, &mut tally);
    }
    println!("{} kills in {} failovers", tally.kills, tally.failovers);
    println!("by last entry: {:#?}\nwith an intent open: {:?}\nbetween effect and outcome: {:?}", tally.places, tally.open, tally.between);
    assert!(tally.covers(wanted), "the kills missed a place: {tally:?}");
}

/// A stage whose runbook accepts any loss: this test is about kills, not about the gate.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.write_runbook(|text| text.replace("limit: 2s", "limit: 1h").replace("max_loss: 2s", "max_loss: 1h"));
    stage
}

/// How long a failover takes when nobody disturbs it.
fn undisturbed() -> Duration {
    let stage = stage();
    let _heartbeat = stage.beat();
    stage.lab.node(PRIMARY).kill_group().unwrap_or_else(|error| panic!("{error}"));
    let mut going = Going::start(&mut stage.command(&stage.run_words()));
    look_until(PATIENCE, || going.has_ended().then_some(()));
    let span = going.age();
    going.end().expect(0);
    check_end(&stage, &journal::only(&stage.data));
    span
}

/// One failover, killed and resumed until it is done.
fn failover(chance: &mut Chance, span: Duration, tally: &mut Tally) {
    let number = tally.failovers;
    tally.failovers += 1;
    let stage = stage();
    let heartbeat = stage.beat();
    // Every other time the old primary lives and has to be stopped.
    let dead = number.is_multiple_of(2);
    if dead {
        stage.lab.node(PRIMARY).kill_group().unwrap_or_else(|error| panic!("{error}"));
    }
    // Each failover aims at one effect beside the random moments: the instant between it and its entry is the one that matters.
    let aim = EFFECTS[usize::try_from(number % 3).unwrap_or_default()];
    println!("failover {number}: the old primary is {}, aiming at {}", if dead { "dead" } else { "alive" }, aim.step());
    let mut before: Option<Journal> = None;
    let mut kills = 0;
    loop {
        let words = match &before {
            None => stage.run_words(),
            Some(_) => vec!["resume", "--no-wait"],
        };
        let mut going = Going::start(&mut stage.command(&words));
        let stopped = if kills < KILLS_OF_ONE_FAILOVER {
            let moment = pick(chance, span, aim, &stage);
            let aimed = if aim.is_seen(&stage) { None } else { Some((aim, chance.length(Duration::from_millis(8)))) };
            (kill_at(going, &stage, moment, aimed), moment)
        } else {
            look_until(PATIENCE, || going.has_ended().then_some(()));
            let ended = going.end();
            (Stopped::Ended(ended.code, ended.stderr), Moment::Age(PATIENCE))
        };
        let now = journal::all(&stage.data).pop();
        let what = format!("failover {number}, after kill {kills}, {:?}", stopped.1);
        assert_nothing_lost(before.as_ref(), now.as_ref(), &what);
        match stopped.0 {
            Stopped::Killed => {
                kills += 1;
                tally.kills += 1;
                count(tally, now.as_ref(), &stage);
                let place = now.as_ref().map_or_else(|| "before admission".to_owned(), Journal::last);
                println!("  kill {kills}: {:?}: {} entries, {place}", stopped.1, now.as_ref().map_or(0, |journal| journal.entries.len()));
                // Killed after its last entry and before its process ended: there is nothing to resume.
                if now.as_ref().is_some_and(|journal| journal.outcome().is_some()) {
                    stage.lifeboat(&["resume", "--no-wait"]).expect(3).says(&["nothing to resume"]);
                    before = now;
                    break;
                }
                before = now;
            }
            Stopped::Ended(code, stderr) => {
                assert_eq!(code, Some(0), "{what}: {stderr}\n{now:#?}");
                before = now;
                break;
            }
        }
    }
    drop(heartbeat);
    match before {
        Some(journal) => check_end(&stage, &journal),
        None => panic!("failover {number} ended without a journal"),
    }
}

fn pick(chance: &mut Chance, span: Duration, aim: Effect, stage: &Stage) -> Moment {
    match chance.below(10) {
        // Short lives: most of a failover's kills come before it has got far.
        0..=2 => Moment::Age(chance.length(span / 2)),
        3 => Moment::Age(chance.length(span)),
        4..=8 => Moment::Told(1 + usize::try_from(chance.below(4)).unwrap_or_default(), chance.length(AFTER_TRIGGER)),
        _ => {
            let others: Vec<Effect> = EFFECTS.into_iter().filter(|effect| *effect != aim && !effect.is_seen(stage)).collect();
            match others.first() {
                Some(effect) => Moment::Effect(*effect, chance.length(AFTER_TRIGGER)),
                None => Moment::Age(chance.length(span)),
            }
        }
    }
}

/// Kills at the moment, or when the aimed effect is seen, whichever is first.
fn kill_at(mut going: Going, stage: &Stage, moment: Moment, aimed: Option<(Effect, Duration)>) -> Stopped {
    let mut due: Option<Duration> = None;
    let sooner = |due: &mut Option<Duration>, at: Duration| *due = Some(due.map_or(at, |due| due.min(at)));
    let ended = look_until(PATIENCE, || {
        let age = going.age();
        match moment {
            Moment::Age(at) => sooner(&mut due, at),
            Moment::Told(count, then) if due.is_none() && going.line_count() >= count => sooner(&mut due, age + then),
            Moment::Effect(effect, then) if due.is_none() && effect.is_seen(stage) => sooner(&mut due, age + then),
            Moment::Told(..) | Moment::Effect(..) => {}
        }
        if let Some((effect, then)) = aimed
            && due.is_none_or(|due| due > age + then)
            && effect.is_seen(stage)
        {
            sooner(&mut due, age + then);
        }
        if due.is_some_and(|due| age >= due) {
            return Some(false);
        }
        going.has_ended().then_some(true)
    });
    match ended {
        Some(true) => {
            let ended = going.end();
            Stopped::Ended(ended.code, ended.stderr)
        }
        Some(false) => {
            let ended = going.kill();
            // It may have ended between the last look and the kill.
            if ended.code.is_some() { Stopped::Ended(ended.code, ended.stderr) } else { Stopped::Killed }
        }
        None => panic!("it neither ended nor came to {moment:?}:\n{}", going.lines().concat()),
    }
}

fn count(tally: &mut Tally, now: Option<&Journal>, stage: &Stage) {
    let place = now.map_or_else(|| "before admission".to_owned(), Journal::last);
    *tally.places.entry(place).or_default() += 1;
    let Some(journal) = now else { return };
    if let Some(step) = journal.open_step() {
        *tally.open.entry(step).or_default() += 1;
    }
    for effect in EFFECTS {
        if journal.starts(effect.step()) > 0 && journal.successes(effect.step()) == 0 && effect.is_seen(stage) {
            *tally.between.entry(effect).or_default() += 1;
        }
    }
}

/// What was journaled once stays, in its place, whatever came later.
fn assert_nothing_lost(before: Option<&Journal>, now: Option<&Journal>, what: &str) {
    let Some(before) = before else { return };
    let Some(now) = now else { panic!("{what}: the journal of {} is gone", before.run) };
    assert_eq!(now.run, before.run, "{what}");
    assert!(
        now.entries.starts_with(&before.entries),
        "{what}: entries were lost or changed:\n{:#?}\nnow:\n{:#?}",
        before.entries,
        now.entries
    );
}

fn check_end(stage: &Stage, journal: &Journal) {
    assert_eq!(journal.outcome(), Some(Outcome::Succeeded));
    assert_eq!(journal.done_and_started_again(), Vec::<String>::new());
    for step in ["loss", "fence", "promote", "dns", "verify"] {
        assert_eq!(journal.successes(step), 1, "{step}");
    }
    stage.assert_one_failover();
    // The report is made from the journal alone, and the locks are free for the next run.
    let report = stage.report();
    assert_eq!(report["outcome"], "succeeded");
    assert_eq!(report["journal_entries"], journal.entries.len());
    assert_eq!(report["locks_kept"], serde_json::json!([]));
}
