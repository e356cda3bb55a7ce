//! A store behind a network that can be cut: while it is, calls hang, and arrive when it is whole again. One process's way to the store.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_store::{Changes, Commit, Digest, Lease, LogHead, LogId, MemoryStore, OwnerId, Page, Record, Seq, Sharing, Store, StoreError};
use tokio::sync::watch;

/// The way of one process. Clones share the cable.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    store: MemoryStore,
    whole: Arc<watch::Sender<bool>>,
}

impl Link {
    pub(crate) fn to(store: &MemoryStore) -> Self {
        Self { store: store.clone(), whole: Arc::new(watch::Sender::new(true)) }
    }

    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub(crate) fn heal(&self) {
        self.whole.send_replace(true);
    }

    async fn pass(&self) -> &MemoryStore {
        let mut whole = self.whole.subscribe();
        whole.wait_for(|whole| *whole).await.unwrap();
        &self.store
    }
}

#[async_trait]
impl Store for Link {
    fn sharing(&self) -> Sharing {
        self.store.sharing()
    }
    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.pass().await.commit(commit).await
    }
    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        self.pass().await.read(log, from, limit).await
    }
    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        self.pass().await.logs(prefix, after, limit).await
    }
    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        self.pass().await.watch(prefix).await
    }
    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.pass().await.truncate(log, before, carry).await
    }
    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.pass().await.remove(log).await
    }
    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.pass().await.keep(bytes).await
    }
    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.pass().await.kept(digest).await
    }
    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.pass().await.lease(log, owner, ttl).await
    }
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.pass().await.renew(lease).await
    }
    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.pass().await.release(lease).await
    }
}
