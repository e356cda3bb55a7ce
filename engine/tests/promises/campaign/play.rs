//! Plays one schedule: lives of processes that follow each other or stand by, the people around, and the end of it all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifeboat_engine::admission::AdmissionError;
use lifeboat_engine::clock::Clock as _;
use lifeboat_engine::executor::Executor;
use lifeboat_engine::freeze;
use lifeboat_engine::history::{self, Loaded};
use lifeboat_engine::journal::{Outcome, RunId};
use lifeboat_engine::resume::{self, Patience, ResumeError};
use lifeboat_engine::run::{Run, RunPhase};
use lifeboat_engine::sim::{Broken, EVER, Point, Process, Rest, Stage, Trace};
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::Seq;

use super::crowd::Crowded;
use super::laws;
use super::schedule::{Machines, Schedule};
use super::shapes::Shape;
use crate::world::plans::{PlanWords, actor};
use crate::world::stage::{cancel, simulated};

/// What must come out the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ending {
    /// Of each run: its outcome.
    outcomes: Vec<Option<Outcome>>,
    /// Of each run and step: state, and parameters of its last attempt.
    steps: BTreeMap<(usize, String), String>,
    /// How often each effect came about, and whether it stands.
    effects: BTreeMap<(usize, String), (u32, bool)>,
    locks: BTreeMap<String, Option<usize>>,
    open: usize,
    peers: lifeboat_engine::sim::Peers,
}

/// What a play showed.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) ending: Ending,
    pub(crate) broken: Vec<Broken>,
    /// Whether people accepted on record that a promotion may make two primaries.
    pub(crate) accepted: bool,
    /// Points that the first process of the first run came to.
    pub(crate) points: Vec<Point>,
    pub(crate) trace: Trace,
}

/// How long a lease lasts here.
const LEASE: Duration = Duration::from_secs(15);

/// Most lives of one run: a schedule has at most four, and people need some more.
const LIVES_MAX: usize = 12;

/// Tries of a second run to be admitted, half a minute apart.
const ADMISSIONS_MAX: u32 = 400;

/// Whether the lines of the trace are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Sum,
    Lines,
}

struct Play<'a> {
    stage: Stage,
    shape: &'a Shape,
    schedule: &'a Schedule,
    crowd: Mutex<Crowded>,
    first: Mutex<Option<Arc<Process>>>,
    accepted: Mutex<bool>,
}

/// One run of a play: what it is made of, and its name once it is admitted.
struct Course {
    number: usize,
    plan: Plan,
    name: Mutex<Option<RunId>>,
}

pub(crate) fn play(shape: &Shape, schedule: &Schedule, keep: Keep) -> Played {
    let mut stage = simulated();
    if schedule.machines == Machines::Several {
        stage = stage.shared_with_lease(LEASE);
    }
    if keep == Keep::Lines {
        stage.world.keep_lines();
    }
    (shape.script)(&stage.world);
    let clock = stage.clock.clone();
    let play = Play {
        stage,
        shape,
        schedule,
        crowd: Mutex::new(Crowded::of(schedule.crowd)),
        first: Mutex::default(),
        accepted: Mutex::default(),
    };
    let course = |number, plan: fn() -> Plan| Course { number, plan: plan().bound_to(&play.stage.inventory), name: Mutex::default() };
    let first = course(0, shape.plan);
    let second = shape.second.map(|plan| course(1, plan));
    let played = clock.play(async {
        let other = async {
            if let Some(second) = &second {
                play.lives(second).await;
            }
        };
        let (_, (), frozen) = tokio::join!(play.lives(&first), other, play.frozen());
        let name = first.name.lock().unwrap().clone();
        if let (Some((from, until)), Some(name)) = (frozen, name) {
            laws::nothing_changes_in_a_freeze(&play.stage, &name, from, until).await;
        }
        let courses: Vec<&Course> = [Some(&first), second.as_ref()].into_iter().flatten().collect();
        play.ending(&courses).await
    });
    let world = Arc::clone(&play.stage.world);
    let ending = played.unwrap_or_else(|stalled| {
        world.breaks("progress", stalled.to_string());
        Ending::default()
    });
    let points = play.first.lock().unwrap().as_ref().map(|process| process.points()).unwrap_or_default();
    let accepted = *play.accepted.lock().unwrap();
    Played { ending, broken: world.broken(), accepted, points, trace: world.trace() }
}

/// Whether a life brought the run to rest.
fn is_final(rest: &Option<Rest>) -> bool {
    matches!(rest, Some(Rest::Ended(_) | Rest::Held))
}

