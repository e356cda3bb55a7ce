//! A scripted world for tests: it keeps the effects of steps, counts them, answers as it is told, and notes every broken law.
//! The step types that reach it are in `steps`, plans in `plans`, processes that live and die in `stage`.

pub(crate) mod plans;
pub(crate) mod rows;
pub(crate) mod slow;
pub(crate) mod stage;
pub(crate) mod steps;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lifeboat_engine::ReadContext;
use lifeboat_engine::clock::Instant;
use lifeboat_engine::history;
use lifeboat_engine::run::StepState;
use lifeboat_store::MemoryStore;

/// What one call of `execute` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// Takes effect and answers.
    Succeed,
    /// Takes effect after so many milliseconds and answers.
    SucceedAfter(u64),
    /// No effect; the cause may pass.
    NotDone,
    /// No effect; trying again is no use.
    Hopeless,
    /// A check says no.
    Refused,
    /// The effect is there, its answer is lost.
    LoseAnswer,
    /// The request never arrives.
    LoseRequest,
    /// Goes on by itself and takes effect after so many milliseconds; no answer comes meanwhile.
    Late(u64),
    /// Takes effect, then never answers.
    HangAfter,
    /// Never answers, and has no effect.
    Hang,
    /// The step's code panics before the effect.
    Panic,
    /// The step's code panics after the effect.
    PanicAfter,
}

/// What one call of `prepare` answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gate {
    Ready,
    NotDone,
    Refused,
    Later,
    Unknown,
    Panic,
    Hang,
}

/// What one call of `observe` answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sight {
    /// What is so.
    Truth,
    NotDone,
    InProgress,
    Foreign,
    Unknown,
    Error,
    Panic,
    Hang,
}

/// What one call of `undo` does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Back {
    Succeed,
    SucceedAfter(u64),
    Fail,
    LoseAnswer,
    Hang,
    Panic,
}

/// Answers in order, then always the last word.
#[derive(Clone, Debug)]
struct Queue<T> {
    first: VecDeque<T>,
    then: T,
}

impl<T: Copy> Queue<T> {
    fn next(&mut self) -> T {
        self.first.pop_front().unwrap_or(self.then)
    }
}

#[derive(Clone, Debug)]
struct Script {
    acts: Queue<Act>,
    gates: Queue<Gate>,
    sights: Queue<Sight>,
    backs: Queue<Back>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            acts: Queue { first: VecDeque::new(), then: Act::Succeed },
            gates: Queue { first: VecDeque::new(), then: Gate::Ready },
            sights: Queue { first: VecDeque::new(), then: Sight::Truth },
            backs: Queue { first: VecDeque::new(), then: Back::Succeed },
        }
    }
}

/// What is so of one step's effect.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effect {
    /// How often it came about, by attempt whose intent led to it.
    pub(crate) by_attempt: BTreeMap<u32, u32>,
    /// Whether it is there now.
    pub(crate) stands: bool,
    /// It goes on by itself until then, for this attempt.
    lands: Option<(Instant, u32)>,
}

impl Effect {
    pub(crate) fn times(&self) -> u32 {
        self.by_attempt.values().sum()
    }
}

/// One call of a step's code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallMade {
    pub(crate) what: &'static str,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    pub(crate) began: Duration,
    pub(crate) ended: Option<Duration>,
}

#[derive(Debug, Default)]
struct Inner {
    scripts: BTreeMap<String, Script>,
    effects: BTreeMap<String, Effect>,
    calls: Vec<CallMade>,
    undone: Vec<String>,
    broken: Vec<String>,
}

/// More calls than any test needs: an engine that makes more goes in circles.
const CALLS_MAX: usize = 4000;

/// The world of one test.
#[derive(Debug)]
pub(crate) struct World {
    inner: Mutex<Inner>,
    store: MemoryStore,
}

