//! What one node says of itself in one statement: identity, role, timeline, positions, replay. Judging it is the steps' business.

use jiff::Timestamp;
use lifeboat_engine::ReadContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use super::session::{Session, SessionError};
use crate::resources::database::{Database, Node};

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// When it was asked, on our clock, just before the question was sent.
    pub at: Timestamp,
    /// The cluster it belongs to.
    pub system_identifier: String,
    /// `150010`.
    pub version: u32,
    /// Primary or standby.
    pub role: Role,
    /// The timeline it is on. Of a standby without a running receiver this may lag by a checkpoint.
    pub timeline: u32,
    /// Names of the synchronous standbys it waits for, empty for none.
    pub synchronous_standby_names: String,
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes writes.
    Primary {
        /// Where its log ends.
        current: Lsn,
    },
    /// Replays another node's log.
    Standby(Standby),
}

/// How a standby stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standby {
    /// Received and synced. PostgreSQL sets it back to the segment's start at a restart; NULL before any streaming.
    pub receive: Option<Lsn>,
    /// Replayed.
    pub replay: Option<Lsn>,
    /// `not paused`, `pause requested` or `paused`.
    pub pause: String,
    /// `recovery_min_apply_delay` in milliseconds.
    pub delay_ms: u64,
    /// The settings of `recovery_target*` that are not empty, by name.
    pub recovery_targets: Option<String>,
    /// Where it is told to stream from, as `host:port`, without anything else of `primary_conninfo`.
    pub upstream_set: Option<String>,
    /// Where it streams from now, as `host:port`, if a receiver runs.
    pub upstream: Option<String>,
    /// `streaming` while a receiver runs and gets data.
    pub receiver: Option<String>,
    /// How long ago, in milliseconds, the receiver last heard from its upstream. A silent primary keeps its receivers for a minute.
    pub heard_ms_ago: Option<u64>,
    /// Commit time, on the old primary's clock, of the last transaction replayed.
    pub last_replayed_commit: Option<Timestamp>,
}

impl Standby {
    /// The end of what this standby has: everything up to here survives its promotion.
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        self.receive.max(self.replay)
    }

    /// Whether a receiver is getting data now.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.receiver.as_deref() == Some("streaming")
    }
}

impl Seen {
    /// The standby's part, if it is one.
    #[must_use]
    pub fn standby(&self) -> Option<&Standby> {
        match &self.role {
            Role::Standby(standby) => Some(standby),
            Role::Primary { .. } => None,
        }
    }

    /// The end of its log, or of what it received.
    #[must_use]
    pub fn position(&self) -> Option<Lsn> {
        match &self.role {
            Role::Primary { current } => Some(*current),
            Role::Standby(standby) => standby.position(),
        }
    }
}

/// A node in a report: enough for a person to follow a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// `primary`, `standby`, `stopped` (proven from its files), `refused` (nothing listens) or `unreachable`.
    pub state: String,
    /// Its timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// The end of its log, or of what it received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Lsn>,
    /// Why it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<&Result<Seen, SessionError>> for NodeState {
    fn from(answer: &Result<Seen, SessionError>) -> Self {
        match answer {
            Ok(seen) => Self {
                state: if seen.standby().is_some() { "standby".into() } else { "primary".into() },
                timeline: Some(seen.timeline),
                position: seen.position(),
                why: None,
            },
            Err(error) => Self {
                state: if matches!(error, SessionError::Refused { .. }) { "refused".into() } else { "unreachable".into() },
                timeline: None,
                position: None,
                why: Some(error.to_string()),
            },
        }
    }
}

/// `pg_current_wal_lsn` and the replay functions each exist on one side only, so both sides stand in a CASE. The password in
/// `primary_conninfo` never leaves the server: only host and port are cut out of it.
const LOOK: &str = "select
 (select system_identifier::text from pg_control_system()),
 current_setting('server_version_num'),
 pg_is_in_recovery()::text,
 case when pg_is_in_recovery() then greatest(
   (select received_tli from pg_stat_wal_receiver), (select timeline_id from pg_control_checkpoint()),
   (select min_recovery_end_timeline from pg_control_recovery()))
  else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end::text,
 current_setting('synchronous_standby_names'),
 case when not pg_is_in_recovery() then pg_current_wal_lsn() end::text,
 pg_last_wal_receive_lsn()::text,
 pg_last_wal_replay_lsn()::text,
 case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() end,
 (select setting from pg_settings where name = 'recovery_min_apply_delay'),
 (select string_agg(name || '=' || setting, ', ') from pg_settings where setting <> '' and name in
   ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time', 'recovery_target_xid')),
 (select substring(setting from '\\mhost\\s*=\\s*''?([^ '']+)') || ':' || coalesce(substring(setting from '\\mport\\s*=\\s*''?([0-9]+)'), '5432')
   from pg_settings where name = 'primary_conninfo'),
 (select sender_host || ':' || sender_port from pg_stat_wal_receiver),
 (select status from pg_stat_wal_receiver),
 (extract(epoch from pg_last_xact_replay_timestamp()) * 1000000)::bigint::text,
 (select greatest(0, extract(epoch from clock_timestamp() - last_msg_receipt_time) * 1000)::bigint from pg_stat_wal_receiver)::text";

/// Logs in as the probe and looks.
///
/// # Errors
/// How the node did not answer.
pub async fn look(cx: &ReadContext, db: &Database, node: &Node) -> Result<Seen, SessionError> {
    look_through(cx, &Session::reading(cx, db, node).await?).await
}

/// Looks through a session that is open already.
///
/// # Errors
/// How the node did not answer.
pub async fn look_through(cx: &ReadContext, session: &Session) -> Result<Seen, SessionError> {
    let at = cx.now();
    let row = session.ask_one(LOOK).await?;
    let wrong = |what: &str| SessionError::Ours { why: format!("{} gave no {what} that we understand", session.address()) };
    let text = |column: usize| row.get(column).filter(|text| !text.is_empty());
    let lsn = |column: usize| text(column).map(|text| text.parse::<Lsn>()).transpose().map_err(|why| SessionError::Ours { why });
    let role = match row.get(2) {
        Some("false") => Role::Primary { current: lsn(5)?.ok_or_else(|| wrong("position"))? },
        Some("true") => Role::Standby(Standby {
            receive: lsn(6)?,
            replay: lsn(7)?,
            pause: text(8).unwrap_or_default().to_owned(),
            delay_ms: text(9).and_then(|text| text.parse().ok()).unwrap_or(0),
            recovery_targets: text(10).map(str::to_owned),
            upstream_set: text(11).map(str::to_owned),
            upstream: text(12).map(str::to_owned),
            receiver: text(13).map(str::to_owned),
            heard_ms_ago: text(15).and_then(|text| text.parse().ok()),
            last_replayed_commit: micros(text(14)),
        }),
        Some(_) | None => return Err(wrong("recovery state")),
    };
    Ok(Seen {
        at,
        system_identifier: text(0).ok_or_else(|| wrong("system identifier"))?.to_owned(),
        version: text(1).and_then(|text| text.parse().ok()).ok_or_else(|| wrong("version"))?,
        role,
        timeline: text(3).and_then(|text| text.parse().ok()).ok_or_else(|| wrong("timeline"))?,
        synchronous_standby_names: text(4).unwrap_or_default().to_owned(),
    })
}

/// Microseconds since 1970, as our statements give instants.
pub(crate) fn micros(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok()).and_then(|micros| Timestamp::from_microsecond(micros).ok())
}
