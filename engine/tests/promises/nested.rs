//! `for_each` and child runs, from the text of a runbook to the end of its run: what is planned is what happens.

use lifeboat_engine::journal::{Event, Outcome, Resolution};
use lifeboat_engine::run::StepState as S;
use lifeboat_runbooks::Plan;
use serde_json::json;

use crate::world::plans::planned;
use crate::world::stage::{Rest, RestWords, on_stage, once, resolve};
use crate::world::{Act, Back};

const COPIES: &str = r#"
steps:
  - { id: ask, type: look, with: { say: [a, b, c] } }
  - id: copy
    type: change
    needs: [ask]
    for_each: LIST
    if: item != "b"
    with: { say: "${{ item }}${{ string(index) }}" }
  - { id: next, type: look, needs: [copy], with: { say: "${{ steps.copy.outputs }}" } }
"#;

#[test]
fn every_item_is_a_step_and_what_they_gave_is_a_list() {
    on_stage(async |stage| {
        let (run, rest) = stage.run(planned(&COPIES.replace("LIST", "[a, b, c]"), &[])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!((stage.world.times("copy[0]"), stage.world.times("copy[1]"), stage.world.times("copy[2]")), (1, 0, 1));
        let loaded = stage.load(&run).await;
        let said = |step: &str| loaded.run.steps[&crate::world::plans::id(step)].value.clone().unwrap();
        assert_eq!(said("copy").as_array().map(Vec::len), Some(2), "a skipped item gives nothing");
        assert_eq!(said("next")["said"], said("copy"));
        assert_eq!(said("copy[2]")["said"], json!("c2"));
    });
}

#[test]
fn a_list_of_the_run_is_journaled_and_its_empty_places_are_skipped() {
    on_stage(async |stage| {
        let root = r#"
steps:
  - { id: first, type: look, for_each: [x, y], with: { say: "${{ item }}" } }
  - id: each
    type: note
    needs: [first]
    for_each: { list: "${{ steps.first.outputs }}", max: 4 }
    with: { say: "${{ item.?said.orValue('') }}" }
  - { id: next, type: note, needs: [each], with: { say: "${{ size(steps.each.outputs) }}" } }
"#;
        let (run, rest) = stage.run(planned(root, &[])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let loaded = stage.load(&run).await;
        let record = |step: &str| &loaded.run.steps[&crate::world::plans::id(step)];
        assert_eq!(record("each[]").value.as_ref().unwrap().as_array().map(Vec::len), Some(2));
        assert_eq!(record("each[1]").value.as_ref().unwrap()["said"], json!("y"));
        assert_eq!((record("each[2]").state, record("each[3]").state), (S::Skipped, S::Skipped));
        assert_eq!(record("each[3]").why.as_deref(), Some("the list has 2 items only"));
        assert_eq!(record("next").value.as_ref().unwrap()["said"], json!(2));
    });
}

#[test]
fn a_list_that_turns_out_longer_than_planned_holds_before_any_item_begins() {
    on_stage(async |stage| {
        let root = r#"
steps:
  - { id: first, type: look, for_each: [x, y, z], with: { say: "${{ item }}" } }
  - { id: each, type: change, needs: [first], for_each: { list: "${{ steps.first.outputs }}", max: 2 }, with: { say: "${{ item.?said.orValue('') }}" } }
"#;
        let (run, rest) = stage.run(planned(root, &[])).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        let loaded = stage.load(&run).await;
        let list = &loaded.run.steps[&crate::world::plans::id("each[]")];
        assert_eq!(list.state, S::Held);
        assert!(list.why.as_ref().unwrap().contains("3 items, and 2 were planned"), "{:?}", list.why);
        assert_eq!(stage.world.times("each[0]"), 0);
    });
}

#[test]
fn no_more_items_than_allowed_are_under_way_and_one_that_is_held_keeps_its_place() {
    on_stage(async |stage| {
        let root = r#"
steps:
  - { id: each, type: change, for_each: { list: [1, 2, 3, 4, 5, 6, 7], concurrency: 3 }, with: { say: "${{ item }}" } }
"#;
        stage.world.always("each[1]", Act::Hopeless);
        stage.world.always("each[2]", Act::Hopeless);
        stage.world.always("each[3]", Act::Hopeless);
        let (run, rest) = stage.run(planned(root, &[])).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        let calls = stage.world.all_calls();
        let under_way =
            |at| calls.iter().filter(|call| call.what == "execute" && call.began <= at && call.ended.is_none_or(|end| end > at)).count();
        let most = calls.iter().map(|call| under_way(call.began)).max();
        assert_eq!(most, Some(3), "{calls:?}");
        let mut states = Vec::new();
        for item in 0..7 {
            states.push(stage.state(&run, &format!("each[{item}]")).await);
        }
        assert_eq!(states, [S::Succeeded, S::Failed, S::Failed, S::Failed, S::Waiting, S::Waiting, S::Waiting]);
        stage.world.always("each[1]", Act::Succeed);
        let rest = stage.resume_with(&run, &mut once("each[1]", S::Failed, resolve("each[1]", Resolution::Retry), "ann")).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert_eq!(stage.state(&run, "each[6]").await, S::Succeeded, "one free place is enough for the others, one after the other");
    });
}

const PARENT: &str = r#"
steps:
  - { id: ask, type: look, with: { say: yes } }
  - { id: move, type: runbook, needs: [ask], if: ask_if, with: { runbook: move, inputs: { db: db, note: "${{ string(size(steps.ask.outputs.blob)) }}" } } }
  - { id: next, type: change, needs: [move], with: { on: dns, say: "${{ steps.move.?outputs.?moved.orValue('nothing') }}" } }
"#;

const CHILD: &str = r#"
inputs: { db: {}, note: {} }
outputs: { moved: "${{ inputs.db }} ${{ steps.promote.state }} ${{ inputs.note }}" }
steps:
  - { id: fence, type: change, with: { on: "${{ inputs.db }}" } }
  - { id: promote, type: change, needs: [fence], with: { on: "${{ inputs.db }}", say: "${{ inputs.note }}" } }
finally:
  - { id: clean, type: note, with: { say: "${{ inputs.note }}" } }
"#;

fn parent(condition: &str) -> Plan {
    planned(&PARENT.replace("ask_if", condition), &[("move.yaml", CHILD)])
}

#[test]
fn a_child_runs_in_its_parents_run_and_gives_its_outputs() {
    on_stage(async |stage| {
        let plan = parent("mode == 'run'");
        let (run, rest) = stage.run(plan).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let loaded = stage.load(&run).await;
        let said = |step: &str| loaded.run.steps[&crate::world::plans::id(step)].value.clone().unwrap();
        assert_eq!(said("move"), json!({ "moved": "db succeeded 0" }));
        assert_eq!(said("next")["said"], json!("db succeeded 0"));
        assert_eq!(said("move/promote")["said"], json!("0"));
        assert_eq!(said("move/clean")["said"], json!("0"), "its final step ran with the inputs of the child");
        let locks: Vec<&str> = loaded.run.locks.iter().map(|lock| lock.resource.as_str()).collect();
        assert_eq!(locks, ["db", "dns"], "the locks of parent and child are one set");
    });
}

#[test]
fn a_child_that_is_left_out_leaves_no_step_behind_and_satisfies_those_that_need_it() {
    on_stage(async |stage| {
        let (run, rest) = stage.run(parent("steps.ask.outputs.blob == 'x'")).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        for step in ["move/fence", "move/promote", "move", "move/clean"] {
            assert_eq!(stage.state(&run, step).await, S::Skipped, "{step}");
        }
        assert_eq!((stage.world.times("move/fence"), stage.world.times("next")), (0, 1));
    });
}

#[test]
fn unwinding_goes_back_through_parent_and_child_in_reverse_order() {
    on_stage(async |stage| {
        stage.world.always("next", Act::Hopeless);
        let mut plan = parent("true");
        plan.on_failure = lifeboat_runbooks::plan::OnFailure::Undo;
        let (run, rest) = stage.run(plan).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        let undone: Vec<Event> =
            stage.events(&run).await.into_iter().filter(|event| matches!(event, Event::UndoSucceeded { .. })).collect();
        let steps: Vec<String> = undone.iter().filter_map(|event| event.step().map(ToString::to_string)).collect();
        assert_eq!(steps, ["move/promote", "move/fence"]);
        assert_eq!(stage.state(&run, "move/clean").await, S::Succeeded);
    });
}

#[test]
fn an_undo_that_fails_in_a_child_leaves_what_it_stands_on() {
    on_stage(async |stage| {
        stage.world.always("next", Act::Hopeless).always_back("move/promote", Back::Fail);
        let mut plan = parent("true");
        plan.on_failure = lifeboat_runbooks::plan::OnFailure::Undo;
        let (run, rest) = stage.run(plan).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!(stage.state(&run, "move/fence").await, S::Succeeded, "a fence under a promotion that stands is not lifted");
    });
}

#[test]
fn a_run_with_items_and_children_ends_the_same_wherever_its_process_dies() {
    let root = r#"
steps:
  - { id: first, type: look, for_each: [x, y], with: { say: "${{ item }}", blob_bytes: 70000 } }
  - id: each
    type: runbook
    needs: [first]
    for_each: { list: "${{ steps.first.outputs }}", max: 3, concurrency: 1 }
    with: { runbook: move, inputs: { db: db, note: "${{ string(size(item.blob)) }}" } }
"#;
    for after_ms in (100..3500).step_by(290) {
        on_stage(async |stage| {
            let run = stage.run_and_kill(planned(root, &[("move.yaml", CHILD)]), after_ms).await;
            if stage.load(&run).await.run.outcome.is_none() {
                let rest = stage.resume(&run).await;
                assert_eq!(rest.outcome(), Outcome::Succeeded, "killed after {after_ms} ms");
            }
            let loaded = stage.load(&run).await;
            let said = loaded.run.steps[&crate::world::plans::id("each")].value.clone().unwrap();
            assert_eq!(said, json!([{ "moved": "db succeeded 70000" }, { "moved": "db succeeded 70000" }]), "killed after {after_ms} ms");
            assert_eq!(stage.world.times("each[1]/promote"), 1);
            assert_eq!(stage.world.times("each[2]/promote"), 0);
        });
    }
}
