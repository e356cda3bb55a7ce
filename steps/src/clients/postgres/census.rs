//! What a drill lists of a database before and after: each node's role, and its lasting replication slots. Looks only, as the probe.

use lifeboat_engine::ReadContext;
use lifeboat_engine::census::{Census, Thing};
use lifeboat_engine::step::StepError;

use super::look::{Role, look_through};
use super::session::Session;
use crate::resources::database::Database;

/// Lasting slots, with what makes each what it is. How far one has come changes by itself and is left out.
const SLOTS: &str = "select slot_name, slot_type, coalesce(database::text, ''), coalesce(plugin::text, '') from pg_replication_slots \
                     where not temporary order by slot_name";

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
        let seen = look_through(cx, &session).await.map_err(trouble)?;
        let role = match &seen.role {
            Role::Primary { .. } => format!("primary on timeline {}", seen.timeline),
            // Of a standby the timeline may lag by a checkpoint.
            Role::Standby(_) => "standby".to_owned(),
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
