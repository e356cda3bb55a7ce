//! Shapes with `for_each` and child runs, planned from text: lists known and found, one by one and side by side, children in items, and
//! all of that retried, asked about, cancelled and taken back.

use lifeboat_engine::journal::Actor;
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::sim::nobody;
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::Plan;

use super::{Shape, calm, shape};
use crate::world::Act;
use crate::world::Back;
use crate::world::plans::{actor, id, planned};
use crate::world::stage::{approve, cancel};

/// Fences and promotes what its parent names, and cleans up.
const MOVE: &str = r#"
inputs: { db: {}, note: { default: none } }
outputs: { moved: "${{ inputs.db }} ${{ steps.promote.state }} ${{ inputs.note }}" }
steps:
  - { id: fence, type: change, with: { on: "${{ inputs.db }}" } }
  - { id: promote, type: change, needs: [fence], retry: { attempts: 3 }, with: { on: "${{ inputs.db }}", say: "${{ inputs.note }}" } }
finally:
  - { id: clean, type: note, with: { say: "${{ inputs.note }}" } }
"#;

const ASKS: &str = r#"
steps:
  - { id: ask, type: approval, with: { roles: [dba], count: 2, timeout: 10m, show: { lag: 3s } } }
  - { id: go, type: change, needs: [ask], with: { on: db } }
"#;

const SIDE_BY_SIDE: &str = r#"
steps:
  - { id: each, type: change, for_each: [x, y, z], retry: { attempts: 3 }, with: { say: "${{ item }}${{ string(index) }}" } }
  - { id: next, type: look, needs: [each], with: { say: "${{ steps.each.outputs }}" } }
"#;

const ONE_BY_ONE: &str = r#"
on_failure: undo
steps:
  - { id: each, type: change, for_each: { list: [a, b, c], concurrency: 1 }, if: item != "b", retry: { attempts: 5 }, with: { on: db, say: "${{ item }}" } }
  - { id: next, type: change, needs: [each], with: { on: dns } }
"#;

const FOUND: &str = r#"
steps:
  - { id: first, type: look, for_each: [x, y], with: { say: "${{ item }}" } }
  - { id: each, type: change, needs: [first], for_each: { list: "${{ steps.first.outputs }}", max: 4, concurrency: 1 }, with: { on: db, say: "${{ item.?said.orValue('') }}" } }
  - { id: next, type: note, needs: [each], with: { say: "${{ size(steps.each.outputs) }}" } }
"#;

const PARENT: &str = r#"
on_failure: undo
steps:
  - { id: look_first, type: look, with: { say: yes } }
  - { id: move, type: runbook, needs: [look_first], if: IF, with: { runbook: move, inputs: { db: db, note: "${{ string(size(steps.look_first.outputs.blob)) }}" } } }
  - { id: next, type: change, needs: [move], with: { on: dns, say: "${{ steps.move.?outputs.?moved.orValue('nothing') }}" } }
"#;

const MANY_CHILDREN: &str = r#"
steps:
  - { id: first, type: look, for_each: [x, y], with: { say: "${{ item }}" } }
  - id: each
    type: runbook
    needs: [first]
    for_each: { list: "${{ steps.first.outputs }}", max: 3, concurrency: 1 }
    with: { runbook: move, inputs: { db: db, note: "${{ string(size(item.blob)) }}" } }
"#;

const ASKING_PARENT: &str = r#"
steps:
  - { id: sub, type: runbook, with: { runbook: asks } }
  - { id: next, type: change, needs: [sub], with: { on: dns } }
"#;

fn parent(condition: &str) -> Plan {
    planned(&PARENT.replace("IF", condition), &[("move.yaml", MOVE)])
}

fn asking() -> Plan {
    planned(ASKING_PARENT, &[("asks.yaml", ASKS)])
}

fn two_say_yes_inside(run: &Run) -> Option<(Command, Actor)> {
    let record = run.steps.get(&id("sub/ask"))?;
    let missing = ["bob", "ann"].iter().find(|name| record.approvals.iter().all(|yes| yes.by != **name))?;
    (record.state == S::AwaitingApproval).then(|| (approve("sub/ask"), actor(missing)))
}

fn cancelled_inside(run: &Run) -> Option<(Command, Actor)> {
    (run.state(&id("sub/ask")) == S::AwaitingApproval && run.cancelled_by.is_none()).then(|| (cancel(), actor("ann")))
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        shape("every item of a list", || planned(SIDE_BY_SIDE, &[]), |world| _ = world.always("each[1]", Act::SucceedAfter(900)), nobody),
        shape(
            "an item of a list whose answer is lost",
            || planned(SIDE_BY_SIDE, &[]),
            |world| _ = world.acts("each[2]", &[Act::LoseAnswer]),
            nobody,
        ),
        shape(
            "items one by one, one of them tried again",
            || planned(ONE_BY_ONE, &[]),
            |world| _ = world.acts("each[2]", &[Act::NotDone, Act::LoseRequest]),
            nobody,
        ),
        shape("items that are taken back", || planned(ONE_BY_ONE, &[]), |world| _ = world.always("next", Act::Hopeless), nobody),
        shape("a list that only the run knows", || planned(FOUND, &[]), calm, nobody),
        shape(
            "an item of a found list that settles late",
            || planned(FOUND, &[]),
            |world| _ = world.acts("each[1]", &[Act::Late(7000)]),
            nobody,
        ),
        shape("a child run", || parent("true"), calm, nobody),
        shape("a child run that is left out", || parent("steps.look_first.outputs.blob == 'x'"), calm, nobody),
        shape(
            "a child run with lost answers and another try",
            || parent("true"),
            |world| _ = world.acts("move/fence", &[Act::LoseAnswer]).acts("move/promote", &[Act::NotDone]),
            nobody,
        ),
        shape("a child run that is taken back", || parent("true"), |world| _ = world.always("next", Act::Hopeless), nobody),
        shape(
            "a child run whose undo fails",
            || parent("true"),
            |world| _ = world.always("next", Act::Hopeless).always_back("move/promote", Back::Fail),
            nobody,
        ),
        shape("a child run in every item", || planned(MANY_CHILDREN, &[("move.yaml", MOVE)]), calm, nobody),
        shape("a question inside a child run", asking, calm, two_say_yes_inside),
        shape("a cancel that passes into a child run", asking, calm, cancelled_inside),
    ]
}
