//! Moving a record by signed dynamic updates: read, compare and set, then ask every authoritative server until each serves it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use hickory_proto::rr::{Name, RecordType};
use jiff::Timestamp;
use lifeboat_engine::census::Thing;
use lifeboat_engine::step::{Observation, Readiness, StepError};
use lifeboat_engine::{Evidence, ReadContext, StepContext};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Moved;
use super::proof::{self, Needed, Proof};
use crate::clients::dns::{
    Change, DnsError, Passing, Presence, Reader, RecordKind, RecordSet, Seen, Signer, UpdateAnswer, UpdateError, Updater, full_name,
    in_words,
};
use crate::mutants::{self, Mutant};
use crate::resources::dns_record::{DnsRecord, Provider, Rfc2136};

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The zone, in full.
    pub zone: String,
    /// The record's name, in full.
    pub name: String,
    /// Its type.
    pub kind: RecordKind,
    /// The target's name.
    pub to: String,
    /// The whole set that was there.
    pub previous: Option<RecordSet>,
    /// The whole set that shall be there.
    pub wanted: RecordSet,
    /// The zone's serial when the old set was read.
    pub serial_before: u32,
    /// How long the old answer may be cached, in seconds.
    pub cached_seconds: u32,
    /// The primary that was read and will be written.
    pub primary: SocketAddr,
    /// Every server that must serve the new set.
    pub servers: Vec<SocketAddr>,
    /// When the old set was read.
    pub prepared_at: Timestamp,
}

impl Intent {
    fn names(&self) -> Result<(Name, Name), StepError> {
        let name = |text: &str| full_name(text).map_err(|why| StepError::unknown(format!("the journaled intent cannot be used: {why}")));
        Ok((name(&self.zone)?, name(&self.name)?))
    }

    fn is_set(&self) -> bool {
        self.previous.as_ref() == Some(&self.wanted)
    }
}

/// The record's server, or why there is none.
pub(super) fn server_of(record: &DnsRecord) -> Result<&Rfc2136, StepError> {
    match record.provider().map_err(StepError::hopeless)? {
        Provider::Rfc2136(server) => Ok(server),
        Provider::Route53(_) => Err(StepError::refused(
            format!("{} was to be changed by dynamic updates, and the inventory now says Route 53", record.name),
            Evidence::none(),
        )),
    }
}

pub(super) async fn prepare(
    cx: &ReadContext,
    record: &DnsRecord,
    server: &Rfc2136,
    to: &str,
    wanted: RecordSet,
) -> Result<Readiness<Intent>, StepError> {
    let (zone, name) = match (full_name(&server.zone), full_name(&record.name)) {
        (Ok(zone), Ok(name)) => (zone, name),
        (Err(why), _) | (_, Err(why)) => return Ok(Readiness::Refused { why, evidence: Evidence::none() }),
    };
    let mut evidence = Evidence::none();
    let refused = |why: String, evidence: Evidence| Ok(Readiness::Refused { why, evidence });
    let signer = match Signer::new(cx, &server.tsig) {
        Ok(signer) => signer,
        Err(why) => return refused(why, evidence),
    };
    let reader = Reader::new(cx);
    let primary = server.primary.0;
    let (zone_before, seen) = match steady_read(&reader, primary, &zone, &name, record.kind).await {
        Ok(read) => read,
        Err(error) => return unanswered(error, evidence),
    };
    evidence.note(format!("{name} at the primary {primary}"), in_words(seen.set.as_ref()));
    evidence.note(format!("serial of {zone}"), zone_before.serial);
    if let Err(error) = reader.prove_key(primary, &zone, &signer).await {
        return unanswered(error, evidence);
    }
    evidence.note(format!("the primary accepts the key {}", signer.key_name()), true);
    match conflict(&reader, primary, &name, record.kind, &seen).await {
        Ok(None) => {}
        Ok(Some(why)) => return refused(why, evidence),
        Err(error) => return unanswered(error, evidence),
    }
    if record.kind == RecordKind::A && reader.has(primary, &name, RecordType::AAAA).await == Ok(Presence::There) {
        evidence.note("AAAA records stand at the same name and are not moved by this step", true);
    }
    let servers = match servers(&reader, server, &zone, &mut evidence).await {
        Ok(servers) => servers,
        Err(why) => return refused(why, evidence),
    };
    for address in &servers {
        let answer =
            reader.zone(*address, &zone).await.map_or_else(|error| Value::from(error.to_string()), |zone| Value::from(zone.serial));
        evidence.note(format!("serial at {address}"), answer);
    }
    let cached_seconds = seen.set.as_ref().map_or(zone_before.negative_ttl_seconds, |set| set.ttl_seconds);
    evidence.note("seconds that clients may keep the old answer", cached_seconds);
    let intent = Intent {
        zone: zone.to_ascii(),
        name: name.to_ascii(),
        kind: record.kind,
        to: to.to_owned(),
        previous: seen.set,
        wanted,
        serial_before: zone_before.serial,
        cached_seconds,
        primary,
        servers,
        prepared_at: cx.now(),
    };
    Ok(Readiness::Ready { intent, evidence })
}

