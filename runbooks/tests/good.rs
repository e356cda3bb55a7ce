//! Good runbooks: checked clean, planned, and read the same by another YAML reader. Bad ones are in `bad.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::collections::BTreeMap;
use std::path::PathBuf;

use catalog::{Inventory, Types};
use lifeboat_runbooks::plan::UndoRule;
use lifeboat_runbooks::render::{self, Colour};
use lifeboat_runbooks::{Plan, PlanRequest, Runbook, Source, check, codes, parse, plan, schema};
use serde_json::json;

fn file(name: &str) -> Source {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/good").join(name);
    Source { name: name.into(), text: std::fs::read_to_string(path).unwrap().into() }
}

fn read(source: &Source) -> Runbook {
    let (runbook, mut problems) = parse(source);
    if let Some(runbook) = &runbook {
        problems.extend(check(runbook, &Types::new(), Some(&Inventory::new())));
    }
    assert!(problems.is_empty(), "{}", render::text(source, &problems, Colour::Plain));
    runbook.unwrap()
}

fn request(mode: Option<&str>, inputs: &[(&str, &str)]) -> PlanRequest {
    PlanRequest {
        mode: mode.map(str::to_owned),
        inputs: inputs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

#[test]
fn the_example_of_the_design_checks_clean_and_plans() {
    let source = file("orders-failover.yaml");
    let runbook = read(&source);
    let made = plan(&runbook, &request(Some("failover"), &[("to", "eu-west-1")]), &Types::new(), &Inventory::new());
    let made = made.unwrap_or_else(|problems| panic!("{}", render::text(&source, &problems, Colour::Plain)));
    let order: Vec<&str> = made.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(order, ["loss", "accept", "fence", "promote", "dns", "verify"]);
    assert_eq!(made.inputs, BTreeMap::from([("from".to_owned(), json!("us-east-1")), ("to".to_owned(), json!("eu-west-1"))]));
    assert_eq!(made.steps[3].preview, "promote eu-west-1");
    assert_eq!(made.steps[3].with["node"], "${{ inputs.to }}");
    assert_eq!(made.steps[4].touches[0].resource, "orders-dns");
    assert_eq!(made.objectives.rto_ms, Some(300_000));
    assert_eq!(made.resources.keys().collect::<Vec<_>>(), ["orders-db", "orders-dns"]);
}

#[test]
fn scalars_of_every_dress_are_good_where_text_is_wanted() {
    let runbook = read(&file("odd-scalars.yaml"));
    let made = plan(&runbook, &request(None, &[]), &Types::new(), &Inventory::new()).unwrap();
    assert_eq!(made.mode, "run");
    assert_eq!(made.inputs["country"], json!("NO"));
    assert_eq!(made.inputs["exponent"], json!(1000.0));
    assert_eq!(made.inputs["whole"], json!(9_007_199_254_740_993_i64));
    assert_eq!(made.steps[0].with["argv"][6], json!("$${{ not an expression }}"));
    assert!(made.steps[0].preview.ends_with("${{ not an expression }}"), "{}", made.steps[0].preview);
}

fn planned(runbook: &Runbook, mode: &str, inputs: &[(&str, &str)]) -> Plan {
    plan(runbook, &request(Some(mode), inputs), &Types::new(), &Inventory::new())
        .unwrap_or_else(|problems| panic!("{}", render::text(&runbook.source, &problems, Colour::Plain)))
}

#[test]
fn a_drill_acts_on_stand_ins_and_proves_the_same_structure() {
    let runbook = read(&file("orders-failover.yaml"));
    let (live, drill) = (planned(&runbook, "failover", &[]), planned(&runbook, "drill", &[]));
    assert_eq!(drill.steps[3].with["db"], "orders-drill-db");
    assert_eq!(drill.steps[4].with["record"], "orders-drill-dns");
    assert_eq!(drill.steps[5].with["checks"][1]["sql"]["db"], "orders-drill-db");
    assert_eq!(drill.resources.keys().collect::<Vec<_>>(), ["orders-drill-db", "orders-drill-dns"]);
    let touched = drill.steps.iter().flat_map(|step| &step.touches).map(|touch| touch.resource.as_str());
    assert!(
        touched.clone().count() > 3 && touched.clone().all(|name| name.starts_with("orders-drill-")),
        "{:?}",
        touched.collect::<Vec<_>>()
    );
    assert_eq!(live.structure, drill.structure);
    let steps = |plan: &lifeboat_runbooks::plan::Plan| plan.steps.iter().map(|step| step.structure.clone()).collect::<Vec<_>>();
    assert_eq!(steps(&live), steps(&drill), "each step is proven by a drill of it");
    assert!(steps(&live).iter().all(|digits| digits.len() == 32));
    assert_ne!(live.binding, drill.binding);
}

#[test]
fn the_structure_holds_what_is_done_and_the_binding_also_to_what() {
    let source = file("orders-failover.yaml");
    let changed = |from: &str, to: &str| {
        assert!(source.text.contains(from), "{from}");
        let source = Source { name: source.name.clone(), text: source.text.replace(from, to).into() };
        let made = planned(&parse(&source).0.unwrap(), "failover", &[]);
        (made.structure, made.binding)
    };
    let same = changed("owner: team-orders", "owner: team-orders");
    assert_eq!(changed("title: Move", "title: # a comment\n  Move"), same, "words for people and comments change nothing");
    assert_eq!(changed("promote-db\n", "promote-db    # now\n"), same);
    for (from, to) in [
        ("timeout: 2m", "timeout: 3m"),
        ("max_loss: 1m", "max_loss: 2m"),
        ("mode == \"failover\" &&", "mode != \"drill\" &&"),
        ("attempts: 5", "attempts: 6"),
        ("on_failure: hold", "on_failure: abort"),
        ("point_of_no_return: true", "point_of_no_return: false"),
    ] {
        assert_ne!(changed(from, to).0, same.0, "{from}");
    }
    let runbook = read(&source);
    let (here, there) = (planned(&runbook, "failover", &[]), planned(&runbook, "failover", &[("to", "eu-west-1")]));
    assert_eq!(here.structure, there.structure);
    assert_ne!(here.binding, there.binding);
    assert_ne!(here.binding, planned(&runbook, "switchover", &[]).binding);
}

#[test]
fn a_plan_survives_its_stored_form() {
    let made = planned(&read(&file("orders-failover.yaml")), "failover", &[]);
    let stored = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), made);
}

