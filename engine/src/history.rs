//! Runs as the store has them: names of logs, loading a run by replay, listing runs. Writes nothing.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::{Entry, EntryError, Event, Output, RunId};
use crate::mutants::{self, Mutant};
use crate::plans;
use crate::run::{IllegalTransition, Run};
use lifeboat_runbooks::plan::{PLAN_FORMAT, Plan};
use lifeboat_store::{Digest, LogId, Seq, Store, StoreError};

/// Records read at once.
const PAGE: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");

/// A run that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No run has this name.
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    /// An entry cannot be read.
    #[error("entry {place} of run {run}")]
    Entry {
        /// The run.
        run: RunId,
        /// Its place, from 0.
        place: u64,
        /// Why not.
        #[source]
        source: EntryError,
    },
    /// An entry does not follow from those before it.
    #[error("entry {place} of run {run} does not follow")]
    Illegal {
        /// The run.
        run: RunId,
        /// Its place, from 0.
        place: u64,
        /// Why not.
        #[source]
        source: IllegalTransition,
    },
    /// The plan cannot be read.
    #[error("the plan of run {run} cannot be read: {why}")]
    Plan {
        /// The run.
        run: RunId,
        /// Why not.
        why: String,
    },
}

/// A run with its entries, and the next free place of its log.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the entries add up to.
    pub run: Run,
    /// All of them.
    pub entries: Vec<Entry>,
    /// Where the next entry goes.
    pub next: Seq,
}

/// The log of a run.
///
/// # Errors
/// Never for a checked id; the type says so because names are checked in one place.
pub fn run_log(run: &RunId) -> Result<LogId, StoreError> {
    LogId::new(&format!("run/{run}"))
}

/// The log of a resource's lock.
///
/// # Errors
/// Where the name has characters that a log may not have.
pub fn lock_log(resource: &str) -> Result<LogId, StoreError> {
    LogId::new(&format!("lock/{resource}"))
}

/// The log that says which runs are open.
///
/// # Errors
/// Never.
pub fn open_log() -> Result<LogId, StoreError> {
    LogId::new("open")
}

/// A record of the log of open runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OpenRecord {
    /// These are open; what the log told before is folded away.
    Still(Vec<RunId>),
    /// Admitted.
    Opened(RunId),
    /// Ended, however.
    Closed(RunId),
}

/// A record of a lock's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LockRecord {
    /// Taken by a run.
    Taken(RunId),
    /// Given back.
    Released(RunId),
    /// A live run waits for it: its holder makes way, and until then nobody but a live run takes it.
    Wanted {
        /// The live run, which is not admitted yet.
        by: RunId,
        /// It waits no longer than this.
        until: Timestamp,
    },
}

/// How a lock stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LockState {
    /// The run that has it.
    pub holder: Option<RunId>,
    /// The live run that waits for it, and until when. Whoever takes the lock ends the wish.
    pub wanted: Option<(RunId, Timestamp)>,
    /// The next free place of its log.
    pub next: Seq,
}

/// All records of a log.
///
/// # Errors
/// Where the store fails.
pub async fn records(store: &dyn Store, log: &LogId) -> Result<(Vec<Vec<u8>>, Seq), StoreError> {
    let mut all = Vec::new();
    let mut from =
        store.logs(log.as_str(), None, NonZeroU32::MIN).await?.first().filter(|head| head.log == *log).map_or(Seq(0), |head| head.first);
    loop {
        let page = store.read(log, from, PAGE).await?;
        let last = page.records.last().map(|(seq, _)| *seq);
        all.extend(page.records.into_iter().map(|(_, record)| record.0));
        match last {
            Some(Seq(last)) if Seq(last + 1) < page.next => from = Seq(last + 1),
            Some(_) | None => return Ok((all, page.next)),
        }
    }
}

/// Replays a run.
///
/// # Errors
/// Where it does not exist or cannot be read; nothing is guessed.
pub async fn load(store: &dyn Store, id: &RunId) -> Result<Loaded, HistoryError> {
    let (entries, next) = entries(store, id).await?;
    let Some(Event::RunAdmitted { plan: digest, .. }) = entries.first().map(|entry| &entry.event) else {
        return Err(if entries.is_empty() {
            HistoryError::NoSuchRun(id.clone())
        } else {
            HistoryError::Plan { run: id.clone(), why: "its first entry is not an admission".into() }
        });
    };
    let plan = plan(store, id, digest).await?;
    let mut run = Run::new(id.clone(), plan);
    for (place, entry) in entries.iter().enumerate() {
        run.apply(entry).map_err(|source| HistoryError::Illegal { run: id.clone(), place: place as u64, source })?;
        if let Event::StepSucceeded { step, output: Output::Kept { digest, .. }, .. }
        | Event::FactsRemeasured { step, output: Output::Kept { digest, .. }, .. } = &entry.event
        {
            let bytes = store.kept(&parse(id, digest)?).await?;
            let value = serde_json::from_slice(&bytes).map_err(|source| HistoryError::Entry {
                run: id.clone(),
                place: place as u64,
                source: EntryError::Unreadable(source),
            })?;
            if let Some(record) = run.steps.get_mut(step).map(Arc::make_mut) {
                record.value = Some(value);
            }
        }
    }
    Ok(Loaded { run, entries, next })
}

/// The entries of a run.
///
/// # Errors
/// Where one cannot be read.
pub async fn entries(store: &dyn Store, id: &RunId) -> Result<(Vec<Entry>, Seq), HistoryError> {
    let (records, next) = records(store, &run_log(id)?).await?;
    let mut entries = Vec::with_capacity(records.len());
    for (place, bytes) in records.iter().enumerate() {
        entries.push(Entry::decode(bytes).map_err(|source| HistoryError::Entry { run: id.clone(), place: place as u64, source })?);
    }
    Ok((entries, next))
}

