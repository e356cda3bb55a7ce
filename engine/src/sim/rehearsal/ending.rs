//! Where a simulated run came to rest, read from its journal: states, order, what was undone, what stands, who was asked. Whether that
//! is as it should be is judged in `verdict` and `expect`.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::journal::{Event, Outcome};
use crate::run::{Run, RunPhase, StepState, leaves_effect};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::PlanStep;

/// How a run came to rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// It ended.
    Ended(Outcome),
    /// It waits for a person.
    Held,
    /// It did not come to rest, or the engine stopped: why.
    Broke(String),
}

impl Rest {
    /// The word of test files.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ended(Outcome::Succeeded) => "succeeded",
            Self::Ended(Outcome::Failed) => "failed",
            Self::Ended(Outcome::Undone) => "undone",
            Self::Ended(Outcome::Cancelled) => "cancelled",
            Self::Ended(Outcome::Stuck) => "stuck",
            Self::Held => "held",
            Self::Broke(_) => "broken",
        }
    }
}

/// Whether a step's effect is there when the run has come to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is not, or the step only looks.
    No,
    /// Nobody knows.
    MayStand,
    /// It is.
    Stands,
}

/// One step at rest.
#[derive(Clone, Debug, Serialize)]
pub struct StepEnd {
    /// Its name.
    pub step: StepId,
    /// How it stands.
    pub state: StepState,
    /// Attempts begun.
    pub attempts: u32,
    /// Whether its effect is there.
    pub standing: Standing,
    /// Whether a person has to decide about it.
    pub held: bool,
    /// The reason that was told last.
    pub why: Option<String>,
    /// Filled parameters of the last attempt.
    pub with: Option<Value>,
}

/// People who were asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The approval.
    pub step: StepId,
    /// Any of these roles.
    pub roles: Vec<String>,
    /// So many people.
    pub count: u32,
    /// What they were shown.
    pub shown: Value,
}

/// What began or ended, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A step began an attempt, or people were asked.
    Began(StepId),
    /// A step came to an end of any kind, or was skipped.
    Ended(StepId),
}

/// Where one case ends.
#[derive(Clone, Debug, Serialize)]
pub struct Ending {
    /// How the run came to rest.
    pub rest: Rest,
    /// The reason that the run itself gives.
    pub why: Option<String>,
    /// Every step, in the order of the plan.
    pub steps: Vec<StepEnd>,
    /// Steps in the order in which they were undone.
    pub undone: Vec<StepId>,
    /// Who was asked, in order.
    pub asked: Vec<Asked>,
    /// The step that crossed the point of no return.
    pub no_return: Option<StepId>,
    /// What began and ended, in order.
    pub marks: Vec<Mark>,
    /// Databases that may have two primaries now: promoted, and the fence of the old one does not surely stand.
    pub two_primaries: Vec<String>,
    /// What people were to do and never did, because its moment did not come.
    pub never_came: Vec<usize>,
    /// Laws of the engine that were broken: its mistake, not the runbook's.
    pub broken: Vec<String>,
    /// Which calls of which steps were made at all.
    #[serde(skip)]
    pub(super) calls: BTreeSet<(&'static str, String)>,
}

impl Ending {
    pub(super) fn of(run: &Run, rest: Rest, events: &[Event]) -> Self {
        let steps = run.plan.all_steps().map(|step| step_end(run, step, &rest)).collect();
        let mut ending = Self {
            rest,
            why: run.why.clone(),
            steps,
            undone: Vec::new(),
            asked: Vec::new(),
            no_return: run.no_return.clone(),
            marks: Vec::new(),
            two_primaries: two_primaries(run),
            never_came: Vec::new(),
            broken: Vec::new(),
            calls: BTreeSet::new(),
        };
        for event in events {
            ending.note(event);
        }
        ending
    }

    /// Steps whose effect stands or may stand, in the order of the plan.
    pub fn standing(&self) -> impl Iterator<Item = (&StepId, Standing)> {
        self.steps.iter().filter(|end| end.standing != Standing::No).map(|end| (&end.step, end.standing))
    }

    /// Steps that wait for a person, in the order of the plan.
    pub fn held(&self) -> impl Iterator<Item = &StepId> {
        self.steps.iter().filter(|end| end.held).map(|end| &end.step)
    }

    /// One step.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&StepEnd> {
        self.steps.iter().find(|end| end.step.as_str() == name)
    }

