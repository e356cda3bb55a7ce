//! Whether promises were kept, and the judgement in one sentence. The figures come from the other files of `judge`.

use lifeboat_engine::run::StepState;
use lifeboat_runbooks::plan::Plan;

use super::drill_ended;
use super::history::{History, RESOLVED_AS_DONE, SKIPPED};
use crate::report::{Actuals, ApprovalEnd, Decision, Figure, Met, Report, Standing, Verdict};
use crate::words;

/// The step types in whose place a person's word is an override.
const APPROVAL: &str = "approval";
const FENCE: &str = "fence-db";

/// `true` only where the whole interval is within, `false` only where all of it is beyond.
pub(super) fn within(actual: Figure, objective_seconds: Option<f64>) -> Option<bool> {
    let objective = objective_seconds?;
    if actual.seconds_max.is_some_and(|max| max <= objective) {
        return Some(true);
    }
    actual.seconds_min.filter(|min| *min > objective).map(|_| false)
}

/// The loss as an interval.
pub(super) fn loss_of(actuals: &Actuals) -> Figure {
    Figure { seconds_min: actuals.rpa.seconds_min, seconds_max: actuals.rpa.seconds_max }
}

/// What was promised and kept. A promise can be broken at any time; it is kept only by a run that succeeded and was verified.
pub(super) fn met(report: &Report, verified: bool) -> Met {
    let done = report.outcome == Standing::Succeeded && verified;
    let proven = |kept: Option<bool>| kept.filter(|kept| !kept || done);
    Met {
        rto: proven(within(report.actuals.rta_outage, report.objectives.rto_seconds)),
        rpo: proven(within(loss_of(&report.actuals), report.objectives.rpo_seconds)),
    }
}

pub(super) fn verdict(plan: &Plan, history: &History, report: &Report, verified: bool) -> (Verdict, String) {
    if !report.outcome.ended() {
        return underway(plan, history, report);
    }
    let (verdict, headline) = ended(history, report, verified);
    let overrides = overrides(report);
    if overrides.is_empty() {
        return (verdict, headline);
    }
    let verdict = match verdict {
        Verdict::Met | Verdict::DrillPassed | Verdict::Overridden => Verdict::Overridden,
        Verdict::Missed | Verdict::Unproven | Verdict::NotRecovered | Verdict::NeedsPerson | Verdict::Underway => verdict,
    };
    (verdict, format!("{headline}, with an override: {}", overrides.join("; ")))
}

/// What people put their word in the place of: an approval that was denied, ran out or was never asked, and a fence that did not prove itself.
fn overrides(report: &Report) -> Vec<String> {
    let told = |decision: &Decision| {
        let id = decision.step.as_ref()?;
        let step = report.steps.iter().find(|step| step.id == *id)?;
        let what = match step.step_type.as_str() {
            APPROVAL => match report.approvals.iter().rev().find(|approval| approval.step == *id).map(|approval| approval.end) {
                Some(ApprovalEnd::Denied) => "the denied approval",
                Some(ApprovalEnd::Expired) => "the expired approval",
                Some(ApprovalEnd::Open | ApprovalEnd::Granted | ApprovalEnd::Voided | ApprovalEnd::Withdrawn) | None => "the approval",
            },
            FENCE => "the fence",
            _ => return None,
        };
        match decision.what.as_str() {
            RESOLVED_AS_DONE => Some(format!("{} declared {what} done ({id})", decision.by.name)),
            SKIPPED => Some(format!("{} skipped {what} ({id})", decision.by.name)),
            _ => None,
        }
    };
    report.decisions.iter().filter_map(told).collect()
}

