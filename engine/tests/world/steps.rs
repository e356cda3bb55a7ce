//! Step types whose effects land in the scripted world: one that changes, one that looks, one whose gate looks at nothing.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::context::{ReadContext, StepContext};
use lifeboat_engine::evidence::Evidence;
use lifeboat_engine::inventory::Undoable;
use lifeboat_engine::run::StepState;
use lifeboat_engine::step::{self, Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Act, Back, Gate, Sight, World};

/// Version of all test types: N and N-1 are run.
pub(crate) const VERSION: u16 = 2;

/// What must be known again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The same for every attempt.
    key: String,
    /// Different for every attempt.
    attempt: u32,
}

/// What later steps may read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Said {
    /// What the parameters asked it to say.
    said: Value,
    /// As many bytes as asked for.
    blob: String,
}

macro_rules! parameters {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// The resource.
            #[serde(default)]
            on: Option<String>,
            /// What to say in the output.
            #[serde(default)]
            say: Value,
            /// How large the output is.
            #[serde(default)]
            blob_bytes: usize,
        }

        impl $name {
            fn said(&self) -> Said {
                Said { said: self.say.clone(), blob: "x".repeat(self.blob_bytes) }
            }
        }
    };
}

parameters! {
    /// Changes a resource, and can undo it.
    Change
}
parameters! {
    /// Looks at a resource.
    Look
}
parameters! {
    /// Only computes.
    Note
}

/// How long a call takes on either side of its effect.
const HALF: Duration = Duration::from_millis(400);

async fn prepare(cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
    let world = World::here();
    let _under = world.enter("prepare", cx).await;
    let evidence = Evidence::of("script", "read");
    match world.next_gate(cx.step.as_str()) {
        Gate::Ready => Ok(Readiness::Ready { intent: Intent { key: cx.idempotency_key(), attempt: cx.attempt }, evidence }),
        Gate::NotDone => Err(StepError::not_done("the gate is out of reach")),
        Gate::Refused => Ok(Readiness::Refused { why: "the script says no".into(), evidence }),
        Gate::Later => Ok(Readiness::Later { needs: "another step".into(), evidence }),
        Gate::Unknown => Err(StepError::unknown("the gate's answer was lost")),
        Gate::Panic => std::panic::resume_unwind(Box::new("scripted panic")),
        Gate::Hang => std::future::pending().await,
    }
}

async fn act(cx: &StepContext, intent: &Intent, on: Option<&str>) -> Result<(), StepError> {
    let world = World::here();
    let name = cx.step.as_str();
    let _under = world.enter("execute", cx).await;
    world.check_order("execute", cx, StepState::Running).await;
    world.check_lock(cx, on).await;
    assert_eq!(intent.key, cx.idempotency_key(), "the intent came back as it was journaled");
    if let Some(at) = world.under_way(name, cx.clock.instant()) {
        cx.sleep(at.since(cx.clock.instant())).await;
        world.under_way(name, cx.clock.instant());
        return Ok(());
    }
    let act = world.next_act(name);
    cx.sleep(HALF).await;
    let land = || world.land(name, intent.attempt);
    match act {
        Act::Succeed => land(),
        Act::SucceedAfter(ms) => {
            cx.sleep(Duration::from_millis(ms)).await;
            land();
        }
        Act::NotDone => return Err(StepError::not_done("scripted failure")),
        Act::Hopeless => return Err(StepError::hopeless("scripted failure for good")),
        Act::Refused => return Err(StepError::refused("scripted refusal", Evidence::none())),
        Act::LoseAnswer => {
            land();
            return Err(StepError::unknown("the answer was lost"));
        }
        Act::LoseRequest => return Err(StepError::unknown("the request was lost")),
        Act::Late(ms) => {
            world.lands_later(name, intent.attempt, cx.clock.instant().after(Duration::from_millis(ms)));
            std::future::pending::<()>().await;
        }
        Act::HangAfter => {
            land();
            std::future::pending::<()>().await;
        }
        Act::Hang => std::future::pending::<()>().await,
        Act::Panic => std::panic::resume_unwind(Box::new("scripted panic")),
        Act::PanicAfter => {
            land();
            std::panic::resume_unwind(Box::new("scripted panic"));
        }
    }
    cx.sleep(HALF).await;
    Ok(())
}

