//! The store on disk: segments in which every commit becomes durable and stays, a sled tree as their index, one owner process. This file is
//! its surface; each room below has one concern.

mod caretaker;
mod cleaning;
mod committer;
mod folder;
mod heads;
mod hot;
mod index;
mod indexing;
mod kept;
mod layout;
mod legacy;
mod open;
mod owner;
mod read;
mod salvage;
mod segments;
mod shared;
mod tree;
mod verify;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::leases::{BootClock, LeaseClock, LeaseTable};
use crate::watchers::Watchers;
use crate::{
    Changes, Commit, Digest, Forgotten, KEPT_BYTES_MAX, Lease, LogHead, LogId, OwnerId, Page, Record, Room, Seq, Sharing, Store, StoreError,
};

use caretaker::{Caretaker, Duty, SEALED_MAX};
use committer::{Change, Committer, JOBS_MAX, Job};
use folder::Folder;
use kept::KeepError;
use open::Opened;
pub use owner::FolderLock;
use owner::Owner;
pub use salvage::Salvaged;
use segments::{Files, Segments};
use shared::{Door, Guest, Shared};
use tree::{Failure, FailureKind};
pub use verify::Verified;

/// Readers at the same time. Each has a thread of the runtime while it reads; more of them than this only make threads, which take turns.
const READERS_MAX: usize = 8;

/// Dead bytes that are put up with, in segments.
const GARBAGE_SEGMENTS: u64 = 4;

/// How a data folder is opened.
#[derive(Clone, Debug)]
pub struct SledOptions {
    clock: Arc<dyn LeaseClock>,
    cache_bytes: u64,
    ballast_bytes: u64,
    segment_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { clock: Arc::new(BootClock), cache_bytes: 32 * 1024 * 1024, ballast_bytes: 4 * 1024 * 1024, segment_bytes: 4 * 1024 * 1024 }
    }
}

impl SledOptions {
    /// Times leases by this clock instead of the system's boot clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn LeaseClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Memory for pages of the index, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Length at which a segment takes no more and is indexed, in bytes. The segment before that is read by the next opening. Old
    /// segments are given up once some [`GARBAGE_SEGMENTS`] segments' worth in them is dead, and more than half.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Room set aside to be given up when the disk is full, in bytes. Opening needs about 2 MiB on a full disk.
    #[must_use]
    pub fn ballast_bytes(mut self, bytes: u64) -> Self {
        self.ballast_bytes = bytes;
        self
    }
}

/// The store of one process in one folder. An acknowledged commit survives a power cut where the disk honours flushes.
/// Dropping the store waits for the commits that were already handed over.
#[derive(Debug)]
pub struct SledStore {
    jobs: Option<mpsc::Sender<Job>>,
    committing: Option<JoinHandle<()>>,
    caring: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    door: Arc<Door>,
    readers: Semaphore,
}

impl SledStore {
    /// Opens the data folder, or makes it. Blocks for the length of a few syncs; call it before the runtime is busy.
    ///
    /// # Errors
    /// [`StoreError::InUse`] names the owner; [`StoreError::NewerFormat`], with the folder untouched; [`StoreError::DiskFull`]
    /// where even giving up the ballast did not make enough room; [`StoreError::Damaged`] says what does not fit.
    pub fn open(folder: &Path, options: &SledOptions) -> Result<Self, StoreError> {
        let folder = Folder::enter(folder)?;
        let owner = Owner::take(folder.path())?;
        let Opened { index, index_tip, indexed, hot, end, sealed, tip, tip_file, kept } = open::open(&folder, options.cache_bytes)?;
        folder.lay_ballast(options.ballast_bytes);
        let shared = Arc::new(Shared {
            index: index.map_or_else(OnceLock::new, OnceLock::from),
            hot: RwLock::new(hot),
            gate: RwLock::default(),
            closing: AtomicBool::new(false),
            cache_bytes: options.cache_bytes,
            files: Files::new(folder.segments()),
            stopped: OnceLock::new(),
            watchers: Watchers::default(),
            leases: LeaseTable::new(options.clock.clone()),
            kept: kept.timed_by(options.clock.clone()),
            folder,
            _owner: owner,
        });
        let (sender, jobs) = mpsc::channel(JOBS_MAX);
        // What the opening found sealed does not wait for room in the line.
        let (seal, to_index) = std::sync::mpsc::sync_channel(SEALED_MAX + sealed.len());
        for segment in sealed {
            // There is room for each of them.
            let _ = seal.try_send(segment);
        }
        let garbage_bytes = options.segment_bytes.saturating_mul(GARBAGE_SEGMENTS);
        let duty = Duty { tip: index_tip, indexed, garbage_bytes };
        let caretaker = Caretaker::new(shared.clone(), duty, to_index, sender.downgrade());
        let segments = Segments::resume(shared.folder.segments(), end, options.segment_bytes);
        let committer = Committer { shared: shared.clone(), jobs, segments, tip, tip_file, sealed: seal };
        let mut store =
            Self { jobs: Some(sender), committing: None, caring: None, shared, door: Arc::default(), readers: Semaphore::new(READERS_MAX) };
        let failed = |source| StoreError::Io { action: "starting the store's threads".into(), source };
        store.caring = Some(std::thread::Builder::new().name("store-caretaker".into()).spawn(|| caretaker.run()).map_err(failed)?);
        store.committing = Some(std::thread::Builder::new().name("store-committer".into()).spawn(|| committer.run()).map_err(failed)?);
        Ok(store)
    }

