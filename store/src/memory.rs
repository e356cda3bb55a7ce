//! The store that keeps everything in memory: what the contract means, in the fewest words. Nothing here survives the process.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::chain::{chain_after, chain_start};
use crate::leases::{BootClock, LeaseClock, LeaseTable};
use crate::watchers::Watchers;
use crate::{
    Changes, Commit, Digest, Forgotten, KEPT_BYTES_MAX, Lease, LogHead, LogId, OwnerId, PAGE_BYTES_MAX, Page, Record, Seq, Sharing, Store,
    StoreError,
};

/// A store in memory. Clones share their content, so a test can start a second engine on what the first one left.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    sharing: Sharing,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    watchers: Watchers,
    leases: LeaseTable,
    clock: Arc<dyn LeaseClock>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<LogId, MemoryLog>,
    /// Each value with when it was last kept.
    kept: BTreeMap<Digest, (Vec<u8>, Duration)>,
}

#[derive(Debug)]
struct MemoryLog {
    first: Seq,
    /// Each record with the chain's hash after it.
    records: VecDeque<(Record, Digest)>,
    chain: Digest,
}

impl MemoryLog {
    fn next(&self) -> Seq {
        Seq(self.first.0 + self.records.len() as u64)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store whose leases follow the system's boot clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(BootClock))
    }

    /// An empty store whose leases follow `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn LeaseClock>) -> Self {
        let leases = LeaseTable::new(clock.clone());
        Self { shared: Arc::new(Shared { state: Mutex::default(), watchers: Watchers::default(), leases, clock }), sharing: Sharing::Sole }
    }

    /// The same content as a store that several machines write to: whoever acts for a log holds its lease, which lasts so long.
    #[must_use]
    pub fn shared_with_lease(mut self, lease: Duration) -> Self {
        self.sharing = Sharing::Shared { lease };
        self
    }

    /// Forgets all leases, as happens where the store itself proves that the old process is dead.
    #[cfg(any(test, feature = "test-support"))]
    pub fn forget_leases(&self) {
        self.shared.leases.forget();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a log in place: each record with the chain after it.
    pub(crate) fn put(&self, log: &LogId, first: Seq, records: Vec<(Record, Digest)>) {
        let chain = records.last().map_or_else(|| chain_start(log), |(_, chain)| *chain);
        self.state().logs.insert(log.clone(), MemoryLog { first, records: records.into(), chain });
    }

    /// Puts a kept value in place.
    pub(crate) fn put_value(&self, digest: Digest, bytes: Vec<u8>) {
        let now = self.shared.clock.now();
        self.state().kept.insert(digest, (bytes, now));
    }

    fn announce(&self, log: &LogId) {
        self.shared.watchers.tell(std::iter::once(log));
    }
}

