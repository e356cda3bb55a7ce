//! Expressions of a file, each typed in the world that it is read in, with problems at their place inside the scalar.

use std::rc::Rc;
use std::sync::Arc;

use super::{Checked, loops};
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::check::{self, Finding, Seen, World};
use crate::expr::facts::{self, Facts, Truth};
use crate::expr::ty::{ObjectTy, Ty};
use crate::expr::{Compiled, Part, Problem, parts, unescape};
use crate::runbook::Written;
use crate::shape::literal::Hole;
use crate::shape::{Kind, Presence, TextRules};
use crate::yaml::{Node, Style};

/// States that a step which had to end first can be in.
const ENDED: [&str; 2] = ["succeeded", "skipped"];

/// States that a step of the main part can be in when `finally` runs.
const ENDED_ANYHOW: [&str; 7] = ["succeeded", "skipped", "failed", "rejected", "not_run", "undone", "undo_failed"];

/// Longest scalar with expressions: to point at a problem in it, it is walked through.
const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// Most texts and expressions in one scalar.
const TEMPLATE_PARTS_MAX: usize = 200;

/// Where an expression stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Read before the items of a `for_each` are known.
    List,
    /// Read before the step starts.
    If,
    /// Read where the `if` is true.
    With,
    /// Read when the step is done.
    Assert,
    /// Read when the step is taken back by what is written in its `undo`.
    Undo,
    /// Read when all steps of the main part are done, for whoever runs this runbook as a child.
    Outputs,
}

/// Checks `if` and `assert` of a step.
pub(crate) fn check(checked: &Checked<'_>, step: usize, problems: &mut Vec<Diagnostic>) {
    let written = checked.graph.steps[step];
    for (site, bare) in written.condition.iter().map(|bare| (Site::If, bare)).chain(written.asserts.iter().map(|bare| (Site::Assert, bare)))
    {
        let Some(ty) = infer(checked, Some(step), site, &bare.node, &bare.text, 0, problems) else { continue };
        if !matches!(ty, Ty::Bool) && !ty.is_settled() {
            let key = if site == Site::If { "if" } else { "assert" };
            let message = format!("`{key}` must be true or false, and this is {}", ty.words());
            let help = if matches!(ty, Ty::Optional(_)) { "give a default with .orValue(false)" } else { "compare it with something" };
            problems.push(Diagnostic::error(codes::ANSWER_TYPE, bare.node.span, message).help(help));
        }
    }
}

/// Types a scalar that holds expressions. What cannot be read was reported.
pub(crate) fn filled(checked: &Checked<'_>, step: Option<usize>, site: Site, node: &Node, problems: &mut Vec<Diagnostic>) -> Ty {
    typed(checked, step, site, node, problems).map_or(Ty::Reported, |typed| typed.ty)
}

struct Typed {
    ty: Ty,
    /// Texts and expressions.
    parts: usize,
}

fn typed(checked: &Checked<'_>, step: Option<usize>, site: Site, node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Typed> {
    let scalar = node.scalar()?;
    let parts = match parts(&scalar.text) {
        Ok(parts) => parts,
        Err(problem) => {
            let span = part_span(checked, node, problem.at, problem.at + 3);
            let cut = cut_by_comment(checked, node);
            let help = if cut { "` #` begins a comment: quote the whole value" } else { "close it, or write $${{ for the text itself" };
            let code = if cut { codes::QUOTE_IT } else { codes::UNCLOSED };
            problems.push(Diagnostic::error(code, span, problem.why).help(help));
            return None;
        }
    };
    if scalar.text.len() > TEMPLATE_BYTES_MAX || parts.len() > TEMPLATE_PARTS_MAX {
        let message = format!("a value with expressions has at most {TEMPLATE_BYTES_MAX} bytes and {TEMPLATE_PARTS_MAX} parts");
        problems.push(Diagnostic::error(codes::LIMIT, node.span, message).help("split it"));
        return None;
    }
    let mut answer = None;
    for part in &parts {
        let Part::Expression { text, start } = part else { continue };
        let Some(ty) = infer(checked, step, site, node, text, *start, problems) else { continue };
        let lone = parts.len() == 1;
        if !lone {
            joinable(checked, node, &ty, *start, text, problems);
        }
        answer = Some(if lone { ty } else { Ty::Text(None) });
    }
    let ty = match answer {
        Some(ty) => ty,
        None if parts.iter().all(|part| matches!(part, Part::Text(_))) => Ty::word(&unescape(&scalar.text)),
        None => return None,
    };
    Some(Typed { ty, parts: parts.len() })
}

