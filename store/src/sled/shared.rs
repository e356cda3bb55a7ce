//! What callers and the threads of the store share: heads and records wherever they lie, who stopped the store, who is still inside.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use crate::chain::chain_start;
use crate::leases::LeaseTable;
use crate::watchers::Watchers;
use crate::{LogId, Page, Seq, StoreError};

use super::committer::Moved;
use super::folder::Folder;
use super::hot::{Hot, Newest};
use super::index::Index;
use super::kept::Kept;
use super::layout::{Head, Spot};
use super::owner::Owner;
use super::read::{self, Reader};
use super::segments::Files;
use super::segments::frame::Part;
use super::tree::{Failure, FailureKind};

/// What callers and the threads share. The order of the fields is the order in which they end: the lock goes last.
#[derive(Debug)]
pub(super) struct Shared {
    /// There once a segment was sealed.
    pub(super) index: OnceLock<Index>,
    /// What is durable and not in the index. Readers never look past it.
    pub(super) hot: RwLock<Hot>,
    /// Held by readers, and by the threads while they change what readers may be reading.
    pub(super) gate: RwLock<()>,
    /// The store closes: what can wait for the next opening does.
    pub(super) closing: AtomicBool,
    pub(super) cache_bytes: u64,
    pub(super) files: Files,
    pub(super) stopped: OnceLock<String>,
    pub(super) watchers: Watchers,
    pub(super) leases: LeaseTable,
    pub(super) kept: Kept,
    pub(super) folder: Folder,
    pub(super) _owner: Owner,
}

impl Shared {
    pub(super) fn running(&self) -> Result<(), StoreError> {
        self.stopped.get().map_or(Ok(()), |why| Err(StoreError::Poisoned(why.clone())))
    }

    /// After this nothing is acknowledged any more.
    pub(super) fn stop(&self, failure: &Failure) {
        // The first reason is the one worth telling.
        let _ = self.stopped.set(failure.why.clone());
        match failure.kind {
            FailureKind::Sync => self.folder.mark_sync_failed(&failure.why),
            FailureKind::DiskFull | FailureKind::Stopped => {}
        }
        self.watchers.tell_all();
    }

    pub(super) fn head(&self, log: &LogId) -> Result<Option<Head>, StoreError> {
        match self.hot().newest(log) {
            Newest::Hot(head) => Ok(head),
            Newest::Index => self.index.get().map_or(Ok(None), |index| index.head(log)),
        }
    }

    /// Heads by name, as [`Store::logs`] lists them.
    pub(super) fn heads(&self, prefix: &str, after: Option<&LogId>, limit: usize) -> Result<Vec<(LogId, Head)>, StoreError> {
        // What the index takes up meanwhile must not be missed in both places.
        let _reading = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.running()?;
        let hot = self.hot().heads(prefix, after, limit);
        let Some(index) = self.index.get() else {
            return Ok(hot.into_iter().filter_map(|(log, head)| Some((log, head?))).take(limit).collect());
        };
        let mut hot = hot.into_iter().peekable();
        let mut cold = index.heads(prefix, after).peekable();
        let mut found = Vec::new();
        while found.len() < limit {
            let hot_first = match (hot.peek(), cold.peek()) {
                (Some((hot, _)), Some(Ok((cold, _)))) => hot.cmp(cold),
                (Some(_), None) => std::cmp::Ordering::Less,
                (_, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => break,
            };
            let (log, head) = match hot_first {
                std::cmp::Ordering::Greater => match cold.next() {
                    Some(next) => next.map(|(log, head)| (log, Some(head)))?,
                    None => break,
                },
                std::cmp::Ordering::Less | std::cmp::Ordering::Equal => {
                    if hot_first == std::cmp::Ordering::Equal {
                        cold.next();
                    }
                    match hot.next() {
                        Some(next) => next,
                        None => break,
                    }
                }
            };
            found.extend(head.map(|head| (log, head)));
        }
        Ok(found)
    }

    pub(super) fn hot(&self) -> RwLockReadGuard<'_, Hot> {
        self.hot.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { folder: &self.folder, files: &self.files, hot: &self.hot, index: self.index.get() }
    }

