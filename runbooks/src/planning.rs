//! A runbook, a mode, inputs and an inventory to a plan, or to every reason why there is none. Rules that hold for every mode are in `rules`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::catalog::{BadParameters, Catalog, DrillPolicy, Examined, Resources, Touch};
use crate::codes;
use crate::diagnostic::{Diagnostic, Severity, Span};
use crate::digest;
use crate::duration::Period;
use crate::expr::{self, Part, Scope, parts};
use crate::graph::Graph;
use crate::names::{Effect, StepId};
use crate::parse::tidy;
use crate::plan::{PLAN_FORMAT, PLAN_STEPS_MAX, Places, Plan, PlanStep};
use crate::rules::parameters::{refused, same_place};
use crate::rules::resources::{Reference, ReferenceKind, below, references, unknown, variant_of};
use crate::rules::{Checked, check, clashes, expressions, types_of};
use crate::runbook::{DRILL, Input, InputType, Runbook, Step};
use crate::shape::{Kind, Shape, sample};
use crate::suggest;

/// Version of what the structure digest is taken of. It stays when the stored form of a plan changes: what was drilled stays drilled.
const STRUCTURE_FORMAT: u16 = 1;

/// What a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// The mode; may be left out where the runbook has exactly one besides `drill`.
    pub mode: Option<String>,
    /// Inputs as typed on a command line; they are read by their declared types.
    pub inputs: BTreeMap<String, String>,
}

