//! The campaign: mutates kept inputs, runs the target on each, keeps what behaves in a new way, and stops with the shortest input it can
//! find where one panics or takes too long.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::chance::Chance;
use crate::corpus;
use crate::targets::{Ran, Reach, Target};

/// Longest time of one input, on a processor. Readers promise 100 ms for a file of 4 MiB; an input here has 4 KiB.
pub const TIME_MAX: Duration = Duration::from_millis(100);

/// Kept inputs in memory: enough for every behaviour that was ever seen, and a bound all the same.
const KEPT_MAX: usize = 20_000;

/// Bits of the map that tells inputs apart: 32 MiB. Ten million inputs are told apart but for some two in a hundred.
const DISTINCT_BITS: u64 = 1 << 28;

/// Counts inputs that were not seen before, over all jobs of a campaign. Two inputs may share a bit, so it never counts too many.
#[derive(Debug)]
pub struct Distinct {
    bits: Vec<AtomicU64>,
}

impl Default for Distinct {
    fn default() -> Self {
        Self { bits: (0..DISTINCT_BITS / 64).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Distinct {
    /// 1 where it is new.
    fn count(&self, input: &[u8]) -> u64 {
        let bit = corpus::sum(input) % DISTINCT_BITS;
        let Some(word) = usize::try_from(bit / 64).ok().and_then(|place| self.bits.get(place)) else { return 0 };
        let mask = 1 << (bit % 64);
        u64::from(word.fetch_or(mask, Ordering::Relaxed) & mask == 0)
    }
}

/// What the jobs of a campaign share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Every input that was run.
    pub distinct: Distinct,
    /// One of them has found something: the others stop.
    pub stop: AtomicBool,
}

/// What a campaign is asked for.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The target.
    pub target: Target,
    /// How many inputs.
    pub executions: u64,
    /// The seed of chance.
    pub seed: u64,
    /// Which of several jobs of one campaign this is, from 0. Only the first runs the kept inputs as they are.
    pub job: u64,
    /// Where findings go, and the input under way (a stack that overflows takes the process with it).
    pub findings: PathBuf,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Inputs that were run, the kept ones included: each counts when its run has ended, and the run of a finding counts too.
    pub executions: u64,
    /// Of those, inputs that were not run before; never too many, a few too few.
    pub distinct: u64,
    /// Of those that were run, inputs that came to the last stage of the target.
    pub whole: u64,
    /// Different behaviours.
    pub behaviours: HashSet<u64>,
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
pub fn one(target: Target, input: &[u8]) -> Result<(Ran, Duration), String> {
    judged(&|input| target.run(input), input)
}

fn judged<T>(run: &dyn Fn(&[u8]) -> T, input: &[u8]) -> Result<(T, Duration), String> {
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

/// Before the input under way stands its length, so that one write is enough for both.
const LENGTH_BYTES: usize = 4;

/// The input that was under way when a process died.
#[must_use]
pub fn under_way(file: &[u8]) -> Option<&[u8]> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Keeps the input under way where this process dies with it: what the kernel holds outlives a process. One call without a sync.
struct UnderWay {
    file: File,
    buffer: Vec<u8>,
}

impl UnderWay {
    fn is(&mut self, input: &[u8]) -> std::io::Result<()> {
        self.buffer.clear();
        self.buffer.extend(u32::try_from(input.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.buffer.extend(input);
        self.file.write_all_at(&self.buffer, 0)
    }
}

/// Whether an input comes to the last stage. One that goes wrong does not: the campaign finds it when it comes to it.
fn reaches_all(target: Target, input: &[u8]) -> bool {
    one(target, input).is_ok_and(|(ran, _)| ran.reach == Reach::Whole)
}

/// Runs a campaign, or one job of it. `tell` is called now and then with what came so far.
///
/// # Errors
/// Where the kept inputs cannot be read.
pub fn campaign(campaign: &Campaign, shared: &Shared, tell: &mut dyn FnMut(&Outcome)) -> std::io::Result<Outcome> {
    std::fs::create_dir_all(&campaign.findings)?;
    let file = File::create(campaign.findings.join(format!("under-way-{}", campaign.job)))?;
    let mut under_way = UnderWay { file, buffer: Vec::new() };
    // Jobs of one campaign have streams that are far from each other.
    let mut chance = Chance::new(campaign.seed ^ campaign.job.wrapping_mul(0xa076_1d64_78bd_642f));
    let mut kept = corpus::seeds(campaign.target)?;
    let mut outcome = Outcome::default();
    // Places of the kept inputs that come to the last stage. Every job knows those of the repository.
    let mut whole: Vec<usize> = (0..kept.len()).filter(|place| reaches_all(campaign.target, &kept[*place])).collect();
    let seeds = kept.len();
    let mut next = if campaign.job == 0 { 0 } else { seeds };
    while outcome.executions < campaign.executions && !shared.stop.load(Ordering::Relaxed) {
        let is_seed = next < seeds;
        let input = if is_seed {
            next += 1;
            kept[next - 1].clone()
        } else {
            // What came to the last stage leads to more that does; what was found last leads on; nothing is ever forgotten.
            let base = match chance.below(4) {
                0 | 1 if !whole.is_empty() => *chance.one(&whole),
                2 if kept.len() > seeds => seeds + chance.below(kept.len() - seeds),
                _ => chance.below(kept.len()),
            };
            let other = chance.below(kept.len());
            campaign.target.mutate(&mut chance, &kept[base], &kept[other])
        };
        under_way.is(&input)?;
        let answer = one(campaign.target, &input);
        outcome.executions += 1;
        outcome.distinct += shared.distinct.count(&input);
        match answer {
            Ok((ran, took)) => {
                outcome.slowest = outcome.slowest.max(took);
                outcome.whole += u64::from(ran.reach == Reach::Whole);
                if outcome.behaviours.insert(ran.behaviour) && !is_seed && kept.len() < KEPT_MAX {
                    if input.len() <= corpus::KEPT_BYTES_MAX {
                        outcome.found.push(input.clone());
                    }
                    if ran.reach == Reach::Whole {
                        whole.push(kept.len());
                    }
                    kept.push(input);
                }
            }
            Err(why) => {
                shared.stop.store(true, Ordering::Relaxed);
                let input = shortest(&|input| _ = campaign.target.run(input), input, &why);
                corpus::keep(&campaign.findings, &input)?;
                outcome.finding = Some(Finding { input, why });
                return Ok(outcome);
            }
        }
        if outcome.executions.is_multiple_of(20_000) {
            tell(&outcome);
        }
    }
    Ok(outcome)
}

/// Leaves out parts, ever smaller ones, as long as the same kind of thing goes wrong.
fn shortest(run: &dyn Fn(&[u8]), mut input: Vec<u8>, why: &str) -> Vec<u8> {
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

    #[test]
    fn the_input_under_way_is_found_again_whatever_was_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("under-way");
        let mut way = UnderWay { file: File::create(&path).unwrap(), buffer: Vec::new() };
        for input in [&b"a long one"[..], b"short", b"", b"longer again"] {
            way.is(input).unwrap();
            assert_eq!(under_way(&std::fs::read(&path).unwrap()), Some(input));
        }
        assert_eq!(under_way(b"\x09\0\0\0short"), None);
    }

    #[test]
    fn inputs_that_come_again_are_counted_once() {
        let distinct = Distinct::default();
        let counted: u64 = (0..1000_u32).chain(0..1000).map(|n| distinct.count(&n.to_le_bytes())).sum();
        assert!((990..=1000).contains(&counted), "{counted}");
    }
}
