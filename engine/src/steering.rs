//! What people may do to a run, and which events follow. Pure but for the inventory and the step types that it is given.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::approval::ApprovalStep;
use crate::journal::{Actor, Back, Event, Outcome, Resolution};
use crate::mutants::{self, Mutant};
use crate::ports::Ports;
use crate::run::{Run, RunPhase, StepState};
use crate::sight::fits_list;
use crate::step::Step as _;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Inner, PlanStep};

/// Longest comment, in bytes.
pub const COMMENT_BYTES_MAX: usize = 4096;

/// One act of steering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Say yes.
    Approve {
        /// The step that asks.
        step: StepId,
        /// Their words.
        comment: Option<String>,
    },
    /// Say no: final.
    Deny {
        /// The step that asks.
        step: StepId,
        /// Their words.
        comment: Option<String>,
    },
    /// Decide about a step that is held or has failed.
    Resolve {
        /// The step.
        step: StepId,
        /// What.
        resolution: Resolution,
        /// Why.
        comment: String,
    },
    /// Stop the run.
    Cancel {
        /// Why.
        comment: Option<String>,
    },
    /// Stop it for a while: nothing starts, what acts goes on to its end.
    Pause {
        /// Why.
        comment: String,
    },
    /// Let a paused run go on.
    Continue {
        /// Why.
        comment: String,
    },
    /// Give up the locks of a stuck run.
    Release {
        /// Why.
        comment: String,
    },
}

/// An act that is not possible. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteerError {
    /// No such step.
    #[error("the run has no step {0}")]
    NoSuchStep(StepId),
    /// The step or the run is not in a state for this.
    #[error("{0}")]
    NotNow(String),
    /// This person may not.
    #[error("{0}")]
    NotYou(String),
    /// What was given does not fit.
    #[error("{0}")]
    Unfit(String),
}

/// The events that a command leads to.
///
/// # Errors
/// Where it is not possible now, or not for this person.
pub fn decide(run: &Run, command: &Command, by: &Actor, ports: &Ports) -> Result<Vec<Event>, SteerError> {
    let comment = match command {
        Command::Approve { comment, .. } | Command::Deny { comment, .. } | Command::Cancel { comment } => {
            comment.as_deref().unwrap_or_default()
        }
        Command::Resolve { comment, .. } | Command::Release { comment } | Command::Pause { comment } | Command::Continue { comment } => {
            if comment.trim().is_empty() {
                return Err(SteerError::Unfit("say why with --comment: it is kept in the journal".into()));
            }
            comment
        }
    };
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(SteerError::Unfit(format!("the comment has {} bytes; {COMMENT_BYTES_MAX} are kept", comment.len())));
    }
    let reopens = matches!(command, Command::Resolve { step, .. } if run.state(step) == StepState::UndoFailed);
    if run.phase == RunPhase::Ended && !reopens && !matches!(command, Command::Release { .. }) {
        return Err(SteerError::NotNow(format!("run {} has ended", run.id)));
    }
    match command {
        Command::Approve { step, comment } => {
            let facts = answerable(run, step, by, ports)?;
            Ok(vec![Event::ApprovalGranted { step: step.clone(), by: by.clone(), comment: comment.clone(), facts }])
        }
        Command::Deny { step, comment } => {
            answerable(run, step, by, ports)?;
            Ok(vec![Event::ApprovalDenied { step: step.clone(), by: by.clone(), comment: comment.clone() }])
        }
        Command::Resolve { step, resolution, comment } => resolve(run, step, resolution, comment, by, ports),
        Command::Cancel { comment } => match run.phase {
            RunPhase::Admitted | RunPhase::Running | RunPhase::Held if run.cancelled_by.is_none() => {
                Ok(vec![Event::CancelRequested { by: by.clone(), comment: comment.clone() }])
            }
            RunPhase::Admitted | RunPhase::Running | RunPhase::Held => Err(SteerError::NotNow("it is being cancelled already".into())),
            RunPhase::Unwinding | RunPhase::Finalising | RunPhase::Ended => {
                Err(SteerError::NotNow(format!("run {} is {} already", run.id, run.phase.word())))
            }
        },
        Command::Pause { comment } => match &run.paused {
            Some(pause) => Err(SteerError::NotNow(format!("{} paused it already: {}", pause.by.name(), pause.why))),
            None => Ok(vec![Event::RunPaused { by: by.clone(), comment: comment.clone() }]),
        },
        Command::Continue { comment } => match &run.paused {
            Some(_) => Ok(vec![Event::RunContinued { by: by.clone(), comment: comment.clone() }]),
            None => Err(SteerError::NotNow(match run.frozen.first() {
                Some(frozen) => format!("it is not paused but frozen; `unfreeze{}` lets it go on", named(frozen.resource.as_deref())),
                None => "it is not paused".into(),
            })),
        },
        Command::Release { comment } => {
            if run.phase != RunPhase::Ended || run.outcome != Some(Outcome::Stuck) {
                return Err(SteerError::NotNow("only a run that ended stuck keeps locks that can be released".into()));
            }
            if run.locks_released {
                return Err(SteerError::NotNow("its locks were released already".into()));
            }
            Ok(vec![Event::RunReleasedLocks { by: by.clone(), comment: comment.clone() }])
        }
    }
}

