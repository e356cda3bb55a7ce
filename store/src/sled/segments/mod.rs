//! The segments: append-only files in which every group becomes durable with one sync, and in which it stays. Writing them is here, their
//! bytes in `frame`, finding them again in `scan`, where they begin in `first`. What they mean is not known here.
//!
//! A segment is written over zeros that are laid ahead, so a sync has no length and no blocks of the file to make durable beside the bytes.

pub(super) mod first;
pub(super) mod frame;
pub(super) mod scan;

use std::collections::{BTreeMap, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::StoreError;

use super::folder::{io_error, is_disk_full, sync_folder};
use super::layout::LogNumber;
use super::tree::{Failure, FailureKind};
use frame::{END_BYTES, Group, SEGMENT_HEAD_BYTES, SegmentNumber, segment_head};

/// Zeros written together with a group that passes the end of those before: a few hundred steps.
const AHEAD_BYTES: u64 = 256 * 1024;

/// Open files of segments kept for readers.
const FILES_MAX: usize = 64;

/// The segments of a store, as their one writer sees them.
#[derive(Debug)]
pub(super) struct Segments {
    path: PathBuf,
    current: Option<Writing>,
    next_segment: SegmentNumber,
    /// Checksum of the last group.
    before: u32,
    /// A segment takes no further group once it is this long.
    segment_bytes: u64,
}

/// The segment that takes the next group.
#[derive(Debug)]
struct Writing {
    number: SegmentNumber,
    file: File,
    /// Where the next group begins.
    end: u64,
    /// Up to here the file's bytes are there already.
    laid: u64,
    named: HashSet<LogNumber>,
}

/// A segment that takes no more groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) number: SegmentNumber,
    /// Where its last group ends.
    pub(super) end: u64,
    /// Checksum of its last group.
    pub(super) sum: u32,
}

/// Where a group became durable.
#[derive(Debug)]
pub(super) struct Landed {
    pub(super) segment: SegmentNumber,
    /// From the beginning of the file.
    pub(super) at: u64,
}

/// The file of a segment.
pub(super) fn segment_path(segments: &Path, number: SegmentNumber) -> PathBuf {
    segments.join(format!("{:016x}", number.0))
}

impl Segments {
    /// The segments as `scan` found them; the last one is written on.
    pub(super) fn resume(path: PathBuf, found: scan::End, segment_bytes: u64) -> Self {
        let current = found.last.map(|last| Writing {
            number: last.number,
            file: last.file,
            end: last.end,
            laid: last.length,
            named: last.named.into_iter().collect(),
        });
        Self { path, current, next_segment: found.next_segment, before: found.before, segment_bytes }
    }

    /// Ends the current segment where it is long enough. To be asked before a group is put together, because a new segment names its logs
    /// anew.
    pub(super) fn seal_if_long(&mut self) -> Option<Sealed> {
        let long = self.current.as_ref().is_some_and(|current| current.end >= self.segment_bytes);
        let sealed = self.current.take_if(|_| long)?;
        Some(Sealed { number: sealed.number, end: sealed.end, sum: self.before })
    }

    /// Whether the current segment has named this log.
    pub(super) fn has_named(&self, log: LogNumber) -> bool {
        self.current.as_ref().is_some_and(|current| current.named.contains(&log))
    }

    /// What the next group's head says of the one before it.
    pub(super) fn before(&self) -> u32 {
        self.before
    }

    /// Makes a group durable. `named` are the logs that it names.
    pub(super) fn append(&mut self, group: &Group, named: impl IntoIterator<Item = LogNumber>) -> Result<Landed, Failure> {
        if self.current.is_none() {
            self.begin(group)?;
        } else if let Some(current) = &mut self.current {
            current.write(&group.bytes)?;
            if !crate::mutants::is(crate::mutants::Mutant::SyncSkipped) {
                current.file.sync_data().map_err(|error| failed_sync(&error))?;
            }
        }
        self.before = group.sum;
        let Some(current) = &mut self.current else { return Err(failed_write(&io::Error::other("no segment"))) };
        let at = current.end;
        current.end += group.bytes.len() as u64;
        current.named.extend(named);
        Ok(Landed { segment: current.number, at })
    }

    /// Makes a segment, with its first group in the same write: before that is durable nothing relies on the segment.
    fn begin(&mut self, group: &Group) -> Result<(), Failure> {
        let number = self.next_segment;
        let path = segment_path(&self.path, number);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| failed_write(&error))?;
        let laid = file.metadata().map_err(|error| failed_write(&error))?.len();
        let mut begun = Writing { number, file, end: 0, laid, named: HashSet::new() };
        begun.write(&[&segment_head(number), &group.bytes[..]].concat())?;
        begun.file.sync_data().map_err(|error| failed_sync(&error))?;
        sync_folder(&self.path).map_err(|error| Failure { kind: FailureKind::Sync, why: error.to_string() })?;
        begun.end = SEGMENT_HEAD_BYTES;
        self.next_segment = SegmentNumber(number.0 + 1);
        self.current = Some(begun);
        Ok(())
    }
}

impl Writing {
    /// Writes behind the last group, with what ends the segment behind that, in one call.
    fn write(&mut self, group: &[u8]) -> Result<(), Failure> {
        let end = self.end + (group.len() + END_BYTES) as u64;
        let upto = if end > self.laid { end + AHEAD_BYTES } else { end };
        let mut bytes = Vec::with_capacity(usize::try_from(upto - self.end).unwrap_or(group.len()));
        bytes.extend_from_slice(group);
        bytes.resize(usize::try_from(upto - self.end).unwrap_or(group.len()), 0);
        self.file.write_all_at(&bytes, self.end).map_err(|error| failed_write(&error))?;
        self.laid = self.laid.max(upto);
        Ok(())
    }
}

/// Open segments for readers. A segment that is given up is forgotten here first.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    open: Mutex<BTreeMap<SegmentNumber, Arc<File>>>,
}

impl Files {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: Mutex::default() }
    }

    /// The file of a segment, to be read from.
    pub(super) fn segment(&self, number: SegmentNumber) -> Result<Arc<File>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let path = segment_path(&self.path, number);
        let file = Arc::new(File::open(&path).map_err(io_error("opening", &path))?);
        if open.len() >= FILES_MAX {
            open.clear();
        }
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Removes a segment. Nobody may be reading it, and what stands for it is durable.
    pub(super) fn give_up(&self, number: SegmentNumber) -> Result<(), StoreError> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let path = segment_path(&self.path, number);
        std::fs::remove_file(&path).map_err(io_error("giving up", &path))?;
        sync_folder(&self.path)
    }
}

/// Makes the folder of the segments where it is missing.
pub(super) fn make_folder(segments: &Path) -> Result<(), StoreError> {
    if segments.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(segments).map_err(io_error("making the folder", segments))?;
    segments.parent().map_or(Ok(()), sync_folder)
}

fn failed_write(error: &io::Error) -> Failure {
    let kind = if is_disk_full(error) { FailureKind::DiskFull } else { FailureKind::Stopped };
    Failure { kind, why: format!("writing a segment: {error}") }
}

fn failed_sync(error: &io::Error) -> Failure {
    Failure { kind: FailureKind::Sync, why: format!("syncing a segment: {error}") }
}