#[test]
fn changes_of_one_resource_may_follow_each_other_and_others_go_side_by_side() {
    let runbook = read(&file("ordered-changes.yaml"));
    for mode in ["failover", "switchover"] {
        assert_eq!(planned(&runbook, mode, &[]).steps.len(), 7);
    }
}

#[test]
fn what_only_protects_may_go_side_by_side_with_a_change() {
    let text = "lifeboat: v1\nname: t\nsteps:\n  - { id: a, type: back-up, with: { db: orders-db } }\n  - { id: b, type: back-up, with: { db: orders-db } }\n  - { id: c, type: fence-db, with: { db: orders-db, node: us-east-1 } }\n";
    read(&Source { name: "t".into(), text: text.into() });
}

#[test]
fn a_step_that_cannot_run_in_a_mode_grips_nothing_there() {
    let text = "lifeboat: v1\nname: t\nmodes: [live, drill]\nsteps:\n  - id: a\n    type: fence-db\n    if: mode == \"live\" && inputs.n > 1\n    with: { db: billing-db, node: us-east-1 }\ninputs: { n: { type: integer, default: 2 } }\n";
    let runbook = read(&Source { name: "t".into(), text: text.into() });
    assert_eq!(planned(&runbook, "live", &[]).steps[0].touches.len(), 1);
    assert_eq!(planned(&runbook, "live", &[("n", "1")]).steps[0].touches, []);
    assert_eq!(planned(&runbook, "drill", &[]).steps[0].touches, []);
}

