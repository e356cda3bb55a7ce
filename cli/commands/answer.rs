//! `lifeboat approve` and `lifeboat deny`: a person's answer to a step that asks.

use lifeboat_engine::StepId;
use lifeboat_engine::run::Run;
use lifeboat_engine::steering::Command;

use crate::args::{AnswerArgs, Global};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, say};
use crate::render;

pub(crate) async fn approve(global: &Global, args: &AnswerArgs) -> Result<Exit, Trouble> {
    let step = step(&args.step)?;
    let (desk, id, run) = look(global, args).await?;
    if let Some(ask) = run.steps.get(&step).and_then(|record| record.ask.as_ref()) {
        say(render::status::shown(ask).trim_end());
    }
    desk.steer(&id, Command::Approve { step: step.clone(), comment: args.comment.clone() }).await?;
    say(&format!("your yes to {step} of run {id} is journaled"));
    at_rest(&desk, &id);
    Ok(Exit::Done)
}

pub(crate) async fn deny(global: &Global, args: &AnswerArgs) -> Result<Exit, Trouble> {
    let step = step(&args.step)?;
    let (desk, id, _) = look(global, args).await?;
    desk.steer(&id, Command::Deny { step: step.clone(), comment: args.comment.clone() }).await?;
    say(&format!("your no to {step} of run {id} is journaled"));
    at_rest(&desk, &id);
    Ok(Exit::Done)
}

async fn look(global: &Global, args: &AnswerArgs) -> Result<(Desk, lifeboat_engine::RunId, Run), Trouble> {
    let desk = Desk::open(global)?;
    let id = desk.find(Some(&args.run)).await?;
    let run = desk.run(&id).await?;
    Ok((desk, id, run))
}

pub(crate) fn step(text: &str) -> Result<StepId, Trouble> {
    StepId::new(text).map_err(Trouble::usage)
}

/// Nobody drives the run: say what makes the answer count.
pub(crate) fn at_rest(desk: &Desk, id: &lifeboat_engine::RunId) {
    if matches!(desk, Desk::Here { .. }) {
        say(&format!("no process drives this run now; `lifeboat resume {id}` goes on with it"));
    }
}
