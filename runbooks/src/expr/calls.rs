//! Operators and functions of expressions: what they take and what they give. Names, fields and presence are in `check`.

#![expect(clippy::wildcard_enum_match_arm, reason = "the language is what is named here; everything else is refused")]

use std::sync::Arc;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::{Context, Value as CelValue};

use super::check::Checker;
use super::compile;
use super::facts::{self, Facts, Truth};
use super::ty::Ty;
use crate::codes;
use crate::duration::Period;
use crate::suggest;

/// Functions that people may use, for "did you mean".
const FUNCTIONS: [&str; 16] = [
    "size",
    "has",
    "string",
    "double",
    "duration",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "orValue",
    "hasValue",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
];

/// Type of a call.
pub(super) fn call(checker: &mut Checker<'_>, expr: &IdedExpr, call: &CallExpr, known: &Facts) -> Ty {
    if let Some(target) = &call.target {
        return method(checker, expr, call, target, known);
    }
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::LOGICAL_AND, [left, right]) => logical(checker, left, right, Truth::True, known),
        (operators::LOGICAL_OR, [left, right]) => logical(checker, left, right, Truth::False, known),
        (operators::LOGICAL_NOT, [inner]) => {
            checker.truth(inner, known);
            Ty::Bool
        }
        (operators::CONDITIONAL, [condition, yes, no]) => conditional(checker, expr, condition, [yes, no], known),
        (operators::EQUALS | operators::NOT_EQUALS, [left, right]) => equal(checker, expr, left, right, known),
        (operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS, [left, right]) => {
            order(checker, expr, left, right, known)
        }
        (operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [left, right]) => {
            arithmetic(checker, expr, &call.func_name, left, right, known)
        }
        (operators::NEGATE, [inner]) => match checker.infer(inner, known) {
            ty if ty.is_number() || ty.is_settled() => ty,
            ty => checker.report(codes::EXPRESSION_TYPES, expr, format!("`-` needs a number, and this is {}", ty.words()), None),
        },
        (operators::IN, [item, container]) => contained(checker, expr, item, container, known),
        (operators::INDEX, [container, key]) => index(checker, expr, container, key, known),
        (operators::OPT_INDEX | operators::OPT_SELECT, [container, key]) => optional(checker, expr, container, key, known),
        (name, arguments) => function(checker, expr, name, arguments, known),
    }
}

fn logical(checker: &mut Checker<'_>, left: &IdedExpr, right: &IdedExpr, goes_on: Truth, known: &Facts) -> Ty {
    checker.truth(left, known);
    let mut facts = known.clone();
    checker.learn(left, goes_on, &mut facts);
    checker.truth(right, &facts);
    Ty::Bool
}

fn conditional(checker: &mut Checker<'_>, expr: &IdedExpr, condition: &IdedExpr, branches: [&IdedExpr; 2], known: &Facts) -> Ty {
    checker.truth(condition, known);
    let mut types = Vec::new();
    for (branch, truth) in branches.into_iter().zip([Truth::True, Truth::False]) {
        let mut facts = known.clone();
        checker.learn(condition, truth, &mut facts);
        types.push(checker.infer(branch, &facts));
    }
    types[0].join(&types[1]).unwrap_or_else(|| {
        let message = format!("the two answers of `?:` do not go together: one is {}, the other {}", types[0].words(), types[1].words());
        checker.report(codes::EXPRESSION_TYPES, expr, message, None)
    })
}

