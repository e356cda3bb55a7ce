//! Kept inputs: those of the folders in the repository, and those that a campaign finds to behave in a new way.

use std::io;
use std::path::{Path, PathBuf};

use crate::targets::Target;

/// Larger inputs are not kept in the repository.
pub const KEPT_BYTES_MAX: usize = 1024;

/// Most files of a target's folder.
pub const KEPT_MAX: usize = 80;

/// The folder of a target's kept inputs.
#[must_use]
pub fn folder(target: Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name())
}

/// Every input that a campaign begins with, in the order of the names of their files.
///
/// # Errors
/// Where a folder or a file cannot be read.
pub fn seeds(target: Target) -> io::Result<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> = target.more_seeds().iter().map(|path| root.join(path)).collect();
    folders.push(folder(target));
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if target.is_seed(&path) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = target.made_seeds();
    for path in paths {
        let mut bytes = std::fs::read(&path)?;
        bytes.truncate(crate::mutate::BYTES_MAX);
        seeds.push(bytes);
    }
    Ok(seeds)
}

/// Writes an input under the name of its content.
///
/// # Errors
/// Where it cannot be written.
pub fn keep(folder: &Path, input: &[u8]) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{:016x}", sum(input)));
    std::fs::write(&path, input)?;
    Ok(path)
}

/// FNV-1a: a name for an input that is the same on every machine.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
