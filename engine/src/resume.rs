//! Takes over runs whose process is gone: replay, claim, hand to an executor. A plan that this binary cannot run is left untouched.
//!
//! Where several machines share the store, nobody can prove a process dead. The successor takes the lease, which it gets only after the
//! holder's own count of it is over; its claim then closes the journal to the holder; and the executor waits out the time of each call
//! in doubt before it looks at what became of it ([`crate::executor::Executor::drive`]).

use std::time::Duration;

use crate::admission;
use crate::history::{self, HistoryError, Loaded, run_log};
use crate::journal::{Actor, ENTRY_FORMAT, Entry, EntryError, Event, RunId};
use crate::mutants::{self, Mutant};
use crate::ports::Ports;
use crate::run::{IllegalTransition, RunPhase};
use crate::steering::{self, Command, SteerError};
use crate::tenure::{Standing, Tenure, TenureError};
use lifeboat_runbooks::plan::{INNER_VERSION, Plan};
use lifeboat_store::{Commit, OwnerId, Record, Seq, Sharing, StoreError};

/// Pause between two tries to get the lease of a run.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Claims that are tried again because the process before had a last commit on its way.
const TRIES: u32 = 5;

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
    /// Another process holds its lease: it drives the run, or did so until a moment ago.
    #[error("run {run} is driven by process {by}")]
    Driven {
        /// The run.
        run: RunId,
        /// The process.
        by: String,
    },
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

/// How long to wait for a run that another process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as one lease lasts: enough where the holder is dead.
    OneLease,
    /// Until it is free: a process that stands by.
    ForEver,
}

/// Claims a run for this process. Every call that was under way is in doubt from here on.
///
/// # Errors
/// As [`ResumeError`] says; nothing is written then.
pub async fn claim(ports: &Ports, owner: &OwnerId, id: &RunId) -> Result<Loaded, ResumeError> {
    let tenure = Tenure::begin(ports, owner, id).await.map_err(|error| match error {
        TenureError::Taken { by } => ResumeError::Driven { run: id.clone(), by },
        TenureError::Store(error) => ResumeError::Store(error),
    })?;
    let mut tries = match ports.store.sharing() {
        Sharing::Sole => TRIES,
        Sharing::Shared { .. } => 1,
    };
    loop {
        match claim_now(ports, owner, id, &tenure.standing()).await {
            Ok(loaded) => return Ok(loaded),
            // The lease is still ours, so this was the last commit of the process before.
            Err(ResumeError::Overtaken(_)) if tries < TRIES && (tenure.standing().holds() || mutants::is(Mutant::ClaimWithoutLease)) => {
                tries += 1
            }
            Err(error) => {
                tenure.give_back().await;
                return Err(error);
            }
        }
    }
}

/// As [`claim`], after waiting for the lease of another process to end.
///
/// # Errors
/// As [`claim`]; [`ResumeError::Driven`] where the holder is still there after the time that `patience` allows.
pub async fn claim_when_free(ports: &Ports, owner: &OwnerId, id: &RunId, patience: Patience) -> Result<Loaded, ResumeError> {
    let ends_at = match (patience, ports.store.sharing()) {
        (Patience::ForEver, _) => None,
        (Patience::OneLease, Sharing::Sole) => Some(ports.clock.instant()),
        (Patience::OneLease, Sharing::Shared { lease }) => Some(ports.clock.instant().after(lease * 2)),
    };
    loop {
        match claim(ports, owner, id).await {
            Err(ResumeError::Driven { .. }) if ends_at.is_none_or(|ends_at| ports.clock.instant() < ends_at) => {
                ports.clock.sleep(ASK_AGAIN_AFTER).await;
            }
            answer => return answer,
        }
    }
}