fn equal(checker: &mut Checker<'_>, expr: &IdedExpr, left: &IdedExpr, right: &IdedExpr, known: &Facts) -> Ty {
    let (a, b) = (checker.infer(left, known), checker.infer(right, known));
    let mut wrong = |code, message: String, help: Option<String>| checker.report(code, expr, message, help);
    match (&a, &b) {
        (a, b) if a.is_settled() || b.is_settled() => {}
        (Ty::Null, _) | (_, Ty::Null) => {
            wrong(
                codes::NEVER_EQUAL,
                "nothing is ever null here: what has no value is absent".to_owned(),
                Some("test has(...), or give a default with .orValue(...)".to_owned()),
            );
        }
        (Ty::Optional(_), _) | (_, Ty::Optional(_)) => {
            wrong(
                codes::MAY_BE_ABSENT,
                "this compares with a value that may be absent".to_owned(),
                Some("give it a default with .orValue(...)".to_owned()),
            );
        }
        (Ty::Steps, _) | (_, Ty::Steps) => {
            wrong(codes::NOT_IN_SUBSET, "`steps` cannot be used as a whole".to_owned(), Some("name a step: steps.<id>".to_owned()));
        }
        (Ty::Any, _) | (_, Ty::Any) => {}
        (Ty::Text(Some(a)), Ty::Text(Some(b))) => {
            if !a.iter().any(|word| b.contains(word)) {
                let (values, word) = if a.len() >= b.len() { (a, &b[0]) } else { (b, &a[0]) };
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                wrong(codes::NEVER_EQUAL, format!("this is never {word:?}"), suggest::instead(word, &values));
            }
        }
        (Ty::Period | Ty::Length, other) | (other, Ty::Period | Ty::Length) if !matches!((&a, &b), (Ty::Length, Ty::Length)) => {
            let message = format!(
                "lengths of time compare as durations, and one side is {}",
                if matches!(other, Ty::Length) { "a text" } else { other.words() }
            );
            wrong(codes::EXPRESSION_TYPES, message, Some("wrap both sides in duration(...)".to_owned()));
        }
        (a, b)
            if (a.is_number() && b.is_number())
                || (a.is_text() && b.is_text())
                || std::mem::discriminant(a) == std::mem::discriminant(b) => {}
        (a, b) => {
            let message = format!("these are never equal: the left is {}, the right {}", a.words(), b.words());
            wrong(codes::EXPRESSION_TYPES, message, quoting(a, b));
        }
    }
    Ty::Bool
}

fn order(checker: &mut Checker<'_>, expr: &IdedExpr, left: &IdedExpr, right: &IdedExpr, known: &Facts) -> Ty {
    let (a, b) = (checker.infer(left, known), checker.infer(right, known));
    let fits = match (&a, &b) {
        (a, b) if a.is_settled() || b.is_settled() => true,
        (Ty::Length, Ty::Length) | (Ty::Text(_), Ty::Text(_)) => true,
        (a, b) => a.is_number() && b.is_number(),
    };
    if !fits {
        let help = match (&a, &b) {
            (Ty::Period | Ty::Length, _) | (_, Ty::Period | Ty::Length) => Some("wrap both sides in duration(...)".to_owned()),
            (Ty::Optional(_), _) | (_, Ty::Optional(_)) => Some("give a default with .orValue(...)".to_owned()),
            (a, b) => quoting(a, b),
        };
        let message = format!("these have no order: the left is {}, the right {}", a.words(), b.words());
        checker.report(codes::EXPRESSION_TYPES, expr, message, help);
    }
    Ty::Bool
}

fn quoting(a: &Ty, b: &Ty) -> Option<String> {
    match (a, b) {
        (Ty::Text(Some(words)), other) | (other, Ty::Text(Some(words)))
            if other.is_number() && words.iter().all(|word| word.parse::<f64>().is_ok()) =>
        {
            Some("leave the quotes of the number away".to_owned())
        }
        (Ty::Text(Some(words)), Ty::Bool) | (Ty::Bool, Ty::Text(Some(words)))
            if words.iter().all(|word| word == "true" || word == "false") =>
        {
            Some("leave the quotes away".to_owned())
        }
        _ => None,
    }
}

