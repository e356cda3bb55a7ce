//! `lifeboat run`: plan, preflight, admission, then the run in the foreground.

use jiff::Timestamp;
use lifeboat_engine::admission::{self, AdmissionError};
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::journal::Incident;
use lifeboat_engine::ports::Ports;
use lifeboat_engine::preflight::{Answer, preflight};
use lifeboat_engine::run::DRILL;
use lifeboat_runbooks::plan::Plan;
use lifeboat_server::control::{Client, Reply, Request, actor_of, this_user};
use lifeboat_store::StoreError;

use super::drive::{self, Waiting};
use crate::args::{Global, RunArgs};
use crate::exit::{Exit, Trouble, say};
use crate::{render, wiring};

pub(crate) async fn run(global: &Global, args: &RunArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let plan = wiring::plan(global, &args.runbook, &registry, &inventory)?;
    // Whoever types `run` calls it a disaster, and from here on the clock of the declared recovery time runs.
    let declared_at = Some(SystemClock.now()).filter(|_| plan.mode != DRILL);
    let incident = Incident { declared_at, ..incident(args.outage_began.as_deref(), SystemClock.now())? };
    let store = match wiring::open_store(&global.data) {
        Ok(store) => store,
        Err(error @ StoreError::InUse { .. }) => return Err(taken(global, &plan, &error).await),
        Err(error) => return Err(wiring::open_trouble(&global.data, &error)),
    };
    let ports = wiring::ports(store, registry, inventory);
    refuse_locked(&plan, &ports).await?;
    check_readiness(&plan, &ports).await?;
    let owner = wiring::owner();
    let by = actor_of(&this_user(), "terminal", &ports.inventory);
    let admitted = admission::admit(&ports, plan, &owner, by, incident, wiring::chance()).await.map_err(|error| match error {
        AdmissionError::Locked { resource, holder } => locked(&resource, holder.as_str()),
        AdmissionError::Store(error) => wiring::store_trouble(&error),
        AdmissionError::Plan(_) => Trouble::from_error(Exit::Engine, &error),
    })?;
    say(&format!("run {} is admitted; it goes on after any interruption with `lifeboat resume`", admitted.run.id));
    let waiting = if args.no_wait { Waiting::Leave } else { Waiting::Stay };
    drive::drive(global, ports, owner, admitted.run, admitted.next, waiting, args.format).await
}

/// Two instants around the end of service, as a monitor or a person saw them.
fn incident(outage: Option<&str>, now: Timestamp) -> Result<Incident, Trouble> {
    let Some(text) = outage else { return Ok(Incident::default()) };
    let wrong = |why: String| {
        Trouble::usage(format!("--outage-began {text:?}: {why}"))
            .help("write for example --outage-began 2026-11-22T03:14:05Z,2026-11-22T03:14:06Z")
    };
    let (earliest, latest) = text.split_once(',').ok_or_else(|| wrong("two instants with a comma between are needed".into()))?;
    let read = |part: &str| part.trim().parse::<Timestamp>().map_err(|error| wrong(error.to_string()));
    let (earliest, latest) = (read(earliest)?, read(latest)?);
    if latest < earliest {
        return Err(wrong("the second instant is before the first".into()));
    }
    // An outage that has not begun would be reported as no outage at all.
    if latest > now {
        return Err(wrong(format!("{latest} is in the future; it is {} now", now.strftime("%Y-%m-%dT%H:%M:%SZ"))));
    }
    Ok(Incident { outage_began: Some((earliest, latest)), ..Incident::default() })
}

/// The same answer that admission gives, before the preflight asks anything.
async fn refuse_locked(plan: &Plan, ports: &Ports) -> Result<(), Trouble> {
    for lock in admission::locks(plan) {
        let (holder, _) = lifeboat_engine::history::lock_holder(ports.store.as_ref(), &lock.resource)
            .await
            .map_err(|error| wiring::store_trouble(&error))?;
        if let Some(holder) = holder {
            return Err(locked(&lock.resource, holder.as_str()));
        }
    }
    Ok(())
}

fn locked(resource: &str, holder: &str) -> Trouble {
    Trouble::refused(format!("{resource} is locked by run {holder}, which has not ended")).help(format!(
        "look at it with `lifeboat status {holder}`; go on with it by `lifeboat resume {holder}`, or end it with `lifeboat cancel`"
    ))
}

async fn check_readiness(plan: &Plan, ports: &Ports) -> Result<(), Trouble> {
    let readiness = preflight(plan, ports).await;
    if readiness.iter().all(|step| !matches!(step.answer, Answer::Refused(_))) {
        return Ok(());
    }
    say(render::plan::refusals(&readiness).trim_end());
    Err(Trouble::refused("nothing was started, because not every step may start").help("`lifeboat plan` shows the evidence of every step"))
}

/// The data folder has an owner: say what it does, and whether this run is in its way.
async fn taken(global: &Global, plan: &Plan, error: &StoreError) -> Trouble {
    let client = Client::new(&global.data);
    if let Ok(Reply::Runs(listing)) = client.ask(&Request::Runs).await {
        let wanted = admission::locks(plan);
        for run in &listing.runs {
            if let Some(lock) = run.locks.iter().find(|lock| wanted.iter().any(|want| want.resource == lock.resource)) {
                return locked(&lock.resource, run.run.as_str());
            }
        }
    }
    wiring::store_trouble(error)
}
