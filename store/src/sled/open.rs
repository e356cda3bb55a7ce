//! From a folder on disk to a store with its heads: creation, recovery after a failed sync, and the checks before anything is served.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::{LogId, Seq, StoreError};

use super::engine::Engine;
use super::folder::{FORMAT, Folder, TipFile, io_error, sync_folder};
use super::front::frame::{GROUP_HEAD_BYTES, Part, Within};
use super::front::scan::{self, Tail};
use super::front::{self, Sealed};
use super::hot::{self, Hot, Newest, Place};
use super::kept::Kept;
use super::layout::{GARBAGE_PREFIX, Garbage, Head, LogNumber, TIP_KEY, Tip};
use super::read::{self, Reader};

/// All that opening finds.
#[derive(Debug)]
pub(super) struct Opened {
    /// `None` where it has not taken over anything yet.
    pub(super) tree: Option<Engine>,
    pub(super) hot: Hot,
    pub(super) front: scan::End,
    /// Segments that the tree is to take over.
    pub(super) sealed: Vec<Sealed>,
    pub(super) garbage: VecDeque<Garbage>,
    /// Where the store stands.
    pub(super) tip: Tip,
    /// Where the tree stands.
    pub(super) tree_tip: Tip,
    pub(super) tip_file: TipFile,
    pub(super) kept: Kept,
}

/// Bytes copied at once.
const COPY_BLOCK_BYTES: usize = 256 * 1024;

/// Below this much room the ballast is given up while opening: what follows, be it the end of a run, needs a little.
const ROOM_BYTES_MIN: u64 = 1024 * 1024;

/// Opens or makes the store. The caller holds the folder's lock.
pub(super) fn open(folder: &Folder, cache_bytes: u64) -> Result<Opened, StoreError> {
    settle_format(folder)?;
    settle_replacement(folder)?;
    let tip_file = TipFile::open(folder)?;
    let acknowledged = tip_file.read()?.unwrap_or_default();
    let kept = Kept::open(folder)?;
    if folder.free_bytes() < ROOM_BYTES_MIN {
        folder.drop_ballast()?;
    }
    if folder.has_failed_sync() {
        copy_what_is_proven(folder, acknowledged, cache_bytes)?;
        kept.rewrite_all()?;
        folder.clear_sync_failed()?;
    }
    let tree = open_tree(folder, cache_bytes)?;
    let tree_tip = tree.as_ref().map_or(Ok(Tip::default()), |tree| tip_of(folder, tree))?;
    front::make_folder(&folder.front())?;
    let Replayed { hot, end: mut front, tip } = replay(folder, tree.as_ref(), tree_tip)?;
    if tip.groups < acknowledged.groups {
        return Err(folder.damaged(lost(tip, acknowledged)));
    }
    make_durable(folder, &mut front)?;
    let garbage = tree.as_ref().map_or(Ok(VecDeque::new()), |tree| garbage(folder, tree))?;
    if tip_file.write(tip).is_ok() {
        tip_file.sync()?;
    }
    sync_folder(folder.path())?;
    let sealed = std::mem::take(&mut front.sealed);
    Ok(Opened { tree, hot, front, sealed, garbage, tip, tree_tip, tip_file, kept })
}

/// What the front adds to the tree.
struct Replayed {
    hot: Hot,
    end: scan::End,
    tip: Tip,
}

/// Reads the front and takes up every group that the tree does not hold.
fn replay(folder: &Folder, tree: Option<&Engine>, tree_tip: Tip) -> Result<Replayed, StoreError> {
    let mut hot = Hot::default();
    let mut tip = tree_tip;
    let mut names: HashMap<LogNumber, LogId> = HashMap::new();
    let end = scan::scan(folder, tree_tip.groups, |seen| {
        for (_, part) in &seen.parts {
            if let Part::Name { log, name } = part {
                names.insert(*log, name.clone());
                tip.next_number = tip.next_number.max(log.0 + 1);
            }
        }
        if seen.number <= tree_tip.groups {
            return Ok(());
        }
        if seen.number != tip.groups + 1 {
            return Err(folder.damaged(format!(
                "the front goes on with group {}, and the tree ends at group {}: what lay between is gone",
                seen.number, tip.groups
            )));
        }
        tip.groups = seen.number;
        let group = hot::Group { number: seen.number, segment: seen.segment, file: Arc::clone(seen.file), at: seen.at };
        for (within, part) in seen.parts {
            take_up(folder, tree, &mut hot, &names, &group, within, part)?;
        }
        Ok(())
    })?;
    Ok(Replayed { hot, end, tip })
}

