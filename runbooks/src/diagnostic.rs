//! What is wrong with a text, where, why, and what to do: the data. How it is drawn for a terminal is in `render`.

use std::sync::Arc;

/// A text and the name people know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the person gave it.
    pub name: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
}

/// A part of a source, in bytes; line and column are computed when printing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing runs.
    Error,
    /// Something to look at; the runbook can run.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// `LB014`: stable, each explained in the language reference.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, with the value in it.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do now.
    pub help: Option<String>,
    /// The text that it is about, where that is not the one that was asked about: the file of a child run.
    pub source: Option<Source>,
}

impl Diagnostic {
    pub(crate) fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), span, help: None, source: None }
    }

    pub(crate) fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Warning, message: message.into(), span, help: None, source: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The name of the file that it is about, where that is not the one that was asked about; problems are sorted by it.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.source.as_ref().map(|source| &*source.name)
    }

    /// The same problem in a file of its own, unless it has one already.
    pub(crate) fn inside(mut self, source: &Source) -> Self {
        self.source.get_or_insert_with(|| source.clone());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}
