//! What keeps a store from growing for ever: short logs are folded, finished runs go to an archive file (`compact`), values that nothing names
//! are thrown away (`values`), and a disk that fills up is told in time (`disk`).

pub mod compact;
pub mod disk;
pub mod sample;
pub mod values;

use std::num::NonZeroU32;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::history::{self, LockRecord, LockState, OpenRecord};
use crate::journal::{Lock, Outcome, RunId};
use lifeboat_store::{LogId, RECORD_BYTES_MAX, Record, Seq, Store, StoreError};

/// A log of the engine is folded once it has so many records: often enough to be read at once, seldom enough to cost nothing.
const FOLD_AT: usize = 256;

/// Records at the end of the log of open runs that are never folded: what ended lately is looked after by the next process.
const FOLD_KEEPS: u64 = 64;

/// A run that was compacted away: what lists and audits still need of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRecord {
    /// The run.
    pub run: RunId,
    /// Its runbook.
    pub runbook: String,
    /// Its mode.
    pub mode: String,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was admitted.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Who started it.
    pub started_by: String,
    /// Entries of its journal.
    pub entries: u64,
    /// The hash chain after the last of them.
    pub chain: String,
    /// The archive file that holds it, without its folder.
    pub file: String,
}

/// The log of compacted runs.
///
/// # Errors
/// Never.
pub fn archive_log() -> Result<LogId, StoreError> {
    LogId::new("archive")
}

/// Compacted runs, the newest first: at most `limit`, and only those that were archived before place `before`. Nothing else is read.
///
/// # Errors
/// Where the store fails or the log holds something else.
pub async fn archived(store: &dyn Store, before: Option<Seq>, limit: NonZeroU32) -> Result<Vec<(Seq, ArchiveRecord)>, StoreError> {
    let log = archive_log()?;
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    let Some(head) = heads.into_iter().find(|head| head.log == log) else { return Ok(Vec::new()) };
    let end = before.map_or(head.next, |before| before.min(head.next));
    let mut from = Seq(end.0.saturating_sub(limit.get().into()).max(head.first.0));
    let mut found = Vec::new();
    while from < end {
        let limit = u32::try_from(end.0 - from.0).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        let page = store.read(&log, from, limit).await?;
        if page.records.is_empty() {
            break;
        }
        for (at, bytes) in page.records {
            found.push((at, history::record::<ArchiveRecord>("archive", &bytes.0)?));
            from = Seq(at.0 + 1);
        }
    }
    found.reverse();
    Ok(found)
}

/// How many runs were archived before place `before`; all of them where it is `None`.
///
/// # Errors
/// Where the store fails.
pub async fn archived_before(store: &dyn Store, before: Option<Seq>) -> Result<u64, StoreError> {
    let log = archive_log()?;
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    let head = heads.into_iter().find(|head| head.log == log);
    Ok(head.map_or(0, |head| before.unwrap_or(head.next).0.saturating_sub(head.first.0)))
}

/// Folds what a run's end leaves behind: the log of open runs and the logs of its locks, where they have become long.
///
/// # Errors
/// Where the store fails. What was acknowledged before stays so.
pub async fn fold(store: &dyn Store, locks: &[Lock]) -> Result<(), StoreError> {
    fold_open(store).await?;
    for lock in locks {
        fold_lock(store, &lock.resource).await?;
    }
    Ok(())
}

async fn fold_open(store: &dyn Store) -> Result<(), StoreError> {
    let log = history::open_log()?;
    if is_short(store, &log).await? {
        return Ok(());
    }
    let (_, _, next) = history::open_records(store, None).await?;
    let before = Seq(next.0.saturating_sub(FOLD_KEEPS));
    let (runs, count, _) = history::open_records(store, Some(before)).await?;
    let open = runs.open();
    // Where most of them are open there is nothing to win.
    if count < FOLD_AT / 2 || open.len() * 2 > count {
        return Ok(());
    }
    truncate(store, &log, before, &OpenRecord::Still(open)).await
}

async fn fold_lock(store: &dyn Store, resource: &str) -> Result<(), StoreError> {
    let log = history::lock_log(resource)?;
    if is_short(store, &log).await? {
        return Ok(());
    }
    let LockState { holder, wanted, next } = history::lock_state(store, resource).await?;
    // Who waits for the lock is told by a record of its own: it is folded once nobody does.
    if wanted.is_some() {
        return Ok(());
    }
    let carry = match holder {
        Some(holder) => Some(LockRecord::Taken(holder)),
        None => last_released(store, &log).await?,
    };
    match carry {
        Some(carry) => truncate(store, &log, next, &carry).await,
        None => Ok(()),
    }
}

async fn last_released(store: &dyn Store, log: &LogId) -> Result<Option<LockRecord>, StoreError> {
    let (records, _) = history::records(store, log).await?;
    for bytes in records.iter().rev() {
        match history::record::<LockRecord>("lock", bytes)? {
            released @ LockRecord::Released(_) => return Ok(Some(released)),
            LockRecord::Taken(_) | LockRecord::Wanted { .. } => {}
        }
    }
    Ok(None)
}

async fn is_short(store: &dyn Store, log: &LogId) -> Result<bool, StoreError> {
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    let head = heads.into_iter().find(|head| head.log == *log);
    Ok(head.is_none_or(|head| head.next.0 - head.first.0 < FOLD_AT as u64))
}

async fn truncate<T: Serialize>(store: &dyn Store, log: &LogId, before: Seq, carry: &T) -> Result<(), StoreError> {
    // Enums over checked names always have a JSON form.
    let carry = Record(serde_json::to_vec(carry).unwrap_or_default());
    if carry.0.len() > RECORD_BYTES_MAX {
        return Ok(());
    }
    match store.truncate(log, before, carry).await {
        // Another process folded it meanwhile.
        Err(StoreError::Compacted { .. } | StoreError::Conflict { .. }) => Ok(()),
        other => other,
    }
}
