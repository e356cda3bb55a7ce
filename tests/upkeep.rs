//! `lifeboat audit` and `lifeboat store` as people use them: keys, proofs, exports, archives, room, and every refusal with its words.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::desk::Desk;
use support::process::{Ended, binary, run};
use support::stage::write;

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A desk whose runs are signed for, and where the checkpoints go.
fn signed_desk() -> (Desk, PathBuf) {
    let desk = Desk::new();
    let (key, sink) = (desk.folder.path().join("key"), desk.folder.path().join("checkpoints"));
    desk.lifeboat(&["audit", "keygen", &key.display().to_string()]).expect(0);
    let policies = format!("  checkpoints: {{ file: {}, key: \"file:{}\" }}\n", sink.display(), key.display());
    write(&desk.config, &(read(&desk.config) + &policies));
    (desk, sink)
}

/// Runs a chain of so many waits to its end.
fn run_chain(desk: &Desk, steps: usize) -> Ended {
    let runbook = desk.chain("chain", steps, "1ms");
    desk.lifeboat(&["run", &runbook]).expect(0)
}

/// A command on another data folder of the same desk.
fn at(desk: &Desk, data: &str, words: &[&str]) -> Ended {
    let mut command = Command::new(binary());
    command.arg("--config").arg(&desk.config).arg("--data").arg(desk.folder.path().join(data)).args(words);
    run(&mut command)
}

#[test]
fn a_key_is_made_for_its_owner_alone_never_in_the_data_folder_and_never_over_another() {
    let desk = Desk::new();
    let key = desk.folder.path().join("key");
    let name = key.display().to_string();
    let made = desk.lifeboat(&["audit", "keygen", &name]).expect(0);
    assert!(made.stdout.contains("checkpoints:") && made.stdout.contains(&format!("key: file:{name}")), "{}", made.stdout);
    let mode = std::fs::metadata(&key).unwrap_or_else(|error| panic!("{error}")).permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = read(&key);
    assert!(!made.stdout.contains(text.lines().nth(1).unwrap_or("?")) && !made.stderr.contains(text.lines().nth(1).unwrap_or("?")));
    assert!(read(&desk.folder.path().join("key.pub")).starts_with("-----BEGIN PUBLIC KEY-----"));
    desk.lifeboat(&["audit", "keygen", &name]).expect(2).says(&["never overwritten"]);
    assert_eq!(read(&key), text);
    let inside = desk.folder("data").join("key");
    desk.lifeboat(&["audit", "keygen", &inside.display().to_string()]).expect(2).says(&["lies in the data folder"]);
    assert!(!inside.exists());
}

#[test]
fn what_was_signed_is_proven_and_what_was_changed_is_named_with_exit_code_5() {
    let (desk, sink) = signed_desk();
    run_chain(&desk, 3);
    let proven = desk.lifeboat(&["audit", "verify", "--format", "json"]).expect(0).json();
    assert_eq!((proven["sound"].as_bool(), proven["unproven"].as_u64(), proven["extent"].as_str()), (Some(true), Some(0), Some("whole")));
    let export = desk.folder.path().join("all.jsonl");
    let name = export.display().to_string();
    desk.lifeboat(&["store", "export", "--output", &name]).expect(0);
    let public = desk.folder.path().join("key.pub").display().to_string();
    let (sink_name, verify) = (sink.display().to_string(), ["audit", "verify", "--export", &name]);
    desk.lifeboat(&[&verify[..], &["--checkpoints", &sink_name, "--public-key", &public]].concat()).expect(0);
    // Somebody makes the journal say that the run failed.
    write(
        &export,
        &read(&export).replacen(
            "\\\"run_ended\\\":{\\\"outcome\\\":\\\"succeeded\\\"",
            "\\\"run_ended\\\":{\\\"outcome\\\":\\\"cancelled\\\"",
            1,
        ),
    );
    let found = desk.lifeboat(&verify).expect(5);
    assert!(found.stdout.contains("FOUND  run/") && found.stdout.contains("the chain breaks here"), "{}", found.stdout);
    at(&desk, "other", &["store", "import", &name]).expect(5);
    // Another key proves nothing.
    let other = desk.folder.path().join("other-key").display().to_string();
    desk.lifeboat(&["audit", "keygen", &other]).expect(0);
    let unproven = desk.lifeboat(&["audit", "verify", "--public-key", &format!("{other}.pub")]).expect(5);
    assert!(unproven.stderr.contains("was signed with the key") && unproven.stdout.contains("no checkpoint counts"), "{unproven:?}");
    // Neither does an empty file, and a line that was changed is a finding.
    let lines = read(&sink);
    write(&sink, "");
    let emptied = desk.lifeboat(&["audit", "verify"]).expect(5);
    assert!(emptied.stdout.contains("FOUND  no checkpoint counts"), "{}", emptied.stdout);
    write(&sink, &(lines.clone() + &lines.replacen("\"next\":", "\"next\":1", 1)));
    let forged = desk.lifeboat(&["audit", "verify"]).expect(5);
    assert!(forged.stdout.contains("it was changed or forged"), "{}", forged.stdout);
}

