//! A store that fails when it is told to, around any other store. Only for tests; it decides nothing about recovery.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::{Changes, Commit, Digest, Forgotten, Lease, LogHead, LogId, OwnerId, Page, Record, Room, Seq, Sharing, Store, StoreError};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before anything is written.
    CrashBefore,
    /// The write is durable, then the process dies: the caller never hears of it.
    CrashAfter,
    /// The disk is full: nothing is written, and the store stops.
    DiskFull,
    /// This one write fails without having been applied, and the store goes on. For callers that treat every error as final.
    RefusedOnce,
}

#[derive(Debug, Default)]
struct Faults {
    /// Writes seen so far.
    writes: u64,
    planned: BTreeMap<u64, Fault>,
    /// Why nothing works any more.
    stopped: Option<&'static str>,
    /// How full the disk claims to be.
    room: Option<Room>,
    /// Records read and logs listed so far.
    reads: u64,
}

/// Counts the writes (commit, truncate, remove, keep) that pass through, and spoils the chosen ones. Clones share the count.
#[derive(Clone, Debug)]
pub struct FaultyStore<S> {
    inner: S,
    faults: Arc<Mutex<Faults>>,
}

impl<S: Store> FaultyStore<S> {
    /// Passes everything on until a fault is planned.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// Spoils the write of this number; the first write is 0.
    #[must_use]
    pub fn fail_write(self, number: u64, fault: Fault) -> Self {
        self.plan(number, fault);
        self
    }

    /// As [`FaultyStore::fail_write`], on a store that is already in use.
    pub fn plan(&self, number: u64, fault: Fault) {
        self.faults().planned.insert(number, fault);
    }

    /// How many writes were asked for so far, spoilt ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.faults().writes
    }

    /// Makes the disk as full as this.
    pub fn set_room(&self, room: Room) {
        self.faults().room = Some(room);
    }

    /// How much was read so far: a record and a listed log count one each.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.faults().reads
    }

    /// Whether a planned fault has stopped this store.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.faults().stopped.is_some()
    }

    /// The store below, as the next process finds it.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Result<(), StoreError> {
        self.faults().stopped.map_or(Ok(()), |why| Err(StoreError::Poisoned(why.into())))
    }

    fn next_fault(&self) -> Result<Option<Fault>, StoreError> {
        self.running()?;
        let mut faults = self.faults();
        let number = faults.writes;
        faults.writes += 1;
        Ok(faults.planned.remove(&number))
    }

    fn stop(&self, why: &'static str) -> StoreError {
        self.faults().stopped = Some(why);
        StoreError::Poisoned(why.into())
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.next_fault()? {
            None => write.await,
            Some(Fault::CrashBefore) => Err(self.stop("crashed before the write")),
            Some(Fault::CrashAfter) => {
                write.await?;
                Err(self.stop("crashed after the write"))
            }
            Some(Fault::DiskFull) => {
                self.stop("the disk was full");
                Err(StoreError::DiskFull { folder: "the faulty store".into() })
            }
            Some(Fault::RefusedOnce) => {
                Err(StoreError::Io { action: "writing to the faulty store".into(), source: std::io::Error::other("planned fault") })
            }
        }
    }
}

#[async_trait]
impl<S: Store> Store for FaultyStore<S> {
    fn sharing(&self) -> Sharing {
        self.inner.sharing()
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.write(self.inner.commit(commit)).await
    }

    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        self.running()?;
        let page = self.inner.read(log, from, limit).await?;
        self.faults().reads += page.records.len() as u64;
        Ok(page)
    }

    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        self.running()?;
        let heads = self.inner.logs(prefix, after, limit).await?;
        self.faults().reads += heads.len() as u64;
        Ok(heads)
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        self.running()?;
        self.inner.watch(prefix).await
    }

    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.write(self.inner.truncate(log, before, carry)).await
    }

    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.write(self.inner.remove(log)).await
    }

    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.write(self.inner.keep(bytes)).await
    }

    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.running()?;
        self.inner.kept(digest).await
    }

    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        self.running()?;
        self.inner.kept_values(after, limit).await
    }

    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        self.write(self.inner.forget(digest, grace)).await
    }

    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        self.write(self.inner.restore(log, first, chain, carry)).await
    }

    async fn room(&self) -> Result<Option<Room>, StoreError> {
        self.running()?;
        let room = self.faults().room;
        if room.is_some() { Ok(room) } else { self.inner.room().await }
    }

    fn notices(&self) -> Vec<String> {
        self.inner.notices()
    }

    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.running()?;
        self.inner.lease(log, owner, ttl).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.running()?;
        self.inner.renew(lease).await
    }

    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.running()?;
        self.inner.release(lease).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    async fn written_after(fault: Fault) -> (FaultyStore<MemoryStore>, Result<(), StoreError>, u64) {
        let log = LogId::new("run/a").unwrap();
        let store = FaultyStore::new(MemoryStore::new()).fail_write(1, fault);
        let commit = |place| Commit { expect: vec![(log.clone(), Seq(place))], append: vec![(log.clone(), vec![Record(vec![1])])] };
        store.commit(commit(0)).await.unwrap();
        let answer = store.commit(commit(1)).await;
        let next = store.inner().read(&log, Seq(0), NonZeroU32::MIN).await.unwrap().next;
        (store, answer, next.0)
    }

    #[tokio::test]
    async fn a_crash_before_the_write_leaves_nothing_and_one_after_it_leaves_everything() {
        for (fault, expected) in [(Fault::CrashBefore, 1), (Fault::CrashAfter, 2), (Fault::DiskFull, 1)] {
            let (store, answer, next) = written_after(fault).await;
            assert!(answer.is_err());
            assert_eq!((next, store.is_stopped(), store.writes()), (expected, true, 2), "{fault:?}");
            assert!(matches!(store.keep(b"x").await, Err(StoreError::Poisoned(_))), "{fault:?}");
        }
        let (store, answer, next) = written_after(Fault::RefusedOnce).await;
        assert!(answer.is_err() && next == 1 && !store.is_stopped());
        store.keep(b"x").await.unwrap();
    }
}