impl State {
    fn next_of(&self, log: &LogId) -> Seq {
        self.logs.get(log).map_or(Seq(0), MemoryLog::next)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn sharing(&self) -> Sharing {
        self.sharing
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        commit.check_limits()?;
        let mut changed: Vec<LogId> = Vec::new();
        {
            let mut state = self.state();
            for (log, expected) in &commit.expect {
                let found = state.next_of(log);
                if found != *expected {
                    return Err(StoreError::Conflict { log: log.clone(), expected: *expected, found });
                }
            }
            changed.extend(commit.append.iter().map(|(log, _)| log.clone()));
            for (id, records) in commit.append {
                if records.is_empty() {
                    continue;
                }
                let start = chain_start(&id);
                let log = state.logs.entry(id).or_insert_with(|| MemoryLog { first: Seq(0), records: VecDeque::new(), chain: start });
                for record in records {
                    log.chain = chain_after(&log.chain, &record);
                    log.records.push_back((record, log.chain));
                }
            }
        }
        self.shared.watchers.tell(changed.iter());
        Ok(())
    }

    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        let state = self.state();
        let Some(found) = state.logs.get(log) else {
            return Ok(Page { records: Vec::new(), next: Seq(0), chain: chain_start(log) });
        };
        if from < found.first {
            return Err(StoreError::Compacted { log: log.clone(), first: found.first });
        }
        let skip = usize::try_from(from.0 - found.first.0).unwrap_or(usize::MAX);
        let mut page = Page { records: Vec::new(), next: found.next(), chain: found.chain };
        let mut bytes = 0;
        let rest = found.records.iter().skip(skip).take(limit.get() as usize);
        for ((record, chain), place) in rest.zip(from.0..) {
            if bytes + record.0.len() > PAGE_BYTES_MAX {
                break;
            }
            bytes += record.0.len();
            page.records.push((Seq(place), record.clone()));
            page.chain = *chain;
        }
        Ok(page)
    }

    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        let state = self.state();
        let heads = state.logs.iter().filter(|(log, _)| log.as_str().starts_with(prefix) && after.is_none_or(|after| *log > after));
        let heads = heads.map(|(log, found)| LogHead { log: log.clone(), first: found.first, next: found.next(), chain: found.chain });
        Ok(heads.take(limit.get() as usize).collect())
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        Ok(self.shared.watchers.watch(prefix))
    }

    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        Commit::check_record(&carry)?;
        {
            let mut state = self.state();
            let next = state.next_of(log);
            if before > next {
                return Err(StoreError::Conflict { log: log.clone(), expected: before, found: next });
            }
            let (Some(found), Some(place)) = (state.logs.get_mut(log), before.0.checked_sub(1)) else {
                return Ok(());
            };
            let Some(gone) = place.checked_sub(found.first.0) else {
                return Err(StoreError::Compacted { log: log.clone(), first: found.first });
            };
            found.records.drain(..usize::try_from(gone).unwrap_or(usize::MAX));
            found.first = Seq(place);
            if let Some(first) = found.records.front_mut() {
                first.0 = carry;
            }
        }
        self.announce(log);
        Ok(())
    }

    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.state().logs.remove(log);
        self.announce(log);
        Ok(())
    }

    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        if bytes.len() > KEPT_BYTES_MAX {
            return Err(StoreError::TooLarge { what: "a kept value", bytes: bytes.len(), limit_bytes: KEPT_BYTES_MAX });
        }
        let digest = Digest::of(bytes);
        let now = self.shared.clock.now();
        self.state().kept.entry(digest).or_insert_with(|| (bytes.to_vec(), now)).1 = now;
        Ok(digest)
    }

    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.state().kept.get(digest).map(|(bytes, _)| bytes.clone()).ok_or(StoreError::NoSuchValue(*digest))
    }

    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        let state = self.state();
        let behind = state.kept.keys().filter(|digest| after.is_none_or(|after| *digest > after));
        Ok(behind.take(limit.get() as usize).copied().collect())
    }

    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        let now = self.shared.clock.now();
        let mut state = self.state();
        if state.kept.get(digest).is_some_and(|(_, kept_at)| now.saturating_sub(*kept_at) < grace) {
            return Ok(Forgotten::KeptJustNow);
        }
        state.kept.remove(digest);
        Ok(Forgotten::Gone)
    }

    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        Commit::check_record(&carry)?;
        {
            let mut state = self.state();
            if state.logs.contains_key(log) {
                return Err(StoreError::Conflict { log: log.clone(), expected: Seq(0), found: state.next_of(log) });
            }
            state.logs.insert(log.clone(), MemoryLog { first, records: VecDeque::from([(carry, chain)]), chain });
        }
        self.announce(log);
        Ok(())
    }

    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.shared.leases.take(log, owner, ttl)
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
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
    struct Memory {
        store: MemoryStore,
        clock: ManualClock,
    }

    #[async_trait]
    impl Subject for Memory {
        async fn open(&mut self) -> Arc<dyn Store> {
            Arc::new(self.store.clone())
        }

        async fn advance(&mut self, by: Duration) {
            self.clock.advance(by);
        }

        fn leases_after_reopening(&self) -> LeasesAfterReopening {
            LeasesAfterReopening::Hold
        }
    }

    fn memory() -> Memory {
        let clock = ManualClock::default();
        Memory { store: MemoryStore::with_clock(Arc::new(clock.clone())), clock }
    }

    crate::contract_suite!(memory());
}
