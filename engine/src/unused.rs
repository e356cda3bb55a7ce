//! Places of a `for_each` list that turned out not to be needed: gathered, so that people read one line and not one for each place. Pure.

use std::fmt;

use crate::run::Run;
use crate::sight::Sight;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep, ScopeKind};

/// Places of one list, one after the other, that the list turned out not to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The step that gathers the items.
    pub list: StepId,
    /// The first of them, from 0.
    pub first: u32,
    /// The last of them.
    pub last: u32,
    /// How many steps stand for them.
    pub steps: usize,
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { list, first, last, .. } = self;
        if first == last {
            return write!(f, "{list}[{first}]: 1 place not used");
        }
        write!(f, "{list}[{first}..{last}]: {} places not used", last - first + 1)
    }
}

/// A row of a list of steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row<T> {
    /// A step.
    Step(T),
    /// What stands for the steps of unused places.
    Unused(Unused),
}

/// Gathers steps that follow each other and stand for unused places of one list. Each comes with its place, if that is not used.
pub fn gather<T>(steps: impl IntoIterator<Item = (T, Option<(StepId, u32)>)>) -> impl Iterator<Item = Row<T>> {
    let mut steps = steps.into_iter().peekable();
    std::iter::from_fn(move || {
        let (step, place) = steps.next()?;
        let Some((list, first)) = place else { return Some(Row::Step(step)) };
        let mut unused = Unused { list, first, last: first, steps: 1 };
        while let Some((_, Some((_, place)))) = steps.next_if(|(_, place)| place.as_ref().is_some_and(|(list, _)| *list == unused.list)) {
            (unused.last, unused.steps) = (unused.last.max(place), unused.steps + 1);
        }
        Some(Row::Unused(unused))
    })
}

/// The steps of a run, in the order of the plan.
pub fn rows(run: &Run) -> impl Iterator<Item = Row<&PlanStep>> {
    let sight = Sight::of(run);
    gather(run.plan.all_steps().map(move |step| (step, sight.unused_place(step).map(|(list, place)| (list.clone(), place)))))
}

/// All unused places of the list that this step stands in, where the step is of the first of them: told once, they are told.
#[must_use]
pub fn told_by(run: &Run, step: &PlanStep) -> Option<Unused> {
    let (list, place) = Sight::of(run).unused_place(step)?;
    Some(Unused { list: list.clone(), first: place, last: last_place(&run.plan, list)?, steps: 1 })
}

fn last_place(plan: &Plan, list: &StepId) -> Option<u32> {
    let places = plan.scopes.iter().filter_map(|scope| match &scope.kind {
        ScopeKind::Item(item) if item.of == *list => Some(item.index),
        ScopeKind::Item(_) | ScopeKind::Child(_) => None,
    });
    places.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_list_that_follow_each_other_are_one_row() {
        let id = |name: &str| StepId::new(name).unwrap();
        let steps = [
            ("copy[2]", None),
            ("copy[3]/a", Some(("copy", 3))),
            ("copy[3]", Some(("copy", 3))),
            ("copy[99]", Some(("copy", 99))),
            ("copy", None),
            ("send[0]", Some(("send", 0))),
            ("tell[0]", Some(("tell", 0))),
        ];
        let rows = gather(steps.map(|(step, place)| (step, place.map(|(list, place)| (id(list), place)))));
        let told: Vec<String> = rows.map(|row| if let Row::Unused(unused) = row { unused.to_string() } else { ".".into() }).collect();
        let wanted = [".", "copy[3..99]: 97 places not used", ".", "send[0]: 1 place not used", "tell[0]: 1 place not used"];
        assert_eq!(told, wanted);
    }
}
