//! The thread that moves sealed segments of the front into the tree, in groups small enough for it, and then gives them up. Nobody who
//! commits waits for it, unless it falls far behind.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};

use ::sled::Batch;

use crate::chain::{chain_after, chain_start};
use crate::{LogId, Seq, StoreError};

use super::Shared;
use super::engine::{Engine, Failure, FailureKind};
use super::front::frame::{GROUP_HEAD_BYTES, Next, Part, SEGMENT_HEAD_BYTES, next_group, parts};
use super::front::{Sealed, retire, segment_path};
use super::layout::{Framed, Garbage, Head, Kind, LogNumber, TIP_KEY, Tip, garbage_key, head_key, part_key};

/// A batch of the tree takes no further group once it has this many bytes of values.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Deleted records cleared away with one batch.
const GARBAGE_KEYS_MAX: usize = 1024;

/// Room on the disk without which the tree takes nothing over: it writes in steps of half a mebibyte, pages anew each time.
const ROOM_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Room on the disk without which the tree takes a segment over, as a multiple of the segment.
const ROOM_TIMES: u64 = 4;

/// Sealed segments that may wait; then commits wait too.
pub(super) const SEALED_MAX: usize = 4;

/// The thread's own state.
#[derive(Debug)]
pub(super) struct Drain {
    shared: Arc<Shared>,
    sealed: Receiver<Sealed>,
    /// Where the tree stands.
    tip: Tip,
    garbage: VecDeque<Garbage>,
}

/// Changes of the tree that become durable together.
#[derive(Default)]
struct Pending {
    batch: Batch,
    bytes: usize,
    heads: BTreeMap<LogId, Option<Head>>,
    garbage: Vec<Garbage>,
    tip: Option<Tip>,
}

impl Drain {
    pub(super) fn new(shared: Arc<Shared>, sealed: Receiver<Sealed>, tip: Tip, garbage: VecDeque<Garbage>) -> Self {
        Self { shared, sealed, tip, garbage }
    }

    /// Works until the store closes or stops. What is left is found by the next opening.
    pub(super) fn run(mut self) {
        if let Err(failure) = self.clear_away() {
            self.shared.stop(&failure);
        }
        let mut waiting = VecDeque::new();
        while let Ok(sealed) = self.sealed.recv() {
            waiting.push_back(sealed);
            while let Some(sealed) = waiting.front().copied().filter(|sealed| self.has_room_for(*sealed)) {
                if self.ends() {
                    return;
                }
                if let Err(failure) = self.take_over(sealed) {
                    self.shared.stop(&failure);
                    return;
                }
                waiting.pop_front();
            }
        }
    }

    /// A tree that meets a full disk is of no use until the store is opened again. The front is readable where it is, so it waits.
    fn has_room_for(&self, sealed: Sealed) -> bool {
        self.shared.folder.free_bytes() >= ROOM_BYTES_MIN.max(sealed.end.saturating_mul(ROOM_TIMES))
    }

