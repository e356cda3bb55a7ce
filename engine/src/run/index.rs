//! Which steps of a run `next` has to look at, kept up to date by `apply`, so that a long plan is not walked through at every event.
//! It follows from plan and states alone: whatever it says could be read off them again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::Value;

use super::limits::{Limits, Room, Stage};
use super::{StepRun, StepState, effect_of};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{Plan, PlanStep, UndoRule};

/// What other steps make of one that they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Done, or skipped by its own `if` or by a person.
    Met,
    /// It may still be done.
    Open,
    /// It will not be done.
    Lost,
}

impl Stand {
    fn of(record: &StepRun) -> Self {
        match record.state {
            StepState::Succeeded | StepState::Skipped => Self::Met,
            StepState::NotRun | StepState::Undone | StepState::UndoFailed => Self::Lost,
            StepState::Failed | StepState::Rejected if record.given_up => Self::Lost,
            StepState::Failed
            | StepState::Rejected
            | StepState::Waiting
            | StepState::AwaitingApproval
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Held
            | StepState::Undoing
            | StepState::UndoInDoubt => Self::Open,
        }
    }
}

/// One part of a plan: the main part or `finally`. Places are those of [`Plan::at`], in plan order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Not begun, and everything they need is there.
    pub ready: BTreeSet<usize>,
    /// Not begun, and something they need will not be done.
    pub lost: BTreeSet<usize>,
    /// Not begun.
    pub waiting: BTreeSet<usize>,
    /// Begun and not settled: under way, due again, asked of people, in doubt, held, failed or rejected without a last word.
    pub unsettled: BTreeSet<usize>,
    /// Failed or rejected, with or without a last word.
    pub failed: BTreeSet<usize>,
    /// Effects that unwinding has to take back, or is taking back.
    pub standing: BTreeSet<usize>,
    /// Effects that nobody has confirmed or ruled out, and such as could not be taken back.
    pub dubious: BTreeSet<usize>,
}

/// The index of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    shape: Arc<Shape>,
    stands: Vec<Stand>,
    /// For each place, how many of its needs are not met.
    unmet: Vec<u32>,
    /// For each place, how many of its needs are lost.
    lost: Vec<u32>,
    /// Boxed, because a run is moved about and most have none.
    limits: Box<Limits>,
    /// The main part.
    pub main: Part,
    /// The `finally` part.
    pub last: Part,
}

/// What of the index the plan alone decides.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    main: usize,
    dependents: Vec<Vec<u32>>,
    undone_by_unwinding: Vec<bool>,
    /// For each place, how many needs it has.
    needs: Vec<u32>,
    /// For each place, how many of them the plan does not have.
    missing: Vec<u32>,
    withs: Withs,
}

/// For each place, the parameters of the plan as records of runs have them, once one has: those without expressions are the same in every run.
#[derive(Debug)]
struct Withs(Vec<OnceLock<Arc<Value>>>);

impl PartialEq for Withs {
    /// What the plan says is the same, whoever asked for it so far.
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
    }
}

impl Eq for Withs {}

type Shapes = BTreeMap<usize, (Weak<Plan>, Weak<Shape>)>;

/// The shapes of the plans that runs of this process have, by where the plan is. A plan keeps its place in memory for as long as its entry is
/// here, so no other can be taken for it.
static SHAPES: Mutex<Shapes> = Mutex::new(BTreeMap::new());

impl Shape {
    /// Thousands of runs of one plan share it.
    fn of(plan: &Arc<Plan>) -> Arc<Self> {
        let at = Arc::as_ptr(plan).addr();
        // A map is whole after every single operation.
        let shapes = || SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shapes().get(&at).and_then(|(_, shape)| shape.upgrade()) {
            return known;
        }
        let shape = Arc::new(Self::new(plan));
        let mut shapes = shapes();
        shapes.retain(|_, (plan, shape)| plan.strong_count() > 0 && shape.strong_count() > 0);
        shapes.insert(at, (Arc::downgrade(plan), Arc::downgrade(&shape)));
        shape
    }

    fn new(plan: &Plan) -> Self {
        let count = plan.steps.len() + plan.finally.len();
        let mut dependents = vec![Vec::new(); count];
        let mut needs = vec![0; count];
        let mut missing = vec![0; count];
        for (place, step) in plan.all_steps().enumerate() {
            for need in &step.needs {
                needs[place] += 1;
                match plan.place(need) {
                    Some(needed) => dependents[needed].push(u32::try_from(place).unwrap_or(u32::MAX)),
                    // A need that the plan does not have will never be done.
                    None => missing[place] += 1,
                }
            }
        }
        let undone_by_unwinding = plan.all_steps().map(is_undone_by_unwinding).collect();
        let withs = Withs((0..count).map(|_| OnceLock::new()).collect());
        Self { main: plan.steps.len(), dependents, undone_by_unwinding, needs, missing, withs }
    }
}

