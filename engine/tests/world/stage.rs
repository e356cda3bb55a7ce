//! The stage of a test: the simulation's, in words that stop a test at the first surprise.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::admission::{self, AdmissionError, Admitted};
use lifeboat_engine::executor::{Executor, Handle};
use lifeboat_engine::history::{self, Loaded};
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::journal::{Actor, Event, Incident, Outcome, Resolution, RunId};
use lifeboat_engine::ports::Ports;
use lifeboat_engine::resume::{self, ResumeError};
use lifeboat_engine::run::{Run, StepState};
use lifeboat_engine::sim::{self, EVER, Effect, Outputs, People, SimClock, World};
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{MemoryStore, OwnerId, Store};

pub(crate) use lifeboat_engine::sim::{Rest, nobody};

use super::plans::{self, PlanWords, actor, id};
use super::slow::Slow;
use super::steps::Says;

/// How a run ended that is expected to have ended.
pub(crate) trait RestWords {
    fn outcome(&self) -> Outcome;
}

impl RestWords for Rest {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Ended(outcome) => *outcome,
            Self::Stopped(error) => panic!("the process stopped: {error:?}"),
            Self::Held | Self::Killed => panic!("the run did not end: {self:?}"),
        }
    }
}

/// Everything that outlives a process.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) sim: sim::Stage,
    pub(crate) world: Arc<World>,
    pub(crate) memory: MemoryStore,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) inventory: Arc<Inventory>,
}

/// Plays one test in virtual time, then checks that no law was broken.
pub(crate) fn on_stage<T>(play: impl AsyncFnOnce(Stage) -> T) -> T {
    on_stage_of(simulated(), play)
}

/// As [`on_stage`], in a store that several machines share.
pub(crate) fn on_shared_stage<T>(lease: Duration, play: impl AsyncFnOnce(Stage) -> T) -> T {
    on_stage_of(simulated().shared_with_lease(lease), play)
}

/// A stage with the step types, things and people of the tests.
pub(crate) fn simulated() -> sim::Stage {
    let says = Arc::new(Says::default());
    super::steps::says_as_written();
    let sim = sim::Stage::new(Arc::new(plans::registry()), Arc::new(plans::inventory()), Arc::clone(&says) as Arc<dyn Outputs>);
    let _ = says.world.set(Arc::clone(&sim.world));
    sim
}

fn on_stage_of<T>(sim: sim::Stage, play: impl AsyncFnOnce(Stage) -> T) -> T {
    let clock = sim.clock.clone();
    let world = Arc::clone(&sim.world);
    let stage = Stage {
        world: Arc::clone(&sim.world),
        memory: sim.memory.clone(),
        clock: Arc::new(sim.clock.clone()),
        inventory: Arc::clone(&sim.inventory),
        sim,
    };
    let seen = clock.play(play(stage)).unwrap();
    assert_eq!(world.broken(), Vec::new(), "laws were broken");
    seen
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
        Ports { store, inventory: Arc::clone(&self.inventory), ..self.sim.ports(&self.sim.process()) }
    }

    /// A process that was never there before.
    pub(crate) fn owner(&self) -> OwnerId {
        self.sim.process().owner.clone()
    }

    pub(crate) async fn try_admit(&self, plan: Plan) -> Result<Admitted, AdmissionError> {
        // Two runs of one second have to have two names.
        let chance = self.owner().0.bytes().fold(0, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
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
        let name = handle.run.clone();
        let rest = self.sim.attend(&self.sim.process(), executor, handle, people, until).await;
        let circles = matches!(rest, Rest::Killed) && until >= EVER;
        assert!(!circles, "the run goes in circles or waits for nothing: {:#?}", self.load(&name).await.run.steps);
        rest
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
        self.sim.answers().clone()
    }

    /// Effects by the name of their step.
    pub(crate) fn effects(&self) -> BTreeMap<String, Effect> {
        self.world.effects().into_iter().map(|((_, step), effect)| (step.to_string(), effect)).collect()
    }

    /// Names of the steps in the order in which their effects were taken back.
    pub(crate) fn undone(&self) -> Vec<String> {
        self.world.undone().into_iter().map(|(_, step)| step.to_string()).collect()
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
