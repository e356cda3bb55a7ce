//! Folds one entry into a run. The same function records and replays, so a replay cannot drift from what was recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::tables::{PhaseChange, StepChange, phase_after, step_after};
use super::{Ask, Frozen, Pause, Run, RunPhase, StepRun, StepState, crosses};
use crate::census::Moment;
use crate::context::{Approval, Proof};
use crate::journal::{Back, Entry, Event, Outcome, Output, Resolution, RunId, Seen};
use crate::mutants::{self, Mutant};
use crate::sight::Sight;
use jiff::Timestamp;
use lifeboat_runbooks::names::StepId;

/// An entry that does not follow from those before it: the journal is damaged or was written by something else.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IllegalTransition {
    /// The step table has no such row.
    #[error("step {step} cannot take {change:?} while {state:?}")]
    Step {
        /// The step.
        step: StepId,
        /// Its state.
        state: StepState,
        /// What was to happen.
        change: StepChange,
    },
    /// The phase table has no such row.
    #[error("the run cannot take {change:?} while {phase:?}")]
    Phase {
        /// The run's phase.
        phase: RunPhase,
        /// What was to happen.
        change: PhaseChange,
    },
    /// The plan has no such step.
    #[error("the plan has no step {0}")]
    NoSuchStep(StepId),
    /// The entry belongs to another run or plan, or stands in the wrong place.
    #[error("{0}")]
    Misplaced(String),
}

