//! The stage of a test: one store, one world, one virtual clock, and processes that drive runs on it, die and are followed by others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::Clock;
use lifeboat_engine::admission::{self, AdmissionError, Admitted};
use lifeboat_engine::clock::Instant;
use lifeboat_engine::executor::{Driven, Executor, ExecutorError, Handle, Request};
use lifeboat_engine::history::{self, Loaded};
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::journal::{Actor, Event, Incident, Outcome, Resolution, RunId};
use lifeboat_engine::ports::Ports;
use lifeboat_engine::registry::Registry;
use lifeboat_engine::resume::{self, ResumeError};
use lifeboat_engine::run::{Run, RunPhase, StepState};
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{MemoryStore, OwnerId, Store};
use tokio::sync::oneshot;

use super::World;
use super::plans::{self, PlanWords, actor, id};
use super::slow::Slow;

/// Virtual time: it moves on by itself whenever every task waits.
#[derive(Debug)]
pub(crate) struct SimClock {
    began: tokio::time::Instant,
}

/// When every test begins.
pub(crate) const DAWN: &str = "2026-03-01T00:00:00Z";

impl SimClock {
    /// Whether so many seconds went by since the test began.
    pub(crate) fn instant_is_past(&self, seconds: u64) -> bool {
        self.began.elapsed() >= Duration::from_secs(seconds)
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let dawn: Timestamp = DAWN.parse().unwrap();
        dawn + SignedDuration::try_from(self.began.elapsed()).unwrap()
    }

    fn instant(&self) -> Instant {
        Instant(self.began.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock of the tests; its time is virtual")]
    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

/// How a process came to rest.
#[derive(Debug)]
pub(crate) enum Rest {
    /// The run ended.
    Ended(Outcome),
    /// A person is needed, and nobody of the test came.
    Held,
    /// The process stopped over this.
    Stopped(ExecutorError),
    /// It was killed.
    Killed,
}

impl Rest {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Ended(outcome) => *outcome,
            Self::Stopped(error) => panic!("the process stopped: {error:?}"),
            Self::Held | Self::Killed => panic!("the run did not end: {self:?}"),
        }
    }
}

/// Who acts on a run while it goes on: looked at every half second, at most one act each time.
pub(crate) type People<'a> = &'a mut dyn FnMut(&Run) -> Option<(Command, Actor)>;

/// Nobody acts.
pub(crate) fn nobody(_: &Run) -> Option<(Command, Actor)> {
    None
}

/// Longest virtual time of any test: a run that is not at rest by then goes in circles or waits for nothing.
const EVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Everything that outlives a process.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) world: Arc<World>,
    pub(crate) memory: MemoryStore,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) started: Arc<AtomicU32>,
    /// Answers to what people asked, in order.
    pub(crate) answers: Arc<std::sync::Mutex<Vec<Result<(), SteerError>>>>,
}

/// Plays one test in virtual time, then checks that no law was broken.
pub(crate) fn on_stage<T>(play: impl AsyncFnOnce(Stage) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let memory = MemoryStore::new();
        let stage = Stage {
            world: World::begin(memory.clone()),
            memory,
            clock: Arc::new(SimClock { began: tokio::time::Instant::now() }),
            inventory: Arc::new(plans::inventory()),
            registry: Arc::new(plans::registry()),
            started: Arc::default(),
            answers: Arc::default(),
        };
        let world = Arc::clone(&stage.world);
        let seen = play(stage).await;
        assert_eq!(world.broken(), Vec::<String>::new(), "laws were broken");
        seen
    })
}

impl Stage {
    /// The parts of a process on the stage's own store.
    pub(crate) fn ports(&self) -> Ports {
        self.ports_on(Arc::new(self.slow()))
    }

    /// The stage's own store as a process meets it.
    pub(crate) fn slow(&self) -> Slow {
        Slow(self.memory.clone())
    }

    /// The parts of a process on a store that may fail.
    pub(crate) fn ports_on(&self, store: Arc<dyn Store>) -> Ports {
        Ports {
            store,
            registry: Arc::clone(&self.registry),
            inventory: Arc::clone(&self.inventory),
            secrets: Arc::new(LocalSecrets::new(std::path::Path::new("/nowhere"))),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        }
    }

    /// A process that was never there before.
    pub(crate) fn owner(&self) -> OwnerId {
        OwnerId(format!("process-{}", self.started.fetch_add(1, Ordering::SeqCst)))
    }

    pub(crate) async fn try_admit(&self, plan: Plan) -> Result<Admitted, AdmissionError> {
        let chance = self.started.load(Ordering::SeqCst);
        let plan = plan.bound_to(&self.inventory);
        admission::admit(&self.ports(), plan, &self.owner(), actor("sam"), Incident::default(), chance).await
    }

    /// Sam starts a run.
    pub(crate) async fn admit(&self, plan: Plan) -> Admitted {
        self.try_admit(plan).await.unwrap()
    }

    /// A process drives an admitted or claimed run until it rests.
    pub(crate) async fn drive(&self, ports: Ports, run: Run, next: lifeboat_store::Seq, people: People<'_>) -> Rest {
        let owner = self.owner();
        let (executor, handle) = Executor::new(ports, owner, run, next);
        self.attend(executor, handle, people, EVER).await
    }

