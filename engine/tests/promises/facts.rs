//! Approvals are of the facts shown: measured anew at the last yes and before the first step that needs it. Worse facts, and facts that
//! cannot be had any more, void what was said.

use std::time::Duration;

use lifeboat_engine::Clock;
use lifeboat_engine::journal::{Actor, Event, Outcome, RunId};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::Plan;
use serde_json::json;

use crate::world::Act;
use crate::world::plans::{actor, approval, change, id, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, approve, deny, on_stage};
use crate::world::steps::says_now;

/// `loss` looks, `ask` shows what it said, `a` acts after it.
fn asking(count: u32) -> Plan {
    let show = json!({ "loss": "${{ steps.loss.outputs.said }}" });
    let loss = look("loss").says(json!(5));
    plan([loss, approval("ask", count).with("show", show).after(&["loss"]), change("a").after(&["ask"])])
}

/// One act each time the question is open with so many people having said yes, and before it something may happen to the world.
fn people(acts: Vec<(fn(), Command, &'static str)>) -> impl FnMut(&Run) -> Option<(Command, Actor)> {
    let mut acts = acts.into_iter();
    move |run| {
        if run.state(&id("ask")) != S::AwaitingApproval {
            return None;
        }
        acts.next().map(|(first, command, by)| {
            first();
            (command, actor(by))
        })
    }
}

fn nothing() {}
fn worse() {
    says_now("loss", json!(9));
}
fn better() {
    says_now("loss", json!(2));
}
fn unknown() {
    says_now("loss", json!("nobody knows"));
}

async fn kinds(stage: &Stage, name: &RunId) -> Vec<&'static str> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only what is said of facts is asked for here")]
    let of = |event: &Event| match event {
        Event::ApprovalRequested { .. } => Some("asked"),
        Event::ApprovalGranted { .. } => Some("yes"),
        Event::ApprovalVoided { .. } => Some("voided"),
        Event::FactsRemeasured { .. } => Some("measured"),
        _ => None,
    };
    stage.events(name).await.iter().filter_map(of).collect()
}

