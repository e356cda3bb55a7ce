//! Promises of the store broken on purpose, so that its rigs can be seen to catch each. In the product nothing of it exists: without the
//! feature `mutants`, which only tests have, [`is`] is a constant `false`.

/// One broken promise of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A commit is acknowledged before the disk has it.
    SyncSkipped,
    /// Records are read without holding them against the chain.
    ChainUnchecked,
    /// The place that a commit expects does not matter.
    PlaceUnchecked,
    /// A record may be as large as it likes.
    LimitUnchecked,
}

/// Whether this promise is broken in this process: the rigs start processes of their own, which inherit the name.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    static ON: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let on = ON.get_or_init(|| std::env::var_os("LIFEBOAT_MUTANT").and_then(|name| name.into_string().ok()));
    on.as_ref().is_some_and(|on| *on == format!("{mutant:?}"))
}

/// Never: this is the product.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
