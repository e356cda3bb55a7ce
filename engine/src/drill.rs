//! When a drill turns back and how it ends. Pure; that nothing closed to drills is touched is checked in planning and before each step.

use crate::census::{self, Comparison, Found};
use crate::journal::{Back, Outcome, Turn};
use crate::next::Action;
use crate::run::{Run, RunPhase, StepState, leaves_effect};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{OnFailure, PlanStep};

/// What a drill does before its first step: it lists what is there, and goes no further where that cannot be had.
pub(crate) fn beginning(run: &Run) -> Option<Action> {
    if !run.is_drill() || run.phase != RunPhase::Admitted {
        return None;
    }
    match &run.listed_before {
        None if census::subjects(&run.plan).is_empty() => None,
        None => Some(Action::List { moment: census::Moment::Before }),
        // What cannot be listed now cannot be proven put back later.
        Some(listings) if listings.iter().any(|listing| matches!(listing.found, Found::Failed { .. })) => Some(over()),
        Some(_) => None,
    }
}

/// Whether a drill turns back now that nothing of it goes on without a person. A step that says `on_failure: hold` waits for one.
pub(crate) fn turns_back_alone(run: &Run) -> bool {
    let waits = |step: &PlanStep| {
        step.on_failure == Some(OnFailure::Hold)
            && run
                .steps
                .get(&step.id)
                .is_some_and(|record| !record.given_up && matches!(record.state, StepState::Held | StepState::Failed | StepState::Rejected))
    };
    run.is_drill() && !run.plan.steps.iter().any(waits)
}

/// Every step is over: everything is put back.
pub(crate) fn over() -> Action {
    Action::Unwind { turn: Turn::DrillEnded, back: Back::Undo }
}

/// What a drill does last: it lists again what it listed first.
pub(crate) fn ending(run: &Run) -> Option<Action> {
    let listed = run.is_drill() && run.listed_before.is_some() && run.listed_after.is_none();
    listed.then_some(Action::List { moment: census::Moment::After })
}

/// What was there before and after, beside each other; `None` where nothing had to be listed, or not all is listed yet.
#[must_use]
pub fn comparison(run: &Run) -> Option<Comparison> {
    Some(census::compare(run.listed_before.as_ref()?, run.listed_after.as_ref()?))
}

/// Steps of the main part whose effect stands although the drill is over, and of which the peers do not prove the opposite.
#[must_use]
pub fn left_standing(run: &Run) -> Vec<StepId> {
    let stands = |step: &&PlanStep| leaves_effect(step) && matches!(run.state(&step.id), StepState::Succeeded | StepState::Rejected);
    run.plan.steps.iter().filter(stands).map(|step| step.id.clone()).collect()
}

/// How a drill ended that is neither stuck nor in doubt.
pub(crate) fn verdict(run: &Run, turn: &Turn) -> (Outcome, String) {
    let named = |wanted: &dyn Fn(&PlanStep) -> bool| -> Vec<String> {
        run.plan.steps.iter().filter(|step| wanted(step)).map(|step| step.id.to_string()).collect()
    };
    let undone = named(&|step| run.state(&step.id) == StepState::Undone);
    let back = if undone.is_empty() { "nothing had to be undone".to_owned() } else { format!("undone: {}", undone.join(", ")) };
    let left = left(run);
    let and_left = if left.is_empty() { String::new() } else { format!("; left behind: {}", left.join("; ")) };
    match turn {
        Turn::Cancelled => return (Outcome::Undone, format!("a person cancelled the drill; {back}{and_left}")),
        Turn::Preempted { by } => return (Outcome::Undone, format!("the drill made way for run {by}; {back}{and_left}")),
        Turn::StepFailed { step } => return (Outcome::Failed, format!("step {step} failed; {back}{and_left}")),
        Turn::DeadlinePassed => return (Outcome::Failed, format!("the run's deadline passed; {back}{and_left}")),
        Turn::DrillEnded => {}
    }
    let bad: Vec<String> = run
        .plan
        .steps
        .iter()
        .filter_map(|step| {
            let record = run.steps.get(&step.id)?;
            let not_done = matches!(record.state, StepState::Failed | StepState::Rejected | StepState::NotRun | StepState::Held);
            (record.given_up || not_done).then(|| format!("{} ({})", step.id, record.why.as_deref().unwrap_or("no reason was recorded")))
        })
        .collect();
    if let Some(untold) = beginning_failed(run) {
        return (Outcome::Failed, format!("nothing was done, because the drill could not be proven cleaned up: {untold}"));
    }
    match (bad.is_empty(), left.is_empty()) {
        (true, true) => (Outcome::Succeeded, format!("every step is done or was skipped, and everything is put back; {back}")),
        (true, false) => (Outcome::Failed, format!("every step is done or was skipped, but not all is put back{and_left}")),
        (false, _) => (Outcome::Failed, format!("not done: {}; {back}{and_left}", bad.join(", "))),
    }
}

fn beginning_failed(run: &Run) -> Option<String> {
    run.listed_before.iter().flatten().find_map(|listing| match &listing.found {
        Found::Failed { why } => Some(format!("what there is on {} cannot be listed: {why}", listing.resource)),
        Found::Things(_) | Found::Unlisted => None,
    })
}

/// What is left, in words: what the peers show, what they did not tell, and effects that nobody took back and no peer lists.
fn left(run: &Run) -> Vec<String> {
    let compared = comparison(run);
    let mut left: Vec<String> = Vec::new();
    for difference in compared.iter().flat_map(|compared| &compared.differences) {
        let there = |state: &Option<String>| state.as_deref().map_or("not there".to_owned(), |state| format!("{state:?}"));
        left.push(format!(
            "{} of {} is {} and was {}",
            difference.thing,
            difference.resource,
            there(&difference.after),
            there(&difference.before)
        ));
    }
    for untold in compared.iter().flat_map(|compared| &compared.failed) {
        left.push(format!("nobody can tell what is left on {}: {}", untold.resource, untold.why));
    }
    let listed = |resource: &str| {
        compared
            .as_ref()
            .is_some_and(|compared| !compared.unlisted.iter().chain(&compared.failed).any(|untold| untold.resource == resource))
    };
    for id in left_standing(run) {
        let Some(step) = run.plan.step(&id) else { continue };
        let unproven: Vec<&str> =
            step.touches.iter().filter(|t| t.effect > Effect::Read && !listed(&t.resource)).map(|t| t.resource.as_str()).collect();
        if !unproven.is_empty() {
            left.push(format!("the effect of {id} on {} was not taken back", unproven.join(", ")));
        }
    }
    left
}
