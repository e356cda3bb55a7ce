//! Before an attempt: `if`, parameters, what the live inventory forbids. Steps with nothing to look at start at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use super::perform::{Call, Earlier, Kind};
use super::record::INLINE_BYTES_MAX;
use super::{Executor, ExecutorError};
use crate::approval::ApprovalStep;
use crate::context::ReadContext;
use crate::evidence::Evidence;
use crate::journal::{Event, Output, Seen};
use crate::mutants::{self, Mutant};
use crate::next::millis;
use crate::run::{DRILL, StepState, effect_of};
use crate::sight::Sight;
use crate::step::{Gate, Readiness, Step, StepError};
use lifeboat_runbooks::catalog::{DrillPolicy, Resources, Touch};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::PlanStep;
use lifeboat_store::Digest;

/// Largest filled parameters, in bytes of JSON: they are journaled with the intent, and an entry must fit a record of the store.
pub(super) const WITH_BYTES_MAX: usize = 256 * 1024;

/// Longest time that an outcome waits for gates which only glance: a file system that does not answer must not keep it from the journal.
const GLANCES_FOR_MAX: Duration = Duration::from_millis(5);

enum Begin {
    Skip(String),
    Refuse(String),
    Go(Value),
}

impl Executor {
    /// Starts the next attempt of a step, as far as that goes without an answer from outside.
    pub(super) fn begin(&mut self, id: &StepId) -> Result<(), ExecutorError> {
        let plan = Arc::clone(&self.run.plan);
        let Some(step) = plan.step(id) else { return Ok(()) };
        match self.judge(step) {
            Begin::Skip(why) => self.record(Event::StepSkipped { step: id.clone(), why }),
            Begin::Refuse(why) => self.record(Event::StepRefused { step: id.clone(), why, evidence: Evidence::none() }),
            // People agreed to facts as they were: what they look like now decides whether that still counts.
            Begin::Go(_) if self.checks_facts(step) => Ok(()),
            Begin::Go(_) if step.inner.is_some() => self.compute(step),
            Begin::Go(with) if step.step_type == ApprovalStep::TYPE => self.ask(step, &with),
            Begin::Go(with) => self.prepare(step, with),
        }
    }

    fn judge(&self, step: &PlanStep) -> Begin {
        let sight = Sight::of(&self.run);
        let begun = self.run.steps.get(&step.id).is_some_and(|record| record.attempts > 0 || record.ask.is_some());
        if !begun {
            match sight.left_out(step) {
                Ok(None) => {}
                Ok(Some(why)) => return Begin::Skip(why),
                Err(error) => return Begin::Refuse(error.to_string()),
            }
        }
        if let (Some(condition), false) = (&step.condition, begun) {
            match sight.is_true(step, condition) {
                Ok(true) => {}
                Ok(false) => return Begin::Skip(format!("`{condition}` is false")),
                Err(error) => return Begin::Refuse(error.to_string()),
            }
        }
        if let Some(why) = self.forbidden(&step.touches) {
            return Begin::Refuse(why);
        }
        match sight.fill(step, &step.with) {
            Ok(with) if with.to_string().len() > WITH_BYTES_MAX && !mutants::is(Mutant::NoLimit) => Begin::Refuse(format!(
                "its parameters have more than {WITH_BYTES_MAX} bytes once filled; read less of what earlier steps gave"
            )),
            Ok(with) => Begin::Go(with),
            Err(error) => Begin::Refuse(error.to_string()),
        }
    }

    /// Why a step must neither be looked at nor taken back: the inventory leads to something else now than what it acted on.
    pub(super) fn moved(&self, id: &StepId) -> Option<String> {
        let step = self.run.plan.step(id)?;
        match self.run.state(id) {
            // What takes it back acts on what it names itself, too.
            StepState::Succeeded | StepState::Rejected | StepState::Undoing | StepState::UndoInDoubt => {
                self.forbidden(step.grips().map(|(_, touch)| touch))
            }
            StepState::Waiting
            | StepState::AwaitingApproval
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Held
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undone
            | StepState::UndoFailed => self.forbidden(&step.touches),
        }
    }