async fn claim_now(ports: &Ports, owner: &OwnerId, id: &RunId, standing: &Standing) -> Result<Loaded, ResumeError> {
    let mut loaded = history::load(ports.store.as_ref(), id).await?;
    // Asked after the journal was read: who took the run over in a standstill of ours before that would not be seen as a conflict, and
    // the claim would close the journal to the process that holds the lease.
    if !standing.holds() && !mutants::is(Mutant::ClaimWithoutLease) {
        return Err(ResumeError::Overtaken(id.clone()));
    }
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
    let mut commit = Commit { expect: vec![(log.clone(), loaded.next)], append: vec![(log, vec![Record(bytes)])] };
    if mutants::is(Mutant::LocksGivenBackAtClaim) {
        commit.append.extend(admission::giving_back(&loaded.run)?);
    }
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
        let known = match step.inner {
            Some(_) => Some(INNER_VERSION),
            None => ports.registry.step(&step.step_type).map(|known| known.info().version),
        };
        version(run, &step.step_type, step.version, known)?;
        if let Some(undo) = step.written_undo() {
            version(run, &undo.step_type, undo.version, ports.registry.step(&undo.step_type).map(|known| known.info().version))?;
        }
    }
    Ok(())
}

fn version(run: &RunId, step_type: &str, wanted: u16, known: Option<u16>) -> Result<(), ResumeError> {
    if known.is_some_and(|known| wanted == known || wanted.checked_add(1) == Some(known)) {
        return Ok(());
    }
    let known = known.map_or("no such step type".to_owned(), |known| format!("{known} and {}", known.saturating_sub(1)));
    Err(ResumeError::OtherVersion { run: run.clone(), step_type: step_type.to_owned(), wanted, known })
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
    /// The run is not at rest: a process on another machine, or another process on this one, drives it.
    #[error("run {run} is driven by process {by}; ask there")]
    Driven {
        /// The run.
        run: RunId,
        /// The process.
        by: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Journals a person's act on a run that is at rest. It takes effect when the run is resumed; giving up locks takes effect at once.
///
/// # Errors
/// As [`RestError`] says.
pub async fn steer_at_rest(ports: &Ports, owner: &OwnerId, id: &RunId, command: &Command, by: &Actor) -> Result<(), RestError> {
    // An entry beside a process that drives the run would stop that process. Another name than the one this process drives runs under,
    // because an owner who takes a lease again loses the earlier one.
    let desk = OwnerId(format!("{}-desk", owner.0));
    let tenure = Tenure::begin(ports, &desk, id).await.map_err(|error| match error {
        TenureError::Taken { by } => RestError::Driven { run: id.clone(), by },
        TenureError::Store(error) => RestError::Store(error),
    })?;
    let steered = write_at_rest(ports, owner, id, command, by, &tenure.standing()).await;
    tenure.give_back().await;
    steered
}

async fn write_at_rest(
    ports: &Ports,
    owner: &OwnerId,
    id: &RunId,
    command: &Command,
    by: &Actor,
    standing: &Standing,
) -> Result<(), RestError> {
    let mut loaded = history::load(ports.store.as_ref(), id).await?;
    // As with a claim: a process that got the lease meanwhile would be stopped by this entry.
    if !standing.holds() {
        return Err(RestError::Driven { run: id.clone(), by: "that took it over a moment ago".into() });
    }
    let events = steering::decide(&loaded.run, command, by, ports)?;
    let (held_locks, had_ended) = (loaded.run.holds_locks(), loaded.run.phase == RunPhase::Ended);
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        let entry = Entry { format: ENTRY_FORMAT, at: ports.clock.now(), owner: owner.0.clone(), event };
        loaded.run.apply(&entry)?;
        records.push(Record(entry.encode()?));
    }
    let log = run_log(id)?;
    let mut commit = Commit { expect: vec![(log.clone(), loaded.next)], append: vec![(log, records)] };
    if had_ended && loaded.run.phase != RunPhase::Ended {
        commit.append.extend(admission::reopening(&loaded.run)?);
    }
    if held_locks && !loaded.run.holds_locks() {
        commit.append.extend(admission::closing(&loaded.run)?);
    }
    ports.store.commit(commit).await?;
    Ok(())
}
