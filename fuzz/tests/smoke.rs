//! Some thousand inputs for each target, and every input that was ever found to matter, on every change.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use lifeboat_fuzz::corpus;
use lifeboat_fuzz::run::{Campaign, campaign};
use lifeboat_fuzz::targets::Target;

fn bears(target: Target) {
    let findings = tempfile::tempdir().unwrap();
    let asked = Campaign { target, executions: 1500, seed: 42, findings: findings.path().to_owned() };
    let outcome = campaign(&asked, &mut |_| {}).unwrap();
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
    assert!(outcome.behaviours > 50, "{}: {} behaviours: the inputs are all alike", target.name(), outcome.behaviours);
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
    let asked = Campaign { target: Target::Journal, executions: 600, seed: 7, findings: findings.path().to_owned() };
    let (a, b) = (campaign(&asked, &mut |_| {}).unwrap(), campaign(&asked, &mut |_| {}).unwrap());
    assert_eq!((a.executions, a.behaviours, a.found), (b.executions, b.behaviours, b.found));
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
