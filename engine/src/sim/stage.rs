//! The stage of a play: one store, one world, one virtual clock, and processes that drive runs on it, die and are followed by
//! others. The engine's own functions do the work.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{MemoryStore, Seq, Store as _};
use tokio::sync::oneshot;

use super::clock::{EVER, SimClock};
use super::process::{Process, ProcessClock, ProcessStore};
use super::steps::{self, Outputs};
use super::world::World;
use crate::admission::{self, AdmissionError, Admitted};
use crate::clock::Clock;
use crate::executor::{Driven, Executor, ExecutorError, Handle, Request};
use crate::history::{self, HistoryError, Loaded};
use crate::inventory::Inventory;
use crate::journal::{Actor, Incident, Outcome, RunId};
use crate::ports::Ports;
use crate::registry::Registry;
use crate::resume::{self, ResumeError};
use crate::run::{Run, RunPhase};
use crate::secret::LocalSecrets;
use crate::steering::{Command, SteerError};

/// How a process came to rest.
#[derive(Debug)]
pub enum Rest {
    /// The run ended.
    Ended(Outcome),
    /// A person is needed, and none of those around came.
    Held,
    /// The process stopped over this.
    Stopped(ExecutorError),
    /// It was killed.
    Killed,
}

/// Who acts on a run while it goes on: asked whenever the journal grew, at most one act each time.
pub type People<'a> = &'a mut dyn FnMut(&Run) -> Option<(Command, Actor)>;

/// Nobody acts.
#[must_use]
pub fn nobody(_: &Run) -> Option<(Command, Actor)> {
    None
}

/// First wait between two looks of people at a run; it grows slowly up to the longest.
const LOOK_AFTER: Duration = Duration::from_millis(500);
const LOOK_AFTER_MAX: Duration = Duration::from_secs(60);

/// Everything that outlives a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The truth.
    pub world: Arc<World>,
    /// What is durable.
    pub memory: MemoryStore,
    /// Time.
    pub clock: SimClock,
    /// The named things and people.
    pub inventory: Arc<Inventory>,
    registry: Arc<Registry>,
    outputs: Arc<dyn Outputs>,
    started: Arc<AtomicU32>,
    /// Answers to what people asked, in order.
    answers: Arc<std::sync::Mutex<Vec<Result<(), SteerError>>>>,
}

impl Stage {
    /// An empty store in a fresh world at dawn. `registry` has the step types whose outside is simulated.
    #[must_use]
    pub fn new(registry: Arc<Registry>, inventory: Arc<Inventory>, outputs: Arc<dyn Outputs>) -> Self {
        let clock = SimClock::new();
        let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
        Self {
            world: World::new(memory.clone()),
            memory,
            clock,
            inventory,
            registry,
            outputs,
            started: Arc::default(),
            answers: Arc::default(),
        }
    }

    /// The same stage with a store that several machines share: whoever drives a run holds its lease, which lasts so long.
    #[must_use]
    pub fn shared_with_lease(mut self, lease: Duration) -> Self {
        self.memory = self.memory.shared_with_lease(lease);
        self
    }

    /// A process that was never there before.
    #[must_use]
    pub fn process(&self) -> Arc<Process> {
        Process::new(self.started.fetch_add(1, Ordering::SeqCst), self.clock.clone(), Arc::clone(&self.world))
    }

    /// What the engine is wired to in this process.
    #[must_use]
    pub fn ports(&self, process: &Arc<Process>) -> Ports {
        Ports {
            store: Arc::new(ProcessStore { memory: self.memory.clone(), process: Arc::clone(process) }),
            registry: Arc::new(steps::registry(&self.registry, &self.world, process, &self.outputs)),
            inventory: Arc::clone(&self.inventory),
            secrets: Arc::new(LocalSecrets::new(std::path::Path::new("/nowhere"))),
            clock: Arc::new(ProcessClock(Arc::clone(process))) as Arc<dyn Clock>,
        }
    }

    /// Somebody starts a run in this process.
    ///
    /// # Errors
    /// As [`admission::admit`].
    pub async fn admit(&self, process: &Arc<Process>, plan: Plan, by: Actor) -> Result<Admitted, AdmissionError> {
        let ports = self.ports(process);
        let admitting = admission::admit(&ports, plan, &process.owner, by, Incident::default(), process.number);
        tokio::select! {
            biased;
            () = process.died() => Err(AdmissionError::Store(lifeboat_store::StoreError::Poisoned("the process died".into()))),
            admitted = admitting => admitted,
        }
    }

