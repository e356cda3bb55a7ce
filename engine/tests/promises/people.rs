//! What people may do: approve, deny, resolve, cancel, release; on a run that is driven and on one at rest.

use lifeboat_engine::executor::{Executor, Request};
use lifeboat_engine::journal::{Actor, Outcome, Resolution, RunId};
use lifeboat_engine::resume::RestError;
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::{OnFailure, Plan};
use serde_json::json;
use tokio::sync::oneshot;

use crate::world::plans::{PlanWords, actor, approval, change, id, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, approve, cancel, deny, on_stage, once, resolve};
use crate::world::{Act, Back, Sight};

fn asking(count: u32) -> Plan {
    plan([approval("ask", count), change("a").after(&["ask"])])
}

/// A process asks the people and is killed: the question stays.
async fn asked(stage: &Stage, plan: Plan) -> RunId {
    let name = stage.run_and_kill(plan, 1000).await;
    assert_eq!(stage.state(&name, "ask").await, S::AwaitingApproval);
    name
}

/// The act is refused, and the journal has no entry more.
async fn refused(stage: &Stage, name: &RunId, command: Command, by: Actor) -> SteerError {
    let before = stage.load(name).await.entries.len();
    let answer = stage.steer_at_rest(name, command.clone(), by).await;
    assert_eq!(stage.load(name).await.entries.len(), before, "a refused act left an entry");
    match answer {
        Err(RestError::Refused(error)) => error,
        other => panic!("{command:?} was not refused: {other:?}"),
    }
}

/// Acts, one at each look.
fn in_turn(acts: Vec<(Command, Actor)>) -> impl FnMut(&Run) -> Option<(Command, Actor)> {
    let mut acts = acts.into_iter();
    move |run| if run.state(&id("ask")) == S::AwaitingApproval { acts.next() } else { None }
}

