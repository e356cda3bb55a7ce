//! Walks a journal once: what each step did when, what people decided, what was seen. The states come from the engine's own tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_engine::evidence::Evidence;
use lifeboat_engine::journal::{Actor, Entry, Event, Resolution, Seen as How};
use lifeboat_engine::measure::Measure;
use lifeboat_engine::run::{Run, StepState};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::Plan;

use super::JudgeError;
use super::recovery::{length, nanoseconds};
use crate::report::{Answer, Approval, ApprovalEnd, Band, Decision, Doing, Person, Resume, Seen, Segment, Stop};

/// What a person decided who declared a step done.
pub(super) const RESOLVED_AS_DONE: &str = "resolved as done";

/// What a person decided who went on without a step.
pub(super) const SKIPPED: &str = "skipped";

/// What a step did.
#[derive(Clone, Debug, Default)]
pub(super) struct StepHistory {
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) segments: Vec<Segment>,
    pub(super) evidence: Vec<Seen>,
    pub(super) known_by: Option<&'static str>,
    pub(super) doubts: u32,
    pub(super) failures: u32,
    open: Option<(Doing, Timestamp, u32)>,
    /// Since when it has failed without anybody's decision: a wait for a person, if one comes.
    undecided_since: Option<Timestamp>,
}

/// A measure with where it stands.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) step: StepId,
    pub(super) at: Timestamp,
    pub(super) measure: Measure,
}

/// A jump of the recording clock between two entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jump {
    /// Place of the later entry, from 1.
    pub(super) place: usize,
    /// Nanoseconds; negative where it went back.
    pub(super) by_ns: i128,
}

/// Everything that a journal tells.
#[derive(Debug)]
pub(super) struct History {
    pub(super) run: Run,
    pub(super) plan_digest: String,
    pub(super) admitted_by: Person,
    pub(super) admitted_at: Timestamp,
    pub(super) as_of: Timestamp,
    pub(super) steps: BTreeMap<StepId, StepHistory>,
    pub(super) measures: Vec<Recorded>,
    pub(super) approvals: Vec<Approval>,
    pub(super) decisions: Vec<Decision>,
    pub(super) resumes: Vec<Resume>,
    pub(super) stops: Vec<Stop>,
    pub(super) jumps: Vec<Jump>,
    /// All steps back of the recording clock together, in nanoseconds.
    pub(super) went_back_ns: i128,
    /// An undo has begun: service may have been moved back.
    pub(super) undo_began: bool,
}

/// Clocks of one machine are read a moment before an entry is written; smaller steps back are noise.
const NOISE_NS: i128 = 50_000_000;

/// More than this between two entries is no pause but a wrong clock, or needs an explanation.
pub(super) const JUMP_NS: i128 = 24 * 3600 * 1_000_000_000;

pub(super) fn walk(plan: &Plan, entries: &[Entry]) -> Result<History, JudgeError> {
    let Some(first) = entries.first() else { return Err(JudgeError::Empty) };
    let Event::RunAdmitted { run, plan: plan_digest, structure, by, .. } = &first.event else { return Err(JudgeError::NoAdmission) };
    if *structure != plan.structure {
        return Err(JudgeError::OtherPlan { journal: structure.clone(), plan: plan.structure.clone() });
    }
    let mut history = History {
        run: Run::new(run.clone(), Arc::new(plan.clone())),
        plan_digest: plan_digest.clone(),
        admitted_by: person(by),
        admitted_at: first.at,
        as_of: first.at,
        steps: plan.steps.iter().chain(&plan.finally).map(|step| (step.id.clone(), StepHistory::default())).collect(),
        measures: Vec::new(),
        approvals: Vec::new(),
        decisions: Vec::new(),
        resumes: Vec::new(),
        stops: Vec::new(),
        jumps: Vec::new(),
        went_back_ns: 0,
        undo_began: false,
    };
    for (index, entry) in entries.iter().enumerate() {
        let before = (index > 0).then_some(history.as_of);
        history.run.apply(entry).map_err(|source| JudgeError::Illegal { place: index + 1, source })?;
        history.note_clock(before, entry.at, index + 1);
        history.note_event(entry, before);
        history.note_states(entry);
        history.as_of = entry.at;
    }
    history.close();
    Ok(history)
}

