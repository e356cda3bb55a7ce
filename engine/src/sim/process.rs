//! One life of an engine's process in the simulation: its clock, its store, and the faults that befall it. Every call to the
//! outside passes here, so that a process can die, or stand still while others go on, at each commit and each effect.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat_store::{Changes, Commit, Digest, Lease, LogHead, LogId, MemoryStore, OwnerId, Page, Record, Seq, Sharing, Store, StoreError};

use super::clock::SimClock;
use super::world::World;
use crate::clock::{Clock, Instant};

/// A place where a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// A write of the store.
    Commit,
    /// The effect of `execute`.
    Effect,
    /// The effect of `undo`.
    TakeBack,
}

/// What befalls a process at one point. At an effect, a failed write is a lost message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It dies before anything happened.
    DieBefore,
    /// It happened, and the process dies before it hears of it.
    DieAfter,
    /// An error comes back and nothing was written; of an effect, the request was lost.
    FailedUnwritten,
    /// An error comes back though all was written; of an effect, the answer was lost.
    FailedWritten,
    /// No room: nothing is written, and the store acknowledges nothing any more. Of an effect, the request was lost.
    DiskFull,
    /// The whole process stands still for so many seconds, then it happens.
    PauseBefore(u32),
    /// It happens, then the whole process stands still for so many seconds.
    PauseAfter(u32),
    /// The wall clock is stepped by so many seconds.
    StepWall(i32),
}

#[derive(Debug, Default)]
struct State {
    points: Vec<Point>,
    faults: BTreeMap<usize, Fault>,
    struck: usize,
    still_until: Duration,
    dead: bool,
    /// Whether anything befell it that another process may have to make good.
    troubled: bool,
    full: bool,
    watchers: Vec<Waker>,
}

/// One life of a process.
#[derive(Debug)]
pub struct Process {
    /// Its name in the journal.
    pub owner: OwnerId,
    /// Counted from 0: tells apart what two processes do in the same second.
    pub(super) number: u32,
    clock: SimClock,
    world: Arc<World>,
    state: Mutex<State>,
}

/// What a point still has to do once the process came past its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Go,
    GoAndDie,
    GoAndPause(u32),
    GoAndFail,
    Fail,
    Full,
}