#[test]
fn steps_stand_after_what_they_need_and_ties_keep_the_order_of_the_file() {
    let step = |id: &str, needs: &str| format!("  - {{ id: {id}, type: wait, needs: [{needs}], with: {{ period: 1s }} }}\n");
    let steps = [("d", "a"), ("c", ""), ("b", "d"), ("a", ""), ("e", "c, b")].map(|(id, needs)| step(id, needs)).concat();
    let runbook = read(&Source { name: "t".into(), text: format!("lifeboat: v1\nname: t\nsteps:\n{steps}").into() });
    let order: Vec<String> = planned(&runbook, "run", &[]).steps.iter().map(|step| step.id.to_string()).collect();
    assert_eq!(order, ["c", "a", "d", "b", "e"]);
}

#[test]
fn finally_may_look_at_every_step_and_what_is_left_out_has_a_default() {
    let text = "lifeboat: v1\nname: t\nsteps:\n  - { id: look, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\nfinally:\n  - id: tell\n    type: command\n    if: steps.look.state in [\"failed\", \"succeeded\"]\n    retry: { attempts: 3 }\n    with: { argv: [\"${{ steps.look.?outputs.?lag.orValue('unknown') }}\"] }\n    undo: never\n";
    let made = planned(&read(&Source { name: "t".into(), text: text.into() }), "run", &[]);
    let tell = &made.finally[0];
    assert_eq!((tell.timeout_ms, tell.retry.attempts, tell.retry.backoff_min_ms, tell.retry.backoff_max_ms), (300_000, 3, 1000, 30_000));
    assert_eq!((tell.line, tell.undo.clone(), tell.on_failure), (6, UndoRule::Never, None));
    assert_eq!(made.steps[0].retry.attempts, 1);
}

const UNDO: &str = r#"lifeboat: v1
name: t
modes: [live, drill]
inputs: { to: { type: string, default: us-west-2 } }
steps:
  - { id: say, type: command, with: { argv: [date] } }
  - id: hold
    type: command
    needs: [say]
    with: { argv: [hold] }
    undo:
      type: fence-db
      with: { db: orders-db, node: "${{ inputs.to }}" }
      timeout: 30s
  - id: each
    type: command
    needs: [hold]
    for_each: [a, b]
    with: { argv: [hold, "${{ item }}"] }
    undo: { type: command, with: { argv: [release, "${{ item }}", "${{ outputs.stdout }}", "${{ steps.say.outputs.stdout }}"] } }
  - { id: whole, type: command, needs: [each], with: { argv: [hold] }, undo: { type: command, with: { argv: ["${{ string(outputs.exit_code) }}"] } } }
"#;

fn with_undo(from: &str, to: &str) -> Plan {
    assert!(UNDO.contains(from), "{from}");
    planned(&read(&Source { name: "t".into(), text: UNDO.replace(from, to).into() }), "live", &[])
}

#[test]
fn a_written_undo_is_planned_with_what_it_grips_and_reads_what_its_own_step_gave() {
    let made = with_undo("release", "release");
    let undo = |id: &str| {
        let step = made.steps.iter().find(|step| step.id.as_str() == id).unwrap();
        step.written_undo().unwrap().clone()
    };
    let hold = undo("hold");
    assert_eq!((hold.step_type.as_str(), hold.version, hold.timeout_ms), ("fence-db", 1, 30_000));
    assert_eq!((hold.preview.as_str(), hold.touches[0].resource.as_str()), ("stop writes on us-west-2", "orders-db"));
    assert_eq!(hold.with["node"], "${{ inputs.to }}", "it is answered when it is needed");
    assert_eq!(undo("each[1]").with, undo("each[0]").with, "items share what is written");
    assert_eq!(undo("each[1]").timeout_ms, 300_000);
    assert!(made.steps[0].written_undo().is_none());
    assert_eq!(made.resources.keys().collect::<Vec<_>>(), ["orders-db"], "what only an undo grips is pinned too");
    let stored = serde_json::to_string(&made).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), made);
}

