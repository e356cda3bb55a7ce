//! Good runbooks, read by another YAML library as well: the archived `serde_yaml`, which many people's files were written for. Every
//! difference stands in the table, with its reason.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::{Path, PathBuf};

use lifeboat_runbooks::{Source, read_document};
use serde_json::{Value, json};

/// Where the two differ: the pointer, what we read, what `serde_yaml` reads, and why ours is right for runbooks.
fn differences() -> Vec<(&'static str, Value, Value, &'static str)> {
    vec![
        ("/inputs/capital/default", json!("True"), json!(true), "only `true` and `false` are truths: one spelling for one thing"),
        ("/inputs/new_octal/default", json!("0o14"), json!(12), "numbers are decimal: `0o14` in a runbook is a slip or a name"),
        ("/inputs/hexadecimal/default", json!("0x1F"), json!(31), "numbers are decimal"),
        ("/inputs/positive/default", json!("+1"), json!(1), "numbers are those of JSON, which have no plus sign"),
        ("/inputs/dotted/default", json!(".5"), json!(0.5), "numbers are those of JSON, which begin with a digit"),
        ("/inputs/dot_at_end/default", json!("1."), json!(1.0), "numbers are those of JSON: a dot has digits on both sides"),
        ("/inputs/infinite/default", json!(".inf"), Value::Null, "JSON has no infinity, so a journal could not hold it"),
        ("/inputs/not_a_number/default", json!(".nan"), Value::Null, "JSON has no such number, so a journal could not hold it"),
    ]
}

fn files() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![here.join("tests/good"), here.join("library"), here.join("../examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(found.len() >= 2, "{found:?}");
    found
}

fn compare(pointer: &str, ours: &Value, theirs: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for (key, value) in a {
                compare(&format!("{pointer}/{key}"), value, &b[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{pointer}/{index}"), a, b, found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push((pointer.to_owned(), ours.clone(), theirs.clone())),
    }
}

#[test]
fn the_two_readers_differ_only_where_the_table_says_so() {
    let mut found = Vec::new();
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let source = Source { name: "t".into(), text: text.as_str().into() };
        let (document, problems) = read_document(&source, &json!({}));
        assert!(problems.is_empty(), "{}: {problems:?}", path.display());
        let theirs: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        compare("", &document.unwrap().value, &theirs, &mut found);
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut wanted: Vec<_> = differences().into_iter().map(|(pointer, ours, theirs, _)| (pointer.to_owned(), ours, theirs)).collect();
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, wanted);
}

#[test]
fn what_the_other_reader_swallows_is_refused_here() {
    for (text, theirs) in
        [("a: {b: 1, b: 2}\n", json!({"a": {"b": 2}})), ("a: &x 1\nb: *x\n", json!({"a": 1, "b": 1})), ("1: a\n", json!({"1": "a"}))]
    {
        let read: Value = serde_yaml::from_str(text).unwrap_or(theirs.clone());
        let source = Source { name: "t".into(), text: text.into() };
        let (_, problems) = read_document(&source, &json!({}));
        assert!(!problems.is_empty(), "{text:?} is {read} to others");
        assert_eq!(read, theirs, "{text:?}");
    }
}
