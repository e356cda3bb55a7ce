//! The `update-dns` step type: its parameters, intent and output. How a provider is asked and changed is in `rfc2136` and
//! `route53`.

pub mod entries;
mod proof;
pub mod rfc2136;
pub mod route53;
pub mod serial;

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::census::Census;
use lifeboat_engine::inventory::Undoable;
use lifeboat_engine::step::{Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Evidence, Measure, ReadContext, StepContext, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::dns::RecordSet;
use crate::resources::dns_record::{DnsRecord, Provider};

/// Points a DNS record at another of its targets, and proves it by asking every authoritative server.
///
/// The change is made only where the record still is what it was when the step was prepared. The former set is kept for undo.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateDns {
    /// The record, by its name in the inventory.
    #[schemars(extend("x-lifeboat-resource" = "dns-record"))]
    pub record: String,
    /// The target it shall point at.
    #[schemars(extend("x-lifeboat-node-of" = "record"))]
    pub to: String,
}

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Dynamic updates.
    Rfc2136(rfc2136::Intent),
    /// Amazon Route 53.
    Route53(route53::Intent),
}

/// What the record was, what it is, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// The record's full name.
    pub name: String,
    /// The target it points at now.
    pub to: String,
    /// Values before; empty where there was no record.
    pub previous: Vec<String>,
    /// Values now.
    pub now: Vec<String>,
    /// Whether this step changed anything; false where the record already was as wanted.
    pub changed: bool,
    /// How long answers given out before may still be cached, in seconds.
    pub ttl_seconds: u32,
    /// When the change was sent, or a moment shortly before where the step learned of its success only after a crash.
    #[schemars(with = "String")]
    pub submitted_at: Timestamp,
    /// When every authoritative server was seen to serve the new values.
    #[schemars(with = "String")]
    pub proven_at: Timestamp,
    /// The zone's serial before, where the provider has one.
    pub serial_before: Option<u32>,
    /// The zone's serial after.
    pub serial_after: Option<u32>,
    /// What each authoritative server answered at the end.
    pub servers: Vec<ServerSeen>,
}

/// One authoritative server's last answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerSeen {
    /// Its address.
    pub server: String,
    /// Its serial; absent where it stayed silent and the inventory allows that.
    pub serial: Option<u32>,
    /// What it said.
    pub answer: String,
}

impl Step for UpdateDns {
    const TYPE: &'static str = "update-dns";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Change;
    const UNDO: Undoable = Undoable::Yes;
    type Intent = Intent;
    type Output = Moved;

    fn touches(&self) -> Vec<Touch> {
        vec![Touch { resource: self.record.clone(), effect: Effect::Change }]
    }

    fn preview(&self) -> String {
        format!("point {} at {} and wait until every authoritative server says so", self.record, self.to)
    }

    fn measures(output: &Moved) -> Vec<Measure> {
        // A new TTL alone leads nobody elsewhere.
        if !output.changed || output.previous == output.now {
            return Vec::new();
        }
        let old = if output.previous.is_empty() { "had no record".to_owned() } else { format!("said {}", output.previous.join(", ")) };
        let cached = SignedDuration::from_secs(i64::from(output.ttl_seconds));
        let follow = output.proven_at.checked_add(cached).unwrap_or(Timestamp::MAX);
        vec![
            Measure::NotRestoredBefore { at: output.submitted_at, because: format!("until then {} {old}", output.name) },
            Measure::ClientsFollowBy {
                at: follow,
                because: format!(
                    "answers that {old} were given out until {} and may be cached for {} s",
                    output.proven_at.strftime("%H:%M:%S UTC"),
                    output.ttl_seconds
                ),
            },
        ]
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
        let record = self.record(cx)?;
        let wanted = match record.wanted(&self.to) {
            Ok(wanted) => wanted,
            Err(why) => return Ok(Readiness::Refused { why, evidence: Evidence::none() }),
        };
        match record.provider().map_err(StepError::hopeless)? {
            Provider::Rfc2136(server) => Ok(match rfc2136::prepare(cx, &record, server, &self.to, wanted).await? {
                Readiness::Ready { intent, evidence } => Readiness::Ready { intent: Intent::Rfc2136(intent), evidence },
                Readiness::Refused { why, evidence } => Readiness::Refused { why, evidence },
                Readiness::Later { needs, evidence } => Readiness::Later { needs, evidence },
            }),
            Provider::Route53(hosted) => Ok(match route53::prepare(cx, &record, hosted, &self.to).await? {
                Readiness::Ready { intent, evidence } => Readiness::Ready { intent: Intent::Route53(intent), evidence },
                Readiness::Refused { why, evidence } => Readiness::Refused { why, evidence },
                Readiness::Later { needs, evidence } => Readiness::Later { needs, evidence },
            }),
        }
    }

    async fn census(resource: &str, cx: &ReadContext) -> Result<Census, StepError> {
        let record = cx.inventory.get::<DnsRecord>(resource).map_err(|error| StepError::hopeless(error.to_string()))?;
        match record.provider().map_err(StepError::hopeless)? {
            Provider::Rfc2136(server) => rfc2136::census(cx, &record, server).await.map(Census::Listed),
            // Its answers come from an API that says what was asked of it, not what its servers give.
            Provider::Route53(_) => Ok(Census::Unlisted),
        }
    }

    async fn execute(&self, intent: &Intent, cx: &StepContext) -> Result<Moved, StepError> {
        let record = self.record(cx)?;
        match intent {
            Intent::Rfc2136(intent) => {
                self.still_wanted(&record, &intent.wanted)?;
                rfc2136::execute(cx, rfc2136::server_of(&record)?, intent).await
            }
            Intent::Route53(intent) => {
                let hosted = route53::hosted_of(&record)?;
                route53::still_wanted(&record, hosted, intent)?;
                route53::execute(cx, hosted, intent).await
            }
        }
    }

    async fn observe(&self, intent: &Intent, cx: &ReadContext) -> Result<Observation<Moved>, StepError> {
        let record = self.record(cx)?;
        match intent {
            Intent::Rfc2136(intent) => rfc2136::observe(cx, rfc2136::server_of(&record)?, intent).await,
            Intent::Route53(intent) => route53::observe(cx, route53::hosted_of(&record)?, intent).await,
        }
    }

    async fn undo(&self, intent: &Intent, done: Moved, cx: &StepContext) -> Result<(), StepError> {
        if !done.changed {
            return Ok(());
        }
        let record = self.record(cx)?;
        match intent {
            Intent::Rfc2136(intent) => rfc2136::undo(cx, rfc2136::server_of(&record)?, intent).await,
            Intent::Route53(intent) => route53::undo(cx, route53::hosted_of(&record)?, intent).await,
        }
    }
}

impl UpdateDns {
    fn record(&self, cx: &ReadContext) -> Result<DnsRecord, StepError> {
        cx.inventory.get::<DnsRecord>(&self.record).map_err(|error| StepError::hopeless(error.to_string()))
    }

    /// The live inventory may only narrow a run: where it no longer says what was planned, nothing is written.
    fn still_wanted(&self, record: &DnsRecord, planned: &RecordSet) -> Result<(), StepError> {
        let now = record.wanted(&self.to).map_err(StepError::hopeless)?;
        if now == *planned {
            return Ok(());
        }
        let evidence = Evidence::of("planned", planned.to_string()).with("inventory now", now.to_string());
        let why =
            format!("the inventory was changed since this step was prepared: target {} of {} is no longer {planned}", self.to, self.record);
        Err(StepError::refused(why, evidence))
    }
}
