//! A sled tree: how it is started, repaired, written and read. What its keys mean is in `layout`; what is in it, in `index`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::sled::{Batch, Db, IVec};

use crate::StoreError;

use super::folder::{Ballast, Folder, io_error, is_disk_full, sync_folder};

/// How long to wait for sled's own lock. The folder's lock is ours already, so only a closing handle of this process has it.
const CLOSING_TRIES_MAX: u32 = 5_000;

/// Pause between two tries.
const CLOSING_PAUSE: Duration = Duration::from_millis(2);

/// Below this much room a panic while opening is taken for the full disk that it almost certainly is.
const ROOM_BYTES_MIN: u64 = 1024 * 1024;

/// An open tree. One thread writes to it.
pub(super) struct Tree {
    /// `None` once it was closed.
    db: Option<Db>,
    /// A second handle on the tree's file, because `flush` of sled never reaches the disk: it ends in `sync_file_range`.
    file: File,
    path: PathBuf,
    folder: Folder,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a tree is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// It is all there is: what its file seems to hold must be on the disk before anybody goes by it.
    AllThereIs,
    /// What it lost, or never had, can be made anew from the segments, and is where it turns out to be missing. Opening waits for no disk.
    CanBeMadeAnew,
}

/// Why a group was not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    pub(super) why: String,
}

/// What a failure leaves in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// No room for the bytes; the disk itself answered truthfully.
    DiskFull,
    /// The disk may hold less than the system shows.
    Sync,
    /// The tree stopped for another reason.
    Stopped,
}

/// Why the tree did not start.
#[derive(Debug)]
enum StartError {
    DiskFull,
    Corrupt(String),
    Failed(io::Error),
}

impl Tree {
    /// Starts the tree in `path`, with every rescue tried once: give up the ballast where the disk is full, put snapshots
    /// aside where they do not fit the file.
    pub(super) fn open(folder: &Folder, path: &Path, cache_bytes: u64, worth: Worth) -> Result<Self, StoreError> {
        let mut snapshots = Snapshots::InPlace;
        loop {
            let started = repair(path).and_then(|()| Self::start(folder, path, cache_bytes));
            match started {
                Ok(tree) if worth == Worth::CanBeMadeAnew => return Ok(tree),
                Ok(tree) => match tree.make_durable(path) {
                    Err(StoreError::DiskFull { .. }) if folder.drop_ballast()? == Ballast::Dropped => {}
                    made => return made.map(|()| tree),
                },
                Err(StartError::DiskFull) => match folder.drop_ballast()? {
                    Ballast::Dropped => {}
                    Ballast::None => {
                        return Err(StoreError::DiskFull { folder: folder.name() });
                    }
                },
                Err(StartError::Corrupt(why)) => match snapshots {
                    Snapshots::InPlace => {
                        put_snapshots_aside(path)?;
                        snapshots = Snapshots::Aside;
                    }
                    Snapshots::Aside => {
                        return Err(folder.damaged(format!("the tree does not open: {why}")));
                    }
                },
                Err(StartError::Failed(error)) => {
                    return Err(io_error("opening the tree in", path)(error));
                }
            }
        }
    }

