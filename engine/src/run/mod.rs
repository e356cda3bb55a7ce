//! The state of a run and of its steps: what a journal adds up to. The two transition tables are in `tables`, the folding of
//! events in `apply`. Nothing here waits, writes or asks for the time.

mod apply;
mod brake;
pub mod index;
mod limits;
mod steps;
pub mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::census::Listing;
use crate::context::{Approval, Proof};
use crate::journal::{Actor, Back, Incident, Lock, Outcome, Output, RunId, Turn, UndoAct};
use crate::measure::Measure;
use crate::mutants::{self, Mutant};
use crate::predict::Predicted;
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{OnFailure, Plan, PlanStep, Return};

pub use apply::IllegalTransition;
pub use brake::{Brake, Frozen, Pause, asks};
use index::Index;
pub use steps::Steps;

/// How a step stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    #[default]
    Waiting,
    /// People are asked.
    AwaitingApproval,
    /// An attempt may be acting.
    Running,
    /// A further attempt is due at a known time.
    Backoff,
    /// An attempt may or may not have had its effect.
    InDoubt,
    /// A person is needed.
    Held,
    /// Done.
    Succeeded,
    /// Done, but an assertion over its outputs was false.
    Rejected,
    /// Not done. Final once a person gave it up or its rule says so.
    Failed,
    /// Its own `if` was false, or a person skipped it.
    Skipped,
    /// Never started, and never will be.
    NotRun,
    /// Its effect is being taken back.
    Undoing,
    /// Its effect is taken back.
    Undone,
    /// Its effect could not be taken back.
    UndoFailed,
    /// The undo may or may not have had its effect.
    UndoInDoubt,
}

impl StepState {
    /// The word of the language: `steps.X.state`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::InDoubt => "in_doubt",
            Self::Held => "held",
            Self::Succeeded => "succeeded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotRun => "not_run",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo_failed",
            Self::UndoInDoubt => "undo_in_doubt",
        }
    }

    /// Whether an attempt or an undo may be acting, or may have acted without our knowing.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Running | Self::InDoubt | Self::Undoing | Self::UndoInDoubt => true,
            Self::Waiting
            | Self::AwaitingApproval
            | Self::Backoff
            | Self::Held
            | Self::Succeeded
            | Self::Rejected
            | Self::Failed
            | Self::Skipped
            | Self::NotRun
            | Self::Undone
            | Self::UndoFailed => false,
        }
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Accepted; nothing begun.
    #[default]
    Admitted,
    /// Steps go on.
    Running,
    /// Nothing goes on without a person.
    Held,
    /// Nothing more is started; what is done is undone or kept.
    Unwinding,
    /// Only `finally` steps remain.
    Finalising,
    /// Over.
    Ended,
}

impl RunPhase {
    /// The word people read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Running => "running",
            Self::Held => "held",
            Self::Unwinding => "unwinding",
            Self::Finalising => "finalising",
            Self::Ended => "ended",
        }
    }
}

/// The question to people, as asked last.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Any of these roles.
    pub roles: Vec<String>,
    /// Distinct people needed.
    pub count: u32,
    /// The facts shown.
    pub shown: Value,
    /// Their digest.
    pub facts: String,
    /// The outputs that the facts were taken from, as they were then.
    pub outputs: BTreeMap<StepId, Value>,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When the answer becomes no.
    pub expires_at: Timestamp,
}

