//! What the tree has not taken over yet: heads of logs, and where in the front their records lie. In memory only; opening finds it again.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::{LogId, Seq, StoreError};

use super::folder::Folder;
use super::front::frame::{Part, SegmentNumber, Within, whole_part};
use super::layout::{Head, LogNumber};

/// Heads and places of the front.
#[derive(Debug, Default)]
pub(super) struct Hot {
    heads: BTreeMap<LogId, HotHead>,
    spots: BTreeMap<(LogNumber, Seq), Spot>,
}

/// A head that is newer than the tree's.
#[derive(Clone, Copy, Debug)]
struct HotHead {
    /// `None`: the log was removed.
    head: Option<Head>,
    /// The group that changed it last.
    group: u64,
}

/// Where a part of the front lies. It is filed under the first place that it still stands for.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    segment: SegmentNumber,
    file: Arc<File>,
    at: u64,
    bytes: usize,
    /// The place behind its last.
    pub(super) end: Seq,
}

/// What the newest of front and tree say of a log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    /// The front has changed it: this head, or none any more.
    Front(Option<Head>),
    /// The front says nothing of it.
    Tree,
}

/// Where a group landed.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) segment: SegmentNumber,
    pub(super) file: Arc<File>,
    pub(super) at: u64,
}

/// A part of a group that readers may need.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Records from the first place to before the second.
    Records { log: LogNumber, first: Seq, end: Seq, within: Within },
    /// A record at this place for all before it.
    Carry { log: LogNumber, place: Seq, within: Within },
    /// The log is gone.
    Removed { log: LogNumber },
}

impl Hot {
    pub(super) fn newest(&self, log: &LogId) -> Newest {
        self.heads.get(log).map_or(Newest::Tree, |hot| Newest::Front(hot.head))
    }

    pub(super) fn set_head(&mut self, group: u64, log: LogId, head: Option<Head>) {
        self.heads.insert(log, HotHead { head, group });
    }

    /// The heads whose names begin with `prefix`, after `after`: `None` for a removed log.
    pub(super) fn heads(&self, prefix: &str, after: Option<&LogId>) -> Vec<(LogId, Option<Head>)> {
        self.heads
            .iter()
            .skip_while(|(log, _)| log.as_str() < prefix || after.is_some_and(|after| *log <= after))
            .take_while(|(log, _)| log.as_str().starts_with(prefix))
            .map(|(log, hot)| (log.clone(), hot.head))
            .collect()
    }

    /// Takes up a part of a group that has become durable.
    pub(super) fn place(&mut self, group: &Group, place: Place) {
        let spot = |within: Within, end| Spot {
            segment: group.segment,
            file: Arc::clone(&group.file),
            at: group.at + within.at as u64,
            bytes: within.bytes,
            end,
        };
        match place {
            Place::Records { log, first, end, within } => {
                self.spots.insert((log, first), spot(within, end));
            }
            Place::Carry { log, place, within } => {
                let before = Seq(place.0 + 1);
                let gone: Vec<_> = self.spots.range((log, Seq(0))..(log, before)).map(|(key, _)| *key).collect();
                for key in gone {
                    // A part that reaches behind the carry goes on standing for its rest.
                    if let Some(spot) = self.spots.remove(&key)
                        && spot.end > before
                    {
                        self.spots.insert((log, before), spot);
                    }
                }
                self.spots.insert((log, place), spot(within, before));
            }
            Place::Removed { log } => {
                let gone: Vec<_> = self.spots.range((log, Seq(0))..=(log, Seq(u64::MAX))).map(|(key, _)| *key).collect();
                for key in gone {
                    self.spots.remove(&key);
                }
            }
        }
    }

    /// The part that stands for this place, with the first place that it still stands for.
    pub(super) fn spot(&self, log: LogNumber, place: Seq) -> Option<(Seq, Spot)> {
        let ((_, first), spot) = self.spots.range((log, Seq(0))..=(log, place)).next_back()?;
        (spot.end > place).then(|| (*first, spot.clone()))
    }

    /// The first place behind this one for which a part of the front stands.
    pub(super) fn next_place(&self, log: LogNumber, place: Seq) -> Option<Seq> {
        self.spots.range((log, Seq(place.0 + 1))..=(log, Seq(u64::MAX))).next().map(|((_, first), _)| *first)
    }

    /// Forgets what the tree has taken over: everything in segments up to this one, whose last group is this one.
    pub(super) fn forget(&mut self, segment: SegmentNumber, group: u64) {
        self.heads.retain(|_, hot| hot.group > group);
        self.spots.retain(|_, spot| spot.segment > segment);
    }
}

impl Spot {
    /// Reads the part.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it does not have its checksum.
    pub(super) fn read(&self, folder: &Folder, log: &LogId, first: Seq) -> Result<Part, StoreError> {
        let damaged =
            |what: &str| folder.damaged(format!("record {} of log {log} {what} in segment {:x} of the front", first.0, self.segment.0));
        let mut bytes = vec![0; self.bytes];
        self.file.read_exact_at(&mut bytes, self.at).map_err(|_| damaged("cannot be read"))?;
        whole_part(&bytes).ok_or_else(|| damaged("does not match its checksum"))
    }
}