fn parse(run: &RunId, digest: &str) -> Result<Digest, HistoryError> {
    Digest::parse(digest).ok_or_else(|| HistoryError::Plan { run: run.clone(), why: format!("{digest:?} is no digest") })
}

async fn plan(store: &dyn Store, run: &RunId, digest: &str) -> Result<Arc<Plan>, HistoryError> {
    let digest = parse(run, digest)?;
    let anew = mutants::is(Mutant::PlanReadAnew);
    if let Some(known) = plans::known(&digest).filter(|_| !anew) {
        return Ok(known);
    }
    let bytes = store.kept(&digest).await?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| HistoryError::Plan { run: run.clone(), why: error.to_string() })?;
    if plan.format > PLAN_FORMAT {
        return Err(HistoryError::Plan {
            run: run.clone(),
            why: format!("it has format {}; this program reads up to {PLAN_FORMAT}", plan.format),
        });
    }
    Ok(if anew { Arc::new(edited(plan)) } else { plans::shared(digest, plan) })
}

/// The plan as somebody edited it meanwhile.
fn edited(mut plan: Plan) -> Plan {
    for step in &mut plan.steps {
        if let Some(with) = step.with.as_object_mut() {
            with.insert("say".into(), "edited".into());
        }
    }
    plan
}

/// Ids of all runs, oldest first.
///
/// # Errors
/// Where the store fails.
pub async fn list(store: &dyn Store) -> Result<Vec<RunId>, StoreError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let heads = store.logs("run/", after.as_ref(), PAGE).await?;
        let Some(last) = heads.last() else { return Ok(all) };
        after = Some(last.log.clone());
        all.extend(heads.iter().filter_map(|head| RunId::new(head.log.as_str().trim_start_matches("run/")).ok()));
    }
}

/// Ids of the runs that have not ended, oldest first.
///
/// # Errors
/// Where the store fails or the log holds something else.
pub async fn open_runs(store: &dyn Store) -> Result<Vec<RunId>, StoreError> {
    Ok(open_records(store, None).await?.0.open())
}

/// Ids of the runs that have not ended or ended lately, oldest first: all that the log of open runs still tells of.
///
/// # Errors
/// As [`open_runs`].
pub async fn lately_open(store: &dyn Store) -> Result<Vec<RunId>, StoreError> {
    Ok(open_records(store, None).await?.0.told)
}

/// What the log of open runs tells up to a place, how many records that takes, and its next free place.
pub(crate) async fn open_records(store: &dyn Store, before: Option<Seq>) -> Result<(OpenRuns, usize, Seq), StoreError> {
    let (mut records, next) = records(store, &open_log()?).await?;
    let behind = before.map_or(0, |before| usize::try_from(next.0.saturating_sub(before.0)).unwrap_or(usize::MAX));
    records.truncate(records.len().saturating_sub(behind));
    let count = records.len();
    let mut runs = OpenRuns::default();
    for bytes in records {
        match record::<OpenRecord>("open", &bytes)? {
            OpenRecord::Still(open) => open.into_iter().for_each(|run| runs.opened(run)),
            OpenRecord::Opened(run) => runs.opened(run),
            OpenRecord::Closed(run) => runs.closed(&run),
        }
    }
    Ok((runs, count, next))
}

/// Runs in the order in which they were opened, and which of them are closed.
#[derive(Debug, Default)]
pub(crate) struct OpenRuns {
    told: Vec<RunId>,
    /// Whether it is still open.
    standing: HashMap<RunId, bool>,
}

impl OpenRuns {
    fn opened(&mut self, run: RunId) {
        if self.standing.insert(run.clone(), true).is_none() {
            self.told.push(run);
        }
    }

    fn closed(&mut self, run: &RunId) {
        if self.standing.insert(run.clone(), false).is_none() {
            self.told.push(run.clone());
        }
    }

    pub(crate) fn open(&self) -> Vec<RunId> {
        self.told.iter().filter(|run| self.standing.get(*run) == Some(&true)).cloned().collect()
    }
}

/// The run that holds a resource's lock, and the next free place of the lock's log.
///
/// # Errors
/// Where the store fails or the log holds something else.
pub async fn lock_holder(store: &dyn Store, resource: &str) -> Result<(Option<RunId>, Seq), StoreError> {
    lock_state(store, resource).await.map(|lock| (lock.holder, lock.next))
}

/// How a resource's lock stands.
///
/// # Errors
/// Where the store fails or the log holds something else.
pub async fn lock_state(store: &dyn Store, resource: &str) -> Result<LockState, StoreError> {
    let (records, next) = records(store, &lock_log(resource)?).await?;
    let (mut holder, mut wanted) = (None, None);
    for bytes in records {
        match record::<LockRecord>("lock", &bytes)? {
            LockRecord::Taken(run) => (holder, wanted) = (Some(run), None),
            LockRecord::Released(run) if holder.as_ref() == Some(&run) => holder = None,
            LockRecord::Released(_) => {}
            LockRecord::Wanted { by, until } => wanted = Some((by, until)),
        }
    }
    Ok(LockState { holder, wanted, next })
}

/// Reads a record of one of the engine's own logs.
pub(crate) fn record<T: serde::de::DeserializeOwned>(log: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged { folder: format!("log {log}"), what: error.to_string() })
}
