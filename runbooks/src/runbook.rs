//! A runbook as its author wrote it: names, inputs, triggers and steps, each with its place. What is bound to an inventory is in `plan`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Source, Span};
use crate::names::StepId;
use crate::plan::{Objectives, OnFailure, RUNBOOK, Retry, Return};
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
pub const RETRY_DEFAULT: Retry = Retry { attempts: 1, backoff_min_ms: 1000, backoff_max_ms: 30_000, on: None };

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
    /// What happens when a step fails, where that is written: otherwise a person decides, or the runbook that runs it as a child.
    pub on_failure: Option<OnFailure>,
    /// Longest time of the whole run, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// The main part, in the order of the file.
    pub steps: Vec<Step>,
    /// What runs once when the run is about to end.
    pub finally: Vec<Step>,
    /// What a runbook that runs it as a child can read.
    pub outputs: Vec<Output>,
    /// The runbooks that its steps run as children, by the text that names them there; none where only [`crate::parse()`] read it.
    pub(crate) children: Option<BTreeMap<String, Arc<Runbook>>>,
    /// How many levels of children are below it.
    pub(crate) height: usize,
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

/// A value that a runbook gives to the one that runs it as a child.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name.
    pub name: Spanned<String>,
    pub(crate) node: Node,
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
    pub undo: Undo,
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
    pub(crate) for_each: Option<ForEach>,
    /// Those of the keys about attempts that are written.
    pub(crate) keys: Vec<(&'static str, Span)>,
}

/// What unwinding does with a step, as written.
#[derive(Clone, Debug)]
pub enum Undo {
    /// The step type's own undo.
    Default,
    /// Leave its effect.
    Never,
    /// A step in its place: type, parameters and timeout. It bears the name of the step that it takes back.
    Written(Box<Step>),
}

/// A step that is done for every item of a list.
#[derive(Clone, Debug)]
pub(crate) struct ForEach {
    pub key_span: Span,
    /// The list, or an expression for one; `None` where the long form has none, which was reported.
    pub list: Option<Node>,
    /// Most items.
    pub max: Option<u32>,
    /// Most items under way at once.
    pub concurrency: Option<u32>,
}

/// Most items of a list that only the run knows: so many steps are planned, used or not.
pub const FOR_EACH_MAX: u32 = 1000;

impl Step {
    /// The step that takes it back in place of its type's own undo, where one is written.
    pub(crate) fn written_undo(&self) -> Option<&Self> {
        match &self.undo {
            Undo::Written(undo) => Some(undo),
            Undo::Default | Undo::Never => None,
        }
    }

    /// Where a key about attempts is written.
    pub(crate) fn key(&self, name: &str) -> Option<Span> {
        self.keys.iter().find(|(key, _)| *key == name).map(|(_, span)| *span)
    }

    /// The text that names the runbook which it runs as a child, and its place.
    pub(crate) fn child(&self) -> Option<(&str, Span)> {
        let node = self.with.as_ref().filter(|_| self.step_type.value == RUNBOOK)?.node.get("runbook")?;
        node.text().map(|text| (text, node.span))
    }
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

    /// The runbook that this text names in a step that runs a child.
    pub(crate) fn child(&self, text: &str) -> Option<&Arc<Runbook>> {
        self.children.as_ref()?.get(text)
    }

    /// Whether it has this mode. Every runbook can be drilled.
    #[must_use]
    pub fn has_mode(&self, mode: &str) -> bool {
        self.modes.iter().any(|known| known.value == mode)
    }
}
