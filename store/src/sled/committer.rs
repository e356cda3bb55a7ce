//! The one thread that writes to the tree. All changes that wait become one group, and one sync makes the group durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};

use ::sled::Batch;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::chain::{chain_after, chain_start};
use crate::{Commit, Digest, LogId, Record, Seq, StoreError};

use super::Shared;
use super::engine::{Failure, FailureKind};
use super::folder::{Folder, TipFile};
use super::layout::{Framed, Garbage, Head, Kind, LogNumber, TIP_KEY, Tip, garbage_key, head_key, part_key};

/// A group takes no further change once it has this many bytes of values.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// Deleted records cleared away with one group.
const GARBAGE_KEYS_MAX: usize = 1024;

/// Changes that may wait for the committer; further callers wait to be let in.
pub(super) const JOBS_MAX: usize = 1024;

/// What a caller wants changed.
#[derive(Debug)]
pub(super) enum Change {
    Commit(Commit),
    Truncate { log: LogId, before: Seq, carry: Record },
    Remove { log: LogId },
    Restore { log: LogId, first: Seq, chain: Digest, carry: Record },
}

/// Where the outcome of a change goes.
pub(super) type Answer = oneshot::Sender<Result<(), StoreError>>;

/// A change and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) answer: Answer,
}

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) tip: Tip,
    pub(super) tip_file: TipFile,
    pub(super) garbage: VecDeque<Garbage>,
}

/// Changes that become durable together.
#[derive(Default)]
struct Group {
    batch: Batch,
    bytes: usize,
    heads: BTreeMap<LogId, Option<Head>>,
    /// Changes that fit, to be answered with `Ok`, and those that did not, each with its reason.
    answers: Vec<(Answer, Result<(), StoreError>)>,
    garbage: Vec<Garbage>,
    new_logs: u64,
    readers: Readers,
}

/// Whether readers may go on while the group is written.
#[derive(Default, PartialEq, Eq)]
enum Readers {
    /// The group only adds behind what readers see.
    #[default]
    Welcome,
    /// The group changes what a reader may be reading.
    KeptOut,
}

impl Committer {
    /// Works until every handle of the store is gone.
    pub(super) fn run(mut self) {
        let mut postponed = None;
        while let Some(job) = self.next_job(&mut postponed) {
            let mut group = Group::default();
            if let Some(job) = job {
                self.admit(&mut group, job);
                while group.bytes < GROUP_BYTES_MAX && group.readers == Readers::Welcome {
                    match self.jobs.try_recv() {
                        Ok(job) if job.change.rewrites() => {
                            postponed = Some(job);
                            break;
                        }
                        Ok(job) => self.admit(&mut group, job),
                        Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                    }
                }
            }
            self.finish(group);
        }
        // The tip is a witness, not a promise: at a clean end it is made as good as the tree.
        let _ = self.tip_file.sync();
    }

