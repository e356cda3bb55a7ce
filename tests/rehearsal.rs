//! `lifeboat simulate` and `lifeboat test`: where runbooks end when their steps fail, told before it happens. No server is here.

mod support;

use std::path::PathBuf;

use serde_json::Value;
use support::desk::Desk;
use xtask::lab::root;

const INVENTORY: &str = "\
lifeboat: v1
databases:
  orders-db:
    database: orders
    nodes:
      us-east-1: { host: 127.0.0.1, port: 1, region: us-east-1 }
      us-west-2: { host: 127.0.0.1, port: 2, region: us-west-2 }
    probe: { user: probe, password: \"file:no-such-file\" }
    act: { user: act, password: \"file:no-such-file\" }
dns-records:
  orders-dns:
    name: db.orders.lab.
    type: A
    ttl: 1
    targets: { us-east-1: [127.0.0.1], us-west-2: [127.0.0.2] }
    rfc2136:
      zone: orders.lab.
      primary: \"127.0.0.1:1\"
      servers: [\"127.0.0.1:1\"]
      tsig: { name: key, algorithm: hmac-sha256, secret: \"file:no-such-file\" }
people:
  ada: { roles: [oncall], system_user: daemon }
  bob: { roles: [oncall], system_user: nobody }
";

/// A desk whose inventory leads to nothing that answers: a simulation asks nobody.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.file("lifeboat.yaml", INVENTORY);
    desk
}

fn moved(rest: &str, more: &str) -> String {
    format!(
        "lifeboat: v1\nname: t\n{rest}\nsteps:\n  - {{ id: dns, type: update-dns, with: {{ record: orders-dns, to: us-west-2 }} }}\n  - {{ id: pause, type: wait, needs: [dns], with: {{ for: 1s }} }}\n{more}"
    )
}

fn simulated(desk: &Desk, text: &str, words: &[&str], code: i32) -> Value {
    let file = desk.file("t.yaml", text);
    let all: Vec<&str> = ["simulate", file.as_str(), "--format", "json"].iter().chain(words).copied().collect();
    let json = desk.lifeboat(&all).expect(code).json();
    assert!(!desk.data.exists(), "a simulation makes no data folder");
    json
}

/// The case in which exactly these steps fail in these ways: `dns undo_fails`.
fn case<'j>(json: &'j Value, failures: &[&str]) -> &'j Value {
    let named = |case: &&Value| {
        let found: Vec<String> = case["failures"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|failure| format!("{} {}", failure["step"].as_str().unwrap_or_default(), failure["way"].as_str().unwrap_or_default()))
            .collect();
        found.len() == failures.len() && failures.iter().all(|failure| found.iter().any(|one| one == failure))
    };
    json["cases"].as_array().into_iter().flatten().find(named).unwrap_or_else(|| panic!("no case {failures:?} in {json:#}"))
}

#[test]
fn what_is_undone_leaves_nothing_and_an_undo_that_fails_is_told_first() {
    let desk = desk();
    let text = moved("on_failure: undo", "");
    let json = simulated(&desk, &text, &[], 1);
    let undone = case(&json, &["pause not_done"]);
    assert_eq!((&undone["kind"], &undone["ending"]["undone"][0]), (&Value::from("undone"), &Value::from("dns")), "{undone:#}");
    assert_eq!(undone["ending"]["standing"].as_array().map(Vec::len), Some(0));
    let stuck = case(&json, &["dns undo_fails", "pause not_done"]);
    assert_eq!((&stuck["kind"], &stuck["acceptable"]), (&Value::from("stuck"), &Value::from(false)), "{stuck:#}");
    assert_eq!(stuck["ending"]["standing"], serde_json::json!(["dns"]));
    assert_eq!(json["groups"][0]["kind"], "stuck", "what is worst stands first: {}", json["groups"]);
    // An undo is reached only when something else fails: alone it is no case.
    assert!(
        json["cases"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|case| case["failures"].as_array().is_none_or(|all| all.len() != 1 || all[0]["way"] != "undo_fails"))
    );
    let allowed = simulated(&desk, &text, &["--allow", "stuck"], 0);
    assert_eq!(allowed["acceptable"], true);
    let shown = desk.lifeboat(&["simulate", &desk.file("t.yaml", &text)]).expect(1).stdout;
    let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text:?} is not in\n{shown}"));
    assert!(at("STUCK") < at("undone, nothing left behind"), "{shown}");
    assert!(shown.contains("pause fails for good and dns cannot be undone"), "{shown}");
}

