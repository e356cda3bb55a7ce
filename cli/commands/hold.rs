//! `lifeboat pause` and `lifeboat continue`: hold one run for a while, and let it go on.

use lifeboat_engine::steering::Command;

use super::answer;
use crate::args::{Global, HoldArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, say};
use crate::wiring;

pub(crate) async fn pause(global: &Global, args: &HoldArgs) -> Result<Exit, Trouble> {
    let desk = Desk::open(global)?;
    let id = desk.find(Some(&args.run)).await?;
    desk.steer(&id, Command::Pause { comment: args.comment.clone() }).await?;
    say(&format!("run {id} is paused: nothing starts and nothing is undone; steps that are acting go on to their end"));
    say(&format!("`{} continue {id} --comment \"...\"` lets it go on", wiring::hint(global)));
    Ok(Exit::Done)
}

pub(crate) async fn go_on(global: &Global, args: &HoldArgs) -> Result<Exit, Trouble> {
    let desk = Desk::open(global)?;
    let id = desk.find(Some(&args.run)).await?;
    desk.steer(&id, Command::Continue { comment: args.comment.clone() }).await?;
    say(&format!("run {id} is no longer paused"));
    answer::at_rest(&desk, &id);
    Ok(Exit::Done)
}
