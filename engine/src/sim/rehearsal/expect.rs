//! What a test case expects, held against where it ended: every expectation that is not met, with what was found instead.

use serde::Serialize;
use serde_json::Value;

use super::ending::{Ending, Mark, Standing};
use lifeboat_runbooks::diagnostic::Span;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::testing::{Expectation, TestCase, holds};

/// An expectation that is not met.
#[derive(Clone, Debug, Serialize)]
pub struct Mismatch {
    /// `steps.fence`, `outcome`.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// Where it is expected.
    #[serde(skip)]
    pub span: Span,
}

/// Every expectation of a case that its ending does not meet, in the order of the file.
#[must_use]
pub fn mismatches(case: &TestCase, ending: &Ending) -> Vec<Mismatch> {
    let mut found: Vec<Mismatch> = case
        .expect
        .iter()
        .filter_map(|expected| {
            let (wanted, got) = unmet(&expected.value, ending)?;
            Some(Mismatch { what: expected.value.name(), expected: wanted, found: got, span: expected.span })
        })
        .collect();
    let late = ending.never_came.iter().filter_map(|place| case.people.get(*place)).map(|acts| Mismatch {
        what: "people".into(),
        expected: "the person acts".into(),
        found: format!("the moment never came; {}", rest(ending)),
        span: acts.span,
    });
    found.extend(late);
    let broken = ending.broken.iter().map(|law| Mismatch {
        what: "the engine".into(),
        expected: "its laws are kept".into(),
        found: law.clone(),
        span: case.name.span,
    });
    found.extend(broken);
    found
}

/// What was expected and what was found, where the two differ.
fn unmet(expectation: &Expectation, ending: &Ending) -> Option<(String, String)> {
    let differ = |wanted: String, got: String| (wanted != got).then_some((wanted, got));
    if let Some(missing) = steps_of(expectation).into_iter().find(|step| ending.step(step).is_none()) {
        return Some((format!("a step {missing}"), "the plan has none of this name".into()));
    }
    match expectation {
        Expectation::Outcome(word) => (ending.rest.word() != word).then(|| (word.clone(), rest(ending))),
        Expectation::Held(steps) => differ(set(steps.iter()), set(ending.held().map(StepId::as_str))),
        Expectation::State { step, state } => {
            let end = ending.step(step)?;
            let found = end.state.word();
            (found != state).then(|| (state.clone(), end.why.as_ref().map_or(found.to_owned(), |why| format!("{found} ({why})"))))
        }
        Expectation::Order(steps) => disorder(steps, &ending.marks).map(|found| (list(steps.iter(), " then "), found)),
        Expectation::With { step, with } => {
            let got = ending.step(step)?.with.clone().unwrap_or(Value::Null);
            (!holds(&got, with)).then(|| (with.to_string(), if got.is_null() { "it never started".to_owned() } else { got.to_string() }))
        }
        Expectation::Attempts { step, attempts } => differ(attempts.to_string(), ending.step(step)?.attempts.to_string()),
        Expectation::Undone(steps) => differ(list(steps.iter(), " then "), list(ending.undone.iter().map(StepId::as_str), " then ")),
        Expectation::Standing(steps) => {
            let got: Vec<&str> = ending.standing().map(|(step, _)| step.as_str()).collect();
            let shown = ending
                .standing()
                .map(|(step, standing)| if standing == Standing::MayStand { format!("{step} (nobody knows)") } else { step.to_string() });
            (set(steps.iter()) != set(got.iter().copied())).then(|| (set(steps.iter()), set(shown)))
        }
        Expectation::Asked { step, roles, count, shown } => {
            let Some(asked) = ending.asked.iter().rev().find(|asked| asked.step.as_str() == step) else {
                return Some(("people are asked".into(), "nobody was asked".into()));
            };
            if let Some(roles) = roles.as_ref().filter(|roles| **roles != asked.roles) {
                return Some((format!("roles {}", roles.join(", ")), format!("roles {}", asked.roles.join(", "))));
            }
            if let Some(count) = count.filter(|count| *count != u64::from(asked.count)) {
                return Some((format!("count {count}"), format!("count {}", asked.count)));
            }
            let shown = shown.as_ref().filter(|shown| !holds(&asked.shown, shown))?;
            Some((format!("shown {shown}"), format!("shown {}", asked.shown)))
        }
        Expectation::Why { step, contains } => {
            let why = ending.step(step)?.why.clone().unwrap_or_default();
            (!why.contains(contains.as_str())).then(|| (format!("a reason with {contains:?}"), format!("{why:?}")))
        }
        Expectation::NoReturn(wanted) => {
            let words = |step: Option<&str>| step.unwrap_or("none").to_owned();
            differ(words(wanted.as_deref()), words(ending.no_return.as_ref().map(StepId::as_str)))
        }
    }
}

/// The steps that an expectation names.
fn steps_of(expectation: &Expectation) -> Vec<&str> {
    match expectation {
        Expectation::Outcome(_) | Expectation::NoReturn(None) => Vec::new(),
        Expectation::Held(steps) | Expectation::Order(steps) | Expectation::Undone(steps) | Expectation::Standing(steps) => {
            steps.iter().map(String::as_str).collect()
        }
        Expectation::State { step, .. }
        | Expectation::With { step, .. }
        | Expectation::Attempts { step, .. }
        | Expectation::Asked { step, .. }
        | Expectation::Why { step, .. }
        | Expectation::NoReturn(Some(step)) => vec![step],
    }
}

/// How a run came to rest, with its reason.
fn rest(ending: &Ending) -> String {
    match &ending.why {
        Some(why) => format!("{} ({why})", ending.rest.word()),
        None => ending.rest.word().to_owned(),
    }
}

/// Where the order is broken: each step must begin, and only after the one before it ended.
fn disorder(steps: &[String], marks: &[Mark]) -> Option<String> {
    let began = |step: &str| marks.iter().position(|mark| matches!(mark, Mark::Began(id) if id.as_str() == step));
    let ended = |step: &str| marks.iter().rposition(|mark| matches!(mark, Mark::Ended(id) if id.as_str() == step));
    if let Some(step) = steps.iter().find(|step| began(step).is_none()) {
        return Some(format!("{step} never began"));
    }
    steps.windows(2).find_map(|pair| {
        let [before, after] = pair else { return None };
        match (ended(before), began(after)) {
            (Some(end), Some(begin)) if end < begin => None,
            (None, _) => Some(format!("{before} had not ended when {after} began")),
            _ => Some(format!("{after} began before {before} had ended")),
        }
    })
}

fn list<S: AsRef<str>>(names: impl Iterator<Item = S>, between: &str) -> String {
    let names: Vec<String> = names.map(|name| name.as_ref().to_owned()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(between) }
}

fn set<S: AsRef<str>>(names: impl Iterator<Item = S>) -> String {
    let mut names: Vec<String> = names.map(|name| name.as_ref().to_owned()).collect();
    names.sort_unstable();
    list(names.into_iter(), ", ")
}
