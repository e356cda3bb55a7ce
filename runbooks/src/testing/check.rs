//! A test file against its runbook: names of steps, modes and inputs, answers of people at approvals only, outputs of the right types.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Expectation, Given, PersonAct, TestCase, TestFile, When};
use crate::catalog::Catalog;
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::tidy;
use crate::runbook::{Runbook, Spanned};
use crate::shape::literal::{Checker, Place, Templates};
use crate::shape::{self, Field, Kind, Object, Presence, Shape};
use crate::suggest;
use crate::yaml;

/// The step type that people answer.
const APPROVAL: &str = "approval";

/// Checks a test file against the runbook that it tests. What [`super::parse`] reported is not repeated.
#[must_use]
pub fn check(file: &TestFile, runbook: &Runbook, catalog: &dyn Catalog, people: &[&str]) -> Vec<Diagnostic> {
    let types = runbook.all_steps().map(|step| (step.name.value.as_str(), step.step_type.value.as_str())).collect();
    let mut problems = Vec::new();
    // The file was read once already, so it can be read again; the tree is not kept, because nothing else needs it.
    let root = yaml::read(&file.source, &mut Vec::new());
    let mut checker = CaseChecker { runbook, catalog, people, types, problems: &mut problems };
    for case in &file.cases {
        checker.case(case);
    }
    if let Some(root) = &root {
        checker.outputs(root);
    }
    tidy(&mut problems);
    problems
}

struct CaseChecker<'a> {
    runbook: &'a Runbook,
    catalog: &'a dyn Catalog,
    people: &'a [&'a str],
    types: BTreeMap<&'a str, &'a str>,
    problems: &'a mut Vec<Diagnostic>,
}

