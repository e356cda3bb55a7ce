//! Moving a record in Amazon Route 53: list it, exchange exactly what was listed, wait until all of Route 53's servers have it.
//!
//! Route 53 has no condition on an UPSERT: the last writer wins, also one that planned long ago. A batch that deletes the
//! records just as they were listed and creates the wanted ones is taken whole or not at all, and a deletion whose values no
//! longer fit fails; so that batch is our compare-and-set. UPSERT is left for what is already as wanted, to get a change to ask about.

use aws_sdk_route53::types::{AliasTarget, ChangeAction, ResourceRecord, ResourceRecordSet, ResourceRecordSetFailover, RrType};
use jiff::Timestamp;
use lifeboat_engine::step::{Observation, Readiness, StepError};
use lifeboat_engine::{Evidence, ReadContext, StepContext};
use serde::{Deserialize, Serialize};

use super::entries::{self, Alias, Entry, Place};
use super::{Moved, ServerSeen};
use crate::clients::aws::{AwsError, ChangeId, Spread, ZoneReader, ZoneWriter, plain_name};
use crate::clients::dns::{RecordKind, full_name};
use crate::resources::dns_record::{DnsRecord, Provider, Route53};

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The hosted zone.
    pub zone_id: String,
    /// The record's name, in full.
    pub name: String,
    /// Its type.
    pub kind: RecordKind,
    /// The target's name.
    pub to: String,
    /// Every record that was there, with all its fields.
    pub previous: Vec<Entry>,
    /// Every record that shall be there.
    pub wanted: Vec<Entry>,
    /// How long old answers may be cached, in seconds.
    pub cached_seconds: u32,
    /// When the old records were listed.
    pub prepared_at: Timestamp,
}

/// How long "there is no such record" may be cached, in seconds, where the zone's SOA is not asked: Route 53's own default.
const NEGATIVE_TTL_SECONDS: u32 = 900;

/// The record's hosted zone, or why there is none.
pub(super) fn hosted_of(record: &DnsRecord) -> Result<&Route53, StepError> {
    match record.provider().map_err(StepError::hopeless)? {
        Provider::Route53(hosted) => Ok(hosted),
        Provider::Rfc2136(_) => Err(StepError::refused(
            format!("{} was to be changed in Route 53, and the inventory now says dynamic updates", record.name),
            Evidence::none(),
        )),
    }
}

pub(super) async fn prepare(cx: &ReadContext, record: &DnsRecord, hosted: &Route53, to: &str) -> Result<Readiness<Intent>, StepError> {
    let mut evidence = Evidence::none();
    match plan(cx, record, hosted, to, &mut evidence).await {
        Ok(intent) => Ok(Readiness::Ready { intent, evidence }),
        Err(Unplanned::Refused(why)) => Ok(Readiness::Refused { why, evidence }),
        Err(Unplanned::Unanswered(why)) => Err(StepError::not_done(why)),
    }
}

/// Why there is no intent.
enum Unplanned {
    /// It must not be done.
    Refused(String),
    /// Nobody answered, which may pass.
    Unanswered(String),
}

