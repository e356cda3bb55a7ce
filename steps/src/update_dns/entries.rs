//! Records of Route 53 as they are journaled, what they shall become, and whether Route 53 would take them. Pure: the emulators
//! that tests can have accept anything, so everything is checked here before a call.

use std::collections::BTreeMap;

use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};

use crate::clients::dns::{RecordKind, full_name};
use crate::resources::dns_record::{DnsRecord, Routing};

/// One record of Route 53 with every field that a change must not drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name, in full and without escapes.
    pub name: String,
    /// Its type.
    pub kind: RecordKind,
    /// What tells it from others of its name and type.
    pub identifier: Option<String>,
    /// Its share, with weighted routing.
    pub weight: Option<i64>,
    /// Its place, with failover routing.
    pub failover: Option<Place>,
    /// How long answers may be cached, in seconds; none for an alias.
    pub ttl_seconds: Option<i64>,
    /// Its values; none for an alias.
    pub values: Vec<String>,
    /// What it stands for, if it is an alias.
    pub alias: Option<Alias>,
    /// The health check that decides whether it is answered.
    pub health_check: Option<String>,
}

/// Whether a record is answered first or only when the first is unhealthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Place {
    /// First.
    Primary,
    /// Second.
    Secondary,
}

/// The target of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The hosted zone of the target.
    pub zone_id: String,
    /// Its name.
    pub name: String,
    /// Whether the target's own health counts.
    pub evaluate_health: bool,
}

/// Most characters of all values in one change (a deletion and a creation count each).
const VALUE_CHARACTERS_MAX: usize = 32_000;

/// Most values in one change.
const VALUES_MAX: usize = 1000;

/// Longest name, in bytes without escapes.
const NAME_BYTES_MAX: usize = 255;

/// The records after the move.
///
/// # Errors
/// Why it cannot be made, in a sentence.
pub fn wanted(record: &DnsRecord, routing: &Routing, to: &str, previous: &[Entry]) -> Result<Vec<Entry>, String> {
    match routing {
        Routing::Simple => simple(record, to, previous),
        Routing::Weighted { identifiers, weight } => weighted(record, identifiers, *weight, to, previous),
        Routing::Failover { identifiers } => failover(record, identifiers, to, previous),
    }
}

fn simple(record: &DnsRecord, to: &str, previous: &[Entry]) -> Result<Vec<Entry>, String> {
    let set = record.wanted(to)?;
    let values: Vec<String> = set.values.into_iter().collect();
    let ttl_seconds = Some(i64::from(record.ttl));
    match previous {
        [] => Ok(vec![Entry {
            name: full_name(&record.name)?.to_ascii(),
            kind: record.kind,
            identifier: None,
            weight: None,
            failover: None,
            ttl_seconds,
            values,
            alias: None,
            health_check: None,
        }]),
        [only] if only.identifier.is_none() => {
            if let Some(alias) = &only.alias {
                return Err(format!("{} is an alias for {}; writing addresses over it would lose that", record.name, alias.name));
            }
            Ok(vec![Entry { ttl_seconds, values, ..only.clone() }])
        }
        [..] => Err(format!(
            "{} has {} records told apart by SetIdentifier, and the inventory says simple routing: say weighted or failover",
            record.name,
            previous.len()
        )),
    }
}

fn weighted(
    record: &DnsRecord,
    identifiers: &BTreeMap<String, String>,
    weight: u8,
    to: &str,
    previous: &[Entry],
) -> Result<Vec<Entry>, String> {
    let chosen = chosen(record, identifiers, to, previous)?;
    previous
        .iter()
        .map(|entry| {
            if entry.weight.is_none() {
                return Err(format!("{} has a record that is not weighted: {}", record.name, shown(entry)));
            }
            let known = entry.identifier.as_ref().is_some_and(|found| identifiers.values().any(|known| known == found));
            if !known && entry.weight != Some(0) {
                return Err(format!(
                    "{} is not in the inventory and would go on getting clients: give it weight 0, or name it",
                    shown(entry)
                ));
            }
            let weight = if entry.identifier.as_ref() == Some(&chosen) { i64::from(weight) } else { 0 };
            Ok(Entry { weight: Some(weight), ..entry.clone() })
        })
        .collect()
}

fn failover(record: &DnsRecord, identifiers: &BTreeMap<String, String>, to: &str, previous: &[Entry]) -> Result<Vec<Entry>, String> {
    let chosen = chosen(record, identifiers, to, previous)?;
    if previous.len() != 2 {
        return Err(format!("{} has {} records; failover routing is one PRIMARY and one SECONDARY", record.name, previous.len()));
    }
    previous
        .iter()
        .map(|entry| {
            let first = entry.identifier.as_ref() == Some(&chosen);
            if entry.failover.is_none() {
                return Err(format!("{} has a record without failover routing: {}", record.name, shown(entry)));
            }
            if first && entry.health_check.is_none() && entry.alias.as_ref().is_none_or(|alias| !alias.evaluate_health) {
                return Err(format!("{} has no health check; a PRIMARY without one is never failed over from", shown(entry)));
            }
            Ok(Entry { failover: Some(if first { Place::Primary } else { Place::Secondary }), ..entry.clone() })
        })
        .collect()
}

