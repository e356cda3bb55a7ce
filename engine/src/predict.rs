//! How long a run will take, and what is left of one that is under way: the critical path over its plan, weighed with the timings of
//! earlier runs. Pure; the time comes in as an argument.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::approval::ApprovalStep;
use crate::proof::Proofs;
use crate::run::{Run, RunPhase, StepState};
use crate::sight::Sight;
use crate::step::Step as _;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep};

/// Names of steps kept with a prediction; beyond them they are only counted.
pub const NAMES_MAX: usize = 50;

/// How long the main part of a run is expected to take, waits for people left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// With the middle timing of every step, in milliseconds.
    pub p50_ms: u64,
    /// With the timing of every step that nine of ten runs stayed within, in milliseconds: rather too long, because not all steps are
    /// slow in the same run.
    pub p90_ms: u64,
    /// Most earlier runs that any step on the way was timed in.
    pub runs: u64,
    /// How many steps will run, were never timed, and so count as nothing above: then the figures are a lower bound.
    pub never_timed: u64,
    /// Their names, the first [`NAMES_MAX`].
    pub never_timed_steps: Vec<StepId>,
    /// Steps that wait for people, however long that takes; the first [`NAMES_MAX`].
    pub waits_for_people: Vec<StepId>,
    /// The steps that decide the middle figure, first to last.
    pub critical_path: Vec<StepId>,
}

/// One step's middle timing, and the one that nine of ten stayed within, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Middle.
    pub p50_ms: u64,
    /// Nine of ten.
    pub p90_ms: u64,
    /// Runs that it is from.
    pub runs: u64,
}

/// What the timings of a step say; `None` without any.
#[must_use]
pub fn timing(took_ms: &[u64]) -> Option<Timing> {
    let mut sorted = took_ms.to_vec();
    sorted.sort_unstable();
    // The nearest rank: a figure that was really measured.
    let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some(Timing { p50_ms: rank(50)?, p90_ms: rank(90)?, runs: sorted.len() as u64 })
}

/// Predicts a run of this plan. `None` where not one of its steps was ever timed.
#[must_use]
pub fn predict(plan: &Plan, proofs: &Proofs) -> Option<Predicted> {
    let sight = Sight::before(plan);
    let weight = |step: &PlanStep| match role(&sight, step, proofs) {
        Role::Timed(timing) => timing,
        Role::Untimed | Role::Asks | Role::Inner | Role::LeftOut => Timing { p50_ms: 0, p90_ms: 0, runs: 0 },
    };
    let (p50_ms, critical_path) = longest(plan, |step| weight(step).p50_ms);
    let (p90_ms, _) = longest(plan, |step| weight(step).p90_ms);
    let of_role = |wanted: fn(&Role) -> bool| plan.steps.iter().filter(move |step| wanted(&role(&sight, step, proofs)));
    let timed = of_role(|role| matches!(role, Role::Timed(_))).map(|step| weight(step).runs).max()?;
    let never: Vec<StepId> = of_role(|role| matches!(role, Role::Untimed)).map(|step| step.id.clone()).collect();
    Some(Predicted {
        p50_ms,
        p90_ms,
        runs: timed,
        never_timed: never.len() as u64,
        never_timed_steps: never.into_iter().take(NAMES_MAX).collect(),
        waits_for_people: of_role(|role| matches!(role, Role::Asks)).map(|step| step.id.clone()).take(NAMES_MAX).collect(),
        critical_path,
    })
}

/// What a step is to a prediction.
enum Role {
    Timed(Timing),
    Untimed,
    /// People answer it.
    Asks,
    /// The engine does it without a call.
    Inner,
    /// Mode and inputs alone leave it out.
    LeftOut,
}

fn role(sight: &Sight<'_>, step: &PlanStep, proofs: &Proofs) -> Role {
    let unless = step.condition.as_deref().is_some_and(|condition| sight.is_true(step, condition) == Ok(false));
    if unless || matches!(sight.left_out(step), Ok(Some(_))) {
        return Role::LeftOut;
    }
    if step.inner.is_some() {
        return Role::Inner;
    }
    if step.step_type == ApprovalStep::TYPE {
        return Role::Asks;
    }
    let took = proofs.steps.get(&step.structure).filter(|_| !step.structure.is_empty());
    took.and_then(|known| timing(&known.took_ms)).map_or(Role::Untimed, Role::Timed)
}

