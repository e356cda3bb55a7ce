//! Checkpoints: signed statements of how far a log had come and with which hash chain, kept where whoever owns the store cannot rewrite
//! them. What they say is here; keys are in `key`, where they go in `sink`, who makes them in `witness`; `audit` holds a store against them.

pub mod key;
pub mod sink;
mod state;
mod witness;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::RunId;
use key::{PublicKey, SigningKey};
use lifeboat_store::{Commit, Digest, LogId, Record, Seq, Store, StoreError};
use std::num::NonZeroU32;

pub use state::Timing;
pub use witness::{KeySource, Tell, Witness};

/// The version of a checkpoint's line.
pub const CHECKPOINT_FORMAT: u32 = 1;

/// A log had so many entries, and this chain after the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which store, by the id that it carries in itself.
    pub store: String,
    /// Which log.
    pub log: LogId,
    /// Its next free place.
    pub next: Seq,
    /// The chain after the entry before that.
    pub chain: Digest,
    /// When it was signed, by the clock of whoever signed.
    pub at: Timestamp,
}

/// A checkpoint with its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What is said.
    pub checkpoint: Checkpoint,
    /// Which key signed it: see [`PublicKey::id`].
    pub key: String,
    /// Ed25519 over [`Checkpoint::text`].
    signature: Vec<u8>,
}

/// A line of a checkpoint file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    lifeboat_checkpoint: u32,
    store: String,
    log: String,
    next: u64,
    chain: String,
    at: Timestamp,
    key: String,
    signature: String,
}

impl Checkpoint {
    /// The bytes that are signed. Each value stands on a line of its own, and none can hold a line end.
    fn text(&self, key: &str) -> String {
        let Self { store, log, next, chain, at } = self;
        format!("lifeboat checkpoint {CHECKPOINT_FORMAT}\nstore {store}\nlog {log}\nnext {}\nchain {chain}\nat {at}\nkey {key}\n", next.0)
    }

    /// Signs it.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> Signed {
        let id = key.public().id();
        let signature = key.sign(self.text(&id).as_bytes());
        Signed { checkpoint: self, key: id, signature }
    }
}

impl Signed {
    /// One line of JSON, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let Checkpoint { store, log, next, chain, at } = &self.checkpoint;
        let line = Line {
            lifeboat_checkpoint: CHECKPOINT_FORMAT,
            store: store.clone(),
            log: log.to_string(),
            next: next.0,
            chain: chain.to_string(),
            at: *at,
            key: self.key.clone(),
            signature: data_encoding::BASE64.encode(&self.signature),
        };
        // Text and numbers always have a JSON form.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Reads a line. The signature is not checked here.
    ///
    /// # Errors
    /// What does not fit, as a fragment of a sentence.
    pub fn from_line(line: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| format!("is no checkpoint: {error}"))?;
        if line.lifeboat_checkpoint != CHECKPOINT_FORMAT {
            return Err(format!("has format {}; this program reads {CHECKPOINT_FORMAT}", line.lifeboat_checkpoint));
        }
        if line.store.chars().chain(line.key.chars()).any(char::is_control) {
            return Err("has a name with control characters".into());
        }
        let checkpoint = Checkpoint {
            log: LogId::new(&line.log).map_err(|error| error.to_string())?,
            store: line.store,
            next: Seq(line.next),
            chain: Digest::parse(&line.chain).ok_or("has no chain")?,
            at: line.at,
        };
        let signature = data_encoding::BASE64.decode(line.signature.as_bytes()).map_err(|_| "has no signature".to_owned())?;
        Ok(Self { checkpoint, key: line.key, signature })
    }

    /// Whether this key signed it.
    ///
    /// # Errors
    /// Why it proves nothing, as a fragment of a sentence.
    pub fn verify(&self, key: &PublicKey) -> Result<(), String> {
        if self.key != key.id() {
            return Err(format!("was signed with the key {}, not with {}", self.key, key.id()));
        }
        if key.verifies(self.checkpoint.text(&self.key).as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err("does not have the signature of its key: it was changed or forged".into())
        }
    }
}

