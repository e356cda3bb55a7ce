//! What happened in a run, in order: its events, and the words they use. Their stored form is in `entry`; what they lead to is in `run`.

mod entry;
mod run_id;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::census::{Listing, Moment};
use crate::evidence::Evidence;
use crate::measure::Measure;
use crate::predict::Predicted;
use lifeboat_runbooks::names::{Effect, StepId};

pub use entry::{ENTRY_FORMAT, Entry, EntryError};
pub use run_id::{RUN_ID_BYTES_MAX, RunId};

/// Who did something, and how they reached us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The person of the inventory, where the system user is one.
    pub person: Option<String>,
    /// The system user, as the kernel told it.
    pub system_user: String,
    /// `terminal` or `control socket`.
    pub via: String,
}

impl Actor {
    /// What people read.
    #[must_use]
    pub fn name(&self) -> &str {
        self.person.as_deref().unwrap_or(&self.system_user)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every step is done or was skipped as planned.
    Succeeded,
    /// A step failed; nothing was undone.
    Failed,
    /// What was done is undone.
    Undone,
    /// A person stopped it.
    Cancelled,
    /// A person is needed; locks are kept.
    Stuck,
}

/// What a person decided about a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resolution {
    /// It is done, with these outputs.
    Done {
        /// Checked against the step type's schema.
        outputs: Value,
    },
    /// Try again.
    Retry,
    /// Go on without it.
    Skip,
    /// It has failed for good.
    GiveUp,
}

/// Why a run turns back or ends early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Turn {
    /// A person cancelled.
    Cancelled,
    /// A step failed and its rule says so.
    StepFailed {
        /// Which.
        step: StepId,
    },
    /// The run's deadline passed.
    DeadlinePassed,
    /// A drill puts everything back.
    DrillEnded,
    /// A live run needs what this run has locked.
    Preempted {
        /// The live run.
        by: RunId,
    },
}

/// What unwinding does with effects that stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// Takes them back, in reverse order.
    Undo,
    /// Leaves them.
    Keep,
}

/// A lock that admission took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The resource.
    pub resource: String,
    /// The gravest effect that the run may have on it.
    pub effect: Effect,
}

/// What was known when the run was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Service ended between these instants.
    #[serde(default)]
    pub outage_began: Option<(Timestamp, Timestamp)>,
    /// A monitor called it.
    #[serde(default)]
    pub detected_at: Option<Timestamp>,
    /// A person or an armed rule called it a disaster.
    #[serde(default)]
    pub declared_at: Option<Timestamp>,
}

/// What a written undo is about to do, prepared as a step is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoAct {
    /// Parameters with every expression resolved.
    pub with: Value,
    /// What `prepare` wants known after a crash.
    pub intent: Value,
    /// Why it may start.
    pub evidence: Evidence,
}

