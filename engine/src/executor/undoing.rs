//! What follows from the answer of an undo, or of a look at what became of one. An undo is made as carefully as an act: an unknown
//! outcome is observed, a passing failure is tried again, and what fails for good is left to a person.

use super::{Executor, ExecutorError};
use crate::journal::Event;
use crate::step::{Observation, Retryable, StepError};
use lifeboat_runbooks::plan::PlanStep;
use serde_json::Value;

/// Undos that a step gets, even without `retry`, when one of unknown outcome is observed to have done nothing.
const UNDOS_AFTER_DOUBT: u32 = 3;

impl Executor {
    pub(super) fn undo_failed(&mut self, step: &PlanStep, error: StepError) -> Result<(), ExecutorError> {
        let id = step.id.clone();
        match error {
            StepError::Unknown { why } => self.record(Event::UndoInDoubt { step: id, why }),
            StepError::NotDone { why, retry: Retryable::Yes } if self.undos(step) < step.retry.attempts => self.undo_again(step, why),
            StepError::NotDone { why, retry: Retryable::Yes | Retryable::No } | StepError::Refused { why, .. } => {
                self.record(Event::UndoFailed { step: id, why })
            }
        }
    }

    /// After an undo, `done` means that the effect still stands, and `not done` that it is gone.
    pub(super) fn undo_observed(&mut self, step: &PlanStep, seen: Result<Observation<Value>, StepError>) -> Result<(), ExecutorError> {
        let id = step.id.clone();
        let why_in_doubt = self.run.steps.get(&id).and_then(|record| record.why.clone()).unwrap_or_default();
        match seen {
            Ok(Observation::NotDone) => self.record(Event::UndoSucceeded { step: id }),
            Ok(Observation::Done(_)) if self.undos(step) < step.retry.attempts.max(UNDOS_AFTER_DOUBT) => {
                self.undo_again(step, format!("observed: its effect still stands ({why_in_doubt})"))
            }
            Ok(Observation::Done(_)) => {
                let why = format!("its effect still stands after {} undos ({why_in_doubt})", self.undos(step));
                self.record(Event::UndoFailed { step: id, why })
            }
            Ok(Observation::InProgress) => {
                let why = "something of it still goes on by itself, so nobody can tell whether it is undone".to_owned();
                self.record(Event::UndoFailed { step: id, why })
            }
            Ok(Observation::Foreign { .. }) => {
                let why = "somebody else changed it meanwhile, wholly or in part".to_owned();
                self.record(Event::UndoFailed { step: id, why })
            }
            Ok(Observation::Unknown { why }) => {
                self.record(Event::UndoFailed { step: id, why: format!("nobody can tell whether it was undone: {why}") })
            }
            Err(error) => self.record(Event::UndoFailed { step: id, why: format!("nobody can tell whether it was undone: {error}") }),
        }
    }

    fn undo_again(&mut self, step: &PlanStep, why: String) -> Result<(), ExecutorError> {
        let retry_at = self.due_after(step, self.undos(step), &format!("{}/{}/undo", self.run.id, step.id));
        self.record(Event::UndoNotDone { step: step.id.clone(), why, retry_at })
    }

    fn undos(&self, step: &PlanStep) -> u32 {
        self.run.steps.get(&step.id).map_or(0, |record| record.undos)
    }
}
