//! How many items of each `for_each` are under way, where the runbook limits them. An item is under way from the first of its steps that
//! begins to the last that is settled: one that is held keeps its place, so that a bad change does not go through the whole list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::mutants::{self, Mutant};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, ScopeKind};

/// How far a step is, as far as its item is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not begun.
    Waiting,
    /// Under way, or with a person.
    Open,
    /// Nothing more becomes of it by itself.
    Settled,
}

/// Counts of the limited items of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    shape: Arc<Shape>,
    stages: Vec<Stage>,
    items: Vec<Item>,
    /// For each list, how many of its items are under way.
    under_way: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Item {
    list: usize,
    steps: u32,
    waiting: u32,
    settled: u32,
}

impl Item {
    fn is_under_way(&self) -> bool {
        self.waiting < self.steps && self.settled < self.steps
    }
}

/// What the plan alone decides.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    /// For each list, most items under way.
    most: Vec<u32>,
    /// For each step, by its place in the plan, the limited items that it is part of. Empty where the plan has none.
    items_of: Vec<Vec<u32>>,
}

impl Limits {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut lists: BTreeMap<&StepId, usize> = BTreeMap::new();
        let mut most: Vec<u32> = Vec::new();
        let mut items: Vec<Item> = Vec::new();
        let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
        for (index, scope) in plan.scopes.iter().enumerate() {
            let ScopeKind::Item(item) = &scope.kind else { continue };
            let Some(at_once) = item.at_once.filter(|_| !mutants::is(Mutant::AtOnceIgnored)) else { continue };
            let list = *lists.entry(&item.of).or_insert_with(|| {
                most.push(at_once.max(1));
                most.len() - 1
            });
            numbers.insert(index, u32::try_from(items.len()).unwrap_or(u32::MAX));
            items.push(Item { list, ..Item::default() });
        }
        let mut shape = Shape { most, items_of: Vec::new() };
        if !items.is_empty() {
            for step in plan.all_steps() {
                let of: Vec<u32> = plan.scopes_of(step).filter_map(|(index, _)| numbers.get(&index).copied()).collect();
                for item in &of {
                    let item = &mut items[*item as usize];
                    (item.steps, item.waiting) = (item.steps + 1, item.waiting + 1);
                }
                shape.items_of.push(of);
            }
        }
        let under_way = vec![0; shape.most.len()];
        Self { stages: vec![Stage::Waiting; shape.items_of.len()], shape: Arc::new(shape), items, under_way }
    }

    /// Takes note of a step's new stage.
    pub(super) fn update(&mut self, place: usize, stage: Stage) {
        let Some(was) = self.stages.get(place).copied().filter(|was| *was != stage) else { return };
        self.stages[place] = stage;
        let shape = Arc::clone(&self.shape);
        for item in &shape.items_of[place] {
            let item = &mut self.items[*item as usize];
            let before = item.is_under_way();
            match was {
                Stage::Waiting => item.waiting -= 1,
                Stage::Settled => item.settled -= 1,
                Stage::Open => {}
            }
            match stage {
                Stage::Waiting => item.waiting += 1,
                Stage::Settled => item.settled += 1,
                Stage::Open => {}
            }
            let count = &mut self.under_way[item.list];
            *count = *count + u32::from(item.is_under_way()) - u32::from(before);
        }
    }

    /// The room that is left, while the steps at these places are looked at before they begin.
    pub(super) fn room(&self, busy: impl Iterator<Item = usize>) -> Room<'_> {
        let mut room = Room { limits: self, taken: BTreeSet::new() };
        if !self.items.is_empty() {
            for place in busy {
                room.take(place);
            }
        }
        room
    }
}

/// Room for items that are about to begin.
pub(crate) struct Room<'a> {
    limits: &'a Limits,
    /// Items that begin now and do not count as under way yet.
    taken: BTreeSet<u32>,
}

impl Room<'_> {
    /// Whether the step at this place may begin; if so its items take their room.
    pub(crate) fn takes(&mut self, place: usize) -> bool {
        let limits = self.limits;
        let free = self.new_items(place).all(|item| {
            let list = limits.items[item as usize].list;
            let taken = self.taken.iter().filter(|other| limits.items[**other as usize].list == list).count();
            (limits.under_way[list] as usize) + taken < limits.shape.most[list] as usize
        });
        if free {
            self.take(place);
        }
        free
    }

    fn take(&mut self, place: usize) {
        let new: Vec<u32> = self.new_items(place).collect();
        self.taken.extend(new);
    }

    /// The items of a step that are not under way yet.
    fn new_items(&self, place: usize) -> impl Iterator<Item = u32> {
        let items = self.limits.shape.items_of.get(place).into_iter().flatten().copied();
        items.filter(|item| !self.limits.items[*item as usize].is_under_way() && !self.taken.contains(item))
    }
}
