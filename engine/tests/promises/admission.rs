//! Locks, pinned plans, drills, rival processes and other versions.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use lifeboat_engine::admission::AdmissionError;
use lifeboat_engine::executor::{Executor, ExecutorError};
use lifeboat_engine::inventory::DrillRule;
use lifeboat_engine::journal::Outcome;
use lifeboat_engine::resume::ResumeError;
use lifeboat_engine::run::StepState as S;
use lifeboat_engine::{Clock, preflight};
use lifeboat_store::{LogId, MemoryStore, Record, Seq, Store as _};
use serde_json::json;

use crate::world::plans::{PlanWords, change, look, note, plan, thing};
use crate::world::stage::{Rest, RestWords, Stage, nobody, on_stage};
use crate::world::{Act, Gate};

/// Every record of every log.
async fn content(store: &MemoryStore) -> BTreeMap<LogId, (Seq, Vec<(Seq, Record)>)> {
    let many = NonZeroU32::new(10_000).unwrap();
    let mut all = BTreeMap::new();
    for head in store.logs("", None, many).await.unwrap() {
        let page = store.read(&head.log, head.first, many).await.unwrap();
        all.insert(head.log, (page.next, page.records));
    }
    all
}

#[test]
fn a_second_run_on_the_same_resource_is_refused_and_told_who_holds_it() {
    on_stage(async |stage| {
        let first = stage.admit(plan([change("a"), change("b").on("dns")])).await;
        let before = content(&stage.memory).await;
        match stage.try_admit(plan([look("x"), change("y").on("dns")])).await {
            Err(AdmissionError::Locked { resource, holder }) => assert_eq!((resource.as_str(), holder), ("dns", first.run.id.clone())),
            other => panic!("{other:?}"),
        }
        assert_eq!(content(&stage.memory).await, before, "a refused run leaves no trace");
        assert_eq!(stage.drive(stage.ports(), first.run, first.next, &mut nobody).await.outcome(), Outcome::Succeeded);
        stage.admit(plan([change("y").on("dns")])).await;
    });
}

#[test]
fn locks_outlive_the_process() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::Hang]);
        let name = stage.run_and_kill(plan([change("a")]), 2000).await;
        assert!(matches!(stage.try_admit(plan([change("x")])).await, Err(AdmissionError::Locked { holder, .. }) if holder == name));
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        stage.admit(plan([change("x")])).await;
    });
}

#[test]
fn plans_that_only_look_take_no_lock() {
    on_stage(async |stage| {
        let first = stage.admit(plan([look("a").on("db"), note("b").on("db")])).await;
        assert!(first.run.locks.is_empty());
        let second = stage.admit(plan([look("a").on("db")])).await;
        let changing = stage.admit(plan([change("c")])).await;
        for admitted in [first, changing, second] {
            assert_eq!(stage.drive(stage.ports(), admitted.run, admitted.next, &mut nobody).await.outcome(), Outcome::Succeeded);
        }
    });
}

#[test]
fn of_many_admissions_that_race_exactly_one_wins() {
    on_stage(async |stage| {
        let store = stage.slow();
        let mut tasks = tokio::task::JoinSet::new();
        for chance in 0..6 {
            let ports = stage.ports_on(Arc::new(store.clone()));
            let steps = plan([change("a"), change("b").on("dns")]).bound_to(&stage.inventory);
            let (owner, by) = (stage.owner(), crate::world::plans::actor("sam"));
            tasks.spawn(async move {
                lifeboat_engine::admission::admit(&ports, steps, &owner, by, lifeboat_engine::journal::Incident::default(), chance).await
            });
        }
        let answers = tasks.join_all().await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{lost:?}");
        let winner = won.into_iter().next().unwrap().unwrap().run.id;
        for error in lost {
            assert!(matches!(error, Err(AdmissionError::Locked { ref holder, .. }) if *holder == winner), "{error:?}");
        }
        assert_eq!(stage.holder("db").await, Some(winner.clone()));
        assert_eq!(stage.holder("dns").await, Some(winner));
    });
}

