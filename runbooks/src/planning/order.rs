//! Steps of a plan that may change one resource at the same time, now that resources are named. Before that, and for every mode, the same
//! is asked of the file in `rules::clashes`.

use std::collections::{BTreeMap, HashMap};

use super::expand::Expander;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::names::StepId;
use crate::parse::PROBLEMS_MAX;
use crate::plan::PlanStep;
use crate::rules::clashes::{ONE_BY_ONE, acts};

/// Steps that change one resource, in the order of the plan, and how far each step of the plan comes after them.
struct Chain {
    /// For each step, how many of those that change the resource are known to have ended before it, itself included.
    before: Vec<u32>,
    changes: u32,
    last: usize,
}

impl Expander<'_> {
    /// Reports steps that change the same resource and are not ordered.
    ///
    /// Neighbours are enough: where each comes after the one before it, all of them are in one chain. And where the chain holds so far, a
    /// step comes after all of it if it comes after its last: so one number for each step is enough, whatever the size of the plan.
    pub(super) fn clashes(&self, problems: &mut Vec<Diagnostic>) {
        for (steps, origins) in [(&self.steps, &self.origins), (&self.finally, &self.final_origins)] {
            let mut changed: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (place, step) in steps.iter().enumerate() {
                let mut resources: Vec<&str> =
                    step.touches.iter().filter(|touch| acts(touch.effect)).map(|touch| touch.resource.as_str()).collect();
                resources.sort_unstable();
                resources.dedup();
                resources.into_iter().for_each(|resource| changed.entry(resource).or_default().push(place));
            }
            changed.retain(|_, places| places.len() > 1);
            if changed.is_empty() {
                continue;
            }
            let places: HashMap<&StepId, usize> = steps.iter().enumerate().map(|(place, step)| (&step.id, place)).collect();
            for (resource, changes) in changed {
                if let Some((first, second)) = unordered(steps, &places, &changes) {
                    problems.push(self.clash(&steps[first], &steps[second], origins[second], resource));
                }
                if problems.len() > PROBLEMS_MAX {
                    return;
                }
            }
        }
    }

    fn clash(&self, before: &PlanStep, after: &PlanStep, origin: (usize, usize), resource: &str) -> Diagnostic {
        let (first, second) = (&before.id, &after.id);
        let message = format!("`{first}` (line {}) and `{second}` may change `{resource}` at the same time", before.line);
        let written = self.files[origin.0].graph.steps[origin.1];
        let siblings = first.prefix() == second.prefix() && first.written() == second.written();
        let help = if siblings {
            ONE_BY_ONE.to_owned()
        } else {
            format!("add `{first}` to the `needs` of `{second}`, or the other way round; a step that its `if` skips satisfies `needs`")
        };
        self.placed(origin.0, Diagnostic::error(codes::UNORDERED_CHANGES, written.name.span, message).help(help))
    }
}

/// The first two neighbours without an order.
fn unordered(steps: &[PlanStep], places: &HashMap<&StepId, usize>, changes: &[usize]) -> Option<(usize, usize)> {
    let (first, end) = (*changes.first()?, *changes.last()?);
    let mut chain = Chain { before: vec![0; end + 1 - first], changes: 0, last: first };
    let mut next = changes.iter().copied().peekable();
    for (place, step) in steps.iter().enumerate().take(end + 1).skip(first) {
        let ended = step.needs.iter().filter_map(|need| places.get(need)).filter(|need| **need >= first);
        let mut before = ended.filter_map(|need| chain.before.get(need - first)).copied().max().unwrap_or(0);
        if next.next_if_eq(&place).is_some() {
            if before < chain.changes {
                return Some((chain.last, place));
            }
            (chain.changes, chain.last) = (chain.changes + 1, place);
            before = chain.changes;
        }
        chain.before[place - first] = before;
    }
    None
}
