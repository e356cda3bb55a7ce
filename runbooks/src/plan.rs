//! A checked runbook bound to an inventory, a mode and inputs: what a run executes. Stored once, canonical, named by digest.
//! How it is made from text is in `planning`; what it means at run time is the engine's.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::Touch;
use crate::names::StepId;

/// Version of the stored form.
pub const PLAN_FORMAT: u16 = 3;

/// Most steps of an expanded plan.
pub const PLAN_STEPS_MAX: usize = 100_000;

/// What a run executes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u16,
    /// Name of the runbook.
    pub runbook: String,
    /// What people call it.
    pub title: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What was promised.
    pub objectives: Objectives,
    /// `drill`, or a mode that the runbook names.
    pub mode: String,
    /// Every input with its value, defaults filled in.
    pub inputs: BTreeMap<String, Value>,
    /// What happens when a step fails, unless the step says otherwise.
    pub on_failure: OnFailure,
    /// Longest time of the whole run, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Steps in an order in which each comes after what it needs; ties keep the order of the file.
    pub steps: Vec<PlanStep>,
    /// Steps that run once when the run is about to end, in the same kind of order.
    pub finally: Vec<PlanStep>,
    /// What names mean inside child runs and items of a `for_each`: each around those after it that name it as their parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<PlanScope>,
    /// The resources gripped, by name, with what pins them.
    pub resources: BTreeMap<String, Value>,
    /// Digest of the canonical structure: steps, expressions and step versions. 64 hexadecimal digits.
    pub structure: String,
    /// Digest of structure plus resources, inputs and mode. 64 hexadecimal digits.
    pub binding: String,
    /// Where each step stands, filled in at the first look.
    #[serde(skip)]
    pub places: Places,
}

/// Where each step of a plan stands: the main part, then `finally`. Made from the plan when first asked for; never stored, never compared.
#[derive(Debug, Default)]
pub struct Places(OnceLock<HashMap<StepId, usize>>);

impl Clone for Places {
    /// Empty: a clone of a plan may be changed, and finds its places anew.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// RTO and RPO, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// Recovery time objective.
    pub rto_ms: Option<u64>,
    /// Recovery point objective.
    pub rpo_ms: Option<u64>,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// A person decides.
    #[default]
    Hold,
    /// What is known done is undone, in reverse order.
    Undo,
    /// Nothing more is started; what is done stays.
    Abort,
}

/// How often and how far apart attempts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included: 1 means no retry.
    pub attempts: u32,
    /// Wait before the second attempt, doubled each time.
    pub backoff_min_ms: u64,
    /// Longest wait.
    pub backoff_max_ms: u64,
    /// After which errors another attempt is made, where that is written: otherwise after [`ErrorClass::NotDone`] and
    /// [`ErrorClass::InDoubt`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<ErrorClasses>,
}

impl Retry {
    /// Whether another attempt is made after an error of this class, as far as there are attempts left.
    #[must_use]
    pub fn covers(&self, class: ErrorClass) -> bool {
        match (self.on, class) {
            (Some(classes), class) => classes.0 & class.bit() != 0,
            (None, ErrorClass::NotDone | ErrorClass::InDoubt) => true,
            (None, ErrorClass::Refused) => false,
        }
    }
}

/// How an attempt did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// Proven to have had no effect, by a cause that may pass.
    NotDone,
    /// Its outcome was lost, and a look at the world says that it had no effect.
    InDoubt,
    /// A check says that it must not be done now.
    Refused,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NotDone, Self::InDoubt, Self::Refused];

    fn bit(self) -> u8 {
        match self {
            Self::NotDone => 1,
            Self::InDoubt => 2,
            Self::Refused => 4,
        }
    }

    /// The word of the language.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotDone => "not-done",
            Self::InDoubt => "in-doubt",
            Self::Refused => "refused",
        }
    }
}

/// Several classes of errors. Stored as a list of their words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ErrorClass>", into = "Vec<ErrorClass>")]
pub struct ErrorClasses(u8);

impl From<Vec<ErrorClass>> for ErrorClasses {
    fn from(classes: Vec<ErrorClass>) -> Self {
        Self(classes.into_iter().fold(0, |bits, class| bits | class.bit()))
    }
}

impl From<ErrorClasses> for Vec<ErrorClass> {
    fn from(classes: ErrorClasses) -> Self {
        ErrorClass::ALL.into_iter().filter(|class| classes.0 & class.bit() != 0).collect()
    }
}

/// What unwinding does with a step that is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoRule {
    /// The step type's own undo.
    #[default]
    Default,
    /// Leave its effect.
    Never,
    /// What the runbook writes in its place.
    Written(Box<WrittenUndo>),
}

/// What takes a step's effect back in place of the step type's own undo: an act of a step type of its own, prepared, journaled and
/// observed as a step is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenUndo {
    /// Its step type.
    #[serde(rename = "type")]
    pub step_type: String,
    /// The step type's behaviour version when planned.
    pub version: u16,
    /// Parameters as written: scalars may hold `${{ }}`, which are answered when the step is taken back.
    pub with: Value,
    /// Longest time of one undo, in milliseconds.
    pub timeout_ms: u64,
    /// What it grips.
    pub touches: Vec<Touch>,
    /// What would happen, in one sentence.
    pub preview: String,
}

/// Whether the run can be turned back once this step has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Return {
    /// It can.
    #[default]
    Possible,
    /// Once its intent is journaled, undo and abort become hold.
    NoReturn,
}

