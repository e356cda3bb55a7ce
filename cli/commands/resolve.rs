//! `lifeboat resolve`: a person's decision about a step that is held or has failed, or about the locks of a stuck run.

use lifeboat_engine::journal::Resolution;
use lifeboat_engine::steering::Command;
use serde_json::{Map, Value};

use super::answer;
use crate::args::{Decision, Global, ResolveArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, say};

pub(crate) async fn run(global: &Global, args: &ResolveArgs) -> Result<Exit, Trouble> {
    let command = match (&args.step, args.decision) {
        (Some(step), Some(decision)) => {
            Command::Resolve { step: answer::step(step)?, resolution: resolution(decision, &args.outputs)?, comment: args.comment.clone() }
        }
        (_, _) => Command::Release { comment: args.comment.clone() },
    };
    let desk = Desk::open(global)?;
    let id = desk.find(Some(&args.run)).await?;
    desk.steer(&id, command.clone()).await?;
    match command {
        Command::Release { .. } => say(&format!("the locks of run {id} are released")),
        Command::Resolve { .. } | Command::Approve { .. } | Command::Deny { .. } | Command::Cancel { .. } => {
            say(&format!("your decision is journaled in run {id}"));
            answer::at_rest(&desk, &id);
        }
    }
    Ok(Exit::Done)
}

fn resolution(decision: Decision, outputs: &[String]) -> Result<Resolution, Trouble> {
    if decision != Decision::Done && !outputs.is_empty() {
        return Err(Trouble::usage("--output is for a step that is done"));
    }
    Ok(match decision {
        Decision::Done => Resolution::Done { outputs: Value::Object(values(outputs)?) },
        Decision::Retry => Resolution::Retry,
        Decision::Skip => Resolution::Skip,
        Decision::GiveUp => Resolution::GiveUp,
    })
}

fn values(outputs: &[String]) -> Result<Map<String, Value>, Trouble> {
    let mut values = Map::new();
    for pair in outputs {
        let (name, text) = pair
            .split_once('=')
            .ok_or_else(|| Trouble::usage(format!("--output {pair:?} has no value")).help("write --output name=value"))?;
        // What is not JSON is plain text: nobody should have to quote a name twice.
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        if values.insert(name.to_owned(), value).is_some() {
            return Err(Trouble::usage(format!("--output {name} is given twice")));
        }
    }
    Ok(values)
}