pub(super) fn person(actor: &Actor) -> Person {
    Person { name: actor.name().to_owned(), system_user: actor.system_user.clone(), via: actor.via.clone() }
}

impl History {
    fn note_clock(&mut self, before: Option<Timestamp>, at: Timestamp, place: usize) {
        let Some(before) = before else { return };
        let by_ns = nanoseconds(before, at);
        self.went_back_ns += (-by_ns).max(0);
        if !(-NOISE_NS..=JUMP_NS).contains(&by_ns) {
            self.jumps.push(Jump { place, by_ns });
        }
    }

    fn note_event(&mut self, entry: &Entry, before: Option<Timestamp>) {
        let at = entry.at;
        match &entry.event {
            Event::RunAdmitted { by, .. } => self.decide(at, by, "started the run", None, None),
            Event::RunClaimed { why } => self.resume(at, why, before.unwrap_or(at)),
            Event::StepStarted { step, evidence, .. }
            | Event::StepRefused { step, evidence, .. }
            | Event::StepHeld { step, evidence, .. } => {
                self.see(step, at, evidence);
            }
            Event::StepFailed { step, evidence, .. } => {
                self.see(step, at, evidence);
                self.of(step).failures += 1;
            }
            Event::StepSucceeded { step, measures, seen, .. } => {
                self.of(step).known_by = Some(match seen {
                    How::Executed => "executed",
                    How::Observed => "observed",
                });
                self.measures.extend(measures.iter().map(|measure| Recorded { step: step.clone(), at, measure: measure.clone() }));
            }
            Event::StepInDoubt { step, .. } => self.of(step).doubts += 1,
            Event::StepResolved { step, resolution, by, comment } => {
                let what = match resolution {
                    Resolution::Done { .. } => RESOLVED_AS_DONE,
                    Resolution::Retry => "retried",
                    Resolution::Skip => SKIPPED,
                    Resolution::GiveUp => "gave up",
                };
                if let Resolution::Done { .. } = resolution {
                    self.of(step).known_by = Some("resolved");
                }
                self.decide(at, by, what, Some(step), Some(comment));
            }
            Event::ApprovalRequested { step, roles, count, shown, expires_at, .. } => {
                self.end_approval(step, ApprovalEnd::Withdrawn, at);
                self.approvals.push(Approval {
                    step: step.to_string(),
                    requested_at: at,
                    roles: roles.clone(),
                    count: *count,
                    shown: shown.clone(),
                    expires_at: *expires_at,
                    answers: Vec::new(),
                    end: ApprovalEnd::Open,
                    ended_at: None,
                });
            }
            Event::ApprovalGranted { step, by, comment, .. } => {
                self.answer(step, by, at, "yes", comment.as_ref());
                self.decide(at, by, "approved", Some(step), comment.as_deref());
                if self.run.state(step) == StepState::Succeeded {
                    self.end_approval(step, ApprovalEnd::Granted, at);
                    self.of(step).known_by = Some("people");
                }
            }
            Event::ApprovalVoided { step, .. } => self.end_approval(step, ApprovalEnd::Voided, at),
            Event::ApprovalDenied { step, by, comment } => {
                self.answer(step, by, at, "no", comment.as_ref());
                self.decide(at, by, "denied", Some(step), comment.as_deref());
                self.end_approval(step, ApprovalEnd::Denied, at);
            }
            Event::ApprovalExpired { step } => self.end_approval(step, ApprovalEnd::Expired, at),
            Event::CancelRequested { by, comment } => self.decide(at, by, "cancelled", None, comment.as_deref()),
            Event::RunReleasedLocks { by, comment } => self.decide(at, by, "released the locks", None, Some(comment)),
            Event::StepNotRun { step, .. } => self.end_approval(step, ApprovalEnd::Withdrawn, at),
            Event::UndoStarted { step, act } => {
                self.undo_began = true;
                if let Some(act) = act {
                    self.see(step, at, &act.evidence);
                }
            }
            Event::FactsRemeasured { step, measures, .. } => {
                self.measures.extend(measures.iter().map(|measure| Recorded { step: step.clone(), at, measure: measure.clone() }));
            }
            Event::RunPaused { by, comment } => {
                self.stop(at, "paused", None, Some(by), comment);
                self.decide(at, by, "paused the run", None, Some(comment));
            }
            Event::RunContinued { by, comment } => {
                self.stopped_until(at, "paused", None, Some(by), comment);
                self.decide(at, by, "let the run go on", None, Some(comment));
            }
            Event::RunFrozen { resource, by, why, .. } => self.stop(at, "frozen", resource.as_ref(), by.as_ref(), why),
            Event::RunThawed { resource, by, why } => self.stopped_until(at, "frozen", resource.as_ref(), by.as_ref(), why),
            Event::RunReopened { by, comment } => self.decide(at, by, "took the run up again", None, Some(comment)),
            Event::UndoInDoubt { step, .. } => self.of(step).doubts += 1,
            Event::StepSkipped { .. }
            | Event::StepInProgress { .. }
            | Event::StepRejected { .. }
            | Event::PeersListed { .. }
            | Event::RunHeld { .. }
            | Event::RunReleased
            | Event::UnwindingStarted { .. }
            | Event::UndoSucceeded { .. }
            | Event::UndoNotDone { .. }
            | Event::UndoFailed { .. }
            | Event::FinalisingStarted
            | Event::RunEnded { .. } => {}
        }
    }

