//! Expressions at run time: filling `${{ }}` in parameters and answering bare conditions. What is accepted when a file is
//! loaded is decided in `check`; the grammar of templates is in `template`.

mod calls;
pub(crate) mod check;
mod compile;
pub(crate) mod facts;
mod length;
mod template;
pub(crate) mod ty;
mod value;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::names::StepId;

pub(crate) use compile::{Compiled, Problem, compile};
pub use compile::{Named, Reads};
pub(crate) use template::{Part, parts, unescape};

/// Longest expression, in bytes. Parsing takes some 30 µs for a usual one and grows with the length.
pub const EXPRESSION_BYTES_MAX: usize = 4096;

/// Deepest nesting of an expression's tree: the evaluator recurses, and its stack is bounded by this.
pub const EXPRESSION_DEPTH_MAX: usize = 48;

/// Most operators (dots and brackets counted) in one expression: the parser recurses once for each of a chain (2,000 overflow the
/// 2 MiB stack of a thread).
pub const OPERATORS_MAX: usize = 200;

/// Deepest nesting of brackets. The parser recurses through every rule of its grammar for each: without optimisation 12 levels fill the
/// 2 MiB stack of a thread.
pub const BRACKETS_DEPTH_MAX: usize = 8;

/// Most `map`, `filter`, `all`, `exists` and `exists_one` in one expression: the evaluator has no cost limit and no interrupt, and each
/// chained `map` can double what it is given.
pub const COMPREHENSIONS_MAX: usize = 3;

/// Most items of a list, or entries of an object, that an expression may read: with one level of comprehension this bounds its work.
pub const ITEMS_MAX: usize = 10_000;

/// Longest text that an expression may read or that a filled scalar may have, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// What expressions can see.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The run's mode.
    pub mode: &'a str,
    /// Every input with its value.
    pub inputs: &'a BTreeMap<String, Value>,
    /// Steps so far, by the names that the runbook gives them; in a step's own `assert` the step itself too.
    pub steps: &'a BTreeMap<StepId, StepFacts>,
    /// Inside a `for_each`: the item, and its place in the list.
    pub item: Option<(&'a Value, u32)>,
    /// Inside a written undo: what the step gave that is undone.
    pub outputs: Option<&'a Value>,
}

impl<'a> Scope<'a> {
    /// A scope outside of any `for_each` and undo.
    #[must_use]
    pub fn new(mode: &'a str, inputs: &'a BTreeMap<String, Value>, steps: &'a BTreeMap<StepId, StepFacts>) -> Self {
        Self { mode, inputs, steps, item: None, outputs: None }
    }
}

/// What expressions can see of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFacts {
    /// `succeeded`, `skipped`, `failed`, ...: the words of the step state table, in snake case.
    pub state: &'static str,
    /// What it gave; `None` where it gave nothing (skipped, failed, not run), and then `steps.x.outputs` is absent.
    pub outputs: Option<Value>,
}

/// An expression that cannot be answered: the step that asked is held, it is never taken for false.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expression `{expression}` has no answer: {why}")]
pub struct ExprError {
    /// As written.
    pub expression: String,
    /// Why.
    pub why: String,
}

/// Replaces every `${{ }}` in the scalars of `with`. A scalar that is only `${{ }}` keeps the type of the answer; otherwise the parts
/// are joined as text. `$${{` stands for `${{` itself.
///
/// # Errors
/// The first expression that has no answer, or whose answer has no place here.
pub fn fill(with: &Value, scope: &Scope<'_>) -> Result<Value, ExprError> {
    match with {
        Value::String(text) => fill_text(text, scope),
        Value::Array(items) => items.iter().map(|item| fill(item, scope)).collect::<Result<_, _>>().map(Value::Array),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| Ok((key.clone(), fill(value, scope)?))).collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(with.clone()),
    }
}

/// Answers a bare `if` or `assert`.
///
/// # Errors
/// Where there is no answer, or the answer is neither true nor false.
pub fn is_true(expression: &str, scope: &Scope<'_>) -> Result<bool, ExprError> {
    match answer(expression, scope)? {
        Value::Bool(truth) => Ok(truth),
        other @ (Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(error(expression, format!("it must be true or false, and it is {}", value::kind(&other))))
        }
    }
}

