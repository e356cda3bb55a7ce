//! Taking a fence back: what may be, in which order, and what the server says afterwards. Making one is in `methods`.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use lifeboat_engine::{Evidence, ReadContext, StepContext, StepError};
use serde_json::json;

use super::{FenceIntent, Fenced, StandbySignal, methods};
use crate::clients::postgres::files::{self, Processes};
use crate::clients::postgres::{NodeState, look, program};
use crate::measure_rpo::{database, node};
use crate::resources::database::{Database, Local, Node};

/// Longest wait for `pg_ctl`: a server that was stopped in the middle of its work recovers first.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How long a server that was opened again is given to answer as a primary.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// How often it is asked.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where a server that `pg_ctl` starts says what it has to say, in its data directory.
const LOG: &str = "lifeboat-start.log";

/// What a node was fenced by, as far as this step can have done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    /// By its own files: `pg_ctl` and `pg_hba.conf`.
    Local,
    /// Perhaps by an operator's program too.
    Program,
}

/// The methods up to the one that worked may have had an effect; where it is not known which did, all of them.
fn ways(intent: &FenceIntent, done: &Fenced) -> Ways {
    let last = done.method.as_ref().and_then(|method| intent.methods.iter().position(|known| known == method));
    let tried = &intent.methods[..last.map_or(intent.methods.len(), |last| last + 1)];
    if tried.iter().any(|method| method == "command") { Ways::Program } else { Ways::Local }
}

/// Opens the node again, if that is safe, and proves it by what it answers.
pub(super) async fn reopen(cx: &StepContext, db: &str, intent: &FenceIntent, done: &Fenced) -> Result<(), StepError> {
    let database = database(cx, db)?;
    let node = node(&database, db, &intent.node)?;
    let name = &intent.node;
    if intent.methods.is_empty() {
        // There was no way to fence it: what was seen, or accepted, was all there was.
        return Ok(());
    }
    if ways(intent, done) == Ways::Program {
        let why = format!(
            "{name} was fenced by a program of the operator's, or one was tried, and nothing says how that is taken back: start {name} by hand, then say so"
        );
        return Err(StepError::refused(why, Evidence::none()));
    }
    let Some(local) = &node.local else {
        return Err(StepError::refused(format!("the files of {name} are not on this machine any more"), Evidence::none()));
    };
    if intent.was.state != "primary" {
        let why =
            format!("{name} did not answer as a primary when it was fenced ({}), so nothing says that it should now", intent.was.state);
        return Err(StepError::refused(why, Evidence::of("before", json!(intent.was))));
    }
    if intent.standby_signal == StandbySignal::WasThere {
        let why = format!("standby.signal of {name} was there before this step: only whoever left it knows whether it may go");
        return Err(StepError::refused(why, Evidence::none()));
    }
    nobody_else_leads(cx, &database, intent).await?;
    same_data(cx, local, intent).await?;
    open(cx, local).await?;
    answers(cx, &database, node, intent).await
}

/// Two primaries are worse than a fence too many: every other node has to answer, as a standby of the same cluster.
async fn nobody_else_leads(cx: &ReadContext, database: &Database, intent: &FenceIntent) -> Result<(), StepError> {
    for (name, other) in database.nodes.iter().filter(|(name, _)| **name != intent.node) {
        match look(cx, database, other).await {
            Ok(seen) if intent.system_identifier.as_ref().is_some_and(|id| *id != seen.system_identifier) => {
                let why = format!("{name} answers as the cluster {}, so nobody can tell what it leads", seen.system_identifier);
                return Err(StepError::refused(why, Evidence::of(format!("{name} state"), json!(NodeState::from(&Ok(seen))))));
            }
            Ok(seen) if seen.standby().is_none() => {
                let why = format!("{name} answers as a primary: with {} open again there would be two", intent.node);
                return Err(StepError::refused(why, Evidence::of(format!("{name} state"), json!(NodeState::from(&Ok(seen))))));
            }
            Ok(_) => {}
            Err(error) => {
                let why = format!("{name} does not tell whether it is a primary ({error}), and what is unknown is unfit: the fence stays");
                return Err(StepError::not_done(why));
            }
        }
    }
    Ok(())
}

