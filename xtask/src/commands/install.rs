//! `cargo xtask install`: what the lab needs, said and done. The list itself is the lab's.

use xtask::lab::install;
use xtask::{Result, Trouble};

/// Installs what is missing; nothing when nothing is.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let Some(word) = words.first() {
        return Err(Trouble::new(format!("`install` takes no argument, found `{word}`")));
    }
    install::peers(&mut |line| println!("{line}"))
}
