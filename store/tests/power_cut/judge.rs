//! Opens what a cut left and holds it against what was acknowledged before the cut.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use lifeboat_store::{Commit, Digest, LogId, Record, SledStore, Store, StoreError};

use crate::plan::{Log, State, Task};
use crate::writer::{is_planted, options};

/// How far each task had come at an instant.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    tasks: BTreeMap<String, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    task: Task,
    /// The task before the deed in flight.
    before: Task,
    /// The state after the last acknowledged deed.
    acknowledged: State,
    /// The state after the deed in flight, where there is one.
    tried: Option<State>,
}

impl Progress {
    pub(crate) fn new(tasks: Vec<Task>) -> Self {
        let known = |task: Task| (task.name.clone(), Known { acknowledged: task.state.clone(), tried: None, before: task.clone(), task });
        Self { tasks: tasks.into_iter().map(known).collect() }
    }

    /// Takes the next note of the recorded process.
    pub(crate) fn hear(&mut self, note: &str) {
        let mut words = note.split_whitespace();
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { return };
        let Some(known) = self.tasks.get_mut(name) else { return };
        match verb {
            "try" => {
                known.before = known.task.clone();
                known.task.next();
                known.tried = Some(known.task.state.clone());
            }
            "ack" => known.acknowledged = known.tried.take().unwrap(),
            // Somebody else saw the deed in flight done: from then on it must stay, acknowledged or not.
            "seen" => {
                let seen = words.next().and_then(Digest::parse);
                if known.tried.as_ref().is_some_and(|tried| Some(tried.heads()) == seen && known.acknowledged.heads() != tried.heads()) {
                    known.acknowledged = known.tried.clone().unwrap();
                }
            }
            // Observed after an error: the deed did not happen, and the task may choose again.
            "undone" => {
                known.tried = None;
                known.task = known.before.clone();
            }
            _ => {}
        }
    }

    /// Deeds acknowledged or in flight.
    pub(crate) fn tried(&self) -> u64 {
        self.tasks.values().map(|known| known.task.deeds()).sum()
    }

    /// Takes what was found as the truth from here on: the tasks of this run have ended.
    pub(crate) fn settle_onto(self, earlier: &Settled, found: Found) -> Settled {
        let mut kept = earlier.state.kept.clone();
        kept.extend(self.tasks.into_values().flat_map(|known| known.acknowledged.kept));
        Settled { state: State { logs: found.logs, kept } }
    }
}

/// Tasks of earlier runs, in the state that was found after their last cut. It must never change again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    state: State,
}

/// What a store holds.
#[derive(Debug)]
pub(crate) struct Found {
    logs: BTreeMap<LogId, Log>,
}

impl Settled {
    /// What a folder holds, as the program reads it that knows it.
    pub(crate) async fn of(root: &Path) -> Self {
        let store = SledStore::open(&root.join("data"), &options()).unwrap();
        Self { state: State { logs: read(&store).await.unwrap().logs, ..State::default() } }
    }
}

/// Opens the store below `root` and compares. The answer is what is wrong.
pub(crate) async fn judge(root: &Path, settled: &Settled, progress: &Progress) -> Result<Found, String> {
    let store = SledStore::open(&root.join("data"), &options()).map_err(|error| format!("the store does not open: {error}"))?;
    let found = read(&store).await.map_err(|error| format!("the store does not read: {error}"))?;
    let mut rest: BTreeMap<&LogId, &Log> = found.logs.iter().collect();
    for (log, expected) in &settled.state.logs {
        if rest.remove(log) != Some(expected) {
            return Err(format!("{log}, which was settled before this run, has changed"));
        }
    }
    for (name, known) in &progress.tasks {
        let prefix = format!("{name}/");
        let own: BTreeMap<&LogId, &Log> = rest.iter().filter(|(log, _)| log.as_str().starts_with(&prefix)).map(|(a, b)| (*a, *b)).collect();
        rest.retain(|log, _| !log.as_str().starts_with(&prefix));
        let is = |state: &State| state.logs.iter().eq(own.iter().map(|(a, b)| (*a, *b)));
        if !is(&known.acknowledged) && !known.tried.as_ref().is_some_and(is) {
            return Err(difference(name, &known.acknowledged, &own));
        }
    }
    if let Some((log, _)) = rest.first_key_value() {
        return Err(format!("{log} was never written"));
    }
    let acknowledged = progress.tasks.values().flat_map(|known| &known.acknowledged.kept).chain(&settled.state.kept);
    for (digest, bytes) in acknowledged {
        check_kept(&store, digest, Some(bytes)).await?;
    }
    let in_flight = progress.tasks.values().filter_map(|known| known.tried.as_ref()).flat_map(|state| &state.kept);
    // A planted file was never kept by anybody, and may be torn.
    for (digest, _) in in_flight.filter(|(_, bytes)| !is_planted(bytes)) {
        check_kept(&store, digest, None).await?;
    }
    go_on(&store).await.map_err(|error| format!("the store does not go on: {error}"))?;
    Ok(found)
}

async fn read(store: &SledStore) -> Result<Found, StoreError> {
    let limit = NonZeroU32::new(100_000).unwrap();
    let mut logs = BTreeMap::new();
    for head in store.logs("", None, limit).await? {
        let mut from = head.first;
        let mut records: Vec<Record> = Vec::new();
        while from < head.next {
            let page = store.read(&head.log, from, limit).await?;
            for (place, record) in page.records {
                assert_eq!(place, from, "a page with gaps");
                from.0 += 1;
                records.push(record);
            }
        }
        logs.insert(head.log, Log { first: head.first.0, records, chain: head.chain });
    }
    Ok(Found { logs })
}

async fn check_kept(store: &SledStore, digest: &Digest, acknowledged: Option<&Vec<u8>>) -> Result<(), String> {
    match (store.kept(digest).await, acknowledged) {
        (Ok(bytes), Some(expected)) if bytes == *expected => Ok(()),
        (Ok(_) | Err(StoreError::NoSuchValue(_)), None) => Ok(()),
        (Ok(_), Some(_)) => Err(format!("the kept value {digest} came back different")),
        (Err(error), _) => Err(format!("the kept value {digest}: {error}")),
    }
}

/// The store takes another commit, and gives it up again so that the image stays what it was.
async fn go_on(store: &SledStore) -> Result<(), StoreError> {
    let log = LogId::new("after/cut")?;
    store.commit(Commit { expect: Vec::new(), append: vec![(log.clone(), vec![Record(vec![7; 5_000])])] }).await?;
    store.remove(&log).await
}

fn difference(name: &str, acknowledged: &State, found: &BTreeMap<&LogId, &Log>) -> String {
    for (log, expected) in &acknowledged.logs {
        let Some(there) = found.get(log) else { return format!("{log} is gone; it had {} records", expected.records.len()) };
        if *there != expected {
            let (a, b) = (expected.first + expected.records.len() as u64, there.first + there.records.len() as u64);
            return format!("{log} ends at {b}, acknowledged was {a}, and it is not the deed in flight either");
        }
    }
    let extra: Vec<String> = found.keys().filter(|log| !acknowledged.logs.contains_key(**log)).map(ToString::to_string).collect();
    format!("{name} has logs it should not have: {}", extra.join(", "))
}