fn named(resource: Option<&str>) -> String {
    resource.map(|resource| format!(" {resource}")).unwrap_or_default()
}

/// A state as people say it: expressions call it by a name with underscores.
fn spoken(state: StepState) -> String {
    state.word().replace('_', " ")
}

/// Whether this person may answer now; gives the digest of the facts they were shown.
fn answerable(run: &Run, step: &StepId, by: &Actor, ports: &Ports) -> Result<String, SteerError> {
    let record = run.steps.get(step).ok_or_else(|| SteerError::NoSuchStep(step.clone()))?;
    let Some(ask) = record.ask.as_ref().filter(|_| record.state == StepState::AwaitingApproval) else {
        return Err(SteerError::NotNow(format!("step {step} is {}; nobody is asked", spoken(record.state))));
    };
    if ask.expires_at <= run.timers_at(ports.clock.now()) && !mutants::is(Mutant::ExpiredCounts) {
        return Err(SteerError::NotNow("time is up: silence was a no".into()));
    }
    let Some(name) = by.person.as_ref().filter(|_| by.system_user != "root") else {
        return Err(SteerError::NotYou(format!(
            "the system user {} is no person of the inventory; add one under `people` with this `system_user` (root is never a person)",
            by.system_user
        )));
    };
    let known = ports.inventory.people.get(name).ok_or_else(|| SteerError::NotYou(format!("{name} is no longer in the inventory")))?;
    if !ask.roles.is_empty() && !ask.roles.iter().any(|role| known.roles.contains(role)) && !mutants::is(Mutant::RoleIgnored) {
        return Err(SteerError::NotYou(format!("{name} has none of the roles {}", ask.roles.join(", "))));
    }
    let answers_anyhow = mutants::is(Mutant::StarterAnswers);
    if !answers_anyhow
        && run.started_by.as_ref().is_some_and(|starter| starter.person.as_ref() == Some(name) || starter.system_user == by.system_user)
    {
        return Err(SteerError::NotYou(format!("{name} started this run; somebody else has to answer")));
    }
    if record.approvals.iter().any(|approval| approval.by == *name) && !mutants::is(Mutant::CountedTwice) {
        return Err(SteerError::NotNow(format!("{name} has said yes already; each person counts once")));
    }
    Ok(ask.facts.clone())
}