    fn start(folder: &Folder, path: &Path, cache_bytes: u64) -> Result<Self, StartError> {
        let mut tries = 0;
        let db = loop {
            // A background flusher would race ours, and answer nobody.
            let config = ::sled::Config::new().path(path).flush_every_ms(None).cache_capacity(cache_bytes);
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => break db,
                Ok(Err(::sled::Error::Io(error))) if is_closing(&error) && tries < CLOSING_TRIES_MAX => {
                    tries += 1;
                    std::thread::sleep(CLOSING_PAUSE);
                }
                Ok(Err(::sled::Error::Io(error))) if is_disk_full(&error) => {
                    return Err(StartError::DiskFull);
                }
                Ok(Err(::sled::Error::Io(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(StartError::Corrupt(error.to_string()));
                }
                Ok(Err(::sled::Error::Io(error))) => return Err(StartError::Failed(error)),
                Ok(Err(other)) => return Err(StartError::Corrupt(other.to_string())),
                Err(_) if folder.free_bytes() < ROOM_BYTES_MIN => return Err(StartError::DiskFull),
                Err(panic) => return Err(StartError::Corrupt(panic_text(&*panic))),
            }
        };
        let file = File::open(path.join("db")).map_err(StartError::Failed)?;
        Ok(Self { db: Some(db), file, path: path.to_path_buf(), folder: folder.clone() })
    }

    /// What opening wrote or found in the cache becomes durable before anybody reads it. Where that fails the next opening
    /// must not believe the cache either.
    fn make_durable(&self, path: &Path) -> Result<(), StoreError> {
        let conf = path.join("conf");
        let durable = self
            .db()
            .flush()
            .map_err(|error| self.read_error(error))
            .and_then(|_| self.file.sync_all().map_err(io_error("syncing the tree in", path)))
            .and_then(|()| File::open(&conf).and_then(|file| file.sync_all()).map_err(io_error("syncing", &conf)))
            .and_then(|()| sync_folder(&path.join("blobs")))
            .and_then(|()| sync_folder(path))
            .and_then(|()| path.parent().map_or(Ok(()), sync_folder));
        if let Err(StoreError::Io { action, source }) = &durable {
            self.folder.mark_sync_failed(&format!("{action}: {source}"));
        }
        durable
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the tree is used only while it is open")
    }

    /// Ends the tree. sled syncs once more while it is dropped, and panics where that fails.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        self.end().map_err(|why| io_error("closing the tree in", &self.path)(io::Error::other(why)))
    }

    fn end(&mut self) -> Result<(), String> {
        let db = self.db.take();
        catch_unwind(AssertUnwindSafe(|| drop(db))).map_err(|panic| {
            let why = panic_text(&*panic);
            self.folder.mark_sync_failed(&why);
            why
        })
    }

    /// Writes one group: it is durable, whole, when this answers `Ok`, and costs one sync.
    pub(super) fn apply(&self, batch: Batch) -> Result<(), Failure> {
        let written = catch_unwind(AssertUnwindSafe(|| {
            self.db().apply_batch(batch)?;
            self.db().flush()
        }));
        match written {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return Err(Failure { kind: kind_of(&error), why: error.to_string() });
            }
            Err(panic) => {
                return Err(Failure { kind: FailureKind::Stopped, why: panic_text(&*panic) });
            }
        }
        self.file.sync_data().map_err(|error| Failure { kind: FailureKind::Sync, why: error.to_string() })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        match catch_unwind(AssertUnwindSafe(|| self.db().get(key))) {
            Ok(found) => found.map_err(|error| self.read_error(error)),
            Err(panic) => Err(self.folder.damaged(panic_text(&*panic))),
        }
    }

    /// Entries from one key to before another, in order; from the end where they are asked for from there.
    pub(super) fn range(&self, keys: Range<Vec<u8>>) -> impl DoubleEndedIterator<Item = Result<(IVec, IVec), StoreError>> + '_ {
        self.guarded(self.db().range(keys))
    }

    fn guarded(&self, iter: ::sled::Iter) -> Guarded<'_> {
        Guarded { tree: self, iter, ended: Ended::No }
    }

    fn read_error(&self, error: ::sled::Error) -> StoreError {
        match error {
            ::sled::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                io_error("reading the tree in", &self.path)(source)
            }
            ::sled::Error::Io(_)
            | ::sled::Error::CollectionNotFound(_)
            | ::sled::Error::Unsupported(_)
            | ::sled::Error::ReportableBug(_)
            | ::sled::Error::Corruption { .. } => self.folder.damaged(error.to_string()),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Everything acknowledged is durable already; the mark that this leaves is for the next opening.
        let _ = self.end();
    }
}

