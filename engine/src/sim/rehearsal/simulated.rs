//! Step types for a simulated world, made from what the catalog says of the real ones: same names, versions, schemas and ability to
//! undo. They are made from descriptions alone, so no code of a real step can be reached from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::part::{Part, Play};
use crate::census::{Census, Thing};
use crate::context::{Purpose, ReadContext, StepContext};
use crate::evidence::Evidence;
use crate::measure::Measure;
use crate::registry::{Registry, StepType};
use crate::sim::world::World;
use crate::step::{Gate, Observation, Readiness, StepError};
use lifeboat_runbooks::catalog::{BadParameters, Examined, StepTypeInfo, Undoable};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::{Plan, PlanStep};
use lifeboat_runbooks::testing::{Given, Observed, given_outputs};

/// How long the checks of a step take in virtual time: not nothing, so that a person who acts meanwhile comes first.
const PREPARE_FOR: Duration = Duration::from_millis(10);

/// How long an act or an undo takes in virtual time.
const ACT_FOR: Duration = Duration::from_secs(1);

/// Steps that run side by side do not end at the same instant, so that every simulation of a case is the same.
const APART: Duration = Duration::from_millis(1);

/// The steps of one simulation, with what happens to each.
#[derive(Debug)]
pub(super) struct Cast {
    world: Arc<World>,
    parts: BTreeMap<StepId, Part>,
    /// The place of each step in the plan, and the resources that it changes.
    places: BTreeMap<StepId, (u32, Vec<String>)>,
    played: Mutex<BTreeMap<StepId, Played>>,
}

/// How far a step came in its part.
#[derive(Clone, Debug, Default)]
struct Played {
    turns: usize,
    /// What came of the last attempt that acted.
    last: Option<Given>,
}

impl Cast {
    pub(super) fn new(world: Arc<World>, play: &Play, plan: &Plan) -> Arc<Self> {
        let changed = |step: &PlanStep| {
            step.touches.iter().filter(|touch| touch.effect > Effect::Read).map(|touch| touch.resource.clone()).collect::<Vec<_>>()
        };
        let places = (0..).zip(plan.all_steps()).map(|(place, step)| (step.id.clone(), (place, changed(step)))).collect();
        Arc::new(Self { world, parts: play.parts.clone(), places, played: Mutex::default() })
    }

    /// A registry that holds a simulated type for each description, and nothing else.
    pub(super) fn registry(self: &Arc<Self>, types: &[(StepTypeInfo, Value)]) -> Registry {
        let simulated = |(info, sample): &(StepTypeInfo, Value)| {
            Arc::new(Simulated { info: info.clone(), sample: sample.clone(), cast: Arc::clone(self) }) as Arc<dyn StepType>
        };
        Registry::of(types.iter().map(simulated))
    }

    fn played(&self) -> MutexGuard<'_, BTreeMap<StepId, Played>> {
        self.played.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self, step: &StepId) -> Option<&Part> {
        self.parts.get(step)
    }

    /// What comes of the attempt that is next.
    fn coming(&self, step: &StepId) -> Given {
        let place = self.played().get(step).map_or(0, |played| played.turns);
        let turn = self.part(step).and_then(|part| part.turn(place));
        turn.cloned().unwrap_or_else(|| Given::Succeeds { outputs: json!({}) })
    }

    fn turn_is_over(&self, step: &StepId, last: Option<Given>) {
        let mut played = self.played();
        let played = played.entry(step.clone()).or_default();
        played.turns += 1;
        played.last = last.or(played.last.take());
    }

    /// The answer of people to the question that is next; `None` where the case says nothing of it.
    pub(super) fn answer(&self, step: &StepId) -> Option<Given> {
        let place = self.played().get(step).map_or(0, |played| played.turns);
        let answer = self.part(step).and_then(|part| part.turn(place)).cloned();
        self.turn_is_over(step, None);
        answer
    }

    fn apart(&self, step: &StepId) -> Duration {
        APART * self.places.get(step).map_or(0, |(place, _)| *place)
    }
}

