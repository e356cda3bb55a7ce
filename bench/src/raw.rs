//! The limit of the disk: a loop of 300-byte `pwrite` and `fdatasync` in one file, each behind the last. No store and no engine here.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::figures::{median, now};
use crate::trouble::{Result, trouble};

/// Bytes of one write: about what an intent and an outcome take.
const WRITE_BYTES: usize = 300;

/// What the disk takes for one durable write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    /// Median time of one write and sync.
    pub(crate) p50: Duration,
    /// Writes each second over the whole loop.
    pub(crate) per_second: f64,
}

/// Writes so many times to a new file in `folder`.
pub(crate) fn measure(folder: &Path, writes: u32) -> Result<Raw> {
    let path = folder.join("raw");
    let file =
        OpenOptions::new().create(true).truncate(true).write(true).open(&path).map_err(|error| trouble("making the raw file", error))?;
    let bytes = [7u8; WRITE_BYTES];
    let mut each = Vec::with_capacity(writes as usize);
    let begun = now();
    for turn in 0..u64::from(writes) {
        let began = now();
        file.write_all_at(&bytes, turn * WRITE_BYTES as u64).map_err(|error| trouble("writing the raw file", error))?;
        file.sync_data().map_err(|error| trouble("syncing the raw file", error))?;
        each.push(now().since(began));
    }
    let whole = now().since(begun);
    drop(file);
    std::fs::remove_file(&path).map_err(|error| trouble("removing the raw file", error))?;
    Ok(Raw { p50: median(&mut each), per_second: f64::from(writes) / whole.as_secs_f64() })
}

/// Writes each second of a loop that puts `together` of them before one sync, so many times: what sharing syncs can win at most.
pub(crate) fn batched(folder: &Path, together: usize, times: usize) -> Result<f64> {
    let path = folder.join("raw");
    let file =
        OpenOptions::new().create(true).truncate(true).write(true).open(&path).map_err(|error| trouble("making the raw file", error))?;
    let bytes = vec![7u8; WRITE_BYTES * together];
    let begun = now();
    for turn in 0..times as u64 {
        file.write_all_at(&bytes, turn * bytes.len() as u64).map_err(|error| trouble("writing the raw file", error))?;
        file.sync_data().map_err(|error| trouble("syncing the raw file", error))?;
    }
    let whole = now().since(begun);
    drop(file);
    std::fs::remove_file(&path).map_err(|error| trouble("removing the raw file", error))?;
    Ok((together * times) as f64 / whole.as_secs_f64())
}
