//! What the expressions of a step see: names of the runbook that it stands in, items of a `for_each`, and what inner steps answer from them.
//! Pure. What step types may know of a run is in `facts`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::mutants::{self, Mutant};
use crate::run::{Run, StepState};
use lifeboat_runbooks::expr::{self, ExprError, Reads, Scope, StepFacts};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Child, ChildInput, Inner, Item, ItemValue, Plan, PlanStep, ScopeKind};

/// What can be seen of a plan, and of its run as far as it has come.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    plan: &'a Plan,
    run: Option<&'a Run>,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
struct Stand<'a> {
    scope: Option<usize>,
    /// The step that reads: it goes by its own name, also as an item.
    own: Option<&'a StepId>,
    /// What the step gave, in its written undo.
    outputs: Option<&'a Value>,
}

/// What names mean there.
struct Around<'a> {
    prefix: String,
    mode: &'a str,
    child: Option<(&'a Child, Option<usize>)>,
    item: Option<&'a Item>,
}

impl<'a> Sight<'a> {
    /// Of a run.
    #[must_use]
    pub fn of(run: &'a Run) -> Self {
        Self { plan: &run.plan, run: Some(run) }
    }

    /// Before there is a run: only what was known when the plan was made has an answer.
    #[must_use]
    pub fn before(plan: &'a Plan) -> Self {
        Self { plan, run: None }
    }

    /// A step's parameters, or other values that stand in its place.
    ///
    /// # Errors
    /// The first expression without an answer.
    pub fn fill(&self, step: &PlanStep, with: &Value) -> Result<Value, ExprError> {
        self.fill_at(Stand { scope: step.scope, own: Some(&step.id), outputs: None }, with)
    }

    /// The parameters of a step's written undo: they may also read `outputs`, which are the step's own.
    ///
    /// # Errors
    /// The first expression without an answer.
    pub fn fill_undo(&self, step: &PlanStep, with: &Value) -> Result<Value, ExprError> {
        let outputs = self.value(&step.id);
        self.fill_at(Stand { scope: step.scope, own: Some(&step.id), outputs }, with)
    }

