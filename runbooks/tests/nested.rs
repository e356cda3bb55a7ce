//! `for_each` and child runs: how files become one flat plan. What is refused is in `bad.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::collections::BTreeMap;

use catalog::{Inventory, Types};
use lifeboat_runbooks::plan::{ChildInput, Inner, Item, ItemValue, OnFailure, ScopeKind, UndoRule};
use lifeboat_runbooks::render::{self, Colour};
use lifeboat_runbooks::{Diagnostic, Plan, PlanRequest, Source, check, load, plan};
use serde_json::json;

/// A runbook with these steps and other keys.
fn text(rest: &str) -> String {
    format!("lifeboat: v1\nname: t\n{rest}")
}

fn planned_in(mode: &str, root: &str, children: &[(&str, &str)]) -> Result<Plan, Vec<Diagnostic>> {
    let source = Source { name: "t.yaml".into(), text: text(root).into() };
    let files: BTreeMap<String, String> = children.iter().map(|(name, rest)| ((*name).to_owned(), text(rest))).collect();
    let (runbook, problems) = load(&source, &files);
    assert!(problems.is_empty(), "{}", render::text(&source, &problems, Colour::Plain));
    let runbook = runbook.unwrap();
    let problems = check(&runbook, &Types::new(), Some(&Inventory::new()));
    assert!(problems.is_empty(), "{}", render::text(&source, &problems, Colour::Plain));
    plan(&runbook, &PlanRequest { mode: Some(mode.to_owned()), inputs: BTreeMap::new() }, &Types::new(), &Inventory::new())
}

fn planned(root: &str, children: &[(&str, &str)]) -> Plan {
    planned_in("run", root, children).unwrap_or_else(|problems| {
        panic!("{}", render::text(&Source { name: "t.yaml".into(), text: text(root).into() }, &problems, Colour::Plain))
    })
}

/// `id <- needs`, in the order of the plan.
fn graph(plan: &Plan) -> Vec<String> {
    let one = |step: &lifeboat_runbooks::PlanStep| {
        let needs: Vec<&str> = step.needs.iter().map(lifeboat_runbooks::StepId::as_str).collect();
        if needs.is_empty() { step.id.to_string() } else { format!("{} <- {}", step.id, needs.join(" ")) }
    };
    plan.all_steps().map(one).collect()
}

const REGION: &str = r#"
inputs: { node: { one_of: [us-east-1, us-west-2] }, wait: { type: duration, default: 1s }, label: { default: none } }
outputs: { timeline: "${{ steps.promote.outputs.timeline }}", label: "${{ inputs.label }}" }
on_failure: undo
steps:
  - { id: rest, type: wait, with: { period: "${{ inputs.wait }}" } }
  - { id: say, type: command, with: { argv: [echo, "${{ inputs.label }}"] } }
  - { id: fence, type: fence-db, needs: [rest], with: { db: orders-db, node: us-east-1 } }
  - { id: promote, type: promote-db, needs: [fence], on_failure: hold, with: { db: orders-db, node: "${{ inputs.node }}" } }
finally:
  - { id: clean, type: command, with: { argv: [rm] } }
"#;

#[test]
fn a_list_that_is_known_becomes_steps_and_one_that_gathers_them() {
    let plan = planned(
        r#"
steps:
  - { id: first, type: wait, with: { period: 1s } }
  - id: copy
    type: command
    needs: [first]
    for_each: [{ name: a, lag: 1 }, { name: b, lag: 2 }]
    if: item.lag > 1
    with: { argv: ["${{ item.name }}", "${{ string(index) }}"] }
  - { id: next, type: command, needs: [copy], with: { argv: ["${{ string(size(steps.copy.outputs)) }}"] } }
"#,
        &[],
    );
    assert_eq!(graph(&plan), ["first", "copy[0] <- first", "copy[1] <- first", "copy <- copy[0] copy[1]", "next <- copy"]);
    assert_eq!(plan.steps[1].preview, "run a 0");
    assert_eq!(plan.steps[3].inner, Some(Inner::Items));
    let item = Item { of: plan.steps[3].id.clone(), index: 1, at_once: None, value: ItemValue::Known(json!({"name": "b", "lag": 2})) };
    assert_eq!(plan.scopes[1].kind, ScopeKind::Item(item));
    assert_eq!(plan.steps[2].scope, Some(1));
}

#[test]
fn items_may_name_resources_where_the_list_is_known() {
    let plan = planned(
        r#"
steps:
  - id: fence
    type: fence-db
    for_each: [orders-db, billing-db]
    with: { db: "${{ item }}", node: us-east-1 }
"#,
        &[],
    );
    let touched: Vec<&str> = plan.steps.iter().flat_map(|step| &step.touches).map(|touch| touch.resource.as_str()).collect();
    assert_eq!(touched, ["orders-db", "billing-db"]);
    assert_eq!(plan.resources.keys().collect::<Vec<_>>(), ["billing-db", "orders-db"]);
}