impl Process {
    pub(super) fn new(number: u32, clock: SimClock, world: Arc<World>) -> Arc<Self> {
        Arc::new(Self { owner: OwnerId(format!("process-{number}")), number, clock, world, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a fault at the point of this number, counted from 0 over commits and effects together.
    pub fn plan(&self, point: usize, fault: Fault) {
        self.state().faults.insert(point, fault);
    }

    /// The points that it came to so far.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.state().points.clone()
    }

    /// How many of the planned faults struck.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.state().struck
    }

    /// Whether it is dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Kills it: nothing of it goes on from here.
    pub fn kill(&self) {
        self.change(|state| {
            state.dead = true;
            state.troubled = true;
        });
        self.world.note(|| format!("{} dies", self.owner.0));
    }

    /// Waits until it is dead.
    pub async fn died(&self) {
        self.until(|state| state.dead).await;
    }

    /// Waits until something befell it that another process may have to make good: its death, a standstill, a failed write.
    pub async fn in_trouble(&self) {
        self.until(|state| state.troubled).await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let watchers = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.watchers)
        };
        watchers.into_iter().for_each(Waker::wake);
    }

    async fn until(&self, so: impl Fn(&State) -> bool) {
        poll_fn(|cx| {
            let mut state = self.state();
            if so(&state) {
                return Poll::Ready(());
            }
            if !state.watchers.iter().any(|watcher| watcher.will_wake(cx.waker())) {
                state.watchers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Goes on at once, after a standstill, or never.
    pub(super) async fn passes(&self) {
        loop {
            let (dead, still_until) = {
                let state = self.state();
                (state.dead, state.still_until)
            };
            if dead {
                std::future::pending::<()>().await;
            }
            let now = self.clock.elapsed();
            if still_until <= now {
                return;
            }
            Clock::sleep(&self.clock, still_until.saturating_sub(now)).await;
        }
    }

    fn stand_still(&self, seconds: u32) {
        self.world.note(|| format!("{} stands still for {seconds} s", self.owner.0));
        let until = self.clock.elapsed().saturating_add(Duration::from_secs(u64::from(seconds)));
        self.change(|state| {
            state.still_until = until;
            state.troubled = true;
        });
    }

    /// Comes to a point: what strikes before it strikes here.
    pub(super) async fn come_to(&self, point: Point) -> Then {
        self.passes().await;
        let fault = {
            let mut state = self.state();
            let number = state.points.len();
            state.points.push(point);
            let fault = state.faults.remove(&number);
            state.struck += usize::from(fault.is_some());
            fault
        };
        let Some(fault) = fault else { return Then::Go };
        self.world.note(|| format!("{:?} {} meets {fault:?} at {point:?}", self.clock.elapsed(), self.owner.0));
        match fault {
            Fault::DieBefore => {
                self.kill();
                std::future::pending().await
            }
            Fault::DieAfter => Then::GoAndDie,
            Fault::FailedUnwritten => Then::Fail,
            Fault::FailedWritten => Then::GoAndFail,
            Fault::DiskFull => Then::Full,
            Fault::PauseBefore(seconds) => {
                self.stand_still(seconds);
                self.passes().await;
                Then::Go
            }
            Fault::PauseAfter(seconds) => Then::GoAndPause(seconds),
            Fault::StepWall(seconds) => {
                self.clock.step_wall(SignedDuration::from_secs(i64::from(seconds)));
                Then::Go
            }
        }
    }

    /// What strikes after the point strikes here.
    pub(super) async fn past(&self, then: Then) {
        match then {
            Then::GoAndDie => {
                self.kill();
                std::future::pending().await
            }
            Then::GoAndPause(seconds) => {
                self.stand_still(seconds);
                self.passes().await;
            }
            Then::Go | Then::GoAndFail | Then::Fail | Then::Full => {}
        }
    }
}

/// The process's clock: whoever sleeps through a standstill wakes after it.
#[derive(Clone, Debug)]
pub(super) struct ProcessClock(pub(super) Arc<Process>);

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        Clock::now(&self.0.clock)
    }

    fn instant(&self) -> Instant {
        self.0.clock.instant()
    }

    async fn sleep(&self, length: Duration) {
        Clock::sleep(&self.0.clock, length).await;
        self.0.passes().await;
    }
}

/// The shared store as one process meets it. It takes its time, as a disk does: whoever acts before a commit is durable is seen.
#[derive(Clone, Debug)]
pub(super) struct ProcessStore {
    pub(super) memory: MemoryStore,
    pub(super) process: Arc<Process>,
}

/// How often others go first while a commit is on its way.
const COMMIT_YIELDS: u32 = 4;

impl ProcessStore {
    async fn looks(&self) -> Result<(), StoreError> {
        self.process.passes().await;
        if self.process.state().full {
            return Err(StoreError::Poisoned("the disk was full".into()));
        }
        Ok(())
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.looks().await?;
        let failed = || StoreError::Io { action: "writing".into(), source: std::io::Error::other("a planned fault") };
        let then = self.process.come_to(Point::Commit).await;
        for _ in 0..COMMIT_YIELDS {
            tokio::task::yield_now().await;
        }
        match then {
            Then::Fail => {
                self.process.change(|state| state.troubled = true);
                return Err(failed());
            }
            Then::Full => {
                self.process.change(|state| {
                    state.full = true;
                    state.troubled = true;
                });
                return Err(StoreError::DiskFull { folder: "the simulated disk".into() });
            }
            Then::Go | Then::GoAndDie | Then::GoAndPause(_) | Then::GoAndFail => {}
        }
        let done = write.await;
        self.process.past(then).await;
        if then == Then::GoAndFail {
            self.process.change(|state| state.troubled = true);
            return done.and(Err(failed()));
        }
        done
    }
}

#[async_trait]
impl Store for ProcessStore {
    fn sharing(&self) -> Sharing {
        self.memory.sharing()
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.write(async {
            let size: usize = commit.append.iter().map(|(_, records)| records.len()).sum();
            let written: Vec<(LogId, Seq, usize)> = commit
                .expect
                .iter()
                .filter(|(log, _)| log.as_str().starts_with("run/"))
                .filter_map(|(log, at)| Some((log.clone(), *at, commit.append.iter().find(|(to, _)| to == log)?.1.len())))
                .collect();
            let is_claim = |records: &[Record]| matches!(records, [one] if one.0.windows(11).any(|part| part == b"run_claimed"));
            let claims: Vec<LogId> = commit.append.iter().filter(|(_, records)| is_claim(records)).map(|(log, _)| log.clone()).collect();
            let answer = self.memory.commit(commit).await;
            if answer.is_ok() {
                for log in &claims {
                    self.process.world.claimed(log, &self.process.owner, self.process.clock.elapsed());
                }
                for (log, at, count) in written {
                    self.process.world.durable(&log, at, count, self.process.clock.elapsed());
                }
            }
            self.process.world.note(|| format!("{} commits {size} records: {}", self.process.owner.0, answer.is_ok()));
            answer
        })
        .await
    }

    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError> {
        self.looks().await?;
        self.memory.read(log, from, limit).await
    }

    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError> {
        self.looks().await?;
        self.memory.logs(prefix, after, limit).await
    }

    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError> {
        self.looks().await?;
        self.memory.watch(prefix).await
    }

    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError> {
        self.write(self.memory.truncate(log, before, carry)).await
    }

    async fn remove(&self, log: &LogId) -> Result<(), StoreError> {
        self.write(self.memory.remove(log)).await
    }

    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        self.write(self.memory.keep(bytes)).await
    }

    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.looks().await?;
        self.memory.kept(digest).await
    }

    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError> {
        self.looks().await?;
        let lease = self.memory.lease(log, owner, ttl).await;
        if lease.is_ok() {
            self.process.world.leased(log, owner, self.process.clock.elapsed().saturating_add(ttl));
        }
        lease
    }

    async fn renew(&self, lease: &Lease) -> Result<(), StoreError> {
        self.looks().await?;
        let renewed = self.memory.renew(lease).await;
        if renewed.is_ok() {
            self.process.world.leased(&lease.log, &lease.owner, self.process.clock.elapsed().saturating_add(lease.ttl));
        }
        renewed
    }

    async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        self.looks().await?;
        self.process.world.given_back(&lease.log, &lease.owner);
        self.memory.release(lease).await
    }
}
