//! The recorded process: several tasks at work on one store, in several sessions. It notes every deed before and after.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lifeboat_store::{Digest, SledOptions, SledStore, Store, StoreError};

use crate::plan::{Deed, Task, digest_of_heads};

/// What the recorded process is told.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The folder that is recorded; the store is in its `data`.
    pub(crate) root: PathBuf,
    pub(crate) notes: PathBuf,
    /// First part of every name of a log, so that later runs on the same store do not meet earlier ones.
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) tasks: u64,
    pub(crate) sessions: u64,
    /// Deeds of each task in each session.
    pub(crate) deeds: u64,
    /// Length at which the tree takes a segment over.
    pub(crate) segment_bytes: u64,
}

/// Short enough that the tree takes over what a few tasks do, and long enough that much is still in the front at any instant.
pub(crate) const SEGMENT_BYTES: u64 = 60_000;

impl Job {
    pub(crate) fn tasks(&self) -> Vec<Task> {
        let named = |task| Task::new(format!("{}/{task}", self.name), self.seed.wrapping_mul(1_000).wrapping_add(task));
        (0..self.tasks).map(named).collect()
    }

    /// As words for the environment of the process.
    pub(crate) fn words(&self) -> String {
        let Self { root, notes, name, seed, tasks, sessions, deeds, segment_bytes } = self;
        format!("{} {} {name} {seed} {tasks} {sessions} {deeds} {segment_bytes}", root.display(), notes.display())
    }

    pub(crate) fn from_words(words: &str) -> Self {
        let words: Vec<&str> = words.split(' ').collect();
        let [root, notes, name, numbers @ ..] = &words[..] else { panic!("too few words for the writer") };
        let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().unwrap()).collect();
        let [seed, tasks, sessions, deeds, segment_bytes] = numbers[..] else { panic!("too few numbers for the writer") };
        Self { root: root.into(), notes: notes.into(), name: (*name).into(), seed, tasks, sessions, deeds, segment_bytes }
    }
}

/// Options of the rig: a small ballast and cache, so that images stay small, and short segments, so that the tree works.
pub(crate) fn options() -> SledOptions {
    SledOptions::default().ballast_bytes(4096).cache_bytes(8 * 1024 * 1024).segment_bytes(SEGMENT_BYTES)
}

/// Does the job in this process.
pub(crate) fn work(job: &Job) {
    let notes = Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(&job.notes).unwrap()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut working: Vec<Working> =
        job.tasks().into_iter().map(|task| Working { before: task.clone(), task, in_doubt: InDoubt::No }).collect();
    for _ in 0..job.sessions {
        let Some(store) = open(job, &notes) else { return };
        working = runtime.block_on(session(job, Arc::new(store), working, &notes));
    }
}

/// A task and where it stood before its last deed.
#[derive(Debug)]
struct Working {
    task: Task,
    before: Task,
    in_doubt: InDoubt,
}

/// Whether a task's last deed ended in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InDoubt {
    Yes,
    No,
}

async fn session(job: &Job, store: Arc<SledStore>, tasks: Vec<Working>, notes: &Arc<Mutex<File>>) -> Vec<Working> {
    let mut running = Vec::new();
    let names: Vec<String> = tasks.iter().map(|task| task.task.name.clone()).collect();
    let watching = tokio::spawn(watch(store.clone(), names, notes.clone()));
    for mut task in tasks {
        let (store, notes, deeds, folder) = (store.clone(), notes.clone(), job.deeds, job.root.join("data/kept"));
        running.push(tokio::spawn(async move {
            task.settle(&store, &notes).await;
            // A store that stopped at once, as one does that hands over to a tree without room, told nothing: the next one is asked.
            if task.in_doubt == InDoubt::Yes {
                return task;
            }
            for _ in 0..deeds {
                task.before = task.task.clone();
                let deed = task.task.next();
                note(&notes, &format!("try {} {}", task.task.name, task.task.deeds()));
                plant(&folder, &deed);
                match perform(&store, deed).await {
                    Ok(()) => note(&notes, &format!("ack {}", task.task.name)),
                    // Where a fault was planned, the session ends here, with this deed in doubt.
                    Err(error) => {
                        note(&notes, &format!("error {} {error}", task.task.name));
                        task.in_doubt = InDoubt::Yes;
                        break;
                    }
                }
            }
            task
        }));
    }
    let mut done = Vec::new();
    for task in running {
        done.push(task.await.unwrap());
    }
    watching.abort();
    // An aborted task gives its handle of the store back some time later; the next opening needs it now.
    let _ = watching.await;
    done
}

