//! Drives one run: next, journal, act, journal. The sole writer of the run's log. What follows from an answer is in `react`,
//! the calls themselves in `perform`, the commits in `record`, the way to a run that is driven in `handle`, waiting at length in `rest`.

mod begin;
mod freezing;
mod handle;
mod list;
mod perform;
mod questions;
mod react;
mod record;
mod rest;
mod undoing;
mod way;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};

use crate::clock::Instant;
use crate::context::TurnedBack;
use crate::evidence::Evidence;
use crate::facts::Known;
use crate::journal::{Actor, Entry, Event, Outcome, RunId};
use crate::mutants::{self, Mutant};
use crate::next::{Action, Busy, Next, next};
use crate::ports::Ports;
use crate::preemption::makes_way;
use crate::proof;
use crate::run::{IllegalTransition, Run, RunPhase, StepState};
use crate::steering::{Command, SteerError};
use crate::tenure::{Standing, Tenure, TenureError};
use handle::Asked;
pub use handle::{Handle, Notice, Notices, Request, Requests};
use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::PlanStep;
use lifeboat_store::{Changes, OwnerId, Seq, StoreError};
use perform::{Call, TaskEnd};
use record::Flushed;

/// How driving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// The run ended.
    Ended(Outcome),
    /// It was detached from, unfinished.
    Detached,
}

/// How far one stretch of driving came.
enum Pass {
    /// The run ended or was left.
    Over(Driven),
    /// Nothing happens before this instant unless somebody asks.
    Rests { wake_at: Option<jiff::Timestamp> },
}