impl From<String> for Unplanned {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

impl From<AwsError> for Unplanned {
    fn from(error: AwsError) -> Self {
        match error {
            AwsError::Refused { .. } | AwsError::NotSent { .. } => Self::Refused(error.to_string()),
            AwsError::Busy { .. } | AwsError::Lost { .. } => Self::Unanswered(error.to_string()),
        }
    }
}

async fn plan(cx: &ReadContext, record: &DnsRecord, hosted: &Route53, to: &str, evidence: &mut Evidence) -> Result<Intent, Unplanned> {
    let (zone, name) = (full_name(&hosted.zone)?, full_name(&record.name)?.to_ascii());
    let reader = ZoneReader::new(cx, hosted)?;
    match reader.account().await {
        Ok(account) if account == hosted.account_id => evidence.note("account of the credentials", account),
        Ok(account) => return Err(format!("the credentials belong to account {account}, not to {}", hosted.account_id).into()),
        // A zone's id belongs to one account for ever, and is checked next; the token service may be what is down.
        Err(error) => evidence.note("account of the credentials", format!("not confirmed: {error}")),
    }
    let found = reader.zone().await?;
    if plain_name(&found.name) != zone.to_ascii() {
        return Err(format!("the hosted zone {} is {}, not {zone}", hosted.zone_id, found.name).into());
    }
    evidence.note("hosted zone", found.name);
    evidence.note("its servers", found.name_servers);
    let listed = reader.records(&name).await?;
    let (previous, others) = read(&listed, record.kind)?;
    let shown: Vec<String> = previous.iter().map(entries::shown).collect();
    evidence.note(format!("{name} now"), if shown.is_empty() { "no record".into() } else { shown.join("; ") });
    let wanted = entries::wanted(record, &hosted.routing, to, &previous)?;
    entries::check(&zone, &wanted, &others)?;
    let cached = previous.iter().filter_map(|entry| entry.ttl_seconds).max();
    // An alias is answered with the TTL of its target, 60 s for Amazon's own load balancers and zones.
    let cached = cached.or_else(|| (!previous.is_empty()).then_some(60)).and_then(|ttl| u32::try_from(ttl).ok());
    let cached_seconds = cached.unwrap_or(NEGATIVE_TTL_SECONDS);
    evidence.note("seconds that clients may keep the old answer", cached_seconds);
    Ok(Intent {
        zone_id: hosted.zone_id.clone(),
        name,
        kind: record.kind,
        to: to.to_owned(),
        previous,
        wanted,
        cached_seconds,
        prepared_at: cx.now(),
    })
}

/// The records of one type among those listed at a name, and the other types there.
fn read(listed: &[ResourceRecordSet], kind: RecordKind) -> Result<(Vec<Entry>, Vec<String>), String> {
    let (ours, others): (Vec<_>, Vec<_>) = listed.iter().partition(|set| set.r#type().as_str() == kind.to_string());
    let mut entries = ours.into_iter().map(|set| entry(set, kind)).collect::<Result<Vec<_>, _>>()?;
    entries.sort_by(|one, other| one.identifier.cmp(&other.identifier));
    Ok((entries, others.into_iter().map(|set| set.r#type().as_str().to_owned()).collect()))
}

fn entry(set: &ResourceRecordSet, kind: RecordKind) -> Result<Entry, String> {
    let name = plain_name(set.name());
    let kept = [
        ("latency routing", set.region().is_some()),
        ("geolocation routing", set.geo_location().is_some()),
        ("geoproximity routing", set.geo_proximity_location().is_some()),
        ("multivalue answers", set.multi_value_answer().is_some()),
        ("IP-based routing", set.cidr_routing_config().is_some()),
        ("a traffic policy", set.traffic_policy_instance_id().is_some()),
    ];
    if let Some((what, _)) = kept.iter().find(|(_, there)| *there) {
        return Err(format!("{name} uses {what}, which this step would lose: it moves simple, weighted and failover records"));
    }
    let failover = match set.failover() {
        None => None,
        Some(ResourceRecordSetFailover::Primary) => Some(Place::Primary),
        Some(ResourceRecordSetFailover::Secondary) => Some(Place::Secondary),
        Some(other) => return Err(format!("{name} has the failover place {other}, which is not known here")),
    };
    let alias = set.alias_target().map(|alias| Alias {
        zone_id: alias.hosted_zone_id().to_owned(),
        name: alias.dns_name().to_owned(),
        evaluate_health: alias.evaluate_target_health(),
    });
    // Values stay as Route 53 has them: a deletion must name them just so.
    Ok(Entry {
        name,
        kind,
        identifier: set.set_identifier.clone(),
        weight: set.weight(),
        failover,
        ttl_seconds: set.ttl(),
        values: set.resource_records().iter().map(|record| record.value().to_owned()).collect(),
        alias,
        health_check: set.health_check_id().map(str::to_owned),
    })
}

fn written(entry: &Entry) -> Result<ResourceRecordSet, String> {
    let words = |error: aws_sdk_route53::error::BuildError| error.to_string();
    let records =
        entry.values.iter().map(|value| ResourceRecord::builder().value(value).build()).collect::<Result<Vec<_>, _>>().map_err(words)?;
    let alias = entry.alias.as_ref().map(|alias| {
        AliasTarget::builder().hosted_zone_id(&alias.zone_id).dns_name(&alias.name).evaluate_target_health(alias.evaluate_health).build()
    });
    ResourceRecordSet::builder()
        .name(&entry.name)
        .r#type(RrType::from(entry.kind.to_string().as_str()))
        .set_set_identifier(entry.identifier.clone())
        .set_weight(entry.weight)
        .set_failover(entry.failover.map(|place| match place {
            Place::Primary => ResourceRecordSetFailover::Primary,
            Place::Secondary => ResourceRecordSetFailover::Secondary,
        }))
        .set_ttl(entry.ttl_seconds)
        .set_resource_records((!records.is_empty()).then_some(records))
        .set_alias_target(alias.transpose().map_err(words)?)
        .set_health_check_id(entry.health_check.clone())
        .build()
        .map_err(words)
}

/// Deletes what differs just as it was, then creates it as wanted.
fn exchange(from: &[Entry], to: &[Entry]) -> Result<Vec<(ChangeAction, ResourceRecordSet)>, String> {
    let mut changes = Vec::new();
    for old in from.iter().filter(|old| !to.contains(old)) {
        changes.push((ChangeAction::Delete, written(old)?));
    }
    for new in to.iter().filter(|new| !from.contains(new)) {
        changes.push((ChangeAction::Create, written(new)?));
    }
    Ok(changes)
}

/// Where the records stand.
enum Standing {
    Wanted,
    Before,
    Other(String),
}

async fn look(reader: &ZoneReader, intent: &Intent) -> Result<Standing, AwsError> {
    let listed = reader.records(&intent.name).await?;
    Ok(match read(&listed, intent.kind) {
        Ok((entries, _)) if entries == intent.wanted => Standing::Wanted,
        Ok((entries, _)) if entries == intent.previous => Standing::Before,
        Ok((entries, _)) => Standing::Other(entries.iter().map(entries::shown).collect::<Vec<_>>().join("; ")),
        Err(why) => Standing::Other(why),
    })
}

pub(super) async fn execute(cx: &StepContext, hosted: &Route53, intent: &Intent) -> Result<Moved, StepError> {
    same_zone(hosted, intent)?;
    let writer = ZoneWriter::new(cx, hosted).map_err(before_sending)?;
    if intent.previous == intent.wanted {
        return Ok(moved(intent, intent.prepared_at, cx.now()));
    }
    let (changes, submitted_at) = match look(writer.reader(), intent).await.map_err(before_sending)? {
        // An earlier attempt was taken, and its change id is lost: the same again changes nothing and gives a new one to ask about.
        Standing::Wanted => (repeat(&intent.wanted), intent.prepared_at),
        Standing::Before => (exchange(&intent.previous, &intent.wanted), cx.now()),
        Standing::Other(found) => return Err(foreign(intent, &found)),
    };
    let change = submit(&writer, changes.map_err(StepError::hopeless)?, intent).await?;
    cx.progress(&format!("waiting until all of Route 53's servers have the change {}", change.0));
    spread(cx, hosted, writer.reader(), &change).await?;
    match look(writer.reader(), intent).await {
        Ok(Standing::Wanted) => Ok(moved(intent, submitted_at, cx.now())),
        Ok(Standing::Before) => Err(StepError::unknown("Route 53 took the change and lists the old records all the same")),
        Ok(Standing::Other(found)) => Err(foreign(intent, &found)),
        Err(error) => Err(StepError::unknown(error.to_string())),
    }
}

fn repeat(wanted: &[Entry]) -> Result<Vec<(ChangeAction, ResourceRecordSet)>, String> {
    wanted.iter().map(|entry| Ok((ChangeAction::Upsert, written(entry)?))).collect()
}

/// The account and the zone are pinned by the intent: an edited inventory does not redirect a change.
fn same_zone(hosted: &Route53, intent: &Intent) -> Result<(), StepError> {
    if hosted.zone_id == intent.zone_id {
        return Ok(());
    }
    let why = format!(
        "the inventory was changed since this step was prepared: the hosted zone is now {}, it was {}",
        hosted.zone_id, intent.zone_id
    );
    Err(StepError::refused(why, Evidence::none()))
}

async fn submit(writer: &ZoneWriter, changes: Vec<(ChangeAction, ResourceRecordSet)>, intent: &Intent) -> Result<ChangeId, StepError> {
    match writer.submit(changes).await {
        Ok(change) => Ok(change),
        Err(AwsError::Refused { code, message }) if code == "InvalidChangeBatch" => match look(writer.reader(), intent).await {
            Ok(Standing::Before) => Err(StepError::hopeless(format!("Route 53 refused the change: {message} ({code})"))),
            Ok(Standing::Wanted) => Err(StepError::unknown("the records became as wanted while they were being changed")),
            Ok(Standing::Other(found)) => Err(foreign(intent, &found)),
            Err(error) => Err(StepError::unknown(error.to_string())),
        },
        Err(error @ AwsError::Refused { .. }) => Err(StepError::hopeless(error.to_string())),
        Err(error @ (AwsError::Busy { .. } | AwsError::NotSent { .. })) => Err(StepError::not_done(error.to_string())),
        Err(error @ AwsError::Lost { .. }) => Err(StepError::unknown(error.to_string())),
    }
}

async fn spread(cx: &StepContext, hosted: &Route53, reader: &ZoneReader, change: &ChangeId) -> Result<(), StepError> {
    let pause = std::time::Duration::from_secs(u64::from(hosted.poll_seconds));
    loop {
        let found = reader.spread(change).await.map_err(|error| StepError::unknown(error.to_string()))?;
        match found {
            Spread::InSync => return Ok(()),
            Spread::Pending if cx.time_left() <= pause => {
                return Err(StepError::unknown(format!("Route 53 took the change {} and has not told all its servers yet", change.0)));
            }
            Spread::Pending => cx.sleep(pause).await,
        }
    }
}

pub(super) async fn observe(cx: &ReadContext, hosted: &Route53, intent: &Intent) -> Result<Observation<Moved>, StepError> {
    same_zone(hosted, intent)?;
    if intent.previous == intent.wanted {
        return Ok(Observation::Done(moved(intent, intent.prepared_at, cx.now())));
    }
    let looked = match ZoneReader::new(cx, hosted) {
        Ok(reader) => look(&reader, intent).await,
        Err(error) => Err(error),
    };
    Ok(match looked {
        // Taken, but whether all servers have it is not known without the change's id: executing goes on from here.
        Ok(Standing::Wanted) => Observation::InProgress,
        Ok(Standing::Before) => Observation::NotDone,
        Ok(Standing::Other(found)) => Observation::Foreign { evidence: Evidence::of(format!("{} now", intent.name), found) },
        Err(error) => Observation::Unknown { why: error.to_string() },
    })
}

pub(super) async fn undo(cx: &StepContext, hosted: &Route53, intent: &Intent) -> Result<(), StepError> {
    same_zone(hosted, intent)?;
    if intent.previous.is_empty() {
        let why = format!("{} did not exist before, and a name is never emptied: remove it by hand if it must go", intent.name);
        return Err(StepError::refused(why, Evidence::none()));
    }
    let writer = ZoneWriter::new(cx, hosted).map_err(before_sending)?;
    let changes = match look(writer.reader(), intent).await.map_err(before_sending)? {
        Standing::Wanted => exchange(&intent.wanted, &intent.previous),
        Standing::Before => repeat(&intent.previous),
        Standing::Other(found) => {
            return Err(StepError::refused(
                format!("{} was changed since by somebody else; it is left as it is: {found}", intent.name),
                Evidence::none(),
            ));
        }
    };
    let change = submit(&writer, changes.map_err(StepError::hopeless)?, intent).await?;
    spread(cx, hosted, writer.reader(), &change).await
}

fn foreign(intent: &Intent, found: &str) -> StepError {
    let before: Vec<String> = intent.previous.iter().map(entries::shown).collect();
    StepError::refused(
        format!("{} was changed by somebody else since this step was prepared; nothing was written", intent.name),
        Evidence::of("expected", before).with("found", found),
    )
}

/// A call before the change: whatever happened to it, nothing was written.
fn before_sending(error: AwsError) -> StepError {
    match error {
        AwsError::Refused { .. } | AwsError::NotSent { .. } => StepError::hopeless(error.to_string()),
        AwsError::Busy { .. } | AwsError::Lost { .. } => StepError::not_done(error.to_string()),
    }
}

fn moved(intent: &Intent, submitted_at: Timestamp, proven_at: Timestamp) -> Moved {
    let shown = |entries: &[Entry]| entries.iter().map(value).collect();
    Moved {
        name: intent.name.clone(),
        to: intent.to.clone(),
        previous: shown(&intent.previous),
        now: shown(&intent.wanted),
        changed: intent.previous != intent.wanted,
        ttl_seconds: intent.cached_seconds,
        submitted_at,
        proven_at,
        serial_before: None,
        serial_after: None,
        servers: vec![ServerSeen { server: "Route 53".into(), serial: None, answer: "INSYNC".into() }],
    }
}

/// A simple record's values, or a routed record in words.
fn value(entry: &Entry) -> String {
    if entry.identifier.is_none() && entry.alias.is_none() { entry.values.join(", ") } else { entries::shown(entry) }
}

/// The wanted records as the inventory says now, for records whose values it holds.
pub(super) fn still_wanted(record: &DnsRecord, hosted: &Route53, intent: &Intent) -> Result<(), StepError> {
    let now =
        entries::wanted(record, &hosted.routing, &intent.to, &intent.previous).map_err(|why| StepError::refused(why, Evidence::none()))?;
    if now == intent.wanted {
        return Ok(());
    }
    let shown = |entries: &[Entry]| entries.iter().map(entries::shown).collect::<Vec<_>>();
    let evidence = Evidence::of("planned", shown(&intent.wanted)).with("inventory now", shown(&now));
    Err(StepError::refused(
        format!("the inventory was changed since this step was prepared: target {} is another now", intent.to),
        evidence,
    ))
}
