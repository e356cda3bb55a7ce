//! Fuzzing on the stable toolchain: targets, a structure-aware mutator and a runner that keeps inputs of new behaviour. No coverage
//! instrumentation: the feedback is what an input makes visible (error codes, states reached), which each target sums up in a number.

pub mod chance;
pub mod corpus;
pub mod jobs;
pub mod mutate;
pub mod run;
pub mod targets;
