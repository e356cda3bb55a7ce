//! How the bytes of segments look: groups and parts. Pure: bytes in, bytes out; nothing here reads or writes a disk.
//!
//! | what | bytes |
//! |---|---|
//! | head of a segment | [`MAGIC`] (16), number of the segment `u64`, crc32 of both, four zeros |
//! | group | length of its body `u32`, crc32 `u32` of all else, number `u64`, crc32 of the group before it `u32`, body |
//! | body | parts, each followed by its crc32 `u32` |
//! | part: a log's name | `1`, log number, length of the name, name |
//! | part: records | `2`, log number, first place, count, chain after the last (32), each record's length and bytes |
//! | part: a carry | `3`, log number, its place, chain after it (32), length, bytes |
//! | part: a removed log | `4`, log number |
//! | part: records again, part: a carry again | `5` and `6`, as `2` and `3`: moved here from a segment that is given up |
//!
//! Numbers inside parts are variable in length (LEB128), others little-endian. A length of zero ends a segment: it is written behind
//! each group and overwritten by the next. A segment names each log before it first speaks of it, so it can be read alone.

use crate::{Digest, LogId, Record, Seq};

use super::super::layout::LogNumber;

/// First bytes of every segment.
const MAGIC: &[u8; 16] = b"lifeboat-front1\n";

/// Length of a segment's head.
pub(crate) const SEGMENT_HEAD_BYTES: u64 = 32;

/// Length of a group before its body.
pub(crate) const GROUP_HEAD_BYTES: usize = 20;

/// What ends a segment: the length of a group that is not there.
pub(crate) const END_BYTES: usize = 4;

/// Longest body that is believed: a commit of the largest size with all its frames, and a wide margin.
pub(crate) const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Number of a segment; it never comes again. The first one is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentNumber(pub(crate) u64);

/// The head of a segment.
pub(crate) fn segment_head(number: SegmentNumber) -> [u8; SEGMENT_HEAD_BYTES as usize] {
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    head[..16].copy_from_slice(MAGIC);
    head[16..24].copy_from_slice(&number.0.to_le_bytes());
    let sum = crc32fast::hash(&head[..24]);
    head[24..28].copy_from_slice(&sum.to_le_bytes());
    head
}

/// Whether these are the first bytes of the segment of this number.
pub(crate) fn is_segment(bytes: &[u8], number: SegmentNumber) -> bool {
    bytes.get(..SEGMENT_HEAD_BYTES as usize) == Some(&segment_head(number)[..])
}

/// What a part says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The log of this number has this name.
    Name { log: LogNumber, name: LogId },
    /// Records behind the end of a log.
    Records { log: LogNumber, first: Seq, chain: Digest, records: Vec<Record> },
    /// A record that takes `place` and stands for all before it; where there is no such log it begins one there.
    Carry { log: LogNumber, place: Seq, chain: Digest, record: Record },
    /// The log is gone.
    Removed { log: LogNumber },
    /// Records that were written before, in a segment that is given up. They are where they were in their log.
    RecordsAgain { log: LogNumber, first: Seq, chain: Digest, records: Vec<Record> },
    /// A carry that was written before.
    CarryAgain { log: LogNumber, place: Seq, chain: Digest, record: Record },
}

/// A group while it is put together.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
}

/// Where a part lies in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    /// From the first byte of the group's head.
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

impl Part {
    /// The log it speaks of.
    pub(crate) fn log(&self) -> LogNumber {
        match self {
            Self::Name { log, .. }
            | Self::Records { log, .. }
            | Self::Carry { log, .. }
            | Self::Removed { log }
            | Self::RecordsAgain { log, .. }
            | Self::CarryAgain { log, .. } => *log,
        }
    }
}

impl Body {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a part and tells where it lies.
    pub(crate) fn put(&mut self, part: &Part) -> Within {
        let begin = self.bytes.len();
        match part {
            Part::Name { log, name } => {
                self.open(1, *log);
                self.number(name.as_str().len() as u64);
                self.bytes.extend(name.as_str().as_bytes());
            }
            Part::Records { log, first, chain, records } => self.records(2, *log, *first, chain, records),
            Part::Carry { log, place, chain, record } => self.carry(3, *log, *place, chain, record),
            Part::RecordsAgain { log, first, chain, records } => self.records(5, *log, *first, chain, records),
            Part::CarryAgain { log, place, chain, record } => self.carry(6, *log, *place, chain, record),
            Part::Removed { log } => self.open(4, *log),
        }
        let sum = crc32fast::hash(self.bytes.get(begin..).unwrap_or_default());
        self.bytes.extend(sum.to_le_bytes());
        Within { at: GROUP_HEAD_BYTES + begin, bytes: self.bytes.len() - begin }
    }

