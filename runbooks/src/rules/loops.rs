//! `for_each`: that it goes through a list, that the list is known in time, and what its items are.

use super::{Checked, expressions};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::ty::{ObjectTy, Ty};
use crate::expr::{self, Reads, unescape};
use crate::rules::expressions::Site;
use crate::shape::Presence;
use crate::yaml::{Content, Node};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most items whose possible texts are told apart; longer lists are of any text.
const WORDS_MAX: usize = 64;

/// Checks the `for_each` of a step.
pub(super) fn check(checked: &Checked<'_>, index: usize, problems: &mut Vec<Diagnostic>) {
    let step = checked.graph.steps[index];
    let Some(each) = &step.for_each else { return };
    let Some(list) = &each.list else { return };
    let ty = item_of(checked, index, list, problems);
    checked.items.borrow_mut().insert(index, ty);
    let reads = reads_of(list);
    match each.max {
        None if !reads.steps.is_none() => {
            let message = "this list is only known in the run, and the plan must say how many items there can be";
            let help = "write `for_each: { list: ..., max: 20 }` with the most items that there may be";
            problems.push(Diagnostic::error(codes::LIST_IN_RUN, list.span, message).help(help));
        }
        None => {
            checked.needs_early(&reads, &Arc::from("a `for_each` goes through it, and without `max` the list must be known before the run"))
        }
        Some(_) => {}
    }
    if let Content::List(items) = &list.content
        && each.max.is_some_and(|max| items.len() > max as usize)
    {
        let message = format!("the list has {} items, and `max` is {}", items.len(), each.max.unwrap_or_default());
        problems.push(Diagnostic::error(codes::OUT_OF_RANGE, each.key_span, message).help("raise `max`, or shorten the list"));
    }
}

/// What the expressions of a list read.
pub(crate) fn reads_of(list: &Node) -> Reads {
    let mut reads = Reads::default();
    expr::reads_in(&list.to_value(), &mut reads);
    reads
}

/// Type of the items of a list.
pub(super) fn item_of(checked: &Checked<'_>, step: usize, list: &Node, problems: &mut Vec<Diagnostic>) -> Ty {
    let whole = ty_of(checked, Some(step), Site::List, list, problems);
    match whole {
        Ty::List(item) => (*item).clone(),
        Ty::Reported | Ty::Never => Ty::Reported,
        ty @ (Ty::Any
        | Ty::Null
        | Ty::Bool
        | Ty::Int
        | Ty::Double
        | Ty::Text(_)
        | Ty::Period
        | Ty::Length
        | Ty::Object(_)
        | Ty::Optional(_)
        | Ty::Steps) => {
            let help = match ty {
                Ty::Optional(_) => "give a default with .orValue([])",
                Ty::Any => "use an output whose type is declared as a list",
                Ty::Reported
                | Ty::Never
                | Ty::Null
                | Ty::Bool
                | Ty::Int
                | Ty::Double
                | Ty::Text(_)
                | Ty::Period
                | Ty::Length
                | Ty::List(_)
                | Ty::Object(_)
                | Ty::Steps => "write a list: [a, b], or one expression for a list: \"${{ [inputs.a, inputs.b] }}\"",
            };
            let message = format!("`for_each` goes through a list, and this is {}", ty.words());
            problems.push(Diagnostic::error(codes::ANSWER_TYPE, list.span, message).help(help));
            Ty::Reported
        }
    }
}

