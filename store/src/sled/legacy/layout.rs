//! How the tree of formats 1 and 2 looks, which held the records themselves. Pure, and only read: nothing writes it any more.
//!
//! | key | value |
//! |---|---|
//! | `t` | groups committed `u64`, next log number `u64`, crc32 |
//! | `h` name | the head of a log, as today |
//! | `r` log number `u64`, place `u64`, part `u16` | up to 4,096 bytes of the record's frame |
//! | `g` log number `u64`, from `u64` | places that nobody reads any more |
//!
//! A frame is the length `u32` of what follows the checksum, a crc32 over the place and what follows, a kind `u8`, the chain's hash after
//! the record (32), and the record.

use crate::{Digest, Record, Seq};

use super::super::layout::{LogNumber, TIP_KEY, Tip, checksum, u64_at, unsealed};
use super::super::read::{Framed, Kind};

const FRAME_HEAD_BYTES: usize = 8;

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

/// Where the store stood when the tree was written last.
pub(super) fn tip_from_value(value: &[u8]) -> Option<Tip> {
    let value = unsealed(TIP_KEY, value)?;
    Some(Tip { groups: u64_at(value, 0)?, next_number: u64_at(value, 8)? })
}

/// Reads the joined parts of one place.
///
/// # Errors
/// What does not fit, as a fragment of a sentence.
pub(super) fn from_frame(number: LogNumber, place: Seq, frame: &[u8]) -> Result<Framed, &'static str> {
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
    Ok(Framed { kind, chain, record: Record(record.to_vec()) })
}
