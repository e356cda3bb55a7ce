//! The data folder: its format, its durable small files and its ballast. What is in segments and index is elsewhere.
//!
//! ```text
//! DIR/format        version of this layout, in plain text
//! DIR/owner         lock and name of the process that owns the folder
//! DIR/tip           how far the store had come when it last answered; never ahead of what is durable
//! DIR/segments/     every group, in order
//! DIR/index/        where in the segments what lies; there once a segment was sealed, and made anew where it is missing
//! DIR/kept/         large values, each named by its digest
//! DIR/ballast       room to give up when the disk is full
//! DIR/index-broken  there after the index was found wrong, until it was made anew
//! DIR/sync-failed   there after a failed sync, until all was copied
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Room, StoreError};

use super::layout::Tip;

/// The layout that this program writes. It reads this one and all before it.
pub(super) const FORMAT: u32 = 3;

const FORMAT_WORD: &str = "lifeboat-store";

/// Makes the sentence of a failed file operation. A full disk is told apart, because a person can mend it.
pub(super) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| {
        if is_disk_full(&source) {
            return StoreError::DiskFull { folder: path.display().to_string() };
        }
        StoreError::Io { action: format!("{action} {}", path.display()), source }
    }
}

pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// A data folder on disk.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder where it is missing, for this user alone, and refuses one of a newer program before touching it.
    pub(super) fn enter(path: &Path) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(io_error("finding", path))?;
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error("making the folder", &path))?;
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
        }
        let folder = Self { path };
        folder.format()?;
        Ok(folder)
    }

    /// A folder that is only looked at: it is neither made nor refused.
    pub(super) fn to_look(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The segments in which every group becomes durable.
    pub(super) fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }

    /// A copy of the segments that is being made.
    pub(super) fn segments_new(&self) -> PathBuf {
        self.path.join("segments.new")
    }

    /// Segments that were replaced by their copy.
    pub(super) fn segments_old(&self) -> PathBuf {
        self.path.join("segments.old")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join("index")
    }

    /// An index that is being made, and not yet anything to rely on.
    pub(super) fn index_new(&self) -> PathBuf {
        self.path.join("index.new")
    }

    /// The tree of formats 1 and 2, which held the records.
    pub(super) fn old_tree(&self) -> PathBuf {
        self.path.join("store")
    }

    /// The segments of format 2 that its tree had not taken over yet.
    pub(super) fn old_front(&self) -> PathBuf {
        self.path.join("front")
    }

    pub(super) fn kept(&self) -> PathBuf {
        self.path.join("kept")
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { folder: self.name(), what: what.into() }
    }

    /// The version written in the folder; `None` in a new one.
    pub(super) fn format(&self) -> Result<Option<u32>, StoreError> {
        let path = self.path.join("format");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("reading", &path)(error)),
        };
        let version = text.trim_end().strip_prefix(FORMAT_WORD).and_then(|rest| rest.trim_start().parse::<u32>().ok());
        match version {
            Some(found) if found > FORMAT => Err(StoreError::NewerFormat { folder: self.name(), found, known: FORMAT }),
            Some(found) => Ok(Some(found)),
            None => Err(self.damaged("the file format does not say \"lifeboat-store\" and a number")),
        }
    }

    pub(super) fn write_format(&self) -> Result<(), StoreError> {
        write_durably(&self.path.join("format"), format!("{FORMAT_WORD} {FORMAT}\n").as_bytes())
    }

    /// Leaves word that the index does not say what the segments do: the next opening makes it anew.
    pub(super) fn mark_index_broken(&self) {
        // An index that is broken is noticed again where this fails.
        let _ = File::create(self.path.join("index-broken")).and_then(|file| file.sync_all());
        let _ = sync_folder(&self.path);
    }

    pub(super) fn has_broken_index(&self) -> bool {
        self.path.join("index-broken").exists()
    }

    pub(super) fn clear_index_broken(&self) -> Result<(), StoreError> {
        let path = self.path.join("index-broken");
        std::fs::remove_file(&path).map_err(io_error("removing", &path))?;
        sync_folder(&self.path)
    }

    /// Leaves word, as durably as a failing disk allows, that what the system shows may not be what the disk holds.
    pub(super) fn mark_sync_failed(&self, why: &str) {
        let path = self.path.join("sync-failed");
        let marked = File::create(&path).and_then(|mut file| file.write_all(why.as_bytes()).and_then(|()| file.sync_all()));
        // Nothing more can be done where even this fails: the store is poisoned all the same.
        let _ = marked;
        let _ = sync_folder(&self.path);
    }

    pub(super) fn has_failed_sync(&self) -> bool {
        self.path.join("sync-failed").exists()
    }

    pub(super) fn clear_sync_failed(&self) -> Result<(), StoreError> {
        let path = self.path.join("sync-failed");
        std::fs::remove_file(&path).map_err(io_error("removing", &path))?;
        sync_folder(&self.path)
    }

    /// Gives up the ballast. Tells whether there was any.
    pub(super) fn drop_ballast(&self) -> Result<Ballast, StoreError> {
        match std::fs::remove_file(self.path.join("ballast")) {
            Ok(()) => {
                sync_folder(&self.path)?;
                Ok(Ballast::Dropped)
            }
            Err(_) => Ok(Ballast::None),
        }
    }

    /// Lays the ballast in again where there is ample room. Room that cannot be had now is no error.
    pub(super) fn lay_ballast(&self, bytes: u64) {
        let path = self.path.join("ballast");
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return;
        }
        let free = rustix::fs::statvfs(&self.path).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        if free < bytes.saturating_mul(4) {
            return;
        }
        if write_ballast(&path, bytes).is_err() {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// How full the file system is, as `df` counts it: what is set aside for root is neither used nor free.
    pub(super) fn room(&self) -> Result<Room, StoreError> {
        let fs = rustix::fs::statvfs(&self.path).map_err(|error| io_error("asking for the room of", &self.path)(error.into()))?;
        let used_bytes = fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize);
        Ok(Room { used_bytes, total_bytes: used_bytes.saturating_add(fs.f_bavail.saturating_mul(fs.f_frsize)) })
    }

    pub(super) fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.path).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

