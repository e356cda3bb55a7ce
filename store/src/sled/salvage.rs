//! What still reads in a folder that does not open, gathered into memory. It changes nothing on disk. Only to look at: what is lost may be the
//! newest, so nobody acts by what is found here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::chain::{chain_after, chain_start};
use crate::{Digest, LogId, MemoryStore, Record, Seq, StoreError};

use super::folder::{FORMAT, Folder, TipFile};
use super::layout::LogNumber;
use super::segments::first::First;
use super::segments::frame::{GROUP_HEAD_BYTES, Next, Part, SEGMENT_HEAD_BYTES, SegmentNumber, is_segment, next_group, parts};
use super::segments::scan;
use super::segments::segment_path;

/// What was found, and what was not.
#[derive(Debug)]
pub struct Salvaged {
    /// Every log as far as it reads from its beginning without a gap, and the kept values that have their digest.
    pub store: MemoryStore,
    /// What is lost, each as a sentence without its end.
    pub lost: Vec<String>,
    /// Logs that are known to lack records: they end before the first that is missing, or are not there at all.
    pub cut: BTreeSet<LogId>,
}

impl Salvaged {
    /// Gathers what reads.
    ///
    /// # Errors
    /// Where the segments cannot be listed.
    pub fn from(folder: &Path) -> Result<Self, StoreError> {
        let folder = Folder::to_look(folder);
        if folder.format()? != Some(FORMAT) {
            return Err(folder.damaged("only folders of this program's own format can be read in part"));
        }
        let mut gathering = Gathering::default();
        let segments = folder.segments();
        let first = First::read(&folder, &segments).unwrap_or_else(|error| {
            gathering.lost.push(error.to_string());
            First::default()
        });
        let mut expected = first.segment;
        gathering.group = first.group - 1;
        for number in scan::numbers(&segments)?.into_iter().filter(|number| *number >= first.segment) {
            if number > expected {
                gathering.lost.push(format!("segments {:x} to {:x} are missing", expected.0, number.0 - 1));
            }
            expected = SegmentNumber(number.0 + 1);
            match std::fs::read(segment_path(&segments, number)) {
                Ok(bytes) => gathering.segment(number, &bytes),
                Err(error) => gathering.lost.push(format!("segment {:x} cannot be read: {error}", number.0)),
            }
        }
        let acknowledged = TipFile::to_look(&folder).unwrap_or_default().groups;
        if acknowledged > gathering.group {
            gathering.lost.push(format!("groups {} to {acknowledged} are gone from the end", gathering.group + 1));
        }
        gathering.into_salvaged(&folder)
    }
}

/// A log as its parts told of it.
#[derive(Debug, Default)]
struct Gathered {
    /// The record that stands for those before it, and the chain after it.
    carry: Option<(Seq, Digest, Record)>,
    records: BTreeMap<Seq, Record>,
    /// Chains as stored, after the last record of each part.
    chains: BTreeMap<Seq, Digest>,
}

#[derive(Debug, Default)]
struct Gathering {
    names: HashMap<LogNumber, LogId>,
    logs: BTreeMap<LogNumber, Gathered>,
    /// The last group that was read.
    group: u64,
    lost: Vec<String>,
}

impl Gathering {
    fn segment(&mut self, number: SegmentNumber, bytes: &[u8]) {
        if !is_segment(bytes, number) {
            self.lost.push(format!("segment {:x} has no head of its own", number.0));
        }
        let mut at = SEGMENT_HEAD_BYTES as usize;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match next_group(rest) {
                Next::Group(found) if found.number > self.group => {
                    if found.number > self.group + 1 {
                        self.lost.push(gap(self.group + 1, found.number - 1, number));
                    }
                    self.group = found.number;
                    match parts(found.body) {
                        Some(parts) => parts.into_iter().for_each(|(_, part)| self.part(part)),
                        None => self.lost.push(format!("group {} in segment {:x} is of parts that nobody knows", found.number, number.0)),
                    }
                    at += GROUP_HEAD_BYTES + found.body.len();
                }
                // What is spoilt is passed over; another group may stand behind it.
                Next::Group(_) | Next::End | Next::Torn => match scan::later_group(rest, self.group) {
                    Some(later) => at += later.at,
                    None => return,
                },
            }
        }
    }

    fn part(&mut self, part: Part) {
        let log = self.logs.entry(part.log()).or_default();
        match part {
            Part::Name { log, name } => _ = self.names.insert(log, name),
            Part::Records { first, chain, records, .. } | Part::RecordsAgain { first, chain, records, .. } => {
                log.chains.insert(Seq((first.0 + records.len() as u64).saturating_sub(1)), chain);
                log.records.extend((first.0..).map(Seq).zip(records));
            }
            Part::Carry { place, chain, record, .. } | Part::CarryAgain { place, chain, record, .. } => {
                if log.carry.as_ref().is_none_or(|(before, ..)| *before <= place) {
                    log.carry = Some((place, chain, record));
                }
            }
            Part::Removed { log } => _ = self.logs.remove(&log),
        }
    }

    fn into_salvaged(mut self, folder: &Folder) -> Result<Salvaged, StoreError> {
        let (store, mut cut) = (MemoryStore::new(), BTreeSet::new());
        // In order of number: a log that was removed and begun again has a higher one the second time.
        for (number, gathered) in self.logs {
            let Some(name) = self.names.get(&number) else {
                if !gathered.records.is_empty() {
                    self.lost.push(format!("the name of log number {} is lost, and with it {} records", number.0, gathered.records.len()));
                }
                continue;
            };
            let (first, records, whole) = gathered.readable(name);
            if !whole {
                cut.insert(name.clone());
            }
            if !records.is_empty() {
                store.put(name, first, records);
            }
        }
        for entry in std::fs::read_dir(folder.kept()).into_iter().flatten().flatten() {
            let Some(digest) = entry.file_name().to_str().and_then(Digest::parse) else { continue };
            match std::fs::read(entry.path()) {
                Ok(bytes) if Digest::of(&bytes) == digest => store.put_value(digest, bytes),
                Ok(_) => self.lost.push(format!("the kept value {digest} is not what it was")),
                Err(error) => self.lost.push(format!("the kept value {digest} cannot be read: {error}")),
            }
        }
        Ok(Salvaged { store, lost: self.lost, cut })
    }
}

impl Gathered {
    /// Where it begins, what reads from there without a gap, each record with the chain after it, and whether that is all that was found.
    fn readable(self, name: &LogId) -> (Seq, Vec<(Record, Digest)>, bool) {
        let (first, mut chain, mut found) = match self.carry {
            Some((place, chain, record)) => (place, chain, vec![(record, chain)]),
            None => (Seq(0), chain_start(name), Vec::new()),
        };
        let mut next = Seq(first.0 + found.len() as u64);
        let mut last_proven = found.len();
        for (at, record) in self.records.range(next..) {
            if *at != next {
                break;
            }
            chain = chain_after(&chain, record);
            found.push((record.clone(), chain));
            next = Seq(at.0 + 1);
            match self.chains.get(at) {
                Some(stored) if *stored == chain => last_proven = found.len(),
                Some(_) => break,
                None => {}
            }
        }
        found.truncate(last_proven);
        let whole = self.records.last_key_value().is_none_or(|(last, _)| last.0 < first.0 + found.len() as u64);
        (first, found, whole)
    }
}

fn gap(from: u64, to: u64, segment: SegmentNumber) -> String {
    if from == to {
        format!("group {from} in segment {:x} does not read", segment.0)
    } else {
        format!("groups {from} to {to} before what reads in segment {:x} do not read", segment.0)
    }
}