/// The stage with another inventory, as a later process reads it.
fn with_inventory(stage: &Stage, change: impl FnOnce(&mut lifeboat_engine::Inventory)) -> Stage {
    let mut inventory = (*stage.inventory).clone();
    change(&mut inventory);
    Stage { inventory: Arc::new(inventory), ..stage.clone() }
}

#[test]
fn a_run_acts_only_on_what_it_was_planned_for() {
    for gone in [true, false] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::SucceedAfter(3000)]);
            let name = stage.run_and_kill(plan([change("a"), change("b").on("dns").after(&["a"])]), 2000).await;
            let later = with_inventory(&stage, |inventory| {
                inventory.resources.insert("dns".into(), thing("10.9.9.9", DrillRule::Deny));
                if gone {
                    inventory.resources.remove("dns");
                }
            });
            assert!(matches!(later.resume(&name).await, Rest::Held));
            assert_eq!(stage.state(&name, "b").await, S::Held);
            assert_eq!(stage.world.times("b"), 0);
            assert_eq!(stage.world.calls("prepare", "b"), 0, "not even looked at");
        });
    }
}

#[test]
fn what_became_of_an_attempt_is_not_asked_of_something_else() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::HangAfter]);
        let name = stage.run_and_kill(plan([change("a").on("dns")]), 2000).await;
        let later = with_inventory(&stage, |inventory| {
            inventory.resources.insert("dns".into(), thing("10.9.9.9", DrillRule::Deny));
        });
        assert!(matches!(later.resume(&name).await, Rest::Held));
        assert_eq!(stage.state(&name, "a").await, S::Held);
        assert_eq!(stage.world.calls("observe", "a"), 0, "it was asked of another thing");
    });
}

#[test]
fn what_does_not_pin_a_resource_may_change() {
    on_stage(async |stage| {
        let admitted = stage.admit(plan([change("a")])).await;
        let later = with_inventory(&stage, |inventory| {
            inventory.people.clear();
            inventory.resources.remove("web");
        });
        assert_eq!(later.drive(later.ports(), admitted.run, admitted.next, &mut nobody).await.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_drill_does_not_touch_what_is_not_open_to_drills() {
    on_stage(async |stage| {
        // The plan is built by hand: whoever planned it did not look.
        let steps = plan([look("seen").on("db"), change("open").on("web"), change("closed").on("db").after(&["open"])]);
        let (name, rest) = stage.run(steps.mode("drill")).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        assert_eq!(stage.state(&name, "closed").await, S::NotRun);
        let why = stage.load(&name).await.run.why.unwrap();
        assert!(why.contains("does not open db to drills"), "{why}");
        assert_eq!((stage.world.times("open"), stage.world.times("closed")), (1, 0));
        assert_eq!(stage.state(&name, "seen").await, S::Succeeded, "looking is allowed");
        assert_eq!(stage.world.calls("prepare", "closed"), 0);
    });
}

#[test]
fn a_resource_closed_to_drills_meanwhile_stops_the_drill() {
    on_stage(async |stage| {
        let admitted = stage.admit(plan([change("a").on("web")]).mode("drill")).await;
        let later = with_inventory(&stage, |inventory| {
            inventory.resources.insert("web".into(), thing("10.0.0.3", DrillRule::Deny));
        });
        assert_eq!(later.drive(later.ports(), admitted.run, admitted.next, &mut nobody).await.outcome(), Outcome::Failed);
        assert_eq!(stage.world.times("a"), 0);
    });
}

#[test]
fn an_overtaken_executor_cannot_write_and_does_not_act_any_more() {
    on_stage(async |stage| {
        let steps = plan([change("a"), change("b").after(&["a"])]);
        let admitted = stage.admit(steps).await;
        let name = admitted.run.id.clone();
        let (old, _old_handle) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
        let old = old.drive();
        tokio::pin!(old);
        // The old process has called `a`, and its effect is there; the answer has not come back yet.
        tokio::select! {
            biased;
            ended = &mut old => panic!("{ended:?}"),
            () = stage.clock.sleep(std::time::Duration::from_millis(500)) => {}
        }
        assert_eq!(stage.world.times("a"), 1);
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        let calls = stage.world.all_calls().len();
        let entries = stage.load(&name).await.entries.len();
        match old.await {
            Err(ExecutorError::Overtaken(run)) => assert_eq!(run, name),
            other => panic!("{other:?}"),
        }
        assert_eq!(stage.world.all_calls().len(), calls, "it acted after it was overtaken");
        assert_eq!(stage.load(&name).await.entries.len(), entries);
        assert_eq!((stage.world.times("a"), stage.world.times("b")), (1, 1));
    });
}

#[test]
fn two_executors_on_one_log_leave_one_that_goes_on() {
    on_stage(async |stage| {
        let admitted = stage.admit(plan([look("a"), look("b").after(&["a"]), look("c").after(&["b"])])).await;
        let name = admitted.run.id.clone();
        let (one, _handle_one) = Executor::new(stage.ports(), stage.owner(), admitted.run.clone(), admitted.next);
        let (two, _handle_two) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
        let (one, two) = tokio::join!(one.drive(), two.drive());
        assert!(one.is_ok() != two.is_ok(), "{one:?} and {two:?}");
        let lost = one.err().or(two.err()).unwrap();
        assert!(matches!(lost, ExecutorError::Overtaken(_)), "{lost:?}");
        for step in ["a", "b", "c"] {
            assert_eq!(stage.world.calls("execute", step), 1);
        }
        assert_eq!(stage.load(&name).await.run.outcome, Some(Outcome::Succeeded));
    });
}

#[test]
fn of_two_claims_only_one_takes_the_run() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::Hang]);
        let name = stage.run_and_kill(plan([change("a")]), 2000).await;
        let ports = stage.ports_on(Arc::new(stage.slow()));
        let (owner, other) = (stage.owner(), stage.owner());
        let (one, two) =
            tokio::join!(lifeboat_engine::resume::claim(&ports, &owner, &name), lifeboat_engine::resume::claim(&ports, &other, &name));
        assert!(one.is_ok() != two.is_ok());
        assert!(matches!(one.err().or(two.err()), Some(ResumeError::Overtaken(_))));
    });
}

