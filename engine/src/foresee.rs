//! What a person's decision leads to: applied to a copy of the run, and followed with the same `next` and tables that drive it, as if
//! everything went well from there. Pure; nothing is written, and no world is asked.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::evidence::Evidence;
use crate::journal::{Actor, ENTRY_FORMAT, Entry, Event, Outcome, Output, Seen};
use crate::next::{Action, Next, next};
use crate::ports::Ports;
use crate::run::{IllegalTransition, Run, RunPhase, StepState, asks};
use crate::sight::Sight;
use crate::steering::{Command, SteerError, decide};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::PlanStep;

/// Rounds followed at most, beyond one for each step: a run that goes in circles is our mistake, and a person must not wait for it.
const ROUNDS_MORE: usize = 100;

/// What happens if a decision is taken and everything goes well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// Steps that start, in order.
    pub starts: Vec<StepId>,
    /// Steps that are left out, because their condition is false.
    pub skipped: Vec<StepId>,
    /// Steps that will not run.
    pub not_run: Vec<StepId>,
    /// Steps that are undone, in order.
    pub undone: Vec<StepId>,
    /// Steps in which people are still to answer when nothing else goes on.
    pub asks: Vec<StepId>,
    /// Steps that start only if their condition turns out true, which cannot be known yet.
    pub depends: Vec<StepId>,
    /// The run waits for a person, and why.
    pub holds: Option<String>,
    /// The run waits, because it is paused or because of a freeze.
    pub braked: bool,
    /// How the run ends.
    pub ends: Option<Outcome>,
    /// And why, in a sentence.
    pub why: Option<String>,
}

/// Follows a decision on a copy of the run.
///
/// # Errors
/// Where the decision is not possible now, or not for this person.
pub fn foresee(run: &Run, command: &Command, by: &Actor, ports: &Ports) -> Result<Foreseen, SteerError> {
    let events = decide(run, command, by, ports)?;
    let mut ahead = Ahead { run: run.clone(), now: ports.clock.now(), seen: Foreseen::default() };
    for event in events {
        ahead.apply(event).map_err(|error| SteerError::NotNow(error.to_string()))?;
    }
    ahead.follow();
    Ok(ahead.seen)
}

/// A run a little ahead of the real one.
struct Ahead {
    run: Run,
    now: Timestamp,
    seen: Foreseen,
}

impl Ahead {
    fn apply(&mut self, event: Event) -> Result<(), IllegalTransition> {
        self.run.apply(&Entry { format: ENTRY_FORMAT, at: self.now, owner: "foreseen".into(), event })
    }

    fn follow(&mut self) {
        let rounds = self.run.steps.len() * 4 + ROUNDS_MORE;
        for _ in 0..rounds {
            let Next { actions, wake_at } = next(&self.run, self.now, &BTreeSet::new());
            let entries = self.run.entries;
            for action in actions {
                // What does not follow is not foreseen; the rest may be.
                if self.act(action).is_err() {
                    return;
                }
            }
            if self.run.phase == RunPhase::Ended {
                self.seen.ends = self.run.outcome;
                self.seen.why.clone_from(&self.run.why);
                return;
            }
            if self.run.entries > entries {
                continue;
            }
            let asked = self.run.plan.all_steps().any(|step| self.run.state(&step.id) == StepState::AwaitingApproval);
            match wake_at {
                Some(at) if at > self.now && !asked => self.now = at,
                Some(_) | None => break,
            }
        }
        let asked = self.run.plan.all_steps().filter(|step| self.run.state(&step.id) == StepState::AwaitingApproval);
        self.seen.asks = asked.map(|step| step.id.clone()).collect();
        if self.run.phase == RunPhase::Held {
            self.seen.holds.clone_from(&self.run.why);
        }
        self.seen.braked = self.run.paused.is_some() || !self.run.frozen.is_empty();
    }

