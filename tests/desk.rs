//! What a person at another terminal is told: who has the folder, who drives the run, what is missing, and the exact command that helps.

mod support;

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use lifeboat_engine::history;
use lifeboat_store::{Commit, Record, SledOptions, SledStore, Store as _};
use support::desk::Desk;
use support::journal;
use support::process::{binary, run};
use support::stage::write;
use xtask::lab::is_root;

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

#[test]
fn a_run_whose_process_died_is_called_interrupted() {
    let desk = Desk::new();
    let long = desk.chain("long", 2, "4m");
    let mut going = desk.start(&["run", &long]);
    going.wait_for("s0 running");
    let alive = desk.lifeboat(&["runs"]).expect(0);
    assert!(alive.stdout.contains(" running ") && !alive.stdout.contains("interrupted"), "{}", alive.stdout);
    assert_eq!(desk.lifeboat(&["status", "--format", "json"]).expect(0).json()["summary"]["interrupted"], false);
    going.kill();
    for words in [["runs"], ["status"]] {
        let gone = desk.lifeboat(&words).expect(0).stdout;
        assert!(gone.contains("interrupted") && !gone.contains("running"), "{gone}");
    }
    assert_eq!(desk.lifeboat(&["status", "--format", "json"]).expect(0).json()["summary"]["interrupted"], true);
    assert_eq!(desk.lifeboat(&["runs", "--format", "json"]).expect(0).json()[0]["interrupted"], true);
}

#[test]
fn a_run_is_watched_to_its_end_from_another_terminal_and_is_left_alone() {
    let desk = Desk::new();
    let asks = desk.file("asks.yaml", ASKS);
    let mut going = desk.start(&["run", &asks]);
    going.wait_for("needs a person");
    let mut watching = desk.start(&["watch"]);
    watching.wait_for("accept is waiting for approval");
    let entries = desk.start(&["watch", "--format", "json"]);
    let run = desk.lifeboat(&["status", "--format", "json"]).expect(4).json()["summary"]["run"].as_str().unwrap_or_default().to_owned();
    desk.lifeboat(&["cancel", &run, "--comment", "not today"]).expect(0);
    let watched = watching.end().expect(1);
    assert!(watched.stderr.contains(&format!("run {run} was cancelled")), "{}", watched.stderr);
    let entries = entries.end().expect(1).stdout;
    let lines: Vec<serde_json::Value> =
        entries.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    assert!(lines.len() >= 4, "{entries}");
    assert!(entries.lines().last().is_some_and(|line| line.contains("run_ended")), "{entries}");
    going.end().expect(1);
}

#[test]
fn who_watches_a_run_that_nobody_drives_is_told_so_and_keeps_nobody_from_going_on() {
    let desk = Desk::new();
    let long = desk.chain("long", 2, "4m");
    let mut going = desk.start(&["run", &long]);
    going.wait_for("s0 running");
    let mut watching = desk.start(&["watch"]);
    watching.wait_for("of long is running");
    going.kill();
    watching.end().expect(4).says(&["no process drives run", "resume"]);
    desk.lifeboat(&["watch"]).expect(4).says(&["no process drives run", "resume"]);
    let mut resumed = desk.start(&["resume"]);
    resumed.wait_for("s0");
    resumed.kill();
    let done = desk.chain("done", 1, "1ms");
    // By its name: two runs of one second are told apart by no clock.
    let name = desk.lifeboat(&["run", &done]).expect(0).run_name();
    desk.lifeboat(&["watch", &name]).expect(0).says(&["succeeded"]);
}

#[test]
fn a_run_that_cannot_be_read_hides_no_other() {
    let desk = Desk::new();
    let names: Vec<String> = ["good", "bad"].map(|name| desk.lifeboat(&["run", &desk.chain(name, 1, "1ms")]).expect(0).run_name()).into();
    let (good, bad) = (&names[0], journal::all(&desk.data).into_iter().find(|journal| journal.run.as_str() == names[1]));
    let bad = bad.unwrap_or_else(|| panic!("{names:?}")).run;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(async {
        let store = SledStore::open(&desk.data, &SledOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        let next = history::load(&store, &bad).await.unwrap_or_else(|error| panic!("{error}")).next;
        let log = history::run_log(&bad).unwrap_or_else(|error| panic!("{error}"));
        let commit = Commit { expect: vec![(log.clone(), next)], append: vec![(log, vec![Record(b"no entry".to_vec())])] };
        store.commit(commit).await.unwrap_or_else(|error| panic!("{error}"));
    });
    let listed = desk.lifeboat(&["runs"]).expect(5).stdout;
    let line = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name} in {listed}"));
    assert!(line(good).contains("succeeded"), "{listed}");
    assert!(line(bad.as_str()).contains("UNREADABLE: entry ") && line(bad.as_str()).contains("cannot"), "{listed}");
    let listed = desk.lifeboat(&["runs", "--format", "json"]).expect(5).json();
    assert_eq!(listed[0]["outcome"], "succeeded");
    assert_eq!(listed[1]["run"], bad.as_str());
    assert!(listed[1]["unreadable"].as_str().is_some_and(|why| why.contains("entry")), "{listed}");
    desk.lifeboat(&["status", good]).expect(0);
    desk.lifeboat(&["status", bad.as_str()]).expect(5).says(&["entry"]);
}

