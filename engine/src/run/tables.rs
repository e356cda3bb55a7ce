//! The two transition tables: which state follows which on what. Recording and replay both go through them; all else is illegal.

use super::{RunPhase, StepState};

/// What can happen to a step, as far as its state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepChange {
    /// An attempt's intent was journaled.
    Started,
    /// People were asked.
    ApprovalRequested,
    /// Its `if` was false.
    Skipped,
    /// `prepare` said no.
    Refused,
    /// It will not be started, or was called off before it acted.
    NotRun,
    /// A yes, but not the last one needed.
    Granted,
    /// The last yes needed.
    GrantedLast,
    /// Worse facts: the answers so far do not count.
    Voided,
    /// A no.
    Denied,
    /// Silence until the end.
    Expired,
    /// Done, as executed or as observed.
    Succeeded,
    /// No effect; another attempt is due.
    FailedForNow,
    /// No effect, and no further attempt.
    Failed,
    /// The attempt's outcome was lost.
    OutcomeUnknown,
    /// A new process took the run over.
    Claimed,
    /// Observed to go on.
    InProgress,
    /// Observed as somebody else's, or not to be told.
    HeldForPerson,
    /// A person says that it is done.
    ResolvedDone,
    /// A person wants another attempt.
    ResolvedRetry,
    /// A person goes on without it.
    ResolvedSkip,
    /// A person gives it up.
    ResolvedGiveUp,
    /// An assertion over its outputs was false.
    Rejected,
    /// Its undo may act from now.
    UndoStarted,
    /// Its undo is done.
    UndoSucceeded,
    /// Its undo's outcome was lost.
    UndoOutcomeUnknown,
    /// Its effect still stands; another undo is due.
    UndoNotDone,
    /// Its undo failed for good.
    UndoFailed,
}

use StepChange as C;
use StepState as S;

/// From, on, to. Sorted by the life of a step.
pub const STEP_TABLE: &[(StepState, StepChange, StepState)] = &[
    (S::Waiting, C::Started, S::Running),
    (S::Waiting, C::ApprovalRequested, S::AwaitingApproval),
    (S::Waiting, C::Skipped, S::Skipped),
    (S::Waiting, C::Refused, S::Held),
    (S::Waiting, C::NotRun, S::NotRun),
    (S::Waiting, C::ResolvedSkip, S::Skipped),
    //
    (S::AwaitingApproval, C::Granted, S::AwaitingApproval),
    (S::AwaitingApproval, C::GrantedLast, S::Succeeded),
    (S::AwaitingApproval, C::Voided, S::AwaitingApproval),
    (S::AwaitingApproval, C::ApprovalRequested, S::AwaitingApproval),
    (S::AwaitingApproval, C::Denied, S::Failed),
    (S::AwaitingApproval, C::Expired, S::Failed),
    (S::AwaitingApproval, C::NotRun, S::NotRun),
    //
    (S::Running, C::Succeeded, S::Succeeded),
    (S::Running, C::FailedForNow, S::Backoff),
    (S::Running, C::Failed, S::Failed),
    (S::Running, C::OutcomeUnknown, S::InDoubt),
    (S::Running, C::Claimed, S::InDoubt),
    //
    (S::InDoubt, C::Succeeded, S::Succeeded),
    (S::InDoubt, C::InProgress, S::Running),
    (S::InDoubt, C::FailedForNow, S::Backoff),
    (S::InDoubt, C::Failed, S::Failed),
    (S::InDoubt, C::HeldForPerson, S::Held),
    (S::InDoubt, C::Claimed, S::InDoubt),
    // A further attempt begins with a look at what the earlier one left.
    (S::Backoff, C::Started, S::Running),
    (S::Backoff, C::ApprovalRequested, S::AwaitingApproval),
    (S::Backoff, C::Succeeded, S::Succeeded),
    (S::Backoff, C::InProgress, S::Running),
    (S::Backoff, C::HeldForPerson, S::Held),
    (S::Backoff, C::Refused, S::Held),
    (S::Backoff, C::NotRun, S::NotRun),
    (S::Backoff, C::Failed, S::Failed),
    //
    (S::Held, C::ResolvedDone, S::Succeeded),
    (S::Held, C::ResolvedRetry, S::Backoff),
    (S::Held, C::ResolvedSkip, S::Skipped),
    (S::Held, C::ResolvedGiveUp, S::Failed),
    (S::Held, C::NotRun, S::NotRun),
    (S::Held, C::Failed, S::Failed),
    (S::Failed, C::ResolvedDone, S::Succeeded),
    (S::Failed, C::ResolvedRetry, S::Backoff),
    (S::Failed, C::ResolvedSkip, S::Skipped),
    (S::Failed, C::ResolvedGiveUp, S::Failed),
    //
    (S::Succeeded, C::Rejected, S::Rejected),
    // The facts got worse after the last yes and before anything relied on it.
    (S::Succeeded, C::Voided, S::AwaitingApproval),
    (S::Rejected, C::ResolvedDone, S::Succeeded),
    (S::Rejected, C::ResolvedGiveUp, S::Rejected),
    (S::Succeeded, C::UndoStarted, S::Undoing),
    (S::Rejected, C::UndoStarted, S::Undoing),
    (S::Undoing, C::UndoSucceeded, S::Undone),
    (S::Undoing, C::UndoFailed, S::UndoFailed),
    (S::Undoing, C::UndoOutcomeUnknown, S::UndoInDoubt),
    (S::Undoing, C::UndoNotDone, S::UndoInDoubt),
    (S::Undoing, C::Claimed, S::UndoInDoubt),
    (S::UndoInDoubt, C::UndoStarted, S::Undoing),
    (S::UndoInDoubt, C::UndoSucceeded, S::Undone),
    (S::UndoInDoubt, C::UndoNotDone, S::UndoInDoubt),
    (S::UndoInDoubt, C::UndoFailed, S::UndoFailed),
    (S::UndoInDoubt, C::Claimed, S::UndoInDoubt),
    (S::UndoFailed, C::ResolvedRetry, S::UndoInDoubt),
    (S::UndoFailed, C::ResolvedDone, S::Undone),
];

