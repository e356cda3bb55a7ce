//! Parameters meet mode, inputs and inventory: what is known is filled in, names are checked, stand-ins of a drill take their places, and the
//! step type says what it would grip.

use serde_json::{Map, Value};

use super::expand::{Expander, Frame};
use crate::catalog::{BadParameters, DrillPolicy, Examined, Touch};
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::{self, Part, Reads, parts};
use crate::names::Effect;
use crate::rules::parameters::{refused, same_place};
use crate::rules::resources::{Reference, ReferenceKind, below, references, unknown, variant_of};
use crate::runbook::{DRILL, Step};
use crate::shape::{Kind, Shape, sample};

/// Whose parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Which {
    /// The step's own.
    Step,
    /// Those of its written undo.
    Undo,
}

/// Parameters of one step, ready for the plan.
#[derive(Clone)]
pub(super) struct Kept {
    pub version: u16,
    /// As written; stand-ins of a drill are put in.
    pub with: Value,
    pub touches: Vec<Touch>,
    pub preview: String,
}

/// Parameters of one step on their way into the plan.
struct Bound {
    /// As written; stand-ins of a drill are put in.
    with: Value,
    /// What is known filled in, and a sample for what only the run knows.
    known: Value,
}

/// Where a value stands. Its pointer is only spelled out for a problem.
struct Spot<'s> {
    step: &'s Step,
    pointer: Pointer<'s>,
}

#[derive(Clone, Copy)]
enum Pointer<'s> {
    Root,
    Key(&'s Pointer<'s>, &'s str),
    Item(&'s Pointer<'s>, usize),
}

impl Pointer<'_> {
    fn text(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(above, key) => below(&above.text(), key),
            Self::Item(above, index) => format!("{}/{index}", above.text()),
        }
    }
}

