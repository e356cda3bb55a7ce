//! Bad runbooks, one file each in `bad/`, named as the sentence of what is wrong; beside it what people read. `UPDATE=1` writes the
//! latter anew. Files too large to keep are made here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::{Inventory, Types};
use lifeboat_runbooks::render::{self, Colour};
use lifeboat_runbooks::{Diagnostic, Library, PlanRequest, Severity, Source, check, codes, load, plan};
use rustix::time::{ClockId, clock_gettime};

/// Everything that is said of a text: by reading, by the rules, and, where its first line asks for a plan, by planning.
fn problems(source: &Source) -> Vec<Diagnostic> {
    let (types, inventory) = (Types::new(), Inventory::new());
    let (runbook, mut problems) = load(source, &Children);
    let Some(runbook) = runbook else { return problems };
    if let Some(asked) = source.text.lines().next().and_then(|line| line.strip_prefix("# plan:")) {
        let mut inputs: BTreeMap<String, String> = asked
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let request = PlanRequest { mode: inputs.remove("mode"), inputs };
        return plan(&runbook, &request, &types, &inventory).err().unwrap_or_default();
    }
    problems.extend(check(&runbook, &types, Some(&inventory)));
    problems.sort_by(|a, b| (a.file(), a.span, a.code).cmp(&(b.file(), b.span, b.code)));
    problems
}

/// Runbooks that are run as children, in `bad/children/`.
struct Children;

