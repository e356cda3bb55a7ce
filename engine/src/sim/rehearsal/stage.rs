//! Plays one case: admits the plan into an empty store in virtual time, lets the production executor drive it, answers as simulated
//! people do, and reads where it came to rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{broadcast, oneshot};

use super::ending::{Decision, Ending, Rest, Standing, may_decide};
use super::part::Play;
use super::simulated::Cast;
use crate::admission;
use crate::clock::Clock;
use crate::executor::{Driven, Executor, Handle, Notice, Request};
use crate::history;
use crate::inventory::{Inventory, Person};
use crate::journal::{Actor, Event, Incident, Resolution};
use crate::ports::Ports;
use crate::run::{Run, RunPhase, StepState};
use crate::secret::{Secret, SecretError, SecretRef, Secrets};
use crate::sim::clock::SimClock;
use crate::sim::world::World;
use crate::steering::Command;
use lifeboat_runbooks::catalog::StepTypeInfo;
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::{Plan, PlanStep};
use lifeboat_runbooks::testing::{Given, PersonAct, PersonActs, When, given_outputs, sample_outputs};
use lifeboat_store::{MemoryStore, OwnerId, Store};

/// Most people an approval can ask for; one more starts the run.
const PEOPLE: u32 = 10;

/// What a simulation is made of, the same for every case.
#[derive(Clone, Debug)]
pub struct Set {
    /// The plan, made with the real catalog and inventory.
    pub plan: Arc<Plan>,
    /// Descriptions of the step types that the plan uses, each with sample outputs.
    pub types: Vec<(StepTypeInfo, serde_json::Value)>,
    /// The inventory, with simulated people beside the real ones.
    pub inventory: Arc<Inventory>,
}

impl Set {
    /// Puts a plan on the stage.
    #[must_use]
    pub fn new(plan: Plan, types: Vec<StepTypeInfo>, inventory: &Inventory) -> Self {
        let mut inventory = inventory.clone();
        let mut roles: Vec<String> = inventory.people.values().flat_map(|person| person.roles.iter().cloned()).collect();
        for step in plan.all_steps() {
            roles.extend(
                step.with
                    .get("roles")
                    .and_then(serde_json::Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|role| role.as_str().map(str::to_owned)),
            );
        }
        roles.sort_unstable();
        roles.dedup();
        for number in 1..=PEOPLE {
            let name = simulated(number);
            inventory.people.insert(name.clone(), Person { roles: roles.clone(), system_user: Some(name), telegram_id: None });
        }
        let undos = plan.all_steps().filter_map(PlanStep::written_undo).map(|undo| undo.step_type.as_str());
        let used: BTreeSet<&str> = plan.all_steps().map(|step| step.step_type.as_str()).chain(undos).collect();
        let types = types
            .into_iter()
            .filter(|info| used.contains(info.name))
            .map(|info| {
                let sample = sample_outputs(&info.output_schema);
                (info, sample)
            })
            .collect();
        Self { plan: Arc::new(plan), types, inventory: Arc::new(inventory) }
    }

    /// Plays a case in virtual time. The same case has the same ending.
    #[must_use]
    pub fn play(&self, play: &Play) -> Ending {
        let clock = SimClock::new();
        let broke = |why: String| {
            let run = Run::new(rehearsal_id(), Arc::clone(&self.plan));
            Ending::of(&run, Rest::Broke(why), &[])
        };
        // A thread of its own: whoever calls may be a task of another runtime, inside of which none can be started.
        let played = std::thread::scope(|scope| scope.spawn(|| clock.play(self.drive(&clock, play))).join());
        match played {
            Ok(Ok(Ok(ending))) => ending,
            Ok(Ok(Err(why))) => broke(why),
            Ok(Err(stalled)) => broke(stalled.to_string()),
            Err(_) => broke("the engine panicked".to_owned()),
        }
    }