    fn records(&mut self, kind: u8, log: LogNumber, first: Seq, chain: &Digest, records: &[Record]) {
        self.open(kind, log);
        self.number(first.0);
        self.number(records.len() as u64);
        self.bytes.extend(chain.0);
        for record in records {
            self.number(record.0.len() as u64);
            self.bytes.extend(&record.0);
        }
    }

    fn carry(&mut self, kind: u8, log: LogNumber, place: Seq, chain: &Digest, record: &Record) {
        self.open(kind, log);
        self.number(place.0);
        self.bytes.extend(chain.0);
        self.number(record.0.len() as u64);
        self.bytes.extend(&record.0);
    }

    fn open(&mut self, kind: u8, log: LogNumber) {
        self.bytes.push(kind);
        self.number(log.0);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// The whole group.
    pub(crate) fn seal(&self, number: u64, before: u32) -> Group {
        let mut bytes = Vec::with_capacity(GROUP_HEAD_BYTES + self.bytes.len() + END_BYTES);
        // A body is far below four thousand million bytes: commits are limited.
        bytes.extend(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(number.to_le_bytes());
        bytes.extend(before.to_le_bytes());
        bytes.extend(&self.bytes);
        let sum = group_sum(&bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        Group { bytes, sum }
    }
}

/// A group's bytes and their checksum.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    pub(crate) sum: u32,
}

/// The checksum of a whole group, without the field that holds it.
fn group_sum(group: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(group.get(..4).unwrap_or_default());
    hasher.update(group.get(8..).unwrap_or_default());
    hasher.finalize()
}

/// A group as it is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) number: u64,
    pub(crate) sum: u32,
    pub(crate) before: u32,
    pub(crate) body: &'a [u8],
}

/// What stands where a group may begin.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Group(Found<'a>),
    /// A length of zero, or the end of the file.
    End,
    /// Something that is no whole group.
    Torn,
}

/// Reads what stands at the beginning of `bytes`. No length is believed before its checksum fits.
pub(crate) fn next_group(bytes: &[u8]) -> Next<'_> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_le_bytes);
    let (Some(length), Some(sum)) = (word(0), word(4)) else {
        return if bytes.iter().all(|byte| *byte == 0) { Next::End } else { Next::Torn };
    };
    if length == 0 {
        return Next::End;
    }
    let length = length as usize;
    let whole = if length <= BODY_BYTES_MAX { bytes.get(..GROUP_HEAD_BYTES + length) } else { None };
    let (Some(whole), Some(before)) = (whole, word(16)) else { return Next::Torn };
    let Some(number) = bytes.get(8..16).and_then(|eight| eight.try_into().ok()).map(u64::from_le_bytes) else { return Next::Torn };
    if group_sum(whole) != sum {
        return Next::Torn;
    }
    Next::Group(Found { number, sum, before, body: whole.get(GROUP_HEAD_BYTES..).unwrap_or_default() })
}

/// The parts of a body with their places, or `None` where it is not made of parts.
pub(crate) fn parts(body: &[u8]) -> Option<Vec<(Within, Part)>> {
    let mut rest = body;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let begin = body.len() - rest.len();
        let (part, after) = one_part(rest)?;
        let bytes = rest.len() - after.len();
        found.push((Within { at: GROUP_HEAD_BYTES + begin, bytes }, part));
        rest = after;
    }
    Some(found)
}

/// The part that fills these bytes wholly and has its checksum.
pub(crate) fn whole_part(bytes: &[u8]) -> Option<Part> {
    let (part, rest) = one_part(bytes)?;
    rest.is_empty().then_some(part)
}

