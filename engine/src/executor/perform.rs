//! The calls to steps: each in a task of its own, cut off at its deadline. A call that is cut off after it may have acted is an
//! unknown outcome, never a failure.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;
use tokio::task::AbortHandle;

use super::{Executor, Handle};
use crate::clock::{Clock, Instant};
use crate::context::{Progress, Purpose, ReadContext, RunFacts, StepContext, TurnedBack};
use crate::facts;
use crate::ports::Ports;
use crate::registry::{Missing, StepType};
use crate::retry;
use crate::run::effect_of;
use crate::step::{Observation, Readiness, Retryable, StepError};
use crate::tenure::Standing;
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{ErrorClass, PlanStep, Retry, WrittenUndo};

/// Longest time of one `prepare`: it only looks.
const PREPARE_FOR_MAX: Duration = Duration::from_secs(30);

/// Longest time of one look at what became of an attempt.
const OBSERVE_FOR_MAX: Duration = Duration::from_secs(30);

/// Longest time of measuring facts again while people wait: a step that takes longer cannot say how things are now.
const MEASURE_FOR_MAX: Duration = Duration::from_secs(30);

/// Waits between looks while the world cannot be asked.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Looks at what became of an attempt before a person is asked.
const LOOKS_MAX: u32 = 6;

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prepare,
    Execute,
    Observe,
    Undo,
    /// Hands on an answer that is known.
    Give,
}

/// A call that was made and has not ended.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) step: StepId,
    pub(super) kind: Kind,
    pub(super) purpose: Purpose,
    pub(super) task: AbortHandle,
}

/// What was called of a step before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// Nothing.
    Nothing,
    /// Perhaps something.
    Perhaps,
}

/// A call with everything that it needs.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) step: StepId,
    pub(super) purpose: Purpose,
    pub(super) step_type: Arc<dyn StepType>,
    pub(super) attempt: u32,
    /// Shared with the run's record: parameters are the largest part of most calls.
    pub(super) with: Arc<Value>,
    kind: Kind,
    intent: Value,
    pub(super) done: Value,
    /// Whether an earlier attempt of a step that changes something must be looked at first.
    look_first: bool,
    timeout: Duration,
    retry: Retry,
    ports: Ports,
    facts: Arc<RunFacts>,
    handle: Handle,
    standing: Standing,
    /// What an earlier process began may take effect until then.
    unquiet_until: Option<Instant>,
    /// Whether no call of the step was made before.
    pub(super) earlier: Earlier,
    /// Tells an act of the main part that the run turned back.
    turned_back: Option<Arc<TurnedBack>>,
}

/// A call's answer.
#[derive(Debug)]
pub(crate) struct TaskEnd {
    pub(super) step: StepId,
    pub(super) purpose: Purpose,
    pub(super) attempt: u32,
    pub(super) with: Arc<Value>,
    pub(super) answer: Answer,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Prepared(Result<Readiness<Value>, StepError>),
    Executed(Result<Value, StepError>),
    Observed(Result<Observation<Value>, StepError>),
    Undone(Result<(), StepError>),
}

impl Executor {
    fn told_of_turning_back(&self) -> Arc<TurnedBack> {
        let turned_back = self.turned_back.get_or_init(|| {
            let turned_back = TurnedBack::default();
            if self.run.cancelled_by.is_some() || self.run.turn.is_some() {
                turned_back.tell();
            }
            Arc::new(turned_back)
        });
        Arc::clone(turned_back)
    }

    pub(super) fn new_call(&self, step: &PlanStep, kind: Kind, with: Arc<Value>) -> Call {
        let record = self.run.steps.get(&step.id);
        let attempts = record.map_or(0, |record| record.attempts);
        let main = self.run.plan.place(&step.id).is_some_and(|place| place < self.run.plan.steps.len());
        let step_type: Arc<dyn StepType> =
            self.ports.registry.step(&step.step_type).cloned().unwrap_or_else(|| Missing::named(&step.step_type));
        Call {
            step: step.id.clone(),
            purpose: Purpose::Step,
            step_type,
            attempt: if kind == Kind::Prepare { attempts + 1 } else { attempts },
            with,
            kind,
            intent: record.and_then(|record| record.intent.clone()).unwrap_or(Value::Null),
            done: record.and_then(|record| record.value.clone()).unwrap_or(Value::Null),
            look_first: attempts > 0 && effect_of(step) > Effect::Read,
            timeout: Duration::from_millis(step.timeout_ms),
            retry: step.retry,
            ports: self.ports.clone(),
            facts: Arc::new(facts::for_step(&self.run, &self.known, step, Purpose::Step)),
            handle: self.handle.clone(),
            standing: self.standing.clone(),
            unquiet_until: self.unquiet_until.get(&step.id).copied(),
            earlier: Earlier::Perhaps,
            turned_back: (kind == Kind::Execute && main).then(|| self.told_of_turning_back()),
        }
    }

