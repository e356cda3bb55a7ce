//! `lifeboat run`: plan, preflight, admission, then the run in the foreground.

use jiff::Timestamp;
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::journal::Incident;
use lifeboat_engine::run::DRILL;

use super::begin::begin;
use super::drive::{self, Waiting};
use crate::args::{Global, RunArgs};
use crate::exit::{Exit, Trouble, say};
use crate::wiring;

pub(crate) async fn run(global: &Global, args: &RunArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let plan = wiring::plan(global, &args.runbook, &registry, &inventory)?;
    // Whoever types `run` calls it a disaster, and from here on the clock of the declared recovery time runs.
    let declared_at = Some(SystemClock.now()).filter(|_| plan.mode != DRILL);
    let incident = Incident { declared_at, ..incident(args.outage_began.as_deref(), SystemClock.now())? };
    let (ports, owner, admitted) = begin(global, plan, registry, inventory, incident).await?;
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
