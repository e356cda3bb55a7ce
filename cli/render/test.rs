//! What came of runbook tests: each case, each expectation that is not met with its place, and JSON.

use std::fmt::Write as _;

use lifeboat_engine::sim::rehearsal::{Ending, Mismatch};
use lifeboat_runbooks::Span;
use lifeboat_runbooks::diagnostic::Source;
use lifeboat_runbooks::render::{Colour, position};
use serde_json::{Value, json};

use super::words;

/// A test file and its cases.
pub(crate) struct FileShown {
    pub(crate) source: Source,
    pub(crate) runbook: String,
    pub(crate) cases: Vec<CaseShown>,
}

/// One case.
pub(crate) struct CaseShown {
    pub(crate) name: String,
    pub(crate) span: Span,
    pub(crate) mismatches: Vec<Mismatch>,
    pub(crate) ending: Ending,
}

/// Longest value shown in a line of a difference, in characters.
const SHOWN_CHARS_MAX: usize = 400;

pub(crate) fn text(files: &[FileShown], colour: Colour) -> String {
    let paint = |code: &str, text: &str| match colour {
        Colour::Plain => text.to_owned(),
        Colour::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
    };
    let mut text = String::new();
    let (mut passed, mut failed) = (0_usize, 0_usize);
    for file in files {
        let _ = writeln!(text, "{} ({})", words::clean(&file.source.name), file.runbook);
        for case in &file.cases {
            if case.mismatches.is_empty() {
                passed += 1;
                let _ = writeln!(text, "  {} {}", paint("32", "✓"), words::clean(&case.name));
                continue;
            }
            failed += 1;
            let _ = writeln!(text, "  {} {}", paint("31", "✗"), words::clean(&case.name));
            for mismatch in &case.mismatches {
                let (line, column) = position(&file.source, mismatch.span);
                let _ = writeln!(text, "      {}:{line}:{column}: {}", words::clean(&file.source.name), mismatch.what);
                let _ = writeln!(text, "        {}", paint("32", &format!("expected  {}", cut(&mismatch.expected))));
                let _ = writeln!(text, "        {}", paint("31", &format!("found     {}", cut(&mismatch.found))));
            }
            let _ = writeln!(text, "      where every step stood: {}", states(&case.ending));
        }
    }
    let _ = writeln!(text, "\n{passed} passed, {failed} failed");
    text
}

fn cut(text: &str) -> String {
    let clean = words::clean(text);
    let short: String = clean.chars().take(SHOWN_CHARS_MAX).collect();
    if short.len() < clean.len() { format!("{short}…") } else { short }
}

fn states(ending: &Ending) -> String {
    ending.steps.iter().map(|end| format!("{} {}", end.step, end.state.word())).collect::<Vec<_>>().join(", ")
}

pub(crate) fn json(files: &[FileShown]) -> Value {
    let case = |file: &FileShown, case: &CaseShown| {
        let mismatches: Vec<Value> = case
            .mismatches
            .iter()
            .map(|mismatch| {
                let (line, column) = position(&file.source, mismatch.span);
                json!({ "what": mismatch.what, "expected": mismatch.expected, "found": mismatch.found, "line": line, "column": column })
            })
            .collect();
        json!({
            "name": case.name, "line": position(&file.source, case.span).0, "passed": case.mismatches.is_empty(), "mismatches": mismatches,
            "rest": case.ending.rest.word(), "steps": case.ending.steps.iter().map(|end| (end.step.to_string(), json!(end.state))).collect::<serde_json::Map<_, _>>(),
        })
    };
    let files: Vec<Value> = files
        .iter()
        .map(|file| json!({ "file": &*file.source.name, "runbook": file.runbook, "cases": file.cases.iter().map(|one| case(file, one)).collect::<Vec<_>>() }))
        .collect();
    json!(files)
}