    /// Turns what the tables say into stretches of time.
    fn note_states(&mut self, entry: &Entry) {
        let resolved = matches!(entry.event, Event::StepResolved { .. });
        if let Event::RunClaimed { .. } = &entry.event {
            // A claim changes open steps only; what ended before keeps its instants.
            let open: Vec<StepId> = self.run.steps.iter().filter(|(_, step)| step.state.is_open()).map(|(id, _)| id.clone()).collect();
            for step in open {
                self.note_state(&step, entry.at, resolved);
            }
        } else if let Some(step) = entry.event.step() {
            self.note_state(step, entry.at, resolved);
        }
    }

    fn note_state(&mut self, step: &StepId, at: Timestamp, resolved: bool) {
        let Some(record) = self.run.steps.get(step) else { return };
        let (state, attempt) = (record.state, record.attempts);
        let started = record.started_at;
        let history = self.of(step);
        history.started_at = history.started_at.or(started);
        history.become_doing(doing(state), at, attempt);
        if let Some(since) = history.undecided_since.take()
            && resolved
        {
            history.segments.push(Segment { doing: Doing::Held, from: since, to: at.max(since), attempt });
        }
        match state {
            StepState::Succeeded | StepState::Skipped => history.ended_at = Some(at),
            StepState::Failed | StepState::Rejected => {
                history.ended_at = Some(at);
                history.undecided_since = Some(at);
            }
            StepState::UndoFailed => history.undecided_since = Some(at),
            StepState::NotRun => history.ended_at = history.started_at.map(|_| at),
            StepState::Waiting
            | StepState::AwaitingApproval
            | StepState::Running
            | StepState::Backoff
            | StepState::InDoubt
            | StepState::Held => {
                history.ended_at = None;
            }
            StepState::Undoing | StepState::Undone | StepState::UndoInDoubt => {}
        }
    }

    /// What goes on when the journal ends goes on until its last entry.
    fn close(&mut self) {
        let (as_of, over) = (self.as_of, self.run.outcome.is_some());
        for stop in self.stops.iter_mut().filter(|stop| stop.to.is_none()) {
            stop.seconds = length(stop.from, as_of);
        }
        let attempts: BTreeMap<StepId, (u32, bool)> =
            self.run.steps.iter().map(|(id, step)| (id.clone(), (step.attempts, step.given_up))).collect();
        for (id, history) in &mut self.steps {
            let (attempt, given_up) = attempts.get(id).copied().unwrap_or_default();
            history.become_doing(None, as_of, attempt);
            if let Some(since) = history.undecided_since.take_if(|_| !over && !given_up) {
                history.segments.push(Segment { doing: Doing::Held, from: since, to: as_of.max(since), attempt });
            }
        }
    }

