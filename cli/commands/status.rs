//! `lifeboat status`: how a run stands, what it waits for, and the commands that help.

use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::journal::Outcome;
use lifeboat_engine::predict;
use lifeboat_engine::run::RunPhase;
use lifeboat_server::control::RunSummary;
use serde_json::json;

use crate::args::{Format, Global, StatusArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print};
use crate::{render, wiring};

pub(crate) async fn run(global: &Global, args: &StatusArgs) -> Result<Exit, Trouble> {
    let desk = Desk::look(global)?;
    desk.warn().await?;
    let id = desk.find(args.run.as_deref()).await?;
    let run = desk.run(&id).await?;
    let summary = RunSummary::of(&run);
    match args.format {
        Format::Text => {
            // What was never timed, or cannot be read, is no reason to show less of the run.
            let proofs = desk.proofs(&run.plan.runbook).await.unwrap_or_default();
            let left = predict::left(&run, &proofs, SystemClock.now());
            let left = left.map(|left| render::status::left(&run, &left, SystemClock.now()));
            print(&render::status::text(&run, &summary, desk.driver(), &wiring::hint(global), left.as_deref()))?;
            for notice in desk.notices() {
                print(&format!("note: {notice}\n"))?;
            }
        }
        Format::Json => {
            let steps: Vec<_> = run
                .plan
                .steps
                .iter()
                .chain(&run.plan.finally)
                .map(|step| {
                    let record = run.steps.get(&step.id);
                    json!({ "id": step.id, "type": step.step_type, "state": run.state(&step.id), "attempts": record.map_or(0, |r| r.attempts), "why": record.and_then(|r| r.why.clone()) })
                })
                .collect();
            print(&format!(
                "{:#}\n",
                json!({ "summary": render::runs::document(&summary, desk.driver()), "steps": steps, "notices": desk.notices() })
            ))?;
        }
    }
    let waits = !summary.waiting.is_empty() || run.outcome == Some(Outcome::Stuck);
    Ok(desk.exit(match (run.phase, run.outcome) {
        (_, _) if waits => Exit::Waiting,
        (RunPhase::Ended, Some(Outcome::Failed | Outcome::Undone | Outcome::Cancelled)) => Exit::RunFailed,
        (_, _) => Exit::Done,
    }))
}