/// A server that gave no answer may give one soon; one that said no has answered.
fn unanswered(error: DnsError, evidence: Evidence) -> Result<Readiness<Intent>, StepError> {
    match &error {
        DnsError::Silent { .. } | DnsError::Malformed { .. } => Err(StepError::not_done(error.to_string())),
        DnsError::Refused { .. } | DnsError::NotAuthoritative { .. } | DnsError::KeyRefused { .. } => {
            Ok(Readiness::Refused { why: error.to_string(), evidence })
        }
    }
}

/// Most reads to get a set and a serial that belong together.
const STEADY_READS_MAX: u32 = 5;

/// Reads set and serial so that the serial did not change in between.
async fn steady_read(
    reader: &Reader,
    primary: SocketAddr,
    zone: &Name,
    name: &Name,
    kind: RecordKind,
) -> Result<(crate::clients::dns::Zone, Seen), DnsError> {
    let mut before = reader.zone(primary, zone).await?;
    let mut seen = reader.set(primary, name, kind).await?;
    for _ in 1..STEADY_READS_MAX {
        let after = reader.zone(primary, zone).await?;
        if after.serial == before.serial {
            break;
        }
        before = after;
        seen = reader.set(primary, name, kind).await?;
    }
    // A zone that changes at every look is still safe: the update carries the old set as its condition.
    Ok((before, seen))
}

/// Types that people put beside each other, asked for because a CNAME bears no neighbours.
const NEIGHBOURS: [RecordType; 9] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::MX,
    RecordType::NS,
    RecordType::SRV,
    RecordType::CAA,
    RecordType::HTTPS,
    RecordType::SVCB,
];

async fn conflict(reader: &Reader, primary: SocketAddr, name: &Name, kind: RecordKind, seen: &Seen) -> Result<Option<String>, DnsError> {
    if let Some(target) = &seen.alias {
        return Ok(Some(format!("{name} is a CNAME to {target}; a record of type {kind} cannot stand beside it: remove the CNAME first")));
    }
    match kind {
        RecordKind::A | RecordKind::Aaaa => return Ok(None),
        RecordKind::Cname => {}
    }
    for neighbour in NEIGHBOURS {
        if reader.has(primary, name, neighbour).await? == Presence::There {
            return Ok(Some(format!("{name} has records of type {neighbour}; a CNAME cannot stand beside them: remove those first")));
        }
    }
    Ok(None)
}

/// What each authoritative server gives for the record, and the one that takes updates.
pub(super) async fn census(cx: &ReadContext, record: &DnsRecord, server: &Rfc2136) -> Result<Vec<Thing>, StepError> {
    let reader = Reader::new(cx);
    let name = full_name(&record.name).map_err(StepError::hopeless)?;
    let zone = full_name(&server.zone).map_err(StepError::hopeless)?;
    let listed = servers(&reader, server, &zone, &mut Evidence::none()).await.map_err(StepError::not_done)?;
    let addresses: BTreeSet<SocketAddr> = listed.into_iter().chain([server.primary.0]).collect();
    let mut things = Vec::new();
    for address in addresses {
        let seen = reader.set(address, &name, record.kind).await.map_err(|error| StepError::not_done(error.to_string()))?;
        let state = match seen.alias {
            Some(alias) => format!("an alias of {alias}"),
            None => in_words(seen.set.as_ref()),
        };
        things.push(Thing::new(format!("{} at {address}", record.name), state));
    }
    Ok(things)
}