#[test]
fn what_an_abort_leaves_behind_is_no_good_end() {
    let desk = desk();
    let text = moved("on_failure: abort", "");
    let json = simulated(&desk, &text, &[], 1);
    let left = case(&json, &["pause not_done"]);
    assert_eq!((&left["kind"], &left["ending"]["rest"]), (&Value::from("left-behind"), &Value::from("failed")), "{left:#}");
    assert_eq!(case(&json, &["dns not_done"])["kind"], "failed");
    simulated(&desk, &text, &["--allow", "two-primaries"], 1);
    simulated(&desk, &text, &["--allow", "left-behind"], 0);
}

#[test]
fn a_hold_is_a_good_end_and_a_final_step_that_fails_is_not() {
    let desk = desk();
    let json = simulated(&desk, &moved("", ""), &[], 0);
    assert_eq!(case(&json, &["pause not_done"])["kind"], "held");
    assert_eq!(case(&json, &["dns unknown"])["ending"]["held"], serde_json::json!(["dns"]));
    let last = "finally:\n  - { id: tell, type: wait, with: { for: 1s } }\n";
    let json = simulated(&desk, &moved("", last), &[], 1);
    assert_eq!(case(&json, &["tell not_done"])["kind"], "stuck");
}

#[test]
fn a_promotion_without_a_fence_may_leave_two_primaries() {
    let desk = desk();
    let text =
        "lifeboat: v1\nname: t\nsteps:\n  - { id: promote, type: promote-db, with: { db: orders-db, node: us-west-2, max_loss: 1s } }\n";
    let json = simulated(&desk, text, &[], 1);
    assert_eq!(case(&json, &[])["ending"]["two_primaries"], serde_json::json!(["orders-db"]));
    assert_eq!(case(&json, &["promote unknown"])["kind"], "two-primaries");
    assert_eq!(case(&json, &["promote not_done"])["kind"], "held");
    let fenced = text.replace("steps:\n", "steps:\n  - { id: fence, type: fence-db, with: { db: orders-db, node: us-east-1 } }\n");
    let fenced = fenced.replace("type: promote-db,", "type: promote-db, needs: [fence],");
    let json = simulated(&desk, &fenced, &[], 0);
    assert_eq!(case(&json, &[])["kind"], "succeeded");
}

#[test]
fn people_are_asked_and_their_no_and_their_silence_are_tried() {
    let desk = desk();
    let text = "lifeboat: v1\nname: t\nsteps:\n  - { id: accept, type: approval, with: { roles: [oncall], count: 2, timeout: 5m } }\n  - { id: dns, type: update-dns, needs: [accept], with: { record: orders-dns, to: us-west-2 } }\n";
    let json = simulated(&desk, text, &[], 0);
    let good = case(&json, &[]);
    assert_eq!((&good["kind"], &good["ending"]["asked"][0]["count"]), (&Value::from("succeeded"), &Value::from(2)));
    for way in ["denied", "expires"] {
        assert_eq!(case(&json, &[&format!("accept {way}")])["ending"]["held"], serde_json::json!(["accept"]));
    }
    for answer in ["no", "silence"] {
        let json = simulated(&desk, text, &["--approvals", answer], 0);
        assert_eq!(case(&json, &[])["ending"]["rest"], "held", "{answer}");
    }
    let shown = desk.lifeboat(&["simulate", &desk.file("t.yaml", text)]).expect(0).stdout;
    assert!(shown.contains("accept asks 2 of oncall; the inventory has ada, bob, and whoever starts the run does not count"), "{shown}");
}

