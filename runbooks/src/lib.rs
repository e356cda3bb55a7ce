//! The runbook language: text in, checked plan out. No I/O, no clock, no async; every problem is reported with its place.

#![expect(dead_code, reason = "the checker that uses all of this lands next")]

pub mod catalog;
pub mod codes;
pub mod diagnostic;
pub mod document;
mod editor;
pub mod duration;
pub mod expr;
pub mod names;
mod parse;
pub mod plan;
pub mod render;
pub mod runbook;
mod shape;
mod suggest;
mod yaml;

pub use catalog::{Catalog, Examined, ResourceInfo, Resources, StepTypeInfo, Touch};
pub use diagnostic::{Diagnostic, Severity, Source, Span};
pub use document::{Document, read_document};
pub use editor::schema;
pub use parse::parse;
pub use runbook::Runbook;
pub use duration::Period;
pub use names::{Effect, StepId};
pub use plan::{Plan, PlanStep};