thread_local! {
    // A step is made from its parameters alone and cannot be handed a world; a test and all its tasks share one thread.
    static HERE: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

impl World {
    /// A fresh world for this thread. It checks the laws against what is durable in `store`.
    pub(crate) fn begin(store: MemoryStore) -> Arc<Self> {
        let world = Arc::new(Self { inner: Mutex::default(), store });
        HERE.with(|here| *here.borrow_mut() = Some(Arc::clone(&world)));
        world
    }

    pub(crate) fn here() -> Arc<Self> {
        HERE.with(|here| here.borrow().clone()).expect("a test sets its stage first")
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn script<T>(&self, step: &str, write: impl FnOnce(&mut Script) -> T) -> T {
        write(self.inner().scripts.entry(step.to_owned()).or_default())
    }

    /// The next executions of this step; after them it succeeds.
    pub(crate) fn acts(&self, step: &str, acts: &[Act]) -> &Self {
        self.script(step, |script| script.acts.first = acts.iter().copied().collect());
        self
    }

    /// Every execution of this step.
    pub(crate) fn always(&self, step: &str, act: Act) -> &Self {
        self.script(step, |script| script.acts.then = act);
        self
    }

    pub(crate) fn gates(&self, step: &str, gates: &[Gate]) -> &Self {
        self.script(step, |script| script.gates.first = gates.iter().copied().collect());
        self
    }

    pub(crate) fn always_gate(&self, step: &str, gate: Gate) -> &Self {
        self.script(step, |script| script.gates.then = gate);
        self
    }

    pub(crate) fn sights(&self, step: &str, sights: &[Sight]) -> &Self {
        self.script(step, |script| script.sights.first = sights.iter().copied().collect());
        self
    }

    pub(crate) fn always_sight(&self, step: &str, sight: Sight) -> &Self {
        self.script(step, |script| script.sights.then = sight);
        self
    }

    pub(crate) fn backs(&self, step: &str, backs: &[Back]) -> &Self {
        self.script(step, |script| script.backs.first = backs.iter().copied().collect());
        self
    }

    pub(crate) fn always_back(&self, step: &str, back: Back) -> &Self {
        self.script(step, |script| script.backs.then = back);
        self
    }

    pub(crate) fn next_act(&self, step: &str) -> Act {
        self.script(step, |script| script.acts.next())
    }

    pub(crate) fn next_gate(&self, step: &str) -> Gate {
        self.script(step, |script| script.gates.next())
    }

    pub(crate) fn next_sight(&self, step: &str) -> Sight {
        self.script(step, |script| script.sights.next())
    }

    pub(crate) fn next_back(&self, step: &str) -> Back {
        self.script(step, |script| script.backs.next())
    }

    /// How often the effect of this step came about.
    pub(crate) fn times(&self, step: &str) -> u32 {
        self.inner().effects.get(step).map_or(0, Effect::times)
    }

    /// Whether the effect of this step is there now.
    pub(crate) fn stands(&self, step: &str) -> bool {
        self.inner().effects.get(step).is_some_and(|effect| effect.stands)
    }

    pub(crate) fn effects(&self) -> BTreeMap<String, Effect> {
        self.inner().effects.clone()
    }

    /// Calls of this kind made for this step.
    pub(crate) fn calls(&self, what: &str, step: &str) -> usize {
        self.inner().calls.iter().filter(|call| call.what == what && call.step == step).count()
    }

    pub(crate) fn all_calls(&self) -> Vec<CallMade> {
        self.inner().calls.clone()
    }

    /// Steps in the order in which their effects were taken back.
    pub(crate) fn undone(&self) -> Vec<String> {
        self.inner().undone.clone()
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        self.inner().broken.clone()
    }

    fn breaks(&self, law: String) {
        self.inner().broken.push(law);
    }

    /// Notes a call; one too many never returns.
    pub(crate) async fn enter(self: &Arc<Self>, what: &'static str, cx: &ReadContext) -> Under {
        let place = {
            let mut inner = self.inner();
            inner.calls.push(CallMade { what, step: cx.step.to_string(), attempt: cx.attempt, began: cx.clock.instant().0, ended: None });
            inner.calls.len() - 1
        };
        if place >= CALLS_MAX {
            self.breaks(format!("more than {CALLS_MAX} calls: the engine goes in circles at {what} {}", cx.step));
            std::future::pending::<()>().await;
        }
        Under { world: Arc::clone(self), place, cx: cx.clone() }
    }

    /// The law of order, looked up in what is durable at this moment.
    pub(crate) async fn check_order(&self, what: &'static str, cx: &ReadContext, wanted: StepState) {
        match history::load(&self.store, &cx.run).await {
            Ok(loaded) => {
                let found = loaded.run.steps.get(&cx.step).map(|step| (step.state, step.attempts));
                if found != Some((wanted, cx.attempt)) {
                    self.breaks(format!("{what} of {} attempt {} while the durable journal has {found:?}", cx.step, cx.attempt));
                }
            }
            Err(error) => self.breaks(format!("{what} of {} without a durable journal: {error}", cx.step)),
        }
    }

    /// The law of locks: who changes a resource has its lock.
    pub(crate) async fn check_lock(&self, cx: &ReadContext, resource: Option<&str>) {
        let Some(resource) = resource else { return };
        match history::lock_holder(&self.store, resource).await {
            Ok((Some(holder), _)) if holder == cx.run => {}
            other => self.breaks(format!("{} of {} changes {resource}, whose lock is {other:?}", cx.step, cx.run)),
        }
    }

    /// The effect comes about.
    pub(crate) fn land(&self, step: &str, attempt: u32) {
        let twice = {
            let mut inner = self.inner();
            let effect = inner.effects.entry(step.to_owned()).or_default();
            effect.lands = None;
            *effect.by_attempt.entry(attempt).or_default() += 1;
            std::mem::replace(&mut effect.stands, true)
        };
        if twice {
            self.breaks(format!("the effect of {step} came about twice"));
        }
    }

    pub(crate) fn lands_later(&self, step: &str, attempt: u32, at: Instant) {
        self.inner().effects.entry(step.to_owned()).or_default().lands = Some((at, attempt));
    }

    /// When what goes on by itself will be there. Whatever is due by now is there.
    pub(crate) fn under_way(&self, step: &str, now: Instant) -> Option<Instant> {
        let lands = self.inner().effects.get(step).and_then(|effect| effect.lands);
        match lands {
            Some((at, attempt)) if at <= now => {
                self.land(step, attempt);
                None
            }
            Some((at, _)) => Some(at),
            None => None,
        }
    }

    pub(crate) fn take_back(&self, step: &str) {
        let mut inner = self.inner();
        let effect = inner.effects.entry(step.to_owned()).or_default();
        if std::mem::replace(&mut effect.stands, false) {
            inner.undone.push(step.to_owned());
        }
    }
}

/// A call under way: says when it ended, also when it was cut off.
pub(crate) struct Under {
    world: Arc<World>,
    place: usize,
    cx: ReadContext,
}

impl Drop for Under {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let now = self.cx.clock.instant().0;
        if let Some(call) = self.world.inner().calls.get_mut(self.place) {
            call.ended = Some(now);
        }
    }
}
