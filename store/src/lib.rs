//! Ordered records in append-only logs, committed together or not at all, and leases on logs.
//!
//! This crate knows no step and no run: a record is bytes. What a log means is decided in `lifeboat-engine`.

mod chain;
#[cfg(any(test, feature = "test-support"))]
pub mod contract;
#[cfg(feature = "etcd")]
mod etcd;
pub mod export;
#[cfg(any(test, feature = "test-support"))]
mod faulty;
mod leases;
mod memory;
mod mutants;
mod sled;
mod walk;
mod watchers;

pub use chain::{chain_after, chain_start};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdOptions, EtcdStore, EtcdTls, MemberSeen, StaleReads};
#[cfg(any(test, feature = "test-support"))]
pub use faulty::{Fault, FaultyStore};
pub use leases::{BootClock, LeaseClock, ManualClock};
pub use memory::MemoryStore;
pub use sled::{FolderLock, Salvaged, SledOptions, SledStore, Verified};
pub use walk::{Problem, Seen, Walk};

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

/// The name of a log: `run/<id>`, `lock/<resource>`, `freeze`, ... Lower-case letters, digits and `-_./:`, 1 to 200 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(Arc<str>);

/// Longest name of a log, in bytes.
pub const LOG_ID_BYTES_MAX: usize = 200;

impl std::borrow::Borrow<str> for LogId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl LogId {
    /// Checks the name.
    ///
    /// # Errors
    /// [`StoreError::BadLogId`] where the name is empty, too long or has another character.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        let fits = !name.is_empty()
            && name.len() <= LOG_ID_BYTES_MAX
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_./:".contains(&b));
        if fits { Ok(Self(name.into())) } else { Err(StoreError::BadLogId { name: name.chars().take(LOG_ID_BYTES_MAX).collect() }) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({})", self.0)
    }
}

/// A place in a log, counted from 0. The next free place is the log's fence: who expects another one has been overtaken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The bytes of one record, at most [`RECORD_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub Vec<u8>);

/// Largest record. Larger values are kept with [`Store::keep`] and named by their digest.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// Largest value of [`Store::keep`].
pub const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest commit: all its records together. It bounds what one caller can make the others wait for.
pub const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most logs that one commit may name.
pub const COMMIT_LOGS_MAX: usize = 1024;

/// Most bytes of records on one page; a page ends early rather than pass it. Any single record fits.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// SHA-256 of a kept value, or of a chain of records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        let mut out = [0u8; 32];
        for (place, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(place * 2..place * 2 + 2)?, 16).ok()?;
        }
        Some(Self(out))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// What becomes true at once, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Each named log's next free place must be this one. A log that is only expected, not appended to, is compared too.
    pub expect: Vec<(LogId, Seq)>,
    /// Records added to the end of each log, in this order.
    pub append: Vec<(LogId, Vec<Record>)>,
}

impl Commit {
    /// Checks the limits that hold for every store.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] names the first limit that is passed.
    pub fn check_limits(&self) -> Result<(), StoreError> {
        let logs = self.expect.len().max(self.append.len());
        if logs > COMMIT_LOGS_MAX {
            return Err(StoreError::TooLarge { what: "the list of logs of a commit", bytes: logs, limit_bytes: COMMIT_LOGS_MAX });
        }
        let mut bytes = 0;
        for record in self.append.iter().flat_map(|(_, records)| records) {
            Self::check_record(record)?;
            // A record of no bytes still costs a key and a frame.
            bytes += record.0.len() + 64;
        }
        if bytes > COMMIT_BYTES_MAX {
            return Err(StoreError::TooLarge { what: "a commit", bytes, limit_bytes: COMMIT_BYTES_MAX });
        }
        Ok(())
    }

    /// Checks one record against [`RECORD_BYTES_MAX`].
    pub(crate) fn check_record(record: &Record) -> Result<(), StoreError> {
        if record.0.len() > RECORD_BYTES_MAX && !mutants::is(mutants::Mutant::LimitUnchecked) {
            return Err(StoreError::TooLarge { what: "a record", bytes: record.0.len(), limit_bytes: RECORD_BYTES_MAX });
        }
        Ok(())
    }
}

/// A part of a log, in order and without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Place and bytes.
    pub records: Vec<(Seq, Record)>,
    /// The log's next free place when this page was read.
    pub next: Seq,
    /// Hash of the chain after the last record of this page.
    pub chain: Digest,
}

/// A log and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Which log.
    pub log: LogId,
    /// First place still kept (0 unless truncated).
    pub first: Seq,
    /// Next free place.
    pub next: Seq,
    /// Hash of the chain after the last record.
    pub chain: Digest,
}

/// Wakes whenever a log under the watched prefix may have changed. Spurious wakes happen; a missed change does not.
#[derive(Debug)]
pub struct Changes {
    receiver: tokio::sync::watch::Receiver<u64>,
}

impl Changes {
    /// Built by a store from its change counter.
    #[must_use]
    pub fn new(receiver: tokio::sync::watch::Receiver<u64>) -> Self {
        Self { receiver }
    }

