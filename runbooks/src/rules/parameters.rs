//! The step type of each step and its `with`: literals against the type's schema, expressions against their place, and the typed reading
//! of the step type itself where nothing depends on the run.

use serde_json::Value;

use super::expressions::Site;
use super::{Checked, expressions};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::parse::PROBLEMS_MAX;
use crate::plan::RUNBOOK;
use crate::runbook::Step;
use crate::shape::literal::{Checker, Place, Templates};
use crate::shape::{Kind, Presence};
use crate::suggest;

/// Checks one step.
pub(crate) fn check(checked: &Checked<'_>, index: usize, problems: &mut Vec<Diagnostic>) {
    let step = checked.graph.steps[index];
    let name = step.step_type.value.as_str();
    if name.is_empty() {
        return;
    }
    if checked.shapes(step).is_none() {
        if name == RUNBOOK {
            child_without_name(step, problems);
        } else {
            problems.push(unknown_type(checked, step));
        }
        return;
    }
    of_step(checked, index, step, Site::With, problems);
}

/// Checks the parameters of a step whose type is known: that of this place, or its written undo.
pub(super) fn of_step(checked: &Checked<'_>, index: usize, step: &Step, site: Site, problems: &mut Vec<Diagnostic>) {
    let name = step.step_type.value.as_str();
    let Some(shapes) = checked.shapes(step) else { return };
    let before = problems.len();
    let Some(with) = &step.with else {
        required_without_with(checked, step, problems);
        return;
    };
    let place = Place { pointer: String::new(), name: format!("`with` of `{name}`"), head: with.key_span };
    let mut checker = Checker::new(Templates::AreExpressions);
    checker.check(&with.node, &shapes.with, &place);
    problems.append(&mut checker.problems);
    for hole in &checker.holes {
        if problems.len() > PROBLEMS_MAX {
            return;
        }
        expressions::hole(checked, index, site, hole, problems);
    }
    if checker.holes.is_empty() && problems.len() == before && name != RUNBOOK {
        typed(checked, step, &with.node.to_value(), problems);
    }
    same_place(step, &with.node.to_value(), problems);
}

pub(super) fn unknown_type(checked: &Checked<'_>, step: &Step) -> Diagnostic {
    let name = &step.step_type.value;
    let known: Vec<&str> = checked.catalog.step_types().into_iter().map(|info| info.name).chain([RUNBOOK]).collect();
    Diagnostic::error(codes::UNKNOWN_STEP_TYPE, step.step_type.span, format!("there is no step type `{name}`"))
        .maybe_help(suggest::instead(name, &known).or_else(|| Some("`lifeboat steps` lists the step types".to_owned())))
}

/// A child that is not named. One that is named and cannot be had was reported.
fn child_without_name(step: &Step, problems: &mut Vec<Diagnostic>) {
    if step.child().is_none() {
        let place = step.with.as_ref().map_or(step.head, |with| with.key_span);
        let message = format!("a step of type `{RUNBOOK}` needs the name of a runbook");
        problems.push(Diagnostic::error(codes::MISSING_KEY, place, message).help("add `with: { runbook: NAME }`"));
    }
}

fn required_without_with(checked: &Checked<'_>, step: &Step, problems: &mut Vec<Diagnostic>) {
    let name = &step.step_type.value;
    let required: Vec<&str> = match checked.shapes(step).map(|shapes| &shapes.with.kind) {
        Some(Kind::Object(object)) => {
            object.fields.iter().filter(|(_, field)| field.presence == Presence::Required).map(|(key, _)| key.as_str()).collect()
        }
        _ => Vec::new(),
    };
    if required.is_empty() {
        typed(checked, step, &Value::Object(serde_json::Map::new()), problems);
    } else {
        let message = format!("a step of type `{name}` needs `with`");
        problems
            .push(Diagnostic::error(codes::MISSING_KEY, step.head, message).help(format!("add `with:` with {}", suggest::list(&required))));
    }
}

/// The step type's own reading finds what no schema can say.
fn typed(checked: &Checked<'_>, step: &Step, with: &Value, problems: &mut Vec<Diagnostic>) {
    if let Err(bad) = checked.catalog.examine(&step.step_type.value, with) {
        problems.push(refused(step, &bad));
    }
}

/// Parameters that the step type itself refuses, at their place.
pub(crate) fn refused(step: &Step, bad: &crate::catalog::BadParameters) -> Diagnostic {
    let span = step.with.as_ref().map_or(step.head, |with| {
        let (key, value) = with.node.locate(&bad.pointer);
        if with.node.scalar().is_some() || bad.pointer.is_empty() {
            with.key_span
        } else {
            key.filter(|_| value.end - value.start > 200).unwrap_or(value)
        }
    });
    Diagnostic::error(codes::BAD_PARAMETERS, span, bad.message.clone())
        .help(format!("`lifeboat steps {}` describes the parameters", step.step_type.value))
}

/// Going from a place to the same place is a slip of the pen, whatever the step type makes of it.
pub(crate) fn same_place(step: &Step, with: &Value, problems: &mut Vec<Diagnostic>) {
    let (Some(from), Some(to)) = (with.get("from").and_then(Value::as_str), with.get("to").and_then(Value::as_str)) else { return };
    if from == to {
        let span = step.with.as_ref().map_or(step.head, |with| with.node.locate("/to").1);
        problems
            .push(Diagnostic::error(codes::SAME_PLACE, span, format!("`from` and `to` are both `{to}`")).help("name two different places"));
    }
}
