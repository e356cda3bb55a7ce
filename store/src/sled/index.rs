//! The index: heads of logs, and where in the segments their records lie. It repeats what the segments say, so that opening need not read
//! them all; it may be thrown away at any time and is made anew from them.

use std::path::Path;

use ::sled::Batch;

use crate::{LogId, Seq, StoreError};

use super::folder::{Folder, io_error, sync_folder};
use super::layout::{HEAD_PREFIX, Head, IndexTip, LogNumber, Spot, TIP_KEY, head_key, spot_key, spot_of};
use super::tree::{Failure, Tree, Worth};

/// An open index. One thread writes to it.
#[derive(Debug)]
pub(super) struct Index {
    tree: Tree,
    folder: Folder,
}

impl Index {
    /// Opens the index in `path`, or makes an empty one there.
    pub(super) fn open(folder: &Folder, path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Ok(Self { tree: Tree::open(folder, path, cache_bytes, Worth::CanBeMadeAnew)?, folder: folder.clone() })
    }

    /// Makes an empty index aside, puts it in place whole, and opens it.
    pub(super) fn make(folder: &Folder, cache_bytes: u64) -> Result<Self, StoreError> {
        clear(folder)?;
        Self::open(folder, &folder.index_new(), cache_bytes)?.put_in_place(cache_bytes)
    }

    /// Puts an index that was made aside in the place of the one there is none of.
    pub(super) fn put_in_place(self, cache_bytes: u64) -> Result<Self, StoreError> {
        let folder = self.folder.clone();
        self.close()?;
        let (index, new) = (folder.index(), folder.index_new());
        std::fs::rename(&new, &index).map_err(io_error("putting in place", &index))?;
        sync_folder(folder.path())?;
        Self::open(&folder, &index, cache_bytes)
    }

    /// What is wrong with the index is mended by making it anew, at the next opening.
    fn noted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(read, Err(StoreError::Damaged { .. })) {
            self.folder.mark_index_broken();
        }
        read
    }

    /// Where it stands; `None` where it does not say.
    pub(super) fn tip(&self) -> Result<Option<IndexTip>, StoreError> {
        let Some(value) = self.noted(self.tree.get(TIP_KEY))? else { return Ok(None) };
        let broken = || self.folder.damaged("the tip of the index does not match its checksum");
        IndexTip::from_value(&value).ok_or_else(broken).map(Some)
    }

    /// Where a log stands.
    pub(super) fn head(&self, log: &LogId) -> Result<Option<Head>, StoreError> {
        let key = head_key(log);
        let head = self.tree.get(&key).and_then(|value| value.map(|value| read_head(&self.folder, log, &key, &value)).transpose());
        self.noted(head)
    }

    /// Heads of the logs whose names begin with `prefix`, after `after`, in order of name.
    pub(super) fn heads(&self, prefix: &str, after: Option<&LogId>) -> impl Iterator<Item = Result<(LogId, Head), StoreError>> + '_ {
        read_heads(&self.tree, &self.folder, prefix, after).map(|found| self.noted(found))
    }

    /// The part that stands for this place, with the first place that it still stands for.
    pub(super) fn spot(&self, log: LogNumber, place: Seq) -> Result<Option<(Seq, Spot)>, StoreError> {
        let end = Seq(place.0.saturating_add(1));
        let found = self.spots(log, Seq(0), end).next_back().transpose()?;
        Ok(found.filter(|(_, spot)| spot.end > place))
    }

    /// The parts filed from one place of a log to before another.
    pub(super) fn spots(
        &self,
        log: LogNumber,
        from: Seq,
        end: Seq,
    ) -> impl DoubleEndedIterator<Item = Result<(Seq, Spot), StoreError>> + '_ {
        self.tree.range(spot_key(log, from).to_vec()..spot_key(log, end).to_vec()).map(|entry| {
            let broken = || self.folder.damaged("a place in the index does not match its checksum");
            let spot = entry.and_then(|(key, value)| spot_of(&key).zip(Spot::from_value(&key, &value)).ok_or_else(broken));
            self.noted(spot).map(|((_, place), spot)| (place, spot))
        })
    }

    pub(super) fn apply(&self, batch: Batch) -> Result<(), Failure> {
        self.tree.apply(batch)
    }

    pub(super) fn close(self) -> Result<(), StoreError> {
        self.tree.close()
    }
}

/// Throws the index away. The next opening makes it anew.
pub(super) fn clear(folder: &Folder) -> Result<(), StoreError> {
    for left in [folder.index(), folder.index_new()] {
        if left.exists() {
            std::fs::remove_dir_all(&left).map_err(io_error("removing", &left))?;
        }
    }
    sync_folder(folder.path())
}

/// Heads in a tree, of this format or an earlier one.
pub(super) fn read_heads<'a>(
    tree: &'a Tree,
    folder: &'a Folder,
    prefix: &str,
    after: Option<&LogId>,
) -> impl Iterator<Item = Result<(LogId, Head), StoreError>> + 'a {
    let begin = [HEAD_PREFIX, prefix.as_bytes()].concat();
    let from = after.map_or(begin.clone(), |after| head_key(after).max(begin.clone()));
    let after = after.cloned();
    // Names are ASCII, so nothing that begins with the prefix sorts behind this.
    let end = [&begin[..], &[0xff]].concat();
    tree.range(from..end)
        .map(move |entry| {
            let (key, value) = entry?;
            let name = key.get(HEAD_PREFIX.len()..).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
            let log = LogId::new(name).map_err(|_| folder.damaged(format!("{name:?} is not the name of a log")))?;
            let head = read_head(folder, &log, &key, &value)?;
            Ok((log, head))
        })
        .filter(move |found| !matches!((found, &after), (Ok((log, _)), Some(after)) if log <= after))
}

fn read_head(folder: &Folder, log: &LogId, key: &[u8], value: &[u8]) -> Result<Head, StoreError> {
    let broken = |what: &str| folder.damaged(format!("the head of log {log} {what}"));
    let head = Head::from_value(key, value).ok_or_else(|| broken("does not match its checksum"))?;
    if head.first > head.next {
        return Err(broken("contradicts itself"));
    }
    Ok(head)
}