    fn of(&mut self, step: &StepId) -> &mut StepHistory {
        self.steps.entry(step.clone()).or_default()
    }

    fn see(&mut self, step: &StepId, at: Timestamp, evidence: &Evidence) {
        let seen = evidence.0.iter().map(|fact| Seen { at, what: fact.what.clone(), found: fact.found.clone() });
        self.of(step).evidence.extend(seen);
    }

    fn decide(&mut self, at: Timestamp, by: &Actor, what: &str, step: Option<&StepId>, comment: Option<&str>) {
        let step = step.map(ToString::to_string);
        self.decisions.push(Decision { at, by: person(by), what: what.to_owned(), step, comment: comment.map(str::to_owned) });
    }

    fn stop(&mut self, at: Timestamp, kind: &str, resource: Option<&String>, by: Option<&Actor>, why: &str) {
        self.stops.push(Stop {
            kind: kind.to_owned(),
            resource: resource.cloned(),
            from: at,
            to: None,
            seconds: None,
            by: by.map(person),
            why: why.to_owned(),
            ended_by: None,
            ended_why: None,
        });
    }

    fn stopped_until(&mut self, at: Timestamp, kind: &str, resource: Option<&String>, by: Option<&Actor>, why: &str) {
        let open = self.stops.iter_mut().rev().find(|stop| stop.to.is_none() && stop.kind == kind && stop.resource.as_ref() == resource);
        if let Some(stop) = open {
            stop.to = Some(at);
            stop.seconds = length(stop.from, at);
            stop.ended_by = by.map(person);
            stop.ended_why = Some(why.to_owned());
        }
    }

    fn resume(&mut self, at: Timestamp, why: &str, before: Timestamp) {
        let in_doubt = self.run.steps.iter().filter(|(_, step)| step.state.is_open()).map(|(id, _)| id.clone()).collect::<Vec<_>>();
        for step in &in_doubt {
            self.of(step).doubts += 1;
        }
        self.resumes.push(Resume {
            at,
            why: why.to_owned(),
            away_seconds_max: length(before, at),
            band: Band { from: before, to: at.max(before) },
            in_doubt: in_doubt.iter().map(ToString::to_string).collect(),
        });
    }

    fn open_approval(&mut self, step: &StepId) -> Option<&mut Approval> {
        self.approvals.iter_mut().rev().find(|approval| approval.step == step.as_str() && approval.end == ApprovalEnd::Open)
    }

    fn answer(&mut self, step: &StepId, by: &Actor, at: Timestamp, said: &str, comment: Option<&String>) {
        let answer = Answer { by: person(by), at, said: said.to_owned(), comment: comment.cloned() };
        if let Some(approval) = self.open_approval(step) {
            approval.answers.push(answer);
        }
    }

    fn end_approval(&mut self, step: &StepId, end: ApprovalEnd, at: Timestamp) {
        if let Some(approval) = self.open_approval(step) {
            (approval.end, approval.ended_at) = (end, Some(at));
        }
    }
}

impl StepHistory {
    fn become_doing(&mut self, doing: Option<Doing>, at: Timestamp, attempt: u32) {
        if self.open.is_some_and(|(now, _, of)| Some(now) == doing && of == attempt) {
            return;
        }
        if let Some((doing, from, attempt)) = self.open.take() {
            self.segments.push(Segment { doing, from, to: at.max(from), attempt });
        }
        self.open = doing.map(|doing| (doing, at, attempt));
    }
}

fn doing(state: StepState) -> Option<Doing> {
    match state {
        StepState::AwaitingApproval => Some(Doing::AwaitingApproval),
        StepState::Running => Some(Doing::Working),
        StepState::Backoff => Some(Doing::Backoff),
        StepState::InDoubt | StepState::UndoInDoubt => Some(Doing::InDoubt),
        StepState::Held => Some(Doing::Held),
        StepState::Undoing => Some(Doing::Undoing),
        StepState::Waiting
        | StepState::Succeeded
        | StepState::Rejected
        | StepState::Failed
        | StepState::Skipped
        | StepState::NotRun
        | StepState::Undone
        | StepState::UndoFailed => None,
    }
}
