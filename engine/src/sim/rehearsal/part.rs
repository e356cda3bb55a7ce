//! What happens to each step in one case: the words of a runbook test, or of a failure that is tried. The steps that play it are in
//! `simulated`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::testing::{Given, Observed, PersonActs, TestCase};

/// One way in which a step, or the people whom it asks, can let a run down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Not done, and trying again is no use.
    NotDone,
    /// Its own checks say no.
    Refused,
    /// Its outcome is unknown, and nobody can tell what became of it.
    Unknown,
    /// It is done, and its undo fails.
    UndoFails,
    /// A person says no.
    Denied,
    /// Nobody answers in time.
    Expires,
}

impl Way {
    /// The word for tables and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotDone => "not_done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::UndoFails => "undo_fails",
            Self::Denied => "denied",
            Self::Expires => "expires",
        }
    }

    /// As people say it after the name of the step.
    #[must_use]
    pub fn spoken(self) -> &'static str {
        match self {
            Self::NotDone => "fails for good",
            Self::Refused => "is refused at its gate",
            Self::Unknown => "ends nobody knows how",
            Self::UndoFails => "cannot be undone",
            Self::Denied => "is denied",
            Self::Expires => "is not answered",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spoken())
    }
}

/// What happens to one step.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// Attempt by attempt; the last holds for all that follow. Empty: it succeeds, or is approved.
    pub(super) turns: Vec<Given>,
    pub(super) undo_fails: Option<String>,
}

impl Part {
    /// What comes of the attempt or question with this place in the list.
    pub(super) fn turn(&self, place: usize) -> Option<&Given> {
        self.turns.get(place).or(self.turns.last())
    }
}

/// What happens in one case.
#[derive(Clone, Debug, Default)]
pub struct Play {
    pub(super) parts: BTreeMap<StepId, Part>,
    pub(super) people: Vec<PersonActs>,
}

impl Play {
    /// Nothing fails.
    #[must_use]
    pub fn good() -> Self {
        Self::default()
    }

    /// As a test case says. Names that are no step ids were reported when the file was checked.
    #[must_use]
    pub fn of(case: &TestCase) -> Self {
        let mut play = Self { people: case.people.clone(), ..Self::default() };
        for (name, given) in &case.steps {
            let Ok(id) = StepId::new(name) else { continue };
            let turns = given.attempts.iter().map(|turn| turn.value.clone()).collect();
            play.parts.insert(id, Part { turns, undo_fails: given.undo_fails.clone() });
        }
        play
    }

    /// One output of a step, wherever it succeeds.
    pub(super) fn says(&mut self, step: &StepId, name: &str, value: Value) {
        let part = self.parts.entry(step.clone()).or_default();
        if part.turns.is_empty() {
            part.turns.push(Given::Succeeds { outputs: Value::Object(Map::new()) });
        }
        for turn in &mut part.turns {
            match turn {
                Given::Succeeds { outputs: Value::Object(outputs) } | Given::InDoubt { outputs: Value::Object(outputs), .. } => {
                    outputs.insert(name.to_owned(), value.clone());
                }
                Given::Succeeds { .. }
                | Given::InDoubt { .. }
                | Given::Fails { .. }
                | Given::FailsForGood { .. }
                | Given::Refused { .. }
                | Given::Approved { .. }
                | Given::Denied { .. }
                | Given::Expires => {}
            }
        }
    }

    /// A step lets the run down.
    pub(super) fn fails(&mut self, step: &StepId, way: Way) {
        let part = self.parts.entry(step.clone()).or_default();
        let why = || "it fails in this simulation".to_owned();
        match way {
            Way::NotDone => part.turns = vec![Given::FailsForGood { why: why() }],
            Way::Refused => part.turns = vec![Given::Refused { why: "its checks say no in this simulation".into() }],
            Way::Unknown => {
                let outputs = Value::Object(Map::new());
                part.turns =
                    vec![Given::InDoubt { observed: Observed::Unknown, outputs, why: "the answer is lost in this simulation".into() }];
            }
            Way::UndoFails => part.undo_fails = Some(why()),
            Way::Denied => part.turns = vec![Given::Denied { by: None }],
            Way::Expires => part.turns = vec![Given::Expires],
        }
    }
}
