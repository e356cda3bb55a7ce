//! Bad days: what goes wrong around the engine gets a clear message, an exit code that scripts can rely on, and loses nothing.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::desk::Desk;
use support::journal;
use support::process::{Ended, Going, PATIENCE, binary, run};
use support::stage::{Stage, WEST, write};
use xtask::lab::is_root;
use xtask::look_until;

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
    found
}

#[test]
fn a_wrong_password_and_a_silent_node_are_told_and_nothing_is_started() {
    let stage = Stage::new();
    let before = stage.world();
    let wrong = stage.folder.join("wrong");
    write(&wrong, "correct-horse-battery");
    let probe = stage.lab.secret("lifeboat_probe").display().to_string();
    stage.inventory(|text| text.replace(&format!("file:{probe}"), &format!("file:{}", wrong.display())));
    let ended = stage.lifeboat(&stage.run_words()).expect(3).says(&["password authentication failed", "lifeboat_probe"]);
    assert!(!ended.stderr.contains("correct-horse"), "the secret is told:\n{}", ended.stderr);
    let ended = stage.lifeboat(&["plan", stage.runbook.to_str().unwrap_or_default()]).expect(3);
    assert!(ended.stdout.contains("password authentication failed") && !ended.stdout.contains("correct-horse"), "{}", ended.stdout);

    stage.inventory(|text| text.replace(&format!("file:{probe}"), "file:not-there"));
    stage.lifeboat(&stage.run_words()).expect(3).says(&["file:not-there"]);

    // A node that takes connections and never answers, as behind a firewall that drops packets.
    let hole = stage.lab.proxy_to(WEST).unwrap_or_else(|error| panic!("{error}"));
    hole.silence();
    let west = stage.lab.node(WEST);
    let direct = format!("host: {}\n        port: {}", west.address, west.port);
    stage.inventory(|text| text.replace(&direct, &format!("host: {}\n        port: {}", hole.address.ip(), hole.address.port())));
    stage.lifeboat(&stage.run_words()).expect(3).says(&["us-west-2", "does not answer"]);
    assert_eq!(stage.world(), before);
    assert!(journal::all(&stage.data).is_empty());
}

#[test]
fn as_root_a_full_disk_under_the_journal_ends_the_engine_clearly_and_the_run_goes_on_once_there_is_room() {
    assert!(is_root(), "only root can mount a small file system; `cargo xtask test` leaves this test out for others and says so");
    let desk = Desk::new();
    let disk = desk.folder("disk");
    // A small file system that only this test's processes see; it goes with the process that made it.
    let mut holder = Command::new("unshare");
    holder.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "mount -t tmpfs -o size=12M none \"$1\" && echo mounted >&2 && exec sleep 600",
        "sh",
    ]);
    let mut holder = Going::start(holder.arg(&disk));
    holder.wait_for("mounted");
    let inside = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", holder.pid())).arg(binary()).arg("--config").arg(&desk.config);
        command.arg("--data").arg(disk.join("data")).args(words);
        command
    };
    let chain = desk.chain("chain", 400, "5ms");
    let mut going = Going::start(&mut inside(&["run", &chain]));
    let some = look_until(PATIENCE, || if going.line_count() >= 20 { Some(true) } else { going.has_ended().then_some(false) });
    assert_eq!(some, Some(true), "{}", going.lines().concat());
    // What the process sees as its disk is reached through it.
    let filler = PathBuf::from(format!("/proc/{}/root{}", holder.pid(), disk.join("filler").display()));
    let mut full = File::create(&filler).unwrap_or_else(|error| panic!("{error}"));
    let block = vec![7u8; 4096];
    while std::io::Write::write_all(&mut full, &block).is_ok() {}
    drop(full);
    let ended = going.end().expect(5).says(&["no space left on the disk", "make room", "lifeboat resume"]);
    let told = ended.stderr.lines().filter(|line| line.contains("succeeded")).count();

    // Without room it says so again, and without harm.
    let again = run(&mut inside(&["resume"]));
    assert!(matches!(again.code, Some(5)), "{again:?}");
    fs::remove_file(&filler).unwrap_or_else(|error| panic!("{error}"));
    let report = run(inside(&["resume", "--format", "json"]).stdin(Stdio::null())).expect(0).json();
    assert_eq!(report["outcome"], "succeeded");
    let steps = report["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(steps.len(), 400);
    assert!(steps.iter().all(|step| step["state"] == "succeeded"), "{report:#}");
    let again = steps.iter().filter(|step| step["attempts"].as_u64() > Some(1)).count();
    assert!(again <= 1, "only the step that was under way may have begun again, not {again}; {told} were told done before");
}

