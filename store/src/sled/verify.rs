//! Walking a whole store and naming what does not fit. It mends nothing.

use crate::{Digest, LogHead, LogId, Seq, StoreError};

use super::layout::Head;
use super::{Shared, read};

/// What a walk over every log and every kept value found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Each log whose chain holds from its first record to its head.
    pub logs: Vec<LogHead>,
    /// Records in those logs.
    pub records: u64,
    /// Kept values that have their digest.
    pub kept: Vec<Digest>,
    /// What does not fit, one sentence each, with the log or value and the place. Empty means that the store is sound.
    pub damage: Vec<String>,
}

/// Heads looked up in one go.
const LOGS_AT_ONCE: usize = 1000;

pub(super) fn verify(shared: &Shared) -> Result<Verified, StoreError> {
    let mut verified = Verified::default();
    let mut after = None;
    loop {
        let heads = shared.heads("", after.as_ref(), LOGS_AT_ONCE)?;
        let Some((last, _)) = heads.last() else { break };
        after = Some(last.clone());
        for (log, head) in heads {
            match walk(shared, &log, &head) {
                Ok(()) => {
                    verified.records += head.next.0 - head.first.0;
                    verified.logs.push(LogHead { log, first: head.first, next: head.next, chain: head.chain });
                }
                Err(StoreError::Damaged { what, .. }) => verified.damage.push(what),
                Err(other) => return Err(other),
            }
        }
    }
    for digest in shared.kept.digests()? {
        match shared.kept.read(&digest) {
            Ok(_) => verified.kept.push(digest),
            Err(StoreError::Damaged { what, .. }) => verified.damage.push(what),
            Err(other) => return Err(other),
        }
    }
    Ok(verified)
}

fn walk(shared: &Shared, log: &LogId, head: &Head) -> Result<(), StoreError> {
    let mut place = head.first;
    loop {
        let last = shared.unless_rewritten(log, head, || read::proven_from(&shared.reader(), log, head, place))?;
        match last.flatten() {
            Some(last) => place = Seq(last.0 + 1),
            // At the end; or the log was truncated or removed meanwhile, and what this walk began with is no more.
            None => return Ok(()),
        }
    }
}