fn resolve(run: &Run, step: &StepId, resolution: &Resolution, comment: &str, by: &Actor, ports: &Ports) -> Result<Vec<Event>, SteerError> {
    let record = run.steps.get(step).ok_or_else(|| SteerError::NoSuchStep(step.clone()))?;
    let change = match resolution {
        Resolution::Done { .. } => crate::run::tables::StepChange::ResolvedDone,
        Resolution::Retry => crate::run::tables::StepChange::ResolvedRetry,
        Resolution::Skip => crate::run::tables::StepChange::ResolvedSkip,
        Resolution::GiveUp => crate::run::tables::StepChange::ResolvedGiveUp,
    };
    if crate::run::tables::step_after(record.state, change).is_none() {
        return Err(SteerError::NotNow(format!(
            "step {step} is {}; this decision is for a step that is held or has failed",
            spoken(record.state)
        )));
    }
    let begun = record.state != StepState::Waiting;
    let over = match run.phase {
        RunPhase::Admitted | RunPhase::Running | RunPhase::Held => false,
        RunPhase::Unwinding | RunPhase::Finalising | RunPhase::Ended => run.plan.steps.iter().any(|planned| planned.id == *step),
    };
    if !begun && over {
        return Err(SteerError::NotNow(format!("run {} is {}; step {step} does not begin any more", run.id, run.phase.word())));
    }
    // A decision about an approval would let whoever started the run answer for the people who were asked.
    let planned_approval = run.plan.step(step).is_some_and(|planned| planned.step_type == ApprovalStep::TYPE);
    if planned_approval && matches!(resolution, Resolution::Done { .. } | Resolution::Skip) {
        return Err(SteerError::NotYou(format!("{step} is answered by people: `retry` asks them anew, `give-up` ends it")));
    }
    let in_time = match run.phase {
        RunPhase::Admitted | RunPhase::Running | RunPhase::Held => true,
        RunPhase::Unwinding | RunPhase::Ended => record.state == StepState::UndoFailed,
        RunPhase::Finalising => false,
    };
    let retries_undo = record.state == StepState::UndoFailed;
    if retries_undo && run.phase == RunPhase::Finalising {
        return Err(SteerError::NotNow(format!("run {} is finalising; decide about {step} once it has ended", run.id)));
    }
    if retries_undo && run.locks_released {
        return Err(SteerError::NotNow(format!("the locks of run {} were released; it touches nothing any more", run.id)));
    }
    if *resolution == Resolution::Retry && !in_time {
        return Err(SteerError::NotNow(format!("run {} is {}; nothing of it is tried again", run.id, run.phase.word())));
    }
    // An effect that a person vouches for now would stand in a run that says that it was undone.
    if matches!(resolution, Resolution::Done { .. }) && run.phase == RunPhase::Finalising && matches!(run.turn, Some((_, Back::Undo))) {
        return Err(SteerError::NotNow(format!("run {} has undone what was done; {step} can count as done no more", run.id)));
    }
    // What is done about an undo has no outputs.
    if let (Resolution::Done { outputs }, Some(planned), false) = (resolution, run.plan.step(step), retries_undo) {
        match &planned.inner {
            Some(inner) => check_inner(planned, inner, outputs)?,
            None => check_outputs(&planned.step_type, outputs, ports)?,
        }
    }
    let resolved = Event::StepResolved { step: step.clone(), resolution: resolution.clone(), by: by.clone(), comment: comment.to_owned() };
    if run.phase == RunPhase::Ended {
        return Ok(vec![Event::RunReopened { by: by.clone(), comment: comment.to_owned() }, resolved]);
    }
    Ok(vec![resolved])
}

/// What a person says that an inner step answered must be what later steps read.
fn check_inner(step: &PlanStep, inner: &Inner, outputs: &Value) -> Result<(), SteerError> {
    let missing = match inner {
        Inner::List { max, .. } => return fits_list(step, *max, outputs).map_err(SteerError::Unfit),
        Inner::Items if outputs.is_array() => return Ok(()),
        Inner::Items => return Err(SteerError::Unfit(format!("the outputs of {} are a list; skip it, or retry", step.id))),
        Inner::Outputs { outputs: wanted, .. } => wanted.keys().find(|name| outputs.get(name.as_str()).is_none_or(Value::is_null)),
    };
    match missing {
        None => Ok(()),
        Some(name) => Err(SteerError::Unfit(format!("the child run {} gives `{name}`: say it with --output {name}=value", step.id))),
    }
}

fn check_outputs(step_type: &str, outputs: &Value, ports: &Ports) -> Result<(), SteerError> {
    let known = ports.registry.step(step_type).ok_or_else(|| SteerError::Unfit(format!("this program has no step type {step_type}")))?;
    known
        .measures(outputs)
        .map(|_| ())
        .map_err(|why| SteerError::Unfit(format!("these are not the outputs of {step_type} ({why}); give them with --output name=value")))
}
