//! Rehearsing a runbook: the production executor drives a plan in a simulated world, in which steps fail as they are told to. What
//! `lifeboat simulate` and `lifeboat test` stand on. The simulated step types are made from descriptions of the real ones; no code of a
//! real step can be reached from here. The proof of the engine itself, by crashes and chance, is beside this folder.

mod cases;
mod ending;
mod expect;
mod part;
mod simulated;
mod stage;
#[cfg(test)]
mod tests;
mod verdict;

pub use cases::{CaseEnding, Choice, Fact, Failure, PAIRS_DEFAULT, Rehearsal, STEPS_MAX, TRUTHS_MAX, rehearse};
pub use ending::{Asked, Ending, Mark, Rest, Standing, StepEnd};
pub use expect::{Mismatch, mismatches};
pub use part::{Play, Way};
pub use stage::Set;
pub use verdict::{EndKind, Group, groups};
