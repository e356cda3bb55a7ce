//! `cargo xtask fuzz` runs this: reads the arguments, runs campaigns, tells what came of them. What a campaign is, is in `run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use lifeboat_fuzz::corpus;
use lifeboat_fuzz::run::{Campaign, Outcome, campaign, one};
use lifeboat_fuzz::targets::Target;

/// Inputs where nothing else is asked.
const EXECUTIONS: u64 = 1_000_000;

/// The stack of a thread of the engine: what overflows there must overflow here.
const STACK_BYTES: usize = 2 * 1024 * 1024;

struct Arguments {
    targets: Vec<Target>,
    executions: u64,
    seed: u64,
    keep: bool,
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)) {
        Ok(arguments) => go(&arguments),
        Err(why) => {
            tell(&format!("{why}\nusage: fuzz [yaml|journal|expression] [--executions N] [--seed S] [--keep] [--input FILE]"));
            ExitCode::from(2)
        }
    }
}

fn arguments(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut found = Arguments { targets: Vec::new(), executions: EXECUTIONS, seed: 1, keep: false, input: None };
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
        let number = |text: String| text.replace('_', "").parse::<u64>().map_err(|_| format!("{text:?} is no whole number"));
        match word.as_str() {
            "--executions" => found.executions = number(value()?)?,
            "--seed" => found.seed = number(value()?)?,
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

fn on_a_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?.join().ok())
}

fn replay(target: Target, path: &PathBuf) -> bool {
    let Ok(input) = std::fs::read(path) else {
        tell(&format!("{} cannot be read", path.display()));
        return false;
    };
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
    let asked = Campaign { target, executions: arguments.executions, seed: arguments.seed, findings: findings.clone() };
    let line = |outcome: &Outcome| {
        format!(
            "{}: {} executions, {} behaviours, slowest {:.1?}, seed {}",
            target.name(),
            outcome.executions,
            outcome.behaviours,
            outcome.slowest,
            arguments.seed
        )
    };
    let told = arguments.executions / 10;
    let mut next = told.max(1);
    let outcome = on_a_stack(|| {
        campaign(&asked, &mut |outcome| {
            if outcome.executions >= next {
                next += told.max(1);
                tell(&line(outcome));
            }
        })
    });
    let outcome = match outcome {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => {
            tell(&format!("{}: {error}", target.name()));
            return false;
        }
        None => return false,
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
                "{}: FOUND: {}\n{:?}\nkept in {}",
                target.name(),
                finding.why,
                String::from_utf8_lossy(&finding.input),
                findings.display()
            ));
            false
        }
    }
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
