//! Names that the inventory must know: resources of the right kind, their nodes, and roles.

use serde_json::Value;

use super::Checked;
use crate::catalog::{ANY_KIND, ResourceInfo, Resources};
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::PROBLEMS_MAX;
use crate::runbook::{Step, TriggerKind};
use crate::shape::{Kind, Shape};
use crate::suggest;

/// A name in parameters that the inventory must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Where, in `with`.
    pub pointer: String,
    pub kind: ReferenceKind,
    pub name: String,
}

/// What it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReferenceKind {
    /// A resource of this kind.
    Resource(String),
    /// A node of this resource.
    NodeOf(String),
}

/// The names in parameters of a shape. Values with expressions are left out.
pub(crate) fn references(with: &Value, shape: &Shape) -> Vec<Reference> {
    let mut found = Vec::new();
    gather(with, shape, None, String::new(), &mut found);
    found
}

fn gather(value: &Value, shape: &Shape, siblings: Option<&Value>, pointer: String, found: &mut Vec<Reference>) {
    match (value, &shape.kind) {
        (Value::String(name), _) if !name.contains("${{") => {
            if let Some(kind) = &shape.resource {
                found.push(Reference { pointer, kind: ReferenceKind::Resource(kind.clone()), name: name.clone() });
            } else if let Some(sibling) = &shape.node_of
                && let Some(resource) = siblings.and_then(|siblings| siblings.get(sibling)).and_then(Value::as_str)
            {
                found.push(Reference { pointer, kind: ReferenceKind::NodeOf(resource.to_owned()), name: name.clone() });
            }
        }
        (Value::Object(entries), Kind::Object(object)) => {
            for (key, inner) in entries {
                if let Some(shape) = object.fields.get(key).map(|field| &field.shape).or(object.rest.as_deref()) {
                    gather(inner, shape, Some(value), below(&pointer, key), found);
                }
            }
        }
        (Value::Array(list), Kind::List { items, .. }) => {
            // A list of resources or nodes is marked as a whole.
            let marked = Shape {
                resource: items.resource.clone().or_else(|| shape.resource.clone()),
                node_of: items.node_of.clone().or_else(|| shape.node_of.clone()),
                ..(**items).clone()
            };
            for (index, item) in list.iter().enumerate() {
                gather(item, &marked, siblings, format!("{pointer}/{index}"), found);
            }
        }
        (_, Kind::OneOf(variants)) => {
            if let Some(variant) = variant_of(value, variants) {
                gather(value, variant, siblings, pointer, found);
            }
        }
        _ => {}
    }
}

/// The variant that a value is of, as far as its keys tell.
pub(crate) fn variant_of<'s>(value: &Value, variants: &'s [Shape]) -> Option<&'s Shape> {
    match value {
        Value::Object(entries) => variants.iter().find(|variant| {
            variant.object().is_some_and(|known| {
                entries.keys().all(|key| known.fields.contains_key(key)) && known.tag().is_none_or(|tag| entries.contains_key(tag))
            })
        }),
        Value::Array(_) => variants.iter().find(|variant| matches!(variant.kind, Kind::List { .. })),
        Value::String(_) => variants.iter().find(|variant| matches!(variant.kind, Kind::Text(_) | Kind::Duration)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// One level further down a JSON pointer.
pub(crate) fn below(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Checks the names that are written out.
pub(super) fn check(checked: &Checked<'_>, resources: &dyn Resources, problems: &mut Vec<Diagnostic>) {
    for step in checked.graph.steps.iter().flat_map(|step| std::iter::once(*step).chain(step.written_undo())) {
        let (Some(shapes), Some(with)) = (checked.shapes(step), &step.with) else { continue };
        if problems.len() > PROBLEMS_MAX {
            return;
        }
        let value = with.node.to_value();
        for reference in references(&value, &shapes.with) {
            let span = with.node.locate(&reference.pointer).1;
            problems.extend(unknown(&reference, span, resources));
        }
        if step.step_type.value == "approval" {
            roles(step, &value, resources, problems);
        }
    }
    for trigger in &checked.runbook.triggers {
        if let TriggerKind::Telegram { roles, .. } = &trigger.kind {
            problems.extend(roles.iter().filter_map(|role| unknown_role(role, trigger.id.span, resources)));
        }
    }
}

fn roles(step: &Step, with: &Value, resources: &dyn Resources, problems: &mut Vec<Diagnostic>) {
    for (index, role) in with.get("roles").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let (Some(role), Some(with)) = (role.as_str(), &step.with) else { continue };
        let span = with.node.locate(&format!("/roles/{index}")).1;
        problems.extend(unknown_role(role, span, resources));
    }
}

fn unknown_role(role: &str, span: Span, resources: &dyn Resources) -> Option<Diagnostic> {
    let known = resources.roles();
    if role.contains("${{") || known.contains(&role) {
        return None;
    }
    let help = suggest::instead(role, &known).or_else(|| Some("give it to a person in the inventory, under `people`".to_owned()));
    Some(Diagnostic::error(codes::UNKNOWN_ROLE, span, format!("nobody in the inventory holds the role `{role}`")).maybe_help(help))
}

/// What is wrong with a name, if anything is.
pub(crate) fn unknown(reference: &Reference, span: Span, resources: &dyn Resources) -> Option<Diagnostic> {
    let name = &reference.name;
    match &reference.kind {
        ReferenceKind::Resource(kind) => {
            let Some(found) = resources.resource(name) else {
                let alike = of_kind(kind, resources);
                let help = suggest::instead(name, &alike).or_else(|| {
                    Some(if kind == ANY_KIND {
                        "add it to the inventory".to_owned()
                    } else {
                        format!("add it to the inventory as a resource of kind `{kind}`")
                    })
                });
                return Some(
                    Diagnostic::error(codes::UNKNOWN_RESOURCE, span, format!("the inventory has no resource `{name}`")).maybe_help(help),
                );
            };
            (found.kind != *kind && kind != ANY_KIND).then(|| {
                let message = format!("`{name}` is a resource of kind `{}`, and one of kind `{kind}` is wanted here", found.kind);
                Diagnostic::error(codes::WRONG_KIND, span, message).maybe_help(suggest::instead(name, &of_kind(kind, resources)))
            })
        }
        ReferenceKind::NodeOf(resource) => {
            // An unknown resource is reported by itself.
            let ResourceInfo { nodes, .. } = resources.resource(resource)?;
            let known: Vec<&str> = nodes.iter().map(String::as_str).collect();
            (!known.contains(&name.as_str())).then(|| {
                let message = format!("`{resource}` has no node `{name}`");
                let help = suggest::instead(name, &known).or_else(|| Some(format!("the inventory lists no nodes for `{resource}`")));
                Diagnostic::error(codes::UNKNOWN_NODE, span, message).maybe_help(help)
            })
        }
    }
}

fn of_kind<'r>(kind: &str, resources: &'r dyn Resources) -> Vec<&'r str> {
    resources
        .names()
        .into_iter()
        .filter(|name| kind == ANY_KIND || resources.resource(name).is_some_and(|info| info.kind == kind))
        .collect()
}
