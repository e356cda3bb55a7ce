//! Finding the segments again: every group in order, and where a write that was cut short begins. It changes nothing.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::StoreError;

use super::super::folder::{Folder, io_error};
use super::super::layout::LogNumber;
use super::frame::{Found, GROUP_HEAD_BYTES, Next, Part, SEGMENT_HEAD_BYTES, SegmentNumber, Within, is_segment, next_group, parts};
use super::{Sealed, segment_path};

/// How far ahead of the last whole group a later one may be numbered to count as one: beyond that it is chance.
const LATER_GROUPS_MAX: u64 = 1_000_000;

/// A group where it was found.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) segment: SegmentNumber,
    /// Where the group begins in the file.
    pub(crate) at: u64,
    pub(crate) number: u64,
    pub(crate) parts: Vec<(Within, Part)>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    pub(crate) segment: SegmentNumber,
    /// The group before its first, where that is known.
    pub(crate) group: Option<u64>,
    /// The checksum of that group, where it is known.
    pub(crate) sum: Option<u32>,
}

/// Where the segments end.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// The segment that takes the next group.
    pub(crate) last: Option<Last>,
    /// Segments before it that were read.
    pub(crate) sealed: Vec<Sealed>,
    pub(crate) next_segment: SegmentNumber,
    /// Checksum of the last group, be it before what was read; 0 where that is not known.
    pub(crate) before: u32,
    /// Number of the last group, where there is one.
    pub(crate) groups: Option<u64>,
    /// A segment that was being made and holds nothing.
    pub(crate) unborn: Option<SegmentNumber>,
}

/// The last segment.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) number: SegmentNumber,
    pub(crate) file: File,
    pub(crate) end: u64,
    pub(crate) length: u64,
    pub(crate) named: BTreeSet<LogNumber>,
    pub(crate) tail: Tail,
}

/// What stands behind the last group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    Clean,
    /// A part of a group that was never acknowledged.
    Torn,
}

/// Walks the segments in order, from one on.
///
/// # Errors
/// [`StoreError::Damaged`] where a group or a segment is missing or spoilt anywhere but at the very end, and what `each` answers.
pub(crate) fn scan(
    folder: &Folder,
    segments: &Path,
    from: From,
    mut each: impl FnMut(Seen) -> Result<(), StoreError>,
) -> Result<End, StoreError> {
    let mut numbers = numbers(segments)?;
    let next_segment = SegmentNumber(numbers.last().map_or(from.segment.0, |last| (last.0 + 1).max(from.segment.0)));
    numbers.retain(|number| *number >= from.segment);
    let mut end = End { next_segment, before: from.sum.unwrap_or(0), ..End::default() };
    let last_group = |end: &End| end.groups.or(from.group).unwrap_or(0);
    expect_all(folder, from.segment, &numbers)?;
    for (index, number) in numbers.iter().copied().enumerate() {
        let is_last = index + 1 == numbers.len();
        let path = segment_path(segments, number);
        let damaged = |what: String| folder.damaged(format!("segment {:x} {what}", number.0));
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("opening", &path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error("reading", &path))?;
        if !is_segment(&bytes, number) {
            let body = bytes.get(SEGMENT_HEAD_BYTES as usize..).unwrap_or_default();
            let holds = matches!(next_group(body), Next::Group(found) if found.number > last_group(&end));
            if !is_last || holds {
                return Err(damaged("has no head of its own".into()));
            }
            end.unborn = Some(number);
            end.next_segment = number;
            break;
        }
        let mut named = BTreeSet::new();
        let mut at = SEGMENT_HEAD_BYTES;
        let tail = loop {
            let rest = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
            let found = match next_group(rest) {
                // A segment of format 2 could be written over an older one, whose groups stand behind its end.
                Next::Group(found) if end.groups.is_some_and(|groups| found.number <= groups) => break Tail::Torn,
                Next::Group(found) => found,
                Next::End => break Tail::Clean,
                Next::Torn => break Tail::Torn,
            };
            follows(&from, &end, &found).map_err(&damaged)?;
            let parts = parts(found.body).ok_or_else(|| damaged(format!("has group {} of parts that nobody knows", found.number)))?;
            named.extend(parts.iter().filter_map(|(_, part)| if let Part::Name { log, .. } = part { Some(*log) } else { None }));
            each(Seen { segment: number, at, number: found.number, parts })?;
            (end.groups, end.before) = (Some(found.number), found.sum);
            at += (GROUP_HEAD_BYTES + found.body.len()) as u64;
        };
        let rest = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
        if let Some(later) = later_group(rest, last_group(&end)) {
            return Err(damaged(format!("has a hole: behind byte {at} comes group {}, and the one before it is gone", later.number)));
        }
        if !is_last && tail == Tail::Torn {
            return Err(damaged(format!("is spoilt at byte {at}, and another segment follows it")));
        }
        if is_last {
            end.last = Some(Last { number, file, end: at, length: bytes.len() as u64, named, tail });
        } else {
            end.sealed.push(Sealed { number, end: at, sum: end.before });
        }
    }
    // A segment that never came to be leaves the one before it sealed: the next group makes that segment anew.
    Ok(end)
}

fn follows(from: &From, end: &End, found: &Found<'_>) -> Result<(), String> {
    let (group, sum) = end.groups.map_or((from.group, from.sum), |group| (Some(group), Some(end.before)));
    let Some(group) = group else { return Ok(()) };
    if found.number != group + 1 {
        return Err(format!("goes on with group {} after group {group}", found.number));
    }
    if sum.is_some_and(|sum| sum != found.before) {
        return Err(format!("has a group {} that does not belong behind group {group}", found.number));
    }
    Ok(())
}

/// A group behind something spoilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Later {
    /// Where it begins in the bytes that were looked through.
    pub(crate) at: usize,
    pub(crate) number: u64,
}

/// A whole group behind something spoilt: then that was no write cut short, because only the last group can be one.
pub(crate) fn later_group(bytes: &[u8], last: u64) -> Option<Later> {
    let begin = bytes.iter().position(|byte| *byte != 0)?;
    // A group's own length may begin with a zero byte.
    (begin.saturating_sub(3)..bytes.len()).find_map(|at| {
        let rest = bytes.get(at..)?;
        let number = u64::from_le_bytes(rest.get(8..16)?.try_into().ok()?);
        let later = number > last + 1 && number - last <= LATER_GROUPS_MAX;
        (later && matches!(next_group(rest), Next::Group(_))).then_some(Later { at, number })
    })
}

/// Holds the numbers of segments against each other: none may be missing from the first one on.
///
/// # Errors
/// [`StoreError::Damaged`] names the first that is missing.
pub(crate) fn expect_all(folder: &Folder, first: SegmentNumber, numbers: &[SegmentNumber]) -> Result<(), StoreError> {
    let gap = (first.0..).map(SegmentNumber).zip(numbers).find(|(expected, number)| expected != *number);
    gap.map_or(Ok(()), |(expected, _)| Err(folder.damaged(format!("segment {:x} is missing", expected.0))))
}

/// The numbers of all segments in a folder, in order.
pub(crate) fn numbers(segments: &Path) -> Result<Vec<SegmentNumber>, StoreError> {
    let entries = match std::fs::read_dir(segments) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("listing", segments)(error)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("listing", segments))?.file_name();
        let number = name.to_str().filter(|name| name.len() == 16).and_then(|name| u64::from_str_radix(name, 16).ok());
        numbers.extend(number.map(SegmentNumber));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
