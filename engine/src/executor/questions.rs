//! Questions to people whose facts may get worse: measured anew at the last yes, and again before the first step that needs the answer.
//! Worse facts, and facts that can no longer be had, void what was said. Asking and counting as such is in `begin` and `steering`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::{Id, JoinError};

use super::perform::{self, Call, Kind};
use super::{Executor, ExecutorError, Waiting};
use crate::approval::ApprovalStep;
use crate::context::Proof;
use crate::journal::Event;
use crate::mutants::{self, Mutant};
use crate::run::{StepState, asks, effect_of};
use crate::sight::Sight;
use crate::steering::{Command, SteerError, decide};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::PlanStep;

/// Facts that are no older than this are not measured again before the step that relies on them: the last yes has just done so, and a
/// recovery must not wait for the same answer twice.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// What the steps behind a question measured anew.
pub(super) type Measured = Vec<(StepId, Result<Value, String>)>;

impl Executor {
    /// Whether this is the last yes to facts that can be measured anew. Then it waits until they are.
    pub(super) fn wants_facts(&self, command: &Command) -> Option<StepId> {
        let Command::Approve { step, .. } = command else { return None };
        let record = self.run.steps.get(step)?;
        let ask = record.ask.as_ref()?;
        let last = record.approvals.len() + 1 >= ask.count as usize;
        (last && !self.measurable(step).is_empty()).then(|| step.clone())
    }

    /// Puts a yes in line until the facts are there.
    pub(super) fn wait_for_facts(&mut self, question: StepId, answer: Waiting) {
        self.waiting.entry(question.clone()).or_default().push(answer);
        self.measure(&question);
    }

    /// Measures the facts of an answered question anew before `step`, the first that needs it, starts. False where there is nothing to
    /// wait for.
    pub(super) fn checks_facts(&mut self, step: &PlanStep) -> bool {
        if self.run.state(&step.id) != StepState::Waiting {
            return false;
        }
        let plan = std::sync::Arc::clone(&self.run.plan);
        let answered: Vec<StepId> = step
            .needs
            .iter()
            .filter(|need| plan.step(need).is_some_and(asks) && self.run.state(need) == StepState::Succeeded)
            .filter(|need| self.is_stale(need) && !self.is_relied_on(need))
            .cloned()
            .collect();
        for question in &answered {
            self.measure(question);
        }
        !answered.is_empty()
    }

    /// Whether a step that needs this answer has begun: its effect may itself have changed the facts.
    fn is_relied_on(&self, question: &StepId) -> bool {
        let begun = |step: &PlanStep| self.run.steps.get(&step.id).is_some_and(|record| record.started_at.is_some());
        self.run.plan.all_steps().any(|step| step.needs.contains(question) && begun(step))
    }

    fn is_stale(&self, question: &StepId) -> bool {
        let fresh_from = self.ports.clock.now().saturating_sub(SignedDuration::try_from(FRESH_FOR).unwrap_or(SignedDuration::ZERO));
        let fresh_from = fresh_from.unwrap_or(Timestamp::MIN);
        let at = |id: &StepId| self.run.steps.get(id).and_then(|record| record.measured_at);
        self.measurable(question).iter().any(|id| at(id).is_none_or(|at| at < fresh_from))
    }

    /// The steps behind a question's facts that only look, and that can look again.
    fn measurable(&self, question: &StepId) -> Vec<StepId> {
        let Some(ask) = self.run.steps.get(question).and_then(|record| record.ask.as_ref()) else { return Vec::new() };
        let measures = |id: &&StepId| {
            self.run.steps.get(id).is_some_and(|record| record.state == StepState::Succeeded && record.proof == Some(Proof::Seen))
                && self.run.plan.step(id).is_some_and(|step| {
                    step.inner.is_none()
                        && effect_of(step) == Effect::Read
                        && self.ports.registry.step(&step.step_type).is_some_and(|known| known.measures_anew())
                })
        };
        ask.outputs.keys().filter(measures).cloned().collect()
    }

    fn measure(&mut self, question: &StepId) {
        if !self.occupy(question) {
            return;
        }
        let calls: Vec<Call> = self
            .measurable(question)
            .iter()
            .filter_map(|id| {
                let step = self.run.plan.step(id)?;
                let with = self.run.steps.get(id).and_then(|record| record.with.clone()).unwrap_or_default();
                Some(self.new_call(step, Kind::Execute, with))
            })
            .collect();
        let task = self.measuring.spawn(async move {
            let mut measured = Measured::new();
            for call in calls {
                let step = call.step.clone();
                measured.push((step, perform::measure(call).await));
            }
            measured
        });
        self.of_question.insert(task.id(), question.clone());
    }

