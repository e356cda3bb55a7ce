//! What follows from a call's answer: which event is journaled.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use tokio::task::{Id, JoinError};

use super::perform::{Answer, Kind, TaskEnd, UnderWay};
use super::{Executor, ExecutorError};
use crate::context::Purpose;
use crate::evidence::Evidence;
use crate::journal::{Event, Seen};
use crate::mutants::{self, Mutant};
use crate::next::millis;
use crate::retry;
use crate::run::{RunPhase, StepState, effect_of};
use crate::sight::Sight;
use crate::step::{Observation, Readiness, Retryable, StepError};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{ErrorClass, PlanStep};

/// Attempts that a step which changes something gets, even without `retry`, when an attempt of unknown outcome is observed to have
/// done nothing: the request was lost on its way.
const ATTEMPTS_AFTER_DOUBT: u32 = 3;

impl Executor {
    pub(super) async fn ended(&mut self, ended: Result<(Id, TaskEnd), JoinError>) -> Result<(), ExecutorError> {
        let end = match ended {
            Ok((id, end)) => {
                self.of_task.remove(&id);
                end
            }
            Err(error) => {
                // A step that panicked may have acted before: its outcome is unknown.
                let Some(UnderWay { step, kind, purpose, .. }) = self.of_task.remove(&error.id()) else { return Ok(()) };
                let lost = if error.is_cancelled() {
                    // Only calls that can have no effect are cut off.
                    StepError::hopeless("it was cut off, because the run turned back")
                } else {
                    StepError::unknown(format!("the step's code failed: {error}"))
                };
                let answer = match kind {
                    Kind::Prepare => Answer::Prepared(Err(StepError::hopeless(lost.to_string()))),
                    Kind::Execute | Kind::Give => Answer::Executed(Err(lost)),
                    Kind::Observe => Answer::Observed(Ok(Observation::Unknown { why: lost.to_string() })),
                    Kind::Undo => Answer::Undone(Err(lost)),
                };
                TaskEnd { step, purpose, attempt: 0, with: Arc::default(), answer }
            }
        };
        self.vacate(&end.step);
        let plan = Arc::clone(&self.run.plan);
        let Some(step) = plan.step(&end.step) else { return Ok(()) };
        if end.purpose == Purpose::WrittenUndo {
            return self.undo_answered(step, Arc::unwrap_or_clone(end.with), end.answer);
        }
        match end.answer {
            Answer::Prepared(answer) => self.prepared(step, end.attempt, Arc::unwrap_or_clone(end.with), answer),
            Answer::Executed(Ok(value)) => self.succeeded(step, value, Seen::Executed).await,
            Answer::Executed(Err(error)) => self.failed(step, error),
            Answer::Observed(seen) if self.run.state(&step.id) == StepState::UndoInDoubt => self.undo_observed(step, seen),
            Answer::Observed(seen) => self.observed(step, seen).await,
            Answer::Undone(Ok(())) => self.record(Event::UndoSucceeded { step: step.id.clone() }),
            Answer::Undone(Err(error)) => self.undo_failed(step, error),
        }
    }

    fn prepared(
        &mut self,
        step: &PlanStep,
        attempt: u32,
        with: Value,
        answer: Result<Readiness<Value>, StepError>,
    ) -> Result<(), ExecutorError> {
        // The run may have turned back while the gate was asked; then nothing starts.
        let goes_on = match self.run.phase {
            RunPhase::Admitted | RunPhase::Running => self.run.cancelled_by.is_none() && !self.detaching,
            // Final steps run however the run ends, also when it was cancelled.
            RunPhase::Finalising => !self.detaching,
            RunPhase::Held | RunPhase::Unwinding | RunPhase::Ended => false,
        };
        // So may a person have gone on without the step, paused the run or frozen what it would change.
        let may_start = matches!(self.run.state(&step.id), StepState::Waiting | StepState::Backoff) && self.run.brake(step).is_none();
        if !goes_on || !may_start {
            return Ok(());
        }
        let id = step.id.clone();
        match answer {
            Ok(Readiness::Ready { intent, evidence }) => self.start(step, attempt, with, intent, evidence),
            Ok(Readiness::Refused { evidence, .. }) if mutants::is(Mutant::GateIgnored) => {
                let intent = serde_json::json!({ "key": format!("{}-{id}", self.run.id), "attempt": attempt });
                self.start(step, attempt, with, intent, evidence)
            }
            Ok(Readiness::Refused { why, evidence }) | Err(StepError::Refused { why, evidence }) => {
                self.record(Event::StepRefused { step: id, why, evidence })
            }
            Ok(Readiness::Later { needs, evidence }) => {
                self.record(Event::StepRefused { step: id, why: format!("it still waits for {needs}"), evidence })
            }
            Err(error @ (StepError::NotDone { .. } | StepError::Unknown { .. })) => {
                self.record(Event::StepRefused { step: id, why: error.to_string(), evidence: Evidence::none() })
            }
        }
    }

    async fn succeeded(&mut self, step: &PlanStep, value: Value, seen: Seen) -> Result<(), ExecutorError> {
        let mut measures = match self.ports.registry.step(&step.step_type).map(|kind| kind.measures(&value)) {
            Some(Ok(measures)) => measures,
            Some(Err(_)) | None => Vec::new(),
        };
        if mutants::is(Mutant::LossHalved) {
            for measure in &mut measures {
                if let crate::measure::Measure::Loss(loss) = measure {
                    loss.seconds_max = loss.seconds_max.map(|seconds| seconds / 2.0);
                }
            }
        }
        let output = self.output(&value).await?;
        self.record(Event::StepSucceeded { step: step.id.clone(), output, measures, seen })?;
        self.hold_value(&step.id, value);
        self.assert_outputs(step)
    }