#[test]
fn one_at_a_time_means_in_order_and_more_is_a_limit_in_the_plan() {
    let with = |concurrency: u32| {
        planned(
            &format!(
                "steps:\n  - id: point\n    type: wait\n    for_each: {{ list: [1, 2, 3], concurrency: {concurrency} }}\n    with: {{ period: 1s }}\n"
            ),
            &[],
        )
    };
    assert_eq!(graph(&with(1)), ["point[0]", "point[1] <- point[0]", "point[2] <- point[1]", "point <- point[0] point[1] point[2]"]);
    let two = with(2);
    assert_eq!(graph(&two)[1], "point[1]");
    let limits = two.scopes.iter().map(|scope| match &scope.kind {
        ScopeKind::Item(item) => item.at_once,
        ScopeKind::Child(_) => None,
    });
    assert_eq!(limits.collect::<Vec<_>>(), [Some(2); 3]);
}

#[test]
fn an_empty_list_leaves_the_step_that_gathers() {
    let plan = planned(
        "steps:\n  - { id: a, type: wait, with: { period: 1s } }\n  - { id: none, type: wait, needs: [a], for_each: [], with: { period: 1s } }\n",
        &[],
    );
    assert_eq!(graph(&plan), ["a", "none <- a"]);
}

#[test]
fn a_list_that_only_the_run_knows_gets_as_many_places_as_are_allowed() {
    let plan = planned(
        r#"
steps:
  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }
  - id: tell
    type: command
    needs: [loss]
    for_each: { list: "${{ steps.loss.outputs.nodes }}", max: 2 }
    with: { argv: ["${{ item.name }}"] }
"#,
        &[],
    );
    assert_eq!(graph(&plan), ["loss", "tell[] <- loss", "tell[0] <- tell[]", "tell[1] <- tell[]", "tell <- tell[0] tell[1]"]);
    assert_eq!(plan.steps[1].inner, Some(Inner::List { list: json!("${{ steps.loss.outputs.nodes }}"), max: 2 }));
    let ScopeKind::Item(item) = &plan.scopes[0].kind else { panic!("an item") };
    assert_eq!(item.value, ItemValue::Of(plan.steps[1].id.clone()));
}

#[test]
fn a_child_becomes_steps_under_its_name() {
    let root = r#"
steps:
  - { id: look, type: command, with: { argv: [date] } }
  - id: move
    type: runbook
    needs: [look]
    if: mode == "run"
    assert: steps.move.outputs.timeline > 1
    with: { runbook: region, inputs: { node: us-west-2, label: "${{ steps.look.outputs.stdout }}" } }
  - { id: next, type: command, needs: [move], if: has(steps.move.outputs), with: { argv: ["${{ string(steps.move.outputs.timeline) }}"] } }
"#;
    let plan = planned(root, &[("region.yaml", REGION)]);
    assert_eq!(
        graph(&plan),
        [
            "look",
            "move/rest <- look",
            "move/say <- look",
            "move/fence <- move/rest",
            "move/promote <- move/fence",
            "move <- move/say move/promote",
            "next <- move",
            "move/clean"
        ]
    );
    assert_eq!(plan.steps[4].preview, "promote us-west-2");
    assert_eq!(plan.steps[1].preview, "wait 1s");
    let ScopeKind::Child(child) = &plan.scopes[0].kind else { panic!("a child") };
    assert_eq!(child.inputs["node"], ChildInput::Known(json!("us-west-2")));
    assert_eq!(child.inputs["wait"], ChildInput::Known(json!("1s")));
    assert_eq!(child.inputs["label"], ChildInput::Filled(json!("${{ steps.look.outputs.stdout }}")));
    assert_eq!((child.mode.as_str(), child.condition.as_deref()), ("run", Some("mode == \"run\"")));
    assert_eq!(plan.steps[5].asserts, ["steps.move.outputs.timeline > 1"]);
    let rules: Vec<Option<OnFailure>> = plan.steps[1..5].iter().map(|step| step.on_failure).collect();
    assert_eq!(rules, [Some(OnFailure::Undo), Some(OnFailure::Undo), Some(OnFailure::Undo), Some(OnFailure::Hold)]);
    assert_eq!(plan.finally[0].scope, Some(0));
}