#[test]
fn an_approval_needs_as_many_distinct_people_as_it_says() {
    on_stage(async |stage| {
        let acts = vec![(approve("ask"), actor("ann")), (approve("ask"), actor("ann")), (approve("ask"), actor("bob"))];
        let (name, rest) = stage.run_with(asking(2), &mut in_turn(acts)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert!(matches!(stage.answers()[..], [Ok(()), Err(SteerError::NotNow(_)), Ok(())]), "{:?}", stage.answers());
        let run = stage.load(&name).await.run;
        let value = run.steps[&id("ask")].value.clone().unwrap();
        assert_eq!(value["approved_by"], json!(["ann", "bob"]));
        assert_eq!(value["accepted"], json!({"lag": "3s"}));
    });
}

#[test]
fn nothing_starts_before_the_last_yes() {
    on_stage(async |stage| {
        let name = asked(&stage, asking(2)).await;
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        assert_eq!(stage.state(&name, "ask").await, S::AwaitingApproval);
        let rest = stage.resume(&name).await;
        assert!(matches!(rest, Rest::Held), "silence was a no: {rest:?}");
        assert_eq!(stage.world.calls("prepare", "a"), 0);
    });
}

#[test]
fn the_starter_cannot_approve_as_a_person_nor_by_their_system_user() {
    on_stage(async |stage| {
        let name = asked(&stage, asking(1)).await;
        assert!(matches!(refused(&stage, &name, approve("ask"), actor("sam")).await, SteerError::NotYou(_)));
        let disguised = Actor { system_user: "u-sam".into(), ..actor("ann") };
        assert!(matches!(refused(&stage, &name, approve("ask"), disguised).await, SteerError::NotYou(_)));
        let renamed = Actor { system_user: "u-other".into(), ..actor("sam") };
        assert!(matches!(refused(&stage, &name, approve("ask"), renamed).await, SteerError::NotYou(_)));
    });
}

#[test]
fn only_people_of_the_inventory_with_the_role_count_and_root_is_none() {
    on_stage(async |stage| {
        assert!(stage.inventory.person_of_system_user("root").is_none());
        let name = asked(&stage, asking(1)).await;
        for by in [
            actor("cyd"),
            actor("nobody-known"),
            Actor { person: None, system_user: "root".into(), via: "terminal".into() },
            Actor { person: Some("ann".into()), system_user: "root".into(), via: "terminal".into() },
        ] {
            assert!(matches!(refused(&stage, &name, approve("ask"), by).await, SteerError::NotYou(_)));
        }
        assert!(matches!(refused(&stage, &name, deny("ask"), actor("cyd")).await, SteerError::NotYou(_)));
    });
}

#[test]
fn a_denial_is_final() {
    on_stage(async |stage| {
        let name = asked(&stage, asking(2)).await;
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        stage.steer_at_rest(&name, deny("ask"), actor("bob")).await.unwrap();
        assert_eq!(stage.state(&name, "ask").await, S::Failed);
        assert!(matches!(refused(&stage, &name, approve("ask"), actor("bob")).await, SteerError::NotNow(_)));
        assert!(matches!(stage.resume(&name).await, Rest::Held));
        assert_eq!(stage.world.calls("execute", "a"), 0);
    });
}

#[test]
fn silence_is_a_no_also_where_nobody_drives_the_run_when_time_runs_out() {
    on_stage(async |stage| {
        let (name, rest) = stage.run(asking(1)).await;
        assert!(matches!(rest, Rest::Held));
        assert_eq!(stage.state(&name, "ask").await, S::Failed);
        assert!(stage.clock.elapsed() >= std::time::Duration::from_secs(600));
    });
    on_stage(async |stage| {
        let name = asked(&stage, asking(1)).await;
        lifeboat_engine::Clock::sleep(&*stage.clock, std::time::Duration::from_secs(600)).await;
        assert!(matches!(refused(&stage, &name, approve("ask"), actor("ann")).await, SteerError::NotNow(_)));
        assert!(matches!(stage.resume(&name).await, Rest::Held));
        assert_eq!(stage.state(&name, "ask").await, S::Failed);
        assert_eq!(stage.world.calls("execute", "a"), 0);
    });
}

#[test]
fn yeses_before_and_after_a_restart_count_together() {
    on_stage(async |stage| {
        let name = asked(&stage, asking(2)).await;
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        let rest = stage.resume_with(&name, &mut in_turn(vec![(approve("ask"), actor("bob"))])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
    });
}

#[test]
fn people_are_asked_again_when_a_denied_question_is_tried_again() {
    on_stage(async |stage| {
        let name = asked(&stage, asking(1)).await;
        stage.steer_at_rest(&name, deny("ask"), actor("bob")).await.unwrap();
        stage.steer_at_rest(&name, resolve("ask", Resolution::Retry), actor("ann")).await.unwrap();
        let rest = stage.resume_with(&name, &mut in_turn(vec![(approve("ask"), actor("ann"))])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_held_step_goes_on_as_a_person_decides() {
    let done = Resolution::Done { outputs: json!({"said": "by hand", "blob": ""}) };
    // Nobody knows what the held step did: only its outputs or another attempt end the doubt.
    for (resolution, state, outcome, after, times) in [
        (done, S::Succeeded, Outcome::Succeeded, S::Succeeded, 0),
        (Resolution::Skip, S::Skipped, Outcome::Stuck, S::Succeeded, 0),
        (Resolution::GiveUp, S::Failed, Outcome::Stuck, S::NotRun, 0),
        (Resolution::Retry, S::Succeeded, Outcome::Succeeded, S::Succeeded, 1),
    ] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::LoseRequest]).sights("a", &[Sight::Unknown; 6]);
            let mut people = once("a", S::Held, resolve("a", resolution.clone()), "ann");
            let (name, rest) = stage.run_with(plan([change("a"), look("b").after(&["a"])]), &mut people).await;
            assert_eq!(rest.outcome(), outcome, "{resolution:?}");
            assert_eq!(stage.state(&name, "a").await, state, "{resolution:?}");
            assert_eq!(stage.world.times("a"), times, "{resolution:?}");
            assert_eq!(stage.state(&name, "b").await, after, "{resolution:?}");
        });
    }
}

#[test]
fn a_failed_step_can_be_decided_too() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::Hopeless]);
        let mut people = once("a", S::Failed, resolve("a", Resolution::Retry), "ann");
        let (_, rest) = stage.run_with(plan([change("a")]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
    });
}

