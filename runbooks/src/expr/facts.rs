//! What a condition proves: which things are present where it is true, and where it is false. Types are in `check`.

#![expect(clippy::wildcard_enum_match_arm, reason = "the language is what is named here; everything else is refused")]

use std::collections::BTreeSet;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

/// Paths (`steps.x.outputs`) that are known to be present.
pub(crate) type Facts = BTreeSet<String>;

/// The state of a step that has outputs.
const SUCCEEDED: &str = "succeeded";

/// The path that an expression spells, if it spells one.
pub(crate) fn path(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(join(&path(&select.operand)?, &select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => match call.args.as_slice() {
            [container, key] => Some(join(&path(container)?, text(key)?)),
            _ => None,
        },
        _ => None,
    }
}

/// One more part of a path; parts that are no plain names are quoted, so that paths stay distinct.
pub(crate) fn join(path: &str, part: &str) -> String {
    let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain { format!("{path}.{part}") } else { format!("{path}.{part:?}") }
}

/// The text of a literal.
pub(crate) fn text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Facts that hold where `expr` is `truth`. `states` gives the states that a step can be in when the expression is read.
pub(crate) fn proven(expr: &IdedExpr, truth: Truth, states: &dyn Fn(&str) -> Option<Vec<String>>, facts: &mut Facts) {
    match &expr.expr {
        Expr::Select(select) if select.test && truth == Truth::True => {
            if let Some(operand) = path(&select.operand) {
                facts.insert(join(&operand, &select.field));
            }
        }
        Expr::Call(call) if call.target.is_none() => match (call.func_name.as_str(), call.args.as_slice(), truth) {
            (operators::LOGICAL_NOT, [inner], _) => proven(inner, truth.opposite(), states, facts),
            (operators::LOGICAL_AND, [left, right], Truth::True) | (operators::LOGICAL_OR, [left, right], Truth::False) => {
                proven(left, truth, states, facts);
                proven(right, truth, states, facts);
            }
            (operators::EQUALS, [left, right], _) => by_state(left, right, truth, states, facts),
            (operators::NOT_EQUALS, [left, right], _) => by_state(left, right, truth.opposite(), states, facts),
            _ => {}
        },
        _ => {}
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
}

impl Truth {
    fn opposite(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
        }
    }
}

/// `steps.x.state == "succeeded"`, or any comparison that leaves no other state, proves outputs.
fn by_state(left: &IdedExpr, right: &IdedExpr, equal: Truth, states: &dyn Fn(&str) -> Option<Vec<String>>, facts: &mut Facts) {
    let (subject, word) = match (text(left), text(right)) {
        (None, Some(word)) => (left, word),
        (Some(word), None) => (right, word),
        _ => return,
    };
    let Some(path) = path(subject) else { return };
    let Some(step) = path.strip_suffix(".state") else { return };
    let Some(name) = step.strip_prefix("steps.") else { return };
    let Some(possible) = states(name) else { return };
    let mut left = possible.iter().filter(|state| (state.as_str() == word) == (equal == Truth::True));
    if left.next().is_some_and(|state| state == SUCCEEDED) && left.next().is_none() {
        facts.insert(join(step, "outputs"));
    }
}

/// The parts that are all true where `expr` is, in a form that does not depend on spelling.
pub(crate) fn conjuncts(expr: &IdedExpr, found: &mut BTreeSet<String>) {
    match &expr.expr {
        Expr::Call(call) if call.target.is_none() && call.func_name == operators::LOGICAL_AND => {
            call.args.iter().for_each(|arg| conjuncts(arg, found))
        }
        _ => {
            found.insert(canonical(expr));
        }
    }
}

/// The expression without its places; two that print the same give the same answer.
pub(crate) fn canonical(expr: &IdedExpr) -> String {
    let all = |exprs: &[IdedExpr]| exprs.iter().map(canonical).collect::<Vec<_>>().join(",");
    match &expr.expr {
        Expr::Unspecified => "?".to_owned(),
        Expr::Ident(name) => name.clone(),
        Expr::Literal(literal) => format!("{literal:?}"),
        Expr::Select(select) => format!("{}({}.{:?})", if select.test { "has" } else { "" }, canonical(&select.operand), select.field),
        Expr::Call(call) => {
            let target = call.target.as_deref().map(canonical).unwrap_or_default();
            format!("{}({target};{})", call.func_name, all(&call.args))
        }
        Expr::List(list) => format!("[{};{:?}]", all(&list.elements), list.optional_indices),
        Expr::Map(map) => format!("{{{:?}}}", map.entries.iter().map(|entry| format!("{:?}", entry.expr)).collect::<Vec<_>>()),
        Expr::Struct(literal) => format!("{literal:?}"),
        Expr::Comprehension(parts) => format!(
            "fold({},{},{},{},{},{})",
            canonical(&parts.iter_range),
            parts.iter_var,
            canonical(&parts.accu_init),
            canonical(&parts.loop_cond),
            canonical(&parts.loop_step),
            canonical(&parts.result)
        ),
    }
}
