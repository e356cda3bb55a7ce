//! The judgement: the one function that turns a plan and a journal into a [`Report`]. How it is shown is elsewhere.
//!
//! Rules it keeps: figures come from journaled observations only; what nobody observed is unknown, never zero; every interval holds
//! the truth; nothing is green that has not ended, was not verified, or is not proven.

mod drill;
mod history;
mod loss;
mod notices;
mod path;
mod recovery;
mod verdict;

use std::collections::BTreeSet;

use lifeboat_engine::context::Proof;
use lifeboat_engine::journal::{Back, Entry, Outcome, Turn};
use lifeboat_engine::measure::{Loss, Measure};
use lifeboat_engine::run::{DRILL, IllegalTransition, RunPhase, StepState, crosses};
use lifeboat_engine::sight::Sight;
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{Plan, PlanStep};

use crate::report::{
    Actuals, Clock, Digests, Doing, ExpectedLoss, Figure, LeftBehind, Met, Moment, ObjectiveSeconds, OutageBegan, Part, REPORT_FORMAT,
    Rehearsal, Report, Standing, StepReport,
};
use crate::rows::UnusedPlace;
use history::{History, walk};
use recovery::{Observed, Recovery, ceil_micros, floor_micros, length, nanoseconds};

/// The step type that proves service from outside.
const VERIFY: &str = "verify";

/// A journal that cannot be judged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JudgeError {
    /// Nothing to judge.
    #[error("the journal is empty")]
    Empty,
    /// It does not begin with the admission of a run.
    #[error("the journal does not begin with the admission of a run")]
    NoAdmission,
    /// The plan is another one.
    #[error("the journal is of a plan with structure {journal}, not {plan}")]
    OtherPlan {
        /// What the journal was written for.
        journal: String,
        /// What was handed in.
        plan: String,
    },
    /// An entry does not follow from those before it.
    #[error("entry {place} does not follow from those before it")]
    Illegal {
        /// Its place, counted from 1.
        place: usize,
        /// What is wrong.
        #[source]
        source: IllegalTransition,
    },
}