fn take_up(
    folder: &Folder,
    tree: Option<&Engine>,
    hot: &mut Hot,
    names: &HashMap<LogNumber, LogId>,
    group: &hot::Group,
    within: Within,
    part: Part,
) -> Result<(), StoreError> {
    let log = match &part {
        Part::Name { .. } => return Ok(()),
        Part::Records { log, .. } | Part::Carry { log, .. } | Part::Removed { log } => *log,
    };
    let name = names
        .get(&log)
        .ok_or_else(|| folder.damaged(format!("group {} speaks of log number {}, which has no name", group.number, log.0)))?;
    let head = match hot.newest(name) {
        Newest::Front(head) => head,
        Newest::Tree => tree.map_or(Ok(None), |tree| tree.head(name))?,
    };
    let head = head.filter(|head| head.number == log);
    let misfit = || folder.damaged(format!("group {} does not fit the end of log {name}", group.number));
    match part {
        Part::Name { .. } => {}
        Part::Records { first, chain, records, .. } => {
            let begun = head.map_or((Seq(0), Seq(0)), |head| (head.first, head.next));
            if begun.1 != first {
                return Err(misfit());
            }
            let end = Seq(first.0 + records.len() as u64);
            hot.place(group, Place::Records { log, first, end, within });
            hot.set_head(group.number, name.clone(), Some(Head { number: log, first: begun.0, next: end, chain }));
        }
        Part::Carry { place, chain, .. } => {
            // A carry where no log was begins one that was cut elsewhere.
            let head = head.unwrap_or(Head { number: log, first: place, next: Seq(place.0 + 1), chain });
            if place < head.first || place >= head.next {
                return Err(misfit());
            }
            hot.place(group, Place::Carry { log, place, within });
            hot.set_head(group.number, name.clone(), Some(Head { first: place, ..head }));
        }
        Part::Removed { .. } => {
            head.ok_or_else(misfit)?;
            hot.place(group, Place::Removed { log });
            hot.set_head(group.number, name.clone(), None);
        }
    }
    Ok(())
}

/// What was found becomes durable before anybody reads it, and what was cut short is wiped away. Where that fails the next opening must not
/// believe the cache either.
fn make_durable(folder: &Folder, front: &mut scan::End) -> Result<(), StoreError> {
    let path = folder.front();
    if let Some(unborn) = front.unborn {
        let unborn = front::segment_path(&path, unborn);
        std::fs::remove_file(&unborn).map_err(io_error("removing", &unborn))?;
    }
    let Some(last) = &front.last else { return sync_folder(&path) };
    if last.tail == Tail::Torn {
        // A torn group may be as long as the file; its head is what makes it one.
        let wipe = usize::try_from(last.length.saturating_sub(last.end)).unwrap_or(GROUP_HEAD_BYTES).min(GROUP_HEAD_BYTES);
        last.file.write_all_at(&vec![0; wipe], last.end).map_err(io_error("wiping the end of", &path))?;
    }
    let synced = last.file.sync_data().map_err(io_error("syncing the front in", &path)).and_then(|()| sync_folder(&path));
    if let Err(StoreError::Io { action, source }) = &synced {
        folder.mark_sync_failed(&format!("{action}: {source}"));
    }
    synced
}

/// The format is durable before the first tree, so a tree without it was not left by a crash of ours.
fn settle_format(folder: &Folder) -> Result<(), StoreError> {
    match folder.format()? {
        Some(FORMAT) => Ok(()),
        None if folder.store().join("db").exists() || folder.front().exists() => Err(folder.damaged(format!(
            "the file format is missing beside a store; if it was removed by mistake, write \"lifeboat-store {FORMAT}\" into it"
        ))),
        // An older format is this one without a front. A program that knows no front must refuse the folder from now on.
        Some(_) | None => folder.write_format(),
    }
}

