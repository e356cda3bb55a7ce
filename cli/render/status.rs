//! How one run stands, for the person on call: what waits, and the exact command that helps.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::journal::Outcome;
use lifeboat_engine::predict::Left;
use lifeboat_engine::run::{Ask, Run, RunPhase, StepState};
use lifeboat_engine::unused::{self, Row};
use lifeboat_server::control::{BrakeKind, RunSummary};
use serde_json::Value;

use super::{Driver, predicted, runs, words};

/// `command` is how a person calls this program for the same inventory and data.
/// `left` is what is left of it, in words.
pub(crate) fn text(run: &Run, summary: &RunSummary, driver: Driver, command: &str, left: Option<&str>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}  {} ({})", run.id, run.plan.title, run.plan.mode);
    let _ = writeln!(
        text,
        "{}{}",
        runs::standing(summary, driver),
        run.why.as_ref().filter(|_| run.outcome.is_some()).map(|why| format!(": {}", words::clean(why))).unwrap_or_default()
    );
    if let (Some(from), Some(to)) = (run.admitted_at, run.ended_at) {
        let _ = writeln!(
            text,
            "started {} by {}, took {}",
            from.strftime("%Y-%m-%d %H:%M:%S UTC"),
            words::clean(&summary.started_by),
            words::length(Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO))
        );
    } else if let Some(from) = run.admitted_at {
        let _ = writeln!(text, "started {} by {}", from.strftime("%Y-%m-%d %H:%M:%S UTC"), words::clean(&summary.started_by));
    }
    if let Some(left) = left {
        let _ = writeln!(text, "{left}");
    }
    for brake in &summary.brakes {
        let _ = writeln!(text, "{}", runs::braked(brake));
    }
    text.push('\n');
    for row in unused::rows(run) {
        let step = match row {
            Row::Step(step) => step,
            Row::Unused(unused) => {
                let _ = writeln!(text, "  {} {unused}", words::mark(StepState::Skipped));
                continue;
            }
        };
        let Some(record) = run.steps.get(&step.id) else { continue };
        let stopped = driver == Driver::Gone && matches!(record.state, StepState::Running | StepState::Undoing);
        let state = if stopped { "interrupted: looked at on resume" } else { words::state(record.state) };
        let _ = write!(text, "  {} {:<20} {:<14} {state}", words::mark(record.state), step.id.as_str(), step.step_type);
        if record.attempts > 1 {
            let _ = write!(text, " (attempt {})", record.attempts);
        }
        text.push('\n');
        if !matches!(record.state, StepState::Succeeded | StepState::Waiting)
            && let Some(why) = &record.why
        {
            let _ = writeln!(text, "      {}", words::clean(why));
        }
    }
    let help = help(run, summary, driver, command);
    if !help.is_empty() {
        let _ = writeln!(text, "\nWhat helps now:");
        help.iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    text
}

/// What is left of a run at this instant, held against its recovery time objective.
pub(crate) fn left(run: &Run, left: &Left, now: Timestamp) -> String {
    let since = |from: Timestamp| Duration::try_from(now.duration_since(from)).unwrap_or(Duration::ZERO);
    let began = run.incident.outage_began.map(|(earliest, _)| earliest).or(run.admitted_at);
    predicted::left(left, began.map_or(Duration::ZERO, since), run.plan.objectives.rto_ms.map(Duration::from_millis))
}

/// Exact commands for what waits.
fn help(run: &Run, summary: &RunSummary, driver: Driver, command: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let id = &run.id;
    for waiting in &summary.waiting {
        match waiting.state {
            StepState::AwaitingApproval => {
                lines.push(format!(
                    "{command} approve {id} {} --comment \"...\"    (somebody else than {})",
                    waiting.step,
                    words::clean(&summary.started_by)
                ));
                lines.push(format!("{command} deny {id} {} --comment \"...\"", waiting.step));
            }
            StepState::Held | StepState::Failed | StepState::Rejected => {
                lines.push(format!("{command} resolve {id} {} retry --comment \"...\"       (or done, skip, give-up)", waiting.step));
            }
            StepState::Waiting
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Succeeded
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoFailed
            | StepState::UndoInDoubt => {}
        }
    }
    for brake in &summary.brakes {
        match (brake.kind, &brake.by) {
            (BrakeKind::Paused, _) => lines.push(format!("{command} continue {id} --comment \"...\"")),
            (BrakeKind::Frozen, Some(_)) => {
                let resource = brake.resource.as_ref().map(|resource| format!(" {resource}")).unwrap_or_default();
                lines.push(format!("{command} unfreeze{resource} --comment \"...\"    (for every run)"));
            }
            // What cannot be read cannot be lifted either.
            (BrakeKind::Frozen, None) => {}
        }
    }
    for step in run.plan.steps.iter().filter(|step| run.state(&step.id) == StepState::UndoFailed && !run.locks_released) {
        lines.push(format!(
            "{command} resolve {id} {} retry --comment \"...\"    (its undo; or done, once it is put right by hand)",
            step.id
        ));
    }
    if run.phase != RunPhase::Ended && driver == Driver::Gone {
        lines.push(format!("{command} resume {id}        (no process drives it now)"));
    }
    if run.outcome == Some(Outcome::Stuck) && !run.locks_released {
        lines.push(format!(
            "{command} resolve {id} --release --comment \"...\"    (gives up its locks, once what is left behind is in order)"
        ));
    }
    if run.phase == RunPhase::Ended {
        lines.push(format!("{command} report {id}"));
    }
    lines
}

/// The question and the facts that people are shown before they answer.
pub(crate) fn shown(ask: &Ask) -> String {
    let mut text = String::from("You are shown these facts:\n");
    facts(&mut text, &ask.shown, "  ");
    text
}

pub(crate) fn facts(text: &mut String, value: &Value, indent: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Object(_) => {
                        let _ = writeln!(text, "{indent}{name}:");
                        facts(text, value, &format!("{indent}  "));
                    }
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                        let _ = writeln!(text, "{indent}{name}: {}", words::value(value));
                    }
                }
            }
        }
        Value::Null => {
            let _ = writeln!(text, "{indent}none");
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            let _ = writeln!(text, "{indent}{}", words::value(value));
        }
    }
}