    /// Waits for the next change. `None` once the store is gone.
    pub async fn next(&mut self) -> Option<()> {
        self.receiver.changed().await.ok()
    }
}

/// Who holds a lease: new at every process start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(pub String);

/// The right to act for a log until it ends. Timed by the store with a clock that goes on during suspend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The log.
    pub log: LogId,
    /// The holder.
    pub owner: OwnerId,
    /// How long from the moment of granting or renewing.
    pub ttl: Duration,
    /// Distinguishes this grant from others of the same owner.
    pub token: u64,
}

/// Who else may write to a store while this process has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody: opening it proves that the process before is dead, and nobody waits for leases.
    Sole,
    /// Others, perhaps on other machines. Whoever acts for a log holds its lease.
    Shared {
        /// How long a lease lasts from the moment it is asked for.
        lease: Duration,
    },
}

/// What became of a kept value that was to be thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is gone, or was not there.
    Gone,
    /// It stays: somebody kept it just now and may be about to name it.
    KeptJustNow,
}

/// How much the place that holds a store can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes in use, by whatever.
    pub used_bytes: u64,
    /// Bytes in use and free together.
    pub total_bytes: u64,
}

impl Room {
    /// How full it is, in percent, rounded down. An unknown size counts as empty.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        self.used_bytes.saturating_mul(100).checked_div(self.total_bytes).unwrap_or(0)
    }
}

