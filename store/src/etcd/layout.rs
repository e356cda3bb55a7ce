//! How keys and values look in etcd. Pure: bytes in, bytes out; nothing here speaks to a server.
//!
//! All keys begin with the store's prefix (`/lifeboat/` unless configured otherwise).
//!
//! | key | value |
//! |---|---|
//! | `f` | the number of this format, as text |
//! | `h/` log | first `u64`, next `u64`, chain (32), crc32 |
//! | `r/` log, a zero byte, the last place in the batch as 16 hexadecimal digits | a batch |
//! | `k/` digest | length `u64`, number of chunks `u32`, crc32: a kept value, whole |
//! | `k/` digest `/` chunk as 8 hexadecimal digits | up to [`CHUNK_BYTES_MAX`] bytes of it |
//! | `l/` log | who has the lease, a line feed, and the grant's token; attached to an etcd lease |
//! | `s/` a handle | nothing: its revision guards the transactions of that handle |
//! | `n` | nothing: written so that a transaction which only looks is ordered like one that writes |
//!
//! A batch is what one commit added to one log: kind `u8`, the commit's id (16), chain before (32), chain after (32), number of
//! records `u32`, each record as length `u32` and bytes, crc32. Batches are named by their last place, because etcd finds the first
//! key at or above a place at once, and one below it only by reading all. Checksums cover key and value; numbers are little-endian.

use crate::chain::chain_after;
use crate::{Digest, LogId, Record, Seq};

/// The format that this program writes.
pub(super) const FORMAT: u32 = 1;

/// Largest chunk of a kept value: a third of what etcd takes in one request.
pub(super) const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// Names one commit, so that reading its batch proves that it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitId(pub(super) [u8; 16]);

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: Seq,
    pub(super) next: Seq,
    pub(super) chain: Digest,
}

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records that were appended.
    Appended,
    /// One record that stands for those before it; the chain is that of the record it replaced.
    Carry,
}

/// What one commit added to one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) kind: Kind,
    pub(super) commit: CommitId,
    pub(super) chain_before: Digest,
    pub(super) chain_after: Digest,
    pub(super) records: Vec<Record>,
}

/// The keys of one store.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn key(&self, kind: &str, rest: &str) -> Vec<u8> {
        [&self.prefix, kind, rest].concat().into_bytes()
    }

    pub(super) fn format(&self) -> Vec<u8> {
        self.key("f", "")
    }

    pub(super) fn head(&self, log: &LogId) -> Vec<u8> {
        self.key("h/", log.as_str())
    }

    /// All heads of logs whose names begin so, and where they end.
    pub(super) fn heads(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let from = self.key("h/", prefix);
        let end = end_of(&from);
        (from, end)
    }

    /// The log of a head's key.
    pub(super) fn log_of(&self, key: &[u8]) -> Option<LogId> {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.strip_prefix("h/")?;
        LogId::new(name).ok()
    }

    pub(super) fn batch(&self, log: &LogId, last: Seq) -> Vec<u8> {
        self.key("r/", &format!("{log}\0{:016x}", last.0))
    }

    /// The last place in a batch, from its key.
    pub(super) fn last_place(key: &[u8]) -> Option<Seq> {
        let digits = std::str::from_utf8(key.get(key.len().checked_sub(16)?..)?).ok()?;
        u64::from_str_radix(digits, 16).ok().map(Seq)
    }

    /// Where the batches of a log begin and end.
    pub(super) fn batches(&self, log: &LogId) -> (Vec<u8>, Vec<u8>) {
        let from = self.key("r/", &format!("{log}\0"));
        let end = end_of(&from);
        (from, end)
    }

    pub(super) fn kept(&self, digest: &Digest) -> Vec<u8> {
        self.key("k/", &digest.to_string())
    }

    pub(super) fn chunk(&self, digest: &Digest, number: u32) -> Vec<u8> {
        self.key("k/", &format!("{digest}/{number:08x}"))
    }

    /// Where the chunks of a value begin and end.
    pub(super) fn chunks(&self, digest: &Digest) -> (Vec<u8>, Vec<u8>) {
        let from = self.key("k/", &format!("{digest}/"));
        let end = end_of(&from);
        (from, end)
    }

    /// Where kept values begin and end.
    pub(super) fn all_kept(&self) -> (Vec<u8>, Vec<u8>) {
        let from = self.key("k/", "");
        let end = end_of(&from);
        (from, end)
    }

    /// The value that a key belongs to, and whether it is a chunk's.
    pub(super) fn digest_of(&self, key: &[u8]) -> Option<(Digest, bool)> {
        let name = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.strip_prefix("k/")?;
        let (digest, chunk) = name.split_once('/').map_or((name, None), |(digest, chunk)| (digest, Some(chunk)));
        Some((Digest::parse(digest)?, chunk.is_some()))
    }

    pub(super) fn lease(&self, log: &LogId) -> Vec<u8> {
        self.key("l/", log.as_str())
    }

    pub(super) fn session(&self, handle: [u8; 16]) -> Vec<u8> {
        self.key("s/", &format!("{:032x}", u128::from_be_bytes(handle)))
    }

    /// One key for all: what is written there is never read.
    pub(super) fn turn(&self) -> Vec<u8> {
        self.key("n", "")
    }
}

