//! The main job as a person does it: a real primary dies, `lifeboat run` moves everything, and a client outside says whether the report is true.
#![expect(clippy::print_stdout, reason = "a person reads how wide the report's interval is")]

mod support;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::client::{Client, Truth};
use support::clock;
use support::process::{Ended, Going, binary, run};
use support::stage::{EUROPE, Stage, WEST};
use xtask::lab::postgres::PRIMARY;
use xtask::lab::{is_root, others_may_reach, service_user};

/// How far apart two clocks of one machine read the same moment, in seconds: a row's acknowledgement is stamped after a pipe and a thread.
const CLOCK_GRAIN_SECONDS: f64 = 0.1;

/// Every field that `report --format json` promises to scripts.
const PROMISED: &[&str] = &[
    "/run",
    "/runbook",
    "/mode",
    "/outcome",
    "/digests/structure",
    "/digests/binding",
    "/objectives/rto_seconds",
    "/objectives/rpo_seconds",
    "/actuals/rta_outage/seconds_min",
    "/actuals/rta_outage/seconds_max",
    "/actuals/rta_declared_seconds",
    "/actuals/automation_seconds",
    "/actuals/human_seconds",
    "/actuals/rpa/method",
    "/actuals/rpa/seconds_min",
    "/actuals/rpa/seconds_max",
    "/actuals/rpa/bytes",
    "/met/rto",
    "/met/rpo",
    "/clock/outage_began_at",
    "/clock/detected_at",
    "/clock/declared_at",
    "/clock/run_started_at",
    "/clock/service_restored_at",
    "/clock/verified_at",
    "/clock/run_ended_at",
    "/steps/0/id",
    "/steps/0/type",
    "/steps/0/state",
    "/steps/0/attempts",
    "/steps/0/started_at",
    "/steps/0/ended_at",
    "/steps/0/duration_seconds",
    "/steps/0/waited_seconds",
    "/critical_path/0",
    "/journal_entries",
];

#[test]
fn a_dead_primary_is_replaced_and_the_report_contains_what_the_client_saw() {
    let stage = Stage::new();
    let _heartbeat = stage.beat();
    let client = Client::start(&stage.lab);
    let kill_began = clock::wall();
    stage.lab.node(PRIMARY).kill_group().unwrap_or_else(|error| panic!("{error}"));
    let dead = clock::wall();
    let words = [stage.run_words(), vec!["--format", "json"]].concat();
    let ended = stage.lifeboat(&words).expect(0);
    client.wait_for_more(5);
    let truth = client.truth(&stage.lab, WEST, kill_began);
    let report = ended.json();
    assert_eq!(report, stage.report(), "the report made at the end and the one made later");
    for field in PROMISED {
        assert!(report.pointer(field).is_some(), "{field} is missing in {report:#}");
    }
    assert_eq!(report["outcome"], "succeeded");
    assert_eq!(report["runbook"], "orders-failover");
    let states: Vec<(&str, &str)> = steps(&report);
    let wanted = [
        ("loss", "succeeded"),
        ("accept", "skipped"),
        ("fence", "succeeded"),
        ("promote", "succeeded"),
        ("dns", "succeeded"),
        ("verify", "succeeded"),
    ];
    assert_eq!(states, wanted);
    agrees(&report, truth);
    began_by(&report, dead);
    assert_eq!(report["met"]["rpo"], truth.lost_rows == 0 || number(&report, "/actuals/rpa/seconds_max") <= 2.0);
    stage.assert_one_failover();
}

#[test]
fn a_living_primary_is_stopped_first_and_no_acknowledged_row_is_lost() {
    let stage = Stage::new();
    let _heartbeat = stage.beat();
    // While the primary lives and takes writes, the loss that is foretold grows with the time until the fence.
    stage.write_runbook(|text| text.replace("limit: 2s", "limit: 1m").replace("max_loss: 2s", "max_loss: 1m"));
    let client = Client::start(&stage.lab);
    let began = clock::wall();
    stage.lifeboat(&stage.run_words()).expect(0);
    client.wait_for_more(5);
    let truth = client.truth(&stage.lab, WEST, began);
    assert_eq!(truth.lost_rows, 0, "{truth:?}");
    let report = stage.report();
    agrees(&report, truth);
    assert_eq!(stage.lab.node(PRIMARY).pid(), None, "the old primary still runs");
    stage.assert_one_failover();
}

