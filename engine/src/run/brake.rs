//! What holds a run back by a person's will: a pause, and freezes that it met. Which steps they stop, and which timers stand still.
//! How freezes are kept for all runs is in `freeze`; nothing here waits, writes or asks for the time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Run, StepState, effect_of};
use crate::approval::ApprovalStep;
use crate::journal::Actor;
use crate::mutants::{self, Mutant};
use crate::step::Step as _;
use lifeboat_runbooks::catalog::Touch;
use lifeboat_runbooks::names::Effect;
use lifeboat_runbooks::plan::PlanStep;

/// A person stopped the run for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Who.
    pub by: Actor,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// A freeze that the run met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// The resource; `None` for everything.
    pub resource: Option<String>,
    /// Who froze it; `None` where the freezes cannot be read, which counts as frozen.
    pub by: Option<Actor>,
    /// Why.
    pub why: String,
    /// Since when this run has known of it.
    pub since: Timestamp,
    /// Step types of this plan that may change anything although they name no resource.
    pub blind: Vec<String>,
}

impl Frozen {
    /// Whether it stops what this step does to the world. Steps that only look go on.
    #[must_use]
    pub fn stops(&self, step: &PlanStep) -> bool {
        match &self.resource {
            None => effect_of(step) > Effect::Read || (step.touches.is_empty() && self.blind.contains(&step.step_type)),
            Some(resource) => step.touches.iter().any(|touch| touch.resource == *resource && touch.effect > Effect::Read),
        }
    }

    /// Whether it stops taking this step back: what the step did is frozen, or what its written undo would do.
    #[must_use]
    pub fn stops_undo(&self, step: &PlanStep) -> bool {
        let written = step.written_undo().is_some_and(|undo| {
            let changes = |touch: &Touch| touch.effect > Effect::Read;
            match &self.resource {
                None => undo.touches.iter().any(changes) || (undo.touches.is_empty() && self.blind.contains(&undo.step_type)),
                Some(resource) => undo.touches.iter().any(|touch| touch.resource == *resource && changes(touch)),
            }
        });
        written || self.stops(step)
    }
}

/// What keeps one step from starting, or its undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brake<'a> {
    /// The whole run is paused.
    Paused(&'a Pause),
    /// What it would change is frozen.
    Frozen(&'a Frozen),
}

impl Run {
    /// What keeps this step from being taken back.
    #[must_use]
    pub fn undo_brake(&self, step: &PlanStep) -> Option<Brake<'_>> {
        let paused = self.paused.as_ref().filter(|_| !mutants::is(Mutant::PauseIgnored)).map(Brake::Paused);
        paused.or_else(|| {
            let frozen = self.frozen.iter().find(|frozen| frozen.stops_undo(step) && !mutants::is(Mutant::FreezeIgnored));
            frozen.map(Brake::Frozen)
        })
    }

    /// What keeps this step from starting.
    #[must_use]
    pub fn brake(&self, step: &PlanStep) -> Option<Brake<'_>> {
        self.paused
            .as_ref()
            .filter(|_| !mutants::is(Mutant::PauseIgnored))
            .map(Brake::Paused)
            .or_else(|| self.freeze_on(step).map(Brake::Frozen))
    }

    /// The freeze that stops what this step does to the world.
    #[must_use]
    pub fn freeze_on(&self, step: &PlanStep) -> Option<&Frozen> {
        self.frozen.iter().find(|frozen| frozen.stops(step) && !mutants::is(Mutant::FreezeIgnored))
    }

    /// The instant that approvals and the run's deadline go by: it stands still while the run is paused or has met a freeze, so that
    /// neither turns into a no, or into an undo, by itself. The clock of the RTO is another one and never stands still.
    #[must_use]
    pub fn timers_at(&self, now: Timestamp) -> Timestamp {
        self.still_since.map_or(now, |since| since.min(now))
    }

    /// When the run's deadline is due, as far as its timers run.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let length = SignedDuration::from_millis(i64::try_from(self.plan.deadline_ms?).unwrap_or(i64::MAX));
        let due = self.admitted_at?.saturating_add(length).unwrap_or(Timestamp::MAX);
        Some(due.saturating_add(self.stood_still).unwrap_or(Timestamp::MAX))
    }

    /// The brakes changed: timers stop with the first one and go on after the last one, where they stood.
    pub(super) fn braked(&mut self, at: Timestamp) {
        let held = self.paused.is_some() || !self.frozen.is_empty();
        match (held, self.still_since) {
            (true, None) => self.still_since = Some(at),
            (false, Some(since)) => {
                self.still_since = None;
                // The clock may have been set back meanwhile: time that did not pass is not given.
                let stood = at.duration_since(since).max(SignedDuration::ZERO);
                self.stood_still = self.stood_still.saturating_add(stood);
                for record in self.steps.values_mut().filter(|record| record.state == StepState::AwaitingApproval) {
                    if let Some(ask) = &mut Arc::make_mut(record).ask {
                        let stood = at.duration_since(since.max(ask.asked_at)).max(SignedDuration::ZERO);
                        ask.expires_at = ask.expires_at.saturating_add(stood).unwrap_or(Timestamp::MAX);
                    }
                }
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

/// Whether a step only waits for the answer of people.
#[must_use]
pub fn asks(step: &PlanStep) -> bool {
    step.step_type == ApprovalStep::TYPE
}
