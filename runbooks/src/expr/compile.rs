//! Text of an expression to its tree, within limits. Nothing is evaluated and no name is looked up here.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};
use cel::common::types::STRING_TYPE;
use cel::{Env, Program};

use super::template::end_of_text;
use super::{BRACKETS_DEPTH_MAX, COMPREHENSIONS_MAX, EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, OPERATORS_MAX, length};

/// A parsed expression.
pub(crate) struct Compiled {
    /// Tree and positions.
    pub program: Program,
    /// What it reads.
    pub reads: Reads,
}

/// What expressions read of the names around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Steps.
    pub steps: Named,
    /// Inputs.
    pub inputs: Named,
    /// `mode`, `item`, `index` or `outputs`, by name. Variables of the same name are counted too.
    pub bare: BTreeSet<&'static str>,
}

/// Which of several things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Those with these names.
    These(BTreeSet<String>),
    /// All of them: something else than a name chooses.
    All,
}

impl Default for Named {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Named {
    /// Whether none is read.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The names; none where all are read.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::These(names) => Some(names),
            Self::All => None,
        };
        names.into_iter().flatten().map(String::as_str)
    }

    fn add(&mut self, name: &str) {
        match self {
            Self::These(names) => {
                names.insert(name.to_owned());
            }
            Self::All => {}
        }
    }

    fn merge(&mut self, other: &Self) {
        match other {
            Self::These(more) => more.iter().for_each(|name| self.add(name)),
            Self::All => *self = Self::All,
        }
    }
}

impl Reads {
    /// Takes up what another expression reads.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.steps.merge(&other.steps);
        self.inputs.merge(&other.inputs);
        self.bare.extend(&other.bare);
    }

    fn of(&mut self, root: &str) -> Option<&mut Named> {
        match root {
            "steps" => Some(&mut self.steps),
            "inputs" => Some(&mut self.inputs),
            _ => None,
        }
    }
}

/// Expressions kept by each thread: the same ones are read at every step of a `for_each`, and parsing one costs more than answering it.
const KEPT_MAX: usize = 1024;

thread_local! {
    static KEPT: RefCell<HashMap<String, Rc<Compiled>>> = RefCell::default();
}

/// Reads an expression, or remembers it.
pub(crate) fn compiled(text: &str) -> Result<Rc<Compiled>, Problem> {
    KEPT.with(|kept| {
        if let Some(known) = kept.borrow().get(text) {
            return Ok(Rc::clone(known));
        }
        let compiled = Rc::new(compile(text)?);
        let mut kept = kept.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(text.to_owned(), Rc::clone(&compiled));
        Ok(compiled)
    })
}

/// Text that is no expression.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Byte in the expression.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    /// What to do, where it is known.
    pub help: Option<&'static str>,
}

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    let added = environment
        .add_overload("duration", "text_to_duration", vec![STRING_TYPE], length::from_text)
        .and_then(|()| environment.add_overload("string", "duration_to_text", vec![length::length_type()], length::to_text));
    assert!(added.is_ok(), "the two functions are declared once: {added:?}");
    Arc::new(environment)
});

/// The functions and types that expressions can use.
pub(crate) fn environment() -> Arc<Env> {
    Arc::clone(&ENVIRONMENT)
}

/// Reads an expression.
pub(crate) fn compile(text: &str) -> Result<Compiled, Problem> {
    let problem = |at: usize, message: String, help: Option<&'static str>| Problem { at: at.min(text.len()), message, help };
    if text.trim().is_empty() {
        return Err(problem(0, "the expression is empty".to_owned(), None));
    }
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(problem(0, format!("the expression has {} bytes; {EXPRESSION_BYTES_MAX} is the most", text.len()), None));
    }
    if let Some((at, message)) = too_deep(text) {
        return Err(problem(at, message, Some("make it simpler, or split it over several steps")));
    }
    let program = ENVIRONMENT.compile(text).map_err(|errors| syntax_problem(text, &errors))?;
    let mut reads = Reads::default();
    if let Err((id, message)) = walk(program.expression(), &mut reads) {
        let at = program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize);
        return Err(problem(at, message, None));
    }
    Ok(Compiled { program, reads })
}

/// The parser recurses for each bracket and for each operator of a chain, so both are counted before it is called.
fn too_deep(text: &str) -> Option<(usize, String)> {
    let bytes = text.as_bytes();
    let (mut operators, mut depth, mut at) = (0_usize, 0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'"' => at = end_of_text(bytes, at).unwrap_or(bytes.len()) - 1,
            b'[' | b'(' | b'{' => (operators, depth) = (operators + 1, depth + 1),
            b']' | b')' | b'}' => depth = depth.saturating_sub(1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'!' | b'?' | b'&' | b'|' | b'=' | b'.' => operators += 1,
            b'i' if bytes[at..].starts_with(b"in") => operators += 1,
            _ => {}
        }
        if operators > OPERATORS_MAX {
            return Some((at, format!("the expression has more than {OPERATORS_MAX} operators")));
        }
        if depth > BRACKETS_DEPTH_MAX {
            return Some((at, format!("the brackets are nested deeper than {BRACKETS_DEPTH_MAX} levels")));
        }
        at += 1;
    }
    None
}

