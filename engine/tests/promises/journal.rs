//! The stored form: a sample of each format still opens, large outputs come back, and commits are few.

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_engine::executor::Executor;
use lifeboat_engine::journal::{ENTRY_FORMAT, Entry, EntryError, Event, Outcome, Output};
use lifeboat_engine::run::{Run, StepState};
use lifeboat_store::FaultyStore;
use serde_json::{Value, json};

use crate::world::Act;
use crate::world::plans::{Draft, change, id, look, note, plan, poke};
use crate::world::stage::{RestWords, nobody, on_stage};

/// One entry a line, every kind of event at least once.
const FORMAT_1: &str = include_str!("../samples/journal-1.jsonl");

/// The same for what format 2 writes otherwise than format 1.
const FORMAT_2: &str = include_str!("../samples/journal-2.jsonl");

/// Kinds of events, as they are written.
const KINDS: usize = 28;

#[test]
fn a_journal_of_format_1_still_opens_and_is_written_the_same() {
    let mut kinds = BTreeSet::new();
    for line in FORMAT_1.lines() {
        let entry = Entry::decode(line.as_bytes()).unwrap();
        assert_eq!(entry.format, 1);
        assert_eq!(String::from_utf8(entry.encode().unwrap()).unwrap(), line);
        let written: Value = serde_json::from_str(line).unwrap();
        let event = &written["event"];
        let kind = event.as_str().or_else(|| event.as_object()?.keys().next().map(String::as_str));
        kinds.insert(kind.unwrap().to_owned());
    }
    assert_eq!(kinds.len(), KINDS, "{kinds:?}");
}

#[test]
fn a_journal_of_format_2_still_opens_and_is_written_the_same() {
    assert_eq!(ENTRY_FORMAT, 2, "a newer format keeps a sample of its own");
    let mut acts = 0;
    for line in FORMAT_2.lines() {
        let entry = Entry::decode(line.as_bytes()).unwrap();
        assert_eq!((entry.format, String::from_utf8(entry.encode().unwrap()).unwrap().as_str()), (2, line));
        acts += u32::from(matches!(entry.event, Event::UndoStarted { act: Some(_), .. }));
    }
    assert_eq!(acts, 1);
}

#[test]
fn an_entry_of_a_newer_program_is_told_apart_from_damage() {
    let line = FORMAT_1.lines().next().unwrap();
    let newer = line.replacen("\"format\":1", "\"format\":3", 1).replacen("run_admitted", "run_welcomed", 1);
    assert!(matches!(Entry::decode(newer.as_bytes()), Err(EntryError::Newer { found: 3 })));
    let newer_but_alike = line.replacen("\"format\":1", "\"format\":3", 1);
    assert!(matches!(Entry::decode(newer_but_alike.as_bytes()), Err(EntryError::Newer { found: 3 })));
    let unknown = line.replacen("run_admitted", "run_welcomed", 1);
    for damaged in [unknown.as_str(), "", "{}", "null", &line[..line.len() - 1]] {
        assert!(matches!(Entry::decode(damaged.as_bytes()), Err(EntryError::Unreadable(_))), "{damaged}");
    }
}

#[test]
fn a_large_output_is_kept_beside_the_journal_and_comes_back() {
    on_stage(async |stage| {
        stage.world.acts("b", &[Act::Hang]);
        let steps =
            [change("a").with("blob_bytes", json!(100_000)), change("b").after(&["a"]).when("size(steps.a.outputs.blob) == 100000")];
        let name = stage.run_and_kill(plan(steps), 5000).await;
        let events = stage.events(&name).await;
        let kept = events.iter().find_map(|event| {
            if let Event::StepSucceeded { output: Output::Kept { bytes, .. }, .. } = event { Some(*bytes) } else { None }
        });
        assert!(kept.is_some_and(|bytes| bytes > 100_000), "{events:?}");
        let run: Run = stage.load(&name).await.run;
        let value = run.steps[&id("a")].value.clone().unwrap();
        assert_eq!(value["blob"].as_str().unwrap().len(), 100_000);
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("b"), 1);
    });
}

#[test]
fn an_output_just_below_the_limit_stays_in_the_journal() {
    on_stage(async |stage| {
        let (name, rest) = stage.run(plan([look("a").with("blob_bytes", json!(65_000))])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert!(stage.events(&name).await.iter().any(|event| matches!(event, Event::StepSucceeded { output: Output::Inline(_), .. })));
    });
}

/// Writes of a chain of so many steps, admission apart.
fn writes_of_a_chain(length: usize, make: fn(&str) -> Draft) -> u64 {
    on_stage(async |stage| {
        let names: Vec<String> = (0..length).map(|place| format!("s{place}")).collect();
        let steps =
            names.iter().enumerate().map(|(place, name)| if place == 0 { make(name) } else { make(name).after(&[&names[place - 1]]) });
        let admitted = stage.admit(plan(steps)).await;
        let store = FaultyStore::new(stage.slow());
        let (executor, handle) = Executor::new(stage.ports_on(Arc::new(store.clone())), stage.owner(), admitted.run, admitted.next);
        let rest = stage.attend(executor, handle, &mut nobody, std::time::Duration::from_secs(3600)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        store.writes()
    })
}

#[test]
fn a_step_with_next_to_nothing_to_look_at_costs_one_commit_and_one_that_looks_two() {
    let (hundred, two_hundred) = (writes_of_a_chain(100, note), writes_of_a_chain(200, note));
    assert_eq!(two_hundred - hundred, 100);
    assert!(hundred <= 102, "{hundred} commits for 100 steps");
    assert_eq!(writes_of_a_chain(40, look) - writes_of_a_chain(20, look), 40);
    assert_eq!(writes_of_a_chain(40, poke) - writes_of_a_chain(20, poke), 20, "a gate that only glances is waited for");
}

#[test]
fn parameters_too_large_for_the_journal_hold_the_step_before_it_acts() {
    on_stage(async |stage| {
        let steps = [change("a").with("blob_bytes", json!(300_000)), change("b").after(&["a"]).says(json!("${{ steps.a.outputs.blob }}"))];
        let (name, _) = stage.run(plan(steps)).await;
        assert_eq!(stage.state(&name, "b").await, StepState::Held);
        assert_eq!(stage.world.times("b"), 0);
    });
}

#[test]
fn more_than_one_commit_can_take_is_committed_in_portions() {
    on_stage(async |stage| {
        let names: Vec<String> = (0..30).map(|place| format!("s{place}")).collect();
        let first = [change("a").with("blob_bytes", json!(200_000))];
        let rest = names.iter().map(|name| note(name).after(&["a"]).says(json!("${{ steps.a.outputs.blob }}")));
        let (name, end) = stage.run(plan(first.into_iter().chain(rest))).await;
        assert_eq!(end.outcome(), Outcome::Succeeded);
        assert!(stage.events(&name).await.len() > 60);
    });
}

#[test]
fn a_figure_comes_back_from_the_journal_as_it_was_written() {
    // Without exact reading this one comes back a unit in the last place smaller.
    let figure = std::time::Duration::from_nanos(1_869_625_065).as_secs_f64();
    let mut entry = Entry::decode(FORMAT_1.lines().next().unwrap().as_bytes()).unwrap();
    let succeeded = Event::StepSucceeded {
        step: id("a"),
        output: Output::Inline(json!({ "seconds": figure })),
        measures: Vec::new(),
        seen: lifeboat_engine::journal::Seen::Executed,
    };
    entry.event = succeeded.clone();
    assert_eq!(Entry::decode(&entry.encode().unwrap()).unwrap().event, succeeded);
}
