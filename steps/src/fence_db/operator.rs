//! Fencing by the operator's own programs: what their exit codes mean. Which may be started, and how, is in `clients::process`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lifeboat_engine::context::Unwatched;
use lifeboat_engine::{Inventory, ReadContext, StepContext};

use crate::clients::process::{self, End, Launch, NotStarted, Program, Ran};
use crate::resources::database::{FenceCommand, FenceMethod, Node};

/// The operator's programs among a node's methods.
pub(super) fn commands(node: &Node) -> impl Iterator<Item = &FenceCommand> {
    node.fence.iter().filter_map(|method| match method {
        FenceMethod::Command(command) => Some(command),
        FenceMethod::PgCtl(_) | FenceMethod::Reject(_) => None,
    })
}

/// Why one of a node's programs may not be started, if that is so.
pub(super) fn forbidden(inventory: &Inventory, node: &Node) -> Option<String> {
    let words = commands(node).flat_map(|command| [&command.run, &command.check]);
    words.filter_map(|words| words.first()).find_map(|program| Program::allowed(inventory, Path::new(program)).err())
}

/// Carries the action out. `Err` says that it was not accepted, as far as the program tells.
pub(super) async fn run(cx: &StepContext, command: &FenceCommand) -> Result<(), String> {
    // What an earlier attempt left running must not act after this one.
    process::reap(cx).await;
    let cx = StepContext::new(limited(cx, command), Arc::new(Unwatched));
    let (program, args) = program(&cx, &command.run)?;
    accepted(process::act(&cx, launch(&program, args)).await)
}

/// Asks whether the machine is off. `Err` says that it is not, or that nobody knows.
pub(super) async fn check(cx: &ReadContext, command: &FenceCommand) -> Result<(), String> {
    let cx = limited(cx, command);
    let (program, args) = program(&cx, &command.check)?;
    accepted(process::look(&cx, launch(&program, args)).await)
}

fn program<'a>(cx: &ReadContext, words: &'a [String]) -> Result<(Program, &'a [String]), String> {
    let (program, args) = words.split_first().ok_or("no program is named")?;
    Ok((Program::allowed(&cx.inventory, Path::new(program))?, args))
}

fn launch<'a>(program: &'a Program, args: &'a [String]) -> Launch<'a> {
    Launch { program, args, env: BTreeMap::new(), secret_env: BTreeMap::new() }
}

/// A program has its own time, and never more than the step has.
fn limited(cx: &ReadContext, command: &FenceCommand) -> ReadContext {
    let mut limited = cx.clone();
    limited.deadline = cx.deadline.min(cx.clock.instant().after(command.timeout.0));
    limited
}

fn accepted(ran: Result<Ran, NotStarted>) -> Result<(), String> {
    let ran = ran.map_err(|error| error.to_string())?;
    let words = if ran.stderr.text.trim().is_empty() { ran.stdout.text.trim() } else { ran.stderr.text.trim() };
    match ran.end {
        End::Exit(0) => Ok(()),
        End::Exit(code) => Err(format!("exit code {code}: {words}")),
        End::Signal(signal) => Err(format!("it was ended by signal {signal}: {words}")),
        End::TimeUp => Err(format!("it did not end in time: {words}")),
    }
}
