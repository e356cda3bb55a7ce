//! What a drill lists of a database before and after: each node's role, what a standby follows, and lasting replication slots. Looks only,
//! as the probe.

use std::time::Duration;

use lifeboat_engine::ReadContext;
use lifeboat_engine::census::{Census, Thing};
use lifeboat_engine::step::StepError;

use super::look::{Role, Seen, look_through};
use super::session::Session;
use crate::resources::database::Database;

/// Lasting slots, with what makes each what it is. How far one has come changes by itself and is left out.
const SLOTS: &str = "select slot_name, slot_type, coalesce(database::text, ''), coalesce(plugin::text, '') from pg_replication_slots \
                     where not temporary order by slot_name";

/// How long a standby that streams from nobody may take to find its upstream again: it tries every few seconds (`wal_retrieve_retry_interval`,
/// 5 s by default) after its upstream was started again.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks at a standby that streams from nobody.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Lists a database.
pub(crate) async fn of_database(name: &str, cx: &ReadContext) -> Result<Census, StepError> {
    let database = cx.inventory.get::<Database>(name).map_err(|error| StepError::hopeless(error.to_string()))?;
    let mut things = Vec::new();
    for (name, node) in &database.nodes {
        // A node that is down before a drill has to be down after it, too: one that was stopped and not started again is left behind.
        let Ok(session) = Session::reading(cx, &database, node).await else {
            things.push(Thing::new(format!("node {name}"), "does not answer"));
            continue;
        };
        let trouble = |error: super::session::SessionError| StepError::not_done(format!("{name}: {error}"));
        let seen = settled(cx, &session).await.map_err(trouble)?;
        let role = match &seen.role {
            Role::Primary { .. } => format!("primary on timeline {}", seen.timeline),
            // One that followed a promotion that was taken back cannot stream from anybody any more, and nothing else tells it apart.
            Role::Standby(standby) if standby.streams() => format!("standby that streams timeline {}", seen.timeline),
            // Of this one the timeline may lag by a checkpoint.
            Role::Standby(_) => "standby that streams from nobody".to_owned(),
        };
        let waits = match seen.synchronous_standby_names.as_str() {
            "" => String::new(),
            names => format!(", waits for {names}"),
        };
        things.push(Thing::new(format!("node {name}"), format!("{role} of cluster {}{waits}", seen.system_identifier)));
        for row in session.ask(SLOTS).await.map_err(trouble)? {
            let text = |column: usize| row.get(column).unwrap_or_default();
            let of = [text(2), text(3)].iter().filter(|part| !part.is_empty()).fold(String::new(), |all, part| format!("{all}, {part}"));
            things.push(Thing::new(format!("slot {} on {name}", text(0)), format!("{}{of}", text(1))));
        }
    }
    Ok(Census::Listed(things))
}

/// Looks until a standby that has an upstream streams from it, or has had its time to.
async fn settled(cx: &ReadContext, session: &Session) -> Result<Seen, super::session::SessionError> {
    let mut waited = Duration::ZERO;
    loop {
        let seen = look_through(cx, session).await?;
        let alone = seen.standby().is_some_and(|standby| standby.upstream_set.is_some() && !standby.streams());
        if !alone || waited >= FOLLOWS_WITHIN {
            return Ok(seen);
        }
        cx.sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
}