fn fill_text(text: &str, scope: &Scope<'_>) -> Result<Value, ExprError> {
    if !text.contains("${{") {
        return Ok(Value::String(text.to_owned()));
    }
    let parts = parts(text).map_err(|problem| error(text, problem.why))?;
    if let [Part::Expression { text: expression, .. }] = parts.as_slice() {
        return answer(expression, scope);
    }
    let mut joined = String::new();
    for part in &parts {
        match part {
            Part::Text(literal) => joined.push_str(literal),
            Part::Expression { text: expression, .. } => match answer(expression, scope)? {
                Value::String(piece) => joined.push_str(&piece),
                Value::Bool(piece) => joined.push_str(if piece { "true" } else { "false" }),
                Value::Number(piece) => joined.push_str(&piece.to_string()),
                other @ (Value::Null | Value::Array(_) | Value::Object(_)) => {
                    return Err(error(expression, format!("{} cannot be part of a text", value::kind(&other))));
                }
            },
        }
        if joined.len() > TEXT_BYTES_MAX {
            return Err(error(text, format!("the text is longer than {TEXT_BYTES_MAX} bytes")));
        }
    }
    Ok(Value::String(joined))
}

/// Adds what a bare expression reads. One that cannot be read reads nothing: whoever answers it says why.
pub fn reads_of(expression: &str, reads: &mut Reads) {
    if let Ok(compiled) = compile::compiled(expression) {
        reads.merge(&compiled.reads);
    }
}

