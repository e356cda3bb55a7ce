//! The facts that a loss is weighed from, gathered from source, target, heartbeat file and the source's own files. Reads only.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::{Evidence, ReadContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::loss::{LossFacts, SourceEnd, Weighed, weigh};
use crate::clients::postgres::files::{self, Processes};
use crate::clients::postgres::look::look_through;
use crate::clients::postgres::lsn::Lsn;
use crate::clients::postgres::tail::{Tail, tail};
use crate::clients::postgres::{NodeState, Seen, Session, SessionError, look};
use crate::heartbeat::{self, Found};
use crate::resources::database::{Database, Node};

/// File systems stamp files with a clock that lags by up to one tick.
const FILE_CLOCK_LAG: Duration = Duration::from_millis(10);

/// When service ended: after the last success seen and before the first failure seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutageInterval {
    /// Last success seen.
    #[schemars(with = "String")]
    pub earliest: Timestamp,
    /// First failure seen.
    #[schemars(with = "String")]
    pub latest: Timestamp,
    /// How it was seen: `heartbeat`, `given`.
    pub method: String,
}

/// What would be lost if the target took over now.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    pub(crate) source: Result<Seen, SessionError>,
    pub(crate) source_state: NodeState,
    pub(crate) target: Seen,
    pub(crate) weighed: Weighed,
    pub(crate) outage_began: Option<OutageInterval>,
    pub(crate) evidence: Evidence,
}

/// The two nodes between which a loss is weighed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between<'a> {
    pub(crate) db: &'a str,
    pub(crate) database: &'a Database,
    pub(crate) from: (&'a str, &'a Node),
    pub(crate) to: (&'a str, &'a Node),
    /// When the source was proven fenced, if it was.
    pub(crate) fenced_at: Option<Timestamp>,
}

impl Between<'_> {
    /// Asks everybody. Only a target that does not answer is an error: without it there is nothing to weigh.
    pub(crate) async fn gather(self, cx: &ReadContext) -> Result<Gathered, SessionError> {
        let session = Session::reading(cx, self.database, self.to.1).await?;
        // The source first: what the target has received by then can only be more when it is asked after.
        let source = look(cx, self.database, self.from.1).await;
        let target = look_through(cx, &session).await?;
        let mut evidence = Evidence::none();
        let acknowledged = heartbeat::acknowledged(cx, self.database).unwrap_or_else(|why| {
            evidence.note("acknowledged heartbeats", why);
            None
        });
        let found = self.found(&session, target.timeline, &mut evidence).await?;
        let source_end = source_end(&source, self.from.1, self.fenced_at, &mut evidence);
        let same_line = source.as_ref().ok().filter(|seen| seen.timeline == target.timeline);
        let tail = source_tail(cx, self.from.1, target.timeline, target.position(), &mut evidence).await;
        let source_position = same_line
            .and_then(|seen| seen.position().map(|position| (position, seen.at)))
            .or_else(|| tail.map(|tail| (tail.end, cx.now())));
        let weighed = weigh(&LossFacts {
            resource: self.db,
            now: cx.now(),
            source_end,
            source_position,
            lost_transactions: tail.map(|tail| tail.transactions),
            kept_to: target.position(),
            found: found.as_ref(),
            acknowledged: acknowledged.as_ref(),
            timeline: target.timeline,
            last_replayed_commit: target.standby().and_then(|standby| standby.last_replayed_commit),
        });
        let outage_began = acknowledged
            .as_ref()
            .and_then(|kept| kept.outage_of(target.timeline))
            .and_then(outage_interval)
            .or_else(|| cx.facts.outage_began.map(|(earliest, latest)| OutageInterval { earliest, latest, method: "given".into() }));
        let source_state = self.state_of_source(&source);
        evidence.note(format!("{} state", self.from.0), json!(source_state));
        evidence.note(format!("{} state", self.to.0), json!(NodeState::from(&Ok(target.clone()))));
        evidence.note("loss if promoted now", json!(weighed.loss));
        Ok(Gathered { source, source_state, target, weighed, outage_began, evidence })
    }

    async fn found(&self, session: &Session, timeline: u32, evidence: &mut Evidence) -> Result<Option<Found>, SessionError> {
        let Some(heartbeat) = &self.database.heartbeat else {
            return Ok(None);
        };
        match heartbeat::found(session, heartbeat, self.db, timeline).await {
            Ok(found) => {
                evidence.note(format!("last heartbeat on {}", self.to.0), json!(found.as_ref().map(|found| found.n)));
                Ok(found)
            }
            // A table that is missing or closed to the probe makes the loss less exact, not the measurement impossible.
            Err(SessionError::Answered { code, message, .. }) => {
                evidence.note(format!("last heartbeat on {}", self.to.0), format!("{message} ({code})"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn state_of_source(&self, source: &Result<Seen, SessionError>) -> NodeState {
        let mut state = NodeState::from(source);
        let local = self.from.1.local.as_ref();
        if source.is_err() && local.is_some_and(|local| files::processes(local) == Processes::None) {
            state.state = "stopped".into();
        }
        state
    }
}

/// The earliest instant that is proven to be no earlier than the source's last acknowledgement.
pub(crate) fn source_end(
    source: &Result<Seen, SessionError>,
    node: &Node,
    fenced_at: Option<Timestamp>,
    evidence: &mut Evidence,
) -> SourceEnd {
    if source.as_ref().is_ok_and(|seen| seen.standby().is_none()) {
        return SourceEnd::Open;
    }
    let mut end = fenced_at.map(|at| (at, "it was proven fenced then".to_owned()));
    if let Some(local) = &node.local
        && files::processes(local) == Processes::None
    {
        match files::wal_last_written(local).map(|at| at.checked_add(FILE_CLOCK_LAG)) {
            Ok(Ok(at)) if end.as_ref().is_none_or(|(fenced, _)| at < *fenced) => {
                end = Some((at, "no process of it runs, and its log was last written then".to_owned()));
            }
            Ok(Ok(_) | Err(_)) => {}
            Err(why) => evidence.note("end of the source's log", why),
        }
    }
    match end {
        Some((at, because)) => {
            evidence.note("the source cannot have acknowledged anything after", json!({ "at": at, "because": because }));
            SourceEnd::At { at, because }
        }
        None => SourceEnd::Open,
    }
}

/// What a source that does not run any more has in its log beyond a position, if its files are on this machine.
pub(crate) async fn source_tail(
    cx: &ReadContext,
    source: &Node,
    timeline: u32,
    from: Option<Lsn>,
    evidence: &mut Evidence,
) -> Option<Tail> {
    let (local, from) = source.local.as_ref().zip(from)?;
    if files::processes(local) != Processes::None {
        return None;
    }
    match tail(&*cx.clock, local, timeline, from).await {
        Ok(tail) => {
            evidence.note("the source's log", json!({ "end": tail.end, "transactions beyond the replica": tail.transactions }));
            Some(tail)
        }
        Err(why) => {
            evidence.note("the source's log", why);
            None
        }
    }
}

/// The instants between which an outage began. The server may have died as soon as the last beat that it acknowledged was sent.
pub(crate) fn outage_interval(outage: &heartbeat::Outage) -> Option<OutageInterval> {
    let last = outage.last.as_ref()?;
    Some(OutageInterval { earliest: last.sent_at, latest: outage.first_failed_at.max(last.sent_at), method: "heartbeat".into() })
}