/// The longest way through the main part. Steps stand after what they need.
fn longest(plan: &Plan, weight: impl Fn(&PlanStep) -> u64) -> (u64, Vec<StepId>) {
    let mut ends: BTreeMap<&StepId, (u64, Option<&StepId>)> = BTreeMap::new();
    for step in &plan.steps {
        let last = step.needs.iter().filter_map(|need| Some((ends.get(need)?.0, need))).max_by_key(|(end, _)| *end);
        let (begins, after) = last.map_or((0, None), |(end, need)| (end, Some(need)));
        ends.insert(&step.id, (begins.saturating_add(weight(step)), after));
    }
    let Some((last, (total, _))) = ends.iter().max_by_key(|(_, (end, _))| *end) else { return (0, Vec::new()) };
    let mut path = vec![(*last).clone()];
    while let Some((_, Some(before))) = path.last().and_then(|id| ends.get(id)) {
        path.push((*before).clone());
    }
    path.reverse();
    (*total, path)
}

/// What is left of the main part of a run that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// With the middle timings, in milliseconds.
    pub p50_ms: u64,
    /// With those that nine of ten runs stayed within.
    pub p90_ms: u64,
    /// Steps still to come that were never timed and count as nothing above.
    pub never_timed: u64,
    /// Whether people are or will be waited for, which counts as nothing above.
    pub waits_for_people: bool,
}

/// What is left from this instant on; `None` where the run turned back or is over, or where nothing that is left was ever timed.
#[must_use]
pub fn left(run: &Run, proofs: &Proofs, now: Timestamp) -> Option<Left> {
    match run.phase {
        RunPhase::Admitted | RunPhase::Running | RunPhase::Held => {}
        RunPhase::Unwinding | RunPhase::Finalising | RunPhase::Ended => return None,
    }
    let sight = Sight::before(&run.plan);
    let mut left = Left { p50_ms: 0, p90_ms: 0, never_timed: 0, waits_for_people: run.phase == RunPhase::Held };
    let mut timed = false;
    let mut remaining: BTreeMap<&StepId, (u64, u64)> = BTreeMap::new();
    for step in &run.plan.steps {
        let Some(record) = run.steps.get(&step.id) else { continue };
        let goes_on = match record.state {
            StepState::Waiting | StepState::AwaitingApproval | StepState::Running | StepState::Backoff | StepState::InDoubt => true,
            StepState::Held => {
                left.waits_for_people = true;
                true
            }
            StepState::Succeeded
            | StepState::Rejected
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoFailed
            | StepState::UndoInDoubt => false,
        };
        if !goes_on {
            continue;
        }
        let begun = record.started_at.map_or(0, |at| u64::try_from(now.duration_since(at).as_millis()).unwrap_or(0));
        let begun = begun.saturating_sub(record.waited_ms);
        let (p50, p90) = match role(&sight, step, proofs) {
            Role::Timed(timing) => {
                timed = true;
                (timing.p50_ms.saturating_sub(begun), timing.p90_ms.saturating_sub(begun))
            }
            Role::Untimed => {
                left.never_timed += 1;
                (0, 0)
            }
            Role::Asks => {
                left.waits_for_people = true;
                (0, 0)
            }
            Role::Inner | Role::LeftOut => (0, 0),
        };
        // A need that is over holds nothing up any more.
        let before = step.needs.iter().filter_map(|need| remaining.get(need)).fold((0, 0), |(a, b), (c, d)| (a.max(*c), b.max(*d)));
        let ends = (before.0.saturating_add(p50), before.1.saturating_add(p90));
        (left.p50_ms, left.p90_ms) = (left.p50_ms.max(ends.0), left.p90_ms.max(ends.1));
        remaining.insert(&step.id, ends);
    }
    timed.then_some(left)
}
