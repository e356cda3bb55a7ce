//! Kept values that no journal names any more are thrown away. A value that was kept just now stays: whoever keeps one names it a moment
//! later, and a run that is being admitted keeps its plan before its first entry.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::history::{self, HistoryError};
use lifeboat_store::{Digest, Forgotten, Store};

/// How long a value may wait to be named. Between keeping and naming lie some commits; this bears a machine that sleeps in between.
const GRACE: Duration = Duration::from_secs(3600);

/// Throws away what nothing names; answers how many values.
///
/// # Errors
/// Where a journal cannot be read: then nothing is thrown away, because what it names is not known.
pub async fn collect(store: &dyn Store) -> Result<u64, HistoryError> {
    // Listed first: what is kept from here on is named by a journal that is read below, or was kept just now.
    let kept = store.kept_values(None, NonZeroU32::MAX).await?;
    let named = named(store).await?;
    let mut gone = 0;
    for digest in kept.into_iter().filter(|digest| !named.contains(digest)) {
        gone += match store.forget(&digest, GRACE).await? {
            Forgotten::Gone => 1,
            Forgotten::KeptJustNow => 0,
        };
    }
    Ok(gone)
}

/// Every value that a journal in the store names.
///
/// # Errors
/// Where a journal cannot be read.
pub async fn named(store: &dyn Store) -> Result<HashSet<Digest>, HistoryError> {
    let mut named = HashSet::new();
    for run in history::list(store).await? {
        let (entries, _) = history::entries(store, &run).await?;
        named.extend(entries.iter().filter_map(|entry| entry.event.keeps()).filter_map(Digest::parse));
    }
    Ok(named)
}
