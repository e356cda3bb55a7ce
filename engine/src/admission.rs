//! Admits a run: its id, its locks and its first entry become true in one commit, or not at all.

use serde::Serialize;

use crate::growth::disk::Verdict;
use crate::history::{self, LockRecord, LockState, OpenRecord};
use crate::journal::{Actor, ENTRY_FORMAT, Entry, Event, Incident, Lock, RunId};
use crate::mutants::{self, Mutant};
use crate::plans;
use crate::ports::Ports;
use crate::predict::predict;
use crate::preemption::makes_way;
use crate::proof;
use crate::run::Run;
use jiff::Timestamp;
use lifeboat_runbooks::Period;
use lifeboat_runbooks::names::Effect;
use lifeboat_runbooks::plan::{Plan, PlanStep};
use lifeboat_store::{Commit, Digest, OwnerId, Record, Seq, Store, StoreError};
use std::collections::BTreeMap;
use std::time::Duration;

/// A run that was not admitted. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// Another run changes the same resource.
    #[error("{resource} is locked by run {holder}, which has not ended")]
    Locked {
        /// The resource.
        resource: String,
        /// The holder.
        holder: RunId,
    },
    /// A run that makes way for live ones was asked to, and is not done in time.
    #[error("{resource} is locked by run {holder}, which was asked to make way and has not done so within {}", Period(*within))]
    StillLocked {
        /// The resource.
        resource: String,
        /// The holder.
        holder: RunId,
        /// How long it was waited for.
        within: Duration,
    },
    /// The holder would make way, and nobody here can turn it back.
    #[error("{resource} is locked by run {holder}, which cannot be turned back here: {why}")]
    NoWay {
        /// The resource.
        resource: String,
        /// The holder.
        holder: RunId,
        /// Why not.
        why: String,
    },
    /// A live run waits for the lock, and this one is of those that make way.
    #[error("{resource} is about to be locked by run {by}")]
    Wanted {
        /// The resource.
        resource: String,
        /// The live run.
        by: RunId,
    },
    /// The disk is too full to see a run to its end.
    #[error("the disk of the data folder is {used_percent} % full; from {limit_percent} % on no new run is admitted")]
    NoRoom {
        /// How full it is.
        used_percent: u64,
        /// The limit.
        limit_percent: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plan cannot be written down.
    #[error("the plan cannot be written down: {0}")]
    Plan(String),
}

/// An admitted run, ready for an executor.
#[derive(Debug)]
pub struct Admitted {
    /// The run after its first entry.
    pub run: Run,
    /// That entry.
    pub entry: Entry,
    /// The next free place of its log.
    pub next: Seq,
}

/// Tries to admit this often when others commit to the same locks meanwhile.
const TRIES: u32 = 5;

/// The locks that a plan needs: each resource with its gravest effect, written undos included. Looking takes none.
#[must_use]
pub fn locks(plan: &Plan) -> Vec<Lock> {
    let mut gravest: BTreeMap<&str, Effect> = BTreeMap::new();
    for (_, touch) in plan.all_steps().flat_map(PlanStep::grips) {
        let effect = gravest.entry(&touch.resource).or_insert(touch.effect);
        *effect = (*effect).max(touch.effect);
    }
    gravest
        .into_iter()
        .filter(|(_, effect)| *effect > Effect::Read)
        .map(|(resource, effect)| Lock { resource: resource.to_owned(), effect })
        .collect()
}

/// A name that sorts by time and can be read aloud; `chance` tells apart runs of the same second.
///
/// # Errors
/// Never for a checked runbook name.
pub fn run_id(plan: &Plan, now: Timestamp, chance: u32) -> Result<RunId, AdmissionError> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let tail: String = (0..4).map(|place| char::from(LETTERS[(chance >> (5 * place)) as usize & 31])).collect();
    let name: String = plan.runbook.chars().take(60).collect();
    RunId::new(&format!("{}-{name}-{tail}", now.strftime("%Y%m%dt%H%M%S"))).map_err(AdmissionError::Plan)
}

/// Admits a run of this plan under a new name.
///
/// # Errors
/// [`AdmissionError::Locked`] names the holder.
pub async fn admit(
    ports: &Ports,
    plan: Plan,
    owner: &OwnerId,
    by: Actor,
    incident: Incident,
    chance: u32,
) -> Result<Admitted, AdmissionError> {
    let id = run_id(&plan, ports.clock.now(), chance)?;
    admit_as(ports, id, plan, owner, by, incident).await
}