#[test]
fn facts_are_measured_anew_at_the_last_yes_and_the_same_facts_leave_it_standing() {
    on_stage(async |stage| {
        let acts: Vec<(fn(), Command, &str)> = vec![(nothing, approve("ask"), "ann"), (nothing, approve("ask"), "bob")];
        let (name, rest) = stage.run_with(asking(2), &mut people(acts)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(kinds(&stage, &name).await, ["asked", "yes", "measured", "yes"]);
        assert_eq!(stage.world.calls("execute", "loss"), 2);
    });
}

#[test]
fn worse_facts_at_the_last_yes_void_all_that_was_said_and_people_are_asked_again() {
    on_stage(async |stage| {
        let acts: Vec<(fn(), Command, &str)> = vec![
            (nothing, approve("ask"), "ann"),
            (worse, approve("ask"), "bob"),
            (nothing, approve("ask"), "bob"),
            (nothing, approve("ask"), "ann"),
        ];
        let (name, rest) = stage.run_with(asking(2), &mut people(acts)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let answers = stage.answers();
        let Err(SteerError::NotNow(words)) = &answers[1] else { panic!("{answers:?}") };
        assert!(words.contains("5 became 9"), "how much worse is said: {words}");
        assert_eq!(kinds(&stage, &name).await, ["asked", "yes", "measured", "voided", "asked", "yes", "measured", "yes"]);
        let value = stage.load(&name).await.run.steps[&id("ask")].value.clone().unwrap();
        assert_eq!((value["approved_by"].clone(), value["accepted"].clone()), (json!(["bob", "ann"]), json!({ "loss": 9 })));
    });
}

#[test]
fn better_facts_void_nothing() {
    on_stage(async |stage| {
        let acts: Vec<(fn(), Command, &str)> = vec![(better, approve("ask"), "ann")];
        let (name, rest) = stage.run_with(asking(1), &mut people(acts)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(kinds(&stage, &name).await, ["asked", "measured", "yes"]);
    });
}

#[test]
fn what_is_no_longer_known_or_cannot_be_measured_is_not_agreed_to() {
    for (first, act) in [(unknown as fn(), Act::Succeed), (nothing, Act::NotDone), (nothing, Act::Hang), (nothing, Act::Panic)] {
        on_stage(async |stage| {
            stage.world.acts("loss", &[Act::Succeed, act]);
            let acts: Vec<(fn(), Command, &str)> = vec![(first, approve("ask"), "ann"), (nothing, deny("ask"), "bob")];
            let (name, rest) = stage.run_with(asking(1), &mut people(acts)).await;
            assert!(matches!(rest, Rest::Held), "{act:?}: {rest:?}");
            assert!(matches!(stage.answers()[0], Err(SteerError::NotNow(_))), "{act:?}: {:?}", stage.answers());
            assert!(kinds(&stage, &name).await.contains(&"voided"), "{act:?}");
            assert_eq!((stage.state(&name, "ask").await, stage.world.calls("execute", "a")), (S::Failed, 0), "{act:?}");
        });
    }
}

#[test]
fn facts_are_measured_again_before_the_step_that_relies_on_them_where_time_has_passed() {
    on_stage(async |stage| {
        let name = stage.run_and_kill(asking(1), 3000).await;
        // Nobody drives the run, so nobody can measure at the yes.
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        assert_eq!(stage.state(&name, "ask").await, S::Succeeded);
        worse();
        let acts: Vec<(fn(), Command, &str)> = vec![(nothing, approve("ask"), "bob")];
        let rest = stage.resume_with(&name, &mut people(acts)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(kinds(&stage, &name).await, ["asked", "yes", "measured", "voided", "asked", "measured", "yes"]);
        let value = stage.load(&name).await.run.steps[&id("ask")].value.clone().unwrap();
        assert_eq!(value["approved_by"], json!(["bob"]), "the yes to other facts does not count");
    });
}

#[test]
fn once_a_step_has_relied_on_an_answer_it_stands() {
    on_stage(async |stage| {
        let show = json!({ "loss": "${{ steps.loss.outputs.said }}" });
        let steps = [
            look("loss").says(json!(5)),
            approval("ask", 1).with("show", show).after(&["loss"]),
            change("a").after(&["ask"]),
            change("b").on("dns").after(&["ask", "a"]),
        ];
        stage.world.acts("a", &[Act::SucceedAfter(8000)]);
        let mut acts = people(vec![(nothing as fn(), approve("ask"), "ann")]);
        let mut people = |run: &Run| {
            if run.state(&id("a")) == S::Running {
                worse();
            }
            acts(run)
        };
        let (name, rest) = stage.run_with(plan(steps), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(kinds(&stage, &name).await, ["asked", "measured", "yes"]);
    });
}

#[test]
fn a_no_that_comes_while_facts_are_measured_is_final() {
    on_stage(async |stage| {
        stage.world.acts("loss", &[Act::Succeed, Act::SucceedAfter(5000)]);
        let admitted = stage.admit(asking(1)).await;
        let name = admitted.run.id.clone();
        let (executor, handle) = lifeboat_engine::executor::Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
        let requests = handle.requests.clone();
        let acting = async {
            // The answer comes later than the question is taken.
            #[expect(clippy::async_yields_async, reason = "the question is sent first, its answer is awaited after another one was sent")]
            let ask = async |command, by: &str| {
                let (reply, answer) = tokio::sync::oneshot::channel();
                requests.send(lifeboat_engine::executor::Request::Steer { command, by: actor(by), reply }).await.unwrap();
                answer
            };
            stage.clock.sleep(Duration::from_secs(4)).await;
            assert_eq!(stage.state(&name, "ask").await, S::AwaitingApproval);
            let yes = ask(approve("ask"), "ann").await;
            stage.clock.sleep(Duration::from_secs(1)).await;
            let no = ask(deny("ask"), "bob").await;
            assert_eq!(no.await.unwrap(), Ok(()));
            assert!(matches!(yes.await.unwrap(), Err(SteerError::NotNow(_))));
        };
        let mut none = crate::world::stage::nobody;
        let (rest, ()) = tokio::join!(stage.attend(executor, handle, &mut none, Duration::from_secs(600)), acting);
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert_eq!((stage.state(&name, "ask").await, stage.world.calls("execute", "a")), (S::Failed, 0));
    });
}

#[test]
fn a_question_whose_facts_come_from_nothing_that_looks_is_not_held_up() {
    on_stage(async |stage| {
        let acts: Vec<(fn(), Command, &str)> = vec![(nothing, approve("ask"), "ann")];
        let steps = [
            change("done").says(json!("moved")),
            approval("ask", 1).with("show", json!("${{ steps.done.outputs.said }}")).after(&["done"]),
        ];
        let (name, rest) = stage.run_with(plan(steps), &mut people(acts)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(kinds(&stage, &name).await, ["asked", "yes"]);
    });
}