/// Every server whose answer counts: those of the inventory, or else those that the zone names.
async fn servers(reader: &Reader, server: &Rfc2136, zone: &Name, evidence: &mut Evidence) -> Result<Vec<SocketAddr>, String> {
    let mut all: BTreeSet<SocketAddr> = server.servers.iter().map(|address| address.0).collect();
    if all.is_empty() {
        let (found, unknown) = reader.name_servers(server.primary.0, zone).await.map_err(|error| error.to_string())?;
        if !unknown.is_empty() {
            return Err(format!(
                "the zone {zone} names {} as its servers, whose addresses the zone itself does not hold: list every server's address under rfc2136.servers",
                unknown.join(", ")
            ));
        }
        all.extend(found.into_iter().map(|address| SocketAddr::new(address, 53)));
        evidence.note("servers found in the zone's NS records", all.len());
    }
    all.insert(server.primary.0);
    Ok(all.into_iter().collect())
}

pub(super) async fn execute(cx: &StepContext, server: &Rfc2136, intent: &Intent) -> Result<Moved, StepError> {
    let (zone, name) = intent.names()?;
    if intent.is_set() {
        cx.progress("the record already is as wanted; asking every server");
        return finish(cx, server, intent, intent.prepared_at).await;
    }
    let reader = Reader::new(cx);
    // An earlier attempt may have succeeded without our knowing: then there is nothing to send, only to prove.
    let seen = reader.set(intent.primary, &name, intent.kind).await.map_err(|error| StepError::not_done(error.to_string()))?;
    if seen.set.as_ref() == Some(&intent.wanted) {
        return finish(cx, server, intent, intent.prepared_at).await;
    }
    let signer = Signer::new(cx, &server.tsig).map_err(StepError::hopeless)?;
    let change = Change { zone: &zone, name: &name, kind: intent.kind, expected: intent.previous.as_ref(), wanted: &intent.wanted };
    let submitted_at = cx.now();
    cx.progress("sending the update");
    match Updater::new(cx, intent.primary, signer).submit(&change).await {
        Ok(UpdateAnswer::Accepted) => finish(cx, server, intent, submitted_at).await,
        Ok(UpdateAnswer::NotAsExpected { code }) => {
            let seen = read_back(&reader, intent, &name).await?;
            if seen.set.as_ref() == Some(&intent.wanted) {
                return finish(cx, server, intent, intent.prepared_at).await;
            }
            Err(changed_by_another(intent, &seen, &code))
        }
        Ok(UpdateAnswer::Rejected { why, passing }) => {
            let seen = read_back(&reader, intent, &name).await?;
            if seen.set.as_ref() == Some(&intent.wanted) {
                return finish(cx, server, intent, intent.prepared_at).await;
            }
            let why = format!("the DNS server {} did not take the update: {why}", intent.primary);
            Err(match passing {
                Passing::MayPass => StepError::not_done(why),
                Passing::WillStay => StepError::hopeless(why),
            })
        }
        Err(error @ UpdateError::NotSent { .. }) => Err(StepError::not_done(error.to_string())),
        Err(error @ UpdateError::Lost { .. }) => Err(StepError::unknown(error.to_string())),
    }
}

async fn read_back(reader: &Reader, intent: &Intent, name: &Name) -> Result<Seen, StepError> {
    // The server said no, so nothing was changed by us; but what stands there now decides what that means.
    reader.set(intent.primary, name, intent.kind).await.map_err(|error| StepError::unknown(error.to_string()))
}

fn changed_by_another(intent: &Intent, seen: &Seen, code: &str) -> StepError {
    let now = in_words(seen.set.as_ref());
    let evidence = Evidence::of("expected", in_words(intent.previous.as_ref())).with("found", now.clone()).with("answer", code);
    StepError::refused(
        format!(
            "{} was changed by somebody else: it was {} when this step was prepared and is {now} now; nothing was written",
            intent.name,
            in_words(intent.previous.as_ref())
        ),
        evidence,
    )
}

/// Waits until every server serves the wanted set, and says so.
async fn finish(cx: &StepContext, server: &Rfc2136, intent: &Intent, submitted_at: Timestamp) -> Result<Moved, StepError> {
    let needed = Needed::new(intent, &intent.wanted)?;
    cx.progress("waiting until every authoritative server answers with the new address");
    match proof::wait(cx, server.silent_servers_max, &needed).await {
        Ok(proof) => Ok(moved(intent, submitted_at, proof)),
        Err(why) => Err(StepError::unknown(why)),
    }
}