/// Why driving stopped. The run can be resumed; its journal says how far it came.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The journal could not be written. What was acknowledged is kept.
    #[error("the journal cannot be written")]
    Store(#[from] StoreError),
    /// Another process writes this run's journal.
    #[error("run {0} was taken over by another process")]
    Overtaken(RunId),
    /// The store is shared, and the lease on the run could not be renewed in time: another process may take the run over.
    #[error("the lease on run {0} could not be renewed in time, so another process may take the run over; nothing more was started")]
    LeaseLost(RunId),
    /// An event that the tables do not have: our mistake.
    #[error("an event does not follow from the run's state")]
    Illegal(#[from] IllegalTransition),
    /// An entry cannot be written down.
    #[error("an entry cannot be written down: {0}")]
    Encode(String),
    /// What was written cannot be read again.
    #[error("the journal cannot be read again")]
    Unreadable(#[source] crate::history::HistoryError),
}

/// An answer that waits for facts.
#[derive(Debug)]
struct Waiting {
    command: Command,
    by: Actor,
    reply: oneshot::Sender<Result<(), SteerError>>,
}

/// Drives one run.
pub struct Executor {
    ports: Ports,
    owner: OwnerId,
    run: Run,
    /// The run's steps, as calls under way see them.
    known: Known,
    next: Seq,
    /// Applied, not yet durable. Nothing acts before these are.
    pending: Vec<Entry>,
    /// Answers to people, given once what they asked for is durable.
    replies: Vec<oneshot::Sender<Result<(), SteerError>>>,
    /// Calls that wait for the commit.
    calls: Vec<Call>,
    /// Gates to be asked before the commit.
    glances: Vec<Call>,
    busy: Busy,
    tasks: JoinSet<TaskEnd>,
    of_task: HashMap<Id, perform::UnderWay>,
    /// Wakes where a lock changes; only runs that make way for others look.
    wishes: Option<Changes>,
    /// What must not be changed for now.
    freezes: freezing::Watch,
    /// Facts being measured anew for people who were asked, and whose question each task is.
    measuring: JoinSet<questions::Measured>,
    of_question: HashMap<Id, StepId>,
    /// Answers that wait for their question's facts.
    waiting: BTreeMap<StepId, Vec<Waiting>>,
    /// Tells acts of the main part that the run was cancelled or turned back; there once one of them may ask.
    turned_back: OnceLock<Arc<TurnedBack>>,
    /// What a drill asks of its peers, while the answers are awaited.
    listing: JoinSet<Event>,
    requests: Asked,
    handle: Handle,
    detaching: bool,
    standing: Standing,
    /// Until when what the process before began may still take effect. Steps are looked at and acted on again only after that.
    unquiet_until: BTreeMap<StepId, Instant>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("run", &self.run.id).field("phase", &self.run.phase).finish_non_exhaustive()
    }
}

impl Executor {
    /// An executor of an admitted or claimed run. `next` is the next free place of its log.
    #[must_use]
    pub fn new(ports: Ports, owner: OwnerId, run: Run, next: Seq) -> (Self, Handle) {
        let (handle, requests) = handle::open(run.id.clone());
        let standing = Standing::sole(Arc::clone(&ports.clock));
        (Self::with(ports, owner, run, next, standing, freezing::Watch::new(), requests, handle.clone()), handle)
    }

    #[expect(clippy::too_many_arguments, reason = "each is what an executor keeps of an earlier one of the same run")]
    fn with(
        ports: Ports,
        owner: OwnerId,
        run: Run,
        next: Seq,
        standing: Standing,
        freezes: freezing::Watch,
        requests: Asked,
        handle: Handle,
    ) -> Self {
        let known = Known::of(&run);
        Self {
            standing,
            ports,
            owner,
            run,
            known,
            next,
            pending: Vec::new(),
            replies: Vec::new(),
            calls: Vec::new(),
            glances: Vec::new(),
            busy: Busy::new(),
            tasks: JoinSet::new(),
            of_task: HashMap::new(),
            wishes: None,
            freezes,
            measuring: JoinSet::new(),
            of_question: HashMap::new(),
            waiting: BTreeMap::new(),
            turned_back: OnceLock::new(),
            listing: JoinSet::new(),
            requests,
            handle,
            detaching: false,
            unquiet_until: BTreeMap::new(),
        }
    }

    /// Drives the run until it ends or is detached from.
    ///
    /// # Errors
    /// Where the journal cannot be written or somebody else writes it, and where the lease on the run is lost. Calls under way are cut
    /// off: they are in doubt.
    pub fn drive(self) -> impl Future<Output = Result<Driven, ExecutorError>> + Send + 'static {
        // On the heap, so that whoever drives does not carry it.
        rest::drive(Box::new(self))
    }

    /// Takes the lease and looks around, before anything is decided.
    async fn begin_driving(&mut self) -> Result<Tenure, ExecutorError> {
        let tenure = Tenure::begin(&self.ports, &self.owner, &self.run.id).await.map_err(|error| match error {
            TenureError::Taken { .. } => ExecutorError::Overtaken(self.run.id.clone()),
            TenureError::Store(error) => ExecutorError::Store(error),
        })?;
        self.standing = tenure.standing();
        // A process that stood still between its claim and here may have got the lease back after another one had the run: it would
        // wait for people on a state that is long past. From here on nobody writes without the lease.
        if self.standing.is_leased() && self.is_behind().await? {
            tenure.give_back().await;
            return Err(ExecutorError::Overtaken(self.run.id.clone()));
        }
        self.unquiet_until = self.unquiet();
        self.watch_freezes().await;
        self.watch_wishes().await?;
        Ok(tenure)
    }

    async fn is_behind(&self) -> Result<bool, ExecutorError> {
        let page = self.ports.store.read(&crate::history::run_log(&self.run.id)?, self.next, NonZeroU32::MIN).await?;
        Ok(page.next != self.next)
    }

    /// What the process before left in doubt may still be on its way, whatever became of that process: each call takes effect within its
    /// step's time, counted at the latest from the end of that process's lease, which is over.
    fn unquiet(&self) -> BTreeMap<StepId, Instant> {
        if !self.standing.is_leased() || mutants::is(Mutant::DeadlineNotWaitedOut) {
            return BTreeMap::new();
        }
        let now = self.ports.clock.instant();
        let plan = &self.run.plan;
        let in_doubt = plan
            .steps
            .iter()
            .chain(&plan.finally)
            .filter(|step| matches!(self.run.state(&step.id), StepState::InDoubt | StepState::UndoInDoubt));
        let length = |step: &PlanStep| {
            let undo = step.written_undo().filter(|_| self.run.state(&step.id) == StepState::UndoInDoubt);
            undo.map_or(step.timeout_ms, |undo| undo.timeout_ms)
        };
        in_doubt.map(|step| (step.id.clone(), now.after(Duration::from_millis(length(step))))).collect()
    }

    /// Drives until the run is over or left, or only waits.
    async fn drive_while_it_lasts(&mut self) -> Result<Pass, ExecutorError> {
        loop {
            let wake_at = loop {
                let mut wake_at = self.settle()?;
                if !self.glances.is_empty() {
                    Box::pin(self.glance()).await?;
                    wake_at = self.settle()?;
                    // What came up too late to be waited for is asked after the commit.
                    self.calls.append(&mut self.glances);
                }
                if mutants::is(Mutant::ActedBeforeIntent) {
                    self.launch()?;
                    tokio::task::yield_now().await;
                }
                match self.flush().await? {
                    Flushed::Durable => break wake_at,
                    Flushed::Withdrawn => {}
                }
            };
            if let (RunPhase::Ended, Some(outcome)) = (self.run.phase, self.run.outcome) {
                // The run is over and says so; a log that stays long is folded by the next one.
                let _ = Box::pin(proof::tidy(self.ports.store.as_ref(), &self.run.plan.runbook)).await;
                return Ok(Pass::Over(Driven::Ended(outcome)));
            }
            self.launch()?;
            if self.detaching && self.busy.is_empty() {
                return Ok(Pass::Over(Driven::Detached));
            }
            if self.may_rest(wake_at) {
                return Ok(Pass::Rests { wake_at });
            }
            self.wait(wake_at).await?;
        }
    }

    /// Follows `next` until it has nothing more to say without an answer from outside.
    fn settle(&mut self) -> Result<Option<jiff::Timestamp>, ExecutorError> {
        loop {
            let before = self.pending.len();
            self.meet_freezes()?;
            let Next { actions, wake_at } = next(&self.run, self.ports.clock.now(), &self.busy);
            if self.detaching {
                return Ok(None);
            }
            for action in actions {
                self.follow(action)?;
            }
            if self.pending.len() == before {
                return Ok(wake_at);
            }
        }
    }

    async fn wait(&mut self, wake_at: Option<jiff::Timestamp>) -> Result<(), ExecutorError> {
        let clock = Arc::clone(&self.ports.clock);
        let pause = wake_at.map(|at| Duration::try_from(at.duration_since(clock.now())).unwrap_or(Duration::ZERO));
        let blind = self.freezes.is_blind();
        let pause = if blind { Some(pause.unwrap_or(freezing::READ_AGAIN_AFTER).min(freezing::READ_AGAIN_AFTER)) } else { pause };
        let timer = async {
            match pause {
                Some(length) => clock.sleep(length).await,
                None => std::future::pending().await,
            }
        };
        // In this order, so that the same answers lead to the same journal: a simulation has to be repeatable. Calls are as many
        // as the plan has, so that people get their turn.
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next_with_id() => {
                // On the heap, as all below that is rare or short: waiting is what a run does most, and thousands of them do.
                Box::pin(async {
                    self.ended(ended).await?;
                    self.take_answers_of_the_same_time().await
                }).await
            }
            Some(listed) = self.listing.join_next() => self.listed(listed),
            Some(measured) = self.measuring.join_next_with_id() => Box::pin(self.measured(measured)).await,
            request = self.requests.next() => self.asked(*request),
            () = changed(&mut self.wishes) => Box::pin(self.look_for_wish()).await,
            () = self.freezes.changed() => {
                Box::pin(self.read_freezes()).await;
                Ok(())
            }
            () = timer => {
                if blind {
                    Box::pin(self.read_freezes()).await;
                }
                Ok(())
            }
            () = self.standing.over() => Err(ExecutorError::LeaseLost(self.run.id.clone())),
        }
    }

    /// Answers that are there already, or come as soon as others have had their turn, share a commit: hundreds of steps side by side
    /// would otherwise wait for the disk one behind the other. What follows from each is decided before the next is looked at.
    async fn take_answers_of_the_same_time(&mut self) -> Result<(), ExecutorError> {
        let mut came = true;
        while came && !self.tasks.is_empty() {
            tokio::task::yield_now().await;
            came = false;
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                came = true;
                self.settle()?;
                self.ended(ended).await?;
            }
        }
        Ok(())
    }

    fn asked(&mut self, request: Request) -> Result<(), ExecutorError> {
        match request {
            Request::Detach => self.detaching = true,
            Request::MakeWay(by) if makes_way(&self.run.plan.mode, &self.run.locks) => self.make_way(by)?,
            Request::MakeWay(_) => {}
            Request::Steer { command, by, reply } => match crate::steering::decide(&self.run, &command, &by, &self.ports) {
                Ok(events) => match self.wants_facts(&command) {
                    Some(question) => self.wait_for_facts(question, Waiting { command, by, reply }),
                    None => {
                        for event in events {
                            self.record(event)?;
                        }
                        if mutants::is(Mutant::AnsweredBeforeDurable) {
                            let _ = reply.send(Ok(()));
                        } else {
                            self.replies.push(reply);
                        }
                    }
                },
                Err(error) => {
                    // Whoever asked may be gone; the refusal changed nothing.
                    let _ = reply.send(Err(error));
                }
            },
        }
        Ok(())
    }

    /// Nothing starts that does not certainly belong to this process: the commit before may have taken long.
    fn launch(&mut self) -> Result<(), ExecutorError> {
        if !self.standing.holds() {
            return Err(ExecutorError::LeaseLost(self.run.id.clone()));
        }
        for call in std::mem::take(&mut self.calls) {
            self.launch_one(call);
        }
        Ok(())
    }

    fn launch_one(&mut self, call: Call) -> Id {
        let (step, kind, purpose) = (call.step.clone(), call.kind(), call.purpose);
        let task = self.tasks.spawn(perform::perform(Box::new(call)));
        let id = task.id();
        self.of_task.insert(id, perform::UnderWay { step, kind, purpose, task });
        id
    }

    /// From here on a call of this step is under way. False where one was already.
    fn occupy(&mut self, step: &StepId) -> bool {
        self.run.plan.place(step).is_some_and(|place| self.busy.insert(place))
    }

    fn vacate(&mut self, step: &StepId) {
        if let Some(place) = self.run.plan.place(step) {
            self.busy.remove(&place);
        }
    }

    fn follow(&mut self, action: Action) -> Result<(), ExecutorError> {
        match action {
            Action::Begin { step } => self.begin(&step),
            Action::Observe { step } if mutants::is(Mutant::BlindRetry) && self.run.state(&step) == StepState::InDoubt => {
                let (why, evidence) = ("tried again".into(), Evidence::none());
                self.record(Event::StepFailed { step, why, evidence, retry_at: Some(self.ports.clock.now()) })
            }
            Action::Observe { step } => match self.moved(&step) {
                Some(why) if self.run.state(&step) == StepState::UndoInDoubt => self.record(Event::UndoFailed { step, why }),
                Some(why) => self.record(Event::StepHeld { step, why, evidence: Evidence::none() }),
                None if self.run.state(&step) == StepState::UndoInDoubt => self.look_at_undo(&step),
                None => self.call(&step, perform::Kind::Observe),
            },
            Action::List { moment } => {
                self.list(moment);
                Ok(())
            }
            Action::Adopt { step } => self.call(&step, perform::Kind::Execute),
            Action::Expire { step } => self.record(Event::ApprovalExpired { step }),
            Action::CallOff { step, why } => self.call_off(step, why),
            Action::Undo { step } => self.take_back(&step),
            Action::Hold { why } => self.record(Event::RunHeld { why }),
            Action::Release => self.record(Event::RunReleased),
            Action::Unwind { turn, back } => self.record(Event::UnwindingStarted { turn, back }),
            Action::Finalise => self.record(Event::FinalisingStarted),
            Action::End { outcome, why } => self.record(Event::RunEnded { outcome, why }),
        }
    }
}

/// The next change, or never.
async fn changed(changes: &mut Option<Changes>) {
    let woken = match changes {
        // On the heap: few runs make way for others.
        Some(watched) => Box::pin(watched.next()).await,
        None => None,
    };
    // A store that is gone fails the next commit, which tells.
    if woken.is_none() {
        std::future::pending().await
    }
}