#[test]
fn hints_can_be_typed_as_they_stand_and_are_in_words() {
    let desk = Desk::new();
    let asks = desk.file("asks.yaml", ASKS);
    let name = desk.lifeboat(&["run", &asks, "--no-wait"]).expect(4).run_name();
    let status = desk.lifeboat(&["status"]).expect(4).stdout;
    let called = format!("lifeboat --config {} --data {}", desk.config.display(), desk.data.display());
    for act in ["approve", "deny", "resume"] {
        assert!(status.contains(&format!("  {called} {act} {name}")), "{act} is missing in:\n{status}");
    }
    let ended =
        desk.lifeboat(&["resolve", &name, "accept", "retry", "--comment", "x"]).expect(3).says(&["step accept is awaiting approval"]);
    assert!(!ended.stderr.contains("awaiting_approval"), "{}", ended.stderr);

    // With the names that are taken anyway the bare name does.
    let plain = |words: &[&str]| {
        let mut command = Command::new(binary());
        run(command.args(words).current_dir(desk.folder.path()).env_remove("LIFEBOAT_CONFIG").env_remove("LIFEBOAT_DATA"))
    };
    let name = plain(&["run", &asks, "--no-wait"]).expect(4).run_name();
    let status = plain(&["status"]).expect(4).stdout;
    assert!(status.contains(&format!("  lifeboat approve {name}")), "{status}");
}

#[test]
fn calling_a_step_done_tells_every_output_that_it_needs() {
    let desk = Desk::new();
    write(&desk.config, "lifeboat: v1\npolicies:\n  programs: [/usr/bin/false]\n");
    let fails = "lifeboat: v1\nname: fails\nsteps:\n  - id: a\n    type: command\n    with: { program: /usr/bin/false }\n";
    let name = desk.lifeboat(&["run", &desk.file("fails.yaml", fails), "--no-wait"]).expect(4).run_name();
    let told = desk.lifeboat(&["resolve", &name, "a", "done", "--comment", "x", "--output", "stdout=it is so"]).expect(3);
    let needed = ["exit_code", "stdout", "stderr", "stdout_bytes", "stderr_bytes", "json"];
    for name in needed {
        assert!(told.stderr.contains(&format!("         {name}: ")), "{name} is missing in:\n{}", told.stderr);
    }
    let command = told.stderr.lines().find(|line| line.contains(" resolve ")).unwrap_or_else(|| panic!("{}", told.stderr)).trim();
    assert!(command.contains("--output 'stdout=it is so'"), "{command}");
    // The command works once it is filled in, and only then.
    let filled = command.replace("json=...", "json=null").replace("stderr=...", "stderr=none").replace("...", "0");
    let words = filled.strip_prefix("lifeboat").unwrap_or_else(|| panic!("{filled}"));
    let shell = run(Command::new("sh").arg("-c").arg(format!("exec \"$0\" {words}")).arg(binary()));
    shell.expect(0).says(&["journaled"]);
}

#[test]
fn as_root_a_folder_of_somebody_else_tells_who_must_go_on() {
    assert!(is_root(), "only root can act as several people; `cargo xtask test` leaves this test out for others and says so");
    let desk = Desk::new();
    let asks = desk.file("asks.yaml", ASKS);
    let mut going = desk.start(&["run", &asks]);
    going.wait_for("needs a person");
    let name = going.run_name();
    // Ids that Debian fixes: `daemon` is in the control group, `games` is not.
    let (ada, stranger) = ((1, 1), (5, 60));
    run(&mut desk.command_as(ada, &["status"])).expect(4);
    run(&mut desk.command_as(stranger, &["status"])).expect(5).says(&["cannot be reached", "belongs to root", "control_group"]);
    going.kill();
    // The socket of the dead process is still there; nobody is behind it.
    for words in [vec!["status"], vec!["approve", &name, "accept"]] {
        run(&mut desk.command_as(ada, &words)).expect(5).says(&[
            "no process drives a run in this folder now",
            "root must `lifeboat",
            "resume`",
        ]);
    }
    std::fs::remove_file(desk.data.join("control.sock")).unwrap_or_else(|error| panic!("{error}"));
    run(&mut desk.command_as(ada, &["status"])).expect(5).says(&["no process drives a run in this folder now"]);
    run(&mut desk.command_as(stranger, &["status"])).expect(5).says(&["cannot be reached", "Permission denied", "control_group"]);
}

#[test]
fn a_read_only_folder_of_ones_own_is_called_that() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 1, "1ms");
    let data = desk.folder("data");
    let nobody = (65_534, 65_534);
    if is_root() {
        // Root may write everywhere, so this needs somebody else.
        std::os::unix::fs::chown(&data, Some(nobody.0), Some(nobody.1)).unwrap_or_else(|error| panic!("{error}"));
    }
    std::fs::set_permissions(&data, Permissions::from_mode(0o555)).unwrap_or_else(|error| panic!("{error}"));
    for words in [vec!["run", &chain], vec!["resume"], vec!["runs"], vec!["status"]] {
        let ended = if is_root() { run(&mut desk.command_as(nobody, &words)) } else { desk.lifeboat(&words) };
        ended.expect(5).says(&["is yours, but read-only", "chmod"]);
    }
}
