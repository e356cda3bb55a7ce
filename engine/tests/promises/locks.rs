//! Locks: who makes way for whom, the bounded wait before a live run, and that locks never overlap and never leak.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::admission::{self, AdmissionError};
use lifeboat_engine::executor::Executor;
use lifeboat_engine::history;
use lifeboat_engine::journal::{Incident, Outcome, RunId, Turn};
use lifeboat_engine::ports::Ports;
use lifeboat_engine::preemption::{self, Wanter};
use lifeboat_engine::resume::{self, ResumeError};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::{Clock as _, Event};
use lifeboat_runbooks::plan::{OnFailure, Plan};
use lifeboat_store::{Fault, FaultyStore};
use proptest::prelude::*;

use crate::world::plans::{Draft, PlanWords, actor, blind, change, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, nobody, on_stage};
use crate::world::{Act, Back};

const MINUTE: Duration = Duration::from_secs(60);

fn drill(steps: impl IntoIterator<Item = Draft>) -> Plan {
    plan(steps).mode("drill")
}

fn backup(resource: &str) -> Plan {
    plan([change("backup").on(resource).protects()]).mode("backup").failing(OnFailure::Undo)
}

/// Asks others to make way, is admitted, and drives to rest. `driven`: whether the others are driven at this moment.
async fn start(stage: &Stage, ports: Ports, plan: Plan, driven: bool, within: Duration) -> Result<(RunId, Rest), AdmissionError> {
    let plan = plan.bound_to(&stage.inventory);
    let owner = stage.owner();
    let chance = owner.0.bytes().fold(7, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let id = admission::run_id(&plan, stage.clock.now(), chance).unwrap();
    let locks = admission::locks(&plan);
    let wanter = Wanter { run: &id, mode: &plan.mode, locks: &locks, within, is_driven: &|_| driven, tell: &|_| {} };
    preemption::make_way(&ports, &owner, wanter).await?;
    let admitted = admission::admit_as(&ports, id.clone(), plan.clone(), &owner, actor("sam"), Incident::default()).await?;
    let (executor, handle) = Executor::new(ports, owner, admitted.run, admitted.next);
    Ok((id, stage.attend(executor, handle, &mut nobody, lifeboat_engine::sim::EVER).await))
}

async fn live(stage: &Stage, plan: Plan, driven: bool) -> Result<(RunId, Rest), AdmissionError> {
    start(stage, stage.ports(), plan, driven, MINUTE).await
}

async fn after<T>(stage: &Stage, seconds: u64, then: impl Future<Output = T>) -> T {
    stage.clock.sleep(Duration::from_secs(seconds)).await;
    then.await
}

fn preempted_by(run: &Run) -> Option<RunId> {
    match &run.turn {
        Some((Turn::Preempted { by }, _)) => Some(by.clone()),
        Some((Turn::Cancelled | Turn::StepFailed { .. } | Turn::DeadlinePassed | Turn::DrillEnded, _)) | None => None,
    }
}

#[test]
fn a_drill_that_is_driven_makes_way_for_a_live_run_and_is_undone() {
    on_stage(async |stage| {
        // The look would take an hour; it can have no effect, so it is cut off.
        stage.world.always("long", Act::SucceedAfter(3_600_000));
        let steps = [change("a").on("web"), look("long").after(&["a"]).timeout_ms(7_200_000)];
        let (old, new) = tokio::join!(stage.run(drill(steps)), after(&stage, 20, live(&stage, plan([change("real").on("web")]), true)));
        let (new, rest) = new.unwrap();
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(old.1.outcome(), Outcome::Undone);
        let run = stage.load(&old.0).await.run;
        assert_eq!(preempted_by(&run), Some(new.clone()));
        assert!(run.why.unwrap().contains(&format!("made way for run {new}")));
        assert!(!stage.world.stands("a") && stage.world.stands("real"));
        assert!(stage.clock.elapsed() < Duration::from_secs(60), "{:?}", stage.clock.elapsed());
    });
}

#[test]
fn what_may_act_is_not_cut_off_by_making_way_although_it_names_nothing() {
    on_stage(async |stage| {
        stage.world.always("tell", Act::SucceedAfter(20_000));
        let saves = [change("save").on("web").protects(), blind("tell").after(&["save"]).timeout_ms(60_000)];
        let saves = plan(saves).mode("backup").failing(OnFailure::Undo);
        let (old, new) = tokio::join!(stage.run(saves), after(&stage, 10, live(&stage, plan([change("real").on("web")]), true)));
        assert_eq!(new.unwrap().1.outcome(), Outcome::Succeeded);
        assert_eq!((stage.world.times("tell"), stage.state(&old.0, "tell").await), (1, S::Succeeded));
    });
}

#[test]
fn a_drill_at_rest_is_claimed_and_turned_back_by_the_process_of_the_live_run() {
    on_stage(async |stage| {
        stage.world.always("b", Act::Hang);
        let old = stage.run_and_kill(drill([change("a").on("web"), change("b").on("web").after(&["a"])]), 5000).await;
        assert!(stage.world.stands("a"));
        let (new, rest) = live(&stage, plan([change("real").on("web")]), false).await.unwrap();
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let run = stage.load(&old).await.run;
        assert_eq!((preempted_by(&run), run.outcome), (Some(new), Some(Outcome::Undone)));
        assert!(!stage.world.stands("a"));
        assert_eq!(stage.holder("web").await, None);
    });
}

#[test]
fn a_second_live_run_is_refused_at_once_and_the_first_goes_on() {
    on_stage(async |stage| {
        stage.world.always("a", Act::SucceedAfter(30_000));
        let slow = plan([change("a").timeout_ms(60_000)]);
        let began = stage.clock.elapsed();
        let second = async {
            let refused = after(&stage, 5, Box::pin(live(&stage, plan([change("b")]), true))).await.unwrap_err();
            (refused, stage.clock.elapsed() - began)
        };
        let ((first, rest), (refused, took)) = tokio::join!(stage.run(slow), second);
        assert!(matches!(&refused, AdmissionError::Locked { resource, holder } if resource == "db" && *holder == first), "{refused:?}");
        assert!(took < Duration::from_secs(6), "it was not waited for: {took:?}");
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("b"), 0);
    });
}

