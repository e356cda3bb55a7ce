//! A store for many runs at once: commits that come at about the same time reach the store behind this one together, so that one sync makes
//! them durable. Runs in step would otherwise trickle in, a few to each sync.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use lifeboat_store::{
    Changes, Commit, Digest, Forgotten, Lease, LogHead, LogId, OwnerId, Page, Record, Room, Seq, Sharing, Store, StoreError,
};

/// A store takes no more at once: its own line must have room for them.
const AT_ONCE_MAX: usize = 512;

/// Turns of all other tasks without a further commit after which nobody else is waited for. An answer becomes the next commit in three:
/// the executor, its call, the executor again.
const QUIET_TURNS: u32 = 4;

/// A store before which commits gather.
#[derive(Debug)]
pub struct Together<S> {
    inner: Arc<S>,
    crowd: Arc<Mutex<Crowd>>,
}

/// Who waits to be let in.
#[derive(Debug, Default)]
struct Crowd {
    waiting: Vec<Waiting>,
    door: Door,
    /// How many may come: those who were answered last, and those who came meanwhile.
    expected: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Door {
    /// Nobody is at the door; the next who comes calls somebody.
    #[default]
    Left,
    /// A task lets them in.
    Kept,
}

#[derive(Debug)]
struct Waiting {
    commit: Commit,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// A commit that the store has in its hands.
struct UnderWay {
    work: Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>,
    done: Option<Result<(), StoreError>>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl<S: Store + 'static> Together<S> {
    /// Lets commits gather before this store.
    pub fn before(inner: S) -> Self {
        Self { inner: Arc::new(inner), crowd: Arc::default() }
    }
}

fn lock(crowd: &Mutex<Crowd>) -> MutexGuard<'_, Crowd> {
    // A line and two counts: whole after every single operation.
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets in whoever comes, one crowd behind the other, until nobody waits.
async fn keep_the_door<S: Store + 'static>(store: Arc<S>, crowd: Arc<Mutex<Crowd>>) {
    // In a task that ends with the process alone; a caller that is gone has left its commit here.
    let mut store = Some(store);
    loop {
        let waiting = gather(&crowd).await;
        let count = waiting.len();
        let mut under_way: Vec<UnderWay> = waiting
            .into_iter()
            .filter_map(|Waiting { commit, answer }| {
                let store = Arc::clone(store.as_ref()?);
                Some(UnderWay { work: Box::pin(async move { store.commit(commit).await }), done: None, answer })
            })
            .collect();
        // All are handed over before the first is waited for: what the store finds in its line it makes durable together. In one turn, however
        // many they are: a runtime that cuts the turn short would leave the rest to come one by one.
        tokio::task::unconstrained(poll_fn(|cx| {
            for call in &mut under_way {
                if let Poll::Ready(done) = call.work.as_mut().poll(cx) {
                    call.done = Some(done);
                }
            }
            Poll::Ready(())
        }))
        .await;
        let mut left = under_way.len();
        for call in under_way {
            let done = match call.done {
                Some(done) => done,
                None => call.work.await,
            };
            left -= 1;
            if left == 0 {
                let mut crowd = lock(&crowd);
                crowd.expected = count + crowd.waiting.len();
                if crowd.waiting.is_empty() {
                    crowd.door = Door::Left;
                    // Whoever hears the last answer may be about to close the store.
                    store = None;
                }
            }
            // Who no longer waits finds the outcome by reading.
            let _ = call.answer.send(done);
        }
        if store.is_none() {
            return;
        }
    }
}

/// Waits for as many as may come, while they come.
async fn gather(crowd: &Mutex<Crowd>) -> Vec<Waiting> {
    let (mut known, mut quiet) = (0, 0);
    loop {
        {
            let mut crowd = lock(crowd);
            let here = crowd.waiting.len();
            quiet = if here > known { 0 } else { quiet + 1 };
            known = here;
            if here >= crowd.expected.min(AT_ONCE_MAX) || quiet > QUIET_TURNS {
                let count = here.min(AT_ONCE_MAX);
                return crowd.waiting.drain(..count).collect();
            }
        }
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl<S: Store + 'static> Store for Together<S> {
    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let door = {
            let mut crowd = lock(&self.crowd);
            crowd.waiting.push(Waiting { commit, answer });
            std::mem::replace(&mut crowd.door, Door::Kept)
        };
        match door {
            Door::Left => drop(tokio::spawn(keep_the_door(Arc::clone(&self.inner), Arc::clone(&self.crowd)))),
            Door::Kept => {}
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Poisoned("the task that hands commits to the store ended".into())))
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

    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        self.inner.kept_values(after, limit).await
    }

    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        self.inner.forget(digest, grace).await
    }

    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        self.inner.restore(log, first, chain, carry).await
    }

    async fn room(&self) -> Result<Option<Room>, StoreError> {
        self.inner.room().await
    }

    fn notices(&self) -> Vec<String> {
        self.inner.notices()
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

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_store::MemoryStore;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::mpsc;

    type Job = (Commit, oneshot::Sender<Result<(), StoreError>>);

    /// As a store on disk does it: what is in line when the disk is free becomes durable together.
    #[derive(Debug)]
    struct Grouping {
        line: mpsc::UnboundedSender<Job>,
        groups: Arc<AtomicUsize>,
        memory: MemoryStore,
    }

    impl Grouping {
        fn new(memory: &MemoryStore) -> Self {
            let (line, mut jobs) = mpsc::unbounded_channel::<Job>();
            let (groups, store) = (Arc::new(AtomicUsize::new(0)), memory.clone());
            let count = Arc::clone(&groups);
            tokio::spawn(async move {
                while let Some(first) = jobs.recv().await {
                    let mut group = vec![first];
                    while let Ok(job) = jobs.try_recv() {
                        group.push(job);
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    // The disk.
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                    for (commit, answer) in group {
                        let _ = answer.send(store.commit(commit).await);
                    }
                }
            });
            Self { line, groups, memory: memory.clone() }
        }
    }

    #[async_trait]
    impl Store for Grouping {
        async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
            let (answer, answered) = oneshot::channel();
            self.line.send((commit, answer)).unwrap();
            answered.await.unwrap()
        }
        fn sharing(&self) -> Sharing {
            self.memory.sharing()
        }
        async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
            self.memory.read(log, from, limit).await
        }
        async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
            self.memory.logs(prefix, after, limit).await
        }
        async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
            self.memory.watch(prefix).await
        }
        async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
            self.memory.truncate(log, before, carry).await
        }
        async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
            self.memory.remove(log).await
        }
        async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
            self.memory.keep(bytes).await
        }
        async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
            self.memory.kept(digest).await
        }
        async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
            self.memory.lease(log, owner, ttl).await
        }
        async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
            self.memory.renew(lease).await
        }
        async fn release(&self, lease: Lease) -> Result<(), StoreError> {
            self.memory.release(lease).await
        }
    }

    fn log(name: &str) -> LogId {
        LogId::new(name).unwrap()
    }

    fn one(name: &str, place: u64) -> Commit {
        Commit { expect: vec![(log(name), Seq(place))], append: vec![(log(name), vec![Record(vec![1])])] }
    }

    #[tokio::test]
    async fn runs_in_step_share_a_group_for_each_step() {
        let grouping = Grouping::new(&MemoryStore::new());
        let groups = Arc::clone(&grouping.groups);
        let store = Arc::new(Together::before(grouping));
        let mut runs = tokio::task::JoinSet::new();
        for run in 0..200 {
            let store = Arc::clone(&store);
            runs.spawn(async move {
                for step in 0..10 {
                    // An answer is not a commit at once.
                    for _ in 0..run % 3 {
                        tokio::task::yield_now().await;
                    }
                    store.commit(one(&format!("run/{run}"), step)).await.unwrap();
                }
            });
        }
        while let Some(ended) = runs.join_next().await {
            ended.unwrap();
        }
        let groups = groups.load(Ordering::Relaxed);
        assert!(groups <= 12, "{groups} groups for 10 steps");
    }

    #[tokio::test]
    async fn each_commit_has_its_own_answer() {
        let memory = MemoryStore::new();
        let store = Together::before(Grouping::new(&memory));
        let (first, second, third) =
            tokio::join!(store.commit(one("run/a", 0)), store.commit(one("run/a", 0)), store.commit(one("run/b", 0)));
        assert!(first.is_ok() && third.is_ok());
        assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    }

    #[tokio::test]
    async fn a_caller_who_goes_away_keeps_nobody_waiting() {
        let memory = MemoryStore::new();
        let store = Together::before(Grouping::new(&memory));
        {
            let going = store.commit(one("run/a", 0));
            tokio::pin!(going);
            tokio::select! {
                biased;
                answer = &mut going => panic!("{answer:?}"),
                () = std::future::ready(()) => {}
            }
        }
        store.commit(one("run/b", 0)).await.unwrap();
        // What the first one wanted is done all the same: it was in line before.
        store.commit(one("run/a", 1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_store_can_be_closed_as_soon_as_the_last_commit_is_answered() {
        let store = Together::before(Grouping::new(&MemoryStore::new()));
        store.commit(one("run/a", 0)).await.unwrap();
        assert_eq!(Arc::strong_count(&store.inner), 1);
    }
}
