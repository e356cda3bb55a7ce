//! From a folder on disk to a store with its heads: creation, recovery after a failed sync, and the checks before anything is served.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::RwLock;

use crate::{LogId, StoreError};

use super::caretaker::{SEALED_MAX, lengths};
use super::folder::{FORMAT, Folder, TipFile, io_error, sync_folder};
use super::heads::{self, Misfit, Origin};
use super::hot::{Hot, Newest, Place};
use super::index::{self, Index};
use super::indexing;
use super::kept::Kept;
use super::layout::{Head, IndexTip, LogNumber, Tip};
use super::legacy;
use super::read::Reader;
use super::segments::first::First;
use super::segments::frame::{GROUP_HEAD_BYTES, Part, SegmentNumber};
use super::segments::scan::{self, From, Tail};
use super::segments::{self, Files, Sealed};

/// All that opening finds.
#[derive(Debug)]
pub(super) struct Opened {
    /// `None` where nothing was sealed yet.
    pub(super) index: Option<Index>,
    pub(super) index_tip: IndexTip,
    /// Segments in the index and their lengths.
    pub(super) indexed: VecDeque<(SegmentNumber, u64)>,
    pub(super) hot: Hot,
    pub(super) end: scan::End,
    /// Segments that are to be indexed.
    pub(super) sealed: Vec<Sealed>,
    /// Where the store stands.
    pub(super) tip: Tip,
    pub(super) tip_file: TipFile,
    pub(super) kept: Kept,
}

/// Bytes copied at once.
const COPY_BLOCK_BYTES: usize = 256 * 1024;

/// Below this much room the ballast is given up while opening: what follows, be it the end of a run, needs a little.
const ROOM_BYTES_MIN: u64 = 1024 * 1024;

/// Opens or makes the store. The caller holds the folder's lock.
pub(super) fn open(folder: &Folder, cache_bytes: u64) -> Result<Opened, StoreError> {
    let tip_file = TipFile::open(folder)?;
    let acknowledged = tip_file.read()?.unwrap_or_default();
    settle_format(folder, acknowledged, cache_bytes)?;
    settle_replacement(folder)?;
    let kept = Kept::open(folder)?;
    if folder.free_bytes() < ROOM_BYTES_MIN {
        folder.drop_ballast()?;
    }
    if folder.has_failed_sync() {
        copy_what_is_there(folder, acknowledged)?;
        index::clear(folder)?;
        kept.rewrite_all()?;
        folder.clear_sync_failed()?;
    }
    if folder.has_broken_index() {
        index::clear(folder)?;
        folder.clear_index_broken()?;
    }
    let path = folder.segments();
    segments::make_folder(&path)?;
    let first = First::read(folder, &path)?;
    remove_what_was_given_up(&path, first)?;
    scan::expect_all(folder, first.segment, &scan::numbers(&path)?)?;
    let Found { index, tip: index_tip, replayed } = find(folder, first, cache_bytes)?;
    let Replayed { hot, mut end, mut tip } = replayed;
    if tip.groups < acknowledged.groups {
        return Err(folder.damaged(lost(tip, acknowledged)));
    }
    // A number that a removed log had is not given again while somebody may remember it.
    tip.next_number = tip.next_number.max(acknowledged.next_number);
    make_durable(folder, &mut end)?;
    if tip_file.write(tip).is_ok() {
        tip_file.sync()?;
    }
    sync_folder(folder.path())?;
    let sealed = std::mem::take(&mut end.sealed);
    let indexed = lengths(&path, first.segment, index_tip.segment);
    Ok(Opened { index, index_tip, indexed, hot, end, sealed, tip, tip_file, kept })
}

/// The index, and what the segments add to it.
struct Found {
    index: Option<Index>,
    tip: IndexTip,
    replayed: Replayed,
}

/// Opens with the index as it is. Where that does not work, or does not fit the segments, it is made anew from them: they alone count.
fn find(folder: &Folder, first: First, cache_bytes: u64) -> Result<Found, StoreError> {
    if let Some((index, tip)) = usable_index(folder, first, cache_bytes)? {
        match replay(folder, first, Some(&index), tip) {
            Ok(replayed) => return Ok(Found { index: Some(index), tip, replayed }),
            Err(StoreError::Damaged { .. }) => index.close()?,
            Err(other) => return Err(other),
        }
    }
    index::clear(folder)?;
    // What was moved out of segments that were given up stands in any of those that are left.
    let last = scan::numbers(&folder.segments())?.last().copied().unwrap_or_default();
    let anew_until = if first.segment == First::default().segment { SegmentNumber::default() } else { last };
    let nothing = IndexTip { anew_until, ..IndexTip::default() };
    let (index, tip) = match indexed_anew(folder, first, nothing, cache_bytes) {
        Ok(found) => found,
        // Then everything is known in memory until there is room.
        Err(StoreError::DiskFull { .. }) => (None, nothing),
        Err(other) => return Err(other),
    };
    let replayed = replay(folder, first, index.as_ref(), tip)?;
    if anew_until > SegmentNumber::default() {
        look_for_gaps(folder, index.as_ref(), &replayed.hot)?;
    }
    let index = index.map(|index| index.put_in_place(cache_bytes)).transpose()?;
    Ok(Found { index, tip, replayed })
}