/// Judges a run, ended or not, by its journal alone.
///
/// # Errors
/// Where the entries are no journal of this plan.
pub fn judge(plan: &Plan, entries: &[Entry]) -> Result<Report, JudgeError> {
    let history = walk(plan, entries)?;
    let observed = observe(&history);
    let recovery = observed.add_up();
    let losses = loss::by_resource(&measured_losses(&history), &lossy_resources(plan, &history));
    let path = path::critical(plan, &history);
    let standing = standing(&history);
    let rpa = loss::worst(&losses);
    let objectives =
        ObjectiveSeconds { rto_seconds: plan.objectives.rto_ms.map(in_seconds), rpo_seconds: plan.objectives.rpo_ms.map(in_seconds) };
    let clock = clock(&history, &recovery);
    let declared = history.run.incident.declared_at;
    let mut report = Report {
        format: REPORT_FORMAT,
        run: history.run.id.to_string(),
        runbook: plan.runbook.clone(),
        title: plan.title.clone(),
        owner: plan.owner.clone(),
        mode: plan.mode.clone(),
        outcome: standing,
        why: history.run.why.clone(),
        verdict: crate::report::Verdict::Underway,
        headline: String::new(),
        started_by: history.admitted_by.clone(),
        digests: Digests { structure: plan.structure.clone(), binding: plan.binding.clone(), plan: history.plan_digest.clone() },
        actuals: Actuals {
            rta_outage: recovery.outage,
            rta_declared_seconds: declared
                .zip(recovery.served_by())
                .and_then(|(from, to)| span(from, to, observed.went_back_ns).seconds_max),
            rta_run_seconds: recovery.served_by().and_then(|to| span(history.admitted_at, to, observed.went_back_ns).seconds_max),
            automation_seconds: path.automation_seconds,
            human_seconds: path.human_seconds,
            preparing_seconds: path.preparing_seconds,
            engine_away_seconds: path.away_seconds,
            rpa,
        },
        objectives,
        met: Met { rto: None, rpo: None },
        rehearsal: None,
        drill: None,
        prediction: drill::prediction(&history, &path),
        clock,
        as_of: history.as_of,
        notices: Vec::new(),
        wanted: notices::wanted(plan, &history),
        steps: steps(plan, &history, &path),
        critical_path: path.steps.iter().map(ToString::to_string).collect(),
        approvals: history.approvals.clone(),
        decisions: history.decisions.clone(),
        resumes: history.resumes.clone(),
        stops: history.stops.clone(),
        losses,
        expected_losses: expected(&history),
        left_behind: left_behind(plan, &history, standing),
        locks_kept: if history.run.holds_locks() {
            history.run.locks.iter().map(|lock| lock.resource.clone()).collect()
        } else {
            Vec::new()
        },
        journal_entries: history.run.entries,
    };
    if plan.mode == DRILL {
        report.rehearsal = Some(rehearsal(&report, &recovery, observed.went_back_ns));
    } else {
        report.met = verdict::met(&report, verified(plan, &history));
    }
    report.drill = drill::drill(plan, &history, &report, verified(plan, &history));
    report.notices = notices::notices(plan, &history, &recovery, &report);
    (report.verdict, report.headline) = verdict::verdict(plan, &history, &report, verified(plan, &history));
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "objectives are at most a leap year, far below 2^53 ms")]
fn in_seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// What was observed of the outage, as far as it still holds.
fn observe(history: &History) -> Observed {
    let mut observed = Observed { went_back_ns: history.went_back_ns, ..Observed::default() };
    if let Some((earliest, latest)) = history.run.incident.outage_began {
        observed.reported = Some(OutageBegan { earliest, latest, method: "reported".to_owned() });
    }
    let drill = history.run.plan.mode == DRILL;
    for recorded in &history.measures {
        // In a disaster, service that was seen and then undone is no restored service. A drill puts everything back after it has measured.
        let holds = match history.run.state(&recorded.step) {
            StepState::Succeeded => drill || !history.undo_began,
            StepState::Undoing | StepState::Undone | StepState::UndoFailed | StepState::UndoInDoubt => drill,
            StepState::Rejected
            | StepState::Waiting
            | StepState::AwaitingApproval
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Held
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun => false,
        };
        match &recorded.measure {
            Measure::OutageBegan { earliest, latest, method } => {
                observed.began.push(OutageBegan { earliest: *earliest, latest: *latest, method: method.clone() });
            }
            Measure::NotRestoredBefore { at, because } => observed.not_before.push(Moment { at: *at, because: because.clone() }),
            Measure::ClientsFollowBy { at, because } => observed.follow.push(Moment { at: *at, because: because.clone() }),
            Measure::ServiceRestored { at, method } if holds => observed.restored.push(Moment { at: *at, because: method.clone() }),
            Measure::ServiceRestored { .. }
            | Measure::Verified { .. }
            | Measure::Fenced { .. }
            | Measure::PromoteSent { .. }
            | Measure::Writable { .. }
            | Measure::ExpectedLoss(_)
            | Measure::Loss(_) => {}
        }
    }
    observed
}

fn measured_losses(history: &History) -> Vec<Loss> {
    history
        .measures
        .iter()
        .filter_map(|recorded| if let Measure::Loss(loss) = &recorded.measure { Some(loss.clone()) } else { None })
        .collect()
}

fn expected(history: &History) -> Vec<ExpectedLoss> {
    let expected = |recorded: &history::Recorded| {
        let Measure::ExpectedLoss(loss) = &recorded.measure else { return None };
        Some(ExpectedLoss { step: recorded.step.to_string(), at: recorded.at, loss: loss::of(loss) })
    };
    history.measures.iter().filter_map(expected).collect()
}

/// Resources that lost data or may have: where a loss was foreseen, and where a promotion was asked for or has begun.
fn lossy_resources(plan: &Plan, history: &History) -> BTreeSet<String> {
    let mut resources = BTreeSet::new();
    for recorded in &history.measures {
        match &recorded.measure {
            Measure::ExpectedLoss(loss) => {
                resources.insert(loss.resource.clone());
            }
            Measure::PromoteSent { .. } | Measure::Writable { .. } => {
                resources.extend(plan.step(&recorded.step).into_iter().flat_map(changed))
            }
            Measure::OutageBegan { .. }
            | Measure::NotRestoredBefore { .. }
            | Measure::ClientsFollowBy { .. }
            | Measure::ServiceRestored { .. }
            | Measure::Verified { .. }
            | Measure::Fenced { .. }
            | Measure::Loss(_) => {}
        }
    }
    resources
}

/// Resources that a step changes or destroys.
fn changed(step: &PlanStep) -> Vec<String> {
    step.touches.iter().filter(|touch| touch.effect >= Effect::Change).map(|touch| touch.resource.clone()).collect()
}

