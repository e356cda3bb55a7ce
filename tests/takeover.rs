//! Two real engines on one etcd cluster, each in a network namespace of its own. The one that drives a run is killed, frozen past its
//! lease or cut off from the network; the other takes the run over, and no effect comes about twice.
//!
//! `TAKEOVER_SEED=7 cargo test --test takeover` repeats the moments of a seed; `cargo xtask torture takeover --rounds 60` goes on longer.
#![expect(clippy::print_stdout, reason = "a person reads the moments and the times beside a failure")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::chance::Chance;
use support::clock;
use support::process::{Going, PATIENCE, binary, run};
use xtask::lab::etcd::{EtcdCluster, Host};
use xtask::look_until;

/// Rounds in CI: each way of being gone once. More with `TAKEOVER_ROUNDS`.
const ROUNDS: u64 = 3;
/// Steps of each run.
const STEPS: usize = 5;
/// How long each effect takes to come about after its step began, in seconds.
const EFFECT_AFTER: &str = "0.2";
/// A moment within a step, from its beginning to a little after its end.
const WITHIN_A_STEP: Duration = Duration::from_millis(400);

/// What befalls the engine that drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gone {
    /// SIGKILL.
    Killed,
    /// SIGSTOP until the other has ended the run, then SIGCONT.
    Frozen,
    /// No network until the other has ended the run.
    CutOff,
}

const WAYS: [Gone; 3] = [Gone::Killed, Gone::Frozen, Gone::CutOff];

/// A cluster and two machines.
struct Stage {
    cluster: EtcdCluster,
    one: Host,
    two: Host,
    folder: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let cluster = EtcdCluster::start().unwrap_or_else(|error| panic!("{error}"));
        let host = || cluster.add_host().unwrap_or_else(|error| panic!("{error}"));
        let (one, two) = (host(), host());
        let folder = cluster.folder().join("stage");
        let stage = Self { one, two, folder, cluster };
        assert!(fs::create_dir_all(&stage.folder).is_ok());
        // One line when it begins, one when the effect is there. Which step it is comes from the engine.
        stage.program(
            "effect",
            &format!("echo \"$LIFEBOAT_STEP\" >> \"$1.begun\"\nsleep {EFFECT_AFTER}\necho \"$LIFEBOAT_STEP\" >> \"$1\"\n"),
        );
        stage.program("check", "grep -qx \"$LIFEBOAT_STEP\" \"$1\"\n");
        stage
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        let written =
            fs::write(&path, format!("#!/bin/sh\n{text}")).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        assert!(written.is_ok(), "{written:?}");
    }

    /// The inventory and the runbook of one round, and where its effects are written.
    fn round(&self, number: u64) -> Round<'_> {
        let folder = self.folder.join(format!("round-{number}"));
        let log = folder.join("effects");
        let shown = |path: &Path| path.display().to_string();
        let (effect, check) = (shown(&self.folder.join("effect")), shown(&self.folder.join("check")));
        let endpoints = self.cluster.endpoints().join(", ");
        let inventory = format!(
            "lifeboat: v1\npolicies:\n  programs: [{effect}, {check}]\nstore:\n  etcd:\n    endpoints: [{endpoints}]\n    prefix: /round-{number}/\n    lease: 5s\n    \
             accept_stale_reads: the tests of this project use the etcd that Debian has\n\
             dns-records:\n  thing:\n    name: a.example.\n    type: A\n    ttl: 1\n    targets: {{ here: [127.0.0.1] }}\n    \
             rfc2136: {{ zone: example., primary: \"127.0.0.1:53\", servers: [\"127.0.0.1:53\"], tsig: {{ name: k, algorithm: hmac-sha256, secret: \"env:NONE\" }} }}\n"
        );
        let mut runbook =
            "lifeboat: v1\nname: chain\ntitle: One effect after the other\nowner: tests\nmodes: [failover]\nsteps:\n".to_owned();
        for step in 0..STEPS {
            let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
            runbook += &format!(
                "  - id: s{step}\n    type: command\n    timeout: 3s\n{needs}    with:\n      program: {effect}\n      args: [{log}]\n      changes: [thing]\n      check: {{ program: {check}, args: [{log}] }}\n",
                log = shown(&log)
            );
        }
        let written = fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join("lifeboat.yaml"), inventory))
            .and_then(|()| fs::write(folder.join("runbook.yaml"), runbook))
            .and_then(|()| fs::write(&log, ""));
        assert!(written.is_ok(), "{written:?}");
        Round { stage: self, folder, log }
    }
}

struct Round<'a> {
    stage: &'a Stage,
    folder: PathBuf,
    log: PathBuf,
}

