//! The store with a witness: every journal that is written through it is signed for in time, by a thread of its own, so that no commit
//! waits for a signature. A sink that cannot be written is told at once and tried again until it can.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;

use super::key::SigningKey;
use super::sink::Sink;
use super::state::{Stand, State, Timing, Weight};
use super::{Checkpoint, Signed, is_witnessed, store_id};
use crate::clock::Clock;
use crate::history;
use lifeboat_store::{
    Changes, Commit, Digest, Forgotten, Lease, LogHead, LogId, OwnerId, Page, Record, Room, Seq, Sharing, Store, StoreError, chain_after,
    chain_start,
};

/// The key, read anew for each group of checkpoints: one that is missing now may be there later.
pub type KeySource = Box<dyn Fn() -> Result<SigningKey, String> + Send>;

/// How a person is told what goes wrong, as soon as it does.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// Shortest and longest pause between two tries of a sink that fails.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Tries of a failing sink when the process is about to end.
const LAST_TRIES: u32 = 3;

/// Journals of earlier processes that are looked after at the start: the newest ones.
const LOOKED_AFTER: usize = 256;

/// A store whose journals are signed for.
pub struct Witness {
    inner: Arc<dyn Store>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    board: Mutex<Board>,
    wake: Condvar,
    clock: Arc<dyn Clock>,
    timing: Timing,
    tell: Tell,
}

struct Board {
    state: State,
    /// Why checkpoints cannot be written now.
    trouble: Option<String>,
    /// Journals that are not what was signed.
    broken: Vec<String>,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    Asked,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a log will stand after a commit.
struct Planned {
    log: LogId,
    entries: u64,
    weight: Weight,
    /// `None` where it has to be asked of the store.
    stand: Option<Stand>,
}

impl Witness {
    /// Puts a witness before a store. `fresh_id` becomes the store's id where it has none.
    ///
    /// # Errors
    /// Where the store's id cannot be read or written, or the thread does not start.
    pub async fn before(
        inner: Arc<dyn Store>,
        key: KeySource,
        mut sink: Box<dyn Sink>,
        clock: Arc<dyn Clock>,
        timing: Timing,
        fresh_id: &str,
        tell: Tell,
    ) -> Result<Self, StoreError> {
        let id = store_id(inner.as_ref(), fresh_id).await?;
        let board = Board { state: State::default(), trouble: None, broken: Vec::new(), ending: Ending::No };
        let shared = Arc::new(Shared { board: Mutex::new(board), wake: Condvar::new(), clock, timing, tell });
        match sink.recent() {
            Ok(recent) => look_after(inner.as_ref(), &shared, recent.into_iter().filter(|signed| signed.checkpoint.store == id)).await?,
            Err(error) => trouble(&shared, format!("checkpoints cannot be read from {}: {error}", sink.name())),
        }
        let writer = Writer { shared: Arc::clone(&shared), key, sink, id };
        let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(move || writer.run());
        let thread = thread.map_err(|source| StoreError::Io { action: "starting the checkpoints' thread".into(), source })?;
        Ok(Self { inner, shared, thread: Some(thread) })
    }

    /// What the commit will make of the journals in it.
    fn plan(&self, commit: &Commit) -> Vec<Planned> {
        // Only what begins or ends a run is also written to the log of open runs.
        let grave = commit.append.iter().any(|(log, _)| log.as_str() == "open");
        let weight = if grave { Weight::Grave } else { Weight::Usual };
        let board = self.shared.board();
        let witnessed = commit.append.iter().filter(|(log, records)| is_witnessed(log) && !records.is_empty());
        let planned = witnessed.map(|(log, records)| {
            let expected = commit.expect.iter().find(|(expected, _)| expected == log).map(|(_, next)| *next);
            let before = match expected {
                Some(Seq(0)) => Some(Stand { next: Seq(0), chain: chain_start(log) }),
                Some(next) => board.state.stand(log).filter(|stand| stand.next == next),
                None => None,
            };
            let stand = before.map(|before| Stand {
                next: Seq(before.next.0 + records.len() as u64),
                chain: records.iter().fold(before.chain, |chain, record| chain_after(&chain, record)),
            });
            Planned { log: log.clone(), entries: records.len() as u64, weight, stand }
        });
        planned.collect()
    }