/// Admits a run of this plan under a name that [`run_id`] made, and under which others may have been asked to make way.
///
/// # Errors
/// [`AdmissionError::Locked`] names the holder.
pub async fn admit_as(
    ports: &Ports,
    id: RunId,
    plan: Plan,
    owner: &OwnerId,
    by: Actor,
    incident: Incident,
) -> Result<Admitted, AdmissionError> {
    let store: &dyn Store = ports.store.as_ref();
    has_room(ports).await?;
    let bytes = serde_json::to_vec(&plan).map_err(|error| AdmissionError::Plan(error.to_string()))?;
    let digest: Digest = store.keep(&bytes).await?;
    let locks = locks(&plan);
    let predicted = predict(&plan, &proof::read(store, &plan.runbook).await?).map(Box::new);
    let plan = plans::shared(digest, plan);
    let mut tries = 0;
    loop {
        let mut commit = Commit::default();
        for lock in &locks {
            let LockState { holder, wanted, next } = history::lock_state(store, &lock.resource).await?;
            if mutants::is(Mutant::LockNotTaken) && lock.resource == locks[0].resource {
                continue;
            }
            if let Some(holder) = holder.filter(|_| !mutants::is(Mutant::HolderIgnored)) {
                return Err(AdmissionError::Locked { resource: lock.resource.clone(), holder });
            }
            let wanted = wanted.filter(|(by, until)| *by != id && *until > ports.clock.now());
            if let (Some((by, _)), true) = (wanted, makes_way(&plan.mode, &locks)) {
                return Err(AdmissionError::Wanted { resource: lock.resource.clone(), by });
            }
            let log = history::lock_log(&lock.resource)?;
            commit.expect.push((log.clone(), next));
            commit.append.push((log, vec![written(&LockRecord::Taken(id.clone()))?]));
        }
        let event = Event::RunAdmitted {
            run: id.clone(),
            plan: digest.to_string(),
            structure: plan.structure.clone(),
            binding: plan.binding.clone(),
            runbook: plan.runbook.clone(),
            mode: plan.mode.clone(),
            by: by.clone(),
            locks: locks.clone(),
            incident: incident.clone(),
            predicted: predicted.clone(),
        };
        let entry = Entry { format: ENTRY_FORMAT, at: ports.clock.now(), owner: owner.0.clone(), event };
        let log = history::run_log(&id)?;
        commit.expect.push((log.clone(), Seq(0)));
        commit.append.push((log, vec![Record(entry.encode().map_err(|error| AdmissionError::Plan(error.to_string()))?)]));
        commit.append.push((history::open_log()?, vec![written(&OpenRecord::Opened(id.clone()))?]));
        match store.commit(commit).await {
            Ok(()) => {
                let mut run = Run::new(id, plan);
                run.apply(&entry).map_err(|error| AdmissionError::Plan(error.to_string()))?;
                return Ok(Admitted { run, entry, next: Seq(1) });
            }
            // Somebody took or gave back one of the locks meanwhile: look again.
            Err(StoreError::Conflict { .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a run adds that is taken up again after its end: it is open once more. It has its locks still.
pub(crate) fn reopening(run: &Run) -> Result<Vec<(lifeboat_store::LogId, Vec<Record>)>, StoreError> {
    Ok(vec![(history::open_log()?, vec![plain(&OpenRecord::Opened(run.id.clone()))])])
}

/// Whether a run that is admitted now can be journaled to its end.
///
/// # Errors
/// [`AdmissionError::NoRoom`] where it might not.
pub async fn has_room(ports: &Ports) -> Result<(), AdmissionError> {
    let limits = &ports.inventory.policies.disk;
    match limits.of(ports.store.as_ref()).await? {
        Verdict::Enough | Verdict::Scarce(_) => Ok(()),
        Verdict::Full(room) => Err(AdmissionError::NoRoom { used_percent: room.used_percent(), limit_percent: limits.refuse_percent }),
    }
}

/// What a run's end adds beside its last entry: locks given back, unless it keeps them, and the run closed.
pub(crate) fn closing(run: &Run) -> Result<Vec<(lifeboat_store::LogId, Vec<Record>)>, StoreError> {
    let mut appends = Vec::new();
    let kept = run.holds_locks() && !mutants::is(Mutant::StuckGivesLocksBack) || mutants::is(Mutant::LocksLeaked);
    if !kept {
        appends.extend(giving_back(run)?);
    }
    appends.push((history::open_log()?, vec![plain(&OpenRecord::Closed(run.id.clone()))]));
    Ok(appends)
}

/// The records that give a run's locks back.
pub(crate) fn giving_back(run: &Run) -> Result<Vec<(lifeboat_store::LogId, Vec<Record>)>, StoreError> {
    let one = |lock: &Lock| Ok((history::lock_log(&lock.resource)?, vec![plain(&LockRecord::Released(run.id.clone()))]));
    run.locks.iter().map(one).collect()
}

fn written<T: Serialize>(value: &T) -> Result<Record, AdmissionError> {
    serde_json::to_vec(value).map(Record).map_err(|error| AdmissionError::Plan(error.to_string()))
}

fn plain<T: Serialize>(value: &T) -> Record {
    // Enums over checked names always have a JSON form.
    Record(serde_json::to_vec(value).unwrap_or_default())
}
