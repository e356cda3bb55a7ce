//! A runbook, a mode, inputs and an inventory to a plan, or to every reason why there is none. Child runs and items become steps in
//! `expand`, parameters meet the inventory in `bind`. Rules that hold for every mode are in `rules`.

mod bind;
mod expand;
mod order;
mod structure;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::catalog::{Catalog, Resources};
use crate::codes;
use crate::diagnostic::{Diagnostic, Severity, Span};
use crate::digest;
use crate::duration::Period;
use crate::parse::tidy;
use crate::plan::{PLAN_FORMAT, Places, Plan};
use crate::rules::{Checked, every_rule, survey};
use crate::runbook::{DRILL, Input, InputType, Runbook};
use crate::suggest;
use expand::Expander;

/// What a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// The mode; may be left out where the runbook has exactly one besides `drill`.
    pub mode: Option<String>,
    /// Inputs as typed on a command line; they are read by their declared types.
    pub inputs: BTreeMap<String, String>,
}

/// Makes a plan: steps of child runs and items of `for_each` become steps of their own.
///
/// # Errors
/// Everything that is wrong: what [`crate::load`] and [`crate::check()`] report, and what the mode, the inputs or the inventory make wrong.
/// Problems of the request have the span of the whole file (0 to 0).
pub fn plan(runbook: &Runbook, request: &PlanRequest, catalog: &dyn Catalog, resources: &dyn Resources) -> Result<Plan, Vec<Diagnostic>> {
    let mut problems = runbook.problems.clone();
    let files = survey(runbook, catalog, &mut problems);
    every_rule(&files, Some(resources), &mut problems);
    let mode = mode_of(runbook, request, &mut problems);
    let inputs = inputs_of(runbook, request, &mut problems);
    let plan = match mode {
        Some(mode) if !has_errors(&problems) => Some(made(&files, runbook, mode, inputs, resources, &mut problems)),
        _ => None,
    };
    match plan {
        Some(plan) if !has_errors(&problems) => Ok(plan),
        _ => {
            tidy(&mut problems);
            Err(problems)
        }
    }
}

fn has_errors(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

fn made(
    files: &[Checked<'_>],
    runbook: &Runbook,
    mode: String,
    inputs: BTreeMap<String, Value>,
    resources: &dyn Resources,
    problems: &mut Vec<Diagnostic>,
) -> Plan {
    let structure = structure::of(files);
    let Expander { steps, finally, scopes, used, .. } = Expander::expand(files, &structure, &mode, &inputs, resources, problems);
    let identity = |name: &String| Some((name.clone(), resources.resource(name)?.identity));
    let used: BTreeMap<String, Value> = used.iter().filter_map(identity).collect();
    let structure = structure.whole;
    let binding = digest::of(&json!({ "structure": structure, "resources": used, "mode": mode, "inputs": inputs }));
    Plan {
        format: PLAN_FORMAT,
        runbook: runbook.name.value.clone(),
        title: runbook.title.clone(),
        owner: runbook.owner.clone(),
        objectives: runbook.objectives,
        mode,
        inputs,
        on_failure: runbook.on_failure.unwrap_or_default(),
        deadline_ms: runbook.deadline_ms,
        steps,
        finally,
        scopes,
        resources: used,
        structure,
        binding,
        places: Places::default(),
    }
}

fn mode_of(runbook: &Runbook, request: &PlanRequest, problems: &mut Vec<Diagnostic>) -> Option<String> {
    let modes: Vec<&str> = runbook.modes.iter().map(|mode| mode.value.as_str()).collect();
    let Some(mode) = &request.mode else {
        let live: Vec<&str> = modes.iter().copied().filter(|mode| *mode != DRILL).collect();
        if let [only] = live.as_slice() {
            return Some((*only).to_owned());
        }
        let message = "the runbook has several modes, and none was chosen";
        problems.push(
            Diagnostic::error(codes::BAD_MODE, Span::default(), message)
                .maybe_help(suggest::instead("", &modes).map(|list| format!("{list}: --mode ..."))),
        );
        return None;
    };
    if runbook.has_mode(mode) {
        return Some(mode.clone());
    }
    let message = format!("the runbook has no mode `{mode}`");
    let help = if mode == DRILL { Some("add `drill` to its `modes`".to_owned()) } else { suggest::instead(mode, &modes) };
    problems.push(Diagnostic::error(codes::BAD_MODE, Span::default(), message).maybe_help(help));
    None
}

fn inputs_of(runbook: &Runbook, request: &PlanRequest, problems: &mut Vec<Diagnostic>) -> BTreeMap<String, Value> {
    let mut report = |message: String, help: Option<String>| {
        problems.push(Diagnostic::error(codes::BAD_INPUT, Span::default(), message).maybe_help(help))
    };
    let known: Vec<&str> = runbook.inputs.iter().map(|input| input.name.value.as_str()).collect();
    for name in request.inputs.keys().filter(|name| !known.contains(&name.as_str())) {
        report(format!("the runbook has no input `{name}`"), suggest::instead(name, &known));
    }
    let mut inputs = BTreeMap::new();
    for input in &runbook.inputs {
        let name = &input.name.value;
        let value = match request.inputs.get(name) {
            Some(text) => match input_value(input, text) {
                Ok(value) => value,
                Err((why, help)) => {
                    report(format!("the input `{name}` cannot be {text:?}: {why}"), help);
                    continue;
                }
            },
            None => match &input.default {
                Some(default) => default.clone(),
                None => {
                    report(format!("the input `{name}` is missing"), Some(format!("give it: --input {name}=...")));
                    continue;
                }
            },
        };
        inputs.insert(name.clone(), value);
    }
    inputs
}

/// Reads what was typed by the input's type.
fn input_value(input: &Input, text: &str) -> Result<Value, (String, Option<String>)> {
    let value = match input.input_type {
        InputType::String => Value::from(text),
        InputType::Integer => text.parse::<i64>().map(Value::from).map_err(|_| ("it is no whole number of 64 bits".to_owned(), None))?,
        InputType::Number => match text.parse::<f64>() {
            Ok(real) if real.is_finite() => Value::from(real),
            _ => return Err(("it is no number".to_owned(), None)),
        },
        InputType::Boolean => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(("it is neither true nor false".to_owned(), None)),
        },
        InputType::Duration => {
            Period::parse(text).map_err(|why| (why, None))?;
            Value::from(text)
        }
    };
    match &input.one_of {
        Some(allowed) if !allowed.contains(&value) => {
            let known: Vec<String> = allowed.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            Err(("it is none of its values".to_owned(), suggest::instead(text, &known)))
        }
        _ => Ok(value),
    }
}
