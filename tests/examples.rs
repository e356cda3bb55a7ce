//! The folders of `examples/` that need no servers: checked, planned, simulated, tested and run by the binary, as their READMEs say.

mod support;

use std::path::Path;

use support::desk::Desk;
use xtask::lab::root;

/// A desk that holds a copy of an example.
fn desk_with(example: &str) -> Desk {
    let desk = Desk::new();
    copy(&root().join("examples").join(example), desk.folder.path());
    desk
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            // What a person left there by trying it is not part of it.
            if !["state", ".lifeboat"].contains(&entry.file_name().to_str().unwrap_or_default()) {
                std::fs::create_dir_all(&to).unwrap_or_else(|error| panic!("{error}"));
                copy(&entry.path(), &to);
            }
        } else {
            std::fs::copy(entry.path(), &to).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn a_list_of_services_is_planned_simulated_and_tested() {
    let desk = desk_with("many-services");
    let runbook = desk.folder.path().join("runbook.yaml").display().to_string();
    desk.lifeboat(&["check", &runbook]).expect(0);
    let plan = desk.lifeboat(&["plan", &runbook]).expect(0).stdout;
    for wanted in ["restart[3]/drain (command)", "taken back by command: run /usr/bin/rm \"-f\"", "list the items of restart, 4 at most"] {
        assert!(plan.contains(wanted), "{wanted:?} is not in\n{plan}");
    }
    desk.lifeboat(&["test", &runbook]).expect(0);
    let simulated = desk.lifeboat(&["simulate", &runbook, "--pairs", "50", "--allow", "stuck", "--allow", "left-behind"]).expect(0).stdout;
    assert!(simulated.contains("undone"), "{simulated}");
    assert!(!desk.data.exists(), "nothing was begun");
}

#[test]
fn stale_services_are_restarted_and_places_that_are_not_needed_are_one_line() {
    let desk = desk_with("many-services");
    let state = desk.folder.path().join("state");
    support::stage::make(&state);
    for stale in ["billing", "search"] {
        support::stage::write(&state.join(format!("{stale}.stale")), "");
    }
    let runbook = desk.folder.path().join("runbook.yaml").display().to_string();
    let ran = desk.lifeboat(&["run", &runbook]).expect(0);
    assert_eq!(std::fs::read_dir(&state).map(Iterator::count).unwrap_or_default(), 0, "no service is stale or drained any more");
    let (status, report) = (desk.lifeboat(&["status"]).expect(0).stdout, desk.lifeboat(&["report"]).expect(0).stdout);
    for (name, text) in [("status", status), ("report", report), ("progress", ran.stderr)] {
        assert_eq!(text.matches("restart[2..3]: 2 places not used").count(), 1, "{name}:\n{text}");
        assert!(!text.contains("restart[3]/drain"), "{name}:\n{text}");
    }
}

#[test]
fn a_service_that_cannot_be_restarted_goes_back_into_service_by_the_undo_that_is_written() {
    let desk = desk_with("many-services");
    let state = desk.folder.path().join("state");
    support::stage::make(&state);
    support::stage::write(&state.join("mail.stale"), "");
    // What stands in the way of `rm` is there before it: the name is a folder that is not empty.
    std::fs::remove_file(state.join("mail.stale")).unwrap_or_else(|error| panic!("{error}"));
    support::stage::make(&state.join("mail.stale"));
    support::stage::write(&state.join("mail.stale/keep"), "");
    let runbook = desk.folder.path().join("runbook.yaml").display().to_string();
    desk.lifeboat(&["run", &runbook]).expect(1);
    assert!(!state.join("mail.drained").exists(), "it was put back");
    let report = desk.lifeboat(&["report", "--format", "json"]).expect(0).json();
    assert_eq!(report["outcome"], "undone", "{report:#}");
    let drain = report["steps"].as_array().into_iter().flatten().find(|step| step["id"] == "restart[0]/drain").cloned().unwrap_or_default();
    assert_eq!(drain["state"], "undone", "{drain:#}");
    assert!(drain["undo"].as_str().is_some_and(|undo| undo.starts_with("command: run /usr/bin/rm")), "{drain:#}");
    let text = desk.lifeboat(&["report"]).expect(0).stdout;
    assert!(text.contains("its undo is command: run /usr/bin/rm"), "{text}");
}
