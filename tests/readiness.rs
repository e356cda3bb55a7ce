//! What `plan` says is what `run` does: whatever no look at the world could mend is refused before the first step, and nothing that may act is
//! called a look.

mod support;

use support::desk::Desk;
use support::journal;
use support::process::Ended;
use support::stage::write;

/// A desk where these programs may be started.
fn desk_with(programs: &str) -> Desk {
    let desk = Desk::new();
    let text = std::fs::read_to_string(&desk.config).unwrap_or_else(|error| panic!("{error}"));
    write(&desk.config, &(text + &format!("  programs: [{programs}]\n")));
    desk
}

/// `plan` and `run` refuse the runbook with these words, and no run is begun.
#[track_caller]
fn refused(desk: &Desk, runbook: &str, words: &[&str]) -> Ended {
    let file = desk.file("refused.yaml", runbook);
    desk.lifeboat(&["check", &file]).expect(0);
    let planned = desk.lifeboat(&["plan", &file]).expect(3);
    assert!(planned.stdout.contains("NOT READY: 1 of "), "{}", planned.stdout);
    for word in words {
        assert!(planned.stdout.contains(word), "{word} is missing in:\n{}", planned.stdout);
    }
    desk.lifeboat(&["run", &file, "--no-wait"]).expect(3).says(words);
    assert!(!desk.data.exists() || journal::all(&desk.data).is_empty(), "a run was begun");
    planned
}

#[test]
fn an_undo_that_could_never_be_made_is_refused_before_the_first_step() {
    let desk = desk_with("/usr/bin/true");
    let marker = desk.folder.path().join("marker").display().to_string();
    let runbook = |undo: &str| {
        format!(
            "lifeboat: v1\nname: undone\non_failure: undo\nsteps:\n  - id: open\n    type: command\n    with: {{ program: /usr/bin/true }}\n    undo:\n      \
             type: command\n      with: {{ {undo} }}\n"
        )
    };
    let not_allowed = ["open could not be taken back", "the inventory does not allow the program /usr/bin/touch"];
    let planned = refused(&desk, &runbook(&format!("program: /usr/bin/touch, args: [{marker}]")), &not_allowed[1..]);
    assert!(planned.stdout.contains("could not be taken back"), "{}", planned.stdout);
    // Also where the rest of it is known only when it is needed.
    refused(&desk, &runbook("program: /usr/bin/touch, args: [\"${{ outputs.stdout }}\"]"), &not_allowed[1..]);
    refused(
        &desk,
        &runbook("program: /usr/bin/true, check: { program: /usr/bin/false }, args: [\"${{ outputs.stdout }}\"]"),
        &["check: the inventory does not allow the program /usr/bin/false"],
    );
    refused(&desk, &runbook("program: /usr/bin/true, env: { LD_PRELOAD: x }"), &["LD_PRELOAD could make the program run something"]);
    refused(&desk, &runbook("program: /usr/bin/true, secret_env: { TOKEN: \"file:nowhere\" }"), &["nowhere"]);
    // The same with a program that is allowed goes its way.
    let right = desk.file("right.yaml", &runbook("program: /usr/bin/true, args: [\"${{ outputs.stdout }}\"]"));
    desk.lifeboat(&["plan", &right]).expect(0);
    desk.lifeboat(&["run", &right, "--no-wait"]).expect(0);
}

#[test]
fn a_step_that_reads_earlier_outputs_is_judged_by_what_is_known_of_it() {
    let desk = desk_with("/usr/bin/true");
    let runbook = "lifeboat: v1\nname: later\nsteps:\n  - id: first\n    type: command\n    with: { program: /usr/bin/true }\n  - id: second\n    \
                   type: command\n    needs: [first]\n    with: { program: /usr/bin/touch, args: [\"${{ steps.first.outputs.stdout }}\"] }\n";
    refused(&desk, runbook, &["the inventory does not allow the program /usr/bin/touch"]);
}

/// A database that drills may change. Nobody asks it anything here.
const TWIN: &str = "\
databases:
  twin:
    drill: allow
    database: orders
    nodes:
      a: { host: 127.0.0.1, port: 1, region: a }
      b: { host: 127.0.0.1, port: 2, region: b }
    probe: { user: probe, password: \"file:no-such-file\" }
    act: { user: act, password: \"file:no-such-file\" }
";

#[test]
fn a_drill_whose_undo_names_no_resource_is_refused() {
    let desk = desk_with("/usr/bin/true");
    let text = std::fs::read_to_string(&desk.config).unwrap_or_else(|error| panic!("{error}"));
    write(&desk.config, &(text + TWIN));
    let runbook = "lifeboat: v1\nname: blind\nmodes: [failover, drill]\nsteps:\n  - id: open\n    type: command\n    with: { program: /usr/bin/true, changes: \
                   [twin] }\n    undo:\n      type: command\n      with: { program: /usr/bin/true, args: [\"${{ outputs.stdout }}\"] }\n";
    let file = desk.file("blind.yaml", runbook);
    desk.lifeboat(&["run", &file, "--no-wait"]).expect(0);
    let words = ["open could not be taken back", "in a drill it must be known what a program touches"];
    desk.lifeboat(&["drill", &file]).expect(3).says(&words);
    assert_eq!(journal::all(&desk.data).len(), 1, "a drill was begun");
}

#[test]
fn a_program_that_names_no_resource_is_never_called_a_look() {
    let desk = desk_with("/usr/bin/touch");
    let marker = desk.folder.path().join("marker").display().to_string();
    let runbook = format!(
        "lifeboat: v1\nname: blind\nsteps:\n  - id: blind\n    type: command\n    with: {{ program: /usr/bin/touch, args: [{marker}] }}\n  - id: pause\n    \
         type: wait\n    with: {{ for: 1ms }}\n"
    );
    let planned = desk.lifeboat(&["plan", &desk.file("blind.yaml", &runbook)]).expect(0).stdout;
    assert!(planned.contains("blind (command) MAY CHANGE ANYTHING (it names no resource)"), "{planned}");
    assert!(planned.contains("pause (wait) looks only"), "{planned}");
}
