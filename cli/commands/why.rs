//! `lifeboat why`: why a run or a step stands where it stands, who can act, and what each decision would lead to.

use std::sync::Arc;

use lifeboat_engine::StepId;
use lifeboat_engine::journal::RunId;
use lifeboat_engine::run::Run;
use lifeboat_engine::why::explain;
use lifeboat_store::MemoryStore;
use serde_json::json;

use super::answer;
use crate::args::{Format, Global, WhyArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print};
use crate::{render, wiring};

pub(crate) async fn run(global: &Global, args: &WhyArgs) -> Result<Exit, Trouble> {
    let desk = Desk::open(global)?;
    let id = desk.find(args.run.as_deref()).await?;
    let run = desk.run(&id).await?;
    let step = args.step.as_deref().map(|text| known(&id, &run, text)).transpose()?;
    // What follows is foreseen on a copy: the journal was read already, and nothing is written anywhere.
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let ports = wiring::ports(Arc::new(MemoryStore::new()), registry, inventory);
    let why = explain(&run, step.as_ref(), &ports);
    match args.format {
        Format::Text => print(&render::why::text(&why, &run, desk.driver(), &wiring::hint(global)))?,
        Format::Json => print(&format!("{:#}\n", json!(why)))?,
    }
    Ok(Exit::Done)
}

/// The step that a person means; a slip is answered with the nearest one.
fn known(id: &RunId, run: &Run, text: &str) -> Result<StepId, Trouble> {
    let step = answer::step(text).ok().filter(|step| run.plan.step(step).is_some());
    step.ok_or_else(|| {
        let near = lifeboat_runbooks::nearest(text, run.plan.all_steps().map(|step| step.id.as_str()));
        let trouble = Trouble::usage(format!("the run has no step {text:?}"));
        match near {
            Some(near) => trouble.help(format!("did you mean `lifeboat why {id} {near}`?")),
            None => trouble.help(format!("`lifeboat status {id}` lists them")),
        }
    })
}