/// The state that follows, if the table has it.
#[must_use]
pub fn step_after(state: StepState, change: StepChange) -> Option<StepState> {
    STEP_TABLE.iter().find(|(from, on, _)| *from == state && *on == change).map(|(_, _, to)| *to)
}

/// What can happen to a run, as far as its phase is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PhaseChange {
    /// A step left `waiting`.
    Began,
    /// Nothing can go on without a person.
    Held,
    /// A person's decision lets it go on.
    Released,
    /// It turns back or ends early.
    Unwound,
    /// Only `finally` steps remain.
    Finalising,
    /// Over.
    Ended,
    /// A person takes up a stuck run again.
    Reopened,
}

use PhaseChange as E;
use RunPhase as P;

/// From, on, to.
pub const PHASE_TABLE: &[(RunPhase, PhaseChange, RunPhase)] = &[
    (P::Admitted, E::Began, P::Running),
    (P::Admitted, E::Unwound, P::Unwinding),
    (P::Admitted, E::Finalising, P::Finalising),
    (P::Running, E::Began, P::Running),
    (P::Running, E::Held, P::Held),
    (P::Running, E::Unwound, P::Unwinding),
    (P::Running, E::Finalising, P::Finalising),
    (P::Held, E::Released, P::Running),
    (P::Held, E::Unwound, P::Unwinding),
    (P::Held, E::Finalising, P::Finalising),
    (P::Unwinding, E::Finalising, P::Finalising),
    (P::Finalising, E::Began, P::Finalising),
    (P::Finalising, E::Ended, P::Ended),
    // Only a stuck run that has an effect left behind by its undo: `Run::apply` checks it.
    (P::Ended, E::Reopened, P::Unwinding),
];

/// The phase that follows, if the table has it.
#[must_use]
pub fn phase_after(phase: RunPhase, change: PhaseChange) -> Option<RunPhase> {
    PHASE_TABLE.iter().find(|(from, on, _)| *from == phase && *on == change).map(|(_, _, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_stands_twice() {
        for (place, (from, on, _)) in STEP_TABLE.iter().enumerate() {
            let twice = STEP_TABLE.iter().skip(place + 1).any(|(f, o, _)| f == from && o == on);
            assert!(!twice, "{from:?} on {on:?} has two rows");
        }
        for (place, (from, on, _)) in PHASE_TABLE.iter().enumerate() {
            let twice = PHASE_TABLE.iter().skip(place + 1).any(|(f, o, _)| f == from && o == on);
            assert!(!twice, "{from:?} on {on:?} has two rows");
        }
    }

    #[test]
    fn an_outcome_never_leads_straight_to_another_attempt() {
        for (from, on, to) in STEP_TABLE {
            if *to == StepState::Running && *on == StepChange::Started {
                assert!(matches!(from, StepState::Waiting | StepState::Backoff), "{from:?} may not start an attempt");
            }
        }
    }

    #[test]
    fn final_states_have_no_way_out() {
        for state in [StepState::Skipped, StepState::NotRun, StepState::Undone] {
            assert!(STEP_TABLE.iter().all(|(from, _, _)| *from != state), "{state:?} has a way out");
        }
    }
}
