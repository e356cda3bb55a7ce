//! What a run leaves behind that it meant to take back, in words for the people who have to put it right. Pure.

use std::collections::BTreeSet;

use crate::run::{Run, StepRun, StepState, leaves_effect};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::PlanStep;

/// The steps whose undo did not come to its end.
pub(crate) fn steps(run: &Run) -> Vec<&PlanStep> {
    let left = |step: &&PlanStep| matches!(run.state(&step.id), StepState::UndoFailed | StepState::UndoInDoubt | StepState::Undoing);
    run.plan.steps.iter().filter(left).collect()
}

/// What is left behind, what stays with it, and who can do what. `None` where nothing is. `beneath` are the steps that were not undone
/// because something stands on them.
pub(crate) fn words(run: &Run, beneath: &BTreeSet<StepId>) -> Option<String> {
    let left = steps(run);
    let first = left.first()?;
    let mut parts: Vec<String> = left.iter().map(|step| one(step, run.steps.get(&step.id).map(AsRef::as_ref))).collect();
    let stays: Vec<&str> = beneath
        .iter()
        .filter(|id| matches!(run.state(id), StepState::Succeeded | StepState::Rejected))
        .filter(|id| run.plan.step(id).is_some_and(leaves_effect))
        .map(StepId::as_str)
        .collect();
    if !stays.is_empty() {
        parts.push(format!("{} stays done beneath it", stays.join(", ")));
    }
    let locks: Vec<&str> = run.locks.iter().map(|lock| lock.resource.as_str()).collect();
    if !locks.is_empty() {
        parts.push(format!("the run keeps its locks on {}", locks.join(", ")));
    }
    let (id, step) = (&run.id, &first.id);
    parts.push(format!(
        "have it tried again with `lifeboat resolve {id} {step} retry`, or put it right by hand and say so with `lifeboat resolve {id} {step} done`"
    ));
    Some(parts.join("; "))
}

fn one(step: &PlanStep, record: Option<&StepRun>) -> String {
    let on: Vec<&str> = changed(step).collect();
    let on = if on.is_empty() { String::new() } else { format!(" on {}", on.join(", ")) };
    let preview = if step.preview.is_empty() { String::new() } else { format!(" ({})", step.preview) };
    let why = record.and_then(|record| record.why.as_deref()).unwrap_or("nobody knows why");
    let known = match record.map(|record| (record.state, record.doubtful)) {
        Some((StepState::UndoFailed, false)) => "stands still",
        _ => "may stand still",
    };
    let by = step.written_undo().map_or(String::new(), |undo| format!(" by its undo ({})", undo.preview));
    format!("the effect of {}{on}{preview} could not be taken back{by} and {known}: {why}", step.id)
}

/// The resources that it changes.
fn changed(step: &PlanStep) -> impl Iterator<Item = &str> {
    step.touches.iter().filter(|touch| touch.effect > Effect::Read).map(|touch| touch.resource.as_str())
}