#[test]
fn outputs_that_a_person_gives_must_be_outputs_of_the_step_type() {
    on_stage(async |stage| {
        stage.world.always("a", Act::Hopeless);
        let (name, _) = stage.run(plan([change("a"), look("b").after(&["a"]).says(json!("${{ steps.a.outputs.said }}"))])).await;
        for outputs in [json!({}), json!({"said": 1}), json!("done")] {
            let command = resolve("a", Resolution::Done { outputs });
            assert!(matches!(refused(&stage, &name, command, actor("ann")).await, SteerError::Unfit(_)));
        }
        let outputs = json!({"said": "by hand", "blob": ""});
        stage.steer_at_rest(&name, resolve("a", Resolution::Done { outputs }), actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        assert_eq!(stage.load(&name).await.run.steps[&id("b")].value.clone().unwrap()["said"], "by hand");
    });
}

#[test]
fn acts_that_are_not_possible_are_refused_and_leave_no_entry() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let (name, _) = stage.run(plan([look("fine"), change("bad"), change("behind").after(&["bad"])])).await;
        let silent = Command::Resolve { step: id("bad"), resolution: Resolution::Skip, comment: "  ".into() };
        let long = Command::Cancel { comment: Some("x".repeat(5000)) };
        let unknown = resolve("nope", Resolution::Skip);
        for (command, wanted) in [
            (approve("fine"), "NotNow"),
            (deny("bad"), "NotNow"),
            (resolve("fine", Resolution::Skip), "NotNow"),
            (resolve("behind", Resolution::Retry), "NotNow"),
            (unknown, "NoSuchStep"),
            (silent, "Unfit"),
            (long, "Unfit"),
            (Command::Release { comment: "tired".into() }, "NotNow"),
        ] {
            let error = refused(&stage, &name, command.clone(), actor("ann")).await;
            assert!(format!("{error:?}").starts_with(wanted), "{command:?}: {error:?}");
        }
    });
}

#[test]
fn a_run_that_has_ended_takes_no_more_acts() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let (name, rest) = stage.run(plan([look("bad")]).failing(OnFailure::Abort)).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        for command in [cancel(), resolve("bad", Resolution::Retry), approve("bad"), Command::Release { comment: "why not".into() }] {
            assert!(matches!(refused(&stage, &name, command, actor("ann")).await, SteerError::NotNow(_)));
        }
        assert!(matches!(stage.claim(&name).await, Err(lifeboat_engine::resume::ResumeError::Ended(_))));
    });
}

#[test]
fn another_attempt_cannot_be_asked_for_once_the_run_turns_back() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("a", &[Back::SucceedAfter(5000)]);
        let mut people = once("a", S::Undoing, resolve("bad", Resolution::Retry), "ann");
        let (_, rest) = stage.run_with(plan([change("a"), change("bad").after(&["a"])]).failing(OnFailure::Undo), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert!(matches!(stage.answers()[..], [Err(SteerError::NotNow(_))]), "{:?}", stage.answers());
    });
}

#[test]
fn an_undo_that_failed_is_tried_again_or_said_to_be_done_while_others_are_undone() {
    for (resolution, undone) in [(Resolution::Retry, 2), (Resolution::Done { outputs: json!({"said": null, "blob": ""}) }, 1)] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("b", &[Back::Fail]).backs("a", &[Back::SucceedAfter(5000)]);
            let steps = [change("a"), change("b").on("dns"), change("bad").after(&["a", "b"])];
            let mut people = once("b", S::UndoFailed, resolve("b", resolution.clone()), "ann");
            let (name, rest) = stage.run_with(plan(steps).failing(OnFailure::Undo), &mut people).await;
            assert_eq!(rest.outcome(), Outcome::Undone, "{resolution:?}");
            assert_eq!(stage.state(&name, "b").await, S::Undone);
            assert_eq!(stage.undone().len(), undone);
        });
    }
}

#[test]
fn an_undo_asked_for_again_too_late_never_counts_as_undone() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).always_back("a", Back::Fail).acts("last", &[Act::SucceedAfter(5000)]);
        let mut people = once("last", S::Running, resolve("a", Resolution::Retry), "ann");
        let steps = plan([change("a"), change("bad").after(&["a"])]).failing(OnFailure::Undo).finally([look("last")]);
        let (name, rest) = stage.run_with(steps, &mut people).await;
        assert_eq!(stage.answers().len(), 1, "the person came in time");
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert!(stage.world.stands("a"));
        assert_eq!(stage.holder("db").await, Some(name));
    });
}

#[test]
fn a_cancel_lets_running_steps_end_and_starts_nothing_more() {
    for (rule, outcome) in [(OnFailure::Hold, Outcome::Cancelled), (OnFailure::Undo, Outcome::Undone)] {
        on_stage(async |stage| {
            stage.world.always("slow", Act::SucceedAfter(5000));
            let mut people = once("slow", S::Running, cancel(), "cyd");
            let steps = [change("slow"), change("other").on("dns").after(&["slow"])];
            let (name, rest) = stage.run_with(plan(steps).failing(rule), &mut people).await;
            assert_eq!(rest.outcome(), outcome);
            assert_eq!((stage.world.times("slow"), stage.world.times("other")), (1, 0));
            assert_eq!(stage.world.stands("slow"), rule == OnFailure::Hold);
            assert_eq!(stage.state(&name, "other").await, S::NotRun);
            assert_eq!(stage.holder("db").await, None);
        });
    }
}

