//! The one thread that writes to the segments. All changes that wait become one group, and one sync makes the group durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::chain::{chain_after, chain_start};
use crate::mutants::{self, Mutant};
use crate::{Commit, Digest, LogId, Record, Seq, StoreError};

use super::folder::{Folder, TipFile};
use super::hot::Place;
use super::layout::{Head, LogNumber, Tip};
use super::read;
use super::segments::frame::{Body, Part, SegmentNumber};
use super::segments::{Sealed, Segments};
use super::shared::Shared;
use super::tree::{Failure, FailureKind};

/// A group takes no further change once it has this many bytes.
const GROUP_BYTES_MAX: usize = 256 * 1024;

/// Changes that may wait for the committer; further callers wait to be let in.
pub(super) const JOBS_MAX: usize = 1024;

/// What a caller wants changed.
#[derive(Debug)]
pub(super) enum Change {
    Commit(Commit),
    Truncate {
        log: LogId,
        before: Seq,
        carry: Record,
    },
    Remove {
        log: LogId,
    },
    Restore {
        log: LogId,
        first: Seq,
        chain: Digest,
        carry: Record,
    },
    /// Parts of a segment that is given up are written again, where they still live.
    Move(Vec<Moved>),
}

/// A part of a segment that is given up.
#[derive(Debug)]
pub(super) struct Moved {
    /// The name of its log.
    pub(super) name: LogId,
    pub(super) segment: SegmentNumber,
    /// Where it lies in that segment.
    pub(super) at: u64,
    pub(super) part: Part,
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
    pub(super) segments: Segments,
    pub(super) tip: Tip,
    pub(super) tip_file: TipFile,
    /// Where sealed segments go.
    pub(super) sealed: SyncSender<Sealed>,
}

/// Changes that become durable together.
#[derive(Default)]
struct Group {
    body: Body,
    places: Vec<Place>,
    named: BTreeSet<LogNumber>,
    heads: BTreeMap<LogId, Option<Head>>,
    /// Changes that fit, to be answered with `Ok`, and those that did not, each with its reason.
    answers: Vec<(Answer, Result<(), StoreError>)>,
    new_logs: u64,
    readers: Readers,
}