    async fn drive(&self, clock: &SimClock, play: &Play) -> Result<Ending, String> {
        let store = MemoryStore::with_clock(Arc::new(clock.clone()));
        let world = World::new(store.clone());
        let cast = Cast::new(Arc::clone(&world), play, &self.plan);
        let ports = Ports {
            store: Arc::new(store) as Arc<dyn Store>,
            registry: Arc::new(cast.registry(&self.types)),
            inventory: Arc::clone(&self.inventory),
            secrets: Arc::new(NoSecrets),
            clock: Arc::new(clock.clone()) as Arc<dyn Clock>,
        };
        let owner = OwnerId("simulation".to_owned());
        let starter = Actor { person: None, system_user: "simulated-starter".into(), via: "simulation".into() };
        let admitted = admission::admit(&ports, (*self.plan).clone(), &owner, starter, Incident::default(), 0)
            .await
            .map_err(|error| error.to_string())?;
        let run = admitted.run.clone();
        let (executor, handle) = Executor::new(ports.clone(), owner, admitted.run, admitted.next);
        let notices = handle.notices.subscribe();
        let task = tokio::spawn(executor.drive());
        let people = People {
            set: self,
            cast: &cast,
            handle,
            ports: ports.clone(),
            run,
            script: &play.people,
            acts: 0,
            answered: BTreeSet::new(),
            refused: Vec::new(),
        };
        let (people, driven) = people.attend(notices, task).await?;
        let rest = match driven {
            Driven::Ended(outcome) => Rest::Ended(outcome),
            Driven::Detached => Rest::Held,
        };
        let loaded = history::load(ports.store.as_ref(), &people.run.id).await.map_err(|error| error.to_string())?;
        let events: Vec<Event> = loaded.entries.into_iter().map(|entry| entry.event).collect();
        let mut ending = Ending::of(&loaded.run, rest, &events);
        ending.calls = world.all_calls().into_iter().map(|call| (call.what, call.step)).collect();
        ending.never_came = (people.acts..play.people.len()).collect();
        ending.broken = world.broken().into_iter().map(|broken| format!("{}: {}", broken.law, broken.words)).collect();
        ending.broken.extend(people.refused);
        self.hold_against(&world, &mut ending);
        Ok(ending)
    }

    /// The world knows the truth: an effect that the journal denies is a mistake of the engine.
    fn hold_against(&self, world: &World, ending: &mut Ending) {
        let grips =
            |id: &StepId| self.plan.step(id).is_some_and(|step| crate::run::effect_of(step) > lifeboat_runbooks::names::Effect::Read);
        for ((_, step), effect) in world.effects().iter().filter(|((_, step), effect)| effect.stands && grips(step)) {
            if ending.step(step.as_str()).is_some_and(|end| end.standing == Standing::No) {
                ending.broken.push(format!("truth: the effect of {step} stands ({} times), and the journal does not know", effect.times()));
            }
        }
    }
}

fn rehearsal_id() -> crate::journal::RunId {
    // A constant of the right form.
    crate::journal::RunId::new("simulation").unwrap_or_else(|why| unreachable!("{why}"))
}

fn simulated(number: u32) -> String {
    format!("simulated-{number}")
}

/// Nothing of a simulation is secret, and nothing in it reads one.
#[derive(Debug)]
struct NoSecrets;

impl Secrets for NoSecrets {
    fn read(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        Err(SecretError { reference: reference.clone(), why: "a simulation reads no secrets".into() })
    }
}

/// The simulated people around a run.
struct People<'a> {
    set: &'a Set,
    cast: &'a Arc<Cast>,
    handle: Handle,
    ports: Ports,
    /// The run as its journal tells it so far.
    run: Run,
    script: &'a [PersonActs],
    /// How many of the acts of the script are over.
    acts: usize,
    /// Questions that have their answer: the step and its asking.
    answered: BTreeSet<(StepId, u64)>,
    refused: Vec<String>,
}

type Driving = tokio::task::JoinHandle<Result<Driven, crate::executor::ExecutorError>>;