    /// What the live inventory does not allow any more. It may only narrow a run.
    fn forbidden<'t>(&self, touches: impl IntoIterator<Item = &'t Touch>) -> Option<String> {
        for touch in touches {
            let name = &touch.resource;
            let Some(live) = self.ports.inventory.resource(name) else { return Some(format!("{name} is no longer in the inventory")) };
            let changed = self.run.plan.resources.get(name).is_some_and(|pinned| *pinned != live.identity);
            if changed && !mutants::is(Mutant::ChangedResourceTaken) {
                return Some(format!(
                    "{name} was changed in the inventory after this run was admitted; it runs only on what it was planned for"
                ));
            }
            let guarded = self.run.plan.mode == DRILL && !mutants::is(Mutant::DrillGuardOff);
            if guarded && touch.effect > Effect::Read && live.drill != DrillPolicy::Allow {
                return Some(format!("the inventory does not open {name} to drills"));
            }
        }
        None
    }

    fn ask(&mut self, step: &PlanStep, with: &Value) -> Result<(), ExecutorError> {
        let asked: ApprovalStep = match serde_json::from_value(with.clone()) {
            Ok(asked) => asked,
            Err(error) => {
                return self.record(Event::StepRefused {
                    step: step.id.clone(),
                    why: format!("its parameters do not fit: {error}"),
                    evidence: Evidence::none(),
                });
            }
        };
        self.ask_people(&step.id, asked)
    }

    /// Asks, with the facts as they are now.
    pub(super) fn ask_people(&mut self, step: &StepId, asked: ApprovalStep) -> Result<(), ExecutorError> {
        let facts = Digest::of(asked.show.to_string().as_bytes()).to_string();
        let expires_at = self.ports.clock.now().saturating_add(millis(asked.timeout.as_millis())).unwrap_or(jiff::Timestamp::MAX);
        self.record(Event::ApprovalRequested {
            step: step.clone(),
            roles: asked.roles,
            count: asked.count,
            shown: asked.show,
            facts,
            expires_at,
        })
    }

    fn prepare(&mut self, step: &PlanStep, with: Value) -> Result<(), ExecutorError> {
        let call = self.new_call(step, Kind::Prepare, Arc::new(with));
        let first = self.run.steps.get(&step.id).is_none_or(|record| record.attempts == 0);
        match call.step_type.gate() {
            // A step with nothing to look at shares its intent's commit with the outcome before it.
            Gate::Nothing if first && effect_of(step) == Effect::Read => {
                let cx: ReadContext = call.read_context();
                if let Some(Ok(Readiness::Ready { intent, evidence })) = at_once(call.step_type.prepare(&call.with, &cx)) {
                    let Call { with, attempt, .. } = call;
                    return self.start(step, attempt, Arc::unwrap_or_clone(with), intent, evidence);
                }
            }
            Gate::Glances if first && !self.pending.is_empty() => {
                self.occupy(&step.id);
                self.glances.push(call);
                return Ok(());
            }
            Gate::Nothing | Gate::Glances | Gate::Looks => {}
        }
        self.occupy(&step.id);
        self.calls.push(call);
        Ok(())
    }

    /// Asks gates that only glance, while the outcomes before them still wait for their commit: an intent that comes in time shares it.
    /// One that does not is journaled when it comes, as that of a gate which looks.
    pub(super) async fn glance(&mut self) -> Result<(), ExecutorError> {
        let clock = Arc::clone(&self.ports.clock);
        let mut over = pin!(clock.sleep(GLANCES_FOR_MAX));
        let mut asked = Vec::new();
        loop {
            let calls = std::mem::take(&mut self.glances);
            asked.extend(calls.into_iter().map(|call| self.launch_one(call)));
            asked.retain(|task| self.of_task.contains_key(task));
            if asked.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended).await?;
                    self.settle()?;
                }
                () = &mut over => return Ok(()),
            }
        }
    }

    /// Answers an inner step. It acts on nothing, so a small answer is journaled together with its beginning.
    fn compute(&mut self, step: &PlanStep) -> Result<(), ExecutorError> {
        let Some(inner) = &step.inner else { return Ok(()) };
        let value = match Sight::of(&self.run).inner(step, inner) {
            Ok(value) => value,
            Err(why) => return self.record(Event::StepRefused { step: step.id.clone(), why, evidence: Evidence::none() }),
        };
        let attempt = self.run.steps.get(&step.id).map_or(1, |record| record.attempts + 1);
        let with = Value::Object(serde_json::Map::new());
        self.record(Event::StepStarted { step: step.id.clone(), attempt, with, intent: Value::Null, evidence: Evidence::none() })?;
        if value.to_string().len() > INLINE_BYTES_MAX {
            return self.give(step, value);
        }
        let output = Output::Inline(value);
        self.record(Event::StepSucceeded { step: step.id.clone(), output, measures: Vec::new(), seen: Seen::Executed })?;
        self.assert_outputs(step)
    }

    /// Puts an answer that is known in line behind the next commit.
    fn give(&mut self, step: &PlanStep, value: Value) -> Result<(), ExecutorError> {
        let mut call = self.new_call(step, Kind::Give, Arc::default());
        call.done = value;
        self.occupy(&step.id);
        self.calls.push(call);
        Ok(())
    }

    /// Journals an intent and puts the act in line behind its commit.
    pub(super) fn start(
        &mut self,
        step: &PlanStep,
        attempt: u32,
        with: Value,
        intent: Value,
        evidence: Evidence,
    ) -> Result<(), ExecutorError> {
        self.record(Event::StepStarted { step: step.id.clone(), attempt, with, intent, evidence })?;
        self.call(&step.id, Kind::Execute)?;
        if let (1, Some(call)) = (attempt, self.calls.last_mut()) {
            call.earlier = Earlier::Nothing;
        }
        Ok(())
    }

    /// Puts a call with the journaled parameters in line behind the next commit.
    pub(super) fn call(&mut self, id: &StepId, kind: Kind) -> Result<(), ExecutorError> {
        let plan = Arc::clone(&self.run.plan);
        let Some(step) = plan.step(id) else { return Ok(()) };
        if let Some(inner) = &step.inner {
            // What it answers follows from the journal: after a crash it is answered again.
            return match Sight::of(&self.run).inner(step, inner) {
                Ok(value) => self.give(step, value),
                Err(why) => self.failed(step, StepError::hopeless(why)),
            };
        }
        let with = self.run.steps.get(id).and_then(|record| record.with.clone()).unwrap_or_default();
        let call = self.new_call(step, kind, with);
        self.occupy(id);
        self.calls.push(call);
        Ok(())
    }
}

/// The answer of a gate that only computes. One that panics or waits is left to the ordinary call, which bears both: the executor
/// must not die or stand still with it.
fn at_once<T>(gate: impl Future<Output = T>) -> Option<T> {
    let mut gate = pin!(gate);
    let mut cx = Context::from_waker(Waker::noop());
    match catch_unwind(AssertUnwindSafe(|| gate.as_mut().poll(&mut cx))) {
        Ok(Poll::Ready(answer)) => Some(answer),
        Ok(Poll::Pending) | Err(_) => None,
    }
}
