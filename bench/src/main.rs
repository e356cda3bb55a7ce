//! Measures Lifeboat beside the disk: one table of workloads, each with its limit and its goal. `cargo xtask bench` builds and starts it.
//!
//! Ratios are formed inside one run only: each round measures the raw limit beside the workload, and the median of the rounds counts.

mod binary;
mod child;
mod engine;
mod figures;
mod memory;
mod noop;
mod plans;
mod raw;
mod resume;
mod rivals;
mod sizes;
mod speed;
mod syncs;
mod table;
mod trouble;
mod watched;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use table::{Row, Verdict};
use trouble::{Result, Trouble, trouble};

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every workload in its full size, five rounds.
    Full,
    /// Every workload once and small, without a verdict: it shows that the bench runs.
    Quick,
}

impl Depth {
    /// The full size, or the small one.
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }

    pub(crate) fn rounds(self) -> usize {
        self.pick(5, 1)
    }
}

/// Where the bench works and what it measures.
#[derive(Debug)]
pub(crate) struct Place {
    /// An empty folder on the file system to be measured.
    pub(crate) folder: PathBuf,
    pub(crate) depth: Depth,
    /// The release build of `lifeboat`, where the workloads of the whole process are wanted.
    pub(crate) lifeboat: Option<PathBuf>,
    /// Where rivals are installed, where they are to be measured beside us.
    pub(crate) rivals: Option<PathBuf>,
}

impl Place {
    /// A fresh folder of this name.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(|error| trouble("clearing a folder", error))?;
        }
        std::fs::create_dir_all(&path).map_err(|error| trouble("making a folder", error))?;
        Ok(path)
    }
}

type Workload = fn(&Place) -> Result<Vec<Row>>;

/// Every workload, by the name that `--only` takes.
const WORKLOADS: &[(&str, Workload)] = &[
    ("store", speed::store),
    ("syncs", syncs::all),
    ("chain", speed::chain),
    ("fan", speed::fan),
    ("runs", speed::runs),
    ("bytes", sizes::bytes),
    ("plans", sizes::plans),
    ("memory", memory::all),
    ("commands", binary::commands),
    ("process", binary::one_step),
    ("resume", resume::all),
    ("check", binary::check),
    ("rivals", rivals::all),
];

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == child::WORD) {
        return match child::run(&words[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Trouble(why)) => {
                eprintln!("{why}");
                ExitCode::from(2)
            }
        };
    }
    match measure(&words) {
        Ok(rows) => {
            println!("{}", table::text(&rows));
            let missed = rows.iter().filter(|row| row.verdict == Verdict::Missed).count();
            if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(Trouble(why)) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn measure(words: &[String]) -> Result<Vec<Row>> {
    let mut place = Place { folder: PathBuf::from("target/bench"), depth: Depth::Full, lifeboat: None, rivals: None };
    let mut only: Vec<&str> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Trouble(format!("{word} needs a value")));
        match word.as_str() {
            "--quick" => place.depth = Depth::Quick,
            "--folder" => place.folder = PathBuf::from(value()?),
            "--lifeboat" => place.lifeboat = Some(absolute(value()?)?),
            "--rivals" => place.rivals = Some(absolute(value()?)?),
            "--only" => only.extend(value()?.split(',')),
            other => {
                return Err(Trouble(format!(
                    "there is no option {other}; there are --quick, --only NAME,.., --folder DIR, --lifeboat FILE, --rivals DIR"
                )));
            }
        }
    }
    if let Some(unknown) = only.iter().find(|name| WORKLOADS.iter().all(|(known, _)| known != *name)) {
        let known: Vec<&str> = WORKLOADS.iter().map(|(name, _)| *name).collect();
        return Err(Trouble(format!("there is no workload {unknown}; there are {}", known.join(", "))));
    }
    place.folder = absolute(&place.folder)?;
    std::fs::create_dir_all(&place.folder).map_err(|error| trouble("making the bench's folder", error))?;
    let mut rows = Vec::new();
    for (name, workload) in WORKLOADS {
        if only.is_empty() || only.contains(name) {
            eprintln!("measuring: {name}");
            rows.extend(workload(&place)?);
        }
    }
    if place.depth == Depth::Quick {
        rows.iter_mut().for_each(|row| row.verdict = Verdict::Told);
    }
    std::fs::remove_dir_all(&place.folder).map_err(|error| trouble("clearing the bench's folder", error))?;
    Ok(rows)
}

/// What is started works in folders of its own.
fn absolute(path: impl AsRef<Path>) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| trouble("a path", error))
}
