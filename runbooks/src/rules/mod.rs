//! Every rule about a runbook that needs the step types or the inventory: one kind of rule a file. The form of the file is checked in
//! `parse`; what depends on a chosen mode and inputs is in `planning`.

pub(crate) mod children;
pub(crate) mod clashes;
pub(crate) mod expressions;
mod fences;
pub(crate) mod loops;
pub(crate) mod parameters;
pub(crate) mod resources;
pub(crate) mod undo;

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::{Catalog, Resources};
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::ty::{ObjectTy, Ty};
use crate::expr::{Compiled, Named, Problem, Reads, compile};
use crate::graph::Graph;
use crate::parse::{PROBLEMS_MAX, input_shape, tidy};
use crate::plan::RUNBOOK;
use crate::runbook::{Runbook, Step};
use crate::shape::{self, Presence, Shape};

/// Checks a runbook with every rule, and the runbooks that it runs as children. Without `resources` the rules about names of resources,
/// nodes and roles are left out. What `parse` and `load` reported is not repeated.
#[must_use]
pub fn check(runbook: &Runbook, catalog: &dyn Catalog, resources: Option<&dyn Resources>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let files = survey(runbook, catalog, &mut problems);
    every_rule(&files, resources, &mut problems);
    tidy(&mut problems);
    problems
}

/// Checks all files, children first. Graph problems were reported by [`survey`].
pub(crate) fn every_rule(files: &[Checked<'_>], resources: Option<&dyn Resources>, problems: &mut Vec<Diagnostic>) {
    for (place, checked) in files.iter().enumerate() {
        let mut own = Vec::new();
        rules_of(checked, resources, &mut own);
        let unfenced = fences::unfenced(checked);
        let facts = children::facts(checked, if unfenced.is_empty() { Fenced::Within } else { Fenced::Outside });
        // Each file is checked once.
        let _ = checked.facts.set(facts);
        let outermost = place + 1 == files.len();
        if outermost {
            own.extend(unfenced);
        }
        problems.extend(own.into_iter().map(|problem| if outermost { problem } else { problem.inside(&checked.runbook.source) }));
    }
}

fn rules_of(checked: &Checked<'_>, resources: Option<&dyn Resources>, problems: &mut Vec<Diagnostic>) {
    for index in 0..checked.graph.steps.len() {
        loops::check(checked, index, problems);
        children::check(checked, index, problems);
        parameters::check(checked, index, problems);
        undo::check(checked, index, problems);
        expressions::check(checked, index, problems);
        if problems.len() > PROBLEMS_MAX {
            // Nobody is told of more, so nobody looks for more.
            break;
        }
        if checked.compiled.borrow().len() > EXPRESSIONS_MAX {
            let message = format!("the runbook has more than {EXPRESSIONS_MAX} expressions");
            problems.push(Diagnostic::error(codes::LIMIT, Span::default(), message).help("split it into several runbooks"));
            break;
        }
    }
    children::outputs(checked, problems);
    clashes::check(checked, problems);
    if let Some(resources) = resources {
        resources::check(checked, resources, problems);
    }
}

/// Most different expressions in a file: parsing one takes some 30 µs.
const EXPRESSIONS_MAX: usize = 50_000;

/// What is known of a step type, read once.
#[derive(Debug)]
pub(crate) struct StepTypeShapes {
    pub with: Shape,
    pub outputs: Ty,
}

/// The step types that a runbook uses.
fn types_of(runbook: &Runbook, catalog: &dyn Catalog) -> BTreeMap<String, StepTypeShapes> {
    let undos = runbook.all_steps().filter_map(Step::written_undo);
    let names: BTreeSet<&str> = runbook.all_steps().chain(undos).map(|step| step.step_type.value.as_str()).collect();
    let read = |name: &str| {
        let info = catalog.step_type(name)?;
        Some((name.to_owned(), StepTypeShapes { with: shape::read(&info.with_schema), outputs: Ty::of(&shape::read(&info.output_schema)) }))
    };
    names.into_iter().filter(|name| *name != RUNBOOK).filter_map(read).collect()
}

/// The outermost runbook and all that it runs as children, ready for the rules: each file once, children before those that run them.
pub(crate) fn survey<'a>(runbook: &'a Runbook, catalog: &'a dyn Catalog, problems: &mut Vec<Diagnostic>) -> Vec<Checked<'a>> {
    let mut files: Vec<Checked<'a>> = Vec::new();
    let mut known: HashMap<*const Runbook, usize> = HashMap::new();
    let from = problems.len();
    gather(runbook, catalog, &mut files, &mut known, problems);
    // A problem of the outermost runbook is in the file that was asked about.
    for problem in &mut problems[from..] {
        problem.source.take_if(|source| *source == runbook.source);
    }
    files
}

fn gather<'a>(
    runbook: &'a Runbook,
    catalog: &'a dyn Catalog,
    files: &mut Vec<Checked<'a>>,
    known: &mut HashMap<*const Runbook, usize>,
    problems: &mut Vec<Diagnostic>,
) -> usize {
    if let Some(place) = known.get(&std::ptr::from_ref(runbook)) {
        return *place;
    }
    // Children hang together without circles, and not deeply: `load` saw to that.
    let children: HashMap<String, (usize, Rc<OnceCell<ChildFacts>>)> = runbook
        .children
        .iter()
        .flatten()
        .map(|(name, child)| {
            let place = gather(child, catalog, files, known, problems);
            (name.clone(), (place, Rc::clone(&files[place].facts)))
        })
        .collect();
    let mut own = Vec::new();
    let graph = Graph::of(runbook, &mut own);
    files.push(Checked::new(runbook, catalog, graph, children));
    known.insert(runbook, files.len() - 1);
    problems.extend(own.into_iter().map(|problem| problem.inside(&runbook.source)));
    files.len() - 1
}