fn moved(intent: &Intent, submitted_at: Timestamp, proof: Proof) -> Moved {
    Moved {
        name: intent.name.clone(),
        to: intent.to.clone(),
        previous: intent.previous.iter().flat_map(|set| set.values.iter().cloned()).collect(),
        now: intent.wanted.values.iter().cloned().collect(),
        changed: !intent.is_set(),
        ttl_seconds: intent.cached_seconds,
        submitted_at,
        proven_at: proof.at,
        serial_before: Some(intent.serial_before),
        serial_after: Some(proof.serial),
        servers: proof.servers,
    }
}

pub(super) async fn observe(cx: &ReadContext, server: &Rfc2136, intent: &Intent) -> Result<Observation<Moved>, StepError> {
    let (_, name) = intent.names()?;
    let reader = Reader::new(cx);
    let seen = match reader.set(intent.primary, &name, intent.kind).await {
        Ok(seen) => seen,
        Err(error) => return Ok(Observation::Unknown { why: error.to_string() }),
    };
    if seen.set.as_ref() == Some(&intent.wanted) {
        let needed = Needed::new(intent, &intent.wanted)?;
        return Ok(match proof::look(cx, server.silent_servers_max, &needed).await {
            Ok(proof) => Observation::Done(moved(intent, intent.prepared_at, proof)),
            Err(_) => Observation::InProgress,
        });
    }
    if seen.set == intent.previous {
        return Ok(Observation::NotDone);
    }
    let evidence = Evidence::of("expected before", in_words(intent.previous.as_ref()))
        .with("wanted", intent.wanted.to_string())
        .with(format!("found at {}", intent.primary), in_words(seen.set.as_ref()));
    Ok(Observation::Foreign { evidence })
}

pub(super) async fn undo(cx: &StepContext, server: &Rfc2136, intent: &Intent) -> Result<(), StepError> {
    let (zone, name) = intent.names()?;
    let Some(previous) = &intent.previous else {
        let why = format!("{name} did not exist before, and a name is never emptied: remove it by hand if it must go");
        return Err(StepError::refused(why, Evidence::none()));
    };
    if mutants::is(Mutant::FormerSetForgotten) {
        return Ok(());
    }
    let reader = Reader::new(cx);
    let seen = reader.set(intent.primary, &name, intent.kind).await.map_err(|error| StepError::not_done(error.to_string()))?;
    if seen.set.as_ref() != Some(previous) {
        if !seen.set.as_ref().is_some_and(|set| set.same_values(&intent.wanted)) {
            let evidence = Evidence::of("written by this run", intent.wanted.to_string()).with("found", in_words(seen.set.as_ref()));
            return Err(StepError::refused(format!("{name} was changed since by somebody else; it is left as it is"), evidence));
        }
        let signer = Signer::new(cx, &server.tsig).map_err(StepError::hopeless)?;
        let change = Change { zone: &zone, name: &name, kind: intent.kind, expected: Some(&intent.wanted), wanted: previous };
        match Updater::new(cx, intent.primary, signer).submit(&change).await {
            Ok(UpdateAnswer::Accepted) => {}
            Ok(UpdateAnswer::NotAsExpected { code }) => {
                return Err(StepError::unknown(format!("{name} changed while it was put back ({code}): it has to be looked at again")));
            }
            Ok(UpdateAnswer::Rejected { why, passing: Passing::MayPass }) => return Err(StepError::not_done(why)),
            Ok(UpdateAnswer::Rejected { why, passing: Passing::WillStay }) => return Err(StepError::hopeless(why)),
            Err(error @ UpdateError::NotSent { .. }) => return Err(StepError::not_done(error.to_string())),
            Err(error @ UpdateError::Lost { .. }) => return Err(StepError::unknown(error.to_string())),
        }
    }
    cx.progress("waiting until every authoritative server answers with the former address");
    let needed = Needed::new(intent, previous)?;
    proof::wait(cx, server.silent_servers_max, &needed).await.map(|_| ()).map_err(StepError::unknown)
}

impl Needed {
    fn new(intent: &Intent, set: &RecordSet) -> Result<Self, StepError> {
        let (zone, name) = intent.names()?;
        Ok(Self { zone, name, kind: intent.kind, set: set.clone(), primary: intent.primary, servers: intent.servers.clone() })
    }
}
