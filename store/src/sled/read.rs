//! Reading a log and proving what was read: no gaps, checksums, and the hash chain from what came before to the head.

use crate::chain::{chain_after, chain_start};
use crate::{Digest, LogId, Page, Seq, StoreError};

use super::engine::Engine;
use super::folder::Folder;
use super::layout::{Framed, Head, Kind};

/// One page of a log.
pub(super) fn page(folder: &Folder, engine: &Engine, log: &LogId, head: &Head, from: Seq, limit: usize) -> Result<Page, StoreError> {
    if from < head.first {
        return Err(StoreError::Compacted { log: log.clone(), first: head.first });
    }
    let mut page = Page { records: Vec::new(), next: head.next, chain: head.chain };
    if from < head.next {
        for (place, framed) in proven(folder, engine, log, head, from, limit)? {
            page.chain = framed.chain;
            page.records.push((place, framed.record));
        }
    }
    Ok(page)
}

/// Records from `from`, which must lie in the log, each proven to follow from the one before it.
fn proven(folder: &Folder, engine: &Engine, log: &LogId, head: &Head, from: Seq, limit: usize) -> Result<Vec<(Seq, Framed)>, StoreError> {
    let mut chain = before(engine, log, head, from)?;
    let frames = engine.frames(log, head.number, from, head.next, limit)?;
    for (place, framed) in &frames {
        let broken = |what: &str| folder.damaged(format!("record {} of log {log} {what}", place.0));
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
        if !follows {
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
pub(super) fn proven_from(folder: &Folder, engine: &Engine, log: &LogId, head: &Head, from: Seq) -> Result<Option<Seq>, StoreError> {
    if from >= head.next {
        return Ok(None);
    }
    let frames = proven(folder, engine, log, head, from, STRIDE)?;
    Ok(frames.last().map(|(place, _)| *place))
}

/// The chain before `from`; `None` at the log's first place, which proves itself.
fn before(engine: &Engine, log: &LogId, head: &Head, from: Seq) -> Result<Option<Digest>, StoreError> {
    if from <= head.first {
        return Ok(None);
    }
    let frames = engine.frames(log, head.number, Seq(from.0 - 1), from, 1)?;
    Ok(frames.first().map(|(_, framed)| framed.chain))
}
