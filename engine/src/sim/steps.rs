//! Step types whose outside is the simulated world: parameters, schemas and measures are the real type's, calls are the script's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::process::{Point, Process, Then};
use super::script::{Act, Back, Count, Gate, Sight};
use super::world::{Whose, World};
use crate::census::{Census, Thing};
use crate::context::{Proof, Purpose, ReadContext, StepContext};
use crate::evidence::Evidence;
use crate::measure::Measure;
use crate::registry::{Registry, StepType};
use crate::run::{DRILL, StepState};
use crate::step::{Observation, Readiness, StepError};
use lifeboat_runbooks::catalog::{BadParameters, DrillPolicy, Examined, Resources as _, StepTypeInfo};
use lifeboat_runbooks::names::{Effect, StepId};

/// Invents the output of a step that succeeded.
pub trait Outputs: fmt::Debug + Send + Sync {
    /// The output of this step, from its type and its filled parameters. It should fit the type's output schema.
    fn output(&self, step: &StepId, step_type: &StepTypeInfo, with: &Value) -> Value;
}

/// How long a call takes on either side of its effect.
pub const HALF: Duration = Duration::from_millis(400);

/// What a simulated step wants known after a crash.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Intent {
    /// The same for every attempt.
    key: String,
    /// Different for every attempt.
    attempt: u32,
}

/// One step type as a process of the simulation has it.
#[derive(Debug)]
pub(super) struct Simulated {
    pub(super) real: Arc<dyn StepType>,
    pub(super) world: Arc<World>,
    pub(super) process: Arc<Process>,
    pub(super) outputs: Arc<dyn Outputs>,
}

/// The registry of one process: every type of `real` but the engine's own, simulated.
pub(super) fn registry(real: &Registry, world: &Arc<World>, process: &Arc<Process>, outputs: &Arc<dyn Outputs>) -> Registry {
    real.mapped(|step_type| {
        if step_type.info().name == <crate::approval::ApprovalStep as crate::Step>::TYPE {
            return Arc::clone(step_type);
        }
        Arc::new(Simulated {
            real: Arc::clone(step_type),
            world: Arc::clone(world),
            process: Arc::clone(process),
            outputs: Arc::clone(outputs),
        })
    })
}

fn whose(cx: &ReadContext) -> Whose {
    (cx.run.clone(), cx.step.clone())
}

impl Simulated {
    fn changes(&self) -> bool {
        self.real.info().effect > Effect::Read
    }

    fn output(&self, with: &Value, cx: &ReadContext) -> Value {
        self.outputs.output(&cx.step, self.real.info(), with)
    }

    async fn check(&self, what: &'static str, with: &Value, cx: &ReadContext, wanted: &[StepState]) {
        self.world.check_order(what, cx, wanted).await;
        for touch in self.real.examine(with).map(|examined| examined.touches).unwrap_or_default() {
            if touch.effect > Effect::Read {
                self.world.check_lock(cx, &touch.resource).await;
                if cx.purpose == Purpose::Step {
                    self.world.is_at(&whose(cx), &touch.resource);
                }
                let opened = cx.inventory.resource(&touch.resource).is_some_and(|live| live.drill == DrillPolicy::Allow);
                if cx.facts.mode == DRILL && !opened {
                    self.world.breaks("drill", format!("{} of a drill changes {}, which is not open to drills", cx.step, touch.resource));
                }
            }
        }
    }

    /// Changes the world, with whatever befalls the process at this point.
    async fn land(&self, whose: &Whose, attempt: u32, cx: &StepContext) -> Result<(), StepError> {
        let then = self.process.come_to(Point::Effect).await;
        if matches!(then, Then::Fail | Then::Full) {
            return Err(StepError::unknown("the request was lost"));
        }
        self.world.check_tenure(cx, &self.process.owner, cx.clock.instant().0).await;
        self.world.land(whose, attempt, cx.clock.instant());
        self.process.past(then).await;
        if then == Then::GoAndFail { Err(StepError::unknown("the answer was lost")) } else { Ok(()) }
    }

