//! What became of a promotion, asked of the world: the node's timeline history tells, not any return value. Looks only.

use jiff::Timestamp;
use lifeboat_engine::{Evidence, Observation, ReadContext, StepError};

use super::choose::told;
use super::gate::ask_all;
use super::{PromoteDb, PromoteIntent, Promoted, Reset, WriteProof};
use crate::clients::postgres::history::{self, Pending};
use crate::clients::postgres::look::micros;
use crate::clients::postgres::session::application_name;
use crate::clients::postgres::{Fork, Lsn, Seen, Session, SessionError};
use crate::heartbeat::{self, quoted};
use crate::measure_rpo::loss::{LossFacts, SourceEnd, weigh};
use crate::measure_rpo::{database, node, outage_interval, source_tail};
use crate::resources::database::Database;

/// A promotion that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Forked {
    pub(super) new_timeline: u32,
    pub(super) fork: Lsn,
}

/// Whether a primary came to be by the promotion that was intended. `Err` says how it differs.
pub(super) async fn forked(session: &Session, intent: &PromoteIntent, seen: &Seen) -> Result<Result<Forked, String>, SessionError> {
    if seen.timeline <= intent.timeline {
        return Ok(Err(format!("{} is a primary on timeline {}, which no promotion of ours began", intent.node, seen.timeline)));
    }
    let history = history::history(session, seen.timeline).await?;
    let (last, before) = match history.0.split_last() {
        Some((last, before)) => (*last, before),
        None => return Ok(Err(format!("timeline {} of {} has no parent", seen.timeline, intent.node))),
    };
    // The number alone proves nothing: two replicas promoted apart choose the same one. What they left, and where, differs.
    let Fork { parent, at } = last;
    if parent != intent.timeline || before != intent.history.0 {
        return Ok(Err(format!("timeline {} of {} left timeline {parent} at {at}, not the one we meant", seen.timeline, intent.node)));
    }
    if intent.replay.is_some_and(|replayed| at < replayed) {
        return Ok(Err(format!("timeline {} of {} forked at {at}, before what it had replayed", seen.timeline, intent.node)));
    }
    Ok(Ok(Forked { new_timeline: seen.timeline, fork: at }))
}

pub(super) async fn observe(step: &PromoteDb, intent: &PromoteIntent, cx: &ReadContext) -> Result<Observation<Promoted>, StepError> {
    let database = database(cx, &step.db)?;
    let answers = ask_all(cx, &database).await;
    let evidence = told(&answers);
    let foreign = |why: String| Ok(Observation::Foreign { evidence: evidence.clone().with("why", why) });
    let unknown = |why: String| Ok(Observation::Unknown { why });
    let primary_elsewhere = answers.iter().find(|(name, answer)| {
        **name != intent.node
            && answer.as_ref().is_ok_and(|seen| seen.standby().is_none() && seen.system_identifier == intent.system_identifier)
    });
    let seen = match answers.get(&intent.node) {
        Some(Ok(seen)) => seen,
        Some(Err(error)) => return unknown(format!("{} does not answer: {error}", intent.node)),
        None => return unknown(format!("the inventory has no node {} any more", intent.node)),
    };
    if seen.system_identifier != intent.system_identifier {
        return foreign(format!("{} answers as another cluster, {}", intent.node, seen.system_identifier));
    }
    if let Some((name, Ok(other))) = primary_elsewhere {
        let old = intent.old_primary.as_deref() == Some(name.as_str());
        // The old primary alone coming back means only that nothing happened; the next attempt's gate will refuse.
        if seen.standby().is_none() || !old {
            return foreign(format!("{name} is a primary on timeline {}", other.timeline));
        }
    }
    let session = match Session::reading(cx, &database, node(&database, &step.db, &intent.node)?).await {
        Ok(session) => session,
        Err(error) => return unknown(format!("{} does not answer: {error}", intent.node)),
    };
    match seen.standby() {
        Some(_) if seen.timeline != intent.timeline => {
            foreign(format!("{} follows timeline {} now: somebody promoted another node", intent.node, seen.timeline))
        }
        Some(_) => still_replica(cx, &database, intent, &session).await,
        None => match forked(&session, intent, seen).await {
            Ok(Ok(forked)) => already(step, cx, &database, intent, &session, forked).await,
            Ok(Err(why)) => foreign(why),
            Err(error) => unknown(error.to_string()),
        },
    }
}

