//! Why the bench could not measure. A goal that is missed is no trouble but a row of the table.

use std::fmt::Display;

/// A sentence for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Trouble(pub(crate) String);

pub(crate) type Result<T> = std::result::Result<T, Trouble>;

/// Makes a trouble of any error.
pub(crate) fn trouble(what: &str, error: impl Display) -> Trouble {
    Trouble(format!("{what}: {error}"))
}
