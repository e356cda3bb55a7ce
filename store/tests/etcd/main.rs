//! The store on three real etcd members in network namespaces of their own. Two engines on it are in the tests of the binary.
#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod closed;
mod contract;
mod doubt;
mod muted;
mod speed;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lifeboat_store::{BootClock, EtcdOptions, EtcdStore, LeaseClock as _, StaleReads};
use xtask::lab::etcd::EtcdCluster;

/// Keys of tests never meet: each has a prefix of its own.
static PREFIXES: AtomicU32 = AtomicU32::new(0);

/// How a test uses a cluster: Debian's etcd is one whose reads may be stale, and no decision rests on one.
fn options(cluster: &EtcdCluster) -> EtcdOptions {
    let prefix = format!("/test-{}/", PREFIXES.fetch_add(1, Ordering::Relaxed));
    EtcdOptions { prefix, stale_reads: StaleReads::Accepted { why: "tests only".into() }, ..EtcdOptions::new(&cluster.endpoints()) }
}

async fn open(options: &EtcdOptions) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::open(options.clone()).await.unwrap())
}

/// Since the machine was started.
fn now() -> Duration {
    BootClock.now()
}

/// Looks again until something is so, at most a minute.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let ends_at = now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(now() < ends_at, "not within a minute: {what}");
        nap(Duration::from_millis(20)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a pause between two looks at a real server, or the real time of a lease")]
async fn nap(length: Duration) {
    tokio::time::sleep(length).await;
}
