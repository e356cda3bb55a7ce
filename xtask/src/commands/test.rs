//! `cargo xtask test`: installs the peers that are missing, then runs every test of the workspace. The same command as in CI.

use std::process::Command;

use xtask::lab::{install, is_root};
use xtask::{Result, Trouble};

/// Runs all tests; further words go to the runner, for example `-p lifeboat-steps` or a name.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    install::peers(&mut |line| println!("{line}"))?;
    install::route53(&mut |line| println!("{line}"))?;
    let whole = if words.contains(&"-p") || words.contains(&"--package") { None } else { Some("--workspace") };
    let mut cargo = Command::new(env!("CARGO"));
    let nextest = has_nextest();
    cargo.args(if nextest { &["nextest", "run"][..] } else { &["test"] }).args(whole).args(words);
    if !is_root() {
        println!("not root: tests whose names begin with `as_root_` are left out; they mount file systems and act as several people");
        cargo.args(if nextest { ["-E", "not test(/^as_root_/)"] } else { ["--", "--skip=as_root_"] });
    }
    let status = cargo.current_dir(xtask::lab::root()).status();
    let status = status.map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("tests failed ({status})"))) }
}

/// nextest runs each test in a process of its own, so that labs start side by side; without it, cargo's runner does.
fn has_nextest() -> bool {
    Command::new(env!("CARGO")).args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}