/// The log that holds the store's own id, from its first checkpoint on. It travels with exports, so that their checkpoints still count.
///
/// # Errors
/// Never.
pub fn store_log() -> Result<LogId, StoreError> {
    LogId::new("store")
}

/// What the log of the store's id holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRecord {
    /// Made once, by chance.
    pub id: String,
}

/// The id that the store carries, or gets now: `fresh` is taken where it has none.
///
/// # Errors
/// Where the store fails or its id cannot be read.
pub async fn store_id(store: &dyn Store, fresh: &str) -> Result<String, StoreError> {
    let log = store_log()?;
    loop {
        if let Some(id) = known_store_id(store).await? {
            return Ok(id);
        }
        let record = Record(serde_json::to_vec(&StoreRecord { id: fresh.to_owned() }).unwrap_or_default());
        match store.commit(Commit { expect: vec![(log.clone(), Seq(0))], append: vec![(log.clone(), vec![record])] }).await {
            // Another process was first: its id counts.
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The id that the store carries, if it has one.
///
/// # Errors
/// Where the store fails or its id cannot be read.
pub async fn known_store_id(store: &dyn Store) -> Result<Option<String>, StoreError> {
    let page = store.read(&store_log()?, Seq(0), NonZeroU32::MIN).await?;
    let Some((_, record)) = page.records.first() else { return Ok(None) };
    let record: StoreRecord = serde_json::from_slice(&record.0)
        .map_err(|error| StoreError::Damaged { folder: "log store".into(), what: format!("the store's id cannot be read: {error}") })?;
    Ok(Some(record.id))
}

/// Whether a log is one whose entries are worth proving: what happened in runs, what became of them, and who froze what.
#[must_use]
pub fn is_witnessed(log: &LogId) -> bool {
    log.as_str().starts_with("run/") || matches!(log.as_str(), "archive" | "freeze")
}

/// The run of a journal's log.
#[must_use]
pub fn run_of(log: &LogId) -> Option<RunId> {
    log.as_str().strip_prefix("run/").and_then(|name| RunId::new(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            store: "0192".into(),
            log: LogId::new("run/a").unwrap(),
            next: Seq(100),
            chain: Digest::of(b"x"),
            at: "2026-03-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_from_its_line_and_is_believed_only_from_its_key() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let signed = checkpoint().sign(&key);
        let read = Signed::from_line(&signed.to_line()).unwrap();
        assert_eq!(read, signed);
        read.verify(&key.public()).unwrap();
        assert!(read.verify(&other.public()).unwrap_err().contains("was signed with the key"));
        let forged = Signed { key: other.public().id(), ..read };
        assert!(forged.verify(&other.public()).unwrap_err().contains("forged"));
    }

    #[test]
    fn no_byte_of_a_checkpoint_can_be_changed() {
        let key = SigningKey::generate().unwrap();
        let line = checkpoint().sign(&key).to_line();
        for place in 0..line.len() {
            let mut bad = line.clone().into_bytes();
            bad[place] ^= 1;
            let Ok(bad) = String::from_utf8(bad) else { continue };
            let believed = Signed::from_line(&bad).is_ok_and(|signed| signed.verify(&key.public()).is_ok());
            assert!(!believed, "byte {place}: {bad}");
        }
    }

    #[test]
    fn a_checkpoint_of_format_1_is_believed_for_ever_and_made_the_same() {
        let public = PublicKey::from_pem(include_str!("../../tests/samples/checkpoint-1.pub")).unwrap();
        let line = include_str!("../../tests/samples/checkpoint-1.jsonl").trim_end();
        let signed = Signed::from_line(line).unwrap();
        signed.verify(&public).unwrap();
        let key = SigningKey::from_pem(&Secret::new(key::PAIR.0.into())).unwrap();
        assert_eq!(checkpoint().sign(&key).to_line(), line);
    }
}
