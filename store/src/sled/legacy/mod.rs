//! Folders of formats 1 and 2, in which a sled tree held the records: everything is written into segments once, before anything else.

mod layout;
mod tree;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::{LogId, Record, Seq, StoreError};

use super::folder::{Folder, io_error, sync_folder};
use super::index;
use super::layout::{LogNumber, Tip};
use super::open::lost;
use super::read::{Framed, Kind};
use super::segments::first::First;
use super::segments::frame::{Body, Part, SegmentNumber};
use super::segments::scan::{self, End, From};
use super::segments::{self, Segments};
use tree::OldTree;

/// Length of the segments that are written.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// A group takes no further part once it has this many bytes.
const GROUP_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of records in one part.
const PART_BYTES_MAX: usize = 64 * 1024;

/// Records read at once.
const RECORDS_AT_ONCE: usize = 1024;

/// Writes segments from what an older program left, and makes the folder one of this format. A crash in between leaves it as it was.
///
/// # Errors
/// [`StoreError::Damaged`] where the old store is not whole; it is left alone then.
pub(super) fn bring_up_to_date(folder: &Folder, acknowledged: Tip, cache_bytes: u64) -> Result<(), StoreError> {
    settle_replacement(folder)?;
    index::clear(folder)?;
    for unfinished in [folder.segments(), folder.segments_new()] {
        remove_folder(&unfinished)?;
    }
    let tree = OldTree::open(folder, cache_bytes)?;
    let tree_tip = tree.as_ref().map_or(Ok(Tip::default()), OldTree::tip)?;
    let front = folder.old_front();
    let tip = Tip { groups: last_group(folder, &front, tree_tip)?, ..tree_tip };
    if tip.groups < acknowledged.groups {
        return Err(folder.damaged(lost(tip, acknowledged)));
    }
    let new = folder.segments_new();
    segments::make_folder(&new)?;
    let mut writer = Writer::new(folder, &new, tip.groups);
    if let Some(tree) = &tree {
        for found in tree.heads() {
            let (log, head) = found?;
            writer.copy_log(tree, &log, &head)?;
        }
    }
    if front.exists() {
        let mut names = HashMap::new();
        scan::scan(folder, &front, from_the_first(&front)?, |seen| {
            let fresh = seen.number > tree_tip.groups;
            for (_, part) in seen.parts {
                match part {
                    Part::Name { log, name } => drop(names.insert(log, name)),
                    part if fresh => writer.put(names.get(&part.log()), &part)?,
                    Part::Records { .. }
                    | Part::Carry { .. }
                    | Part::Removed { .. }
                    | Part::RecordsAgain { .. }
                    | Part::CarryAgain { .. } => {}
                }
            }
            Ok(())
        })?;
    }
    writer.finish()?;
    First { group: tip.groups + 1, ..First::default() }.write(&new)?;
    std::fs::rename(&new, folder.segments()).map_err(io_error("putting in place", &new))?;
    sync_folder(folder.path())?;
    folder.write_format()?;
    // What was read may never have reached the disk; what was written from it did.
    if let Some(tree) = tree {
        tree.close()?;
    }
    remove(folder)
}

/// Removes what an older format left beside this one.
pub(super) fn remove(folder: &Folder) -> Result<(), StoreError> {
    let left = [folder.old_tree(), folder.old_front()];
    if left.iter().all(|path| !path.exists()) {
        return Ok(());
    }
    left.iter().try_for_each(|path| remove_folder(path))?;
    sync_folder(folder.path())
}

fn remove_folder(path: &Path) -> Result<(), StoreError> {
    if path.exists() { std::fs::remove_dir_all(path).map_err(io_error("removing", path)) } else { Ok(()) }
}

fn from_the_first(front: &Path) -> Result<From, StoreError> {
    let segment = scan::numbers(front)?.first().copied().unwrap_or(SegmentNumber(1));
    Ok(From { segment, group: None, sum: None })
}

