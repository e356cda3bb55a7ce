//! `lifeboat watch`: follows a run that another process drives, live, and changes nothing. Leaving it leaves the run alone.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::RunId;
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::journal::{Entry, Outcome};
use lifeboat_engine::run::{Run, RunPhase};
use tokio::signal::ctrl_c;

use super::drive::ended_as;
use crate::args::{Format, Global, WatchArgs};
use crate::desk::Desk;
use crate::exit::{Exit, Trouble, print, say};
use crate::render::Driver;
use crate::render::progress::Progress;
use crate::wiring;

/// How often the driving process is asked what happened.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Looks at the folder after its process is gone, before giving up.
const LAST_LOOKS_MAX: u32 = 10;

pub(crate) async fn run(global: &Global, args: &WatchArgs) -> Result<Exit, Trouble> {
    let desk = Desk::follow(global)?;
    let id = desk.find(args.run.as_deref()).await?;
    let (plan, entries) = desk.journal(&id).await?;
    let proofs = desk.proofs(&plan.runbook).await.unwrap_or_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut seen = Seen { run: Run::new(id.clone(), Arc::new(plan)), entries: 0 };
    seen.take(&entries)?;
    if args.format == Format::Json {
        entries.iter().try_for_each(document)?;
    }
    let mut progress = (args.format == Format::Text)
        .then(|| Progress::new(seen.run.clone(), proofs, Arc::clone(&clock), wiring::command(global), global.color));
    say(&format!("run {id} of {} is {}; Ctrl-C leaves it alone", seen.run.plan.runbook, seen.run.phase.word()));
    if let Some(progress) = &mut progress {
        progress.begin();
    }
    // Who has the folder to itself would keep others from going on with the run, and knows that nobody drives it.
    let followed = match desk.driver() {
        Driver::Gone => None,
        Driver::Alive => Some(desk),
    };
    let ended = loop {
        if seen.run.phase == RunPhase::Ended {
            break Ended::ByItself;
        }
        let Some(desk) = &followed else { break Ended::Undriven };
        tokio::select! {
            () = clock.sleep(ASK_EVERY) => {}
            _ = ctrl_c() => break Ended::Left,
        }
        // The process may have ended together with the run: then the folder tells the rest.
        let Ok((_, entries)) = desk.journal(&id).await else { break Ended::Undriven };
        let fresh = entries.get(seen.entries..).unwrap_or_default().to_vec();
        seen.take(&fresh)?;
        tell(&mut progress, &fresh)?;
    };
    if ended == Ended::Undriven && followed.is_some() {
        drop(followed);
        let entries = last_look(global, &id, clock.as_ref()).await?;
        let fresh = entries.get(seen.entries..).unwrap_or_default().to_vec();
        seen.take(&fresh)?;
        tell(&mut progress, &fresh)?;
    }
    if let Some(progress) = &mut progress {
        progress.finish();
    }
    let command = wiring::command(global);
    match (ended, seen.run.outcome) {
        (_, Some(outcome)) => {
            say(&format!("run {id} {}; `{command} report {id}` tells what it achieved", ended_as(outcome)));
            Ok(match outcome {
                Outcome::Succeeded => Exit::Done,
                Outcome::Failed | Outcome::Undone | Outcome::Cancelled => Exit::RunFailed,
                Outcome::Stuck => Exit::Waiting,
            })
        }
        (Ended::Left, None) => {
            say(&format!("run {id} goes on without being watched; `{command} watch {id}` follows it again"));
            Ok(Exit::Waiting)
        }
        (Ended::ByItself | Ended::Undriven, None) => {
            say(&format!("no process drives run {id} any more; `{command} resume {id}` goes on with it"));
            Ok(Exit::Waiting)
        }
    }
}

/// What the folder holds once nobody drives the run. Another who watched may be looking at the same moment.
async fn last_look(global: &Global, id: &RunId, clock: &dyn Clock) -> Result<Vec<Entry>, Trouble> {
    let mut looks = 0;
    loop {
        looks += 1;
        let looked = match Desk::follow(global) {
            Ok(desk) => desk.journal(id).await,
            Err(trouble) => Err(trouble),
        };
        match looked {
            Ok((_, entries)) => return Ok(entries),
            Err(trouble) if looks == LAST_LOOKS_MAX => return Err(trouble),
            Err(_) => clock.sleep(ASK_EVERY).await,
        }
    }
}

/// Why watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The run did.
    ByItself,
    /// Nobody drives it.
    Undriven,
    /// Whoever watched had enough.
    Left,
}

/// What was seen of the run.
struct Seen {
    run: Run,
    entries: usize,
}

impl Seen {
    fn take(&mut self, fresh: &[Entry]) -> Result<(), Trouble> {
        for entry in fresh {
            self.run.apply(entry).map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
        }
        self.entries += fresh.len();
        Ok(())
    }
}

fn tell(progress: &mut Option<Progress>, fresh: &[Entry]) -> Result<(), Trouble> {
    match progress {
        Some(progress) => {
            fresh.iter().for_each(|entry| progress.entry(entry));
            progress.tick();
            Ok(())
        }
        None => fresh.iter().try_for_each(document),
    }
}

/// One entry of the journal, on a line of its own.
fn document(entry: &Entry) -> Result<(), Trouble> {
    let line = serde_json::to_string(entry).map_err(|error| Trouble::engine(format!("an entry cannot be shown: {error}")))?;
    print(&format!("{line}\n"))
}
