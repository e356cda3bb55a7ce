//! Taking a step back, by its type's own undo or by the one that its runbook writes, and what follows from the answer. An undo is made as
//! carefully as an act: an unknown outcome is observed, a passing failure is tried again, and what fails for good is left to a person.
//! A written undo is prepared and journaled with its intent before it acts, as a step is.

use std::sync::Arc;

use serde_json::Value;

use super::begin::WITH_BYTES_MAX;
use super::perform::{Answer, Kind};
use super::{Executor, ExecutorError};
use crate::journal::{Event, UndoAct};
use crate::mutants::{self, Mutant};
use crate::run::{RunPhase, StepState};
use crate::sight::Sight;
use crate::step::{Observation, Readiness, Retryable, StepError};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{PlanStep, WrittenUndo};

/// Undos that a step gets, even without `retry`, when one of unknown outcome is observed to have done nothing.
const UNDOS_AFTER_DOUBT: u32 = 3;

impl Executor {
    /// Takes a step back, as far as that goes without an answer from outside.
    pub(super) fn take_back(&mut self, id: &StepId) -> Result<(), ExecutorError> {
        let plan = Arc::clone(&self.run.plan);
        let Some(step) = plan.step(id) else { return Ok(()) };
        let moved = self.moved(id);
        let Some(undo) = step.written_undo() else {
            if self.run.state(id) != StepState::Undoing {
                self.record(Event::UndoStarted { step: id.clone(), act: None })?;
            }
            return match moved {
                Some(why) => self.record(Event::UndoFailed { step: id.clone(), why }),
                None => self.call(id, Kind::Undo),
            };
        };
        match moved.map_or_else(|| self.undo_parameters(step, undo), Err) {
            Ok(with) => self.call_undo(step, undo, Kind::Prepare, with),
            Err(why) => self.undo_refused(step, why),
        }
    }

    /// Asks the world what became of an undo.
    pub(super) fn look_at_undo(&mut self, id: &StepId) -> Result<(), ExecutorError> {
        let plan = Arc::clone(&self.run.plan);
        let Some(step) = plan.step(id) else { return Ok(()) };
        let Some(undo) = step.written_undo() else { return self.call(id, Kind::Observe) };
        match self.run.steps.get(id).and_then(|record| record.undo_act.clone()) {
            Some(act) if mutants::is(Mutant::BlindUndo) => self.start_undo(step, undo, *act),
            Some(act) => self.call_undo(step, undo, Kind::Observe, act.with),
            // It was refused before it could begin, and a person wants it tried again.
            None => {
                let (why, retry_at) = ("nothing of it was begun".to_owned(), self.ports.clock.now());
                self.record(Event::UndoNotDone { step: id.clone(), why, retry_at })
            }
        }
    }

    /// What follows from the answer of a call that was made for a written undo.
    pub(super) fn undo_answered(&mut self, step: &PlanStep, with: Value, answer: Answer) -> Result<(), ExecutorError> {
        let Some(undo) = step.written_undo() else { return Ok(()) };
        match answer {
            Answer::Prepared(answer) => self.undo_prepared(step, undo, with, answer),
            Answer::Executed(Ok(_)) | Answer::Undone(Ok(())) => self.record(Event::UndoSucceeded { step: step.id.clone() }),
            Answer::Executed(Err(error)) | Answer::Undone(Err(error)) => self.undo_failed(step, error),
            Answer::Observed(seen) => self.written_undo_observed(step, undo, seen),
        }
    }

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

    /// After a type's own undo, `done` means that the effect still stands, and `not done` that it is gone.
    pub(super) fn undo_observed(&mut self, step: &PlanStep, seen: Result<Observation<Value>, StepError>) -> Result<(), ExecutorError> {
        let why_in_doubt = self.why_in_doubt(step);
        match seen {
            Ok(Observation::NotDone) => self.record(Event::UndoSucceeded { step: step.id.clone() }),
            Ok(Observation::Done(_)) if self.undos(step) < undos_after_doubt(step) => {
                self.undo_again(step, format!("observed: its effect still stands ({why_in_doubt})"))
            }
            Ok(Observation::Done(_)) => {
                let why = format!("its effect still stands after {} undos ({why_in_doubt})", self.undos(step));
                self.record(Event::UndoFailed { step: step.id.clone(), why })
            }
            Ok(Observation::InProgress) => {
                let why = "something of it still goes on by itself, so nobody can tell whether it is undone".to_owned();
                self.record(Event::UndoFailed { step: step.id.clone(), why })
            }
            Ok(Observation::Foreign { .. }) => self.undo_untold(step, "somebody else changed it meanwhile, wholly or in part".to_owned()),
            Ok(Observation::Unknown { why }) => self.undo_untold(step, format!("nobody can tell whether it was undone: {why}")),
            Err(error) => self.undo_untold(step, format!("nobody can tell whether it was undone: {error}")),
        }
    }

