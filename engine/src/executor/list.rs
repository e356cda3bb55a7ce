//! What a drill asks of its peers before and after: the questions, all at once within bounds, and the one entry of their answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use super::{Executor, ExecutorError};
use crate::census::{Found, Listing, Moment, Subject, subjects};
use crate::context::{Purpose, ReadContext};
use crate::facts;
use crate::journal::{Event, RunId};
use crate::ports::Ports;
use crate::step::StepError;
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::PlanStep;

/// Longest time of one question.
const LIST_FOR_MAX: Duration = Duration::from_secs(30);

/// Questions at the same time.
const AT_ONCE: usize = 8;

struct Question {
    subject: Subject,
    step: StepId,
    facts: Arc<crate::context::RunFacts>,
}

impl Executor {
    /// Begins to ask, unless the answers are awaited already.
    pub(super) fn list(&mut self, moment: Moment) {
        if !self.listing.is_empty() {
            return;
        }
        let questions: Vec<Question> = subjects(&self.run.plan).into_iter().filter_map(|subject| self.question(subject)).collect();
        let (ports, run) = (self.ports.clone(), self.run.id.clone());
        self.listing.spawn(async move { Event::PeersListed { moment, listings: ask_all(questions, &ports, &run).await } });
    }

    fn question(&self, subject: Subject) -> Option<Question> {
        let plan = &self.run.plan;
        let asks = |step: &&PlanStep| {
            step.grips().any(|(step_type, touch)| {
                step_type == subject.step_type && touch.resource == subject.resource && touch.effect > Effect::Read
            })
        };
        let step = plan.steps.iter().chain(&plan.finally).find(asks)?;
        Some(Question { step: step.id.clone(), facts: Arc::new(facts::for_step(&self.run, &self.known, step, Purpose::Step)), subject })
    }

    pub(super) fn listed(&mut self, listed: Result<Event, JoinError>) -> Result<(), ExecutorError> {
        match listed {
            Ok(event) => self.record(event),
            // Asking never panics, whatever a step does; were it cut off, `next` asks anew.
            Err(_) => Ok(()),
        }
    }
}

async fn ask_all(questions: Vec<Question>, ports: &Ports, run: &RunId) -> Vec<Listing> {
    let mut listings = Vec::with_capacity(questions.len());
    let mut subjects: std::collections::HashMap<tokio::task::Id, Subject> = std::collections::HashMap::new();
    let mut tasks: JoinSet<Listing> = JoinSet::new();
    let mut waiting = questions.into_iter();
    loop {
        while tasks.len() < AT_ONCE
            && let Some(question) = waiting.next()
        {
            let (ports, run, subject) = (ports.clone(), run.clone(), question.subject.clone());
            subjects.insert(tasks.spawn(async move { ask(question, &ports, &run).await }).id(), subject);
        }
        match tasks.join_next_with_id().await {
            Some(Ok((_, listing))) => listings.push(listing),
            Some(Err(error)) => {
                if let Some(Subject { resource, step_type }) = subjects.remove(&error.id()) {
                    listings.push(Listing {
                        resource,
                        step_type,
                        found: Found::Failed { why: format!("the step's code failed: {error}") },
                    });
                }
            }
            None => break,
        }
    }
    listings.sort_by(|one, other| (&one.resource, &one.step_type).cmp(&(&other.resource, &other.step_type)));
    listings
}

async fn ask(question: Question, ports: &Ports, run: &RunId) -> Listing {
    let Question { subject: Subject { resource, step_type }, step, facts } = question;
    let found = match ports.registry.step(&step_type) {
        Some(known) => {
            let cx = ReadContext::new(
                run.clone(),
                step,
                0,
                Arc::clone(&ports.clock),
                Arc::clone(&ports.inventory),
                Arc::clone(&ports.secrets),
                facts,
                ports.clock.instant().after(LIST_FOR_MAX),
            );
            let answer = tokio::select! {
                biased;
                answer = known.census(&resource, &cx) => answer,
                () = ports.clock.sleep(LIST_FOR_MAX) => Err(StepError::not_done("no answer in time")),
            };
            answer.map_or_else(|error| Found::Failed { why: error.to_string() }, Found::of)
        }
        None => Found::Failed { why: format!("this program has no step type {step_type}") },
    };
    Listing { resource, step_type, found }
}