#[test]
fn outputs_can_be_chosen_and_truths_are_tried_both_ways() {
    let desk = desk();
    let text = "lifeboat: v1\nname: t\nsteps:\n  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: dns, type: update-dns, needs: [loss], if: steps.loss.outputs.within_rpo, with: { record: orders-dns, to: us-west-2 } }\n";
    let json = simulated(&desk, text, &[], 0);
    let good: Vec<&Value> =
        json["cases"].as_array().into_iter().flatten().filter(|case| case["failures"] == serde_json::json!([])).collect();
    let states: Vec<&Value> = good.iter().map(|case| &case["ending"]["steps"][1]["state"]).collect();
    assert_eq!(states, ["succeeded", "skipped"], "{json:#}");
    let json = simulated(&desk, text, &["--output", "loss.within_rpo=false"], 0);
    assert_eq!(case(&json, &[])["ending"]["steps"][1]["state"], "skipped");
    for wrong in ["loss", "loss.within_rpo", "lost.within_rpo=true", "loss.within=true"] {
        desk.lifeboat(&["simulate", &desk.file("t.yaml", text), "--output", wrong]).expect(2);
    }
}

#[test]
fn a_long_plan_is_sampled_and_says_so() {
    let desk = desk();
    let mut text = "lifeboat: v1\nname: t\non_failure: abort\nsteps:\n".to_owned();
    for step in 0..50 {
        text.push_str(&format!("  - {{ id: s{step}, type: wait, with: {{ for: 1s }} }}\n"));
    }
    let file = desk.file("t.yaml", &text);
    let json = desk.lifeboat(&["simulate", &file, "--format", "json", "--pairs", "20"]).expect(0).json();
    assert_eq!((&json["singles"]["played"], &json["pairs"]["played"]), (&Value::from(100), &Value::from(20)));
    assert!(json["pairs"]["possible"].as_u64().is_some_and(|possible| possible > 1_000), "{}", json["pairs"]);
    let shown = desk.lifeboat(&["simulate", &file, "--pairs", "20"]).expect(0).stdout;
    assert!(shown.contains("20 of ") && shown.contains("a sample from all over the plan"), "{shown}");
}

/// Every runbook of the examples and of the library, with its inventory.
fn runbooks() -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("examples"), root().join("runbooks/library")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                // Those are run by others, with what they are given there.
                if name != "children" {
                    folders.push(path);
                }
            } else if name.ends_with(".yaml") && !name.ends_with(".test.yaml") && name != "lifeboat.yaml" {
                found.push((path, folder.join("lifeboat.yaml")));
            }
        }
    }
    assert!(!found.is_empty(), "there are no runbooks");
    found
}

#[test]
fn every_example_and_every_runbook_of_the_library_passes_its_tests_and_is_simulated() {
    let mut desk = desk();
    for (runbook, inventory) in runbooks() {
        desk.config = inventory;
        let file = runbook.display().to_string();
        let tests = desk.lifeboat(&["test", &file]).expect(0).stdout;
        assert!(tests.contains(" passed, 0 failed"), "{file}: {tests}");
        // Where a failure is undone by itself, an undo that fails leaves the run stuck, whatever the runbook says.
        let undoes = std::fs::read_to_string(&runbook).is_ok_and(|text| text.contains("\non_failure: undo"));
        let allowed: &[&str] = if undoes { &["--allow", "stuck"] } else { &[] };
        desk.lifeboat(&[&["simulate", file.as_str()], allowed].concat()).expect(0);
    }
    assert!(!desk.data.exists());
}

const TESTS: &str = "\
lifeboat-test: v1
cases:
  - name: the pause comes after the name was moved
    expect: { outcome: succeeded, order: [dns, pause], attempts: { dns: 1 } }
";