fn arithmetic(checker: &mut Checker<'_>, expr: &IdedExpr, operator: &str, left: &IdedExpr, right: &IdedExpr, known: &Facts) -> Ty {
    let sign = operator.trim_matches('_');
    if let (operators::SUBSTRACT, Some(step), Some(rest)) = (operator, facts::path(left), facts::path(right))
        && let Some(step) = step.strip_prefix("steps.").filter(|step| !step.contains('.'))
        && let Some(rest) = rest.split('.').next().filter(|rest| checker.is_unknown(rest))
    {
        let message = format!("`steps.{step}-{rest}` is read as a subtraction");
        return checker.report(
            codes::QUOTE_IT,
            expr,
            message,
            Some(format!("step ids have `_` where others have `-`: steps.{step}_{rest}")),
        );
    }
    let (a, b) = (checker.infer(left, known), checker.infer(right, known));
    if matches!(operator, operators::DIVIDE | operators::MODULO) && (a.is_number() && b.is_number()) && !is_nonzero(right) {
        let message = format!("what stands after `{sign}` must be a number that is written out and is not zero");
        return checker.report(codes::NOT_IN_SUBSET, right, message, None);
    }
    match (&a, &b, operator) {
        (a, b, _) if a.is_settled() || b.is_settled() => Ty::Reported,
        (Ty::Int, Ty::Int, _) => Ty::Int,
        (Ty::Double, Ty::Double, operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE) => Ty::Double,
        (a, b, operators::ADD) if a.is_text() && b.is_text() => Ty::Text(None),
        (Ty::List(a), Ty::List(b), operators::ADD) => Ty::List(Arc::new(a.join(b).unwrap_or(Ty::Any))),
        (a, b, _) => {
            let help = match (a, b) {
                (Ty::Int, Ty::Double) | (Ty::Double, Ty::Int) => Some("wrap the whole number in double(...)".to_owned()),
                (a, b) if a.is_text() != b.is_text() && operator == operators::ADD => {
                    Some("wrap the one that is no text in string(...)".to_owned())
                }
                _ => None,
            };
            let message = format!("`{sign}` does not go with these: the left is {}, the right {}", a.words(), b.words());
            checker.report(codes::EXPRESSION_TYPES, expr, message, help)
        }
    }
}

fn is_nonzero(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Literal(LiteralValue::Int(whole)) => *whole.inner() != 0,
        Expr::Literal(LiteralValue::Double(real)) => *real.inner() != 0.0,
        _ => false,
    }
}

fn contained(checker: &mut Checker<'_>, expr: &IdedExpr, item: &IdedExpr, container: &IdedExpr, known: &Facts) -> Ty {
    let (ty, container_ty) = (checker.infer(item, known), checker.infer(container, known));
    match (&ty, &container_ty) {
        (ty, container) if ty.is_settled() || container.is_settled() => {}
        (Ty::Optional(_) | Ty::Steps, _) => {
            checker.report(
                codes::MAY_BE_ABSENT,
                item,
                "this may be absent".to_owned(),
                Some("give a default with .orValue(...)".to_owned()),
            );
        }
        (Ty::Text(Some(words)), Ty::List(items)) => {
            if let Ty::Text(Some(known)) = &**items {
                if !words.iter().any(|word| known.contains(word)) {
                    let (values, word) = if words.len() > known.len() { (words, &known[0]) } else { (known, &words[0]) };
                    let message = if words.len() > known.len() {
                        format!("what stands before `in` is never {word:?}")
                    } else {
                        format!("{word:?} is never in this list")
                    };
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    checker.report(codes::NEVER_EQUAL, expr, message, suggest::instead(word, &values));
                }
            } else if !items.is_text() && !matches!(**items, Ty::Any | Ty::Never | Ty::Reported) {
                checker.report(codes::NEVER_EQUAL, expr, format!("a text is never in this list: each item is {}", items.words()), None);
            }
        }
        (ty, Ty::List(items)) => {
            let alike = matches!(ty, Ty::Any)
                || matches!(**items, Ty::Any | Ty::Never | Ty::Reported)
                || (ty.is_number() && items.is_number())
                || (ty.is_text() && items.is_text());
            if !alike && std::mem::discriminant(ty) != std::mem::discriminant(&**items) {
                let message = format!("{} is never in this list: each item is {}", ty.words(), items.words());
                checker.report(codes::NEVER_EQUAL, expr, message, None);
            }
        }
        (ty, Ty::Object(_)) if ty.is_text() => {}
        (_, container) => {
            let message = format!("`in` needs a list, or a text and an object, and the right is {}", container.words());
            checker.report(codes::EXPRESSION_TYPES, expr, message, None);
        }
    }
    Ty::Bool
}

