//! Checked names: step ids, and the kinds of effect. Parsing of files is elsewhere.

use std::fmt;
use std::sync::Arc;

/// The name of a step inside its runbook: `[a-z][a-z0-9_]{0,62}` (snake case, because `-` is minus in expressions).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StepId(Arc<str>);

/// Longest step id, in bytes.
pub const STEP_ID_BYTES_MAX: usize = 63;

impl StepId {
    /// Checks the name.
    ///
    /// # Errors
    /// The text that is no step id.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut bytes = text.bytes();
        let fits = text.len() <= STEP_ID_BYTES_MAX
            && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
            && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(format!("{text:?} is no step id: use a lower-case letter, then letters, digits and _ (63 at most)"))
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for StepId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<StepId> for String {
    fn from(id: StepId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a step does to a resource, from harmless to grave. The order is used for locks and for the drill guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Looks only; takes no lock.
    Read,
    /// Backs up or rehearses; its lock gives way to a live run.
    Protect,
    /// Changes it; exclusive.
    Change,
    /// Destroys data or a service; exclusive.
    Destroy,
}