#[test]
fn a_child_for_every_item_and_a_child_of_a_child() {
    let root = r#"
steps:
  - id: all
    type: runbook
    for_each: { list: [us-east-1, us-west-2], concurrency: 1 }
    with: { runbook: outer, inputs: { node: "${{ item }}" } }
  - { id: next, type: command, needs: [all], with: { argv: ["${{ steps.all.outputs[?0].?label.orValue('-') }}"] } }
"#;
    let outer = r#"
inputs: { node: { one_of: [us-east-1, us-west-2] } }
outputs: { label: "${{ steps.region.outputs.label }}" }
steps:
  - { id: region, type: runbook, undo: never, with: { runbook: ./region.yaml, inputs: { node: "${{ inputs.node }}" } } }
"#;
    let plan = planned(root, &[("region.yaml", REGION), ("outer.yaml", outer)]);
    let ids: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    let one = ["region/rest", "region/say", "region/fence", "region/promote", "region"];
    let wanted: Vec<String> = (0..2)
        .flat_map(|item| one.iter().map(move |step| format!("all[{item}]/{step}")).chain([format!("all[{item}]")]))
        .chain(["all".to_owned(), "next".to_owned()])
        .collect();
    assert_eq!(ids, wanted);
    assert_eq!(plan.step(&lifeboat_runbooks::StepId::new("all[1]/region/rest").unwrap()).unwrap().needs[0].as_str(), "all[0]");
    assert_eq!(plan.steps[9].preview, "promote us-west-2");
    assert!(plan.steps.iter().filter(|step| step.inner.is_none() && step.id.as_str() != "next").all(|step| step.undo == UndoRule::Never));
    assert_eq!(plan.finally.len(), 2);
}

#[test]
fn a_child_is_drilled_when_its_run_is_a_drill() {
    let root = r#"
modes: [run, drill]
steps:
  - { id: child, type: runbook, with: { runbook: c } }
"#;
    let child = r#"
modes: [live, drill]
steps:
  - { id: fence, type: fence-db, with: { db: orders-db, node: us-east-1 } }
  - { id: only, type: command, if: mode == "drill", with: { argv: [date] } }
"#;
    let mode = |plan: &Plan| match &plan.scopes[0].kind {
        ScopeKind::Child(child) => child.mode.clone(),
        ScopeKind::Item(_) => panic!("a child"),
    };
    let (live, drill) = (planned(root, &[("c.yaml", child)]), planned_in("drill", root, &[("c.yaml", child)]).unwrap());
    assert_eq!((mode(&live), mode(&drill)), ("live".to_owned(), "drill".to_owned()));
    assert_eq!(drill.steps[0].with["db"], "orders-drill-db");
    assert_eq!(live.structure, drill.structure);
    assert_ne!(live.binding, drill.binding);
}

#[test]
fn the_structure_holds_what_children_and_lists_are() {
    let root = "steps:\n  - { id: c, type: runbook, for_each: [us-east-1], with: { runbook: r, inputs: { node: \"${{ item }}\" } } }\n";
    let structure = |root: &str, child: &str| planned(root, &[("r.yaml", child)]).structure;
    let before = structure(root, REGION);
    assert_eq!(structure(root, &REGION.replace("on_failure: undo", "on_failure:   undo # as ever")), before);
    for (from, to) in
        [("default: 1s", "default: 2s"), ("needs: [rest], ", ""), ("[rm]", "[rm, x]"), ("label: \"${{ inputs.label }}\"", "label: x")]
    {
        assert!(REGION.contains(from), "{from}");
        assert_ne!(structure(root, &REGION.replace(from, to)), before, "{from}");
    }
    for (from, to) in [("[us-east-1]", "[us-east-1, us-east-1]"), ("[us-east-1]", "{ list: [us-east-1], max: 3 }"), ("id: c", "id: d")] {
        // Two items that promote the same database would clash; here it is about the digest only.
        let child = REGION
            .replace("type: fence-db", "type: verify")
            .replace("{ db: orders-db, node: us-east-1 }", "{ checks: [] }")
            .replace("type: promote-db", "type: measure-rpo")
            .replace("node: \"${{ inputs.node }}\" }", "from: us-east-1, to: us-west-2 }");
        let child = child.replace("steps.promote.outputs.timeline", "steps.promote.outputs.bytes");
        assert_ne!(structure(&root.replace(from, to), &child), structure(root, &child), "{to}");
    }
}

#[test]
fn steps_of_parent_and_child_that_change_one_resource_must_be_ordered() {
    let root = r#"
steps:
  - { id: fence, type: fence-db, with: { db: orders-db, node: us-east-1 } }
  - { id: move, type: runbook, NEEDS with: { runbook: region, inputs: { node: us-west-2 } } }
"#;
    let error = planned_in("run", &root.replace("NEEDS ", ""), &[("region.yaml", REGION)]).unwrap_err();
    assert_eq!(error.len(), 1, "{error:?}");
    assert_eq!((error[0].code, error[0].file()), ("LB047", Some("region.yaml")));
    assert!(error[0].message.contains("`fence`") && error[0].message.contains("`move/fence`"), "{}", error[0].message);
    planned(&root.replace("NEEDS", "needs: [fence],"), &[("region.yaml", REGION)]);
}
