//! `cargo xtask fuzz` runs this: reads the arguments, runs campaigns, tells what came of them. What a campaign is, is in `run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_fuzz::corpus;
use lifeboat_fuzz::jobs::{in_jobs, on_a_stack};
use lifeboat_fuzz::run::{Campaign, Outcome, one, under_way};
use lifeboat_fuzz::targets::Target;
use rustix::time::{ClockId, clock_gettime};

/// Inputs where nothing else is asked.
const EXECUTIONS: u64 = 1_000_000;

struct Arguments {
    targets: Vec<Target>,
    executions: u64,
    seed: u64,
    jobs: u64,
    keep: bool,
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(arguments) => go(&arguments),
        Err(why) => {
            tell(&format!("{why}\nusage: fuzz [yaml|journal|expression] [--executions N] [--seed S] [--jobs N] [--keep] [--input FILE]"));
            ExitCode::from(2)
        }
    }
}

fn arguments(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    // As many jobs as processors.
    let jobs = std::thread::available_parallelism().map_or(1, |processors| u64::try_from(processors.get()).unwrap_or(1));
    let mut found = Arguments { targets: Vec::new(), executions: EXECUTIONS, seed: 1, jobs, keep: false, input: None };
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
        let number = |text: String| text.replace('_', "").parse::<u64>().map_err(|_| format!("{text:?} is no whole number"));
        match word.as_str() {
            "--executions" => found.executions = number(value()?)?,
            "--seed" => found.seed = number(value()?)?,
            "--jobs" => found.jobs = number(value()?)?.max(1),
            "--keep" => found.keep = true,
            "--input" => found.input = Some(value()?.into()),
            name => {
                let target = Target::ALL.into_iter().find(|target| target.name() == name);
                found.targets.push(target.ok_or_else(|| format!("there is no target `{name}`"))?);
            }
        }
    }
    if found.targets.is_empty() {
        found.targets = Target::ALL.to_vec();
    }
    Ok(found)
}

fn go(arguments: &Arguments) -> ExitCode {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        // A campaign that looks for the shortest input panics thousands of times.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let mut good = true;
    for target in &arguments.targets {
        good &= match &arguments.input {
            Some(path) => replay(*target, path),
            None => fuzz(*target, arguments),
        };
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(target: Target, path: &PathBuf) -> bool {
    let Ok(mut input) = std::fs::read(path) else {
        tell(&format!("{} cannot be read", path.display()));
        return false;
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(cut) = under_way(&input).filter(|_| name.starts_with("under-way")) {
        input = cut.to_vec();
    }
    match on_a_stack(|| one(target, &input)) {
        Some(Ok((_, took))) => {
            tell(&format!("{}: {} is answered in {took:?}", target.name(), path.display()));
            true
        }
        Some(Err(why)) => {
            tell(&format!("{}: {}: {why}", target.name(), path.display()));
            false
        }
        None => false,
    }
}

fn fuzz(target: Target, arguments: &Arguments) -> bool {
    let findings = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(target.name());
    let asked = Campaign { target, executions: arguments.executions, seed: arguments.seed, job: 0, findings: findings.clone() };
    let began = now();
    let line = |outcome: &Outcome| {
        let took = now().saturating_sub(began);
        let each_second = u128::from(outcome.executions) * 1000 / took.as_millis().max(1);
        format!(
            "{}: {} executions ({} distinct, {} to the last stage), {} behaviours, slowest {:.1?}, {each_second} a second, seed {} jobs {}",
            target.name(),
            outcome.executions,
            outcome.distinct,
            outcome.whole,
            outcome.behaviours.len(),
            outcome.slowest,
            arguments.seed,
            arguments.jobs
        )
    };
    let told = (arguments.executions / 10).max(1);
    let next = AtomicU64::new(told);
    let outcome = in_jobs(&asked, arguments.jobs, &|outcome| {
        if outcome.executions >= next.load(Ordering::Relaxed) {
            next.store((outcome.executions / told + 1) * told, Ordering::Relaxed);
            tell(&line(outcome));
        }
    });
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            tell(&format!("{}: {error}", target.name()));
            return false;
        }
    };
    tell(&line(&outcome));
    if arguments.keep {
        let kept = kept(target, &outcome);
        tell(&format!("{}: {kept} inputs of new behaviour are kept in {}", target.name(), corpus::folder(target).display()));
    }
    match outcome.finding {
        None => true,
        Some(finding) => {
            tell(&format!(
                "{0}: FOUND: {1}\n{2:?}\nkept in {3}; `cargo xtask fuzz {0} --input FILE` runs it again",
                target.name(),
                finding.why,
                String::from_utf8_lossy(&finding.input),
                findings.display()
            ));
            false
        }
    }
}

/// Real time, for figures only.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Keeps what behaves in a new way, spread over the whole campaign, up to the limit of the folder.
fn kept(target: Target, outcome: &Outcome) -> usize {
    let folder = corpus::folder(target);
    let there = std::fs::read_dir(&folder).map_or(0, Iterator::count);
    let room = corpus::KEPT_MAX.saturating_sub(there).max(1);
    let every = outcome.found.len().div_ceil(room).max(1);
    outcome.found.iter().step_by(every).take(room).filter(|input| corpus::keep(&folder, input).is_ok()).count()
}

#[expect(clippy::print_stdout, reason = "the one place that talks to whoever runs it")]
fn tell(text: &str) {
    println!("{text}");
}