/// Type of a value in the file, expressions in it included.
pub(super) fn ty_of(checked: &Checked<'_>, step: Option<usize>, site: Site, node: &Node, problems: &mut Vec<Diagnostic>) -> Ty {
    match &node.content {
        Content::Broken => Ty::Reported,
        Content::List(items) => {
            let mut all = Ty::Never;
            for item in items {
                let ty = stored(node, ty_of(checked, step, site, item, problems), problems);
                all = both(&all, &ty);
            }
            Ty::List(Arc::new(all))
        }
        Content::Map(entries) => {
            let mut fields = BTreeMap::new();
            for entry in entries {
                let ty = stored(&entry.value, ty_of(checked, step, site, &entry.value, problems), problems);
                // Null is dropped from objects: it is the same as absent, and a value of undeclared type may be null.
                let presence = if matches!(ty, Ty::Any) { Presence::Optional } else { Presence::Required };
                if !matches!(ty, Ty::Null) {
                    fields.insert(entry.key.clone(), (ty, presence));
                }
            }
            Ty::Object(Arc::new(ObjectTy { fields, rest: None }))
        }
        Content::Scalar(scalar) => match &scalar.value {
            Value::Null => Ty::Null,
            Value::Bool(_) => Ty::Bool,
            Value::Number(number) if number.is_i64() => Ty::Int,
            Value::Number(_) => Ty::Double,
            Value::String(text) if text.contains("${{") => expressions::filled(checked, step, site, node, problems),
            Value::String(text) => Ty::word(&unescape(text)),
            Value::Array(_) | Value::Object(_) => Ty::Any,
        },
    }
}

/// A type that a value can have: nothing that may be absent, and not `steps` itself.
pub(super) fn stored(node: &Node, ty: Ty, problems: &mut Vec<Diagnostic>) -> Ty {
    let help = match &ty {
        Ty::Optional(_) => "give a default with .orValue(...)",
        Ty::Steps => "name a step: steps.<id>",
        Ty::Reported
        | Ty::Never
        | Ty::Any
        | Ty::Null
        | Ty::Bool
        | Ty::Int
        | Ty::Double
        | Ty::Text(_)
        | Ty::Period
        | Ty::Length
        | Ty::List(_)
        | Ty::Object(_) => return ty,
    };
    problems
        .push(Diagnostic::error(codes::ANSWER_TYPE, node.span, format!("a value is wanted here, and this is {}", ty.words())).help(help));
    Ty::Reported
}

/// Type of a value that is one or the other of two items: fields that only one of them has may be absent.
fn both(a: &Ty, b: &Ty) -> Ty {
    match (a, b) {
        (Ty::Object(a), Ty::Object(b)) if a.rest.is_none() && b.rest.is_none() => {
            let mut fields = BTreeMap::new();
            for name in a.fields.keys().chain(b.fields.keys()) {
                let field = match (a.fields.get(name), b.fields.get(name)) {
                    (Some((a, here)), Some((b, there))) => {
                        (both(a, b), if *here == Presence::Required { *there } else { Presence::Optional })
                    }
                    (Some((only, _)), None) | (None, Some((only, _))) => (only.clone(), Presence::Optional),
                    (None, None) => continue,
                };
                fields.entry(name.clone()).or_insert(field);
            }
            Ty::Object(Arc::new(ObjectTy { fields, rest: None }))
        }
        (Ty::List(a), Ty::List(b)) => Ty::List(Arc::new(both(a, b))),
        _ => match a.join(b) {
            Some(Ty::Text(Some(words))) if words.len() > WORDS_MAX => Ty::Text(None),
            Some(ty) => ty,
            None => Ty::Any,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_only_some_items_have_may_be_absent() {
        let object = |fields: &[(&str, Ty)]| {
            let fields = fields.iter().map(|(name, ty)| ((*name).to_owned(), (ty.clone(), Presence::Required))).collect();
            Ty::Object(Arc::new(ObjectTy { fields, rest: None }))
        };
        let Ty::Object(joined) = both(&object(&[("a", Ty::word("x")), ("b", Ty::Int)]), &object(&[("a", Ty::word("y"))])) else { panic!() };
        assert_eq!(joined.fields["a"].1, Presence::Required);
        assert_eq!(joined.fields["b"], (Ty::Int, Presence::Optional));
        assert_eq!(both(&Ty::Int, &Ty::word("x")), Ty::Any);
    }
}