/// Ends a replacement that a crash cut short, in one direction or the other. Tree and front are copies of the same bytes, so either
/// may be replaced without the other.
fn settle_replacement(folder: &Folder) -> Result<(), StoreError> {
    let places = [(folder.store(), folder.store_new(), folder.store_old()), (folder.front(), folder.front_new(), folder.front_old())];
    let mut settled = Settled::Nothing;
    for (there, new, old) in places {
        if new.exists() {
            std::fs::remove_dir_all(&new).map_err(io_error("removing", &new))?;
            settled = Settled::Something;
        }
        if old.exists() {
            if there.exists() {
                std::fs::remove_dir_all(&old).map_err(io_error("removing", &old))?;
            } else {
                std::fs::rename(&old, &there).map_err(io_error("putting back", &old))?;
            }
            settled = Settled::Something;
        }
    }
    match settled {
        Settled::Something => sync_folder(folder.path()),
        Settled::Nothing => Ok(()),
    }
}

enum Settled {
    Something,
    Nothing,
}

fn open_tree(folder: &Folder, cache_bytes: u64) -> Result<Option<Engine>, StoreError> {
    let there = folder.store().join("db").exists();
    there.then(|| Engine::open(folder, &folder.store(), cache_bytes)).transpose()
}

/// Makes an empty tree aside, puts it in place whole, and opens it.
pub(super) fn make_tree(folder: &Folder, cache_bytes: u64) -> Result<Engine, StoreError> {
    let (store, new) = (folder.store(), folder.store_new());
    for left in [&store, &new] {
        if left.exists() {
            std::fs::remove_dir_all(left).map_err(io_error("removing", left))?;
        }
    }
    Engine::open(folder, &new, cache_bytes)?.close()?;
    std::fs::rename(&new, &store).map_err(io_error("putting in place", &store))?;
    sync_folder(folder.path())?;
    Engine::open(folder, &store, cache_bytes)
}

fn tip_of(folder: &Folder, tree: &Engine) -> Result<Tip, StoreError> {
    match tree.get(TIP_KEY)? {
        Some(value) => Tip::from_value(&value).ok_or_else(|| folder.damaged("the tree's own tip does not match its checksum")),
        None => Ok(Tip::default()),
    }
}

fn lost(found: Tip, acknowledged: Tip) -> String {
    format!(
        "the store ends at group {} but had acknowledged group {}: its end was cut off or an older copy was put in its place; \
         restore it, or remove the file tip to accept the loss",
        found.groups, acknowledged.groups
    )
}

fn garbage(folder: &Folder, engine: &Engine) -> Result<VecDeque<Garbage>, StoreError> {
    let read = |entry: Result<(::sled::IVec, ::sled::IVec), StoreError>| {
        let (key, value) = entry?;
        Garbage::from_entry(&key, &value).ok_or_else(|| folder.damaged("a note on deleted records does not match its checksum"))
    };
    engine.entries(GARBAGE_PREFIX).map(read).collect()
}

/// After a failed sync the system may show bytes that the disk never took, and syncing again may not help: Linux can mark
/// them clean. So all bytes are written anew, into new files, and every log is proven there before the copy takes over. The old
/// files are only read: one more write of sled to them could reach the disk where the lost one did not.
fn copy_what_is_proven(folder: &Folder, acknowledged: Tip, cache_bytes: u64) -> Result<(), StoreError> {
    let (store, new, old) = (folder.store(), folder.store_new(), folder.store_old());
    let mut tip = Tip::default();
    if store.join("db").exists() {
        copy_folder(&store, &new)?;
        let engine = Engine::open(folder, &new, cache_bytes)?;
        tip = tip_of(folder, &engine)?;
        let reader = Reader { folder, hot: None, tree: Some(&engine) };
        for found in engine.heads("", None) {
            let (log, head) = found?;
            let mut place = head.first;
            while let Some(last) = read::proven_from(&reader, &log, &head, place)? {
                place = Seq(last.0 + 1);
            }
        }
        engine.close()?;
    }
    if folder.front().exists() {
        copy_folder(&folder.front(), &folder.front_new())?;
        let end = scan::scan(folder, tip.groups, |_| Ok(()))?;
        tip.groups = tip.groups.max(end.groups.unwrap_or(0));
    }
    if tip.groups < acknowledged.groups {
        return Err(folder.damaged(lost(tip, acknowledged)));
    }
    for (there, new, old) in [(store, new, old), (folder.front(), folder.front_new(), folder.front_old())] {
        if new.exists() {
            std::fs::rename(&there, &old).map_err(io_error("putting aside", &there))?;
            sync_folder(folder.path())?;
            std::fs::rename(&new, &there).map_err(io_error("putting in place", &new))?;
            sync_folder(folder.path())?;
        }
    }
    Ok(())
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
