//! The simulated world: it keeps the effects of steps, counts them, answers as its script says, and notes every broken law.
//! It knows the truth that the engine can only ask for. Step types that reach it are in `steps`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::peers::Peers;
use super::script::{Act, Back, Count, Gate, Script, Sight, Turns};
use super::trace::Trace;
use crate::ReadContext;
use crate::clock::Instant;
use crate::context::Purpose;
use crate::history;
use crate::journal::{Event, RunId};
use crate::run::{StepRun, StepState};
use lifeboat_runbooks::names::StepId;
use lifeboat_store::{LogId, MemoryStore, OwnerId, Seq};
use serde_json::Value;

/// More calls than any play needs: an engine that makes more goes in circles.
const CALLS_MAX: usize = 20_000;

/// What is so of one step's effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// How often it came about, by attempt whose intent led to it.
    pub by_attempt: BTreeMap<u32, u32>,
    /// Whether it is there now.
    pub stands: bool,
    /// It goes on by itself until then, for this attempt.
    lands: Option<(Instant, u32)>,
    /// The attempt whose effect came about by itself.
    by_itself: Option<u32>,
    /// Requests on their way: when each arrives, and of which attempt it is.
    on_its_way: Vec<(Instant, u32)>,
}

impl Effect {
    /// How often it came about in all.
    #[must_use]
    pub fn times(&self) -> u32 {
        self.by_attempt.values().sum()
    }
}

/// Whose effect: the run and the step, as idempotency keys name it.
pub type Whose = (RunId, StepId);

/// One call of a step's code.
#[derive(Clone, Debug, PartialEq)]
pub struct CallMade {
    /// `prepare`, `execute`, `observe` or `undo`.
    pub what: &'static str,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: String,
    /// The attempt.
    pub attempt: u32,
    /// When it began, since dawn.
    pub began: Duration,
    /// When it ended or was cut off.
    pub ended: Option<Duration>,
}

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Its name, short.
    pub law: &'static str,
    /// What happened.
    pub words: String,
}

#[derive(Debug)]
struct Inner {
    censuses: Turns<Count>,
    /// On which resources an effect is.
    places: BTreeMap<Whose, BTreeSet<String>>,
    /// What there is on resources beside the effects of steps, and how it stands.
    things: BTreeMap<String, BTreeMap<String, String>>,
    scripts: BTreeMap<String, Script>,
    effects: BTreeMap<Whose, Effect>,
    calls: Vec<CallMade>,
    undone: Vec<Whose>,
    broken: Vec<Broken>,
    trace: Trace,
    peers: Peers,
    /// Step type and parameters of each effect, as its step was called last.
    meant: BTreeMap<Whose, (String, Value)>,
    /// Who has the lease on a run, until when, and whether they have claimed it under that lease.
    leases: BTreeMap<LogId, (OwnerId, Duration, bool)>,
    /// When each record of a run's log became durable, since dawn.
    durable: BTreeMap<(LogId, Seq), Duration>,
}

/// The world of one play.
#[derive(Debug)]
pub struct World {
    inner: Mutex<Inner>,
    /// What is durable, to hold the engine's acts against.
    store: MemoryStore,
}

