//! Runbook tests as their author wrote them: what happens in the simulated world, and what is expected of the run. How a test file is
//! read is in `read`; running it is the engine's.

mod check;
mod read;
mod sample;
mod schema;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::diagnostic::{Source, Span};
use crate::runbook::Spanned;

pub use check::{check, holds};
pub use read::parse;
pub use sample::{given_outputs, sample_outputs};
pub use schema::schema;

/// Most cases of a test file: each is a whole run.
pub const CASES_MAX: usize = 1000;

/// Words for how a run comes to rest: the outcomes of a run, and `held` for one that waits for a person.
pub const ENDS: [&str; 6] = ["succeeded", "failed", "undone", "cancelled", "stuck", "held"];

/// Words for how a step may stand when a run has come to rest.
pub const STATES: [&str; 15] = [
    "waiting",
    "awaiting_approval",
    "running",
    "backoff",
    "in_doubt",
    "held",
    "succeeded",
    "rejected",
    "failed",
    "skipped",
    "not_run",
    "undoing",
    "undone",
    "undo_failed",
    "undo_in_doubt",
];

/// A test file.
#[derive(Clone, Debug)]
pub struct TestFile {
    /// The file.
    pub source: Source,
    /// The runbook's path, from the folder of this file; left out: this file's name without `.test`.
    pub runbook: Option<Spanned<String>>,
    /// The cases, in the order of the file.
    pub cases: Vec<TestCase>,
}

/// One run in the simulated world, and what is expected of it.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// What people call it, unique in the file.
    pub name: Spanned<String>,
    /// The mode; `None` where the runbook has only one.
    pub mode: Option<Spanned<String>>,
    /// Inputs, as they would be typed.
    pub inputs: BTreeMap<String, Spanned<String>>,
    /// What happens to steps; a step that is not named succeeds, and an approval is given.
    pub steps: BTreeMap<String, StepGiven>,
    /// What people do beside answering approvals, in order.
    pub people: Vec<PersonActs>,
    /// What is expected, in the order of the file.
    pub expect: Vec<Expected>,
}

/// What happens to one step.
#[derive(Clone, Debug)]
pub struct StepGiven {
    /// The step's name.
    pub span: Span,
    /// Attempt by attempt; the last holds for all that follow. Empty: it succeeds.
    pub attempts: Vec<Spanned<Given>>,
    /// Why its undo fails, where it does.
    pub undo_fails: Option<String>,
}

/// What comes of one attempt, or of one question to people.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// It is done, with these outputs; those that are not named are samples of their type.
    Succeeds {
        /// By name.
        outputs: Value,
    },
    /// It had no effect, and the cause may pass.
    Fails {
        /// Why.
        why: String,
    },
    /// It had no effect, and trying again is no use.
    FailsForGood {
        /// Why.
        why: String,
    },
    /// Its own checks say that it must not start.
    Refused {
        /// Why.
        why: String,
    },
    /// Its answer is lost.
    InDoubt {
        /// What is seen when the world is asked.
        observed: Observed,
        /// Outputs where it is seen done.
        outputs: Value,
        /// What was lost.
        why: String,
    },
    /// People say yes. Without names: as many as are needed.
    Approved {
        /// Names of the inventory.
        by: Vec<Spanned<String>>,
    },
    /// A person says no.
    Denied {
        /// A name of the inventory.
        by: Option<Spanned<String>>,
    },
    /// Nobody answers in time.
    Expires,
}

impl Given {
    /// Whether it is an answer of people rather than of a step.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Approved { .. } | Self::Denied { .. } | Self::Expires => true,
            Self::Succeeds { .. } | Self::Fails { .. } | Self::FailsForGood { .. } | Self::Refused { .. } | Self::InDoubt { .. } => false,
        }
    }
}

/// What is seen of an attempt whose answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Its effect is there.
    Done,
    /// Nothing of it happened.
    NotDone,
    /// It goes on by itself; when it is waited for, it ends well.
    InProgress,
    /// Done or half done, not by this run.
    Foreign,
    /// It cannot be told.
    Unknown,
}

/// What a person does to the run.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonActs {
    /// The place in the file.
    pub span: Span,
    /// When.
    pub when: When,
    /// What.
    pub act: PersonAct,
}

/// When a person acts: once, as soon as it is so.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// As soon as the run goes.
    AtOnce,
    /// The step has begun an attempt.
    Begun(Spanned<String>),
    /// The step is done or skipped.
    Done(Spanned<String>),
    /// The step is held, rejected or has failed, and the run waits for a person.
    Held(Spanned<String>),
}

/// What a person does.
#[derive(Clone, Debug, PartialEq)]
pub enum PersonAct {
    /// Stops the run.
    Cancel,
    /// Says that the held step is done, with these outputs (samples where not named).
    Done {
        /// By name.
        outputs: Value,
    },
    /// Tries the held step again.
    Retry,
    /// Goes on without the held step.
    Skip,
    /// Gives the held step up.
    GiveUp,
}

/// One expectation and its place.
pub type Expected = Spanned<Expectation>;

/// What a case expects.
#[derive(Clone, Debug, PartialEq)]
pub enum Expectation {
    /// How the run comes to rest: a word of [`ENDS`].
    Outcome(String),
    /// The steps that wait for a person's decision, exactly these.
    Held(Vec<String>),
    /// A step stands so: a word of [`STATES`].
    State {
        /// The step.
        step: String,
        /// The word.
        state: String,
    },
    /// Each of these steps began, and only after the one before it had ended.
    Order(Vec<String>),
    /// Filled parameters of the step's last attempt hold at least this.
    With {
        /// The step.
        step: String,
        /// A part of its `with`.
        with: Value,
    },
    /// Attempts that a step made.
    Attempts {
        /// The step.
        step: String,
        /// How many.
        attempts: u64,
    },
    /// Steps that were undone, exactly these, in this order.
    Undone(Vec<String>),
    /// Steps whose effect stands or may stand when the run has come to rest, exactly these.
    Standing(Vec<String>),
    /// People were asked.
    Asked {
        /// The approval.
        step: String,
        /// These roles, where named.
        roles: Option<Vec<String>>,
        /// So many people, where named.
        count: Option<u64>,
        /// The facts shown hold at least this, where named.
        shown: Option<Value>,
    },
    /// What the step's state says of its reason holds this text.
    Why {
        /// The step.
        step: String,
        /// The text.
        contains: String,
    },
    /// The step that crossed the point of no return; `None`: none did.
    NoReturn(Option<String>),
}

impl Expectation {
    /// The key of `expect` that it stands under, with the step where there is one.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Outcome(_) => "outcome".to_owned(),
            Self::Held(_) => "held".to_owned(),
            Self::State { step, .. } => format!("steps.{step}"),
            Self::Order(_) => "order".to_owned(),
            Self::With { step, .. } => format!("with.{step}"),
            Self::Attempts { step, .. } => format!("attempts.{step}"),
            Self::Undone(_) => "undone".to_owned(),
            Self::Standing(_) => "standing".to_owned(),
            Self::Asked { step, .. } => format!("asked.{step}"),
            Self::Why { step, .. } => format!("why.{step}"),
            Self::NoReturn(_) => "no_return".to_owned(),
        }
    }
}
