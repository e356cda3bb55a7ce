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
        promise: "5",
        mutant: "TimelineIgnored",
        seen_by: "PostgreSQL: a replica on another timeline",
        test: &["-p", "lifeboat-steps", "--test", "postgres_steps", "a_replica_on_another_timeline"],
    },
    Other {
        promise: "5",
        mutant: "UnknownLossFits",
        seen_by: "a loss that nobody can tell",
        test: &["-p", "lifeboat-steps", "--lib", "an_unknown_loss"],
    },
    Other {
        promise: "5",
        mutant: "LossUnlimited",
        seen_by: "a loss above its limit",
        test: &["-p", "lifeboat-steps", "--lib", "an_unknown_loss"],
    },
    Other {
        promise: "6",
        mutant: "SilenceIsFenced",
        seen_by: "PostgreSQL: a frozen primary",
        test: &["-p", "lifeboat-steps", "--test", "postgres_steps", "a_node_that_is_only_silent"],
    },
    Other {
        promise: "6",
        mutant: "SaidFenceWaits",
        seen_by: "PostgreSQL: a fence by word of mouth",
        test: &["-p", "lifeboat-steps", "--test", "postgres_steps", "nothing_is_promoted_while"],
    },
    Other {
        promise: "6",
        mutant: "FenceNotSeenAgain",
        seen_by: "PostgreSQL: a fence that does not hold any more",
        test: &["-p", "lifeboat-steps", "--test", "postgres_steps", "nothing_is_promoted_while"],
    },
    Other {
        promise: "7",
        mutant: "OldSetNotCompared",
        seen_by: "name server: somebody else changed the record",
        test: &["-p", "lifeboat-steps", "--test", "real_peers", "a_change_by_somebody_else"],
    },
    Other {
        promise: "7",
        mutant: "EmptySetTaken",
        seen_by: "a record set without values",
        test: &["-p", "lifeboat-steps", "--lib", "clients::dns::set"],
    },
    Other {
        promise: "7",
        mutant: "FormerSetForgotten",
        seen_by: "name server: undo",
        test: &["-p", "lifeboat-steps", "--test", "real_peers", "undo_puts_the_former_set_back"],
    },
    Other {
        promise: "8",
        mutant: "WorseFactsStand",
        seen_by: "facts that get worse between two yeses",
        test: &["-p", "lifeboat-engine", "--test", "promises", "facts::"],
    },
    Other {
        promise: "9",
        mutant: "ChangedResourceTaken",
        seen_by: "an inventory that leads elsewhere",
        test: &["-p", "lifeboat-engine", "--test", "promises", "a_run_acts_only_on_what_it_was_planned_for"],
    },
    Other {
        promise: "11",
        mutant: "LeftUnseen",
        seen_by: "a drill that leaves something behind",
        test: &["-p", "lifeboat-engine", "--test", "promises", "drills::"],
    },
    Other {
        promise: "13",
        mutant: "SecretShown",
        seen_by: "a secret that is printed",
        test: &["-p", "lifeboat-engine", "--lib", "secret::"],
    },
    Other {
        promise: "13",
        mutant: "OutputNotMasked",
        seen_by: "a program that says its secrets",
        test: &["-p", "lifeboat-steps", "--test", "real_peers", "secret"],
    },
    Other {
        promise: "14",
        mutant: "ChainUnchecked",
        seen_by: "a record exchanged under a right checksum",
        test: &["-p", "lifeboat-store", "--lib", "a_record_with_a_right_checksum_and_another_content"],
    },
    Other {
        promise: "14",
        mutant: "SignatureUnchecked",
        seen_by: "checkpoints that somebody forged",
        test: &["-p", "lifeboat-engine", "--lib", "checkpoint::"],
    },
    Other {
        promise: "14",
        mutant: "CutOffUnseen",
        seen_by: "a journal cut off at each entry",
        test: &["-p", "lifeboat-engine", "--test", "promises", "every_truncation_is_found"],
    },
    Other {
        promise: "16",
        mutant: "LimitUnchecked",
        seen_by: "contract suite, memory",
        test: &["-p", "lifeboat-store", "--lib", "memory"],
    },
    Other {
        promise: "section 5",
        mutant: "BoundIgnored",
        seen_by: "a list that turns out longer than planned",
        test: &["-p", "lifeboat-engine", "--test", "promises", "a_list_that_turns_out_longer_than_planned"],
    },
    Other {
        promise: "section 5",
        mutant: "AtOnceIgnored",
        seen_by: "seven items, three at once",
        test: &["-p", "lifeboat-engine", "--test", "promises", "no_more_items_than_allowed"],
    },
];

/// Promises of the design that no mutant breaks yet, and where they are proven.
const WITHOUT: &[(&str, &str)] = &[("10", "the scheduler is not built yet"), ("12", "webhooks are not built yet")];

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
    fn every_mutant_of_the_table_is_one_of_the_crate_under_test() {
        for other in OTHERS {
            let krate = other.test[1].trim_start_matches("lifeboat-");
            let source = std::fs::read_to_string(xtask::lab::root().join(krate).join("src/mutants.rs")).unwrap();
            assert!(source.contains(&format!("    {},", other.mutant)), "{}", other.mutant);
        }
    }

    /// What can be broken has to be in a table: a mutant that nobody plays proves nothing.
    #[test]
    fn every_mutant_of_every_crate_is_in_a_table() {
        let read = |path: &str| std::fs::read_to_string(xtask::lab::root().join(path)).unwrap();
        let campaign = read("engine/tests/promises/campaign/mutants.rs");
        for krate in ["engine", "store", "steps"] {
            let source = read(&format!("{krate}/src/mutants.rs"));
            let (_, list) = source.split_once("enum Mutant {").unwrap();
            let (list, _) = list.split_once("\n}").unwrap();
            let names =
                list.lines().map(|line| line.trim().trim_end_matches(',')).filter(|line| !line.is_empty() && !line.starts_with("//"));
            for name in names {
                let played = campaign.contains(&format!("Mutant::{name}")) || OTHERS.iter().any(|other| other.mutant == name);
                assert!(played, "{krate}: {name}");
            }
        }
    }

    /// Each promise that is built has a mutant, and the others are named with the reason.
    #[test]
    fn every_promise_of_the_design_has_a_row() {
        let campaign = std::fs::read_to_string(xtask::lab::root().join("engine/tests/promises/campaign/mutants.rs")).unwrap();
        for promise in 1..=16 {
            let promise = promise.to_string();
            let broken = campaign.contains(&format!("(\"{promise}\",")) || campaign.contains(&format!("\n        \"{promise}\","));
            let elsewhere = OTHERS.iter().any(|other| other.promise == promise);
            assert!(broken || elsewhere || WITHOUT.iter().any(|(without, _)| *without == promise), "promise {promise}");
        }
    }
}
