//! Two steps that may change one resource at the same time: two promotions side by side make two primaries. The locks of a run keep other runs
//! out, not its own steps, so `needs` must order them. Planning asks the same again with the resources that inputs and stand-ins name.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::Checked;
use super::resources::variant_of;
use crate::catalog::Touch;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::{Reads, reads_in};
use crate::graph::Graph;
use crate::names::Effect;
use crate::parse::PROBLEMS_MAX;
use crate::plan::RUNBOOK;
use crate::runbook::Step;
use crate::shape::{Kind, Shape, sample};

/// What a step grips, by its place in the graph.
pub(crate) type Grips = Vec<(usize, Vec<Touch>)>;

pub(super) fn check(checked: &Checked<'_>, problems: &mut Vec<Diagnostic>) {
    let mut stand_ins = StandIns::default();
    let grips = checked.graph.order.iter().map(|index| (*index, stand_ins.touches(checked, checked.graph.steps[*index])));
    let grips: Grips = grips.collect();
    unordered(&checked.graph, &grips, problems);
    for (index, touches) in &grips {
        items(checked.graph.steps[*index], touches, problems);
    }
}

/// Items of one `for_each` that all change the same resource.
fn items(step: &Step, touches: &[Touch], problems: &mut Vec<Diagnostic>) {
    let Some(each) = step.for_each.as_ref().filter(|each| each.concurrency != Some(1)) else { return };
    let several = each.list.as_ref().is_none_or(|list| list.items().len() != 1);
    let by_item = |resource: &str| {
        let mut reads = Reads::default();
        reads_in(&Value::from(resource), &mut reads);
        reads.bare.contains("item") || reads.bare.contains("index")
    };
    if let Some(touch) = touches.iter().find(|touch| several && acts(touch.effect) && !by_item(&touch.resource)) {
        let message = format!("the items of `{}` may change `{}` at the same time", step.name.value, touch.resource);
        problems.push(Diagnostic::error(codes::UNORDERED_CHANGES, each.key_span, message).help(ONE_BY_ONE));
    }
}

/// What to do where items get in each other's way.
pub(crate) const ONE_BY_ONE: &str = "let the items go one after the other: `for_each: { list: ..., concurrency: 1 }`";

/// Reports steps that change the same resource and are not ordered. `grips` stand in the order of the graph.
///
/// Neighbours are enough: where each step comes after the one before it, all of them are in one chain.
pub(crate) fn unordered(graph: &Graph<'_>, grips: &Grips, problems: &mut Vec<Diagnostic>) {
    let mut last: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for (index, touches) in grips {
        let mut changed: Vec<&str> = touches.iter().filter(|touch| acts(touch.effect)).map(|touch| touch.resource.as_str()).collect();
        changed.sort_unstable();
        changed.dedup();
        for resource in changed {
            crate::work::spend(1);
            if let Some(before) = last.insert((*index < graph.main, resource), *index)
                && !graph.is_before(before, *index)
                && problems.len() <= PROBLEMS_MAX
            {
                problems.push(clash(graph.steps[before], graph.steps[*index], resource));
            }
        }
    }
}

/// Whether two of them must not overlap. What only protects (a backup) gives way by itself.
pub(crate) fn acts(effect: Effect) -> bool {
    match effect {
        Effect::Change | Effect::Destroy => true,
        Effect::Read | Effect::Protect => false,
    }
}

fn clash(before: &Step, after: &Step, resource: &str) -> Diagnostic {
    let (first, second) = (&before.name.value, &after.name.value);
    let message = format!("`{first}` (line {}) and `{second}` may change `{resource}` at the same time", before.line);
    Diagnostic::error(codes::UNORDERED_CHANGES, after.name.span, message)
        .help(format!("add `{first}` to the `needs` of `{second}`, or the other way round; a step that its `if` skips satisfies `needs`"))
}

/// Names put in place of expressions that choose a resource: the same text always chooses the same one.
#[derive(Default)]
struct StandIns {
    names: HashMap<String, String>,
    texts: HashMap<String, String>,
}

impl StandIns {
    /// What a step grips as far as the file tells; nothing where its parameters cannot be read, which is reported by itself.
    fn touches(&mut self, checked: &Checked<'_>, step: &Step) -> Vec<Touch> {
        // What a child changes depends on its inputs: planning asks again with the names that it has then.
        let Some(shapes) = checked.shapes(step).filter(|_| step.step_type.value != RUNBOOK) else { return Vec::new() };
        let written = step.with.as_ref().map_or_else(|| Value::Object(Map::new()), |with| with.node.to_value());
        // A step type may refuse a sample for its form alone.
        let read = ["sample", "2000-01-01T00:00:00Z", "/sample", "127.0.0.1", "https://sample.invalid/", "1"].iter().find_map(|form| {
            let with = self.fill(&written, &shapes.with, None, form);
            checked.catalog.examine(&step.step_type.value, &with).ok()
        });
        let mut touches = read.map_or_else(Vec::new, |examined| examined.touches);
        for touch in &mut touches {
            if let Some(text) = self.texts.get(&touch.resource) {
                touch.resource.clone_from(text);
            }
        }
        touches
    }

    /// The parameters with a sample for every expression, and a name of its own for every expression that chooses a resource.
    fn fill(&mut self, value: &Value, shape: &Shape, listed: Option<&Shape>, form: &str) -> Value {
        match (value, &shape.kind) {
            (Value::String(text), _) if text.contains("${{") => {
                if shape.resource.is_some() || listed.is_some_and(|list| list.resource.is_some()) {
                    return Value::from(self.name_of(text));
                }
                sample(shape, form)
            }
            (Value::Object(entries), kind) => {
                let variant = if let Kind::OneOf(variants) = kind { variant_of(value, variants) } else { Some(shape) };
                let fields = variant.and_then(Shape::object);
                let any = Shape::of(Kind::Any);
                let filled = entries.iter().map(|(key, value)| {
                    let inner = fields.and_then(|object| object.fields.get(key).map(|field| &field.shape).or(object.rest.as_deref()));
                    (key.clone(), self.fill(value, inner.unwrap_or(&any), None, form))
                });
                Value::Object(filled.collect::<Map<_, _>>())
            }
            (Value::Array(items), kind) => {
                let any = Shape::of(Kind::Any);
                let inner = if let Kind::List { items, .. } = kind { items } else { &any };
                items.iter().map(|item| self.fill(item, inner, Some(shape), form)).collect()
            }
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => value.clone(),
        }
    }

    fn name_of(&mut self, text: &str) -> String {
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let next = format!("chosen-by-expression-{}", self.names.len());
        let name = self.names.entry(text.clone()).or_insert(next).clone();
        self.texts.insert(name.clone(), text);
        name
    }
}