impl Library for Children {
    fn open(&self, path: &str) -> Result<Source, String> {
        let text = std::fs::read_to_string(folder().join(path)).map_err(|_| "there is no such file".to_owned())?;
        Ok(Source { name: path.into(), text: text.into() })
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
}

fn source(path: &Path) -> Source {
    let name = path.file_name().unwrap().to_str().unwrap();
    Source { name: name.into(), text: std::fs::read_to_string(path).unwrap().into() }
}

fn made(text: String) -> Vec<Diagnostic> {
    problems(&Source { name: "made.yaml".into(), text: text.into() })
}

fn codes_of(problems: &[Diagnostic]) -> Vec<&str> {
    problems.iter().map(|problem| problem.code).collect()
}

#[test]
fn every_bad_runbook_is_answered_as_it_was_written_down() {
    let update = std::env::var_os("UPDATE").is_some();
    let files = files();
    assert!(files.len() >= 60, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in &files {
        let source = source(path);
        let problems = problems(&source);
        assert!(!problems.is_empty(), "{}: nothing is said", source.name);
        let shown = render::text(&source, &problems, Colour::Plain);
        let wanted = path.with_extension("stderr");
        if update {
            std::fs::write(&wanted, &shown).unwrap();
        } else if std::fs::read_to_string(&wanted).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", source.name));
        }
    }
    assert!(wrong.is_empty(), "what people read has changed; look, then run with UPDATE=1\n\n{}", wrong.join("\n"));
}

/// Longest that the answer to a bad runbook may take.
const ANSWER_MAX: Duration = Duration::from_millis(100);

/// Time that this thread has spent on a processor. A loaded machine makes it wait, which does not count here.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

/// What is measured is the unoptimised build of the tests, so that the shipped one has several times the room.
#[test]
fn every_bad_runbook_is_answered_within_a_tenth_of_a_second_of_processor_time() {
    let (types, inventory) = (Types::new(), Inventory::new());
    let once = |source: &Source| {
        let before = processor_time();
        let (runbook, problems) = load(source, &Children);
        let more = runbook.map(|runbook| check(&runbook, &types, Some(&inventory)));
        let spent = processor_time() - before;
        assert!(!problems.is_empty() || more.is_some(), "{}", source.name);
        spent
    };
    let files = files();
    assert!(files.len() >= 75, "{} files", files.len());
    for path in files {
        let source = source(&path);
        let best = (0..3).map(|_| once(&source)).min().unwrap();
        assert!(best < ANSWER_MAX, "{}: {best:?}", source.name);
    }
}

#[test]
fn a_problem_has_a_place_in_the_file_and_an_error_says_what_to_do() {
    let mut without_help = BTreeSet::new();
    for path in files() {
        let source = source(&path);
        for problem in problems(&source) {
            let source = problem.source.as_ref().unwrap_or(&source);
            assert!(problem.span.start <= problem.span.end && problem.span.end <= source.text.len(), "{}: {problem:?}", source.name);
            assert!(source.text.get(problem.span.start..problem.span.end).is_some(), "{}: {problem:?} cuts a character", source.name);
            assert!(codes::ALL.iter().any(|(code, _)| *code == problem.code), "{problem:?}");
            assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{problem:?}");
            if problem.help.is_none() && problem.severity == Severity::Error {
                without_help.insert(problem.message);
            }
        }
    }
    assert!(without_help.len() <= 40, "help is the rule: {without_help:#?}");
}

#[test]
fn every_code_is_met_by_a_bad_runbook() {
    let mut met: BTreeSet<&str> = files().iter().flat_map(|path| problems(&source(path))).map(|problem| problem.code).collect();
    met.insert(codes::LIMIT);
    met.insert(codes::TOO_MANY_PROBLEMS);
    // Of test files, whose bad ones are in `test_files.rs`.
    met.insert(codes::BAD_TEST);
    let missing: Vec<_> = codes::ALL.iter().filter(|(code, _)| !met.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_hundred_thousand_brackets_are_refused() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(50_000),
        "- ".repeat(50_000),
        format!("lifeboat: v1\nsteps: {}{}", "[".repeat(40), "]".repeat(40)),
    ] {
        let problems = made(text);
        assert_eq!(codes_of(&problems), ["LB002"], "{problems:?}");
    }
}

#[test]
fn a_file_past_the_limit_is_refused_without_reading_it() {
    let problems = made(format!("lifeboat: v1\nname: {}\n", "x".repeat(50 * 1024 * 1024)));
    assert_eq!(codes_of(&problems), ["LB002"]);
}

#[test]
fn a_huge_scalar_within_the_limit_is_one_short_problem() {
    let problems = made(format!("lifeboat: v1\nname: {}\nsteps: []\n", "x".repeat(4_000_000)));
    assert_eq!(codes_of(&problems), ["LB018", "LB016"]);
    assert!(problems.iter().all(|problem| problem.message.len() < 400));
}

fn steps(count: usize, needs: impl Fn(usize) -> String) -> String {
    let step = |index| format!("  - {{ id: s{index}, type: wait, needs: [{}], with: {{ period: 1s }} }}\n", needs(index));
    format!("lifeboat: v1\nname: t\nsteps:\n{}", (0..count).map(step).collect::<String>())
}

#[test]
fn more_than_ten_thousand_steps_are_refused() {
    assert_eq!(codes_of(&made(steps(10_001, |_| String::new()))), ["LB002"]);
}

#[test]
fn a_fan_of_a_thousand_edges_and_a_chain_of_two_thousand_steps_are_good() {
    let many: String = (0..1000).map(|index| format!("s{index}, ")).collect();
    assert_eq!(codes_of(&made(steps(1001, |index| if index == 1000 { many.clone() } else { String::new() }))), [] as [&str; 0]);
    assert_eq!(codes_of(&made(steps(2000, |index| if index == 0 { String::new() } else { format!("s{}", index - 1) }))), [] as [&str; 0]);
}

#[test]
fn a_circle_of_two_thousand_steps_is_one_short_problem() {
    let problems = made(steps(2000, |index| format!("s{}", (index + 1) % 2000)));
    assert_eq!(codes_of(&problems), ["LB023"]);
    assert!(problems[0].message.len() < 300, "{}", problems[0].message);
}

#[test]
fn a_thousand_mistakes_are_not_all_told() {
    let problems = made(steps(1000, |index| format!("x{index}")));
    assert_eq!(problems.len(), 501);
    assert_eq!(problems[500].code, "LB099");
}

#[test]
fn text_in_another_encoding_is_refused() {
    let utf16: Vec<u8> = "lifeboat: v1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bytes = [vec![0xff, 0xfe], utf16].concat();
    let problems = made(String::from_utf8_lossy(&bytes).into_owned());
    assert!(problems.iter().all(|problem| problem.code == "LB003") && !problems.is_empty(), "{problems:?}");
}