/// What became of the ballast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ballast {
    Dropped,
    None,
}

fn write_ballast(path: &Path, bytes: u64) -> io::Result<()> {
    // Counting bytes instead of zeros, so that a file system that compresses or skips zeros still sets the room aside.
    let block: Vec<u8> = (0..64 * 1024u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len() as u64);
        file.write_all(block.get(..part as usize).unwrap_or(&block))?;
        left -= part;
    }
    file.sync_all()
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error("syncing the folder", path))
}

/// Writes a small file so that after a power cut it is there whole, or as it was before.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    let failed = io_error("writing", path);
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    written.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(&failed)?;
    std::fs::rename(&fresh, path).map_err(&failed)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// `DIR/tip`: written after each durable group and not synced, so it may lag behind the segments and never leads them.
/// Segments that end before the tip have lost what was acknowledged.
#[derive(Debug)]
pub(super) struct TipFile {
    file: File,
    path: PathBuf,
}

impl TipFile {
    pub(super) fn open(folder: &Folder) -> Result<Self, StoreError> {
        let path = folder.path().join("tip");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(io_error("opening", &path))?;
        Ok(Self { file, path })
    }

    /// What was written last, of a folder that is only looked at.
    pub(super) fn to_look(folder: &Folder) -> Option<Tip> {
        parse_tip(std::fs::read(folder.path().join("tip")).ok()?.get(..TIP_LINE_BYTES)?)
    }

    /// What was written last. A file without a readable line is one whose first write did not reach the disk.
    pub(super) fn read(&self) -> Result<Option<Tip>, StoreError> {
        let mut line = [0u8; TIP_LINE_BYTES];
        match self.file.read_exact_at(&mut line, 0) {
            Ok(()) => Ok(parse_tip(&line)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(io_error("reading", &self.path)(error)),
        }
    }

    pub(super) fn write(&self, tip: Tip) -> io::Result<()> {
        self.file.write_all_at(tip_line(tip).as_bytes(), 0)
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_all().map_err(io_error("syncing", &self.path))
    }
}

const TIP_LINE_BYTES: usize = 20 + 1 + 20 + 1 + 8 + 1;

fn tip_line(tip: Tip) -> String {
    let numbers = format!("{:020} {:020}", tip.groups, tip.next_number);
    format!("{numbers} {:08x}\n", crc32fast::hash(numbers.as_bytes()))
}

fn parse_tip(line: &[u8]) -> Option<Tip> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let tip = Tip { groups: words.next()?.parse().ok()?, next_number: words.next()?.parse().ok()? };
    (tip_line(tip).as_bytes() == line).then_some(tip)
}
