//! Whether a store makes sense as a whole: every journal replays, every value that it names is kept, locks and the list of open runs fit the
//! runs. Chains and checksums are the store's own affair.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use super::Finding;
use crate::history::{self, HistoryError};
use crate::journal::RunId;
use crate::run::{Run, RunPhase};
use lifeboat_store::{Store, StoreError};

/// What was looked at, and what does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Soundness {
    /// Runs whose journal replays with its plan and outputs.
    pub runs: u64,
    /// Entries in them.
    pub entries: u64,
    /// What does not fit, each with what to do.
    pub findings: Vec<(Finding, &'static str)>,
}

const RESTORE: &str = "restore it from an export or a copy of the folder; the other runs are not concerned";
const RESUME: &str = "`lifeboat status RUN` tells how it stands; `lifeboat resume RUN` goes on with it";
const LOCK: &str = "`lifeboat status RUN` tells how it stands; a stuck run gives its locks up with `lifeboat resolve RUN --release`";

/// Looks at every run, every lock and the list of open runs.
///
/// # Errors
/// Where the store itself fails; what does not fit is part of the answer.
pub async fn examine(store: &dyn Store) -> Result<Soundness, StoreError> {
    let mut soundness = Soundness::default();
    let mut runs: BTreeMap<RunId, Option<Run>> = BTreeMap::new();
    for id in history::list(store).await? {
        match history::load(store, &id).await {
            Ok(loaded) => {
                soundness.runs += 1;
                soundness.entries += loaded.entries.len() as u64;
                runs.insert(id, Some(loaded.run));
            }
            Err(HistoryError::Store(error @ (StoreError::Io { .. } | StoreError::Poisoned(_)))) => return Err(error),
            Err(error) => {
                let finding = Finding { log: Some(format!("run/{id}")), entry: place(&error), what: with_causes(&error) };
                soundness.findings.push((finding, RESTORE));
                runs.insert(id, None);
            }
        }
    }
    open(store, &runs, &mut soundness).await?;
    locks(store, &runs, &mut soundness).await?;
    Ok(soundness)
}

async fn open(store: &dyn Store, runs: &BTreeMap<RunId, Option<Run>>, soundness: &mut Soundness) -> Result<(), StoreError> {
    let finding = |entry: Option<u64>, what: String| Finding { log: Some("open".into()), entry, what };
    let open: BTreeSet<RunId> = match history::open_runs(store).await {
        Ok(open) => open.into_iter().collect(),
        Err(StoreError::Damaged { what, .. }) => {
            soundness.findings.push((finding(None, what), RESTORE));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for run in &open {
        match runs.get(run) {
            None => soundness.findings.push((finding(None, format!("run {run} is open and has no journal")), RESTORE)),
            Some(Some(found)) if found.phase == RunPhase::Ended => {
                soundness.findings.push((finding(None, format!("run {run} has ended and is listed as open")), RESUME));
            }
            Some(_) => {}
        }
    }
    for (id, run) in runs {
        if run.as_ref().is_some_and(|run| run.phase != RunPhase::Ended) && !open.contains(id) {
            soundness.findings.push((finding(None, format!("run {id} has not ended and is not listed as open")), RESUME));
        }
    }
    Ok(())
}

async fn locks(store: &dyn Store, runs: &BTreeMap<RunId, Option<Run>>, soundness: &mut Soundness) -> Result<(), StoreError> {
    let mut holders: BTreeMap<String, RunId> = BTreeMap::new();
    for head in store.logs("lock/", None, NonZeroU32::MAX).await? {
        let resource = head.log.as_str().trim_start_matches("lock/").to_owned();
        let finding = |what: String| Finding { log: Some(head.log.to_string()), entry: None, what };
        match history::lock_holder(store, &resource).await {
            Ok((Some(holder), _)) => {
                match runs.get(&holder) {
                    None => soundness.findings.push((finding(format!("it is taken by run {holder}, which has no journal")), LOCK)),
                    Some(Some(run)) if !run.holds_locks() => {
                        soundness.findings.push((finding(format!("it is taken by run {holder}, which gave its locks back")), LOCK));
                    }
                    Some(_) => {}
                }
                holders.insert(resource, holder);
            }
            Ok((None, _)) => {}
            Err(StoreError::Damaged { what, .. }) => soundness.findings.push((finding(what), RESTORE)),
            Err(error) => return Err(error),
        }
    }
    for (id, run) in runs {
        let Some(run) = run.as_ref().filter(|run| run.holds_locks()) else { continue };
        for lock in run.locks.iter().filter(|lock| holders.get(&lock.resource) != Some(id)) {
            let finding = Finding {
                log: Some(format!("lock/{}", lock.resource)),
                entry: None,
                what: format!("run {id} was admitted with it and does not have it"),
            };
            soundness.findings.push((finding, LOCK));
        }
    }
    Ok(())
}

fn place(error: &HistoryError) -> Option<u64> {
    match error {
        HistoryError::Entry { place, .. } | HistoryError::Illegal { place, .. } => Some(*place),
        HistoryError::Store(_) | HistoryError::NoSuchRun(_) | HistoryError::Plan { .. } => None,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source()).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
