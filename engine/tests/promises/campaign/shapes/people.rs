//! Shapes with approvals: one to three people, denial, silence, questions asked anew, people who try what they may not.

use lifeboat_engine::journal::{Actor, Resolution};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::sim::nobody;
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::OnFailure;
use serde_json::json;

use super::{Shape, calm, shape};
use crate::world::Act;
use crate::world::plans::{PlanWords, actor, approval, change, id, look, plan};
use crate::world::stage::{approve, deny, resolve};

type Answer = Option<(Command, Actor)>;

/// The next of these who has not said yes yet.
fn next_yes(run: &Run, step: &str, people: &[&str]) -> Answer {
    let record = run.steps.get(&id(step))?;
    let missing = people.iter().find(|name| record.approvals.iter().all(|yes| yes.by != **name))?;
    (record.state == S::AwaitingApproval).then(|| (approve(step), actor(missing)))
}

fn all_say_yes(run: &Run) -> Answer {
    next_yes(run, "ask", &["ann", "bob", "dan"])
}

fn both_questions(run: &Run) -> Answer {
    next_yes(run, "ask", &["bob"]).or_else(|| next_yes(run, "also", &["ann", "dan"]))
}

fn ann_then_bob_denies(run: &Run) -> Answer {
    let record = run.steps.get(&id("ask"))?;
    if record.state != S::AwaitingApproval {
        return None;
    }
    Some(if record.approvals.is_empty() { (approve("ask"), actor("ann")) } else { (deny("ask"), actor("bob")) })
}

fn denied_once(run: &Run) -> Answer {
    let record = run.steps.get(&id("ask"))?;
    match (record.state, record.retry_at.is_some()) {
        (S::AwaitingApproval, false) if record.why.is_none() => Some((deny("ask"), actor("bob"))),
        (S::AwaitingApproval, _) => next_yes(run, "ask", &["ann"]),
        (S::Failed, _) => Some((resolve("ask", Resolution::Retry), actor("ann"))),
        _ => None,
    }
}

/// Pauses the run once while `a` acts, and lets it go on after that.
fn paused_for_a_while(run: &Run) -> Answer {
    let comment = || "stop for a moment".to_owned();
    if run.paused.is_some() {
        return (!matches!(run.state(&id("a")), S::Running | S::InDoubt)).then(|| (Command::Continue { comment: comment() }, actor("ann")));
    }
    (run.state(&id("a")) == S::Running && run.state(&id("b")) == S::Waiting).then(|| (Command::Pause { comment: comment() }, actor("bob")))
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        shape(
            "paused for a while",
            || plan([change("a"), change("b").after(&["a"])]),
            |world| _ = world.always("a", Act::SucceedAfter(4000)),
            paused_for_a_while,
        )
        .racing(),
        shape("answered when time is up", || plan([approval("ask", 1), change("a").after(&["ask"])]), calm, all_say_yes).resting(),
        shape("one yes", || plan([approval("ask", 1), change("a").after(&["ask"])]), calm, all_say_yes),
        shape("two yeses", || plan([approval("ask", 2), change("a").after(&["ask"])]), calm, all_say_yes),
        shape(
            "three yeses",
            || plan([look("x"), approval("ask", 3).after(&["x"]), change("a").after(&["ask"]), change("b").on("dns")]),
            calm,
            all_say_yes,
        ),
        shape(
            "two questions at once",
            || plan([approval("ask", 1), approval("also", 2), change("a").after(&["ask", "also"])]),
            calm,
            both_questions,
        ),
        shape("a no", || plan([approval("ask", 2), change("a").after(&["ask"])]), calm, ann_then_bob_denies),
        shape(
            "a no that undoes",
            || plan([change("x"), approval("ask", 2).after(&["x"]), change("a").after(&["ask"])]).failing(OnFailure::Undo),
            calm,
            ann_then_bob_denies,
        ),
        shape("a no, and asked anew", || plan([approval("ask", 1), change("a").after(&["ask"])]), calm, denied_once),
        shape("silence", || plan([approval("ask", 1), change("a").after(&["ask"]), change("b").on("dns")]), calm, nobody),
        shape(
            "a question that need not be asked",
            || {
                plan([
                    look("x").says(json!(true)),
                    approval("ask", 2).after(&["x"]).when("!steps.x.outputs.said"),
                    change("a").after(&["ask"]),
                ])
            },
            calm,
            nobody,
        ),
    ]
}