#[test]
fn a_folder_of_a_newer_program_is_not_touched() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 1, "1ms");
    desk.lifeboat(&["run", &chain]).expect(0);
    write(&desk.data.join("format"), "lifeboat-store 999\n");
    let before = contents(&desk.data);
    for words in [vec!["run", &chain], vec!["resume"], vec!["runs"], vec!["status"], vec!["report"]] {
        desk.lifeboat(&words).expect(5).says(&["has format 999", "newer lifeboat"]);
    }
    assert_eq!(contents(&desk.data), before);
    write(&desk.data.join("format"), "something else\n");
    desk.lifeboat(&["runs"]).expect(5).says(&["the file format does not say"]);
}

#[test]
fn a_missing_or_wrong_inventory_is_told_with_its_place() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 1, "1ms");
    write(&desk.config, "lifeboat: v1\npeople:\n  ada: { rolls: [oncall] }\n");
    for words in [vec!["run", &chain], vec!["plan", &chain], vec!["check", &chain], vec!["runs"]] {
        desk.lifeboat(&words).expect(5).says(&["lifeboat.yaml:3:10", "rolls", "did you mean `roles`?"]);
    }
    fs::remove_file(&desk.config).unwrap_or_else(|error| panic!("{error}"));
    for words in [vec!["run", &chain], vec!["resume"], vec!["approve", "run", "step"]] {
        desk.lifeboat(&words).expect(5).says(&["there is no inventory", "--config"]);
    }
    // What happened is in the journal alone: looking at it needs no inventory.
    desk.lifeboat(&["runs"]).expect(2).says(&["there is no data folder"]);
    assert!(!desk.data.exists());
    // Checking asks nobody, so it needs no inventory; it says what it could not check.
    desk.lifeboat(&["check", &chain]).expect(0).says(&["there is no inventory"]);
}

#[test]
fn a_runbook_that_cannot_be_read_is_told_at_once() {
    let desk = Desk::new();
    let latin = desk.folder.path().join("latin.yaml");
    fs::write(&latin, b"lifeboat: v1\nname: caf\xe9\n").unwrap_or_else(|error| panic!("{error}"));
    let huge = desk.folder.path().join("huge.yaml");
    let file = File::create(&huge).unwrap_or_else(|error| panic!("{error}"));
    file.set_len(20 * 1024 * 1024).unwrap_or_else(|error| panic!("{error}"));
    let folder = desk.folder("folder.yaml");
    let missing = desk.folder.path().join("missing.yaml");
    let cases: [(&Path, &[&str]); 4] = [
        (&latin, &["latin.yaml:2", "not UTF-8", "byte 22"]),
        (&huge, &["20971520 bytes", "at most"]),
        (&folder, &["cannot be read", "directory"]),
        (&missing, &["cannot be read", "No such file"]),
    ];
    for (file, says) in cases {
        for command in ["check", "plan", "run"] {
            desk.lifeboat(&[command, file.to_str().unwrap_or_default()]).expect(2).says(says);
        }
    }
    assert!(!desk.data.exists());
}