impl CaseChecker<'_> {
    fn report(&mut self, code: &'static str, span: Span, message: String, help: Option<String>) {
        self.problems.push(Diagnostic::error(code, span, message).maybe_help(help));
    }

    /// The type of a step; `None` where there is none, or where only the plan knows it: a step of a child run, an item of a `for_each`.
    fn step(&mut self, name: &str, span: Span) -> Option<&str> {
        let outermost = name.split(['/', '[']).next().unwrap_or(name);
        let nested = outermost != name && crate::StepId::new(name).is_ok();
        if !self.types.contains_key(if nested { outermost } else { name }) {
            let known: Vec<&str> = self.types.keys().copied().collect();
            let help = suggest::instead(name, &known);
            self.report(codes::UNKNOWN_STEP, span, format!("the runbook has no step `{name}`"), help);
        }
        self.types.get(name).copied()
    }

    fn person(&mut self, name: &Spanned<String>) {
        if !self.people.contains(&name.value.as_str()) {
            let help = suggest::instead(&name.value, self.people);
            self.report(codes::BAD_TEST, name.span, format!("the inventory has no person `{}`", name.value), help);
        }
    }

    fn case(&mut self, case: &TestCase) {
        if let Some(mode) = &case.mode
            && !self.runbook.has_mode(&mode.value)
        {
            let known: Vec<&str> = self.runbook.modes.iter().map(|mode| mode.value.as_str()).collect();
            let help = suggest::instead(&mode.value, &known);
            self.report(codes::UNKNOWN_MODE, mode.span, format!("the runbook has no mode `{}`", mode.value), help);
        }
        for (name, value) in &case.inputs {
            if self.runbook.inputs.iter().all(|input| input.name.value != *name) {
                let known: Vec<&str> = self.runbook.inputs.iter().map(|input| input.name.value.as_str()).collect();
                let help = suggest::instead(name, &known);
                self.report(codes::BAD_INPUT, value.span, format!("the runbook has no input `{name}`"), help);
            }
        }
        for (name, given) in &case.steps {
            let approval = match self.step(name, given.span) {
                Some(step_type) => step_type == APPROVAL,
                None => continue,
            };
            for attempt in &given.attempts {
                if attempt.value.is_answer() != approval {
                    let (message, help) = if approval {
                        (format!("`{name}` is answered by people"), "write `approved`, `denied` or `expires`")
                    } else {
                        (
                            format!("`{name}` asks nobody: only a step of type `{APPROVAL}` is approved, denied or expires"),
                            "write for example `succeeds` or `fails`",
                        )
                    };
                    self.report(codes::BAD_TEST, attempt.span, message, Some(help.to_owned()));
                }
                match &attempt.value {
                    Given::Approved { by } => by.iter().for_each(|name| self.person(name)),
                    Given::Denied { by } => by.iter().for_each(|name| self.person(name)),
                    Given::Succeeds { .. }
                    | Given::Fails { .. }
                    | Given::FailsForGood { .. }
                    | Given::Refused { .. }
                    | Given::InDoubt { .. }
                    | Given::Expires => {}
                }
            }
        }
        for acts in &case.people {
            match &acts.when {
                When::AtOnce => {}
                When::Begun(step) | When::Done(step) | When::Held(step) => {
                    self.step(&step.value, step.span);
                }
            }
            match &acts.act {
                PersonAct::Cancel | PersonAct::Done { .. } | PersonAct::Retry | PersonAct::Skip | PersonAct::GiveUp => {}
            }
        }
        for expected in &case.expect {
            self.expectation(&expected.value, expected.span);
        }
    }

    fn expectation(&mut self, expectation: &Expectation, span: Span) {
        match expectation {
            Expectation::Outcome(_) | Expectation::NoReturn(None) => {}
            Expectation::Held(steps) | Expectation::Order(steps) | Expectation::Undone(steps) | Expectation::Standing(steps) => {
                for step in steps {
                    self.step(step, span);
                }
            }
            Expectation::State { step, .. }
            | Expectation::With { step, .. }
            | Expectation::Attempts { step, .. }
            | Expectation::Why { step, .. }
            | Expectation::NoReturn(Some(step)) => {
                self.step(step, span);
            }
            Expectation::Asked { step, .. } => {
                if self.step(step, span).is_some_and(|step_type| step_type != APPROVAL) {
                    self.report(codes::BAD_TEST, span, format!("`{step}` asks nobody: it is no step of type `{APPROVAL}`"), None);
                }
            }
        }
    }

    /// Outputs where they stand in the file, so that a problem is told at its own place.
    fn outputs(&mut self, root: &yaml::Node) {
        let cases = root.get("cases").map(yaml::Node::items).unwrap_or_default();
        for given in root.get("defaults").into_iter().chain(cases) {
            for entry in given.get("steps").map(yaml::Node::entries).unwrap_or_default() {
                let one = std::slice::from_ref(&entry.value);
                let attempts = if entry.value.items().is_empty() { one } else { entry.value.items() };
                for attempt in attempts {
                    let doubt = attempt.get("in_doubt").and_then(|doubt| doubt.entry("outputs"));
                    for outputs in attempt.entry("succeeds").into_iter().chain(doubt) {
                        self.outputs_of(&entry.key, outputs);
                    }
                }
            }
            for act in given.get("people").map(yaml::Node::items).unwrap_or_default() {
                if let (Some(step), Some(outputs)) = (act.get("held").and_then(yaml::Node::text), act.entry("outputs")) {
                    self.outputs_of(step, outputs);
                }
            }
        }
    }

    fn outputs_of(&mut self, step: &str, outputs: &yaml::Entry) {
        let Some(info) = self.types.get(step).and_then(|step_type| self.catalog.step_type(step_type)) else { return };
        let shape = partial(shape::read(&info.output_schema));
        let mut checker = Checker::new(Templates::AreText);
        let place = Place { pointer: String::new(), name: format!("the outputs of `{}`", info.name), head: outputs.key_span };
        checker.check(&outputs.value, &shape, &place);
        self.problems.append(&mut checker.problems);
    }
}

/// The shape with nothing required: what is left out of outputs is made up.
fn partial(shape: Shape) -> Shape {
    let kind = match shape.kind {
        Kind::Object(object) => Kind::Object(Object {
            fields: object
                .fields
                .into_iter()
                .map(|(name, field)| (name, Field { shape: partial(field.shape), presence: Presence::Optional }))
                .collect(),
            rest: object.rest.map(|rest| Box::new(partial(*rest))),
        }),
        Kind::List { items, count } => Kind::List { items: Box::new(partial(*items)), count },
        other
        @ (Kind::Any | Kind::Null | Kind::Bool | Kind::Int(_) | Kind::Number(_) | Kind::Text(_) | Kind::Duration | Kind::OneOf(_)) => other,
    };
    Shape { kind, ..shape }
}

/// Whether `value` holds at least `part`: each key of a mapping, each item of a list in its place, and equal scalars.
#[must_use]
pub fn holds(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::Object(value), Value::Object(part)) => {
            part.iter().all(|(key, part)| value.get(key).is_some_and(|value| holds(value, part)))
        }
        (Value::Array(value), Value::Array(part)) => {
            value.len() == part.len() && value.iter().zip(part).all(|(value, part)| holds(value, part))
        }
        (Value::Number(value), Value::Number(part)) => value == part || value.as_f64() == part.as_f64(),
        _ => value == part,
    }
}