    async fn act(&self, intent: &Intent, cx: &StepContext) -> Result<(), StepError> {
        let (world, name, whose) = (&self.world, cx.step.as_str(), whose(cx));
        if let Some(at) = world.under_way(&whose, cx.clock.instant()) {
            cx.sleep(at.since(cx.clock.instant())).await;
            world.under_way(&whose, cx.clock.instant());
            return Ok(());
        }
        if world.came_about_by_itself(&whose, intent.attempt) {
            return Ok(());
        }
        world.arrive(&whose, cx.clock.instant());
        let act = world.next_act(name);
        cx.sleep(HALF).await;
        match act {
            Act::OnItsWay(ms) => {
                let length = Duration::from_millis(ms);
                world.sends(&whose, intent.attempt, cx.clock.instant().after(length));
                // From here on it arrives whatever befalls the process.
                let then = self.process.come_to(Point::Effect).await;
                self.process.past(then).await;
                cx.sleep(length).await;
                world.arrive(&whose, cx.clock.instant());
                if !matches!(then, Then::Go | Then::GoAndPause(_)) {
                    return Err(StepError::unknown("the answer was lost"));
                }
            }
            Act::Succeed => self.land(&whose, intent.attempt, cx).await?,
            Act::SucceedAfter(ms) => {
                cx.sleep(Duration::from_millis(ms)).await;
                self.land(&whose, intent.attempt, cx).await?;
            }
            Act::NotDone => return Err(StepError::not_done("it failed without effect")),
            Act::Hopeless => return Err(StepError::hopeless("it failed for good")),
            Act::Refused => return Err(StepError::refused("a check says no", Evidence::none())),
            Act::LoseAnswer => {
                self.land(&whose, intent.attempt, cx).await?;
                return Err(StepError::unknown("the answer was lost"));
            }
            Act::LoseRequest => return Err(StepError::unknown("the request was lost")),
            Act::Late(ms) => {
                world.lands_later(&whose, intent.attempt, cx.clock.instant().after(Duration::from_millis(ms)));
                std::future::pending::<()>().await;
            }
            Act::HangAfter => {
                self.land(&whose, intent.attempt, cx).await?;
                std::future::pending::<()>().await;
            }
            Act::Hang => std::future::pending::<()>().await,
            Act::Panic => std::panic::resume_unwind(Box::new("the step's code fails")),
            Act::PanicAfter => {
                self.land(&whose, intent.attempt, cx).await?;
                std::panic::resume_unwind(Box::new("the step's code fails"));
            }
        }
        cx.sleep(HALF).await;
        Ok(())
    }

    /// A type that only looks leaves nothing behind.
    async fn look(&self, cx: &StepContext) -> Result<(), StepError> {
        let act = self.world.next_act(cx.step.as_str());
        cx.sleep(HALF).await;
        match act {
            Act::SucceedAfter(ms) | Act::OnItsWay(ms) => cx.sleep(Duration::from_millis(ms)).await,
            Act::Succeed | Act::LoseAnswer | Act::LoseRequest | Act::Late(_) | Act::PanicAfter => {}
            Act::NotDone => return Err(StepError::not_done("it failed")),
            Act::Hopeless | Act::Panic => return Err(StepError::hopeless("it failed for good")),
            Act::Refused => return Err(StepError::refused("a check says no", Evidence::none())),
            Act::HangAfter | Act::Hang => std::future::pending().await,
        }
        cx.sleep(HALF).await;
        Ok(())
    }