impl Run {
    /// Folds one entry.
    ///
    /// # Errors
    /// Where the tables do not have it; the run is unchanged then.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), IllegalTransition> {
        let at = entry.at;
        if self.entries == 0 && !matches!(entry.event, Event::RunAdmitted { .. }) {
            return Err(IllegalTransition::Misplaced("the first entry of a run is not its admission".into()));
        }
        if self.phase == RunPhase::Ended && !matches!(entry.event, Event::RunReleasedLocks { .. } | Event::RunReopened { .. }) {
            return Err(IllegalTransition::Misplaced("the run has ended".into()));
        }
        match &entry.event {
            Event::RunAdmitted { run, binding, by, locks, incident, predicted, .. } => {
                self.predicted.clone_from(predicted);
                self.ready_at = Some(at);
                self.check_admission(run, binding)?;
                self.locks.clone_from(locks);
                self.started_by = Some(by.clone());
                self.admitted_at = Some(at);
                self.incident = incident.clone();
            }
            Event::PeersListed { moment, listings } => {
                let listed = match moment {
                    Moment::Before => &mut self.listed_before,
                    Moment::After => &mut self.listed_after,
                };
                if listed.is_some() {
                    return Err(IllegalTransition::Misplaced(format!("the peers were listed twice {}", moment.words())));
                }
                *listed = Some(listings.clone());
                if *moment == Moment::Before {
                    self.ready_at = Some(at);
                }
            }
            Event::RunClaimed { .. } => self.claim(at)?,
            Event::StepStarted { step, attempt, with, intent, .. } => {
                self.begin(step, StepChange::Started, at)?;
                let crossed = self.plan.step(step).is_some_and(crosses);
                let with = self.index.with(&self.plan, step, with);
                let record = self.step_mut(step)?;
                record.attempts = *attempt;
                record.adoptions = 0;
                record.with = Some(with);
                record.intent = Some(intent.clone());
                record.retry_at = None;
                if crossed && self.no_return.is_none() {
                    self.no_return = Some(step.clone());
                }
            }
            Event::StepRefused { step, why, .. } => {
                self.begin(step, StepChange::Refused, at).map(|record| record.why = Some(why.clone()))?
            }
            Event::StepSkipped { step, why } => self.begin(step, StepChange::Skipped, at).map(|record| record.why = Some(why.clone()))?,
            Event::StepNotRun { step, why } => self.change(step, StepChange::NotRun, at).map(|record| record.why = Some(why.clone()))?,
            Event::StepSucceeded { step, output, measures, seen } => {
                let record = self.change(step, StepChange::Succeeded, at)?;
                record.doubtful = false;
                record.measured_at = Some(at);
                record.measures.clone_from(measures);
                record.proof = Some(match seen {
                    Seen::Executed | Seen::Observed => Proof::Seen,
                });
                record.value = match output {
                    Output::Inline(value) => Some(value.clone()),
                    Output::Kept { .. } => None,
                };
                record.output = Some(output.clone());
            }
            Event::StepFailed { step, why, retry_at, .. } => {
                let change = if retry_at.is_some() { StepChange::FailedForNow } else { StepChange::Failed };
                // What is called off while in doubt stays doubtful: nobody has looked.
                let called_off = matches!(self.state(step), StepState::Held | StepState::Backoff);
                let record = self.change(step, change, at)?;
                record.doubtful = record.doubtful && called_off;
                record.why = Some(why.clone());
                record.retry_at = *retry_at;
            }
            Event::StepInDoubt { step, why } => {
                let record = self.change(step, StepChange::OutcomeUnknown, at)?;
                record.doubtful = true;
                record.why = Some(why.clone());
            }
            Event::StepInProgress { step } => self.change(step, StepChange::InProgress, at)?.adoptions += 1,
            Event::StepHeld { step, why, .. } => {
                self.change(step, StepChange::HeldForPerson, at).map(|record| record.why = Some(why.clone()))?
            }
            Event::StepRejected { step, assertion } => {
                self.change(step, StepChange::Rejected, at).map(|record| record.why = Some(format!("assertion is false: {assertion}")))?
            }
            Event::StepResolved { step, resolution, comment, .. } => self.resolve(step, resolution, comment, at)?,
            Event::ApprovalRequested { step, roles, count, shown, facts, expires_at } => {
                self.begin(step, StepChange::ApprovalRequested, at)?;
                let ask = Ask {
                    roles: roles.clone(),
                    count: *count,
                    shown: shown.clone(),
                    facts: facts.clone(),
                    outputs: self.shown_outputs(step),
                    asked_at: at,
                    expires_at: *expires_at,
                };
                let record = self.step_mut(step)?;
                record.ask = Some(Box::new(ask));
                record.approvals.clear();
            }
            Event::ApprovalGranted { step, by, comment, .. } => self.grant(step, by.name(), comment.as_deref(), at)?,
            Event::ApprovalVoided { step, why } => self.void(step, why, at)?,
            Event::FactsRemeasured { step, output, measures } => self.remeasure(step, output, measures, at)?,
            Event::ApprovalDenied { step, by, comment } if mutants::is(Mutant::DenialIgnored) => {
                self.grant(step, by.name(), comment.as_deref(), at)?;
            }
            Event::ApprovalDenied { step, by, comment } => {
                let why = format!("denied by {}{}", by.name(), comment.as_ref().map(|c| format!(": {c}")).unwrap_or_default());
                let record = self.change(step, StepChange::Denied, at)?;
                // A yes by some of those who were asked is none.
                record.approvals.clear();
                record.why = Some(why);
            }
            Event::ApprovalExpired { step } => {
                let record = self.change(step, StepChange::Expired, at)?;
                record.approvals.clear();
                record.why = Some("nobody answered in time, which is a no".into());
            }
            Event::CancelRequested { by, .. } => self.cancelled_by = Some(by.clone()),
            Event::RunPaused { by, comment } => {
                self.was_paused = true;
                if self.paused.is_some() {
                    return Err(IllegalTransition::Misplaced("the run is paused already".into()));
                }
                self.paused = Some(Pause { by: by.clone(), why: comment.clone(), since: at });
                self.braked(at);
            }
            Event::RunContinued { .. } => {
                if self.paused.take().is_none() {
                    return Err(IllegalTransition::Misplaced("the run is not paused".into()));
                }
                self.braked(at);
            }
            Event::RunFrozen { resource, by, why, blind } => {
                self.was_paused = true;
                if self.frozen.iter().any(|frozen| frozen.resource == *resource) {
                    return Err(IllegalTransition::Misplaced("the run met this freeze already".into()));
                }
                self.frozen.push(Frozen { resource: resource.clone(), by: by.clone(), why: why.clone(), since: at, blind: blind.clone() });
                self.braked(at);
            }
            Event::RunThawed { resource, .. } => {
                let Some(place) = self.frozen.iter().position(|frozen| frozen.resource == *resource) else {
                    return Err(IllegalTransition::Misplaced("the run has not met this freeze".into()));
                };
                self.frozen.remove(place);
                self.braked(at);
            }
            Event::RunHeld { why } => self.phase(PhaseChange::Held, Some(why))?,
            Event::RunReleased => self.phase(PhaseChange::Released, None)?,
            Event::UnwindingStarted { turn, back } => {
                self.phase(PhaseChange::Unwound, None)?;
                self.turn = Some((turn.clone(), *back));
            }
            Event::UndoStarted { step, act } => {
                let record = self.change(step, StepChange::UndoStarted, at)?;
                record.undos += 1;
                record.retry_at = None;
                record.undo_act.clone_from(act);
            }
            Event::UndoInDoubt { step, why } => {
                let record = self.change(step, StepChange::UndoOutcomeUnknown, at)?;
                record.doubtful = true;
                record.why = Some(why.clone());
            }
            Event::UndoNotDone { step, why, retry_at } => {
                let record = self.change(step, StepChange::UndoNotDone, at)?;
                record.doubtful = false;
                record.retry_at = Some(*retry_at);
                record.why = Some(why.clone());
            }
            Event::UndoSucceeded { step } => self.change(step, StepChange::UndoSucceeded, at)?.doubtful = false,
            Event::UndoFailed { step, why } => self.change(step, StepChange::UndoFailed, at)?.why = Some(why.clone()),
            Event::FinalisingStarted => self.phase(PhaseChange::Finalising, None)?,
            Event::RunEnded { outcome, why } => {
                self.phase(PhaseChange::Ended, Some(why))?;
                self.outcome = Some(*outcome);
                self.ended_at = Some(at);
            }
            Event::RunReopened { .. } => self.reopen()?,
            Event::RunReleasedLocks { .. } => {
                if self.phase != RunPhase::Ended || self.outcome != Some(Outcome::Stuck) || self.locks_released {
                    return Err(IllegalTransition::Misplaced("only a stuck run keeps locks that can be released".into()));
                }
                self.locks_released = true;
            }
        }
        if let Some(step) = entry.event.step() {
            self.note(step);
        }
        self.entries += 1;
        Ok(())
    }

    /// Brings the index up to date with a step's record.
    fn note(&mut self, step: &StepId) {
        let Some(place) = self.plan.place(step) else { return };
        if let Some(record) = self.steps.at(place) {
            self.index.update(place, record);
        }
    }

    fn check_admission(&self, run: &RunId, binding: &str) -> Result<(), IllegalTransition> {
        if self.entries != 0 {
            return Err(IllegalTransition::Misplaced("the run was admitted twice".into()));
        }
        if *run != self.id || *binding != self.plan.binding {
            return Err(IllegalTransition::Misplaced(format!(
                "the admission is of run {run} with binding {binding}, not of this run and plan"
            )));
        }
        Ok(())
    }

    fn step_mut(&mut self, step: &StepId) -> Result<&mut StepRun, IllegalTransition> {
        self.steps.get_mut(step).map(Arc::make_mut).ok_or_else(|| IllegalTransition::NoSuchStep(step.clone()))
    }

    fn change(&mut self, step: &StepId, change: StepChange, at: Timestamp) -> Result<&mut StepRun, IllegalTransition> {
        let record = self.step_mut(step)?;
        let state = record.state;
        record.state = step_after(state, change).ok_or_else(|| IllegalTransition::Step { step: step.clone(), state, change })?;
        if waits_for_person(state) {
            record.waited_ms += record.changed_at.map_or(0, |since| millis_between(since, at));
        }
        match record.state {
            StepState::Succeeded => record.succeeded_at = Some(at),
            StepState::Rejected => record.was_rejected = true,
            StepState::Waiting
            | StepState::AwaitingApproval
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Held
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoFailed
            | StepState::UndoInDoubt => {}
        }
        record.changed_at = Some(at);
        Ok(record)
    }

    /// A change that also takes the run out of `admitted`.
    fn begin(&mut self, step: &StepId, change: StepChange, at: Timestamp) -> Result<&mut StepRun, IllegalTransition> {
        let phase = phase_after(self.phase, PhaseChange::Began)
            .ok_or(IllegalTransition::Phase { phase: self.phase, change: PhaseChange::Began })?;
        self.change(step, change, at)?;
        self.phase = phase;
        let record = self.step_mut(step)?;
        if change != StepChange::Skipped {
            record.started_at.get_or_insert(at);
        }
        Ok(record)
    }

    fn phase(&mut self, change: PhaseChange, why: Option<&String>) -> Result<(), IllegalTransition> {
        self.phase = phase_after(self.phase, change).ok_or(IllegalTransition::Phase { phase: self.phase, change })?;
        if let Some(why) = why {
            self.why = Some(why.clone());
        }
        Ok(())
    }

    fn claim(&mut self, at: Timestamp) -> Result<(), IllegalTransition> {
        let forgets = mutants::is(Mutant::ClaimWithoutDoubt);
        let open: Vec<StepId> = self.steps.iter().filter(|(_, step)| step.state.is_open() && !forgets).map(|(id, _)| id.clone()).collect();
        for id in open {
            let cut_short = self.state(&id) == StepState::Running;
            let record = self.change(&id, StepChange::Claimed, at)?;
            record.cut_short += u32::from(cut_short);
            record.doubtful = true;
            record.retry_at = None;
            record.why = Some("the process that ran it is gone".into());
            self.note(&id);
        }
        self.claims += 1;
        Ok(())
    }

    fn resolve(&mut self, step: &StepId, resolution: &Resolution, comment: &str, at: Timestamp) -> Result<(), IllegalTransition> {
        let undo_failed = self.state(step) == StepState::UndoFailed;
        let record = match resolution {
            Resolution::Done { outputs } => {
                let record = self.change(step, StepChange::ResolvedDone, at)?;
                if !undo_failed && record.proof != Some(Proof::Seen) {
                    record.output = Some(Output::Inline(outputs.clone()));
                    record.value = Some(outputs.clone());
                    record.proof = Some(if mutants::is(Mutant::WordIsProof) { Proof::Seen } else { Proof::Said });
                }
                record
            }
            Resolution::Retry => {
                let record = self.change(step, StepChange::ResolvedRetry, at)?;
                // An undo is looked at again before it is repeated.
                record.retry_at = (!undo_failed).then_some(at);
                record.adoptions = 0;
                record.undos = 0;
                record.why = Some(comment.to_owned());
                // Wanting another attempt says nothing of what the last one did.
                return Ok(());
            }
            // Going on without a step, or giving it up, says nothing of what its last attempt did either: a doubt stays.
            Resolution::Skip => {
                self.change(step, StepChange::ResolvedSkip, at)?.why = Some(comment.to_owned());
                return Ok(());
            }
            Resolution::GiveUp => {
                let record = self.change(step, StepChange::ResolvedGiveUp, at)?;
                record.given_up = true;
                record.why = Some(comment.to_owned());
                return Ok(());
            }
        };
        record.doubtful = false;
        record.why = Some(comment.to_owned());
        Ok(())
    }

    /// Answers so far do not count. A last yes can be voided too, while nothing that needs it has begun.
    fn void(&mut self, step: &StepId, why: &str, at: Timestamp) -> Result<(), IllegalTransition> {
        if self.step_mut(step)?.ask.is_none() {
            return Err(IllegalTransition::Misplaced(format!("nobody was asked in step {step}")));
        }
        let record = self.change(step, StepChange::Voided, at)?;
        record.approvals.clear();
        record.output = None;
        record.value = None;
        record.proof = None;
        record.why = Some(why.to_owned());
        Ok(())
    }

    /// The outputs that a question's facts are taken from.
    fn shown_outputs(&self, step: &StepId) -> BTreeMap<StepId, Value> {
        let Some(planned) = self.plan.step(step) else { return BTreeMap::new() };
        let Some(show) = planned.with.get("show") else { return BTreeMap::new() };
        let read = Sight::of(self).read_by(planned, show);
        read.into_iter().filter_map(|id| Some((id.clone(), self.steps.get(&id)?.value.clone()?))).collect()
    }

    fn remeasure(
        &mut self,
        step: &StepId,
        output: &Output,
        measures: &[crate::measure::Measure],
        at: Timestamp,
    ) -> Result<(), IllegalTransition> {
        let record = self.step_mut(step)?;
        if record.state != StepState::Succeeded || record.proof != Some(Proof::Seen) {
            return Err(IllegalTransition::Misplaced(format!("step {step} has measured nothing that could be measured again")));
        }
        record.value = match output {
            Output::Inline(value) => Some(value.clone()),
            Output::Kept { .. } => None,
        };
        record.output = Some(output.clone());
        record.measures = measures.to_vec();
        record.measured_at = Some(at);
        Ok(())
    }

    /// A stuck run goes on unwinding. Only where an undo left something behind, and while it has its locks.
    fn reopen(&mut self) -> Result<(), IllegalTransition> {
        let undoing = matches!(self.turn, Some((_, Back::Undo)));
        let left = self.steps.values().any(|record| record.state == StepState::UndoFailed);
        if self.outcome != Some(Outcome::Stuck) || self.locks_released || !undoing || !left {
            return Err(IllegalTransition::Misplaced("only a stuck run with a failed undo can be taken up again".into()));
        }
        self.phase(PhaseChange::Reopened, None)?;
        // What a drill leaves is listed anew once the rest of it is put back.
        self.listed_after = None;
        self.outcome = None;
        self.ended_at = None;
        self.why = None;
        Ok(())
    }

    fn grant(&mut self, step: &StepId, by: &str, comment: Option<&str>, at: Timestamp) -> Result<(), IllegalTransition> {
        let record = self.step_mut(step)?;
        let ask = record.ask.clone();
        let needed = ask.as_ref().map_or(u32::MAX, |ask| ask.count) as usize;
        let last = record.approvals.len() + 1 + usize::from(mutants::is(Mutant::OneYesShort)) >= needed;
        let record = self.change(step, if last { StepChange::GrantedLast } else { StepChange::Granted }, at)?;
        let shown = ask.map_or(Value::Null, |ask| ask.shown);
        record.approvals.push(Approval { by: by.to_owned(), comment: comment.map(str::to_owned), shown: shown.clone(), at });
        if last {
            let people: Vec<&str> = record.approvals.iter().map(|approval| approval.by.as_str()).collect();
            let value = json!({ "approved_by": people, "approved_at": at.to_string(), "accepted": shown });
            record.output = Some(Output::Inline(value.clone()));
            record.value = Some(value);
            record.proof = Some(Proof::Seen);
        }
        Ok(())
    }
}

/// Whether a step in this state stands still until a person acts.
fn waits_for_person(state: StepState) -> bool {
    match state {
        StepState::AwaitingApproval | StepState::Held | StepState::Failed | StepState::Rejected => true,
        StepState::Waiting
        | StepState::Running
        | StepState::Backoff
        | StepState::InDoubt
        | StepState::Succeeded
        | StepState::Skipped
        | StepState::NotRun
        | StepState::Undoing
        | StepState::Undone
        | StepState::UndoFailed
        | StepState::UndoInDoubt => false,
    }
}

/// Whole milliseconds from one instant to a later one; 0 where the clock went back meanwhile.
fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}
