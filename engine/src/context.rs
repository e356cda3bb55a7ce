//! What a step is given: the capability to look ([`ReadContext`]) or to act ([`StepContext`]). No globals beside these.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;

use crate::clock::{Clock, Instant};
use crate::inventory::Inventory;
use crate::journal::RunId;
use crate::secret::{Secret, SecretError, SecretRef, Secrets};
use lifeboat_runbooks::names::StepId;

/// What a call is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// The step itself, or its type's own undo.
    #[default]
    Step,
    /// The undo that the runbook writes for the step: an act of its own, which goes by another key than the step's.
    WrittenUndo,
}

/// Looking: clock, inventory, secrets, and what this run's journal knows. Enough for `prepare` and `observe`.
#[derive(Clone, Debug)]
pub struct ReadContext {
    /// The run, or the plan being previewed.
    pub run: RunId,
    /// The step.
    pub step: StepId,
    /// Counted from 1; 0 in a preflight.
    pub attempt: u32,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The named things.
    pub inventory: Arc<Inventory>,
    /// What this run has done and was told so far.
    pub facts: Arc<RunFacts>,
    /// When this call is cut off.
    pub deadline: Instant,
    /// What it is made for.
    pub purpose: Purpose,
    pub(crate) secrets: Arc<dyn Secrets>,
}

impl ReadContext {
    /// Built by the executor, the planner and tests.
    #[expect(clippy::too_many_arguments, reason = "each is one capability; bundling them would only move the list")]
    #[must_use]
    pub fn new(
        run: RunId,
        step: StepId,
        attempt: u32,
        clock: Arc<dyn Clock>,
        inventory: Arc<Inventory>,
        secrets: Arc<dyn Secrets>,
        facts: Arc<RunFacts>,
        deadline: Instant,
    ) -> Self {
        Self { run, step, attempt, clock, inventory, facts, deadline, purpose: Purpose::Step, secrets }
    }

    /// The same for a written undo.
    #[must_use]
    pub fn made_for(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// The wall clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Time left before this call is cut off.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.since(self.clock.instant())
    }

    /// Waits on the injected clock.
    pub async fn sleep(&self, length: Duration) {
        self.clock.sleep(length).await;
    }

    /// Reads a secret.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn secret(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        self.secrets.read(reference)
    }

    /// The same text for every attempt of this step in this run, and another one for its written undo: name outside things by it.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        match self.purpose {
            Purpose::Step => format!("{}-{}", self.run, self.step),
            // No step has a name with a dash in it.
            Purpose::WrittenUndo => format!("{}-{}-undo", self.run, self.step),
        }
    }
}

/// Acting: everything of [`ReadContext`], and progress. Only `execute` and `undo` get one.
#[derive(Clone, Debug)]
pub struct StepContext {
    read: ReadContext,
    progress: Arc<dyn Progress>,
    turned_back: Option<Arc<TurnedBack>>,
    call: CallOfStep,
}

/// Whether a run turned back, told to those of its acts that wait for it. It never becomes untrue.
#[derive(Debug, Default)]
pub(crate) struct TurnedBack {
    turned: AtomicBool,
    told: Notify,
}

impl TurnedBack {
    /// It did.
    pub(crate) fn tell(&self) {
        self.turned.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    async fn wait(&self) {
        // In line before the look: what is told in between is not missed.
        let told = self.told.notified();
        if !self.turned.load(Ordering::Acquire) {
            told.await;
        }
    }
}

/// Whether anything of this step may have acted before this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallOfStep {
    /// Its intent was journaled a moment ago, as the first of the step, by this process.
    First,
    /// An earlier call may have begun it, also one of a process that is gone.
    Further,
}

impl StepContext {
    /// Built by the executor and tests.
    #[must_use]
    pub fn new(read: ReadContext, progress: Arc<dyn Progress>) -> Self {
        Self { read, progress, turned_back: None, call: CallOfStep::Further }
    }

