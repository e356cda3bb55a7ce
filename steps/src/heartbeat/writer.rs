//! The writer: finds the primary, writes a row each period, keeps what was acknowledged. It never decides anything about a failure.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::clock::Clock;
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::secret::Secrets;

use super::acknowledged::{Acknowledged, Beat};
use super::{quoted, table_definition};
use crate::clients::postgres::session::Doorway;
use crate::clients::postgres::{Session, SessionError};
use crate::resources::database::{Database, Heartbeat};

/// Shortest wait for one beat's acknowledgement; longer periods wait as long as a period.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// What a heartbeat needs.
#[derive(Debug)]
pub struct Beats {
    /// The database's name in the inventory.
    pub db: String,
    /// The named things.
    pub inventory: Arc<Inventory>,
    /// Passwords.
    pub secrets: Arc<dyn Secrets>,
    /// What to do about the table.
    pub table: TableRule,
}

/// Whether the heartbeat may create its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableRule {
    /// Create it if it is missing.
    Create,
    /// It must be there.
    Expect,
}

/// Why a heartbeat cannot start or go on. A database that does not answer is none of these: it is what a heartbeat is for.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// The inventory does not fit.
    #[error("{0}")]
    Inventory(String),
    /// Another writer is at work: two would count past each other.
    #[error("another heartbeat of {db} holds {}", path.display())]
    Taken {
        /// The database.
        db: String,
        /// The lock file.
        path: PathBuf,
    },
    /// The acknowledged values cannot be kept.
    #[error("{0}")]
    File(String),
}

/// Beats until `stop` is done. `tell` gets a line for people whenever things change.
///
/// # Errors
/// What keeps it from doing its work; see [`HeartbeatError`].
pub async fn run(
    beats: Beats,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()> + Send,
    tell: impl Fn(&str) + Send + Sync,
) -> Result<(), HeartbeatError> {
    let db: Database = beats.inventory.get(&beats.db).map_err(|error| HeartbeatError::Inventory(error.to_string()))?;
    let heartbeat =
        db.heartbeat.clone().ok_or_else(|| HeartbeatError::Inventory(format!("{:?} has no `heartbeat` in the inventory", beats.db)))?;
    let path = beats.inventory.path(&heartbeat.acknowledged);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| HeartbeatError::File(format!("{} cannot be made: {error}", folder.display())))?;
    }
    let _lock = lock(&beats.db, &path)?;
    let mut kept = Acknowledged::read(&path)
        .map_err(HeartbeatError::File)?
        .unwrap_or_else(|| Acknowledged::new(&beats.db, heartbeat.period.as_millis()));
    if kept.db != beats.db {
        return Err(HeartbeatError::File(format!("{} holds the heartbeats of {:?}, not of {:?}", path.display(), kept.db, beats.db)));
    }
    kept.period_ms = heartbeat.period.as_millis();
    let mut writer = Writer { beats: &beats, db: &db, heartbeat: &heartbeat, clock: &clock, primary: None, next: kept.last_number() + 1 };
    let mut well = None;
    tokio::pin!(stop);
    loop {
        let began = clock.instant();
        let beaten = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            beaten = writer.beat(&mut kept) => beaten,
        };
        let now_well = beaten.is_ok();
        match beaten {
            Ok(()) if well != Some(true) => tell(&format!("beating on {}, number {}", writer.node(), kept.last_number())),
            Ok(()) => {}
            Err(why) => {
                kept.fail(clock.now(), &why);
                if well != Some(false) {
                    tell(&format!("no heartbeat: {why}"));
                }
            }
        }
        well = Some(now_well);
        kept.write(&path).map_err(HeartbeatError::File)?;
        let rest = heartbeat.period.0.saturating_sub(clock.instant().since(began));
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = clock.sleep(rest) => {}
        }
    }
}

/// Keeps a second writer out, for as long as the file is open.
fn lock(db: &str, path: &Path) -> Result<std::fs::File, HeartbeatError> {
    let path = path.with_extension("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| HeartbeatError::File(format!("{} cannot be opened: {error}", path.display())))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(HeartbeatError::Taken { db: db.to_owned(), path }),
    }
}

struct Writer<'a> {
    beats: &'a Beats,
    db: &'a Database,
    heartbeat: &'a Heartbeat,
    clock: &'a Arc<dyn Clock>,
    primary: Option<(String, Session)>,
    next: u64,
}

