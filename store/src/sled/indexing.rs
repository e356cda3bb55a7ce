//! Taking a sealed segment up into the index: one batch, so that a segment is in it whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;

use ::sled::Batch;

use crate::{LogId, Seq, StoreError};

use super::folder::Folder;
use super::heads::{self, Misfit, Origin};
use super::hot;
use super::index::Index;
use super::layout::{Head, IndexTip, LogNumber, Spot, TIP_KEY, head_key, spot_key};
use super::segments::frame::{GROUP_HEAD_BYTES, Next, Part, SEGMENT_HEAD_BYTES, SegmentNumber, next_group, parts};
use super::segments::{Sealed, segment_path};
use super::tree::{Failure, FailureKind};

/// What one segment changes in the index.
struct Pending<'a> {
    index: &'a Index,
    origin: Origin,
    segment: SegmentNumber,
    heads: BTreeMap<LogId, Option<Head>>,
    /// `None` is a spot that goes.
    spots: BTreeMap<(LogNumber, Seq), Option<Spot>>,
    tip: IndexTip,
}

/// Bytes that a part keeps alive: its own, and its share of the group around it.
fn weight(spot: &Spot) -> u64 {
    u64::from(spot.bytes) + GROUP_HEAD_BYTES as u64
}

/// Takes a segment up, and says where the index stands then.
///
/// # Errors
/// Where the segment is not what was written, or the index cannot be written.
pub(super) fn take_up(folder: &Folder, index: &Index, tip: IndexTip, sealed: Sealed) -> Result<IndexTip, Failure> {
    let path = segment_path(&folder.segments(), sealed.number);
    let bytes = std::fs::read(&path).map_err(|error| stopped(format!("reading {}: {error}", path.display())))?;
    let bytes = bytes.get(..usize::try_from(sealed.end).unwrap_or(usize::MAX)).unwrap_or(&bytes);
    let mut at = SEGMENT_HEAD_BYTES as usize;
    let mut names: HashMap<LogNumber, LogId> = HashMap::new();
    let origin = Origin::of(sealed.number, &tip);
    let mut pending = Pending { index, origin, segment: sealed.number, heads: BTreeMap::new(), spots: BTreeMap::new(), tip };
    while at < bytes.len() {
        let Next::Group(found) = next_group(bytes.get(at..).unwrap_or_default()) else {
            return Err(stopped(format!("segment {:x} has changed at byte {at} since it was written", sealed.number.0)));
        };
        let parts = parts(found.body).ok_or_else(|| stopped(format!("group {} is not made of parts", found.number)))?;
        pending.tip.tip.groups = found.number;
        for (within, part) in parts {
            let spot = |end| hot::spot(sealed.number, at as u64, within, end);
            pending.take_part(&mut names, part, spot)?;
        }
        at += GROUP_HEAD_BYTES + found.body.len();
    }
    pending.tip.segment = sealed.number;
    pending.tip.sum = sealed.sum;
    let tip = pending.tip;
    index.apply(pending.into_batch())?;
    give_back_the_rest(&path, sealed.end);
    Ok(tip)
}

/// Zeros that were laid ahead and never written over.
fn give_back_the_rest(path: &std::path::Path, end: u64) {
    // Only room is lost where this fails.
    let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(end));
}

