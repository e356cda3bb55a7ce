//! What signed checkpoints say, read from a file, by log and place. Only what the given key signed is a claim.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};

use jiff::Timestamp;

use super::Finding;
use crate::checkpoint::key::PublicKey;
use crate::checkpoint::{Checkpoint, Signed};
use lifeboat_store::{Digest, LogId, Seq};

/// Longest line of a checkpoint file, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// A checkpoint file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    /// Reading failed.
    #[error("the checkpoints cannot be read")]
    Io(#[from] std::io::Error),
    /// It is no such file.
    #[error("line {line} has more than {LINE_BYTES_MAX} bytes; this is no file of checkpoints")]
    Long {
        /// The line, from 1.
        line: u64,
    },
}

/// A line of a checkpoint file that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Void {
    /// Its number, from 1.
    pub line: u64,
    /// How it came about, as far as that can be told.
    pub cause: Cause,
    /// Why it proves nothing, as a fragment of a sentence.
    pub why: String,
}

/// How a line that proves nothing came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It names another key: keys are changed now and then.
    OtherKey,
    /// It breaks off: a crash can leave half a line.
    Torn,
    /// Nobody who keeps to the rules writes such a line: it was changed or forged.
    Tampered,
}

/// The claims of a checkpoint file.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    by_log: BTreeMap<LogId, BTreeMap<Seq, Vec<Checkpoint>>>,
    /// Lines that prove nothing.
    pub void: Vec<Void>,
}

impl Claims {
    /// Reads a file. Lines that this key did not sign count for nothing and are told.
    ///
    /// # Errors
    /// Where reading itself fails.
    pub fn read(mut input: impl BufRead, key: &PublicKey) -> Result<Self, ClaimsError> {
        let mut claims = Self::default();
        for line in 1.. {
            let mut bytes = Vec::new();
            if (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            if bytes.len() as u64 > LINE_BYTES_MAX {
                return Err(ClaimsError::Long { line });
            }
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end();
            if text.is_empty() {
                continue;
            }
            match read_line(text, key) {
                Ok(checkpoint) => claims.add(checkpoint),
                Err((cause, why)) => claims.void.push(Void { line, cause, why }),
            }
        }
        Ok(claims)
    }

    fn add(&mut self, checkpoint: Checkpoint) {
        let places = self.by_log.entry(checkpoint.log.clone()).or_default();
        let at = places.entry(checkpoint.next).or_default();
        // Said again, it says no more.
        if at.iter().all(|other| (&other.store, other.chain) != (&checkpoint.store, checkpoint.chain)) {
            at.push(checkpoint);
        }
    }

    /// Lines that somebody changed or forged: whoever had the file in hand may have taken others out.
    pub(super) fn tampered(&self) -> Vec<Finding> {
        let tampered = self.void.iter().filter(|void| void.cause == Cause::Tampered);
        tampered
            .map(|Void { line, why, .. }| Finding { log: None, entry: None, what: format!("line {line} of the checkpoints {why}") })
            .collect()
    }

    /// When the first of them was signed.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.all().map(|checkpoint| checkpoint.at).min()
    }

    fn all(&self) -> impl Iterator<Item = &Checkpoint> {
        self.by_log.values().flat_map(BTreeMap::values).flatten()
    }

    /// Ids of the stores that they are about.
    pub(super) fn stores(&self) -> Vec<String> {
        self.all().map(|checkpoint| checkpoint.store.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Drops those of other stores, and tells how many there were.
    pub(super) fn keep_only(&mut self, store: &str) -> u64 {
        let before = self.len();
        for places in self.by_log.values_mut() {
            places.values_mut().for_each(|at| at.retain(|checkpoint| checkpoint.store == store));
            places.retain(|_, at| !at.is_empty());
        }
        self.by_log.retain(|_, places| !places.is_empty());
        before - self.len()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.all().count() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_log.is_empty()
    }

    pub(super) fn is_about(&self, log: &LogId, next: Seq) -> bool {
        self.by_log.get(log).is_some_and(|places| places.contains_key(&next))
    }

    /// The claims about a log, in order of place.
    pub(super) fn of(&self, log: &LogId) -> impl Iterator<Item = (Seq, Digest, Timestamp)> {
        let claims = self.by_log.get(log).into_iter().flat_map(BTreeMap::values).flatten();
        claims.map(|claim| (claim.next, claim.chain, claim.at))
    }

    /// Two claims about one place that cannot both be true of one history.
    pub(super) fn contradictions(&self) -> Vec<Finding> {
        let twice = self.by_log.iter().flat_map(|(log, places)| places.iter().map(move |(next, at)| (log, next, at)));
        let mut findings = Vec::new();
        for (log, next, at) in twice {
            let [first, rest @ ..] = at.as_slice() else { continue };
            if let Some(other) = rest.iter().find(|other| other.store == first.store && other.chain != first.chain) {
                findings.push(Finding {
                    log: Some(log.to_string()),
                    entry: next.0.checked_sub(1),
                    what: format!(
                        "two histories of {} entries were signed for, at {} and at {}: an older copy was put in place and written on",
                        next.0, first.at, other.at
                    ),
                });
            }
        }
        findings
    }

    pub(super) fn done_with(&mut self, log: &LogId) {
        self.by_log.remove(log);
    }

    /// Logs that nothing was heard of, with the most that was signed for each.
    pub(super) fn left(&self) -> impl Iterator<Item = (&LogId, u64, Timestamp)> {
        self.by_log.iter().filter_map(|(log, places)| {
            let (next, at) = places.last_key_value()?;
            Some((log, next.0, at.first()?.at))
        })
    }
}

fn read_line(text: &str, key: &PublicKey) -> Result<Checkpoint, (Cause, String)> {
    let signed = Signed::from_line(text).map_err(|why| {
        let breaks_off = serde_json::from_str::<serde::de::IgnoredAny>(text).is_err_and(|error| error.is_eof());
        (if breaks_off { Cause::Torn } else { Cause::Tampered }, why)
    })?;
    let cause = if signed.key == key.id() { Cause::Tampered } else { Cause::OtherKey };
    signed.verify(key).map_err(|why| (cause, why))?;
    Ok(signed.checkpoint)
}
