//! From a plan to an admitted run: the data folder, whoever is in the way, the preflight, admission. What is started, and how, is said
//! by `run` and `drill`.

use std::time::Duration;

use lifeboat_engine::admission::{self, AdmissionError, Admitted};
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::journal::{Incident, Lock, RunId};
use lifeboat_engine::ports::Ports;
use lifeboat_engine::preemption::{self, PREEMPT_WITHIN_DEFAULT, Wanter};
use lifeboat_engine::preflight::{StepReadiness, preflight};
use lifeboat_engine::run::DRILL;
use lifeboat_engine::{Inventory, Period, Registry};
use lifeboat_runbooks::plan::Plan;
use lifeboat_server::control::{Client, Reply, Request, actor_of, this_user};
use lifeboat_store::{OwnerId, Store, StoreError};
use std::sync::Arc;

use crate::args::Global;
use crate::exit::{Exit, Trouble, say};
use crate::{render, wiring};

/// How often the data folder is tried while its owner makes way.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Opens the folder, clears the way, asks every step, and admits the run.
pub(crate) async fn begin(
    global: &Global,
    plan: Plan,
    registry: Registry,
    inventory: Inventory,
    incident: Incident,
) -> Result<(Ports, OwnerId, Admitted), Trouble> {
    let run = admission::run_id(&plan, SystemClock.now(), wiring::chance()).map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
    let locks = admission::locks(&plan);
    let within = inventory.policies.preempt_within.map_or(PREEMPT_WITHIN_DEFAULT, |within| within.0);
    let wish = Wish { run: &run, mode: &plan.mode, locks: &locks, within };
    let store = open(global, &inventory, wish).await?;
    let store = wiring::witnessed(store, &inventory, &global.data)?;
    let ports = wiring::ports(store, registry, inventory);
    // Said before the preflight asks anything, and once more by admission itself.
    admission::has_room(&ports).await.map_err(|error| not_admitted(global, error))?;
    let owner = wiring::owner();
    clear(global, &ports, &owner, wish).await?;
    check_readiness(&plan, &ports).await?;
    let by = actor_of(&this_user(), "terminal", &ports.inventory);
    let admitted = admission::admit_as(&ports, run, plan, &owner, by, incident).await.map_err(|error| not_admitted(global, error))?;
    Ok((ports, owner, admitted))
}

/// What a run that is not admitted yet needs from others.
#[derive(Clone, Copy)]
struct Wish<'a> {
    run: &'a RunId,
    mode: &'a str,
    locks: &'a [Lock],
    within: Duration,
}

/// The data folder, after its owner made way where it does.
async fn open(global: &Global, inventory: &Inventory, wish: Wish<'_>) -> Result<Arc<dyn Store>, Trouble> {
    let in_use = match wiring::open_store(global, inventory) {
        Ok(store) => return Ok(store),
        Err(error @ StoreError::InUse { .. }) => error,
        Err(error) => return Err(wiring::open_trouble(&global.data, &error)),
    };
    let holders = if wish.mode == DRILL { Vec::new() } else { ask(global, wish).await };
    let Some(holder) = holders.first() else { return Err(taken(global, wish.locks, &in_use).await) };
    say(&format!("run {holder} has the data folder and makes way; waiting up to {}", Period(wish.within)));
    let ends_at = SystemClock.instant().after(wish.within);
    loop {
        SystemClock.sleep(TRY_AGAIN_AFTER).await;
        match wiring::open_store(global, inventory) {
            Ok(store) => return Ok(store),
            Err(StoreError::InUse { .. }) if SystemClock.instant() < ends_at => {}
            Err(StoreError::InUse { .. }) => {
                return Err(not_in_time(global, &format!("run {holder} has the data folder"), holder, wish.within));
            }
            Err(error) => return Err(wiring::open_trouble(&global.data, &error)),
        }
    }
}

