//! From a folder on disk to a tree with its heads: creation, recovery after a failed sync, and the checks before anything is served.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::{LogId, Seq, StoreError};

use super::engine::Engine;
use super::folder::{Folder, TipFile, io_error, sync_folder};
use super::kept::Kept;
use super::layout::{GARBAGE_PREFIX, Garbage, HEAD_PREFIX, Head, TIP_KEY, Tip};
use super::read;

/// Heads of all logs, in order of name.
pub(super) type Heads = BTreeMap<LogId, Head>;

/// All that opening finds.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) engine: Engine,
    pub(super) heads: Heads,
    pub(super) garbage: VecDeque<Garbage>,
    pub(super) tip: Tip,
    pub(super) tip_file: TipFile,
    pub(super) kept: Kept,
}

/// Bytes copied at once.
const COPY_BLOCK_BYTES: usize = 256 * 1024;

/// Opens or makes the tree. The caller holds the folder's lock.
pub(super) fn open(folder: &Folder, cache_bytes: u64) -> Result<Opened, StoreError> {
    settle_format(folder)?;
    settle_replacement(folder)?;
    let tip_file = TipFile::open(folder)?;
    let acknowledged = tip_file.read()?.unwrap_or_default();
    if !folder.store().join("db").exists() {
        if acknowledged.groups > 0 {
            return Err(folder.damaged(lost(Tip::default(), acknowledged)));
        }
        create(folder, cache_bytes)?;
    }
    let kept = Kept::open(folder)?;
    if folder.has_failed_sync() {
        copy_what_is_proven(folder, acknowledged, cache_bytes)?;
        kept.rewrite_all()?;
        folder.clear_sync_failed()?;
    }
    let engine = Engine::open(folder, &folder.store(), cache_bytes)?;
    let (heads, tip) = heads(folder, &engine, acknowledged)?;
    let garbage = garbage(folder, &engine)?;
    if tip_file.write(tip).is_ok() {
        tip_file.sync()?;
    }
    sync_folder(folder.path())?;
    Ok(Opened { engine, heads, garbage, tip, tip_file, kept })
}

/// The format is durable before the first tree, so a tree without it was not left by a crash of ours.
fn settle_format(folder: &Folder) -> Result<(), StoreError> {
    match folder.format()? {
        Some(_) => Ok(()),
        None if folder.store().join("db").exists() => {
            Err(folder
                .damaged("the file format is missing beside a store; if it was removed by mistake, write \"lifeboat-store 1\" into it"))
        }
        None => folder.write_format(),
    }
}

/// Ends a replacement of the tree that a crash cut short, in one direction or the other.
fn settle_replacement(folder: &Folder) -> Result<(), StoreError> {
    let (store, new, old) = (folder.store(), folder.store_new(), folder.store_old());
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(io_error("removing", &new))?;
    }
    if old.exists() && store.exists() {
        std::fs::remove_dir_all(&old).map_err(io_error("removing", &old))?;
    } else if old.exists() {
        std::fs::rename(&old, &store).map_err(io_error("putting back", &old))?;
    }
    sync_folder(folder.path())
}

/// Makes an empty tree aside and puts it in place whole.
fn create(folder: &Folder, cache_bytes: u64) -> Result<(), StoreError> {
    let (store, new) = (folder.store(), folder.store_new());
    if store.exists() {
        std::fs::remove_dir_all(&store).map_err(io_error("removing", &store))?;
    }
    Engine::open(folder, &new, cache_bytes)?.close()?;
    std::fs::rename(&new, &store).map_err(io_error("putting in place", &store))?;
    sync_folder(folder.path())
}

fn heads(folder: &Folder, engine: &Engine, acknowledged: Tip) -> Result<(Heads, Tip), StoreError> {
    let tip = match engine.get(TIP_KEY)? {
        Some(value) => Tip::from_value(&value).ok_or_else(|| folder.damaged("the tree's own tip does not match its checksum"))?,
        None => Tip::default(),
    };
    if tip.groups < acknowledged.groups {
        return Err(folder.damaged(lost(tip, acknowledged)));
    }
    let mut heads = Heads::new();
    for entry in engine.entries(HEAD_PREFIX) {
        let (key, value) = entry?;
        let name = key.get(HEAD_PREFIX.len()..).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        let log = LogId::new(name).map_err(|_| folder.damaged(format!("{name:?} is not the name of a log")))?;
        let head =
            Head::from_value(&key, &value).ok_or_else(|| folder.damaged(format!("the head of log {log} does not match its checksum")))?;
        if head.first > head.next || head.number.0 >= tip.next_number {
            return Err(folder.damaged(format!("the head of log {log} contradicts itself or the tree's tip")));
        }
        heads.insert(log, head);
    }
    Ok((heads, tip))
}

fn lost(found: Tip, acknowledged: Tip) -> String {
    format!(
        "the tree ends at group {} but had acknowledged group {}: its end was cut off or an older copy was put in its place; \
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
    copy_folder(&store, &new)?;
    let engine = Engine::open(folder, &new, cache_bytes)?;
    let (heads, _) = heads(folder, &engine, acknowledged)?;
    for (log, head) in &heads {
        let mut place = head.first;
        while let Some(last) = read::proven_from(folder, &engine, log, head, place)? {
            place = Seq(last.0 + 1);
        }
    }
    engine.close()?;
    std::fs::rename(&store, &old).map_err(io_error("putting aside", &store))?;
    sync_folder(folder.path())?;
    std::fs::rename(&new, &store).map_err(io_error("putting in place", &new))?;
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