    /// A run whose journal is not what was signed had perhaps gone further, or elsewhere: nobody goes on with it as if it had not.
    fn refuse_what_was_changed(&self, commit: &Commit) -> Result<(), StoreError> {
        let board = self.shared.board();
        match commit.append.iter().find(|(log, _)| super::run_of(log).is_some() && board.state.is_refused(log)) {
            None => Ok(()),
            Some((log, _)) => Err(StoreError::Damaged {
                folder: format!("log {log}"),
                what: "it is not what was signed, so it may have gone further than it says, and nothing goes on with it; look at the servers, \
                       and at `lifeboat audit verify`. Without `policies.checkpoints` in the inventory it can be gone on with all the same"
                    .into(),
            }),
        }
    }

    async fn note(&self, planned: Vec<Planned>) {
        for Planned { log, entries, weight, stand } in planned {
            let stand = match stand {
                Some(stand) => Some(stand),
                // What cannot be read now is found by the next process, which looks after all open runs.
                None => head(self.inner.as_ref(), &log).await.ok().flatten(),
            };
            if let Some(stand) = stand {
                let now = self.shared.clock.instant();
                let mut board = self.shared.board();
                let was_idle = board.state.next_due(&self.shared.timing, now).is_none();
                board.state.written(&log, stand, entries, weight, &self.shared.timing, now);
                if was_idle || board.state.is_due(&log, &self.shared.timing, now) {
                    self.shared.wake.notify_all();
                }
            }
        }
    }
}

async fn head(store: &dyn Store, log: &LogId) -> Result<Option<Stand>, StoreError> {
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    Ok(heads.into_iter().find(|head| head.log == *log).map(|head| Stand { next: head.next, chain: head.chain }))
}

/// Earlier processes may have ended before their last signature, and somebody may have been at the store since.
async fn look_after(store: &dyn Store, shared: &Shared, recent: impl Iterator<Item = Signed>) -> Result<(), StoreError> {
    let mut last = std::collections::BTreeMap::new();
    for Signed { checkpoint, .. } in recent {
        let found: &mut Checkpoint = last.entry(checkpoint.log.clone()).or_insert_with(|| checkpoint.clone());
        if checkpoint.next > found.next {
            *found = checkpoint;
        }
    }
    let mut logs = vec![LogId::new("archive")?, LogId::new("freeze")?];
    for run in history::lately_open(store).await?.into_iter().rev().take(LOOKED_AFTER) {
        logs.push(history::run_log(&run)?);
    }
    for log in logs {
        let Some(stand) = head(store, &log).await? else { continue };
        let now = shared.clock.instant();
        match last.get(&log) {
            Some(signed) if !is_still_there(store, signed, stand).await? => {
                shared.board().state.refuse(&log);
                let what = format!(
                    "log {log} is not what was signed at {}: it is signed no more; `lifeboat audit verify` tells what was changed",
                    signed.at
                );
                (shared.tell)(&format!("warning: {what}"));
                shared.board().broken.push(what);
            }
            Some(signed) if signed.next >= stand.next => {}
            Some(signed) => shared.board().state.written(&log, stand, stand.next.0 - signed.next.0, Weight::Grave, &shared.timing, now),
            None => shared.board().state.written(&log, stand, stand.next.0, Weight::Grave, &shared.timing, now),
        }
    }
    Ok(())
}

async fn is_still_there(store: &dyn Store, signed: &Checkpoint, stand: Stand) -> Result<bool, StoreError> {
    if signed.next > stand.next {
        return Ok(false);
    }
    let Some(at) = signed.next.0.checked_sub(1) else { return Ok(true) };
    match store.read(&signed.log, Seq(at), NonZeroU32::MIN).await {
        Ok(page) => Ok(page.chain == signed.chain),
        // Those entries were folded away: nothing here can say.
        Err(StoreError::Compacted { .. }) => Ok(true),
        Err(StoreError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn trouble(shared: &Shared, why: String) {
    let told = shared.board().trouble.replace(why.clone());
    if told.as_ref() != Some(&why) {
        (shared.tell)(&format!("warning: {why}; trying again"));
    }
}

struct Writer {
    shared: Arc<Shared>,
    key: KeySource,
    sink: Box<dyn Sink>,
    id: String,
}

impl Writer {
    fn run(mut self) {
        let mut pause = PAUSES.0;
        let mut last_tries = 0;
        loop {
            let (batch, ending) = self.wait();
            if batch.is_empty() {
                return;
            }
            match self.write(&batch) {
                Ok(()) => {
                    pause = PAUSES.0;
                    let mut board = self.shared.board();
                    board.state.signed(&batch, self.shared.clock.instant());
                    if board.trouble.take().is_some() {
                        drop(board);
                        (self.shared.tell)(&format!("checkpoints are written to {} again", self.sink.name()));
                    }
                }
                Err(error) => {
                    trouble(&self.shared, format!("checkpoints cannot be written to {}: {error}", self.sink.name()));
                    if ending == Ending::Asked {
                        last_tries += 1;
                        if last_tries >= LAST_TRIES {
                            let missing = self.shared.board().state.uncovered();
                            (self.shared.tell)(&format!(
                                "warning: {missing} journal entries are not covered by a checkpoint; the next lifeboat on this folder writes it"
                            ));
                            return;
                        }
                    }
                    self.rest(if ending == Ending::Asked { PAUSES.0 / 4 } else { pause });
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// Waits until something is due. An empty batch means that the process ends and nothing is left.
    fn wait(&self) -> (Vec<(LogId, Stand)>, Ending) {
        let shared = &self.shared;
        let mut board = shared.board();
        loop {
            if board.ending == Ending::Asked {
                return (board.state.all(), Ending::Asked);
            }
            let now = shared.clock.instant();
            let due = board.state.due(&shared.timing, now);
            if !due.is_empty() {
                return (due, Ending::No);
            }
            board = match board.state.next_due(&shared.timing, now) {
                Some(length) => shared.wake.wait_timeout(board, length).map_or_else(|poisoned| poisoned.into_inner().0, |(board, _)| board),
                None => shared.wake.wait(board).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Pauses after a failure; the end of the process cuts it short.
    fn rest(&self, length: Duration) {
        let board = self.shared.board();
        let ending = board.ending;
        let ended = self.shared.wake.wait_timeout_while(board, length, |board| board.ending == ending);
        drop(ended);
    }

    fn write(&mut self, batch: &[(LogId, Stand)]) -> std::io::Result<()> {
        let key = (self.key)().map_err(std::io::Error::other)?;
        let at = self.shared.clock.now();
        let mut lines = String::new();
        for (log, stand) in batch {
            let checkpoint = Checkpoint { store: self.id.clone(), log: log.clone(), next: stand.next, chain: stand.chain, at };
            lines.push_str(&checkpoint.sign(&key).to_line());
            lines.push('\n');
        }
        self.sink.append(&lines)
    }
}

impl Drop for Witness {
    /// Waits until the last entries are signed for, or the sink has failed for good.
    fn drop(&mut self) {
        self.shared.board().ending = Ending::Asked;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to write.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for Witness {
    fn sharing(&self) -> Sharing {
        self.inner.sharing()
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.refuse_what_was_changed(&commit)?;
        let planned = self.plan(&commit);
        self.inner.commit(commit).await?;
        self.note(planned).await;
        Ok(())
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
        let mut notices = self.inner.notices();
        let board = self.shared.board();
        notices.extend(board.broken.iter().cloned());
        notices.extend(board.trouble.as_ref().map(|why| format!("{why}; {} entries wait for it", board.state.uncovered())));
        notices
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
