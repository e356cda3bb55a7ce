//! `cargo xtask ci`: what must pass before a change lands, in the order of what is cheapest to find. `.ci/run` calls only this.

use std::process::Command;

use super::{schema, test, tidy};
use xtask::lab::install;
use xtask::{Result, Trouble};

/// Formatting, house rules, lints as errors, schemas, tests; stops at the first that fails.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let Some(word) = words.first() {
        return Err(Trouble::new(format!("`ci` takes no argument, found `{word}`")));
    }
    step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
    step("house rules", || tidy::run(&[]))?;
    step("build tools", || install::build_tools(&mut |line| println!("{line}")))?;
    step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]))?;
    step("schemas", schema::check)?;
    step("tests", || test::run(&["--locked"]))
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("ci: {name}");
    work().map_err(|trouble| Trouble::new(format!("{name}: {trouble}")))
}

fn cargo(words: &[&str]) -> Result<()> {
    let status = Command::new(env!("CARGO")).args(words).current_dir(xtask::lab::root()).status();
    let status = status.map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("`cargo {}` failed", words.join(" ")))) }
}
