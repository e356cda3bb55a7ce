//! A store, or some of its logs, as one text that any program can read: JSON lines with the hash chain of every log and a digest at the end.
//! How it is written is in `write`, how it is read and checked in `read`, how another store takes it in `import`.
//!
//! | line | meaning |
//! |---|---|
//! | `{"export":{"format":1}}` | the first line |
//! | `{"log":{"name","first","next","chain"}}` | a log begins: its first place kept, its next free place, the chain after its last record |
//! | `{"record":{"at","chain","text"}}` | a record and the chain after it; `bytes` (base64) instead of `text` where it is not UTF-8 |
//! | `{"carry":{"at","chain","text"}}` | the record that stands for those truncated away; only as a log's first |
//! | `{"value":{"digest","length"}}` | a kept value begins: SHA-256 of its bytes and their number |
//! | `{"part":{"text"}}` | the next bytes of that value |
//! | `{"end":{"logs","records","values","digest"}}` | the last line: counts, and SHA-256 of every byte before this line |

mod import;
mod read;
mod write;

use serde::{Deserialize, Serialize};

use crate::walk::Problem;
use crate::{Digest, LogId, StoreError};

pub use import::{Imported, Partly, import};
pub use read::Reader;
pub use write::{Written, write};

/// The version of the text that this program writes. It reads this one.
pub const EXPORT_FORMAT: u32 = 1;

/// Longest line that is read, in bytes: a record of the largest size, every byte of it escaped.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a kept value on one line.
const PART_BYTES_MAX: usize = 512 * 1024;

/// Why an export could not be written, read or taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The text could not be read or written.
    #[error("the export cannot be {action}")]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Something in it does not fit.
    #[error("{}", told(.0))]
    Unsound(Problem),
    /// The other store has a log of this name with other records in it.
    #[error("log {log} is there already, with {found} of {wanted} entries; nothing is overwritten")]
    Exists {
        /// The log.
        log: LogId,
        /// Where the log of the store ends.
        found: u64,
        /// Where the log of the export ends.
        wanted: u64,
    },
    /// The other store has a log of this name, and its records are not those of the export.
    #[error("log {log} is there already and is another one: they differ before entry {at}; nothing is overwritten")]
    Differs {
        /// The log.
        log: LogId,
        /// Where the shorter of the two ends.
        at: u64,
    },
}

fn told(problem: &Problem) -> String {
    let line = problem.line.map_or_else(String::new, |line| format!("line {line}: "));
    let log = problem.log.as_ref().map_or_else(String::new, |log| format!("log {log}: "));
    format!("{line}{log}{}", problem.what)
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Export {
        format: u32,
    },
    Log {
        name: String,
        first: u64,
        next: u64,
        chain: String,
    },
    Record {
        at: u64,
        chain: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
    },
    Carry {
        at: u64,
        chain: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
    },
    Value {
        digest: String,
        length: u64,
    },
    Part {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<String>,
    },
    End {
        logs: u64,
        records: u64,
        values: u64,
        digest: String,
    },
}

/// Bytes as text where they are text.
fn split(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(data_encoding::BASE64.encode(bytes))),
    }
}

fn joined(text: Option<String>, bytes: Option<String>) -> Result<Vec<u8>, String> {
    match (text, bytes) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(bytes)) => data_encoding::BASE64.decode(bytes.as_bytes()).map_err(|error| format!("its bytes are no base64: {error}")),
        (Some(_), Some(_)) | (None, None) => Err("it needs either text or bytes".into()),
    }
}

fn digest(hex: &str) -> Result<Digest, String> {
    Digest::parse(hex).ok_or_else(|| format!("{:?} is no digest", hex.chars().take(80).collect::<String>()))
}
