//! What the files and processes of a server on this machine prove when it cannot be asked. Reads only; nothing is signalled here.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::clock::Clock;

use super::program;
use crate::resources::database::Local;

/// Longest wait for `pg_controldata`.
const CONTROL_WITHIN: Duration = Duration::from_secs(5);

/// Whether a server works in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Processes {
    /// No process works in it.
    None,
    /// These do, the one that `postmaster.pid` names first if it is among them.
    Some(Vec<u32>),
    /// It cannot be told.
    Unknown(String),
}

/// Which processes work in the data directory. Every process of a PostgreSQL server has it as its working directory.
#[must_use]
pub fn processes(local: &Local) -> Processes {
    let unknown = |what: &Path, error: std::io::Error| Processes::Unknown(format!("{} cannot be read: {error}", what.display()));
    let (data, owner) = match fs::canonicalize(&local.data_dir).and_then(|data| fs::metadata(&data).map(|meta| (data, meta.uid()))) {
        Ok(found) => found,
        Err(error) => return unknown(&local.data_dir, error),
    };
    let named = postmaster_pid(local);
    let mut found = Vec::new();
    let folder = Path::new("/proc");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return unknown(folder, error),
    };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Only the owner of the data directory can run a server in it.
        if !entry.metadata().is_ok_and(|meta| meta.uid() == owner) {
            continue;
        }
        let link = entry.path().join("cwd");
        match fs::read_link(&link) {
            Ok(cwd) if cwd == data && runs(pid) => found.push(pid),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // A dead process that nobody has reaped has no working directory any more.
            Err(_) if !runs(pid) => {}
            Err(error) => return unknown(&link, error),
        }
    }
    found.sort_unstable_by_key(|pid| (Some(*pid) != named, *pid));
    if found.is_empty() { Processes::None } else { Processes::Some(found) }
}

/// The pid that `postmaster.pid` names, whether or not it still runs.
#[must_use]
pub fn postmaster_pid(local: &Local) -> Option<u32> {
    fs::read_to_string(local.data_dir.join("postmaster.pid")).ok()?.lines().next()?.trim().parse().ok()
}

/// Whether a process is more than a zombie.
fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in brackets may hold anything, so the state is what follows the last bracket.
    !matches!(stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()), Some("Z" | "X") | None)
}

/// When anything was last written to the server's log: no commit can have been acknowledged later, once no process is left, but for
/// those that ask not to wait for the disk (`synchronous_commit = off`).
///
/// # Errors
/// What cannot be read.
pub fn wal_last_written(local: &Local) -> Result<Timestamp, String> {
    let folder = local.data_dir.join("pg_wal");
    let trouble = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", folder.display());
    let mut last: Option<Timestamp> = None;
    for entry in fs::read_dir(&folder).map_err(|e| trouble(&e))? {
        let entry = entry.map_err(|e| trouble(&e))?;
        let name = entry.file_name();
        let is_segment = name.to_str().is_some_and(|name| name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_segment {
            let meta = entry.metadata().map_err(|e| trouble(&e))?;
            let at = Timestamp::new(meta.mtime(), i32::try_from(meta.mtime_nsec()).unwrap_or(0)).map_err(|e| trouble(&e))?;
            last = last.max(Some(at));
        }
    }
    last.ok_or_else(|| trouble(&"there is no WAL segment in it"))
}

/// Whether the server will come back as a standby if somebody starts it.
#[must_use]
pub fn comes_back_as_standby(local: &Local) -> bool {
    local.data_dir.join("standby.signal").exists()
}

/// User and group of the data directory: who must run its programs.
///
/// # Errors
/// What cannot be read.
pub fn owner(local: &Local) -> Result<(u32, u32), String> {
    let meta = fs::metadata(&local.data_dir).map_err(|error| format!("{} cannot be read: {error}", local.data_dir.display()))?;
    Ok((meta.uid(), meta.gid()))
}

/// A program of the server's.
#[must_use]
pub fn program(local: &Local, name: &str) -> PathBuf {
    local.bin_dir.join(name)
}

/// What `pg_controldata` says of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The cluster.
    pub system_identifier: String,
    /// `in production`, `shut down`, `in archive recovery`, ...
    pub state: String,
    /// The timeline of the last checkpoint.
    pub timeline: u32,
}

/// Reads the control file through `pg_controldata`, which knows its version.
///
/// # Errors
/// What did not work.
pub async fn control(clock: &dyn Clock, local: &Local) -> Result<Control, String> {
    let ran = program::of_server(clock, local, "pg_controldata", &[], CONTROL_WITHIN).await?;
    if !ran.succeeded() {
        return Err(format!("pg_controldata of {} failed: {}", local.data_dir.display(), ran.told()));
    }
    let value = |name: &str| {
        let found = ran.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        found.ok_or_else(|| format!("pg_controldata of {} does not tell the {name}", local.data_dir.display()))
    };
    Ok(Control {
        system_identifier: value("Database system identifier")?.to_owned(),
        state: value("Database cluster state")?.to_owned(),
        timeline: value("Latest checkpoint's TimeLineID")?.parse().map_err(|_| "pg_controldata tells no timeline".to_owned())?,
    })
}

/// Sessions that last: those seen twice, a while apart. A client that is being turned away has a process for an instant, too.
///
/// # Errors
/// That the processes cannot be seen.
pub async fn lasting_sessions(clock: &dyn Clock, local: &Local) -> Result<Vec<u32>, String> {
    let look = || match processes(local) {
        Processes::None => Ok(Vec::new()),
        Processes::Some(pids) => Ok(session_processes(&pids)),
        Processes::Unknown(why) => Err(why),
    };
    let first = look()?;
    if first.is_empty() {
        return Ok(first);
    }
    clock.sleep(TURNED_AWAY_WITHIN).await;
    let second = look()?;
    Ok(first.into_iter().filter(|pid| second.contains(pid)).collect())
}

/// How long the process of a client that is turned away may live.
const TURNED_AWAY_WITHIN: Duration = Duration::from_millis(300);

/// Sessions of clients and replicas among a server's processes, told by their titles: `postgres: app orders 127.0.0.1(40022) idle`.
#[must_use]
fn session_processes(pids: &[u32]) -> Vec<u32> {
    let is_session = |pid: &u32| {
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let title = String::from_utf8_lossy(&title);
        let from_afar = title
            .split_whitespace()
            .any(|word| word.strip_suffix(')').and_then(|word| word.rsplit_once('(')).is_some_and(|(_, port)| port.parse::<u16>().is_ok()));
        title.starts_with("postgres: ") && (from_afar || title.contains("[local]"))
    };
    pids.iter().copied().filter(is_session).collect()
}
