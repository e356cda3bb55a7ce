//! What a person at another terminal is told: who has the folder, who drives the run, what is missing, and the exact command that helps.

mod support;

use std::fs::File;
use std::process::Command;

use support::desk::Desk;
use support::journal;

const ASKS: &str = "\
lifeboat: v1
name: asks
steps:
  - id: accept
    type: approval
    with: { roles: [oncall], count: 1, timeout: 10m }
";

#[test]
fn a_folder_in_use_is_never_answered_with_another_folder() {
    let desk = Desk::new();
    let asks = desk.file("asks.yaml", ASKS);
    let mut going = desk.start(&["run", &asks]);
    going.wait_for("needs a person");
    let pid = format!("pid {}", going.pid());
    // Locks end at the folder: a run in another one would not know what this one holds.
    for words in [vec!["run", &asks], vec!["resume"]] {
        let ended = desk.lifeboat(&words).expect(3).says(&["is in use by", &pid, "lifeboat status"]);
        let help = ended.stderr.lines().filter(|line| !line.contains("is in use by")).collect::<String>();
        assert!(!help.contains("--data") && !help.contains("another folder"), "{}", ended.stderr);
    }
}

#[test]
fn an_outage_that_begins_in_the_future_is_refused() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 1, "1ms");
    for given in ["2099-01-01T00:00:00Z,2099-01-01T00:00:01Z", "2020-01-01T00:00:00Z,2099-01-01T00:00:01Z"] {
        desk.lifeboat(&["run", &chain, "--outage-began", given]).expect(2).says(&["in the future", "help: write for example"]);
    }
    assert!(journal::all(&desk.data).is_empty());
    desk.lifeboat(&["run", &chain, "--outage-began", "2020-01-01T00:00:00Z,2020-01-01T00:00:01Z"]).expect(0);
}

#[test]
fn only_files_are_read() {
    let desk = Desk::new();
    let pipe = desk.folder.path().join("pipe.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()));
    let pipe = pipe.display().to_string();
    for command in ["check", "plan", "run"] {
        desk.lifeboat(&[command, "/dev/zero"]).expect(2).says(&["/dev/zero cannot be read", "it is a device, not a file"]);
        desk.lifeboat(&[command, &pipe]).expect(2).says(&["pipe.yaml cannot be read", "it is a pipe, not a file"]);
    }
    // A file that has no size before it is read.
    desk.lifeboat(&["check", "/proc/self/status"]).expect(2).says(&["/proc/self/status"]);
}

#[test]
fn a_run_that_succeeded_says_so_even_where_its_report_cannot_be_printed() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 1, "1ms");
    let full = File::options().write(true).open("/dev/full").unwrap_or_else(|error| panic!("{error}"));
    let output = desk.command(&["run", &chain]).stdout(full).output().unwrap_or_else(|error| panic!("{error}"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let run = journal::only(&desk.data).run;
    for words in [format!("run {run} itself succeeded"), "only its report".into(), format!("lifeboat report {run}")] {
        assert!(stderr.contains(&words), "{words:?} is missing in:\n{stderr}");
    }
}