fn index(checker: &mut Checker<'_>, expr: &IdedExpr, container: &IdedExpr, key: &IdedExpr, known: &Facts) -> Ty {
    let ty = checker.infer(container, known);
    if let Some(field) = facts::text(key) {
        return checker.field(expr, &ty, container, field, known);
    }
    let key_ty = checker.infer(key, known);
    match ty {
        Ty::Reported | Ty::Never => Ty::Reported,
        _ if key_ty.is_settled() => Ty::Reported,
        Ty::Steps => checker.report(codes::NOT_IN_SUBSET, expr, "a step is chosen by its name in quotes".to_owned(), None),
        _ => {
            let written = facts::path(container).unwrap_or_else(|| "...".to_owned());
            let help = format!("write {written}[?...].orValue(...)");
            checker.report(codes::MAY_BE_ABSENT, expr, "there may be no such item".to_owned(), Some(help))
        }
    }
}

/// `a.?b`, `a[?b]`.
fn optional(checker: &mut Checker<'_>, expr: &IdedExpr, container: &IdedExpr, key: &IdedExpr, known: &Facts) -> Ty {
    let ty = checker.infer(container, known);
    let inner = match &ty {
        Ty::Optional(inner) => (**inner).clone(),
        other => other.clone(),
    };
    if let (Ty::Object(object), Some(field)) = (&inner, facts::text(key)) {
        return match checker.member(expr, object, container, field) {
            Some((ty, _)) => Ty::Optional(Arc::new(ty)),
            None => Ty::Reported,
        };
    }
    let key_ty = checker.infer(key, known);
    let found = match (&inner, &key_ty) {
        (inner, key) if inner.is_settled() || key.is_settled() => return Ty::Reported,
        (Ty::Steps, _) => return checker.report(codes::NOT_IN_SUBSET, expr, "a step is chosen by its name: steps.<id>".to_owned(), None),
        (Ty::Any, _) => Ty::Any,
        (Ty::List(items), Ty::Int) => (**items).clone(),
        (Ty::Object(object), key) if key.is_text() => {
            let all = object.fields.values().map(|(ty, _)| ty).chain(&object.rest);
            all.fold(Ty::Never, |all, ty| all.join(ty).unwrap_or(Ty::Any))
        }
        (inner, key) => {
            let message = format!("{} cannot be read with {}", inner.words(), key.words());
            return checker.report(codes::EXPRESSION_TYPES, expr, message, None);
        }
    };
    Ty::Optional(Arc::new(found))
}

fn function(checker: &mut Checker<'_>, expr: &IdedExpr, name: &str, arguments: &[IdedExpr], known: &Facts) -> Ty {
    let types: Vec<Ty> = arguments.iter().map(|argument| checker.infer(argument, known)).collect();
    let [ty] = types.as_slice() else { return unknown(checker, expr, name, types.len()) };
    if ty.is_settled() && FUNCTIONS.contains(&name) {
        return Ty::Reported;
    }
    match (name, ty) {
        ("size", ty) if ty.is_text() || matches!(ty, Ty::List(_) | Ty::Object(_)) => Ty::Int,
        ("string", ty) if ty.is_text() => ty.clone(),
        ("string", Ty::Length) => Ty::Period,
        ("string", Ty::Bool | Ty::Int | Ty::Double) => Ty::Text(None),
        ("double", Ty::Int | Ty::Double) => Ty::Double,
        ("duration", Ty::Period) => Ty::Length,
        ("duration", Ty::Text(Some(words))) => match words.iter().find_map(|word| Period::parse(word).err()) {
            None => Ty::Length,
            Some(why) => {
                let (why, help) = why.split_once("; ").unwrap_or((&why, ""));
                checker.report(codes::BAD_DURATION, &arguments[0], why.to_owned(), Some(help.to_owned()))
            }
        },
        ("duration", Ty::Text(None)) => checker.report(
            codes::EXPRESSION_TYPES,
            expr,
            "this text may be no length of time".to_owned(),
            Some("declare the input with `type: duration`".to_owned()),
        ),
        ("size" | "string" | "double" | "duration", ty) => {
            let help = matches!(ty, Ty::Optional(_)).then(|| "give a default with .orValue(...)".to_owned());
            checker.report(codes::EXPRESSION_TYPES, expr, format!("`{name}` does not take this: it is {}", ty.words()), help)
        }
        _ => unknown(checker, expr, name, 1),
    }
}

