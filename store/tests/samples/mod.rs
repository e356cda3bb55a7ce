//! The saved folders, laid out as they were.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where the saved folders are.
fn saved(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A saved folder as it was. The zeros at the end of files are not in the repository; `lengths`, where there is one, says how many there were.
pub(crate) fn restored(name: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for folder in ["", "front", "store", "segments", "index", "kept"].into_iter().filter(|folder| saved(name).join(folder).exists()) {
        fs::create_dir_all(place.path().join(folder)).unwrap();
        for entry in fs::read_dir(saved(name).join(folder)).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), place.path().join(folder).join(entry.file_name())).unwrap();
        }
    }
    for line in fs::read_to_string(saved(name).join("lengths")).unwrap_or_default().lines() {
        let (name, length) = line.rsplit_once(' ').unwrap();
        fs::OpenOptions::new().write(true).open(place.path().join(name)).unwrap().set_len(length.parse().unwrap()).unwrap();
    }
    place
}
