//! `cargo xtask bench [--quick] [--only NAME,..] [--folder DIR] [--rivals]`: builds the release binary and measures it beside the disk, and beside the
//! rivals that `--install-rivals` got. What is measured is in `bench/`.

use std::process::Command;

use xtask::lab::rivals;
use xtask::{Result, Trouble};

/// Builds, then hands its words to the bench. A missed goal is a failure of the command.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if words.contains(&"--install-rivals") {
        return rivals::install(&mut |line| println!("{line}"));
    }
    let root = xtask::lab::root();
    let built =
        Command::new(env!("CARGO")).args(["build", "--release", "-p", "lifeboat", "-p", "lifeboat-bench"]).current_dir(&root).status();
    let built = built.map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if !built.success() {
        return Err(Trouble::new(format!("the release build failed ({built})")));
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), std::path::PathBuf::from);
    let release = target.join("release");
    let mut bench = Command::new(release.join("lifeboat-bench"));
    bench.arg("--lifeboat").arg(release.join("lifeboat")).current_dir(&root);
    for word in words {
        bench.arg(word);
        if *word == "--rivals" {
            bench.arg(rivals::folder());
        }
    }
    let measured = bench.status().map_err(|error| Trouble::new(format!("cannot run the bench: {error}")))?;
    match measured.code() {
        Some(0) => Ok(()),
        Some(1) => Err(Trouble::new("a goal is missed; the table says which")),
        Some(_) | None => Err(Trouble::new(format!("the bench could not measure ({measured})"))),
    }
}
