//! Decides what a run does next. Never waits, never writes: plan, state and time in, actions out.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::census::Moment;
use crate::drill;
use crate::facts;
use crate::journal::{Back, Outcome, Turn};
use crate::left;
use crate::mutants::{self, Mutant};
use crate::run::index::{Part, lost_need};
use crate::run::{Run, RunPhase, StepRun, StepState};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{OnFailure, PlanStep};

/// Most calls under way in one run at a time: what a wide plan may ask of this process and of the systems behind it at once.
pub const CALLS_MAX: usize = 512;

/// What the executor does now.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Evaluate `if`, then start the next attempt of this step, or ask people.
    Begin {
        /// The step.
        step: StepId,
    },
    /// Ask the world what became of it.
    Observe {
        /// The step.
        step: StepId,
    },
    /// It goes on by itself: call `execute`, which adopts it.
    Adopt {
        /// The step.
        step: StepId,
    },
    /// The question was not answered in time.
    Expire {
        /// The step.
        step: StepId,
    },
    /// It will not be started, or not again.
    CallOff {
        /// The step.
        step: StepId,
        /// Why.
        why: String,
    },
    /// Ask the peers what there is on the resources of a drill.
    List {
        /// Before its first step, or after all is put back.
        moment: Moment,
    },
    /// Take its effect back.
    Undo {
        /// The step.
        step: StepId,
    },
    /// Nothing goes on without a person.
    Hold {
        /// What waits.
        why: String,
    },
    /// It goes on after a person's decision.
    Release,
    /// Turn back or end early.
    Unwind {
        /// Why.
        turn: Turn,
        /// What happens with effects.
        back: Back,
    },
    /// Only `finally` steps remain.
    Finalise,
    /// Over.
    End {
        /// How.
        outcome: Outcome,
        /// A sentence for people.
        why: String,
    },
}

/// What to do now, and when to ask again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Next {
    /// In an order that may be followed.
    pub actions: Vec<Action>,
    /// The next due time.
    pub wake_at: Option<Timestamp>,
}

impl Next {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// A timer that stands still is not waited for: what lets it go on wakes the run as well.
    fn wake_unless_still(&mut self, run: &Run, at: Timestamp) {
        if run.still_since.is_none() {
            self.wake(at);
        }
    }
}

/// Steps with a call under way in this process, by their places in the plan.
pub type Busy = BTreeSet<usize>;

/// What the run does next.
#[must_use]
pub fn next(run: &Run, now: Timestamp, busy: &Busy) -> Next {
    match run.phase {
        RunPhase::Ended => Next::default(),
        RunPhase::Admitted | RunPhase::Running | RunPhase::Held => forward(run, now, busy),
        RunPhase::Unwinding => back(run, now, busy),
        RunPhase::Finalising => finalise(run, now, busy),
    }
}

fn forward(run: &Run, now: Timestamp, busy: &Busy) -> Next {
    let mut next = Next::default();
    if let Some(first) = turn(run, now, &mut next).or_else(|| drill::beginning(run)) {
        next.actions.push(first);
        return next;
    }
    let moves = steps(run, &run.index().main, now, busy, &mut next);
    match (moves, run.phase) {
        (Moves::Going, RunPhase::Held) => next.actions.insert(0, Action::Release),
        (Moves::Going, _) => {}
        (Moves::Person(_), _) if drill::turns_back_alone(run) => next.actions.push(drill::over()),
        (Moves::Person(_), RunPhase::Held) => {}
        (Moves::Person(why), _) => next.actions.push(Action::Hold { why }),
        (Moves::Over, _) if run.is_drill() => next.actions.push(drill::over()),
        (Moves::Over, _) => next.actions.push(Action::Finalise),
    }
    next
}