/// Everything that rules look at in one file.
pub(crate) struct Checked<'a> {
    pub runbook: &'a Runbook,
    pub catalog: &'a dyn Catalog,
    pub graph: Graph<'a>,
    types: BTreeMap<String, StepTypeShapes>,
    /// The files of its children, by the text that names them: place in the survey, and what is known of them once they were checked.
    children: HashMap<String, (usize, Rc<OnceCell<ChildFacts>>)>,
    /// What runbooks that run this one as a child must know of it.
    pub facts: Rc<OnceCell<ChildFacts>>,
    /// Inputs that must be known before the run, and why.
    pub early: RefCell<BTreeMap<String, Arc<str>>>,
    inputs: Ty,
    mode: Ty,
    /// Parsing dominates the work, and the same expression often stands in several places.
    compiled: RefCell<HashMap<String, Result<Rc<Compiled>, Problem>>>,
    conjuncts: RefCell<HashMap<usize, Rc<BTreeSet<String>>>>,
    /// Types of the items of each `for_each`.
    items: RefCell<HashMap<usize, Ty>>,
}

/// What a runbook that runs another as a child must know of that.
#[derive(Debug)]
pub(crate) struct ChildFacts {
    /// `with` of the step that runs it, and what the step gives.
    pub shapes: StepTypeShapes,
    /// Whether one of its steps fences a database.
    pub fences: bool,
    /// Whether one of its steps promotes a database that nothing in it fences before.
    pub unfenced: bool,
}

/// Where the promotions of a runbook are fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fenced {
    /// In it, as far as there are any.
    Within,
    /// Whoever runs it must see to it.
    Outside,
}

impl<'a> Checked<'a> {
    fn new(
        runbook: &'a Runbook,
        catalog: &'a dyn Catalog,
        graph: Graph<'a>,
        children: HashMap<String, (usize, Rc<OnceCell<ChildFacts>>)>,
    ) -> Self {
        let field = |input: &crate::runbook::Input| {
            let ty = Ty::of(&input_shape(input.input_type, input.one_of.as_deref()));
            (input.name.value.clone(), (ty, Presence::Required))
        };
        let inputs = Ty::Object(Arc::new(ObjectTy { fields: runbook.inputs.iter().map(field).collect(), rest: None }));
        let modes: Vec<String> = runbook.modes.iter().map(|mode| mode.value.clone()).collect();
        let mode = Ty::Text((!modes.is_empty()).then(|| modes.into()));
        Self {
            runbook,
            catalog,
            graph,
            types: types_of(runbook, catalog),
            children,
            facts: Rc::default(),
            early: RefCell::default(),
            inputs,
            mode,
            compiled: RefCell::default(),
            conjuncts: RefCell::default(),
            items: RefCell::default(),
        }
    }