/// The SetIdentifier of the target, which must be there with the values that the inventory names.
fn chosen(record: &DnsRecord, identifiers: &BTreeMap<String, String>, to: &str, previous: &[Entry]) -> Result<String, String> {
    let set = record.wanted(to)?;
    let identifier = identifiers.get(to).ok_or_else(|| format!("target {to:?} has no SetIdentifier in the inventory"))?;
    let missing: Vec<&str> = identifiers
        .values()
        .map(String::as_str)
        .filter(|wanted| !previous.iter().any(|entry| entry.identifier.as_deref() == Some(wanted)))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} has no record with the SetIdentifier {}: it must be wired before it is needed",
            record.name,
            missing.join(", ")
        ));
    }
    let entry = previous.iter().find(|entry| entry.identifier.as_ref() == Some(identifier));
    if let Some(entry) = entry.filter(|entry| entry.alias.is_none()) {
        let found: std::collections::BTreeSet<String> = entry.values.iter().cloned().collect();
        if found != set.values {
            return Err(format!("{} does not hold what the inventory names for {to}: {set}", shown(entry)));
        }
    }
    Ok(identifier.clone())
}

/// Whether Route 53 would take these records at a name where, of other types, only those exist.
///
/// # Errors
/// What it would refuse, in a sentence.
pub fn check(zone: &Name, entries: &[Entry], other_types: &[String]) -> Result<(), String> {
    if entries.is_empty() {
        return Err("there is nothing to write; a name is never emptied".into());
    }
    for entry in entries {
        check_entry(zone, entry)?;
        if entry.kind == RecordKind::Cname && !other_types.is_empty() {
            return Err(format!("{} has records of type {}; a CNAME cannot stand beside them", entry.name, other_types.join(", ")));
        }
    }
    if entries.iter().any(|entry| entry.kind != RecordKind::Cname) && other_types.iter().any(|kind| kind == "CNAME") {
        return Err(format!("{} is a CNAME; a record of another type cannot stand beside it", entries[0].name));
    }
    check_group(entries)?;
    let values = entries.iter().map(|entry| entry.values.len().max(1)).sum::<usize>() * 2;
    let characters = entries.iter().flat_map(|entry| &entry.values).map(|value| value.chars().count()).sum::<usize>() * 2;
    if values > VALUES_MAX || characters > VALUE_CHARACTERS_MAX {
        return Err(format!(
            "a change of {values} values and {characters} characters is more than Route 53 takes ({VALUES_MAX} and {VALUE_CHARACTERS_MAX})"
        ));
    }
    Ok(())
}

fn check_entry(zone: &Name, entry: &Entry) -> Result<(), String> {
    let name = full_name(&entry.name)?;
    if entry.name.len() > NAME_BYTES_MAX {
        return Err(format!("{} is longer than {NAME_BYTES_MAX} bytes", entry.name));
    }
    if !zone.zone_of(&name) {
        return Err(format!("{name} is not inside the zone {zone}"));
    }
    if entry.kind == RecordKind::Cname && name == *zone {
        return Err(format!("{name} is the top of its zone, where a CNAME is not allowed"));
    }
    for value in &entry.values {
        entry.kind.canonical(value)?;
    }
    if entry.kind == RecordKind::Cname && entry.values.len() > 1 {
        return Err(format!("{name} would be a CNAME with {} values", entry.values.len()));
    }
    match (&entry.alias, entry.ttl_seconds, entry.values.is_empty()) {
        (Some(_), None, true) => {}
        (Some(_), _, _) => return Err(format!("{} is an alias, which has neither a TTL nor values", shown(entry))),
        (None, Some(0..=2_147_483_647), false) => {}
        (None, Some(ttl), false) => return Err(format!("{} has a TTL of {ttl} s, outside 0 to 2147483647", shown(entry))),
        (None, None, _) => return Err(format!("{} has no TTL", shown(entry))),
        (None, Some(_), true) => return Err(format!("{} has no value", shown(entry))),
    }
    if entry.weight.is_some_and(|weight| !(0..=255).contains(&weight)) {
        return Err(format!("{} has a weight outside 0 to 255", shown(entry)));
    }
    if entry.identifier.as_ref().is_some_and(|identifier| identifier.is_empty() || identifier.chars().count() > 128) {
        return Err(format!("{} has a SetIdentifier that is empty or longer than 128 characters", shown(entry)));
    }
    if entry.identifier.is_some() != (entry.weight.is_some() || entry.failover.is_some()) {
        return Err(format!("{} mixes simple and other routing", shown(entry)));
    }
    Ok(())
}

