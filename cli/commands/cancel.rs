//! `lifeboat cancel`: nothing more is started.

use lifeboat_engine::steering::Command;

use super::answer;
use crate::args::{CancelArgs, Global};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, say};

pub(crate) async fn run(global: &Global, args: &CancelArgs) -> Result<Exit, Trouble> {
    let desk = Desk::open(global)?;
    let id = desk.find(Some(&args.run)).await?;
    desk.steer(&id, Command::Cancel { comment: args.comment.clone() }).await?;
    say(&format!("run {id} is being cancelled: steps that are acting end first"));
    answer::at_rest(&desk, &id);
    Ok(Exit::Done)
}