impl People<'_> {
    async fn attend(mut self, mut notices: broadcast::Receiver<Notice>, mut task: Driving) -> Result<(Self, Driven), String> {
        let mut leaving = false;
        loop {
            let entry = tokio::select! {
                biased;
                notice = notices.recv() => match notice {
                    Ok(Notice::Entry(entry)) => Some(entry),
                    Ok(Notice::Progress { .. }) => None,
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        // More happened than the channel keeps: the journal has it all.
                        self.run = history::load(self.ports.store.as_ref(), &self.run.id).await.map_err(|error| error.to_string())?.run;
                        notices = notices.resubscribe();
                        None
                    }
                    Err(broadcast::error::RecvError::Closed) => None,
                },
                ended = &mut task => {
                    let driven = ended.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                    return Ok((self, driven));
                }
            };
            if let Some(entry) = entry {
                self.run.apply(&entry).map_err(|error| error.to_string())?;
            }
            if notices.is_empty() && !leaving {
                self.answer().await;
                self.act().await;
                if self.run.phase == RunPhase::Held && notices.is_empty() {
                    leaving = true;
                    // An executor that has just ended needs no request.
                    let _ = self.handle.requests.send(Request::Detach).await;
                }
            }
        }
    }

    /// Answers every question that is open and has none yet.
    async fn answer(&mut self) {
        let open: Vec<(StepId, u32, u64)> = self
            .run
            .steps
            .iter()
            .filter(|(_, record)| record.state == StepState::AwaitingApproval)
            .filter_map(|(id, record)| record.ask.as_ref().map(|ask| (id.clone(), ask.count, ask.asked_at.as_microsecond().unsigned_abs())))
            .collect();
        for (step, count, asked) in open {
            if !self.answered.insert((step.clone(), asked)) {
                continue;
            }
            match self.cast.answer(&step) {
                None => self.approve(&step, (1..=count).map(simulated).collect()).await,
                Some(Given::Approved { by }) if by.is_empty() => self.approve(&step, (1..=count).map(simulated).collect()).await,
                Some(Given::Approved { by }) => self.approve(&step, by.into_iter().map(|name| name.value).collect()).await,
                Some(Given::Denied { by }) => {
                    let by = by.map_or_else(|| simulated(1), |name| name.value);
                    self.steer(Command::Deny { step, comment: None }, &by).await;
                }
                Some(
                    Given::Expires
                    | Given::Succeeds { .. }
                    | Given::Fails { .. }
                    | Given::FailsForGood { .. }
                    | Given::Refused { .. }
                    | Given::InDoubt { .. },
                ) => {}
            }
        }
    }

    async fn approve(&mut self, step: &StepId, people: Vec<String>) {
        for person in people {
            self.steer(Command::Approve { step: step.clone(), comment: None }, &person).await;
        }
    }

    /// The next act of the play, where its moment has come.
    async fn act(&mut self) {
        while let Some(acts) = self.script.get(self.acts).cloned() {
            let state =
                |name: &str| StepId::new(name).ok().and_then(|id| self.run.steps.get(&id)).map(|record| (record.state, record.attempts));
            let (due, step) = match &acts.when {
                When::AtOnce => (true, None),
                When::Begun(step) => (state(&step.value).is_some_and(|(_, attempts)| attempts > 0), Some(step)),
                When::Done(step) => {
                    (state(&step.value).is_some_and(|(state, _)| matches!(state, StepState::Succeeded | StepState::Skipped)), Some(step))
                }
                When::Held(step) => {
                    let waits = state(&step.value).is_some_and(|(state, _)| match may_decide(state) {
                        Decision::Now => true,
                        Decision::OnceHeld => self.run.phase == RunPhase::Held,
                        Decision::No => false,
                    });
                    (waits, Some(step))
                }
            };
            if !due {
                return;
            }
            self.acts += 1;
            let resolve = |resolution| {
                let step = step.and_then(|step| StepId::new(&step.value).ok())?;
                Some(Command::Resolve { step, resolution, comment: "in a simulation".into() })
            };
            let command = match acts.act {
                PersonAct::Cancel => Some(Command::Cancel { comment: None }),
                PersonAct::Retry => resolve(Resolution::Retry),
                PersonAct::Skip => resolve(Resolution::Skip),
                PersonAct::GiveUp => resolve(Resolution::GiveUp),
                PersonAct::Done { outputs } => {
                    let outputs =
                        step.and_then(|step| StepId::new(&step.value).ok()).map_or(outputs.clone(), |id| self.said(&id, &outputs));
                    resolve(Resolution::Done { outputs })
                }
            };
            if let Some(command) = command {
                self.steer(command, &simulated(1)).await;
                return;
            }
        }
    }

    /// Outputs that a person types: what the case names, and samples for the rest.
    fn said(&self, step: &StepId, given: &serde_json::Value) -> serde_json::Value {
        let info = self.set.plan.step(step).and_then(|planned| self.set.types.iter().find(|(info, _)| info.name == planned.step_type));
        let with = self.run.steps.get(step).and_then(|record| record.with.as_deref().cloned()).unwrap_or_default();
        info.map_or_else(|| given.clone(), |(_, sample)| given_outputs(sample, &with, given))
    }

    async fn steer(&mut self, command: Command, person: &str) {
        let by = Actor { person: Some(person.to_owned()), system_user: self.user_of(person), via: "simulation".into() };
        let words = format!("{command:?}");
        let (reply, answer) = oneshot::channel();
        if self.handle.requests.send(Request::Steer { command, by, reply }).await.is_err() {
            return;
        }
        // No answer comes where the run ended meanwhile.
        if let Ok(Err(error)) = answer.await {
            self.refused.push(format!("{person} could not act ({words}): {error}"));
        }
    }

    fn user_of(&self, person: &str) -> String {
        let known = self.set.inventory.people.get(person).and_then(|person| person.system_user.clone());
        known.unwrap_or_else(|| person.to_owned())
    }
}
