//! `lifeboat resolve`: a person's decision about a step that is held or has failed, or about the locks of a stuck run.

use std::fmt::Write as _;

use lifeboat_engine::StepId;
use lifeboat_engine::journal::Resolution;
use lifeboat_engine::run::Run;
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::catalog::Catalog;
use serde_json::{Map, Value};

use super::answer;
use crate::args::{Decision, Global, ResolveArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, say};
use crate::render::steps::Need;
use crate::{render, wiring};

pub(crate) async fn run(global: &Global, args: &ResolveArgs) -> Result<Exit, Trouble> {
    let command = match (&args.step, args.decision) {
        (Some(step), Some(decision)) => {
            Command::Resolve { step: answer::step(step)?, resolution: resolution(decision, &args.outputs)?, comment: args.comment.clone() }
        }
        (_, _) => Command::Release { comment: args.comment.clone() },
    };
    let desk = Desk::open(global)?;
    let id = desk.find(Some(&args.run)).await?;
    match (desk.try_steer(&id, command.clone()).await?, &command) {
        (Ok(()), _) => {}
        (Err(SteerError::Unfit(why)), Command::Resolve { step, resolution: Resolution::Done { outputs }, comment })
            if !comment.trim().is_empty() =>
        {
            return Err(unfit(global, &desk.run(&id).await?, step, outputs, &why));
        }
        (Err(error), _) => return Err(Trouble::refused(error.to_string())),
    }
    match command {
        Command::Release { .. } => say(&format!("the locks of run {id} are released")),
        Command::Resolve { .. }
        | Command::Approve { .. }
        | Command::Deny { .. }
        | Command::Cancel { .. }
        | Command::Pause { .. }
        | Command::Continue { .. } => {
            say(&format!("your decision is journaled in run {id}"));
            answer::at_rest(&desk, &id);
        }
    }
    Ok(Exit::Done)
}

/// What a step that is called done must give, all at once, and the command to fill in.
fn unfit(global: &Global, run: &Run, step: &StepId, given: &Value, why: &str) -> Trouble {
    let registry = lifeboat_steps::registry();
    let Some(info) = run.plan.step(step).and_then(|planned| registry.step_type(&planned.step_type)) else {
        return Trouble::refused(why.to_owned());
    };
    let mut words = format!("{} resolve {} {step} done", wiring::hint(global), run.id);
    let mut help = format!("a {} that is done has these outputs:\n", info.name);
    for (name, kind, need) in render::steps::outputs(info) {
        let _ = writeln!(help, "         {name}: {kind}{}", if need == Need::Optional { " (may be left out)" } else { "" });
        let value = match given.get(&name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None if need == Need::Optional => continue,
            None => "...".into(),
        };
        let _ = write!(words, " --output {}", wiring::word(&format!("{name}={value}")));
    }
    let _ = write!(help, "       fill in and say why:\n         {words} --comment \"...\"");
    Trouble::refused(why.to_owned()).help(help)
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