async fn observe(cx: &ReadContext, said: Said) -> Result<Observation<Said>, StepError> {
    let world = World::here();
    let _under = world.enter("observe", cx).await;
    Ok(match world.next_sight(cx.step.as_str()) {
        Sight::Truth => {
            if world.under_way(cx.step.as_str(), cx.clock.instant()).is_some() {
                Observation::InProgress
            } else if world.stands(cx.step.as_str()) {
                Observation::Done(said)
            } else {
                Observation::NotDone
            }
        }
        Sight::NotDone => Observation::NotDone,
        Sight::InProgress => Observation::InProgress,
        Sight::Foreign => Observation::Foreign { evidence: Evidence::of("owner", "somebody else") },
        Sight::Unknown => Observation::Unknown { why: "fog".into() },
        Sight::Error => return Err(StepError::not_done("the world cannot be reached")),
        Sight::Panic => std::panic::resume_unwind(Box::new("scripted panic")),
        Sight::Hang => std::future::pending().await,
    })
}

async fn take_back(cx: &StepContext, on: Option<&str>) -> Result<(), StepError> {
    let world: Arc<World> = World::here();
    let name = cx.step.as_str();
    let _under = world.enter("undo", cx).await;
    world.check_order("undo", cx, StepState::Undoing).await;
    world.check_lock(cx, on).await;
    let back = world.next_back(name);
    cx.sleep(HALF).await;
    match back {
        Back::Succeed => world.take_back(name),
        Back::SucceedAfter(ms) => {
            cx.sleep(Duration::from_millis(ms)).await;
            world.take_back(name);
        }
        Back::Fail => return Err(StepError::hopeless("scripted failure of an undo")),
        Back::LoseAnswer => {
            world.take_back(name);
            return Err(StepError::unknown("the answer of an undo was lost"));
        }
        Back::Hang => std::future::pending::<()>().await,
        Back::Panic => std::panic::resume_unwind(Box::new("scripted panic")),
    }
    cx.sleep(HALF).await;
    Ok(())
}

impl Step for Change {
    const TYPE: &'static str = "change";
    const VERSION: u16 = VERSION;
    const EFFECT: Effect = Effect::Change;
    const UNDO: Undoable = Undoable::Yes;
    type Intent = Intent;
    type Output = Said;

    fn touches(&self) -> Vec<Touch> {
        self.on.iter().map(|resource| Touch { resource: resource.clone(), effect: Effect::Change }).collect()
    }

    fn preview(&self) -> String {
        format!("change {}", self.on.as_deref().unwrap_or("nothing"))
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
        prepare(cx).await
    }

    async fn execute(&self, intent: &Intent, cx: &StepContext) -> Result<Said, StepError> {
        act(cx, intent, self.on.as_deref()).await?;
        Ok(self.said())
    }

    async fn observe(&self, _: &Intent, cx: &ReadContext) -> Result<Observation<Said>, StepError> {
        observe(cx, self.said()).await
    }

    async fn undo(&self, _: &Intent, _: Said, cx: &StepContext) -> Result<(), StepError> {
        take_back(cx, self.on.as_deref()).await
    }
}

/// A type that only looks leaves nothing behind: it is always observed as not done.
async fn look(cx: &StepContext) -> Result<(), StepError> {
    let world = World::here();
    let _under = world.enter("execute", cx).await;
    world.check_order("execute", cx, StepState::Running).await;
    let act = world.next_act(cx.step.as_str());
    cx.sleep(HALF).await;
    match act {
        Act::SucceedAfter(ms) => cx.sleep(Duration::from_millis(ms)).await,
        Act::Succeed | Act::LoseAnswer | Act::LoseRequest | Act::Late(_) | Act::PanicAfter => {}
        Act::NotDone => return Err(StepError::not_done("scripted failure")),
        Act::Hopeless | Act::Panic => return Err(StepError::hopeless("scripted failure for good")),
        Act::Refused => return Err(StepError::refused("scripted refusal", Evidence::none())),
        Act::HangAfter | Act::Hang => std::future::pending().await,
    }
    Ok(())
}

macro_rules! looks {
    ($name:ident, $type_name:literal, $gate:expr) => {
        impl Step for $name {
            const TYPE: &'static str = $type_name;
            const VERSION: u16 = VERSION;
            const EFFECT: Effect = Effect::Read;
            const GATE: step::Gate = $gate;
            type Intent = Intent;
            type Output = Said;

            fn touches(&self) -> Vec<Touch> {
                self.on.iter().map(|resource| Touch { resource: resource.clone(), effect: Effect::Read }).collect()
            }

            fn preview(&self) -> String {
                format!("look at {}", self.on.as_deref().unwrap_or("nothing"))
            }

            async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
                prepare(cx).await
            }

            async fn execute(&self, _: &Intent, cx: &StepContext) -> Result<Said, StepError> {
                look(cx).await?;
                Ok(self.said())
            }

            async fn observe(&self, _: &Intent, cx: &ReadContext) -> Result<Observation<Said>, StepError> {
                let _under = World::here().enter("observe", cx).await;
                Ok(Observation::NotDone)
            }
        }
    };
}

looks!(Look, "look", step::Gate::Looks);
looks!(Note, "note", step::Gate::Nothing);