    /// What is known of a step's type; for a step that runs a child, of that child. `None` where it is unknown, which is reported by itself.
    pub(crate) fn shapes(&self, step: &Step) -> Option<&StepTypeShapes> {
        if step.step_type.value == RUNBOOK {
            self.child(step).map(|(_, facts)| &facts.shapes)
        } else {
            self.types.get(&step.step_type.value)
        }
    }

    /// The child that a step runs: its place in the survey, and what is known of it.
    pub(crate) fn child(&self, step: &Step) -> Option<(usize, &ChildFacts)> {
        let (place, facts) = self.children.get(step.child()?.0)?;
        Some((*place, facts.get()?))
    }

    /// What a step gives to those that read it.
    pub(crate) fn outputs_of(&self, index: usize) -> Option<Ty> {
        let step = self.graph.steps[index];
        let outputs = self.shapes(step)?.outputs.clone();
        Some(if step.for_each.is_some() { Ty::List(Arc::new(outputs)) } else { outputs })
    }

    /// Type of the items of a step's `for_each`; the list itself is checked in `loops`.
    pub(crate) fn item_of(&self, index: usize) -> Option<Ty> {
        let list = self.graph.steps[index].for_each.as_ref()?.list.as_ref();
        if let Some(known) = self.items.borrow().get(&index) {
            return Some(known.clone());
        }
        let ty = list.map_or(Ty::Reported, |list| loops::item_of(self, index, list, &mut Vec::new()));
        self.items.borrow_mut().insert(index, ty.clone());
        Some(ty)
    }

    /// Takes note that inputs must be known before the run.
    pub(crate) fn needs_early(&self, reads: &Reads, why: &Arc<str>) {
        let mut early = self.early.borrow_mut();
        let mut add = |name: &str| _ = early.entry(name.to_owned()).or_insert_with(|| Arc::clone(why));
        match &reads.inputs {
            Named::These(names) => names.iter().for_each(|name| add(name)),
            Named::All => self.runbook.inputs.iter().for_each(|input| add(&input.name.value)),
        }
    }

    /// Whether the items of a step's `for_each` are only known in the run, as far as this file tells.
    pub(crate) fn lists_in_run(&self, index: usize) -> bool {
        let list = self.graph.steps[index].for_each.as_ref().and_then(|each| each.list.as_ref());
        list.is_some_and(|list| !loops::reads_of(list).steps.is_none())
    }

    /// Parses an expression, once.
    pub(crate) fn compile(&self, text: &str) -> Result<Rc<Compiled>, Problem> {
        if let Some(known) = self.compiled.borrow().get(text) {
            return known.clone();
        }
        let result = compile(text).map(Rc::new);
        self.compiled.borrow_mut().insert(text.to_owned(), result.clone());
        result
    }

    /// The parts of a step's `if` that are all true when it runs; `None` where it has no readable `if`.
    pub(crate) fn conjuncts(&self, step: usize) -> Option<Rc<BTreeSet<String>>> {
        let condition = self.graph.steps[step].condition.as_ref()?;
        if let Some(known) = self.conjuncts.borrow().get(&step) {
            return Some(Rc::clone(known));
        }
        let compiled = self.compile(&condition.text).ok()?;
        let mut found = BTreeSet::new();
        crate::expr::facts::conjuncts(compiled.program.expression(), &mut found);
        let found = Rc::new(found);
        self.conjuncts.borrow_mut().insert(step, Rc::clone(&found));
        Some(found)
    }

    pub(crate) fn inputs(&self) -> Ty {
        self.inputs.clone()
    }

    pub(crate) fn mode(&self) -> Ty {
        self.mode.clone()
    }
}