/// One thing that happened. Past tense; steps by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The run was accepted, with its locks.
    RunAdmitted {
        /// The run.
        run: RunId,
        /// Digest of the kept plan.
        plan: String,
        /// Digest of the structure.
        structure: String,
        /// Digest of the binding.
        binding: String,
        /// Name of the runbook, for lists.
        runbook: String,
        /// The mode, for lists.
        mode: String,
        /// Who asked.
        by: Actor,
        /// Locks taken in the same commit.
        locks: Vec<Lock>,
        /// What was known of the incident.
        incident: Incident,
        /// How long it was expected to take, from the timings of earlier runs; absent where none were known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        predicted: Option<Box<Predicted>>,
    },
    /// A drill listed what there is on the resources that it may change, as their peers answered.
    PeersListed {
        /// When.
        moment: Moment,
        /// One for each resource and each type of step that may change it.
        listings: Vec<Listing>,
    },
    /// A new process took the run over.
    RunClaimed {
        /// The process that died, as far as known.
        why: String,
    },
    /// A step's intent; its effect may follow at once.
    StepStarted {
        /// The step.
        step: StepId,
        /// Counted from 1.
        attempt: u32,
        /// Parameters with every expression resolved.
        with: Value,
        /// What `prepare` wants known after a crash.
        intent: Value,
        /// Why it may start.
        evidence: Evidence,
    },
    /// `prepare` said no, or an expression could not be evaluated.
    StepRefused {
        /// The step.
        step: StepId,
        /// A sentence that a person understands.
        why: String,
        /// What was seen.
        evidence: Evidence,
    },
    /// The step's own `if` was false.
    StepSkipped {
        /// The step.
        step: StepId,
        /// The expression.
        why: String,
    },
    /// It will not be started in this run.
    StepNotRun {
        /// The step.
        step: StepId,
        /// Why.
        why: String,
    },
    /// It is done.
    StepSucceeded {
        /// The step.
        step: StepId,
        /// Its output, or where it is kept.
        output: Output,
        /// What the output says of recovery time and data loss.
        measures: Vec<Measure>,
        /// How it is known.
        seen: Seen,
    },
    /// The attempt had no effect.
    StepFailed {
        /// The step.
        step: StepId,
        /// Why.
        why: String,
        /// What was seen.
        evidence: Evidence,
        /// When the next attempt is due, if there is one.
        retry_at: Option<Timestamp>,
    },
    /// The attempt may or may not have had its effect.
    StepInDoubt {
        /// The step.
        step: StepId,
        /// What was lost.
        why: String,
    },
    /// Observed: it goes on; `execute` adopts it.
    StepInProgress {
        /// The step.
        step: StepId,
    },
    /// Observed: somebody else's work, or it cannot be told.
    StepHeld {
        /// The step.
        step: StepId,
        /// Why a person is needed.
        why: String,
        /// What was seen.
        evidence: Evidence,
    },
    /// An assertion over the outputs was false; the effect stands.
    StepRejected {
        /// The step.
        step: StepId,
        /// The assertion.
        assertion: String,
    },
    /// A person decided.
    StepResolved {
        /// The step.
        step: StepId,
        /// What.
        resolution: Resolution,
        /// Who.
        by: Actor,
        /// Why: required.
        comment: String,
    },
    /// People are asked.
    ApprovalRequested {
        /// The step.
        step: StepId,
        /// Any of these roles; empty means any enrolled person.
        roles: Vec<String>,
        /// Distinct people needed.
        count: u32,
        /// The facts shown.
        shown: Value,
        /// Their digest, which every grant carries.
        facts: String,
        /// When the answer becomes no.
        expires_at: Timestamp,
    },
    /// One person's yes.
    ApprovalGranted {
        /// The step.
        step: StepId,
        /// Who.
        by: Actor,
        /// Their words.
        comment: Option<String>,
        /// Digest of the facts they were shown.
        facts: String,
    },
    /// The facts got worse; grants no longer count, and people are asked again.
    ApprovalVoided {
        /// The step.
        step: StepId,
        /// What changed.
        why: String,
    },
    /// A step that only looks was asked again for the facts that people are shown; this is its output from now on.
    FactsRemeasured {
        /// The step that measures.
        step: StepId,
        /// What it measured now, or where that is kept.
        output: Output,
        /// What the output says of recovery time and data loss.
        measures: Vec<Measure>,
    },
    /// One person's no: final.
    ApprovalDenied {
        /// The step.
        step: StepId,
        /// Who.
        by: Actor,
        /// Their words.
        comment: Option<String>,
    },
    /// Nobody answered in time: no.
    ApprovalExpired {
        /// The step.
        step: StepId,
    },
    /// A person asked to stop.
    CancelRequested {
        /// Who.
        by: Actor,
        /// Why.
        comment: Option<String>,
    },
    /// A person stopped the run for a while: no step and no undo starts, what acts goes on to its end.
    RunPaused {
        /// Who.
        by: Actor,
        /// Why.
        comment: String,
    },
    /// A person lets it go on.
    RunContinued {
        /// Who.
        by: Actor,
        /// Why.
        comment: String,
    },
    /// The run met a freeze: from here on no step of it that is concerned starts or is taken back.
    RunFrozen {
        /// The resource; `None` for everything.
        resource: Option<String>,
        /// Who froze it; `None` where the freezes cannot be read, which counts as frozen.
        by: Option<Actor>,
        /// Why.
        why: String,
        /// Step types of this plan that may change anything although they name no resource.
        blind: Vec<String>,
    },
    /// That freeze is over.
    RunThawed {
        /// The resource; `None` for everything.
        resource: Option<String>,
        /// Who lifted it; `None` where the freezes can be read again.
        by: Option<Actor>,
        /// Why.
        why: String,
    },
    /// Nothing can go on without a person.
    RunHeld {
        /// What waits.
        why: String,
    },
    /// A person's decision lets it go on.
    RunReleased,
    /// Nothing more is started; what is done is undone or kept.
    UnwindingStarted {
        /// Why.
        turn: Turn,
        /// What happens with what is done.
        back: Back,
    },
    /// The undo of a step may act from now.
    UndoStarted {
        /// The step.
        step: StepId,
        /// What is done where the runbook writes the undo; absent for the step type's own undo, and where a written one was refused
        /// before it could begin. Since format 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        act: Option<Box<UndoAct>>,
    },
    /// Its effect is taken back.
    UndoSucceeded {
        /// The step.
        step: StepId,
    },
    /// The undo may or may not have had its effect.
    UndoInDoubt {
        /// The step.
        step: StepId,
        /// What was lost.
        why: String,
    },
    /// The effect still stands; it is taken back once more.
    UndoNotDone {
        /// The step.
        step: StepId,
        /// Why it was not taken back.
        why: String,
        /// When the next try is due.
        retry_at: Timestamp,
    },
    /// Its effect is left behind.
    UndoFailed {
        /// The step.
        step: StepId,
        /// Why.
        why: String,
    },
    /// Only the `finally` steps remain.
    FinalisingStarted,
    /// It ended.
    RunEnded {
        /// How.
        outcome: Outcome,
        /// A sentence for people.
        why: String,
    },
    /// A person takes up a stuck run again, to take back what was left behind. It has its locks still.
    RunReopened {
        /// Who.
        by: Actor,
        /// Why.
        comment: String,
    },
    /// A person gave up the locks of a stuck run.
    RunReleasedLocks {
        /// Who.
        by: Actor,
        /// Why.
        comment: String,
    },
}

