//! The records of a run's steps, by their places in the plan: a long plan is not searched by name at every event, and a short one costs a
//! pointer for each step.

use std::fmt;
use std::ops::Index;
use std::sync::{Arc, LazyLock};

use super::StepRun;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::Plan;

/// The one record of all steps of all runs to which nothing happened: each gets its own when something does.
static FRESH: LazyLock<Arc<StepRun>> = LazyLock::new(Arc::default);

/// Every step's record, also of `finally`. Shared with calls under way, which may ask what earlier steps did.
#[derive(Clone)]
pub struct Steps {
    plan: Arc<Plan>,
    records: Vec<Arc<StepRun>>,
}

impl Steps {
    /// Nothing has happened to any of them.
    pub(super) fn fresh(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), records: vec![Arc::clone(&FRESH); plan.all_steps().count()] }
    }

    /// A step's record; `None` for one that the plan does not have.
    #[must_use]
    pub fn get(&self, step: &StepId) -> Option<&Arc<StepRun>> {
        self.at(self.plan.place(step)?)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, step: &StepId) -> Option<&mut Arc<StepRun>> {
        self.records.get_mut(self.plan.place(step)?)
    }

    /// The record of the step at a place of the plan.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&Arc<StepRun>> {
        self.records.get(place)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the plan has no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Names and records, in the order of the plan.
    pub fn iter(&self) -> impl Iterator<Item = (&StepId, &Arc<StepRun>)> {
        self.keys().zip(&self.records)
    }

    /// Names, in the order of the plan.
    pub fn keys(&self) -> impl Iterator<Item = &StepId> {
        self.plan.all_steps().map(|step| &step.id)
    }

    /// Records, in the order of the plan.
    pub fn values(&self) -> impl Iterator<Item = &Arc<StepRun>> {
        self.records.iter()
    }

    /// The same, to change them.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Arc<StepRun>> {
        self.records.iter_mut()
    }
}

impl Index<&StepId> for Steps {
    type Output = Arc<StepRun>;
    /// # Panics
    /// For a step that the plan does not have.
    fn index(&self, step: &StepId) -> &Arc<StepRun> {
        self.get(step).expect("the plan has the step")
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
