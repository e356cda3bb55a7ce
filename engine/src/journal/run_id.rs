//! The name of a run. How one is made up is in `admission`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Names a run so that lists sort by time and people can read it aloud: `20261122t233105-orders-failover-x7k2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Arc<str>);

/// Longest run id, in bytes.
pub const RUN_ID_BYTES_MAX: usize = 100;

impl RunId {
    /// Checks the form: `[a-z0-9-]`, 1 to 100 characters.
    ///
    /// # Errors
    /// The text that is no run id.
    pub fn new(text: &str) -> Result<Self, String> {
        let fits = !text.is_empty()
            && text.len() <= RUN_ID_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.into())) } else { Err(format!("{text:?} is no run id: lower-case letters, digits and - (100 at most)")) }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