    /// The index, made if this is the first segment that it takes up.
    pub(super) fn index_or_new(&self) -> Result<&Index, StoreError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let index = Index::make(&self.folder, self.cache_bytes)?;
        Ok(self.index.get_or_init(|| index))
    }

    /// The first place for which a part still stands where it lies; `None` where it is dead, or was moved.
    pub(super) fn still_living(&self, moved: &Moved) -> Result<Option<Seq>, StoreError> {
        let number = moved.part.log();
        let Some(head) = self.head(&moved.name)?.filter(|head| head.number == number) else { return Ok(None) };
        let last = match &moved.part {
            Part::Name { .. } | Part::Removed { .. } => return Ok(None),
            Part::Carry { place, .. } | Part::CarryAgain { place, .. } if *place == head.first => *place,
            Part::Carry { .. } | Part::CarryAgain { .. } => return Ok(None),
            Part::Records { first, records, .. } | Part::RecordsAgain { first, records, .. } => {
                Seq((first.0 + records.len() as u64).saturating_sub(1))
            }
        };
        let is_this = |spot: &Spot| (spot.segment, spot.at) == (moved.segment, moved.at);
        let Some((filed, _)) = self.reader().spot(number, last)?.filter(|(_, spot)| is_this(spot)) else { return Ok(None) };
        let mut from = filed.max(head.first);
        // Where the log was cut within this part, its first place belongs to the record that stands for what is gone.
        if from == head.first && !self.reader().spot(number, from)?.is_some_and(|(_, spot)| is_this(&spot)) {
            from.0 += 1;
        }
        Ok((from <= last).then_some(from))
    }

    /// Reads while no rewriting goes on; `None` where the log was truncated or removed since `head` was taken.
    pub(super) fn unless_rewritten<T>(
        &self,
        log: &LogId,
        head: &Head,
        read: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let _reading = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        // A rewriting that failed half-way has stopped the store before it gave the gate back.
        self.running()?;
        match self.head(log)? {
            Some(now) if now.number == head.number && now.first == head.first => read().map(Some),
            Some(_) | None => Ok(None),
        }
    }

    pub(super) fn read_page(&self, log: &LogId, from: Seq, limit: usize) -> Result<Page, StoreError> {
        loop {
            let Some(head) = self.head(log)? else {
                return Ok(Page { records: Vec::new(), next: Seq(0), chain: chain_start(log) });
            };
            let page = self.unless_rewritten(log, &head, || read::page(&self.reader(), log, &head, from, limit))?;
            if let Some(page) = page {
                return Ok(page);
            }
        }
    }
}

/// Reading on a thread of the runtime, which goes on when nobody waits for it any more.
pub(super) struct Guest {
    shared: Arc<Shared>,
    _inside: Inside,
}

impl Guest {
    pub(super) fn new(shared: &Arc<Shared>, door: &Arc<Door>) -> Self {
        Self { shared: Arc::clone(shared), _inside: door.enter() }
    }

    /// Takes the guest whole: it leaves when the work is done, and not when nobody waits for it any more.
    pub(super) fn do_work<T>(self, work: impl FnOnce(&Shared) -> T) -> T {
        work(&self.shared)
    }
}

/// Counts guests, so that a dropped store can wait for them: until they have left, the folder has an owner.
#[derive(Debug, Default)]
pub(super) struct Door {
    inside: Mutex<usize>,
    left: Condvar,
}

/// One guest. Dropped last, when it no longer holds anything of the store.
struct Inside(Arc<Door>);

impl Door {
    fn enter(self: &Arc<Self>) -> Inside {
        *self.inside.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Inside(Arc::clone(self))
    }

    pub(super) fn wait_until_empty(&self) {
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.left.wait_while(inside, |inside| *inside > 0));
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        *self.0.inside.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_all();
    }
}
