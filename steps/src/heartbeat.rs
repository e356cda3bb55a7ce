//! `lifeboat heartbeat`: a numbered row in the database, its acknowledged values outside. Starting and stopping it is the caller's.
//!
//! The table keeps one row per writer and timeline. A row of timeline N is never touched again once timeline N+1 has begun, so after a
//! promotion it tells for good what was recovered, however fast the heartbeat goes on with the new primary.

pub mod acknowledged;
mod writer;

use std::path::PathBuf;

use jiff::Timestamp;
use lifeboat_engine::ReadContext;

use crate::clients::postgres::look::micros;
use crate::clients::postgres::{Session, SessionError};
use crate::resources::database::{Database, Heartbeat};

pub use acknowledged::{Acknowledged, Beat, Outage};
pub use writer::{Beats, HeartbeatError, TableRule, run};

/// A row as a node holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its number.
    pub n: u64,
    /// The timeline it was written on.
    pub timeline: u32,
    /// Just before it was sent, on the writer's clock.
    pub sent_at: Timestamp,
}

/// The definition of the table. The acting role writes the proof of a promotion into it, the probe reads it.
#[must_use]
pub fn table_definition(heartbeat: &Heartbeat) -> String {
    format!(
        "create table if not exists {} (writer text not null, timeline int not null, n bigint not null, \
         sent_at timestamptz not null, written_at timestamptz not null default clock_timestamp(), primary key (writer, timeline))",
        heartbeat.table.as_sql()
    )
}

/// The last row of a writer that a node holds for a timeline.
///
/// # Errors
/// How the node did not answer; a missing table is `Answered` with 42P01.
pub async fn found(session: &Session, heartbeat: &Heartbeat, writer: &str, timeline: u32) -> Result<Option<Found>, SessionError> {
    let rows = session
        .ask(&format!(
            "select n::text, (extract(epoch from sent_at) * 1000000)::bigint::text from {} where writer = {} and timeline = {timeline}",
            heartbeat.table.as_sql(),
            quoted(writer)
        ))
        .await?;
    Ok(rows.first().and_then(|row| {
        let n = row.get(0)?.parse().ok()?;
        Some(Found { n, timeline, sent_at: micros(row.get(1))? })
    }))
}

/// The acknowledged values of a database, from beside the inventory.
///
/// # Errors
/// What cannot be read.
pub fn acknowledged(cx: &ReadContext, db: &Database) -> Result<Option<Acknowledged>, String> {
    match &db.heartbeat {
        Some(heartbeat) => Acknowledged::read(&path(cx, heartbeat)),
        None => Ok(None),
    }
}

fn path(cx: &ReadContext, heartbeat: &Heartbeat) -> PathBuf {
    cx.inventory.path(&heartbeat.acknowledged)
}

/// A text as an SQL literal. `standard_conforming_strings` has been on by default since 9.1.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
