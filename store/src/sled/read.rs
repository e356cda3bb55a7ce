//! Reading a log and proving what was read: no gaps, checksums, and the hash chain from what came before to the head.

use std::os::unix::fs::FileExt;
use std::sync::{PoisonError, RwLock};

use crate::chain::{chain_after, chain_start};
use crate::mutants::{self, Mutant};
use crate::{Digest, LogId, PAGE_BYTES_MAX, Page, Record, Seq, StoreError};

use super::folder::Folder;
use super::hot::Hot;
use super::index::Index;
use super::layout::{Head, LogNumber, Spot};
use super::segments::Files;
use super::segments::frame::{Part, whole_part};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was appended.
    Appended,
    /// It stands for those before it.
    Carry,
}

/// A record and the chain after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Framed {
    pub(super) kind: Kind,
    pub(super) chain: Digest,
    pub(super) record: Record,
}

/// Where records are read from: segments, found by what memory knows, which goes first, and by the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) folder: &'a Folder,
    pub(super) files: &'a Files,
    pub(super) hot: &'a RwLock<Hot>,
    pub(super) index: Option<&'a Index>,
}

impl Reader<'_> {
    /// The part that stands for a place, with the first place that it is filed under.
    pub(super) fn spot(&self, log: LogNumber, place: Seq) -> Result<Option<(Seq, Spot)>, StoreError> {
        let hot = self.hot.read().unwrap_or_else(PoisonError::into_inner).spot(log, place);
        match (hot, self.index) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(index)) => index.spot(log, place),
            (None, None) => Ok(None),
        }
    }

    /// Reads the part that stands for a place.
    fn part(&self, log: &LogId, number: LogNumber, place: Seq) -> Result<(Spot, Part), StoreError> {
        let (_, spot) = self.spot(number, place)?.ok_or_else(|| missing(self, log, place))?;
        let damaged = |what: &str| self.folder.damaged(format!("record {} of log {log} {what} in segment {:x}", place.0, spot.segment.0));
        let mut bytes = vec![0; spot.bytes as usize];
        self.files.segment(spot.segment)?.read_exact_at(&mut bytes, spot.at).map_err(|_| damaged("cannot be read"))?;
        let part = whole_part(&bytes).ok_or_else(|| damaged("does not match its checksum"))?;
        if part.log() != number {
            return Err(damaged("is not where it was written"));
        }
        Ok((spot, part))
    }

    /// Whether something stands for every place of a log, and what stands for its first one may.
    pub(super) fn is_whole(&self, log: &LogId, head: &Head) -> Result<(), StoreError> {
        let mut place = head.first;
        while place < head.next {
            let (_, spot) = self.spot(head.number, place)?.ok_or_else(|| missing(self, log, place))?;
            if place == head.first && place.0 > 0 {
                let (_, part) = self.part(log, head.number, place)?;
                if !matches!(part, Part::Carry { .. } | Part::CarryAgain { .. }) {
                    return Err(self.folder.damaged(format!("all before record {} of log {log} is missing", place.0)));
                }
            }
            place = spot.end;
        }
        Ok(())
    }
}

/// One page of a log.
pub(super) fn page(source: &Reader<'_>, log: &LogId, head: &Head, from: Seq, limit: usize) -> Result<Page, StoreError> {
    if from < head.first {
        return Err(StoreError::Compacted { log: log.clone(), first: head.first });
    }
    let mut page = Page { records: Vec::new(), next: head.next, chain: head.chain };
    if from < head.next {
        for (place, framed) in proven(source, log, head, from, limit)? {
            page.chain = framed.chain;
            page.records.push((place, framed.record));
        }
    }
    Ok(page)
}

/// Records from `from`, which must lie in the log, each proven to follow from the one before it.
fn proven(source: &Reader<'_>, log: &LogId, head: &Head, from: Seq, limit: usize) -> Result<Vec<(Seq, Framed)>, StoreError> {
    let mut chain = before(source, log, head, from)?;
    let frames = frames(source, log, head, from, head.next, limit)?;
    for (place, framed) in &frames {
        let broken = |what: &str| source.folder.damaged(format!("record {} of log {log} {what}", place.0));
        let follows = match (framed.kind, chain) {
            (Kind::Carry, None) => true,
            (Kind::Carry, Some(_)) => {
                return Err(broken("stands for others in the middle of the log"));
            }
            (Kind::Appended, Some(chain)) => chain_after(&chain, &framed.record) == framed.chain,
            (Kind::Appended, None) if place.0 == 0 => chain_after(&chain_start(log), &framed.record) == framed.chain,
            (Kind::Appended, None) => {
                return Err(broken("is not the one that stands for those before it"));
            }
        };
        if !follows && !mutants::is(Mutant::ChainUnchecked) {
            return Err(broken("does not follow from the record before it: the chain breaks here"));
        }
        chain = Some(framed.chain);
        if place.0 + 1 == head.next.0 && framed.chain != head.chain {
            return Err(broken("is the last one, but the log's head has another chain"));
        }
    }
    Ok(frames)
}