    /// Walks every log and every kept value.
    ///
    /// # Errors
    /// Where reading itself fails; damage is part of the answer.
    pub async fn verify(&self) -> Result<Verified, StoreError> {
        self.elsewhere(verify::verify).await
    }

    async fn change(&self, change: Change) -> Result<(), StoreError> {
        self.shared.running()?;
        let (answer, answered) = oneshot::channel();
        let ended = || StoreError::Poisoned("the committer ended".into());
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(Job { change, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.running()?;
        if self.shared.index.get().is_none() {
            // The segments were written a moment ago: they are read from memory, and no other thread is needed to wait for a disk.
            return work(&self.shared);
        }
        // Nobody closes it: without a turn of its own a reader goes on all the same.
        let _turn = self.readers.acquire().await.ok();
        self.elsewhere(work).await
    }

    async fn elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.running()?;
        let guest = Guest::new(&self.shared, &self.door);
        let done = tokio::task::spawn_blocking(move || guest.do_work(work)).await;
        done.unwrap_or_else(|error| Err(StoreError::Poisoned(error.to_string())))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.jobs = None;
        self.shared.closing.store(true, Ordering::Relaxed);
        for thread in [self.committing.take(), self.caring.take()].into_iter().flatten() {
            // A thread that panicked has acknowledged nothing since; there is nobody left to tell.
            let _ = thread.join();
        }
        self.door.wait_until_empty();
    }
}

#[async_trait]
impl Store for SledStore {
    fn sharing(&self) -> Sharing {
        // The folder's lock is gone with the process that had it.
        Sharing::Sole
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        commit.check_limits()?;
        self.change(Change::Commit(commit)).await
    }

    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        let log = log.clone();
        self.blocking(move |shared| shared.read_page(&log, from, limit.get() as usize)).await
    }

    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |shared| {
            let heads = shared.heads(&prefix, after.as_ref(), limit.get() as usize)?;
            Ok(heads.into_iter().map(|(log, head)| LogHead { log, first: head.first, next: head.next, chain: head.chain }).collect())
        })
        .await
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        self.shared.running()?;
        Ok(self.shared.watchers.watch(prefix))
    }

    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        Commit::check_record(&carry)?;
        self.change(Change::Truncate { log: log.clone(), before, carry }).await
    }

    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.change(Change::Remove { log: log.clone() }).await
    }

    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        if bytes.len() > KEPT_BYTES_MAX {
            return Err(StoreError::TooLarge { what: "a kept value", bytes: bytes.len(), limit_bytes: KEPT_BYTES_MAX });
        }
        let bytes = bytes.to_vec();
        self.elsewhere(move |shared| {
            shared.kept.keep(&bytes).map_err(|error| match error {
                KeepError::Plain(error) => error,
                KeepError::Sync(error) => {
                    shared.stop(&Failure { kind: FailureKind::Sync, why: error.to_string() });
                    error
                }
            })
        })
        .await
    }

    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let digest = *digest;
        self.elsewhere(move |shared| shared.kept.read(&digest)).await
    }

    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        let after = after.copied();
        self.blocking(move |shared| {
            let mut digests = shared.kept.digests()?;
            digests.retain(|digest| after.is_none_or(|after| *digest > after));
            digests.truncate(limit.get() as usize);
            Ok(digests)
        })
        .await
    }

    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        let digest = *digest;
        self.blocking(move |shared| shared.kept.forget(&digest, grace)).await
    }

    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        Commit::check_record(&carry)?;
        self.change(Change::Restore { log: log.clone(), first, chain, carry }).await
    }

    async fn room(&self) -> Result<Option<Room>, StoreError> {
        self.blocking(|shared| shared.folder.room().map(Some)).await
    }

    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.shared.running()?;
        self.shared.leases.take(log, owner, ttl)
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.shared.running()?;
        self.shared.leases.renew(lease)
    }

    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.shared.leases.release(&lease);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
