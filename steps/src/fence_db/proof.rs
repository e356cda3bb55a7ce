//! Whether a node is proven unable to take writes, from at least two vantages. Looks only; making it so is in `methods`.

use jiff::Timestamp;
use lifeboat_engine::ReadContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operator;
use crate::clients::postgres::files::{self, Processes};
use crate::clients::postgres::look::look_through;
use crate::clients::postgres::session::tcp;
use crate::clients::postgres::{Seen, Session, SessionError, look};
use crate::mutants::{self, Mutant};
use crate::resources::database::{Database, Local, Node};

/// Vantages that must agree before a node counts as fenced.
pub const VANTAGES_MIN: usize = 2;

/// What was seen from one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vantage {
    /// Where from: `this machine`, `us-west-2`, `its processes`, `check program`.
    pub from: String,
    /// What was seen.
    pub saw: String,
}

/// That a node cannot take writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceProof {
    /// `stopped`, `standby`, `logins-refused` or `powered-off`.
    pub kind: String,
    /// Who saw it.
    pub vantages: Vec<Vantage>,
    /// When the last look of the proof ended: nothing was acknowledged later.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// The answer to whether a node is fenced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is.
    Proven(FenceProof),
    /// It answers as a primary.
    TakesWrites(Box<Seen>),
    /// It cannot be told.
    Unproven { why: String, vantages: Vec<Vantage> },
}

/// Whether an operator's program has accepted the action: only the attempt that ran it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    ByCommand,
    Unknown,
}

/// Looks from every place there is.
pub(crate) async fn prove(cx: &ReadContext, database: &Database, name: &str, accepted: Accepted) -> Verdict {
    let Some(node) = database.nodes.get(name) else {
        return Verdict::Unproven { why: format!("there is no node {name}"), vantages: Vec::new() };
    };
    let outside = outside(cx, database, node).await;
    let mut vantages = vec![Vantage { from: "this machine".into(), saw: outside.told(node) }];
    if let Outside::Primary(seen) = outside {
        return Verdict::TakesWrites(seen);
    }
    let inside = match &node.local {
        Some(local) => Some(inside(cx, local, &mut vantages).await),
        None => None,
    };
    let streams = replicas(cx, database, name, &mut vantages).await;
    let checked = check(cx, node, &mut vantages).await;
    let proven = |kind: &str, vantages| Verdict::Proven(FenceProof { kind: kind.into(), vantages, at: cx.now() });
    let unproven = |why: &str, vantages| Verdict::Unproven { why: format!("{name} {why}"), vantages };
    if let (Outside::Refused, Some(Inside::Stopped)) = (&outside, &inside) {
        return proven("stopped", vantages);
    }
    if let Streams::Yes(replica) = &streams {
        return unproven(&format!("still sends its log to {replica}, so it lives"), vantages);
    }
    match (outside, inside, checked) {
        (_, Some(Inside::Unreadable), _) => {
            unproven("runs on this machine, but its processes cannot be seen; run Lifeboat as their owner", vantages)
        }
        (_, Some(Inside::WouldReturn), _) => {
            unproven("is stopped, but would come back as a primary: standby.signal is missing in its data directory", vantages)
        }
        (Outside::Standby, _, _) if vantages.len() >= VANTAGES_MIN => proven("standby", vantages),
        (Outside::Rejected, Some(Inside::RunsWithoutSessions), _) => proven("logins-refused", vantages),
        (Outside::Rejected | Outside::Refused | Outside::Silent(_), Some(Inside::RunsWithSessions(count)), _) => {
            unproven(&format!("has {count} live sessions"), vantages)
        }
        // A check that says "off" is believed only where the node is silent to us too.
        (Outside::Refused | Outside::Silent(_), _, Some(Checked::Off)) => proven("powered-off", vantages),
        (_, _, Some(Checked::Not)) => unproven("is not off, says the check program", vantages),
        (Outside::Refused, None, None) if accepted == Accepted::ByCommand && streams == Streams::No => proven("powered-off", vantages),
        (Outside::Silent(_), _, _) if mutants::is(Mutant::SilenceIsFenced) => proven("powered-off", vantages),
        (Outside::Silent(_), _, _) => unproven("does not answer, which is no proof that it takes no writes from others", vantages),
        (Outside::Refused | Outside::Rejected | Outside::Standby | Outside::Primary(_), _, _) => {
            unproven("refuses us, but nothing else shows that it takes no writes", vantages)
        }
    }
}

/// What this machine sees of the node over the network.
#[derive(Debug)]
enum Outside {
    Refused,
    Rejected,
    Standby,
    Primary(Box<Seen>),
    Silent(String),
}