    pub(super) fn assert_outputs(&mut self, step: &PlanStep) -> Result<(), ExecutorError> {
        if step.asserts.is_empty() || mutants::is(Mutant::AssertionsHold) {
            return Ok(());
        }
        let sight = Sight::of(&self.run);
        let broken = step.asserts.iter().find_map(|assertion| match sight.is_true(step, assertion) {
            Ok(true) => None,
            Ok(false) => Some(assertion.clone()),
            Err(error) => Some(error.to_string()),
        });
        match broken {
            Some(assertion) => self.record(Event::StepRejected { step: step.id.clone(), assertion }),
            None => Ok(()),
        }
    }

    pub(super) fn failed(&mut self, step: &PlanStep, error: StepError) -> Result<(), ExecutorError> {
        let id = step.id.clone();
        match error {
            StepError::Unknown { why } if mutants::is(Mutant::TimeoutIsFailure) => {
                let retry_at = (self.attempts(&id) < self.attempts_after_doubt(step)).then(|| self.due(step));
                self.record(Event::StepFailed { step: id, why, evidence: Evidence::none(), retry_at })
            }
            StepError::Unknown { why } => self.record(Event::StepInDoubt { step: id, why }),
            StepError::Refused { why, evidence } => {
                let retry_at = self.due_after_error(step, ErrorClass::Refused);
                self.record(Event::StepFailed { step: id, why, evidence, retry_at })
            }
            StepError::NotDone { why, retry } => {
                let retry_at = match retry {
                    Retryable::Yes => self.due_after_error(step, ErrorClass::NotDone),
                    Retryable::No => None,
                };
                self.record(Event::StepFailed { step: id, why, evidence: Evidence::none(), retry_at })
            }
        }
    }

    async fn observed(&mut self, step: &PlanStep, seen: Result<Observation<Value>, StepError>) -> Result<(), ExecutorError> {
        let id = step.id.clone();
        let why_in_doubt = self.run.steps.get(&id).and_then(|record| record.why.clone()).unwrap_or_default();
        let seen = match seen {
            Ok(Observation::Unknown { .. }) if mutants::is(Mutant::UnknownIsDone) => Ok(Observation::Done(Value::Null)),
            Ok(Observation::Unknown { .. }) if mutants::is(Mutant::UnknownIsNotDone) => Ok(Observation::NotDone),
            Ok(Observation::Foreign { .. }) if mutants::is(Mutant::ForeignIsDone) => Ok(Observation::Done(Value::Null)),
            seen => seen,
        };
        match seen {
            Ok(Observation::Done(value)) => self.succeeded(step, value, Seen::Observed).await,
            Ok(Observation::InProgress) => {
                let adoptions = self.run.steps.get(&id).map_or(0, |record| record.adoptions);
                if adoptions < self.attempts_after_doubt(step) {
                    self.record(Event::StepInProgress { step: id })
                } else {
                    let why = format!("it still goes on after it was waited for {adoptions} times");
                    self.record(Event::StepHeld { step: id, why, evidence: Evidence::none() })
                }
            }
            Ok(Observation::NotDone) if self.run.state(&id) == StepState::InDoubt => {
                // What was observed not to be done is tried again; without a look nothing ever is.
                let again = step.retry.covers(ErrorClass::InDoubt) && self.attempts(&id) < self.attempts_after_doubt(step);
                let retry_at = again.then(|| self.due(step));
                self.record(Event::StepFailed {
                    step: id,
                    why: format!("observed: it was not done ({why_in_doubt})"),
                    evidence: Evidence::none(),
                    retry_at,
                })
            }
            Ok(Observation::NotDone) => Ok(()),
            Ok(Observation::Foreign { evidence }) => {
                self.record(Event::StepHeld { step: id, why: "somebody else changed it, wholly or in part".into(), evidence })
            }
            Ok(Observation::Unknown { why }) => self.record(Event::StepHeld {
                step: id,
                why: format!("nobody can tell whether it was done: {why}"),
                evidence: Evidence::none(),
            }),
            Err(error) => self.record(Event::StepHeld {
                step: id,
                why: format!("nobody can tell whether it was done: {error}"),
                evidence: Evidence::none(),
            }),
        }
    }

    /// When the next attempt is due after an error of this class, if there is to be one.
    fn due_after_error(&self, step: &PlanStep, class: ErrorClass) -> Option<Timestamp> {
        let again = step.retry.covers(class) && self.attempts(&step.id) < self.attempts_for(step, 1);
        again.then(|| self.due(step))
    }

    /// How many attempts a step gets whose outcome was lost, and how often one that goes on by itself is waited for.
    fn attempts_after_doubt(&self, step: &PlanStep) -> u32 {
        self.attempts_for(step, if effect_of(step) > Effect::Read { ATTEMPTS_AFTER_DOUBT } else { 1 })
    }

    /// Attempts that a step gets in all. One cut short by the death of its process is not the step's failure.
    fn attempts_for(&self, step: &PlanStep, at_least: u32) -> u32 {
        let cut_short = self.run.steps.get(&step.id).map_or(0, |record| record.cut_short);
        step.retry.attempts.max(at_least).saturating_add(cut_short)
    }

    fn attempts(&self, step: &StepId) -> u32 {
        self.run.steps.get(step).map_or(0, |record| record.attempts)
    }

    fn due(&self, step: &PlanStep) -> Timestamp {
        self.due_after(step, self.attempts(&step.id), &format!("{}/{}", self.run.id, step.id))
    }

    /// When the try after so many is due; `name` tells its chance apart from others.
    pub(super) fn due_after(&self, step: &PlanStep, tries: u32, name: &str) -> Timestamp {
        let wait = retry::delay(&step.retry, tries, name);
        let wait = millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.ports.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX)
    }
}
