//! The critical path: the chain of needs that decided when the main part ended, and whose time was spent on it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep};

use super::history::{History, StepHistory};
use super::recovery::{floor_micros, nanoseconds};
use crate::report::{Doing, Resume, Segment};

/// The chain, first to last, and the time on it.
#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) steps: Vec<StepId>,
    pub(super) automation_seconds: Option<f64>,
    pub(super) human_seconds: Option<f64>,
    pub(super) preparing_seconds: Option<f64>,
    pub(super) away_seconds: Option<f64>,
}

pub(super) fn critical(plan: &Plan, history: &History) -> Path {
    let by_id: BTreeMap<&StepId, &PlanStep> = plan.steps.iter().map(|step| (&step.id, step)).collect();
    let finish = |id: &StepId| history.steps.get(id).and_then(|step| finish(step, history.as_of));
    let ran = |id: &StepId| history.steps.get(id).is_some_and(|step| step.started_at.is_some());
    let last = plan.steps.iter().filter(|step| ran(&step.id)).max_by_key(|step| finish(&step.id));
    let mut steps = Vec::new();
    let mut seen = BTreeSet::new();
    let mut here = last;
    while let Some(step) = here.filter(|step| seen.insert(&step.id)) {
        // A step skipped by its own `if` hands the clock on but took no time.
        if ran(&step.id) {
            steps.push(step.id.clone());
        }
        let needed = step.needs.iter().filter(|need| finish(need).is_some()).max_by_key(|need| finish(need));
        here = needed.and_then(|need| by_id.get(need).copied());
    }
    steps.reverse();
    if steps.is_empty() { Path::default() } else { spend(steps, history) }
}

fn finish(step: &StepHistory, as_of: Timestamp) -> Option<Timestamp> {
    step.ended_at.or(step.started_at.map(|started| as_of.max(started)))
}

fn spend(steps: Vec<StepId>, history: &History) -> Path {
    let (mut human, mut away, mut whole, mut away_between, mut between) = (0, 0, 0, 0, 0);
    let mut cursor = history.admitted_at;
    for step in steps.iter().filter_map(|id| history.steps.get(id)) {
        let Some((from, to)) = step.started_at.zip(finish(step, history.as_of)) else { continue };
        if cursor < from {
            between += nanoseconds(cursor, from);
            away_between += history.resumes.iter().map(|resume| absent(resume, cursor, from, &[])).sum::<i128>();
        }
        cursor = cursor.max(to);
        whole += nanoseconds(from, to).max(0);
        let waits: Vec<(Timestamp, Timestamp)> =
            step.segments.iter().filter(|s| is_human(s.doing)).map(|s| clip(s.from, s.to, from, to)).collect();
        human += waits.iter().map(|(from, to)| nanoseconds(*from, *to)).sum::<i128>();
        away += history.resumes.iter().map(|resume| absent(resume, from, to, &waits)).sum::<i128>();
    }
    Path {
        steps,
        automation_seconds: Some(floor_micros((whole - human - away).max(0))),
        human_seconds: Some(floor_micros(human)),
        preparing_seconds: Some(floor_micros((between - away_between).max(0))),
        away_seconds: Some(floor_micros(away + away_between)),
    }
}

/// Whether this is time in which a person was waited for.
pub(super) fn is_human(doing: Doing) -> bool {
    match doing {
        Doing::AwaitingApproval | Doing::Held => true,
        Doing::Working | Doing::InDoubt | Doing::Backoff | Doing::Undoing => false,
    }
}

fn clip(from: Timestamp, to: Timestamp, low: Timestamp, high: Timestamp) -> (Timestamp, Timestamp) {
    let from = from.clamp(low, high.max(low));
    (from, to.clamp(from, high.max(from)))
}

/// The part of a gap inside a step in which no person was waited for anyhow.
fn absent(resume: &Resume, from: Timestamp, to: Timestamp, waits: &[(Timestamp, Timestamp)]) -> i128 {
    let (low, high) = clip(resume.band.from, resume.band.to, from, to);
    let waited: i128 = waits.iter().map(|(a, b)| clip(*a, *b, low, high)).map(|(a, b)| nanoseconds(a, b)).sum();
    (nanoseconds(low, high) - waited).max(0)
}

/// Seconds that a step spent so, in its forward part.
pub(super) fn spent(segments: &[Segment], ended: Option<Timestamp>, counts: fn(Doing) -> bool) -> f64 {
    let inside = |segment: &&Segment| counts(segment.doing) && ended.is_none_or(|ended| segment.from < ended);
    floor_micros(segments.iter().filter(inside).map(|s| nanoseconds(s.from, s.to).max(0)).sum())
}