/// Whether the run turns back now.
fn turn(run: &Run, now: Timestamp, next: &mut Next) -> Option<Action> {
    let back = |rule| if rule == OnFailure::Undo { Back::Undo } else { Back::Keep };
    let whole = run.run_rule();
    if run.cancelled_by.is_some() {
        return Some(Action::Unwind { turn: Turn::Cancelled, back: back(whole) });
    }
    for step in at(run, &run.index().main.failed) {
        let rule = run.failure_rule(step);
        let leaves = match rule {
            OnFailure::Hold => false,
            OnFailure::Undo | OnFailure::Abort => true,
        };
        if leaves {
            return Some(Action::Unwind { turn: Turn::StepFailed { step: step.id.clone() }, back: back(rule) });
        }
    }
    if let Some(deadline) = run.deadline().filter(|_| run.can_turn_back()) {
        if deadline <= run.timers_at(now) {
            return Some(Action::Unwind { turn: Turn::DeadlinePassed, back: back(whole) });
        }
        next.wake_unless_still(run, deadline);
    }
    None
}

/// How a list of steps stands as a whole.
enum Moves {
    /// Something is under way, due, or waiting for people who were asked.
    Going,
    /// Only a person's decision helps.
    Person(String),
    /// All are final.
    Over,
}

/// The steps at these places, in plan order.
fn at<'run>(run: &'run Run, places: &'run BTreeSet<usize>) -> impl DoubleEndedIterator<Item = &'run PlanStep> {
    places.iter().filter_map(|place| run.plan.at(*place))
}

fn steps(run: &Run, part: &Part, now: Timestamp, busy: &Busy, next: &mut Next) -> Moves {
    let before = next.actions.len();
    // Also where only a brake keeps it from going on: then nobody has to decide anything about a step.
    let mut going = false;
    let mut persons: Vec<String> = Vec::new();
    for step in part.lost.difference(busy).filter_map(|place| run.plan.at(*place)) {
        if let Some(of) = lost_need(run, step) {
            next.actions.push(Action::CallOff { step: step.id.clone(), why: format!("it needs {of}, which is not done") });
        }
    }
    let mut free = CALLS_MAX.saturating_sub(busy.len());
    let mut idle = 0;
    // A wide plan has hundreds of steps under way, and each answer comes here.
    for step in part.unsettled.difference(busy).filter_map(|place| run.plan.at(*place)) {
        idle += 1;
        let Some(record) = run.steps.get(&step.id) else { continue };
        match record.state {
            StepState::Backoff => match not_yet(record, step, now) {
                Some(at) => {
                    going = true;
                    next.wake(at);
                }
                None if run.brake(step).is_some() => going = true,
                None => next.actions.push(Action::Begin { step: step.id.clone() }),
            },
            StepState::AwaitingApproval => match &record.ask {
                Some(ask) if ask.expires_at <= run.timers_at(now) => next.actions.push(Action::Expire { step: step.id.clone() }),
                Some(ask) => {
                    going = true;
                    next.wake_unless_still(run, ask.expires_at);
                }
                None => going = true,
            },
            StepState::InDoubt => next.actions.push(Action::Observe { step: step.id.clone() }),
            StepState::Running if run.freeze_on(step).is_some() => going = true,
            StepState::Running => next.actions.push(Action::Adopt { step: step.id.clone() }),
            StepState::Held | StepState::Failed | StepState::Rejected => persons.push(person(step, record)),
            StepState::Waiting
            | StepState::Succeeded
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undone
            | StepState::UndoFailed
            | StepState::Undoing
            | StepState::UndoInDoubt => {}
        }
    }
    going = going || idle < part.unsettled.len();
    let mut room = run.index().room(busy);
    for (place, step) in part.ready.iter().filter_map(|place| Some((*place, run.plan.at(*place)?))) {
        if busy.contains(&place) {
            going = true;
        } else if run.brake(step).is_some() {
            going = true;
            if run.paused.is_some() {
                break;
            }
        } else if !room.takes(place) {
            // Other items of its list are under way, or with a person, who is named then.
        } else if free > 0 {
            free -= 1;
            next.actions.push(Action::Begin { step: step.id.clone() });
        } else {
            going = true;
            break;
        }
    }
    if going || next.actions.len() > before {
        Moves::Going
    } else if !persons.is_empty() {
        Moves::Person(persons.join("; "))
    } else if !part.waiting.is_empty() {
        // A step waits for one that is neither under way nor with a person: the plan has a cycle, which planning refuses.
        Moves::Person("steps wait for each other".into())
    } else {
        Moves::Over
    }
}