/// One step of a run.
#[derive(Clone, Debug, Default)]
pub struct StepRun {
    /// How it stands.
    pub state: StepState,
    /// Attempts begun.
    pub attempts: u32,
    /// How often an attempt was under way when its process died: not the step's failure, so it is made up for.
    pub cut_short: u32,
    /// How often the last attempt was found to go on by itself.
    pub adoptions: u32,
    /// Whether an effect may exist that nobody has confirmed or ruled out.
    pub doubtful: bool,
    /// Whether a failure is final: a person gave up, or nobody is asked.
    pub given_up: bool,
    /// Parameters of the last attempt.
    pub with: Option<Arc<Value>>,
    /// Intent of the last attempt.
    pub intent: Option<Value>,
    /// Output as journaled.
    pub output: Option<Output>,
    /// Output as a value; large ones are loaded by whoever replays.
    pub value: Option<Value>,
    /// How the output came to be known.
    pub proof: Option<Proof>,
    /// What the output says.
    pub measures: Vec<Measure>,
    /// Why it failed, was refused, held, skipped or not run, as told last.
    pub why: Option<String>,
    /// When a further attempt, or a further undo, is due. `None` for an undo in doubt that is still to be looked at.
    pub retry_at: Option<Timestamp>,
    /// Undos begun, counted anew after a person's decision.
    pub undos: u32,
    /// What the last written undo was to do.
    pub undo_act: Option<Box<UndoAct>>,
    /// When its output was measured last: as the step ended, or again for people who are asked.
    pub measured_at: Option<Timestamp>,
    /// The open or last question to people.
    pub ask: Option<Box<Ask>>,
    /// Answers that count.
    pub approvals: Vec<Approval>,
    /// Whether an assertion over its outputs was ever false.
    pub was_rejected: bool,
    /// Time that it waited for a person, in milliseconds: asked, held, or failed until somebody decided.
    pub waited_ms: u64,
    /// When its effect was known to be there; kept when it is taken back.
    pub succeeded_at: Option<Timestamp>,
    /// First attempt or question.
    pub started_at: Option<Timestamp>,
    /// Last change of state.
    pub changed_at: Option<Timestamp>,
}

/// A run: what its journal adds up to.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The pinned plan.
    pub plan: Arc<Plan>,
    /// How it stands.
    pub phase: RunPhase,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it ended, is held or turns back, as told last.
    pub why: Option<String>,
    /// Every step, also of `finally`. Shared with calls under way, which may ask what earlier steps did.
    pub steps: Steps,
    /// Locks taken at admission.
    pub locks: Vec<Lock>,
    /// Who started it.
    pub started_by: Option<Actor>,
    /// When it was admitted.
    pub admitted_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What was known of the incident.
    pub incident: Incident,
    /// The step whose intent crossed the point of no return.
    pub no_return: Option<StepId>,
    /// Why it turned back, and what happens with effects.
    pub turn: Option<(Turn, Back)>,
    /// When its first steps could begin: admitted, and in a drill the peers listed.
    pub ready_at: Option<Timestamp>,
    /// Whether it was ever paused or met a freeze: its timings are not those of its steps then.
    pub was_paused: bool,
    /// What a drill found before it began.
    pub listed_before: Option<Vec<Listing>>,
    /// What a drill found once everything was put back.
    pub listed_after: Option<Vec<Listing>>,
    /// How long it was expected to take.
    pub predicted: Option<Box<Predicted>>,
    /// A person asked to stop.
    pub cancelled_by: Option<Actor>,
    /// A person stopped it for a while.
    pub paused: Option<Pause>,
    /// Freezes that it met and that are not over.
    pub frozen: Vec<Frozen>,
    /// Since when its timers stand still.
    pub still_since: Option<Timestamp>,
    /// How long they stood still before that, in all.
    pub stood_still: SignedDuration,
    /// How often a new process took it over.
    pub claims: u32,
    /// Whether a person gave up the locks of a stuck run.
    pub locks_released: bool,
    /// Entries folded so far.
    pub entries: u64,
    /// Which steps have to be looked at.
    index: Index,
}

