//! A store that notes when each commit was durable. It changes nothing else.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_engine::clock::Instant;
use lifeboat_store::{Changes, Commit, Digest, Lease, LogHead, LogId, OwnerId, Page, Record, Seq, Sharing, Store, StoreError};

use crate::figures::now;

/// A store and its commits.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    pub(crate) inner: S,
    durable: Mutex<Vec<Instant>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, durable: Mutex::default() }
    }

    /// When each commit since the last call was durable.
    pub(crate) fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.durable.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl<S: Store> Store for Watched<S> {
    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let done = self.inner.commit(commit).await;
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).push(now());
        done
    }

    fn sharing(&self) -> Sharing {
        self.inner.sharing()
    }

    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        self.inner.read(log, from, limit).await
    }

    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        self.inner.logs(prefix, after, limit).await
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        self.inner.watch(prefix).await
    }

    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.inner.truncate(log, before, carry).await
    }

    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.inner.remove(log).await
    }

    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.inner.keep(bytes).await
    }

    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.inner.kept(digest).await
    }

    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.inner.lease(log, owner, ttl).await
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.inner.renew(lease).await
    }

    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.inner.release(lease).await
    }
}
