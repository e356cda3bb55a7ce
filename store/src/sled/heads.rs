//! What a part makes of the head of its log: one function for whoever reads segments, be it to open the store or to index them. Pure.

use crate::chain::chain_start;
use crate::{LogId, Seq};

use super::layout::{Head, IndexTip, LogNumber};
use super::segments::frame::{Part, SegmentNumber};

/// What whoever reads segments knows of what came before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Everything before is known.
    Following,
    /// Segments were given up, and nothing but the segments left is known: what was moved out of them comes later, so a log may begin in
    /// its middle and have gaps until everything is read. Whoever reads so looks for gaps in the end.
    Anew,
}

impl Origin {
    /// How a segment is to be read by whoever knows what the index knows.
    pub(super) fn of(segment: SegmentNumber, tip: &IndexTip) -> Self {
        if segment <= tip.anew_until { Self::Anew } else { Self::Following }
    }
}

/// The part does not fit the end of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit;

/// The head of a log after a part; `None` where there is no log any more. `head` is the one before it, of the same number.
pub(super) fn after(origin: Origin, name: &LogId, head: Option<Head>, part: &Part) -> Result<Option<Head>, Misfit> {
    match part {
        Part::Name { .. } => Ok(head),
        Part::Records { log, first, chain, records } => {
            let begin = if origin == Origin::Anew { *first } else { Seq(0) };
            let head = head.unwrap_or(Head { number: *log, first: begin, next: begin, chain: chain_start(name) });
            let fits = head.next == *first || origin == Origin::Anew && head.next < *first;
            let next = Seq(first.0 + records.len() as u64);
            if fits { Ok(Some(Head { next, chain: *chain, ..head })) } else { Err(Misfit) }
        }
        Part::Carry { log, place, chain, .. } => {
            // A carry where no log was begins one that was cut elsewhere.
            let head = head.unwrap_or_else(|| begun(*log, *place, Seq(place.0 + 1), *chain));
            let fits = origin == Origin::Anew || (head.first <= *place && *place < head.next);
            if fits { Ok(Some(Head { first: *place, ..reaching(head, Seq(place.0 + 1), *chain) })) } else { Err(Misfit) }
        }
        Part::Removed { .. } => match (head, origin) {
            (Some(_), _) | (None, Origin::Anew) => Ok(None),
            (None, Origin::Following) => Err(Misfit),
        },
        Part::RecordsAgain { log, first, chain, records } => again(origin, head, *log, *first, Seq(first.0 + records.len() as u64), *chain),
        Part::CarryAgain { log, place, chain, .. } => again(origin, head, *log, *place, Seq(place.0 + 1), *chain),
    }
}

/// Something that was written before changes nothing, except for whoever has not seen it before.
fn again(origin: Origin, head: Option<Head>, log: LogNumber, first: Seq, next: Seq, chain: crate::Digest) -> Result<Option<Head>, Misfit> {
    match (head, origin) {
        (Some(head), Origin::Following) if head.first <= first && next <= head.next => Ok(Some(head)),
        (_, Origin::Following) => Err(Misfit),
        (head, Origin::Anew) => {
            let head = head.unwrap_or_else(|| begun(log, first, next, chain));
            Ok(Some(Head { first: head.first.min(first), ..reaching(head, next, chain) }))
        }
    }
}

fn begun(number: LogNumber, first: Seq, next: Seq, chain: crate::Digest) -> Head {
    Head { number, first, next, chain }
}

/// A head that ends at `next` at least.
fn reaching(head: Head, next: Seq, chain: crate::Digest) -> Head {
    if head.next < next { Head { next, chain, ..head } } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Record};

    const LOG: LogNumber = LogNumber(4);

    fn name() -> LogId {
        LogId::new("run/a").unwrap()
    }

    fn records(first: u64, count: usize) -> Part {
        Part::Records { log: LOG, first: Seq(first), chain: Digest::of(&[first as u8]), records: vec![Record(Vec::new()); count] }
    }

    fn again(first: u64, count: usize) -> Part {
        Part::RecordsAgain { log: LOG, first: Seq(first), chain: Digest::of(&[first as u8]), records: vec![Record(Vec::new()); count] }
    }

    fn carry(place: u64) -> Part {
        Part::Carry { log: LOG, place: Seq(place), chain: Digest::of(b"c"), record: Record(Vec::new()) }
    }

    fn all(origin: Origin, parts: &[Part]) -> Result<Option<(u64, u64)>, Misfit> {
        let head = parts.iter().try_fold(None, |head, part| after(origin, &name(), head, part))?;
        Ok(head.map(|head| (head.first.0, head.next.0)))
    }

    #[test]
    fn records_go_on_where_a_log_ends_and_nowhere_else() {
        use Origin::Following;
        assert_eq!(all(Following, &[records(0, 2), records(2, 3)]), Ok(Some((0, 5))));
        assert_eq!(all(Following, &[records(0, 2), records(3, 1)]), Err(Misfit));
        assert_eq!(all(Following, &[records(1, 1)]), Err(Misfit));
        assert_eq!(all(Following, &[records(0, 5), carry(3), records(5, 1)]), Ok(Some((3, 6))));
        assert_eq!(all(Following, &[records(0, 5), carry(5)]), Err(Misfit));
        assert_eq!(all(Following, &[carry(7), records(8, 1)]), Ok(Some((7, 9))));
        assert_eq!(all(Following, &[records(0, 5), again(1, 2)]), Ok(Some((0, 5))));
        assert_eq!(all(Following, &[records(0, 5), again(4, 2)]), Err(Misfit));
        assert_eq!(all(Following, &[Part::Removed { log: LOG }]), Err(Misfit));
    }

    #[test]
    fn who_begins_anew_learns_the_beginning_of_a_log_later() {
        use Origin::Anew;
        assert_eq!(all(Anew, &[records(100, 5), again(0, 60), records(105, 1), again(60, 40)]), Ok(Some((0, 106))));
        assert_eq!(all(Anew, &[again(0, 50), records(100, 1), again(50, 50)]), Ok(Some((0, 101))));
        assert_eq!(all(Anew, &[again(0, 50), Part::Removed { log: LOG }]), Ok(None));
        assert_eq!(all(Anew, &[records(10, 5), carry(12)]), Ok(Some((12, 15))));
        assert_eq!(all(Anew, &[records(10, 5), records(12, 5)]), Err(Misfit));
    }
}