/// Records looked at in one go, so that other readers and the writer get their turn.
const STRIDE: usize = 1024;

/// Proves a stretch of a log from `from` on and tells its last place; `None` behind the end.
pub(super) fn proven_from(source: &Reader<'_>, log: &LogId, head: &Head, from: Seq) -> Result<Option<Seq>, StoreError> {
    if from >= head.next {
        return Ok(None);
    }
    let frames = proven(source, log, head, from, STRIDE)?;
    Ok(frames.last().map(|(place, _)| *place))
}

/// The chain before `from`; `None` at the log's first place, which proves itself.
fn before(source: &Reader<'_>, log: &LogId, head: &Head, from: Seq) -> Result<Option<Digest>, StoreError> {
    if from <= head.first {
        return Ok(None);
    }
    let place = Seq(from.0 - 1);
    let (spot, part) = source.part(log, head.number, place)?;
    // A part says the chain after its last record.
    if spot.end == from
        && let Part::Records { chain, .. } | Part::RecordsAgain { chain, .. } | Part::Carry { chain, .. } | Part::CarryAgain { chain, .. } =
            part
    {
        return Ok(Some(chain));
    }
    let frames = frames(source, log, head, place, from, 1)?;
    Ok(frames.first().map(|(_, framed)| framed.chain))
}

/// Whole records from one place to before another, from wherever they lie: at most `limit`, and few enough for a page.
pub(super) fn frames(
    source: &Reader<'_>,
    log: &LogId,
    head: &Head,
    from: Seq,
    end: Seq,
    limit: usize,
) -> Result<Vec<(Seq, Framed)>, StoreError> {
    let mut found: Vec<(Seq, Framed)> = Vec::new();
    let mut bytes = 0;
    let mut place = from;
    while place < end && found.len() < limit && bytes <= PAGE_BYTES_MAX {
        let more = from_part(source, log, head, place, found.last())?;
        let before = found.len();
        for (at, framed) in more.into_iter().filter(|(at, _)| *at >= place && *at < end).take(limit - before) {
            bytes += framed.record.0.len();
            // The one that passes the limit of a page is read again with the next page.
            if bytes > PAGE_BYTES_MAX && !found.is_empty() {
                break;
            }
            found.push((at, framed));
        }
        match found.last() {
            Some((last, _)) if found.len() > before => place = Seq(last.0 + 1),
            Some(_) | None if bytes > PAGE_BYTES_MAX => break,
            Some(_) | None => return Err(missing(source, log, place)),
        }
    }
    Ok(found)
}

/// All records from a place on in the part that stands for it, each with the chain after it.
fn from_part(
    source: &Reader<'_>,
    log: &LogId,
    head: &Head,
    place: Seq,
    last: Option<&(Seq, Framed)>,
) -> Result<Vec<(Seq, Framed)>, StoreError> {
    let (_, part) = source.part(log, head.number, place)?;
    match part {
        Part::Carry { place: at, chain, record, .. } | Part::CarryAgain { place: at, chain, record, .. } if at == place => {
            Ok(vec![(at, Framed { kind: Kind::Carry, chain, record })])
        }
        Part::Records { first, chain: after, records, .. } | Part::RecordsAgain { first, chain: after, records, .. } => {
            // Chains are known where a part ends alone, so they are computed from the part's first record that still counts: what a log was
            // cut before is gone.
            let (begin, mut chain) = match last {
                Some((at, framed)) if at.0 + 1 == place.0 => (place, framed.chain),
                Some(_) | None => {
                    let begin = if place > head.first { first.max(Seq(head.first.0 + 1)).min(place) } else { place };
                    (begin, before(source, log, head, begin)?.unwrap_or_else(|| chain_start(log)))
                }
            };
            let mut found = Vec::with_capacity(records.len());
            for (at, record) in (first.0..).map(Seq).zip(records).filter(|(at, _)| *at >= begin) {
                chain = chain_after(&chain, &record);
                if at >= place {
                    found.push((at, Framed { kind: Kind::Appended, chain, record }));
                }
            }
            if chain != after && !mutants::is(Mutant::ChainUnchecked) {
                let what = format!("the records of log {log} from {} on do not follow from those before: the chain breaks here", place.0);
                return Err(source.folder.damaged(what));
            }
            Ok(found)
        }
        Part::Carry { .. } | Part::CarryAgain { .. } | Part::Name { .. } | Part::Removed { .. } => {
            Err(source.folder.damaged(format!("record {} of log {log} is not where it was written", place.0)))
        }
    }
}

/// The index, where there is one, does not say what the segments do. What it is made from anew tells whether they do.
fn missing(source: &Reader<'_>, log: &LogId, place: Seq) -> StoreError {
    if source.index.is_some() {
        source.folder.mark_index_broken();
    }
    source.folder.damaged(format!("record {} of log {log} is missing", place.0))
}
