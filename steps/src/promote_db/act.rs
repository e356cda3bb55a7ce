//! The act: look once more, send the promotion once, follow the node until it is a primary, free it to take commits, write.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::{Evidence, StepContext, StepError};

use super::choose::{Stage, choose, other_primary, told};
use super::commit::{Release, Written, free_commits, write};
use super::gate::{fence_stands, settled};
use super::outcome::{Forked, forked, report};
use super::{PromoteDb, PromoteIntent, Promoted};
use crate::clients::postgres::history::{self, Pending};
use crate::clients::postgres::look::look_through;
use crate::clients::postgres::session::application_name;
use crate::clients::postgres::{Seen, Session, SessionError};
use crate::fence_db::{FenceOnRecord, on_record};
use crate::heartbeat::quoted;
use crate::measure_rpo::{database, node};
use crate::resources::database::{Database, Node};

/// How often the node is asked whether it still is a replica.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How long a node is followed after the answer to `pg_promote` was lost: if the request arrived, it shows by then or later, and then
/// the observation sees it.
const FOLLOW_LOST: Duration = Duration::from_secs(3);
/// Kept free at the end of the step's time for resets and the write.
const RESERVE: Duration = Duration::from_secs(5);

pub(super) async fn promote(step: &PromoteDb, intent: &PromoteIntent, cx: &StepContext) -> Result<Promoted, StepError> {
    let database = database(cx, &step.db)?;
    let target = node(&database, &step.db, &intent.node)?;
    let answers = settled(cx, &database).await;
    let seen = match answers.get(&intent.node) {
        Some(Ok(seen)) => seen.clone(),
        Some(Err(error)) => return Err(StepError::not_done(format!("{} does not answer: {error}", intent.node))),
        None => return Err(StepError::hopeless(format!("the inventory has no node {} any more", intent.node))),
    };
    if seen.system_identifier != intent.system_identifier {
        return Err(StepError::refused(format!("{} answers as another cluster now", intent.node), told(&answers)));
    }
    let mut sent = Sent::default();
    if seen.standby().is_some() {
        if let Some((name, _)) = other_primary(&answers, intent.old_primary.as_deref()) {
            return Err(StepError::refused(
                format!("{name} answers as a primary: promoting {} would make two", intent.node),
                told(&answers),
            ));
        }
        let timeline = Some(intent.timeline);
        choose(&database, &answers, Some(&intent.node), intent.old_primary.as_deref(), timeline, Stage::Settled)
            .map_err(|(why, evidence)| StepError::Refused { why, evidence })?;
        if seen.position() < intent.receive.max(intent.replay) && intent.replay > seen.standby().and_then(|standby| standby.replay) {
            return Err(StepError::refused(format!("{} has less of the log than when it was judged", intent.node), told(&answers)));
        }
        fence_again(cx, &database, step).await?;
        sent = send(cx, &database, target, intent).await?;
    }
    let session = follow(cx, &database, target, intent, &mut sent).await?;
    finish(step, cx, &database, target, intent, session, sent).await
}

/// What is known of the sending.
#[derive(Debug, Default)]
struct Sent {
    at: Option<Timestamp>,
    answer_lost: Option<String>,
    last_seen_as_replica: Option<Timestamp>,
}

async fn fence_again(cx: &StepContext, database: &Database, step: &PromoteDb) -> Result<(), StepError> {
    match on_record(cx, &step.db) {
        FenceOnRecord::Done { fenced, .. } => fence_stands(cx, database, &fenced, &mut Evidence::none()).await,
        FenceOnRecord::Waiting(_) | FenceOnRecord::Worthless { .. } | FenceOnRecord::None => {
            Err(StepError::refused("the fence that this promotion relied on is not on record any more", Evidence::none()))
        }
    }
}

