//! The engine in this process: runs on a store of the disk or of memory, timed from admission to the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lifeboat_engine::Registry;
use lifeboat_engine::admission::admit;
use lifeboat_engine::clock::SystemClock;
use lifeboat_engine::executor::{Driven, Executor};
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::journal::{Actor, Incident, Outcome, RunId};
use lifeboat_engine::ports::Ports;
use lifeboat_engine::resume::claim;
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_engine::together::Together;
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{OwnerId, SledOptions, SledStore, Store};
use tokio::runtime::Runtime;

use crate::figures::now;
use crate::noop::Noop;
use crate::plans;
use crate::trouble::{Result, Trouble, trouble};
use crate::watched::Watched;

/// An engine over one store.
#[derive(Debug)]
pub(crate) struct Engine<S> {
    pub(crate) ports: Ports,
    pub(crate) store: Arc<Watched<Together<S>>>,
    chance: AtomicU32,
}

/// Admissions under way at the same time.
const ADMITTED_AT_ONCE: usize = 128;

/// The runtime of the product: one worker for each core.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| trouble("starting the runtime", error))
}

/// Opens a store on the disk.
pub(crate) fn on_disk(folder: &Path) -> Result<SledStore> {
    SledStore::open(folder, &SledOptions::default()).map_err(|error| trouble("opening a store", error))
}

impl<S: Store + 'static> Engine<S> {
    pub(crate) fn new(store: S) -> Arc<Self> {
        // As the binary wires it.
        let store = Arc::new(Watched::new(Together::before(store)));
        let ports = Ports {
            store: Arc::clone(&store) as Arc<dyn Store>,
            registry: Arc::new(Registry::new().with::<Noop>()),
            inventory: Arc::new(Inventory::default()),
            secrets: Arc::new(LocalSecrets::new(Path::new("."))),
            clock: Arc::new(SystemClock),
        };
        Arc::new(Self { ports, store, chance: AtomicU32::new(1) })
    }

    pub(crate) fn plan(&self, text: &str) -> Result<Plan> {
        plans::planned(text, &self.ports.registry, &self.ports.inventory)
    }

    /// Admits one run and gives its executor.
    pub(crate) async fn admit(&self, plan: Plan) -> Result<Executor> {
        let owner = OwnerId("bench".into());
        let by = Actor { person: None, system_user: "bench".into(), via: "terminal".into() };
        // Every run needs a name of its own; the multiplier spreads them over all letters of the name's tail.
        let chance = self.chance.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B1) >> 8;
        let admitted = admit(&self.ports, plan, &owner, by, Incident::default(), chance).await;
        let admitted = admitted.map_err(|error| trouble("admitting a run", error))?;
        Ok(Executor::new(self.ports.clone(), owner, admitted.run, admitted.next).0)
    }

    /// Takes over a run whose process is gone.
    pub(crate) async fn take_over(&self, run: &RunId) -> Result<Executor> {
        let owner = OwnerId("bench-again".into());
        let loaded = claim(&self.ports, &owner, run).await.map_err(|error| trouble("taking a run over", error))?;
        Ok(Executor::new(self.ports.clone(), owner, loaded.run, loaded.next).0)
    }

    /// Admits so many runs of a plan, some at a time.
    pub(crate) async fn admit_all(self: &Arc<Self>, plan: &Plan, runs: usize) -> Result<Vec<Executor>> {
        let mut executors = Vec::with_capacity(runs);
        let mut tasks = tokio::task::JoinSet::new();
        for admitted in 1..=runs {
            let (engine, plan) = (Arc::clone(self), plan.clone());
            tasks.spawn(async move { engine.admit(plan).await });
            if tasks.len() == ADMITTED_AT_ONCE || admitted == runs {
                while let Some(admitted) = tasks.join_next().await {
                    executors.push(admitted.map_err(|error| trouble("admitting", error))??);
                }
            }
        }
        Ok(executors)
    }

    /// Drives runs side by side to their end; the time from the first start to the last end.
    pub(crate) async fn drive(&self, executors: Vec<Executor>) -> Result<Duration> {
        let began = now();
        let mut tasks = tokio::task::JoinSet::new();
        for executor in executors {
            tasks.spawn(executor.drive());
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(Driven::Ended(Outcome::Succeeded))) => {}
                other => return Err(Trouble(format!("a run did not succeed: {other:?}"))),
            }
        }
        Ok(now().since(began))
    }
}
