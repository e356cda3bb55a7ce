//! Judges a drill against what was promised, and a prediction against what came. What a drill left is compared in the engine.

use lifeboat_engine::drill::{comparison, left_standing};
use lifeboat_engine::journal::Turn;
use lifeboat_engine::run::{DRILL, StepState};
use lifeboat_runbooks::plan::Plan;

use super::history::History;
use super::path::Path;
use super::verdict;
use crate::drill::{CleanUp, DrillLine, DrillReport, Prediction};
use crate::report::{Figure, Report, Standing};
use crate::words;

/// Judges a drill; `None` for another run, and before it is over.
pub(super) fn drill(plan: &Plan, history: &History, report: &Report, verified: bool) -> Option<DrillReport> {
    if plan.mode != DRILL || !report.outcome.ended() {
        return None;
    }
    let mut lines = vec![steps(plan, history), line("verified", Some(verified), verified_words(verified))];
    let rehearsal = report.rehearsal.as_ref()?;
    if report.objectives.rto_seconds.is_some() {
        let said = match rehearsal.within_rto {
            Some(_) => format!("{} from {} to service seen again", words::interval(rehearsal.recovery), from(&rehearsal.counted_from)),
            None if rehearsal.recovery.seconds_max.is_none() => "not measured: no step saw the service working from outside".to_owned(),
            None => format!("not measured well enough: service was seen again after {}", words::interval(rehearsal.recovery)),
        };
        lines.push(line("rto", rehearsal.within_rto, said));
    }
    if let Some(rpo) = report.objectives.rpo_seconds {
        lines.push(loss(report, rehearsal.within_rpo, rpo));
    }
    lines.push(clean_up(plan, history, report));
    let clean_up = comparison(&history.run).map(|compared| CleanUp {
        before: history.run.listed_before.clone().unwrap_or_default(),
        after: history.run.listed_after.clone().unwrap_or_default(),
        compared,
    });
    Some(DrillReport { passed: lines.iter().all(|line| line.holds == Some(true)), lines, clean_up })
}

fn line(what: &str, holds: Option<bool>, evidence: impl Into<String>) -> DrillLine {
    DrillLine { what: what.to_owned(), holds, evidence: evidence.into() }
}

fn from(counted_from: &str) -> &str {
    match counted_from {
        "outage_began" => "the outage that it made",
        "declared" => "its declaration",
        _ => "its start",
    }
}

fn verified_words(verified: bool) -> &'static str {
    if verified { "every check passed" } else { "no check passed that proves the service: add a `verify` step" }
}

fn steps(plan: &Plan, history: &History) -> DrillLine {
    let count = |wanted: fn(StepState) -> bool| plan.steps.iter().filter(|step| wanted(history.run.state(&step.id))).count();
    let skipped = count(|state| state == StepState::Skipped);
    let bad: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| {
            let bad = matches!(
                history.run.state(&step.id),
                StepState::Failed | StepState::NotRun | StepState::Rejected | StepState::Held | StepState::InDoubt | StepState::Waiting
            );
            bad || history.run.steps.get(&step.id).is_some_and(|record| record.was_rejected)
        })
        .map(|step| step.id.to_string())
        .collect();
    let whole = bad.is_empty() && matches!(history.run.turn, Some((Turn::DrillEnded, _)) | None);
    let done = plan.steps.len() - skipped - bad.len();
    let mut said = format!("{done} of {} done", words::count(plan.steps.len() as u64, "step", "steps"));
    if skipped > 0 {
        said.push_str(&format!(", {skipped} skipped by their own `if`"));
    }
    if !bad.is_empty() {
        said.push_str(&format!(", not done: {}", words::list(&bad)));
    }
    line("steps", Some(whole), said)
}

/// A drill loses nothing: what acting for real would have lost is what was measured before the act.
fn loss(report: &Report, measured: Option<bool>, rpo: f64) -> DrillLine {
    if measured.is_some() {
        let rpa = &report.actuals.rpa;
        let figure = Figure { seconds_min: rpa.seconds_min, seconds_max: rpa.seconds_max };
        return line("rpo", measured, format!("{} lost, by {}", words::interval(figure), rpa.method));
    }
    let Some(last) = report.expected_losses.iter().max_by(|one, other| one.at.cmp(&other.at)) else {
        return line("rpo", None, "not measured: add a `measure-rpo` step");
    };
    let figure = Figure { seconds_min: last.loss.seconds_min, seconds_max: last.loss.seconds_max };
    let held = verdict::within(figure, Some(rpo));
    let said = format!("{} would have been lost, measured by {} in step {}", words::interval(figure), last.loss.method, last.step);
    line("rpo", held, if held.is_some() { said } else { format!("not measured well enough: {said}") })
}

fn clean_up(plan: &Plan, history: &History, report: &Report) -> DrillLine {
    let standing = left_standing(&history.run);
    let undone = plan.steps.iter().filter(|step| history.run.state(&step.id) == StepState::Undone).count();
    let stuck = report.outcome == Standing::Stuck;
    match comparison(&history.run) {
        None if standing.is_empty() && undone == 0 && !stuck => line("clean_up", Some(true), "nothing was changed"),
        None => line("clean_up", None, "nothing was listed, so nobody can tell what is left"),
        Some(compared) => {
            let mut said = format!("{} listed again as before", words::count(compared.same, "thing is", "things are"));
            if !compared.differences.is_empty() {
                said.push_str(&format!(", {} not", compared.differences.len()));
            }
            if !compared.failed.is_empty() {
                let names: Vec<&str> = compared.failed.iter().map(|untold| untold.resource.as_str()).collect();
                said.push_str(&format!(", nobody can tell of {}", words::list(&names)));
            }
            let unlisted: Vec<String> = standing
                .iter()
                .filter_map(|id| plan.step(id))
                .filter(|step| compared.unlisted.iter().any(|untold| step.touches.iter().any(|touch| touch.resource == untold.resource)))
                .map(|step| step.id.to_string())
                .collect();
            if !unlisted.is_empty() {
                said.push_str(&format!(", the effect of {} was not taken back", words::list(&unlisted)));
            }
            line("clean_up", Some(compared.is_clean() && unlisted.is_empty() && !stuck), said)
        }
    }
}

/// What was predicted at admission beside what came.
#[expect(clippy::cast_precision_loss, reason = "a prediction is far below 2^53 ms")]
pub(super) fn prediction(history: &History, path: &Path) -> Option<Prediction> {
    let predicted = history.run.predicted.as_deref()?;
    let run = &history.run;
    let whole = run.plan.steps.iter().all(|step| {
        run.state(&step.id) == StepState::Skipped || run.steps.get(&step.id).is_some_and(|record| record.succeeded_at.is_some())
    });
    let actual = path.automation_seconds.zip(path.preparing_seconds).map(|(acting, preparing)| acting + preparing).filter(|_| whole);
    let p50_seconds = predicted.p50_ms as f64 / 1000.0;
    Some(Prediction {
        p50_seconds,
        p90_seconds: predicted.p90_ms as f64 / 1000.0,
        runs: predicted.runs,
        never_timed: predicted.never_timed,
        actual_seconds: actual,
        error_seconds: actual.map(|actual| actual - p50_seconds),
    })
}