/// Checks a value of `with` that holds expressions.
pub(crate) fn hole(checked: &Checked<'_>, step: usize, site: Site, hole: &Hole<'_, '_>, problems: &mut Vec<Diagnostic>) {
    let Some(Typed { ty, parts }) = typed(checked, Some(step), site, hole.node, problems) else { return };
    if let Some(why) = hole.shape.early() {
        early(checked, step, hole.node, &why, problems);
    }
    let text = hole.node.scalar().map_or("", |scalar| scalar.text.as_str());
    if matches!(ty, Ty::Any) && !matches!(hole.shape.kind, Kind::Any) {
        problems.push(undeclared(hole.node.span));
        return;
    }
    let joined = matches!(ty, Ty::Text(None)) && parts > 1;
    if let Err((why, help)) = ty.fit(hole.shape) {
        let help = if joined && matches!(hole.shape.kind, Kind::Duration | Kind::Text(TextRules { one_of: Some(_), .. })) {
            Some("texts joined of parts cannot be checked: let one expression give the whole value".to_owned())
        } else if text.ends_with('\n') && parts > 1 {
            Some("the line break at its end makes it a text: write `>-` or quote it".to_owned())
        } else {
            help
        };
        problems.push(Diagnostic::error(codes::ANSWER_TYPE, hole.node.span, why).maybe_help(help));
    }
}

/// A value that must be known before the run: it may read inputs and mode, and items of a list that is known before the run.
fn early(checked: &Checked<'_>, step: usize, node: &Node, why: &Arc<str>, problems: &mut Vec<Diagnostic>) {
    let Some(scalar) = node.scalar() else { return };
    for part in parts(&scalar.text).iter().flatten() {
        let Part::Expression { text, start } = part else { continue };
        let Ok(compiled) = checked.compile(text) else { continue };
        let span = part_span(checked, node, *start, start + text.len());
        if !compiled.reads.steps.is_none() || compiled.reads.bare.contains("outputs") {
            let message = format!("this cannot be a step's output: {why}");
            problems.push(Diagnostic::error(codes::RESOURCE_FROM_OUTPUT, span, message).help("use an input, the mode, or write the value"));
        } else if compiled.reads.bare.contains("item") && checked.lists_in_run(step) {
            let message = format!("this cannot be an item of a list that is only known in the run: {why}");
            let help = "go through a list that is written out or follows from inputs and mode";
            problems.push(Diagnostic::error(codes::RESOURCE_FROM_OUTPUT, span, message).help(help));
        }
        checked.needs_early(&compiled.reads, why);
        if compiled.reads.bare.contains("item")
            && let Some(list) = checked.graph.steps[step].for_each.as_ref().and_then(|each| each.list.as_ref())
        {
            checked.needs_early(&loops::reads_of(list), why);
        }
    }
}

fn joinable(checked: &Checked<'_>, node: &Node, ty: &Ty, start: usize, text: &str, problems: &mut Vec<Diagnostic>) {
    if matches!(ty, Ty::Any) {
        problems.push(undeclared(part_span(checked, node, start, start + text.len())));
        return;
    }
    let fits = ty.is_settled() || ty.is_text() || ty.is_number() || matches!(ty, Ty::Bool | Ty::Length);
    if !fits {
        let help = match ty {
            Ty::Optional(_) => "give a default with .orValue(...)",
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
            | Ty::Object(_)
            | Ty::Steps => "let the expression stand alone, without text around it",
        };
        let message = format!("this is part of a text, and the expression is {}", ty.words());
        problems.push(Diagnostic::error(codes::ANSWER_TYPE, part_span(checked, node, start, start + text.len()), message).help(help));
    }
}