    /// The facts are there, or cannot be had.
    pub(super) async fn measured(&mut self, ended: Result<(Id, Measured), JoinError>) -> Result<(), ExecutorError> {
        let (task, measured) = match ended {
            Ok((task, measured)) => (task, Ok(measured)),
            Err(error) => (error.id(), Err(format!("the step's code failed: {error}"))),
        };
        let Some(question) = self.of_question.remove(&task) else { return Ok(()) };
        self.vacate(&question);
        let answers = self.waiting.remove(&question).unwrap_or_default();
        // Where it was denied, has expired or was called off meanwhile, there is nothing to void.
        let open = matches!(self.run.state(&question), StepState::AwaitingApproval | StepState::Succeeded);
        let why = match measured {
            _ if !open => None,
            Ok(measured) => self.take_facts(&question, measured).await?,
            Err(why) => Some(format!("the facts cannot be measured again: {why}")),
        };
        let Some(why) = why else {
            return self.count(answers);
        };
        self.ask_anew(&question, &why)?;
        for Waiting { reply, .. } in answers {
            let words = format!("{why}; no yes to {question} counts any more, people are asked again: look at the facts as they are now");
            // Whoever asked may be gone.
            let _ = reply.send(Err(SteerError::NotNow(words)));
        }
        Ok(())
    }

    /// Journals the new facts. Gives what makes them unfit for the yes that was or is being said.
    async fn take_facts(&mut self, question: &StepId, measured: Measured) -> Result<Option<String>, ExecutorError> {
        let Some(ask) = self.run.steps.get(question).and_then(|record| record.ask.clone()) else { return Ok(None) };
        let mut lost = None;
        let mut now: BTreeMap<StepId, Value> = BTreeMap::new();
        for (step, answer) in measured {
            match answer {
                Ok(value) => {
                    self.remeasured(&step, &value).await?;
                    now.insert(step, value);
                }
                Err(why) => lost = lost.or(Some(format!("{step} cannot be measured again, and what is unknown is not agreed to: {why}"))),
            }
        }
        if lost.is_some() {
            return Ok(lost);
        }
        let shown = match self.asked_now(question) {
            Ok(asked) => asked.show,
            Err(why) => return Ok(Some(why)),
        };
        if shown == ask.shown || mutants::is(Mutant::WorseFactsStand) {
            return Ok(None);
        }
        Ok(now.iter().find_map(|(step, now)| {
            let before = ask.outputs.get(step)?;
            let known = self.run.plan.step(step).and_then(|planned| self.ports.registry.step(&planned.step_type))?;
            match known.worse(before, now) {
                Ok(worse) => worse.map(|worse| format!("the facts got worse: {step}: {worse}")),
                Err(why) => Some(format!("the facts of {step} cannot be compared: {why}")),
            }
        }))
    }

    async fn remeasured(&mut self, step: &StepId, value: &Value) -> Result<(), ExecutorError> {
        let known = self.run.plan.step(step).and_then(|planned| self.ports.registry.step(&planned.step_type));
        let measures = known.and_then(|known| known.measures(value).ok()).unwrap_or_default();
        let output = self.output(value).await?;
        self.record(Event::FactsRemeasured { step: step.clone(), output, measures })?;
        self.hold_value(step, value.clone());
        Ok(())
    }

    /// The question with its facts filled in as they are now.
    fn asked_now(&self, question: &StepId) -> Result<ApprovalStep, String> {
        let Some(step) = self.run.plan.step(question) else { return Err(format!("the plan has no step {question}")) };
        let with = Sight::of(&self.run).fill(step, &step.with).map_err(|error| error.to_string())?;
        serde_json::from_value(with).map_err(|error| format!("its parameters do not fit: {error}"))
    }

    fn ask_anew(&mut self, question: &StepId, why: &str) -> Result<(), ExecutorError> {
        self.record(Event::ApprovalVoided { step: question.clone(), why: why.to_owned() })?;
        match self.asked_now(question) {
            Ok(asked) => self.ask_people(question, asked),
            // The question stays as it was; there are no other facts to show.
            Err(_) => Ok(()),
        }
    }

    /// The facts are no worse: each yes in line counts as if it came now.
    fn count(&mut self, answers: Vec<Waiting>) -> Result<(), ExecutorError> {
        for Waiting { command, by, reply } in answers {
            match decide(&self.run, &command, &by, &self.ports) {
                Ok(events) => {
                    for event in events {
                        self.record(event)?;
                    }
                    self.replies.push(reply);
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            }
        }
        Ok(())
    }
}
