//! The runbook language: text in, checked plan out. No I/O, no clock, no async; every problem is reported with its place.

pub mod catalog;
mod children;
pub mod codes;
pub mod diagnostic;
mod digest;
pub mod document;
pub mod duration;
mod editor;
pub mod expr;
mod graph;
pub mod names;
mod parse;
pub mod plan;
mod planning;
pub mod render;
mod rules;
pub mod runbook;
pub mod schedule;
mod shape;
mod suggest;
pub mod testing;
mod work;
mod yaml;

pub use catalog::{Catalog, Examined, ResourceInfo, Resources, StepTypeInfo, Touch};
pub use children::{Library, load};
pub use diagnostic::{Diagnostic, Severity, Source, Span};
pub use document::{Document, read_document};
pub use duration::Period;
pub use editor::schema;
pub use names::{Effect, StepId};
pub use parse::parse;
pub use plan::{Plan, PlanStep};
pub use planning::{PlanRequest, plan};
pub use rules::check;
pub use runbook::Runbook;
pub use suggest::nearest;

#[cfg(test)]
extern crate self as lifeboat_runbooks;

/// Step types for tests inside the crate: the same that the tests outside use.
#[cfg(test)]
#[path = "../tests/catalog/mod.rs"]
mod tests_catalog;
