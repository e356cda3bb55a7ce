//! The list of runs, for people.

use std::fmt::Write as _;
use std::time::Duration;

use lifeboat_engine::journal::Outcome;
use lifeboat_server::control::RunSummary;

use super::words;

pub(crate) fn text(runs: &[RunSummary]) -> String {
    if runs.is_empty() {
        return "no runs yet\n".into();
    }
    let width = runs.iter().map(|run| run.run.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for run in runs.iter().rev() {
        let took = run
            .started_at
            .zip(run.ended_at)
            .map_or(String::new(), |(from, to)| words::length(Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)));
        let _ = writeln!(
            text,
            "{:width$}  {:<10} {:<12} {:>12}  by {}",
            run.run.as_str(),
            run.mode,
            standing(run),
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
pub(crate) fn standing(run: &RunSummary) -> &'static str {
    match run.outcome {
        Some(outcome) => outcome_word(outcome),
        None if !run.waiting.is_empty() => "needs you",
        None => run.phase.word(),
    }
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
