//! Live runs and the runs that make way for them: who yields to whom, and the bounded wait before a live run is admitted. How a run
//! that is driven turns back is the executor's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::admission::AdmissionError;
use crate::executor::{Executor, Handle, Request};
use crate::history::{self, LockRecord};
use crate::journal::{Lock, RunId};
use crate::ports::Ports;
use crate::resume::{self, ResumeError};
use crate::run::{DRILL, Run, RunPhase};
use lifeboat_runbooks::Period;
use lifeboat_runbooks::names::Effect;
use lifeboat_store::{Commit, OwnerId, Record, StoreError};

/// How long a live run waits where the inventory says nothing else.
pub const PREEMPT_WITHIN_DEFAULT: Duration = Duration::from_secs(60);

/// Longest time between two looks at the locks: a change may come from a process whose store wakes nobody here.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a run that was claimed to be turned back gets to come to rest when the wait is over.
const REST_WITHIN: Duration = Duration::from_secs(10);

/// Whether a run makes way for a live one: a drill always, and a run that changes nothing it has locked (a backup).
#[must_use]
pub fn makes_way(mode: &str, locks: &[Lock]) -> bool {
    mode == DRILL || (!locks.is_empty() && locks.iter().all(|lock| lock.effect <= Effect::Protect))
}

/// Whether the one is asked to make way for the other. A drill waits for nobody's end by force, and a backup only for a drill's.
#[must_use]
pub fn yields(holder: (&str, &[Lock]), wanter: (&str, &[Lock])) -> bool {
    let ((holder_mode, holder_locks), (mode, locks)) = (holder, wanter);
    let changes = locks.iter().any(|lock| lock.effect > Effect::Protect);
    mode != DRILL && makes_way(holder_mode, holder_locks) && (changes || holder_mode == DRILL)
}

/// A run that is about to be admitted and wants its locks free.
#[derive(Clone, Copy)]
pub struct Wanter<'a> {
    /// Its name.
    pub run: &'a RunId,
    /// Its mode.
    pub mode: &'a str,
    /// Its locks.
    pub locks: &'a [Lock],
    /// Longest wait for all of them.
    pub within: Duration,
    /// Whether a run is driven by another task of this process. Where the store is this process's alone, every other run is at rest
    /// and is turned back here.
    pub is_driven: &'a (dyn Fn(&RunId) -> bool + Sync),
    /// Told what is waited for, in a sentence.
    pub tell: &'a (dyn Fn(&str) + Sync),
}

impl std::fmt::Debug for Wanter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanter").field("run", &self.run).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Asks those in the way to turn back, and waits until the locks are free. Nothing is taken: admission does that, and finds whoever
/// was faster.
///
/// # Errors
/// [`AdmissionError::Locked`] where a holder does not make way for this run; [`AdmissionError::StillLocked`] where it did not in time.
pub async fn make_way(ports: &Ports, owner: &OwnerId, wanter: Wanter<'_>) -> Result<(), AdmissionError> {
    let mut turning = Turning { ports, owner, tasks: JoinSet::new(), handles: BTreeMap::new() };
    let made = wait_for(ports, wanter, &mut turning).await;
    turning.rest().await;
    made
}

