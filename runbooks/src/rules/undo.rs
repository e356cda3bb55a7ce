//! A written `undo`: that there is something to take back, that its step type can act, and that its parameters fit.

use super::expressions::Site;
use super::{Checked, parameters};
use crate::catalog::StepTypeInfo;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::names::Effect;
use crate::plan::RUNBOOK;
use crate::runbook::Step;

/// The step type that asks people. Taking back waits for nobody.
const APPROVAL: &str = "approval";

/// Whether a step of this type can take an effect back: one that only looks changes nothing.
pub(crate) fn can_undo(info: &StepTypeInfo) -> bool {
    info.effect > Effect::Read && info.name != APPROVAL
}

/// Checks the written undo of a step.
pub(super) fn check(checked: &Checked<'_>, index: usize, problems: &mut Vec<Diagnostic>) {
    let step = checked.graph.steps[index];
    let Some(undo) = step.written_undo() else { return };
    if step.step_type.value == RUNBOOK {
        // A child run has no `undo` but `never`, which is reported by itself.
        return;
    }
    let key = step.key("undo").unwrap_or(step.head);
    if let Some(info) = checked.catalog.step_type(&step.step_type.value)
        && !can_undo(info)
    {
        let message = format!("`undo` means nothing here: a step of type `{}` changes nothing that could be taken back", info.name);
        problems.push(Diagnostic::error(codes::NOT_HERE, key, message).help("write it at the step whose effect it takes back"));
    } else if index >= checked.graph.main {
        let warning = Diagnostic::warning(codes::NO_EFFECT, key, "`undo` has no effect: steps of `finally` are not taken back");
        problems.push(warning.help("remove it"));
    }
    of_type(checked, index, undo, problems);
}

fn of_type(checked: &Checked<'_>, index: usize, undo: &Step, problems: &mut Vec<Diagnostic>) {
    let name = undo.step_type.value.as_str();
    if name.is_empty() {
        return;
    }
    let not_here = |why: String, help: &str| Diagnostic::error(codes::NOT_HERE, undo.step_type.span, why).help(help);
    if name == RUNBOOK {
        let why = "a child run cannot be an undo: an undo is one act".to_owned();
        problems.push(not_here(why, "run the other runbook by itself, or write the one act that takes the effect back"));
        return;
    }
    match checked.catalog.step_type(name) {
        None => problems.push(parameters::unknown_type(checked, undo)),
        Some(info) if !can_undo(info) => {
            let why = format!("a step of type `{name}` changes nothing, so it takes nothing back");
            problems.push(not_here(why, "choose a step type that acts; `lifeboat steps` lists them with their effects"));
        }
        Some(_) => parameters::of_step(checked, index, undo, Site::Undo, problems),
    }
}
