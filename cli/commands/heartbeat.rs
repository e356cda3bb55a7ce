//! `lifeboat heartbeat`: writes a heartbeat row and keeps the acknowledged values outside the database, until it is stopped.

use std::sync::Arc;

use lifeboat_engine::clock::SystemClock;
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_steps::heartbeat::{self, Beats, HeartbeatError, TableRule};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Global, HeartbeatArgs};
use crate::exit::{Exit, Trouble, say};
use crate::wiring;

pub(crate) async fn run(global: &Global, args: &HeartbeatArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let secrets = Arc::new(LocalSecrets::new(&inventory.folder));
    let table = if args.create_table { TableRule::Create } else { TableRule::Expect };
    let beats = Beats { db: args.database.clone(), inventory: Arc::new(inventory), secrets, table };
    let lost = |error: std::io::Error| Trouble::engine(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(lost)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(lost)?;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    match heartbeat::run(beats, Arc::new(SystemClock), stop, say).await {
        Ok(()) => Ok(Exit::Done),
        Err(error @ HeartbeatError::Taken { .. }) => {
            Err(Trouble::from_error(Exit::Refused, &error).help("one heartbeat for each database is enough; stop the other first"))
        }
        Err(error @ (HeartbeatError::Inventory(_) | HeartbeatError::File(_))) => Err(Trouble::from_error(Exit::Engine, &error)),
    }
}
