//! What step types may know of a run, taken from its state. Pure. What expressions see is in `sight`.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use crate::context::{History, Proof, Purpose, RunFacts, StepRecord};
use crate::run::{Run, StepRun};
use crate::sight::Sight;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep};

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

/// The records of a run's steps as calls under way see them, by their places in the plan: kept up to date by the executor, which is the
/// only one to write. `None` while a record changes.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<RwLock<Vec<Option<Arc<StepRun>>>>>);

impl Known {
    /// What is known of a run now.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        Self(Arc::new(RwLock::new(run.steps.values().cloned().map(Some).collect())))
    }

    /// Forgets a step until [`Known::put`], so that its record is not shared while it changes.
    pub(crate) fn take(&self, place: usize) {
        if let Some(known) = self.write().get_mut(place) {
            *known = None;
        }
    }

    /// A step's new record.
    pub(crate) fn put(&self, run: &Run, place: usize) {
        if let (Some(record), Some(known)) = (run.steps.at(place), self.write().get_mut(place)) {
            *known = Some(Arc::clone(record));
        }
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Option<Arc<StepRun>>>> {
        // A list of records is whole after every single operation.
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, place: usize) -> Option<Arc<StepRun>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(place)?.clone()
    }
}

/// Where the history that a step may rely on is looked up.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    plan: Arc<Plan>,
    known: Known,
    step: StepId,
    purpose: Purpose,
}

impl Source {
    /// The history of the step's ancestors and its own.
    pub(crate) fn history(&self) -> History {
        let Some(step) = self.plan.step(&self.step) else { return History::default() };
        let ancestors = ancestors(&self.plan, step);
        let steps = ancestors
            .iter()
            .chain([&step.id])
            .filter_map(|id| {
                let place = self.plan.place(id)?;
                let (planned, record) = (self.plan.at(place)?, self.known.get(place)?);
                let known = StepRecord {
                    step_type: planned.step_type.clone(),
                    state: record.state,
                    with: record.with.as_deref().cloned(),
                    intent: record.intent.clone(),
                    output: record.value.clone(),
                    proof: record.proof.unwrap_or(Proof::None),
                    approvals: record.approvals.clone(),
                    ended_at: record.changed_at,
                };
                Some((id.clone(), known))
            })
            .map(|(id, known)| match (self.purpose, step.written_undo()) {
                // What goes by the step's name is the undo now: what it asks of itself is what its own earlier tries were to do.
                (Purpose::WrittenUndo, Some(undo)) if id == step.id => {
                    let act = self.plan.place(&id).and_then(|place| self.known.get(place)?.undo_act.clone());
                    let (with, intent) = act.map_or((None, None), |act| (Some(act.with), Some(act.intent)));
                    let step_type = undo.step_type.clone();
                    let nothing = StepRecord { output: None, proof: Proof::None, approvals: Vec::new(), ended_at: None, ..known };
                    (id, StepRecord { step_type, with, intent, ..nothing })
                }
                (Purpose::Step | Purpose::WrittenUndo, _) => (id, known),
            })
            .collect();
        History { steps, ancestors: ancestors.into_iter().collect() }
    }
}

/// What a step, or its written undo, may rely on: the history of its ancestors and its own.
#[must_use]
pub fn for_step(run: &Run, known: &Known, step: &PlanStep, purpose: Purpose) -> RunFacts {
    RunFacts {
        mode: run.plan.mode.clone(),
        started_at: run.admitted_at,
        outage_began: run.incident.outage_began,
        source: Some(Source { plan: Arc::clone(&run.plan), known: known.clone(), step: step.id.clone(), purpose }),
        found: OnceLock::new(),
    }
}

/// What a step may rely on before there is a run.
#[must_use]
pub fn before_a_run(plan: &Plan, step: &PlanStep) -> RunFacts {
    let ancestors = ancestors(plan, step);
    let sight = Sight::before(plan);
    let steps = ancestors
        .iter()
        .filter_map(|id| {
            let planned = plan.step(id)?;
            let known = StepRecord {
                step_type: planned.step_type.clone(),
                state: crate::run::StepState::Waiting,
                // What an ancestor is going to act on is known now, unless it follows from what other steps find.
                with: sight.fill(planned, &planned.with).ok(),
                intent: None,
                output: None,
                proof: Proof::None,
                approvals: Vec::new(),
                ended_at: None,
            };
            Some((id.clone(), known))
        })
        .collect();
    RunFacts::given(plan.mode.clone(), steps, ancestors.into_iter().collect())
}