/// The last group of tree and front together, which must not have a gap between them.
fn last_group(folder: &Folder, front: &Path, tree: Tip) -> Result<u64, StoreError> {
    let mut first = None;
    let end = scan::scan(folder, front, from_the_first(front)?, |seen| {
        first.get_or_insert(seen.number);
        Ok(())
    })?;
    match first {
        Some(first) if first > tree.groups + 1 => Err(folder.damaged(format!(
            "the front goes on with group {first}, and the tree ends at group {}: what lay between is gone",
            tree.groups
        ))),
        Some(_) | None => Ok(end.groups.unwrap_or(0).max(tree.groups)),
    }
}

/// Ends a replacement of the older format that a crash cut short, in one direction or the other.
fn settle_replacement(folder: &Folder) -> Result<(), StoreError> {
    for there in [folder.old_tree(), folder.old_front()] {
        let (new, old) = (there.with_extension("new"), there.with_extension("old"));
        remove_folder(&new)?;
        if old.exists() && there.exists() {
            remove_folder(&old)?;
        } else if old.exists() {
            std::fs::rename(&old, &there).map_err(io_error("putting back", &old))?;
        }
    }
    sync_folder(folder.path())
}

/// Writes parts into new segments.
struct Writer<'a> {
    folder: &'a Folder,
    segments: Segments,
    groups: u64,
    body: Body,
    named: BTreeSet<LogNumber>,
}

impl<'a> Writer<'a> {
    fn new(folder: &'a Folder, path: &Path, groups: u64) -> Self {
        let end = End { next_segment: First::default().segment, ..End::default() };
        let segments = Segments::resume(path.to_path_buf(), end, SEGMENT_BYTES);
        Self { folder, segments, groups, body: Body::default(), named: BTreeSet::new() }
    }

    fn copy_log(&mut self, tree: &OldTree, log: &LogId, head: &super::layout::Head) -> Result<(), StoreError> {
        let mut place = head.first;
        let mut chain = crate::chain_start(log);
        while place < head.next {
            let mut frames = tree.frames(log, head.number, place, head.next, RECORDS_AT_ONCE)?.into_iter().peekable();
            while let Some((first, Framed { kind, chain: after, record })) = frames.next() {
                if kind == Kind::Carry && first == head.first {
                    self.put(Some(log), &Part::Carry { log: head.number, place: first, chain: after, record })?;
                    (chain, place) = (after, Seq(first.0 + 1));
                    continue;
                }
                let mut records: Vec<Record> = vec![record];
                let mut last = after;
                let mut bytes = records.first().map_or(0, |record| record.0.len());
                while bytes < PART_BYTES_MAX
                    && let Some((_, more)) = frames.next_if(|(_, framed)| framed.kind == Kind::Appended)
                {
                    bytes += more.record.0.len();
                    last = more.chain;
                    records.push(more.record);
                }
                let proven = records.iter().fold(chain, |chain, record| crate::chain_after(&chain, record));
                if kind == Kind::Carry || proven != last {
                    return Err(self.folder.damaged(format!("record {} of log {log} does not follow from the one before it", first.0)));
                }
                (chain, place) = (last, Seq(first.0 + records.len() as u64));
                self.put(Some(log), &Part::Records { log: head.number, first, chain, records })?;
            }
        }
        if chain != head.chain {
            return Err(self.folder.damaged(format!("log {log} does not end as its head says")));
        }
        Ok(())
    }

    fn put(&mut self, name: Option<&LogId>, part: &Part) -> Result<(), StoreError> {
        let log = part.log();
        let nameless = || self.folder.damaged(format!("log number {} has no name", log.0));
        let name = name.cloned().ok_or_else(nameless)?;
        if !self.segments.has_named(log) && self.named.insert(log) {
            self.body.put(&Part::Name { log, name });
        }
        self.body.put(part);
        if self.body.len() >= GROUP_BYTES_MAX { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.groups += 1;
        let group = std::mem::take(&mut self.body).seal(self.groups, self.segments.before());
        let written = self.segments.append(&group, std::mem::take(&mut self.named));
        written.map_err(|failure| failure.while_opening(self.folder))?;
        // Asked for now, because the next part names its logs anew in a new segment.
        self.segments.seal_if_long();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StoreError> {
        self.write()
    }
}
