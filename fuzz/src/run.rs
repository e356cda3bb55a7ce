//! The campaign: mutates kept inputs, runs the target on each, keeps what behaves in a new way, and stops with the shortest input it can
//! find where one panics or takes too long.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::chance::Chance;
use crate::corpus;
use crate::targets::Target;

/// Longest time of one input, on a processor. Readers promise 100 ms for a file of 4 MiB; an input here has 4 KiB.
pub const TIME_MAX: Duration = Duration::from_millis(100);

/// Kept inputs in memory: enough for every behaviour that was ever seen, and a bound all the same.
const KEPT_MAX: usize = 20_000;

/// What a campaign is asked for.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The target.
    pub target: Target,
    /// How many inputs.
    pub executions: u64,
    /// The seed of chance.
    pub seed: u64,
    /// Where findings go, and the input under way (a stack that overflows takes the process with it).
    pub findings: PathBuf,
}

/// What came of a campaign.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Inputs that were run, the kept ones included.
    pub executions: u64,
    /// Different behaviours.
    pub behaviours: usize,
    /// The longest time of one input.
    pub slowest: Duration,
    /// Inputs of new behaviour that the kept ones do not have, the short ones only.
    pub found: Vec<Vec<u8>>,
    /// What went wrong, where something did.
    pub finding: Option<Finding>,
}

/// An input that a target does not bear.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The shortest input that was found to do the same.
    pub input: Vec<u8>,
    /// What happened.
    pub why: String,
}

/// Time of this thread on a processor: no load of the machine lengthens it.
fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs a target on one input: its behaviour, or what went wrong.
///
/// # Errors
/// Where it panics or takes longer than [`TIME_MAX`].
pub fn one(target: Target, input: &[u8]) -> Result<(u64, Duration), String> {
    judged(&|input| target.run(input), input)
}

fn judged(run: &dyn Fn(&[u8]) -> u64, input: &[u8]) -> Result<(u64, Duration), String> {
    let before = spent();
    let answer = catch_unwind(AssertUnwindSafe(|| run(input)));
    let took = spent().saturating_sub(before);
    match answer {
        Ok(_) if took > TIME_MAX => Err(format!("it took {took:?}; {TIME_MAX:?} is the most")),
        Ok(behaviour) => Ok((behaviour, took)),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Err(format!("it panicked: {}", words.unwrap_or_default()))
        }
    }
}

/// Runs a campaign. `tell` is called now and then with what came so far.
///
/// # Errors
/// Where the kept inputs cannot be read.
pub fn campaign(campaign: &Campaign, tell: &mut dyn FnMut(&Outcome)) -> std::io::Result<Outcome> {
    std::fs::create_dir_all(&campaign.findings)?;
    let under_way = File::create(campaign.findings.join("under-way"))?;
    let mut chance = Chance::new(campaign.seed);
    let mut kept = corpus::seeds(campaign.target)?;
    let mut seen: HashSet<u64> = HashSet::new();
    let mut outcome = Outcome { executions: 0, behaviours: 0, slowest: Duration::ZERO, found: Vec::new(), finding: None };
    let seeds = kept.len();
    let mut next = 0;
    while outcome.executions < campaign.executions {
        let input = if next < seeds {
            next += 1;
            kept[next - 1].clone()
        } else {
            // Inputs found last lead on; those of the repository are never forgotten.
            let recent = chance.one_in(2) && kept.len() > seeds;
            let base = if recent { seeds + chance.below(kept.len() - seeds) } else { chance.below(kept.len()) };
            let other = chance.below(kept.len());
            campaign.target.mutate(&mut chance, &kept[base], &kept[other])
        };
        // Two calls without a sync: what the kernel holds outlives this process.
        under_way.write_all_at(&input, 0)?;
        under_way.set_len(input.len() as u64)?;
        outcome.executions += 1;
        match one(campaign.target, &input) {
            Ok((behaviour, took)) => {
                outcome.slowest = outcome.slowest.max(took);
                if seen.insert(behaviour) {
                    outcome.behaviours += 1;
                    let from_chance = next >= seeds && outcome.executions > seeds as u64;
                    if from_chance && kept.len() < KEPT_MAX {
                        if input.len() <= corpus::KEPT_BYTES_MAX {
                            outcome.found.push(input.clone());
                        }
                        kept.push(input);
                    }
                }
            }
            Err(why) => {
                let input = shortest(&|input| campaign.target.run(input), input, &why);
                corpus::keep(&campaign.findings, &input)?;
                outcome.finding = Some(Finding { input, why });
                return Ok(outcome);
            }
        }
        if outcome.executions.is_multiple_of(50_000) {
            tell(&outcome);
        }
    }
    Ok(outcome)
}

/// Leaves out parts, ever smaller ones, as long as the same kind of thing goes wrong.
fn shortest(run: &dyn Fn(&[u8]) -> u64, mut input: Vec<u8>, why: &str) -> Vec<u8> {
    let kind = |why: &str| why.starts_with("it panicked");
    let mut part = input.len().next_power_of_two() / 2;
    let mut tries = 0;
    while part > 0 && tries < 5000 {
        let mut at = 0;
        while at < input.len() && tries < 5000 {
            let mut shorter = input.clone();
            shorter.drain(at..(at + part).min(shorter.len()));
            tries += 1;
            match judged(run, &shorter) {
                Err(other) if kind(&other) == kind(why) => input = shorter,
                Err(_) | Ok(_) => at += part,
            }
        }
        part /= 2;
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_and_its_input_cut_down_to_what_matters() {
        let run = |input: &[u8]| {
            assert!(!input.windows(3).any(|part| part == b"bad"), "bad inside");
            0
        };
        let input = b"a long text with something bad somewhere in the middle of it".to_vec();
        let why = judged(&run, &input).unwrap_err();
        assert_eq!(why, "it panicked: bad inside");
        assert_eq!(shortest(&run, input, &why), b"bad");
    }

    #[test]
    fn an_input_that_takes_too_long_is_a_finding() {
        let run = |_: &[u8]| {
            let begin = spent();
            let mut count = 0_u64;
            while spent().saturating_sub(begin) < TIME_MAX * 2 {
                count += 1;
            }
            count
        };
        assert!(judged(&run, b"x").unwrap_err().starts_with("it took "));
    }
}
