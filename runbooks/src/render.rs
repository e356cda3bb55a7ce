//! Diagnostics as text for people (file:line:column, the line underlined, help) and as JSON for editors. What is wrong is decided elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Severity, Source, Span};

/// Whether the text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text, for files and pipes.
    Plain,
    /// ANSI escapes, for terminals.
    Ansi,
}

/// Longer lines are not shown: the place is named, and nobody reads them anyway.
const LINE_BYTES_MAX: usize = 1000;

/// Every problem with its line, then one line that counts them. Empty where there is none.
#[must_use]
pub fn text(source: &Source, diagnostics: &[Diagnostic], colour: Colour) -> String {
    let renderer = match colour {
        Colour::Plain => Renderer::plain(),
        Colour::Ansi => Renderer::styled(),
    };
    let mut known = Known::default();
    let mut out = String::new();
    for diagnostic in diagnostics {
        let (source, lines) = known.of(source, diagnostic);
        out.push_str(&one(source, lines, diagnostic, &renderer));
        out.push_str("\n\n");
    }
    if let Some(summary) = summary(diagnostics) {
        out.push_str(&format!("{}: {summary}\n", printable(&source.name)));
    }
    out
}

/// `[{code, severity, message, file, line, column, end_line, end_column, help}]`; lines and columns count from 1, columns in characters.
#[must_use]
pub fn json(source: &Source, diagnostics: &[Diagnostic]) -> Value {
    let mut known = Known::default();
    let one = |diagnostic: &Diagnostic| {
        let (source, lines) = known.of(source, diagnostic);
        let (line, column) = lines.position(&source.text, diagnostic.span.start);
        let (end_line, end_column) = lines.position(&source.text, diagnostic.span.end);
        json!({
            "code": diagnostic.code, "severity": diagnostic.severity, "message": diagnostic.message, "file": &*source.name,
            "line": line, "column": column, "end_line": end_line, "end_column": end_column, "help": diagnostic.help,
        })
    };
    diagnostics.iter().map(one).collect()
}

/// Line and column of the beginning of a span, both from 1, columns in characters.
#[must_use]
pub fn position(source: &Source, span: Span) -> (usize, usize) {
    Lines::of(&source.text).position(&source.text, span.start)
}

/// `3 errors, 1 warning`.
fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    let count = |severity: Severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let words = |count: usize, word: &str| (count > 0).then(|| format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
    let parts: Vec<String> =
        [words(count(Severity::Error), "error"), words(count(Severity::Warning), "warning")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn one(source: &Source, lines: &Lines, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let name = printable(&source.name);
    let title = level.primary_title(printable(&diagnostic.message)).id(diagnostic.code);
    let (line, column) = lines.position(&source.text, diagnostic.span.start);
    let span = lines.of_one_line(&source.text, diagnostic.span);
    let shown = &source.text[span.line.start..span.line.end];
    let report = if diagnostic.span == Span::default() {
        // The whole file, or what was asked of it: no line is to blame.
        title.element(Origin::path(name))
    } else if shown.trim().is_empty() || shown.len() > LINE_BYTES_MAX {
        title.element(Origin::path(name).line(line).char_column(column))
    } else {
        let mark = AnnotationKind::Primary.span(span.from..span.to);
        title.element(Snippet::source(shown).line_start(line).path(name).annotation(mark))
    };
    let report = match &diagnostic.help {
        Some(help) => report.element(Level::HELP.message(printable(help))),
        None => report,
    };
    renderer.render(&[report])
}

/// Decoded texts may hold escapes that would steer a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' { out.extend(letter.escape_unicode()) } else { out.push(letter) }
    }
    out
}

/// The lines of each file that problems are about.
#[derive(Default)]
struct Known(HashMap<Arc<str>, Lines>);

impl Known {
    fn of<'s>(&mut self, asked: &'s Source, diagnostic: &'s Diagnostic) -> (&'s Source, &Lines) {
        let source = diagnostic.source.as_ref().unwrap_or(asked);
        (source, self.0.entry(Arc::clone(&source.name)).or_insert_with(|| Lines::of(&source.text)))
    }
}

/// Where lines begin.
struct Lines {
    starts: Vec<usize>,
}

/// A span inside one line.
struct InLine {
    line: Span,
    from: usize,
    to: usize,
}

impl Lines {
    fn of(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts }
    }

    /// Line and column of a byte, from 1.
    fn position(&self, text: &str, at: usize) -> (usize, usize) {
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        (line, text[start..at].chars().count() + 1)
    }

    /// Only the first line of a span is underlined; the rest of a mapping tells nobody more.
    fn of_one_line(&self, text: &str, span: Span) -> InLine {
        let (line, _) = self.position(text, span.start);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let end = self.starts.get(line).map_or(text.len(), |next| next - 1);
        let end = start + text[start..end].trim_end_matches('\r').len();
        let boundary = |at: usize| (0..=at.clamp(start, end)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(start);
        let from = boundary(span.start);
        let to = boundary(span.end).max(from);
        InLine { line: Span { start, end }, from: from - start, to: to - start }
    }
}

/// Line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> u32 {
    let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    u32::try_from(line).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered_by_what_a_file_says() {
        let source = Source { name: "a\u{1b}[31m.yaml".into(), text: "k: \u{1b}]8;;http://x\u{7}\n".into() };
        let diagnostic = Diagnostic::error("LB003", Span { start: 3, end: 4 }, "x \u{1b}[2J y").help("\u{7}");
        let shown = text(&source, &[diagnostic], Colour::Plain);
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }

    #[test]
    fn columns_count_characters_and_any_span_is_drawn() {
        let source = Source { name: "t".into(), text: "é: ü\r\nx: y".into() };
        let diagnostic = |start, end| Diagnostic::error("LB001", Span { start, end }, "m");
        let shown = json(&source, &[diagnostic(4, 6)]);
        assert_eq!((&shown[0]["line"], &shown[0]["column"], &shown[0]["end_column"]), (&json!(1), &json!(4), &json!(5)));
        for start in 0..20 {
            for end in 0..20 {
                assert!(text(&source, &[diagnostic(start, end)], Colour::Ansi).contains("LB001"));
            }
        }
    }
}
