//! Finished runs leave the store: exported to a file that is synced and read back, then listed in the archive's log, then removed. A crash in
//! between leaves a run in both places, never in none.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::{ArchiveRecord, archive_log, archived, values};
use crate::history::{self, HistoryError};
use crate::journal::RunId;
use crate::run::{Run, RunPhase};
use lifeboat_store::export::{ExportError, Reader, write};
use lifeboat_store::{Commit, Digest, LogHead, LogId, Record, Seen, Seq, Store, StoreError, Walk};

/// Runs in one archive file.
const RUNS_PER_FILE: usize = 500;

/// Which finished runs stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub newest: usize,
    /// Those that ended within so long.
    pub younger_than: SignedDuration,
}

/// What was compacted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Runs that left the store.
    pub runs: u64,
    /// Their entries.
    pub entries: u64,
    /// Values thrown away because nothing names them any more.
    pub values: u64,
    /// The archive files that were written.
    pub files: Vec<PathBuf>,
    /// Runs that could not be judged and stay, each with why.
    pub left: Vec<(RunId, String)>,
    /// Runs that are old enough by number and stay because they ended a short time ago.
    pub young: u64,
}

/// Why compacting stopped. What left the store before is in its archive file.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A journal cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive could not be written; nothing of it was removed from the store.
    #[error("the archive {file} cannot be written")]
    Archive {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: ExportError,
    },
    /// What was read back from the archive is not what was written; nothing of it was removed from the store.
    #[error("the archive {file} does not hold what was written to it: {what}")]
    ReadBack {
        /// The file.
        file: PathBuf,
        /// What does not fit.
        what: String,
    },
}

/// A finished run that may leave.
struct Candidate {
    head: LogHead,
    record: ArchiveRecord,
    values: Vec<Digest>,
}

/// Moves finished runs to archive files in `folder`, which is made where it is missing.
///
/// # Errors
/// As [`CompactError`] says; what remains can be compacted by another call.
pub async fn compact(store: &dyn Store, now: Timestamp, keep: Keep, folder: &Path) -> Result<Compacted, CompactError> {
    let mut done = Compacted::default();
    remove_archived(store).await?;
    let open: HashSet<RunId> = history::open_runs(store).await?.into_iter().collect();
    let mut finished = history::list(store).await?;
    finished.retain(|run| !open.contains(run));
    finished.truncate(finished.len().saturating_sub(keep.newest));
    let mut batch = Vec::new();
    for run in finished {
        match candidate(store, &run, now, keep).await {
            Ok(Judged::Leaves(candidate)) => batch.push(*candidate),
            Ok(Judged::Young) => done.young += 1,
            Ok(Judged::Stays) => {}
            Err(HistoryError::Store(error)) => return Err(error.into()),
            Err(error) => done.left.push((run, error.to_string())),
        }
        if batch.len() == RUNS_PER_FILE {
            archive(store, std::mem::take(&mut batch), folder, &mut done).await?;
        }
    }
    archive(store, batch, folder, &mut done).await?;
    super::fold(store, &[]).await?;
    if done.left.is_empty() {
        done.values = values::collect(store).await?;
    }
    Ok(done)
}

/// What is to become of a run.
enum Judged {
    Leaves(Box<Candidate>),
    /// It ended a short time ago.
    Young,
    /// It has not ended, or has its locks still.
    Stays,
}

async fn candidate(store: &dyn Store, id: &RunId, now: Timestamp, keep: Keep) -> Result<Judged, HistoryError> {
    let loaded = history::load(store, id).await?;
    let Run { phase, outcome, admitted_at, ended_at, plan, started_by, .. } = &loaded.run;
    let (RunPhase::Ended, Some(outcome), Some(started_at), Some(ended_at)) = (*phase, *outcome, *admitted_at, *ended_at) else {
        return Ok(Judged::Stays);
    };
    if loaded.run.holds_locks() {
        return Ok(Judged::Stays);
    }
    if now.duration_since(ended_at) < keep.younger_than {
        return Ok(Judged::Young);
    }
    let log = history::run_log(id)?;
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    let Some(head) = heads.into_iter().find(|head| head.log == log) else { return Ok(Judged::Stays) };
    let mut values: Vec<Digest> = loaded.entries.iter().filter_map(|entry| entry.event.keeps()).filter_map(Digest::parse).collect();
    values.sort_unstable();
    values.dedup();
    let record = ArchiveRecord {
        run: id.clone(),
        runbook: plan.runbook.clone(),
        mode: plan.mode.clone(),
        outcome,
        started_at,
        ended_at,
        started_by: started_by.as_ref().map(|by| by.name().to_owned()).unwrap_or_default(),
        entries: head.next.0,
        chain: head.chain.to_string(),
        file: String::new(),
    };
    Ok(Judged::Leaves(Box::new(Candidate { head, record, values })))
}