impl Writer<'_> {
    fn node(&self) -> &str {
        self.primary.as_ref().map_or("no node", |(node, _)| node)
    }

    /// One beat: a number is used once, acknowledged or not, so that a row that arrived after all is never taken for another.
    async fn beat(&mut self, kept: &mut Acknowledged) -> Result<(), String> {
        if self.primary.is_none() {
            self.find(kept).await?;
        }
        let Some((node, session)) = &self.primary else {
            return Err("no node of the database is a primary".into());
        };
        let n = self.next;
        self.next += 1;
        let sent_at = self.clock.now();
        let table = self.heartbeat.table.as_sql();
        let answer = session
            .ask_one(&format!(
                "insert into {table} as t (writer, timeline, n, sent_at) values ({writer}, {TIMELINE}, {n}, '{sent_at}') \
                 on conflict (writer, timeline) do update set n = excluded.n, sent_at = excluded.sent_at, \
                 written_at = clock_timestamp() where t.n < excluded.n returning timeline::text",
                writer = quoted(&self.beats.db),
            ))
            .await;
        let warned = session.warnings() > 0;
        let node = node.clone();
        match answer {
            // A warning on such a commit is PostgreSQL giving up on its synchronous replica: committed here, promised nowhere.
            Ok(_) if warned => self.lose(format!("{node} committed without its synchronous replica")),
            Ok(row) => match row.get(0).and_then(|text| text.parse().ok()) {
                Some(timeline) => {
                    kept.acknowledge(Beat { n, timeline, node, sent_at, acked_at: self.clock.now() });
                    Ok(())
                }
                None => self.lose(format!("{node} answered without a timeline")),
            },
            Err(error) => self.lose(error.to_string()),
        }
    }

    fn lose(&mut self, why: String) -> Result<(), String> {
        self.primary = None;
        Err(why)
    }

    /// Asks every node at once, so that one that swallows packets does not delay finding the others.
    async fn find(&mut self, kept: &mut Acknowledged) -> Result<(), String> {
        let mut asked = tokio::task::JoinSet::new();
        for (name, node) in &self.db.nodes {
            let (name, node, db, heartbeat) = (name.clone(), node.clone(), self.db.clone(), self.heartbeat.clone());
            let (clock, inventory, secrets) = (Arc::clone(self.clock), Arc::clone(&self.beats.inventory), Arc::clone(&self.beats.secrets));
            asked.spawn(async move {
                let password = secrets.read(&heartbeat.password).map_err(|error| SessionError::Ours { why: error.to_string() });
                let patience = PATIENCE_MIN.max(heartbeat.period.0);
                let session = match password {
                    Ok(password) => {
                        let doorway = Doorway {
                            clock,
                            inventory: &inventory,
                            name: "lifeboat-heartbeat".into(),
                            password,
                            options: format!("-c statement_timeout={}", patience.as_millis()),
                            connect: patience,
                            statement: patience,
                        };
                        doorway.enter(&db, &node, &heartbeat.user).await
                    }
                    Err(error) => Err(error),
                };
                (name, ask(session).await)
            });
        }
        let mut primaries = Vec::new();
        let mut troubles = Vec::new();
        while let Some(joined) = asked.join_next().await {
            match joined {
                Ok((name, Ok(Some(primary)))) => primaries.push((name, primary)),
                Ok((_, Ok(None))) => {}
                Ok((name, Err(error))) => troubles.push(format!("{name}: {error}")),
                Err(error) => troubles.push(error.to_string()),
            }
        }
        // Of two primaries the one on the later timeline is the promoted one; the other's rows are about to be lost.
        primaries.sort_by_key(|(_, primary)| primary.timeline);
        let Some((name, primary)) = primaries.pop() else {
            troubles.sort();
            return Err(if troubles.is_empty() { "every node is a standby".into() } else { troubles.join("; ") });
        };
        let identifier = Some(primary.system_identifier);
        if self.db.system_identifier.is_some() && self.db.system_identifier != identifier {
            return Err(format!("{name} belongs to another cluster than the inventory names"));
        }
        kept.system_identifier = identifier;
        if self.beats.table == TableRule::Create {
            primary.session.ask(&table_definition(self.heartbeat)).await.map_err(|error| error.to_string())?;
        }
        self.primary = Some((name, primary.session));
        Ok(())
    }
}

/// The timeline of a primary, in SQL.
const TIMELINE: &str = "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";

struct Primary {
    session: Session,
    timeline: u32,
    system_identifier: String,
}

async fn ask(session: Result<Session, SessionError>) -> Result<Option<Primary>, SessionError> {
    let session = session?;
    let row = session
        .ask_one(&format!(
            "select case when not pg_is_in_recovery() then {TIMELINE} end::text, (select system_identifier::text from pg_control_system())"
        ))
        .await?;
    let timeline = row.get(0).and_then(|text| text.parse().ok());
    let system_identifier = row.get(1).unwrap_or_default().to_owned();
    Ok(timeline.map(|timeline| Primary { session, timeline, system_identifier }))
}
