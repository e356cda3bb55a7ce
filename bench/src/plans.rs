//! Plans of the bench, made from runbook text as a person's would be.

use std::fmt::Write as _;

use lifeboat_engine::Registry;
use lifeboat_engine::inventory::Inventory;
use lifeboat_runbooks::diagnostic::Source;
use lifeboat_runbooks::plan::Plan;
use lifeboat_runbooks::{PlanRequest, parse, plan};

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

fn head(name: &str) -> String {
    format!("lifeboat: v1\nname: {name}\nsteps:\n")
}

/// The plan of a text.
pub(crate) fn planned(text: &str, registry: &Registry, inventory: &Inventory) -> Result<Plan> {
    let source = Source { name: "bench".into(), text: text.into() };
    let (runbook, problems) = parse(&source);
    let runbook = runbook.ok_or_else(|| Trouble(format!("the bench's runbook: {problems:?}")))?;
    plan(&runbook, &PlanRequest::default(), registry, inventory).map_err(|problems| Trouble(format!("the bench's plan: {problems:?}")))
}
