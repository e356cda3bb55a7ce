//! The runbook language: text in, checked plan out. No I/O, no clock, no async; every problem is reported with its place.

pub mod catalog;
pub mod diagnostic;
pub mod duration;
pub mod expr;
pub mod names;
pub mod plan;

pub use catalog::{Catalog, Examined, ResourceInfo, Resources, StepTypeInfo, Touch};
pub use diagnostic::{Diagnostic, Severity, Source, Span};
pub use duration::Period;
pub use names::{Effect, StepId};
pub use plan::{Plan, PlanStep};
