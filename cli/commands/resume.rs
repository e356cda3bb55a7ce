//! `lifeboat resume`: takes over a run whose process is gone.

use lifeboat_engine::history::{self, Loaded};
use lifeboat_engine::journal::RunId;
use lifeboat_engine::ports::{OwnerId, Ports};
use lifeboat_engine::resume::{self, Patience, ResumeError};

use super::drive::{self, Waiting};
use crate::args::{Global, ResumeArgs};
use crate::exit::{Exit, Trouble, say};
use crate::wiring;

pub(crate) async fn run(global: &Global, args: &ResumeArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    if !global.data.exists() && inventory.store.etcd.is_none() {
        return Err(
            Trouble::usage(format!("there is no data folder {}", global.data.display())).help("say where runs are kept with --data DIR")
        );
    }
    let store = wiring::open_store(global, &inventory).map_err(|error| wiring::open_trouble(&global.data, &error))?;
    let store = wiring::witnessed(store, &inventory, &global.data)?;
    let ports = wiring::ports(store, registry, inventory);
    let id = which(&ports, args.run.as_deref()).await?;
    let owner = wiring::owner();
    let loaded = claim(&ports, &owner, &id, args).await.map_err(|error| match error {
        ResumeError::Ended(_) => Trouble::from_error(Exit::Refused, &error).help(format!("`lifeboat report {id}` tells how it ended")),
        ResumeError::OtherVersion { .. } => {
            Trouble::from_error(Exit::Engine, &error).help("use the lifeboat that admitted the run; its journal was not touched")
        }
        ResumeError::Store(error) => wiring::store_trouble(&error),
        ResumeError::Driven { .. } => Trouble::from_error(Exit::Refused, &error)
            .help(format!("it lives; ask there, or stand by to follow it with `lifeboat resume {id} --wait`")),
        ResumeError::History(_) | ResumeError::Overtaken(_) | ResumeError::Claim { .. } => Trouble::from_error(Exit::Engine, &error),
    })?;
    say(&format!("run {id} is taken over; what was under way is looked at before anything is repeated"));
    let waiting = if args.no_wait { Waiting::Leave } else { Waiting::Stay };
    drive::drive(global, ports, owner, loaded.run, loaded.next, waiting, args.format).await
}

/// A run that another process holds is waited for: as long as a lease lasts, or, to stand by, until it is free.
async fn claim(ports: &Ports, owner: &OwnerId, id: &RunId, args: &ResumeArgs) -> Result<Loaded, ResumeError> {
    match resume::claim(ports, owner, id).await {
        Err(ResumeError::Driven { by, .. }) => {
            let patience = if args.wait { Patience::ForEver } else { Patience::OneLease };
            say(&match patience {
                Patience::ForEver => format!("process {by} drives run {id}; standing by to take it over"),
                Patience::OneLease => format!("process {by} holds run {id}; waiting whether its lease ends"),
            });
            resume::claim_when_free(ports, owner, id, patience).await
        }
        answer => answer,
    }
}

async fn which(ports: &Ports, name: Option<&str>) -> Result<RunId, Trouble> {
    let open = history::open_runs(ports.store.as_ref()).await.map_err(|error| wiring::store_trouble(&error))?;
    let listed = |runs: &[RunId]| runs.iter().map(RunId::as_str).collect::<Vec<_>>().join(", ");
    match name {
        None => match open.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Trouble::refused("no run is unfinished; there is nothing to resume")),
            many => Err(Trouble::usage(format!("{} runs are unfinished: {}", many.len(), listed(many))).help("say which")),
        },
        Some(name) => {
            let all = history::list(ports.store.as_ref()).await.map_err(|error| wiring::store_trouble(&error))?;
            let fits: Vec<RunId> = all.into_iter().filter(|run| run.as_str().ends_with(name)).collect();
            match fits.as_slice() {
                [only] => Ok(only.clone()),
                [] => {
                    Err(Trouble::usage(format!("there is no run {name:?}")).help("`lifeboat runs` lists them; the end of a name is enough"))
                }
                many => Err(Trouble::usage(format!("{name:?} fits {}", listed(many)))),
            }
        }
    }
}
