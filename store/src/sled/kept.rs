//! Large values in files named by their digest. Which entry names a value is not known here.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::leases::{BootClock, LeaseClock};
use crate::{Digest, Forgotten, KEPT_BYTES_MAX, StoreError};

use super::folder::{Folder, io_error, is_disk_full, sync_folder};

/// Digests remembered as durable; past this many only those of the last minutes stay, and keeping another again costs a sync.
const REMEMBERED_MAX: usize = 65_536;

/// Values kept this recently are never dropped from memory: whoever kept them may not have named them yet.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// `DIR/kept`.
#[derive(Debug)]
pub(super) struct Kept {
    folder: Folder,
    path: PathBuf,
    /// What this process knows to be durable, and when it was last asked to keep it. A file may be there without being durable: after
    /// kill -9 before its sync.
    durable: Mutex<HashMap<Digest, Duration>>,
    clock: Arc<dyn LeaseClock>,
}

/// Why a value could not be kept.
#[derive(Debug)]
pub(super) enum KeepError {
    /// Nothing was promised and nothing is in doubt.
    Plain(StoreError),
    /// A sync failed: what the system shows may not be what the disk holds.
    Sync(StoreError),
}

impl Kept {
    pub(super) fn open(folder: &Folder) -> Result<Self, StoreError> {
        let path = folder.kept();
        if !path.is_dir() {
            DirBuilder::new().mode(0o700).create(&path).map_err(io_error("making the folder", &path))?;
            sync_folder(folder.path())?;
        }
        for entry in std::fs::read_dir(&path).map_err(io_error("listing", &path))? {
            let entry = entry.map_err(io_error("listing", &path))?;
            if entry.path().extension().is_some_and(|ending| ending == "new") {
                std::fs::remove_file(entry.path()).map_err(io_error("removing", &entry.path()))?;
            }
        }
        Ok(Self { folder: folder.clone(), path, durable: Mutex::default(), clock: Arc::new(BootClock) })
    }

    /// Times keeping and forgetting by this clock.
    pub(super) fn timed_by(mut self, clock: Arc<dyn LeaseClock>) -> Self {
        self.clock = clock;
        self
    }

    /// Keeps one value at a time: two callers with the same value must not share its unfinished file.
    pub(super) fn keep(&self, bytes: &[u8]) -> Result<Digest, KeepError> {
        let digest = Digest::of(bytes);
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if let Some(kept_at) = durable.get_mut(&digest) {
            *kept_at = now;
            return Ok(digest);
        }
        match self.read(&digest) {
            Ok(_) => self.sync_again(&digest)?,
            // A value that is there and wrong is replaced by the right one.
            Err(StoreError::NoSuchValue(_) | StoreError::Damaged { .. }) => self.write(&digest, bytes)?,
            Err(other) => return Err(KeepError::Plain(other)),
        }
        if durable.len() >= REMEMBERED_MAX {
            durable.retain(|_, kept_at| now.saturating_sub(*kept_at) < REMEMBERED_FOR);
        }
        durable.insert(digest, now);
        Ok(digest)
    }

    /// Removes a value that nothing names. The folder has one owner, so what this process did not keep just now is not about to be
    /// named by anybody.
    pub(super) fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        if durable.get(digest).is_some_and(|kept_at| now.saturating_sub(*kept_at) < grace) {
            return Ok(Forgotten::KeptJustNow);
        }
        durable.remove(digest);
        let path = self.path.join(digest.to_string());
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("removing", &path)(error)),
        }
        // A removal that a power cut takes back only leaves a value that nobody names.
        Ok(Forgotten::Gone)
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> Result<(), KeepError> {
        let path = self.path.join(digest.to_string());
        let fresh = path.with_extension("new");
        let failed = io_error("keeping a value in", &path);
        let plain = |error| {
            // The unfinished file is of no use, and its room may be what is missing.
            let _ = std::fs::remove_file(&fresh);
            KeepError::Plain(failed(error))
        };
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(plain)?;
        file.write_all(bytes).map_err(plain)?;
        match file.sync_all() {
            Ok(()) => {}
            Err(error) if is_disk_full(&error) => return Err(plain(error)),
            Err(error) => {
                let _ = std::fs::remove_file(&fresh);
                return Err(KeepError::Sync(failed(error)));
            }
        }
        std::fs::rename(&fresh, &path).map_err(plain)?;
        sync_folder(&self.path).map_err(|error| {
            let _ = std::fs::remove_file(&path);
            KeepError::Sync(error)
        })
    }

    fn sync_again(&self, digest: &Digest) -> Result<(), KeepError> {
        let path = self.path.join(digest.to_string());
        let synced = File::open(&path).and_then(|file| file.sync_all()).map_err(io_error("syncing", &path));
        synced.and_then(|()| sync_folder(&self.path)).map_err(KeepError::Sync)
    }

    /// Reads a value and checks that it has its digest.
    pub(super) fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.path.join(digest.to_string());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(StoreError::NoSuchValue(*digest));
            }
            Err(error) => return Err(io_error("reading", &path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(KEPT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io_error("reading", &path))?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(self.folder.damaged(format!("the kept value {digest} does not have its digest")))
        }
    }

    /// Every digest in the folder, in order.
    pub(super) fn digests(&self) -> Result<Vec<Digest>, StoreError> {
        let mut digests = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(io_error("listing", &self.path))? {
            let entry = entry.map_err(io_error("listing", &self.path))?;
            digests.extend(entry.file_name().to_str().and_then(Digest::parse));
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Writes every value anew, because its blocks may never have reached the disk.
    pub(super) fn rewrite_all(&self) -> Result<(), StoreError> {
        for digest in self.digests()? {
            match self.read(&digest) {
                Ok(bytes) => self.write(&digest, &bytes).map_err(KeepError::into_error)?,
                // A damaged value stays to be named when it is read; there is nothing to write in its place.
                Err(StoreError::Damaged { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

impl KeepError {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Plain(error) | Self::Sync(error) => error,
        }
    }
}
