//! The `promote-db` step: its parameters, intent and output. The gate is in `gate`, `choose`, `limit` and `probe`, the act in
//! `act`, what became of it in `outcome`.

mod act;
mod choose;
mod commit;
mod gate;
mod limit;
mod outcome;
mod probe;

use jiff::Timestamp;
use lifeboat_engine::census::Census;
use lifeboat_engine::measure::Loss;
use lifeboat_engine::{Effect, Measure, Observation, Period, ReadContext, Readiness, Step, StepContext, StepError, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::postgres::census;
use crate::clients::postgres::{History, Lsn};
use crate::measure_rpo::OutageInterval;
use crate::measure_rpo::loss::SourceEnd;

/// Makes a replica the primary, and proves it with a committed write.
///
/// Refused unless the replica was just seen reachable, in recovery, on the right timeline and at least as far as every other one,
/// and the loss is within `max_loss` or within what an approval of this run accepted. The old primary must be proven fenced by a
/// `fence-db` step that this one needs, and is probed again. A lost answer is never taken for a failure: the node's timeline tells.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteDb {
    /// The database.
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    pub db: String,
    /// The replica to promote. Without it, the most advanced one.
    #[serde(default)]
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    pub node: Option<String>,
    /// The largest loss that needs nobody's consent. An approval that was shown the output of `measure-rpo` may accept more.
    #[serde(default)]
    pub max_loss: Option<Period>,
}

/// What must be known again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoteIntent {
    /// The replica.
    pub node: String,
    /// The cluster.
    pub system_identifier: String,
    /// The timeline to leave.
    pub timeline: u32,
    /// How that timeline came to be.
    pub history: History,
    /// Received by the replica.
    pub receive: Option<Lsn>,
    /// Replayed by the replica: the fork cannot lie before it.
    pub replay: Option<Lsn>,
    /// The node that was the primary, if it is known.
    pub old_primary: Option<String>,
    /// When the old primary ended, as far as it is proven.
    pub source_end: SourceEnd,
    /// What was expected to be lost.
    pub expected: Loss,
    /// The most that may be lost, and who says so.
    pub allowed: Allowed,
    /// The key of the row that proves the write.
    pub proof_key: String,
}

/// The most that may be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// In seconds; `None` where people accepted an unknown loss.
    pub seconds_max: Option<f64>,
    /// In bytes, where people were shown a settled number of them.
    pub bytes_max: Option<u64>,
    /// `max_loss`, or the approval that accepted it.
    pub because: String,
}

/// The new primary, and what the promotion cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Promoted {
    /// The database.
    pub db: String,
    /// The new primary.
    pub node: String,
    /// The node that was the primary, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_primary: Option<String>,
    /// The timeline that was left.
    pub old_timeline: u32,
    /// The timeline that began.
    pub new_timeline: u32,
    /// Where the new one left the old one.
    pub fork: Lsn,
    /// What was lost, measured after the act.
    pub loss: Loss,
    /// Everything acknowledged up to this instant is on the new primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub recovered_to: Option<Timestamp>,
    /// Settings that would have made commits hang or fail, with their old values.
    pub resets: Vec<Reset>,
    /// When the promotion was asked for. Absent where that was learned only after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub promote_sent_at: Option<Timestamp>,
    /// When the node was last seen as a replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_seen_as_replica_at: Option<Timestamp>,
    /// The write that proves it.
    pub write: WriteProof,
    /// When service ended, by the heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_began: Option<OutageInterval>,
}

/// A setting that was reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The setting.
    pub setting: String,
    /// What it was.
    pub was: String,
}

/// A committed write on the new primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteProof {
    /// What was written: `row` in the heartbeat table, or `message`, a transactional message in the log where there is no such table.
    pub kind: String,
    /// When its commit was acknowledged, or, learned after a crash, when it was written.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl Step for PromoteDb {
    const TYPE: &'static str = "promote-db";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Change;
    type Intent = PromoteIntent;
    type Output = Promoted;

    fn touches(&self) -> Vec<Touch> {
        vec![Touch { resource: self.db.clone(), effect: Effect::Change }]
    }

    fn preview(&self) -> String {
        let node = self.node.as_deref().unwrap_or("the most advanced replica");
        let limit = self.max_loss.map_or_else(|| "no accepted loss yet".to_owned(), |most| format!("at most {most} lost"));
        format!("make {node} the primary of {} ({limit}), and prove it with a committed write", self.db)
    }

    fn measures(output: &Promoted) -> Vec<Measure> {
        let mut measures = Vec::new();
        if let Some(began) = &output.outage_began {
            measures.push(Measure::OutageBegan { earliest: began.earliest, latest: began.latest, method: began.method.clone() });
        }
        measures.extend(output.promote_sent_at.map(|at| Measure::PromoteSent { at }));
        measures.extend(
            output
                .last_seen_as_replica_at
                .map(|at| Measure::NotRestoredBefore { at, because: format!("{} was still a replica", output.node) }),
        );
        measures.push(Measure::Writable { at: output.write.at });
        measures.push(Measure::Loss(output.loss.clone()));
        measures
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<PromoteIntent>, StepError> {
        match gate::check(self, cx).await {
            Err(StepError::Refused { why, evidence }) => Ok(Readiness::Refused { why, evidence }),
            other => other,
        }
    }

    async fn census(resource: &str, cx: &ReadContext) -> Result<Census, StepError> {
        census::of_database(resource, cx).await
    }

    async fn execute(&self, intent: &PromoteIntent, cx: &StepContext) -> Result<Promoted, StepError> {
        act::promote(self, intent, cx).await
    }

    async fn observe(&self, intent: &PromoteIntent, cx: &ReadContext) -> Result<Observation<Promoted>, StepError> {
        outcome::observe(self, intent, cx).await
    }
}
