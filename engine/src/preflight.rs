//! Asks every step of a plan whether it may start, before anything does. Changes nothing; `plan` prints it, `run` refuses by it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::approval::ApprovalStep;
use crate::context::{Purpose, ReadContext, StepContext, Unwatched};
use crate::evidence::Evidence;
use crate::facts;
use crate::journal::RunId;
use crate::mutants::{self, Mutant};
use crate::ports::Ports;
use crate::sight::Sight;
use crate::step::{Readiness, Step, StepError};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep};

/// How one step stands before the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReadiness {
    /// The step.
    pub step: StepId,
    /// Whether it may start.
    pub answer: Answer,
    /// What was seen.
    pub evidence: Evidence,
    /// Why the undo that the runbook writes for it could never be made as the inventory stands, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_forbidden: Option<String>,
}

impl StepReadiness {
    fn of(step: &PlanStep, answer: Answer, evidence: Evidence) -> Self {
        Self { step: step.id.clone(), answer, evidence, undo_forbidden: None }
    }

    /// Whether a run must not begin because of this step: it must not start, or could not be taken back as its runbook says.
    #[must_use]
    pub fn refuses(&self) -> bool {
        matches!(self.answer, Answer::Refused(_)) || self.undo_forbidden.is_some()
    }
}

/// Whether a step may start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It may.
    Ready,
    /// It cannot be judged yet.
    Later(String),
    /// It must not.
    Refused(String),
}

/// Steps asked at the same time: enough to be quick, few enough not to be a load on what is being rescued.
const AT_ONCE: usize = 8;

/// Longest wait for one step's answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Asks every step of the main part and of `finally`, and answers in the order of the plan.
pub async fn preflight(plan: &Plan, ports: &Ports) -> Vec<StepReadiness> {
    let all: Vec<&PlanStep> = plan.steps.iter().chain(&plan.finally).collect();
    let mut answers: Vec<Option<StepReadiness>> = vec![None; all.len()];
    let mut tasks: JoinSet<(usize, StepReadiness)> = JoinSet::new();
    for (place, step) in all.iter().enumerate() {
        if step.inner.is_some() {
            // It asks nobody: what it answers follows from the steps before it.
            answers[place] = Some(StepReadiness::of(step, Answer::Ready, Evidence::none()));
            continue;
        }
        if tasks.len() >= AT_ONCE
            && let Some(Ok((done, answer))) = tasks.join_next().await
        {
            answers[done] = Some(answer);
        }
        let (step, ports, facts) = ((*step).clone(), ports.clone(), Arc::new(facts::before_a_run(plan, step)));
        let with = filled(plan, &step);
        let known = Known {
            step: Sight::before(plan).known(&step, &step.with),
            undo: step.written_undo().map_or(Value::Null, |undo| Sight::before(plan).known(&step, &undo.with)),
        };
        tasks.spawn(async move { (place, ask(&step, with, &known, &ports, facts).await) });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((place, answer)) = done {
            answers[place] = Some(answer);
        }
    }
    let lost = |step: &PlanStep| StepReadiness::of(step, Answer::Refused("its checks failed to run".into()), Evidence::none());
    answers.into_iter().zip(&all).map(|(answer, step)| answer.unwrap_or_else(|| lost(step))).collect()
}

/// The parameters, where all of them are known before the run.
fn filled(plan: &Plan, step: &PlanStep) -> Result<Value, Answer> {
    if step.step_type == ApprovalStep::TYPE {
        return Err(Answer::Later("the answer of people".into()));
    }
    Sight::before(plan).fill(step, &step.with).map_err(|_| Answer::Later("outputs of earlier steps".into()))
}

/// Parameters with null for what is not known before the run.
struct Known {
    step: Value,
    undo: Value,
}

async fn ask(
    step: &PlanStep,
    with: Result<Value, Answer>,
    known: &Known,
    ports: &Ports,
    facts: Arc<crate::context::RunFacts>,
) -> StepReadiness {
    let refused = |why: String, evidence: Evidence| StepReadiness::of(step, Answer::Refused(why), evidence);
    let Some(step_type) = ports.registry.step(&step.step_type) else {
        return refused(format!("this program has no step type {}", step.step_type), Evidence::none());
    };
    let run = match RunId::new("preview") {
        Ok(run) => run,
        Err(why) => return refused(why, Evidence::none()),
    };
    let deadline = ports.clock.instant().after(ANSWER_WITHIN);
    let cx = ReadContext::new(
        run,
        step.id.clone(),
        0,
        Arc::clone(&ports.clock),
        Arc::clone(&ports.inventory),
        Arc::clone(&ports.secrets),
        facts,
        deadline,
    );
    let readiness = match (with, step_type.forbidden(&known.step, &cx)) {
        (_, Some(why)) => refused(why, Evidence::none()),
        (Err(answer), None) => StepReadiness::of(step, answer, Evidence::none()),
        (Ok(with), None) => {
            let answer = tokio::select! {
                answer = step_type.prepare(&with, &cx) => answer,
                () = ports.clock.sleep(ANSWER_WITHIN) => Err(StepError::not_done("its checks gave no answer in time")),
            };
            if let (Ok(Readiness::Ready { intent, .. }), true) = (&answer, mutants::is(Mutant::PreviewActs)) {
                let _ = step_type.execute(&with, intent, &StepContext::new(cx.clone(), Arc::new(Unwatched))).await;
            }
            match answer {
                Ok(Readiness::Ready { evidence, .. }) => StepReadiness::of(step, Answer::Ready, evidence),
                Ok(Readiness::Later { needs, evidence }) => StepReadiness::of(step, Answer::Later(needs), evidence),
                Ok(Readiness::Refused { why, evidence }) | Err(StepError::Refused { why, evidence }) => refused(why, evidence),
                Err(error) => refused(error.to_string(), Evidence::none()),
            }
        }
    };
    let undo_forbidden = step.written_undo().and_then(|undo| match ports.registry.step(&undo.step_type) {
        Some(undo_type) => undo_type.forbidden(&known.undo, &cx.made_for(Purpose::WrittenUndo)),
        None => Some(format!("this program has no step type {}", undo.step_type)),
    });
    StepReadiness { undo_forbidden, ..readiness }
}
