//! The `measure-rpo` step: what promoting a replica now would lose. It only reads; accepting a loss is an approval's business.

mod gather;
pub mod loss;
mod worse;

use jiff::Timestamp;
use lifeboat_engine::measure::Loss;
use lifeboat_engine::{Effect, Evidence, Measure, Observation, Period, ReadContext, Readiness, Step, StepContext, StepError, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::postgres::NodeState;
use crate::resources::database::{Database, Node};

pub use gather::OutageInterval;
pub(crate) use gather::{Between, Gathered, outage_interval, source_end, source_tail};
use loss::Growth;

/// Measures what promoting a replica now would lose, as an interval with its method. Works while the source is dead.
///
/// The best method that the facts allow is taken: `exact-lsn` (the replica has the whole log), `heartbeat` (the last heartbeat that
/// the replica holds against the latest instant at which the source can have acknowledged a commit), `replay-timestamp`, else
/// `unknown`. An unknown loss is not within any limit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasureRpo {
    /// The database.
    #[schemars(extend("x-lifeboat-resource" = "database"))]
    pub db: String,
    /// The node whose commits would be lost: the old primary.
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    pub from: String,
    /// The node that would be promoted.
    #[schemars(extend("x-lifeboat-node-of" = "db"))]
    pub to: String,
    /// The largest loss that needs nobody's consent; usually `objectives.rpo`. Without it only a loss of nothing is within.
    #[serde(default)]
    pub limit: Option<Period>,
}

/// What would be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeasuredRpo {
    /// The database.
    pub db: String,
    /// The old primary.
    pub from: String,
    /// The node that would be promoted.
    pub to: String,
    /// Whether the loss is surely within the limit. False where it is unknown.
    pub within_rpo: bool,
    /// The loss.
    pub loss: Loss,
    /// Whether the loss grows as time passes, because the source may still acknowledge commits.
    pub growth: Growth,
    /// When it was measured.
    #[schemars(with = "String")]
    pub measured_at: Timestamp,
    /// How the source stands.
    pub source: NodeState,
    /// How the target stands.
    pub target: NodeState,
    /// Everything acknowledged up to this instant is on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub recovered_to: Option<Timestamp>,
    /// The last heartbeat of the source that is known to have been acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub acknowledged_to: Option<Timestamp>,
    /// When service ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage_began: Option<OutageInterval>,
}

impl MeasureRpo {
    async fn measure(&self, cx: &ReadContext) -> Result<(MeasuredRpo, Evidence), StepError> {
        let database = database(cx, &self.db)?;
        let (from, to) = (node(&database, &self.db, &self.from)?, node(&database, &self.db, &self.to)?);
        if self.from == self.to {
            return Err(StepError::refused(
                format!("{} cannot lose anything to itself: `from` and `to` are one node", self.to),
                Evidence::none(),
            ));
        }
        let between = Between { db: &self.db, database: &database, from: (&self.from, from), to: (&self.to, to), fenced_at: None };
        let gathered = between.gather(cx).await.map_err(|error| {
            StepError::refused(format!("{}, which would take over, does not answer: {error}", self.to), Evidence::none())
        })?;
        let evidence = gathered.evidence.clone();
        self.judge(cx, &database, gathered).map(|measured| (measured, evidence))
    }

    fn judge(&self, cx: &ReadContext, database: &Database, gathered: Gathered) -> Result<MeasuredRpo, StepError> {
        let Gathered { source, source_state, target, weighed, outage_began, evidence } = gathered;
        identity(database, &self.to, &target.system_identifier).map_err(|why| StepError::refused(why, evidence.clone()))?;
        if let Ok(source) = &source {
            if source.system_identifier != target.system_identifier {
                let why = format!("{} and {} belong to different clusters; what one has says nothing of the other", self.from, self.to);
                return Err(StepError::refused(why, evidence));
            }
            if source.standby().is_some() {
                let why =
                    format!("{} is a standby now, so there is nothing that only it could hold; name the primary in `from`", self.from);
                return Err(StepError::refused(why, evidence));
            }
        }
        let within = weighed.loss.seconds_max.is_some_and(|most| most <= self.limit.map_or(0.0, |limit| limit.0.as_secs_f64()));
        Ok(MeasuredRpo {
            db: self.db.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            within_rpo: within,
            loss: weighed.loss,
            growth: weighed.growth,
            measured_at: cx.now(),
            source: source_state,
            target: NodeState::from(&Ok(target)),
            recovered_to: weighed.recovered_to,
            acknowledged_to: weighed.acknowledged_to,
            outage_began,
        })
    }
}

impl Step for MeasureRpo {
    const TYPE: &'static str = "measure-rpo";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Read;
    type Intent = ();
    type Output = MeasuredRpo;

    fn touches(&self) -> Vec<Touch> {
        vec![Touch { resource: self.db.clone(), effect: Effect::Read }]
    }

    fn preview(&self) -> String {
        format!("measure what {} would lose if {} took over from {}", self.db, self.to, self.from)
    }

    fn measures(output: &MeasuredRpo) -> Vec<Measure> {
        let began = output.outage_began.as_ref().map(|began| Measure::OutageBegan {
            earliest: began.earliest,
            latest: began.latest,
            method: began.method.clone(),
        });
        began.into_iter().chain([Measure::ExpectedLoss(output.loss.clone())]).collect()
    }

    fn worse(shown: &MeasuredRpo, now: &MeasuredRpo) -> Option<String> {
        worse::worse(shown, now)
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<()>, StepError> {
        match self.measure(cx).await {
            Ok((_, evidence)) => Ok(Readiness::Ready { intent: (), evidence }),
            Err(StepError::Refused { why, evidence }) => Ok(Readiness::Refused { why, evidence }),
            Err(error @ (StepError::NotDone { .. } | StepError::Unknown { .. })) => Err(error),
        }
    }

    async fn execute(&self, (): &(), cx: &StepContext) -> Result<MeasuredRpo, StepError> {
        match self.measure(cx).await {
            Ok((measured, _)) => Ok(measured),
            // It changes nothing, so a measurement that failed may be tried again.
            Err(StepError::Refused { why, .. }) => Err(StepError::not_done(why)),
            Err(error @ (StepError::NotDone { .. } | StepError::Unknown { .. })) => Err(error),
        }
    }

    async fn observe(&self, (): &(), _: &ReadContext) -> Result<Observation<MeasuredRpo>, StepError> {
        Ok(Observation::NotDone)
    }
}

/// The database of that name.
pub(crate) fn database(cx: &ReadContext, name: &str) -> Result<Database, StepError> {
    let database: Database = cx.inventory.get(name).map_err(|error| StepError::hopeless(error.to_string()))?;
    Ok(database.rooted(&cx.inventory))
}

/// The node of that name.
pub(crate) fn node<'a>(database: &'a Database, db: &str, name: &str) -> Result<&'a Node, StepError> {
    database.nodes.get(name).ok_or_else(|| {
        let known: Vec<&str> = database.nodes.keys().map(String::as_str).collect();
        StepError::refused(format!("{db} has no node {name:?}; its nodes are {}", known.join(", ")), Evidence::none())
    })
}

/// Checks that a node belongs to the cluster that the inventory names.
pub(crate) fn identity(database: &Database, node: &str, found: &str) -> Result<(), String> {
    match &database.system_identifier {
        Some(wanted) if wanted != found => Err(format!(
            "{node} belongs to the cluster {found}, but the inventory names the cluster {wanted}: another server answers at its address"
        )),
        Some(_) | None => Ok(()),
    }
}
