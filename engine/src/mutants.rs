//! Promises broken on purpose, one at a time, so that the suite can be seen to catch each. In the product nothing of it exists: without
//! the feature `mutants`, which only tests have, [`is`] is a constant `false`. Which promise each breaks is in the campaign's table.

/// One broken promise of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A commit that failed counts as written.
    FailedCommitIgnored,
    /// People are answered before what they asked for is durable.
    AnsweredBeforeDurable,
    /// The call leaves before its intent is durable.
    ActedBeforeIntent,
    /// A step in doubt is tried again without a look.
    BlindRetry,
    /// A timeout or a lost answer is taken for a failure.
    TimeoutIsFailure,
    /// What nobody can tell is taken for done.
    UnknownIsDone,
    /// What nobody can tell is taken for not done.
    UnknownIsNotDone,
    /// Somebody else's work is taken for done.
    ForeignIsDone,
    /// A takeover forgets that calls were under way.
    ClaimWithoutDoubt,
    /// The journal takes entries of whoever writes.
    NoFence,
    /// The lease is taken and never asked about again.
    LeaseIgnored,
    /// A claim does not ask whether the lease is still held.
    ClaimWithoutLease,
    /// The successor does not wait for the time of calls under way.
    DeadlineNotWaitedOut,
    /// One lock is not taken.
    LockNotTaken,
    /// The holder of a lock does not matter.
    HolderIgnored,
    /// A takeover gives the locks back.
    LocksGivenBackAtClaim,
    /// The end of a run keeps its locks.
    LocksLeaked,
    /// A stuck run gives its locks back.
    StuckGivesLocksBack,
    /// A fence that a person calls done is proof.
    WordIsProof,
    /// Whoever started the run may answer.
    StarterAnswers,
    /// A person counts each time.
    CountedTwice,
    /// Roles do not matter.
    RoleIgnored,
    /// A yes counts after the time is up.
    ExpiredCounts,
    /// One yes fewer is enough.
    OneYesShort,
    /// A no is no end.
    DenialIgnored,
    /// The plan is read anew at each start.
    PlanReadAnew,
    /// Drills are let through.
    DrillGuardOff,
    /// A preview acts.
    PreviewActs,
    /// Parameters have no limit.
    NoLimit,
    /// Undo goes from the first to the last.
    UndoForward,
    /// A written undo in doubt is repeated without a look.
    BlindUndo,
    /// An effect that stands on another is forgotten.
    StandingForgotten,
    /// Final steps are left out.
    FinallySkipped,
    /// A failed run succeeds.
    FailedIsSucceeded,
    /// What nobody knows does not matter at the end.
    DoubtForgotten,
    /// The point of no return is crossed without a word.
    ReturnFromNoReturn,
    /// Assertions hold.
    AssertionsHold,
    /// A pause stops nothing.
    PauseIgnored,
    /// A freeze stops nothing.
    FreezeIgnored,
    /// Lost data is reported as half of it.
    LossHalved,
    /// What a gate refuses is begun all the same.
    GateIgnored,
    /// Facts that got worse leave a yes standing.
    WorseFactsStand,
    /// What the inventory says of a resource now does not matter.
    ChangedResourceTaken,
    /// What a drill leaves behind is not compared with what was there before.
    LeftUnseen,
    /// A checkpoint counts whoever signed it.
    SignatureUnchecked,
    /// Entries that were signed for and are gone do not matter.
    CutOffUnseen,
    /// A secret shows itself where it is printed for debugging.
    SecretShown,
    /// A list that turns out longer than planned is begun.
    BoundIgnored,
    /// As many items as there are go at once.
    AtOnceIgnored,
}

#[cfg(feature = "mutants")]
mod switch {
    use super::Mutant;
    use std::cell::Cell;
    use std::sync::OnceLock;

    thread_local! {
        // A simulation lives on one thread; others go on unbroken.
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Does the work with this promise broken, on this thread.
    pub fn with<T>(mutant: Mutant, work: impl FnOnce() -> T) -> T {
        struct Mended;
        impl Drop for Mended {
            fn drop(&mut self) {
                ON.set(None);
            }
        }
        ON.set(Some(mutant));
        let _mended = Mended;
        work()
    }

    /// Broken on this thread, or in the whole process by its name in the environment: for rigs that are tests of their own.
    pub(crate) fn is(mutant: Mutant) -> bool {
        static NAMED: OnceLock<Option<String>> = OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "only tests have this code, and the test runner takes no options of ours")]
        let named = NAMED.get_or_init(|| std::env::var("LIFEBOAT_MUTANT").ok());
        ON.get() == Some(mutant) || named.as_ref().is_some_and(|named| *named == format!("{mutant:?}"))
    }
}

#[cfg(feature = "mutants")]
pub(crate) use switch::is;
#[cfg(feature = "mutants")]
pub use switch::with;

/// Never: this is the product.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
