//! How keys and values look inside the one sled tree. Pure: bytes in, bytes out; nothing here reads or writes a disk.
//!
//! | key | value |
//! |---|---|
//! | `t` | groups committed `u64`, next log number `u64`, crc32 |
//! | `h` name | log number `u64`, first `u64`, next `u64`, chain (32), crc32 |
//! | `r` log number `u64`, place `u64`, part `u16` | up to [`PART_BYTES_MAX`] bytes of the record's frame |
//! | `g` log number `u64`, from `u64` | end `u64`, crc32: places that nobody reads any more, still to be deleted |
//!
//! Numbers in keys are big-endian, so that keys sort by place; numbers in values are little-endian. A frame is the length
//! `u32` of what follows the checksum, a crc32 over the place and what follows, a kind `u8`, the chain's hash after the
//! record (32), and the record.

use crate::{Digest, LogId, Record, Seq};

/// Largest value given to sled. Its pages become separate files that it never syncs once they pass 131,052 bytes; with
/// values up to 6,144 bytes that never happened under the worst churn, and this leaves room for a page left unsplit by a crash.
pub(super) const PART_BYTES_MAX: usize = 4096;

const FRAME_HEAD_BYTES: usize = 8;
const BODY_HEAD_BYTES: usize = 1 + 32;

/// Number of a log inside this store. A name that is removed and used again gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LogNumber(pub(super) u64);

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: LogNumber,
    pub(super) first: Seq,
    pub(super) next: Seq,
    pub(super) chain: Digest,
}

/// Where the store as a whole stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tip {
    /// Groups committed since the store was made.
    pub(super) groups: u64,
    /// Number for the next new log.
    pub(super) next_number: u64,
}

/// Places of a log that nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage {
    pub(super) number: LogNumber,
    pub(super) from: Seq,
    pub(super) end: Seq,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record that was appended.
    Appended,
    /// A record that stands for those before it.
    Carry,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Framed {
    pub(super) kind: Kind,
    pub(super) chain: Digest,
    pub(super) record: Record,
}

pub(super) const TIP_KEY: &[u8] = b"t";
pub(super) const HEAD_PREFIX: &[u8] = b"h";
pub(super) const GARBAGE_PREFIX: &[u8] = b"g";

pub(super) fn head_key(log: &LogId) -> Vec<u8> {
    [HEAD_PREFIX, log.as_str().as_bytes()].concat()
}

pub(super) fn part_key(number: LogNumber, place: Seq, part: u16) -> [u8; 19] {
    let mut key = [b'r'; 19];
    key[1..9].copy_from_slice(&number.0.to_be_bytes());
    key[9..17].copy_from_slice(&place.0.to_be_bytes());
    key[17..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The place and part of a key made by [`part_key`].
pub(super) fn place_of(key: &[u8]) -> Option<(Seq, u16)> {
    let place = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
    let part = u16::from_be_bytes(key.get(17..19)?.try_into().ok()?);
    (key.len() == 19).then_some((Seq(place), part))
}

pub(super) fn garbage_key(garbage: &Garbage) -> Vec<u8> {
    [GARBAGE_PREFIX, &garbage.number.0.to_be_bytes(), &garbage.from.0.to_be_bytes()].concat()
}

/// Adds a checksum over the key and the value, so that a value under another key is noticed too.
fn sealed(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&[key, &value]);
    value.extend(sum.to_le_bytes());
    value
}

fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = value.split_last_chunk::<4>()?;
    (checksum(&[key, value]) == u32::from_le_bytes(*sum)).then_some(value)
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Tip {
    pub(super) fn to_value(self) -> Vec<u8> {
        sealed(TIP_KEY, [self.groups.to_le_bytes(), self.next_number.to_le_bytes()].concat())
    }

    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        let value = unsealed(TIP_KEY, value)?;
        Some(Self { groups: u64_at(value, 0)?, next_number: u64_at(value, 8)? })
    }
}

impl Head {
    pub(super) fn to_value(self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(60);
        value.extend(self.number.0.to_le_bytes());
        value.extend(self.first.0.to_le_bytes());
        value.extend(self.next.0.to_le_bytes());
        value.extend(self.chain.0);
        sealed(key, value)
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<Self> {
        let value = unsealed(key, value)?;
        let chain = Digest(value.get(24..56)?.try_into().ok()?);
        Some(Self { number: LogNumber(u64_at(value, 0)?), first: Seq(u64_at(value, 8)?), next: Seq(u64_at(value, 16)?), chain })
    }
}

impl Garbage {
    pub(super) fn to_value(self) -> Vec<u8> {
        sealed(&garbage_key(&self), self.end.0.to_le_bytes().to_vec())
    }

