//! What the probe role must see and must not be able to do, checked on the replica that is about to be promoted. Looks only.

use lifeboat_engine::{Evidence, ReadContext, StepError};

use super::choose::Chosen;
use crate::clients::postgres::{History, Session, SessionError, history, rights};
use crate::measure_rpo::node;
use crate::resources::database::{Database, Node};

/// Most databases that are entered to look for rights; a server with more is told apart by its own.
const DATABASES_MAX: usize = 16;

/// Refuses a probe with rights that it must not have, and returns the history of the replica's timeline.
pub(super) async fn rights_and_history(
    cx: &ReadContext,
    database: &Database,
    chosen: &Chosen,
    evidence: &Evidence,
) -> Result<History, StepError> {
    let refuse = |why: String| StepError::refused(why, evidence.clone());
    let target = node(database, "the database", &chosen.node)?;
    let lost = |error: SessionError| refuse(format!("{} does not answer: {error}", chosen.node));
    let session = Session::reading(cx, database, target).await.map_err(lost)?;
    let mut entered = vec![(database.database.clone(), rights::forbidden(&session).await.map_err(lost)?)];
    entered.extend(elsewhere(cx, database, target, &session).await.map_err(lost)?);
    if let Some((entrance, rights)) = entered.iter().find(|(_, rights)| !rights.is_empty()) {
        return Err(refuse(format!(
            "the probe role {:?} could itself change {}: in database {entrance} it {}; take that right away, so that looking can never promote",
            database.probe.user,
            chosen.node,
            rights.join(", ")
        )));
    }
    if !rights::sees_statistics(&session).await.map_err(lost)? {
        return Err(refuse(format!(
            "the probe role {:?} must be a member of pg_monitor: without it lag and streams read as empty",
            database.probe.user
        )));
    }
    if !history::may_read_history(&session).await.map_err(lost)? {
        return Err(refuse(format!(
            "the probe role {:?} may not read timeline histories, so a promotion could not be proven: grant it EXECUTE on \
             lifeboat.timeline_history(integer) or pg_read_file(text)",
            database.probe.user
        )));
    }
    history::history(&session, chosen.seen.timeline).await.map_err(lost)
}

/// What the probe could do in the other databases that it may enter. One that cannot be entered after all holds no danger.
async fn elsewhere(
    cx: &ReadContext,
    database: &Database,
    target: &Node,
    session: &Session,
) -> Result<Vec<(String, Vec<&'static str>)>, SessionError> {
    let mut found = Vec::new();
    for name in rights::other_databases(session).await?.into_iter().take(DATABASES_MAX) {
        let other = Database { database: name.clone(), ..database.clone() };
        match Session::reading(cx, &other, target).await {
            Ok(session) => found.push((name, rights::forbidden(&session).await?)),
            Err(SessionError::Rejected { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
