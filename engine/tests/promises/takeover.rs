//! Taking a run over in a store that several machines share: who may, from when on, and what the process before does and leaves undone.

use std::sync::Arc;
use std::time::Duration;

use crate::world::Act;
use crate::world::link::Link;
use crate::world::plans::{actor, change, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, approve, cancel, nobody, on_shared_stage, on_stage};
use lifeboat_engine::clock::Clock as _;
use lifeboat_engine::executor::{Driven, Executor, ExecutorError, Handle};
use lifeboat_engine::journal::{Outcome, RunId};
use lifeboat_engine::resume::{self, Patience, RestError, ResumeError};
use lifeboat_engine::run::StepState;
use lifeboat_engine::sim::Fault;
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::OwnerId;

/// How long leases last here.
const LEASE: Duration = Duration::from_secs(15);

/// A process on another machine, with its own way to the store, that has admitted a run.
async fn elsewhere(stage: &Stage, steps: Plan) -> (RunId, Link, Executor, Handle) {
    let admitted = stage.admit(steps).await;
    let name = admitted.run.id.clone();
    let link = Link::to(&stage.memory);
    let owner = OwnerId("elsewhere".into());
    let (executor, handle) = Executor::new(stage.ports_on(Arc::new(link.clone())), owner, admitted.run, admitted.next);
    (name, link, executor, handle)
}

async fn take_over(stage: &Stage, name: &RunId, patience: Patience) -> Result<Rest, ResumeError> {
    let owner = stage.owner();
    let claimed = resume::claim_when_free(&stage.ports(), &owner, name, patience).await?;
    let (executor, handle) = Executor::new(stage.ports(), owner, claimed.run, claimed.next);
    Ok(stage.attend(executor, handle, &mut nobody, Duration::from_secs(24 * 3600)).await)
}

fn began(stage: &Stage, what: &str, step: &str) -> Vec<Duration> {
    stage.world.all_calls().into_iter().filter(|call| call.what == what && call.step == step).map(|call| call.began).collect()
}

#[test]
fn nobody_takes_over_from_a_process_that_lives_and_waits_long() {
    on_shared_stage(LEASE, async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(100_000)]);
        let (name, _link, executor, handle) = elsewhere(&stage, plan([change("a").timeout_ms(200_000)])).await;
        let other = async {
            stage.clock.sleep(Duration::from_secs(5)).await;
            let at_once = stage.claim(&name).await.unwrap_err();
            let patiently = take_over(&stage, &name, Patience::OneLease).await.unwrap_err();
            (at_once, patiently)
        };
        let (driven, (at_once, patiently)) = tokio::join!(executor.drive(), other);
        assert!(matches!(&at_once, ResumeError::Driven { by, .. } if by == "elsewhere"), "{at_once:?}");
        assert!(matches!(patiently, ResumeError::Driven { .. }), "{patiently:?}");
        assert_eq!(driven.unwrap(), Driven::Ended(Outcome::Succeeded));
        assert_eq!((stage.world.times("a"), stage.world.calls("observe", "a")), (1, 0));
        drop(handle);
    });
}

#[test]
fn a_successor_waits_out_the_lease_and_the_time_of_the_call_in_doubt_before_it_looks() {
    on_shared_stage(LEASE, async |stage| {
        // The request is on its way when the process dies, and arrives 20 seconds after the lease is over.
        stage.world.acts("a", &[Act::Late(35_000)]);
        let name = stage.run_and_kill(plan([change("a").timeout_ms(40_000), look("b").after(&["a"]), look("free")]), 1000).await;
        assert!(matches!(stage.claim(&name).await, Err(ResumeError::Driven { .. })), "the lease outlives its holder");
        assert_eq!(take_over(&stage, &name, Patience::OneLease).await.unwrap().outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
        let looked = began(&stage, "observe", "a");
        assert!(looked.iter().all(|at| *at >= LEASE + Duration::from_secs(40)), "looked too early: {looked:?}");
        assert_eq!(stage.world.calls("execute", "a"), 1, "what is done is not done again");
    });
}

#[test]
fn a_branch_waits_for_its_own_call_in_doubt_and_not_for_those_of_others() {
    on_shared_stage(LEASE, async |stage| {
        stage.world.acts("slow", &[Act::Hang]).acts("fast", &[Act::Hang]);
        let steps = plan([change("slow").timeout_ms(600_000), change("fast").on("web").timeout_ms(5000), look("next").after(&["fast"])]);
        let name = stage.run_and_kill(steps, 1000).await;
        assert_eq!(take_over(&stage, &name, Patience::OneLease).await.unwrap().outcome(), Outcome::Succeeded);
        let (slow, fast, next) = (began(&stage, "observe", "slow"), began(&stage, "observe", "fast"), began(&stage, "execute", "next"));
        assert!(slow[0] >= LEASE + Duration::from_secs(600) && fast[0] >= LEASE + Duration::from_secs(5), "{slow:?} {fast:?}");
        assert!(next[0] < Duration::from_secs(60), "it waited for another branch: {next:?}");
    });
}

#[test]
fn a_process_cut_off_from_the_store_stops_acting_before_its_lease_ends() {
    on_shared_stage(LEASE, async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(60_000)]);
        let (name, link, executor, handle) = elsewhere(&stage, plan([change("a").timeout_ms(90_000), change("b").after(&["a"])])).await;
        let cut = async {
            stage.clock.sleep(Duration::from_secs(1)).await;
            link.cut();
        };
        let (driven, ()) = tokio::join!(executor.drive(), cut);
        assert!(matches!(&driven, Err(ExecutorError::LeaseLost(run)) if *run == name), "{driven:?}");
        let stopped = stage.clock.instant().0;
        assert!(stopped < LEASE, "it went on until {stopped:?}");
        tokio::task::yield_now().await;
        assert!(stage.world.all_calls().iter().all(|call| call.ended.is_some()), "what it had begun was cut off");
        assert_eq!(stage.world.times("a"), 0);
        assert_eq!(take_over(&stage, &name, Patience::OneLease).await.unwrap().outcome(), Outcome::Succeeded);
        assert_eq!((stage.world.times("a"), stage.world.times("b")), (1, 1));
        drop(handle);
    });
}