impl Pending<'_> {
    fn take_part(&mut self, names: &mut HashMap<LogNumber, LogId>, part: Part, spot: impl Fn(Seq) -> Spot) -> Result<(), Failure> {
        let log = part.log();
        if let Part::Name { name, .. } = part {
            self.tip.tip.next_number = self.tip.tip.next_number.max(log.0 + 1);
            names.insert(log, name);
            return Ok(());
        }
        let name = names.get(&log).cloned().ok_or_else(|| stopped(format!("log number {} has no name", log.0)))?;
        let head = self.head(&name)?.filter(|head| head.number == log);
        let misfit = || stopped(format!("a part of segment {:x} does not fit the end of log {name} in the index", self.segment.0));
        let after = heads::after(self.origin, &name, head, &part).map_err(|Misfit| misfit())?;
        match &part {
            Part::Name { .. } => {}
            Part::Records { first, records, .. } | Part::RecordsAgain { first, records, .. } => {
                self.put(log, *first, spot(Seq(first.0 + records.len() as u64)))?;
            }
            Part::Carry { place, .. } => self.put_carry(log, *place, spot(Seq(place.0 + 1)))?,
            Part::CarryAgain { place, .. } => self.put(log, *place, spot(Seq(place.0 + 1)))?,
            Part::Removed { .. } => {
                for (place, old) in self.spots_before(log, Seq(u64::MAX))? {
                    self.take_away(log, place, &old);
                }
            }
        }
        if head != after {
            self.heads.insert(name, after);
        }
        Ok(())
    }

    fn head(&self, log: &LogId) -> Result<Option<Head>, Failure> {
        match self.heads.get(log) {
            Some(head) => Ok(*head),
            None => self.index.head(log).map_err(Failure::from),
        }
    }

    fn put(&mut self, log: LogNumber, place: Seq, spot: Spot) -> Result<(), Failure> {
        let old = match self.spots.get(&(log, place)) {
            Some(old) => *old,
            None => self.index.spots(log, place, Seq(place.0 + 1)).next().transpose().map_err(Failure::from)?.map(|(_, old)| old),
        };
        let old = old.as_ref().map_or(0, weight);
        self.tip.live_bytes = (self.tip.live_bytes + weight(&spot)).saturating_sub(old);
        self.spots.insert((log, place), Some(spot));
        Ok(())
    }

    fn put_carry(&mut self, log: LogNumber, place: Seq, spot: Spot) -> Result<(), Failure> {
        let before = Seq(place.0 + 1);
        for (at, old) in self.spots_before(log, before)? {
            self.take_away(log, at, &old);
            // A part that reaches behind the carry goes on standing for its rest.
            if old.end > before {
                self.tip.live_bytes += weight(&old);
                self.spots.insert((log, before), Some(old));
            }
        }
        self.put(log, place, spot)
    }

    fn take_away(&mut self, log: LogNumber, place: Seq, old: &Spot) {
        self.tip.live_bytes = self.tip.live_bytes.saturating_sub(weight(old));
        self.spots.insert((log, place), None);
    }

    /// Spots of a log filed before a place, with what this segment changed so far.
    fn spots_before(&self, log: LogNumber, end: Seq) -> Result<BTreeMap<Seq, Spot>, Failure> {
        let mut found = self.index.spots(log, Seq(0), end).collect::<Result<BTreeMap<_, _>, StoreError>>().map_err(Failure::from)?;
        for ((_, place), spot) in self.spots.range((log, Seq(0))..(log, end)) {
            match spot {
                Some(spot) => found.insert(*place, *spot),
                None => found.remove(place),
            };
        }
        Ok(found)
    }

    fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        for ((log, place), spot) in self.spots {
            let key = spot_key(log, place);
            match spot {
                Some(spot) => batch.insert(&key[..], spot.to_value(&key)),
                None => batch.remove(&key[..]),
            }
        }
        for (log, head) in self.heads {
            let key = head_key(&log);
            match head {
                Some(head) => batch.insert(&key[..], head.to_value(&key)),
                None => batch.remove(key),
            }
        }
        batch.insert(TIP_KEY, self.tip.to_value());
        batch
    }
}

pub(super) fn stopped(why: String) -> Failure {
    Failure { kind: FailureKind::Stopped, why }
}

impl Failure {
    /// As the error of an opening.
    pub(super) fn while_opening(self, folder: &Folder) -> StoreError {
        match self.kind {
            FailureKind::DiskFull => StoreError::DiskFull { folder: folder.name() },
            FailureKind::Sync | FailureKind::Stopped => folder.damaged(self.why),
        }
    }
}

/// An index that cannot be made for want of room is the disk's fault, not ours.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = if matches!(error, StoreError::DiskFull { .. }) { FailureKind::DiskFull } else { FailureKind::Stopped };
        Self { kind, why: error.to_string() }
    }
}
