//! Making a promoted node take commits, and proving it with one. Only what would make commits hang or fail is changed, and told.

use std::time::Duration;

use lifeboat_engine::StepContext;

use super::outcome::Forked;
use super::{PromoteIntent, Reset, WriteProof};
use crate::clients::postgres::session::application_name;
use crate::clients::postgres::{Session, SessionError};
use crate::heartbeat::quoted;
use crate::resources::database::{Database, Node};

/// How often a reloaded setting is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
const RELOAD_LOOKS: u32 = 80;

/// When the names of synchronous standbys are reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    /// Only if fewer of them are connected than commits wait for.
    WhenTooFewAreThere,
    /// A commit has just given up waiting for them.
    Always,
}

/// Resets what would make commits hang or fail. The old values are in the output.
pub(super) async fn free_commits(
    cx: &StepContext,
    database: &Database,
    target: &Node,
    release: Release,
) -> Result<Vec<Reset>, SessionError> {
    let session = Session::acting(cx, database, target).await?;
    let row = session
        .ask_one(
            "select current_setting('synchronous_standby_names'),
             (select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum') and state = 'streaming')::text,
             (select setting from pg_settings where name = 'default_transaction_read_only')",
        )
        .await?;
    let names = row.get(0).unwrap_or_default().to_owned();
    let connected = row.get(1).and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    let mut resets = Vec::new();
    if !names.is_empty() && (release == Release::Always || connected < replicas_needed(&names)) {
        reset(cx, &session, "synchronous_standby_names", "''", "").await?;
        resets.push(Reset { setting: "synchronous_standby_names".into(), was: names });
    }
    if row.get(2) == Some("on") {
        reset(cx, &session, "default_transaction_read_only", "off", "off").await?;
        resets.push(Reset { setting: "default_transaction_read_only".into(), was: "on".into() });
    }
    Ok(resets)
}

/// How many replicas a commit waits for: `FIRST 2 (a, b)`, `ANY 2 (a, b)`, `2 (a, b)`, or one where only names are listed.
fn replicas_needed(names: &str) -> u32 {
    let Some((method, _)) = names.split_once('(') else {
        return 1;
    };
    method.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Sets a parameter for the whole server and waits until it counts.
async fn reset(cx: &StepContext, session: &Session, setting: &str, sql: &str, shown: &str) -> Result<(), SessionError> {
    cx.progress(&format!("resetting {setting}"));
    session.ask(&format!("alter system set {setting} = {sql}")).await?;
    session.ask("select pg_reload_conf()").await?;
    for _ in 0..RELOAD_LOOKS {
        if session.ask_text(&format!("select current_setting('{setting}')")).await?.as_deref() == Some(shown) {
            return Ok(());
        }
        cx.sleep(LOOK_AGAIN).await;
    }
    Err(SessionError::Ours { why: format!("{setting} was reset for the server, but a role or database sets it again") })
}

pub(super) enum Written {
    /// Acknowledged without a warning.
    Committed(WriteProof),
    /// Committed on this node, but waiting for a synchronous replica, or given up doing so.
    Unconfirmed,
}

/// Commits a row of our own beside the heartbeat's, in a session that began after the promotion.
pub(super) async fn write(
    cx: &StepContext,
    database: &Database,
    target: &Node,
    intent: &PromoteIntent,
    forked: Forked,
) -> Result<Written, SessionError> {
    let session = Session::acting(cx, database, target).await?;
    let message = format!("select pg_logical_emit_message(true, 'lifeboat', {})::text", quoted(&intent.proof_key));
    let (kind, answer) = match &database.heartbeat {
        Some(heartbeat) => {
            let sql = format!(
                "insert into {table} as t (writer, timeline, n, sent_at) values ({key}, {timeline}, 1, '{now}') \
                 on conflict (writer, timeline) do update set n = t.n + 1, sent_at = excluded.sent_at, written_at = clock_timestamp() \
                 returning n::text",
                table = heartbeat.table.as_sql(),
                key = quoted(&intent.proof_key),
                timeline = forked.new_timeline,
                now = cx.now(),
            );
            match session.ask_one(&sql).await {
                Ok(row) => ("row", Ok(row)),
                // No such table, or not ours to write: a message in the log is a commit as well.
                Err(SessionError::Answered { code, .. }) if code == "42P01" || code == "42501" => {
                    ("message", session.ask_one(&message).await)
                }
                Err(error) => ("row", Err(error)),
            }
        }
        None => ("message", session.ask_one(&message).await),
    };
    match answer {
        Ok(_) => {}
        // The time limit of a statement does not end such a wait, so it looks like a lost answer.
        Err(SessionError::Lost { .. }) if waits_for_replica(cx, database, target).await? => return Ok(Written::Unconfirmed),
        Err(error) => return Err(error),
    }
    if session.warnings() > 0 {
        return Ok(Written::Unconfirmed);
    }
    Ok(Written::Committed(WriteProof { kind: kind.into(), at: cx.now() }))
}

/// Whether a session of ours hangs in its commit.
async fn waits_for_replica(cx: &StepContext, database: &Database, target: &Node) -> Result<bool, SessionError> {
    let session = Session::reading(cx, database, target).await?;
    let waiting = format!(
        "select count(*)::text from pg_stat_activity where application_name = {} and wait_event = 'SyncRep'",
        quoted(&application_name(cx))
    );
    Ok(session.ask_text(&waiting).await?.as_deref() != Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_replicas_that_a_commit_waits_for_is_read_from_the_setting() {
        for (names, needed) in
            [("a", 1), ("a, b", 1), ("*", 1), ("2 (a, b, c)", 2), ("FIRST 3 (a, b, c)", 3), ("any 2 (a, b)", 2), ("ANY 1(a)", 1)]
        {
            assert_eq!(replicas_needed(names), needed, "{names}");
        }
    }
}
