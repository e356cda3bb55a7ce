//! Every rule about a runbook that needs the step types or the inventory: one kind of rule a file. The form of the file is checked in
//! `parse`; what depends on a chosen mode and inputs is in `planning`.

pub(crate) mod clashes;
pub(crate) mod expressions;
mod fences;
pub(crate) mod parameters;
pub(crate) mod resources;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::catalog::{Catalog, Resources};
use crate::codes;
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::ty::{ObjectTy, Ty};
use crate::expr::{Compiled, Problem, compile};
use crate::graph::Graph;
use crate::parse::{PROBLEMS_MAX, input_shape, tidy};
use crate::runbook::Runbook;
use crate::shape::{self, Presence, Shape};

/// Checks a runbook with every rule. Without `resources` the rules about names of resources, nodes and roles are left out. What
/// `parse` reported is not repeated.
#[must_use]
pub fn check(runbook: &Runbook, catalog: &dyn Catalog, resources: Option<&dyn Resources>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let graph = Graph::of(runbook, &mut problems);
    let types = types_of(runbook, catalog);
    let checked = Checked::new(runbook, catalog, &graph, &types);
    for index in 0..graph.steps.len() {
        parameters::check(&checked, index, &mut problems);
        expressions::check(&checked, index, &mut problems);
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
    fences::check(&checked, &mut problems);
    clashes::check(&checked, &mut problems);
    if let Some(resources) = resources {
        resources::check(&checked, resources, &mut problems);
    }
    tidy(&mut problems);
    problems
}

/// Most different expressions in a file: parsing one takes some 30 µs.
const EXPRESSIONS_MAX: usize = 50_000;

/// What is known of a step type, read once.
pub(crate) struct StepTypeShapes {
    pub with: Shape,
    pub outputs: Ty,
}

/// The step types that a runbook uses.
pub(crate) fn types_of(runbook: &Runbook, catalog: &dyn Catalog) -> BTreeMap<String, StepTypeShapes> {
    let names: BTreeSet<&str> = runbook.all_steps().map(|step| step.step_type.value.as_str()).collect();
    let read = |name: &str| {
        let info = catalog.step_type(name)?;
        Some((name.to_owned(), StepTypeShapes { with: shape::read(&info.with_schema), outputs: Ty::of(&shape::read(&info.output_schema)) }))
    };
    names.into_iter().filter_map(read).collect()
}

/// Everything that rules look at.
pub(crate) struct Checked<'a> {
    pub runbook: &'a Runbook,
    pub catalog: &'a dyn Catalog,
    pub graph: &'a Graph<'a>,
    pub types: &'a BTreeMap<String, StepTypeShapes>,
    inputs: Ty,
    mode: Ty,
    /// Parsing dominates the work, and the same expression often stands in several places.
    compiled: RefCell<HashMap<String, Result<Rc<Compiled>, Problem>>>,
    conjuncts: RefCell<HashMap<usize, Rc<BTreeSet<String>>>>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(
        runbook: &'a Runbook,
        catalog: &'a dyn Catalog,
        graph: &'a Graph<'a>,
        types: &'a BTreeMap<String, StepTypeShapes>,
    ) -> Self {
        let field = |input: &crate::runbook::Input| {
            let ty = Ty::of(&input_shape(input.input_type, input.one_of.as_deref()));
            (input.name.value.clone(), (ty, Presence::Required))
        };
        let inputs = Ty::Object(Arc::new(ObjectTy { fields: runbook.inputs.iter().map(field).collect(), rest: None }));
        let modes: Vec<String> = runbook.modes.iter().map(|mode| mode.value.clone()).collect();
        let mode = Ty::Text((!modes.is_empty()).then(|| modes.into()));
        Self { runbook, catalog, graph, types, inputs, mode, compiled: RefCell::default(), conjuncts: RefCell::default() }
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
