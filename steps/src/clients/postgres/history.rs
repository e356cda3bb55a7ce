//! How a node came to its timeline, and whether a promotion is under way on it. Read only.

use super::lsn::History;
use super::session::{Session, SessionError};
use crate::resources::database::Local;

/// Which doors to server files this role has: the narrow functions first, then PostgreSQL's own.
const DOORS: &str = "select
 coalesce(has_function_privilege(to_regprocedure('lifeboat.timeline_history(integer)'), 'execute'), false)::text,
 has_function_privilege('pg_catalog.pg_read_file(text)', 'execute')::text,
 coalesce(has_function_privilege(to_regprocedure('lifeboat.promote_pending()'), 'execute'), false)::text,
 has_function_privilege('pg_catalog.pg_stat_file(text,boolean)', 'execute')::text";

/// The history of a timeline, as the node keeps it. The first timeline has none.
///
/// # Errors
/// How the node did not answer, or that the role may read no history.
pub async fn history(session: &Session, timeline: u32) -> Result<History, SessionError> {
    if timeline <= 1 {
        return Ok(History::default());
    }
    let ours = |why: String| SessionError::Ours { why };
    let doors = session.ask_one(DOORS).await?;
    let text = if doors.get(0) == Some("true") {
        session.ask_text(&format!("select lifeboat.timeline_history({timeline})")).await?
    } else if doors.get(1) == Some("true") {
        session.ask_text(&format!("select pg_read_file('pg_wal/{timeline:08X}.history')")).await?
    } else {
        return Err(ours(format!(
            "the role may not read the timeline history on {}: grant it EXECUTE on lifeboat.timeline_history(integer) or pg_read_file(text)",
            session.address()
        )));
    };
    let text = text.ok_or_else(|| ours(format!("{} keeps no history of timeline {timeline}", session.address())))?;
    History::parse(&text).map_err(|why| ours(format!("the history of timeline {timeline} on {}: {why}", session.address())))
}

/// Whether the role may read histories at all.
///
/// # Errors
/// How the node did not answer.
pub async fn may_read_history(session: &Session) -> Result<bool, SessionError> {
    let doors = session.ask_one(DOORS).await?;
    Ok(doors.get(0) == Some("true") || doors.get(1) == Some("true"))
}

/// Signs of a promotion on a node that is still in recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// None: no signal file, no session of ours that could still send one, and replay waits for more log.
    No,
    /// A signal file, a session of ours, or a replay that is busy with something we cannot see into.
    Perhaps,
    /// The signal file is there: the node promotes itself as soon as it can.
    Yes,
}

/// Looks for a promotion that was asked for and has not happened yet.
///
/// The server takes the signal file away when it heeds it, and may then still be busy (a hanging `restore_command`); a startup
/// process that waits for more log has certainly not heeded one.
///
/// # Errors
/// How the node did not answer.
pub async fn pending(session: &Session, local: Option<&Local>, ours: &str) -> Result<Pending, SessionError> {
    let doors = session.ask_one(DOORS).await?;
    let file = if let Some(seen) = local.and_then(|local| local.data_dir.join("promote").try_exists().ok()) {
        Some(seen)
    } else if doors.get(2) == Some("true") {
        session.ask_text("select lifeboat.promote_pending()::text").await?.map(|text| text == "true")
    } else if doors.get(3) == Some("true") {
        session.ask_text("select ((pg_stat_file('promote', true)).size is not null)::text").await?.map(|text| text == "true")
    } else {
        None
    };
    if file == Some(true) {
        return Ok(Pending::Yes);
    }
    let ours = ours.replace('\'', "''");
    let row = session
        .ask_one(&format!(
            "select (select count(*) from pg_stat_activity where application_name = '{ours}' and pid <> pg_backend_pid()
               and usename <> current_user)::text,
             (select coalesce(wait_event, '') from pg_stat_activity where backend_type = 'startup')"
        ))
        .await?;
    let quiet = matches!(row.get(1), Some("RecoveryWalStream" | "RecoveryRetrieveRetryInterval" | "RecoveryPause"));
    Ok(if row.get(0) == Some("0") && quiet && file == Some(false) { Pending::No } else { Pending::Perhaps })
}
