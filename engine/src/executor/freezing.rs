//! How an executor heeds freezes: it watches their log, journals that the run met one, and commits an intent only while the log stands
//! where it was read last. So after the commit of a freeze no intent that it stops can commit anywhere.

use std::time::Duration;

use lifeboat_store::{Changes, LogId, Seq};

use super::{Executor, ExecutorError};
use crate::freeze::{self, Freezes};
use crate::history::{self, HistoryError};
use crate::journal::{Actor, Entry, Event, Output};
use crate::run::{Frozen, IllegalTransition, RunPhase, effect_of};
use lifeboat_runbooks::names::Effect;
use lifeboat_runbooks::plan::PlanStep;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Wait before freezes are read again that could not be read or are not watched: less than the 2 s within which a freeze and its end
/// take effect.
pub(super) const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why nothing is known of them before they are read.
const UNREAD: &str = "they were not read yet";

/// The freezes as this executor knows them.
#[derive(Debug)]
pub(super) struct Watch {
    /// `Err` where they cannot be read, and why: then everything counts as frozen.
    seen: Result<Freezes, String>,
    changes: Option<Changes>,
    /// Whether the run has still to be told.
    news: bool,
}

impl Watch {
    /// Before anything was read.
    pub(super) fn new() -> Self {
        Self { seen: Err(UNREAD.into()), changes: None, news: true }
    }

    /// They changed, and nobody has read yet how.
    pub(super) fn forget(&mut self) {
        self.seen = Err(UNREAD.into());
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.seen.as_ref().is_err_and(|why| why == UNREAD)
    }

    /// Whether they have to be read again after a while, because nothing tells when they change.
    pub(super) fn is_blind(&self) -> bool {
        self.changes.is_none() || self.seen.is_err()
    }

    /// Waits until the log may have changed.
    pub(super) async fn changed(&mut self) {
        match &mut self.changes {
            Some(changes) => {
                if changes.next().await.is_none() {
                    self.changes = None;
                }
            }
            None => std::future::pending().await,
        }
    }

    /// The place that the commit of an intent expects; `None` where it must not be committed.
    pub(super) fn place(&self) -> Option<Seq> {
        self.seen.as_ref().ok().map(|freezes| freezes.next)
    }
}

impl Executor {
    /// Begins to watch, and reads for the first time. Watching comes first, so that no change is missed.
    pub(super) async fn watch_freezes(&mut self) {
        self.freezes.changes = self.ports.store.watch("freeze").await.ok();
        self.read_freezes().await;
    }

    /// Reads the freezes anew.
    pub(super) async fn read_freezes(&mut self) {
        let seen = freeze::read(self.ports.store.as_ref()).await.map_err(|error| format!("the freezes cannot be read: {error}"));
        if seen != self.freezes.seen {
            self.freezes.seen = seen;
            self.freezes.news = true;
        }
    }

    /// Journals what the run meets and what is over for it.
    pub(super) fn meet_freezes(&mut self) -> Result<(), ExecutorError> {
        if !std::mem::take(&mut self.freezes.news) || self.run.phase == RunPhase::Ended {
            return Ok(());
        }
        let wanted = self.wanted();
        let over: Vec<(Option<String>, Option<Actor>, String)> = self
            .run
            .frozen
            .iter()
            .filter(|met| !wanted.iter().any(|freeze| freeze.resource == met.resource && freeze.by == met.by))
            .map(|met| self.lifted(met))
            .collect();
        for (resource, by, why) in over {
            self.record(Event::RunThawed { resource, by, why })?;
        }
        for freeze in wanted {
            if !self.run.frozen.iter().any(|met| met.resource == freeze.resource) {
                let Frozen { resource, by, why, blind, .. } = freeze;
                self.record(Event::RunFrozen { resource, by, why, blind })?;
            }
        }
        Ok(())
    }

    /// The freezes in force that stop any step of this run.
    fn wanted(&self) -> Vec<Frozen> {
        let frozen = |resource: Option<&String>, by: Option<&Actor>, why: &str| Frozen {
            resource: resource.cloned(),
            by: by.cloned(),
            why: why.to_owned(),
            since: self.ports.clock.now(),
            blind: if resource.is_none() { self.blind() } else { Vec::new() },
        };
        let all: Vec<Frozen> = match &self.freezes.seen {
            Ok(freezes) => {
                freezes.in_force.values().map(|freeze| frozen(freeze.resource.as_ref(), Some(&freeze.by), &freeze.comment)).collect()
            }
            Err(why) => vec![frozen(None, None, why)],
        };
        all.into_iter().filter(|freeze| self.run.plan.all_steps().any(|step| freeze.stops_undo(step))).collect()
    }