/// Ends an iteration at the first error or panic, so that a damaged tree cannot be read in circles.
struct Guarded<'a> {
    tree: &'a Tree,
    iter: ::sled::Iter,
    ended: Ended,
}

#[derive(PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

impl Guarded<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut ::sled::Iter) -> Option<::sled::Result<(IVec, IVec)>>,
    ) -> Option<Result<(IVec, IVec), StoreError>> {
        if self.ended == Ended::Yes {
            return None;
        }
        let failed = match catch_unwind(AssertUnwindSafe(|| step(&mut self.iter))) {
            Ok(None) => return None,
            Ok(Some(Ok(entry))) => return Some(Ok(entry)),
            Ok(Some(Err(error))) => self.tree.read_error(error),
            Err(panic) => self.tree.folder.damaged(panic_text(&*panic)),
        };
        self.ended = Ended::Yes;
        Some(Err(failed))
    }
}

impl Iterator for Guarded<'_> {
    type Item = Result<(IVec, IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl DoubleEndedIterator for Guarded<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

enum Snapshots {
    InPlace,
    Aside,
}

fn kind_of(error: &::sled::Error) -> FailureKind {
    match error {
        ::sled::Error::Io(error) if is_disk_full(error) => FailureKind::DiskFull,
        // The error may come from the part of `flush` that starts writing back, after which the cache can lie.
        ::sled::Error::Io(_) => FailureKind::Sync,
        ::sled::Error::CollectionNotFound(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_)
        | ::sled::Error::Corruption { .. } => FailureKind::Stopped,
    }
}

fn is_closing(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the tree panicked: {}", text.unwrap_or("no message"))
}

/// Mends what a crash inside sled's own opening leaves behind and what it then refuses to open with.
fn repair(path: &Path) -> Result<(), StartError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StartError::Failed(error)),
    };
    for entry in entries {
        let found = entry.map_err(StartError::Failed)?.path();
        let name = found.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mended = match name.strip_suffix(".generating").filter(|name| name.starts_with("snap.")) {
            Some(finished) => match is_whole_snapshot(&found) {
                Ok(Whole::Yes) => std::fs::rename(&found, path.join(finished)),
                Ok(Whole::No) => std::fs::remove_file(&found),
                Err(error) => Err(error),
            },
            // sled writes the same defaults again; it only stumbles over half a file.
            None if name == "conf" => match is_whole_conf(&found) {
                Ok(Whole::Yes) => Ok(()),
                Ok(Whole::No) => std::fs::remove_file(&found),
                Err(error) => Err(error),
            },
            None => Ok(()),
        };
        mended.map_err(StartError::Failed)?;
    }
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StartError::Failed)
}

enum Whole {
    Yes,
    No,
}

/// A snapshot ends with its length (8 bytes) and the crc32 of all before that.
fn is_whole_snapshot(path: &Path) -> io::Result<Whole> {
    let bytes = std::fs::read(path)?;
    let whole = bytes.len() > 12
        && bytes.split_last_chunk::<12>().is_some_and(|(body, end)| end.get(8..) == Some(&crc32fast::hash(body).to_le_bytes()));
    Ok(if whole { Whole::Yes } else { Whole::No })
}

/// The configuration ends with the crc32 of all before it.
fn is_whole_conf(path: &Path) -> io::Result<Whole> {
    let bytes = std::fs::read(path)?;
    let whole = bytes.split_last_chunk::<4>().is_some_and(|(body, end)| *end == crc32fast::hash(body).to_le_bytes());
    Ok(if whole { Whole::Yes } else { Whole::No })
}

/// Snapshots only shorten opening; without them sled reads its whole file.
fn put_snapshots_aside(path: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(path).map_err(io_error("listing", path))? {
        let found = entry.map_err(io_error("listing", path))?.path();
        let name = found.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("snap.") {
            std::fs::rename(&found, path.join(format!("unused.{name}"))).map_err(io_error("putting aside", &found))?;
        }
    }
    sync_folder(path)
}