    fn ends(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed) || self.shared.running().is_err()
    }

    fn take_over(&mut self, sealed: Sealed) -> Result<(), Failure> {
        let front = self.shared.folder.front();
        let path = segment_path(&front, sealed.number);
        let bytes = std::fs::read(&path).map_err(|error| stopped(format!("reading {}: {error}", path.display())))?;
        let shared = Arc::clone(&self.shared);
        let tree = shared.tree_or_new()?;
        let bytes = bytes.get(..usize::try_from(sealed.end).unwrap_or(usize::MAX)).unwrap_or(&bytes);
        let mut at = SEGMENT_HEAD_BYTES as usize;
        let mut names: HashMap<LogNumber, LogId> = HashMap::new();
        let mut pending = Pending::default();
        while at < bytes.len() {
            let Next::Group(found) = next_group(bytes.get(at..).unwrap_or_default()) else {
                return Err(stopped(format!("segment {:x} of the front has changed at byte {at} since it was written", sealed.number.0)));
            };
            at += GROUP_HEAD_BYTES + found.body.len();
            let parts = parts(found.body).ok_or_else(|| stopped(format!("group {} is not made of parts", found.number)))?;
            for (_, part) in &parts {
                if let Part::Name { log, name } = part {
                    names.insert(*log, name.clone());
                }
            }
            if found.number <= self.tip.groups {
                continue;
            }
            let rewrites = parts.iter().any(|(_, part)| matches!(part, Part::Carry { .. } | Part::Removed { .. }));
            // A rewriting reads the tree, which must hold what came before.
            if pending.bytes >= BATCH_BYTES_MAX || rewrites {
                self.write(tree, &mut pending)?;
                if self.ends() {
                    return Ok(());
                }
            }
            let mut tip = pending.tip.unwrap_or(self.tip);
            tip.groups = found.number;
            for (_, part) in parts {
                self.take_part(tree, &mut pending, &mut tip, &names, part)?;
            }
            pending.tip = Some(tip);
        }
        self.write(tree, &mut pending)?;
        self.clear_away()?;
        let gate = self.shared.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.hot.write().unwrap_or_else(PoisonError::into_inner).forget(sealed.number, self.tip.groups);
        drop(gate);
        retire(&front, sealed.number, &self.shared.spare).map_err(Failure::from)
    }

    fn take_part(
        &self,
        tree: &Engine,
        pending: &mut Pending,
        tip: &mut Tip,
        names: &HashMap<LogNumber, LogId>,
        part: Part,
    ) -> Result<(), Failure> {
        let named = |log: LogNumber| names.get(&log).cloned().ok_or_else(|| stopped(format!("log number {} has no name", log.0)));
        match part {
            Part::Name { log, .. } => tip.next_number = tip.next_number.max(log.0 + 1),
            Part::Records { log, first, chain, records } => {
                let name = named(log)?;
                let fresh = Head { number: log, first: Seq(0), next: Seq(0), chain: chain_start(&name) };
                let mut head = self.head(tree, pending, &name)?.filter(|head| head.number == log).unwrap_or(fresh);
                if head.next != first {
                    return Err(stopped(format!("log {name} ends at {} in the tree and goes on at {} in the front", head.next.0, first.0)));
                }
                for record in records {
                    head.chain = chain_after(&head.chain, &record);
                    pending.put(&head, head.next, &Framed { kind: Kind::Appended, chain: head.chain, record });
                    head.next.0 += 1;
                }
                if head.chain != chain {
                    return Err(stopped(format!("the chain of log {name} breaks before place {}", head.next.0)));
                }
                pending.set_head(name, Some(head));
            }
            Part::Carry { log, place, chain, record } => {
                let name = named(log)?;
                // A carry where no log was begins one that was cut elsewhere.
                let begun = Head { number: log, first: place, next: Seq(place.0 + 1), chain };
                let mut head = self.head(tree, pending, &name)?.filter(|head| head.number == log).unwrap_or(begun);
                let keys = tree.part_keys(log, place, Seq(place.0 + 1), usize::from(u16::MAX)).map_err(Failure::from)?;
                keys.into_iter().for_each(|key| pending.batch.remove(key));
                pending.put(&head, place, &Framed { kind: Kind::Carry, chain, record });
                if head.first < place {
                    pending.throw_away(Garbage { number: log, from: head.first, end: place });
                }
                head.first = place;
                pending.set_head(name, Some(head));
            }
            Part::Removed { log } => {
                let name = named(log)?;
                if let Some(head) = self.head(tree, pending, &name)?.filter(|head| head.number == log) {
                    pending.throw_away(Garbage { number: log, from: head.first, end: head.next });
                    pending.set_head(name, None);
                }
            }
        }
        Ok(())
    }

    fn head(&self, tree: &Engine, pending: &Pending, log: &LogId) -> Result<Option<Head>, Failure> {
        match pending.heads.get(log) {
            Some(head) => Ok(*head),
            None => tree.head(log).map_err(Failure::from),
        }
    }

    /// Makes what is pending durable in the tree.
    fn write(&mut self, tree: &Engine, pending: &mut Pending) -> Result<(), Failure> {
        let Pending { mut batch, heads, garbage, tip, .. } = std::mem::take(pending);
        let Some(tip) = tip else { return Ok(()) };
        for (log, head) in heads {
            let key = head_key(&log);
            match head {
                Some(head) => batch.insert(&key[..], head.to_value(&key)),
                None => batch.remove(key),
            }
        }
        batch.insert(TIP_KEY, tip.to_value());
        tree.apply(batch)?;
        self.tip = tip;
        self.garbage.extend(garbage);
        Ok(())
    }

    /// Deletes records that nobody reads any more.
    fn clear_away(&mut self) -> Result<(), Failure> {
        while !self.garbage.is_empty() && !self.ends() {
            let Some(tree) = self.shared.tree.get() else { return Ok(()) };
            let mut batch = Batch::default();
            let mut left = GARBAGE_KEYS_MAX;
            while let Some(garbage) = self.garbage.front() {
                let keys = tree.part_keys(garbage.number, garbage.from, garbage.end, left).map_err(Failure::from)?;
                let whole = keys.len() < left;
                left -= keys.len();
                keys.into_iter().for_each(|key| batch.remove(key));
                if !whole {
                    break;
                }
                batch.remove(garbage_key(garbage));
                self.garbage.pop_front();
            }
            tree.apply(batch)?;
        }
        Ok(())
    }
}

impl Pending {
    fn put(&mut self, head: &Head, place: Seq, framed: &Framed) {
        for (part, value) in (0..).zip(framed.to_parts(head.number, place)) {
            self.bytes += value.len();
            self.batch.insert(&part_key(head.number, place, part), value);
        }
    }

    fn set_head(&mut self, log: LogId, head: Option<Head>) {
        self.bytes += 64;
        self.heads.insert(log, head);
    }

    fn throw_away(&mut self, garbage: Garbage) {
        self.batch.insert(garbage_key(&garbage), garbage.to_value());
        self.garbage.push(garbage);
    }
}

fn stopped(why: String) -> Failure {
    Failure { kind: FailureKind::Stopped, why }
}

/// A tree that cannot be made for want of room is the disk's fault, not ours.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = if matches!(error, StoreError::DiskFull { .. }) { FailureKind::DiskFull } else { FailureKind::Stopped };
        Self { kind, why: error.to_string() }
    }
}