#[test]
fn a_plan_of_another_version_is_left_untouched() {
    for (step, runs) in [
        (change("a").version(2), true),
        (change("a").version(1), true),
        (change("a").version(0), false),
        (change("a").version(3), false),
        (change("a").of_type("gone"), false),
    ] {
        for last in [false, true] {
            on_stage(async |stage| {
                let steps = if last { plan([look("x")]).finally([step.clone()]) } else { plan([step.clone()]) };
                let name = stage.admit(steps).await.run.id;
                let before = content(&stage.memory).await;
                let claimed = stage.claim(&name).await;
                assert_eq!(claimed.is_ok(), runs, "{step:?}: {:?}", claimed.err());
                if !runs {
                    assert!(matches!(stage.claim(&name).await, Err(ResumeError::OtherVersion { .. })));
                    assert_eq!(content(&stage.memory).await, before, "byte for byte");
                }
            });
        }
    }
}

#[test]
fn a_preflight_asks_every_step_and_changes_nothing() {
    on_stage(async |stage| {
        stage.world.always_gate("no", Gate::Refused).always_gate("later", Gate::Later).always_gate("hangs", Gate::Hang);
        let steps = [
            look("yes"),
            change("no"),
            change("later"),
            change("hangs"),
            look("unknown").after(&["yes"]).says(json!("${{ steps.yes.outputs.said }}")),
        ];
        let steps = plan(steps).finally([look("last")]).bound_to(&stage.inventory);
        let answers = preflight::preflight(&steps, &stage.ports()).await;
        let words: Vec<String> = answers
            .iter()
            .map(|answer| match &answer.answer {
                preflight::Answer::Ready => format!("{} ready", answer.step),
                preflight::Answer::Later(_) => format!("{} later", answer.step),
                preflight::Answer::Refused(_) => format!("{} refused", answer.step),
            })
            .collect();
        assert_eq!(words, ["yes ready", "no refused", "later later", "hangs refused", "unknown later", "last ready"]);
        assert_eq!(content(&stage.memory).await.len(), 0);
        assert!(stage.world.all_calls().iter().all(|call| call.what == "prepare"));
    });
}