#[test]
fn nobody_listening_stops_no_run() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 20, "5ms");
    // Whoever read the progress and the report is gone before anything is written.
    let mut command = desk.command(&["run", &chain]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{error}"));
    drop((child.stdout.take(), child.stderr.take()));
    let status = look_until(PATIENCE, || child.try_wait().ok().flatten());
    let _late_ones_are_killed = child.kill();
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    assert_eq!(journal::only(&desk.data).outcome(), Some(lifeboat_engine::journal::Outcome::Succeeded));

    // A report that could not be written is a failure, and never silent.
    let full = || File::options().write(true).open("/dev/full").unwrap_or_else(|error| panic!("{error}"));
    for words in [vec!["report"], vec!["steps"], vec!["schema"], vec!["runs"]] {
        let output = desk.command(&words).stdout(full()).output().unwrap_or_else(|error| panic!("{error}"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{words:?}: {stderr}");
        assert!(stderr.contains("the output cannot be written"), "{words:?}: {stderr}");
    }
}

#[test]
fn a_run_that_is_asked_to_leave_leaves_and_can_be_resumed() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 100, "20ms");
    for signal in [Signal::TERM, Signal::INT] {
        let mut going = if signal == Signal::TERM { desk.start(&["run", &chain]) } else { desk.start(&["resume"]) };
        let begun = look_until(PATIENCE, || if going.line_count() >= 6 { Some(true) } else { going.has_ended().then_some(false) });
        assert_eq!(begun, Some(true), "{}", going.lines().concat());
        going.signal(signal);
        going.end().expect(4).says(&["leaving", "is unfinished", "lifeboat resume"]);
    }
    let report = desk.lifeboat(&["resume", "--format", "json"]).expect(0).json();
    assert_eq!(report["outcome"], "succeeded");
    assert_eq!(journal::only(&desk.data).done_and_started_again(), Vec::<String>::new());

    // A step that is acting is waited for, and nothing after it begins.
    let two = desk.chain("two", 2, "1s");
    let mut going = desk.start(&["run", &two]);
    going.wait_for("s0 running");
    going.signal(Signal::INT);
    let name = going.run_name();
    going.end().expect(4);
    let journals = journal::all(&desk.data);
    let left = journals.iter().find(|journal| journal.run.as_str() == name).unwrap_or_else(|| panic!("{name} is gone"));
    assert_eq!((left.successes("s0"), left.starts("s1")), (1, 0), "{left:#?}");

    // Unless it is asked a second time.
    let long = desk.chain("long", 1, "4m");
    let mut going = desk.start(&["run", &long]);
    going.wait_for("s0 running");
    going.signal(Signal::INT);
    going.wait_for("leaving");
    going.signal(Signal::INT);
    going.end().expect(4);
}

#[test]
fn a_run_is_resumed_by_a_name_that_fits_one() {
    let desk = Desk::new();
    desk.lifeboat(&["resume"]).expect(2).says(&["there is no data folder"]);
    let chain = desk.chain("chain", 1, "1ms");
    desk.lifeboat(&["run", &chain]).expect(0);
    desk.lifeboat(&["resume"]).expect(3).says(&["nothing to resume"]);
    let done = journal::only(&desk.data).run.to_string();
    desk.lifeboat(&["resume", &done]).expect(3).says(&["has ended", "lifeboat report"]);
    desk.lifeboat(&["resume", "nonsense"]).expect(2).says(&["there is no run \"nonsense\"", "lifeboat runs"]);
    desk.lifeboat(&["status", "nonsense"]).expect(2).says(&["there is no run \"nonsense\""]);

    let asks = desk.file("asks.yaml", ASKS);
    for _ in 0..2 {
        let mut going = desk.start(&["run", &asks]);
        going.wait_for("needs a person");
        // While its owner lives, somebody else cannot go on with it, and is told who has it.
        let pid = format!("pid {}", going.pid());
        desk.lifeboat(&["resume"]).expect(3).says(&["is in use by", &pid, "lifeboat status"]);
        going.kill();
    }
    let open: Vec<String> =
        journal::all(&desk.data).iter().filter(|journal| journal.outcome().is_none()).map(|j| j.run.to_string()).collect();
    assert_eq!(open.len(), 2);
    desk.lifeboat(&["resume"]).expect(2).says(&["2 runs are unfinished", &open[0], &open[1], "say which"]);
    desk.lifeboat(&["resume", ""]).expect(2).says(&["fits"]);
    for run in &open {
        desk.lifeboat(&["cancel", run, "--comment", "a test"]).expect(0);
        // Nobody is asked any more: the run is taken over only to end it.
        desk.lifeboat(&["resume", run]).expect(1);
    }
    desk.lifeboat(&["resume"]).expect(3).says(&["nothing to resume"]);
}