/// Whether readers may go on while the group is published.
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
        while let Some(job) = postponed.take().or_else(|| self.jobs.blocking_recv()) {
            self.hand_over_a_long_segment();
            let mut group = Group::default();
            self.admit(&mut group, job);
            while group.body.len() < GROUP_BYTES_MAX && group.readers == Readers::Welcome {
                match self.jobs.try_recv() {
                    Ok(job) if job.change.rewrites() => {
                        postponed = Some(job);
                        break;
                    }
                    Ok(job) => self.admit(&mut group, job),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.finish(group);
        }
        // The tip is a witness, not a promise: at a clean end it is made as good as the rest.
        let _ = self.tip_file.sync();
    }

    fn hand_over_a_long_segment(&mut self) {
        if let Some(sealed) = self.segments.seal_if_long() {
            // A thread that ended has stopped the store, or the store closes; the next opening finds the segment.
            let _ = self.sealed.send(sealed);
        }
    }

    fn admit(&self, group: &mut Group, job: Job) {
        let planned = self.shared.running().and_then(|()| match job.change {
            Change::Commit(commit) => self.plan_commit(group, commit),
            Change::Truncate { log, before, carry } => self.plan_truncate(group, &log, before, carry),
            Change::Remove { log } => self.plan_remove(group, log),
            Change::Restore { log, first, chain, carry } => self.plan_restore(group, log, first, chain, carry),
            Change::Move(moved) => moved.into_iter().try_for_each(|moved| self.plan_move(group, moved)),
        });
        group.answers.push((job.answer, planned));
    }

    fn head(&self, group: &Group, log: &LogId) -> Result<Option<Head>, StoreError> {
        match group.heads.get(log) {
            Some(head) => Ok(*head),
            None => self.shared.head(log),
        }
    }

    fn plan_commit(&self, group: &mut Group, commit: Commit) -> Result<(), StoreError> {
        for (log, expected) in &commit.expect {
            let found = self.head(group, log)?.map_or(Seq(0), |head| head.next);
            if found != *expected && !mutants::is(Mutant::PlaceUnchecked) {
                return Err(StoreError::Conflict { log: log.clone(), expected: *expected, found });
            }
        }
        // Every head is looked up before the first part is put: nothing of a commit that fails may be in the group.
        for (log, _) in &commit.append {
            let head = self.head(group, log)?;
            group.heads.entry(log.clone()).or_insert(head);
        }
        for (log, records) in commit.append {
            if records.is_empty() {
                continue;
            }
            let mut head = group.heads.get(&log).copied().flatten().unwrap_or_else(|| {
                let number = LogNumber(self.tip.next_number + group.new_logs);
                group.new_logs += 1;
                Head { number, first: Seq(0), next: Seq(0), chain: chain_start(&log) }
            });
            let first = head.next;
            for record in &records {
                head.chain = chain_after(&head.chain, record);
                head.next.0 += 1;
            }
            self.name(group, head.number, &log);
            let within = group.body.put(&Part::Records { log: head.number, first, chain: head.chain, records });
            group.places.push(Place::Records { log: head.number, first, end: head.next, within });
            group.heads.insert(log, Some(head));
        }
        Ok(())
    }

    fn plan_truncate(&self, group: &mut Group, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        let head = self.head(group, log)?;
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
        self.name(group, head.number, log);
        let within = group.body.put(&Part::Carry { log: head.number, place, chain, record: carry });
        group.places.push(Place::Carry { log: head.number, place, within });
        head.first = place;
        group.heads.insert(log.clone(), Some(head));
        group.readers = Readers::KeptOut;
        Ok(())
    }

    fn chain_at(&self, log: &LogId, head: &Head, place: Seq) -> Result<Digest, StoreError> {
        if place.0 + 1 == head.next.0 {
            return Ok(head.chain);
        }
        // The segment that is read must not be given up meanwhile.
        let _reading = self.shared.gate.read().unwrap_or_else(PoisonError::into_inner);
        let frames = read::frames(&self.shared.reader(), log, head, place, Seq(place.0 + 1), 1)?;
        Ok(frames.first().map_or(head.chain, |(_, framed)| framed.chain))
    }

    fn plan_remove(&self, group: &mut Group, log: LogId) -> Result<(), StoreError> {
        if let Some(head) = self.head(group, &log)? {
            self.name(group, head.number, &log);
            group.body.put(&Part::Removed { log: head.number });
            group.places.push(Place::Removed { log: head.number });
            group.heads.insert(log, None);
            group.readers = Readers::KeptOut;
        }
        Ok(())
    }

    fn plan_restore(&self, group: &mut Group, log: LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        if let Some(head) = self.head(group, &log)? {
            return Err(StoreError::Conflict { log, expected: Seq(0), found: head.next });
        }
        let number = LogNumber(self.tip.next_number + group.new_logs);
        group.new_logs += 1;
        self.name(group, number, &log);
        let within = group.body.put(&Part::Carry { log: number, place: first, chain, record: carry });
        group.places.push(Place::Carry { log: number, place: first, within });
        group.heads.insert(log, Some(Head { number, first, next: Seq(first.0 + 1), chain }));
        Ok(())
    }

    /// Asks anew whether the part lives: its log may have been changed since it was read. Nothing of what is asked changes within a group
    /// that has room for this: what rewrites has a group of its own.
    fn plan_move(&self, group: &mut Group, moved: Moved) -> Result<(), StoreError> {
        let Some(from) = self.shared.still_living(&moved)? else { return Ok(()) };
        let log = moved.part.log();
        let again = match moved.part {
            Part::Name { .. } | Part::Removed { .. } => return Ok(()),
            Part::Carry { place, chain, record, .. } | Part::CarryAgain { place, chain, record, .. } => {
                Part::CarryAgain { log, place, chain, record }
            }
            Part::Records { first, chain, mut records, .. } | Part::RecordsAgain { first, chain, mut records, .. } => {
                records.drain(..usize::try_from(from.0 - first.0).unwrap_or(0));
                Part::RecordsAgain { log, first: from, chain, records }
            }
        };
        self.name(group, log, &moved.name);
        let within = group.body.put(&again);
        group.places.extend(Place::of(&again, within));
        Ok(())
    }

    /// Names a log where its segment has not done so yet.
    fn name(&self, group: &mut Group, log: LogNumber, name: &LogId) {
        if !self.segments.has_named(log) && group.named.insert(log) {
            group.body.put(&Part::Name { log, name: name.clone() });
        }
    }

    /// Writes the group, publishes it, answers.
    fn finish(&mut self, mut group: Group) {
        // Another thread may have stopped the store since this group was put together: then it is not written, and nobody may hear `Ok`.
        let outcome = self.shared.running().and_then(|()| {
            self.write(&mut group).map_err(|failure| {
                self.shared.stop(&failure);
                failure.into_error(&self.shared.folder)
            })
        });
        for (answer, planned) in group.answers {
            let result = planned.and_then(|()| match &outcome {
                Ok(()) => Ok(()),
                Err(StoreError::DiskFull { folder }) => Err(StoreError::DiskFull { folder: folder.clone() }),
                Err(StoreError::Poisoned(why)) => Err(StoreError::Poisoned(why.clone())),
                Err(other) => Err(StoreError::Poisoned(other.to_string())),
            });
            // Who no longer waits finds the outcome by reading.
            let _ = answer.send(result);
        }
    }

    fn write(&mut self, group: &mut Group) -> Result<(), Failure> {
        if group.body.is_empty() {
            return Ok(());
        }
        let tip = Tip { groups: self.tip.groups + 1, next_number: self.tip.next_number + group.new_logs };
        let sealed = group.body.seal(tip.groups, self.segments.before());
        let landed = self.segments.append(&sealed, std::mem::take(&mut group.named))?;
        self.tip_file.write(tip).map_err(|error| Failure { kind: FailureKind::Stopped, why: format!("writing the tip: {error}") })?;
        self.tip = tip;
        let kept_out = (group.readers == Readers::KeptOut).then(|| self.shared.gate.write().unwrap_or_else(PoisonError::into_inner));
        let mut hot = self.shared.hot.write().unwrap_or_else(PoisonError::into_inner);
        group.places.drain(..).for_each(|place| hot.place(landed.segment, landed.at, place));
        let changed: Vec<LogId> = group.heads.keys().cloned().collect();
        for (log, head) in std::mem::take(&mut group.heads) {
            hot.set_head(landed.segment, log, head);
        }
        drop(hot);
        drop(kept_out);
        // Whoever wakes finds what it was woken for.
        self.shared.watchers.tell(changed.iter());
        Ok(())
    }
}

impl Change {
    /// Whether it changes what readers may be reading. Such a change has a group of its own: it reads what is published, which does
    /// not hold the changes before it in the same group yet.
    fn rewrites(&self) -> bool {
        match self {
            Self::Commit(_) | Self::Restore { .. } | Self::Move(_) => false,
            Self::Truncate { .. } | Self::Remove { .. } => true,
        }
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
