//! What the language must know of step types and resources to check a runbook. The engine answers; this crate only asks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::Effect;

/// Key in a parameter's JSON Schema: the value names a resource of this kind. Such fields may use inputs and mode, never step outputs.
/// The kind [`ANY_KIND`] takes every resource.
pub const RESOURCE_KEY: &str = "x-lifeboat-resource";

/// Kind of a parameter that takes resources of every kind.
pub const ANY_KIND: &str = "any";

/// Key in a parameter's JSON Schema: the value names a node of the resource in this sibling field.
pub const NODE_OF_KEY: &str = "x-lifeboat-node-of";

/// Key in a parameter's JSON Schema beside `pattern`: the pattern in words, for help ("use lower-case letters and digits").
pub const FORM_KEY: &str = "x-lifeboat-form";

/// A step's grip on a resource: follows from its parameters alone, and gives locks, drill guard, region check and preview.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Touch {
    /// The resource's name in the inventory.
    pub resource: String,
    /// What is done to it.
    pub effect: Effect,
}

/// What is known of a step type without running it.
#[derive(Clone, Debug)]
pub struct StepTypeInfo {
    /// `promote-db`.
    pub name: &'static str,
    /// Behaviour version, recorded in plans.
    pub version: u16,
    /// One sentence for lists and completion (the schema's description).
    pub summary: String,
    /// JSON Schema (2020-12) of `with`.
    pub with_schema: Value,
    /// JSON Schema (2020-12) of the outputs.
    pub output_schema: Value,
    /// The gravest effect that a step of this type can have.
    pub effect: Effect,
    /// Whether a done step can be undone.
    pub undo: Undoable,
}

/// Whether a step type has an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undoable {
    /// It has one.
    Yes,
    /// It has none: unwinding past it ends in `stuck`, or there is nothing to undo (it only reads).
    No,
}

/// What a step type says of given parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Which resources it would grip, and how.
    pub touches: Vec<Touch>,
    /// One sentence: what would happen.
    pub preview: String,
}

/// Parameters that do not fit their step type, found by its own typed reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadParameters {
    /// JSON pointer of the offending value inside `with`, empty for the whole.
    pub pointer: String,
    /// Why.
    pub message: String,
}

/// The step types a runbook may use.
pub trait Catalog {
    /// All of them, in order of name.
    fn step_types(&self) -> Vec<&StepTypeInfo>;

    /// One by name.
    fn step_type(&self, name: &str) -> Option<&StepTypeInfo>;

    /// Reads complete parameters (every expression replaced by a value of its type) and says what they mean. Pure.
    ///
    /// # Errors
    /// Where the parameters do not fit.
    fn examine(&self, name: &str, with: &Value) -> Result<Examined, BadParameters>;
}

/// Whether drills may change a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrillPolicy {
    /// Drills may act on it.
    Allow,
    /// Drills are refused (the default).
    Deny,
    /// Before planning a drill, this other resource is put in its place.
    As(String),
}

/// What is known of a resource without asking it.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    /// Its name.
    pub name: String,
    /// `database`, `dns-record`, ...
    pub kind: String,
    /// Names of its nodes or targets, empty where it has none.
    pub nodes: Vec<String>,
    /// Where it is, if it is in one place.
    pub region: Option<String>,
    /// Resources or regions that it needs.
    pub depends_on: Vec<String>,
    /// What drills may do.
    pub drill: DrillPolicy,
    /// Everything that pins it (addresses, identities, secret references): part of the binding digest.
    pub identity: Value,
}

/// The named things that steps act on.
pub trait Resources {
    /// All names, in order.
    fn names(&self) -> Vec<&str>;

    /// One by name.
    fn resource(&self, name: &str) -> Option<ResourceInfo>;

    /// Names of roles that people hold, in order; approvals may ask for these.
    fn roles(&self) -> Vec<&str>;
}