/// Notes whatever it sees of the tasks: nothing that was seen may be lost.
async fn watch(store: Arc<SledStore>, names: Vec<String>, notes: Arc<Mutex<File>>) {
    let mut last: BTreeMap<String, Digest> = BTreeMap::new();
    loop {
        for name in &names {
            let Ok(heads) = store.logs(&format!("{name}/"), None, NonZeroU32::MAX).await else { return };
            let seen = digest_of_heads(heads.iter().map(|head| (&head.log, head.first.0, head.next.0, head.chain)));
            if last.insert(name.clone(), seen) != Some(seen) {
                note(&notes, &format!("seen {name} {seen}"));
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Working {
    /// Observes whether the deed in doubt happened. What is seen now must stay.
    async fn settle(&mut self, store: &SledStore, notes: &Mutex<File>) {
        if self.in_doubt == InDoubt::No {
            return;
        }
        let prefix = format!("{}/", self.task.name);
        let Ok(found) = store.logs(&prefix, None, NonZeroU32::MAX).await else { return };
        self.in_doubt = InDoubt::No;
        let found: Vec<_> = found.into_iter().map(|head| (head.log, head.first.0, head.chain)).collect();
        let is = |task: &Task| task.state.logs.iter().map(|(log, state)| (log.clone(), state.first, state.chain)).eq(found.iter().cloned());
        if is(&self.before) {
            self.task = self.before.clone();
            note(notes, &format!("undone {}", self.task.name));
        } else {
            assert!(is(&self.task), "{prefix} is neither as before nor as after the deed in doubt");
            note(notes, &format!("ack {}", self.task.name));
        }
    }
}

/// Opens the store, again where a planned fault met the opening. `None` where the disk is full for good.
fn open(job: &Job, notes: &Mutex<File>) -> Option<SledStore> {
    for _ in 0..3 {
        note(notes, "opening");
        match SledStore::open(&job.root.join("data"), &options().segment_bytes(job.segment_bytes)) {
            Ok(store) => {
                note(notes, "opened");
                return Some(store);
            }
            Err(error @ (StoreError::DiskFull { .. } | StoreError::Io { .. })) => note(notes, &format!("not opened: {error}")),
            Err(error) => panic!("opening: {error}"),
        }
    }
    None
}

/// Whether a value is there before it is kept, unsynced, as a process leaves it that was killed while it kept the same.
pub(crate) fn is_planted(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first % 2 == 1)
}

fn plant(folder: &Path, deed: &Deed) {
    if let Deed::Keep { bytes } = deed
        && is_planted(bytes)
    {
        // On a disk that is full there is nothing to plant.
        let _ = std::fs::write(folder.join(Digest::of(bytes).to_string()), bytes);
    }
}

async fn perform(store: &SledStore, deed: Deed) -> Result<(), StoreError> {
    match deed {
        Deed::Commit(commit) => store.commit(commit).await,
        Deed::Truncate { log, before, carry } => store.truncate(&log, before, carry).await,
        Deed::Remove { log } => store.remove(&log).await,
        Deed::Keep { bytes } => store.keep(&bytes).await.map(drop),
    }
}

/// One write, so one note, in its place among the calls to the disk.
fn note(notes: &Mutex<File>, text: &str) {
    notes.lock().unwrap().write_all(format!("{text}\n").as_bytes()).unwrap();
}