#[test]
fn as_root_a_loss_beyond_the_limit_waits_for_a_person_who_did_not_start_the_run() {
    assert!(is_root(), "only root can act as three different people; `cargo xtask test` leaves this test out for others and says so");
    let stage = Stage::new();
    let people = People::on(&stage);
    stage.inventory(|text| {
        let bob = "  bob:\n    roles: [oncall]\n    system_user: nobody\n  eve:\n    roles: [finance]\n    system_user: daemon\n";
        format!("{text}{bob}\npolicies:\n  control_group: postgres\n")
    });
    stage.write_runbook(|text| text.replace("limit: 2s", "limit: 500ms").replace("max_loss: 2s", "max_loss: 500ms"));
    let _heartbeat = stage.beat();
    let links = [WEST, EUROPE].map(|region| {
        let link = stage.lab.proxy_to(PRIMARY).unwrap_or_else(|error| panic!("{error}"));
        stage.lab.node(region).stream_from(link.address).unwrap_or_else(|error| panic!("{error}"));
        link
    });
    let client = Client::start(&stage.lab);
    for link in &links {
        link.cut();
    }
    client.wait_for_more(30);
    let kill_began = clock::wall();
    stage.lab.node(PRIMARY).kill_group().unwrap_or_else(|error| panic!("{error}"));
    let before = stage.world();

    // Ada starts the run. It stops where the loss has to be accepted, and nothing has been changed by then.
    let ended = people.does("postgres", &stage, &stage.run_words()).expect(4).says(&["needs a person", "accept", "within_rpo: false"]);
    assert!(ended.stderr.contains("unfinished"), "{}", ended.stderr);
    assert_eq!(stage.world(), before);
    let status = people.does("postgres", &stage, &["status"]).expect(4);
    assert!(status.stdout.contains("accept"), "{}", status.stdout);
    let run_id =
        people.does("postgres", &stage, &["status", "--format", "json"]).json()["summary"]["run"].as_str().unwrap_or_default().to_owned();

    // Nobody drives it now; it is still not hers to answer, and not root's.
    let answer = |who: &str| people.does(who, &stage, &["approve", &run_id, "accept", "--comment", "orders of a second are gone; go on"]);
    answer("postgres").expect(3).says(&["started this run"]);
    answer("root").expect(3).says(&["root", "no person"]);

    // Somebody drives it, and others speak through its control socket.
    let mut driving = Going::start(&mut people.command("postgres", &stage, &["resume"]));
    driving.wait_for("needs a person");
    answer("postgres").expect(3).says(&["started this run"]);
    answer("root").expect(3).says(&["root", "no person"]);
    answer("daemon").expect(5).says(&["control_group"]);
    assert!(!driving.has_ended());
    assert_eq!(stage.world(), before);
    answer("nobody").expect(0).says(&["is journaled"]);
    driving.end().expect(0);

    client.wait_for_more(5);
    let truth = client.truth(&stage.lab, WEST, kill_began);
    assert!(truth.lost_rows >= 10, "{truth:?}");
    let report = people.does("postgres", &stage, &["report", "--format", "json"]).expect(0).json();
    agrees(&report, truth);
    assert!(number(&report, "/actuals/rpa/seconds_min") > 0.0, "a loss that is sure is told as one: {:#}", report["actuals"]);
    assert_eq!(report["met"]["rpo"], Value::Bool(number(&report, "/actuals/rpa/seconds_max") <= 2.0));
    assert_eq!(report["approvals"][0]["answers"][0]["by"]["name"], "bob");
    assert!(number(&report, "/actuals/human_seconds") > 0.0);
    stage.assert_one_failover();
    let text = people.does("postgres", &stage, &["report"]).expect(0).stdout;
    assert!(text.contains("bob"), "{text}");
}