    /// The next change; `Some(None)` where there is only clearing away to do.
    fn next_job(&mut self, postponed: &mut Option<Job>) -> Option<Option<Job>> {
        if let Some(job) = postponed.take() {
            return Some(Some(job));
        }
        if !self.garbage.is_empty() && self.shared.running().is_ok() {
            match self.jobs.try_recv() {
                Ok(job) => return Some(Some(job)),
                Err(TryRecvError::Empty) => return Some(None),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        self.jobs.blocking_recv().map(Some)
    }

    fn admit(&self, group: &mut Group, job: Job) {
        let planned = self.shared.running().and_then(|()| match job.change {
            Change::Commit(commit) => self.plan_commit(group, commit),
            Change::Truncate { log, before, carry } => self.plan_truncate(group, &log, before, carry),
            Change::Remove { log } => self.plan_remove(group, log),
            Change::Restore { log, first, chain, carry } => self.plan_restore(group, log, first, chain, carry),
        });
        group.answers.push((job.answer, planned));
    }

    fn head(&self, group: &Group, log: &LogId) -> Option<Head> {
        group.heads.get(log).copied().unwrap_or_else(|| self.shared.head(log))
    }

    fn plan_commit(&self, group: &mut Group, commit: Commit) -> Result<(), StoreError> {
        for (log, expected) in &commit.expect {
            let found = self.head(group, log).map_or(Seq(0), |head| head.next);
            if found != *expected {
                return Err(StoreError::Conflict { log: log.clone(), expected: *expected, found });
            }
        }
        for (log, records) in commit.append {
            if records.is_empty() {
                continue;
            }
            let mut head = self.head(group, &log).unwrap_or_else(|| {
                let number = LogNumber(self.tip.next_number + group.new_logs);
                group.new_logs += 1;
                Head { number, first: Seq(0), next: Seq(0), chain: chain_start(&log) }
            });
            for record in records {
                head.chain = chain_after(&head.chain, &record);
                group.put(&head, head.next, Framed { kind: Kind::Appended, chain: head.chain, record });
                head.next.0 += 1;
            }
            group.heads.insert(log, Some(head));
        }
        Ok(())
    }

    fn plan_truncate(&self, group: &mut Group, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        let head = self.head(group, log);
        let next = head.map_or(Seq(0), |head| head.next);
        if before > next {
            return Err(StoreError::Conflict { log: log.clone(), expected: before, found: next });
        }
        let (Some(mut head), Some(place)) = (head, before.0.checked_sub(1).map(Seq)) else {
            return Ok(());
        };
        if place < head.first {
            return Err(StoreError::Compacted { log: log.clone(), first: head.first });
        }
        let chain = self.chain_at(log, &head, place)?;
        for key in self.shared.engine.part_keys(head.number, place, before, usize::from(u16::MAX))? {
            group.batch.remove(key);
        }
        group.put(&head, place, Framed { kind: Kind::Carry, chain, record: carry });
        if head.first < place {
            group.throw_away(Garbage { number: head.number, from: head.first, end: place });
        }
        head.first = place;
        group.heads.insert(log.clone(), Some(head));
        group.readers = Readers::KeptOut;
        Ok(())
    }

    fn chain_at(&self, log: &LogId, head: &Head, place: Seq) -> Result<Digest, StoreError> {
        if place.0 + 1 == head.next.0 {
            return Ok(head.chain);
        }
        let frames = self.shared.engine.frames(log, head.number, place, Seq(place.0 + 1), 1)?;
        Ok(frames.first().map_or(head.chain, |(_, framed)| framed.chain))
    }

    fn plan_remove(&self, group: &mut Group, log: LogId) -> Result<(), StoreError> {
        if let Some(head) = self.head(group, &log) {
            group.throw_away(Garbage { number: head.number, from: head.first, end: head.next });
            group.heads.insert(log, None);
            group.readers = Readers::KeptOut;
        }
        Ok(())
    }

    fn plan_restore(&self, group: &mut Group, log: LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        if let Some(head) = self.head(group, &log) {
            return Err(StoreError::Conflict { log, expected: Seq(0), found: head.next });
        }
        let head = Head { number: LogNumber(self.tip.next_number + group.new_logs), first, next: Seq(first.0 + 1), chain };
        group.new_logs += 1;
        group.put(&head, first, Framed { kind: Kind::Carry, chain, record: carry });
        group.heads.insert(log, Some(head));
        Ok(())
    }

    /// Writes the group, publishes it, answers.
    fn finish(&mut self, mut group: Group) {
        let outcome = self.clear_away(&mut group).and_then(|cleared| match self.shared.running() {
            Ok(()) => self.write(&mut group, cleared),
            Err(_) => Ok(()),
        });
        if let Err(failure) = &outcome {
            self.shared.stop(failure);
        }
        for (answer, planned) in group.answers {
            let result = match &outcome {
                Ok(()) => planned,
                Err(failure) => Err(failure.clone().into_error(&self.shared.folder)),
            };
            // Who no longer waits finds the outcome by reading.
            let _ = answer.send(result);
        }
    }

    fn write(&mut self, group: &mut Group, cleared: Cleared) -> Result<(), Failure> {
        if group.heads.is_empty() && cleared == Cleared::Nothing {
            return Ok(());
        }
        for (log, head) in &group.heads {
            let key = head_key(log);
            match head {
                Some(head) => {
                    let value = head.to_value(&key);
                    group.batch.insert(key, value);
                }
                None => group.batch.remove(key),
            }
        }
        let tip = Tip { groups: self.tip.groups + 1, next_number: self.tip.next_number + group.new_logs };
        group.batch.insert(TIP_KEY, tip.to_value());
        let batch = std::mem::take(&mut group.batch);
        let kept_out = (group.readers == Readers::KeptOut || cleared == Cleared::Something)
            .then(|| self.shared.gate.write().unwrap_or_else(PoisonError::into_inner));
        let written = self.shared.engine.apply(batch).and_then(|()| {
            let failed = |error| Failure { kind: FailureKind::Stopped, why: format!("writing the tip: {error}") };
            self.tip_file.write(tip).map_err(failed)
        });
        // Readers must find the store stopped before the gate opens on a group that may be half there.
        written.inspect_err(|failure| self.shared.stop(failure))?;
        self.tip = tip;
        self.garbage.extend(group.garbage.drain(..));
        self.shared.publish(std::mem::take(&mut group.heads));
        drop(kept_out);
        Ok(())
    }

    /// Adds the deletion of some records that nobody reads any more.
    fn clear_away(&mut self, group: &mut Group) -> Result<Cleared, Failure> {
        let Some(garbage) = self.garbage.front().copied() else {
            return Ok(Cleared::Nothing);
        };
        let keys = self
            .shared
            .engine
            .part_keys(garbage.number, garbage.from, garbage.end, GARBAGE_KEYS_MAX)
            .map_err(|error| Failure { kind: FailureKind::Stopped, why: error.to_string() })?;
        if keys.len() < GARBAGE_KEYS_MAX {
            group.batch.remove(garbage_key(&garbage));
            self.garbage.pop_front();
        }
        keys.into_iter().for_each(|key| group.batch.remove(key));
        Ok(Cleared::Something)
    }
}

#[derive(PartialEq, Eq)]
enum Cleared {
    Something,
    Nothing,
}

impl Change {
    /// Whether it changes what readers may be reading. Such a change has a group of its own: it reads the tree, which does
    /// not hold the changes before it in the same group yet.
    fn rewrites(&self) -> bool {
        match self {
            Self::Commit(_) | Self::Restore { .. } => false,
            Self::Truncate { .. } | Self::Remove { .. } => true,
        }
    }
}

impl Group {
    fn put(&mut self, head: &Head, place: Seq, framed: Framed) {
        for (part, value) in (0..).zip(framed.to_parts(head.number, place)) {
            self.bytes += value.len();
            self.batch.insert(&part_key(head.number, place, part), value);
        }
    }

    fn throw_away(&mut self, garbage: Garbage) {
        self.batch.insert(garbage_key(&garbage), garbage.to_value());
        self.garbage.push(garbage);
    }
}

impl Failure {
    pub(super) fn into_error(self, folder: &Folder) -> StoreError {
        match self.kind {
            FailureKind::DiskFull => StoreError::DiskFull { folder: folder.name() },
            FailureKind::Sync | FailureKind::Stopped => StoreError::Poisoned(self.why),
        }
    }
}