    /// Parameters of a step, or of its written undo, as far as they are known: null stands for every value that has no answer yet.
    #[must_use]
    pub fn known(&self, step: &PlanStep, with: &Value) -> Value {
        match with {
            Value::Array(items) => Value::Array(items.iter().map(|item| self.known(step, item)).collect()),
            Value::Object(fields) => Value::Object(fields.iter().map(|(name, value)| (name.clone(), self.known(step, value))).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.fill(step, with).unwrap_or(Value::Null),
        }
    }

    /// A bare expression of a step.
    ///
    /// # Errors
    /// Where it has no answer.
    pub fn is_true(&self, step: &PlanStep, expression: &str) -> Result<bool, ExprError> {
        self.is_true_at(Stand { scope: step.scope, own: Some(&step.id), outputs: None }, expression)
    }

    /// The steps whose outputs or states these values of a step read, where a name says which.
    #[must_use]
    pub fn read_by(&self, step: &PlanStep, with: &Value) -> Vec<StepId> {
        let mut reads = Reads::default();
        expr::reads_in(with, &mut reads);
        let prefix = self.around(step.scope).prefix;
        let ids = reads.steps.names().filter_map(|name| StepId::new(&format!("{prefix}{name}")).ok());
        ids.filter(|id| self.plan.step(id).is_some()).collect()
    }

    /// Why the child runs and items around a step leave it out, if they do. A final step of a child is left out where none of the
    /// child's steps has begun: there is nothing to clean up.
    ///
    /// # Errors
    /// Where the `if` of a child run has no answer.
    pub fn left_out(&self, step: &PlanStep) -> Result<Option<String>, ExprError> {
        if step.scope.is_none() {
            return Ok(None);
        }
        let mut around: Vec<_> = self.plan.scopes_of(step).collect();
        around.reverse();
        let last = self.plan.finally.iter().any(|last| last.id == step.id);
        for (index, scope) in around {
            match &scope.kind {
                ScopeKind::Item(item) => {
                    if let Some(length) = self.length(item).filter(|length| *length <= item.index as usize) {
                        return Ok(Some(beyond(length)));
                    }
                }
                ScopeKind::Child(_) if last => {
                    if !self.began(index) {
                        return Ok(Some(format!("no step of {} has begun", scope.id)));
                    }
                }
                ScopeKind::Child(child) => {
                    let Some(condition) = &child.condition else { continue };
                    if !self.is_true_at(Stand { scope: scope.parent, own: None, outputs: None }, condition)? {
                        return Ok(Some(format!("`{condition}` is false, so {} is left out", scope.id)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The list and the place in it, from 0, that a step stands for where the list turned out not to have that place: the outermost, if
    /// there are several.
    #[must_use]
    pub fn unused_place(&self, step: &PlanStep) -> Option<(&'a StepId, u32)> {
        let plan: &'a Plan = self.plan;
        let mut at = step.scope;
        let mut found = None;
        while let Some((index, scope)) = at.and_then(|index| Some((index, plan.scopes.get(index)?))) {
            if let ScopeKind::Item(item) = &scope.kind
                && self.length(item).is_some_and(|length| length <= item.index as usize)
            {
                found = Some((&item.of, item.index));
            }
            at = scope.parent.filter(|parent| *parent < index);
        }
        found
    }

    /// The answer of an inner step.
    ///
    /// # Errors
    /// A sentence: an expression without an answer, or a list that is none or too long.
    pub fn inner(&self, step: &PlanStep, inner: &Inner) -> Result<Value, String> {
        match inner {
            Inner::List { list, max } => {
                let list = self.fill(step, list).map_err(|error| error.to_string())?;
                fits_list(step, *max, &list)?;
                Ok(list)
            }
            Inner::Items => Ok(step.needs.iter().filter_map(|item| self.done(item).cloned()).collect()),
            Inner::Outputs { scope, outputs } => {
                let stand = Stand { scope: Some(*scope), own: None, outputs: None };
                let mut answered = Map::new();
                for (name, value) in outputs {
                    answered.insert(name.clone(), self.fill_at(stand, value).map_err(|error| format!("output `{name}`: {error}"))?);
                }
                Ok(Value::Object(answered))
            }
        }
    }

    fn fill_at(&self, stand: Stand<'_>, with: &Value) -> Result<Value, ExprError> {
        let mut reads = Reads::default();
        expr::reads_in(with, &mut reads);
        self.answer(stand, &reads, |scope| expr::fill(with, scope))
    }

    fn is_true_at(&self, stand: Stand<'_>, expression: &str) -> Result<bool, ExprError> {
        let mut reads = Reads::default();
        expr::reads_of(expression, &mut reads);
        self.answer(stand, &reads, |scope| expr::is_true(expression, scope))
    }

    /// Only what is read is gathered: a plan may have 100,000 steps.
    fn answer<T>(&self, stand: Stand<'_>, reads: &Reads, ask: impl FnOnce(&Scope<'_>) -> Result<T, ExprError>) -> Result<T, ExprError> {
        let around = self.around(stand.scope);
        let inputs = match around.child {
            None => None,
            Some((child, outside)) => Some(self.inputs(child, outside, reads)?),
        };
        let steps: BTreeMap<StepId, StepFacts> = reads
            .steps
            .names()
            .filter_map(|name| {
                let written = StepId::new(name).ok()?;
                let id = match stand.own {
                    Some(own) if own.written() == name && own.prefix() == around.prefix => own.clone(),
                    Some(_) | None => StepId::new(&format!("{}{name}", around.prefix)).ok()?,
                };
                let record = self.run?.steps.get(&id)?;
                Some((written, StepFacts { state: record.state.word(), outputs: record.value.clone() }))
            })
            .collect();
        let item = around.item.and_then(|item| {
            let value = match &item.value {
                ItemValue::Known(value) => Some(value),
                ItemValue::Of(list) => self.value(list).and_then(|list| list.get(item.index as usize)),
            };
            Some((value?, item.index))
        });
        let scope =
            Scope { mode: around.mode, inputs: inputs.as_ref().unwrap_or(&self.plan.inputs), steps: &steps, item, outputs: stand.outputs };
        ask(&scope)
    }

    /// The inputs of a child that are read.
    fn inputs(&self, child: &Child, outside: Option<usize>, reads: &Reads) -> Result<BTreeMap<String, Value>, ExprError> {
        let mut inputs = BTreeMap::new();
        for name in reads.inputs.names() {
            let value = match child.inputs.get(name) {
                Some(ChildInput::Known(value)) => value.clone(),
                Some(ChildInput::Filled(value)) => self.fill_at(Stand { scope: outside, own: None, outputs: None }, value)?,
                None => continue,
            };
            inputs.insert(name.to_owned(), value);
        }
        Ok(inputs)
    }

    fn around(&self, scope: Option<usize>) -> Around<'a> {
        let mut around = Around { prefix: String::new(), mode: &self.plan.mode, child: None, item: None };
        let mut at = scope;
        while let Some(index) = at {
            let Some(scope) = self.plan.scopes.get(index) else { break };
            match &scope.kind {
                ScopeKind::Item(item) => around.item = around.item.or(Some(item)),
                ScopeKind::Child(child) => {
                    around.prefix = format!("{}/", scope.id);
                    around.mode = &child.mode;
                    around.child = Some((child, scope.parent.filter(|parent| *parent < index)));
                    break;
                }
            }
            at = scope.parent.filter(|parent| *parent < index);
        }
        around
    }

    /// How long the list of an item turned out to be, where only the run knows. A person may have skipped it.
    fn length(&self, item: &Item) -> Option<usize> {
        let ItemValue::Of(list) = &item.value else { return None };
        match self.value(list) {
            Some(items) => items.as_array().map(Vec::len),
            None => self.run.filter(|run| run.state(list) == StepState::Skipped).map(|_| 0),
        }
    }

    fn value(&self, id: &StepId) -> Option<&'a Value> {
        self.run?.steps.get(id)?.value.as_ref()
    }

    fn done(&self, id: &StepId) -> Option<&'a Value> {
        self.value(id).filter(|_| self.run.is_some_and(|run| run.state(id) == StepState::Succeeded))
    }

    /// Whether a step of the main part inside this scope has begun.
    fn began(&self, scope: usize) -> bool {
        let Some(run) = self.run else { return false };
        let inside = |step: &PlanStep| self.plan.scopes_of(step).any(|(index, _)| index == scope);
        run.plan.steps.iter().any(|step| run.steps.get(&step.id).is_some_and(|record| record.started_at.is_some()) && inside(step))
    }
}

/// Whether a value can be the list of a `for_each`.
///
/// # Errors
/// A sentence that says why not.
pub fn fits_list(step: &PlanStep, max: u32, list: &Value) -> Result<(), String> {
    match list {
        Value::Array(items) if items.len() > max as usize && !mutants::is(Mutant::BoundIgnored) => Err(format!(
            "the list of {} has {} items, and {max} were planned (`max`); nothing of it was begun",
            step.id.written(),
            items.len()
        )),
        Value::Array(_) => Ok(()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            Err(format!("what {} goes through is no list", step.id.written()))
        }
    }
}

fn beyond(length: usize) -> String {
    match length {
        0 => "the list is empty".to_owned(),
        1 => "the list has one item only".to_owned(),
        more => format!("the list has {more} items only"),
    }
}