#[test]
fn checkpoints_that_cannot_be_made_are_told_and_stop_no_run() {
    let (desk, sink) = signed_desk();
    std::fs::remove_file(desk.folder.path().join("key")).unwrap_or_else(|error| panic!("{error}"));
    let ended = run_chain(&desk, 2);
    assert!(ended.stderr.contains("checkpoints cannot be written"), "{}", ended.stderr);
    assert!(ended.stderr.contains("are not covered by a checkpoint"), "{}", ended.stderr);
    assert!(!sink.exists());
    // In the data folder they would be worth nothing: that is a mistake in the inventory.
    let inside = desk.data.join("checkpoints").display().to_string();
    write(&desk.config, &read(&desk.config).replace(&sink.display().to_string(), &inside));
    desk.lifeboat(&["runs"]).expect(5).says(&["lie in the data folder"]);
}

#[test]
fn a_store_is_checked_moved_and_never_overwritten() {
    let desk = Desk::new();
    run_chain(&desk, 2);
    let sound = desk.lifeboat(&["store", "verify", "--format", "json"]).expect(0).json();
    assert_eq!(
        (sound["sound"].as_bool(), sound["runs"].as_u64(), sound["problems"].as_array().map(Vec::len)),
        (Some(true), Some(1), Some(0))
    );
    let (all, one) =
        (desk.folder.path().join("all.jsonl").display().to_string(), desk.folder.path().join("one.jsonl").display().to_string());
    desk.lifeboat(&["store", "export", "--output", &all]).expect(0);
    desk.lifeboat(&["store", "export", "--output", &all]).expect(5).says(&["cannot be written"]);
    desk.lifeboat(&["store", "import", &all]).expect(0).says(&["were there already"]);
    at(&desk, "copy", &["store", "import", &all]).expect(0);
    let copy = at(&desk, "copy", &["store", "export"]).expect(0);
    assert_eq!(copy.stdout, read(Path::new(&all)), "what comes back is what went out");
    // Another run since: the two stores have become different ones.
    run_chain(&desk, 2);
    desk.lifeboat(&["store", "export", "--output", &one]).expect(0);
    at(&desk, "copy", &["store", "import", &one]).expect(3).says(&["nothing is overwritten"]);
    // A value is damaged: it is named, and what to do.
    let values = desk.data.join("kept");
    let value = std::fs::read_dir(&values).into_iter().flatten().flatten().map(|entry| entry.path()).next().expect("a plan is kept");
    write(&value, "not what it was");
    let unsound = desk.lifeboat(&["store", "verify"]).expect(5);
    assert!(unsound.stdout.contains("DAMAGED") && unsound.stdout.contains("help: "), "{}", unsound.stdout);
}

#[test]
fn an_unfinished_run_is_not_taken_in_without_its_locks() {
    let desk = Desk::new();
    let runbook = desk.file(
        "ask.yaml",
        "lifeboat: v1\nname: ask\nsteps:\n  - id: ask\n    type: approval\n    with: { roles: [oncall], count: 1, timeout: 1h }\n",
    );
    let name = desk.lifeboat(&["run", &runbook, "--no-wait"]).expect(4).run_name();
    let one = desk.folder.path().join("one.jsonl").display().to_string();
    desk.lifeboat(&["store", "export", "--run", &name, "--output", &one]).expect(0);
    at(&desk, "other", &["store", "import", &one]).expect(3).says(&["has not ended", "neither its locks"]);
    let all = desk.folder.path().join("all.jsonl").display().to_string();
    desk.lifeboat(&["store", "export", "--output", &all]).expect(0);
    at(&desk, "whole", &["store", "import", &all]).expect(0);
    at(&desk, "whole", &["status", &name]).expect(4);
}