fn person(step: &PlanStep, record: &StepRun) -> String {
    format!("{} is {}: {}", step.id, record.state.word().replace('_', " "), record.why.as_deref().unwrap_or("a person is needed"))
}

fn back(run: &Run, now: Timestamp, busy: &Busy) -> Next {
    let mut next = Next::default();
    let mut open = false;
    let main = &run.index().main;
    for place in main.waiting.union(&main.unsettled) {
        if busy.contains(place) {
            open = true;
            continue;
        }
        let Some(step) = run.plan.at(*place) else { continue };
        match run.state(&step.id) {
            StepState::Held => {
                let why = run.steps.get(&step.id).and_then(|record| record.why.as_deref()).unwrap_or("a person was needed");
                next.actions.push(Action::CallOff { step: step.id.clone(), why: format!("{why}; then the run turned back") });
            }
            StepState::Waiting | StepState::AwaitingApproval | StepState::Backoff => {
                next.actions.push(Action::CallOff { step: step.id.clone(), why: "the run turned back".into() });
            }
            StepState::InDoubt => next.actions.push(Action::Observe { step: step.id.clone() }),
            StepState::Running if run.freeze_on(step).is_some() => open = true,
            StepState::Running => next.actions.push(Action::Adopt { step: step.id.clone() }),
            StepState::Succeeded
            | StepState::Rejected
            | StepState::Failed
            | StepState::Skipped
            | StepState::NotRun
            | StepState::Undoing
            | StepState::Undone
            | StepState::UndoFailed
            | StepState::UndoInDoubt => {}
        }
    }
    // An undo under way is busy too.
    if open || !busy.is_empty() || !next.actions.is_empty() {
        return next;
    }
    match run.turn {
        Some((_, Back::Undo)) => match next_undo(run) {
            Some(step) => undo(run, step, now, &mut next),
            None => next.actions.push(Action::Finalise),
        },
        Some((_, Back::Keep)) | None => next.actions.push(Action::Finalise),
    }
    next
}

/// Takes one step back: looked at first where an earlier try may have had its effect, and only when it is due.
fn undo(run: &Run, step: &PlanStep, now: Timestamp, next: &mut Next) {
    let Some(record) = run.steps.get(&step.id) else { return };
    if record.state == StepState::UndoInDoubt && record.retry_at.is_none() {
        next.actions.push(Action::Observe { step: step.id.clone() });
    } else if let Some(at) = not_yet(record, step, now) {
        next.wake(at);
    } else if run.undo_brake(step).is_none() {
        next.actions.push(Action::Undo { step: step.id.clone() });
    }
}

/// When the next try is due, if it is not yet. A wait longer than the longest one means that the clock was set back meanwhile: then it
/// is over.
fn not_yet(record: &StepRun, step: &PlanStep, now: Timestamp) -> Option<Timestamp> {
    record.retry_at.filter(|at| *at > now && at.duration_since(now) <= millis(step.retry.backoff_max_ms))
}

/// The last step in plan order whose effect still stands. One at a time: the reverse of the order in which they depend on each other.
fn next_undo(run: &Run) -> Option<&PlanStep> {
    let stood_on = stood_on(run);
    if mutants::is(Mutant::UndoForward) {
        return at(run, &run.index().main.standing).find(|step| !stood_on.contains(&step.id));
    }
    at(run, &run.index().main.standing).rev().find(|step| !stood_on.contains(&step.id))
}

/// Steps on which an effect stands that could not be taken back, or that nobody has ruled out. They stay as they are: lifting a fence
/// under a promotion that may stand makes two primaries.
fn stood_on(run: &Run) -> BTreeSet<StepId> {
    if mutants::is(Mutant::StandingForgotten) {
        return BTreeSet::new();
    }
    at(run, &run.index().main.dubious).flat_map(|step| facts::ancestors(&run.plan, step)).collect()
}