    /// A call of a step's written undo, with what was journaled of it.
    pub(super) fn new_undo_call(&self, step: &PlanStep, undo: &WrittenUndo, kind: Kind, with: Arc<Value>) -> Call {
        let record = self.run.steps.get(&step.id);
        let act = record.and_then(|record| record.undo_act.as_ref());
        let undos = record.map_or(0, |record| record.undos);
        Call {
            purpose: Purpose::WrittenUndo,
            step_type: self.ports.registry.step(&undo.step_type).cloned().unwrap_or_else(|| Missing::named(&undo.step_type)),
            attempt: if kind == Kind::Prepare { undos + 1 } else { undos },
            intent: act.map(|act| act.intent.clone()).unwrap_or(Value::Null),
            done: Value::Null,
            look_first: act.is_some(),
            timeout: Duration::from_millis(undo.timeout_ms),
            facts: Arc::new(facts::for_step(&self.run, &self.known, step, Purpose::WrittenUndo)),
            turned_back: None,
            ..self.new_call(step, kind, with)
        }
    }
}

impl Call {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn read_context(&self) -> ReadContext {
        self.context(match self.kind {
            Kind::Prepare => PREPARE_FOR_MAX,
            Kind::Observe => OBSERVE_FOR_MAX,
            Kind::Execute | Kind::Undo | Kind::Give => self.timeout,
        })
    }

    fn context(&self, length: Duration) -> ReadContext {
        let ports = &self.ports;
        let deadline = ports.clock.instant().after(length);
        ReadContext::new(
            self.handle.run.clone(),
            self.step.clone(),
            self.attempt,
            Arc::clone(&ports.clock),
            Arc::clone(&ports.inventory),
            Arc::clone(&ports.secrets),
            Arc::clone(&self.facts),
            deadline,
        )
        .made_for(self.purpose)
    }

    fn step_context(&self) -> StepContext {
        let cx = StepContext::new(self.read_context(), Arc::new(self.handle.clone()) as Arc<dyn Progress>);
        let cx = match &self.turned_back {
            Some(turned_back) => cx.told_of_turning_back(turned_back.clone()),
            None => cx,
        };
        match self.earlier {
            Earlier::Nothing => cx.first_of_its_step(),
            Earlier::Perhaps => cx,
        }
    }
}

/// Makes the call.
pub(crate) async fn perform(call: Box<Call>) -> TaskEnd {
    quieten(&call).await;
    let answer = match call.kind {
        Kind::Prepare => prepare(&call).await,
        Kind::Execute => {
            let cx = call.step_context();
            Answer::Executed(acting(&call, call.step_type.execute(&call.with, &call.intent, &cx)).await.unwrap_or_else(Err))
        }
        Kind::Observe => Answer::Observed(look(&call).await),
        Kind::Give => Answer::Executed(Ok(call.done.clone())),
        Kind::Undo => {
            let cx = call.step_context();
            Answer::Undone(acting(&call, call.step_type.undo(&call.with, &call.intent, &call.done, &cx)).await.unwrap_or_else(Err))
        }
    };
    let Call { step, purpose, attempt, with, .. } = *call;
    TaskEnd { step, purpose, attempt, with, answer }
}

/// Waits until nothing that an earlier process began can take effect any more. A look before that could see "not done" too early.
async fn quieten(call: &Call) {
    let Some(until) = call.unquiet_until else { return };
    let clock = &call.ports.clock;
    let mut left = until.since(clock.instant());
    if !left.is_zero() {
        let words = format!("waiting {}: until then what the process before began may still take effect", lifeboat_runbooks::Period(left));
        call.handle.tell(&call.step, &words);
    }
    while !left.is_zero() {
        clock.sleep(left).await;
        left = until.since(clock.instant());
    }
}

