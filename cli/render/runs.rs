//! The list of runs, for people.

use std::fmt::Write as _;
use std::time::Duration;

use lifeboat_engine::growth::ArchiveRecord;
use lifeboat_engine::journal::{Outcome, RunId};
use lifeboat_engine::run::RunPhase;
use lifeboat_server::control::{BrakeKind, Braked, Listing, RunSummary};
use serde_json::{Value, json};

use super::{Driver, words};

pub(crate) fn text(listing: &Listing, driver: Driver) -> String {
    let frozen = freezes(listing);
    if listing.runs.is_empty() && listing.unreadable.is_empty() && listing.archived.is_empty() {
        return format!("{frozen}no runs yet\n");
    }
    let names = listing.runs.iter().map(|run| &run.run).chain(listing.unreadable.iter().map(|run| &run.run));
    let names = names.chain(listing.archived.iter().map(|run| &run.run));
    let width = names.map(|run| run.as_str().len()).max().unwrap_or(0);
    let mut text = frozen;
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
        for brake in &run.brakes {
            let _ = writeln!(text, "{:width$}  └ {}", "", braked(brake));
        }
    }
    for run in &listing.archived {
        let took = words::length(Duration::try_from(run.ended_at.duration_since(run.started_at)).unwrap_or(Duration::ZERO));
        let (name, mode, outcome) = (run.run.as_str(), &run.mode, outcome_word(run.outcome));
        let by = words::clean(&run.started_by);
        let _ = writeln!(text, "{name:width$}  {mode:<10} {outcome:<12} {took:>12}  by {by}, archived");
    }
    text
}

/// What is frozen, a line each; nothing where nothing is.
pub(crate) fn freezes(listing: &Listing) -> String {
    let mut text = String::new();
    if let Some(why) = &listing.freezes_unreadable {
        let _ = writeln!(text, "FROZEN: everything, because the freezes cannot be read: {}", words::clean(why));
    }
    for freeze in &listing.freezes {
        let _ = writeln!(
            text,
            "FROZEN: {} since {} by {}: {}",
            freeze.of(),
            freeze.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
            words::clean(freeze.by.name()),
            words::clean(&freeze.comment)
        );
    }
    text
}

/// A pause or a freeze in one line.
pub(crate) fn braked(brake: &Braked) -> String {
    let what = match brake.kind {
        BrakeKind::Paused => "paused".to_owned(),
        BrakeKind::Frozen => format!("{} frozen", brake.resource.as_deref().unwrap_or("everything")),
    };
    let by = brake.by.as_deref().map(|by| format!(" by {}", words::clean(by))).unwrap_or_default();
    format!("{what}{by} since {}: {}", brake.since.strftime("%H:%M:%S UTC"), words::clean(&brake.why))
}

/// The oldest run of a list.
pub(crate) fn oldest(listing: &Listing) -> Option<&RunId> {
    let archived = listing.archived.last().map(|run| &run.run);
    archived.or_else(|| listing.runs.iter().map(|run| &run.run).chain(listing.unreadable.iter().map(|run| &run.run)).min())
}

/// An archived run for programs.
pub(crate) fn archived(run: &ArchiveRecord) -> Value {
    json!({
        "run": run.run, "runbook": run.runbook, "mode": run.mode, "phase": RunPhase::Ended, "outcome": run.outcome,
        "started_at": run.started_at, "ended_at": run.ended_at, "started_by": run.started_by, "archived": run.file,
    })
}

/// How a run stands, in a word.
pub(crate) fn standing(run: &RunSummary, driver: Driver) -> &'static str {
    match run.outcome {
        Some(outcome) => outcome_word(outcome),
        None if !run.waiting.is_empty() => "needs you",
        None if is_interrupted(run, driver) => "interrupted",
        None if run.brakes.iter().any(|brake| brake.kind == BrakeKind::Paused) => "paused",
        None if !run.brakes.is_empty() => "frozen",
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
