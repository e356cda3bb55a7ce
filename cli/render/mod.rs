//! Text for people, one file per thing shown. Data in, text out; only `progress` draws on the terminal.

pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod runs;
pub(crate) mod status;
pub(crate) mod steps;
mod words;
