//! Text to the author's form of a test file. The structure is checked against the schema, then read leniently: what is missing or wrong
//! was reported already. What needs the runbook is in `check`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{CASES_MAX, Expectation, Expected, Given, Observed, PersonAct, PersonActs, StepGiven, TestCase, TestFile, When, schema};
use crate::codes;
use crate::diagnostic::{Diagnostic, Source};
use crate::parse::tidy;
use crate::runbook::Spanned;
use crate::shape;
use crate::shape::literal::{Checker, Place, Templates};
use crate::yaml::{self, Content, Node};

/// Reads a test file. All problems of form are told at once; there is none only where the text is not YAML, or not a mapping with cases.
#[must_use]
pub fn parse(source: &Source) -> (Option<TestFile>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let Some(root) = yaml::read(source, &mut problems) else { return (None, problems) };
    let shape = shape::read(&schema());
    let mut checker = Checker::new(Templates::AreText);
    checker.check(&root, &shape, &Place { name: "the test file".to_owned(), ..Place::root(&root) });
    problems.append(&mut checker.problems);
    let file = root.get("cases").map(|cases| {
        let defaults = root.get("defaults");
        let mut reader = Reader { problems: &mut problems };
        let cases: Vec<TestCase> = cases.items().iter().take(CASES_MAX).map(|case| reader.case(case, defaults)).collect();
        reader.names(&cases);
        TestFile { source: source.clone(), runbook: spanned(root.get("runbook")), cases }
    });
    tidy(&mut problems);
    (file, problems)
}

struct Reader<'p> {
    problems: &'p mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn names(&mut self, cases: &[TestCase]) {
        let mut seen = std::collections::BTreeSet::new();
        for case in cases {
            if !case.name.value.is_empty() && !seen.insert(&case.name.value) {
                let message = format!("another case is named {:?}", crate::shape::literal::shortened(&case.name.value));
                self.problems.push(Diagnostic::error(codes::DUPLICATE_ID, case.name.span, message).help("give it another name"));
            }
        }
    }

    fn case(&mut self, node: &Node, defaults: Option<&Node>) -> TestCase {
        let both = [defaults, Some(node)];
        let mut mode = None;
        let mut inputs = BTreeMap::new();
        let mut steps = BTreeMap::new();
        for given in both.into_iter().flatten() {
            mode = spanned(given.get("mode")).or(mode);
            for entry in given.get("inputs").map(Node::entries).unwrap_or_default() {
                let Some(scalar) = entry.value.scalar() else { continue };
                inputs.insert(entry.key.clone(), Spanned { value: scalar.text.clone(), span: entry.value.span });
            }
            for entry in given.get("steps").map(Node::entries).unwrap_or_default() {
                let (attempts, undo_fails) = self.step(&entry.value);
                steps.insert(entry.key.clone(), StepGiven { span: entry.key_span, attempts, undo_fails });
            }
        }
        TestCase {
            name: spanned(node.get("name")).unwrap_or(Spanned { value: String::new(), span: node.span }),
            mode,
            inputs,
            steps,
            people: node.get("people").map(Node::items).unwrap_or_default().iter().filter_map(|item| self.person(item)).collect(),
            expect: node.get("expect").map(expectations).unwrap_or_default(),
        }
    }

    fn step(&mut self, node: &Node) -> (Vec<Spanned<Given>>, Option<String>) {
        let items: Vec<&Node> = if let Content::List(items) = &node.content { items.iter().collect() } else { vec![node] };
        let mut undo_fails = None;
        let mut attempts = Vec::new();
        for item in items {
            undo_fails = text(item.get("undo_fails")).or(undo_fails);
            let keys: Vec<&str> = item.entries().iter().map(|entry| entry.key.as_str()).filter(|key| *key != "undo_fails").collect();
            if keys.len() > 1 {
                let message = format!("an attempt ends in one way, and here are {}", crate::suggest::list(&keys));
                let span = item.entries()[1].key_span;
                self.problems
                    .push(Diagnostic::error(codes::BAD_TEST, span, message).help("write a list with one of them for each attempt"));
                continue;
            }
            if let Some(given) = given(item) {
                attempts.push(Spanned { value: given, span: item.span });
            }
        }
        (attempts, undo_fails)
    }

    fn person(&mut self, node: &Node) -> Option<PersonActs> {
        let keys: Vec<_> = node.entries().iter().filter(|entry| matches!(entry.key.as_str(), "begun" | "done" | "held")).collect();
        let when = match keys.as_slice() {
            [] => When::AtOnce,
            [one] => {
                let step = spanned(Some(&one.value))?;
                match one.key.as_str() {
                    "begun" => When::Begun(step),
                    "done" => When::Done(step),
                    _ => When::Held(step),
                }
            }
            [_, second, ..] => {
                let problem = Diagnostic::error(codes::BAD_TEST, second.key_span, "a person acts at one moment, and here are several");
                self.problems.push(problem.help("keep one of `begun`, `done` and `held`"));
                return None;
            }
        };
        let word = node.get("do").and_then(Node::text)?;
        let act = match word {
            "cancel" => PersonAct::Cancel,
            "retry" => PersonAct::Retry,
            "skip" => PersonAct::Skip,
            "give-up" => PersonAct::GiveUp,
            "say-done" => PersonAct::Done { outputs: object(node.get("outputs")) },
            _ => return None,
        };
        if act != PersonAct::Cancel && !matches!(when, When::Held(_)) {
            let span = node.entry("do").map_or(node.span, |entry| entry.key_span);
            let problem = Diagnostic::error(codes::BAD_TEST, span, format!("`{word}` decides about a held step, and none is named"));
            self.problems.push(problem.help("add `held: STEP`"));
            return None;
        }
        if let (Some(entry), false) = (node.entry("outputs"), matches!(act, PersonAct::Done { .. })) {
            let problem = Diagnostic::error(codes::BAD_TEST, entry.key_span, format!("`outputs` belongs to `say-done`, not to `{word}`"));
            self.problems.push(problem.help("remove it"));
        }
        Some(PersonActs { span: node.span, when, act })
    }
}