fn ended(history: &History, report: &Report, verified: bool) -> (Verdict, String) {
    if let Some(rehearsal) = &report.rehearsal {
        let as_planned = report.outcome == Standing::Succeeded || (report.outcome == Standing::Undone && drill_ended(history));
        let failed = report.drill.iter().flat_map(|drill| &drill.lines).find(|line| line.holds != Some(true));
        if as_planned && verified && report.left_behind.is_empty() && failed.is_none() {
            return (
                Verdict::DrillPassed,
                format!("Drill passed in {}", words::interval(rehearsal.recovery)).replace("in unknown", "in an unknown time"),
            );
        }
        let why = if !as_planned {
            format!("it {}", ended_words(report.outcome))
        } else if let Some(line) = failed.filter(|_| verified && report.left_behind.is_empty()) {
            let what = match line.what.as_str() {
                "rto" => "recovery time",
                "rpo" => "data loss",
                "clean_up" => "clean-up",
                other => other,
            };
            format!("{what}: {}", line.evidence)
        } else if verified {
            format!("it left {} behind", words::list(&report.left_behind.iter().map(|left| left.step.as_str()).collect::<Vec<_>>()))
        } else {
            "it verified nothing".to_owned()
        };
        return (Verdict::NotRecovered, format!("Drill not passed: {why}"));
    }
    if report.outcome != Standing::Succeeded {
        return (Verdict::NotRecovered, format!("Not recovered: the run {}", ended_words(report.outcome)));
    }
    succeeded(report, verified)
}

fn ended_words(outcome: Standing) -> &'static str {
    match outcome {
        Standing::Succeeded => "succeeded",
        Standing::Failed => "failed",
        Standing::Undone => "was undone",
        Standing::Cancelled => "was cancelled",
        Standing::Stuck => "is stuck and needs a person",
        Standing::Admitted | Standing::Running | Standing::Held | Standing::Unwinding | Standing::Finalising => "has not ended",
    }
}

fn succeeded(report: &Report, verified: bool) -> (Verdict, String) {
    let promised = (report.objectives.rto_seconds.is_some(), report.objectives.rpo_seconds.is_some());
    let kept = |promised: bool, met: Option<bool>| !promised || met == Some(true);
    if report.met.rto == Some(false) && report.met.rpo == Some(false) {
        return (Verdict::Missed, "Recovered, but too late and with more data lost than promised".to_owned());
    }
    if report.met.rto == Some(false) {
        return (Verdict::Missed, "Recovered, but later than promised".to_owned());
    }
    if report.met.rpo == Some(false) {
        return (Verdict::Missed, "Recovered, but with more data lost than promised".to_owned());
    }
    if kept(promised.0, report.met.rto) && kept(promised.1, report.met.rpo) && promised != (false, false) {
        let which = match promised {
            (true, true) => "both objectives",
            (true, false) => "the recovery time objective",
            (false, _) => "the recovery point objective",
        };
        return (Verdict::Met, format!("Recovered within {which}"));
    }
    let why = if !verified {
        "nothing verified the service"
    } else if promised == (false, false) {
        "no objective was set"
    } else {
        match (kept(promised.0, report.met.rto), kept(promised.1, report.met.rpo)) {
            (false, false) => "neither the recovery time nor the data loss is proven within its objective",
            (false, true) => "the recovery time is not proven within its objective",
            (true, _) => "the data loss is not proven within its objective",
        }
    };
    (Verdict::Unproven, format!("Every step is done, but {why}"))
}

fn underway(plan: &Plan, history: &History, report: &Report) -> (Verdict, String) {
    let late = match (report.met.rto, report.met.rpo) {
        (Some(false), Some(false)) => "; both objectives are already missed",
        (Some(false), _) => "; the recovery time objective is already missed",
        (_, Some(false)) => "; the recovery point objective is already missed",
        _ => "",
    };
    if !report.wanted.is_empty() {
        let steps: Vec<&str> = report.wanted.iter().map(|wanted| wanted.step.as_str()).collect();
        return (Verdict::NeedsPerson, format!("Waiting for a person: {}{late}", words::list(&steps)));
    }
    let busy: Vec<&str> = plan
        .steps
        .iter()
        .chain(&plan.finally)
        .filter(|step| history.run.state(&step.id).is_open() || history.run.state(&step.id) == StepState::Backoff)
        .map(|step| step.id.as_str())
        .collect();
    let what = match report.outcome {
        Standing::Held => "Held",
        Standing::Unwinding => "Turning back",
        Standing::Finalising => "Finishing",
        Standing::Admitted => "Admitted, nothing begun yet",
        Standing::Running | Standing::Succeeded | Standing::Failed | Standing::Undone | Standing::Cancelled | Standing::Stuck => {
            "Under way"
        }
    };
    let busy = if busy.is_empty() { String::new() } else { format!(": {}", words::list(&busy)) };
    let verdict = if report.outcome == Standing::Held { Verdict::NeedsPerson } else { Verdict::Underway };
    (verdict, format!("{what}{busy}{late}"))
}