    /// With a way to learn that the run was cancelled or turned back.
    #[must_use]
    pub(crate) fn told_of_turning_back(mut self, turned_back: Arc<TurnedBack>) -> Self {
        self.turned_back = Some(turned_back);
        self
    }

    /// With the knowledge that no earlier call of the step was ever made.
    #[must_use]
    pub(crate) fn first_of_its_step(mut self) -> Self {
        self.call = CallOfStep::First;
        self
    }

    /// Whether an earlier call of the step may have begun what this one is to do, so that it has to look for that. The process that made
    /// it may be gone.
    #[must_use]
    pub fn may_have_begun(&self) -> bool {
        self.call == CallOfStep::Further
    }

    /// Waits until the run is cancelled or turns back; for ever in an undo and in a `finally` step, which are wanted then. An act goes on
    /// to its end all the same: only a step that does nothing but wait may end early.
    pub async fn turned_back(&self) {
        match &self.turned_back {
            Some(turned_back) => turned_back.wait().await,
            None => std::future::pending().await,
        }
    }

    /// Tells the people watching what is going on, in a few words. Not journaled.
    pub fn progress(&self, words: &str) {
        self.progress.tell(&self.read.step, words);
    }
}

impl Deref for StepContext {
    type Target = ReadContext;
    fn deref(&self) -> &ReadContext {
        &self.read
    }
}

/// Where progress goes.
pub trait Progress: fmt::Debug + Send + Sync {
    /// A few words on what a step is doing now.
    fn tell(&self, step: &StepId, words: &str);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn tell(&self, _: &StepId, _: &str) {}
}

/// What this run's journal says, for steps that rely on earlier ones (a promotion on its fence). Looked up when first asked for: most
/// steps never ask, and a long plan has many.
#[derive(Clone, Debug, Default)]
pub struct RunFacts {
    /// The mode; empty in tests.
    pub mode: String,
    /// When the run was admitted; `None` in a preflight.
    pub started_at: Option<Timestamp>,
    /// What is known of when the outage began, given when the run was started.
    pub outage_began: Option<(Timestamp, Timestamp)>,
    /// Where the history is, until it is asked for.
    pub(crate) source: Option<crate::facts::Source>,
    pub(crate) found: OnceLock<History>,
}

/// The history that a step may rely on.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) steps: BTreeMap<StepId, StepRecord>,
    pub(crate) ancestors: Vec<StepId>,
}

impl RunFacts {
    /// Facts that are given rather than looked up.
    #[must_use]
    pub fn given(mode: String, steps: BTreeMap<StepId, StepRecord>, ancestors: Vec<StepId>) -> Self {
        Self { mode, found: OnceLock::from(History { steps, ancestors }), ..Self::default() }
    }

    /// A step that this one may rely on, or this step itself.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&StepRecord> {
        self.history().steps.get(id)
    }

    /// Ids of the steps that this step needs, directly or through others. Only these may be relied on.
    #[must_use]
    pub fn ancestors(&self) -> &[StepId] {
        &self.history().ancestors
    }

    fn history(&self) -> &History {
        self.found.get_or_init(|| self.source.as_ref().map(crate::facts::Source::history).unwrap_or_default())
    }
}

/// One step's history as later steps may rely on it.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// Its step type.
    pub step_type: String,
    /// How it stands.
    pub state: crate::run::StepState,
    /// Its parameters as resolved when it started.
    pub with: Option<Value>,
    /// Its intent.
    pub intent: Option<Value>,
    /// Its output, once succeeded.
    pub output: Option<Value>,
    /// How the output came to be known: a `done` that a person typed is no proof.
    pub proof: Proof,
    /// Approvals granted, in order.
    pub approvals: Vec<Approval>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// How an output came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// There is none yet.
    None,
    /// The step itself reported or observed it.
    Seen,
    /// A person said so.
    Said,
}

/// A person's yes.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    /// Who.
    pub by: String,
    /// Their words.
    pub comment: Option<String>,
    /// The facts they were shown.
    pub shown: Value,
    /// When.
    pub at: Timestamp,
}