impl World {
    /// A fresh world. It checks the laws against what is durable in `store`.
    #[must_use]
    pub fn new(store: MemoryStore) -> Arc<Self> {
        let inner = Inner {
            censuses: Turns::always(Count::Truth),
            places: BTreeMap::new(),
            things: BTreeMap::new(),
            scripts: BTreeMap::new(),
            effects: BTreeMap::new(),
            calls: Vec::new(),
            undone: Vec::new(),
            broken: Vec::new(),
            trace: Trace::default(),
            peers: Peers::default(),
            meant: BTreeMap::new(),
            leases: BTreeMap::new(),
            durable: BTreeMap::new(),
        };
        Arc::new(Self { inner: Mutex::new(inner), store })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script<T>(&self, step: &str, write: impl FnOnce(&mut Script) -> T) -> T {
        write(self.inner().scripts.entry(step.to_owned()).or_default())
    }

    /// The next executions of this step; after them it does what it always does.
    pub fn acts(&self, step: &str, acts: &[Act]) -> &Self {
        self.script(step, |script| script.acts.first = acts.iter().copied().collect());
        self
    }

    /// Every execution of this step.
    pub fn always(&self, step: &str, act: Act) -> &Self {
        self.script(step, |script| script.acts.then = act);
        self
    }

    /// The next answers of its gate.
    pub fn gates(&self, step: &str, gates: &[Gate]) -> &Self {
        self.script(step, |script| script.gates.first = gates.iter().copied().collect());
        self
    }

    /// Every answer of its gate.
    pub fn always_gate(&self, step: &str, gate: Gate) -> &Self {
        self.script(step, |script| script.gates.then = gate);
        self
    }

    /// The next answers to whoever looks what became of it.
    pub fn sights(&self, step: &str, sights: &[Sight]) -> &Self {
        self.script(step, |script| script.sights.first = sights.iter().copied().collect());
        self
    }

    /// Every answer to whoever looks.
    pub fn always_sight(&self, step: &str, sight: Sight) -> &Self {
        self.script(step, |script| script.sights.then = sight);
        self
    }

    /// The next undos.
    pub fn backs(&self, step: &str, backs: &[Back]) -> &Self {
        self.script(step, |script| script.backs.first = backs.iter().copied().collect());
        self
    }

    /// The next answers of the gate of its written undo.
    pub fn undo_gates(&self, step: &str, gates: &[Gate]) -> &Self {
        self.script(step, |script| script.undo_gates.first = gates.iter().copied().collect());
        self
    }

    /// The next censuses of any type; after them every one tells the truth.
    pub fn counts(&self, counts: &[Count]) -> &Self {
        self.inner().censuses.first = counts.iter().copied().collect();
        self
    }

    /// Something that no undo takes back stands so on a resource from now on.
    pub fn put(&self, resource: &str, thing: &str, state: &str) -> &Self {
        self.inner().things.entry(resource.to_owned()).or_default().insert(thing.to_owned(), state.to_owned());
        self
    }

    /// Every undo.
    pub fn always_back(&self, step: &str, back: Back) -> &Self {
        self.script(step, |script| script.backs.then = back);
        self
    }

    pub(super) fn next_act(&self, step: &str) -> Act {
        self.script(step, |script| script.acts.next())
    }

    pub(super) fn next_gate(&self, cx: &ReadContext) -> Gate {
        self.script(cx.step.as_str(), |script| match cx.purpose {
            Purpose::Step => script.gates.next(),
            Purpose::WrittenUndo => script.undo_gates.next(),
        })
    }

    pub(super) fn next_sight(&self, step: &str) -> Sight {
        self.script(step, |script| script.sights.next())
    }

    pub(super) fn next_back(&self, step: &str) -> Back {
        self.script(step, |script| script.backs.next())
    }

    pub(super) fn next_count(&self) -> Count {
        self.inner().censuses.next()
    }

    /// The effect of this step is on this resource, if it comes about.
    pub(super) fn is_at(&self, whose: &Whose, resource: &str) {
        self.inner().places.entry(whose.clone()).or_default().insert(resource.to_owned());
    }

    /// What there is on a resource: name and state.
    #[must_use]
    pub fn things(&self, resource: &str) -> BTreeMap<String, String> {
        let inner = self.inner();
        let mut things = inner.things.get(resource).cloned().unwrap_or_default();
        for (whose, effect) in &inner.effects {
            if effect.stands && inner.places.get(whose).is_some_and(|places| places.contains(resource)) {
                things.insert(format!("effect of {} by {}", whose.1, whose.0), "there".into());
            }
        }
        things
    }

    /// How often the effect of this step came about, in all runs.
    #[must_use]
    pub fn times(&self, step: &str) -> u32 {
        self.inner().effects.iter().filter(|((_, id), _)| id.as_str() == step).map(|(_, effect)| effect.times()).sum()
    }

    /// Whether the effect of this step is there now, by any run.
    #[must_use]
    pub fn stands(&self, step: &str) -> bool {
        self.inner().effects.iter().any(|((_, id), effect)| id.as_str() == step && effect.stands)
    }

    /// All effects that ever came about or are on their way.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<Whose, Effect> {
        self.inner().effects.clone()
    }