impl Round<'_> {
    fn lifeboat(&self, host: &Host, words: &[&str]) -> Command {
        let mut command = host.command(binary());
        command.arg("--config").arg(self.folder.join("lifeboat.yaml"));
        command.arg("--data").arg(self.folder.join(format!("data-{}", host.address))).args(words);
        command
    }

    fn effects(&self) -> Vec<String> {
        lines(&self.log)
    }

    fn begun(&self) -> usize {
        lines(&self.log.with_extension("begun")).len()
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What a round showed.
#[derive(Default)]
struct Tally {
    rounds: BTreeMap<Gone, u64>,
    /// From the moment of being gone until the other engine said that it took the run over, in seconds.
    taken_over_after: BTreeMap<Gone, Vec<f64>>,
    /// Rounds in which a call was in doubt at that moment.
    in_doubt: u64,
}

#[test]
fn as_root_whoever_drives_is_killed_frozen_or_cut_off_and_the_other_ends_the_run_with_each_effect_once() {
    let seed = clock::wish("TAKEOVER_SEED").unwrap_or_else(|| Chance::new(clock::wall().to_bits()).next() % 1_000_000);
    let rounds = clock::wish("TAKEOVER_ROUNDS").unwrap_or(ROUNDS);
    println!("TAKEOVER_SEED={seed}");
    let mut chance = Chance::new(seed);
    let stage = Stage::new();
    let mut tally = Tally::default();
    for number in 0..rounds {
        let way = WAYS[usize::try_from(number).unwrap_or(0) % WAYS.len()];
        play(&stage.round(number), way, &mut chance, &mut tally);
    }
    println!("rounds: {:?}, {} of them with a call in doubt", tally.rounds, tally.in_doubt);
    println!("seconds until the other took over: {:.1?}", tally.taken_over_after);
}

fn play(round: &Round<'_>, way: Gone, chance: &mut Chance, tally: &mut Tally) {
    let stage = round.stage;
    let runbook = round.folder.join("runbook.yaml").display().to_string();
    let mut driving = Going::start(&mut round.lifeboat(&stage.one, &["run", &runbook]));
    driving.wait_for(" is admitted");
    let name = driving.run_name();
    let mut standby = Going::start(&mut round.lifeboat(&stage.two, &["resume", &name, "--wait"]));
    standby.wait_for("standing by");
    let victim = usize::try_from(chance.below(STEPS as u64 - 1)).unwrap_or(0) + 1;
    let begun = look_until(PATIENCE, || if driving.has_ended() { Some(false) } else { (round.begun() >= victim).then_some(true) });
    assert_eq!(begun, Some(true), "step {victim} never began:\n{}", driving.lines().concat());
    std::thread::sleep(chance.length(WITHIN_A_STEP));
    let (open, at) = (round.begun() > round.effects().len(), clock::now());
    println!("{way:?} after {} of {STEPS} effects, {} begun", round.effects().len(), round.begun());
    match way {
        Gone::Killed => driving.signal(Signal::KILL),
        Gone::Frozen => driving.signal(Signal::STOP),
        Gone::CutOff => stage.one.cut().unwrap_or_else(|error| panic!("{error}")),
    }
    standby.wait_for("is taken over");
    tally.taken_over_after.entry(way).or_default().push(clock::now().duration_since(at).as_secs_f64());
    standby.end().expect(0);
    let after: Vec<String> = round.effects();
    match way {
        Gone::Killed => {}
        Gone::Frozen => driving.signal(Signal::CONT),
        Gone::CutOff => stage.one.heal().unwrap_or_else(|error| panic!("{error}")),
    }
    let old = driving.end();
    let expected = match way {
        Gone::Killed => None,
        Gone::Frozen | Gone::CutOff => Some(5),
    };
    assert_eq!(old.code, expected, "it did not stop as it should:\n{}", old.stderr);
    if way != Gone::Killed {
        let told = ["taken over by another process", "could not be renewed", "is not known whether", "cannot be used"];
        assert!(told.iter().any(|words| old.stderr.contains(words)), "{}", old.stderr);
    }
    let wanted: Vec<String> = (0..STEPS).map(|step| format!("s{step}")).collect();
    assert_eq!(after, wanted, "each effect once, in order");
    assert_eq!(round.effects(), wanted, "nothing came about after the old engine was back");
    let status = run(&mut round.lifeboat(&stage.two, &["status", &name, "--format", "json"])).expect(0).json();
    assert_eq!(status["summary"]["outcome"], "succeeded", "{status:#}");
    assert!(status["notices"].to_string().contains("20418"), "what was accepted is shown: {status:#}");
    *tally.rounds.entry(way).or_default() += 1;
    tally.in_doubt += u64::from(open);
}

#[test]
fn as_root_a_run_driven_elsewhere_is_not_taken_and_people_are_told_where() {
    let stage = Stage::new();
    let round = stage.round(0);
    stage.program("effect", "sleep 20\necho \"$LIFEBOAT_STEP\" >> \"$1\"\n");
    let runbook = round.folder.join("runbook.yaml");
    let text = fs::read_to_string(&runbook).unwrap_or_default().replace("timeout: 3s", "timeout: 60s");
    assert!(fs::write(&runbook, text).is_ok());
    let mut driving = Going::start(&mut round.lifeboat(&stage.one, &["run", &runbook.display().to_string()]));
    driving.wait_for(" is admitted");
    let name = driving.run_name();
    // Its lease is taken right after it is admitted; until then there is nothing to be told.
    let refused = look_until(PATIENCE, || {
        let refused = run(&mut round.lifeboat(&stage.two, &["cancel", &name]));
        (refused.code != Some(0)).then_some(refused)
    });
    let refused = refused.unwrap_or_else(|| panic!("it could be cancelled beside its process"));
    refused.says(&["is driven by process", "ask there"]);
    run(&mut round.lifeboat(&stage.two, &["resume", &name])).expect(3).says(&["is driven by process", "--wait"]);
    // At the machine that drives it the same words reach it.
    run(&mut round.lifeboat(&stage.one, &["cancel", &name])).expect(0);
    driving.kill();
}