/// Makes a plan.
///
/// # Errors
/// Everything that is wrong: what [`crate::parse()`] and [`crate::check()`] report, and what the mode, the inputs or the inventory make wrong.
/// Problems of the request have the span of the whole file (0 to 0).
pub fn plan(runbook: &Runbook, request: &PlanRequest, catalog: &dyn Catalog, resources: &dyn Resources) -> Result<Plan, Vec<Diagnostic>> {
    let mut problems = runbook.problems.clone();
    problems.extend(check(runbook, catalog, Some(resources)));
    let mode = mode_of(runbook, request, &mut problems);
    let inputs = inputs_of(runbook, request, &mut problems);
    let plan = match mode {
        Some(mode) if problems.iter().all(|problem| problem.severity != Severity::Error) => {
            Planner::plan(runbook, &mode, inputs, catalog, resources, &mut problems)
        }
        _ => None,
    };
    match plan {
        Some(plan) if problems.iter().all(|problem| problem.severity != Severity::Error) => Ok(plan),
        _ => {
            tidy(&mut problems);
            Err(problems)
        }
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

struct Planner<'a> {
    checked: &'a Checked<'a>,
    resources: &'a dyn Resources,
    mode: &'a str,
    inputs: &'a BTreeMap<String, Value>,
    used: BTreeSet<String>,
}

/// Parameters of one step on their way into the plan.
struct Bound {
    /// As written; stand-ins of a drill are put in.
    with: Value,
    /// Inputs and mode filled in, and a sample for what only the run knows.
    known: Value,
}

impl Planner<'_> {
    fn plan(
        runbook: &Runbook,
        mode: &str,
        inputs: BTreeMap<String, Value>,
        catalog: &dyn Catalog,
        resources: &dyn Resources,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<Plan> {
        let graph = Graph::of(runbook, &mut Vec::new());
        let types = types_of(runbook, catalog);
        let checked = Checked::new(runbook, catalog, &graph, &types);
        if graph.steps.len() > PLAN_STEPS_MAX {
            let message = format!("the plan has {} steps; {PLAN_STEPS_MAX} is the most", graph.steps.len());
            problems.push(Diagnostic::error(codes::LIMIT, Span::default(), message));
            return None;
        }
        let mut planner = Planner { checked: &checked, resources, mode, inputs: &inputs, used: BTreeSet::new() };
        let (mut steps, mut finally, mut structure) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        let mut grips: clashes::Grips = Vec::new();
        for index in &graph.order {
            let Some(step) = planner.step(*index, problems) else { continue };
            grips.push((*index, step.touches.clone()));
            let main = *index < graph.main;
            structure[usize::from(!main)].push(step.structure.clone());
            if main { steps.push(step) } else { finally.push(step) }
        }
        clashes::unordered(&graph, &grips, problems);
        let identity = |name: &String| Some((name.clone(), resources.resource(name)?.identity));
        let used: BTreeMap<String, Value> = planner.used.iter().filter_map(identity).collect();
        let structure = digest::of(&json!({
            "format": STRUCTURE_FORMAT, "steps": structure[0], "finally": structure[1], "on_failure": runbook.on_failure, "deadline_ms": runbook.deadline_ms,
        }));
        let binding = digest::of(&json!({ "structure": structure, "resources": used, "mode": mode, "inputs": inputs }));
        Some(Plan {
            format: PLAN_FORMAT,
            runbook: runbook.name.value.clone(),
            title: runbook.title.clone(),
            owner: runbook.owner.clone(),
            objectives: runbook.objectives,
            mode: mode.to_owned(),
            inputs,
            on_failure: runbook.on_failure,
            deadline_ms: runbook.deadline_ms,
            steps,
            finally,
            scopes: Vec::new(),
            resources: used,
            structure,
            binding,
            places: Places::default(),
        })
    }

    /// One step.
    fn step(&mut self, index: usize, problems: &mut Vec<Diagnostic>) -> Option<PlanStep> {
        let step = self.checked.graph.steps[index];
        let id = step.id.clone()?;
        let info = self.checked.catalog.step_type(&step.step_type.value)?;
        let shape = &self.checked.types.get(&step.step_type.value)?.with;
        let written = step.with.as_ref().map_or_else(|| Value::Object(Map::new()), |with| with.node.to_value());
        let needs: Vec<StepId> = step.needs.iter().filter_map(|need| StepId::new(&need.value).ok()).collect();
        let condition = step.condition.as_ref().map(|condition| condition.text.trim().to_owned());
        let asserts: Vec<String> = step.asserts.iter().map(|assert| assert.text.trim().to_owned()).collect();
        let structure = digest::short_of(&json!({
            "id": id, "type": info.name, "version": info.version, "with": written, "needs": needs, "if": condition, "assert": asserts,
            "timeout_ms": step.timeout_ms, "retry": step.retry, "undo": step.undo, "on_failure": step.on_failure,
            "point_of_no_return": step.point_of_no_return,
        }));
        let before = problems.len();
        let bound = self.bind(step, written, shape, problems);
        if problems.len() > before {
            return None;
        }
        let examined = match self.examine(info.name, &bound) {
            Ok(examined) => examined,
            Err(bad) => {
                problems.push(refused(step, &bad));
                return None;
            }
        };
        // A step that cannot run in this mode grips nothing.
        let runs = !self.never_runs(condition.as_deref());
        if runs {
            self.guard(step, &examined.touches, problems);
        }
        let touches = if runs { examined.touches } else { Vec::new() };
        self.used.extend(touches.iter().map(|touch| touch.resource.clone()));
        let planned = PlanStep {
            id,
            step_type: info.name.to_owned(),
            version: info.version,
            with: bound.with,
            needs,
            condition,
            asserts,
            timeout_ms: step.timeout_ms,
            retry: step.retry,
            undo: step.undo,
            on_failure: step.on_failure,
            point_of_no_return: step.point_of_no_return,
            touches,
            preview: examined.preview,
            line: step.line,
            scope: None,
            inner: None,
            structure,
        };
        Some(planned)
    }

    /// Asks the step type. It may refuse a sample for its form alone (an instant, a path), so other forms are tried before it is believed.
    fn examine(&self, step_type: &str, bound: &Bound) -> Result<Examined, BadParameters> {
        const FORMS: [&str; 5] = ["2000-01-01T00:00:00Z", "/sample", "127.0.0.1", "https://sample.invalid/", "1"];
        let first = self.checked.catalog.examine(step_type, &bound.known);
        if first.is_ok() {
            return first;
        }
        let tried = FORMS.iter().map(|form| self.with_form(&bound.with, &bound.known, form)).filter(|other| *other != bound.known);
        tried.map(|other| self.checked.catalog.examine(step_type, &other)).find(Result::is_ok).unwrap_or(first)
    }

    /// The parameters with every text that only the run knows in this form.
    fn with_form(&self, with: &Value, known: &Value, form: &str) -> Value {
        match (with, known) {
            (Value::String(text), Value::String(_)) if self.is_dynamic(text) => Value::from(form),
            (Value::Object(with), Value::Object(known)) => {
                let inner = |(key, value): (&String, &Value)| {
                    (key.clone(), with.get(key).map_or_else(|| value.clone(), |with| self.with_form(with, value, form)))
                };
                Value::Object(known.iter().map(inner).collect::<Map<_, _>>())
            }
            (Value::Array(with), Value::Array(known)) => {
                with.iter().zip(known).map(|(with, known)| self.with_form(with, known, form)).collect()
            }
            _ => known.clone(),
        }
    }

    /// Fills in what is known, checks the names that this makes known, and puts stand-ins in place.
    fn bind(&mut self, step: &Step, written: Value, shape: &Shape, problems: &mut Vec<Diagnostic>) -> Bound {
        let known = self.fill(&written, shape, "", step, problems);
        let mut bound = Bound { with: written, known };
        let span = |pointer: &str| step.with.as_ref().map_or(step.head, |with| with.node.locate(pointer).1);
        let found = references(&bound.known, shape);
        let mut stand_ins: Vec<(String, String)> = Vec::new();
        for reference in &found {
            if self.is_sampled(&bound.with, &reference.pointer) {
                continue;
            }
            if let Some(problem) = unknown(reference, span(&reference.pointer), self.resources) {
                problems.push(problem);
                continue;
            }
            if matches!(reference.kind, ReferenceKind::Resource(_))
                && let Some(stand_in) = self.stand_in(reference, span(&reference.pointer), problems)
            {
                stand_ins.push((reference.pointer.clone(), stand_in));
            }
            if matches!(reference.kind, ReferenceKind::Resource(_)) {
                self.used.insert(
                    stand_ins
                        .last()
                        .filter(|(pointer, _)| *pointer == reference.pointer)
                        .map_or_else(|| reference.name.clone(), |(_, name)| name.clone()),
                );
            }
        }
        if bound.with != bound.known {
            same_place(step, &bound.known, problems);
        }
        if stand_ins.is_empty() {
            return bound;
        }
        for (pointer, stand_in) in &stand_ins {
            for value in [&mut bound.with, &mut bound.known] {
                if let Some(place) = value.pointer_mut(pointer) {
                    *place = Value::String(stand_in.clone());
                }
            }
        }
        for reference in references(&bound.known, shape) {
            if matches!(reference.kind, ReferenceKind::NodeOf(_))
                && !self.is_sampled(&bound.with, &reference.pointer)
                && let Some(problem) = unknown(&reference, span(&reference.pointer), self.resources)
            {
                let message = format!("in a drill another resource stands in, and {}", problem.message);
                problems.push(
                    Diagnostic::error(codes::BAD_STAND_IN, problem.span, message)
                        .help("give the stand-in nodes of the same names, or choose the node by `mode`"),
                );
            }
        }
        bound
    }

    /// Whether what stands at the pointer is only known in the run.
    fn is_sampled(&self, with: &Value, pointer: &str) -> bool {
        let mut here = pointer;
        loop {
            if let Some(Value::String(text)) = with.pointer(here) {
                return self.is_dynamic(text);
            }
            let Some((above, _)) = here.rsplit_once('/') else { return false };
            here = above;
        }
    }

    fn is_dynamic(&self, text: &str) -> bool {
        text.contains("${{")
            && parts(text).is_ok_and(|parts| {
                parts.iter().any(|part| matches!(part, Part::Expression { text, .. } if expressions::reads_steps(self.checked, text)))
            })
    }

    fn scope<'s>(&'s self, steps: &'s BTreeMap<StepId, expr::StepFacts>) -> Scope<'s> {
        Scope::new(self.mode, self.inputs, steps)
    }

    /// Every expression that reads inputs and mode only gets its answer; the others a sample of what is wanted there.
    fn fill(&self, value: &Value, shape: &Shape, pointer: &str, step: &Step, problems: &mut Vec<Diagnostic>) -> Value {
        match (value, &shape.kind) {
            (Value::String(text), _) if text.contains("${{") => {
                if self.is_dynamic(text) {
                    let name = text.trim().trim_start_matches("${{").trim_end_matches("}}").trim();
                    return sample(shape, name);
                }
                expr::fill(value, &self.scope(&BTreeMap::new())).unwrap_or_else(|error| {
                    let span = step.with.as_ref().map_or(step.head, |with| with.node.locate(pointer).1);
                    problems.push(Diagnostic::error(codes::BAD_EXPRESSION, span, error.to_string()));
                    Value::Null
                })
            }
            (Value::Object(entries), kind) => {
                let variant = if let Kind::OneOf(variants) = kind { variant_of(value, variants) } else { Some(shape) };
                let fields = variant.and_then(Shape::object);
                let inner = |key: &str| {
                    fields.and_then(|object| object.fields.get(key).map(|field| &field.shape).or(object.rest.as_deref())).cloned()
                };
                let any = Shape::of(Kind::Any);
                let filled = entries.iter().map(|(key, value)| {
                    let shape = inner(key).unwrap_or_else(|| any.clone());
                    (key.clone(), self.fill(value, &shape, &below(pointer, key), step, problems))
                });
                Value::Object(filled.collect::<Map<_, _>>())
            }
            (Value::Array(items), kind) => {
                let any = Shape::of(Kind::Any);
                let shape = match kind {
                    Kind::List { items, .. } => items,
                    Kind::Any
                    | Kind::Null
                    | Kind::Bool
                    | Kind::Int(_)
                    | Kind::Number(_)
                    | Kind::Text(_)
                    | Kind::Duration
                    | Kind::Object(_)
                    | Kind::OneOf(_) => &any,
                };
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.fill(item, shape, &format!("{pointer}/{index}"), step, problems))
                    .collect()
            }
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => value.clone(),
        }
    }

    /// Whether mode and inputs alone make the condition false. Reading a step is an error here, and `false && error` is false, as at run time.
    fn never_runs(&self, condition: Option<&str>) -> bool {
        condition.is_some_and(|condition| expr::is_true(condition, &self.scope(&BTreeMap::new())) == Ok(false))
    }

    /// The resource that takes this one's place in a drill.
    fn stand_in(&self, reference: &Reference, span: Span, problems: &mut Vec<Diagnostic>) -> Option<String> {
        if self.mode != DRILL {
            return None;
        }
        let found = self.resources.resource(&reference.name)?;
        let DrillPolicy::As(stand_in) = found.drill else { return None };
        let mut refuse = |message: String| {
            problems.push(
                Diagnostic::error(codes::BAD_STAND_IN, span, message)
                    .help(format!("correct `drill_as` of `{}` in the inventory", reference.name)),
            );
        };
        match self.resources.resource(&stand_in) {
            None => refuse(format!("`{}` is drilled as `{stand_in}`, which the inventory does not have", reference.name)),
            Some(other) if other.kind != found.kind => {
                refuse(format!(
                    "`{}` is drilled as `{stand_in}`, which is of kind `{}` and not `{}`",
                    reference.name, other.kind, found.kind
                ));
            }
            Some(_) => return Some(stand_in),
        }
        None
    }

    /// A drill may look at everything, and act only where the inventory says so.
    fn guard(&self, step: &Step, touches: &[Touch], problems: &mut Vec<Diagnostic>) {
        if self.mode != DRILL {
            return;
        }
        for touch in touches.iter().filter(|touch| touch.effect > Effect::Read) {
            let open = self.resources.resource(&touch.resource).is_some_and(|info| info.drill == DrillPolicy::Allow);
            if !open {
                let does = match touch.effect {
                    Effect::Read => "read",
                    Effect::Protect => "use",
                    Effect::Change => "change",
                    Effect::Destroy => "destroy",
                };
                let message = format!("this drill would {does} `{}`, which the inventory does not open to drills", touch.resource);
                let help = format!(
                    "in the inventory give `{}` a `drill_as:` with a resource made for drills, or `drill: allow`; or skip the step with `if: mode != \"drill\"`",
                    touch.resource
                );
                problems.push(Diagnostic::error(codes::DRILL_DENIED, step.step_type.span, message).help(help));
            }
        }
    }
}