    async fn take_back(&self, cx: &StepContext) -> Result<(), StepError> {
        let whose = whose(cx);
        let back = self.world.next_back(cx.step.as_str());
        cx.sleep(HALF).await;
        match back {
            Back::Succeed | Back::LoseAnswer | Back::HangAfter => {}
            Back::NotDone => return Err(StepError::not_done("it could not be taken back for now")),
            Back::LoseRequest => return Err(StepError::unknown("the request of an undo was lost")),
            Back::SucceedAfter(ms) => cx.sleep(Duration::from_millis(ms)).await,
            Back::Fail => return Err(StepError::hopeless("it cannot be taken back")),
            Back::Hang => std::future::pending::<()>().await,
            Back::Panic => std::panic::resume_unwind(Box::new("the step's code fails")),
        }
        let then = self.process.come_to(Point::TakeBack).await;
        if matches!(then, Then::Fail | Then::Full) {
            return Err(StepError::unknown("the request of an undo was lost"));
        }
        // A type's own undo bears being repeated. What a runbook writes need not.
        if cx.purpose == Purpose::WrittenUndo && self.world.undone().contains(&whose) {
            self.world.breaks("undo once", format!("what is written to take back {} was done twice", cx.step));
        }
        self.world.take_back(&whose, cx.clock.instant());
        self.process.past(then).await;
        if back == Back::LoseAnswer || then == Then::GoAndFail {
            return Err(StepError::unknown("the answer of an undo was lost"));
        }
        if back == Back::HangAfter {
            std::future::pending::<()>().await;
        }
        cx.sleep(HALF).await;
        Ok(())
    }
}

/// Whether the old primary is proven fenced, or people were asked and accepted the risk: read from the run's own facts, as the real
/// promotion does.
fn fenced(with: &Value, cx: &ReadContext) -> bool {
    cx.facts.ancestors().iter().filter_map(|id| cx.facts.step(id)).any(|step| {
        let done = step.state == StepState::Succeeded;
        let fence = step.step_type == "fence-db" && step.proof == Proof::Seen;
        let same = step.with.as_ref().and_then(|fenced| fenced.get("db")) == with.get("db");
        done && (fence && same || !step.approvals.is_empty())
    })
}

fn intent(value: &Value) -> Result<Intent, StepError> {
    Intent::deserialize(value).map_err(|error| StepError::unknown(format!("the journaled intent cannot be read: {error}")))
}

#[async_trait]
impl StepType for Simulated {
    fn info(&self) -> &StepTypeInfo {
        self.real.info()
    }

    fn examine(&self, with: &Value) -> Result<Examined, BadParameters> {
        self.real.examine(with)
    }

    fn gate(&self) -> crate::step::Gate {
        self.real.gate()
    }

    fn measures(&self, output: &Value) -> Result<Vec<Measure>, String> {
        self.real.measures(output)
    }

    fn measures_anew(&self) -> bool {
        self.real.measures_anew()
    }

    fn worse(&self, shown: &Value, now: &Value) -> Result<Option<String>, String> {
        self.real.worse(shown, now)
    }

    async fn prepare(&self, with: &Value, cx: &ReadContext) -> Result<Readiness<Value>, StepError> {
        let _under = self.world.enter("prepare", cx).await;
        let evidence = Evidence::of("script", "read");
        if self.info().name == "promote-db" && self.world.knows_database(with) && !fenced(with, cx) {
            return Ok(Readiness::Refused { why: "the old primary is not proven fenced, and nobody accepted that".into(), evidence });
        }
        match self.world.next_gate(cx) {
            Gate::Ready => {
                let intent = serde_json::to_value(Intent { key: cx.idempotency_key(), attempt: cx.attempt });
                let intent = intent.map_err(|error| StepError::unknown(error.to_string()))?;
                Ok(Readiness::Ready { intent, evidence })
            }
            Gate::NotDone => Err(StepError::not_done("the gate is out of reach")),
            Gate::Refused => Ok(Readiness::Refused { why: "its gate says no".into(), evidence }),
            Gate::Later => Ok(Readiness::Later { needs: "another step".into(), evidence }),
            Gate::Unknown => Err(StepError::unknown("the gate's answer was lost")),
            Gate::Panic => std::panic::resume_unwind(Box::new("the step's code fails")),
            Gate::Hang => std::future::pending().await,
        }
    }