/// Polls a call that acts, until its time is up. In a shared store it gets no further turn once its time or the lease is over by the
/// clock that goes on during suspend: whoever wakes from a pause must not take the step that was due before it.
async fn acting<T>(call: &Call, work: impl Future<Output = T>) -> Result<T, StepError> {
    let clock = Arc::clone(&call.ports.clock);
    let ends_at = clock.instant().after(call.timeout);
    let late = || StepError::unknown(format!("no answer within {}", lifeboat_runbooks::Period(call.timeout)));
    let mut work = pin!(work);
    let turns = poll_fn(|cx| {
        if call.standing.is_leased() && clock.instant() >= ends_at {
            return Poll::Ready(Err(late()));
        }
        if !call.standing.holds() {
            return Poll::Ready(Err(StepError::unknown("the lease on the run ended while it acted")));
        }
        work.as_mut().poll(cx).map(Ok)
    });
    within(&*call.ports.clock, call.timeout, turns).await.unwrap_or_else(|| Err(late()))
}

async fn within<T>(clock: &dyn Clock, length: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep(length) => None,
    }
}

/// Asks a step that only looks for its facts again. It is journaled as done already, so no attempt of it begins.
pub(crate) async fn measure(mut call: Call) -> Result<Value, String> {
    call.timeout = call.timeout.min(MEASURE_FOR_MAX);
    let measuring = async {
        let intent = match call.step_type.prepare(&call.with, &call.read_context()).await {
            Ok(Readiness::Ready { intent, .. }) => intent,
            Ok(Readiness::Refused { why, .. }) => return Err(why),
            Ok(Readiness::Later { needs, .. }) => return Err(format!("it waits for {needs}")),
            Err(error) => return Err(error.to_string()),
        };
        call.step_type.execute(&call.with, &intent, &call.step_context()).await.map_err(|error| error.to_string())
    };
    let late = || Err(format!("no answer within {}", lifeboat_runbooks::Period(call.timeout)));
    within(&*call.ports.clock, call.timeout, measuring).await.unwrap_or_else(late)
}

/// The gate. A gate that could not be asked is asked again as often as the step's retries allow: nothing has acted yet.
async fn prepare(call: &Call) -> Answer {
    if call.look_first {
        match look(call).await {
            Ok(Observation::NotDone) => {}
            seen => return Answer::Observed(seen),
        }
    }
    let mut tried = 1;
    loop {
        let cx = call.context(PREPARE_FOR_MAX);
        let asked = within(&*call.ports.clock, PREPARE_FOR_MAX, call.step_type.prepare(&call.with, &cx)).await;
        let answer = asked.unwrap_or_else(|| {
            Err(StepError::not_done(format!("its checks gave no answer within {}", lifeboat_runbooks::Period(PREPARE_FOR_MAX))))
        });
        let class = match &answer {
            Err(StepError::NotDone { retry: Retryable::Yes, .. }) => Some(ErrorClass::NotDone),
            Ok(Readiness::Refused { .. }) | Err(StepError::Refused { .. }) => Some(ErrorClass::Refused),
            Ok(Readiness::Ready { .. } | Readiness::Later { .. })
            | Err(StepError::NotDone { retry: Retryable::No, .. } | StepError::Unknown { .. }) => None,
        };
        match answer {
            Ok(Readiness::Refused { why, .. }) | Err(StepError::NotDone { why, .. } | StepError::Refused { why, .. })
                if tried < call.retry.attempts && class.is_some_and(|class| call.retry.covers(class)) =>
            {
                let what = if class == Some(ErrorClass::Refused) { "its checks said no" } else { "its checks failed" };
                call.handle.tell(&call.step, &format!("{what} ({why}); trying again"));
                call.ports.clock.sleep(retry::delay(&call.retry, tried, &format!("{}/{}/gate", call.handle.run, call.step))).await;
                tried += 1;
            }
            answer => return Answer::Prepared(answer),
        }
    }
}

/// Asks the world what became of the last intent; a world that does not answer is asked some times more.
async fn look(call: &Call) -> Result<Observation<Value>, StepError> {
    let mut looks = 1;
    loop {
        let cx = call.context(OBSERVE_FOR_MAX);
        let seen = within(&*call.ports.clock, OBSERVE_FOR_MAX, call.step_type.observe(&call.with, &call.intent, &cx)).await;
        let seen = seen.unwrap_or_else(|| {
            Ok(Observation::Unknown { why: format!("no answer within {}", lifeboat_runbooks::Period(OBSERVE_FOR_MAX)) })
        });
        let why = match &seen {
            Ok(Observation::Unknown { why }) => why.clone(),
            Err(error) => error.to_string(),
            Ok(Observation::Done(_) | Observation::InProgress | Observation::NotDone | Observation::Foreign { .. }) => return seen,
        };
        if looks >= LOOKS_MAX {
            return seen;
        }
        call.handle.tell(&call.step, &format!("cannot tell what became of it ({why}); looking again"));
        call.ports.clock.sleep(LOOK_AGAIN_AFTER * looks).await;
        looks += 1;
    }
}