fn standing(history: &History) -> Standing {
    match (history.run.phase, history.run.outcome) {
        (RunPhase::Ended, Some(Outcome::Succeeded)) => Standing::Succeeded,
        (RunPhase::Ended, Some(Outcome::Failed)) => Standing::Failed,
        (RunPhase::Ended, Some(Outcome::Undone)) => Standing::Undone,
        (RunPhase::Ended, Some(Outcome::Cancelled)) => Standing::Cancelled,
        // The tables give every ended run an outcome; one without needs a person.
        (RunPhase::Ended, Some(Outcome::Stuck) | None) => Standing::Stuck,
        (RunPhase::Admitted, _) => Standing::Admitted,
        (RunPhase::Running, _) => Standing::Running,
        (RunPhase::Held, _) => Standing::Held,
        (RunPhase::Unwinding, _) => Standing::Unwinding,
        (RunPhase::Finalising, _) => Standing::Finalising,
    }
}

/// Whether every step that verifies did so. A plan without one proves nothing by itself; then this asks for the last check's instant.
fn verified(plan: &Plan, history: &History) -> bool {
    let mut verifying = plan.steps.iter().filter(|step| step.step_type == VERIFY).peekable();
    let drill_undid = plan.mode == DRILL;
    let done = |state: StepState| state == StepState::Succeeded || (drill_undid && matches!(state, StepState::Undone));
    if verifying.peek().is_none() {
        return history
            .measures
            .iter()
            .any(|recorded| matches!(recorded.measure, Measure::Verified { .. }) && done(history.run.state(&recorded.step)));
    }
    // What a person declared done was not verified by anybody but that person.
    verifying.all(|step| done(history.run.state(&step.id)) && history.steps.get(&step.id).is_some_and(|h| h.known_by != Some("resolved")))
}

fn clock(history: &History, recovery: &Recovery) -> Clock {
    let instants =
        |pick: fn(&Measure) -> Option<jiff::Timestamp>| history.measures.iter().filter_map(move |recorded| pick(&recorded.measure));
    let run = &history.run;
    Clock {
        outage_began_at: recovery.began.clone(),
        rto_due_at: recovery.began.as_ref().and_then(|began| due(began.earliest, run.plan.objectives.rto_ms?)),
        detected_at: run.incident.detected_at,
        declared_at: run.incident.declared_at,
        run_started_at: history.admitted_at,
        fenced_at: instants(|measure| if let Measure::Fenced { at } = measure { Some(*at) } else { None }).max(),
        promote_sent_at: instants(|measure| if let Measure::PromoteSent { at } = measure { Some(*at) } else { None }).min(),
        writable_at: instants(|measure| if let Measure::Writable { at } = measure { Some(*at) } else { None }).max(),
        not_restored_before: recovery.not_before.clone(),
        service_restored_at: recovery.restored.clone(),
        clients_follow_by: recovery.follow.clone(),
        verified_at: recovery
            .restored
            .as_ref()
            .and(instants(|measure| if let Measure::Verified { at } = measure { Some(*at) } else { None }).max()),
        run_ended_at: run.ended_at,
    }
}

fn due(from: jiff::Timestamp, allowed_ms: u64) -> Option<jiff::Timestamp> {
    from.checked_add(jiff::SignedDuration::from_millis(i64::try_from(allowed_ms).ok()?)).ok()
}

/// A drill's time: from the outage it made, else from its declaration, else from its start.
fn rehearsal(report: &Report, recovery: &Recovery, went_back_ns: i128) -> Rehearsal {
    let clock = &report.clock;
    let (counted_from, recovered) = if clock.outage_began_at.is_some() {
        ("outage_began", recovery.outage)
    } else {
        let (name, from) = clock.declared_at.map_or(("run_started", clock.run_started_at), |declared| ("declared", declared));
        (name, recovery.served_by().map_or_else(Figure::default, |to| span(from, to, went_back_ns)))
    };
    Rehearsal {
        counted_from: counted_from.to_owned(),
        recovery: recovered,
        within_rto: verdict::within(recovered, report.objectives.rto_seconds),
        within_rpo: verdict::within(verdict::loss_of(&report.actuals), report.objectives.rpo_seconds),
    }
}

/// A length known at both ends, but for steps back of the clock. Unknown where the end lies before the beginning.
fn span(from: jiff::Timestamp, to: jiff::Timestamp, went_back_ns: i128) -> Figure {
    let ns = nanoseconds(from, to);
    if ns < 0 {
        return Figure::default();
    }
    Figure { seconds_min: Some(floor_micros(ns)), seconds_max: Some(ceil_micros(ns + went_back_ns)) }
}