fn steps(report: &Value) -> Vec<(&str, &str)> {
    let list = report["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|step| (step["id"].as_str().unwrap_or_default(), step["state"].as_str().unwrap_or_default())).collect()
}

#[track_caller]
fn number(report: &Value, pointer: &str) -> f64 {
    match report.pointer(pointer).and_then(Value::as_f64) {
        Some(number) => number,
        None => panic!("{pointer} is no number in {:#}", report["actuals"]),
    }
}

/// The report's figures against the client's: never below the true loss, and an outage interval that contains what the client saw.
#[track_caller]
fn agrees(report: &Value, truth: Truth) {
    let (min, max) = (number(report, "/actuals/rta_outage/seconds_min"), number(report, "/actuals/rta_outage/seconds_max"));
    let lost = number(report, "/actuals/rpa/seconds_max");
    println!(
        "the client saw an outage of {:.2} s and lost {} rows of {:.2} s; the report says {min:.2} to {max:.2} s, and at most {lost:.2} s lost",
        truth.outage_seconds, truth.lost_rows, truth.lost_seconds
    );
    assert!(lost + CLOCK_GRAIN_SECONDS >= truth.lost_seconds, "the report's loss of {lost} s is below the true one: {truth:?}");
    // Widths hide mistakes at one end behind slack at the other, so each end is held by itself.
    let latest = instant(report, "/clock/outage_began_at/latest");
    assert!(
        latest + CLOCK_GRAIN_SECONDS >= truth.last_seen,
        "it served {:.3} s after the outage is said to have begun",
        truth.last_seen - latest
    );
    let not_before = instant(report, "/clock/not_restored_before/at");
    assert!(
        not_before <= truth.seen_again + CLOCK_GRAIN_SECONDS,
        "it served {:.3} s before it is said to have been able to",
        not_before - truth.seen_again
    );
    assert!(min <= truth.outage_seconds + CLOCK_GRAIN_SECONDS, "the outage began later or ended sooner than {min} s: {truth:?}");
    assert!(truth.outage_seconds <= max + CLOCK_GRAIN_SECONDS, "the outage was longer than {max} s: {truth:?}");
}

/// An instant of the report, in seconds since 1970.
#[track_caller]
fn instant(report: &Value, pointer: &str) -> f64 {
    match report.pointer(pointer).and_then(Value::as_str).map(str::parse::<jiff::Timestamp>) {
        Some(Ok(at)) => std::time::Duration::try_from(at.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default().as_secs_f64(),
        Some(Err(_)) | None => panic!("{pointer} is no instant in {:#}", report["clock"]),
    }
}

/// The outage began, says the report, at the latest when nothing of the primary ran any more.
#[track_caller]
fn began_by(report: &Value, dead: f64) {
    let earliest = instant(report, "/clock/outage_began_at/earliest");
    assert!(earliest <= dead + CLOCK_GRAIN_SECONDS, "the outage began {:.3} s after the primary was dead", earliest - dead);
}

/// Commands as different system users. The one who runs the engine owns the stage; the others may only pass through.
#[derive(Debug)]
struct People {
    lifeboat: PathBuf,
    postgres: (u32, u32),
}

impl People {
    fn on(stage: &Stage) -> Self {
        let postgres = service_user().unwrap_or_else(|error| panic!("{error}"));
        // The engine runs as the user who owns the servers' files, so the secrets must be that user's.
        let secrets = stage.lab.folder().join("secrets");
        let files = std::fs::read_dir(&secrets).unwrap_or_else(|error| panic!("{error}")).flatten().map(|entry| entry.path());
        for path in files.chain([secrets.clone(), stage.folder.clone()]) {
            chown(&path, Some(postgres.0), Some(postgres.1)).unwrap_or_else(|error| panic!("{error}"));
        }
        let lifeboat = if others_may_reach(binary()) {
            binary().to_owned()
        } else {
            let copy = stage.lab.folder().join("lifeboat");
            std::fs::copy(binary(), &copy).unwrap_or_else(|error| panic!("{error}"));
            copy
        };
        Self { lifeboat, postgres }
    }

    /// A command of `root`, `postgres` (who owns the stage), `nobody` (in the control group) or `daemon` (not in it).
    fn command(&self, who: &str, stage: &Stage, words: &[&str]) -> Command {
        let mut command = Command::new(&self.lifeboat);
        command.arg("--config").arg(&stage.config).arg("--data").arg(&stage.data).args(words).current_dir("/");
        match who {
            "postgres" => command.uid(self.postgres.0).gid(self.postgres.1),
            "nobody" => command.uid(65_534).gid(self.postgres.1),
            "daemon" => command.uid(1).gid(1),
            _ => &mut command,
        };
        command
    }

    #[track_caller]
    fn does(&self, who: &str, stage: &Stage, words: &[&str]) -> Ended {
        run(&mut self.command(who, stage, words))
    }
}
