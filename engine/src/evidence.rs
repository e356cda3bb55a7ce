//! What was seen in the world, kept with the decision it led to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Facts in the order in which they were seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Evidence(pub Vec<Fact>);

/// One thing seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// What was looked at: `us-west-2 replay position`.
    pub what: String,
    /// What was found: `0/5028310`.
    pub found: Value,
}

/// Most facts kept with one decision; more are counted in a last fact.
pub const FACTS_MAX: usize = 200;

impl Evidence {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One fact.
    #[must_use]
    pub fn of(what: impl Into<String>, found: impl Into<Value>) -> Self {
        Self::none().with(what, found)
    }

    /// One more fact.
    #[must_use]
    pub fn with(mut self, what: impl Into<String>, found: impl Into<Value>) -> Self {
        self.note(what, found);
        self
    }

    /// Adds a fact in place.
    pub fn note(&mut self, what: impl Into<String>, found: impl Into<Value>) {
        if self.0.len() < FACTS_MAX {
            self.0.push(Fact { what: what.into(), found: found.into() });
        }
    }
}
