//! What the project's own commands and the tests of other crates share: a lab of real peers. No command line here.

pub mod lab;
mod patience;
mod trouble;

pub use patience::look_until;
pub use trouble::{Result, Trouble};