/// The data directory holds the cluster and the timeline that were fenced: nobody has made a standby of the new primary out of it.
async fn same_data(cx: &ReadContext, local: &Local, intent: &FenceIntent) -> Result<(), StepError> {
    let control = files::control(&*cx.clock, local).await.map_err(StepError::not_done)?;
    let found =
        Evidence::of("control file", format!("cluster {}, {}, timeline {}", control.system_identifier, control.state, control.timeline));
    let of_other = intent.system_identifier.as_ref().is_some_and(|wanted| *wanted != control.system_identifier);
    let moved = intent.was.timeline.is_some_and(|timeline| timeline != control.timeline) || control.state.contains("recovery");
    if of_other || moved {
        let why = format!("the data of {} is no longer what was fenced: somebody made something else of it", intent.node);
        return Err(StepError::refused(why, found));
    }
    Ok(())
}

/// First the file that makes it a standby, then the block that refuses logins, then the start: whatever is cut short leaves it closed.
async fn open(cx: &StepContext, local: &Local) -> Result<(), StepError> {
    let signal = local.data_dir.join("standby.signal");
    match fs::remove_file(&signal).and_then(|()| fs::File::open(&local.data_dir)?.sync_all()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(StepError::not_done(format!("{} cannot be removed: {error}", signal.display()))),
    }
    methods::open_pg_hba(local).map_err(StepError::not_done)?;
    match files::processes(local) {
        Processes::Some(_) => {
            methods::reload(local);
            Ok(())
        }
        Processes::Unknown(why) => Err(StepError::unknown(why)),
        Processes::None => {
            cx.progress("pg_ctl restart: with the command line that it ran with");
            let log = local.data_dir.join(LOG).display().to_string();
            let seconds = START_WITHIN.min(cx.time_left()).as_secs().max(1).to_string();
            // `restart` takes the options of the last start from `postmaster.opts`; `start` would forget them.
            let words = ["restart", "-w", "-t", &seconds, "-l", &log];
            match program::of_server(&*cx.clock, local, "pg_ctl", &words, START_WITHIN + Duration::from_secs(2)).await {
                Ok(ran) if ran.succeeded() => Ok(()),
                Ok(ran) => Err(StepError::unknown(format!("pg_ctl restart: {}", ran.told()))),
                Err(why) => Err(StepError::unknown(why)),
            }
        }
    }
}

/// What it says itself is the proof.
async fn answers(cx: &StepContext, database: &Database, node: &Node, intent: &FenceIntent) -> Result<(), StepError> {
    let until = cx.clock.instant().after(ANSWERS_WITHIN.min(cx.time_left() / 2));
    loop {
        let why = match look(cx, database, node).await {
            Ok(seen) if seen.standby().is_some() => format!("{} came back as a standby", intent.node),
            Ok(seen) if intent.system_identifier.as_ref().is_some_and(|id| *id != seen.system_identifier) => {
                format!("{} answers as another cluster", intent.node)
            }
            Ok(_) => return Ok(()),
            Err(error) => format!("{} was opened again and does not answer: {error}", intent.node),
        };
        if cx.clock.instant() >= until {
            return Err(StepError::unknown(why));
        }
        cx.sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_may_have_acted_has_no_way_back() {
        let intent = |methods: &[&str]| FenceIntent {
            node: "a".into(),
            system_identifier: None,
            was: serde_json::from_value(json!({ "state": "primary" })).unwrap_or_else(|error| panic!("{error}")),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            standby_signal: StandbySignal::WillBeLeft,
        };
        let done = |method: Option<&str>| Fenced {
            db: "db".into(),
            node: "a".into(),
            proven: true,
            method: method.map(str::to_owned),
            proof: None,
            risk_accepted: None,
        };
        assert_eq!(ways(&intent(&["pg_ctl", "command"]), &done(Some("pg_ctl"))), Ways::Local, "the program was never tried");
        assert_eq!(ways(&intent(&["pg_ctl", "command"]), &done(None)), Ways::Program, "nobody knows what worked");
        assert_eq!(ways(&intent(&["command", "pg_ctl"]), &done(Some("pg_ctl"))), Ways::Program, "it was tried first");
        assert_eq!(ways(&intent(&["reject"]), &done(None)), Ways::Local);
    }
}