impl Expander<'_> {
    /// The parameters of a step, or of its written undo, in this frame; `None` where something is wrong with them, which is reported.
    pub(super) fn parameters(&mut self, frame: &Frame, place: (usize, Which), problems: &mut Vec<Diagnostic>) -> Option<Kept> {
        let key = (frame.file, place.0, place.1);
        if let Some(kept) = self.kept.get(&key) {
            return Some(kept.clone());
        }
        let files = self.files;
        let checked = &files[frame.file];
        let step = match place.1 {
            Which::Step => checked.graph.steps[place.0],
            Which::Undo => checked.graph.steps[place.0].written_undo()?,
        };
        let info = checked.catalog.step_type(&step.step_type.value)?;
        let shape = &checked.shapes(step)?.with;
        let written = step.with.as_ref().map_or_else(|| Value::Object(Map::new()), |with| with.node.to_value());
        let mut reads = Reads::default();
        expr::reads_in(&written, &mut reads);
        let mut own = Vec::new();
        let bound = self.bind(frame, step, written, shape, &mut own);
        let examined =
            if own.is_empty() { self.examine(frame, info.name, &bound).map_err(|bad| own.push(refused(step, &bad))).ok() } else { None };
        problems.extend(own.into_iter().map(|problem| self.placed(frame.file, problem)));
        let Examined { touches, preview } = examined?;
        let kept = Kept { version: info.version, with: bound.with, touches, preview };
        if reads.inputs.is_none() && reads.bare.is_empty() {
            // Nothing in it depends on the frame.
            self.kept.insert(key, kept.clone());
        }
        Some(kept)
    }

    /// Asks the step type. It may refuse a sample for its form alone (an instant, a path), so other forms are tried before it is believed.
    fn examine(&self, frame: &Frame, step_type: &str, bound: &Bound) -> Result<Examined, BadParameters> {
        const FORMS: [&str; 5] = ["2000-01-01T00:00:00Z", "/sample", "127.0.0.1", "https://sample.invalid/", "1"];
        let first = self.files[0].catalog.examine(step_type, &bound.known);
        if first.is_ok() {
            return first;
        }
        let tried = FORMS.iter().map(|form| self.with_form(frame, &bound.with, &bound.known, form)).filter(|other| *other != bound.known);
        tried.map(|other| self.files[0].catalog.examine(step_type, &other)).find(Result::is_ok).unwrap_or(first)
    }

    /// The parameters with every text that only the run knows in this form.
    fn with_form(&self, frame: &Frame, with: &Value, known: &Value, form: &str) -> Value {
        match (with, known) {
            (Value::String(text), Value::String(_)) if self.is_dynamic(frame, text) => Value::from(form),
            (Value::Object(with), Value::Object(known)) => {
                let inner = |(key, value): (&String, &Value)| {
                    (key.clone(), with.get(key).map_or_else(|| value.clone(), |with| self.with_form(frame, with, value, form)))
                };
                Value::Object(known.iter().map(inner).collect::<Map<_, _>>())
            }
            (Value::Array(with), Value::Array(known)) => {
                with.iter().zip(known).map(|(with, known)| self.with_form(frame, with, known, form)).collect()
            }
            _ => known.clone(),
        }
    }

    /// Fills in what is known, checks the names that this makes known, and puts stand-ins in place.
    fn bind(&mut self, frame: &Frame, step: &Step, written: Value, shape: &Shape, problems: &mut Vec<Diagnostic>) -> Bound {
        let known = self.fill(frame, &written, shape, &Spot { step, pointer: Pointer::Root }, problems);
        let mut bound = Bound { with: written, known };
        let span = |pointer: &str| step.with.as_ref().map_or(step.head, |with| with.node.locate(pointer).1);
        let mut stand_ins: Vec<(String, String)> = Vec::new();
        for reference in references(&bound.known, shape) {
            if self.is_sampled(frame, &bound.with, &reference.pointer) {
                continue;
            }
            if let Some(problem) = unknown(&reference, span(&reference.pointer), self.resources) {
                problems.push(problem);
                continue;
            }
            if matches!(reference.kind, ReferenceKind::Resource(_)) {
                match self.stand_in(&reference, span(&reference.pointer), problems) {
                    Some(stand_in) => {
                        self.used.insert(stand_in.clone());
                        stand_ins.push((reference.pointer, stand_in));
                    }
                    None => _ = self.used.insert(reference.name),
                }
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
                && !self.is_sampled(frame, &bound.with, &reference.pointer)
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
    fn is_sampled(&self, frame: &Frame, with: &Value, pointer: &str) -> bool {
        let mut here = pointer;
        loop {
            if let Some(Value::String(text)) = with.pointer(here) {
                return self.is_dynamic(frame, text);
            }
            let Some((above, _)) = here.rsplit_once('/') else { return false };
            here = above;
        }
    }

    fn is_dynamic(&self, frame: &Frame, text: &str) -> bool {
        text.contains("${{") && parts(text).is_ok_and(|parts| parts.iter().any(|part| self.part_is_dynamic(frame, part)))
    }

    fn part_is_dynamic(&self, frame: &Frame, part: &Part<'_>) -> bool {
        match part {
            Part::Text(_) => false,
            Part::Expression { text, .. } => {
                self.files[frame.file].compile(text).is_ok_and(|compiled| self.reads_later(frame, &compiled.reads))
            }
        }
    }

    /// Every expression that reads only what is known gets its answer; the others a sample of what is wanted there.
    fn fill(&self, frame: &Frame, value: &Value, shape: &Shape, spot: &Spot<'_>, problems: &mut Vec<Diagnostic>) -> Value {
        match (value, &shape.kind) {
            (Value::String(text), _) if text.contains("${{") => {
                if self.is_dynamic(frame, text) {
                    let name = text.trim().trim_start_matches("${{").trim_end_matches("}}").trim();
                    return sample(shape, name);
                }
                frame.scoped(|scope| expr::fill(value, scope)).unwrap_or_else(|error| {
                    let span = spot.step.with.as_ref().map_or(spot.step.head, |with| with.node.locate(&spot.pointer.text()).1);
                    problems.push(Diagnostic::error(codes::BAD_EXPRESSION, span, error.to_string()));
                    Value::Null
                })
            }
            (Value::Object(entries), kind) => {
                let variant = if let Kind::OneOf(variants) = kind { variant_of(value, variants) } else { Some(shape) };
                let fields = variant.and_then(Shape::object);
                let any = Shape::of(Kind::Any);
                let filled = entries.iter().map(|(key, value)| {
                    let known = fields.and_then(|object| object.fields.get(key).map(|field| &field.shape).or(object.rest.as_deref()));
                    let inner = Spot { step: spot.step, pointer: Pointer::Key(&spot.pointer, key) };
                    (key.clone(), self.fill(frame, value, known.unwrap_or(&any), &inner, problems))
                });
                Value::Object(filled.collect::<Map<_, _>>())
            }
            (Value::Array(items), kind) => {
                let any = Shape::of(Kind::Any);
                let shape = if let Kind::List { items, .. } = kind { items } else { &any };
                let filled = items.iter().enumerate().map(|(index, item)| {
                    let inner = Spot { step: spot.step, pointer: Pointer::Item(&spot.pointer, index) };
                    self.fill(frame, item, shape, &inner, problems)
                });
                filled.collect()
            }
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => value.clone(),
        }
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
    pub(super) fn guard(&self, file: usize, step: &Step, touches: &[Touch], problems: &mut Vec<Diagnostic>) {
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
                problems.push(self.placed(file, Diagnostic::error(codes::DRILL_DENIED, step.step_type.span, message).help(help)));
            }
        }
    }
}
