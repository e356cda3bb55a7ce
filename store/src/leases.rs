//! Leases kept in memory, for the stores that one process owns. Leases shared between machines belong to their own store.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Lease, LogId, OwnerId, StoreError};

/// Time since some fixed instant, for leases only.
pub trait LeaseClock: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Duration;
}

/// The system's clock that goes on while the machine is suspended. `Instant` stands still then, and a lease timed by it
/// would outlive itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl LeaseClock for BootClock {
    fn now(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    millis: Arc<AtomicU64>,
}

impl ManualClock {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl LeaseClock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct Grant {
    owner: OwnerId,
    token: u64,
    ends_at: Duration,
}

/// Who holds which log until when.
#[derive(Debug)]
pub(crate) struct LeaseTable {
    clock: Arc<dyn LeaseClock>,
    grants: Mutex<HashMap<LogId, Grant>>,
    next_token: AtomicU64,
}

impl LeaseTable {
    pub(crate) fn new(clock: Arc<dyn LeaseClock>) -> Self {
        Self { clock, grants: Mutex::default(), next_token: AtomicU64::new(1) }
    }

    pub(crate) fn take(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if let Some(grant) = grants.get(log)
            && grant.owner != *owner
            && grant.ends_at > now
        {
            return Err(StoreError::Held { log: log.clone(), by: grant.owner.0.clone() });
        }
        let token = self.next_token.fetch_add(1, Ordering::SeqCst);
        grants.insert(log.clone(), Grant { owner: owner.clone(), token, ends_at: now.saturating_add(ttl) });
        Ok(Lease { log: log.clone(), owner: owner.clone(), ttl, token })
    }

    pub(crate) fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        match grants.get_mut(&lease.log) {
            Some(grant) if grant.token == lease.token && grant.ends_at > now => {
                grant.ends_at = now.saturating_add(lease.ttl);
                Ok(())
            }
            Some(_) | None => Err(StoreError::Lost { log: lease.log.clone() }),
        }
    }

    pub(crate) fn release(&self, lease: &Lease) {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.get(&lease.log).is_some_and(|grant| grant.token == lease.token) {
            grants.remove(&lease.log);
        }
    }

    /// Forgets every grant, as a new process does that holds the folder's lock.
    #[cfg(any(test, feature = "test-support"))]
    pub(crate) fn forget(&self) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
