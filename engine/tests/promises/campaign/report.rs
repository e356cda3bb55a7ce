//! What the campaign is asked and what it says: options from the environment, failures with the command that plays them again, figures.
#![expect(clippy::print_stderr, reason = "a long campaign tells how it goes")]

use std::time::Duration;

use super::judge;
use super::play::{Ending, Keep, play};
use super::schedule::Schedule;
use super::shapes::{self, Shape, shapes};

/// What a person asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) schedules: u64,
    pub(crate) seed: u64,
    pub(crate) shape: Option<usize>,
    /// Play this one seed and nothing else.
    pub(crate) one_seed: bool,
}

impl Asked {
    pub(crate) fn from_environment() -> Self {
        let number = |text: std::ffi::OsString| text.to_str().unwrap().parse::<u64>().unwrap();
        let schedules = std::env::var_os("SIM_SCHEDULES").map(number);
        let seed = std::env::var_os("SIM_SEED").map(number);
        let shape = std::env::var_os("SIM_SHAPE").map(|name| {
            let name = name.into_string().unwrap();
            let names: Vec<&str> = shapes().iter().map(|shape| shape.name).collect();
            shapes::named(&name).unwrap_or_else(|| panic!("there is no shape {name:?}; there are {}", names.join(" · ")))
        });
        Self { one_seed: schedules == Some(1), schedules: schedules.unwrap_or(100_000), seed: seed.unwrap_or(1), shape }
    }
}

/// Real time, for figures only.
pub(crate) fn clock() -> Duration {
    use lifeboat_engine::Clock as _;
    lifeboat_engine::clock::SystemClock.instant().0
}

/// What went wrong in a campaign.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    briefly: Vec<String>,
}

/// Findings that are told; a campaign with more is stopped.
const FINDINGS_MAX: usize = 12;

impl Findings {
    /// Plays a schedule, and tells of the first that broke a law all that is needed to see it again.
    pub(crate) fn play(&mut self, shape: &Shape, schedule: &Schedule, calm: &Ending, seed: Option<u64>) {
        let played = play(shape, schedule, Keep::Sum);
        let broken = judge(shape, schedule, calm, &played);
        let Some(first) = broken.first() else { return };
        if self.briefly.is_empty() {
            eprintln!("{}", play(shape, schedule, Keep::Lines).trace.lines().join("\n"));
            for broken in &broken {
                eprintln!("broken law `{}`: {}", broken.law, broken.words);
            }
        }
        let command = match seed {
            Some(seed) => format!("cargo xtask torture sim --schedules 1 --seed {seed} --shape {}", dashed(shape.name)),
            None => format!("cargo xtask torture sim --shape {}", dashed(shape.name)),
        };
        self.briefly.push(format!("{}: `{}` broken under {schedule:?}; play it again with\n    {command}", shape.name, first.law));
        if self.briefly.len() >= FINDINGS_MAX {
            self.none();
        }
    }

    /// Stops the test where anything was found.
    pub(crate) fn none(&self) {
        assert!(self.briefly.is_empty(), "{} schedules broke laws:\n{}", self.briefly.len(), self.briefly.join("\n"));
    }
}

/// Says what is played.
pub(crate) fn tell(shape: &Shape, schedule: &Schedule) {
    eprintln!("{}: {schedule:?}", shape.name);
    eprintln!("{}", play(shape, schedule, Keep::Lines).trace.lines().join("\n"));
}

/// The last lines of a campaign.
pub(crate) fn summary([first, resumed, higher]: [u64; 3], seed: u64, took: Duration) {
    let all = first + resumed + higher;
    let each_second = u128::from(all) * 1000 / took.as_millis().max(1);
    eprintln!(
        "{all} schedules over {} shapes: {first} of first order (all), {resumed} deaths while resuming from a death (all), {higher} of higher order (seeds {seed} to {}); no law broken; {each_second} a second",
        shapes().len(),
        seed + higher.saturating_sub(1)
    );
}

fn dashed(name: &str) -> String {
    name.replace(' ', "-").replace([',', '\''], "")
}

/// A row of the table of mutants, as `cargo xtask torture mutants` goes on with it.
pub(crate) fn row(promise: &str, mutant: &str, how: &str) {
    eprintln!("| {promise:<9} | {mutant:<24} | {how} |");
}