    pub(super) fn from_entry(key: &[u8], value: &[u8]) -> Option<Self> {
        let value = unsealed(key, value)?;
        let number = u64::from_be_bytes(key.get(1..9)?.try_into().ok()?);
        let from = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
        Some(Self { number: LogNumber(number), from: Seq(from), end: Seq(u64_at(value, 0)?) })
    }
}

impl Framed {
    /// The frame cut into values, in order of part.
    pub(super) fn to_parts(&self, number: LogNumber, place: Seq) -> Vec<Vec<u8>> {
        let mut body = Vec::with_capacity(BODY_HEAD_BYTES + self.record.0.len());
        body.push(match self.kind {
            Kind::Appended => 0,
            Kind::Carry => 1,
        });
        body.extend(self.chain.0);
        body.extend(&self.record.0);
        let sum = checksum(&[&part_key(number, place, 0), &body]);
        let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + body.len());
        // A record has at most a mebibyte, so the length fits.
        frame.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        frame.extend(sum.to_le_bytes());
        frame.extend(body);
        frame.chunks(PART_BYTES_MAX).map(<[u8]>::to_vec).collect()
    }

    /// Reads the joined parts of one place.
    ///
    /// # Errors
    /// What does not fit, as a fragment of a sentence.
    pub(super) fn from_frame(number: LogNumber, place: Seq, frame: &[u8]) -> Result<Self, &'static str> {
        let (head, body) = frame.split_at_checked(FRAME_HEAD_BYTES).ok_or("is cut short")?;
        let (length, sum) = head.split_at(4);
        let number_of = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        if number_of(length) != body.len() as u64 {
            return Err("is not as long as its frame says");
        }
        if number_of(sum) != u64::from(checksum(&[&part_key(number, place, 0), body])) {
            return Err("does not match its checksum");
        }
        let (kind, rest) = body.split_first().ok_or("is cut short")?;
        let (chain, record) = rest.split_at_checked(32).ok_or("is cut short")?;
        let kind = match kind {
            0 => Kind::Appended,
            1 => Kind::Carry,
            _ => return Err("is of an unknown kind"),
        };
        let chain = Digest(chain.try_into().map_err(|_| "is cut short")?);
        Ok(Self { kind, chain, record: Record(record.to_vec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(bytes: usize) -> Framed {
        Framed { kind: Kind::Appended, chain: Digest::of(b"x"), record: Record((0..bytes).map(|n| n as u8).collect()) }
    }

    #[test]
    fn a_frame_comes_back_whole_at_every_border_of_a_part() {
        let (number, place) = (LogNumber(7), Seq(9));
        for bytes in [0, 1, 4054, 4055, 4056, 8150, 8151, 8152, crate::RECORD_BYTES_MAX] {
            let parts = sample(bytes).to_parts(number, place);
            assert!(parts.iter().all(|part| part.len() <= PART_BYTES_MAX && !part.is_empty()));
            assert_eq!(Framed::from_frame(number, place, &parts.concat()), Ok(sample(bytes)));
        }
    }

    #[test]
    fn every_flipped_bit_every_cut_and_a_wrong_place_are_noticed() {
        let (number, place) = (LogNumber(7), Seq(9));
        let frame = sample(40).to_parts(number, place).concat();
        for bit in 0..frame.len() * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Framed::from_frame(number, place, &bad).is_err(), "bit {bit}");
        }
        for length in 0..frame.len() {
            assert!(Framed::from_frame(number, place, &frame[..length]).is_err(), "cut to {length}");
        }
        assert!(Framed::from_frame(number, Seq(10), &frame).is_err());
        assert!(Framed::from_frame(LogNumber(8), place, &frame).is_err());
        // A length of four thousand million must not be believed.
        let mut long = frame;
        long[..4].fill(0xff);
        assert!(Framed::from_frame(number, place, &long).is_err());
    }

    #[test]
    fn keys_sort_by_log_place_and_part() {
        let mut keys: Vec<_> = [(1, 300, 0), (1, 2, 256), (1, 2, 3), (2, 0, 0), (256, 0, 0)]
            .map(|(log, place, part)| part_key(LogNumber(log), Seq(place), part))
            .to_vec();
        keys.sort();
        let places: Vec<_> = keys.iter().filter_map(|key| place_of(key)).map(|(place, part)| (place.0, part)).collect();
        assert_eq!(places, [(2, 3), (2, 256), (300, 0), (0, 0), (0, 0)]);
    }

    #[test]
    fn heads_tips_and_garbage_are_read_back_and_refused_under_another_key() {
        let log = LogId::new("run/a").unwrap();
        let key = head_key(&log);
        let head = Head { number: LogNumber(3), first: Seq(4), next: Seq(5), chain: Digest::of(b"y") };
        assert_eq!(Head::from_value(&key, &head.to_value(&key)), Some(head));
        assert_eq!(Head::from_value(b"hother", &head.to_value(&key)), None);
        let tip = Tip { groups: 8, next_number: 9 };
        assert_eq!(Tip::from_value(&tip.to_value()), Some(tip));
        let garbage = Garbage { number: LogNumber(3), from: Seq(0), end: Seq(4) };
        assert_eq!(Garbage::from_entry(&garbage_key(&garbage), &garbage.to_value()), Some(garbage));
    }
}