/// The index as it is on disk, where it is one and goes as far as the segments that were given up.
fn usable_index(folder: &Folder, first: First, cache_bytes: u64) -> Result<Option<(Index, IndexTip)>, StoreError> {
    if !folder.index().join("db").exists() {
        return Ok(None);
    }
    let opened = Index::open(folder, &folder.index(), cache_bytes).and_then(|index| {
        let tip = index.tip()?.unwrap_or_default();
        Ok((index, tip))
    });
    match opened {
        Ok((index, tip)) => {
            let last = scan::numbers(&folder.segments())?.last().copied().unwrap_or_default();
            if tip.segment.0 + 1 >= first.segment.0 && tip.segment <= last {
                return Ok(Some((index, tip)));
            }
            index.close()?;
            Ok(None)
        }
        Err(StoreError::Damaged { .. } | StoreError::DiskFull { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Makes the index anew, aside, where there is much to know; else it is made when the next segment is sealed.
fn indexed_anew(folder: &Folder, first: First, mut tip: IndexTip, cache_bytes: u64) -> Result<(Option<Index>, IndexTip), StoreError> {
    let from = From { segment: first.segment, group: Some(first.group - 1), sum: None };
    let end = scan::scan(folder, &folder.segments(), from, |_| Ok(()))?;
    if end.sealed.len() <= SEALED_MAX {
        return Ok((None, tip));
    }
    let index = Index::open(folder, &folder.index_new(), cache_bytes)?;
    for sealed in end.sealed {
        let taken_up = indexing::take_up(folder, &index, tip, sealed);
        tip = taken_up.map_err(|failure| failure.while_opening(folder))?;
    }
    Ok((Some(index), tip))
}

/// What the segments add to the index.
struct Replayed {
    hot: Hot,
    end: scan::End,
    tip: Tip,
}

/// Reads the segments that are not in the index.
fn replay(folder: &Folder, first: First, index: Option<&Index>, index_tip: IndexTip) -> Result<Replayed, StoreError> {
    let mut hot = Hot::default();
    let mut names: HashMap<LogNumber, LogId> = HashMap::new();
    let from = if index_tip.segment.0 + 1 > first.segment.0 {
        From { segment: SegmentNumber(index_tip.segment.0 + 1), group: Some(index_tip.tip.groups), sum: Some(index_tip.sum) }
    } else {
        From { segment: first.segment, group: Some(first.group - 1), sum: None }
    };
    let mut tip = Tip { groups: from.group.unwrap_or(0), ..index_tip.tip };
    let end = scan::scan(folder, &folder.segments(), from, |seen| {
        tip.groups = seen.number;
        let origin = Origin::of(seen.segment, &index_tip);
        for (within, part) in seen.parts {
            let log = part.log();
            if let Part::Name { name, .. } = part {
                names.insert(log, name);
                tip.next_number = tip.next_number.max(log.0 + 1);
                continue;
            }
            let place = Place::of(&part, within);
            let nameless = || folder.damaged(format!("group {} speaks of log number {}, which has no name", seen.number, log.0));
            let name = names.get(&log).ok_or_else(nameless)?;
            let head = match hot.newest(name) {
                Newest::Hot(head) => head,
                Newest::Index => index.map_or(Ok(None), |index| index.head(name))?,
            };
            let head = head.filter(|head| head.number == log);
            let misfit = |Misfit| folder.damaged(format!("group {} does not fit the end of log {name}", seen.number));
            let after = heads::after(origin, name, head, &part).map_err(misfit)?;
            if head != after {
                hot.set_head(seen.segment, name.clone(), after);
            }
            place.into_iter().for_each(|place| hot.place(seen.segment, seen.at, place));
        }
        Ok(())
    })?;
    Ok(Replayed { hot, end, tip })
}

/// Where segments were given up and the index is new, a log that lacks records in its middle is noticed here.
fn look_for_gaps(folder: &Folder, index: Option<&Index>, hot: &Hot) -> Result<(), StoreError> {
    let mut all: BTreeMap<LogId, Option<Head>> = BTreeMap::new();
    if let Some(index) = index {
        for found in index.heads("", None) {
            let (log, head) = found?;
            all.insert(log, Some(head));
        }
    }
    all.extend(hot.heads("", None, usize::MAX));
    let (files, hot) = (Files::new(folder.segments()), RwLock::new(hot.clone()));
    let reader = Reader { folder, files: &files, hot: &hot, index };
    all.into_iter().filter_map(|(log, head)| Some((log, head?))).try_for_each(|(log, head)| reader.is_whole(&log, &head))
}

fn remove_what_was_given_up(path: &Path, first: First) -> Result<(), StoreError> {
    let mut removed = false;
    for number in scan::numbers(path)?.into_iter().filter(|number| *number < first.segment) {
        let segment = segments::segment_path(path, number);
        std::fs::remove_file(&segment).map_err(io_error("removing", &segment))?;
        removed = true;
    }
    if removed { sync_folder(path) } else { Ok(()) }
}

/// What was found becomes durable before anybody reads it, and what was cut short is wiped away. Where that fails the next opening must not
/// believe the cache either.
fn make_durable(folder: &Folder, end: &mut scan::End) -> Result<(), StoreError> {
    let path = folder.segments();
    if let Some(unborn) = end.unborn {
        let unborn = segments::segment_path(&path, unborn);
        std::fs::remove_file(&unborn).map_err(io_error("removing", &unborn))?;
    }
    let Some(last) = &end.last else { return sync_folder(&path) };
    if last.tail == Tail::Torn {
        // A torn group may be as long as the file; its head is what makes it one.
        let wipe = usize::try_from(last.length.saturating_sub(last.end)).unwrap_or(GROUP_HEAD_BYTES).min(GROUP_HEAD_BYTES);
        last.file.write_all_at(&vec![0; wipe], last.end).map_err(io_error("wiping the end of", &path))?;
    }
    let synced = last.file.sync_data().map_err(io_error("syncing the segments in", &path)).and_then(|()| sync_folder(&path));
    if let Err(StoreError::Io { action, source }) = &synced {
        folder.mark_sync_failed(&format!("{action}: {source}"));
    }
    synced
}

/// The format is durable before the first segment, so segments without it were not left by a crash of ours.
fn settle_format(folder: &Folder, acknowledged: Tip, cache_bytes: u64) -> Result<(), StoreError> {
    match folder.format()? {
        Some(FORMAT) => legacy::remove(folder),
        Some(_) => legacy::bring_up_to_date(folder, acknowledged, cache_bytes),
        None if [folder.segments(), folder.index(), folder.old_tree().join("db"), folder.old_front()].iter().any(|path| path.exists()) => {
            Err(folder.damaged(format!(
                "the file format is missing beside a store; if it was removed by mistake, write \"lifeboat-store {FORMAT}\" into it"
            )))
        }
        None => folder.write_format(),
    }
}

/// Ends a replacement that a crash cut short, in one direction or the other.
fn settle_replacement(folder: &Folder) -> Result<(), StoreError> {
    let (there, new, old) = (folder.segments(), folder.segments_new(), folder.segments_old());
    if !new.exists() && !old.exists() {
        return Ok(());
    }
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(io_error("removing", &new))?;
    }
    if old.exists() {
        if there.exists() {
            std::fs::remove_dir_all(&old).map_err(io_error("removing", &old))?;
        } else {
            std::fs::rename(&old, &there).map_err(io_error("putting back", &old))?;
        }
    }
    sync_folder(folder.path())
}

pub(super) fn lost(found: Tip, acknowledged: Tip) -> String {
    format!(
        "the store ends at group {} but had acknowledged group {}: its end was cut off or an older copy was put in its place; \
         restore it; whoever removes the file tip accepts the loss, and a run that had gone further may then do again what it did",
        found.groups, acknowledged.groups
    )
}

/// After a failed sync the system may show bytes that the disk never took, and syncing again may not help: Linux can mark
/// them clean. So all bytes are written anew, into new files, and every group is proven there before the copy takes over.
fn copy_what_is_there(folder: &Folder, acknowledged: Tip) -> Result<(), StoreError> {
    let (there, new, old) = (folder.segments(), folder.segments_new(), folder.segments_old());
    if !there.exists() {
        return Ok(());
    }
    copy_folder(&there, &new)?;
    let first = First::read(folder, &new)?;
    let from = From { segment: first.segment, group: Some(first.group - 1), sum: None };
    let end = scan::scan(folder, &new, from, |_| Ok(()))?;
    let tip = Tip { groups: end.groups.unwrap_or(first.group - 1), ..Tip::default() };
    if tip.groups < acknowledged.groups {
        return Err(folder.damaged(lost(tip, acknowledged)));
    }
    std::fs::rename(&there, &old).map_err(io_error("putting aside", &there))?;
    sync_folder(folder.path())?;
    std::fs::rename(&new, &there).map_err(io_error("putting in place", &new))?;
    sync_folder(folder.path())?;
    std::fs::remove_dir_all(&old).map_err(io_error("removing", &old))?;
    sync_folder(folder.path())
}

/// Copies by reading and writing. A copy made by the kernel may share the very blocks that are in doubt.
fn copy_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::create_dir(to).map_err(io_error("making the folder", to))?;
    for entry in std::fs::read_dir(from).map_err(io_error("listing", from))? {
        let from = entry.map_err(io_error("listing", from))?.path();
        let to = to.join(from.file_name().unwrap_or_default());
        if from.is_dir() {
            copy_folder(&from, &to)?;
        } else {
            copy_file(&from, &to).map_err(io_error("copying", &from))?;
        }
    }
    sync_folder(to)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut block = vec![0; COPY_BLOCK_BYTES];
    loop {
        let count = from.read(&mut block)?;
        let Some(read) = block.get(..count).filter(|read| !read.is_empty()) else { return to.sync_all() };
        to.write_all(read)?;
    }
}
