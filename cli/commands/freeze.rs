//! `lifeboat freeze` and `lifeboat unfreeze`: what no run may change for now.

use std::num::NonZeroU32;

use lifeboat_server::control::{FreezeRequest, PageOf};

use crate::args::{FreezeArgs, Global};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, say};
use crate::wiring;

pub(crate) async fn freeze(global: &Global, args: &FreezeArgs) -> Result<Exit, Trouble> {
    let desk = Desk::open(global)?;
    desk.freeze(request(args)).await?;
    let (of, name) = words(args);
    say(&format!("{of} is frozen: no run changes it any more, not even to undo; steps that are acting go on to their end"));
    say("approvals still count; their time and the runs' deadlines stand still; the clock of the recovery time does not");
    say(&format!("`{} unfreeze{name} --comment \"...\"` lifts it", wiring::hint(global)));
    Ok(Exit::Done)
}

pub(crate) async fn unfreeze(global: &Global, args: &FreezeArgs) -> Result<Exit, Trouble> {
    let desk = Desk::open(global)?;
    desk.unfreeze(request(args)).await?;
    say(&format!("{} is no longer frozen", words(args).0));
    let others: Vec<String> =
        desk.page(PageOf { limit: NonZeroU32::MIN, before: None }).await?.freezes.iter().map(|freeze| freeze.of().to_owned()).collect();
    if !others.is_empty() {
        say(&format!("frozen still: {}", others.join(", ")));
    }
    Ok(Exit::Done)
}

fn request(args: &FreezeArgs) -> FreezeRequest {
    FreezeRequest { resource: args.resource.clone(), comment: args.comment.clone() }
}

/// What is meant, for people and as the rest of a command.
fn words(args: &FreezeArgs) -> (&str, String) {
    match &args.resource {
        Some(resource) => (resource, format!(" {resource}")),
        None => ("everything", String::new()),
    }
}
