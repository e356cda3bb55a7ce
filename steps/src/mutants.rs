//! Promises of the step types broken on purpose, so that their tests can be seen to catch each. In the product nothing of it exists:
//! without the feature `mutants`, which only tests have, [`is`] is a constant `false`.

/// One broken promise of a step type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A replica is promoted whatever timeline it is on.
    TimelineIgnored,
    /// A loss that nobody can tell is within any limit.
    UnknownLossFits,
    /// A loss above its limit is within it.
    LossUnlimited,
    /// A fence that a person calls done, or that was skipped, is as good as one that was seen.
    SaidFenceWaits,
    /// The fence on record is not looked at again before the promotion.
    FenceNotSeenAgain,
    /// A node that is only silent counts as fenced.
    SilenceIsFenced,
    /// A record is set whatever it is by then.
    OldSetNotCompared,
    /// A record set may be empty.
    EmptySetTaken,
    /// Undo leaves the new record set.
    FormerSetForgotten,
    /// What a program says is kept with the secrets in it.
    OutputNotMasked,
}

/// Whether this promise is broken in this process.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "only tests have this code, and the test runner takes no options of ours")]
    let on = ON.get_or_init(|| std::env::var("LIFEBOAT_MUTANT").ok());
    on.as_ref().is_some_and(|on| *on == format!("{mutant:?}"))
}

/// Never: this is the product.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
