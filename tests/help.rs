//! What the program says of itself: help, usage errors, step types, schemas; and that looking at a runbook changes nothing.

mod support;

use std::path::PathBuf;

use lifeboat_runbooks::catalog::Catalog as _;
use serde_json::Value;
use support::desk::Desk;
use support::process::Ended;
use support::stage::Stage;
use xtask::lab::postgres::PRIMARY;
use xtask::lab::root;

/// Every command, in the order of the help.
const COMMANDS: &[&str] = &[
    "check",
    "plan",
    "run",
    "drill",
    "resume",
    "runs",
    "status",
    "watch",
    "why",
    "report",
    "approve",
    "deny",
    "resolve",
    "cancel",
    "pause",
    "continue",
    "freeze",
    "unfreeze",
    "simulate",
    "test",
    "audit",
    "store",
    "graph",
    "steps",
    "schema",
    "heartbeat",
];

#[test]
fn every_command_explains_itself() {
    let desk = Desk::new();
    let all = desk.lifeboat(&["--help"]).expect(0).stdout;
    let listed: Vec<&str> = all
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(listed, COMMANDS, "a command was added or left: its help belongs into this test");
    let mut text = all;
    for command in COMMANDS {
        let help = desk.lifeboat(&[command, "--help"]).expect(0);
        assert_eq!(help.stderr, "");
        text.push_str(&format!("\n════ lifeboat {command} --help\n{}", help.stdout));
    }
    insta::assert_snapshot!("help", text);
    let version = desk.lifeboat(&["--version"]).expect(0).stdout;
    assert!(version.starts_with("lifeboat 0."), "{version}");
    assert!(!desk.data.exists());
}

#[test]
fn bad_usage_is_told_with_exit_code_2() {
    let desk = Desk::new();
    let cases: &[&[&str]] = &[
        &[],
        &["rnu"],
        &["run"],
        &["run", "a.yaml", "b.yaml"],
        &["run", "--mdoe", "failover", "a.yaml"],
        &["run", "a.yaml", "--format", "xml"],
        &["check"],
        &["approve", "some-run"],
        &["resolve", "some-run", "step", "perhaps", "--comment", "x"],
        &["resolve", "some-run", "step", "done"],
        &["resolve", "some-run", "--release", "step", "--comment", "x"],
        &["graph", "a.yaml", "--format", "png"],
        &["steps", "promote-bd"],
        &["schema", "people"],
        &["--color", "sometimes", "runs"],
        &["run", "a.yaml", "--data"],
    ];
    let mut text = String::new();
    for words in cases {
        let ended = desk.lifeboat(words);
        assert_eq!(ended.stdout, "", "{words:?}: talk belongs to standard error");
        let code = ended.code;
        text.push_str(&format!("════ lifeboat {}\n{}\n", words.join(" "), ended.stderr));
        assert_eq!(code, Some(2), "{words:?}: {}", ended.stderr);
    }
    insta::assert_snapshot!("usage", text);
    // What only the content of the words can tell.
    let chain = desk.chain("chain", 1, "1ms");
    desk.lifeboat(&["run", &chain, "--input", "x"]).expect(2).says(&["has no value"]);
    desk.lifeboat(&["run", &chain, "--input", "x=1"]).expect(2).says(&["x"]);
    desk.lifeboat(&["run", &chain, "--mode", "nonsense"]).expect(2).says(&["nonsense"]);
    desk.lifeboat(&["run", &chain, "--outage-began", "yesterday"]).expect(2).says(&["--outage-began", "two instants"]);
    let backwards = "2026-11-22T03:14:06Z,2026-11-22T03:14:05Z";
    desk.lifeboat(&["run", &chain, "--outage-began", backwards]).expect(2).says(&["the second instant is before the first"]);
    assert!(!desk.data.exists());
}

#[test]
fn every_step_type_is_listed_and_has_a_page() {
    let desk = Desk::new();
    let registry = lifeboat_steps::registry();
    let names: Vec<&str> = registry.step_types().iter().map(|info| info.name).collect();
    for wanted in ["approval", "command", "fence-db", "measure-rpo", "promote-db", "update-dns", "verify", "wait"] {
        assert!(names.contains(&wanted), "{wanted} is not registered");
    }
    let list = desk.lifeboat(&["steps"]).expect(0).stdout;
    let listed: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, names);
    let all = desk.lifeboat(&["steps", "--format", "json"]).expect(0).json();
    assert_eq!(all.as_array().map(Vec::len), Some(names.len()));
    for name in names {
        let page = desk.lifeboat(&["steps", name]).expect(0).stdout;
        assert!(page.starts_with(name) && page.contains("\nwith:") && page.contains("\noutputs:"), "{page}");
        assert!(!page.contains("(unknown"), "{page}");
        let page = desk.lifeboat(&["steps", name, "--format", "json"]).expect(0).json();
        assert_eq!(page["type"], name);
        assert!(page["with"]["properties"].is_object(), "{page:#}");
    }
}

