//! A promotion without a fence before it on the same database may make two primaries: the engine refuses it at run time, and this says so
//! while the file is written.

use super::Checked;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::runbook::Step;

const PROMOTE: &str = "promote-db";
pub(super) const FENCE: &str = "fence-db";

/// Promotions without a fence before them. Told of the outermost runbook only: what runs a child may fence before it.
pub(super) fn unfenced(checked: &Checked<'_>) -> Vec<Diagnostic> {
    let graph = &checked.graph;
    let child = |index: &usize| checked.child(graph.steps[*index]).map(|(_, facts)| facts);
    let all = 0..graph.steps.len();
    let fences: Vec<usize> = all.clone().filter(|index| graph.steps[*index].step_type.value == FENCE).collect();
    // Which database a child fences depends on its inputs: one that fences at all is believed, and the engine looks again.
    let fencing: Vec<usize> = all.clone().filter(|index| child(index).is_some_and(|facts| facts.fences)).collect();
    let mut problems = Vec::new();
    for index in all.filter(|index| graph.is_ordered(*index)) {
        let step = graph.steps[index];
        let before = |fences: &[usize]| fences.iter().any(|fence| graph.is_before(*fence, index));
        let message = if step.step_type.value == PROMOTE {
            let Some(db) = database(step) else { continue };
            let same: Vec<usize> = fences.iter().copied().filter(|fence| database(graph.steps[*fence]) == Some(db)).collect();
            if before(&same) || before(&fencing) {
                continue;
            }
            format!("`{}` promotes `{db}`, and no step before it fences `{db}`", step.name.value)
        } else if child(&index).is_some_and(|facts| facts.unfenced) && !before(&fences) && !before(&fencing) {
            format!("the child `{}` promotes a database, and no step before it fences one", step.name.value)
        } else {
            continue;
        };
        let problem = Diagnostic::warning(codes::NO_FENCE, step.step_type.span, message);
        problems.push(problem.help(format!("add a step of type `{FENCE}` and name it in `needs`: two primaries lose data")));
    }
    problems
}

fn database(step: &Step) -> Option<&str> {
    step.with.as_ref().and_then(|with| with.node.get("db")).and_then(crate::yaml::Node::text)
}