    /// Step types of this plan that may change anything although a step of them names no resource.
    fn blind(&self) -> Vec<String> {
        let types: BTreeSet<&str> = self
            .run
            .plan
            .all_steps()
            .flat_map(|step| {
                let own = (step.touches.is_empty() && self.may_change(step)).then_some(step.step_type.as_str());
                let undo = step.written_undo().filter(|undo| undo.touches.is_empty()).map(|undo| undo.step_type.as_str());
                own.into_iter().chain(undo)
            })
            .collect();
        types.into_iter().map(str::to_owned).collect()
    }

    /// Whether a step may change anything: what it names says so, or it names nothing and its type can.
    pub(super) fn may_change(&self, step: &PlanStep) -> bool {
        effect_of(step) > Effect::Read
            || (step.touches.is_empty() && self.ports.registry.step(&step.step_type).is_none_or(|known| known.info().effect > Effect::Read))
    }

    fn lifted(&self, met: &Frozen) -> (Option<String>, Option<Actor>, String) {
        let by = self.freezes.seen.as_ref().ok().filter(|_| met.by.is_some()).and_then(|freezes| freezes.lifted.get(&met.resource));
        match by {
            Some(lifted) => (met.resource.clone(), Some(lifted.by.clone()), lifted.comment.clone()),
            None => (met.resource.clone(), None, "the freezes can be read again".into()),
        }
    }

    /// Whether an event lets something act on the world from its commit on.
    pub(super) fn is_intent(&self, event: &Event) -> bool {
        if let Event::StepStarted { step, .. } | Event::StepInProgress { step } = event {
            return self.run.plan.step(step).is_some_and(|step| self.may_change(step));
        }
        matches!(event, Event::UndoStarted { .. })
    }

    /// A freeze came first: what was about to start does not, and what came from outside stays. The run is as it is durable, with
    /// that.
    pub(super) async fn withdraw(&mut self) -> Result<(), ExecutorError> {
        let loaded = history::load(self.ports.store.as_ref(), &self.run.id).await.map_err(|error| match error {
            HistoryError::Store(error) => ExecutorError::Store(error),
            error
            @ (HistoryError::NoSuchRun(_) | HistoryError::Entry { .. } | HistoryError::Illegal { .. } | HistoryError::Plan { .. }) => {
                ExecutorError::Unreadable(error)
            }
        })?;
        if loaded.next != self.next {
            return Err(ExecutorError::Overtaken(self.run.id.clone()));
        }
        // What waited for the commit is decided anew; nothing of it has begun.
        for call in std::mem::take(&mut self.calls) {
            self.vacate(&call.step);
        }
        let before = std::mem::replace(&mut self.run, loaded.run);
        let mut withdrawn = BTreeSet::new();
        for entry in std::mem::take(&mut self.pending) {
            if self.is_intent(&entry.event) {
                withdrawn.extend(entry.event.step().cloned());
                continue;
            }
            match self.apply_again(&entry, &before) {
                Ok(()) => self.pending.push(entry),
                // It only followed from what was withdrawn.
                Err(_) if entry.event.step().is_some_and(|step| withdrawn.contains(step)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for place in 0..self.run.steps.len() {
            self.known.put(&self.run, place);
        }
        self.read_freezes().await;
        Ok(())
    }

    fn apply_again(&mut self, entry: &Entry, before: &crate::run::Run) -> Result<(), IllegalTransition> {
        self.run.apply(entry)?;
        if let Event::StepSucceeded { step, output: Output::Kept { .. }, .. }
        | Event::FactsRemeasured { step, output: Output::Kept { .. }, .. } = &entry.event
            && let Some(record) = self.run.steps.get_mut(step)
        {
            Arc::make_mut(record).value = before.steps.get(step).and_then(|record| record.value.clone());
        }
        Ok(())
    }
}

/// The log that intents expect.
pub(super) fn log() -> Result<LogId, ExecutorError> {
    Ok(freeze::freeze_log()?)
}
