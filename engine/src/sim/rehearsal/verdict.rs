//! What kind of end a case has, and whether it is one that a runbook may have: the judgement behind the table and the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::cases::CaseEnding;
use super::ending::{Ending, Rest};
use crate::journal::Outcome;
use lifeboat_runbooks::names::StepId;

/// Kinds of ends, the one to look at first in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// The engine broke a law of its own, or did not come to rest: its mistake.
    EngineBroke,
    /// Two databases may take writes.
    TwoPrimaries,
    /// The run ended stuck: a person is needed, and locks are kept.
    Stuck,
    /// The run ended without success, and effects stand.
    LeftBehind,
    /// It waits for a person at a step that did not fail itself.
    HeldElsewhere,
    /// It waits for a person at the step that failed.
    Held,
    /// It ended undone; nothing stands.
    Undone,
    /// It ended failed; nothing stands.
    Failed,
    /// It ended cancelled; nothing stands.
    Cancelled,
    /// It succeeded all the same.
    Succeeded,
}

impl EndKind {
    /// The kind of an ending, where these steps were made to fail.
    #[must_use]
    pub fn of(ending: &Ending, failed: &BTreeSet<&StepId>) -> Self {
        let stands = ending.standing().next().is_some();
        match &ending.rest {
            Rest::Broke(_) => Self::EngineBroke,
            _ if !ending.broken.is_empty() => Self::EngineBroke,
            _ if !ending.two_primaries.is_empty() => Self::TwoPrimaries,
            Rest::Held if ending.held().all(|step| failed.contains(step)) => Self::Held,
            Rest::Held => Self::HeldElsewhere,
            Rest::Ended(Outcome::Stuck) => Self::Stuck,
            Rest::Ended(Outcome::Succeeded) => Self::Succeeded,
            Rest::Ended(Outcome::Failed | Outcome::Undone | Outcome::Cancelled) if stands => Self::LeftBehind,
            Rest::Ended(Outcome::Failed) => Self::Failed,
            Rest::Ended(Outcome::Undone) => Self::Undone,
            Rest::Ended(Outcome::Cancelled) => Self::Cancelled,
        }
    }

    /// Whether a runbook may end so without anybody having said that it may. A run that waits for a person may: that is what holding is
    /// for. What may not: a stuck run, effects left behind by a run that is over, and two primaries.
    #[must_use]
    pub fn is_acceptable(self) -> bool {
        match self {
            Self::EngineBroke | Self::TwoPrimaries | Self::Stuck | Self::LeftBehind => false,
            Self::HeldElsewhere | Self::Held | Self::Undone | Self::Failed | Self::Cancelled | Self::Succeeded => true,
        }
    }

    /// As people say it.
    #[must_use]
    pub fn spoken(self) -> &'static str {
        match self {
            Self::EngineBroke => "THE ENGINE BROKE ITS OWN LAWS: please report it",
            Self::TwoPrimaries => "TWO PRIMARIES POSSIBLE",
            Self::Stuck => "STUCK: a person is needed, locks are kept",
            Self::LeftBehind => "over, with effects LEFT BEHIND",
            Self::HeldElsewhere => "held, at a step that did not fail itself",
            Self::Held => "held at the failed step",
            Self::Undone => "undone, nothing left behind",
            Self::Failed => "failed, nothing left behind",
            Self::Cancelled => "cancelled, nothing left behind",
            Self::Succeeded => "succeeded all the same",
        }
    }
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spoken())
    }
}

/// Cases that end alike.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// The kind of their end.
    pub kind: EndKind,
    /// Whether effects stand, or may stand.
    pub stands: bool,
    /// Whether the point of no return was crossed.
    pub crossed: bool,
    /// Their places in the list of cases.
    pub cases: Vec<usize>,
}

/// Cases by how they end, those to look at first in front. Those without any failure are no part of it.
#[must_use]
pub fn groups(cases: &[CaseEnding]) -> Vec<Group> {
    let mut found: BTreeMap<(EndKind, bool, bool), Vec<usize>> = BTreeMap::new();
    for (place, case) in cases.iter().enumerate().filter(|(_, case)| !case.failures.is_empty()) {
        let stands = case.ending.standing().next().is_some();
        found.entry((case.kind, stands, case.ending.no_return.is_some())).or_default().push(place);
    }
    found.into_iter().map(|((kind, stands, crossed), cases)| Group { kind, stands, crossed, cases }).collect()
}