async fn wait_for(ports: &Ports, wanter: Wanter<'_>, turning: &mut Turning<'_>) -> Result<(), AdmissionError> {
    let store = ports.store.as_ref();
    let ends_at = ports.clock.instant().after(wanter.within);
    let until = ports.clock.now().saturating_add(wanter.within).unwrap_or(jiff::Timestamp::MAX);
    let mut asked: BTreeSet<(RunId, String)> = BTreeSet::new();
    let mut changes = store.watch("lock/").await?;
    loop {
        let mut held: Option<(String, RunId)> = None;
        for lock in wanter.locks {
            let state = history::lock_state(store, &lock.resource).await?;
            let Some(holder) = state.holder else { continue };
            if asked.contains(&(holder.clone(), lock.resource.clone())) {
                held.get_or_insert((lock.resource.clone(), holder));
                continue;
            }
            let locked = || AdmissionError::Locked { resource: lock.resource.clone(), holder: holder.clone() };
            let run = match history::load(store, &holder).await {
                Ok(loaded) => loaded.run,
                Err(_) => return Err(locked()),
            };
            if !can_yield(&run, wanter) {
                return Err(locked());
            }
            let log = history::lock_log(&lock.resource)?;
            let wish = LockRecord::Wanted { by: wanter.run.clone(), until };
            let wish = serde_json::to_vec(&wish).map_err(|error| AdmissionError::Plan(error.to_string()))?;
            let commit = Commit { expect: vec![(log.clone(), state.next)], append: vec![(log, vec![Record(wish)])] };
            match store.commit(commit).await {
                Ok(()) => {
                    if asked.iter().all(|(other, _)| *other != holder) {
                        let kind = if run.is_drill() { "drill" } else { "run" };
                        (wanter.tell)(&format!(
                            "{kind} {holder} holds {} and makes way; waiting up to {}",
                            lock.resource,
                            Period(wanter.within)
                        ));
                    }
                    asked.insert((holder.clone(), lock.resource.clone()));
                }
                // The lock was given back, taken or wished for meanwhile: the next look tells.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if !(wanter.is_driven)(&holder) {
                turning.turn(&holder).await.map_err(|why| AdmissionError::NoWay {
                    resource: lock.resource.clone(),
                    holder: holder.clone(),
                    why,
                })?;
            }
            held.get_or_insert((lock.resource.clone(), holder));
        }
        let Some((resource, holder)) = held else { return Ok(()) };
        let now = ports.clock.instant();
        if now >= ends_at {
            return Err(AdmissionError::StillLocked { resource, holder, within: wanter.within });
        }
        tokio::select! {
            biased;
            Some(_) = turning.tasks.join_next() => {}
            Some(()) = changes.next() => {}
            () = ports.clock.sleep(ends_at.since(now).min(LOOK_AGAIN_AFTER)) => {}
        }
    }
}

fn can_yield(run: &Run, wanter: Wanter<'_>) -> bool {
    // One that ended stuck has nothing left to turn back: a person gives up its locks.
    run.phase != RunPhase::Ended && run.can_turn_back() && yields((&run.plan.mode, &run.locks), (wanter.mode, wanter.locks))
}

/// Runs at rest that this process claims only to turn them back.
struct Turning<'a> {
    ports: &'a Ports,
    owner: &'a OwnerId,
    tasks: JoinSet<()>,
    handles: BTreeMap<RunId, Handle>,
}

impl Turning<'_> {
    /// Claims a run whose process is gone. Its executor finds the wish in the lock's log.
    async fn turn(&mut self, run: &RunId) -> Result<(), String> {
        if self.handles.contains_key(run) {
            return Ok(());
        }
        match resume::claim(self.ports, self.owner, run).await {
            Ok(loaded) => {
                let (executor, handle) = Executor::new(self.ports.clone(), self.owner.clone(), loaded.run, loaded.next);
                self.handles.insert(run.clone(), handle);
                self.tasks.spawn(async move {
                    // What became of it is read from the lock: it is free, or its holder is named when the wait is over.
                    let _ = executor.drive().await;
                });
                Ok(())
            }
            // Another process drives it and reads the wish, or it has just ended.
            Err(ResumeError::Driven { .. } | ResumeError::Overtaken(_) | ResumeError::Ended(_)) => Ok(()),
            Err(
                error @ (ResumeError::History(_) | ResumeError::OtherVersion { .. } | ResumeError::Store(_) | ResumeError::Claim { .. }),
            ) => Err(error.to_string()),
        }
    }

    /// Lets what was claimed come to rest. What is cut off after that is in doubt, and looked at by whoever goes on with it.
    async fn rest(mut self) {
        for handle in self.handles.values() {
            // One that has ended needs no request.
            let _ = handle.requests.try_send(Request::Detach);
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            biased;
            () = all => {}
            () = self.ports.clock.sleep(REST_WITHIN) => {}
        }
    }
}