/// What only the records of one name together can be wrong in.
fn check_group(entries: &[Entry]) -> Result<(), String> {
    let name = &entries[0].name;
    let simple = entries.iter().filter(|entry| entry.identifier.is_none()).count();
    if simple > 0 && entries.len() > 1 {
        return Err(format!("{name} would have a simple record beside others"));
    }
    let mut identifiers: Vec<&String> = entries.iter().filter_map(|entry| entry.identifier.as_ref()).collect();
    identifiers.sort_unstable();
    if identifiers.windows(2).any(|two| two[0] == two[1]) {
        return Err(format!("{name} would have two records with one SetIdentifier"));
    }
    let (weighted, failover) =
        (entries.iter().filter(|entry| entry.weight.is_some()).count(), entries.iter().filter(|entry| entry.failover.is_some()).count());
    if weighted > 0 && failover > 0 {
        return Err(format!("{name} would have weighted and failover records beside each other"));
    }
    if weighted > 0 && entries.iter().all(|entry| entry.weight == Some(0)) {
        return Err(format!("all records of {name} would have weight 0, and Route 53 would spread clients over all of them"));
    }
    let places = |place| entries.iter().filter(|entry| entry.failover == Some(place)).count();
    if failover > 0 && (places(Place::Primary) != 1 || places(Place::Secondary) > 1) {
        return Err(format!("{name} would not have exactly one PRIMARY and at most one SECONDARY"));
    }
    Ok(())
}

