//! Reading a log and proving what was read: no gaps, checksums, and the hash chain from what came before to the head.

use std::sync::{PoisonError, RwLock};

use crate::chain::{chain_after, chain_start};
use crate::mutants::{self, Mutant};
use crate::{Digest, LogId, PAGE_BYTES_MAX, Page, Seq, StoreError};

use super::engine::Engine;
use super::folder::Folder;
use super::front::frame::Part;
use super::hot::{Hot, Spot};
use super::layout::{Framed, Head, Kind, LogNumber};

/// Where records are read from: the front, which goes first, and the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) folder: &'a Folder,
    pub(super) hot: Option<&'a RwLock<Hot>>,
    pub(super) tree: Option<&'a Engine>,
}

impl Reader<'_> {
    fn spot(&self, log: LogNumber, place: Seq) -> Option<(Seq, Spot)> {
        self.hot?.read().unwrap_or_else(PoisonError::into_inner).spot(log, place)
    }

    fn next_place(&self, log: LogNumber, place: Seq) -> Option<Seq> {
        self.hot?.read().unwrap_or_else(PoisonError::into_inner).next_place(log, place)
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
    // A part of the front says the chain after its last record; a record of the tree says its own.
    if let Some((first, spot)) = source.spot(head.number, place)
        && spot.end == from
    {
        return match spot.read(source.folder, log, first)? {
            Part::Records { chain, .. } | Part::Carry { chain, .. } => Ok(Some(chain)),
            Part::Name { .. } | Part::Removed { .. } => Err(misplaced(source, log, place)),
        };
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
        let more = match source.spot(head.number, place) {
            Some((first, spot)) => from_part(source, log, head, (first, spot), found.last())?,
            None => {
                let until = source.next_place(head.number, place).map_or(end, |next| next.min(end));
                let tree = source.tree.ok_or_else(|| missing(source, log, place))?;
                tree.frames(log, head.number, place, until, limit - found.len())?
            }
        };
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

/// All records of a part of the front, each with the chain after it.
fn from_part(
    source: &Reader<'_>,
    log: &LogId,
    head: &Head,
    (place, spot): (Seq, Spot),
    last: Option<&(Seq, Framed)>,
) -> Result<Vec<(Seq, Framed)>, StoreError> {
    match spot.read(source.folder, log, place)? {
        Part::Carry { place, chain, record, .. } => Ok(vec![(place, Framed { kind: Kind::Carry, chain, record })]),
        Part::Records { first, chain: after, records, .. } => {
            let mut chain = match last {
                Some((at, framed)) if at.0 + 1 == place.0 => framed.chain,
                Some(_) | None => before(source, log, head, place)?.unwrap_or_else(|| chain_start(log)),
            };
            let mut found = Vec::with_capacity(records.len());
            for (at, record) in (first.0..).map(Seq).zip(records).filter(|(at, _)| *at >= place) {
                chain = chain_after(&chain, &record);
                found.push((at, Framed { kind: Kind::Appended, chain, record }));
            }
            if chain != after {
                let what = format!("the records of log {log} from {} on do not follow from those before: the chain breaks here", place.0);
                return Err(source.folder.damaged(what));
            }
            Ok(found)
        }
        Part::Name { .. } | Part::Removed { .. } => Err(misplaced(source, log, place)),
    }
}

fn missing(source: &Reader<'_>, log: &LogId, place: Seq) -> StoreError {
    source.folder.damaged(format!("record {} of log {log} is missing", place.0))
}

fn misplaced(source: &Reader<'_>, log: &LogId, place: Seq) -> StoreError {
    source.folder.damaged(format!("record {} of log {log} is not where it was written", place.0))
}
