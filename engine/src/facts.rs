//! What expressions and steps may know of a run, taken from its state. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::context::{Proof, RunFacts, StepRecord};
use crate::run::Run;
use lifeboat_runbooks::expr::{self, Scope, StepFacts};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep};

/// Every step's state and outputs, for expressions. Outputs of a step that is not done are absent.
#[must_use]
pub fn for_expressions(run: &Run) -> BTreeMap<StepId, StepFacts> {
    run.steps.iter().map(|(id, record)| (id.clone(), StepFacts { state: record.state.word(), outputs: record.value.clone() })).collect()
}

/// The steps that this one needs, directly or through others. A `finally` step comes after every step of the main part.
#[must_use]
pub fn ancestors(plan: &Plan, step: &PlanStep) -> BTreeSet<StepId> {
    let mut found: BTreeSet<StepId> = BTreeSet::new();
    let mut open: Vec<StepId> = step.needs.clone();
    if plan.finally.iter().any(|last| last.id == step.id) {
        open.extend(plan.steps.iter().map(|step| step.id.clone()));
    }
    while let Some(id) = open.pop() {
        if found.insert(id.clone())
            && let Some(step) = plan.step(&id)
        {
            open.extend(step.needs.iter().cloned());
        }
    }
    found
}

/// What a step may rely on: the history of its ancestors and its own.
#[must_use]
pub fn for_step(run: &Run, step: &PlanStep) -> RunFacts {
    let ancestors = ancestors(&run.plan, step);
    let steps = run
        .steps
        .iter()
        .filter(|(id, _)| ancestors.contains(*id) || **id == step.id)
        .filter_map(|(id, record)| {
            let planned = run.plan.step(id)?;
            let known = StepRecord {
                step_type: planned.step_type.clone(),
                state: record.state,
                with: record.with.clone(),
                intent: record.intent.clone(),
                output: record.value.clone(),
                proof: record.proof.unwrap_or(Proof::None),
                approvals: record.approvals.clone(),
                ended_at: record.changed_at,
            };
            Some((id.clone(), known))
        })
        .collect();
    RunFacts {
        mode: run.plan.mode.clone(),
        started_at: run.admitted_at,
        outage_began: run.incident.outage_began,
        steps,
        ancestors: ancestors.into_iter().collect(),
    }
}

/// What a step may rely on before there is a run.
#[must_use]
pub fn before_a_run(plan: &Plan, step: &PlanStep) -> RunFacts {
    let ancestors = ancestors(plan, step);
    let none = BTreeMap::new();
    let scope = Scope { mode: &plan.mode, inputs: &plan.inputs, steps: &none };
    let steps = ancestors
        .iter()
        .filter_map(|id| {
            let planned = plan.step(id)?;
            let known = StepRecord {
                step_type: planned.step_type.clone(),
                state: crate::run::StepState::Waiting,
                // What an ancestor is going to act on is known now, unless it follows from what other steps find.
                with: expr::fill(&planned.with, &scope).ok(),
                intent: None,
                output: None,
                proof: Proof::None,
                approvals: Vec::new(),
                ended_at: None,
            };
            Some((id.clone(), known))
        })
        .collect();
    RunFacts { mode: plan.mode.clone(), started_at: None, outage_began: None, steps, ancestors: ancestors.into_iter().collect() }
}
