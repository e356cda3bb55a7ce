//! The thread that takes sealed segments up into the index, and gives old ones up when more lies dead in them than alive. Nobody who commits
//! waits for it, unless it falls far behind.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::WeakSender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::StoreError;

use super::cleaning;
use super::committer::{Change, Job, Moved};
use super::indexing;
use super::layout::IndexTip;
use super::segments::first::First;
use super::segments::frame::SegmentNumber;
use super::segments::{Sealed, segment_path};
use super::shared::Shared;
use super::tree::{Failure, FailureKind};

/// Room on the disk without which nothing is indexed or moved: the tree writes in steps of half a mebibyte, pages anew each time.
const ROOM_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Room on the disk without which a segment is not indexed or moved, as a multiple of the segment.
const ROOM_TIMES: u64 = 4;

/// Sealed segments that may wait; then commits wait too.
pub(super) const SEALED_MAX: usize = 4;

/// How long to look away from the line of sealed segments while waiting for the committer.
const LOOK_AWAY: Duration = Duration::from_millis(2);

/// What the thread begins with.
#[derive(Debug)]
pub(super) struct Duty {
    /// Where the index stands.
    pub(super) tip: IndexTip,
    /// Segments in the index and their lengths, in order.
    pub(super) indexed: VecDeque<(SegmentNumber, u64)>,
    /// Dead bytes below which nothing is given up.
    pub(super) garbage_bytes: u64,
}

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Caretaker {
    shared: Arc<Shared>,
    duty: Duty,
    sealed: Receiver<Sealed>,
    waiting: VecDeque<Sealed>,
    /// Weak, because the committer ends when nobody can send to it any more.
    jobs: WeakSender<Job>,
    /// What lay dead after the last time that all was looked through: names and frames, which are there anew each time.
    at_rest_bytes: u64,
}

/// Whether there is more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    GoOn,
    /// The store closes or stopped.
    End,
}

impl Caretaker {
    pub(super) fn new(shared: Arc<Shared>, duty: Duty, sealed: Receiver<Sealed>, jobs: WeakSender<Job>) -> Self {
        Self { shared, duty, sealed, waiting: VecDeque::new(), jobs, at_rest_bytes: 0 }
    }

    /// Works until the store closes or stops. What is left is found by the next opening.
    pub(super) fn run(mut self) {
        while let Ok(sealed) = self.sealed.recv() {
            self.waiting.push_back(sealed);
            match self.work() {
                Ok(Course::GoOn) => {}
                Ok(Course::End) => return,
                Err(failure) => {
                    if failure.kind == FailureKind::Stopped {
                        self.shared.folder.mark_index_broken();
                    }
                    self.shared.stop(&failure);
                    return;
                }
            }
        }
    }

    fn work(&mut self) -> Result<Course, Failure> {
        while let Some(sealed) = self.waiting.front().copied().filter(|sealed| self.has_room_for(sealed.end)) {
            if self.ends() {
                return Ok(Course::End);
            }
            self.take_up(sealed)?;
            self.waiting.pop_front();
        }
        self.clean()
    }

    /// A tree that meets a full disk is of no use until the store is opened again. The segments are readable as they are, so it waits.
    fn has_room_for(&self, bytes: u64) -> bool {
        self.shared.folder.free_bytes() >= ROOM_BYTES_MIN.max(bytes.saturating_mul(ROOM_TIMES))
    }

    fn ends(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed) || self.shared.running().is_err()
    }

    fn take_up(&mut self, sealed: Sealed) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let index = shared.index_or_new()?;
        self.duty.tip = indexing::take_up(&shared.folder, index, self.duty.tip, sealed)?;
        self.duty.indexed.push_back((sealed.number, sealed.end));
        let _gate = shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        shared.hot.write().unwrap_or_else(PoisonError::into_inner).forget(sealed.number);
        Ok(())
    }

    fn garbage_bytes(&self) -> u64 {
        let all: u64 = self.duty.indexed.iter().map(|(_, bytes)| bytes).sum();
        all.saturating_sub(self.duty.tip.live_bytes)
    }

    fn is_worth_cleaning(&self) -> bool {
        let garbage = self.garbage_bytes();
        garbage > self.at_rest_bytes + self.duty.garbage_bytes && garbage > self.duty.tip.live_bytes
    }

    /// Gives up the oldest segments while most of what the segments hold is dead, and each at most once.
    fn clean(&mut self) -> Result<Course, Failure> {
        let Some((newest, _)) = self.duty.indexed.back().copied() else { return Ok(Course::GoOn) };
        while self.is_worth_cleaning() {
            let Some((oldest, bytes)) = self.duty.indexed.front().copied().filter(|(oldest, _)| *oldest < newest) else {
                self.at_rest_bytes = self.garbage_bytes();
                break;
            };
            if self.ends() {
                return Ok(Course::End);
            }
            if !self.has_room_for(bytes) || self.give_up(oldest)? == Course::End {
                break;
            }
        }
        Ok(Course::GoOn)
    }

    fn give_up(&mut self, segment: SegmentNumber) -> Result<Course, Failure> {
        let living = cleaning::living(&self.shared, segment)?;
        for portion in living.portions {
            if self.write_again(portion)? == Course::End {
                return Ok(Course::End);
            }
        }
        let first = First { segment: SegmentNumber(segment.0 + 1), group: living.next_group };
        match first.write(&self.shared.folder.segments()) {
            Ok(()) => {}
            // It stays, and nothing in it counts any more.
            Err(StoreError::DiskFull { .. }) => return Ok(Course::End),
            Err(other) => return Err(Failure { kind: FailureKind::Sync, why: other.to_string() }),
        }
        let _gate = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.files.give_up(segment).map_err(|error| Failure { kind: FailureKind::Sync, why: error.to_string() })?;
        self.duty.indexed.pop_front();
        Ok(Course::GoOn)
    }

    /// Has the committer write parts again, and waits until they are durable. Meanwhile the line of sealed segments is emptied, because
    /// the committer may be waiting for room in it.
    fn write_again(&mut self, portion: Vec<Moved>) -> Result<Course, Failure> {
        let Some(jobs) = self.jobs.upgrade() else { return Ok(Course::End) };
        let (answer, mut answered) = oneshot::channel();
        let mut unsent = Some(Job { change: Change::Move(portion), answer });
        loop {
            match unsent.take().map(|job| jobs.try_send(job)) {
                Some(Err(TrySendError::Full(job))) => unsent = Some(job),
                Some(Err(TrySendError::Closed(_))) => return Ok(Course::End),
                Some(Ok(())) | None => {}
            }
            match answered.try_recv() {
                Ok(Ok(())) => return Ok(Course::GoOn),
                Ok(Err(error)) => return Err(Failure::from(error)),
                Err(TryRecvError::Closed) if unsent.is_none() => return Ok(Course::End),
                Err(TryRecvError::Closed | TryRecvError::Empty) => {}
            }
            match self.sealed.recv_timeout(LOOK_AWAY) {
                Ok(sealed) => self.waiting.push_back(sealed),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(Course::End),
            }
        }
    }
}

/// Segments in the index and how long they are.
pub(super) fn lengths(segments: &std::path::Path, from: SegmentNumber, last: SegmentNumber) -> VecDeque<(SegmentNumber, u64)> {
    let length = |number| std::fs::metadata(segment_path(segments, number)).map_or(0, |found| found.len());
    (from.0..=last.0).map(SegmentNumber).map(|number| (number, length(number))).collect()
}