    fn act(&mut self, action: Action) -> Result<(), IllegalTransition> {
        match action {
            Action::Begin { step } => self.begin(&step),
            Action::Observe { step } if self.run.state(&step) == StepState::UndoInDoubt => self.apply(Event::UndoSucceeded { step }),
            Action::Observe { step } | Action::Adopt { step } => self.succeed(step),
            Action::Expire { step } => self.apply(Event::ApprovalExpired { step }),
            Action::CallOff { step, why } => {
                self.seen.not_run.push(step.clone());
                let acted = self.run.steps.get(&step).is_some_and(|record| record.attempts > 0);
                let waiting = matches!(self.run.state(&step), StepState::Waiting | StepState::AwaitingApproval);
                self.apply(if acted && !waiting {
                    Event::StepFailed { step, why, evidence: Evidence::none(), retry_at: None }
                } else {
                    Event::StepNotRun { step, why }
                })
            }
            Action::List { moment } => self.apply(Event::PeersListed { moment, listings: Vec::new() }),
            Action::Undo { step } => {
                self.seen.undone.push(step.clone());
                self.apply(Event::UndoStarted { step: step.clone(), act: None })?;
                self.apply(Event::UndoSucceeded { step })
            }
            Action::Hold { why } => self.apply(Event::RunHeld { why }),
            Action::Release => self.apply(Event::RunReleased),
            Action::Unwind { turn, back } => self.apply(Event::UnwindingStarted { turn, back }),
            Action::Finalise => self.apply(Event::FinalisingStarted),
            Action::End { outcome, why } => self.apply(Event::RunEnded { outcome, why }),
        }
    }

    fn begin(&mut self, id: &StepId) -> Result<(), IllegalTransition> {
        let plan = std::sync::Arc::clone(&self.run.plan);
        let Some(step) = plan.step(id) else { return Err(IllegalTransition::NoSuchStep(id.clone())) };
        if self.run.steps.get(id).is_none_or(|record| record.attempts == 0 && record.ask.is_none()) {
            match self.condition(step) {
                Condition::True => {}
                Condition::False(why) => {
                    self.seen.skipped.push(id.clone());
                    return self.apply(Event::StepSkipped { step: id.clone(), why });
                }
                Condition::Unknown => self.seen.depends.push(id.clone()),
            }
        }
        if asks(step) {
            return self.apply(question(step, self.now));
        }
        let attempt = self.run.steps.get(id).map_or(0, |record| record.attempts) + 1;
        if step.inner.is_none() {
            self.seen.starts.push(id.clone());
        }
        let (with, intent) = (Value::Null, Value::Null);
        self.apply(Event::StepStarted { step: id.clone(), attempt, with, intent, evidence: Evidence::none() })?;
        self.succeed(id.clone())
    }

    fn succeed(&mut self, step: StepId) -> Result<(), IllegalTransition> {
        // What it will say is not known; conditions that read it have no answer then.
        self.apply(Event::StepSucceeded { step, output: Output::Inline(json!({})), measures: Vec::new(), seen: Seen::Executed })
    }

    fn condition(&self, step: &PlanStep) -> Condition {
        let sight = Sight::of(&self.run);
        match sight.left_out(step) {
            Ok(None) => {}
            Ok(Some(why)) => return Condition::False(why),
            Err(_) => return Condition::Unknown,
        }
        match step.condition.as_ref().map(|condition| (condition, sight.is_true(step, condition))) {
            None | Some((_, Ok(true))) => Condition::True,
            Some((condition, Ok(false))) => Condition::False(format!("`{condition}` is false")),
            Some((_, Err(_))) => Condition::Unknown,
        }
    }
}

enum Condition {
    True,
    False(String),
    Unknown,
}

fn question(step: &PlanStep, now: Timestamp) -> Event {
    let number = |name: &str| step.with.get(name).and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
    Event::ApprovalRequested {
        step: step.id.clone(),
        roles: Vec::new(),
        count: number("count").unwrap_or(1),
        shown: Value::Null,
        facts: String::new(),
        expires_at: now.saturating_add(jiff::SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX),
    }
}
