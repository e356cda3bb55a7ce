//! `cargo xtask torture mutants`: breaks each promise on purpose and fails where nothing sees it. The promises that the simulator can see
//! are in the engine's campaign, which prints its rows itself; here are those that only another rig sees, and the table's ends.

use std::process::{Command, Stdio};

use xtask::{Result, Trouble};

/// A broken promise that a test target sees. The test has to pass with the promise kept and to fail with it broken.
struct Other {
    promise: &'static str,
    /// What the crate under test looks for in `LIFEBOAT_MUTANT`.
    mutant: &'static str,
    /// What sees it, for the table.
    seen_by: &'static str,
    /// The words after `cargo test`.
    test: &'static [&'static str],
}

const OTHERS: &[Other] = &[
    Other {
        promise: "1",
        mutant: "SyncSkipped",
        seen_by: "power-cut rig",
        test: &["-p", "lifeboat-store", "--test", "power_cut", "nothing_acknowledged_is_lost"],
    },
    Other { promise: "3", mutant: "PlaceUnchecked", seen_by: "contract suite, sled", test: &["-p", "lifeboat-store", "--lib", "sled"] },
    Other {
        promise: "14",
        mutant: "ChainUnchecked",
        seen_by: "a record exchanged under a right checksum",
        test: &["-p", "lifeboat-store", "--lib", "a_record_with_a_right_checksum_and_another_content"],
    },
    Other {
        promise: "16",
        mutant: "LimitUnchecked",
        seen_by: "contract suite, memory",
        test: &["-p", "lifeboat-store", "--lib", "memory"],
    },
];

/// Promises of the design that no mutant breaks yet, and where they are proven.
const WITHOUT: &[(&str, &str)] = &[
    ("7", "kept by update-dns alone: its tests against a real name server and a Route 53 emulator"),
    ("10", "the scheduler is not built yet"),
    ("12", "webhooks are not built yet"),
    ("13", "canary secrets in the engine's and the steps' own tests"),
];

/// Prints the table.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let Some(word) = words.first() {
        return Err(Trouble::new(format!("`torture mutants` takes no option, found `{word}`")));
    }
    println!("| promise   | mutant                   | seen by (shape) | seeds |");
    let mut survivors = Vec::new();
    let campaign = [
        "--release",
        "-p",
        "lifeboat-engine",
        "--test",
        "promises",
        "every_broken_promise_is_seen",
        "--",
        "--include-ignored",
        "--nocapture",
    ];
    if !cargo_test(&campaign, None, Output::Shown)? {
        survivors.push("one of the campaign's, see above");
    }
    for other in OTHERS {
        if !cargo_test(other.test, None, Output::Hidden)? {
            return Err(Trouble::new(format!("`cargo test {}` fails although no promise is broken", other.test.join(" "))));
        }
        let survives = cargo_test(other.test, Some(other.mutant), Output::Hidden)?;
        if survives {
            survivors.push(other.mutant);
        }
        let seen_by = if survives { "SURVIVES" } else { other.seen_by };
        println!("| {:<9} | {:<24} | {seen_by} | - |", other.promise, other.mutant);
    }
    for (promise, why) in WITHOUT {
        println!("| {promise:<9} | {:<24} | {why} | - |", "-");
    }
    if survivors.is_empty() { Ok(()) } else { Err(Trouble::new(format!("nothing saw {}", survivors.join(", ")))) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    Shown,
    Hidden,
}

/// Whether the tests pass. What does not even build is trouble, not a mutant that was seen.
fn cargo_test(words: &[&str], mutant: Option<&str>, output: Output) -> Result<bool> {
    let cannot = |error: std::io::Error| Trouble::new(format!("cannot run cargo: {error}"));
    let test = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg("test").args(words).current_dir(xtask::lab::root());
        cargo
    };
    let filter = words.iter().position(|word| *word == "--").unwrap_or(words.len());
    let mut build = Command::new(env!("CARGO"));
    build.arg("test").args(&words[..filter]).arg("--no-run").arg("--quiet").current_dir(xtask::lab::root());
    if !build.status().map_err(cannot)?.success() {
        return Err(Trouble::new(format!("`cargo test {}` does not build", words.join(" "))));
    }
    let mut run = test();
    if output == Output::Hidden {
        run.stdout(Stdio::null()).stderr(Stdio::null());
    }
    run.envs(mutant.map(|mutant| ("LIFEBOAT_MUTANT", mutant)));
    Ok(run.status().map_err(cannot)?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_of_the_table_is_one_of_the_store() {
        let source = std::fs::read_to_string(xtask::lab::root().join("store/src/mutants.rs")).unwrap();
        for other in OTHERS {
            assert!(source.contains(&format!("    {},", other.mutant)), "{}", other.mutant);
        }
    }
}
