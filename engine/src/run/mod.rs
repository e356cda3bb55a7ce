//! The state of a run and of its steps: what a journal adds up to. The two transition tables are in `tables`.

use serde::{Deserialize, Serialize};

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
    /// Not done, for good.
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
