//! Files to one flat list of steps: child runs and items of `for_each` become steps of their own, each with the scope that its expressions
//! are read in. The plan is complete before the run begins, so journal, locks, undo and report know of steps only.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::bind::{Kept, Which};
use super::structure::Structure;
use crate::catalog::Resources;
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::{self, ITEMS_MAX, Scope};
use crate::names::StepId;
use crate::parse::PROBLEMS_MAX;
use crate::plan::{
    Child, ChildInput, FOR_EACH, INNER_VERSION, Inner, Item, ItemValue, OnFailure, PLAN_STEPS_MAX, PlanScope, PlanStep, RUNBOOK, Return,
    ScopeKind, UndoRule, WrittenUndo,
};
use crate::rules::children::mode_of;
use crate::rules::{Checked, loops};
use crate::runbook::{DRILL, ForEach, RETRY_DEFAULT, Runbook, Step, TIMEOUT_DEFAULT_MS, Undo};
use crate::yaml::Node;

/// Most needs of all steps together: each is looked at whenever a step ends.
const NEEDS_MAX: usize = 1_000_000;

/// A plan in the making.
pub(super) struct Expander<'a> {
    pub files: &'a [Checked<'a>],
    structure: &'a Structure,
    pub resources: &'a dyn Resources,
    /// The mode of the run.
    pub mode: &'a str,
    pub steps: Vec<PlanStep>,
    pub finally: Vec<PlanStep>,
    pub scopes: Vec<PlanScope>,
    pub used: BTreeSet<String>,
    /// File and place in the file of each step, for problems.
    pub origins: Vec<(usize, usize)>,
    pub final_origins: Vec<(usize, usize)>,
    /// Parameters that are the same in every frame.
    pub kept: HashMap<(usize, usize, Which), Kept>,
    needs: usize,
    stopped: Stopped,
}

/// Whether a limit ended the expansion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    AtLimit,
}

/// Which list of the plan steps go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Finally,
}

/// Whether steps can run at all in this mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    Perhaps,
    Never,
}

/// What becomes of the effects of a child's steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effects {
    /// Each as its step says.
    TakenBack,
    /// They stay, whatever the steps say.
    Stay,
}

/// The item of a `for_each`, as far as it is known.
#[derive(Clone)]
pub(super) enum Each {
    Known(Rc<Value>, u32),
    /// Only the run knows it.
    Later,
}

/// What names mean in one part of the plan.
#[derive(Clone)]
pub(super) struct Frame {
    pub file: usize,
    pub mode: Rc<str>,
    pub inputs: Rc<BTreeMap<String, Value>>,
    /// Inputs that only the run knows.
    pub later: Rc<BTreeSet<String>>,
    pub each: Option<Each>,
    pub runs: Runs,
    prefix: Rc<str>,
    scope: Option<usize>,
    /// What the first steps wait for.
    entry: Rc<[StepId]>,
    rule: Option<OnFailure>,
    undo: Effects,
    part: Part,
}

