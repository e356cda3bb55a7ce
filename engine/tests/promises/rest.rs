//! Runs that wait at length: they hold next to nothing meanwhile, and go on as their journal has them.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::executor::{Driven, Executor, ExecutorError, Handle, Request};
use lifeboat_engine::freeze;
use lifeboat_engine::journal::{Event, Outcome, RunId};
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::Plan;
use tokio::sync::oneshot;

use crate::world::plans::{actor, approval, change, id, plan};
use crate::world::stage::{Stage, approve, on_stage};

type Driving = std::pin::Pin<Box<dyn Future<Output = Result<Driven, ExecutorError>>>>;

/// A process drives a run until it waits for people.
async fn waiting(stage: &Stage, plan: Plan) -> (RunId, Driving, Handle) {
    let admitted = stage.admit(plan).await;
    let name = admitted.run.id.clone();
    let (executor, handle) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
    let mut driving: Driving = Box::pin(executor.drive());
    for_a_while(stage, &mut driving).await;
    (name, driving, handle)
}

async fn for_a_while(stage: &Stage, driving: &mut Driving) {
    tokio::select! {
        biased;
        ended = driving => panic!("{ended:?}"),
        () = lifeboat_engine::Clock::sleep(&*stage.clock, Duration::from_secs(2)) => {}
    }
}

async fn ask(handle: &Handle, command: Command, by: &str) {
    let (reply, _) = oneshot::channel();
    handle.requests.send(Request::Steer { command, by: actor(by), reply }).await.unwrap();
}

#[test]
fn a_run_that_waits_for_people_keeps_not_even_its_plan_in_memory_and_goes_on() {
    on_stage(async |stage| {
        let steps = [change("before_rest"), approval("ask", 1).after(&["before_rest"]), change("after_rest").after(&["ask"])];
        let admitted = stage.admit(plan(steps)).await;
        let (name, kept) = (admitted.run.id.clone(), Arc::downgrade(&admitted.run.plan));
        let (executor, handle) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
        let mut driving: Driving = Box::pin(executor.drive());
        for_a_while(&stage, &mut driving).await;
        assert!(kept.upgrade().is_none(), "a waiting run keeps its plan");
        ask(&handle, approve("ask"), "ann").await;
        assert_eq!(driving.await.unwrap(), Driven::Ended(Outcome::Succeeded));
        assert_eq!((stage.world.times("before_rest"), stage.world.times("after_rest")), (1, 1));
        assert!(stage.load(&name).await.run.steps[&id("ask")].waited_ms >= 1000);
    });
}

#[test]
fn a_run_that_was_taken_over_while_it_waited_is_not_gone_on_with() {
    on_stage(async |stage| {
        let (name, driving, handle) = waiting(&stage, plan([approval("ask", 1), change("a").after(&["ask"])])).await;
        stage.claim(&name).await.unwrap();
        ask(&handle, approve("ask"), "ann").await;
        assert!(matches!(driving.await, Err(ExecutorError::Overtaken(run)) if run == name));
        assert_eq!(stage.world.calls("execute", "a"), 0);
    });
}

#[test]
fn a_freeze_that_comes_while_a_run_waits_is_met_at_once() {
    on_stage(async |stage| {
        let (name, mut driving, _handle) = waiting(&stage, plan([approval("ask", 1), change("a").after(&["ask"])])).await;
        freeze::freeze(&stage.ports(), None, &actor("ann"), "look first").await.unwrap();
        for_a_while(&stage, &mut driving).await;
        assert!(stage.events(&name).await.iter().any(|event| matches!(event, Event::RunFrozen { .. })));
        drop(driving);
    });
}