fn finalise(run: &Run, now: Timestamp, busy: &Busy) -> Next {
    let mut next = Next::default();
    if mutants::is(Mutant::FinallySkipped) {
        let (outcome, why) = verdict(run);
        next.actions.push(Action::End { outcome, why });
        return next;
    }
    match steps(run, &run.index().last, now, busy, &mut next) {
        Moves::Going => {}
        // Finally steps have nobody to wait for: what is not done is left behind, and the run is stuck.
        Moves::Person(_) | Moves::Over => next.actions.push(drill::ending(run).unwrap_or_else(|| {
            let (outcome, why) = verdict(run);
            Action::End { outcome, why }
        })),
    }
    next
}

/// How the run ended, once nothing is left to do.
fn verdict(run: &Run) -> (Outcome, String) {
    let named = |wanted: &dyn Fn(&PlanStep, &StepRun) -> bool| -> Vec<String> {
        run.plan
            .steps
            .iter()
            .chain(&run.plan.finally)
            .filter(|step| run.steps.get(&step.id).is_some_and(|record| wanted(step, record)))
            .map(|step| step.id.to_string())
            .collect()
    };
    let undoing = |record: &StepRun| matches!(record.state, StepState::UndoFailed | StepState::UndoInDoubt | StepState::Undoing);
    let matters = !mutants::is(Mutant::DoubtForgotten);
    let doubtful = named(&|_, record| record.doubtful && matters && !undoing(record));
    let unknown = (!doubtful.is_empty()).then(|| format!("the effect of {} is unknown", doubtful.join(", ")));
    let left: Vec<String> = unknown.into_iter().chain(left::words(run, &stood_on(run))).collect();
    if !left.is_empty() {
        return (Outcome::Stuck, left.join("; "));
    }
    let bad_end: Vec<String> = run
        .plan
        .finally
        .iter()
        .filter(|step| !matches!(run.state(&step.id), StepState::Succeeded | StepState::Skipped))
        .map(|step| step.id.to_string())
        .collect();
    if !bad_end.is_empty() && !mutants::is(Mutant::FinallySkipped) {
        return (Outcome::Stuck, format!("the final step {} is not done", bad_end.join(", ")));
    }
    if let (true, Some((turn, Back::Undo))) = (run.is_drill(), &run.turn) {
        return drill::verdict(run, turn);
    }
    let undone = named(&|_, record| record.state == StepState::Undone);
    match &run.turn {
        Some((turn, Back::Undo)) => (
            Outcome::Undone,
            format!(
                "{}; {}",
                turn_words(turn),
                if undone.is_empty() { "nothing had to be undone".to_owned() } else { format!("undone: {}", undone.join(", ")) }
            ),
        ),
        Some((turn @ (Turn::Cancelled | Turn::Preempted { .. }), Back::Keep)) => {
            (Outcome::Cancelled, format!("{}; what was done stays", turn_words(turn)))
        }
        Some((turn, Back::Keep)) => (Outcome::Failed, format!("{}; what was done stays", turn_words(turn))),
        None => {
            let bad: Vec<String> = run
                .plan
                .steps
                .iter()
                .filter(|step| !matches!(run.state(&step.id), StepState::Succeeded | StepState::Skipped))
                .map(|step| step.id.to_string())
                .collect();
            if bad.is_empty() || mutants::is(Mutant::FailedIsSucceeded) {
                (Outcome::Succeeded, "every step is done or was skipped".into())
            } else {
                (Outcome::Failed, format!("not done: {}", bad.join(", ")))
            }
        }
    }
}

fn turn_words(turn: &Turn) -> String {
    match turn {
        Turn::Cancelled => "a person cancelled".into(),
        Turn::StepFailed { step } => format!("step {step} failed"),
        Turn::DeadlinePassed => "the run's deadline passed".into(),
        Turn::DrillEnded => "the drill is over".into(),
        Turn::Preempted { by } => format!("it made way for run {by}"),
    }
}

pub(crate) fn millis(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}
