//! `cargo xtask torture [RIG [--option value ...]]`: long proofs that are too slow or need too many rights for every change; without a rig,
//! all of them, one after the other. The rigs live beside what they prove.

mod mutants;
mod whole;

use std::process::Command;

use xtask::{Result, Trouble};

/// One rig: a test target that reads its options from the environment, because the test runner takes no options of ours.
struct Rig {
    name: &'static str,
    help: &'static str,
    /// The words after `cargo`.
    cargo: &'static [&'static str],
    options: &'static [Opt],
}

/// An option of a rig.
struct Opt {
    /// As it is typed.
    flag: &'static str,
    /// What the rig reads.
    variable: &'static str,
    /// What it is.
    value: OptValue,
}

/// What the value of an option is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OptValue {
    /// A whole number above 0.
    Number,
    /// A name, which the rig itself checks.
    Name,
}

impl Opt {
    const fn number(flag: &'static str, variable: &'static str) -> Self {
        Self { flag, variable, value: OptValue::Number }
    }

    const fn name(flag: &'static str, variable: &'static str) -> Self {
        Self { flag, variable, value: OptValue::Name }
    }
}

/// To add a rig, add it here.
const RIGS: &[Rig] = &[
    Rig {
        name: "power-cut",
        help: "the store's power-cut rig; as root also on N loop-mounted images of a live process (--rounds N, --seed N, --fs NAME: ext4, xfs or btrfs)",
        // One test at a time: a process that one forks holds, until it runs its program, the lock of a store that another has open.
        cargo: &["test", "-p", "lifeboat-store", "--test", "power_cut", "--", "--include-ignored", "--nocapture", "--test-threads=1"],
        options: &[Opt::number("--rounds", "POWER_CUT_ROUNDS"), Opt::number("--seed", "POWER_CUT_SEED"), Opt::name("--fs", "POWER_CUT_FS")],
    },
    Rig {
        name: "cuts",
        help: "of the power-cut rig, the images that are made from a record of every write: as many as asked for (--rounds N, --seed N)",
        cargo: &[
            "test",
            "-p",
            "lifeboat-store",
            "--test",
            "power_cut",
            "--",
            "--nocapture",
            "--test-threads=1",
            "nothing_acknowledged_is_lost",
            "after_a_failed_sync",
            "a_disk_that_fills_up",
        ],
        options: &[Opt::number("--rounds", "POWER_CUT_ROUNDS"), Opt::number("--seed", "POWER_CUT_SEED")],
    },
    Rig {
        name: "live-cuts",
        help: "of the power-cut rig, the copied images of a live process; root (--rounds N, --seed N, --fs NAME: ext4, xfs or btrfs)",
        cargo: &[
            "test",
            "-p",
            "lifeboat-store",
            "--test",
            "power_cut",
            "live::a_copy",
            "--",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ],
        options: &[Opt::number("--rounds", "POWER_CUT_ROUNDS"), Opt::number("--seed", "POWER_CUT_SEED"), Opt::name("--fs", "POWER_CUT_FS")],
    },
    Rig {
        name: "disk-full",
        help: "the engine on a disk that fills up at each byte of a run, or as root at each page and file (--rounds N places, 1000000: all)",
        cargo: &["test", "-p", "lifeboat", "--test", "disk_trouble", "fills_up", "--", "--nocapture"],
        options: &[Opt::number("--rounds", "DISK_ROUNDS")],
    },
    Rig {
        name: "sync-fails",
        help: "the engine on a disk whose k-th sync fails, for each k of a run (--rounds N: only so many)",
        cargo: &["test", "-p", "lifeboat", "--test", "disk_trouble", "sync_that_fails", "--", "--nocapture"],
        options: &[Opt::number("--rounds", "DISK_ROUNDS")],
    },
    Rig {
        name: "kill",
        help: "SIGKILL of the engine at random moments of a failover on the real lab (--rounds N, --seed N)",
        cargo: &["test", "-p", "lifeboat", "--test", "killed_anywhere", "--", "--include-ignored", "--nocapture"],
        options: &[Opt::number("--rounds", "KILL_ROUNDS"), Opt::number("--seed", "KILL_SEED")],
    },
    Rig {
        name: "kill-loop",
        help: "SIGKILL of the engine at random moments of a run of programs, which are many in a minute (--rounds N, --seed N)",
        cargo: &["test", "-p", "lifeboat", "--test", "kill_loop", "--", "--nocapture"],
        options: &[Opt::number("--rounds", "KILL_LOOP_ROUNDS"), Opt::number("--seed", "KILL_LOOP_SEED")],
    },
    Rig {
        name: "sim",
        help: "the engine in its simulated world, under every fault (--schedules N, --seed N, --shape NAME; 1 schedule: its trace)",
        cargo: &[
            "test",
            "--release",
            "-p",
            "lifeboat-engine",
            "--test",
            "promises",
            "the_campaign",
            "--",
            "--include-ignored",
            "--nocapture",
        ],
        options: &[Opt::number("--schedules", "SIM_SCHEDULES"), Opt::number("--seed", "SIM_SEED"), Opt::name("--shape", "SIM_SHAPE")],
    },
    Rig {
        name: "takeover",
        help: "two engines on three etcd members: the one that drives is killed, frozen, cut off; root (--rounds N, --seed N)",
        cargo: &["test", "-p", "lifeboat", "--test", "takeover", "--", "--include-ignored", "--nocapture", "--test-threads=1"],
        options: &[Opt::number("--rounds", "TAKEOVER_ROUNDS"), Opt::number("--seed", "TAKEOVER_SEED")],
    },
];

