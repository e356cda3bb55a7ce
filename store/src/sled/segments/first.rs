//! `DIR/segments/first`: where the segments begin. Those before it were given up, after what lived in them was written again behind.

use std::io::ErrorKind;
use std::path::Path;

use crate::StoreError;

use super::super::folder::{Folder, io_error, write_durably};
use super::frame::SegmentNumber;

/// The beginning of the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) segment: SegmentNumber,
    /// Its first group.
    pub(crate) group: u64,
}

impl Default for First {
    /// Of a store that has never given up a segment; it has no file.
    fn default() -> Self {
        Self { segment: SegmentNumber(1), group: 1 }
    }
}

const NAME: &str = "first";

impl First {
    /// Reads it from a folder of segments.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where the file is there and is none of ours.
    pub(crate) fn read(folder: &Folder, segments: &Path) -> Result<Self, StoreError> {
        let path = segments.join(NAME);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).ok_or_else(|| folder.damaged(format!("{} does not match its checksum", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    /// Durable when this returns.
    pub(crate) fn write(self, segments: &Path) -> Result<(), StoreError> {
        write_durably(&segments.join(NAME), self.line().as_bytes())
    }

    fn line(self) -> String {
        let numbers = format!("segment {:016x} group {}", self.segment.0, self.group);
        format!("{numbers} {:08x}\n", crc32fast::hash(numbers.as_bytes()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut word = |name: Option<&str>| words.next().filter(|word| name.is_none_or(|name| name == *word));
        word(Some("segment"))?;
        let segment = SegmentNumber(u64::from_str_radix(word(None)?, 16).ok()?);
        word(Some("group"))?;
        let first = Self { segment, group: word(None)?.parse().ok()? };
        (first.line() == text).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_read_back_and_no_other_text_is_believed() {
        let first = First { segment: SegmentNumber(0x1f), group: 77 };
        assert_eq!(First::parse(&first.line()), Some(first));
        for at in 0..first.line().len() {
            let mut bad = first.line().into_bytes();
            bad[at] ^= 1;
            assert_eq!(First::parse(&String::from_utf8_lossy(&bad)), None, "byte {at}");
        }
    }
}