/// The first key after all that begin so. The last byte of ours is never 255.
fn end_of(from: &[u8]) -> Vec<u8> {
    let mut end = from.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// A checksum over the key without the store's prefix would let a value pass under another store; the whole key goes in.
fn sealed(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, &value);
    value.extend(sum.to_le_bytes());
    value
}

fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = value.split_last_chunk::<4>()?;
    (checksum(key, value) == u32::from_le_bytes(*sum)).then_some(value)
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// Takes values apart from the front.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }
}

impl Head {
    pub(super) fn to_value(self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(52);
        value.extend(self.first.0.to_le_bytes());
        value.extend(self.next.0.to_le_bytes());
        value.extend(self.chain.0);
        sealed(key, value)
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut rest = Rest(unsealed(key, value)?);
        let head = Self { first: Seq(rest.u64()?), next: Seq(rest.u64()?), chain: Digest(rest.array()?) };
        rest.0.is_empty().then_some(head)
    }
}

impl Batch {
    /// These records after a chain that stands so.
    pub(super) fn appended(commit: CommitId, chain_before: Digest, records: Vec<Record>) -> Self {
        let after = records.iter().fold(chain_before, |chain, record| chain_after(&chain, record));
        Self { kind: Kind::Appended, commit, chain_before, chain_after: after, records }
    }

    pub(super) fn to_value(&self, key: &[u8]) -> Vec<u8> {
        let bytes: usize = self.records.iter().map(|record| record.0.len() + 4).sum();
        let mut value = Vec::with_capacity(bytes + 89);
        value.push(match self.kind {
            Kind::Appended => 0,
            Kind::Carry => 1,
        });
        value.extend(self.commit.0);
        value.extend(self.chain_before.0);
        value.extend(self.chain_after.0);
        // A commit is bounded far below what these numbers hold.
        value.extend(u32::try_from(self.records.len()).unwrap_or(u32::MAX).to_le_bytes());
        for record in &self.records {
            value.extend(u32::try_from(record.0.len()).unwrap_or(u32::MAX).to_le_bytes());
            value.extend(&record.0);
        }
        sealed(key, value)
    }

    /// Reads a batch and checks that its records lead from the chain before to the chain after.
    ///
    /// # Errors
    /// What does not fit, as a fragment of a sentence.
    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut rest = Rest(unsealed(key, value).ok_or("does not match its checksum")?);
        let short = "is cut short";
        let kind = match rest.array::<1>().ok_or(short)? {
            [0] => Kind::Appended,
            [1] => Kind::Carry,
            _ => return Err("is of an unknown kind"),
        };
        let commit = CommitId(rest.array().ok_or(short)?);
        let chain_before = Digest(rest.array().ok_or(short)?);
        let after = Digest(rest.array().ok_or(short)?);
        let count = rest.u32().ok_or(short)?;
        let mut records = Vec::new();
        for _ in 0..count {
            let length = rest.u32().ok_or(short)? as usize;
            records.push(Record(rest.bytes(length).ok_or(short)?.to_vec()));
        }
        if !rest.0.is_empty() || records.is_empty() {
            return Err("does not hold what it says");
        }
        let batch = Self { kind, commit, chain_before, chain_after: after, records };
        let chained = batch.records.iter().fold(chain_before, |chain, record| chain_after(&chain, record));
        match kind {
            Kind::Appended if chained != after => Err("does not fit its hash: the chain breaks there"),
            Kind::Appended | Kind::Carry => Ok(batch),
        }
    }
}

