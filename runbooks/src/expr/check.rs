//! Types and presence of everything an expression reads, found before anything runs: what is accepted here has an answer at run time,
//! save for arithmetic beyond 64 bits. The documented subset of CEL is the set of forms this file knows.

#![expect(clippy::wildcard_enum_match_arm, reason = "the language is what is named here; everything else is refused")]

use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, SelectExpr, operators};

use super::calls;
use super::compile::Compiled;
use super::facts::{self, Facts, Truth};
use super::ty::{ObjectTy, Ty};
use crate::codes;
use crate::shape::Presence;
use crate::suggest;

/// A problem of an expression, placed by bytes of its text.
#[derive(Debug)]
pub(crate) struct Finding {
    pub code: &'static str,
    pub from: usize,
    pub to: usize,
    pub message: String,
    pub help: Option<String>,
}

/// A step as an expression sees it.
pub(crate) enum Seen {
    /// It exists and has ended when the expression is read.
    Ended(Ty),
    /// It exists, but nothing says that it ends first.
    NotBefore,
    /// The step whose expression this is.
    Itself,
    /// It ends too late; with why.
    NotYet(&'static str),
    /// There is none; with what to do.
    Unknown(Option<String>),
    /// Its name was refused already.
    Reported,
}

/// What names mean for one expression.
pub(crate) trait World {
    /// Type of `mode`.
    fn mode(&self) -> Ty;
    /// Type of `inputs`.
    fn inputs(&self) -> Ty;
    /// Type of `item`, where there is one.
    fn item(&self) -> Option<Ty> {
        None
    }
    /// Type of `outputs`, where it is what a step gave that is taken back.
    fn outputs(&self) -> Option<Ty> {
        None
    }
    /// A step by name.
    fn step(&self, name: &str) -> Seen;
}

/// Infers the type of a whole expression. `known` are the facts that hold before it is read.
pub(crate) fn infer(compiled: &Compiled, text: &str, world: &dyn World, known: &Facts) -> (Ty, Vec<Finding>) {
    let mut checker = Checker { compiled, text, world, variables: Vec::new(), findings: Vec::new() };
    let ty = checker.infer(compiled.program.expression(), known);
    (ty, checker.findings)
}

/// States that a step can have in this world, for facts.
pub(crate) fn states_of(world: &dyn World, name: &str) -> Option<Vec<String>> {
    let Seen::Ended(Ty::Object(step)) = world.step(name) else { return None };
    match step.fields.get("state") {
        Some((Ty::Text(Some(words)), _)) => Some(words.to_vec()),
        _ => None,
    }
}

pub(super) struct Checker<'a> {
    compiled: &'a Compiled,
    text: &'a str,
    world: &'a dyn World,
    variables: Vec<(String, Ty)>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    pub(super) fn infer(&mut self, expr: &IdedExpr, known: &Facts) -> Ty {
        crate::work::spend(1);
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => self.select(expr, select, known),
            Expr::Call(call) => self.call(expr, call, known),
            Expr::List(list) => self.list(expr, list, known),
            Expr::Map(map) => self.map(map, known),
            Expr::Comprehension(parts) => self.comprehension(expr, parts, known),
            Expr::Struct(_) | Expr::Unspecified => self.outside(expr, "this form", None),
        }
    }

    fn literal(&mut self, expr: &IdedExpr, literal: &LiteralValue) -> Ty {
        match literal {
            LiteralValue::Boolean(_) => Ty::Bool,
            LiteralValue::Double(_) => Ty::Double,
            LiteralValue::Int(_) => Ty::Int,
            LiteralValue::Null => Ty::Null,
            LiteralValue::String(text) => Ty::word(text.inner()),
            LiteralValue::UInt(_) => self.outside(expr, "an unsigned number", Some("leave the `u` away")),
            LiteralValue::Bytes(_) => self.outside(expr, "a text of bytes", Some("leave the `b` away")),
        }
    }

    /// Whether nothing has this name.
    pub(super) fn is_unknown(&self, name: &str) -> bool {
        let known = match name {
            "mode" | "inputs" | "steps" => true,
            "item" | "index" => self.world.item().is_some(),
            "outputs" => self.world.outputs().is_some(),
            _ => false,
        };
        !known && !self.variables.iter().any(|(variable, _)| variable == name)
    }

    /// The names that stand for something here.
    fn known_names(&self) -> Vec<&'static str> {
        ["mode", "inputs", "steps", "item", "index", "outputs"].into_iter().filter(|name| !self.is_unknown(name)).collect()
    }

    fn name(&mut self, expr: &IdedExpr, name: &str) -> Ty {
        if let Some((_, ty)) = self.variables.iter().rev().find(|(variable, _)| variable == name) {
            return ty.clone();
        }
        match name {
            "mode" => self.world.mode(),
            "inputs" => self.world.inputs(),
            "steps" => Ty::Steps,
            "item" | "index" => match self.world.item() {
                Some(item) if name == "item" => item,
                Some(_) => Ty::Int,
                None => {
                    let help = "it is known in `if`, `with` and `assert` of a step with `for_each`".to_owned();
                    self.report(codes::UNKNOWN_NAME, expr, format!("there is no `{name}` here"), Some(help))
                }
            },
            "outputs" => self.world.outputs().unwrap_or_else(|| {
                let help = "write steps.<id>.outputs; only a written `undo` has `outputs` of its own".to_owned();
                self.report(codes::UNKNOWN_NAME, expr, "there is no `outputs` here".to_owned(), Some(help))
            }),
            _ => {
                let help = match self.world.inputs() {
                    Ty::Object(inputs) if inputs.fields.contains_key(name) => Some(format!("write inputs.{name}")),
                    _ => suggest::instead(name, &self.known_names()),
                };
                let help = if matches!(name, "true" | "false") {
                    help
                } else {
                    help.map(|help| format!("{help} (a text stands in quotes: {name:?})"))
                };
                self.report(codes::UNKNOWN_NAME, expr, format!("there is no `{name}`"), help)
            }
        }
    }

    fn select(&mut self, expr: &IdedExpr, select: &SelectExpr, known: &Facts) -> Ty {
        let operand = self.infer(&select.operand, known);
        if select.test {
            return self.has(expr, select, &operand, known);
        }
        self.field(expr, &operand, &select.operand, &select.field, known)
    }

    /// `operand.field`, or `operand["field"]`.
    pub(super) fn field(&mut self, expr: &IdedExpr, operand: &Ty, operand_expr: &IdedExpr, field: &str, known: &Facts) -> Ty {
        match operand {
            Ty::Steps => self.step(expr, field),
            Ty::Object(object) => {
                let Some((ty, presence)) = self.member(expr, object, operand_expr, field) else { return Ty::Reported };
                let present = presence == Presence::Required
                    || facts::path(operand_expr).is_some_and(|path| known.contains(&facts::join(&path, field)));
                if present { ty } else { self.absent(expr, operand_expr, field) }
            }
            Ty::Optional(inner) => match &**inner {
                Ty::Object(object) => match self.member(expr, object, operand_expr, field) {
                    Some((ty, _)) => Ty::Optional(Arc::new(ty)),
                    None => Ty::Reported,
                },
                _ => self.no_fields(expr, inner, field),
            },
            Ty::Reported | Ty::Never => Ty::Reported,
            Ty::Any | Ty::Null | Ty::Bool | Ty::Int | Ty::Double | Ty::Text(_) | Ty::Period | Ty::Length | Ty::List(_) => {
                self.no_fields(expr, operand, field)
            }
        }
    }

    fn no_fields(&mut self, expr: &IdedExpr, operand: &Ty, field: &str) -> Ty {
        let help = matches!(operand, Ty::Any).then(|| format!("write .?{field}.orValue(...)"));
        self.report(codes::EXPRESSION_TYPES, expr, format!("`{field}` cannot be read here: what is before it is {}", operand.words()), help)
    }

    /// A known field of an object, or one that may be among the others.
    pub(super) fn member(&mut self, expr: &IdedExpr, object: &ObjectTy, operand: &IdedExpr, field: &str) -> Option<(Ty, Presence)> {
        if let Some((ty, presence)) = object.fields.get(field) {
            return Some((ty.clone(), *presence));
        }
        if let Some(rest) = &object.rest {
            return Some((rest.clone(), Presence::Optional));
        }
        let names: Vec<&str> = object.fields.keys().map(String::as_str).collect();
        let owner = facts::path(operand).map_or_else(|| "this".to_owned(), |path| format!("`{path}`"));
        let what = if owner == "`inputs`" { format!("the runbook has no input `{field}`") } else { format!("{owner} has no `{field}`") };
        self.report(codes::UNKNOWN_NAME, expr, what, suggest::instead(field, &names));
        None
    }

    fn absent(&mut self, expr: &IdedExpr, operand: &IdedExpr, field: &str) -> Ty {
        let path = facts::path(operand);
        let whole = path.as_deref().map_or_else(|| format!("`{field}`"), |path| format!("`{}`", facts::join(path, field)));
        let help = match path.as_deref() {
            Some(path) if field == "outputs" => {
                format!(
                    "it is absent where the step was skipped: test has({path}.outputs) && ..., or read {path}.?outputs.?name.orValue(...)"
                )
            }
            Some(path) => format!("test has({}) && ..., or read {path}.?{field}.orValue(...)", facts::join(path, field)),
            None => format!("read .?{field}.orValue(...)"),
        };
        self.report(codes::MAY_BE_ABSENT, expr, format!("{whole} may be absent"), Some(help))
    }

    fn has(&mut self, expr: &IdedExpr, select: &SelectExpr, operand: &Ty, _: &Facts) -> Ty {
        match operand {
            Ty::Object(object) => {
                self.member(expr, object, &select.operand, &select.field);
                Ty::Bool
            }
            Ty::Optional(inner) => match &**inner {
                Ty::Object(object) => {
                    self.member(expr, object, &select.operand, &select.field);
                    Ty::Bool
                }
                _ => self.no_fields(expr, inner, &select.field),
            },
            Ty::Steps => {
                self.step(expr, &select.field);
                let help = format!("test has(steps.{0}.outputs), or compare steps.{0}.state", select.field);
                self.report(codes::NOT_IN_SUBSET, expr, "a step is always there".to_owned(), Some(help))
            }
            Ty::Reported | Ty::Never => Ty::Bool,
            Ty::Any | Ty::Null | Ty::Bool | Ty::Int | Ty::Double | Ty::Text(_) | Ty::Period | Ty::Length | Ty::List(_) => {
                self.no_fields(expr, operand, &select.field)
            }
        }
    }

    pub(super) fn step(&mut self, expr: &IdedExpr, name: &str) -> Ty {
        match self.world.step(name) {
            Seen::Ended(ty) => ty,
            Seen::Reported => Ty::Reported,
            Seen::NotBefore => {
                let help = format!("add `{name}` to `needs`, here or in a step that this one needs");
                self.report(
                    codes::NOT_AN_ANCESTOR,
                    expr,
                    format!("nothing says that the step `{name}` has ended when this is read"),
                    Some(help),
                )
            }
            Seen::NotYet(why) => {
                let message = format!("the step `{name}` has not ended when this is read");
                self.report(codes::NOT_AN_ANCESTOR, expr, message, Some(why.to_owned()))
            }
            Seen::Itself => {
                let help = match self.world.outputs() {
                    Some(_) => "what it gave is `outputs` here",
                    None => "only `assert` may read the step's own outputs",
                };
                let help = Some(help.to_owned());
                self.report(codes::NOT_AN_ANCESTOR, expr, format!("the step `{name}` cannot read itself"), help)
            }
            Seen::Unknown(help) => self.report(codes::UNKNOWN_STEP, expr, format!("there is no step `{name}`"), help),
        }
    }

    fn list(&mut self, expr: &IdedExpr, list: &ListExpr, known: &Facts) -> Ty {
        if !list.optional_indices.is_empty() {
            return self.outside(expr, "an optional item of a list", None);
        }
        let mut items = Ty::Never;
        for element in &list.elements {
            let ty = self.infer(element, known);
            let ty = self.value(element, ty);
            items = items.join(&ty).unwrap_or(Ty::Any);
        }
        Ty::List(Arc::new(items))
    }

    fn map(&mut self, map: &MapExpr, known: &Facts) -> Ty {
        let mut object = ObjectTy::default();
        for entry in &map.entries {
            let EntryExpr::MapEntry(pair) = &entry.expr else { return Ty::Reported };
            if pair.optional {
                return self.outside(&pair.key, "an optional entry", None);
            }
            let ty = self.infer(&pair.value, known);
            let ty = self.value(&pair.value, ty);
            match facts::text(&pair.key) {
                None => {
                    self.outside(&pair.key, "a key that is not a text in quotes", None);
                }
                // The evaluator refuses a key that stands twice.
                Some(key) if object.fields.contains_key(key) => {
                    self.report(
                        codes::DUPLICATE_KEY,
                        &pair.key,
                        format!("the key {key:?} stands twice"),
                        Some("keep one of them".to_owned()),
                    );
                }
                Some(key) => {
                    object.fields.insert(key.to_owned(), (ty, Presence::Required));
                }
            }
        }
        Ty::Object(Arc::new(object))
    }

    /// A type that can be stored: not `steps`, not a value that may be absent.
    fn value(&mut self, expr: &IdedExpr, ty: Ty) -> Ty {
        match ty {
            Ty::Optional(_) => self.report(
                codes::MAY_BE_ABSENT,
                expr,
                "this may be absent".to_owned(),
                Some("give a default with .orValue(...)".to_owned()),
            ),
            Ty::Steps => self.report(
                codes::NOT_IN_SUBSET,
                expr,
                "`steps` cannot be used as a whole".to_owned(),
                Some("name a step: steps.<id>".to_owned()),
            ),
            other => other,
        }
    }

    fn comprehension(&mut self, expr: &IdedExpr, parts: &ComprehensionExpr, known: &Facts) -> Ty {
        let range = self.infer(&parts.iter_range, known);
        let item = match &range {
            Ty::List(item) => (**item).clone(),
            Ty::Object(_) => Ty::Text(None),
            Ty::Reported => Ty::Reported,
            other => {
                let help = matches!(other, Ty::Optional(_)).then(|| "give a default with .orValue([])".to_owned());
                let message = format!("this goes through {}, and only lists and objects can be gone through", other.words());
                self.report(codes::EXPRESSION_TYPES, &parts.iter_range, message, help)
            }
        };
        let taken = matches!(parts.iter_var.as_str(), "mode" | "inputs" | "steps" | "@result");
        if taken || parts.iter_var2.is_some() {
            return self.report(
                codes::NOT_IN_SUBSET,
                expr,
                format!("`{}` cannot be the name of an item", parts.iter_var),
                Some("take another name, for example x".to_owned()),
            );
        }
        // Facts about an outer thing of the same name would be wrong inside.
        let prefix = format!("{}.", parts.iter_var);
        let inside: Facts = known.iter().filter(|fact| !fact.starts_with(&prefix)).cloned().collect();
        self.variables.push((parts.iter_var.clone(), item.clone()));
        let ty = self.fold(expr, parts, item, &inside);
        self.variables.pop();
        ty
    }

    /// The macros differ in what they fold; anything else was not written by a macro.
    fn fold(&mut self, expr: &IdedExpr, parts: &ComprehensionExpr, item: Ty, known: &Facts) -> Ty {
        let Expr::Call(step) = &parts.loop_step.expr else { return self.outside(expr, "this form", None) };
        match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [_, body]) => {
                self.truth(body, known);
                Ty::Bool
            }
            (operators::ADD, [_, body]) => match &body.expr {
                Expr::List(list) => self.list(body, list, known),
                _ => self.outside(expr, "this form", None),
            },
            (operators::CONDITIONAL, [condition, taken, _]) => {
                self.truth(condition, known);
                let mut inside = known.clone();
                self.learn(condition, Truth::True, &mut inside);
                match &taken.expr {
                    Expr::Call(call) if call.func_name == operators::ADD => match call.args.as_slice() {
                        [_, IdedExpr { expr: Expr::List(list), .. }] => match list.elements.as_slice() {
                            [IdedExpr { expr: Expr::Ident(name), .. }] if *name == parts.iter_var => Ty::List(Arc::new(item)),
                            _ => self.list(taken, list, &inside),
                        },
                        _ => Ty::Bool,
                    },
                    _ => self.outside(expr, "this form", None),
                }
            }
            _ => self.outside(expr, "this form", None),
        }
    }

    /// Checks a condition.
    pub(super) fn truth(&mut self, expr: &IdedExpr, known: &Facts) {
        let ty = self.infer(expr, known);
        if !matches!(ty, Ty::Bool) && !ty.is_settled() {
            let help = match &ty {
                Ty::Optional(_) => Some("give a default with .orValue(false)".to_owned()),
                Ty::Any => Some("compare it: ... == true".to_owned()),
                _ => None,
            };
            self.report(codes::EXPRESSION_TYPES, expr, format!("true or false is wanted here, and this is {}", ty.words()), help);
        }
    }

    pub(super) fn learn(&self, condition: &IdedExpr, truth: Truth, facts: &mut Facts) {
        facts::proven(condition, truth, &|name| states_of(self.world, name), facts);
    }

    fn call(&mut self, expr: &IdedExpr, call: &CallExpr, known: &Facts) -> Ty {
        calls::call(self, expr, call, known)
    }

    pub(super) fn outside(&mut self, expr: &IdedExpr, what: &str, help: Option<&str>) -> Ty {
        self.report(codes::NOT_IN_SUBSET, expr, format!("{what} is not part of the language"), help.map(str::to_owned))
    }

    pub(super) fn report(&mut self, code: &'static str, expr: &IdedExpr, message: String, help: Option<String>) -> Ty {
        let (from, to) = self.place(expr);
        self.findings.push(Finding { code, from, to, message, help });
        Ty::Reported
    }

    /// The word that a problem is about: the evaluator gives the dot of a selection and the sign of an operator.
    fn place(&self, expr: &IdedExpr) -> (usize, usize) {
        let start = self.compiled.program.source_info().offset_for(expr.id).map_or(0, |(start, _)| start as usize).min(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        let word = |from: usize| {
            let rest = self.text.get(from..).unwrap_or_default();
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (from, from + length.max(rest.chars().next().map_or(0, char::len_utf8)))
        };
        if let Some(after) = rest.strip_prefix('.') {
            let skipped = after.trim_start_matches(['?', ' ', '\n', '\t']);
            return word(self.text.len() - skipped.len());
        }
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let length = rest[1..].find(quote).map_or(rest.len(), |end| end + 2);
            return (start, start + length);
        }
        word(start)
    }
}