/// One simulated step type.
#[derive(Debug)]
struct Simulated {
    info: StepTypeInfo,
    sample: Value,
    cast: Arc<Cast>,
}

impl Simulated {
    /// The effect comes about. What only looks has none.
    fn land(&self, cx: &ReadContext) {
        if self.info.effect > Effect::Read {
            let whose = (cx.run.clone(), cx.step.clone());
            for resource in self.cast.places.get(&cx.step).into_iter().flat_map(|(_, changed)| changed) {
                self.cast.world.is_at(&whose, resource);
            }
            self.cast.world.land(&whose, cx.attempt, cx.clock.instant());
        }
    }

    fn outputs(&self, with: &Value, given: &Value) -> Value {
        given_outputs(&self.sample, with, given)
    }

    /// The type's own undo, or a written one.
    async fn take_back(&self, cx: &StepContext) -> Result<(), StepError> {
        let world = &self.cast.world;
        let _under = world.enter("undo", cx).await;
        cx.sleep(ACT_FOR + self.cast.apart(&cx.step)).await;
        if let Some(why) = self.cast.part(&cx.step).and_then(|part| part.undo_fails.clone()) {
            return Err(StepError::hopeless(why));
        }
        world.take_back(&(cx.run.clone(), cx.step.clone()), cx.clock.instant());
        Ok(())
    }
}

#[async_trait]
impl StepType for Simulated {
    fn info(&self) -> &StepTypeInfo {
        &self.info
    }

    fn examine(&self, _: &Value) -> Result<Examined, BadParameters> {
        // A plan is made with the real catalog, before it comes here: nothing asks again.
        Err(BadParameters { pointer: String::new(), message: "a simulated step type does not read parameters".into() })
    }

    fn gate(&self) -> Gate {
        Gate::Looks
    }

    fn measures(&self, _: &Value) -> Result<Vec<Measure>, String> {
        Ok(Vec::new())
    }

    async fn prepare(&self, _: &Value, cx: &ReadContext) -> Result<Readiness<Value>, StepError> {
        let _under = self.cast.world.enter("prepare", cx).await;
        cx.sleep(PREPARE_FOR + self.cast.apart(&cx.step)).await;
        if cx.purpose == Purpose::WrittenUndo {
            return Ok(Readiness::Ready { intent: json!({ "key": cx.idempotency_key() }), evidence: Evidence::none() });
        }
        match self.cast.coming(&cx.step) {
            Given::Refused { why } => {
                self.cast.turn_is_over(&cx.step, None);
                Ok(Readiness::Refused { why, evidence: Evidence::none() })
            }
            Given::Succeeds { .. }
            | Given::Fails { .. }
            | Given::FailsForGood { .. }
            | Given::InDoubt { .. }
            | Given::Approved { .. }
            | Given::Denied { .. }
            | Given::Expires => Ok(Readiness::Ready { intent: json!({ "key": cx.idempotency_key() }), evidence: Evidence::none() }),
        }
    }