/// Nobody said what this value will be, so nobody can say that it is wrong.
fn undeclared(span: Span) -> Diagnostic {
    let message = "the type of this is not declared: whether it fits is only known in the run, and the step is held where it does not";
    Diagnostic::warning(codes::ANSWER_TYPE, span, message).help("use an output whose type is declared, where there is one")
}

/// Types an expression whose text begins at byte `start` of the decoded scalar. `None` where it cannot be read.
fn infer(
    checked: &Checked<'_>,
    step: Option<usize>,
    site: Site,
    node: &Node,
    text: &str,
    start: usize,
    problems: &mut Vec<Diagnostic>,
) -> Option<Ty> {
    let compiled = match checked.compile(text) {
        Ok(compiled) => compiled,
        Err(problem) => {
            problems.push(unreadable(checked, node, start, &problem));
            return None;
        }
    };
    let world = StepWorld { checked, step, site };
    let known = known_facts(&world, &compiled);
    let (ty, findings) = check::infer(&compiled, text, &world, &known);
    problems.extend(findings.into_iter().map(|finding| placed(checked, node, start, finding)));
    Some(ty)
}

fn unreadable(checked: &Checked<'_>, node: &Node, start: usize, problem: &Problem) -> Diagnostic {
    let span = part_span(checked, node, start + problem.at, start + problem.at + 1);
    if cut_by_comment(checked, node) {
        return Diagnostic::error(codes::QUOTE_IT, span, problem.message.clone()).help("` #` begins a comment: quote the whole expression");
    }
    let trap = problem.message.starts_with("this is no expression");
    Diagnostic::error(codes::BAD_EXPRESSION, span, problem.message.clone()).maybe_help(
        problem.help.map(str::to_owned).or_else(|| trap.then(|| "see the expressions chapter of the language reference".to_owned())),
    )
}

fn placed(checked: &Checked<'_>, node: &Node, start: usize, finding: Finding) -> Diagnostic {
    let span = part_span(checked, node, start + finding.from, start + finding.to);
    Diagnostic::error(finding.code, span, finding.message).maybe_help(finding.help)
}

fn part_span(checked: &Checked<'_>, node: &Node, from: usize, to: usize) -> Span {
    let Some(scalar) = node.scalar() else { return node.span };
    let raw = &checked.runbook.source.text[node.span.start..node.span.end];
    scalar.part(raw, node.span.start, from, to)
}

/// Whether a comment follows a plain scalar on its last line.
fn cut_by_comment(checked: &Checked<'_>, node: &Node) -> bool {
    let plain = node.scalar().is_some_and(|scalar| scalar.style == Style::Plain);
    plain && checked.runbook.source.text[node.span.end..].lines().next().is_some_and(|rest| rest.trim_start().starts_with('#'))
}

/// Facts that hold where the expression is read: what the step's own `if` proves, and that steps with no further condition than this one's
/// were not skipped.
fn known_facts(world: &StepWorld<'_, '_>, compiled: &Compiled) -> Facts {
    let mut known = Facts::new();
    let (checked, step) = match (world.site, world.step) {
        (Site::List | Site::If | Site::Outputs, _) | (_, None) => return known,
        (Site::With | Site::Assert | Site::Undo, Some(step)) => (world.checked, step),
    };
    let Some(own) = checked.conjuncts(step) else { return known };
    if let Some(condition) = condition(checked, step) {
        facts::proven(condition.program.expression(), Truth::True, &|name| check::states_of(world, name), &mut known);
    }
    for name in compiled.reads.steps.names() {
        let Some(before) = checked.graph.find(name) else { continue };
        // In `finally` a step may be missing for other reasons than its own condition.
        let ordered = checked.graph.is_before(before, step);
        if ordered && checked.conjuncts(before).is_some_and(|theirs| theirs.is_subset(&own)) {
            known.insert(facts::join(&facts::join("steps", name), "outputs"));
        }
    }
    known
}