impl Event {
    /// The step that it is about, if it is about one.
    #[must_use]
    pub fn step(&self) -> Option<&StepId> {
        match self {
            Self::StepStarted { step, .. }
            | Self::StepRefused { step, .. }
            | Self::StepSkipped { step, .. }
            | Self::StepNotRun { step, .. }
            | Self::StepSucceeded { step, .. }
            | Self::StepFailed { step, .. }
            | Self::StepInDoubt { step, .. }
            | Self::StepInProgress { step }
            | Self::StepHeld { step, .. }
            | Self::StepRejected { step, .. }
            | Self::StepResolved { step, .. }
            | Self::ApprovalRequested { step, .. }
            | Self::ApprovalGranted { step, .. }
            | Self::ApprovalVoided { step, .. }
            | Self::FactsRemeasured { step, .. }
            | Self::ApprovalDenied { step, .. }
            | Self::ApprovalExpired { step }
            | Self::UndoStarted { step, .. }
            | Self::UndoSucceeded { step }
            | Self::UndoInDoubt { step, .. }
            | Self::UndoNotDone { step, .. }
            | Self::UndoFailed { step, .. } => Some(step),
            Self::RunAdmitted { .. }
            | Self::PeersListed { .. }
            | Self::RunClaimed { .. }
            | Self::CancelRequested { .. }
            | Self::RunPaused { .. }
            | Self::RunContinued { .. }
            | Self::RunFrozen { .. }
            | Self::RunThawed { .. }
            | Self::RunHeld { .. }
            | Self::RunReleased
            | Self::UnwindingStarted { .. }
            | Self::FinalisingStarted
            | Self::RunEnded { .. }
            | Self::RunReopened { .. }
            | Self::RunReleasedLocks { .. } => None,
        }
    }

    /// The digest of the kept value that it names, if it names one: as long as it is in a journal, the value is not thrown away.
    #[must_use]
    pub fn keeps(&self) -> Option<&str> {
        match self {
            Self::RunAdmitted { plan, .. } => Some(plan),
            Self::StepSucceeded { output: Output::Kept { digest, .. }, .. }
            | Self::FactsRemeasured { output: Output::Kept { digest, .. }, .. } => Some(digest),
            Self::StepSucceeded { output: Output::Inline(_), .. }
            | Self::PeersListed { .. }
            | Self::FactsRemeasured { output: Output::Inline(_), .. }
            | Self::RunPaused { .. }
            | Self::RunContinued { .. }
            | Self::RunFrozen { .. }
            | Self::RunThawed { .. }
            | Self::UndoInDoubt { .. }
            | Self::UndoNotDone { .. }
            | Self::RunReopened { .. }
            | Self::RunClaimed { .. }
            | Self::StepStarted { .. }
            | Self::StepRefused { .. }
            | Self::StepSkipped { .. }
            | Self::StepNotRun { .. }
            | Self::StepFailed { .. }
            | Self::StepInDoubt { .. }
            | Self::StepInProgress { .. }
            | Self::StepHeld { .. }
            | Self::StepRejected { .. }
            | Self::StepResolved { .. }
            | Self::ApprovalRequested { .. }
            | Self::ApprovalGranted { .. }
            | Self::ApprovalVoided { .. }
            | Self::ApprovalDenied { .. }
            | Self::ApprovalExpired { .. }
            | Self::CancelRequested { .. }
            | Self::RunHeld { .. }
            | Self::RunReleased
            | Self::UnwindingStarted { .. }
            | Self::UndoStarted { .. }
            | Self::UndoSucceeded { .. }
            | Self::UndoFailed { .. }
            | Self::FinalisingStarted
            | Self::RunEnded { .. }
            | Self::RunReleasedLocks { .. } => None,
        }
    }
}

/// How a success is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The call returned it.
    Executed,
    /// It was found in the world afterwards.
    Observed,
}

/// An output, or where it is kept when it is large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Output {
    /// Here.
    Inline(Value),
    /// In the store, under this digest; so many bytes of JSON.
    Kept {
        /// 64 hexadecimal digits.
        digest: String,
        /// Size.
        bytes: u64,
    },
}
