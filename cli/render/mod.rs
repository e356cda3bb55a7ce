//! Text for people, one file per thing shown. Data in, text out; only `progress` draws on the terminal.

pub(crate) mod plan;
pub(crate) mod predicted;
pub(crate) mod progress;
pub(crate) mod runs;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod steps;
pub(crate) mod test;
pub(crate) mod why;
mod words;

/// Whether a process drives a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// One may.
    Alive,
    /// None does.
    Gone,
}