    /// A written undo says of itself what became of it.
    fn written_undo_observed(
        &mut self,
        step: &PlanStep,
        undo: &WrittenUndo,
        seen: Result<Observation<Value>, StepError>,
    ) -> Result<(), ExecutorError> {
        let why_in_doubt = self.why_in_doubt(step);
        let again = self.undos(step) < undos_after_doubt(step);
        match seen {
            Ok(Observation::Done(_)) => self.record(Event::UndoSucceeded { step: step.id.clone() }),
            Ok(Observation::NotDone) if again => self.undo_again(step, format!("observed: it was not done ({why_in_doubt})")),
            Ok(Observation::NotDone) => {
                let why = format!("observed: it was not done, after {} undos ({why_in_doubt})", self.undos(step));
                self.record(Event::UndoFailed { step: step.id.clone(), why })
            }
            // While a brake is on, nothing is adopted: it is looked at again when the brake is off.
            Ok(Observation::InProgress) if self.run.undo_brake(step).is_some() => {
                self.undo_again(step, "observed: it goes on by itself".to_owned())
            }
            Ok(Observation::InProgress) => match self.run.steps.get(&step.id).and_then(|record| record.undo_act.clone()) {
                Some(act) if again => self.start_undo(step, undo, *act),
                Some(_) | None => {
                    let why = format!("it still goes on by itself after it was waited for {} times", self.undos(step));
                    self.undo_untold(step, why)
                }
            },
            Ok(Observation::Foreign { .. }) => self.undo_untold(step, "somebody else changed it meanwhile, wholly or in part".to_owned()),
            Ok(Observation::Unknown { why }) => self.undo_untold(step, format!("nobody can tell whether it was undone: {why}")),
            Err(error) => self.undo_untold(step, format!("nobody can tell whether it was undone: {error}")),
        }
    }

    fn undo_prepared(
        &mut self,
        step: &PlanStep,
        undo: &WrittenUndo,
        with: Value,
        answer: Result<Readiness<Value>, StepError>,
    ) -> Result<(), ExecutorError> {
        let waits = matches!(self.run.state(&step.id), StepState::Succeeded | StepState::Rejected | StepState::UndoInDoubt);
        // While its gate was asked a person may have paused the run, or frozen what it would change.
        if self.run.phase != RunPhase::Unwinding || self.detaching || !waits || self.run.undo_brake(step).is_some() {
            return Ok(());
        }
        match answer {
            Ok(Readiness::Ready { intent, evidence }) => self.start_undo(step, undo, UndoAct { with, intent, evidence }),
            Ok(Readiness::Refused { why, .. }) | Err(StepError::Refused { why, .. }) => self.undo_refused(step, why),
            Ok(Readiness::Later { needs, .. }) => self.undo_refused(step, format!("it still waits for {needs}")),
            Err(error @ (StepError::NotDone { .. } | StepError::Unknown { .. })) => self.undo_refused(step, error.to_string()),
        }
    }

    /// Journals the intent of a written undo and puts the act in line behind its commit.
    fn start_undo(&mut self, step: &PlanStep, undo: &WrittenUndo, act: UndoAct) -> Result<(), ExecutorError> {
        let with = act.with.clone();
        self.record(Event::UndoStarted { step: step.id.clone(), act: Some(Box::new(act)) })?;
        self.call_undo(step, undo, Kind::Execute, with)
    }

    /// A written undo that may not begin: the effect stands, and a person decides.
    fn undo_refused(&mut self, step: &PlanStep, why: String) -> Result<(), ExecutorError> {
        if matches!(self.run.state(&step.id), StepState::Succeeded | StepState::Rejected) {
            self.record(Event::UndoStarted { step: step.id.clone(), act: None })?;
        }
        self.record(Event::UndoFailed { step: step.id.clone(), why })
    }

    fn call_undo(&mut self, step: &PlanStep, undo: &WrittenUndo, kind: Kind, with: Value) -> Result<(), ExecutorError> {
        let call = self.new_undo_call(step, undo, kind, Arc::new(with));
        self.occupy(&step.id);
        self.calls.push(call);
        Ok(())
    }

    fn undo_parameters(&self, step: &PlanStep, undo: &WrittenUndo) -> Result<Value, String> {
        let with = Sight::of(&self.run).fill_undo(step, &undo.with).map_err(|error| error.to_string())?;
        if with.to_string().len() > WITH_BYTES_MAX {
            return Err(format!("the parameters of its undo have more than {WITH_BYTES_MAX} bytes once filled"));
        }
        Ok(with)
    }

    fn undo_untold(&mut self, step: &PlanStep, why: String) -> Result<(), ExecutorError> {
        self.record(Event::UndoFailed { step: step.id.clone(), why })
    }

    fn undo_again(&mut self, step: &PlanStep, why: String) -> Result<(), ExecutorError> {
        let retry_at = self.due_after(step, self.undos(step), &format!("{}/{}/undo", self.run.id, step.id));
        self.record(Event::UndoNotDone { step: step.id.clone(), why, retry_at })
    }

    fn why_in_doubt(&self, step: &PlanStep) -> String {
        self.run.steps.get(&step.id).and_then(|record| record.why.clone()).unwrap_or_default()
    }

    fn undos(&self, step: &PlanStep) -> u32 {
        self.run.steps.get(&step.id).map_or(0, |record| record.undos)
    }
}

fn undos_after_doubt(step: &PlanStep) -> u32 {
    step.retry.attempts.max(UNDOS_AFTER_DOUBT)
}
