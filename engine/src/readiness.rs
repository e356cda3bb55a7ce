//! What a plan's steps have been proven to do, when and by which run, and what changed since the last drill. Pure; what the peers say
//! today is asked in `preflight`.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::proof::{Proofs, ProvenBy};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::Plan;

/// A plan beside what earlier runs proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Every step that is looked after by a step type, in plan order.
    pub steps: Vec<StepProven>,
    /// What changed since the last drill that succeeded; absent where there was none.
    pub drift: Option<Drift>,
}

/// When a step was proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProven {
    /// The step.
    pub step: StepId,
    /// How its proof stands.
    pub state: Proven,
    /// The last run in which exactly this step was seen to succeed.
    pub by: Option<ProvenBy>,
}

/// How a proof stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proven {
    /// Proven, and not too long ago.
    Fresh,
    /// Proven longer ago than `readiness_max_age` allows.
    Stale,
    /// Not as it is written now.
    Never,
}

/// What changed since the last drill that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The drill.
    pub since: crate::RunId,
    /// When it ended.
    pub at: Timestamp,
    /// Whether anything of the structure changed, also what belongs to no step.
    pub changed: bool,
    /// Steps that are written otherwise now.
    pub steps_changed: Vec<StepId>,
    /// Steps that it did not have.
    pub steps_added: Vec<StepId>,
    /// Steps that are gone.
    pub steps_removed: Vec<StepId>,
}

/// Compares a plan with what was proven. `max_age`: how long a proof counts.
#[must_use]
pub fn readiness(plan: &Plan, proofs: &Proofs, now: Timestamp, max_age: Option<Duration>) -> Readiness {
    let steps = plan.all_steps().filter(|step| step.inner.is_none()).map(|step| {
        let by = proofs.steps.get(&step.structure).and_then(|known| known.proven.clone()).filter(|_| !step.structure.is_empty());
        let state = match &by {
            None => Proven::Never,
            Some(by) if max_age.is_some_and(|age| is_older(by.at, age, now)) => Proven::Stale,
            Some(_) => Proven::Fresh,
        };
        StepProven { step: step.id.clone(), state, by }
    });
    Readiness { steps: steps.collect(), drift: drift(plan, proofs) }
}

fn is_older(at: Timestamp, age: Duration, now: Timestamp) -> bool {
    now.duration_since(at) > jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX)
}

fn drift(plan: &Plan, proofs: &Proofs) -> Option<Drift> {
    let drill = proofs.drill.as_ref()?;
    let here = || plan.all_steps().filter(|step| step.inner.is_none());
    let before = |step: &StepId| drill.steps.get(step);
    let changed = here().filter(|step| before(&step.id).is_some_and(|structure| *structure != step.structure));
    let added = here().filter(|step| before(&step.id).is_none());
    Some(Drift {
        since: drill.run.clone(),
        at: drill.at,
        changed: drill.structure != plan.structure,
        steps_changed: changed.map(|step| step.id.clone()).collect(),
        steps_added: added.map(|step| step.id.clone()).collect(),
        steps_removed: drill.steps.keys().filter(|id| plan.step(id).is_none()).cloned().collect(),
    })
}