/// A record in words.
#[must_use]
pub fn shown(entry: &Entry) -> String {
    let identifier = entry.identifier.as_ref().map_or_else(String::new, |identifier| format!(" ({identifier})"));
    let value = entry.alias.as_ref().map_or_else(|| entry.values.join(", "), |alias| format!("alias for {}", alias.name));
    let weight = entry.weight.map_or_else(String::new, |weight| format!(", weight {weight}"));
    let place = match entry.failover {
        Some(Place::Primary) => ", PRIMARY",
        Some(Place::Secondary) => ", SECONDARY",
        None => "",
    };
    let ttl = entry.ttl_seconds.map_or_else(String::new, |ttl| format!(", TTL {ttl} s"));
    format!("{} {}{identifier}: {value}{weight}{place}{ttl}", entry.name, entry.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(identifier: Option<&str>, values: &[&str]) -> Entry {
        Entry {
            name: "db.orders.lab.".into(),
            kind: RecordKind::A,
            identifier: identifier.map(Into::into),
            weight: None,
            failover: None,
            ttl_seconds: Some(60),
            values: values.iter().map(ToString::to_string).collect(),
            alias: None,
            health_check: Some("hc-1".into()),
        }
    }

    fn record(routing: serde_json::Value) -> DnsRecord {
        serde_json::from_value(json!({
            "name": "db.orders.lab.", "type": "A", "ttl": 5,
            "targets": { "east": ["192.0.2.1"], "west": ["192.0.2.2"] },
            "route53": { "zone_id": "Z1", "zone": "orders.lab.", "account_id": "123456789012", "region": "us-west-2",
                "credentials": { "access_key_id": "env:A", "secret_access_key": "env:B" }, "routing": routing },
        }))
        .unwrap()
    }

    fn moved(routing: serde_json::Value, to: &str, previous: &[Entry]) -> Result<Vec<Entry>, String> {
        let record = record(routing);
        let routing = record.route53.as_ref().unwrap().routing.clone();
        wanted(&record, &routing, to, previous)
    }

    #[test]
    fn a_simple_record_keeps_its_health_check() {
        let before = entry(None, &["192.0.2.1"]);
        let after = moved(json!("simple"), "west", std::slice::from_ref(&before)).unwrap();
        assert_eq!(after, [Entry { values: vec!["192.0.2.2".into()], ttl_seconds: Some(5), ..before }]);
    }

    fn weights() -> serde_json::Value {
        json!({ "weighted": { "identifiers": { "east": "e", "west": "w" }, "weight": 100 } })
    }

    #[test]
    fn weights_move_and_every_other_field_stays() {
        let east = Entry { weight: Some(100), ..entry(Some("e"), &["192.0.2.1"]) };
        let west = Entry { weight: Some(0), health_check: None, ..entry(Some("w"), &["192.0.2.2"]) };
        let after = moved(weights(), "west", &[east.clone(), west.clone()]).unwrap();
        assert_eq!(after, [Entry { weight: Some(0), ..east.clone() }, Entry { weight: Some(100), ..west.clone() }]);
        let stranger = Entry { weight: Some(7), ..entry(Some("x"), &["192.0.2.9"]) };
        assert!(moved(weights(), "west", &[east.clone(), west.clone(), stranger]).unwrap_err().contains("go on getting clients"));
        assert!(moved(weights(), "west", std::slice::from_ref(&east)).unwrap_err().contains("wired before"));
        let drifted = Entry { values: vec!["192.0.2.77".into()], ..west };
        assert!(moved(weights(), "west", &[east, drifted]).unwrap_err().contains("does not hold what the inventory names"));
    }

    #[test]
    fn failover_records_exchange_their_places_and_keep_aliases() {
        let routing = json!({ "failover": { "identifiers": { "east": "e", "west": "w" } } });
        let east = Entry { failover: Some(Place::Primary), ..entry(Some("e"), &["192.0.2.1"]) };
        let alias = Alias { zone_id: "Z2".into(), name: "lb.west.lab.".into(), evaluate_health: true };
        let west =
            Entry { failover: Some(Place::Secondary), ttl_seconds: None, alias: Some(alias), health_check: None, ..entry(Some("w"), &[]) };
        let after = moved(routing.clone(), "west", &[east.clone(), west.clone()]).unwrap();
        assert_eq!(
            after,
            [Entry { failover: Some(Place::Secondary), ..east.clone() }, Entry { failover: Some(Place::Primary), ..west.clone() }]
        );
        let unchecked = Entry { alias: None, ttl_seconds: Some(60), values: vec!["192.0.2.2".into()], ..west };
        assert!(moved(routing, "west", &[east, unchecked]).unwrap_err().contains("never failed over from"));
    }

    #[test]
    fn what_route_53_refuses_is_refused_before_the_call() {
        let zone = full_name("orders.lab").unwrap();
        let good = entry(None, &["192.0.2.1"]);
        let w = |weight| Entry { weight: Some(weight), ..entry(Some("e"), &["192.0.2.1"]) };
        let f = |identifier, place| Entry { failover: Some(place), ..entry(Some(identifier), &["192.0.2.1"]) };
        let alias = Some(Alias { zone_id: "Z".into(), name: "x.".into(), evaluate_health: false });
        check(&zone, std::slice::from_ref(&good), &["TXT".into()]).unwrap();
        check(&zone, &[f("e", Place::Primary), f("w", Place::Secondary)], &[]).unwrap();
        let many = (0..600).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
        let cases: Vec<(Vec<Entry>, &[&str], &str)> = vec![
            (vec![], &[], "never emptied"),
            (vec![Entry { values: vec!["999.1.1.1".into()], ..good.clone() }], &[], "no IPv4 address"),
            (vec![Entry { values: vec![], ..good.clone() }], &[], "no value"),
            (vec![Entry { ttl_seconds: Some(-1), ..good.clone() }], &[], "TTL"),
            (vec![Entry { ttl_seconds: None, ..good.clone() }], &[], "no TTL"),
            (vec![Entry { alias: alias.clone(), ..good.clone() }], &[], "neither a TTL nor values"),
            (vec![Entry { name: "db.other.lab.".into(), ..good.clone() }], &[], "not inside the zone"),
            (
                vec![Entry { name: "orders.lab.".into(), kind: RecordKind::Cname, values: vec!["x.lab.".into()], ..good.clone() }],
                &[],
                "top of its zone",
            ),
            (vec![Entry { kind: RecordKind::Cname, values: vec!["x.lab.".into()], ..good.clone() }], &["A"], "cannot stand beside"),
            (vec![Entry { kind: RecordKind::Cname, values: vec!["x.lab.".into(), "y.lab.".into()], ..good.clone() }], &[], "2 values"),
            (vec![good.clone()], &["CNAME"], "is a CNAME"),
            (vec![w(256)], &[], "outside 0 to 255"),
            (vec![w(0)], &[], "weight 0"),
            (vec![Entry { identifier: Some("i".repeat(129)), ..w(1) }], &[], "SetIdentifier"),
            (vec![Entry { identifier: Some("e".into()), ..good.clone() }], &[], "mixes simple"),
            (vec![Entry { weight: Some(1), ..good.clone() }], &[], "mixes simple"),
            (vec![good.clone(), w(1)], &[], "beside others"),
            (vec![w(1), w(1)], &[], "one SetIdentifier"),
            (vec![w(1), f("w", Place::Primary)], &[], "weighted and failover"),
            (vec![f("e", Place::Primary), f("w", Place::Primary)], &[], "exactly one PRIMARY"),
            (vec![f("e", Place::Secondary)], &[], "exactly one PRIMARY"),
            (vec![Entry { values: many, ..good }], &[], "more than Route 53 takes"),
        ];
        for (entries, others, words) in cases {
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            let why = check(&zone, &entries, &others).expect_err(words);
            assert!(why.contains(words), "{words}: {why}");
        }
    }
}
