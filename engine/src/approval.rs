//! The `approval` step type: its parameters and outputs. Asking and counting is done by the executor; a yes is an event, not I/O.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{ReadContext, StepContext};
use crate::evidence::Evidence;
use crate::step::{Facts, Observation, Readiness, Step, StepError};
use lifeboat_runbooks::catalog::Touch;
use lifeboat_runbooks::duration::Period;
use lifeboat_runbooks::names::Effect;

/// Waits until enough people said yes to the facts shown, or one said no, or time ran out, which is a no.
///
/// The person who started the run does not count. Each person counts once, over whatever channel they answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalStep {
    /// Whose yes counts: people of the inventory with any of these roles.
    #[schemars(length(min = 1))]
    pub roles: Vec<String>,
    /// Distinct people needed, 1 to 10.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10))]
    pub count: u32,
    /// When silence becomes a no.
    #[serde(default = "half_an_hour")]
    pub timeout: Period,
    /// The facts to decide on, usually outputs of an earlier step. Worse facts void a yes.
    #[serde(default)]
    pub show: Value,
    /// The question, in a sentence.
    #[serde(default)]
    pub ask: Option<String>,
}

fn one() -> u32 {
    1
}

fn half_an_hour() -> Period {
    Period(std::time::Duration::from_secs(1800))
}

/// Who agreed to what.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Approved {
    /// Names of the people, in the order of their yes.
    pub approved_by: Vec<String>,
    /// When the last one said yes.
    #[schemars(with = "String")]
    pub approved_at: Timestamp,
    /// The facts they were shown.
    pub accepted: Value,
}

impl Step for ApprovalStep {
    const TYPE: &'static str = "approval";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Read;
    const FACTS: Facts = Facts::Fixed;
    type Intent = ();
    type Output = Approved;

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn preview(&self) -> String {
        let people = if self.count == 1 { "one person".to_owned() } else { format!("{} people", self.count) };
        format!("ask {people} with the role {} and wait up to {}", self.roles.join(" or "), self.timeout)
    }

    async fn prepare(&self, _: &ReadContext) -> Result<Readiness<()>, StepError> {
        Ok(Readiness::Ready { intent: (), evidence: Evidence::none() })
    }

    async fn execute(&self, (): &(), _: &StepContext) -> Result<Approved, StepError> {
        Err(StepError::hopeless("an approval is given by people, not executed"))
    }

    async fn observe(&self, (): &(), _: &ReadContext) -> Result<Observation<Approved>, StepError> {
        Ok(Observation::NotDone)
    }
}