#[test]
fn a_drill_puts_stand_ins_into_undos_too_and_proves_the_same_structure() {
    let runbook = read(&Source { name: "t".into(), text: UNDO.into() });
    let (live, drill) = (planned(&runbook, "live", &[]), planned(&runbook, "drill", &[]));
    assert_eq!(drill.steps[1].written_undo().unwrap().with["db"], "orders-drill-db");
    assert_eq!(drill.steps[1].written_undo().unwrap().touches[0].resource, "orders-drill-db");
    assert_eq!(live.structure, drill.structure);
}

#[test]
fn the_structure_covers_what_an_undo_does() {
    let same = with_undo("timeout: 30s", "timeout: 30s");
    assert_eq!(with_undo("timeout: 30s", "timeout: 30s # enough").structure, same.structure);
    for (from, to) in [
        ("timeout: 30s", "timeout: 31s"),
        ("node: \"${{ inputs.to }}\"", "node: us-west-2"),
        ("[release, ", "[let-go, "),
        (", undo: { type: command, with: { argv: [\"${{ string(outputs.exit_code) }}\"] } }", ""),
        ("undo: { type: command, with: { argv: [release, \"${{ item }}\"", "undo: { type: command, with: { argv: [release, x"),
    ] {
        let other = with_undo(from, to);
        assert_ne!(other.structure, same.structure, "{from}");
        assert_eq!(other.steps[0].structure, same.steps[0].structure, "{from}: other steps stay proven");
    }
}

#[test]
fn every_reference_of_the_schema_is_resolved_and_each_type_has_its_parameters() {
    let schema = schema(&Types::new());
    let mut todo = vec![&schema];
    let mut references = 0;
    while let Some(value) = todo.pop() {
        if let Some(target) = value.get("$ref").and_then(serde_json::Value::as_str) {
            references += 1;
            assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
        }
        match value {
            serde_json::Value::Array(items) => todo.extend(items),
            serde_json::Value::Object(entries) => todo.extend(entries.values()),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) | serde_json::Value::String(_) => {}
        }
    }
    assert!(references > 10);
    for name in ["promote-db", "verify", "wait"] {
        assert!(schema["$defs"][format!("with-{name}")]["properties"].is_object(), "{name}");
    }
}

#[test]
fn every_code_is_explained_in_the_language_reference() {
    let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/language.md");
    let text = std::fs::read_to_string(reference).unwrap();
    let explained: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### LB")).collect();
    let known: Vec<&str> = codes::ALL.iter().map(|(code, _)| &code[2..]).collect();
    assert_eq!(explained, known);
}

#[test]
fn a_parameter_of_a_form_that_only_the_run_can_give_is_planned() {
    let text = |after: &str| {
        format!(
            "lifeboat: v1\nname: t\nsteps:\n  - {{ id: say, type: command, with: {{ argv: [date] }} }}\n  - {{ id: a, type: wait, needs: [say], with: {{ period: 1s, after: {after} }} }}\n"
        )
    };
    let runbook = read(&Source { name: "t".into(), text: text("\"${{ steps.say.outputs.stdout }}\"").into() });
    assert_eq!(planned(&runbook, "run", &[]).steps[1].preview, "wait 1s");
    let source = Source { name: "t".into(), text: text("never").into() };
    let problems = plan(&parse(&source).0.unwrap(), &request(None, &[]), &Types::new(), &Inventory::new()).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.code).collect::<Vec<_>>(), [codes::BAD_PARAMETERS]);
}
