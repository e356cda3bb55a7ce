//! Another store takes an export in. The whole text is checked before the first write, and nothing that is there is overwritten.

use std::collections::BTreeMap;
use std::io::{BufRead, Seek, SeekFrom};
use std::num::NonZeroU32;

use super::{ExportError, Reader};
use crate::walk::{Problem, Seen};
use crate::{COMMIT_BYTES_MAX, Commit, Digest, LogHead, LogId, Record, Seq, Store, StoreError};

/// Bytes of records in one commit.
const PORTION_BYTES: usize = COMMIT_BYTES_MAX / 2;

/// What a log that is there in part means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partly {
    /// It is in the way.
    Refuse,
    /// An earlier import was cut short: go on behind it.
    GoOn,
}

/// What was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Logs that were written, wholly or to their end.
    pub logs: u64,
    /// Records written.
    pub records: u64,
    /// Kept values, those that were there already included.
    pub values: u64,
    /// Logs that were there already with the same records.
    pub there_already: u64,
}

/// Takes an export in: first all of it is checked against itself and against the store, then it is written. Each log arrives in order,
/// so a run is never there with a hole.
///
/// # Errors
/// [`ExportError::Unsound`], [`ExportError::Exists`] and [`ExportError::Differs`] before anything was written; after a failure of the
/// store the import can be given again with [`Partly::GoOn`].
pub async fn import<R: BufRead + Seek>(store: &dyn Store, mut input: R, partly: Partly) -> Result<Imported, ExportError> {
    let io = |source| ExportError::Io { action: "read", source };
    let begin = input.stream_position().map_err(io)?;
    let there = compare(store, &mut input, partly).await?;
    input.seek(SeekFrom::Start(begin)).map_err(io)?;
    let mut writer = Writer { store, there, imported: Imported::default(), open: None, pending: Vec::new(), bytes: 0 };
    for seen in Reader::new(&mut input) {
        writer.take(seen).await?;
    }
    writer.flush().await?;
    Ok(writer.imported)
}

/// Checks the whole text. Answers where each log that is there already ends.
async fn compare<R: BufRead>(store: &dyn Store, input: R, partly: Partly) -> Result<BTreeMap<LogId, Seq>, ExportError> {
    let mut there: BTreeMap<LogId, LogHead> = BTreeMap::new();
    let mut wanted: BTreeMap<LogId, Seq> = BTreeMap::new();
    let differs = |head: &LogHead| ExportError::Differs { log: head.log.clone(), at: head.next.0 };
    for seen in Reader::new(input) {
        match seen {
            Seen::Log(head) => {
                let found = store.logs(head.log.as_str(), None, NonZeroU32::MIN).await?;
                if let Some(found) = found.into_iter().find(|found| found.log == head.log) {
                    if found.next > head.next || found.first != head.first {
                        return Err(differs(&found));
                    }
                    there.insert(head.log.clone(), found);
                }
                if wanted.insert(head.log.clone(), head.next).is_some() {
                    let what = format!("the export has log {} twice", head.log);
                    return Err(ExportError::Unsound(Problem { log: Some(head.log), at: None, line: None, what }));
                }
            }
            Seen::Record { log, at, chain, .. } | Seen::Carry { log, at, chain, .. } => {
                if let Some(found) = there.get(&log).filter(|found| found.next.0 == at.0 + 1 && found.chain != chain) {
                    return Err(differs(found));
                }
            }
            Seen::Value { .. } => {}
            Seen::Problem(problem) => return Err(ExportError::Unsound(problem)),
        }
    }
    for (log, found) in &there {
        let wanted = wanted.get(log).copied().unwrap_or_default();
        if found.next < wanted && partly == Partly::Refuse {
            return Err(ExportError::Exists { log: log.clone(), found: found.next.0, wanted: wanted.0 });
        }
    }
    Ok(there.into_iter().map(|(log, head)| (log, head.next)).collect())
}

struct Writer<'a> {
    store: &'a dyn Store,
    there: BTreeMap<LogId, Seq>,
    imported: Imported,
    /// The log being written, and its next free place in the store.
    open: Option<(LogId, Seq)>,
    pending: Vec<Record>,
    bytes: usize,
}

impl Writer<'_> {
    async fn take(&mut self, seen: Seen) -> Result<(), ExportError> {
        match seen {
            Seen::Log(head) => {
                self.flush().await?;
                let there = self.there.get(&head.log).copied();
                if there.unwrap_or_default() == head.next {
                    self.imported.there_already += u64::from(there.is_some());
                } else {
                    self.imported.logs += 1;
                }
                self.open = Some((head.log, there.unwrap_or(head.first)));
            }
            Seen::Record { at, record, .. } => {
                let Some((_, next)) = &self.open else { return Ok(()) };
                if at.0 >= next.0 + self.pending.len() as u64 {
                    self.bytes += record.0.len() + 64;
                    self.pending.push(record);
                    if self.bytes >= PORTION_BYTES {
                        self.flush().await?;
                    }
                }
            }
            Seen::Carry { log, at, chain, record } => {
                if !self.there.contains_key(&log) {
                    self.store.restore(&log, at, chain, record).await?;
                    self.imported.records += 1;
                    self.open = Some((log, Seq(at.0 + 1)));
                }
            }
            Seen::Value { digest, bytes } => {
                self.flush().await?;
                let kept: Digest = self.store.keep(&bytes).await?;
                debug_assert_eq!(kept, digest);
                self.imported.values += 1;
            }
            // The text was whole a moment ago.
            Seen::Problem(problem) => return Err(ExportError::Unsound(problem)),
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ExportError> {
        let Some((log, next)) = self.open.as_mut() else { return Ok(()) };
        if self.pending.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.pending);
        let count = records.len() as u64;
        let commit = Commit { expect: vec![(log.clone(), *next)], append: vec![(log.clone(), records)] };
        // Somebody else writes to the same log meanwhile.
        match self.store.commit(commit).await {
            Err(StoreError::Conflict { log, expected, found }) => {
                return Err(ExportError::Exists { log, found: found.0, wanted: expected.0 });
            }
            other => other?,
        }
        next.0 += count;
        self.imported.records += count;
        self.bytes = 0;
        Ok(())
    }
}
