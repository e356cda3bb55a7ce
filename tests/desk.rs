//! What a person at another terminal is told: who has the folder, who drives the run, what is missing, and the exact command that helps.

mod support;

use support::desk::Desk;

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
