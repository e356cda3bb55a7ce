//! Which rows of the two transition tables a journal went through. Reads journals only.

use std::collections::HashSet;
use std::sync::Arc;

use lifeboat_engine::journal::{Entry, Event, Resolution};
use lifeboat_engine::run::tables::{PhaseChange, StepChange};
use lifeboat_engine::run::{Run, RunPhase, StepState};

/// Rows of both tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) steps: HashSet<(StepState, StepChange, StepState)>,
    pub(crate) phases: HashSet<(RunPhase, PhaseChange, RunPhase)>,
}

impl Rows {
    pub(crate) fn add(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.phases.extend(other.phases);
    }
}

/// The rows that these entries of a run of this plan went through.
pub(crate) fn rows(run: &Run, entries: &[Entry]) -> Rows {
    let mut found = Rows::default();
    let mut before = Run::new(run.id.clone(), Arc::clone(&run.plan));
    for entry in entries {
        let mut after = before.clone();
        after.apply(entry).unwrap();
        assert_eq!(*after.index(), after.index_anew(), "after {:?}", entry.event);
        for (id, step) in after.steps.iter() {
            let was = before.steps[id].state;
            if let Some(change) = step_change(&entry.event, id, was, step.state) {
                found.steps.insert((was, change, step.state));
            }
        }
        if let Some(change) = phase_change(&entry.event) {
            found.phases.insert((before.phase, change, after.phase));
        }
        before = after;
    }
    found
}

fn step_change(event: &Event, id: &lifeboat_engine::StepId, was: StepState, is: StepState) -> Option<StepChange> {
    use StepChange as C;
    let (step, change) = match event {
        Event::StepStarted { step, .. } => (step, C::Started),
        Event::StepRefused { step, .. } => (step, C::Refused),
        Event::StepSkipped { step, .. } => (step, C::Skipped),
        Event::StepNotRun { step, .. } => (step, C::NotRun),
        Event::StepSucceeded { step, .. } => (step, C::Succeeded),
        Event::StepFailed { step, retry_at: Some(_), .. } => (step, C::FailedForNow),
        Event::StepFailed { step, retry_at: None, .. } => (step, C::Failed),
        Event::StepInDoubt { step, .. } => (step, C::OutcomeUnknown),
        Event::StepInProgress { step } => (step, C::InProgress),
        Event::StepHeld { step, .. } => (step, C::HeldForPerson),
        Event::StepRejected { step, .. } => (step, C::Rejected),
        Event::StepResolved { step, resolution, .. } => (
            step,
            match resolution {
                Resolution::Done { .. } => C::ResolvedDone,
                Resolution::Retry => C::ResolvedRetry,
                Resolution::Skip => C::ResolvedSkip,
                Resolution::GiveUp => C::ResolvedGiveUp,
            },
        ),
        Event::ApprovalRequested { step, .. } => (step, C::ApprovalRequested),
        Event::ApprovalGranted { step, .. } => (step, if is == StepState::Succeeded { C::GrantedLast } else { C::Granted }),
        Event::ApprovalVoided { step, .. } => (step, C::Voided),
        Event::ApprovalDenied { step, .. } => (step, C::Denied),
        Event::ApprovalExpired { step } => (step, C::Expired),
        Event::UndoStarted { step, .. } => (step, C::UndoStarted),
        Event::UndoSucceeded { step } => (step, C::UndoSucceeded),
        Event::UndoInDoubt { step, .. } => (step, C::UndoOutcomeUnknown),
        Event::UndoNotDone { step, .. } => (step, C::UndoNotDone),
        Event::UndoFailed { step, .. } => (step, C::UndoFailed),
        Event::RunClaimed { .. } => return was.is_open().then_some(C::Claimed),
        Event::RunAdmitted { .. }
        | Event::PeersListed { .. }
        | Event::FactsRemeasured { .. }
        | Event::CancelRequested { .. }
        | Event::RunPaused { .. }
        | Event::RunContinued { .. }
        | Event::RunFrozen { .. }
        | Event::RunThawed { .. }
        | Event::RunReopened { .. }
        | Event::RunHeld { .. }
        | Event::RunReleased
        | Event::UnwindingStarted { .. }
        | Event::FinalisingStarted
        | Event::RunEnded { .. }
        | Event::RunReleasedLocks { .. } => return None,
    };
    (step == id).then_some(change)
}

fn phase_change(event: &Event) -> Option<PhaseChange> {
    match event {
        Event::StepStarted { .. } | Event::StepRefused { .. } | Event::StepSkipped { .. } | Event::ApprovalRequested { .. } => {
            Some(PhaseChange::Began)
        }
        Event::RunHeld { .. } => Some(PhaseChange::Held),
        Event::RunReleased => Some(PhaseChange::Released),
        Event::UnwindingStarted { .. } => Some(PhaseChange::Unwound),
        Event::FinalisingStarted => Some(PhaseChange::Finalising),
        Event::RunEnded { .. } => Some(PhaseChange::Ended),
        Event::RunReopened { .. } => Some(PhaseChange::Reopened),
        Event::RunAdmitted { .. }
        | Event::PeersListed { .. }
        | Event::RunClaimed { .. }
        | Event::StepNotRun { .. }
        | Event::StepSucceeded { .. }
        | Event::StepFailed { .. }
        | Event::StepInDoubt { .. }
        | Event::StepInProgress { .. }
        | Event::StepHeld { .. }
        | Event::StepRejected { .. }
        | Event::StepResolved { .. }
        | Event::ApprovalGranted { .. }
        | Event::ApprovalVoided { .. }
        | Event::ApprovalDenied { .. }
        | Event::ApprovalExpired { .. }
        | Event::FactsRemeasured { .. }
        | Event::CancelRequested { .. }
        | Event::RunPaused { .. }
        | Event::RunContinued { .. }
        | Event::RunFrozen { .. }
        | Event::RunThawed { .. }
        | Event::UndoStarted { .. }
        | Event::UndoInDoubt { .. }
        | Event::UndoNotDone { .. }
        | Event::UndoSucceeded { .. }
        | Event::UndoFailed { .. }
        | Event::RunReleasedLocks { .. } => None,
    }
}