    async fn execute(&self, with: &Value, _: &Value, cx: &StepContext) -> Result<Value, StepError> {
        if cx.purpose == Purpose::WrittenUndo {
            return self.take_back(cx).await.map(|()| self.outputs(with, &json!({})));
        }
        let (cast, world) = (&self.cast, &self.cast.world);
        let _under = world.enter("execute", cx).await;
        let whose = (cx.run.clone(), cx.step.clone());
        if let Some(at) = world.under_way(&whose, cx.clock.instant()) {
            // It is waited for: it goes on by itself, begun by an attempt before.
            cx.sleep(at.since(cx.clock.instant())).await;
            world.under_way(&whose, cx.clock.instant());
        }
        if let Some(Given::InDoubt { observed: Observed::InProgress, outputs, .. }) =
            cast.played().get(&cx.step).and_then(|played| played.last.clone())
            && world.stands_by(&whose)
        {
            return Ok(self.outputs(with, &outputs));
        }
        let turn = cast.coming(&cx.step);
        cast.turn_is_over(&cx.step, Some(turn.clone()));
        cx.sleep(ACT_FOR + cast.apart(&cx.step)).await;
        match turn {
            Given::Succeeds { outputs } => {
                self.land(cx);
                Ok(self.outputs(with, &outputs))
            }
            Given::Fails { why } => Err(StepError::not_done(why)),
            Given::FailsForGood { why } | Given::Refused { why } => Err(StepError::hopeless(why)),
            Given::InDoubt { observed, why, .. } => {
                match observed {
                    // Where nobody can tell, the worse is so: the effect is there.
                    Observed::Done | Observed::Foreign | Observed::Unknown => self.land(cx),
                    Observed::InProgress => world.lands_later(&whose, cx.attempt, cx.clock.instant().after(ACT_FOR * 2)),
                    Observed::NotDone => {}
                }
                Err(StepError::unknown(why))
            }
            Given::Approved { .. } | Given::Denied { .. } | Given::Expires => {
                Err(StepError::hopeless("only people are asked for an approval"))
            }
        }
    }

    async fn observe(&self, with: &Value, _: &Value, cx: &ReadContext) -> Result<Observation<Value>, StepError> {
        let (cast, world) = (&self.cast, &self.cast.world);
        let _under = world.enter("observe", cx).await;
        cx.sleep(PREPARE_FOR + cast.apart(&cx.step)).await;
        let whose = (cx.run.clone(), cx.step.clone());
        if cx.purpose == Purpose::WrittenUndo {
            return Ok(if world.stands_by(&whose) { Observation::NotDone } else { Observation::Done(self.outputs(with, &json!({}))) });
        }
        let last = cast.played().get(&cx.step).and_then(|played| played.last.clone());
        Ok(match last {
            Some(Given::InDoubt { observed: Observed::Foreign, .. }) => {
                Observation::Foreign { evidence: Evidence::of("seen", "somebody else's work, in this simulation") }
            }
            Some(Given::InDoubt { observed: Observed::Unknown, .. }) => {
                Observation::Unknown { why: "nothing can be seen in this simulation".into() }
            }
            Some(Given::InDoubt { observed: Observed::InProgress, outputs, .. }) => {
                if world.under_way(&whose, cx.clock.instant()).is_some() {
                    Observation::InProgress
                } else {
                    Observation::Done(self.outputs(with, &outputs))
                }
            }
            Some(Given::InDoubt { observed: Observed::Done, outputs, .. }) => Observation::Done(self.outputs(with, &outputs)),
            Some(
                Given::InDoubt { observed: Observed::NotDone, .. }
                | Given::Succeeds { .. }
                | Given::Fails { .. }
                | Given::FailsForGood { .. }
                | Given::Refused { .. }
                | Given::Approved { .. }
                | Given::Denied { .. }
                | Given::Expires,
            )
            | None => Observation::NotDone,
        })
    }

    async fn census(&self, resource: &str, cx: &ReadContext) -> Result<Census, StepError> {
        cx.sleep(PREPARE_FOR).await;
        let things = self.cast.world.things(resource);
        Ok(Census::Listed(things.into_iter().map(|(name, state)| Thing { name, state }).collect()))
    }

    async fn undo(&self, _: &Value, _: &Value, _: &Value, cx: &StepContext) -> Result<(), StepError> {
        match self.info.undo {
            Undoable::Yes => self.take_back(cx).await,
            Undoable::No => {
                let _under = self.cast.world.enter("undo", cx).await;
                cx.sleep(ACT_FOR + self.cast.apart(&cx.step)).await;
                Err(StepError::refused("this step type has no undo", Evidence::none()))
            }
        }
    }
}
