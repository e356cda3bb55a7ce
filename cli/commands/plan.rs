//! `lifeboat plan`: what a run would do and whether each step may start. Asks the world, changes nothing, owns nothing.

use lifeboat_engine::preflight::{Answer, preflight};
use lifeboat_store::MemoryStore;
use serde_json::json;
use std::sync::Arc;

use crate::args::{Format, Global, PlanArgs};
use crate::exit::{Exit, Trouble, print};
use crate::{render, wiring};

pub(crate) async fn run(global: &Global, args: &PlanArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let plan = wiring::plan(global, &args.runbook, &registry, &inventory)?;
    // A plan needs no journal: whoever runs in the data folder is not disturbed.
    let ports = wiring::ports(Arc::new(MemoryStore::new()), registry, inventory);
    let readiness = preflight(&plan, &ports).await;
    match args.format {
        Format::Text => print(&render::plan::text(&plan, &readiness))?,
        Format::Json => print(&format!("{:#}\n", json!({ "plan": plan, "readiness": readiness })))?,
    }
    let refused = readiness.iter().any(|step| matches!(step.answer, Answer::Refused(_)));
    Ok(if refused { Exit::Refused } else { Exit::Done })
}
