//! The one error of this crate: a sentence for a person, with what was being done and why it failed. No other types.

use std::fmt;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Trouble>;

/// A failure, told as one line: what was attempted, then what went wrong.
#[derive(Debug, Clone)]
pub struct Trouble(String);

impl Trouble {
    /// A failure that has no other error behind it.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// Adds what was being done to a failure of the operating system or of a parser.
pub(crate) trait Doing<T> {
    /// `doing` completes the sentence "cannot ...".
    ///
    /// # Errors
    /// The original failure, with `doing` in front.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Trouble(format!("cannot {}: {error}", doing())))
    }
}