    fn note(&mut self, event: &Event) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only beginnings and ends are of interest, and an event may be added")]
        match event {
            Event::StepStarted { step, .. } => self.marks.push(Mark::Began(step.clone())),
            Event::ApprovalRequested { step, roles, count, shown, .. } => {
                self.marks.push(Mark::Began(step.clone()));
                self.asked.push(Asked { step: step.clone(), roles: roles.clone(), count: *count, shown: shown.clone() });
            }
            Event::UndoSucceeded { step } => self.undone.push(step.clone()),
            Event::StepSucceeded { step, .. }
            | Event::StepSkipped { step, .. }
            | Event::StepFailed { step, retry_at: None, .. }
            | Event::StepNotRun { step, .. }
            | Event::StepRejected { step, .. }
            | Event::StepResolved { step, .. }
            | Event::ApprovalDenied { step, .. }
            | Event::ApprovalExpired { step } => self.marks.push(Mark::Ended(step.clone())),
            // The last yes is the end of an approval; that it was the last is seen in the state.
            Event::ApprovalGranted { step, .. } if self.step(step.as_str()).is_some_and(|end| end.state == StepState::Succeeded) => {
                self.marks.push(Mark::Ended(step.clone()));
            }
            _ => {}
        }
    }
}

fn step_end(run: &Run, step: &PlanStep, rest: &Rest) -> StepEnd {
    let id = step.id.clone();
    let Some(record) = run.steps.get(&id) else {
        return StepEnd { step: id, state: StepState::Waiting, attempts: 0, standing: Standing::No, held: false, why: None, with: None };
    };
    StepEnd {
        step: id,
        state: record.state,
        attempts: record.attempts,
        standing: standing(run, step),
        held: may_decide(record.state) != Decision::No && !record.given_up && *rest == Rest::Held && run.phase == RunPhase::Held,
        why: record.why.clone(),
        with: record.with.as_deref().cloned(),
    }
}

/// Whether a person can decide about a step in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// At once.
    Now,
    /// Where its failure leads to a hold, once the run is held.
    OnceHeld,
    /// Not at all.
    No,
}

pub(super) fn may_decide(state: StepState) -> Decision {
    match state {
        StepState::Held => Decision::Now,
        StepState::Failed | StepState::Rejected => Decision::OnceHeld,
        StepState::Waiting
        | StepState::AwaitingApproval
        | StepState::Running
        | StepState::Backoff
        | StepState::InDoubt
        | StepState::Succeeded
        | StepState::Skipped
        | StepState::NotRun
        | StepState::Undoing
        | StepState::Undone
        | StepState::UndoFailed
        | StepState::UndoInDoubt => Decision::No,
    }
}

/// What the journal knows of a step's effect.
fn standing(run: &Run, step: &PlanStep) -> Standing {
    let Some(record) = run.steps.get(&step.id).filter(|_| leaves_effect(step)) else { return Standing::No };
    if record.doubtful {
        return Standing::MayStand;
    }
    match record.state {
        StepState::Succeeded | StepState::Rejected | StepState::UndoFailed => Standing::Stands,
        StepState::Running | StepState::InDoubt | StepState::Undoing | StepState::UndoInDoubt => Standing::MayStand,
        StepState::Waiting
        | StepState::AwaitingApproval
        | StepState::Backoff
        | StepState::Held
        | StepState::Failed
        | StepState::Skipped
        | StepState::NotRun
        | StepState::Undone => Standing::No,
    }
}

/// The step types by whose names the danger is known; the language warns of a promotion without a fence by the same names.
const PROMOTE: &str = "promote-db";
const FENCE: &str = "fence-db";

/// Databases with a promotion that stands or may stand, and no fence that surely does.
fn two_primaries(run: &Run) -> Vec<String> {
    let database = |step: &PlanStep| {
        let filled = run.steps.get(&step.id).and_then(|record| record.with.as_deref()).unwrap_or(&step.with);
        filled.get("db").and_then(Value::as_str).map(str::to_owned)
    };
    let fenced: Vec<String> = run
        .plan
        .all_steps()
        .filter(|step| step.step_type == FENCE && standing(run, step) == Standing::Stands && run.state(&step.id) != StepState::UndoFailed)
        .filter_map(database)
        .collect();
    let mut open: Vec<String> = run
        .plan
        .all_steps()
        .filter(|step| step.step_type == PROMOTE && standing(run, step) != Standing::No)
        .filter_map(database)
        .filter(|db| !fenced.contains(db))
        .collect();
    open.dedup();
    open
}