fn condition(checked: &Checked<'_>, step: usize) -> Option<Rc<Compiled>> {
    let written: &Written = checked.graph.steps[step].condition.as_ref()?;
    checked.compile(&written.text).ok()
}

/// What names mean in one place of one step; no step where they stand in `outputs`.
struct StepWorld<'c, 'a> {
    checked: &'c Checked<'a>,
    step: Option<usize>,
    site: Site,
}

impl StepWorld<'_, '_> {
    fn facts_of(&self, index: usize, states: &[&str], outputs: Presence) -> Ty {
        let Some(given) = self.checked.outputs_of(index) else { return Ty::Reported };
        self.with_outputs(given, states, outputs)
    }

    fn with_outputs(&self, given: Ty, states: &[&str], outputs: Presence) -> Ty {
        let states: Vec<String> = states.iter().map(|state| (*state).to_owned()).collect();
        let fields = [("state".to_owned(), (Ty::Text(Some(states.into())), Presence::Required)), ("outputs".to_owned(), (given, outputs))];
        Ty::Object(Arc::new(ObjectTy { fields: fields.into(), rest: None }))
    }
}

impl World for StepWorld<'_, '_> {
    fn mode(&self) -> Ty {
        self.checked.mode()
    }

    fn inputs(&self) -> Ty {
        self.checked.inputs()
    }

    fn item(&self) -> Option<Ty> {
        match self.site {
            Site::If | Site::With | Site::Assert | Site::Undo => self.checked.item_of(self.step?),
            Site::List | Site::Outputs => None,
        }
    }

    fn outputs(&self) -> Option<Ty> {
        match self.site {
            Site::Undo => {
                let shapes = self.checked.shapes(self.checked.graph.steps[self.step?]);
                Some(shapes.map_or(Ty::Reported, |shapes| shapes.outputs.clone()))
            }
            Site::List | Site::If | Site::With | Site::Assert | Site::Outputs => None,
        }
    }

    fn step(&self, name: &str) -> Seen {
        let graph = &self.checked.graph;
        let Some(index) = graph.find(name) else { return Seen::Unknown(graph.instead(name, self.step)) };
        let main = index < graph.main;
        // The outputs of a `for_each` are the list of what its items gave: always there, as is every step that has no condition.
        let conditional = graph.steps[index].condition.is_some() && graph.steps[index].for_each.is_none();
        let outputs = if conditional { Presence::Optional } else { Presence::Required };
        let Some(reader) = self.step else {
            return match (main, graph.is_ordered(index)) {
                (true, true) => Seen::Ended(self.facts_of(index, &ENDED, outputs)),
                (true, false) => Seen::Reported,
                (false, _) => Seen::NotYet("`outputs` are answered before the steps of `finally` run"),
            };
        };
        if index == reader {
            return match self.site {
                // An item asserts over what it gave itself.
                Site::Assert => match self.checked.shapes(graph.steps[index]) {
                    Some(shapes) => Seen::Ended(self.with_outputs(shapes.outputs.clone(), &ENDED[..1], Presence::Required)),
                    None => Seen::Reported,
                },
                Site::List | Site::If | Site::With | Site::Undo | Site::Outputs => Seen::Itself,
            };
        }
        if !graph.is_ordered(reader) || !graph.is_ordered(index) {
            return Seen::Reported;
        }
        if main && reader >= graph.main {
            return Seen::Ended(self.facts_of(index, &ENDED_ANYHOW, Presence::Optional));
        }
        if !graph.is_before(index, reader) {
            return Seen::NotBefore;
        }
        Seen::Ended(self.facts_of(index, &ENDED, outputs))
    }
}
