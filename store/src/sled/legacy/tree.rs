//! The tree of formats 1 and 2: its heads, and its records whole. It is only read.

use crate::{LogId, PAGE_BYTES_MAX, Seq, StoreError};

use super::super::folder::Folder;
use super::super::index::read_heads;
use super::super::layout::{Head, LogNumber, TIP_KEY, Tip};
use super::super::read::Framed;
use super::super::tree::{Tree, Worth};
use super::layout::{from_frame, part_key, place_of, tip_from_value};

/// An open tree of an earlier format.
#[derive(Debug)]
pub(super) struct OldTree {
    tree: Tree,
    folder: Folder,
}

impl OldTree {
    /// Opens the tree where there is one.
    pub(super) fn open(folder: &Folder, cache_bytes: u64) -> Result<Option<Self>, StoreError> {
        let path = folder.old_tree();
        if !path.join("db").exists() {
            return Ok(None);
        }
        Ok(Some(Self { tree: Tree::open(folder, &path, cache_bytes, Worth::AllThereIs)?, folder: folder.clone() }))
    }

    /// Where it stands.
    pub(super) fn tip(&self) -> Result<Tip, StoreError> {
        match self.tree.get(TIP_KEY)? {
            Some(value) => tip_from_value(&value).ok_or_else(|| self.folder.damaged("the tree's own tip does not match its checksum")),
            None => Ok(Tip::default()),
        }
    }

    /// Ends it.
    pub(super) fn close(self) -> Result<(), StoreError> {
        self.tree.close()
    }

    /// All heads, in order of name.
    pub(super) fn heads(&self) -> impl Iterator<Item = Result<(LogId, Head), StoreError>> + '_ {
        read_heads(&self.tree, &self.folder, "", None)
    }

    /// Whole records from one place to before another: at most `limit`, and few enough for a page. Places are gapless.
    pub(super) fn frames(
        &self,
        log: &LogId,
        number: LogNumber,
        from: Seq,
        end: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, Framed)>, StoreError> {
        let damaged = |place: Seq, what: &str| self.folder.damaged(format!("record {} of log {log} {what}", place.0));
        let mut reader = FrameReader { number, next: from, frame: Vec::new(), parts: 0, found: Vec::new(), bytes: 0 };
        for entry in self.tree.range(part_key(number, from, 0).to_vec()..part_key(number, end, 0).to_vec()) {
            let (key, value) = entry.map_err(|error| self.folder.damaged(format!("log {log}: {error}")))?;
            let (place, part) = place_of(&key).ok_or_else(|| damaged(reader.next, "has a malformed key"))?;
            if reader.parts > 0 && place != reader.next {
                reader.finish().map_err(|what| damaged(reader.next, what))?;
                if reader.is_full(limit) {
                    return Ok(reader.found);
                }
                reader.next.0 += 1;
            }
            if place != reader.next || part != reader.parts {
                return Err(damaged(reader.next, "is missing, or a part of it"));
            }
            reader.frame.extend_from_slice(&value);
            reader.parts += 1;
        }
        if reader.parts == 0 {
            return Err(damaged(reader.next, "is missing"));
        }
        reader.finish().map_err(|what| damaged(reader.next, what))?;
        if !reader.is_full(limit) && reader.next.0 + 1 < end.0 {
            return Err(damaged(Seq(reader.next.0 + 1), "is missing"));
        }
        Ok(reader.found)
    }
}

struct FrameReader {
    number: LogNumber,
    /// The place being read.
    next: Seq,
    frame: Vec<u8>,
    parts: u16,
    found: Vec<(Seq, Framed)>,
    bytes: usize,
}

impl FrameReader {
    fn finish(&mut self) -> Result<(), &'static str> {
        let framed = from_frame(self.number, self.next, &self.frame)?;
        self.frame.clear();
        self.parts = 0;
        self.bytes += framed.record.0.len();
        // The one that passes the limit of a page is read again with the next page.
        if self.bytes <= PAGE_BYTES_MAX || self.found.is_empty() {
            self.found.push((self.next, framed));
        }
        Ok(())
    }

    fn is_full(&self, limit: usize) -> bool {
        self.found.len() >= limit || self.bytes > PAGE_BYTES_MAX
    }
}
