//! `cargo xtask torture`: every rig, with the numbers that the project promises, one after the other. Goes on where one fails, and says at the
//! end which did.

use std::time::{Duration, Instant};

use xtask::{Result, Trouble};

use crate::commands::fuzz;

/// Each rig as a person would type it.
const ALL: &[&[&str]] = &[
    &["sim", "--schedules", "100000"],
    &["mutants"],
    &["kill-loop", "--rounds", "1000"],
    &["kill", "--rounds", "60"],
    &["cuts", "--rounds", "10000"],
    &["live-cuts", "--rounds", "1000", "--fs", "ext4"],
    &["live-cuts", "--rounds", "1000", "--fs", "xfs"],
    &["live-cuts", "--rounds", "1000", "--fs", "btrfs"],
    &["disk-full", "--rounds", "1000000"],
    &["sync-fails", "--rounds", "1000000"],
    &["takeover", "--rounds", "60"],
    &["fuzz", "--executions", "10000000"],
];

/// What became of a rig.
enum Became {
    Passed(Duration),
    Failed(Trouble),
    /// The kernel does not have what it needs.
    LeftOut(Trouble),
}

/// Runs all.
pub(super) fn run() -> Result<()> {
    let became: Vec<(&[&str], Became)> = ALL.iter().map(|words| (*words, one(words))).collect();
    println!("\n| rig | |");
    let mut failed = Vec::new();
    for (words, became) in &became {
        let rig = words.join(" ");
        match became {
            Became::Passed(took) => println!("| {rig:<44} | passed in {} s |", took.as_secs()),
            Became::LeftOut(why) => println!("| {rig:<44} | left out: {why} |"),
            Became::Failed(why) => {
                println!("| {rig:<44} | FAILED: {why} |");
                failed.push(rig);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Trouble::new(format!("failed: {}", failed.join(", ")))) }
}

fn one(words: &[&str]) -> Became {
    println!("torture: {}", words.join(" "));
    if let Some(kind) = words.iter().position(|word| *word == "--fs").and_then(|at| words.get(at + 1))
        && let Err(why) = xtask::lab::install::file_system(kind, &mut |line| println!("{line}"))
    {
        return Became::LeftOut(why);
    }
    let began = now();
    let done = match words {
        ["fuzz", options @ ..] => fuzz::run(options),
        other => super::run(other),
    };
    match done {
        Ok(()) => Became::Passed(now().duration_since(began)),
        Err(why) => Became::Failed(why),
    }
}

/// Real time, for figures only.
#[expect(clippy::disallowed_methods, reason = "a person reads how long each took")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_has_every_rig_with_options_that_it_takes() {
        for words in ALL {
            let [name, options @ ..] = words else { panic!("an empty rig") };
            if !["fuzz", "mutants"].contains(name) {
                super::super::environment(super::super::rig(name).unwrap(), options).unwrap();
            }
        }
        // One rig is the sum of two others.
        for rig in super::super::RIGS.iter().filter(|rig| rig.name != "power-cut") {
            assert!(ALL.iter().any(|words| words.first() == Some(&rig.name)), "{}", rig.name);
        }
    }
}