#[test]
fn a_drill_that_does_not_come_back_in_time_is_named_and_nothing_is_started() {
    on_stage(async |stage| {
        stage.world.always_back("a", Back::SucceedAfter(600_000));
        let steps = [change("a").on("web").timeout_ms(900_000), change("b").on("web").after(&["a"]).timeout_ms(60_000)];
        stage.world.always("b", Act::SucceedAfter(15_000));
        let new = async {
            let began = stage.clock.elapsed();
            let refused = after(&stage, 10, Box::pin(live(&stage, plan([change("real").on("web")]), true))).await.unwrap_err();
            (refused, stage.clock.elapsed() - began)
        };
        let ((old, rest), (refused, took)) = tokio::join!(stage.run(drill(steps)), new);
        assert!(matches!(&refused, AdmissionError::StillLocked { holder, .. } if *holder == old), "{refused:?}");
        assert!(took <= Duration::from_secs(72), "the wait is bounded: {took:?}");
        assert_eq!(stage.world.times("real"), 0);
        // The drill is undone all the same, and whoever comes again finds the lock free.
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!(live(&stage, plan([change("real").on("web")]), true).await.unwrap().1.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_backup_makes_way_for_a_change_and_not_for_another_backup_or_a_drill() {
    on_stage(async |stage| {
        stage.world.always("backup", Act::SucceedAfter(30_000));
        let slow = || {
            let mut slow = backup("web");
            slow.steps[0].timeout_ms = 60_000;
            slow
        };
        let (old, (other, hard)) = tokio::join!(
            stage.run(slow()),
            after(&stage, 5, async { (live(&stage, backup("web"), true).await, live(&stage, drill([change("d").on("web")]), true).await) })
        );
        assert!(matches!(other, Err(AdmissionError::Locked { .. })) && matches!(hard, Err(AdmissionError::Locked { .. })));
        assert_eq!(old.1.outcome(), Outcome::Succeeded);
        let (old, new) = tokio::join!(stage.run(slow()), after(&stage, 5, live(&stage, plan([change("real").on("web")]), true)));
        assert_eq!(new.unwrap().1.outcome(), Outcome::Succeeded);
        assert_eq!(old.1.outcome(), Outcome::Undone, "a backup turns back by its own rule");
    });
}

#[test]
fn a_run_that_changes_one_thing_and_only_protects_another_makes_way_for_nobody() {
    on_stage(async |stage| {
        stage.world.always("save", Act::SucceedAfter(20_000));
        let steps = [change("save").on("web").protects().timeout_ms(60_000), change("move").on("db").after(&["save"])];
        let (old, new) = tokio::join!(stage.run(plan(steps)), after(&stage, 5, live(&stage, plan([change("real").on("web")]), true)));
        assert!(matches!(new, Err(AdmissionError::Locked { .. })));
        assert_eq!(old.1.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn no_drill_slips_in_before_the_live_run_that_waits() {
    on_stage(async |stage| {
        stage.world.always("long", Act::SucceedAfter(3_600_000));
        let steps = [change("a").on("web"), look("long").after(&["a"]).timeout_ms(7_200_000)];
        let waits = async {
            let wanted = plan([change("real").on("web")]);
            let id = admission::run_id(&wanted, stage.clock.now(), 1).unwrap();
            let locks = admission::locks(&wanted);
            let wanter = Wanter { run: &id, mode: "failover", locks: &locks, within: MINUTE, is_driven: &|_| true, tell: &|_| {} };
            preemption::make_way(&stage.ports(), &stage.owner(), wanter).await.unwrap();
            // The lock is free now, and the live run is not admitted yet.
            let eager = stage.try_admit(drill([change("eager").on("web")])).await;
            assert!(matches!(&eager, Err(AdmissionError::Wanted { by, .. }) if *by == id), "{eager:?}");
            let eager = stage.try_admit(backup("web")).await;
            assert!(matches!(eager, Err(AdmissionError::Wanted { .. })), "{eager:?}");
            // It never came: its wish ends, and drills go on.
            stage.clock.sleep(MINUTE).await;
            stage.try_admit(drill([change("eager").on("web")])).await.unwrap();
        };
        let (old, ()) = tokio::join!(stage.run(drill(steps)), after(&stage, 10, waits));
        assert_eq!(old.1.outcome(), Outcome::Undone);
    });
}

#[test]
fn a_stuck_drill_keeps_its_locks_until_a_person_releases_them() {
    on_stage(async |stage| {
        stage.world.backs("a", &[Back::Fail]);
        let (old, rest) = stage.run(drill([change("a").on("web")])).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        let refused = live(&stage, plan([change("real").on("web")]), false).await.unwrap_err();
        assert!(matches!(&refused, AdmissionError::Locked { holder, .. } if *holder == old), "{refused:?}");
    });
}

#[test]
fn a_held_drill_makes_way_too() {
    on_stage(async |stage| {
        stage.world.always("b", Act::Hopeless);
        let steps = [change("a").on("web"), change("b").on("web").after(&["a"]).on_failure(OnFailure::Hold)];
        let (old, rest) = stage.run(drill(steps)).await;
        assert!(matches!(rest, Rest::Held));
        let (_, rest) = live(&stage, plan([change("real").on("web")]), false).await.unwrap();
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.state(&old, "a").await, S::Undone);
    });
}

/// One run of a crowd.
#[derive(Clone, Debug)]
struct Guest {
    /// Bit 0: `web`, bit 1: `app`.
    on: u8,
    kind: u8,
    comes_ms: u64,
    steps: u8,
    slow_ms: u64,
    /// Its process dies at this write.
    dies: Option<(u64, Fault)>,
}

fn guest() -> impl Strategy<Value = Guest> {
    let fault = prop_oneof![Just(Fault::CrashBefore), Just(Fault::CrashAfter)];
    (1u8..4, 0u8..3, 0u64..20_000, 1u8..4, 0u64..8000, prop::option::weighted(0.4, (0u64..12, fault)))
        .prop_map(|(on, kind, comes_ms, steps, slow_ms, dies)| Guest { on, kind, comes_ms, steps, slow_ms, dies })
}

fn plan_of(place: usize, guest: &Guest) -> Plan {
    let on: Vec<&str> = [(1, "web"), (2, "app")].into_iter().filter(|(bit, _)| guest.on & bit > 0).map(|(_, name)| name).collect();
    let names: Vec<String> = (0..guest.steps).map(|step| format!("g{place}s{step}")).collect();
    let steps = names.iter().enumerate().map(|(step, name)| {
        let needs: Vec<&str> = step.checked_sub(1).map(|before| names[before].as_str()).into_iter().collect();
        let made = change(name).on(on[step % on.len()]).after(&needs).timeout_ms(30_000);
        if guest.kind == 1 { made.protects() } else { made }
    });
    plan(steps).mode(["drill", "backup", "failover"][usize::from(guest.kind)]).failing(OnFailure::Undo)
}

/// Comes, asks others to make way where it may, runs, and dies where it is told to. Somebody goes on with it later.
async fn visit(stage: &Stage, place: usize, guest: &Guest) {
    stage.clock.sleep(Duration::from_millis(guest.comes_ms)).await;
    let wanted = plan_of(place, guest);
    for step in &wanted.steps {
        stage.world.always(step.id.as_str(), Act::SucceedAfter(guest.slow_ms));
    }
    let mut store = FaultyStore::new(stage.slow());
    if let Some((number, fault)) = guest.dies {
        store = store.fail_write(number, fault);
    }
    // Whoever else is there is driven by another process of this test, or was: the locks say what became of it.
    match start(stage, stage.ports_on(Arc::new(store.clone())), wanted, true, MINUTE).await {
        Ok((_, Rest::Ended(_) | Rest::Held)) | Err(_) => {}
        Ok((name, Rest::Stopped(error))) => assert!(store.is_stopped(), "{name} stopped: {error:?}"),
        Ok((name, Rest::Killed)) => panic!("{name} goes in circles"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    /// That no two change one resource at a time is a law of the world: each effect is held against the durable lock.
    #[test]
    fn locks_never_overlap_and_never_leak_whoever_comes_and_dies(guests in prop::collection::vec(guest(), 2..6)) {
        on_stage(async |stage| {
            let together = tokio::task::LocalSet::new();
            for (place, guest) in guests.iter().enumerate() {
                let (stage, guest) = (stage.clone(), guest.clone());
                together.spawn_local(async move { visit(&stage, place, &guest).await });
            }
            together.await;
            // Those whose process died are gone on with until nothing is open.
            for name in history::open_runs(&stage.memory).await.unwrap() {
                match resume::claim(&stage.ports(), &stage.owner(), &name).await {
                    Ok(loaded) => drop(stage.drive(stage.ports(), loaded.run, loaded.next, &mut nobody).await.outcome()),
                    Err(error) => assert!(matches!(error, ResumeError::Ended(_)), "{error:?}"),
                }
            }
            prop_assert!(history::open_runs(&stage.memory).await.unwrap().is_empty());
            for resource in ["web", "app"] {
                prop_assert_eq!(stage.holder(resource).await, None, "{} is still locked", resource);
            }
            for name in history::list(&stage.memory).await.unwrap() {
                let loaded = stage.load(&name).await;
                let turns = loaded.entries.iter().filter(|entry| matches!(entry.event, Event::UnwindingStarted { .. })).count();
                prop_assert!(turns <= 1);
                if loaded.run.plan.mode == "failover" {
                    prop_assert_eq!(preempted_by(&loaded.run), None, "a live run made way");
                }
            }
            Ok(())
        })?;
    }
}
