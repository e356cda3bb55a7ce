//! The list of runs, for people.

use std::fmt::Write as _;
use std::time::Duration;

use lifeboat_engine::journal::Outcome;
use lifeboat_server::control::{Listing, RunSummary};
use serde_json::{Value, json};

use super::{Driver, words};

pub(crate) fn text(listing: &Listing, driver: Driver) -> String {
    if listing.runs.is_empty() && listing.unreadable.is_empty() {
        return "no runs yet\n".into();
    }
    let names = listing.runs.iter().map(|run| &run.run).chain(listing.unreadable.iter().map(|run| &run.run));
    let width = names.map(|run| run.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for run in &listing.unreadable {
        let _ = writeln!(text, "{:width$}  UNREADABLE: {}", run.run.as_str(), words::clean(&run.why));
    }
    for run in listing.runs.iter().rev() {
        let took = run
            .started_at
            .zip(run.ended_at)
            .map_or(String::new(), |(from, to)| words::length(Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)));
        let _ = writeln!(
            text,
            "{:width$}  {:<10} {:<12} {:>12}  by {}",
            run.run.as_str(),
            run.mode,
            standing(run, driver),
            took,
            words::clean(&run.started_by)
        );
        for waiting in &run.waiting {
            let _ = writeln!(text, "{:width$}  └ {} is {}: {}", "", waiting.step, words::state(waiting.state), words::clean(&waiting.why));
        }
    }
    text
}

/// How a run stands, in a word.
pub(crate) fn standing(run: &RunSummary, driver: Driver) -> &'static str {
    match run.outcome {
        Some(outcome) => outcome_word(outcome),
        None if !run.waiting.is_empty() => "needs you",
        None if is_interrupted(run, driver) => "interrupted",
        None => run.phase.word(),
    }
}

/// A run that has not ended and that nobody drives: its journal alone still says that it goes on.
fn is_interrupted(run: &RunSummary, driver: Driver) -> bool {
    run.outcome.is_none() && driver == Driver::Gone
}

/// A run for programs: its summary, and whether it is interrupted.
pub(crate) fn document(run: &RunSummary, driver: Driver) -> Value {
    let mut document = json!(run);
    document["interrupted"] = json!(is_interrupted(run, driver));
    document
}

pub(crate) fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Undone => "undone",
        Outcome::Cancelled => "cancelled",
        Outcome::Stuck => "STUCK",
    }
}
