//! Who owns a data folder: an exclusive lock on `DIR/owner`, and who took it in plain text, for the message to the next one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use crate::StoreError;

use super::folder::io_error;

/// The lock. The system gives it back when the process ends in whatever way, so its absence proves the old owner dead.
#[derive(Debug)]
pub(super) struct Owner {
    _locked: File,
}

/// Longest command line written down, in characters.
const COMMAND_CHARS_MAX: usize = 200;

/// A data folder that belongs to this process although its journals are elsewhere: the control socket lies there. Given back when
/// it is dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    _owner: Owner,
}

impl FolderLock {
    /// Makes the folder where it is missing, and takes it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] names the owner.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(io_error("making", folder))?;
        Ok(Self { _owner: Owner::take(folder)? })
    }
}

impl Owner {
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("owner");
        let failed = io_error("taking ownership", &path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(&failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // The owner wrote its name when it took the lock.
                let since = file.metadata().and_then(|found| found.modified()).ok();
                let mut text = String::new();
                // The lock alone decides; a text that cannot be read only makes the message poorer.
                let _ = file.take(4096).read_to_string(&mut text);
                return Err(StoreError::InUse { folder: folder.display().to_string(), owner: described(&text, since) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(&failed)?;
        // On a full disk the folder must still open, and the text is only for people.
        let _ = file.write_all(myself().as_bytes());
        Ok(Self { _locked: file })
    }
}

fn myself() -> String {
    let pid = std::process::id();
    let started = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| start_ticks(&stat)).unwrap_or(0);
    let command: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let command: String = command.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(COMMAND_CHARS_MAX).collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("pid {pid}\nstarted {started} ticks after boot\ncommand {command}\nhost {}\n", host.trim())
}

/// When the process started, from `/proc/PID/stat`: the 22nd field, counted after the name, which may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn described(text: &str, since: Option<SystemTime>) -> String {
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    if text.is_empty() {
        return "a process that has not written its name yet".into();
    }
    let since = since.and_then(|since| jiff::Timestamp::try_from(since).ok()?.round(jiff::Unit::Second).ok());
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    format!("pid {} ({}) on {}{since}", line("pid "), line("command "), line("host "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_with_the_first_ones_pid_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Owner::take(folder.path()).unwrap();
        let refusal = Owner::take(folder.path()).unwrap_err();
        assert!(matches!(refusal, StoreError::InUse { .. }));
        let text = refusal.to_string();
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        drop(first);
        Owner::take(folder.path()).unwrap();
    }

    #[test]
    fn the_start_of_a_process_is_read_even_when_its_name_has_brackets_and_spaces() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(stat), Some(4242));
    }
}
