//! `cargo xtask fuzz [TARGET] [--executions N] [--seed S]`: fuzzing with the stable toolchain. Targets, mutator and corpus are in the crate `fuzz`.

use std::process::Command;

use xtask::{Result, Trouble};

/// Builds the runner optimised, with overflow checks, and hands the words on to it.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--profile", "fuzz", "-p", "lifeboat-fuzz", "--bin", "fuzz", "--"]).args(words);
    let status = cargo.current_dir(xtask::lab::root()).status().map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("fuzzing found something, or could not begin ({status})"))) }
}