    async fn execute(&self, with: &Value, journaled: &Value, cx: &StepContext) -> Result<Value, StepError> {
        let what = if cx.purpose == Purpose::WrittenUndo { "undo" } else { "execute" };
        let _under = self.world.enter(what, cx).await;
        if cx.purpose == Purpose::WrittenUndo {
            self.check("undo", with, cx, &[StepState::Undoing]).await;
            let intent = intent(journaled)?;
            if intent.key != cx.idempotency_key() {
                self.world.breaks("intent", format!("the intent of the undo of {} came back as {journaled}", cx.step));
            }
            self.take_back(cx).await?;
            return Ok(self.output(with, cx));
        }
        // A step that only looks may be asked for its facts again after it is done.
        let wanted: &[StepState] = if self.changes() { &[StepState::Running] } else { &[StepState::Running, StepState::Succeeded] };
        self.check("execute", with, cx, wanted).await;
        let intent = intent(journaled)?;
        if intent.key != cx.idempotency_key() {
            self.world.breaks("intent", format!("the intent of {} came back as {journaled}", cx.step));
        }
        self.world.means(&whose(cx), self.info().name, with);
        if self.changes() {
            self.act(&intent, cx).await?;
        } else {
            self.look(cx).await?;
        }
        Ok(self.output(with, cx))
    }

    async fn observe(&self, with: &Value, _: &Value, cx: &ReadContext) -> Result<Observation<Value>, StepError> {
        let _under = self.world.enter("observe", cx).await;
        if !self.changes() {
            return Ok(Observation::NotDone);
        }
        let whose = whose(cx);
        self.world.arrive(&whose, cx.clock.instant());
        // Whatever is due by now lands first.
        let under_way = self.world.under_way(&whose, cx.clock.instant());
        let there = self.world.stands_by(&whose);
        Ok(match self.world.next_sight(cx.step.as_str()) {
            // What a written undo does is done where the effect is gone.
            Sight::Truth if cx.purpose == Purpose::WrittenUndo && there => Observation::NotDone,
            Sight::Truth if cx.purpose == Purpose::WrittenUndo => Observation::Done(self.output(with, cx)),
            Sight::Truth if under_way.is_some() => Observation::InProgress,
            Sight::Truth if there => Observation::Done(self.output(with, cx)),
            Sight::Truth | Sight::NotDone => Observation::NotDone,
            Sight::InProgress => Observation::InProgress,
            Sight::Foreign => Observation::Foreign { evidence: Evidence::of("owner", "somebody else") },
            Sight::Unknown => Observation::Unknown { why: "fog".into() },
            Sight::Error => return Err(StepError::not_done("the world cannot be reached")),
            Sight::Panic => std::panic::resume_unwind(Box::new("the step's code fails")),
            Sight::Hang => std::future::pending().await,
        })
    }

    async fn census(&self, resource: &str, cx: &ReadContext) -> Result<Census, StepError> {
        let _under = self.world.enter("census", cx).await;
        cx.sleep(HALF).await;
        match self.world.next_count() {
            Count::Truth => {
                Ok(Census::Listed(self.world.things(resource).into_iter().map(|(name, state)| Thing { name, state }).collect()))
            }
            Count::Unlisted => Ok(Census::Unlisted),
            Count::Error => Err(StepError::not_done("the peers are out of reach")),
            Count::Panic => std::panic::resume_unwind(Box::new("the step's code fails")),
            Count::Hang => std::future::pending().await,
        }
    }

    async fn undo(&self, with: &Value, _: &Value, _: &Value, cx: &StepContext) -> Result<(), StepError> {
        let _under = self.world.enter("undo", cx).await;
        self.check("undo", with, cx, &[StepState::Undoing]).await;
        self.take_back(cx).await
    }
}
