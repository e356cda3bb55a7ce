//! Whether the probe role can look at what it must see, and cannot do what it must not. Nothing else is asked of it.

use super::session::{Session, SessionError};

/// Rights that a probe must not have, directly or through any role that it could become. Each column is one right. The names of
/// functions that act are put together, so that whoever searches a server's log for them finds their use, not this question.
///
/// `CREATEROLE` counts because, before PostgreSQL 16, it can grant itself the others.
const FORBIDDEN: &str = "with me as (select r.oid, r.rolsuper, r.rolcreaterole, r.rolreplication from pg_roles r
   where pg_has_role(current_user, r.oid, 'member'))
 select
 (select count(*) from me where rolsuper)::text,
 (select count(*) from me where rolcreaterole)::text,
 (select count(*) from me where has_function_privilege(oid, 'pg_catalog.pg_' || 'promote(boolean,integer)', 'execute'))::text,
 (select count(*) from me where pg_has_role(oid, 'pg_execute_server_program', 'member'))::text,
 (select count(*) from me where pg_has_role(oid, 'pg_write_server_files', 'member'))::text,
 (select count(*) from me where has_function_privilege(oid, 'pg_catalog.pg_wal_' || 'replay_pause()', 'execute')
   or has_function_privilege(oid, 'pg_catalog.pg_wal_' || 'replay_resume()', 'execute'))::text,
 (select count(*) from me where pg_has_role(oid, 'pg_signal_backend', 'member'))::text,
 (select count(*) from me where rolreplication)::text";

/// What the columns of [`FORBIDDEN`] are called.
const NAMES: [&str; 8] = [
    "is a superuser",
    "may create roles, and so give itself any right",
    "may execute pg_promote",
    "may run programs on the server",
    "may write files on the server",
    "may pause or resume replay",
    "may end other sessions",
    "may open replication connections",
];

/// What the probe role may do and must not, in words; empty is good.
///
/// # Errors
/// How the node did not answer.
pub async fn forbidden(session: &Session) -> Result<Vec<&'static str>, SessionError> {
    let row = session.ask_one(FORBIDDEN).await?;
    // A count that cannot be read is not a zero.
    Ok(NAMES.iter().enumerate().filter(|(column, _)| row.get(*column) != Some("0")).map(|(_, name)| *name).collect())
}

/// The databases beside the session's own that the role may enter. Rights to functions belong to one database each.
///
/// # Errors
/// How the node did not answer.
pub async fn other_databases(session: &Session) -> Result<Vec<String>, SessionError> {
    let rows = session
        .ask(
            "select datname from pg_database where datallowconn and datname <> current_database()
             and has_database_privilege(datname, 'connect') order by datname",
        )
        .await?;
    Ok(rows.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect())
}

/// Whether the role sees the statistics it must judge by. Without `pg_monitor` PostgreSQL hides them as NULL, which reads like health.
///
/// # Errors
/// How the node did not answer.
pub async fn sees_statistics(session: &Session) -> Result<bool, SessionError> {
    Ok(session.ask_text("select pg_has_role(current_user, 'pg_monitor', 'usage')::text").await?.as_deref() == Some("true"))
}
