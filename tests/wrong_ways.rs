//! Wrong ways are refused with an exit code that scripts can rely on and a sentence that a person understands, and nothing is changed.

mod support;

use std::path::Path;

use support::journal;
use support::process::{Ended, Going};
use support::stage::{EUROPE, Stage, WEST, write};
use xtask::lab::postgres::{PRIMARY, Shutdown};
use xtask::look_until;

/// The main job without its approval: nobody is going to be asked.
const UNASKED: &str = "\
lifeboat: v1
name: orders-failover
inputs:
  to: { type: string, default: us-west-2 }
steps:
  - id: fence
    type: fence-db
    with: { db: orders-db, node: us-east-1 }
  - id: promote
    type: promote-db
    needs: [fence]
    with: { db: orders-db, node: \"${{ inputs.to }}\", max_loss: 1s }
";

/// A run that must be refused before it begins: exit code 3, the words, no run in the journal, and the world as it was.
#[track_caller]
fn refused(stage: &Stage, words: &[&str], says: &[&str]) {
    let before = stage.world();
    stage.lifeboat(words).expect(3).says(says);
    assert_eq!(stage.world(), before, "{words:?} changed something");
    assert!(journal::all(&stage.data).is_empty(), "{words:?} began a run");
}

fn in_file(stage: &Stage, name: &str, text: &str) -> String {
    let file = stage.folder.join(name);
    write(&file, text);
    file.display().to_string()
}

#[test]
fn a_promotion_that_could_harm_is_refused_while_the_primary_lives() {
    let stage = Stage::new();
    let _heartbeat = stage.beat();
    let run = stage.runbook.display().to_string();
    let sql = |node: &str, sql: &str| stage.lab.node(node).psql("postgres", sql).unwrap_or_else(|error| panic!("{error}"));
    let streaming = || stage.lab.postgres().wait_streaming().unwrap_or_else(|error| panic!("{error}"));

    // The old primary takes writes, and nothing comes before that fences it.
    let fence = "  - id: fence\n    type: fence-db\n    with: { db: orders-db, node: us-east-1 }\n";
    let unfenced = UNASKED.replace(fence, "").replace("    needs: [fence]\n", "");
    assert!(!unfenced.contains("fence"), "{unfenced}");
    let unfenced = in_file(&stage, "unfenced.yaml", &unfenced);
    refused(&stage, &["run", &unfenced, "--no-wait"], &["promote must not start", "us-east-1 still takes writes", "two primaries"]);

    // Whoever only looks could promote.
    sql(PRIMARY, "grant execute on function pg_promote(boolean, integer) to lifeboat_probe");
    streaming();
    refused(&stage, &["run", &run, "--no-wait"], &["lifeboat_probe", "may execute pg_promote", "take that right away"]);
    sql(PRIMARY, "revoke execute on function pg_promote(boolean, integer) from lifeboat_probe");
    streaming();

    // Somebody paused the replay.
    sql(WEST, "select pg_wal_replay_pause()");
    refused(&stage, &["run", &run, "--no-wait"], &["replay on us-west-2 is pause", "resume it first"]);
    sql(WEST, "select pg_wal_replay_resume()");

    // A replica of a replica.
    stage.lab.node(EUROPE).cascade_from(stage.lab.node(WEST)).unwrap_or_else(|error| panic!("{error}"));
    let words = ["run", &run, "--no-wait", "--input", "to=eu-west-1"];
    refused(&stage, &words, &["eu-west-1 is a cascading replica", "promote us-west-2"]);

    // Nothing was wrong with anything else: the same stage takes the right way.
    let right = in_file(&stage, "right.yaml", &UNASKED.replace("max_loss: 1s", "max_loss: 1h"));
    stage.lifeboat(&["run", &right, "--no-wait"]).expect(0);
}

#[test]
fn a_replica_on_another_timeline_is_refused() {
    let stage = Stage::new();
    let _heartbeat = stage.beat();
    let europe = stage.lab.node(EUROPE);
    europe.psql("lifeboat_act", "select pg_promote()").unwrap_or_else(|error| panic!("{error}"));
    europe.psql("postgres", "checkpoint").unwrap_or_else(|error| panic!("{error}"));
    europe.stop(Shutdown::Fast).unwrap_or_else(|error| panic!("{error}"));
    write(&europe.data.join("standby.signal"), "");
    europe.start().unwrap_or_else(|error| panic!("{error}"));
    let run = stage.runbook.display().to_string();
    let words = ["run", &run, "--no-wait", "--input", "to=eu-west-1"];
    refused(&stage, &words, &["eu-west-1 is on the wrong timeline", "it follows 2", "was on 1"]);
}

#[test]
fn a_replica_that_lags_past_the_limit_is_refused_where_nobody_is_asked() {
    let stage = Stage::new();
    let links = [WEST, EUROPE].map(|region| {
        let link = stage.lab.proxy_to(PRIMARY).unwrap_or_else(|error| panic!("{error}"));
        stage.lab.node(region).stream_from(link.address).unwrap_or_else(|error| panic!("{error}"));
        link
    });
    let _heartbeat = stage.beat();
    let beats = || {
        let text = std::fs::read_to_string(stage.folder.join("heartbeat.json")).unwrap_or_default();
        let kept: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        kept["recent"].as_array().and_then(|recent| recent.last()).and_then(|beat| beat["n"].as_u64()).unwrap_or_default()
    };
    for link in &links {
        link.cut();
    }
    // Beats come each half second, so four of them are more than the second that may be lost.
    let reached = beats() + 4;
    assert!(look_until(support::process::PATIENCE, || (beats() >= reached).then_some(())).is_some(), "the heartbeat stopped");
    let lagging = in_file(&stage, "unasked.yaml", UNASKED);
    let says = ["would be lost", "more than max_loss (1s) allows", "no approval comes before"];
    refused(&stage, &["run", &lagging, "--no-wait"], &says);
    stage.lab.node(PRIMARY).kill_group().unwrap_or_else(|error| panic!("{error}"));
    refused(&stage, &["run", &lagging, "--no-wait"], &says);
}

#[test]
fn an_unknown_node_is_an_error_in_the_file_before_anything_is_asked() {
    let stage = Stage::new();
    let bad = in_file(&stage, "typo.yaml", &UNASKED.replace("node: us-east-1", "node: us-eats-1"));
    for command in ["check", "plan", "run"] {
        let ended = stage.lifeboat(&[command, &bad]).expect(2).says(&["`orders-db` has no node `us-eats-1`", "did you mean `us-east-1`?"]);
        assert!(ended.stderr.contains("typo.yaml:8:34"), "the place is missing:\n{}", ended.stderr);
    }
    let run = stage.runbook.display().to_string();
    stage.lifeboat(&["run", &run, "--input", "to=mars"]).expect(2).says(&["mars", "us-west-2"]);
    assert!(!stage.data.exists(), "a runbook that does not check makes no data folder");
}

#[test]
fn a_second_run_on_the_same_database_is_refused_and_told_which_run_holds_it() {
    let stage = Stage::new();
    let _heartbeat = stage.beat();
    // The approval is always asked, so the first run waits with its locks taken.
    stage.write_runbook(|text| text.replace("if: \"!steps.loss.outputs.within_rpo\"", "if: \"true\""));
    let run = stage.runbook.display().to_string();
    let before = stage.world();
    let mut first = Going::start(&mut stage.command(&["run", &run]));
    first.wait_for("needs a person");
    let holder = first.run_name();
    assert!(holder.contains("orders-failover"), "{:?}", first.lines());

    // While its process lives.
    let second = |ended: Ended| ended.expect(3).says(&["orders-db is locked by run", &holder, "lifeboat status"]);
    second(stage.lifeboat(&["run", &run, "--no-wait"]));
    // A run that is in nobody's way still needs the folder.
    let waits = in_file(&stage, "waits.yaml", "lifeboat: v1\nname: waits\nsteps:\n  - id: a\n    type: wait\n    with: { for: 1ms }\n");
    let pid = format!("pid {}", first.pid());
    stage.lifeboat(&["run", &waits]).expect(3).says(&["is in use by", &pid, "lifeboat status"]);
    // Another folder knows of no lock, which is why one folder is kept; commands that look work all the same.
    let listed = stage.lifeboat(&["runs"]).expect(0);
    assert!(listed.stdout.contains(&holder), "{}", listed.stdout);

    // After its process died: the locks belong to the run.
    first.kill();
    second(stage.lifeboat(&["run", &run, "--no-wait"]));
    assert_eq!(stage.world(), before);
    assert_eq!(journal::all(&stage.data).len(), 1);
    // Given back at its end, they are free.
    stage.lifeboat(&["cancel", &holder, "--comment", "a test"]).expect(0);
    stage.lifeboat(&["resume", "--no-wait"]).expect(1);
    stage.lifeboat(&["run", &waits]).expect(0);
    stage.write_runbook(|text| text.replace("limit: 2s", "limit: 1h").replace("max_loss: 2s", "max_loss: 1h"));
    stage.lifeboat(&["run", &run, "--no-wait"]).expect(0);
    stage.assert_one_failover();
}

#[test]
fn a_fence_that_was_skipped_is_no_fence() {
    let stage = Stage::new();
    let _heartbeat = stage.beat();
    let before = stage.world();
    // By its own condition: the run comes to the gate, and no further.
    let skipped = UNASKED
        .replace("    type: fence-db\n", "    type: fence-db\n    if: inputs.to == \"mars\"\n")
        .replace("max_loss: 1s", "max_loss: 1h");
    let skipped = in_file(&stage, "skipped.yaml", &skipped);
    stage.lifeboat(&["run", &skipped, "--no-wait"]).expect(4).says(&["fence was skipped, and a skipped fence is no fence"]);
    assert_eq!(stage.world(), before);
    let run = journal::only(&stage.data).run;
    stage.lifeboat(&["cancel", run.as_str()]).expect(0);
    stage.lifeboat(&["resume", "--no-wait"]).expect(1);

    // By a person: this machine cannot see into the node, and its power switch does nothing.
    stage.inventory(|text| {
        let (head, rest) = text.split_once("        local: {").unwrap_or_else(|| panic!("no local node in {text}"));
        let (_, rest) = rest.split_once("          - pg_ctl: { mode: fast }\n").unwrap_or_else(|| panic!("no pg_ctl in {text}"));
        format!("{head}        fence:\n          - command: {{ run: [/usr/bin/false] }}\n{rest}\npolicies:\n  programs: [/usr/bin/false]\n")
    });
    let dead_switch = in_file(&stage, "switch.yaml", &UNASKED.replace("max_loss: 1s", "max_loss: 1h"));
    let run = stage.lifeboat(&["run", &dead_switch, "--no-wait"]).expect(4).says(&["fence"]).run_name();
    stage.lifeboat(&["resolve", &run, "fence", "skip", "--comment", "it is surely dead"]).expect(0);
    stage.lifeboat(&["resume", "--no-wait"]).expect(4).says(&["skipped"]);
    let journals = journal::all(&stage.data);
    let last = journals.iter().find(|journal| journal.run.as_str() == run).unwrap_or_else(|| panic!("{run} is gone"));
    assert_eq!(last.starts("promote"), 0);
    assert_eq!(stage.world(), before);
    assert!(Path::new(&stage.data).exists());
}
