//! A promotion without a fence before it on the same database may make two primaries: the engine refuses it at run time, and this says so
//! while the file is written.

use super::Checked;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::runbook::Step;

const PROMOTE: &str = "promote-db";
const FENCE: &str = "fence-db";

pub(super) fn check(checked: &Checked<'_>, problems: &mut Vec<Diagnostic>) {
    let graph = checked.graph;
    let fences: Vec<usize> = (0..graph.steps.len()).filter(|index| graph.steps[*index].step_type.value == FENCE).collect();
    for (index, step) in graph.steps.iter().enumerate() {
        if step.step_type.value != PROMOTE || !graph.is_ordered(index) {
            continue;
        }
        let Some(db) = database(step) else { continue };
        let fenced = fences.iter().any(|fence| graph.is_before(*fence, index) && database(graph.steps[*fence]) == Some(db));
        if !fenced {
            let message = format!("`{}` promotes `{db}`, and no step before it fences `{db}`", step.name.value);
            let problem = Diagnostic::warning(codes::NO_FENCE, step.step_type.span, message);
            problems.push(problem.help(format!("add a step of type `{FENCE}` and name it in `needs`: two primaries lose data")));
        }
    }
}

fn database(step: &Step) -> Option<&str> {
    step.with.as_ref().and_then(|with| with.node.get("db")).and_then(crate::yaml::Node::text)
}
