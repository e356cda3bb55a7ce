//! What happened in a run, in order: events, entries and their stored form. What they lead to is in `run`.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::census::{Listing, Moment};
use crate::evidence::Evidence;
use crate::measure::Measure;
use crate::predict::Predicted;
use lifeboat_runbooks::names::{Effect, StepId};

/// Version of the stored form of an entry.
pub const ENTRY_FORMAT: u16 = 1;

/// Names a run so that lists sort by time and people can read it aloud: `20261122t233105-orders-failover-x7k2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Arc<str>);

/// Longest run id, in bytes.
pub const RUN_ID_BYTES_MAX: usize = 100;

impl RunId {
    /// Checks the form: `[a-z0-9-]`, 1 to 100 characters.
    ///
    /// # Errors
    /// The text that is no run id.
    pub fn new(text: &str) -> Result<Self, String> {
        let fits = !text.is_empty()
            && text.len() <= RUN_ID_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.into())) } else { Err(format!("{text:?} is no run id: lower-case letters, digits and - (100 at most)")) }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
    },
    /// Its effect is taken back.
    UndoSucceeded {
        /// The step.
        step: StepId,
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
            | Self::ApprovalDenied { step, .. }
            | Self::ApprovalExpired { step }
            | Self::UndoStarted { step }
            | Self::UndoSucceeded { step }
            | Self::UndoFailed { step, .. } => Some(step),
            Self::RunAdmitted { .. }
            | Self::PeersListed { .. }
            | Self::RunClaimed { .. }
            | Self::CancelRequested { .. }
            | Self::RunHeld { .. }
            | Self::RunReleased
            | Self::UnwindingStarted { .. }
            | Self::FinalisingStarted
            | Self::RunEnded { .. }
            | Self::RunReleasedLocks { .. } => None,
        }
    }

    /// The digest of the kept value that it names, if it names one: as long as it is in a journal, the value is not thrown away.
    #[must_use]
    pub fn keeps(&self) -> Option<&str> {
        match self {
            Self::RunAdmitted { plan, .. } => Some(plan),
            Self::StepSucceeded { output: Output::Kept { digest, .. }, .. } => Some(digest),
            Self::StepSucceeded { output: Output::Inline(_), .. }
            | Self::PeersListed { .. }
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

/// An event with who wrote it and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`ENTRY_FORMAT`].
    pub format: u16,
    /// The wall clock of the writer.
    pub at: Timestamp,
    /// The writing process: new at every start.
    pub owner: String,
    /// What happened.
    pub event: Event,
}

/// An entry that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Written by a newer program.
    #[error("entry has format {found}; this program reads up to {ENTRY_FORMAT}")]
    Newer {
        /// Its format.
        found: u64,
    },
    /// Not an entry.
    #[error("entry cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

impl Entry {
    /// The stored form.
    ///
    /// # Errors
    /// Where a value cannot be written as JSON (a map key that is no text: our mistake, but not worth a crash in a disaster).
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        serde_json::to_vec(self).map_err(EntryError::Unreadable)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// A newer format is told apart from damage, so that the message can say which program to use.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let entry: Result<Self, _> = serde_json::from_slice(bytes);
        let format = match &entry {
            Ok(entry) => Some(u64::from(entry.format)),
            Err(_) => serde_json::from_slice::<Value>(bytes).ok().and_then(|value| value.get("format")?.as_u64()),
        };
        match format {
            // Also where it can be read: what it says may mean something else by then.
            Some(found) if found > u64::from(ENTRY_FORMAT) => Err(EntryError::Newer { found }),
            Some(_) | None => entry.map_err(EntryError::Unreadable),
        }
    }
}
