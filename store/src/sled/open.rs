//! From a folder on disk to a tree with its heads: creation, recovery after a failed sync, and the checks before anything is served.

use std::collections::{BTreeMap, VecDeque};

use ::sled::Batch;

use crate::{LogId, Seq, StoreError};

use super::engine::Engine;
use super::folder::{Folder, TipFile, io_error, sync_folder};
use super::kept::Kept;
use super::layout::{GARBAGE_PREFIX, Garbage, HEAD_PREFIX, Head, TIP_KEY, Tip, head_key};
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

/// Most bytes of one group while a tree is copied.
const COPY_BYTES_MAX: usize = 256 * 1024;

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
    drop(Engine::open(folder, &new, cache_bytes)?);
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
/// them clean. So everything that reads back whole and in chain is written anew, into a new file.
fn copy_what_is_proven(folder: &Folder, acknowledged: Tip, cache_bytes: u64) -> Result<(), StoreError> {
    let (store, new, old) = (folder.store(), folder.store_new(), folder.store_old());
    {
        let from = Engine::open(folder, &store, cache_bytes)?;
        let to = Engine::open(folder, &new, cache_bytes)?;
        let (heads, tip) = heads(folder, &from, acknowledged)?;
        let mut copy = Copy { to: &to, batch: Batch::default(), bytes: 0, folder };
        for (log, head) in &heads {
            let mut place = head.first;
            while place < head.next {
                let frames = read::proven(folder, &from, log, head, place, usize::MAX)?;
                for (at, framed) in &frames {
                    for (part, value) in (0..).zip(framed.to_parts(head.number, *at)) {
                        copy.put(&super::layout::part_key(head.number, *at, part), value)?;
                    }
                    place = Seq(at.0 + 1);
                }
            }
            let key = head_key(log);
            copy.put(&key, head.to_value(&key))?;
        }
        copy.put(TIP_KEY, tip.to_value())?;
        copy.flush()?;
    }
    std::fs::rename(&store, &old).map_err(io_error("putting aside", &store))?;
    sync_folder(folder.path())?;
    std::fs::rename(&new, &store).map_err(io_error("putting in place", &new))?;
    sync_folder(folder.path())
}

struct Copy<'a> {
    to: &'a Engine,
    batch: Batch,
    bytes: usize,
    folder: &'a Folder,
}

impl Copy<'_> {
    fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += key.len() + value.len();
        self.batch.insert(key, value);
        if self.bytes >= COPY_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.to.apply(std::mem::take(&mut self.batch)).map_err(|failure| failure.into_error(self.folder))
    }
}
