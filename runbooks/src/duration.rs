//! One grammar for lengths of time, in YAML, in expressions and in messages: `90s`, `1m30s`, `250ms`, `1d12h`.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, from 1 ms to [`PERIOD_MAX`], written with units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// Longest length of time that can be written: a leap year. Longer ones are slips of the pen.
pub const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Period {
    /// Whole milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Reads `1d2h3m4s5ms`: each unit at most once, from large to small, no fractions, no spaces.
    ///
    /// # Errors
    /// What is wrong, and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let wrong = |why: &str| format!("{text:?} is no length of time: {why}; write for example 30s, 5m, 1h30m or 250ms");
        let mut rest = text;
        let mut total_ms: u64 = 0;
        let mut next_unit = 0;
        if rest.is_empty() {
            return Err(wrong("it is empty"));
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            if number.is_empty() {
                return Err(wrong("a whole number is missing before its unit"));
            }
            if unit.is_empty() {
                return Err(wrong("the unit is missing"));
            }
            let Some(place) = UNITS.iter().position(|(name, _)| *name == unit) else {
                return Err(wrong(&format!("{unit:?} is no unit")));
            };
            if place < next_unit {
                return Err(wrong("units go from large to small, each once"));
            }
            next_unit = place + 1;
            let amount = number.parse::<u64>().ok().and_then(|n| n.checked_mul(UNITS[place].1)).ok_or_else(|| wrong("it is too long"))?;
            total_ms = total_ms.checked_add(amount).ok_or_else(|| wrong("it is too long"))?;
            rest = tail;
        }
        let length = Duration::from_millis(total_ms);
        if length.is_zero() {
            return Err(wrong("it is zero"));
        }
        if length > PERIOD_MAX {
            return Err(wrong("it is longer than 366 days"));
        }
        Ok(Self(length))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$" })
    }
}
