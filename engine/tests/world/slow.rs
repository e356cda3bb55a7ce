//! A store in memory that takes its time, as a disk does: others go first. Whoever acts before a commit is durable is seen by it.

use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_store::{
    Changes, Commit, Digest, Forgotten, Lease, LogHead, LogId, MemoryStore, OwnerId, Page, Record, Seq, Sharing, Store, StoreError,
};

/// Every other task goes first before each call, and before a commit as often as it likes.
#[derive(Clone, Debug)]
pub(crate) struct Slow(pub(crate) MemoryStore);

#[async_trait]
impl Store for Slow {
    fn sharing(&self) -> Sharing {
        self.0.sharing()
    }
    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        self.0.commit(commit).await
    }
    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        tokio::task::yield_now().await;
        self.0.read(log, from, limit).await
    }
    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        tokio::task::yield_now().await;
        self.0.logs(prefix, after, limit).await
    }
    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        self.0.watch(prefix).await
    }
    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.0.truncate(log, before, carry).await
    }
    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.0.remove(log).await
    }
    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.0.keep(bytes).await
    }
    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.0.kept(digest).await
    }
    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        self.0.kept_values(after, limit).await
    }
    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        self.0.forget(digest, grace).await
    }
    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        self.0.restore(log, first, chain, carry).await
    }
    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.0.lease(log, owner, ttl).await
    }
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.0.renew(lease).await
    }
    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.0.release(lease).await
    }
}