/// Sends the promotion, unless one is pending already.
async fn send(cx: &StepContext, database: &Database, target: &Node, intent: &PromoteIntent) -> Result<Sent, StepError> {
    let not_sent = |error: SessionError| match error {
        SessionError::Rejected { .. } | SessionError::Ours { .. } => StepError::hopeless(format!("nothing was sent: {error}")),
        SessionError::Refused { .. } | SessionError::Unreachable { .. } | SessionError::Lost { .. } | SessionError::Answered { .. } => {
            StepError::not_done(format!("nothing was sent: {error}"))
        }
    };
    let session = Session::acting(cx, database, target).await.map_err(not_sent)?;
    // An earlier attempt's session, on a connection that only seems dead, could deliver its request after ours.
    let name = quoted(&application_name(cx));
    let stale = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = {name} and usename = current_user and pid <> pg_backend_pid()"
    );
    session.ask(&stale).await.map_err(not_sent)?;
    let reading = Session::reading(cx, database, target).await.map_err(not_sent)?;
    if history::pending(&reading, target.local.as_ref(), &application_name(cx)).await.map_err(not_sent)? == Pending::Yes {
        cx.progress("a promotion is pending already");
        return Ok(Sent::default());
    }
    cx.progress(&format!("asking {} to promote itself", intent.node));
    let at = cx.now();
    match session.ask("select pg_promote(false)").await {
        // True says that the signal was sent, false that it was not; neither says what comes of it.
        Ok(_) => Ok(Sent { at: Some(at), ..Sent::default() }),
        // 55000: recovery is not in progress. It is a primary already, which the next look will show.
        Err(SessionError::Answered { code, .. }) if code == "55000" => Ok(Sent::default()),
        Err(error @ SessionError::Answered { .. }) => Err(StepError::hopeless(format!("{} refused to be promoted: {error}", intent.node))),
        Err(error) => Ok(Sent { at: Some(at), answer_lost: Some(error.to_string()), ..Sent::default() }),
    }
}

/// Asks until the node is a primary. Ends with a session on it.
async fn follow(
    cx: &StepContext,
    database: &Database,
    target: &Node,
    intent: &PromoteIntent,
    sent: &mut Sent,
) -> Result<Session, StepError> {
    let began = cx.clock.instant();
    let reserve = RESERVE.min(cx.time_left() / 3);
    let mut session: Option<Session> = None;
    let mut last_trouble = String::new();
    loop {
        let asked_at = cx.now();
        match ask_role(cx, database, target, &mut session).await {
            Ok(InRecovery::No) => {
                if let Some(session) = session {
                    return Ok(session);
                }
            }
            Ok(InRecovery::Yes) => sent.last_seen_as_replica = Some(asked_at),
            Err(error) => {
                session = None;
                last_trouble = error.to_string();
            }
        }
        let followed = cx.clock.instant().since(began);
        if let Some(lost) = &sent.answer_lost
            && followed > FOLLOW_LOST
        {
            return Err(StepError::unknown(format!("the answer to pg_promote was lost ({lost}), and {} is still a replica", intent.node)));
        }
        if cx.time_left() <= reserve {
            return Err(StepError::unknown(format!(
                "{} was asked to promote itself and has not within {} s; it may still do so {last_trouble}",
                intent.node,
                followed.as_secs()
            )));
        }
        cx.sleep(LOOK_AGAIN).await;
    }
}

enum InRecovery {
    Yes,
    No,
}

async fn ask_role(cx: &StepContext, database: &Database, target: &Node, slot: &mut Option<Session>) -> Result<InRecovery, SessionError> {
    let session = match slot {
        Some(session) => session,
        None => slot.insert(Session::reading(cx, database, target).await?),
    };
    match session.ask_text("select pg_is_in_recovery()::text").await?.as_deref() {
        Some("true") => Ok(InRecovery::Yes),
        Some("false") => Ok(InRecovery::No),
        other => Err(SessionError::Ours { why: format!("pg_is_in_recovery() answered {other:?}") }),
    }
}

/// It is a primary: is it ours, does it commit?
async fn finish(
    step: &PromoteDb,
    cx: &StepContext,
    database: &Database,
    target: &Node,
    intent: &PromoteIntent,
    session: Session,
    sent: Sent,
) -> Result<Promoted, StepError> {
    let lost = |error: SessionError| StepError::unknown(format!("{} is a primary, but: {error}", intent.node));
    let seen: Seen = look_through(cx, &session).await.map_err(lost)?;
    let forked: Forked = match forked(&session, intent, &seen).await.map_err(lost)? {
        Ok(forked) => forked,
        Err(why) => return Err(StepError::unknown(why)),
    };
    cx.progress(&format!("{} is on timeline {}; proving that it commits", intent.node, forked.new_timeline));
    let mut resets = free_commits(cx, database, target, Release::WhenTooFewAreThere).await.map_err(lost)?;
    let write = match write(cx, database, target, intent, forked).await.map_err(lost)? {
        Written::Committed(write) => write,
        Written::Unconfirmed => {
            resets.extend(free_commits(cx, database, target, Release::Always).await.map_err(lost)?);
            match write(cx, database, target, intent, forked).await.map_err(lost)? {
                Written::Committed(write) => write,
                Written::Unconfirmed => {
                    return Err(StepError::unknown(format!("{} is a primary, but commits wait for a synchronous replica", intent.node)));
                }
            }
        }
    };
    let promoted = report(step, cx, database, intent, &session, forked, write).await.map_err(lost)?;
    Ok(Promoted { resets, promote_sent_at: sent.at, last_seen_as_replica_at: sent.last_seen_as_replica, ..promoted })
}
