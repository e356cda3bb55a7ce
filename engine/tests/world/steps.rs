//! Step types of the tests: one that changes, one that looks, one whose gate looks at nothing. Only their parameters are here; what
//! their calls meet is the simulated world's business.

use std::sync::{Arc, OnceLock};

use std::cell::RefCell;
use std::collections::BTreeMap;

use lifeboat_engine::context::{ReadContext, StepContext};
use lifeboat_engine::evidence::Evidence;
use lifeboat_engine::inventory::Undoable;
use lifeboat_engine::measure::Loss;
use lifeboat_engine::sim::{Outputs, World};
use lifeboat_engine::step::{self, Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Measure, StepId, Touch};
use lifeboat_runbooks::catalog::StepTypeInfo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Version of all test types: N and N-1 are run.
pub(crate) const VERSION: u16 = 2;

/// What later steps may read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Said {
    /// What the parameters asked it to say.
    said: Value,
    /// As many bytes as asked for.
    blob: String,
}

/// What a promotion says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Promoted {
    /// Acknowledged commits that are lost, in milliseconds.
    lost_ms: u64,
    /// The database.
    db: String,
}

thread_local! {
    // What a step says now, whatever its parameters ask it to; a test and all its tasks share one thread.
    static NOW: RefCell<BTreeMap<String, Value>> = const { RefCell::new(BTreeMap::new()) };
}

/// From now on this step says so.
pub(crate) fn says_now(step: &str, value: Value) {
    NOW.with(|now| now.borrow_mut().insert(step.to_owned(), value));
}

/// Every step says what its parameters ask it to.
pub(crate) fn says_as_written() {
    NOW.with(|now| now.borrow_mut().clear());
}

/// The outputs of these types follow from their parameters unless the test says otherwise, and of a promotion from the world.
#[derive(Debug, Default)]
pub(crate) struct Says {
    pub(crate) world: OnceLock<Arc<World>>,
}

impl Outputs for Says {
    fn output(&self, step: &StepId, step_type: &StepTypeInfo, with: &Value) -> Value {
        if let Some(said) = NOW.with(|now| now.borrow().get(step.as_str()).cloned()) {
            return json!({ "said": said, "blob": "" });
        }
        if step_type.name == PromoteDb::TYPE {
            let db = with["db"].as_str().unwrap_or_default();
            let lost = self.world.get().map(|world| world.peers(|peers| peers.databases.get(db).map_or(0, |db| db.lost_ms)));
            return json!({ "lost_ms": lost, "db": db });
        }
        let bytes = with.get("blob_bytes").and_then(Value::as_u64).and_then(|bytes| usize::try_from(bytes).ok());
        json!({ "said": with.get("say"), "blob": "x".repeat(bytes.unwrap_or(0)) })
    }
}

macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident, $type_name:literal, $effect:expr, $undo:expr, $gate:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// The resource.
            #[serde(default)]
            on: Option<String>,
            /// What to say in the output.
            #[serde(default)]
            say: Value,
            /// How large the output is.
            #[serde(default)]
            blob_bytes: usize,
        }

        impl Step for $name {
            const TYPE: &'static str = $type_name;
            const VERSION: u16 = VERSION;
            const EFFECT: Effect = $effect;
            const UNDO: Undoable = $undo;
            const GATE: step::Gate = $gate;
            type Intent = ();
            type Output = Said;

            fn touches(&self) -> Vec<Touch> {
                self.on.iter().map(|resource| Touch { resource: resource.clone(), effect: $effect }).collect()
            }

            fn preview(&self) -> String {
                format!("{} {}", $type_name, self.on.as_deref().unwrap_or("nothing"))
            }

            /// More is worse, and so is no longer known; other changes are not.
            fn worse(shown: &Said, now: &Said) -> Option<String> {
                match (shown.said.as_f64(), now.said.as_f64()) {
                    (Some(before), Some(after)) if after > before => Some(format!("{before} became {after}")),
                    (Some(before), None) => Some(format!("{before} is no longer known")),
                    (Some(_), Some(_)) | (None, _) => None,
                }
            }

            async fn prepare(&self, _: &ReadContext) -> Result<Readiness<()>, StepError> {
                Ok(Readiness::Refused { why: NOT_HERE.into(), evidence: Evidence::none() })
            }

            async fn execute(&self, (): &(), _: &StepContext) -> Result<Said, StepError> {
                Err(StepError::hopeless(NOT_HERE))
            }

            async fn observe(&self, (): &(), _: &ReadContext) -> Result<Observation<Said>, StepError> {
                Ok(Observation::Unknown { why: NOT_HERE.into() })
            }
        }
    };
}

/// The world answers in place of these types.
const NOT_HERE: &str = "only the simulated world answers";

parameters! {
    /// Changes a resource, and can undo it.
    Change, "change", Effect::Change, Undoable::Yes, step::Gate::Looks
}
parameters! {
    /// Looks at a resource.
    Look, "look", Effect::Read, Undoable::No, step::Gate::Looks
}
parameters! {
    /// Changes a resource, behind a gate that only glances.
    Poke, "poke", Effect::Change, Undoable::Yes, step::Gate::Glances
}
parameters! {
    /// Only computes.
    Note, "note", Effect::Read, Undoable::No, step::Gate::Nothing
}

macro_rules! acts_on_peers {
    ($(#[$doc:meta])* $name:ident, $type_name:literal, $on:ident, $what:ident, $output:ty, $measures:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// On what.
            $on: String,
            /// What of it.
            $what: String,
        }

        impl Step for $name {
            const TYPE: &'static str = $type_name;
            const VERSION: u16 = VERSION;
            const EFFECT: Effect = Effect::Change;
            const UNDO: Undoable = Undoable::Yes;
            type Intent = ();
            type Output = $output;

            fn touches(&self) -> Vec<Touch> {
                vec![Touch { resource: self.$on.clone(), effect: Effect::Change }]
            }

            fn preview(&self) -> String {
                format!("{} {} {}", $type_name, self.$on, self.$what)
            }

            fn measures(output: &$output) -> Vec<Measure> {
                $measures(output)
            }

            async fn prepare(&self, _: &ReadContext) -> Result<Readiness<()>, StepError> {
                Ok(Readiness::Refused { why: NOT_HERE.into(), evidence: Evidence::none() })
            }

            async fn execute(&self, (): &(), _: &StepContext) -> Result<$output, StepError> {
                Err(StepError::hopeless(NOT_HERE))
            }

            async fn observe(&self, (): &(), _: &ReadContext) -> Result<Observation<$output>, StepError> {
                Ok(Observation::Unknown { why: NOT_HERE.into() })
            }
        }
    };
}

fn nothing(_: &Said) -> Vec<Measure> {
    Vec::new()
}

#[expect(clippy::cast_precision_loss, reason = "a simulation lasts days, not ages")]
fn loss(output: &Promoted) -> Vec<Measure> {
    let seconds = output.lost_ms as f64 / 1000.0;
    let loss = Loss {
        resource: output.db.clone(),
        method: "exact-lsn".into(),
        seconds_min: Some(seconds),
        seconds_max: Some(seconds),
        bytes: None,
    };
    vec![Measure::Loss(loss)]
}

acts_on_peers! {
    /// Keeps a node of a database from taking writes.
    FenceDb, "fence-db", db, node, Said, nothing
}
acts_on_peers! {
    /// Makes a node of a database take writes.
    PromoteDb, "promote-db", db, node, Promoted, loss
}
acts_on_peers! {
    /// Makes a record answer something else.
    UpdateDns, "update-dns", record, to, Said, nothing
}