impl Outside {
    fn told(&self, node: &Node) -> String {
        let address = format!("{}:{}", node.host, node.port);
        match self {
            Self::Refused => format!("{address} refuses connections"),
            Self::Rejected => format!("{address} refuses logins by pg_hba.conf"),
            Self::Standby => format!("{address} answers as a standby"),
            Self::Primary(_) => format!("{address} answers as a primary"),
            Self::Silent(why) => why.clone(),
        }
    }
}

async fn outside(cx: &ReadContext, database: &Database, node: &Node) -> Outside {
    match tcp(&*cx.clock, &node.host, node.port, database.connect_timeout.0.min(cx.time_left())).await {
        Err(SessionError::Refused { .. }) => return Outside::Refused,
        Err(error) => return Outside::Silent(error.to_string()),
        Ok(_) => {}
    }
    let answer = match Session::reading(cx, database, node).await {
        Ok(session) => look_through(cx, &session).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(seen) if seen.standby().is_some() => Outside::Standby,
        Ok(seen) => Outside::Primary(Box::new(seen)),
        Err(SessionError::Refused { .. }) => Outside::Refused,
        Err(error) if error.is_reject() => Outside::Rejected,
        Err(error) => Outside::Silent(error.to_string()),
    }
}

/// What the node's own files and processes show.
#[derive(Debug)]
enum Inside {
    Stopped,
    WouldReturn,
    RunsWithSessions(usize),
    RunsWithoutSessions,
    Unreadable,
}

async fn inside(cx: &ReadContext, local: &Local, vantages: &mut Vec<Vantage>) -> Inside {
    let (saw, inside) = match files::processes(local) {
        Processes::None if files::comes_back_as_standby(local) => {
            ("no process works in its data directory, and standby.signal is there".to_owned(), Inside::Stopped)
        }
        Processes::None => ("no process works in its data directory, but standby.signal is missing".to_owned(), Inside::WouldReturn),
        Processes::Some(pids) => match files::lasting_sessions(&*cx.clock, local).await.map(|sessions| sessions.len()) {
            Ok(0) => (format!("it runs ({} processes) without any session", pids.len()), Inside::RunsWithoutSessions),
            Ok(count) => (format!("it runs ({} processes) with {count} sessions", pids.len()), Inside::RunsWithSessions(count)),
            Err(why) => (why, Inside::Unreadable),
        },
        Processes::Unknown(why) => (why, Inside::Unreadable),
    };
    vantages.push(Vantage { from: "its processes".into(), saw });
    inside
}

/// How lately a replica must have heard from the node for that to show life.
const HEARD_LATELY_MS: u64 = 3000;
/// How a replica's report of life begins.
pub(crate) const GETS_LOG: &str = "it gets the log of";

/// Whether any replica still gets the node's log.
#[derive(Debug, PartialEq, Eq)]
enum Streams {
    Yes(String),
    No,
    NobodyKnows,
}

async fn replicas(cx: &ReadContext, database: &Database, name: &str, vantages: &mut Vec<Vantage>) -> Streams {
    let Some(fenced) = database.nodes.get(name) else {
        return Streams::NobodyKnows;
    };
    let address = format!("{}:{}", fenced.host, fenced.port);
    let mut answer = Streams::NobodyKnows;
    for (other, node) in database.nodes.iter().filter(|(other, _)| *other != name) {
        let Ok(seen) = look(cx, database, node).await else {
            continue;
        };
        let Some(standby) = seen.standby() else {
            continue;
        };
        if standby.streams() && standby.upstream.as_deref() == Some(address.as_str()) {
            let heard = standby.heard_ms_ago.unwrap_or(u64::MAX);
            if heard <= HEARD_LATELY_MS {
                vantages.push(Vantage { from: other.clone(), saw: format!("{GETS_LOG} {name}, {heard} ms ago") });
                return Streams::Yes(other.clone());
            }
            // A receiver waits a minute for a primary that says nothing: it shows neither life nor death.
            vantages.push(Vantage { from: other.clone(), saw: format!("its stream from {name} is open and silent") });
            continue;
        }
        vantages.push(Vantage { from: other.clone(), saw: format!("it gets no log from {name}") });
        answer = Streams::No;
    }
    answer
}

/// What the operator's check program says.
#[derive(Debug)]
enum Checked {
    Off,
    Not,
}

async fn check(cx: &ReadContext, node: &Node, vantages: &mut Vec<Vantage>) -> Option<Checked> {
    let command = operator::commands(node).find(|command| !command.check.is_empty())?;
    let (saw, checked) = match operator::check(cx, command).await {
        Ok(()) => ("it is off".to_owned(), Checked::Off),
        Err(why) => (why, Checked::Not),
    };
    vantages.push(Vantage { from: "check program".into(), saw });
    Some(checked)
}