async fn archive(store: &dyn Store, batch: Vec<Candidate>, folder: &Path, done: &mut Compacted) -> Result<(), CompactError> {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
    let name = format!("runs-{}-to-{}.jsonl", first.record.run, last.record.run);
    let path = folder.join(&name);
    let heads: Vec<LogHead> = batch.iter().map(|candidate| candidate.head.clone()).collect();
    let mut values: Vec<Digest> = batch.iter().flat_map(|candidate| candidate.values.clone()).collect();
    values.sort_unstable();
    values.dedup();
    let failed = |source| CompactError::Archive { file: path.clone(), source };
    write_file(store, heads.clone(), values, folder, &path).await.map_err(failed)?;
    read_back(&path, &heads)?;
    let log = archive_log()?;
    let next = next_of(store, &log).await?;
    let records = batch.iter().map(|candidate| {
        let record = ArchiveRecord { file: name.clone(), ..candidate.record.clone() };
        // Text, numbers and checked names always have a JSON form.
        Record(serde_json::to_vec(&record).unwrap_or_default())
    });
    store.commit(Commit { expect: vec![(log.clone(), next)], append: vec![(log, records.collect())] }).await?;
    for candidate in &batch {
        store.remove(&candidate.head.log).await?;
        done.runs += 1;
        done.entries += candidate.record.entries;
    }
    done.files.push(path);
    Ok(())
}

async fn next_of(store: &dyn Store, log: &LogId) -> Result<Seq, StoreError> {
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    Ok(heads.into_iter().find(|head| head.log == *log).map_or(Seq(0), |head| head.next))
}

async fn write_file(store: &dyn Store, heads: Vec<LogHead>, values: Vec<Digest>, folder: &Path, path: &Path) -> Result<(), ExportError> {
    let io = |source: io::Error| ExportError::Io { action: "written", source };
    if !folder.is_dir() {
        std::fs::create_dir_all(folder).map_err(io)?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        }
    }
    let fresh = path.with_extension("new");
    if let Err(error) = write_fresh(Walk::new(store, heads, values), &fresh).await {
        // Its room may be what is missing, and the store is on that disk too.
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    std::fs::rename(&fresh, path).map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

async fn write_fresh(walk: Walk<'_>, fresh: &Path) -> Result<(), ExportError> {
    let io = |source: io::Error| ExportError::Io { action: "written", source };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh).map_err(io)?;
    let mut out = BufWriter::new(file);
    write(walk, &mut out).await?;
    out.flush().map_err(io)?;
    out.get_ref().sync_all().map_err(io)
}

/// The file is whole, and every log in it ends as the store has it.
fn read_back(path: &Path, heads: &[LogHead]) -> Result<(), CompactError> {
    let wrong = |what: String| CompactError::ReadBack { file: path.to_owned(), what };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut found: HashMap<LogId, (u64, Digest)> = HashMap::new();
    for seen in Reader::new(BufReader::new(file)) {
        match seen {
            Seen::Record { log, at, chain, .. } | Seen::Carry { log, at, chain, .. } => {
                found.insert(log, (at.0 + 1, chain));
            }
            Seen::Log(_) | Seen::Value { .. } => {}
            Seen::Problem(problem) => return Err(wrong(problem.what)),
        }
    }
    match heads.iter().find(|head| found.get(&head.log) != Some(&(head.next.0, head.chain))) {
        Some(head) => Err(wrong(format!("log {} does not end as it does in the store", head.log))),
        None => Ok(()),
    }
}

/// An earlier compaction was cut off between listing and removing: what is archived as it stands is removed now.
async fn remove_archived(store: &dyn Store) -> Result<(), CompactError> {
    let last = u32::try_from(RUNS_PER_FILE).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    for (_, record) in archived(store, None, last).await? {
        let log = history::run_log(&record.run)?;
        let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
        if heads.iter().any(|head| head.log == log && head.next.0 == record.entries && head.chain.to_string() == record.chain) {
            store.remove(&log).await?;
        }
    }
    Ok(())
}