/// Runs the rig that the first word names, or all of them.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let Some((name, options)) = words.split_first() else { return whole::run() };
    if *name == "mutants" {
        return mutants::run(options);
    }
    let rig = rig(name)?;
    xtask::lab::install::peers(&mut |line| println!("{line}"))?;
    let mut cargo = Command::new(env!("CARGO"));
    let environment = environment(rig, options)?;
    if let Some((_, kind)) = environment.iter().find(|(variable, _)| *variable == "POWER_CUT_FS") {
        xtask::lab::install::file_system(kind, &mut |line| println!("{line}"))?;
    }
    cargo.args(rig.cargo).envs(environment).current_dir(xtask::lab::root());
    let status = cargo.status().map_err(|error| Trouble::new(format!("cannot run cargo: {error}")))?;
    if status.success() { Ok(()) } else { Err(Trouble::new(format!("the rig `{name}` failed ({status})"))) }
}

fn rig(name: &str) -> Result<&'static Rig> {
    RIGS.iter().find(|rig| rig.name == name).ok_or_else(|| Trouble::new(format!("there is no rig `{name}`\n{}", list())))
}

/// `--rounds 300` of `power-cut` becomes `POWER_CUT_ROUNDS=300`. What the rig does not read is refused.
fn environment(rig: &Rig, words: &[&str]) -> Result<Vec<(&'static str, String)>> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for pair in words.chunks(2) {
        let known = rig.options.iter().find(|option| option.flag == pair[0]);
        let option = known.ok_or_else(|| {
            let flags: Vec<&str> = rig.options.iter().map(|option| option.flag).collect();
            Trouble::new(format!("the rig `{}` has no option `{}`; it has {}", rig.name, pair[0], flags.join(", ")))
        })?;
        let Some(value) = pair.get(1) else { return Err(Trouble::new(format!("`{}` needs a value", option.flag))) };
        if option.value == OptValue::Number && (value.parse::<u64>().is_err() || *value == "0") {
            return Err(Trouble::new(format!("`{}` needs a whole number above 0, found `{value}`", option.flag)));
        }
        if found.iter().any(|(variable, _)| *variable == option.variable) {
            return Err(Trouble::new(format!("`{}` stands twice", option.flag)));
        }
        found.push((option.variable, (*value).to_owned()));
    }
    Ok(found)
}

fn list() -> String {
    let mutants = ("mutants", "breaks each promise on purpose and fails where nothing sees it; prints the table");
    let rigs = RIGS.iter().map(|rig| (rig.name, rig.help)).chain([mutants]);
    rigs.map(|(name, help)| format!("  {name:<12}{help}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_variables() {
        let power_cut = rig("power-cut").unwrap();
        assert_eq!(environment(power_cut, &["--rounds", "300"]).unwrap(), [("POWER_CUT_ROUNDS", "300".to_owned())]);
        let both = environment(rig("kill").unwrap(), &["--seed", "7", "--rounds", "60"]).unwrap();
        assert_eq!(both, [("KILL_SEED", "7".to_owned()), ("KILL_ROUNDS", "60".to_owned())]);
    }

    #[test]
    fn what_a_rig_would_not_read_is_refused() {
        let kill = rig("kill").unwrap();
        for words in [
            &["--rounds"][..],
            &["rounds", "300"],
            &["--round", "300"],
            &["--rounds", "many"],
            &["--rounds", "0"],
            &["--rounds", "3", "--rounds", "4"],
            &["--rounds", "3", "--loops", "4"],
        ] {
            assert!(environment(kill, words).is_err(), "{words:?}");
        }
        assert!(rig("power_cut").is_err());
    }

    /// The file of each rig that reads its options: a rig that reads another name silently does less than was asked for.
    const READ_IN: &[(&str, &str)] = &[
        ("power-cut", "store/tests/power_cut/main.rs"),
        ("cuts", "store/tests/power_cut/main.rs"),
        ("live-cuts", "store/tests/power_cut/main.rs"),
        ("disk-full", "tests/disk_trouble.rs"),
        ("sync-fails", "tests/disk_trouble.rs"),
        ("kill", "tests/killed_anywhere.rs"),
        ("kill-loop", "tests/kill_loop.rs"),
        ("takeover", "tests/takeover.rs"),
        ("sim", "engine/tests/promises/campaign/report.rs"),
    ];

    #[test]
    fn every_option_is_read_by_its_rig_under_the_name_that_is_set() {
        for rig in RIGS {
            let (_, file) = READ_IN.iter().find(|(name, _)| *name == rig.name).unwrap();
            let source = std::fs::read_to_string(xtask::lab::root().join(file)).unwrap();
            let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            for option in rig.options {
                let read = format!("(\"{}\")", option.variable);
                assert!(code.iter().any(|line| line.contains(&read)), "{file} does not read {}", option.variable);
            }
        }
    }

    #[test]
    fn the_help_names_every_option() {
        for rig in RIGS {
            assert!(rig.options.iter().all(|option| rig.help.contains(&format!("{} N", option.flag))), "{}", rig.help);
        }
    }
}
