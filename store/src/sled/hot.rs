//! What the index does not know yet: heads of logs, and where their records lie. In memory only; opening finds it again.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::{LogId, Seq};

use super::layout::{Head, LogNumber, Spot};
use super::segments::frame::{Part, SegmentNumber, Within};

/// Heads and places of the segments that are not indexed.
#[derive(Clone, Debug, Default)]
pub(super) struct Hot {
    heads: BTreeMap<LogId, HotHead>,
    spots: BTreeMap<(LogNumber, Seq), Spot>,
}

/// A head that is newer than the index's.
#[derive(Clone, Copy, Debug)]
struct HotHead {
    /// `None`: the log was removed.
    head: Option<Head>,
    /// The segment that changed it last.
    segment: SegmentNumber,
}

/// What the newest of memory and index say of a log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    /// Changed since: this head, or none any more.
    Hot(Option<Head>),
    /// Not changed since.
    Index,
}

/// A part of a group that readers may need, and where it lies in its group.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Records from the first place to before the second.
    Records { log: LogNumber, first: Seq, end: Seq, within: Within },
    /// A record at this place for all before it.
    Carry { log: LogNumber, place: Seq, within: Within },
    /// The log is gone.
    Removed { log: LogNumber },
}

impl Place {
    /// What readers may need of a part.
    pub(super) fn of(part: &Part, within: Within) -> Option<Self> {
        match part {
            Part::Name { .. } => None,
            Part::Records { log, first, records, .. } | Part::RecordsAgain { log, first, records, .. } => {
                Some(Self::Records { log: *log, first: *first, end: Seq(first.0 + records.len() as u64), within })
            }
            Part::Carry { log, place, .. } | Part::CarryAgain { log, place, .. } => Some(Self::Carry { log: *log, place: *place, within }),
            Part::Removed { log } => Some(Self::Removed { log: *log }),
        }
    }
}

/// Where a part lies, given where its group does.
pub(super) fn spot(segment: SegmentNumber, group_at: u64, within: Within, end: Seq) -> Spot {
    // A part is part of a group, which is far below four thousand million bytes.
    Spot { segment, at: group_at + within.at as u64, bytes: u32::try_from(within.bytes).unwrap_or(u32::MAX), end }
}

impl Hot {
    pub(super) fn newest(&self, log: &LogId) -> Newest {
        self.heads.get(log).map_or(Newest::Index, |hot| Newest::Hot(hot.head))
    }

    pub(super) fn set_head(&mut self, segment: SegmentNumber, log: LogId, head: Option<Head>) {
        self.heads.insert(log, HotHead { head, segment });
    }

    /// The heads whose names begin with `prefix`, after `after`, `None` for a removed log: as many as `limit` logs that are there need.
    pub(super) fn heads(&self, prefix: &str, after: Option<&LogId>, limit: usize) -> Vec<(LogId, Option<Head>)> {
        let from = match after.map(LogId::as_str) {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut there = 0;
        self.heads
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(log, _)| log.as_str().starts_with(prefix))
            .take_while(|(_, hot)| {
                let wanted = there < limit;
                there += usize::from(hot.head.is_some());
                wanted
            })
            .map(|(log, hot)| (log.clone(), hot.head))
            .collect()
    }

    /// Takes up a part of a group that has become durable at `at` of a segment.
    pub(super) fn place(&mut self, segment: SegmentNumber, at: u64, place: Place) {
        match place {
            Place::Records { log, first, end, within } => {
                self.spots.insert((log, first), spot(segment, at, within, end));
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
                self.spots.insert((log, place), spot(segment, at, within, before));
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
        (spot.end > place).then_some((*first, *spot))
    }

    /// Forgets what the index knows now: everything in segments up to this one.
    pub(super) fn forget(&mut self, segment: SegmentNumber) {
        self.heads.retain(|_, hot| hot.segment > segment);
        self.spots.retain(|_, spot| spot.segment > segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn log(name: &str) -> LogId {
        LogId::new(name).unwrap()
    }

    #[test]
    fn heads_are_listed_from_a_name_on_and_no_further_than_logs_are_wanted() {
        let mut hot = Hot::default();
        let head = |number| Head { number: LogNumber(number), first: Seq(0), next: Seq(1), chain: Digest([0; 32]) };
        let all =
            [("lock/a", true), ("run/a", true), ("run/b", false), ("run/c", true), ("run/d", false), ("run/e", true), ("seen/a", true)];
        for (number, (name, there)) in (0..).zip(all) {
            hot.set_head(SegmentNumber(1), log(name), there.then(|| head(number)));
        }
        let names = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
            let after = after.map(log);
            hot.heads(prefix, after.as_ref(), limit).into_iter().map(|(log, _)| log.to_string()).collect()
        };
        assert_eq!(names("run/", None, usize::MAX), ["run/a", "run/b", "run/c", "run/d", "run/e"]);
        // A removed log counts for nothing, and is told where it hides one of the index's that could be meant.
        assert_eq!(names("run/", None, 2), ["run/a", "run/b", "run/c"]);
        assert_eq!(names("run/", Some("run/a"), 1), ["run/b", "run/c"]);
        assert_eq!(names("run/", Some("run/bb"), 9), ["run/c", "run/d", "run/e"]);
        assert_eq!(names("run/", Some("lock/a"), 1), ["run/a"]);
        assert_eq!(names("run/c", None, 1), ["run/c"]);
        assert_eq!(names("run/", Some("seen/a"), 9), Vec::<String>::new());
    }
}
