//! The store on disk: one sled tree made durable, one owner process. This file is its surface; each room below has one concern.

mod committer;
mod engine;
mod folder;
mod kept;
mod layout;
mod open;
mod owner;
mod read;
mod verify;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::chain::chain_start;
use crate::leases::{BootClock, LeaseClock, LeaseTable};
use crate::watchers::Watchers;
use crate::{
    Changes, Commit, Digest, Forgotten, KEPT_BYTES_MAX, Lease, LogHead, LogId, OwnerId, Page, Record, Room, Seq, Sharing, Store, StoreError,
};

use committer::{Change, Committer, JOBS_MAX, Job};
use engine::{Engine, Failure, FailureKind};
use folder::Folder;
use kept::{KeepError, Kept};
use layout::Head;
use open::{Heads, Opened};
use owner::Owner;
pub use verify::Verified;

/// How a data folder is opened.
#[derive(Clone, Debug)]
pub struct SledOptions {
    clock: Arc<dyn LeaseClock>,
    cache_bytes: u64,
    ballast_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { clock: Arc::new(BootClock), cache_bytes: 32 * 1024 * 1024, ballast_bytes: 4 * 1024 * 1024 }
    }
}

impl SledOptions {
    /// Times leases by this clock instead of the system's boot clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn LeaseClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Memory for pages of the tree, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
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
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What callers and the committer share. The order of the fields is the order in which they end: the lock goes last.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    /// Heads of what is durable. Readers never look past them.
    heads: RwLock<Heads>,
    /// Held by readers, and by the committer while it changes what they may be reading.
    gate: RwLock<()>,
    stopped: OnceLock<String>,
    watchers: Watchers,
    leases: LeaseTable,
    kept: Kept,
    folder: Folder,
    _owner: Owner,
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
        let Opened { engine, heads, garbage, tip, tip_file, kept } = open::open(&folder, options.cache_bytes)?;
        folder.lay_ballast(options.ballast_bytes);
        let shared = Arc::new(Shared {
            engine,
            heads: RwLock::new(heads),
            gate: RwLock::default(),
            stopped: OnceLock::new(),
            watchers: Watchers::default(),
            leases: LeaseTable::new(options.clock.clone()),
            kept: kept.timed_by(options.clock.clone()),
            folder,
            _owner: owner,
        });
        let (sender, jobs) = mpsc::channel(JOBS_MAX);
        let committer = Committer { shared: shared.clone(), jobs, tip, tip_file, garbage };
        let thread = std::thread::Builder::new().name("store-committer".into()).spawn(|| committer.run());
        let thread = thread.map_err(|source| StoreError::Io { action: "starting the committer's thread".into(), source })?;
        Ok(Self { jobs: Some(sender), thread: Some(thread), shared })
    }

    /// Walks every log and every kept value.
    ///
    /// # Errors
    /// Where reading itself fails; damage is part of the answer.
    pub async fn verify(&self) -> Result<Verified, StoreError> {
        self.blocking(verify::verify).await
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
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.unwrap_or_else(|error| Err(StoreError::Poisoned(error.to_string())))
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A committer that panicked has acknowledged nothing since; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn running(&self) -> Result<(), StoreError> {
        self.stopped.get().map_or(Ok(()), |why| Err(StoreError::Poisoned(why.clone())))
    }

    /// After this nothing is acknowledged any more.
    fn stop(&self, failure: &Failure) {
        // The first reason is the one worth telling.
        let _ = self.stopped.set(failure.why.clone());
        match failure.kind {
            FailureKind::Sync => self.folder.mark_sync_failed(&failure.why),
            FailureKind::DiskFull | FailureKind::Stopped => {}
        }
        self.watchers.tell_all();
    }

    fn head(&self, log: &LogId) -> Option<Head> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).get(log).copied()
    }

    fn all_heads(&self) -> Heads {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, changed: BTreeMap<LogId, Option<Head>>) {
        let logs: Vec<LogId> = changed.keys().cloned().collect();
        {
            let mut heads = self.heads.write().unwrap_or_else(PoisonError::into_inner);
            for (log, head) in changed {
                match head {
                    Some(head) => heads.insert(log, head),
                    None => heads.remove(&log),
                };
            }
        }
        // Whoever wakes finds what it was woken for.
        self.watchers.tell(logs.iter());
    }

    /// Reads while no rewriting goes on; `None` where the log was truncated or removed since `head` was taken.
    fn unless_rewritten<T>(&self, log: &LogId, head: &Head, read: impl FnOnce() -> Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        let _reading = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        // A rewriting that failed half-way has stopped the store before it gave the gate back.
        self.running()?;
        match self.head(log) {
            Some(now) if now.number == head.number && now.first == head.first => read().map(Some),
            Some(_) | None => Ok(None),
        }
    }

    fn read_page(&self, log: &LogId, from: Seq, limit: usize) -> Result<Page, StoreError> {
        loop {
            let Some(head) = self.head(log) else {
                return Ok(Page { records: Vec::new(), next: Seq(0), chain: chain_start(log) });
            };
            let page = self.unless_rewritten(log, &head, || read::page(&self.folder, &self.engine, log, &head, from, limit))?;
            if let Some(page) = page {
                return Ok(page);
            }
        }
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
        self.shared.running()?;
        let heads = self.shared.heads.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = heads
            .iter()
            .skip_while(|(log, _)| log.as_str() < prefix || after.is_some_and(|after| *log <= after))
            .take_while(|(log, _)| log.as_str().starts_with(prefix));
        let wanted = wanted.map(|(log, head)| LogHead { log: log.clone(), first: head.first, next: head.next, chain: head.chain });
        Ok(wanted.take(limit.get() as usize).collect())
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
        self.blocking(move |shared| {
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
        self.blocking(move |shared| shared.kept.read(&digest)).await
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
mod tests {
    use super::*;
    use crate::contract::{LeasesAfterReopening, Subject};
    use crate::leases::ManualClock;

    #[derive(Debug)]
    struct OnDisk {
        folder: tempfile::TempDir,
        clock: ManualClock,
    }

    #[async_trait]
    impl Subject for OnDisk {
        async fn open(&mut self) -> Arc<dyn Store> {
            let options = SledOptions::default().clock(Arc::new(self.clock.clone())).ballast_bytes(4096);
            Arc::new(SledStore::open(&self.folder.path().join("data"), &options).unwrap())
        }

        async fn advance(&mut self, by: Duration) {
            self.clock.advance(by);
        }

        fn leases_after_reopening(&self) -> LeasesAfterReopening {
            LeasesAfterReopening::Gone
        }
    }

    fn on_disk() -> OnDisk {
        OnDisk { folder: tempfile::tempdir().unwrap(), clock: ManualClock::default() }
    }

    crate::contract_suite!(on_disk());

    fn log() -> LogId {
        LogId::new("run/a").unwrap()
    }

    async fn with_records(folder: &Path, count: u8) {
        let store = SledStore::open(folder, &SledOptions::default().ballast_bytes(4096)).unwrap();
        for n in 0..count {
            store
                .commit(Commit { expect: vec![(log(), Seq(n.into()))], append: vec![(log(), vec![Record(vec![n; 5_000])])] })
                .await
                .unwrap();
        }
    }

    /// Changes the closed tree behind the store's back, and says what the store makes of it.
    async fn after_tampering(tamper: impl FnOnce(&Engine, &Head) -> ::sled::Batch) -> String {
        let place = tempfile::tempdir().unwrap();
        with_records(place.path(), 5).await;
        let folder = Folder::enter(place.path()).unwrap();
        {
            let engine = Engine::open(&folder, &folder.store(), 1024 * 1024).unwrap();
            let key = layout::head_key(&log());
            let head = Head::from_value(&key, &engine.get(&key).unwrap().unwrap()).unwrap();
            engine.apply(tamper(&engine, &head)).unwrap();
        }
        let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
        let verified = store.verify().await.unwrap();
        match store.read(&log(), Seq(0), NonZeroU32::MAX).await {
            Err(StoreError::Damaged { what, .. }) => {
                assert_eq!(verified.damage, std::slice::from_ref(&what), "verifying says what reading says");
                what
            }
            other => panic!("tampering went unnoticed: {other:?}"),
        }
    }

    fn rewrite(number: layout::LogNumber, place: Seq, framed: &layout::Framed) -> ::sled::Batch {
        let mut batch = ::sled::Batch::default();
        for (part, value) in (0..).zip(framed.to_parts(number, place)) {
            batch.insert(&layout::part_key(number, place, part), value);
        }
        batch
    }

    #[tokio::test]
    async fn a_record_with_a_right_checksum_and_another_content_breaks_the_chain_at_its_place() {
        let what = after_tampering(|engine, head| {
            let mut found = engine.frames(&log(), head.number, Seq(2), Seq(3), 1).unwrap();
            let (place, framed) = found.first_mut().unwrap();
            framed.record.0[4_321] ^= 1;
            rewrite(head.number, *place, framed)
        })
        .await;
        assert!(what.contains("record 2 of log run/a") && what.contains("chain breaks"), "{what}");
    }

    #[tokio::test]
    async fn a_forged_record_with_a_chain_of_its_own_is_noticed_at_the_next_one() {
        let what = after_tampering(|engine, head| {
            let before = engine.frames(&log(), head.number, Seq(1), Seq(2), 1).unwrap().remove(0).1;
            let record = Record(b"forged".to_vec());
            let chain = crate::chain::chain_after(&before.chain, &record);
            let mut batch = rewrite(head.number, Seq(2), &layout::Framed { kind: layout::Kind::Appended, chain, record });
            batch.remove(&layout::part_key(head.number, Seq(2), 1));
            batch
        })
        .await;
        assert!(what.contains("record 3 of log run/a"), "{what}");
    }

    #[tokio::test]
    async fn a_missing_record_or_part_and_a_shortened_log_are_noticed() {
        for (place, part) in [(0, 0), (2, 0), (2, 1), (4, 0), (4, 1)] {
            let what = after_tampering(|_, head| {
                let mut batch = ::sled::Batch::default();
                batch.remove(&layout::part_key(head.number, Seq(place), part));
                batch
            })
            .await;
            assert!(what.contains(&format!("record {place} of log run/a")), "{what}");
        }
        let what = after_tampering(|_, head| {
            let key = layout::head_key(&log());
            let mut batch = ::sled::Batch::default();
            batch.insert(key.clone(), Head { next: Seq(4), ..*head }.to_value(&key));
            batch
        })
        .await;
        assert!(what.contains("record 3 of log run/a is the last one"), "{what}");
    }

    #[tokio::test]
    async fn a_carry_in_the_middle_of_a_log_is_no_way_around_the_chain() {
        let what = after_tampering(|engine, head| {
            let mut framed = engine.frames(&log(), head.number, Seq(2), Seq(3), 1).unwrap().remove(0).1;
            framed.kind = layout::Kind::Carry;
            framed.record.0[0] ^= 1;
            rewrite(head.number, Seq(2), &framed)
        })
        .await;
        assert!(what.contains("record 2 of log run/a stands for others"), "{what}");
    }

    #[tokio::test]
    async fn what_was_removed_is_cleared_away_with_the_next_commit() {
        let place = tempfile::tempdir().unwrap();
        with_records(place.path(), 9).await;
        let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
        let number = store.shared.head(&log()).unwrap().number;
        let left = || store.shared.engine.part_keys(number, Seq(0), Seq(u64::MAX), 1000).unwrap().len();
        assert_eq!(left(), 9 * 2);
        store.truncate(&log(), Seq(5), Record(vec![1; 9_000])).await.unwrap();
        let other = |n: u64| Commit { expect: Vec::new(), append: vec![(LogId::new("run/b").unwrap(), vec![Record(vec![n as u8])])] };
        store.commit(other(0)).await.unwrap();
        assert_eq!(left(), 3 + 4 * 2, "the carry and four records");
        store.remove(&log()).await.unwrap();
        store.commit(other(1)).await.unwrap();
        assert_eq!(left(), 0);
    }

    #[tokio::test]
    async fn a_blob_file_stops_the_store_because_sled_never_syncs_one() {
        let place = tempfile::tempdir().unwrap();
        let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
        let commit = |n| Commit { expect: vec![(log(), Seq(n))], append: vec![(log(), vec![Record(vec![1])])] };
        store.commit(commit(0)).await.unwrap();
        std::fs::write(place.path().join("store/blobs/77"), b"large").unwrap();
        let refusal = store.commit(commit(1)).await.unwrap_err();
        assert!(matches!(&refusal, StoreError::Poisoned(why) if why.contains("blob")), "{refusal}");
        assert!(matches!(store.commit(commit(1)).await, Err(StoreError::Poisoned(_))));
        assert!(matches!(store.read(&log(), Seq(0), NonZeroU32::MIN).await, Err(StoreError::Poisoned(_))));
    }
}
