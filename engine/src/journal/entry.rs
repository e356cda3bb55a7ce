//! An entry of a journal and its stored form. What can happen is in `journal`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Event;

/// Version of the stored form of an entry.
pub const ENTRY_FORMAT: u16 = 2;

/// An event with who wrote it and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// [`ENTRY_FORMAT`].
    pub format: u16,
    /// The wall clock of the writer.
    pub at: Timestamp,
    /// The writing process: new at every start.
    pub owner: String,
    /// What happened.
    pub event: Event,
}

/// An entry that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Written by a newer program.
    #[error("entry has format {found}; this program reads up to {ENTRY_FORMAT}")]
    Newer {
        /// Its format.
        found: u64,
    },
    /// Not an entry.
    #[error("entry cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

impl Entry {
    /// The stored form.
    ///
    /// # Errors
    /// Where a value cannot be written as JSON (a map key that is no text: our mistake, but not worth a crash in a disaster).
    pub fn encode(&self) -> Result<Vec<u8>, EntryError> {
        serde_json::to_vec(self).map_err(EntryError::Unreadable)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// A newer format is told apart from damage, so that the message can say which program to use.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let entry: Result<Self, _> = serde_json::from_slice(bytes);
        let format = match &entry {
            Ok(entry) => Some(u64::from(entry.format)),
            Err(_) => serde_json::from_slice::<Value>(bytes).ok().and_then(|value| value.get("format")?.as_u64()),
        };
        match format {
            // Also where it can be read: what it says may mean something else by then.
            Some(found) if found > u64::from(ENTRY_FORMAT) => Err(EntryError::Newer { found }),
            Some(_) | None => entry.map_err(EntryError::Unreadable),
        }
    }
}
