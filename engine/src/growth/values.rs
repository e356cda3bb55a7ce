//! Kept values that no record names any more are thrown away. A value that was kept just now stays: whoever keeps one names it a moment
//! later, and a run that is being admitted keeps its plan before its first entry.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

use lifeboat_store::{Digest, Forgotten, Seen, Store, StoreError, Walk};

/// How long a value may wait to be named. Between keeping and naming lie some commits; this bears a machine that sleeps in between.
const GRACE: Duration = Duration::from_secs(3600);

/// Digits of a digest.
const DIGITS: usize = 64;

/// Throws away what nothing names; answers how many values.
///
/// # Errors
/// Where a log cannot be read: then nothing is thrown away, because what it names is not known.
pub async fn collect(store: &dyn Store) -> Result<u64, StoreError> {
    // Listed first: what is kept from here on is named by a record that is read below, or was kept just now.
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

/// Everything in any log that reads like a digest. Who names a value need not be known here, so no kind of record can be overlooked; a value
/// that is kept for nothing now and then does no harm.
async fn named(store: &dyn Store) -> Result<HashSet<Digest>, StoreError> {
    let mut named = HashSet::new();
    let mut walk = Walk::new(store, store.logs("", None, NonZeroU32::MAX).await?, Vec::new());
    while let Some(seen) = walk.next().await? {
        match seen {
            Seen::Record { record, .. } | Seen::Carry { record, .. } => digests_in(&record.0, &mut named),
            Seen::Log(_) | Seen::Value { .. } => {}
            Seen::Problem(problem) => {
                let folder = problem.log.map_or_else(|| "the store".into(), |log| format!("log {log}"));
                return Err(StoreError::Damaged { folder, what: problem.what });
            }
        }
    }
    Ok(named)
}

fn digests_in(bytes: &[u8], named: &mut HashSet<Digest>) {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    for digits in bytes.split(|byte| !is_digit(byte)).filter(|digits| digits.len() >= DIGITS) {
        let words = digits.windows(DIGITS).filter_map(|word| std::str::from_utf8(word).ok());
        named.extend(words.filter_map(Digest::parse));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_reads_like_a_digest_counts_as_one() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut named = HashSet::new();
        digests_in(format!("{{\"plan\":\"{a}\",\"more\":[\"0{b}\"],\"short\":\"abc\"}}").as_bytes(), &mut named);
        assert!(named.contains(&a) && named.contains(&b));
        let mut none = HashSet::new();
        digests_in(b"{\"digest\":\"ABCDEF\",\"n\":12345}", &mut none);
        assert!(none.is_empty());
    }
}