fn one_part(bytes: &[u8]) -> Option<(Part, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (log, rest) = number(rest)?;
    let log = LogNumber(log);
    let (part, rest) = match kind {
        1 => {
            let (name, rest) = run_of_bytes(rest)?;
            (Part::Name { log, name: LogId::new(std::str::from_utf8(name).ok()?).ok()? }, rest)
        }
        2 | 5 => {
            let (first, rest) = number(rest)?;
            let (count, rest) = number(rest)?;
            let (chain, mut rest) = rest.split_first_chunk::<32>()?;
            let mut records = Vec::new();
            for _ in 0..count {
                let (record, after) = run_of_bytes(rest)?;
                records.push(Record(record.to_vec()));
                rest = after;
            }
            let (first, chain) = (Seq(first), Digest(*chain));
            let part = match kind {
                2 => Part::Records { log, first, chain, records },
                _ => Part::RecordsAgain { log, first, chain, records },
            };
            (part, rest)
        }
        3 | 6 => {
            let (place, rest) = number(rest)?;
            let (chain, rest) = rest.split_first_chunk::<32>()?;
            let (record, rest) = run_of_bytes(rest)?;
            let (place, chain, record) = (Seq(place), Digest(*chain), Record(record.to_vec()));
            let part = match kind {
                3 => Part::Carry { log, place, chain, record },
                _ => Part::CarryAgain { log, place, chain, record },
            };
            (part, rest)
        }
        4 => (Part::Removed { log }, rest),
        _ => return None,
    };
    let (sum, after) = rest.split_first_chunk::<4>()?;
    let own = bytes.get(..bytes.len() - rest.len())?;
    (crc32fast::hash(own) == u32::from_le_bytes(*sum)).then_some((part, after))
}

fn run_of_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let seven = u64::from(byte & 0x7f);
        let shift = 7 * u32::try_from(at).ok()?;
        if shift == 63 && seven > 1 {
            return None;
        }
        value |= seven << shift;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Part> {
        let record = |bytes: usize| Record((0..bytes).map(|n| n as u8).collect());
        vec![
            Part::Name { log: LogNumber(300), name: LogId::new("run/a").unwrap() },
            Part::Records {
                log: LogNumber(300),
                first: Seq(u64::from(u32::MAX) + 5),
                chain: Digest::of(b"x"),
                records: vec![record(0), record(1), record(127), record(128), record(70_000)],
            },
            Part::Carry { log: LogNumber(0), place: Seq(127), chain: Digest::of(b"y"), record: record(9) },
            Part::Removed { log: LogNumber(u64::MAX) },
            Part::RecordsAgain { log: LogNumber(1), first: Seq(3), chain: Digest::of(b"z"), records: vec![record(5), record(0)] },
            Part::CarryAgain { log: LogNumber(2), place: Seq(0), chain: Digest::of(b"w"), record: record(3) },
        ]
    }

    fn sealed(parts: &[Part]) -> Vec<u8> {
        let mut body = Body::default();
        for part in parts {
            let _ = body.put(part);
        }
        body.seal(7, 99).bytes
    }

    #[test]
    fn a_group_comes_back_as_it_was_put_together_and_each_part_can_be_read_alone() {
        let bytes = sealed(&sample());
        let Next::Group(found) = next_group(&bytes) else { panic!("no group") };
        assert_eq!((found.number, found.before), (7, 99));
        let parts = parts(found.body).unwrap();
        assert_eq!(parts.iter().map(|(_, part)| part.clone()).collect::<Vec<_>>(), sample());
        for (within, part) in parts {
            assert_eq!(whole_part(&bytes[within.at..within.at + within.bytes]), Some(part));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_group_is_noticed() {
        let small: Vec<Part> = sample().into_iter().filter(|part| !matches!(part, Part::Records { .. })).collect();
        let bytes = sealed(&small);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(next_group(&bad), Next::Group(_)), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!matches!(next_group(&bytes[..length]), Next::Group(_)), "cut to {length}");
        }
        let mut long = bytes;
        long[..4].fill(0xff);
        assert!(matches!(next_group(&long), Next::Torn), "a length of four thousand million is not believed");
    }

    #[test]
    fn a_part_with_a_flipped_bit_is_not_read() {
        let mut body = Body::default();
        let within = body.put(&sample()[2]);
        let bytes = body.seal(1, 0).bytes;
        let part = &bytes[within.at..within.at + within.bytes];
        for bit in 0..part.len() * 8 {
            let mut bad = part.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(whole_part(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn the_head_of_another_segment_is_not_taken_for_this_one() {
        let head = segment_head(SegmentNumber(5));
        assert!(is_segment(&head, SegmentNumber(5)));
        assert!(!is_segment(&head, SegmentNumber(6)));
        assert!(!is_segment(&head[..31], SegmentNumber(5)));
    }

    #[test]
    fn zeros_and_nothing_at_all_end_a_segment() {
        for bytes in [&[][..], &[0; 3], &[0; 4], &[0; 100]] {
            assert!(matches!(next_group(bytes), Next::End));
        }
    }
}