    /// As [`Stage::drive`], and the process is killed after so long.
    pub(crate) async fn attend(&self, executor: Executor, handle: Handle, people: People<'_>, until: Duration) -> Rest {
        let driving = executor.drive();
        tokio::pin!(driving);
        let ends_at = self.clock.instant().after(until);
        let mut pause = Duration::from_millis(500);
        loop {
            let length = pause.min(ends_at.since(self.clock.instant()));
            tokio::select! {
                biased;
                driven = &mut driving => return rest(driven),
                () = self.clock.sleep(length) => {}
            }
            if self.clock.instant() >= ends_at {
                assert!(until < EVER, "the run goes in circles or waits for nothing: {:#?}", self.load(&handle.run).await.run.steps);
                return Rest::Killed;
            }
            let run = self.load(&handle.run).await.run;
            if let Some((command, by)) = people(&run) {
                let (reply, answer) = oneshot::channel();
                handle.requests.send(Request::Steer { command, by, reply }).await.unwrap();
                tokio::select! {
                    biased;
                    answer = answer => self.answers.lock().unwrap().extend(answer.ok()),
                    driven = &mut driving => return rest(driven),
                }
            } else if run.phase == RunPhase::Held {
                handle.requests.send(Request::Detach).await.unwrap();
            }
            // Long waits need no watching.
            pause = (pause * 21 / 20).min(Duration::from_secs(60));
        }
    }

    /// Admits and drives to rest with nobody around.
    pub(crate) async fn run(&self, plan: Plan) -> (RunId, Rest) {
        self.run_with(plan, &mut nobody).await
    }

    /// Admits and drives to rest.
    pub(crate) async fn run_with(&self, plan: Plan, people: People<'_>) -> (RunId, Rest) {
        let Admitted { run, next, .. } = self.admit(plan).await;
        let name = run.id.clone();
        let rest = self.drive(self.ports(), run, next, people).await;
        (name, rest)
    }

    /// Admits and drives, and kills the process after so many milliseconds.
    pub(crate) async fn run_and_kill(&self, plan: Plan, after_ms: u64) -> RunId {
        let Admitted { run, next, .. } = self.admit(plan).await;
        let name = run.id.clone();
        let (executor, handle) = Executor::new(self.ports(), self.owner(), run, next);
        let rest = self.attend(executor, handle, &mut nobody, Duration::from_millis(after_ms)).await;
        assert!(matches!(rest, Rest::Killed), "it was at rest before it was killed: {rest:?}");
        name
    }

    pub(crate) async fn claim(&self, name: &RunId) -> Result<Loaded, ResumeError> {
        resume::claim(&self.ports(), &self.owner(), name).await
    }

    /// A new process takes the run over and drives it to rest.
    pub(crate) async fn resume(&self, name: &RunId) -> Rest {
        self.resume_with(name, &mut nobody).await
    }

    pub(crate) async fn resume_with(&self, name: &RunId, people: People<'_>) -> Rest {
        let Loaded { run, next, .. } = self.claim(name).await.unwrap();
        self.drive(self.ports(), run, next, people).await
    }

    pub(crate) async fn load(&self, name: &RunId) -> Loaded {
        history::load(&self.memory, name).await.unwrap()
    }

    /// How a step stands in the durable journal.
    pub(crate) async fn state(&self, name: &RunId, step: &str) -> StepState {
        self.load(name).await.run.state(&id(step))
    }

    pub(crate) async fn events(&self, name: &RunId) -> Vec<Event> {
        self.load(name).await.entries.into_iter().map(|entry| entry.event).collect()
    }

    /// An act on a run that no process drives.
    pub(crate) async fn steer_at_rest(&self, name: &RunId, command: Command, by: Actor) -> Result<(), resume::RestError> {
        resume::steer_at_rest(&self.ports(), &self.owner(), name, &command, &by).await
    }

    pub(crate) async fn holder(&self, resource: &str) -> Option<RunId> {
        history::lock_holder(&self.memory, resource).await.unwrap().0
    }

    pub(crate) fn answers(&self) -> Vec<Result<(), SteerError>> {
        self.answers.lock().unwrap().clone()
    }
}

fn rest(driven: Result<Driven, ExecutorError>) -> Rest {
    match driven {
        Ok(Driven::Ended(outcome)) => Rest::Ended(outcome),
        Ok(Driven::Detached) => Rest::Held,
        Err(error) => Rest::Stopped(error),
    }
}

pub(crate) fn approve(step: &str) -> Command {
    Command::Approve { step: id(step), comment: None }
}

pub(crate) fn deny(step: &str) -> Command {
    Command::Deny { step: id(step), comment: Some("too late in the day".into()) }
}

pub(crate) fn cancel() -> Command {
    Command::Cancel { comment: None }
}

pub(crate) fn resolve(step: &str, resolution: Resolution) -> Command {
    Command::Resolve { step: id(step), resolution, comment: "looked at it by hand".into() }
}

/// One act, once, as soon as the step stands so.
pub(crate) fn once(
    step: &'static str,
    state: StepState,
    command: Command,
    by: &'static str,
) -> impl FnMut(&Run) -> Option<(Command, Actor)> {
    let mut left = Some(command);
    move |run| if run.state(&id(step)) == state { left.take().map(|command| (command, actor(by))) } else { None }
}
