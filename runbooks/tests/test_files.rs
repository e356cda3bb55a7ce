//! Test files of runbooks: what is read of a good one, and every problem of bad ones at its place.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use catalog::Types;
use lifeboat_runbooks::testing::{self, Expectation, Given, Observed, PersonAct, When, holds};
use lifeboat_runbooks::{Source, parse};
use serde_json::json;

const RUNBOOK: &str = "lifeboat: v1\nname: t\nmodes: [failover, drill]\ninputs: { to: { default: us-west-2 } }\nsteps:\n  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: accept, type: approval, needs: [loss], with: { roles: [oncall], count: 1, timeout: 1m } }\n  - { id: pause, type: wait, needs: [accept], with: { period: 1s } }\n";

/// Code and text of each problem.
fn problems(text: &str) -> Vec<(&'static str, String)> {
    let source = Source { name: "t.test.yaml".into(), text: text.into() };
    let (file, mut problems) = testing::parse(&source);
    if let Some(file) = &file {
        let (runbook, wrong) = parse(&Source { name: "t.yaml".into(), text: RUNBOOK.into() });
        assert_eq!(wrong, []);
        problems.extend(testing::check(file, &runbook.unwrap(), &Types::new(), &["ada", "bob"]));
    }
    problems.into_iter().map(|problem| (problem.code, text[problem.span.start..problem.span.end].to_owned())).collect()
}

fn case(body: &str) -> String {
    format!("lifeboat-test: v1\ncases:\n  - name: x\n{body}    expect: {{ outcome: held }}\n")
}

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let text = "lifeboat-test: v1\nrunbook: other.yaml\ndefaults:\n  mode: failover\n  inputs: { to: eu }\n  steps: { loss: fails, pause: { undo_fails: rust } }\ncases:\n  - name: one\n    inputs: { to: us-west-2 }\n    steps: { loss: [{ in_doubt: { observed: done, outputs: { bytes: 3 } } }, succeeds], accept: { approved: [ada] } }\n    people: [{ held: pause, do: say-done }, { done: loss, do: cancel }]\n    expect: { held: [pause], with: { pause: { period: 1s } }, no_return: none }\n  - { name: two, expect: {} }\n";
    assert_eq!(problems(text), []);
    let (file, _) = testing::parse(&Source { name: "t".into(), text: text.into() });
    let file = file.unwrap();
    assert_eq!(file.runbook.as_ref().unwrap().value, "other.yaml");
    let [one, two] = file.cases.as_slice() else { panic!("{} cases", file.cases.len()) };
    assert_eq!((one.inputs["to"].value.as_str(), two.inputs["to"].value.as_str()), ("us-west-2", "eu"));
    assert_eq!(one.mode.as_ref().unwrap().value, "failover");
    let turns: Vec<&Given> = one.steps["loss"].attempts.iter().map(|turn| &turn.value).collect();
    assert!(
        matches!(turns.as_slice(), [Given::InDoubt { observed: Observed::Done, outputs, .. }, Given::Succeeds { .. }] if *outputs == json!({"bytes": 3})),
        "{turns:?}"
    );
    assert!(matches!(two.steps["loss"].attempts[0].value, Given::Fails { .. }), "what a case does not say, the defaults do");
    assert_eq!(two.steps["pause"].undo_fails.as_deref(), Some("rust"));
    assert!(matches!((&one.people[0].when, &one.people[0].act), (When::Held(_), PersonAct::Done { .. })));
    assert!(matches!(&one.expect[2].value, Expectation::NoReturn(None)), "{:?}", one.expect);
    assert_eq!(&text[one.expect[1].span.start..one.expect[1].span.end], "pause");
}

#[test]
fn every_problem_is_told_at_its_place() {
    for (body, code, place) in [
        ("    steps: { pause: [fails, { succeeds: {}, fails: x }] }\n", "LB070", "fails"),
        ("    steps: { accept: fails }\n", "LB070", "fails"),
        ("    steps: { pause: approved }\n", "LB070", "approved"),
        ("    steps: { accept: { approved: [eve] } }\n", "LB070", "eve"),
        ("    people: [{ held: pause, done: loss, do: retry }]\n", "LB070", "done"),
        ("    people: [{ do: retry }]\n", "LB070", "do"),
        ("    people: [{ held: pause, do: skip, outputs: {} }]\n", "LB070", "outputs"),
        ("    steps: { puase: fails }\n", "LB022", "puase"),
        ("    people: [{ held: puase, do: skip }]\n", "LB022", "puase"),
        ("    mode: failovr\n", "LB025", "failovr"),
        ("    inputs: { ot: x }\n", "LB052", "x"),
        ("    steps: { loss: { succeeds: { byts: 3 } } }\n", "LB011", "byts"),
        ("    steps: { loss: { in_doubt: { outputs: { bytes: many } } } }\n", "LB013", "many"),
        ("    steps: { loss: suceeds }\n", "LB015", "suceeds"),
        ("    stpes: {}\n", "LB011", "stpes"),
    ] {
        assert_eq!(problems(&case(body)), [(code, place.to_owned())], "{body}");
    }
    assert_eq!(problems("lifeboat-test: v1\ncases: [{ name: x, expect: {} }, { name: x, expect: {} }]\n"), [("LB021", "x".to_owned())]);
    assert_eq!(problems("lifeboat-test: v2\ncases: [{ name: x, expect: {} }]\n"), [("LB015", "v2".to_owned())]);
    assert_eq!(problems("cases: []\n").iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["LB012", "LB016"]);
}

#[test]
fn steps_of_child_runs_and_items_may_be_named() {
    assert_eq!(problems(&case("    steps: { \"pause[2]\": fails, \"pause/promote\": fails }\n")), []);
    assert_eq!(problems(&case("    steps: { \"nobody[2]\": fails }\n")), [("LB022", "\"nobody[2]\"".to_owned())]);
}

#[test]
fn a_part_is_held_by_the_whole() {
    let whole = json!({"a": {"b": 1, "c": [1, {"d": 2}]}, "n": 1.0});
    for part in [json!({}), json!({"a": {"b": 1}}), json!({"a": {"c": [1, {}]}}), json!({"n": 1})] {
        assert!(holds(&whole, &part), "{part}");
    }
    for part in [json!({"x": null}), json!({"a": {"b": 2}}), json!({"a": {"c": [1]}}), json!({"a": []}), json!({"n": "1"})] {
        assert!(!holds(&whole, &part), "{part}");
    }
}
