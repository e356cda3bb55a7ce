//! A runbook as its author wrote it: names, inputs, triggers and steps, each with its place. What is bound to an inventory is in `plan`.

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Source, Span};
use crate::names::StepId;
use crate::plan::{Objectives, OnFailure, Retry, Return, UndoRule};
use crate::yaml::Node;

/// The mode in which production is not touched; every runbook may have it, and none can redefine it.
pub const DRILL: &str = "drill";

/// The only mode of a runbook that names none.
pub const MODE_DEFAULT: &str = "run";

/// Most steps of a file.
pub const STEPS_MAX: usize = 10_000;

/// Longest time of one attempt where the step says nothing: long enough for any single act on a healthy system, short enough that a
/// person is asked while it still helps.
pub const TIMEOUT_DEFAULT_MS: u64 = 5 * 60 * 1000;

/// What is done after a failed attempt where the step says nothing: nothing, because only its author knows whether trying again helps.
/// The waits hold where only `attempts` is written.
pub const RETRY_DEFAULT: Retry = Retry { attempts: 1, backoff_min_ms: 1000, backoff_max_ms: 30_000 };

/// Something and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The thing.
    pub value: T,
    /// Its place.
    pub span: Span,
}

/// A runbook that could be read; it may still have problems.
#[derive(Clone, Debug)]
pub struct Runbook {
    /// The file.
    pub source: Source,
    /// `orders-failover`.
    pub name: Spanned<String>,
    /// What people call it; the name where nothing is written.
    pub title: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What was promised.
    pub objectives: Objectives,
    /// Modes it can run in, as listed.
    pub modes: Vec<Spanned<String>>,
    /// Inputs, as listed.
    pub inputs: Vec<Input>,
    /// What may start it.
    pub triggers: Vec<Trigger>,
    /// What happens when a step fails.
    pub on_failure: OnFailure,
    /// Longest time of the whole run, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// The main part, in the order of the file.
    pub steps: Vec<Step>,
    /// What runs once when the run is about to end.
    pub finally: Vec<Step>,
    /// What reading found wrong; a plan is never made of such a runbook.
    pub(crate) problems: Vec<Diagnostic>,
}

/// A value given when a run is started.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub name: Spanned<String>,
    /// Its type.
    pub input_type: InputType,
    /// What it is when nothing is given.
    pub default: Option<Value>,
    /// The only values it may have.
    pub one_of: Option<Vec<Value>>,
    /// What it is for.
    pub description: Option<String>,
}

/// Types of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// Text.
    String,
    /// A whole number of 64 bits.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A length of time, kept as text.
    Duration,
}

/// What may start a run without a person at a terminal.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its name, unique in the runbook.
    pub id: Spanned<String>,
    /// What it waits for.
    pub kind: TriggerKind,
}

/// Kinds of triggers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriggerKind {
    /// A monitor finds something down.
    Health {
        /// The monitor in the inventory.
        monitor: String,
        /// The mode it starts.
        mode: String,
    },
    /// Somebody asks in a chat.
    Telegram {
        /// The word that is typed.
        command: String,
        /// The mode it starts.
        mode: String,
        /// Who may.
        roles: Vec<String>,
    },
    /// The clock.
    Schedule {
        /// Five fields.
        cron: String,
        /// IANA name.
        timezone: String,
        /// The mode it starts.
        mode: String,
    },
}

/// One step as written.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name; `None` where the name was refused.
    pub id: Option<StepId>,
    /// The name as written.
    pub name: Spanned<String>,
    /// Its step type.
    pub step_type: Spanned<String>,
    /// Steps that come before it.
    pub needs: Vec<Spanned<String>>,
    /// Longest time of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts and waits.
    pub retry: Retry,
    /// What unwinding does.
    pub undo: UndoRule,
    /// Overrides the runbook's rule.
    pub on_failure: Option<OnFailure>,
    /// Whether the run can be turned back after it.
    pub point_of_no_return: Return,
    /// Line in the file, from 1.
    pub line: u32,
    /// The first key, where problems of the whole step are shown.
    pub(crate) head: Span,
    pub(crate) condition: Option<Written>,
    pub(crate) asserts: Vec<Written>,
    pub(crate) with: Option<With>,
}

/// A bare expression in the file.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub text: String,
    pub node: Node,
}

/// The parameters in the file.
#[derive(Clone, Debug)]
pub(crate) struct With {
    pub key_span: Span,
    pub node: Node,
}

impl Runbook {
    /// Steps of the main part and of `finally`.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().chain(&self.finally)
    }

    /// Whether it has this mode. Every runbook can be drilled.
    #[must_use]
    pub fn has_mode(&self, mode: &str) -> bool {
        self.modes.iter().any(|known| known.value == mode)
    }
}
