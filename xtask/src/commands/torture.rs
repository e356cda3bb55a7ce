//! `cargo xtask torture RIG [--option value ...]`: long proofs that are too slow or need too many rights for every change. The rigs live beside what they prove.

use std::process::Command;

use xtask::{Result, Trouble};

/// One rig: a test target that reads its options from the environment, because the test runner takes no options of ours.
struct Rig {
    name: &'static str,
    help: &'static str,
    /// The words after `cargo`.
    cargo: &'static [&'static str],
}

/// To add a rig, add a line. Option `--rounds 300` reaches the rig `power-cut` as `POWER_CUT_ROUNDS=300`.
const RIGS: &[Rig] = &[
    Rig {
        name: "power-cut",
        help: "the store's power-cut rig; as root also on a loop-mounted image of a live process (--rounds N)",
        cargo: &["test", "-p", "lifeboat-store", "--test", "power_cut", "--", "--include-ignored", "--nocapture"],
    },
    Rig {
        name: "kill",
        help: "SIGKILL of the engine at random moments of a failover on the real lab (--rounds N)",
        cargo: &["test", "-p", "lifeboat", "--test", "killed_anywhere", "--", "--include-ignored", "--nocapture"],
    },
];

/// Runs the rig that the first word names.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let Some((name, options)) = words.split_first() else { return Err(Trouble::new(format!("which rig?\n{}", list()))) };
    let rig = RIGS.iter().find(|rig| rig.name == *name);
    let rig = rig.ok_or_else(|| Trouble::new(format!("there is no rig `{name}`\n{}", list())))?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(rig.cargo).envs(environment(rig.name, options)?).current_dir(xtask::lab::root());
    let status = cargo.status().map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("the rig `{name}` failed ({status})"))) }
}

/// `--rounds 300` of `power-cut` becomes `POWER_CUT_ROUNDS=300`.
fn environment(rig: &str, options: &[&str]) -> Result<Vec<(String, String)>> {
    options
        .chunks(2)
        .map(|pair| match pair {
            [option, value] if option.starts_with("--") => {
                let name = format!("{rig}_{}", option.trim_start_matches('-')).replace('-', "_").to_uppercase();
                Ok((name, (*value).to_owned()))
            }
            _ => Err(Trouble::new(format!("options are pairs such as `--rounds 300`, found `{}`", pair.join(" ")))),
        })
        .collect()
}

fn list() -> String {
    RIGS.iter().map(|rig| format!("  {:<12}{}", rig.name, rig.help)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_variables_and_half_a_pair_is_refused() {
        assert_eq!(environment("power-cut", &["--rounds", "300"]).unwrap(), [("POWER_CUT_ROUNDS".to_owned(), "300".to_owned())]);
        assert!(environment("kill", &["--rounds"]).is_err());
        assert!(environment("kill", &["rounds", "300"]).is_err());
    }
}