#[test]
fn archived_runs_are_listed_proven_and_found_again() {
    let (desk, _sink) = signed_desk();
    // The first lasts longer than a second: of two that begin in the same second chance decides which is listed first.
    let slow = desk.chain("chain", 2, "1s");
    let first = desk.lifeboat(&["run", &slow]).expect(0).run_name();
    let second = run_chain(&desk, 2).run_name();
    let done = desk.lifeboat(&["store", "compact", "--keep-newest", "1", "--keep-days", "0", "--format", "json"]).expect(0).json();
    assert_eq!((done["runs"].as_u64(), done["files"].as_array().map(Vec::len)), (Some(1), Some(1)));
    let listed = desk.lifeboat(&["runs", "--format", "json"]).expect(0).json();
    let names: Vec<&str> = listed.as_array().into_iter().flatten().filter_map(|run| run["run"].as_str()).collect();
    assert_eq!(names, [first.as_str(), second.as_str()]);
    let page = desk.lifeboat(&["runs", "--limit", "1"]).expect(0).says(&["1 older runs are not listed"]);
    assert!(page.stdout.contains(&second) && !page.stdout.contains(&first), "{}", page.stdout);
    desk.lifeboat(&["status", &first]).expect(2).says(&["was archived"]);
    desk.lifeboat(&["audit", "verify"]).expect(0);
    let file = done["files"][0].as_str().unwrap_or_default().to_owned();
    at(&desk, "back", &["store", "import", &file]).expect(0);
    at(&desk, "back", &["report", &first]).expect(0);
}

#[test]
fn a_full_disk_is_told_and_admits_no_new_run() {
    let desk = Desk::new();
    run_chain(&desk, 1);
    let disk = "  disk: { warn_percent: 0, refuse_percent: 0, enough_free_bytes: 18446744073709551615 }\n";
    write(&desk.config, &(read(&desk.config) + disk));
    let runbook = desk.chain("chain", 1, "1ms");
    desk.lifeboat(&["run", &runbook]).expect(3).says(&["no new run is admitted", "lifeboat store compact"]);
    desk.lifeboat(&["runs"]).expect(0).says(&["warning: the disk of the data folder is"]);
    desk.lifeboat(&["status"]).expect(0).says(&["warning: the disk of the data folder is"]);
}

/// The last segment, with one bit of this text in it flipped.
fn spoil(desk: &Desk, text: &str) {
    let segments = desk.data.join("segments");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&segments).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let last = files.pop().unwrap_or_else(|| panic!("no segments"));
    let mut bytes = std::fs::read(&last).unwrap_or_else(|error| panic!("{error}"));
    let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap_or_else(|| panic!("{text} is not there"));
    bytes[at] ^= 1;
    std::fs::write(&last, bytes).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_damaged_folder_can_be_looked_at_and_what_is_whole_be_saved_and_nothing_in_it_is_gone_on_with() {
    let desk = Desk::new();
    let ask = "lifeboat: v1\nname: ask\nsteps:\n  - id: ask\n    type: approval\n    with: { roles: [oncall], count: 1, timeout: 1h }\n";
    let slow = desk.chain("early", 2, "1s");
    let early = desk.lifeboat(&["run", &slow]).expect(0).run_name();
    let open = desk.lifeboat(&["run", &desk.file("ask.yaml", ask), "--no-wait"]).expect(4).run_name();
    let late = run_chain(&desk, 2).run_name();
    let before = desk.lifeboat(&["report", &early, "--format", "json"]).expect(0).stdout;
    // The end of the early run is spoilt by one bit, behind its beginning and before all others.
    spoil(&desk, "run_ended");
    let listed = desk.lifeboat(&["runs"]).expect(5).says(&["lost: group", "act by nothing that stands here alone", "--leave-out-damaged"]);
    assert!([&early, &open, &late].iter().all(|run| listed.stdout.contains(run.as_str())), "{}", listed.stdout);
    desk.lifeboat(&["status", &open]).expect(5);
    desk.lifeboat(&["report", &late]).expect(5);
    desk.lifeboat(&["status", "no-such-run"]).expect(5);
    for act in [&["resume", "--no-wait"][..], &["cancel", &open], &["watch", &open], &["run", &slow], &["store", "export"]] {
        desk.lifeboat(act).expect(5).says(&["keep a copy of the folder"]);
    }
    // What is over and whole is saved; what may lack its newest entries is not, and each is named.
    let saved = desk.folder.path().join("saved.jsonl").display().to_string();
    let told = desk.lifeboat(&["store", "export", "--leave-out-damaged", "--output", &saved]).expect(5);
    for left in [format!("left out: run/{early}: "), format!("left out: run/{open}: "), "left out: open: ".to_owned()] {
        assert!(told.stderr.contains(&left), "{left} is not told in:\n{}", told.stderr);
    }
    at(&desk, "saved", &["store", "import", &saved]).expect(0);
    at(&desk, "saved", &["report", &late]).expect(0);
    at(&desk, "saved", &["status", &open]).expect(2);
    // The same bit flipped back: nothing was changed by all the looking.
    spoil(&desk, "sun_ended");
    assert_eq!(desk.lifeboat(&["report", &early, "--format", "json"]).expect(0).stdout, before);
    desk.lifeboat(&["store", "verify"]).expect(0);
}