#[test]
fn a_cancel_while_a_gate_is_asked_keeps_the_step_from_starting() {
    on_stage(async |stage| {
        stage.world.gates("a", &[crate::world::Gate::Hang]);
        let mut people = {
            let mut left = Some(cancel());
            move |_: &Run| left.take().map(|command| (command, actor("ann")))
        };
        let (name, rest) = stage.run_with(plan([change("a")]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Cancelled);
        assert_eq!(stage.state(&name, "a").await, S::NotRun);
    });
}

#[test]
fn the_locks_of_a_stuck_run_are_given_up_only_by_a_person_and_once() {
    on_stage(async |stage| {
        stage.world.always("last", Act::Hopeless);
        let (name, rest) = stage.run(plan([change("a")]).finally([look("last")])).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert!(stage.try_admit(plan([change("x")])).await.is_err());
        let release = Command::Release { comment: "checked by hand".into() };
        stage.steer_at_rest(&name, release.clone(), actor("ann")).await.unwrap();
        assert_eq!(stage.holder("db").await, None);
        assert!(matches!(refused(&stage, &name, release, actor("ann")).await, SteerError::NotNow(_)));
        let (_, rest) = stage.run(plan([change("x")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.holder("db").await, None);
    });
}

#[test]
fn an_answer_is_given_only_after_the_act_is_durable() {
    on_stage(async |stage| {
        let store = lifeboat_store::FaultyStore::new(stage.slow());
        let admitted = stage.admit(asking(1)).await;
        let (executor, handle) =
            Executor::new(stage.ports_on(std::sync::Arc::new(store.clone())), stage.owner(), admitted.run, admitted.next);
        let driving = executor.drive();
        tokio::pin!(driving);
        tokio::select! {
            biased;
            ended = &mut driving => panic!("{ended:?}"),
            () = lifeboat_engine::Clock::sleep(&*stage.clock, std::time::Duration::from_secs(1)) => {}
        }
        store.plan(store.writes(), lifeboat_store::Fault::CrashBefore);
        let (reply, answer) = oneshot::channel();
        handle.requests.send(Request::Steer { command: approve("ask"), by: actor("ann"), reply }).await.unwrap();
        assert!(driving.await.is_err());
        assert!(answer.await.is_err(), "a yes was acknowledged that is in no journal");
    });
}

#[test]
fn detaching_lets_calls_end_and_leaves_a_run_that_can_be_resumed() {
    on_stage(async |stage| {
        stage.world.always("a", Act::SucceedAfter(5000));
        let admitted = stage.admit(plan([change("a"), change("b").after(&["a"])])).await;
        let name = admitted.run.id.clone();
        let (executor, handle) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
        let driving = executor.drive();
        tokio::pin!(driving);
        tokio::select! {
            biased;
            ended = &mut driving => panic!("{ended:?}"),
            () = lifeboat_engine::Clock::sleep(&*stage.clock, std::time::Duration::from_secs(1)) => {}
        }
        handle.requests.send(Request::Detach).await.unwrap();
        assert_eq!(driving.await.unwrap(), lifeboat_engine::executor::Driven::Detached);
        assert_eq!(stage.state(&name, "a").await, S::Succeeded);
        assert_eq!(stage.world.calls("prepare", "b"), 0);
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        assert_eq!((stage.world.times("a"), stage.world.times("b")), (1, 1));
    });
}

#[test]
fn nobody_can_turn_the_answer_of_people_into_another_one() {
    let words = json!({ "approved_by": ["ann"], "approved_at": "2026-11-22T00:00:00Z", "accepted": null });
    for denied in [true, false] {
        for resolution in [Resolution::Done { outputs: words.clone() }, Resolution::Skip] {
            on_stage(async |stage| {
                let name = asked(&stage, asking(2)).await;
                stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
                if denied {
                    stage.steer_at_rest(&name, deny("ask"), actor("bob")).await.unwrap();
                } else {
                    assert!(matches!(stage.resume(&name).await, Rest::Held));
                }
                assert_eq!(stage.state(&name, "ask").await, S::Failed);
                assert!(stage.load(&name).await.run.steps[&id("ask")].approvals.is_empty());
                let error = refused(&stage, &name, resolve("ask", resolution.clone()), actor("bob")).await;
                assert!(matches!(error, SteerError::NotYou(_)), "{error:?}");
                assert_eq!(stage.world.calls("execute", "a"), 0);
            });
        }
    }
}