#[test]
fn the_schemas_are_whole_and_those_beside_the_examples_are_these() {
    let desk = Desk::new();
    for (of, file) in [("runbook", "runbook.schema.json"), ("inventory", "inventory.schema.json"), ("test", "test.schema.json")] {
        let printed = desk.lifeboat(&["schema", of]).expect(0);
        let schema = printed.json();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let mut missing = Vec::new();
        references(&schema, &mut |reference| {
            let found = reference.strip_prefix('#').is_some_and(|pointer| schema.pointer(pointer).is_some());
            if !found {
                missing.push(reference.to_owned());
            }
        });
        assert_eq!(missing, Vec::<String>::new(), "references of the {of} schema that lead nowhere");
        let kept = std::fs::read_to_string(root().join("docs/schema").join(file)).unwrap_or_default();
        assert!(printed.stdout == kept, "docs/schema/{file} is old: run `cargo run -- schema {of} > docs/schema/{file}`");
    }
    let text = desk.lifeboat(&["schema"]).expect(0).stdout;
    for info in lifeboat_steps::registry().step_types() {
        assert!(text.contains(&format!("\"{}\"", info.name)), "{} is not in the schema", info.name);
    }
}

fn references(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                found(reference);
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The runbook of every example, with its inventory.
fn examples() -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let folders = std::fs::read_dir(root().join("examples")).unwrap_or_else(|error| panic!("{error}"));
    for folder in folders.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{error}"));
        for file in files.flatten().map(|entry| entry.path()) {
            let yaml = file.extension().is_some_and(|end| end == "yaml");
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if yaml && name != "lifeboat.yaml" && !name.ends_with(".test.yaml") {
                found.push((file, folder.join("lifeboat.yaml")));
            }
        }
    }
    assert!(!found.is_empty(), "there are no examples");
    found
}

#[test]
fn every_example_checks_and_can_be_drawn() {
    let mut desk = Desk::new();
    for (runbook, inventory) in examples() {
        desk.config = inventory;
        let file = runbook.display().to_string();
        let checked = desk.lifeboat(&["check", &file]).expect(0);
        assert_eq!(checked.stdout, format!("{file}: ok\n"), "an example has not even a warning: {}", checked.stderr);
        let drawn = |format: &str| desk.lifeboat(&["graph", &file, "--format", format]).expect(0);
        let begins = |ended: &Ended, word: &str| assert!(ended.stdout.trim_start().starts_with(word), "{}", ended.stdout);
        begins(&drawn("svg"), "<svg");
        begins(&drawn("mermaid"), "flowchart");
        begins(&drawn("dot"), "digraph");
        let text = std::fs::read_to_string(&runbook).unwrap_or_default();
        let steps: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  - id: ")).collect();
        let mermaid = drawn("mermaid").stdout;
        let nodes = mermaid.lines().filter_map(|line| line.trim().strip_prefix("s_")?.split_once(['[', '{']));
        assert!(nodes.clone().count() >= steps.len(), "{mermaid}");
        for (name, rest) in nodes {
            let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            assert!(plain && rest.starts_with(['"', '[', '{']), "Mermaid reads no node {name:?} in {rest:?}");
        }
        assert!(!steps.is_empty() && steps.iter().all(|step| mermaid.contains(step)), "{file}: {steps:?}\n{mermaid}");
    }
    assert!(!desk.data.exists());
}

#[test]
fn a_plan_shows_every_step_and_changes_nothing() {
    let stage = Stage::new();
    let file = stage.runbook.display().to_string();
    let position = || stage.lab.node(PRIMARY).psql("postgres", "select pg_current_wal_lsn()").unwrap_or_else(|error| panic!("{error}"));
    let written = "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables";
    let rows = || stage.lab.node(PRIMARY).psql("postgres", written).unwrap_or_else(|error| panic!("{error}"));
    let before = (stage.world(), rows());
    // A primary writes a little log by itself now and then; a plan that wrote any would do so each time.
    let silent = (0..5).any(|_| {
        let from = position();
        let plan = stage.lifeboat(&["plan", &file]).expect(0).stdout;
        for step in ["loss", "accept", "fence", "promote", "dns", "verify", "point of no return", "Nothing is changed"] {
            assert!(plan.contains(step), "{step} is missing in\n{plan}");
        }
        position() == from
    });
    assert!(silent, "the log of the primary grew with each of five plans");
    let json = stage.lifeboat(&["plan", &file, "--format", "json"]).expect(0).json();
    assert_eq!(json["readiness"].as_array().map(Vec::len), Some(6));
    for words in [vec!["check", &file], vec!["graph", &file]] {
        stage.lifeboat(&words).expect(0);
    }
    assert_eq!((stage.world(), rows()), before);
    assert!(!stage.data.exists(), "a plan makes no data folder");
    let others = std::fs::read_dir(&stage.folder).unwrap_or_else(|error| panic!("{error}")).flatten().count();
    assert_eq!(others, 2, "a plan writes no file beside the inventory and the runbook");
}
