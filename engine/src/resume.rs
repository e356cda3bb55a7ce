//! Takes over runs whose process is gone: replay, claim, hand to an executor. A plan that this binary cannot run is left untouched.

use crate::admission;
use crate::history::{self, HistoryError, Loaded, run_log};
use crate::journal::{Actor, ENTRY_FORMAT, Entry, EntryError, Event, RunId};
use crate::ports::Ports;
use crate::run::{IllegalTransition, RunPhase};
use crate::steering::{self, Command, SteerError};
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{Commit, OwnerId, Record, Seq, StoreError};

/// A run that cannot be taken over. Its journal is untouched.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// It cannot be loaded.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// It is over.
    #[error("run {0} has ended; there is nothing to resume")]
    Ended(RunId),
    /// This binary is too old or too new for a step of its plan.
    #[error("step type {step_type} has version {wanted} in the plan of run {run}; this program runs {known}")]
    OtherVersion {
        /// The run.
        run: RunId,
        /// The step type.
        step_type: String,
        /// In the plan.
        wanted: u16,
        /// What this binary can do.
        known: String,
    },
    /// Somebody else took it over first.
    #[error("run {0} was taken over by another process")]
    Overtaken(RunId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The claim cannot be written down.
    #[error("the claim of run {run} cannot be written down: {why}")]
    Claim {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
}

/// Claims a run for this process. Every call that was under way is in doubt from here on.
///
/// # Errors
/// As [`ResumeError`] says; nothing is written then.
pub async fn claim(ports: &Ports, owner: &OwnerId, id: &RunId) -> Result<Loaded, ResumeError> {
    let mut loaded = history::load(ports.store.as_ref(), id).await?;
    if loaded.run.phase == RunPhase::Ended {
        return Err(ResumeError::Ended(id.clone()));
    }
    versions(ports, id, &loaded.run.plan)?;
    let last = loaded.entries.last().map(|entry| entry.owner.clone()).unwrap_or_default();
    let event = Event::RunClaimed { why: format!("process {last} is gone") };
    let entry = Entry { format: ENTRY_FORMAT, at: ports.clock.now(), owner: owner.0.clone(), event };
    let bytes = entry.encode().map_err(|error| ResumeError::Claim { run: id.clone(), why: error.to_string() })?;
    loaded.run.apply(&entry).map_err(|error| ResumeError::Claim { run: id.clone(), why: error.to_string() })?;
    let log = run_log(id)?;
    let commit = Commit { expect: vec![(log.clone(), loaded.next)], append: vec![(log, vec![Record(bytes)])] };
    ports.store.commit(commit).await.map_err(|error| {
        if matches!(error, StoreError::Conflict { .. }) { ResumeError::Overtaken(id.clone()) } else { ResumeError::Store(error) }
    })?;
    loaded.next = Seq(loaded.next.0 + 1);
    loaded.entries.push(entry);
    Ok(loaded)
}

/// A binary runs a step type's version N and N-1.
fn versions(ports: &Ports, run: &RunId, plan: &Plan) -> Result<(), ResumeError> {
    for step in plan.steps.iter().chain(&plan.finally) {
        let known = ports.registry.step(&step.step_type).map(|known| known.info().version);
        let fits = known.is_some_and(|known| step.version == known || step.version.checked_add(1) == Some(known));
        if !fits {
            let known = known.map_or("no such step type".to_owned(), |known| format!("{known} and {}", known.saturating_sub(1)));
            return Err(ResumeError::OtherVersion { run: run.clone(), step_type: step.step_type.clone(), wanted: step.version, known });
        }
    }
    Ok(())
}

/// A person's act on a run that no process drives.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// It cannot be loaded.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// It is not possible; nothing was changed.
    #[error(transparent)]
    Refused(#[from] SteerError),
    /// The events do not follow: our mistake.
    #[error(transparent)]
    Illegal(#[from] IllegalTransition),
    /// They cannot be written down.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Journals a person's act on a run that is at rest. It takes effect when the run is resumed; giving up locks takes effect at once.
///
/// # Errors
/// As [`RestError`] says.
pub async fn steer_at_rest(ports: &Ports, owner: &OwnerId, id: &RunId, command: &Command, by: &Actor) -> Result<(), RestError> {
    let mut loaded = history::load(ports.store.as_ref(), id).await?;
    let events = steering::decide(&loaded.run, command, by, ports)?;
    let held_locks = loaded.run.holds_locks();
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let entry = Entry { format: ENTRY_FORMAT, at: ports.clock.now(), owner: owner.0.clone(), event };
        loaded.run.apply(&entry)?;
        records.push(Record(entry.encode()?));
    }
    let log = run_log(id)?;
    let mut commit = Commit { expect: vec![(log.clone(), loaded.next)], append: vec![(log, records)] };
    if held_locks && !loaded.run.holds_locks() {
        commit.append.extend(admission::closing(&loaded.run)?);
    }
    ports.store.commit(commit).await?;
    Ok(())
}
