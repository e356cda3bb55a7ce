//! How keys and values look in the index, the one sled tree. Pure: bytes in, bytes out; nothing here reads or writes a disk.
//!
//! | key | value |
//! |---|---|
//! | `t` | where the index stands: see [`IndexTip`], crc32 |
//! | `h` name | log number `u64`, first `u64`, next `u64`, chain (32), crc32 |
//! | `s` log number `u64`, place `u64` | segment `u64`, byte `u64`, bytes `u32`, place behind the last `u64`, crc32 |
//!
//! Numbers in keys are big-endian, so that keys sort by place; numbers in values are little-endian. A spot is filed under the first
//! place that it still stands for.

use crate::{Digest, LogId, Seq};

use super::segments::frame::SegmentNumber;

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

/// Where the index stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IndexTip {
    /// The last group in it, and the number for the next new log.
    pub(super) tip: Tip,
    /// The last segment that is in it whole.
    pub(super) segment: SegmentNumber,
    /// Checksum of that segment's last group: the segment behind it goes on from there.
    pub(super) sum: u32,
    /// Bytes of all parts that somebody can still read.
    pub(super) live_bytes: u64,
    /// Segments up to this one may hold what was moved out of segments that the index never saw: it was made anew after them.
    pub(super) anew_until: SegmentNumber,
}

/// Where a part of a log lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) segment: SegmentNumber,
    /// From the beginning of the segment's file.
    pub(super) at: u64,
    pub(super) bytes: u32,
    /// The place behind its last.
    pub(super) end: Seq,
}

pub(super) const TIP_KEY: &[u8] = b"t";
pub(super) const HEAD_PREFIX: &[u8] = b"h";
pub(super) const SPOT_PREFIX: &[u8] = b"s";

pub(super) fn head_key(log: &LogId) -> Vec<u8> {
    [HEAD_PREFIX, log.as_str().as_bytes()].concat()
}

pub(super) fn spot_key(number: LogNumber, place: Seq) -> [u8; 17] {
    let mut key = [SPOT_PREFIX[0]; 17];
    key[1..9].copy_from_slice(&number.0.to_be_bytes());
    key[9..].copy_from_slice(&place.0.to_be_bytes());
    key
}

/// The log and place of a key made by [`spot_key`].
pub(super) fn spot_of(key: &[u8]) -> Option<(LogNumber, Seq)> {
    let (log, place) = key.strip_prefix(SPOT_PREFIX)?.split_first_chunk::<8>()?;
    Some((LogNumber(u64::from_be_bytes(*log)), Seq(u64::from_be_bytes(place.try_into().ok()?))))
}

/// Adds a checksum over the key and the value, so that a value under another key is noticed too.
pub(super) fn sealed(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&[key, &value]);
    value.extend(sum.to_le_bytes());
    value
}

pub(super) fn unsealed<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, sum) = value.split_last_chunk::<4>()?;
    (checksum(&[key, value]) == u32::from_le_bytes(*sum)).then_some(value)
}

pub(super) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl IndexTip {
    pub(super) fn to_value(self) -> Vec<u8> {
        let numbers =
            [self.tip.groups, self.tip.next_number, self.segment.0, self.live_bytes, self.anew_until.0].map(u64::to_le_bytes).concat();
        sealed(TIP_KEY, [&numbers[..], &self.sum.to_le_bytes()].concat())
    }

    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        let value = unsealed(TIP_KEY, value)?;
        let tip = Tip { groups: u64_at(value, 0)?, next_number: u64_at(value, 8)? };
        let segment = |at| u64_at(value, at).map(SegmentNumber);
        Some(Self { tip, segment: segment(16)?, live_bytes: u64_at(value, 24)?, anew_until: segment(32)?, sum: u32_at(value, 40)? })
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

impl Spot {
    pub(super) fn to_value(self, key: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(32);
        value.extend(self.segment.0.to_le_bytes());
        value.extend(self.at.to_le_bytes());
        value.extend(self.bytes.to_le_bytes());
        value.extend(self.end.0.to_le_bytes());
        sealed(key, value)
    }

    pub(super) fn from_value(key: &[u8], value: &[u8]) -> Option<Self> {
        let value = unsealed(key, value)?;
        let (at, bytes, end) = (u64_at(value, 8)?, u32_at(value, 16)?, Seq(u64_at(value, 20)?));
        Some(Self { segment: SegmentNumber(u64_at(value, 0)?), at, bytes, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_spots_sort_by_log_and_place() {
        let mut keys: Vec<_> = [(1, 300), (1, 2), (2, 0), (256, 0)].map(|(log, place)| spot_key(LogNumber(log), Seq(place))).to_vec();
        keys.sort_unstable();
        let found: Vec<_> = keys.iter().filter_map(|key| spot_of(key)).map(|(log, place)| (log.0, place.0)).collect();
        assert_eq!(found, [(1, 2), (1, 300), (2, 0), (256, 0)]);
    }

    #[test]
    fn values_are_read_back_and_refused_under_another_key_or_with_a_flipped_bit() {
        let key = head_key(&LogId::new("run/a").unwrap());
        let head = Head { number: LogNumber(3), first: Seq(4), next: Seq(5), chain: Digest::of(b"y") };
        assert_eq!(Head::from_value(&key, &head.to_value(&key)), Some(head));
        assert_eq!(Head::from_value(b"hother", &head.to_value(&key)), None);
        let tip = IndexTip {
            tip: Tip { groups: 8, next_number: 9 },
            segment: SegmentNumber(7),
            sum: 0x1234_5678,
            live_bytes: 99,
            anew_until: SegmentNumber(2),
        };
        assert_eq!(IndexTip::from_value(&tip.to_value()), Some(tip));
        let key = spot_key(LogNumber(3), Seq(70_000));
        let spot = Spot { segment: SegmentNumber(300), at: 1 << 40, bytes: 77, end: Seq(70_001) };
        assert_eq!(Spot::from_value(&key, &spot.to_value(&key)), Some(spot));
        assert_eq!(Spot::from_value(&spot_key(LogNumber(3), Seq(70_002)), &spot.to_value(&key)), None);
        for bit in 0..spot.to_value(&key).len() * 8 {
            let mut bad = spot.to_value(&key);
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Spot::from_value(&key, &bad), None, "bit {bit}");
        }
    }
}
