//! A walk over a store, written as text. Nothing is written behind the first thing that does not fit: a half-sound export would pass for whole.

use std::io::Write;

use sha2::Digest as _;

use super::{EXPORT_FORMAT, ExportError, Line, PART_BYTES_MAX, split};
use crate::Digest;
use crate::walk::{Seen, Walk};

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Logs.
    pub logs: u64,
    /// Records in them.
    pub records: u64,
    /// Kept values.
    pub values: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// SHA-256 of all lines but the last, which names it.
    pub digest: Digest,
}

struct Out<'a> {
    to: &'a mut dyn Write,
    hasher: sha2::Sha256,
    bytes: u64,
}

impl Out<'_> {
    fn line(&mut self, line: &Line) -> Result<(), ExportError> {
        // Text and numbers always have a JSON form.
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        self.hasher.update(&text);
        self.bytes += text.len() as u64;
        self.to.write_all(&text).map_err(|source| ExportError::Io { action: "written", source })
    }
}

/// Writes what the walk comes by. The caller syncs what it wrote to.
///
/// # Errors
/// [`ExportError::Unsound`] names the first thing that does not fit; what was written until then has no end and is refused by readers.
pub async fn write(mut walk: Walk<'_>, to: &mut (dyn Write + Send)) -> Result<Written, ExportError> {
    let mut out = Out { to, hasher: sha2::Sha256::new(), bytes: 0 };
    let (mut logs, mut records, mut values) = (0, 0, 0);
    out.line(&Line::Export { format: EXPORT_FORMAT })?;
    while let Some(seen) = walk.next().await? {
        match seen {
            Seen::Log(head) => {
                logs += 1;
                out.line(&Line::Log { name: head.log.to_string(), first: head.first.0, next: head.next.0, chain: head.chain.to_string() })?;
            }
            Seen::Record { at, chain, record, .. } => {
                records += 1;
                let (text, bytes) = split(&record.0);
                out.line(&Line::Record { at: at.0, chain: chain.to_string(), text, bytes })?;
            }
            Seen::Carry { at, chain, record, .. } => {
                records += 1;
                let (text, bytes) = split(&record.0);
                out.line(&Line::Carry { at: at.0, chain: chain.to_string(), text, bytes })?;
            }
            Seen::Value { digest, bytes } => {
                values += 1;
                out.line(&Line::Value { digest: digest.to_string(), length: bytes.len() as u64 })?;
                for part in bytes.chunks(PART_BYTES_MAX) {
                    let (text, bytes) = split(part);
                    out.line(&Line::Part { text, bytes })?;
                }
            }
            Seen::Problem(problem) => return Err(ExportError::Unsound(problem)),
        }
    }
    let digest = Digest(out.hasher.clone().finalize().into());
    out.line(&Line::End { logs, records, values, digest: digest.to_string() })?;
    Ok(Written { logs, records, values, bytes: out.bytes, digest })
}