const ASKS: &str = "\
lifeboat: v1
name: asks
steps:
  - id: accept
    type: approval
    with: { roles: [oncall], count: 2, timeout: 10m }
  - id: after
    type: wait
    needs: [accept]
    with: { for: 1ms }
";

#[test]
fn as_root_an_answer_counts_once_from_the_right_people_and_only_while_it_is_asked() {
    assert!(is_root(), "only root can act as several people; `cargo xtask test` leaves this test out for others and says so");
    let desk = Desk::new();
    let asks = desk.file("asks.yaml", ASKS);
    // User and group ids that Debian fixes: `daemon`, `nobody` and `games`, all reaching the engine by the group `daemon`.
    let (ada, bob, eve) = ((1, 1), (65_534, 1), (5, 1));
    let answer = |who: (u32, u32), words: &[&str]| -> Ended { run(&mut desk.command_as(who, words)) };
    let begin = || {
        let mut going = desk.start(&["run", &asks]);
        going.wait_for("needs a person");
        let name = going.run_name();
        (going, name)
    };
    let (mut going, name) = begin();
    answer(ada, &["approve", "nonsense", "accept"]).expect(2).says(&["there is no run"]);
    answer(ada, &["approve", &name, "nonsense"]).expect(3).says(&["no step nonsense"]);
    answer(ada, &["approve", &name, "after"]).expect(3).says(&["nobody is asked"]);
    answer(ada, &["approve", &name, "Not A Step"]).expect(2);
    answer(eve, &["approve", &name, "accept"]).expect(3).says(&["eve has none of the roles oncall"]);
    answer(ada, &["approve", &name, "accept", "--comment", "yes"]).expect(0);
    answer(ada, &["approve", &name, "accept"]).expect(3).says(&["ada has said yes already"]);
    assert!(!going.has_ended());
    answer(bob, &["approve", &name, "accept"]).expect(0);
    going.end().expect(0);
    desk.lifeboat(&["approve", &name, "accept"]).expect(3).says(&["has ended"]);

    let (mut going, name) = begin();
    answer(bob, &["deny", &name, "accept", "--comment", "not today"]).expect(0);
    going.wait_for("bob");
    answer(ada, &["approve", &name, "accept"]).expect(3).says(&["nobody is asked"]);
    answer(bob, &["deny", &name, "accept"]).expect(3).says(&["nobody is asked"]);
    assert!(!going.has_ended(), "a no is for a person to follow up");
    desk.lifeboat(&["cancel", &name]).expect(0);
    let ended = going.end().expect(1);
    assert!(ended.stdout.contains("not today"), "{}", ended.stdout);
}

#[test]
fn a_data_folder_that_cannot_be_used_is_told() {
    let desk = Desk::new();
    let chain = desk.chain("chain", 1, "1ms");
    let file = desk.file("a-file", "not a folder");
    let mut command = Command::new(binary());
    run(command.arg("--config").arg(&desk.config).args(["--data", &file, "run", &chain])).expect(5).says(&["a-file"]);
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), "not a folder");

    if is_root() {
        // Root may write everywhere, so this needs somebody else.
        let closed = desk.folder("data");
        fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap_or_else(|error| panic!("{error}"));
        run(&mut desk.command_as((65_534, 65_534), &["run", &chain])).expect(5).says(&["data", "Permission denied"]);
        assert!(contents(&closed).is_empty());
    }
}

#[test]
fn a_data_folder_may_have_a_longer_path_than_a_socket_address() {
    let mut desk = Desk::new();
    desk.data = desk.folder.path().join("deep".repeat(40)).join("deeper".repeat(30)).join("data");
    let long = desk.chain("long", 1, "4m");
    let mut going = desk.start(&["run", &long]);
    going.wait_for("s0 running");
    let name = desk.lifeboat(&["status", "--format", "json"]).expect(0).json()["summary"]["run"].as_str().unwrap_or_default().to_owned();
    assert!(name.contains("long"), "{name}");
    desk.lifeboat(&["cancel", &name]).expect(0);
    going.signal(Signal::INT);
    going.signal(Signal::INT);
    drop(going);
}
