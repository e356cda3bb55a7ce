//! What the recorded process does, task by task, and what the store must then hold. Both sides of the rig compute it from the seed.

use std::collections::BTreeMap;

use lifeboat_store::{Commit, Digest, LogId, Record, Seq, chain_after, chain_start};

use crate::chance::Chance;

/// One task's own logs. Nobody else writes to them, so its deeds have one order.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    seed: u64,
    deeds: u64,
    pub(crate) state: State,
}

/// What the store holds of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) kept: BTreeMap<Digest, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) first: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) chain: Digest,
}

/// One thing done to the store.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Commit(Commit),
    Truncate { log: LogId, before: Seq, carry: Record },
    Remove { log: LogId },
    Keep { bytes: Vec<u8> },
}

/// A log is truncated or removed past this many records, so that sled reuses its segments.
const RECORDS_MAX: usize = 9;

impl Task {
    pub(crate) fn new(name: String, seed: u64) -> Self {
        Self { name, seed, deeds: 0, state: State::default() }
    }

    /// How many deeds were asked for.
    pub(crate) fn deeds(&self) -> u64 {
        self.deeds
    }

    /// The next deed; the state becomes what it is once the deed is done.
    pub(crate) fn next(&mut self) -> Deed {
        let mut chance = Chance::part(self.seed, self.deeds);
        self.deeds += 1;
        let deed = self.choose(&mut chance);
        self.state.perform(&deed);
        deed
    }

    fn choose(&self, chance: &mut Chance) -> Deed {
        let long = self.state.logs.iter().find(|(_, log)| log.records.len() > RECORDS_MAX);
        if let Some((log, found)) = long {
            return match chance.below(3) {
                0 => Deed::Remove { log: log.clone() },
                _ => {
                    let back = chance.below(found.records.len() as u64 / 2);
                    let before = Seq(found.first + found.records.len() as u64 - back);
                    Deed::Truncate { log: log.clone(), before, carry: Record(size_of_record(chance)) }
                }
            };
        }
        if chance.percent(6) {
            let length = [100, 5_000, 70_000, 200_000][chance.below(4) as usize] + chance.below(300) as usize;
            return Deed::Keep { bytes: chance.bytes(length) };
        }
        let mut commit = Commit::default();
        let logs = if chance.percent(35) { 2 + chance.below(2) } else { 1 };
        let start = chance.below(4);
        for log in 0..logs {
            let log = LogId::new(&format!("{}/{}", self.name, (start + log) % 4)).unwrap();
            commit.expect.push((log.clone(), self.state.next(&log)));
            let count = 1 + chance.below(3);
            commit.append.push((log, (0..count).map(|_| Record(size_of_record(chance))).collect()));
        }
        Deed::Commit(commit)
    }
}

fn size_of_record(chance: &mut Chance) -> Vec<u8> {
    let length = match chance.below(100) {
        0..70 => 300,
        70..85 => 4_000 + chance.below(300),
        85..94 => 16_000,
        94..98 => 40_000,
        _ => 65_536,
    };
    chance.bytes(usize::try_from(length).unwrap())
}

impl State {
    fn next(&self, log: &LogId) -> Seq {
        Seq(self.logs.get(log).map_or(0, |log| log.first + log.records.len() as u64))
    }

    /// A digest of where every log stands: what somebody sees who lists them.
    pub(crate) fn heads(&self) -> Digest {
        let heads = self.logs.iter().map(|(log, found)| (log, found.first, found.first + found.records.len() as u64, found.chain));
        digest_of_heads(heads)
    }

    fn perform(&mut self, deed: &Deed) {
        match deed {
            Deed::Commit(commit) => {
                for (id, records) in &commit.append {
                    let empty = || Log { first: 0, records: Vec::new(), chain: chain_start(id) };
                    let log = self.logs.entry(id.clone()).or_insert_with(empty);
                    for record in records {
                        log.chain = chain_after(&log.chain, record);
                        log.records.push(record.clone());
                    }
                }
            }
            Deed::Truncate { log, before, carry } => {
                let log = self.logs.get_mut(log).unwrap();
                log.records.drain(..usize::try_from(before.0 - 1 - log.first).unwrap());
                log.first = before.0 - 1;
                log.records[0] = carry.clone();
            }
            Deed::Remove { log } => {
                self.logs.remove(log);
            }
            Deed::Keep { bytes } => {
                self.kept.insert(Digest::of(bytes), bytes.clone());
            }
        }
    }
}

/// A digest of a list of heads: name, first, next, chain.
pub(crate) fn digest_of_heads<'a>(heads: impl Iterator<Item = (&'a LogId, u64, u64, Digest)>) -> Digest {
    let text: Vec<String> = heads.map(|(log, first, next, chain)| format!("{log} {first} {next} {chain}")).collect();
    Digest::of(text.join("\n").as_bytes())
}
