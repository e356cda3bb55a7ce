//! Plans of the bench, made from runbook text as a person's would be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lifeboat_engine::Registry;
use lifeboat_engine::inventory::Inventory;
use lifeboat_runbooks::diagnostic::Source;
use lifeboat_runbooks::plan::Plan;
use lifeboat_runbooks::{PlanRequest, Runbook, load, parse, plan};

use crate::trouble::{Result, Trouble};

/// Steps one after the other.
pub(crate) fn chain(steps: usize, with: &str) -> String {
    let mut text = head("chain");
    for step in 0..steps {
        let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
        // Writing to a text does not fail.
        let _ = write!(text, "  - id: s{step}\n    type: noop\n{needs}    with: {with}\n");
    }
    text
}

/// Steps side by side, and one that waits for them all.
pub(crate) fn fan(steps: usize) -> String {
    let mut text = head("fan");
    for step in 0..steps {
        let _ = write!(text, "  - id: s{step}\n    type: noop\n    with: {{}}\n");
    }
    let all: Vec<String> = (0..steps).map(|step| format!("s{step}")).collect();
    let _ = write!(text, "  - id: join\n    type: noop\n    needs: [{}]\n    with: {{}}\n", all.join(", "));
    text
}

/// A question to people, and steps behind it.
pub(crate) fn asked(steps: usize) -> String {
    let mut text = head("asked");
    text.push_str("  - id: ask\n    type: approval\n    with: { roles: [\"${{ 'oncall' }}\"], timeout: 1d }\n");
    for step in 0..steps {
        let needs = if step == 0 { "ask".to_owned() } else { format!("s{}", step - 1) };
        let _ = write!(text, "  - id: s{step}\n    type: noop\n    needs: [{needs}]\n    with: {{}}\n");
    }
    text
}

/// A runbook whose plan has so many times as many steps as its child, and a few: parent and child.
pub(crate) fn nested(times: usize, steps: usize) -> Result<Runbook> {
    let items: Vec<String> = (0..times).map(|item| item.to_string()).collect();
    let each = format!("    for_each: [{}]\n    with: {{ runbook: chain }}\n", items.join(", "));
    let parent = Source { name: "nested.yaml".into(), text: format!("{}  - id: part\n    type: runbook\n{each}", head("nested")).into() };
    let library = BTreeMap::from([("chain.yaml".to_owned(), chain(steps, "{}"))]);
    let (runbook, problems) = load(&parent, &library);
    runbook.filter(|_| problems.is_empty()).ok_or_else(|| Trouble(format!("the bench's runbook: {problems:?}")))
}

fn head(name: &str) -> String {
    format!("lifeboat: v1\nname: {name}\nsteps:\n")
}

/// The plan of a text.
pub(crate) fn planned(text: &str, registry: &Registry, inventory: &Inventory) -> Result<Plan> {
    let source = Source { name: "bench".into(), text: text.into() };
    let (runbook, problems) = parse(&source);
    let runbook = runbook.ok_or_else(|| Trouble(format!("the bench's runbook: {problems:?}")))?;
    bound(&runbook, registry, inventory)
}

/// The plan of a runbook that was read.
pub(crate) fn bound(runbook: &Runbook, registry: &Registry, inventory: &Inventory) -> Result<Plan> {
    plan(runbook, &PlanRequest::default(), registry, inventory).map_err(|problems| Trouble(format!("the bench's plan: {problems:?}")))
}
