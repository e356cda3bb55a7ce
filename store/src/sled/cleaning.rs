//! Giving up the oldest segment: what still lives in it is written again behind all others, then it is removed. Only the oldest one, so that
//! a note of a removed log goes when nothing of that log is left before it.

use std::collections::HashMap;

use crate::LogId;

use super::committer::Moved;
use super::indexing::stopped;
use super::layout::LogNumber;
use super::segments::frame::{GROUP_HEAD_BYTES, Next, Part, SEGMENT_HEAD_BYTES, SegmentNumber, next_group, parts};
use super::segments::segment_path;
use super::shared::Shared;
use super::tree::Failure;

/// Bytes of parts that are moved with one change.
const MOVE_BYTES_MAX: usize = 128 * 1024;

/// What lives in a segment, in portions, and the first group behind it.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) portions: Vec<Vec<Moved>>,
    pub(super) next_group: u64,
}

/// Reads what lives in a segment that is sealed and indexed.
///
/// # Errors
/// Where it is not what was written.
pub(super) fn living(shared: &Shared, segment: SegmentNumber) -> Result<Living, Failure> {
    let path = segment_path(&shared.folder.segments(), segment);
    let bytes = std::fs::read(&path).map_err(|error| stopped(format!("reading {}: {error}", path.display())))?;
    let mut names: HashMap<LogNumber, LogId> = HashMap::new();
    let mut living = Living { portions: Vec::new(), next_group: 0 };
    let mut portion = Vec::new();
    let (mut portion_bytes, mut at) = (0, SEGMENT_HEAD_BYTES as usize);
    loop {
        let found = match next_group(bytes.get(at..).unwrap_or_default()) {
            Next::Group(found) => found,
            Next::End => break,
            Next::Torn => return Err(stopped(format!("segment {:x} has changed at byte {at}", segment.0))),
        };
        let parts = parts(found.body).ok_or_else(|| stopped(format!("group {} is not made of parts", found.number)))?;
        for (within, part) in parts {
            if let Part::Name { log, name } = part {
                names.insert(log, name);
                continue;
            }
            let Some(name) = names.get(&part.log()).cloned() else { continue };
            let moved = Moved { name, segment, at: (at + within.at) as u64, part };
            if shared.still_living(&moved).map_err(Failure::from)?.is_some() {
                portion_bytes += within.bytes;
                portion.push(moved);
            }
            if portion_bytes >= MOVE_BYTES_MAX {
                living.portions.push(std::mem::take(&mut portion));
                portion_bytes = 0;
            }
        }
        living.next_group = found.number + 1;
        at += GROUP_HEAD_BYTES + found.body.len();
    }
    living.portions.extend((!portion.is_empty()).then_some(portion));
    Ok(living)
}