    /// Calls of this kind made for this step.
    #[must_use]
    pub fn calls(&self, what: &str, step: &str) -> usize {
        self.inner().calls.iter().filter(|call| call.what == what && call.step == step).count()
    }

    /// All calls in order.
    #[must_use]
    pub fn all_calls(&self) -> Vec<CallMade> {
        self.inner().calls.clone()
    }

    /// Steps in the order in which their effects were taken back.
    #[must_use]
    pub fn undone(&self) -> Vec<Whose> {
        self.inner().undone.clone()
    }

    /// The laws that were broken, in order.
    #[must_use]
    pub fn broken(&self) -> Vec<Broken> {
        self.inner().broken.clone()
    }

    /// Notes a broken law.
    pub fn breaks(&self, law: &'static str, words: impl Into<String>) {
        let words = words.into();
        let mut inner = self.inner();
        inner.trace.note(|| format!("LAW {law}: {words}"));
        inner.broken.push(Broken { law, words });
    }

    /// Notes what happened, for comparing and reading plays.
    pub fn note(&self, words: impl FnOnce() -> String) {
        self.inner().trace.note(words);
    }

    /// The databases and records, to set up, to hurt, and to look at.
    pub fn peers<T>(&self, with: impl FnOnce(&mut Peers) -> T) -> T {
        with(&mut self.inner().peers)
    }

    pub(super) fn knows_database(&self, with: &Value) -> bool {
        let name = with.get("db").and_then(Value::as_str).unwrap_or_default();
        self.inner().peers.databases.contains_key(name)
    }

    /// From now on the trace keeps its lines, not only their sum.
    pub fn keep_lines(&self) {
        self.inner().trace.keep_lines();
    }