/// What can go wrong in a store. After any error of a commit but [`StoreError::Conflict`] the outcome is in doubt: reopen and read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another writer was faster: the log's next free place is not the expected one.
    #[error("log {log} is at {found:?}, expected {expected:?}: another writer was there first")]
    Conflict {
        /// The log that did not match.
        log: LogId,
        /// What the caller expected.
        expected: Seq,
        /// What the store has.
        found: Seq,
    },
    /// These places were compacted away.
    #[error("log {log} begins at {first:?}: earlier records were compacted")]
    Compacted {
        /// The log.
        log: LogId,
        /// The first place that can still be read.
        first: Seq,
    },
    /// Somebody else holds the lease.
    #[error("the lease on {log} is held by {by}")]
    Held {
        /// The log.
        log: LogId,
        /// The holder.
        by: String,
    },
    /// The lease ended or was taken over.
    #[error("the lease on {log} is lost")]
    Lost {
        /// The log.
        log: LogId,
    },
    /// The name of a log is not one.
    #[error("{name:?} is no name for a log: use lower-case letters, digits and -_./: (1 to 200 bytes)")]
    BadLogId {
        /// What was given.
        name: String,
    },
    /// A record or value is larger than this store takes.
    #[error("{what} of {bytes} bytes is over the limit of {limit_bytes} bytes")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// No value of this digest is kept.
    #[error("no kept value has the digest {0}")]
    NoSuchValue(Digest),
    /// The folder belongs to a running process.
    #[error("the data folder {folder} is in use by {owner}")]
    InUse {
        /// The folder.
        folder: String,
        /// Process id, command and start of the owner, as it wrote them.
        owner: String,
    },
    /// The data was written by a newer program.
    #[error("the data folder {folder} has format {found}; this program reads up to {known}")]
    NewerFormat {
        /// The folder.
        folder: String,
        /// What is there.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// No room on the disk. Nothing acknowledged is lost; make room and start again.
    #[error("no space left on the disk that holds {folder}")]
    DiskFull {
        /// The folder.
        folder: String,
    },
    /// No answer in time to a change: whether it happened is not known. Read the log again before anything is repeated.
    #[error("{place} gave no answer within {within:?}, so it is not known whether the change happened ({why})")]
    InDoubt {
        /// Which cluster.
        place: String,
        /// How long it was waited for.
        within: Duration,
        /// The last that was heard.
        why: String,
    },
    /// No answer in time, or none that helps. Nothing was changed by this call.
    #[error("{place} cannot be used: {why}")]
    Unreachable {
        /// Which cluster.
        place: String,
        /// The last that was heard.
        why: String,
    },
    /// A server of a version that may answer with what was true before.
    #[error("member {member} runs etcd {version}: {why}")]
    UnfitServer {
        /// Which member.
        member: String,
        /// What it says it is.
        version: String,
        /// What is wrong with that version.
        why: &'static str,
    },
    /// What is on disk is not what was written.
    #[error("the store in {folder} is damaged: {what}")]
    Damaged {
        /// The folder.
        folder: String,
        /// What does not fit, and where.
        what: String,
    },
    /// An earlier error left the outcome of a write unknown; this handle acknowledges nothing any more.
    #[error("the store stopped after an earlier error ({0}); open it again to go on")]
    Poisoned(String),
    /// This kind of store has no such thing.
    #[error("this kind of store cannot {what}")]
    Unsupported {
        /// What was asked of it.
        what: &'static str,
    },
    /// Reading or writing failed.
    #[error("{action} failed")]
    Io {
        /// What was being done, with the path.
        action: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// Append-only logs. One contract suite (`contract.rs`) runs against every implementation.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Who else may write to it. A store around another one passes this on.
    fn sharing(&self) -> Sharing;

    /// All or nothing. `Ok` means that it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] names the first log whose next place differs, and nothing was written. After any other error
    /// the outcome is unknown.
    async fn commit(&self, commit: Commit) -> Result<(), StoreError>;

    /// Records from `from` on, at most `limit` and at most [`PAGE_BYTES_MAX`] bytes. A log that does not exist is empty.
    /// The page is the last one where it ends at [`Page::next`].
    ///
    /// # Errors
    /// [`StoreError::Compacted`] where `from` was truncated away; [`StoreError::Damaged`] where the chain does not fit.
    async fn read(&self, log: &LogId, from: Seq, limit: NonZeroU32) -> Result<Page, StoreError>;

    /// Logs whose name begins with `prefix`, in order of name, after `after`.
    ///
    /// # Errors
    /// As [`Store::read`].
    async fn logs(&self, prefix: &str, after: Option<&LogId>, limit: NonZeroU32) -> Result<Vec<LogHead>, StoreError>;

    /// Wakes on changes to logs whose name begins with `prefix`.
    ///
    /// # Errors
    /// Where the store cannot watch any more.
    async fn watch(&self, prefix: &str) -> Result<Changes, StoreError>;

    /// Forgets the records before `before`, and the chain goes on unbroken. `carry` stands for them: it takes the place
    /// `before - 1`, which is the log's first place from then on. Nothing happens where `before` is 0.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the log ends before `before`; [`StoreError::Compacted`] where that place is gone
    /// already; else as [`Store::commit`].
    async fn truncate(&self, log: &LogId, before: Seq, carry: Record) -> Result<(), StoreError>;

    /// Removes a log whole; one that does not exist is no error. Its name may be used again, from place 0.
    ///
    /// # Errors
    /// As [`Store::commit`].
    async fn remove(&self, log: &LogId) -> Result<(), StoreError>;

    /// Keeps a large value, durable when this returns, and gives the digest to name it by. Keeping it again costs nothing.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] above [`KEPT_BYTES_MAX`]; else as [`Store::commit`].
    async fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError>;

    /// A value kept earlier, checked against its digest.
    ///
    /// # Errors
    /// [`StoreError::NoSuchValue`]; [`StoreError::Damaged`] where the bytes do not have this digest.
    async fn kept(&self, digest: &Digest) -> Result<Vec<u8>, StoreError>;

    /// Digests of kept values behind `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// As [`Store::read`]; [`StoreError::Unsupported`] where this kind of store cannot list them.
    async fn kept_values(&self, after: Option<&Digest>, limit: NonZeroU32) -> Result<Vec<Digest>, StoreError> {
        let _ = (after, limit);
        Err(StoreError::Unsupported { what: "list its kept values" })
    }

    /// Throws a kept value away, unless it was kept within the last `grace`: whoever keeps a value names it a moment later. The caller
    /// knows that nothing names it.
    ///
    /// # Errors
    /// As [`Store::keep`]; [`StoreError::Unsupported`] where this kind of store cannot throw values away.
    async fn forget(&self, digest: &Digest, grace: Duration) -> Result<Forgotten, StoreError> {
        let _ = (digest, grace);
        Err(StoreError::Unsupported { what: "throw kept values away" })
    }

    /// Begins a log that was truncated in another store: `carry` takes the place `first`, and `chain` is the hash after it. What
    /// follows is appended by [`Store::commit`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the log exists; [`StoreError::Unsupported`] where this kind of store cannot do it; else as
    /// [`Store::commit`].
    async fn restore(&self, log: &LogId, first: Seq, chain: Digest, carry: Record) -> Result<(), StoreError> {
        let _ = (log, first, chain, carry);
        Err(StoreError::Unsupported { what: "take in a truncated log" })
    }

    /// How full the place is that holds the store; `None` where that cannot be told.
    ///
    /// # Errors
    /// Where the place cannot be asked.
    async fn room(&self) -> Result<Option<Room>, StoreError> {
        Ok(None)
    }

    /// What a person should know of this store now, one sentence each: for example that its checkpoints cannot be written.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes the lease on a log. Its owner may take it again; the earlier grant is lost then.
    ///
    /// # Errors
    /// [`StoreError::Held`] while another owner has it.
    async fn lease(&self, log: &LogId, owner: &OwnerId, ttl: Duration) -> Result<Lease, StoreError>;

    /// Makes the lease last its full time again from now.
    ///
    /// # Errors
    /// [`StoreError::Lost`] where it ended or went to another owner.
    async fn renew(&self, lease: &Lease) -> Result<(), StoreError>;

    /// Gives the lease back. A lost lease is no error.
    ///
    /// # Errors
    /// Where the store cannot be reached.
    async fn release(&self, lease: Lease) -> Result<(), StoreError>;
}
