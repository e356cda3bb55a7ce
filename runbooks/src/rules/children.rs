//! Steps of type `runbook`: what a child may be given, which mode it can have, what it gives back, and what such a step cannot say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::loops::{stored, ty_of};
use super::{Checked, ChildFacts, Fenced, StepTypeShapes};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::ty::{ObjectTy, Ty};
use crate::parse::{KEYS_OF_ATTEMPTS, input_shape};
use crate::plan::RUNBOOK;
use crate::rules::expressions::Site;
use crate::runbook::{DRILL, Runbook, Step, Undo};
use crate::shape::{Field, Kind, Object, Presence, Shape, TextRules};
use crate::suggest;

/// Checks a step that runs a child, for everything but its parameters.
pub(super) fn check(checked: &Checked<'_>, index: usize, problems: &mut Vec<Diagnostic>) {
    let step = checked.graph.steps[index];
    if step.step_type.value != RUNBOOK {
        return;
    }
    for key in KEYS_OF_ATTEMPTS {
        let Some(span) = step.key(key) else { continue };
        if key == "undo" && matches!(step.undo, Undo::Never) {
            continue;
        }
        let help = match key {
            "undo" => "`undo: never` leaves the effects of all its steps; anything else is said at the steps of the child",
            _ => "say it at the steps of the child",
        };
        problems.push(
            Diagnostic::error(codes::NOT_HERE, span, format!("`{key}` means nothing on a child run: its steps have their own")).help(help),
        );
    }
    let Some((text, span)) = step.child() else { return };
    let Some(child) = checked.runbook.child(text) else {
        // Where it was looked for, it was told why it cannot be had.
        if checked.runbook.children.is_none() {
            let message = format!("the runbook `{text}` was not loaded");
            problems.push(Diagnostic::error(codes::NO_CHILD, span, message).help("check it together with its children"));
        }
        return;
    };
    modes(checked, step, child, problems);
    if index >= checked.graph.main && !child.finally.is_empty() {
        let message = format!("`{}` has a `finally` of its own, so it cannot run in `finally`", child.name.value);
        problems.push(Diagnostic::error(codes::NOT_HERE, span, message).help("run it among `steps`, or take its `finally` away"));
    }
}

/// The mode that a child has in a mode of the runbook that runs it, where no `mode` is written: the same, or its only one.
pub(crate) fn mode_of<'r>(child: &'r Runbook, mode: &str) -> Option<&'r str> {
    if let Some(same) = child.modes.iter().find(|known| known.value == mode) {
        return Some(&same.value);
    }
    let live: Vec<&str> = child.modes.iter().map(|mode| mode.value.as_str()).filter(|known| *known != DRILL).collect();
    match live.as_slice() {
        [only] if mode != DRILL => Some(only),
        _ => None,
    }
}

fn modes(checked: &Checked<'_>, step: &Step, child: &Runbook, problems: &mut Vec<Diagnostic>) {
    let Some(with) = &step.with else { return };
    let names = |modes: &[crate::runbook::Spanned<String>]| modes.iter().map(|mode| mode.value.clone()).collect::<Vec<_>>();
    if let Some(written) = with.node.get("mode") {
        if written.text() == Some(DRILL) && child.has_mode(DRILL) {
            let message = "a child is drilled when the run is a drill, and only then";
            problems.push(Diagnostic::error(codes::BAD_MODE, written.span, message).help("remove `mode`, or choose another one"));
        }
        return;
    }
    let span = step.child().map_or(step.head, |(_, span)| span);
    for mode in names(&checked.runbook.modes).iter().filter(|mode| *mode != DRILL) {
        if mode_of(child, mode).is_none() {
            let known = names(&child.modes);
            let known: Vec<&str> = known.iter().map(String::as_str).filter(|known| *known != DRILL).collect();
            let message = format!("the runbook `{}` has no mode `{mode}`, and several others", child.name.value);
            let help = format!("say which with `mode:` ({})", suggest::list(&known));
            problems.push(Diagnostic::error(codes::BAD_MODE, span, message).help(help));
            return;
        }
    }
}

/// Checks the values that a runbook gives to those that run it as a child.
pub(super) fn outputs(checked: &Checked<'_>, problems: &mut Vec<Diagnostic>) {
    for output in &checked.runbook.outputs {
        let ty = ty_of(checked, None, Site::Outputs, &output.node, problems);
        stored(&output.node, ty, problems);
    }
}

/// What runbooks that run this one as a child must know of it.
pub(super) fn facts(checked: &Checked<'_>, fenced: Fenced) -> ChildFacts {
    let runbook = checked.runbook;
    let early = checked.early.borrow();
    let inputs = runbook.inputs.iter().map(|input| {
        let mut shape = input_shape(input.input_type, input.one_of.as_deref());
        shape.early = early.get(&input.name.value).cloned();
        let presence = if input.default.is_none() { Presence::Required } else { Presence::Optional };
        (input.name.value.clone(), Field { shape, presence })
    });
    let inputs = Object { fields: inputs.collect(), rest: None };
    let presence =
        if inputs.fields.values().any(|field| field.presence == Presence::Required) { Presence::Required } else { Presence::Optional };
    let modes = runbook.modes.iter().map(|mode| mode.value.clone()).collect();
    let mut mode = Shape::of(Kind::Text(TextRules { one_of: Some(modes), ..TextRules::default() }));
    mode.early = Some(Arc::from("it is the mode of a child, and the plan holds the child's steps"));
    let fields = BTreeMap::from([
        ("runbook".to_owned(), Field { shape: Shape::of(Kind::Text(TextRules::default())), presence: Presence::Required }),
        ("inputs".to_owned(), Field { shape: Shape::of(Kind::Object(inputs)), presence }),
        ("mode".to_owned(), Field { shape: mode, presence: Presence::Optional }),
    ]);
    let outputs = runbook.outputs.iter().map(|output| {
        let ty = ty_of(checked, None, Site::Outputs, &output.node, &mut Vec::new());
        // A value of undeclared type may be null, and null is the same as absent.
        let presence = if matches!(ty, Ty::Any | Ty::Null) { Presence::Optional } else { Presence::Required };
        (output.name.value.clone(), (ty, presence))
    });
    ChildFacts {
        shapes: StepTypeShapes {
            with: Shape::of(Kind::Object(Object { fields, rest: None })),
            outputs: Ty::Object(Arc::new(ObjectTy { fields: outputs.collect(), rest: None })),
        },
        unfenced: fenced == Fenced::Outside,
        fences: checked
            .graph
            .steps
            .iter()
            .any(|step| step.step_type.value == super::fences::FENCE || checked.child(step).is_some_and(|(_, facts)| facts.fences)),
    }
}
