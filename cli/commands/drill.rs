//! `lifeboat drill`: runs a runbook in the mode `drill`, and says pass or fail against what it promises.

use lifeboat_engine::history;
use lifeboat_engine::journal::Incident;
use lifeboat_engine::run::DRILL;

use super::begin::begin;
use super::drive::{self, Waiting};
use crate::args::{DrillArgs, Format, Global, RunbookArgs};
use crate::exit::{Exit, Trouble, say};
use crate::wiring;

pub(crate) async fn run(global: &Global, args: &DrillArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let runbook = RunbookArgs { file: args.file.clone(), mode: Some(DRILL.to_owned()), inputs: args.inputs.clone() };
    let plan = wiring::plan(global, &runbook, &registry, &inventory)?;
    let (ports, owner, admitted) = begin(global, plan, registry, inventory, Incident::default()).await?;
    let id = admitted.run.id.clone();
    say(&format!("drill {id} is admitted; it puts everything back, also after an interruption with `lifeboat resume`"));
    let waiting = if args.no_wait { Waiting::Leave } else { Waiting::Stay };
    let store = std::sync::Arc::clone(&ports.store);
    let exit = drive::drive(global, ports, owner, admitted.run, admitted.next, waiting, args.format).await?;
    let loaded = history::load(store.as_ref(), &id).await.map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
    let report = lifeboat_report::judge(&loaded.run.plan, &loaded.entries).map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
    match (&report.drill, args.format) {
        // Its report was printed; in a pipe of programs the last word is the exit code.
        (Some(drill), Format::Text | Format::Json) if exit == Exit::Done && !drill.passed => Ok(Exit::RunFailed),
        (_, _) => Ok(exit),
    }
}
