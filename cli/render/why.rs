//! Why a run stands where it stands, for a person at 3 a.m.: the reason first, then who can act, then each command with what it leads to.

use std::fmt::Write as _;

use lifeboat_engine::foresee::Foreseen;
use lifeboat_engine::journal::Outcome;
use lifeboat_engine::run::{Run, RunPhase, StepState};
use lifeboat_engine::why::{Choice, StepWhy, Why};

use super::{Driver, runs, status, words};

/// Steps named one by one; more are counted.
const NAMED_MAX: usize = 8;

/// `command` is how a person calls this program for the same inventory and data.
pub(crate) fn text(why: &Why, run: &Run, driver: Driver, command: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}  {} ({})", why.run, words::clean(&run.plan.title), run.plan.mode);
    let standing = why.outcome.map_or_else(|| why.phase.word(), runs::outcome_word);
    let reason = why.why.as_ref().map(|why| format!(": {}", words::clean(why))).unwrap_or_default();
    let _ = writeln!(text, "{standing}{reason}");
    if why.steps.is_empty() {
        text.push_str("\nNo step waits for anything: each is done, or waits for one that is.\n");
    }
    for step in &why.steps {
        text.push('\n');
        one(&mut text, step, command);
    }
    if !why.choices.is_empty() {
        text.push_str("\nThe whole run:\n");
        choices(&mut text, &why.choices, command);
    }
    if why.phase != RunPhase::Ended && driver == Driver::Gone {
        let _ = writeln!(text, "\nNo process drives this run now; nothing goes on before:\n  {command} resume {}", why.run);
    }
    if why.outcome == Some(Outcome::Stuck) && !run.locks_released && !run.locks.is_empty() {
        let locks: Vec<&str> = run.locks.iter().map(|lock| lock.resource.as_str()).collect();
        let _ = writeln!(
            text,
            "\nIt keeps its locks on {}. Once all is in order, this gives them up:\n  {command} resolve {} --release --comment \"...\"",
            locks.join(", "),
            why.run
        );
    }
    text
}

fn one(text: &mut String, step: &StepWhy, command: &str) {
    let _ = writeln!(text, "{} {} ({}) is {}", words::mark(step.state), step.step, step.step_type, words::state(step.state));
    for sentence in &step.because {
        let _ = writeln!(text, "    {}", words::clean(sentence));
    }
    if let Some(until) = step.until {
        let what = if step.state == StepState::AwaitingApproval { "silence is a no from" } else { "the next try is due at" };
        let _ = writeln!(text, "    {what} {}", until.strftime("%H:%M:%S UTC"));
    }
    if let Some(condition) = step.condition.as_ref().filter(|_| matches!(step.state, StepState::Skipped | StepState::Waiting)) {
        let _ = writeln!(text, "    it runs if {}", words::clean(condition));
        for (name, value) in &step.values {
            let value = if value.is_null() { "none yet".to_owned() } else { words::value(value) };
            let _ = writeln!(text, "      {name} is {value}");
        }
    }
    if let Some(shown) = &step.shown {
        text.push_str("    people are shown:\n");
        status::facts(text, shown, "      ");
    }
    if !step.people.is_empty() {
        let able: Vec<&str> = step.people.iter().filter(|person| person.cannot.is_none()).map(|person| person.name.as_str()).collect();
        let who = if able.is_empty() { "NOBODY of the inventory".to_owned() } else { able.join(", ") };
        let _ = writeln!(text, "    who can answer now: {}", words::clean(&who));
        for person in &step.people {
            if let Some(cannot) = &person.cannot {
                let _ = writeln!(text, "      not {}: {}", words::clean(&person.name), words::clean(cannot));
            }
        }
    }
    if step.people.is_empty() && !step.choices.is_empty() {
        text.push_str("    anybody who can reach the data folder can decide:\n");
    }
    choices(text, &step.choices, command);
}

fn choices(text: &mut String, choices: &[Choice], command: &str) {
    for choice in choices {
        let _ = writeln!(text, "  {command} {} --comment \"...\"", choice.command);
        for line in then(&choice.then) {
            let _ = writeln!(text, "      {}", words::clean(&line));
        }
    }
}

/// What follows from a decision, a sentence a line.
fn then(seen: &Foreseen) -> Vec<String> {
    let mut lines = Vec::new();
    let named = |ids: &[lifeboat_engine::StepId]| {
        let mut names: Vec<String> = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        if ids.len() > NAMED_MAX {
            names.push(format!("{} more", ids.len() - NAMED_MAX));
        }
        names.join(", ")
    };
    for (what, ids) in [("starts", &seen.starts), ("leaves out", &seen.skipped), ("will not run", &seen.not_run), ("undoes", &seen.undone)]
    {
        if !ids.is_empty() {
            lines.push(format!("{what}: {}", named(ids)));
        }
    }
    if !seen.depends.is_empty() {
        lines.push(format!("only if their condition turns out true: {}", named(&seen.depends)));
    }
    let end = match (seen.ends, &seen.holds) {
        (Some(outcome), _) => {
            let why = seen.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("if all goes well the run ends {}{why}", runs::outcome_word(outcome))
        }
        (None, Some(why)) => format!("then the run waits for a person: {why}"),
        (None, None) if !seen.asks.is_empty() => format!("then the run waits for people to answer: {}", named(&seen.asks)),
        (None, None) if seen.braked => "then nothing goes on while the run is paused or frozen".to_owned(),
        (None, None) => "the run goes on waiting as now".to_owned(),
    };
    lines.push(end);
    lines
}