#[test]
fn an_expectation_that_is_not_met_is_told_at_its_place() {
    let desk = desk();
    let runbook = desk.file("t.yaml", &moved("on_failure: undo", ""));
    let tests = desk.file("t.test.yaml", TESTS);
    for words in [["test", runbook.as_str()], ["test", tests.as_str()]] {
        let passed = desk.lifeboat(&words).expect(0).stdout;
        assert!(passed.ends_with("\n1 passed, 0 failed\n"), "{passed}");
    }
    let wrong = "\
lifeboat-test: v1
cases:
  - name: everything is another
    steps: { pause: fails_for_good }
    people:
      - { held: dns, do: retry }
    expect:
      outcome: succeeded
      held: [pause]
      steps: { dns: succeeded }
      order: [pause, dns]
      with: { dns: { to: us-east-1 } }
      attempts: { dns: 2 }
      undone: []
      standing: [dns]
      why: { pause: no such reason }
      no_return: dns
  - name: this one holds
    expect: { outcome: succeeded }
";
    let tests = desk.file("t.test.yaml", wrong);
    let failed = desk.lifeboat(&["test", &tests]).expect(1).stdout;
    for (line, what, expected, found) in [
        (8, "outcome", "succeeded", "undone (step pause failed; undone: dns)"),
        (9, "held", "pause", "none"),
        (10, "steps.dns", "succeeded", "undone"),
        (11, "order", "pause then dns", "dns began before pause had ended"),
        (12, "with.dns", "{\"to\":\"us-east-1\"}", "{\"record\":\"orders-dns\",\"to\":\"us-west-2\"}"),
        (13, "attempts.dns", "2", "1"),
        (14, "undone", "none", "dns"),
        (15, "standing", "dns", "none"),
        (16, "why.pause", "a reason with \"no such reason\"", "\"it fails in this test\""),
        (17, "no_return", "dns", "none"),
        (6, "people", "the person acts", "the moment never came; undone"),
    ] {
        let at = failed.find(&format!("t.test.yaml:{line}:")).unwrap_or_else(|| panic!("nothing at line {line} in\n{failed}"));
        let told: Vec<&str> = failed[at..].lines().take(3).collect();
        assert!(told[0].ends_with(&format!(": {what}")), "{told:?}");
        assert_eq!(told[1].trim(), format!("expected  {expected}"));
        assert!(told[2].trim().starts_with(&format!("found     {found}")), "{told:?}");
    }
    assert!(failed.contains("✓ this one holds") && failed.ends_with("\n1 passed, 1 failed\n"), "{failed}");
    let coloured = desk.lifeboat(&["--color", "always", "test", &tests]).expect(1).stdout;
    assert!(coloured.contains("\u{1b}[31mfound"), "{coloured}");
    let json = desk.lifeboat(&["test", &tests, "--format", "json"]).expect(1).json();
    assert_eq!(json[0]["cases"][0]["mismatches"].as_array().map(Vec::len), Some(11), "{json:#}");
    assert_eq!((&json[0]["cases"][0]["mismatches"][0]["line"], &json[0]["cases"][1]["passed"]), (&Value::from(8), &Value::from(true)));
    desk.lifeboat(&["test", &tests, "--only", "this one"]).expect(0);
    desk.lifeboat(&["test", &tests, "--only", "none of them"]).expect(2);
    assert!(!desk.data.exists());
}

#[test]
fn a_bad_test_file_is_bad_input() {
    let desk = desk();
    let runbook = desk.file("t.yaml", &moved("", ""));
    desk.lifeboat(&["test", &runbook]).expect(2).says(&["t.test.yaml cannot be read"]);
    for (text, says) in [
        (TESTS.replace("outcome: succeeded", "outcome: succeded"), "LB015"),
        (TESTS.replace("[dns, pause]", "[dns, puase]"), "did you mean `pause`?"),
        (TESTS.replace("    expect", "    mode: failover\n    expect"), "no mode `failover`"),
        (TESTS.replace("    expect", "    inputs: { to: x }\n    expect"), "no input `to`"),
        (TESTS.replace("    expect", "    steps: { dns: denied }\n    expect"), "asks nobody"),
        (TESTS.replace("    expect", "    steps: { dns: { succeeds: { names: x } } }\n    expect"), "did you mean `name`?"),
        ("lifeboat-test: v1\nrunbook: other.yaml\ncases: [{ name: x, expect: {} }]\n".to_owned(), "other.yaml cannot be read"),
    ] {
        let tests = desk.file("t.test.yaml", &text);
        desk.lifeboat(&["test", &tests]).expect(2).says(&[says]);
    }
}