/// One step, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// Its name.
    pub id: StepId,
    /// Its step type.
    #[serde(rename = "type")]
    pub step_type: String,
    /// The step type's behaviour version when planned.
    pub version: u16,
    /// Parameters as written: scalars may hold `${{ }}`.
    pub with: Value,
    /// Steps that must be done, or skipped by their own `if`, before this one starts.
    pub needs: Vec<StepId>,
    /// Expression; the step is skipped where it is false.
    #[serde(rename = "if")]
    pub condition: Option<String>,
    /// Expressions over the run so far and this step's own outputs; where one is false the step is rejected.
    pub asserts: Vec<String>,
    /// Longest time of one attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts and waits.
    pub retry: Retry,
    /// What unwinding does.
    pub undo: UndoRule,
    /// Overrides the run's rule.
    pub on_failure: Option<OnFailure>,
    /// Whether the run can be turned back after it.
    pub point_of_no_return: Return,
    /// What it grips.
    pub touches: Vec<Touch>,
    /// What would happen, in one sentence.
    pub preview: String,
    /// Line in the runbook, counted from 1, for messages.
    pub line: u32,
    /// Digest of the step as written: what a drill of it proves, and what its timings are of. 32 hexadecimal digits; empty in plans
    /// of older programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub structure: String,
    /// The scope in which its expressions are read, by its place in [`Plan::scopes`]; none at the outermost level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<usize>,
    /// Where it has no step type because the engine does it without any call: what that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<Inner>,
}

/// Version of the inner steps, kept in plans as that of a step type is.
pub const INNER_VERSION: u16 = 1;

/// The word that stands for a step type where a step lists or gathers the items of a `for_each`.
pub const FOR_EACH: &str = "for_each";

/// The step type of child runs.
pub const RUNBOOK: &str = "runbook";

/// What the engine does by itself: it follows from journaled facts alone, so it needs no intent and can be done again after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inner {
    /// Answers the list of a `for_each` that only the run knows. The output is the list.
    List {
        /// A value with expressions.
        list: Value,
        /// Most items: so many were planned. A longer list holds the step.
        max: u32,
    },
    /// Gathers the outputs of the items that are done, in order: those of the steps it needs. The output is a list.
    Items,
    /// Ends a child run: answers its `outputs`. The output is a mapping.
    Outputs {
        /// The child's scope.
        scope: usize,
        /// The values, with expressions.
        outputs: BTreeMap<String, Value>,
    },
}

/// What names mean inside a part of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanScope {
    /// The step that ends it: `move_orders` for a child run, `copy[3]` for an item.
    pub id: StepId,
    /// The scope around it, which stands before it; none at the outermost level.
    pub parent: Option<usize>,
    /// What it is.
    pub kind: ScopeKind,
}

/// Kinds of scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeKind {
    /// A child run: `steps`, `inputs` and `mode` are its own.
    Child(Child),
    /// An item of a `for_each`: adds `item` and `index`.
    Item(Item),
}

/// A child run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Child {
    /// Name of the runbook.
    pub runbook: String,
    /// Its mode.
    pub mode: String,
    /// Expression, read in the scope around it; where it is false every step of the child is skipped.
    #[serde(rename = "if", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Every input, defaults filled in.
    pub inputs: BTreeMap<String, ChildInput>,
}

/// An input of a child run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildInput {
    /// Known when planned.
    Known(Value),
    /// A value with expressions, answered in the scope around the child when it is needed: what they read has ended by then and
    /// never changes.
    Filled(Value),
}

/// An item of a `for_each`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The step that gathers all items.
    pub of: StepId,
    /// Its place in the list, from 0.
    pub index: u32,
    /// Most items of this list under way at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// What it is.
    pub value: ItemValue,
}

/// The value of an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemValue {
    /// Known when planned.
    Known(Value),
    /// That of the list which this step answers. Where the list is shorter there is no item, and its steps are skipped.
    Of(StepId),
}

impl PlanStep {
    /// What the runbook writes in place of the step type's undo, if it does.
    #[must_use]
    pub fn written_undo(&self) -> Option<&WrittenUndo> {
        match &self.undo {
            UndoRule::Written(undo) => Some(undo),
            UndoRule::Default | UndoRule::Never => None,
        }
    }

    /// What the step and its written undo grip, each with the step type that does.
    pub fn grips(&self) -> impl Iterator<Item = (&str, &Touch)> {
        let own = self.touches.iter().map(|touch| (self.step_type.as_str(), touch));
        let undo = self.written_undo().into_iter().flat_map(|undo| undo.touches.iter().map(|touch| (undo.step_type.as_str(), touch)));
        own.chain(undo)
    }
}

impl Plan {
    /// A step's scope and those around it, the innermost first.
    pub fn scopes_of(&self, step: &PlanStep) -> impl Iterator<Item = (usize, &PlanScope)> {
        let at = |index: usize| self.scopes.get(index).map(|scope| (index, scope));
        // A parent stands before its scope: what is read from a store cannot lead in a circle.
        std::iter::successors(step.scope.and_then(at), move |(index, scope)| scope.parent.filter(|parent| parent < index).and_then(at))
    }

    /// A step of the main part or of `finally`.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlanStep> {
        self.place(id).and_then(|place| self.at(place))
    }

    /// Where a step stands: counted from 0 through the main part, then through `finally`.
    #[must_use]
    pub fn place(&self, id: &StepId) -> Option<usize> {
        let places = self.places.0.get_or_init(|| self.all_steps().enumerate().map(|(place, step)| (step.id.clone(), place)).collect());
        places.get(id).copied()
    }

    /// The step at a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&PlanStep> {
        self.steps.get(place).or_else(|| self.finally.get(place.checked_sub(self.steps.len())?))
    }

    /// The steps of the main part, then those of `finally`.
    pub fn all_steps(&self) -> impl Iterator<Item = &PlanStep> {
        self.steps.iter().chain(&self.finally)
    }
}