#[test]
fn a_commit_that_comes_back_after_the_lease_lets_nothing_start() {
    on_shared_stage(LEASE, async |stage| {
        let (name, link, executor, handle) = elsewhere(&stage, plan([change("a")])).await;
        // The lease is taken; then the intent's commit hangs for longer than the lease, and is made all the same.
        let cable = async {
            while stage.world.calls("prepare", "a") == 0 {
                tokio::task::yield_now().await;
            }
            link.cut();
            stage.clock.sleep(Duration::from_secs(20)).await;
            link.heal();
        };
        let (driven, ()) = tokio::join!(executor.drive(), cable);
        assert!(matches!(driven, Err(ExecutorError::LeaseLost(_))), "{driven:?}");
        assert_eq!(stage.state(&name, "a").await, StepState::Running, "the intent is durable");
        assert_eq!(stage.world.calls("execute", "a"), 0, "and nothing acted on it");
        assert_eq!(take_over(&stage, &name, Patience::OneLease).await.unwrap().outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
        drop(handle);
    });
}

#[test]
fn a_process_that_stood_still_past_its_lease_does_not_take_the_step_that_was_due() {
    on_shared_stage(LEASE, async |stage| {
        let admitted = stage.admit(plan([change("a").timeout_ms(20_000)])).await;
        let name = admitted.run.id.clone();
        // It stands still between its call and the effect; commits and effects are counted together, and the intent is the first.
        let process = stage.sim.process();
        process.plan(1, Fault::PauseBefore(60));
        let mut people = nobody;
        let old = stage.sim.drive_in(&process, admitted.run, admitted.next, &mut people);
        let (old, new) = tokio::join!(old, take_over_from(&stage, &name, Duration::from_secs(2)));
        assert_eq!(process.struck(), 1);
        assert!(matches!(old, Rest::Stopped(ExecutorError::LeaseLost(_) | ExecutorError::Overtaken(_))), "{old:?}");
        assert_eq!(new.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1, "both acted");
    });
}

async fn take_over_from(stage: &Stage, name: &RunId, at: Duration) -> Rest {
    stage.clock.sleep(at).await;
    take_over(stage, name, Patience::ForEver).await.unwrap()
}

#[test]
fn a_process_that_comes_back_after_it_was_followed_is_refused_and_starts_nothing() {
    on_shared_stage(LEASE, async |stage| {
        stage.world.acts("a", &[Act::LoseRequest]);
        let (name, link, executor, handle) =
            elsewhere(&stage, plan([change("a").timeout_ms(2000).tries(3), change("b").after(&["a"])])).await;
        let mut old = Box::pin(executor.drive());
        let cut = async {
            while stage.world.calls("execute", "a") == 0 {
                tokio::task::yield_now().await;
            }
            link.cut();
            assert_eq!(take_over(&stage, &name, Patience::ForEver).await.unwrap().outcome(), Outcome::Succeeded);
            link.heal();
        };
        // The old process hangs in its next commit meanwhile.
        let (driven, ()) = tokio::join!(&mut old, cut);
        assert!(matches!(driven, Err(ExecutorError::Overtaken(_))), "{driven:?}");
        assert_eq!((stage.world.times("a"), stage.world.times("b")), (1, 1));
        drop(handle);
    });
}

#[test]
fn a_run_that_was_given_back_is_free_at_once_and_people_may_act_on_it() {
    on_shared_stage(LEASE, async |stage| {
        stage.world.acts("a", &[Act::Hopeless]);
        let (name, rest) = stage.run(plan([change("a")])).await;
        assert!(matches!(rest, Rest::Held));
        let at = stage.clock.instant();
        stage.steer_at_rest(&name, cancel(), actor("ann")).await.unwrap();
        assert_eq!(take_over(&stage, &name, Patience::OneLease).await.unwrap().outcome(), Outcome::Cancelled);
        assert!(stage.clock.instant().since(at) < Duration::from_secs(5), "somebody waited for a lease that nobody had");
    });
}

#[test]
fn an_act_beside_the_process_that_drives_the_run_is_refused_and_does_not_stop_that_process() {
    on_shared_stage(LEASE, async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(20_000)]);
        let (name, _link, executor, handle) = elsewhere(&stage, plan([change("a").timeout_ms(30_000)])).await;
        let beside = async {
            stage.clock.sleep(Duration::from_secs(2)).await;
            stage.steer_at_rest(&name, approve("a"), actor("ann")).await.unwrap_err()
        };
        let (driven, refused) = tokio::join!(executor.drive(), beside);
        assert!(matches!(&refused, RestError::Driven { by, .. } if by == "elsewhere"), "{refused:?}");
        assert_eq!(driven.unwrap(), Driven::Ended(Outcome::Succeeded));
        drop(handle);
    });
}

#[test]
fn where_the_store_proves_the_process_before_dead_nobody_waits() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::HangAfter]);
        let name = stage.run_and_kill(plan([change("a").timeout_ms(600_000)]), 1000).await;
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        assert!(began(&stage, "observe", "a")[0] < Duration::from_secs(2));
    });
}