fn syntax_problem(text: &str, errors: &cel::ParseErrors) -> Problem {
    let Some(first) = errors.errors.first() else {
        return Problem { at: 0, message: "this is no expression".to_owned(), help: None };
    };
    let (line, column) = first.pos;
    let line_start: usize = usize::try_from(line - 1).map_or(0, |line| text.split_inclusive('\n').take(line).map(str::len).sum());
    let at = usize::try_from(column - 1).map_or(line_start, |column| line_start + column);
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let help = single_equals(text).then_some("write == to compare");
    let message = first.msg.split(" expecting ").next().unwrap_or_default();
    let message = match message.strip_prefix("Syntax error: ").unwrap_or(message).trim() {
        "mismatched input '<EOF>'" | "no viable alternative at input '<EOF>'" => "it ends too early".to_owned(),
        other => other.replace("'<EOF>'", "the end").replace("<EOF>", "the end"),
    };
    Problem { at, message: format!("this is no expression: {message}"), help }
}

fn single_equals(text: &str) -> bool {
    let bytes = text.as_bytes();
    (0..bytes.len()).any(|at| {
        bytes[at] == b'='
            && bytes.get(at + 1) != Some(&b'=')
            && !at.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(|before| b"=!<>".contains(before))
    })
}

/// One item of work of the walk over the tree.
struct Visit<'e> {
    expr: &'e IdedExpr,
    depth: usize,
    inside_comprehension: bool,
}

/// Counts depth and comprehensions without recursion, refuses what cannot be evaluated, and gathers what is read.
fn walk(root: &IdedExpr, reads: &mut Reads) -> Result<(), (u64, String)> {
    let mut comprehensions = 0;
    let mut todo = vec![Visit { expr: root, depth: 0, inside_comprehension: false }];
    while let Some(Visit { expr, depth, inside_comprehension }) = todo.pop() {
        if depth > EXPRESSION_DEPTH_MAX {
            return Err((expr.id, format!("the expression is nested deeper than {EXPRESSION_DEPTH_MAX} levels")));
        }
        let mut push = |expr, inside_comprehension| todo.push(Visit { expr, depth: depth + 1, inside_comprehension });
        match &expr.expr {
            Expr::Unspecified => return Err((expr.id, "this is no expression".to_owned())),
            Expr::Struct(literal) => {
                return Err((expr.id, format!("there is no type `{}` to make a value of", literal.type_name)));
            }
            Expr::Literal(_) => {}
            Expr::Ident(name) => match name.as_str() {
                "mode" => _ = reads.bare.insert("mode"),
                "item" => _ = reads.bare.insert("item"),
                "index" => _ = reads.bare.insert("index"),
                "outputs" => _ = reads.bare.insert("outputs"),
                other => {
                    if let Some(named) = reads.of(other) {
                        *named = Named::All;
                    }
                }
            },
            Expr::Select(select) => {
                let root = if let Expr::Ident(root) = &select.operand.expr { reads.of(root) } else { None };
                match root {
                    Some(named) => named.add(&select.field),
                    None => push(&select.operand, inside_comprehension),
                }
            }
            Expr::Call(call) => {
                if call.target.is_none()
                    && matches!(call.func_name.as_str(), operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT)
                    && let [container, key] = call.args.as_slice()
                    && let Expr::Ident(root) = &container.expr
                    && let Some(named) = reads.of(root)
                    && let Expr::Literal(cel::common::ast::LiteralValue::String(name)) = &key.expr
                {
                    named.add(name.inner());
                    continue;
                }
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    push(part, inside_comprehension);
                }
            }
            Expr::List(list) => list.elements.iter().for_each(|element| push(element, inside_comprehension)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    match &entry.expr {
                        EntryExpr::MapEntry(pair) => {
                            push(&pair.key, inside_comprehension);
                            push(&pair.value, inside_comprehension);
                        }
                        EntryExpr::StructField(_) => {
                            return Err((entry.id, "this is no map entry".to_owned()));
                        }
                    }
                }
            }
            Expr::Comprehension(comprehension) => {
                comprehensions += 1;
                if inside_comprehension {
                    return Err((expr.id, "one of map, filter, all, exists may not stand inside another".to_owned()));
                }
                if comprehensions > COMPREHENSIONS_MAX {
                    return Err((expr.id, format!("more than {COMPREHENSIONS_MAX} of map, filter, all, exists in one expression")));
                }
                push(&comprehension.iter_range, false);
                push(&comprehension.accu_init, true);
                push(&comprehension.loop_cond, true);
                push(&comprehension.loop_step, true);
                push(&comprehension.result, true);
            }
        }
    }
    Ok(())
}