/// What a kept value consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) bytes: u64,
    pub(super) chunks: u32,
}

impl Manifest {
    pub(super) fn to_value(self, key: &[u8]) -> Vec<u8> {
        sealed(key, [&self.bytes.to_le_bytes()[..], &self.chunks.to_le_bytes()].concat())
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut rest = Rest(unsealed(key, value)?);
        Some(Self { bytes: rest.u64()?, chunks: rest.u32()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::chain_start;

    fn log(name: &str) -> LogId {
        LogId::new(name).unwrap()
    }

    fn keys() -> Keys {
        Keys::new("/lifeboat/")
    }

    fn sample() -> (Vec<u8>, Batch) {
        let (log, keys) = (log("run/a"), keys());
        let records = vec![Record(b"one".to_vec()), Record(Vec::new()), Record(vec![7; 300])];
        (keys.batch(&log, Seq(2)), Batch::appended(CommitId([9; 16]), chain_start(&log), records))
    }

    #[test]
    fn what_was_written_is_read_back_and_refused_under_another_key() {
        let (key, batch) = sample();
        let value = batch.to_value(&key);
        assert_eq!(Batch::from_value(&key, &value), Ok(batch));
        assert!(Batch::from_value(&keys().batch(&log("run/a"), Seq(3)), &value).is_err());
        let key = keys().head(&log("run/a"));
        let head = Head { first: Seq(4), next: Seq(9), chain: Digest::of(b"x") };
        assert_eq!(Head::from_value(&key, &head.to_value(&key)), Some(head));
        assert_eq!(Head::from_value(&keys().head(&log("run/b")), &head.to_value(&key)), None);
        let manifest = Manifest { bytes: 3_000_000, chunks: 6 };
        assert_eq!(Manifest::from_value(b"k", &manifest.to_value(b"k")), Some(manifest));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_batch_is_noticed() {
        let (key, batch) = sample();
        let value = batch.to_value(&key);
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::from_value(&key, &bad).is_err(), "bit {bit}");
        }
        for length in 0..value.len() {
            assert!(Batch::from_value(&key, &value[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_record_exchanged_with_a_right_checksum_breaks_the_chain() {
        let (key, mut batch) = sample();
        batch.records[0] = Record(b"two".to_vec());
        assert!(Batch::from_value(&key, &batch.to_value(&key)).unwrap_err().contains("chain"));
    }

    #[test]
    fn keys_of_batches_sort_by_place_and_stay_within_their_log() {
        let keys = keys();
        let (from, end) = keys.batches(&log("run/a"));
        let inside: Vec<_> = [0, 9, 10, 255, 256, u64::MAX].map(|place| keys.batch(&log("run/a"), Seq(place))).to_vec();
        assert!(inside.is_sorted() && inside.iter().all(|key| *key >= from && *key < end));
        assert_eq!(Keys::last_place(&inside[3]), Some(Seq(255)));
        for other in ["run/a/child", "run/aa", "run/b", "run"] {
            let other = keys.batch(&log(other), Seq(0));
            assert!(other < from || other >= end, "{}", String::from_utf8_lossy(&other));
        }
        let (from, end) = keys.heads("run/");
        assert!(keys.head(&log("run/zz")) > from && keys.head(&log("run/zz")) < end && keys.head(&log("runs")) >= end);
        assert_eq!(keys.log_of(&keys.head(&log("run/zz"))), Some(log("run/zz")));
    }
}
