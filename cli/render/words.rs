//! Words and marks that several views share: states, lengths of time, values in one line.

use std::fmt::Write as _;
use std::time::Duration;

use lifeboat_engine::evidence::Evidence;
use lifeboat_engine::run::StepState;
use serde_json::Value;

/// Longest value shown in one line.
const VALUE_CHARS_MAX: usize = 100;

/// A mark that reads without colour.
pub(super) fn mark(state: StepState) -> &'static str {
    match state {
        StepState::Waiting => "·",
        StepState::AwaitingApproval => "?",
        StepState::Running | StepState::Undoing => "▶",
        StepState::Backoff => "↻",
        StepState::InDoubt | StepState::UndoInDoubt => "‽",
        StepState::Held => "‖",
        StepState::Succeeded => "✓",
        StepState::Rejected | StepState::Failed | StepState::UndoFailed => "✗",
        StepState::Skipped => "–",
        StepState::NotRun => "○",
        StepState::Undone => "↶",
    }
}

/// A state as people say it.
pub(super) fn state(state: StepState) -> &'static str {
    match state {
        StepState::AwaitingApproval => "waiting for approval",
        StepState::Backoff => "waiting to try again",
        StepState::InDoubt => "in doubt: looking what happened",
        StepState::Held => "held: a person is needed",
        StepState::Rejected => "done, but an assertion failed",
        StepState::NotRun => "not run",
        StepState::UndoFailed => "could not be undone",
        StepState::UndoInDoubt => "undo in doubt",
        StepState::Waiting
        | StepState::Running
        | StepState::Succeeded
        | StepState::Failed
        | StepState::Skipped
        | StepState::Undoing
        | StepState::Undone => state.word(),
    }
}

/// `0.4 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`.
pub(super) fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else if seconds < 3600 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60)
    }
}

/// A value in one line, without anything that could steer a terminal.
pub(super) fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let short: String = clean(&text).chars().take(VALUE_CHARS_MAX).collect();
    if short.chars().count() < text.chars().count() { format!("{short}…") } else { short }
}

/// Control characters and those that turn the direction of writing could hide what a line says.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') { ' ' } else { c }
        })
        .collect()
}

/// Evidence, a fact a line.
pub(super) fn evidence(evidence: &Evidence, indent: &str) -> String {
    evidence.0.iter().fold(String::new(), |mut text, fact| {
        let _ = writeln!(text, "{indent}{}: {}", clean(&fact.what), value(&fact.found));
        text
    })
}