/// One attempt: a word, or a mapping with one key.
fn given(node: &Node) -> Option<Given> {
    const LOST: &str = "the answer is lost in this test";
    const CAUSE: &str = "it fails in this test";
    if let Some(word) = node.text() {
        return Some(match word {
            "succeeds" => Given::Succeeds { outputs: Value::Object(Map::new()) },
            "fails" => Given::Fails { why: CAUSE.into() },
            "fails_for_good" => Given::FailsForGood { why: CAUSE.into() },
            "refused" => Given::Refused { why: "its checks say no in this test".into() },
            "in_doubt" => Given::InDoubt { observed: Observed::Unknown, outputs: Value::Object(Map::new()), why: LOST.into() },
            "approved" => Given::Approved { by: Vec::new() },
            "denied" => Given::Denied { by: None },
            "expires" => Given::Expires,
            _ => return None,
        });
    }
    let entry = node.entries().iter().find(|entry| entry.key != "undo_fails")?;
    let value = &entry.value;
    Some(match entry.key.as_str() {
        "succeeds" => Given::Succeeds { outputs: object(Some(value)) },
        "fails" => Given::Fails { why: text(Some(value))? },
        "fails_for_good" => Given::FailsForGood { why: text(Some(value))? },
        "refused" => Given::Refused { why: text(Some(value))? },
        "in_doubt" => Given::InDoubt {
            observed: match value.get("observed").and_then(Node::text) {
                Some("done") => Observed::Done,
                Some("not_done") => Observed::NotDone,
                Some("in_progress") => Observed::InProgress,
                Some("foreign") => Observed::Foreign,
                _ => Observed::Unknown,
            },
            outputs: object(value.get("outputs")),
            why: text(value.get("why")).unwrap_or_else(|| LOST.into()),
        },
        "approved" => Given::Approved { by: value.items().iter().filter_map(|item| spanned(Some(item))).collect() },
        "denied" => Given::Denied { by: spanned(Some(value)) },
        _ => return None,
    })
}

fn expectations(node: &Node) -> Vec<Expected> {
    let mut found = Vec::new();
    for entry in node.entries() {
        let at = |value: Expectation| Spanned { value, span: entry.key_span };
        let names = || entry.value.items().iter().filter_map(|item| text(Some(item))).collect::<Vec<String>>();
        match entry.key.as_str() {
            "outcome" => found.extend(text(Some(&entry.value)).map(|word| at(Expectation::Outcome(word)))),
            "held" => found.push(at(Expectation::Held(names()))),
            "order" => found.push(at(Expectation::Order(names()))),
            "undone" => found.push(at(Expectation::Undone(names()))),
            "standing" => found.push(at(Expectation::Standing(names()))),
            "no_return" => {
                found.extend(text(Some(&entry.value)).map(|step| at(Expectation::NoReturn(if step == "none" { None } else { Some(step) }))))
            }
            key => found.extend(entry.value.entries().iter().filter_map(|inner| {
                let step = inner.key.clone();
                let value = match key {
                    "steps" => Expectation::State { step, state: text(Some(&inner.value))? },
                    "with" => Expectation::With { step, with: inner.value.to_value() },
                    "attempts" => Expectation::Attempts { step, attempts: inner.value.scalar()?.value.as_u64()? },
                    "why" => Expectation::Why { step, contains: text(Some(&inner.value))? },
                    "asked" => Expectation::Asked {
                        step,
                        roles: inner.value.get("roles").map(|roles| roles.items().iter().filter_map(|role| text(Some(role))).collect()),
                        count: inner.value.get("count").and_then(Node::scalar).and_then(|scalar| scalar.value.as_u64()),
                        shown: inner.value.get("shown").map(Node::to_value),
                    },
                    _ => return None,
                };
                Some(Spanned { value, span: inner.key_span })
            })),
        }
    }
    found
}

fn spanned(node: Option<&Node>) -> Option<Spanned<String>> {
    let node = node?;
    node.text().map(|text| Spanned { value: text.to_owned(), span: node.span })
}

fn text(node: Option<&Node>) -> Option<String> {
    node.and_then(Node::text).map(str::to_owned)
}

fn object(node: Option<&Node>) -> Value {
    match node.map(Node::to_value) {
        Some(found @ Value::Object(_)) => found,
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) | None => Value::Object(Map::new()),
    }
}