/// Adds what the `${{ }}` in a value read.
pub fn reads_in(with: &Value, reads: &mut Reads) {
    match with {
        Value::String(text) if text.contains("${{") => {
            for part in parts(text).iter().flatten() {
                if let Part::Expression { text, .. } = part {
                    reads_of(text, reads);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| reads_in(item, reads)),
        Value::Object(entries) => entries.values().for_each(|value| reads_in(value, reads)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn answer(expression: &str, scope: &Scope<'_>) -> Result<Value, ExprError> {
    let compiled = compile::compiled(expression).map_err(|problem| error(expression, problem.message))?;
    value::evaluate(&compiled, scope).map_err(|why| error(expression, why))
}

fn error(expression: &str, why: impl Into<String>) -> ExprError {
    ExprError { expression: expression.trim().to_owned(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn in_scope<T>(ask: impl FnOnce(&Scope<'_>) -> T) -> T {
        let inputs = BTreeMap::from([("to".to_owned(), json!("us-west-2")), ("n".to_owned(), json!(3)), ("share".to_owned(), json!(0.5))]);
        let steps = BTreeMap::from([
            (
                StepId::new("loss").unwrap(),
                StepFacts {
                    state: "succeeded",
                    outputs: Some(json!({"within_rpo": true, "lag": "1m30s", "nodes": ["a", "b"], "gone": null})),
                },
            ),
            (StepId::new("accept").unwrap(), StepFacts { state: "skipped", outputs: None }),
        ]);
        ask(&Scope::new("failover", &inputs, &steps))
    }

    fn filled(text: &str) -> Result<Value, ExprError> {
        in_scope(|scope| fill(&json!(text), scope))
    }

    #[test]
    fn a_lone_expression_keeps_its_type_and_parts_are_joined() {
        assert_eq!(filled("${{ inputs.n }}").unwrap(), json!(3));
        assert_eq!(filled("${{ inputs.share }}").unwrap(), json!(0.5));
        assert_eq!(filled("${{ steps.loss.outputs.nodes }}").unwrap(), json!(["a", "b"]));
        assert_eq!(
            filled("n=${{ inputs.n }} to ${{inputs.to}}${{ steps.loss.outputs.within_rpo }}").unwrap(),
            json!("n=3 to us-west-2true")
        );
        assert_eq!(filled("cost $${{ inputs.n }} and ${{ inputs.n }}").unwrap(), json!("cost ${{ inputs.n }} and 3"));
        assert_eq!(filled("$${{ inputs.n }}").unwrap(), json!("${{ inputs.n }}"));
        assert_eq!(filled("${{ {'a': {'b': '}}'}} }}").unwrap(), json!({"a": {"b": "}}"}}));
    }

    #[test]
    fn values_are_filled_once_and_never_read_as_templates_again() {
        let inputs = BTreeMap::from([("a".to_owned(), json!("${{ inputs.b }}")), ("b".to_owned(), json!("x"))]);
        let none = BTreeMap::new();
        let scope = Scope::new("m", &inputs, &none);
        assert_eq!(fill(&json!({"k": ["${{ inputs.a }}"]}), &scope).unwrap(), json!({"k": ["${{ inputs.b }}"]}));
    }

    #[test]
    fn lists_objects_and_absent_things_cannot_be_part_of_a_text() {
        for text in
            ["x ${{ steps.loss.outputs.nodes }}", "x ${{ steps.loss.outputs }}", "x ${{ steps.loss.?outputs.?gone }}", "${{ inputs.nope }}"]
        {
            assert!(filled(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_compare_by_length_and_come_back_in_the_one_grammar() {
        in_scope(|scope| {
            assert!(is_true("duration(steps.loss.outputs.lag) < duration('2m')", scope).unwrap());
            assert!(is_true("duration('90s') == duration(steps.loss.outputs.lag)", scope).unwrap());
            assert!(is_true("duration('1d') >= duration('24h')", scope).unwrap());
            assert_eq!(fill(&json!("${{ duration('90s') }}"), scope).unwrap(), json!("1m30s"));
            assert!(is_true("duration('5') < duration('1s')", scope).is_err());
        });
    }

    #[test]
    fn null_and_absent_are_the_same_thing() {
        in_scope(|scope| {
            assert!(!is_true("has(steps.loss.outputs.gone)", scope).unwrap());
            assert!(!is_true("has(steps.accept.outputs)", scope).unwrap());
            assert_eq!(fill(&json!("${{ steps.accept.?outputs.?by.orValue('nobody') }}"), scope).unwrap(), json!("nobody"));
        });
    }

    #[test]
    fn an_answer_that_is_not_a_truth_is_an_error_never_false() {
        in_scope(|scope| {
            for text in ["1", "'true'", "steps.accept.outputs.ok", "nope", "steps.loss.outputs", "1 +", "duration('1s')"] {
                assert!(is_true(text, scope).is_err(), "{text}");
            }
        });
    }

    #[test]
    fn work_is_bounded_before_it_begins() {
        in_scope(|scope| {
            let nested = "steps.loss.outputs.nodes.all(x, steps.loss.outputs.nodes.all(y, x == y))";
            assert!(is_true(nested, scope).unwrap_err().why.contains("inside"), "{nested}");
            assert!(is_true(&"(".repeat(4000), scope).is_err());
            assert!(is_true(&format!("{}true", "!".repeat(3000)), scope).is_err());
            assert!(is_true(&format!("1{} == 1", "+1".repeat(2000)), scope).is_err());
            for (open, repeated, close) in [
                ("1", "+1", ""),
                ("a", ".b", ""),
                ("", "!", "true"),
                ("", "-", "1"),
                ("", "(", "1"),
                ("", "[", "1"),
                ("", "{1:", "1"),
                ("1", " in 1", ""),
                ("", "true?1:", "2"),
                ("a", "[0]", ""),
                ("a", ".f()", ""),
                ("true", "&&true", ""),
                ("true", "||true", ""),
                ("a", ".?b", ""),
            ] {
                for count in [50, 99, 199, 1000] {
                    let _ = is_true(&format!("{open}{}{close}", repeated.repeat(count)), scope);
                }
            }
            assert!(is_true(&format!("'{}' == ''", "x".repeat(5000)), scope).unwrap_err().why.contains("4096"));
        });
        let inputs = BTreeMap::from([("big".to_owned(), json!(vec![1; ITEMS_MAX + 1]))]);
        let none = BTreeMap::new();
        let scope = Scope::new("m", &inputs, &none);
        assert!(is_true("inputs.big.exists(x, x == 2)", &scope).is_err());
    }
}