async fn still_replica(
    cx: &ReadContext,
    database: &Database,
    intent: &PromoteIntent,
    session: &Session,
) -> Result<Observation<Promoted>, StepError> {
    let local = database.nodes.get(&intent.node).and_then(|node| node.local.as_ref());
    // A startup process between two waits looks busy; one quiet look is proof, so look more than once.
    for _ in 0..LOOKS {
        match history::pending(session, local, &application_name(cx)).await {
            Ok(Pending::Yes) => return Ok(Observation::InProgress),
            Ok(Pending::No) => return Ok(Observation::NotDone),
            Ok(Pending::Perhaps) => cx.sleep(BETWEEN_LOOKS).await,
            Err(error) => return Ok(Observation::Unknown { why: error.to_string() }),
        }
    }
    Ok(Observation::InProgress)
}

/// How often, and how far apart, a replica is looked at before its replay counts as busy.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(100);

/// Promoted. Whether the step is done depends on the row that proves the write.
async fn already(
    step: &PromoteDb,
    cx: &ReadContext,
    database: &Database,
    intent: &PromoteIntent,
    session: &Session,
    forked: Forked,
) -> Result<Observation<Promoted>, StepError> {
    match written(session, database, intent, forked.new_timeline).await {
        Ok(Some(at)) => {
            let write = WriteProof { kind: "row".into(), at };
            match report(step, cx, database, intent, session, forked, write).await {
                Ok(promoted) => Ok(Observation::Done(promoted)),
                Err(error) => Ok(Observation::Unknown { why: error.to_string() }),
            }
        }
        // The promotion stands; resets and the write are still to be done, which `execute` does without promoting again.
        Ok(None) => Ok(Observation::InProgress),
        Err(error) => Ok(Observation::Unknown { why: error.to_string() }),
    }
}

/// When the row that proves the write was written, if it was.
async fn written(session: &Session, database: &Database, intent: &PromoteIntent, timeline: u32) -> Result<Option<Timestamp>, SessionError> {
    let Some(heartbeat) = &database.heartbeat else {
        return Ok(None);
    };
    let sql = format!(
        "select (extract(epoch from written_at) * 1000000)::bigint::text from {} where writer = {} and timeline = {timeline}",
        heartbeat.table.as_sql(),
        quoted(&intent.proof_key)
    );
    match session.ask(&sql).await {
        Ok(rows) => Ok(rows.first().and_then(|row| micros(row.get(0)))),
        Err(SessionError::Answered { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The output: what the new primary holds against what was acknowledged.
pub(super) async fn report(
    step: &PromoteDb,
    cx: &ReadContext,
    database: &Database,
    intent: &PromoteIntent,
    session: &Session,
    forked: Forked,
    write: WriteProof,
) -> Result<Promoted, SessionError> {
    let acknowledged = heartbeat::acknowledged(cx, database).ok().flatten();
    let found = match &database.heartbeat {
        Some(heartbeat) => match heartbeat::found(session, heartbeat, &step.db, intent.timeline).await {
            Ok(found) => found,
            Err(SessionError::Answered { .. }) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let last = session.ask_text("select (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint::text").await?;
    let old = intent.old_primary.as_ref().and_then(|name| database.nodes.get(name));
    let tail = match old {
        Some(old) => source_tail(cx, old, intent.timeline, Some(forked.fork), &mut Evidence::none()).await,
        None => None,
    };
    let mut weighed = weigh(&LossFacts {
        resource: &step.db,
        now: cx.now(),
        source_end: intent.source_end.clone(),
        source_position: tail.map(|tail| (tail.end, cx.now())),
        lost_transactions: tail.map(|tail| tail.transactions),
        kept_to: Some(forked.fork),
        found: found.as_ref(),
        acknowledged: acknowledged.as_ref(),
        timeline: intent.timeline,
        last_replayed_commit: micros(last.as_deref()),
    });
    if intent.source_end == SourceEnd::Open {
        // Nobody has proven that the old primary takes no writes, and what it takes from now on is lost as well.
        weighed.loss.seconds_max = None;
    }
    Ok(Promoted {
        db: step.db.clone(),
        node: intent.node.clone(),
        old_primary: intent.old_primary.clone(),
        old_timeline: intent.timeline,
        new_timeline: forked.new_timeline,
        fork: forked.fork,
        loss: weighed.loss,
        recovered_to: weighed.recovered_to,
        resets: Vec::<Reset>::new(),
        promote_sent_at: None,
        last_seen_as_replica_at: None,
        write,
        outage_began: acknowledged.as_ref().and_then(|kept| kept.outage_of(intent.timeline)).and_then(outage_interval),
    })
}
