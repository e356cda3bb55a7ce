//! The simulated world as the tests use it: the engine's own simulation, with plans that read aloud and step types of the tests.

pub(crate) mod link;
pub(crate) mod plans;
pub(crate) mod rows;
pub(crate) mod slow;
pub(crate) mod stage;
pub(crate) mod steps;

pub(crate) use lifeboat_engine::sim::{Act, Back, Count, Gate, Sight, World};