impl<'a> Expander<'a> {
    pub(super) fn expand(
        files: &'a [Checked<'a>],
        structure: &'a Structure,
        mode: &'a str,
        inputs: &BTreeMap<String, Value>,
        resources: &'a dyn Resources,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut expander = Self {
            files,
            structure,
            resources,
            mode,
            steps: Vec::new(),
            finally: Vec::new(),
            scopes: Vec::new(),
            used: BTreeSet::new(),
            origins: Vec::new(),
            final_origins: Vec::new(),
            kept: HashMap::new(),
            needs: 0,
            stopped: Stopped::No,
        };
        let outermost = Frame {
            file: files.len().saturating_sub(1),
            mode: mode.into(),
            inputs: Rc::new(inputs.clone()),
            later: Rc::default(),
            each: None,
            runs: Runs::Perhaps,
            prefix: "".into(),
            scope: None,
            entry: Rc::default(),
            rule: None,
            undo: Effects::TakenBack,
            part: Part::Main,
        };
        expander.file(&outermost, problems);
        expander.clashes(problems);
        expander
    }

    /// A problem in one of the files.
    pub(super) fn placed(&self, file: usize, problem: Diagnostic) -> Diagnostic {
        if file + 1 == self.files.len() { problem } else { problem.inside(&self.files[file].runbook.source) }
    }

    fn file(&mut self, frame: &Frame, problems: &mut Vec<Diagnostic>) {
        let files = self.files;
        let graph = &files[frame.file].graph;
        for index in &graph.order {
            if self.stopped == Stopped::AtLimit || problems.len() > PROBLEMS_MAX {
                return;
            }
            let step = graph.steps[*index];
            let main = *index < graph.main;
            let part = if main { frame.part } else { Part::Finally };
            let mut needs: Vec<StepId> = step.needs.iter().filter_map(|need| id(&frame.prefix, &need.value, "")).collect();
            if main && needs.is_empty() {
                needs.extend(frame.entry.iter().cloned());
            }
            let place = Place { index: *index, part };
            match &step.for_each {
                Some(each) => self.each(frame, place, each, needs, problems),
                None => {
                    let Some(id) = id(&frame.prefix, &step.name.value, "") else { continue };
                    self.one(frame, place, id, needs, problems);
                }
            }
        }
    }

    fn one(&mut self, frame: &Frame, place: Place, id: StepId, needs: Vec<StepId>, problems: &mut Vec<Diagnostic>) {
        let step = self.files[frame.file].graph.steps[place.index];
        if step.step_type.value == RUNBOOK {
            self.child(frame, place, id, needs, problems);
        } else {
            self.leaf(frame, place, id, needs, problems);
        }
    }

    /// A step that a step type performs.
    fn leaf(&mut self, frame: &Frame, place: Place, id: StepId, needs: Vec<StepId>, problems: &mut Vec<Diagnostic>) {
        let step = self.files[frame.file].graph.steps[place.index];
        let Some(bound) = self.parameters(frame, (place.index, Which::Step), problems) else { return };
        let condition = step.condition.as_ref().map(|condition| condition.text.trim().to_owned());
        let runs = self.runs(frame, condition.as_deref());
        // A step that cannot run in this mode grips nothing.
        let touches = match runs {
            Runs::Perhaps => {
                self.guard(frame.file, step, &bound.touches, problems);
                bound.touches
            }
            Runs::Never => Vec::new(),
        };
        let Some(undo) = self.undo(frame, place, runs, problems) else { return };
        let planned = PlanStep {
            step_type: step.step_type.value.clone(),
            version: bound.version,
            with: bound.with,
            condition,
            timeout_ms: step.timeout_ms,
            retry: step.retry,
            undo,
            point_of_no_return: step.point_of_no_return,
            touches,
            preview: bound.preview,
            inner: None,
            ..self.plain(frame, place, id, needs)
        };
        self.used.extend(planned.grips().map(|(_, touch)| touch.resource.clone()));
        self.push(place, frame.file, planned, problems);
    }

    /// What unwinding does with a step; `None` where something is wrong with its written undo, which is reported.
    fn undo(&mut self, frame: &Frame, place: Place, runs: Runs, problems: &mut Vec<Diagnostic>) -> Option<UndoRule> {
        let step = self.files[frame.file].graph.steps[place.index];
        let undo = match (frame.undo, &step.undo) {
            (Effects::Stay, _) | (Effects::TakenBack, Undo::Never) => return Some(UndoRule::Never),
            (Effects::TakenBack, Undo::Default) => return Some(UndoRule::Default),
            (Effects::TakenBack, Undo::Written(undo)) => undo,
        };
        let bound = self.parameters(frame, (place.index, Which::Undo), problems)?;
        let touches = match runs {
            Runs::Perhaps => {
                // A drill takes everything back, so what does that is guarded as the step is.
                self.guard(frame.file, undo, &bound.touches, problems);
                bound.touches
            }
            Runs::Never => Vec::new(),
        };
        Some(UndoRule::Written(Box::new(WrittenUndo {
            step_type: undo.step_type.value.clone(),
            version: bound.version,
            with: bound.with,
            timeout_ms: undo.timeout_ms,
            touches,
            preview: bound.preview,
        })))
    }

    /// What every step of the plan has.
    fn plain(&self, frame: &Frame, place: Place, id: StepId, needs: Vec<StepId>) -> PlanStep {
        let step = self.files[frame.file].graph.steps[place.index];
        PlanStep {
            id,
            structure: self.structure.steps[frame.file][place.index].clone(),
            step_type: FOR_EACH.to_owned(),
            version: INNER_VERSION,
            with: Value::Object(Map::new()),
            needs,
            condition: None,
            asserts: step.asserts.iter().map(|assert| assert.text.trim().to_owned()).collect(),
            timeout_ms: TIMEOUT_DEFAULT_MS,
            retry: RETRY_DEFAULT,
            undo: UndoRule::Default,
            on_failure: step.on_failure.or(frame.rule),
            point_of_no_return: Return::Possible,
            touches: Vec::new(),
            preview: String::new(),
            line: step.line,
            scope: frame.scope,
            inner: None,
        }
    }

    fn push(&mut self, place: Place, file: usize, step: PlanStep, problems: &mut Vec<Diagnostic>) {
        self.needs += step.needs.len();
        if self.steps.len() + self.finally.len() >= PLAN_STEPS_MAX || self.needs > NEEDS_MAX {
            if self.stopped == Stopped::No {
                let message = if self.needs > NEEDS_MAX {
                    format!("the steps of the plan need more than {NEEDS_MAX} others together")
                } else {
                    format!("the plan has more than {PLAN_STEPS_MAX} steps")
                };
                problems.push(Diagnostic::error(codes::LIMIT, Span::default(), message).help("shorten the lists of its `for_each`"));
            }
            self.stopped = Stopped::AtLimit;
            return;
        }
        match place.part {
            Part::Main => {
                self.steps.push(step);
                self.origins.push((file, place.index));
            }
            Part::Finally => {
                self.finally.push(step);
                self.final_origins.push((file, place.index));
            }
        }
    }

    fn each(&mut self, frame: &Frame, place: Place, each: &ForEach, needs: Vec<StepId>, problems: &mut Vec<Diagnostic>) {
        let step = self.files[frame.file].graph.steps[place.index];
        let (Some(list), Some(gather)) = (&each.list, id(&frame.prefix, &step.name.value, "")) else { return };
        let bare = |step: PlanStep| PlanStep { asserts: Vec::new(), on_failure: frame.rule, ..step };
        let before = problems.len();
        let (values, opener) = match self.list(frame, each, list, problems) {
            List::Known(values) => (values.into_iter().map(|value| Some(Rc::new(value))).collect::<Vec<_>>(), None),
            List::InRun(max) => {
                let Some(opener) = id(&frame.prefix, &step.name.value, "[]") else { return };
                let inner = Inner::List { list: list.to_value(), max };
                let preview = format!("list the items of {gather}, {max} at most");
                let planned = PlanStep { preview, inner: Some(inner), ..bare(self.plain(frame, place, opener.clone(), needs.clone())) };
                self.push(place, frame.file, planned, problems);
                (vec![None; max as usize], Some(opener))
            }
        };
        if problems.len() > before {
            return;
        }
        let needs = opener.clone().map_or(needs, |opener| vec![opener]);
        let mut items: Vec<StepId> = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            if self.stopped == Stopped::AtLimit || problems.len() > PROBLEMS_MAX {
                return;
            }
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let Some(id) = id(&frame.prefix, &step.name.value, &format!("[{index}]")) else { return };
            let (each_value, known) = match (value, &opener) {
                (Some(value), _) => (Each::Known(Rc::clone(&value), number), ItemValue::Known((*value).clone())),
                (None, Some(opener)) => (Each::Later, ItemValue::Of(opener.clone())),
                (None, None) => return,
            };
            let at_once = each.concurrency.filter(|most| *most > 1);
            let item = Item { of: gather.clone(), index: number, at_once, value: known };
            self.scopes.push(PlanScope { id: id.clone(), parent: frame.scope, kind: ScopeKind::Item(item) });
            let inner = Frame { each: Some(each_value), scope: Some(self.scopes.len() - 1), ..frame.clone() };
            // One at a time means in order: an item that is not done keeps those after it from starting.
            let needs = match items.last().filter(|_| each.concurrency == Some(1)) {
                Some(before) => vec![before.clone()],
                None => needs.clone(),
            };
            self.one(&inner, place, id.clone(), needs, problems);
            items.push(id);
        }
        let count = items.len();
        let preview = format!("gather what {count} item{} gave", if count == 1 { "" } else { "s" });
        let needs = if items.is_empty() { needs } else { items };
        let planned = PlanStep { preview, inner: Some(Inner::Items), ..bare(self.plain(frame, place, gather, needs)) };
        self.push(place, frame.file, planned, problems);
    }

    /// The items, if they are known before the run.
    fn list(&self, frame: &Frame, each: &ForEach, list: &Node, problems: &mut Vec<Diagnostic>) -> List {
        let value = list.to_value();
        if self.reads_later(frame, &loops::reads_of(list)) {
            return List::InRun(each.max.unwrap_or(1));
        }
        let mut report = |code, message: String, help: &str| {
            problems.push(self.placed(frame.file, Diagnostic::error(code, list.span, message).help(help)));
            List::Known(Vec::new())
        };
        match frame.scoped(|scope| expr::fill(&value, scope)) {
            Ok(Value::Array(items)) => match each.max {
                Some(max) if items.len() > max as usize => report(
                    codes::OUT_OF_RANGE,
                    format!("the list has {} items, and `max` is {max}", items.len()),
                    "raise `max`, or shorten the list",
                ),
                Some(_) | None if items.len() > ITEMS_MAX => {
                    report(codes::LIMIT, format!("the list has {} items; {ITEMS_MAX} is the most", items.len()), "shorten the list")
                }
                Some(_) | None => List::Known(items),
            },
            Ok(_) => report(codes::ANSWER_TYPE, "`for_each` goes through a list, and this is none".to_owned(), "write a list"),
            Err(error) => report(codes::BAD_EXPRESSION, error.to_string(), "write the list out"),
        }
    }

    fn child(&mut self, frame: &Frame, place: Place, id: StepId, needs: Vec<StepId>, problems: &mut Vec<Diagnostic>) {
        let files = self.files;
        let checked = &files[frame.file];
        let step = checked.graph.steps[place.index];
        let Some((file, _)) = checked.child(step) else { return };
        let child: &Runbook = files[file].runbook;
        let condition = step.condition.as_ref().map(|condition| condition.text.trim().to_owned());
        let runs = self.runs(frame, condition.as_deref());
        let Some(mode) = self.mode_of_child(frame, step, child, runs, problems) else { return };
        let before = problems.len();
        let inputs = self.inputs_of_child(frame, step, child, problems);
        if problems.len() > before {
            return;
        }
        let known = inputs.iter().filter_map(|(name, input)| match input {
            ChildInput::Known(value) => Some((name.clone(), value.clone())),
            ChildInput::Filled(_) => None,
        });
        let later = inputs.iter().filter(|(_, input)| matches!(input, ChildInput::Filled(_))).map(|(name, _)| name.clone());
        let inner = Frame {
            file,
            mode: mode.as_str().into(),
            inputs: Rc::new(known.collect()),
            later: Rc::new(later.collect()),
            each: None,
            runs,
            prefix: format!("{id}/").into(),
            scope: Some(self.scopes.len()),
            entry: needs.into(),
            rule: step.on_failure.or(child.on_failure).or(frame.rule),
            undo: if matches!(step.undo, Undo::Never) { Effects::Stay } else { frame.undo },
            part: place.part,
        };
        let scope = Child { runbook: child.name.value.clone(), mode, condition: condition.clone(), inputs };
        self.scopes.push(PlanScope { id: id.clone(), parent: frame.scope, kind: ScopeKind::Child(scope) });
        self.file(&inner, problems);
        let outputs = child.outputs.iter().map(|output| (output.name.value.clone(), output.node.to_value())).collect();
        let scope = inner.scope.unwrap_or_default();
        let last = files[file].graph.last().filter_map(|last| self::id(&inner.prefix, &last.name.value, "")).collect();
        let planned = PlanStep {
            step_type: RUNBOOK.to_owned(),
            condition,
            preview: format!("end the child run of {}", child.name.value),
            inner: Some(Inner::Outputs { scope, outputs }),
            ..self.plain(frame, place, id, last)
        };
        self.push(place, frame.file, planned, problems);
    }

    /// In a drill every child is drilled.
    fn mode_of_child(&self, frame: &Frame, step: &Step, child: &Runbook, runs: Runs, problems: &mut Vec<Diagnostic>) -> Option<String> {
        let span = step.child().map_or(step.head, |(_, span)| span);
        let mut refuse = |span: Span, message: String, help: &str| {
            problems.push(self.placed(frame.file, Diagnostic::error(codes::BAD_MODE, span, message).help(help)));
            None
        };
        if self.mode == DRILL {
            return match (child.has_mode(DRILL), runs) {
                (true, _) | (false, Runs::Never) => Some(DRILL.to_owned()),
                (false, Runs::Perhaps) => refuse(
                    span,
                    format!("this run is a drill, and the runbook `{}` cannot be drilled", child.name.value),
                    "add `drill` to its `modes`, or leave it out with `if: mode != \"drill\"`",
                ),
            };
        }
        let Some(written) = step.with.as_ref().and_then(|with| with.node.get("mode")) else {
            return match mode_of(child, &frame.mode) {
                Some(mode) => Some(mode.to_owned()),
                None => refuse(span, format!("the runbook `{}` has no mode `{}`", child.name.value, frame.mode), "say which with `mode:`"),
            };
        };
        match frame.scoped(|scope| expr::fill(&written.to_value(), scope)) {
            Ok(Value::String(mode)) if mode != DRILL && child.has_mode(&mode) => Some(mode),
            Ok(Value::String(mode)) if mode == DRILL => {
                refuse(written.span, "a child is drilled when the run is a drill, and only then".to_owned(), "choose another mode")
            }
            Ok(_) => refuse(written.span, format!("the runbook `{}` has no such mode", child.name.value), "choose one of its modes"),
            Err(error) => refuse(written.span, error.to_string(), "write the mode out"),
        }
    }

    fn inputs_of_child(&self, frame: &Frame, step: &Step, child: &Runbook, problems: &mut Vec<Diagnostic>) -> BTreeMap<String, ChildInput> {
        let given = step.with.as_ref().and_then(|with| with.node.get("inputs"));
        let mut inputs = BTreeMap::new();
        for input in &child.inputs {
            let name = &input.name.value;
            let node = given.and_then(|given| given.get(name)).filter(|node| !node.to_value().is_null());
            let value = match (node, &input.default) {
                (None, None) => continue,
                (None, Some(default)) => ChildInput::Known(default.clone()),
                (Some(node), _) => {
                    let value = node.to_value();
                    let mut reads = expr::Reads::default();
                    expr::reads_in(&value, &mut reads);
                    if self.reads_later(frame, &reads) {
                        ChildInput::Filled(value)
                    } else {
                        match frame.scoped(|scope| expr::fill(&value, scope)) {
                            Ok(value) => ChildInput::Known(value),
                            Err(error) => {
                                let problem = Diagnostic::error(codes::BAD_EXPRESSION, node.span, error.to_string());
                                problems.push(self.placed(frame.file, problem.help("write the value")));
                                continue;
                            }
                        }
                    }
                }
            };
            inputs.insert(name.clone(), value);
        }
        inputs
    }

    /// Whether mode, inputs and item alone make the condition false. Reading a step is an error here, and `false && error` is false, as at
    /// run time.
    fn runs(&self, frame: &Frame, condition: Option<&str>) -> Runs {
        let never = condition.is_some_and(|condition| frame.scoped(|scope| expr::is_true(condition, scope)) == Ok(false));
        if never { Runs::Never } else { frame.runs }
    }

    /// Whether what is read is only known in the run.
    pub(super) fn reads_later(&self, frame: &Frame, reads: &expr::Reads) -> bool {
        let inputs = match &reads.inputs {
            expr::Named::These(names) => names.iter().any(|name| frame.later.contains(name)),
            expr::Named::All => !frame.later.is_empty(),
        };
        let outputs = !reads.steps.is_none() || reads.bare.contains("outputs");
        outputs || inputs || (reads.bare.contains("item") && matches!(frame.each, Some(Each::Later)))
    }
}

impl Frame {
    /// What expressions see before the run.
    pub(super) fn scoped<T>(&self, ask: impl FnOnce(&Scope<'_>) -> T) -> T {
        let none = BTreeMap::new();
        let item = match &self.each {
            Some(Each::Known(value, index)) => Some((&**value, *index)),
            Some(Each::Later) | None => None,
        };
        ask(&Scope { item, ..Scope::new(&self.mode, &self.inputs, &none) })
    }
}

/// Where a step stands: in its file, and in the plan.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    part: Part,
}

enum List {
    Known(Vec<Value>),
    /// Only the run knows it; so many items at most.
    InRun(u32),
}

/// The id of a step; `None` for a name that was refused.
fn id(prefix: &str, name: &str, after: &str) -> Option<StepId> {
    StepId::new(&format!("{prefix}{name}{after}")).ok()
}