impl Index {
    /// The index of a run in which nothing has happened.
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let shape = Shape::of(plan);
        let count = shape.needs.len();
        let mut index = Self {
            stands: vec![Stand::Open; count],
            unmet: shape.needs.clone(),
            lost: shape.missing.clone(),
            shape,
            limits: Box::new(Limits::new(plan)),
            main: Part::default(),
            last: Part::default(),
        };
        let fresh = StepRun::default();
        for place in 0..count {
            index.sort(place, &fresh);
        }
        index
    }

    /// Takes note of a step's new record.
    pub(super) fn update(&mut self, place: usize, record: &StepRun) {
        self.sort(place, record);
        let (was, is) = (self.stands[place], Stand::of(record));
        self.limits.update(
            place,
            match is {
                Stand::Open if record.state == StepState::Waiting => Stage::Waiting,
                Stand::Open => Stage::Open,
                Stand::Met | Stand::Lost => Stage::Settled,
            },
        );
        if was == is {
            return;
        }
        self.stands[place] = is;
        let shape = Arc::clone(&self.shape);
        for dependent in shape.dependents[place].iter().map(|dependent| *dependent as usize) {
            let shift = |count: &mut u32, was: bool, is: bool| *count = *count + u32::from(is) - u32::from(was);
            shift(&mut self.unmet[dependent], was != Stand::Met, is != Stand::Met);
            shift(&mut self.lost[dependent], was == Stand::Lost, is == Stand::Lost);
            if self.part(dependent).waiting.contains(&dependent) {
                self.sort_waiting(dependent);
            }
        }
    }

    /// Filled parameters of a step, shared with other runs of the plan where they are as the plan has them.
    pub(crate) fn with(&self, plan: &Plan, step: &StepId, filled: &Value) -> Arc<Value> {
        let place = plan.place(step);
        let planned = place.and_then(|place| plan.at(place)).is_some_and(|planned| planned.with == *filled);
        match place.filter(|_| planned).and_then(|place| self.shape.withs.0.get(place)) {
            Some(known) => Arc::clone(known.get_or_init(|| Arc::new(filled.clone()))),
            None => Arc::new(filled.clone()),
        }
    }

    /// The room for items of limited lists, while these steps are looked at before they begin.
    pub(crate) fn room(&self, busy: &BTreeSet<usize>) -> Room<'_> {
        self.limits.room(busy.iter().copied())
    }

    /// Whether both have what the plan alone decides in one place.
    #[cfg(test)]
    pub(crate) fn shares_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shape, &other.shape)
    }

    fn part(&mut self, place: usize) -> &mut Part {
        if place < self.shape.main { &mut self.main } else { &mut self.last }
    }

    fn sort(&mut self, place: usize, record: &StepRun) {
        let undone_by_unwinding = self.shape.undone_by_unwinding[place];
        let state = record.state;
        let part = self.part(place);
        let put = |set: &mut BTreeSet<usize>, belongs: bool| {
            if belongs {
                set.insert(place);
            } else {
                set.remove(&place);
            }
        };
        let failed = matches!(state, StepState::Failed | StepState::Rejected);
        let under_way =
            matches!(state, StepState::AwaitingApproval | StepState::Running | StepState::Backoff | StepState::InDoubt | StepState::Held);
        put(&mut part.waiting, state == StepState::Waiting);
        put(&mut part.unsettled, under_way || (failed && !record.given_up));
        put(&mut part.failed, failed);
        put(
            &mut part.standing,
            undone_by_unwinding
                && matches!(state, StepState::Succeeded | StepState::Rejected | StepState::Undoing | StepState::UndoInDoubt),
        );
        put(&mut part.dubious, record.doubtful || state == StepState::UndoFailed);
        if state == StepState::Waiting {
            self.sort_waiting(place);
        } else {
            part.ready.remove(&place);
            part.lost.remove(&place);
        }
    }

    fn sort_waiting(&mut self, place: usize) {
        let (unmet, lost) = (self.unmet[place], self.lost[place]);
        let part = self.part(place);
        if unmet == 0 {
            part.ready.insert(place);
        } else {
            part.ready.remove(&place);
        }
        if lost > 0 {
            part.lost.insert(place);
        } else {
            part.lost.remove(&place);
        }
    }
}

/// The needed step that is lost, for one that is in [`Part::lost`].
pub(crate) fn lost_need<'plan>(run: &super::Run, step: &'plan PlanStep) -> Option<&'plan StepId> {
    step.needs.iter().find(|need| run.steps.get(need).is_none_or(|record| Stand::of(record) == Stand::Lost))
}

/// Whether unwinding takes this step's effect back.
fn is_undone_by_unwinding(step: &PlanStep) -> bool {
    match &step.undo {
        UndoRule::Default => effect_of(step) > Effect::Read,
        // Whoever wrote it knows that there is something to take back, also where nothing is named that the step grips.
        UndoRule::Written(_) => true,
        UndoRule::Never => false,
    }
}