fn unknown(checker: &mut Checker<'_>, expr: &IdedExpr, name: &str, count: usize) -> Ty {
    if matches!(name, "size" | "string" | "double" | "duration") {
        return checker.report(codes::EXPRESSION_TYPES, expr, format!("`{name}` takes one argument, and here are {count}"), None);
    }
    let help = match name {
        "now" | "timestamp" => Some("expressions have no clock: they would give another answer after a crash".to_owned()),
        "int" | "uint" => Some("numbers keep the type they have".to_owned()),
        _ => suggest::instead(name, &FUNCTIONS),
    };
    checker.report(
        codes::NOT_IN_SUBSET,
        expr,
        format!("there is no function `{name}` with {count} argument{}", if count == 1 { "" } else { "s" }),
        help,
    )
}

fn method(checker: &mut Checker<'_>, expr: &IdedExpr, call: &CallExpr, target: &IdedExpr, known: &Facts) -> Ty {
    let name = call.func_name.as_str();
    if matches!(&target.expr, Expr::Ident(name) if name == "optional") {
        return checker.outside(expr, "`optional`", Some("read a thing that may be absent with .?name.orValue(...)"));
    }
    let ty = checker.infer(target, known);
    let types: Vec<Ty> = call.args.iter().map(|argument| checker.infer(argument, known)).collect();
    let wrong = |checker: &mut Checker<'_>, message: String, help: Option<&str>| {
        checker.report(codes::EXPRESSION_TYPES, expr, message, help.map(str::to_owned))
    };
    match (name, types.as_slice()) {
        ("orValue", [default]) => match &ty {
            Ty::Optional(inner) => inner.join(default).filter(|ty| !matches!(ty, Ty::Optional(_) | Ty::Steps)).unwrap_or_else(|| {
                wrong(
                    checker,
                    format!("the default does not go with the value: the value is {}, the default {}", inner.words(), default.words()),
                    None,
                )
            }),
            ty if ty.is_settled() => Ty::Reported,
            _ => wrong(
                checker,
                "this is never absent, so it takes no default".to_owned(),
                Some("write .? where it may be absent, or remove .orValue(...)"),
            ),
        },
        ("hasValue", []) => match &ty {
            Ty::Optional(_) => Ty::Bool,
            ty if ty.is_settled() => Ty::Bool,
            _ => wrong(checker, "this is never absent".to_owned(), Some("remove .hasValue()")),
        },
        ("size", []) => match &ty {
            ty if ty.is_text() || ty.is_settled() => Ty::Int,
            Ty::List(_) | Ty::Object(_) => Ty::Int,
            ty => wrong(checker, format!("`size` does not take this: it is {}", ty.words()), None),
        },
        ("contains" | "startsWith" | "endsWith" | "matches", [argument]) => {
            if [&ty, argument].into_iter().all(|ty| ty.is_text() || ty.is_settled()) {
                if name == "matches" && !ty.is_settled() && !argument.is_settled() {
                    pattern(checker, &call.args[0]);
                }
            } else {
                wrong(checker, format!("`{name}` goes with texts, and here are {} and {}", ty.words(), argument.words()), None);
            }
            Ty::Bool
        }
        ("value", []) => checker.outside(expr, "`value`", Some("give a default with .orValue(...)")),
        ("orValue" | "hasValue" | "size" | "contains" | "startsWith" | "endsWith" | "matches", _) => {
            wrong(checker, format!("`{name}` has {} arguments here", types.len()), None)
        }
        _ => unknown(checker, expr, name, types.len()),
    }
}

/// A pattern must be written out and be one, so that it cannot fail later.
fn pattern(checker: &mut Checker<'_>, argument: &IdedExpr) {
    let Some(text) = facts::text(argument) else {
        checker.report(codes::NOT_IN_SUBSET, argument, "a pattern must be written out in quotes".to_owned(), None);
        return;
    };
    let mut context = Context::with_env(compile::environment());
    context.add_variable_as_val("pattern", Box::new(cel::common::types::CelString::from(text)));
    let tried = compile::compile("''.matches(pattern)").map(|compiled| CelValue::resolve(compiled.program.expression(), &context).is_ok());
    if !matches!(tried, Ok(true)) {
        checker.report(codes::BAD_FORM, argument, format!("{text:?} is no regular expression"), None);
    }
}