/// Asks the process that has the folder to turn its runs back; gives those that do.
async fn ask(global: &Global, wish: Wish<'_>) -> Vec<RunId> {
    let request = Request::MakeWay { by: wish.run.clone(), mode: wish.mode.to_owned(), locks: wish.locks.to_vec() };
    match Client::new(&global.data).ask(&request).await {
        Ok(Reply::MakesWay(runs)) => runs,
        // An owner without a socket, or one that answers nothing, does not make way.
        Ok(
            Reply::Proofs(_)
            | Reply::Runs(_)
            | Reply::Names(_)
            | Reply::Journal { .. }
            | Reply::Done
            | Reply::Refused(_)
            | Reply::Failed(_),
        )
        | Err(_) => Vec::new(),
    }
}

/// Runs at rest in this folder have nobody else to turn them back.
async fn clear(global: &Global, ports: &Ports, owner: &OwnerId, wish: Wish<'_>) -> Result<(), Trouble> {
    let wanter =
        Wanter { run: wish.run, mode: wish.mode, locks: wish.locks, within: wish.within, is_driven: &|_| false, tell: &|words| say(words) };
    preemption::make_way(ports, owner, wanter).await.map_err(|error| not_admitted(global, error))
}

fn not_admitted(global: &Global, error: AdmissionError) -> Trouble {
    let lifeboat = wiring::hint(global);
    match error {
        AdmissionError::Locked { resource, holder } => locked(&resource, holder.as_str()),
        AdmissionError::StillLocked { resource, holder, within } => {
            not_in_time(global, &format!("{resource} is locked by run {holder}"), &holder, within)
        }
        AdmissionError::NoWay { ref holder, .. } => {
            let help = format!("go on with it by `{lifeboat} resume {holder}`, or end it with `{lifeboat} cancel {holder}`");
            Trouble::refused(error.to_string()).help(help)
        }
        AdmissionError::Wanted { ref by, .. } => Trouble::refused(error.to_string())
            .help(format!("drills and backups make way for live runs; `{lifeboat} status {by}` shows that one once it is admitted")),
        AdmissionError::NoRoom { .. } => Trouble::from_error(Exit::Refused, &error)
            .help("make room, or move finished runs to another disk with `lifeboat store compact --archive DIR`; `policies.disk` in the inventory sets the limits"),
        AdmissionError::Store(error) => wiring::store_trouble(&error),
        AdmissionError::Plan(_) => Trouble::from_error(Exit::Engine, &error),
    }
}

fn not_in_time(global: &Global, what: &str, holder: &RunId, within: Duration) -> Trouble {
    let lifeboat = wiring::hint(global);
    Trouble::refused(format!("{what}, which was asked to make way and has not done so within {}; nothing was started", Period(within)))
        .help(format!("it still turns back: `{lifeboat} status {holder}` shows how far it is; then give the same command again"))
}

fn locked(resource: &str, holder: &str) -> Trouble {
    Trouble::refused(format!("{resource} is locked by run {holder}, which has not ended")).help(format!(
        "look at it with `lifeboat status {holder}`; go on with it by `lifeboat resume {holder}`, or end it with `lifeboat cancel {holder}`"
    ))
}

async fn check_readiness(plan: &Plan, ports: &Ports) -> Result<(), Trouble> {
    let readiness = preflight(plan, ports).await;
    if !readiness.iter().any(StepReadiness::refuses) {
        return Ok(());
    }
    say(render::plan::refusals(&readiness).trim_end());
    Err(Trouble::refused("nothing was started, because not every step may start and could be taken back")
        .help("`lifeboat plan` shows the evidence of every step"))
}

/// The data folder has an owner that does not make way: say what it does, and whether this run is in its way.
async fn taken(global: &Global, wanted: &[Lock], error: &StoreError) -> Trouble {
    let client = Client::new(&global.data);
    if let Ok(Reply::Runs(listing)) = client.ask(&Request::Runs).await {
        for run in &listing.runs {
            if let Some(lock) = run.locks.iter().find(|lock| wanted.iter().any(|want| want.resource == lock.resource)) {
                return locked(&lock.resource, run.run.as_str());
            }
        }
    }
    wiring::store_trouble(error)
}
