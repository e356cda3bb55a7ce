//! Some thousand inputs for each target, and every input that was ever found to matter, on every change.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use lifeboat_fuzz::corpus;
use lifeboat_fuzz::jobs::in_jobs;
use lifeboat_fuzz::run::{Campaign, Shared, campaign};
use lifeboat_fuzz::targets::Target;

fn bears(target: Target) {
    let findings = tempfile::tempdir().unwrap();
    let asked = Campaign { target, executions: 1500, seed: 42, job: 0, findings: findings.path().to_owned() };
    let outcome = campaign(&asked, &Shared::default(), &mut |_| {}).unwrap();
    if let Some(finding) = outcome.finding {
        // The limit of time is that of an optimised build; a panic is one in any.
        assert!(
            !finding.why.starts_with("it panicked"),
            "{}: {}: {:?}",
            target.name(),
            finding.why,
            String::from_utf8_lossy(&finding.input)
        );
    }
    let behaviours = outcome.behaviours.len();
    assert!(behaviours > 50, "{}: {behaviours} behaviours: the inputs are all alike", target.name());
    assert_eq!(outcome.executions, 1500);
    assert!(outcome.distinct > 1000, "{}: only {} of 1500 inputs are distinct", target.name(), outcome.distinct);
    // A campaign whose inputs are all refused at the door proves little.
    assert!(outcome.whole > 30, "{}: only {} of 1500 inputs came to the last stage", target.name(), outcome.whole);
}

#[test]
fn yaml_bears_what_comes() {
    bears(Target::Yaml);
}

#[test]
fn the_journal_bears_what_comes() {
    bears(Target::Journal);
}

#[test]
fn expressions_bear_what_comes() {
    bears(Target::Expression);
}

#[test]
fn the_same_seed_does_the_same() {
    let findings = tempfile::tempdir().unwrap();
    let asked = Campaign { target: Target::Journal, executions: 600, seed: 7, job: 0, findings: findings.path().to_owned() };
    let alone = || campaign(&asked, &Shared::default(), &mut |_| {}).unwrap();
    let in_two = || in_jobs(&asked, 2, &|_| {}).unwrap();
    for (a, b) in [(alone(), alone()), (in_two(), in_two())] {
        assert_eq!(
            (a.executions, a.distinct, a.whole, &a.behaviours, &a.found),
            (b.executions, b.distinct, b.whole, &b.behaviours, &b.found)
        );
        assert_eq!(a.executions, 600);
    }
    let other = campaign(&Campaign { seed: 8, ..asked.clone() }, &Shared::default(), &mut |_| {}).unwrap();
    assert_ne!(alone().found, other.found, "another seed does something else");
    assert_ne!(in_two().found, alone().found, "the jobs of one campaign do different things");
}

#[test]
fn kept_inputs_are_small_and_few() {
    for target in Target::ALL {
        let folder = corpus::folder(target);
        let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!((1..=corpus::KEPT_MAX).contains(&files.len()), "{}: {} files", folder.display(), files.len());
        for file in files {
            assert!(file.metadata().unwrap().len() <= 4096, "{}", file.display());
        }
    }
}