impl Run {
    /// A run of this plan before its first entry.
    #[must_use]
    pub fn new(id: RunId, plan: Arc<Plan>) -> Self {
        let steps = Steps::fresh(&plan);
        let index = Index::new(&plan);
        Self {
            id,
            plan,
            phase: RunPhase::Admitted,
            outcome: None,
            why: None,
            steps,
            locks: Vec::new(),
            started_by: None,
            admitted_at: None,
            ended_at: None,
            incident: Incident::default(),
            no_return: None,
            turn: None,
            ready_at: None,
            was_paused: false,
            listed_before: None,
            listed_after: None,
            predicted: None,
            cancelled_by: None,
            paused: None,
            frozen: Vec::new(),
            still_since: None,
            stood_still: SignedDuration::ZERO,
            claims: 0,
            locks_released: false,
            entries: 0,
            index,
        }
    }

    /// Which steps have to be looked at.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The index as plan and states alone give it: what [`Run::index`] must be at any time.
    #[must_use]
    pub fn index_anew(&self) -> Index {
        let mut index = Index::new(&self.plan);
        for (place, record) in self.steps.values().enumerate() {
            index.update(place, record);
        }
        index
    }

    /// How a step stands; `Waiting` for one that the plan does not have.
    #[must_use]
    pub fn state(&self, step: &StepId) -> StepState {
        self.steps.get(step).map_or(StepState::Waiting, |step| step.state)
    }

    /// Whether it is a drill.
    #[must_use]
    pub fn is_drill(&self) -> bool {
        self.plan.mode == DRILL
    }

    /// Whether undo and abort are still open: the point of no return is not crossed, or does not count because this is a drill.
    #[must_use]
    pub fn can_turn_back(&self) -> bool {
        self.no_return.is_none() || self.is_drill() || mutants::is(Mutant::ReturnFromNoReturn)
    }

    /// What the end of the whole run by a person or its deadline leads to now. A drill always puts everything back.
    #[must_use]
    pub fn run_rule(&self) -> OnFailure {
        if self.is_drill() {
            OnFailure::Undo
        } else if self.can_turn_back() {
            self.plan.on_failure
        } else {
            OnFailure::Hold
        }
    }

    /// What a failure of this step leads to now. Once the run cannot turn back a person decides; a drill turns back by itself, unless
    /// the step itself says `on_failure: hold`.
    #[must_use]
    pub fn failure_rule(&self, step: &PlanStep) -> OnFailure {
        match (self.is_drill(), step.on_failure) {
            (true, Some(OnFailure::Hold)) => OnFailure::Hold,
            (true, Some(OnFailure::Undo | OnFailure::Abort) | None) => OnFailure::Undo,
            (false, rule) if self.can_turn_back() => rule.unwrap_or(self.plan.on_failure),
            (false, _) => OnFailure::Hold,
        }
    }

    /// Whether the run has its locks.
    #[must_use]
    pub fn holds_locks(&self) -> bool {
        match (self.phase, self.outcome) {
            (RunPhase::Ended, Some(Outcome::Stuck)) => !self.locks_released,
            (RunPhase::Ended, Some(Outcome::Succeeded | Outcome::Failed | Outcome::Undone | Outcome::Cancelled) | None) => false,
            (RunPhase::Admitted | RunPhase::Running | RunPhase::Held | RunPhase::Unwinding | RunPhase::Finalising, _) => true,
        }
    }
}

/// The reserved mode.
pub const DRILL: &str = "drill";

/// The gravest effect that a step can have on anything.
#[must_use]
pub fn effect_of(step: &PlanStep) -> Effect {
    step.touches.iter().map(|touch| touch.effect).max().unwrap_or(Effect::Read)
}

/// Whether there is something to take back once a step is done: it changes what it grips, or its runbook writes how it is taken back.
#[must_use]
pub fn leaves_effect(step: &PlanStep) -> bool {
    effect_of(step) > Effect::Read || step.written_undo().is_some()
}

/// Whether a step crosses the point of no return when it starts.
#[must_use]
pub fn crosses(step: &PlanStep) -> bool {
    match step.point_of_no_return {
        Return::NoReturn => true,
        Return::Possible => false,
    }
}
