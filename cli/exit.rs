//! Exit codes, and troubles told to a person: what happened, why, what to do now.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The run failed, was undone or was cancelled.
    RunFailed = 1,
    /// Bad usage or an invalid runbook.
    Usage = 2,
    /// Refused before anything was changed.
    Refused = 3,
    /// Waiting for a person.
    Waiting = 4,
    /// The engine itself failed.
    Engine = 5,
}

impl Exit {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Something that ends a command early.
#[derive(Debug)]
pub(crate) struct Trouble {
    exit: Exit,
    what: String,
    help: Option<String>,
}

impl Trouble {
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, what: what.into(), help: None }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, what: what.into(), help: None }
    }

    pub(crate) fn engine(what: impl Into<String>) -> Self {
        Self { exit: Exit::Engine, what: what.into(), help: None }
    }

    /// The same with another exit code.
    pub(crate) fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// An error with its causes.
    pub(crate) fn from_error(exit: Exit, error: &dyn std::error::Error) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let _ = write!(what, ": {source}");
            cause = source.source();
        }
        Self { exit, what, help: None }
    }

    /// Says first what the trouble is about.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.what = format!("{what}: {}", self.what);
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What happened, for a message about something larger.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Tells the person and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        if !self.what.is_empty() {
            let mut text = format!("error: {}\n", self.what);
            if let Some(help) = &self.help {
                let _ = writeln!(text, " help: {help}");
            }
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        self.exit.code()
    }

    /// Everything was told already; only the exit code remains.
    pub(crate) fn told(exit: Exit) -> Self {
        Self { exit, what: String::new(), help: None }
    }
}

/// Data for the reader of stdout. A reader that has gone away is no error; a full disk is.
pub(crate) fn print(text: &str) -> Result<(), Trouble> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Trouble::engine(format!("the output cannot be written: {error}"))),
    }
}

/// Talk for the person at the terminal.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