impl Play<'_> {
    /// Freezes everything and lets it go again. Says between which instants all was frozen.
    async fn frozen(&self) -> Option<(Duration, Duration)> {
        let (from, until) = self.shape.frozen_ms?;
        let (process, by) = (self.stage.process(), actor("bob"));
        let ports = self.stage.ports(&process);
        self.stage.clock.sleep(Duration::from_millis(from)).await;
        freeze::freeze(&ports, None, &by, "stop everything").await.unwrap();
        let frozen_at = self.stage.clock.elapsed();
        self.stage.clock.sleep(Duration::from_millis(until - from)).await;
        let thawed_at = self.stage.clock.elapsed();
        freeze::unfreeze(&ports, None, &by, "go on").await.unwrap();
        Some((frozen_at, thawed_at))
    }

    /// Lives of processes until the run is over. A run that waits for a person whom nobody is gets cancelled.
    async fn lives(&self, course: &Course) {
        let mut lives = 0;
        for _ in 0..6 {
            let rest = self.until_at_rest(course, &mut lives).await;
            match rest {
                Some(Rest::Ended(_)) => return,
                Some(Rest::Held) => {
                    let Some(name) = course.name.lock().unwrap().clone() else { return };
                    let process = self.stage.process();
                    let ports = self.stage.ports(&process);
                    if let Err(error) = resume::steer_at_rest(&ports, &process.owner, &name, &cancel(), &actor("ann")).await {
                        // Whoever watched took it for held while its process stood still; meanwhile it turned back, and the next life goes on.
                        self.stage.world.note(|| format!("not cancelled: {error}"));
                        let loaded = self.stage.load(&name).await;
                        let goes_on =
                            loaded.as_ref().is_ok_and(|loaded| matches!(loaded.run.phase, RunPhase::Unwinding | RunPhase::Finalising));
                        if !goes_on {
                            let journal =
                                loaded.map_or_else(|error| format!("{error:?}"), |loaded| laws::in_short(&loaded.entries, |_| true));
                            self.stage.world.breaks("progress", format!("{name} is held for ever: {error}\n  {journal}"));
                            return;
                        }
                    }
                }
                Some(Rest::Killed | Rest::Stopped(_)) | None => {
                    self.stage.world.breaks("progress", format!("not at rest after {lives} lives: {rest:?}"));
                    return;
                }
            }
        }
        self.stage.world.breaks("progress", "held again and again".to_owned());
    }

    async fn until_at_rest(&self, course: &Course, lives: &mut usize) -> Option<Rest> {
        match self.schedule.machines {
            Machines::One => {
                let mut rest = None;
                while *lives < LIVES_MAX && !is_final(&rest) {
                    rest = self.life(course, &self.process(course, *lives)).await;
                    *lives += 1;
                    if self.shape.rests && !is_final(&rest) {
                        self.act_at_rest(course).await;
                    }
                }
                rest
            }
            Machines::Several => Box::pin(self.life_with_a_successor(course, lives)).await,
        }
    }

    /// Nobody drives the run for a quarter of an hour; then people act on it.
    async fn act_at_rest(&self, course: &Course) {
        let Some(name) = course.name.lock().unwrap().clone() else { return };
        self.stage.clock.sleep(Duration::from_secs(900)).await;
        let run = self.stage.load(&name).await.unwrap().run;
        let act = self.crowd.lock().unwrap().act(&run, self.shape.people);
        if let Some((command, by)) = act {
            let process = self.stage.process();
            let ports = self.stage.ports(&process);
            let answer = resume::steer_at_rest(&ports, &process.owner, &name, &command, &by).await;
            self.stage.world.note(|| format!("{} acted at rest: {answer:?}", by.name()));
        }
    }

    /// A life, and beside it, once it is in trouble, the next.
    async fn life_with_a_successor(&self, course: &Course, lives: &mut usize) -> Option<Rest> {
        if *lives >= LIVES_MAX {
            return None;
        }
        let process = self.process(course, *lives);
        *lives += 1;
        let mut own = Box::pin(self.life(course, &process));
        let in_trouble = async {
            process.in_trouble().await;
            // Before there is a run there is nothing to take over: whoever asks again waits for the answer.
            while course.name.lock().unwrap().is_none() {
                self.stage.clock.sleep(Duration::from_secs(1)).await;
            }
        };
        let ended = tokio::select! {
            biased;
            rest = &mut own => Some(rest),
            () = in_trouble => None,
        };
        match ended {
            Some(rest) if is_final(&rest) => rest,
            Some(_) => Box::pin(self.life_with_a_successor(course, lives)).await,
            None => {
                let (rest, after) = tokio::join!(own, Box::pin(self.life_with_a_successor(course, lives)));
                if is_final(&after) { after } else { rest }
            }
        }
    }

    fn process(&self, course: &Course, life: usize) -> Arc<Process> {
        let process = self.stage.process();
        for strike in self.schedule.strikes.iter().filter(|strike| (strike.run, strike.life) == (course.number, life)) {
            process.plan(strike.point, strike.fault);
        }
        if (course.number, life) == (0, 0) {
            *self.first.lock().unwrap() = Some(Arc::clone(&process));
        }
        process
    }

    /// One process: admits the run or takes it over, and drives it. `None` where it came to nothing.
    async fn life(&self, course: &Course, process: &Arc<Process>) -> Option<Rest> {
        let known = course.name.lock().unwrap().clone();
        let (run, next) = match known {
            Some(name) => match self.taken_over(process, &name).await {
                Ok(loaded) => (loaded.run, loaded.next),
                Err(rest) => return rest,
            },
            None => self.admitted(course, process).await?,
        };
        let (executor, handle) = Executor::new(self.stage.ports(process), process.owner.clone(), run, next);
        let mut people = |run: &Run| self.crowd.lock().unwrap().act(run, self.shape.people);
        Some(self.stage.attend(process, executor, handle, &mut people, EVER).await)
    }

    async fn taken_over(&self, process: &Arc<Process>, name: &RunId) -> Result<Loaded, Option<Rest>> {
        let ports = self.stage.ports(process);
        let claimed = tokio::select! {
            biased;
            () = process.died() => return Err(Some(Rest::Killed)),
            claimed = resume::claim_when_free(&ports, &process.owner, name, Patience::ForEver) => claimed,
        };
        match claimed {
            Ok(loaded) => Ok(loaded),
            Err(ResumeError::Ended(_)) => {
                let outcome = self.stage.load(name).await.ok().and_then(|loaded| loaded.run.outcome);
                Err(outcome.map(Rest::Ended))
            }
            Err(ResumeError::Store(_) | ResumeError::History(_)) if process.struck() > 0 => Err(None),
            Err(error) => {
                // Two successors may reach for one run; the other has it then.
                if !matches!(error, ResumeError::Overtaken(_) | ResumeError::Driven { .. }) {
                    self.stage.world.breaks("progress", format!("{name} cannot be taken over: {error:?}"));
                }
                Err(None)
            }
        }
    }

    async fn admitted(&self, course: &Course, process: &Arc<Process>) -> Option<(Run, Seq)> {
        for _ in 0..ADMISSIONS_MAX {
            match self.stage.admit(process, course.plan.clone(), actor("sam")).await {
                Ok(admitted) => {
                    *course.name.lock().unwrap() = Some(admitted.run.id.clone());
                    return Some((admitted.run, admitted.next));
                }
                Err(AdmissionError::Locked { .. }) => self.stage.clock.sleep(Duration::from_secs(30)).await,
                Err(error) => {
                    self.stage.world.note(|| format!("not admitted: {error}"));
                    // Whoever got no answer looks whether it was admitted all the same.
                    *course.name.lock().unwrap() = self.admitted_all_the_same(course).await;
                    return None;
                }
            }
        }
        None
    }

    async fn admitted_all_the_same(&self, course: &Course) -> Option<RunId> {
        for name in history::list(&self.stage.memory).await.unwrap() {
            let run = self.stage.load(&name).await.unwrap().run;
            if *run.plan == course.plan {
                return Some(name);
            }
        }
        None
    }

    async fn ending(&self, courses: &[&Course]) -> Ending {
        let mut ending = Ending::default();
        let world = &self.stage.world;
        world.all_arrives();
        let mut names = Vec::new();
        for course in courses {
            let name = course.name.lock().unwrap().clone();
            let Some(name) = name else {
                world.breaks("progress", format!("run {} was never admitted", course.number));
                continue;
            };
            match self.stage.load(&name).await {
                Ok(loaded) => {
                    laws::check(&self.stage, &loaded).await;
                    let run = &loaded.run;
                    *self.accepted.lock().unwrap() |= laws::a_promotion_was_accepted(&loaded);
                    ending.outcomes.push(run.outcome.filter(|_| run.phase == RunPhase::Ended));
                    for (id, step) in run.steps.iter() {
                        let with = step.with.as_ref().map(ToString::to_string).unwrap_or_default();
                        ending.steps.insert((course.number, id.to_string()), format!("{:?} {with}", step.state));
                    }
                }
                Err(error) => world.breaks("replay", format!("{name} cannot be replayed: {error:?}")),
            }
            names.push(name);
        }
        for ((run, step), effect) in world.effects().into_iter().filter(|(_, effect)| effect.times() > 0) {
            match names.iter().position(|name| *name == run) {
                Some(number) => _ = ending.effects.insert((number, step.to_string()), (effect.times(), effect.stands)),
                None => world.breaks("once", format!("a run that nobody knows, {run}, had the effect of {step}")),
            }
        }
        for resource in ["db", "dns", "web"] {
            let holder = laws::check_lock_log(&self.stage, resource).await;
            ending.locks.insert(resource.to_owned(), holder.and_then(|holder| names.iter().position(|name| *name == holder)));
        }
        ending.open = history::open_runs(&self.stage.memory).await.unwrap().len();
        ending.peers = world.peers(|peers| peers.clone());
        // Instants and amounts differ where something took longer; who takes writes and what records answer does not.
        for database in ending.peers.databases.values_mut() {
            database.lost_ms = 0;
            database.nodes.values_mut().for_each(|node| node.position_ms = node.position_ms.map(|_| 0));
        }
        ending
    }
}
