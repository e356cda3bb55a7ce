//! Positions in the write-ahead log and the history of timelines, as PostgreSQL writes them. No connection.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place in the write-ahead log, in bytes. Places on different timelines do not compare; see [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from an earlier place; zero if it is not earlier.
    #[must_use]
    pub fn beyond(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::str::FromStr for Lsn {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no WAL position");
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let part = |digits: &str| {
            let fits = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        };
        match (part(high), part(low)) {
            (Some(high), Some(low)) => Ok(Self(high << 32 | low)),
            (Some(_), None) | (None, Some(_) | None) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Lsn {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> Self {
        lsn.to_string()
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl JsonSchema for Lsn {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Lsn".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A place in the write-ahead log: `0/5028310`" })
    }
}

/// Where timelines left their parents, oldest first: the content of a `.history` file. Two timelines of one number are the same
/// only if this is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(pub Vec<Fork>);

/// One line of a history file: timeline `parent` ended at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// The timeline that was left.
    pub parent: u32,
    /// Where.
    pub at: Lsn,
}

impl History {
    /// Reads a `.history` file: `parent <tab> position <tab> reason` per line; empty lines and `#` comments are skipped.
    ///
    /// # Errors
    /// The line that does not fit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut forks: Vec<Fork> = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let parent = words.next().and_then(|word| word.parse::<u32>().ok());
            let at = words.next().and_then(|word| word.parse::<Lsn>().ok());
            let (Some(parent), Some(at)) = (parent, at) else {
                return Err(format!("{line:?} is no line of a timeline history"));
            };
            if forks.last().is_some_and(|last| last.parent >= parent) {
                return Err(format!("timelines in a history grow, but {line:?} does not"));
            }
            forks.push(Fork { parent, at });
        }
        Ok(Self(forks))
    }

    /// The last line: the parent and where it was left. None for a first timeline.
    #[must_use]
    pub fn last(&self) -> Option<Fork> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_and_written_as_postgresql_does() {
        let lsn: Lsn = "1A/5028310".parse().unwrap();
        assert_eq!(lsn.0, 0x1A_0502_8310);
        assert_eq!(lsn.to_string(), "1A/5028310");
        assert!("0/3000000".parse::<Lsn>().unwrap() < "1/0".parse().unwrap());
        for bad in ["", "/", "0/", "/1", "0x1/2", "1/123456789", "-1/2", "0/+5"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn histories_of_one_number_differ_by_content() {
        let one = History::parse("1\t0/5028310\tno recovery target specified\n").unwrap();
        let other = History::parse("1\t0/3000060\tno recovery target specified\n\n2\t0/700B060\tx\n").unwrap();
        assert_ne!(one, other);
        assert_eq!(other.last().unwrap(), Fork { parent: 2, at: Lsn(0x700_B060) });
        assert!(History::parse("2\t0/1\n1\t0/2\n").is_err());
        assert!(History::parse("nonsense").is_err());
        assert_eq!(History::parse("# comment\n").unwrap().last(), None);
    }
}
