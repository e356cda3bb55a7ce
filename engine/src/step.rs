//! What a step type is: the contract between the executor and everything that touches the world.

use std::fmt;
use std::future::Future;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::census::Census;
use crate::context::{ReadContext, StepContext};
use crate::evidence::Evidence;
use crate::measure::Measure;
use lifeboat_runbooks::catalog::{Touch, Undoable};
use lifeboat_runbooks::names::Effect;

/// One kind of thing a runbook can do. The implementing struct is its parameters (`with:`); its doc comment is its page.
pub trait Step: DeserializeOwned + JsonSchema + fmt::Debug + Send + Sync + 'static {
    /// `promote-db`.
    const TYPE: &'static str;
    /// Behaviour version. A binary runs N and N-1 or refuses to resume.
    const VERSION: u16;
    /// The gravest effect it can have.
    const EFFECT: Effect;
    /// Whether [`Step::undo`] is implemented.
    const UNDO: Undoable = Undoable::No;
    /// What [`Step::prepare`] looks at. Where that takes next to no time, the intent shares a commit with the outcome before it.
    const GATE: Gate = Gate::Looks;
    /// Whether executing it again only measures anew what it measured. Asked of steps that only look.
    const FACTS: Facts = Facts::Measured;
    /// What must be known again after a crash: identities, old state, wanted state, names. Never a secret.
    type Intent: Serialize + DeserializeOwned + Send + Sync;
    /// What later steps and the report may read.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + Sync;

    /// Pure: the resources it would grip, from the parameters alone.
    fn touches(&self) -> Vec<Touch>;

    /// Pure: one sentence, what would happen.
    fn preview(&self) -> String;

    /// Pure: what the output says of recovery time and data loss.
    fn measures(_output: &Self::Output) -> Vec<Measure> {
        Vec::new()
    }

    /// Pure: what makes the facts of now worse for people who said yes to those they were shown; `None` where nothing does. Asked only
    /// where what they were shown has changed. Unless a type knows better, any change is worse: nobody agreed to what they did not see.
    #[must_use]
    fn worse(shown: &Self::Output, now: &Self::Output) -> Option<String> {
        any_change(shown, now)
    }

    /// Why these parameters can never be used as the inventory stands, whatever the world looks like when their turn comes: what policies
    /// forbid, secrets that are not there. What only the run will know is null in them. Asked before the run, where [`Step::prepare`] cannot
    /// be: of a step that reads outputs of earlier ones, and of an undo that the runbook writes. Asks nothing outside this machine.
    #[must_use]
    fn forbidden(_known: &serde_json::Value, _cx: &ReadContext) -> Option<String> {
        None
    }

    /// May it start, and what exactly would it do? Both the preflight of all steps and the gate just before this one.
    /// Writes nothing anywhere.
    fn prepare(&self, cx: &ReadContext) -> impl Future<Output = Result<Readiness<Self::Intent>, StepError>> + Send;

    /// Acts. Adopts what an earlier attempt with this intent already began.
    fn execute(&self, intent: &Self::Intent, cx: &StepContext) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Asks the world what became of this intent. Writes nothing anywhere.
    fn observe(&self, intent: &Self::Intent, cx: &ReadContext)
    -> impl Future<Output = Result<Observation<Self::Output>, StepError>> + Send;

    /// What exists on this resource of all that steps of this type could make, change or remove there, as its peers answer. A drill
    /// asks before its first step and after its last, and what differs is left behind. Writes nothing anywhere.
    fn census(_resource: &str, _cx: &ReadContext) -> impl Future<Output = Result<Census, StepError>> + Send {
        async { Ok(Census::Unlisted) }
    }

    /// Takes the effect back. Must bear being repeated.
    fn undo(&self, _intent: &Self::Intent, _done: Self::Output, _cx: &StepContext) -> impl Future<Output = Result<(), StepError>> + Send {
        async { Err(StepError::Refused { why: "this step type has no undo".into(), evidence: Evidence::none() }) }
    }
}

/// Whether an output is a measurement that can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Facts {
    /// Executing the step again measures the same things as they are then.
    Measured,
    /// What it gave was so once, or executing it again does something else than looking.
    Fixed,
}

/// The first difference between two outputs, in words.
fn any_change<O: Serialize>(shown: &O, now: &O) -> Option<String> {
    match (serde_json::to_value(shown), serde_json::to_value(now)) {
        (Ok(shown), Ok(now)) => difference("", &shown, &now),
        (Err(error), _) | (_, Err(error)) => Some(format!("it cannot be compared: {error}")),
    }
}

fn difference(name: &str, shown: &serde_json::Value, now: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match (shown, now) {
        (Value::Object(before), Value::Object(after)) => {
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            names.into_iter().find_map(|key| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                difference(&name, before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null))
            })
        }
        (before, after) if before == after => None,
        (before, after) => Some(format!("{name} was {before} and is {after}")),
    }
}

/// Whether a step type's `prepare` looks at the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It asks something that may take its time.
    Looks,
    /// It looks at this machine alone, and is quick: at files, never at a peer. The outcome before it waits a few milliseconds for it.
    Glances,
    /// It only computes.
    Nothing,
}

/// The answer of [`Step::prepare`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness<I> {
    /// It may start.
    Ready {
        /// Journaled before the act, handed to everything after.
        intent: I,
        /// Why it may.
        evidence: Evidence,
    },
    /// It must not start.
    Refused {
        /// A sentence that a person understands.
        why: String,
        /// Why not.
        evidence: Evidence,
    },
    /// It cannot be judged before another step has had its effect (preflight only; at the gate this refuses).
    Later {
        /// What it waits for: `the fence of us-east-1`.
        needs: String,
        /// What could be checked already.
        evidence: Evidence,
    },
}

/// The answer of [`Step::observe`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation<O> {
    /// The effect is there, by this intent.
    Done(O),
    /// It was begun and goes on: `execute` adopts it.
    InProgress,
    /// Nothing of it happened, and nothing can still happen by itself.
    NotDone,
    /// Done or half done, not by this run.
    Foreign {
        /// What was seen.
        evidence: Evidence,
    },
    /// It cannot be told.
    Unknown {
        /// Why not.
        why: String,
    },
}

/// How a step did not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StepError {
    /// Proven to have had no effect.
    #[error("{why}")]
    NotDone {
        /// What went wrong.
        why: String,
        /// Whether another attempt may help.
        retry: Retryable,
    },
    /// A check says that it must not be done.
    #[error("{why}")]
    Refused {
        /// A sentence that a person understands.
        why: String,
        /// What was seen.
        evidence: Evidence,
    },
    /// The effect may or may not have happened. Every timeout and every lost answer after the first byte was sent is this.
    #[error("outcome unknown: {why}")]
    Unknown {
        /// What was lost.
        why: String,
    },
}

/// Whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retryable {
    /// The cause may pass.
    Yes,
    /// It will fail the same way.
    No,
}

impl StepError {
    /// Proven without effect, and the cause may pass.
    pub fn not_done(why: impl Into<String>) -> Self {
        Self::NotDone { why: why.into(), retry: Retryable::Yes }
    }

    /// Proven without effect, and trying again is no use.
    pub fn hopeless(why: impl Into<String>) -> Self {
        Self::NotDone { why: why.into(), retry: Retryable::No }
    }

    /// The outcome cannot be told.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// Must not be done.
    pub fn refused(why: impl Into<String>, evidence: Evidence) -> Self {
        Self::Refused { why: why.into(), evidence }
    }
}