    /// What happened so far.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.inner().trace.clone()
    }

    /// Notes a call; one too many never returns.
    pub(super) async fn enter(self: &Arc<Self>, what: &'static str, cx: &ReadContext) -> Under {
        let began = cx.clock.instant().0;
        let place = {
            let mut inner = self.inner();
            inner.trace.note(|| format!("{began:?} {what} {}/{} attempt {}", cx.run, cx.step, cx.attempt));
            let call = CallMade { what, run: cx.run.clone(), step: cx.step.to_string(), attempt: cx.attempt, began, ended: None };
            inner.calls.push(call);
            inner.calls.len() - 1
        };
        if place >= CALLS_MAX {
            self.breaks("progress", format!("more than {CALLS_MAX} calls: the engine goes in circles at {what} {}", cx.step));
            std::future::pending::<()>().await;
        }
        Under { world: Arc::clone(self), place, cx: cx.clone() }
    }

    /// The law of order, looked up in what is durable at this moment: whoever acts has said so before.
    pub(super) async fn check_order(&self, what: &'static str, cx: &ReadContext, wanted: &[StepState]) {
        match history::load(&self.store, &cx.run).await {
            Ok(loaded) => {
                let count = |step: &StepRun| match cx.purpose {
                    Purpose::Step => step.attempts,
                    Purpose::WrittenUndo => step.undos,
                };
                let found = loaded.run.steps.get(&cx.step).map(|step| (step.state, count(step)));
                if !found.is_some_and(|(state, attempt)| wanted.contains(&state) && attempt == cx.attempt) {
                    self.breaks("order", format!("{what} of {} attempt {} while the durable journal has {found:?}", cx.step, cx.attempt));
                }
            }
            Err(error) => self.breaks("order", format!("{what} of {} without a durable journal: {error}", cx.step)),
        }
    }

    /// The law of locks: who changes a resource has its lock.
    pub(super) async fn check_lock(&self, cx: &ReadContext, resource: &str) {
        match history::lock_holder(&self.store, resource).await {
            Ok((Some(holder), _)) if holder == cx.run => {}
            other => self.breaks("lock", format!("{} of {} changes {resource}, whose lock is {other:?}", cx.step, cx.run)),
        }
    }

    /// What the effect of a step means, for when it comes about.
    pub(super) fn means(&self, whose: &Whose, step_type: &str, with: &Value) {
        self.inner().meant.insert(whose.clone(), (step_type.to_owned(), with.clone()));
    }

    /// Records of a run's log are durable from now.
    pub(super) fn durable(&self, log: &LogId, from: Seq, count: usize, now: Duration) {
        let mut inner = self.inner();
        for place in from.0..from.0.saturating_add(count as u64) {
            inner.durable.insert((log.clone(), Seq(place)), now);
        }
    }

    /// A lease was taken, or made to last longer.
    pub(super) fn leased(&self, log: &LogId, owner: &OwnerId, until: Duration) {
        let mut inner = self.inner();
        let claimed = inner.leases.get(log).is_some_and(|(holder, _, claimed)| holder == owner && *claimed);
        inner.leases.insert(log.clone(), (owner.clone(), until, claimed));
    }

    /// A lease was given back.
    pub(super) fn given_back(&self, log: &LogId, owner: &OwnerId) {
        let mut inner = self.inner();
        if inner.leases.get(log).is_some_and(|(holder, _, _)| holder == owner) {
            inner.leases.remove(log);
        }
    }

    /// The law of leases: nobody claims a run from a process that has claimed it and holds its lease.
    pub(super) fn claimed(&self, log: &LogId, owner: &OwnerId, now: Duration) {
        let robbed = match self.inner().leases.get_mut(log) {
            Some((holder, _, claimed)) if holder == owner => {
                *claimed = true;
                None
            }
            Some((holder, until, true)) if *until > now => Some(holder.0.clone()),
            Some(_) | None => None,
        };
        if let Some(holder) = robbed {
            self.breaks("lease", format!("{} claims {log} from {holder}, who holds its lease", owner.0));
        }
    }

    /// When a record of a run's log became durable, since dawn.
    #[must_use]
    pub fn durable_at(&self, run: &RunId, place: u64) -> Option<Duration> {
        let log = history::run_log(run).ok()?;
        self.inner().durable.get(&(log, Seq(place))).copied()
    }

    /// The law of tenure: nobody acts for an attempt that was found to have had no effect, nor later than its own time after another
    /// process has taken the run over.
    pub(super) async fn check_tenure(&self, cx: &ReadContext, owner: &OwnerId, now: Duration) {
        let Ok(loaded) = history::load(&self.store, &cx.run).await else { return };
        let (step, timeout) = (loaded.run.steps.get(&cx.step), loaded.run.plan.step(&cx.step).map_or(0, |step| step.timeout_ms));
        let open = step.is_some_and(|step| step.attempts == cx.attempt && (step.state.is_open() || step.doubtful));
        if !open {
            self.breaks("ruled out", format!("{} attempt {} takes effect although the journal has ruled that out", cx.step, cx.attempt));
        }
        let Ok(log) = history::run_log(&cx.run) else { return };
        let mine = loaded.entries.iter().rposition(|entry| entry.owner == owner.0).unwrap_or(0);
        let claim =
            (mine..loaded.entries.len()).find(|place| matches!(loaded.entries[*place].event, Event::RunClaimed { .. }) && *place > mine);
        let claimed = claim.and_then(|place| self.inner().durable.get(&(log, Seq(place as u64))).copied());
        if let Some(claimed) = claimed
            && now > claimed.saturating_add(Duration::from_millis(timeout))
        {
            self.breaks("overtaken", format!("{} of {} takes effect at {now:?}; the run was taken over at {claimed:?}", cx.step, owner.0));
        }
    }

    /// The effect comes about.
    pub(super) fn land(&self, whose: &Whose, attempt: u32, now: Instant) {
        let (twice, broken) = {
            let mut inner = self.inner();
            inner.trace.note(|| format!("{:?} landed {}/{} attempt {attempt}", now.0, whose.0, whose.1));
            let effect = inner.effects.entry(whose.clone()).or_default();
            effect.lands = None;
            *effect.by_attempt.entry(attempt).or_default() += 1;
            let twice = std::mem::replace(&mut effect.stands, true);
            let meant = inner.meant.get(whose).cloned();
            (twice, meant.and_then(|(step_type, with)| inner.peers.landed(&step_type, &with, now.0)))
        };
        if twice {
            self.breaks("once", format!("the effect of {} came about twice", whose.1));
        }
        if let Some(words) = broken {
            self.breaks("two primaries", format!("{words}, by {} of {}", whose.1, whose.0));
        }
    }

    pub(super) fn lands_later(&self, whose: &Whose, attempt: u32, at: Instant) {
        self.inner().effects.entry(whose.clone()).or_default().lands = Some((at, attempt));
    }

    pub(super) fn sends(&self, whose: &Whose, attempt: u32, arrives: Instant) {
        self.inner().effects.entry(whose.clone()).or_default().on_its_way.push((arrives, attempt));
    }

    /// Whatever was on its way and is due by now has arrived.
    pub(super) fn arrive(&self, whose: &Whose, now: Instant) {
        let due: Vec<(Instant, u32)> = {
            let mut inner = self.inner();
            let Some(effect) = inner.effects.get_mut(whose) else { return };
            effect.on_its_way.extract_if(.., |(at, _)| *at <= now).collect()
        };
        for (at, attempt) in due {
            self.land(whose, attempt, at);
        }
    }

    /// Whatever is on its way arrives, also after the last process has stopped looking.
    pub fn all_arrives(&self) {
        let all: Vec<Whose> = self.inner().effects.keys().cloned().collect();
        for whose in all {
            self.arrive(&whose, Instant(Duration::MAX));
        }
    }

    /// When what goes on by itself will be there. Whatever is due by now is there.
    pub(super) fn under_way(&self, whose: &Whose, now: Instant) -> Option<Instant> {
        let lands = self.inner().effects.get(whose).and_then(|effect| effect.lands);
        match lands {
            Some((at, attempt)) if at <= now => {
                self.land(whose, attempt, at);
                self.inner().effects.entry(whose.clone()).or_default().by_itself = Some(attempt);
                None
            }
            Some((at, _)) => Some(at),
            None => None,
        }
    }

    /// Whether what this attempt began came about by itself: then there is nothing left to do for whoever adopts it.
    pub(super) fn came_about_by_itself(&self, whose: &Whose, attempt: u32) -> bool {
        self.inner().effects.get(whose).is_some_and(|effect| effect.stands && effect.by_itself == Some(attempt))
    }

    /// Whether the effect is there now, by this run.
    pub(super) fn stands_by(&self, whose: &Whose) -> bool {
        self.inner().effects.get(whose).is_some_and(|effect| effect.stands)
    }

    pub(super) fn take_back(&self, whose: &Whose, now: Instant) {
        let broken = {
            let mut inner = self.inner();
            inner.trace.note(|| format!("{:?} taken back {}/{}", now.0, whose.0, whose.1));
            let effect = inner.effects.entry(whose.clone()).or_default();
            if !std::mem::replace(&mut effect.stands, false) {
                return;
            }
            inner.undone.push(whose.clone());
            let meant = inner.meant.get(whose).cloned();
            meant.and_then(|(step_type, with)| inner.peers.taken_back(&step_type, &with, now.0))
        };
        if let Some(words) = broken {
            self.breaks("two primaries", format!("{words}, by the undo of {} of {}", whose.1, whose.0));
        }
    }
}

/// A call under way: says when it ended, also when it was cut off.
pub(super) struct Under {
    world: Arc<World>,
    place: usize,
    cx: ReadContext,
}

impl Drop for Under {
    fn drop(&mut self) {
        let now = self.cx.clock.instant().0;
        if let Some(call) = self.world.inner().calls.get_mut(self.place) {
            call.ended = Some(now);
        }
    }
}
