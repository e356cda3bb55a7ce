//! `cargo xtask bench [--quick] [--only NAME,..] [--folder DIR]`: builds the release binary and measures it beside the disk. What is measured
//! is in `bench/`.

use std::process::Command;

use xtask::{Result, Trouble};

/// Builds, then hands its words to the bench. A missed goal is a failure of the command.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let root = xtask::lab::root();
    let built =
        Command::new(env!("CARGO")).args(["build", "--release", "-p", "lifeboat", "-p", "lifeboat-bench"]).current_dir(&root).status();
    let built = built.map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if !built.success() {
        return Err(Trouble::new(format!("the release build failed ({built})")));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), std::path::PathBuf::from);
    let release = target.join("release");
    let measured = Command::new(release.join("lifeboat-bench"))
        .arg("--lifeboat")
        .arg(release.join("lifeboat"))
        .args(words)
        .current_dir(&root)
        .status();
    let measured = measured.map_err(|error| Trouble::new(format!("cannot run the bench: {error}")))?;
    match measured.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Trouble::new("a goal is missed; the table says which")),
        Some(_) | None => Err(Trouble::new(format!("the bench could not measure ({measured})"))),
    }
}
