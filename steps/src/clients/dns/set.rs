//! A record set as text that can be journaled, compared and turned into wire records. Asking servers for it is in `reader`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mutants::{self, Mutant};

/// The kinds of record that a failover moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordKind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// One other name.
    Cname,
}

impl RecordKind {
    /// The wire's number for it.
    #[must_use]
    pub fn wire(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Cname => RecordType::CNAME,
        }
    }

    /// The one way to write a value of this kind, so that equal values are equal text.
    ///
    /// # Errors
    /// Why it is no value of this kind.
    pub fn canonical(self, value: &str) -> Result<String, String> {
        match self {
            Self::A => value
                .parse::<Ipv4Addr>()
                .map(|a| a.to_string())
                .map_err(|_| format!("{value:?} is no IPv4 address, which a record of type A needs")),
            Self::Aaaa => value
                .parse::<Ipv6Addr>()
                .map(|a| a.to_string())
                .map_err(|_| format!("{value:?} is no IPv6 address, which a record of type AAAA needs")),
            Self::Cname => full_name(value).map(|name| name.to_ascii()),
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
        })
    }
}

/// Reads a full domain name, with or without its final dot, in lower case.
///
/// # Errors
/// Why it is none.
pub fn full_name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("{text:?} is no domain name: {error}"))?.to_lowercase();
    name.set_fqdn(true);
    if name.is_root() {
        return Err(format!("{text:?} is the root, not the name of a record"));
    }
    Ok(name)
}

/// The values of one name and type, and how long they may be cached. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSet {
    /// How long answers may be cached, in seconds.
    pub ttl_seconds: u32,
    /// Canonical values in order.
    pub values: BTreeSet<String>,
}

impl RecordSet {
    /// A set of at least one value.
    ///
    /// # Errors
    /// Which value does not fit, or that there is none.
    pub fn new(kind: RecordKind, ttl_seconds: u32, values: &[String]) -> Result<Self, String> {
        let canonical = values.iter().map(|value| kind.canonical(value)).collect::<Result<BTreeSet<_>, _>>()?;
        if canonical.is_empty() && !mutants::is(Mutant::EmptySetTaken) {
            return Err("a record set without values would empty the name".into());
        }
        if canonical.len() != values.len() {
            return Err(format!("{} names a value twice", values.join(", ")));
        }
        Ok(Self { ttl_seconds, values: canonical })
    }

    /// The set among the records of an answer, or `None` where there is none of this kind.
    #[must_use]
    pub fn among(records: &[Record], name: &Name, kind: RecordKind) -> Option<Self> {
        let mut set = Self { ttl_seconds: u32::MAX, values: BTreeSet::new() };
        for record in records.iter().filter(|record| record.name == *name) {
            if let Some(value) = value_of(&record.data, kind) {
                // RFC 2181 5.2: differing TTLs in a set are an error of the server; the lowest is the one to act by.
                set.ttl_seconds = set.ttl_seconds.min(record.ttl);
                set.values.insert(value);
            }
        }
        if set.values.is_empty() { None } else { Some(set) }
    }

    /// The same values, whatever their TTL.
    #[must_use]
    pub fn same_values(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// Wire records with this TTL.
    ///
    /// # Errors
    /// Where a journaled value is none of this kind.
    pub fn records(&self, name: &Name, kind: RecordKind, ttl_seconds: u32) -> Result<Vec<Record>, String> {
        self.values.iter().map(|value| Ok(Record::from_rdata(name.clone(), ttl_seconds, data(kind, value)?))).collect()
    }
}

impl fmt::Display for RecordSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        write!(f, "{} (TTL {} s)", values.join(", "), self.ttl_seconds)
    }
}

/// A set or its absence, in words.
#[must_use]
pub fn in_words(set: Option<&RecordSet>) -> String {
    set.map_or_else(|| "no record".to_owned(), ToString::to_string)
}

fn data(kind: RecordKind, value: &str) -> Result<RData, String> {
    let wrong = || format!("{value:?} is no value of a record of type {kind}");
    Ok(match kind {
        RecordKind::A => RData::A(A(value.parse().map_err(|_| wrong())?)),
        RecordKind::Aaaa => RData::AAAA(AAAA(value.parse().map_err(|_| wrong())?)),
        RecordKind::Cname => RData::CNAME(CNAME(full_name(value)?)),
    })
}

fn value_of(data: &RData, kind: RecordKind) -> Option<String> {
    match kind {
        RecordKind::A => {
            if let RData::A(a) = data {
                Some(a.0.to_string())
            } else {
                None
            }
        }
        RecordKind::Aaaa => {
            if let RData::AAAA(a) = data {
                Some(a.0.to_string())
            } else {
                None
            }
        }
        RecordKind::Cname => {
            if let RData::CNAME(target) = data {
                Some(target.0.to_lowercase().to_ascii())
            } else {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_equal_text_however_they_are_written() {
        let one = RecordSet::new(RecordKind::Aaaa, 5, &["2001:DB8:0::1".into()]).unwrap();
        let two = RecordSet::new(RecordKind::Aaaa, 9, &["2001:db8::1".into()]).unwrap();
        assert!(one.same_values(&two));
        assert_ne!(one, two);
        assert_eq!(RecordKind::Cname.canonical("DB.Orders.Lab").unwrap(), "db.orders.lab.");
    }

    #[test]
    fn what_is_no_value_of_the_kind_is_refused() {
        for (kind, value) in [
            (RecordKind::A, "999.1.1.1"),
            (RecordKind::A, "2001:db8::1"),
            (RecordKind::A, "db.orders.lab"),
            (RecordKind::A, "010.0.0.1"),
            (RecordKind::A, ""),
            (RecordKind::Aaaa, "192.0.2.1"),
            (RecordKind::Cname, "a..b"),
            (RecordKind::Cname, "."),
        ] {
            assert!(kind.canonical(value).is_err(), "{value:?} was taken for a value of {kind}");
        }
    }

    #[test]
    fn an_empty_set_cannot_be_made() {
        assert!(RecordSet::new(RecordKind::A, 1, &[]).is_err());
        assert!(RecordSet::new(RecordKind::A, 1, &["192.0.2.1".into(), "192.0.2.1".into()]).is_err());
    }

    #[test]
    fn a_set_survives_the_way_to_the_wire_and_back() {
        let name = full_name("db.orders.lab").unwrap();
        for (kind, value) in [(RecordKind::A, "192.0.2.1"), (RecordKind::Aaaa, "2001:db8::1"), (RecordKind::Cname, "x.orders.lab.")] {
            let set = RecordSet::new(kind, 7, &[value.into()]).unwrap();
            let records = set.records(&name, kind, 7).unwrap();
            assert_eq!(RecordSet::among(&records, &name, kind), Some(set));
        }
    }
}