fn steps(plan: &Plan, history: &History, path: &path::Path) -> Vec<StepReport> {
    let critical: BTreeSet<&StepId> = path.steps.iter().collect();
    let parts = plan.steps.iter().map(|step| (step, Part::Steps)).chain(plan.finally.iter().map(|step| (step, Part::Finally)));
    parts.map(|(step, part)| step_report(step, part, history, &critical)).collect()
}

fn step_report(step: &PlanStep, part: Part, history: &History, critical: &BTreeSet<&StepId>) -> StepReport {
    let own = history.steps.get(&step.id).cloned().unwrap_or_default();
    let record = history.run.steps.get(&step.id);
    let until = own.ended_at.unwrap_or(history.as_of);
    let spent = |counts: fn(Doing) -> bool| path::spent(&own.segments, own.ended_at, counts);
    StepReport {
        id: step.id.to_string(),
        step_type: step.step_type.clone(),
        state: history.run.state(&step.id),
        attempts: record.map_or(0, |record| record.attempts),
        ready_at: ready_at(step, part, history),
        started_at: own.started_at,
        ended_at: own.ended_at,
        duration_seconds: own.started_at.and_then(|from| length(from, until)),
        waited_seconds: spent(path::is_human),
        backoff_seconds: spent(|doing| doing == Doing::Backoff),
        in_doubt_seconds: spent(|doing| doing == Doing::InDoubt),
        part,
        critical: critical.contains(&step.id),
        point_of_no_return: crosses(step),
        preview: step.preview.clone(),
        known_by: own.known_by.map(str::to_owned),
        proven: record.is_some_and(|record| record.proof == Some(Proof::Seen) && record.succeeded_at.is_some() && !record.was_rejected),
        why: record.and_then(|record| record.why.clone()),
        segments: own.segments,
        evidence: own.evidence,
        undo: step.written_undo().map(|undo| format!("{}: {}", undo.step_type, undo.preview)),
        unused: Sight::of(&history.run).unused_place(step).map(|(list, index)| UnusedPlace { list: list.to_string(), index }),
    }
}

/// When nothing kept a step from starting any more. Steps of `finally` begin when the main part is over, which is no instant of a step.
fn ready_at(step: &PlanStep, part: Part, history: &History) -> Option<jiff::Timestamp> {
    let mut needs = step.needs.iter().map(|need| history.steps.get(need).and_then(|own| own.ended_at));
    match part {
        Part::Steps => needs.try_fold(history.admitted_at, |latest, ended| Some(latest.max(ended?))),
        Part::Finally => None,
    }
}

/// Effects that stand though the run turned away from its aim, in plan order.
fn left_behind(plan: &Plan, history: &History, standing: Standing) -> Vec<LeftBehind> {
    let drill = plan.mode == DRILL;
    let astray = match standing {
        Standing::Succeeded => drill,
        Standing::Failed | Standing::Undone | Standing::Cancelled | Standing::Stuck => true,
        Standing::Admitted | Standing::Running | Standing::Held | Standing::Unwinding | Standing::Finalising => false,
    };
    let kept = matches!(history.run.turn, Some((_, Back::Keep)));
    let stands = |step: &PlanStep| {
        let record = history.run.steps.get(&step.id)?;
        let why = match record.state {
            StepState::UndoFailed => format!("its undo failed: {}", record.why.as_deref().unwrap_or("no reason was recorded")),
            StepState::Succeeded | StepState::Rejected if astray && kept => "done, and left as it is".to_owned(),
            StepState::Succeeded | StepState::Rejected if astray => "done, and not undone".to_owned(),
            StepState::Failed | StepState::Skipped | StepState::NotRun if record.doubtful => {
                "its outcome was never settled: it may have had its effect".to_owned()
            }
            StepState::InDoubt | StepState::UndoInDoubt if astray => "its outcome is unknown".to_owned(),
            StepState::Waiting
            | StepState::AwaitingApproval
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Held
            | StepState::Succeeded
            | StepState::Rejected
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoInDoubt => return None,
        };
        let resources = changed(step);
        (!resources.is_empty()).then(|| LeftBehind { step: step.id.to_string(), resources, why })
    };
    plan.steps.iter().filter_map(stands).collect()
}

/// Whether the run turned back because it was a drill's end, which is as it should be.
fn drill_ended(history: &History) -> bool {
    matches!(history.run.turn, Some((Turn::DrillEnded, _)))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod rehearsed;
#[cfg(test)]
mod stops;
#[cfg(test)]
pub(crate) mod tests;