    /// A process that nothing befalls drives an admitted or claimed run until it rests.
    pub async fn drive(&self, run: Run, next: Seq, people: People<'_>) -> Rest {
        self.drive_in(&self.process(), run, next, people).await
    }

    /// This process drives an admitted or claimed run until it rests.
    pub async fn drive_in(&self, process: &Arc<Process>, run: Run, next: Seq, people: People<'_>) -> Rest {
        let (executor, handle) = Executor::new(self.ports(process), process.owner.clone(), run, next);
        self.attend(process, executor, handle, people, EVER).await
    }

    /// Lets people look at a run that is driven, until it rests, its process dies, or so much time has passed and it is killed.
    pub async fn attend(&self, process: &Arc<Process>, executor: Executor, handle: Handle, people: People<'_>, until: Duration) -> Rest {
        // In a box, because futures that hold a whole executor are large.
        let mut driving = Box::pin(executor.drive());
        let ends_at = self.clock.elapsed().saturating_add(until);
        let (mut pause, mut seen) = (LOOK_AFTER, Seq(0));
        loop {
            let length = pause.min(ends_at.saturating_sub(self.clock.elapsed()));
            tokio::select! {
                biased;
                () = process.died() => return Rest::Killed,
                driven = &mut driving => return rest(driven),
                () = self.clock.sleep(length) => {}
            }
            if self.clock.elapsed() >= ends_at {
                process.kill();
                return Rest::Killed;
            }
            // Long waits need no watching.
            pause = (pause * 21 / 20).min(LOOK_AFTER_MAX);
            let Some(run) = self.grown(&handle.run, &mut seen).await else { continue };
            if let Some((command, by)) = people(&run) {
                // Whoever acted looks again soon, also where the act was refused and the journal did not grow.
                seen = Seq(0);
                let (reply, answer) = oneshot::channel();
                if handle.requests.send(Request::Steer { command, by, reply }).await.is_err() {
                    continue;
                }
                let before = self.length(&handle.run).await;
                let answered = async {
                    let answer = answer.await;
                    // The law of acknowledgement: whoever is told yes finds it in what is durable.
                    if matches!(answer, Ok(Ok(()))) && self.length(&handle.run).await <= before {
                        self.world.breaks("acknowledged", "a person was told yes before it was durable".to_owned());
                    }
                    answer
                };
                tokio::select! {
                    biased;
                    () = process.died() => return Rest::Killed,
                    answer = answered => self.answers().extend(answer.ok()),
                    driven = &mut driving => return rest(driven),
                }
            } else if run.phase == RunPhase::Held {
                // Where it is gone already, the next look says how it ended.
                let _ = handle.requests.send(Request::Detach).await;
            }
        }
    }

    async fn length(&self, name: &RunId) -> Seq {
        let Ok(log) = history::run_log(name) else { return Seq(0) };
        self.memory.read(&log, Seq(0), NonZeroU32::MIN).await.map_or(Seq(0), |page| page.next)
    }

    /// The run as it is durable, where its journal grew since it was seen last.
    async fn grown(&self, name: &RunId, seen: &mut Seq) -> Option<Run> {
        let page = self.memory.read(&history::run_log(name).ok()?, *seen, NonZeroU32::MIN).await.ok()?;
        if page.next == *seen {
            return None;
        }
        *seen = page.next;
        Some(self.load(name).await.ok()?.run)
    }

    /// Takes a run over in this process.
    ///
    /// # Errors
    /// As [`resume::claim`]; where the process dies meanwhile, [`ResumeError::Store`].
    pub async fn claim(&self, process: &Arc<Process>, name: &RunId) -> Result<Loaded, ResumeError> {
        let ports = self.ports(process);
        tokio::select! {
            biased;
            () = process.died() => Err(ResumeError::Store(lifeboat_store::StoreError::Poisoned("the process died".into()))),
            claimed = resume::claim(&ports, &process.owner, name) => claimed,
        }
    }

    /// The run as it is durable.
    ///
    /// # Errors
    /// As [`history::load`].
    pub async fn load(&self, name: &RunId) -> Result<Loaded, HistoryError> {
        history::load(&self.memory, name).await
    }

    /// Answers that people got to what they asked while a run was driven, in order.
    pub fn answers(&self) -> std::sync::MutexGuard<'_, Vec<Result<(), SteerError>>> {
        self.answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn rest(driven: Result<Driven, ExecutorError>) -> Rest {
    match driven {
        Ok(Driven::Ended(outcome)) => Rest::Ended(outcome),
        Ok(Driven::Detached) => Rest::Held,
        Err(error) => Rest::Stopped(error),
    }
}
