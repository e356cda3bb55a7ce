//! Steering a live run: pause, skip, and what people may do meanwhile.

use std::time::Duration;

use lifeboat_engine::executor::Executor;
use lifeboat_engine::journal::{Event, Outcome, Resolution, RunId};
use lifeboat_engine::resume::RestError;
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::sim::People;
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::{OnFailure, Plan};

use crate::world::plans::{PlanWords, actor, approval, change, id, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, approve, cancel, on_stage, once, resolve};
use crate::world::{Act, Back};

fn pause() -> Command {
    Command::Pause { comment: "a look first".into() }
}

fn go_on() -> Command {
    Command::Continue { comment: "all is well".into() }
}

/// A process drives the run for an hour while these people are around, and is killed.
async fn for_an_hour(stage: &Stage, plan: Plan, people: People<'_>) -> RunId {
    let admitted = stage.admit(plan).await;
    let name = admitted.run.id.clone();
    let (executor, handle) = Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
    let rest = stage.attend(executor, handle, people, Duration::from_secs(3600)).await;
    assert!(matches!(rest, Rest::Killed), "{rest:?}");
    name
}

#[test]
fn a_paused_run_starts_nothing_and_what_acts_ends() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(5000)]);
        let mut people = once("a", S::Running, pause(), "ann");
        let name = for_an_hour(&stage, plan([change("a"), look("b").after(&["a"])]), &mut people).await;
        assert_eq!((stage.state(&name, "a").await, stage.state(&name, "b").await), (S::Succeeded, S::Waiting));
        assert_eq!(stage.world.calls("prepare", "b"), 0);
        stage.steer_at_rest(&name, go_on(), actor("bob")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        let events = stage.events(&name).await;
        assert!(events.contains(&Event::RunPaused { by: actor("ann"), comment: "a look first".into() }));
        assert!(events.contains(&Event::RunContinued { by: actor("bob"), comment: "all is well".into() }));
    });
}

#[test]
fn a_paused_run_goes_on_at_once_in_the_process_that_drives_it() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(5000)]);
        let mut acts = vec![go_on(), pause()];
        let mut people = |run: &Run| match (run.state(&id("a")), &run.paused) {
            (S::Running, None) | (S::Succeeded, Some(_)) => acts.pop().map(|act| (act, actor("ann"))),
            (_, _) => None,
        };
        let (_, rest) = stage.run_with(plan([change("a"), look("b").after(&["a"])]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_pause_survives_a_restart() {
    on_stage(async |stage| {
        let name = stage.admit(plan([change("a")])).await.run.id;
        stage.steer_at_rest(&name, pause(), actor("ann")).await.unwrap();
        let claimed = stage.claim(&name).await.unwrap();
        let (executor, handle) = Executor::new(stage.ports(), stage.owner(), claimed.run, claimed.next);
        let rest = stage.attend(executor, handle, &mut crate::world::stage::nobody, Duration::from_secs(3600)).await;
        assert!(matches!(rest, Rest::Killed), "{rest:?}");
        assert_eq!(stage.world.calls("prepare", "a"), 0, "not even its gate was asked");
        stage.steer_at_rest(&name, go_on(), actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_paused_run_takes_answers_and_its_questions_do_not_expire() {
    on_stage(async |stage| {
        // The question stays open for ten minutes; the run is paused for an hour.
        let mut people = once("ask", S::AwaitingApproval, pause(), "ann");
        let name = for_an_hour(&stage, plan([approval("ask", 1), change("a").after(&["ask"])]), &mut people).await;
        assert_eq!(stage.state(&name, "ask").await, S::AwaitingApproval);
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        assert_eq!(stage.state(&name, "ask").await, S::Succeeded);
        stage.steer_at_rest(&name, go_on(), actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn a_pause_adds_its_length_to_the_time_people_have_and_no_more() {
    on_stage(async |stage| {
        let name = stage.run_and_kill(plan([approval("ask", 1)]), 1000).await;
        let asked = stage.load(&name).await.run.steps[&id("ask")].ask.clone().unwrap();
        stage.steer_at_rest(&name, pause(), actor("ann")).await.unwrap();
        lifeboat_engine::Clock::sleep(&*stage.clock, Duration::from_secs(3600)).await;
        stage.steer_at_rest(&name, go_on(), actor("ann")).await.unwrap();
        let after = stage.load(&name).await.run.steps[&id("ask")].ask.clone().unwrap();
        assert_eq!(after.expires_at.duration_since(asked.expires_at).as_secs(), 3600);
        assert!(matches!(stage.resume(&name).await, Rest::Held), "silence is a no again");
    });
}

#[test]
fn the_deadline_of_a_run_does_not_pass_while_it_is_paused() {
    on_stage(async |stage| {
        let plan = plan([change("a")]).deadline_ms(60_000).failing(OnFailure::Undo);
        let name = stage.admit(plan).await.run.id;
        stage.steer_at_rest(&name, pause(), actor("ann")).await.unwrap();
        lifeboat_engine::Clock::sleep(&*stage.clock, Duration::from_secs(3600)).await;
        stage.steer_at_rest(&name, go_on(), actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn no_undo_starts_while_the_run_is_paused() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("second", &[Back::SucceedAfter(5000)]);
        let mut people = once("second", S::Undoing, pause(), "ann");
        let steps = [change("first"), change("second").after(&["first"]), change("bad").after(&["second"])];
        let name = for_an_hour(&stage, plan(steps).failing(OnFailure::Undo), &mut people).await;
        assert_eq!((stage.state(&name, "second").await, stage.state(&name, "first").await), (S::Undone, S::Succeeded));
        stage.steer_at_rest(&name, go_on(), actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
    });
}

#[test]
fn pausing_twice_or_going_on_unpaused_is_refused_and_so_is_silence() {
    on_stage(async |stage| {
        let name = stage.admit(plan([change("a")])).await.run.id;
        let by = || actor("ann");
        let refusal = |answer| match answer {
            Err(RestError::Refused(error)) => error,
            other => panic!("not refused: {other:?}"),
        };
        assert!(matches!(refusal(stage.steer_at_rest(&name, go_on(), by()).await), SteerError::NotNow(_)));
        let silent = Command::Pause { comment: " ".into() };
        assert!(matches!(refusal(stage.steer_at_rest(&name, silent, by()).await), SteerError::Unfit(_)));
        stage.steer_at_rest(&name, pause(), by()).await.unwrap();
        assert!(matches!(refusal(stage.steer_at_rest(&name, pause(), by()).await), SteerError::NotNow(_)));
    });
}

#[test]
fn a_step_that_has_not_begun_can_be_left_out_of_this_run() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(5000)]);
        let mut people = once("a", S::Running, resolve("b", Resolution::Skip), "ann");
        let steps = [change("a"), change("b").after(&["a"]), change("c").after(&["b"])];
        let (name, rest) = stage.run_with(plan(steps), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.calls("prepare", "b"), 0);
        assert_eq!((stage.state(&name, "b").await, stage.world.times("c")), (S::Skipped, 1));
        let why = stage.load(&name).await.run.steps[&id("b")].why.clone().unwrap();
        assert_eq!(why, "looked at it by hand");
    });
}

#[test]
fn a_step_left_out_while_its_gate_is_asked_does_not_start() {
    on_stage(async |stage| {
        stage.world.gates("b", &[crate::world::Gate::NotDone; 5]);
        let mut left = Some(resolve("b", Resolution::Skip));
        let world = std::sync::Arc::clone(&stage.world);
        let mut people = |_: &Run| if world.calls("prepare", "b") > 0 { left.take().map(|command| (command, actor("ann"))) } else { None };
        let (name, rest) = stage.run_with(plan([change("b").tries(20)]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!((stage.state(&name, "b").await, stage.world.calls("execute", "b")), (S::Skipped, 0));
    });
}

#[test]
fn neither_a_question_to_people_nor_a_step_of_a_run_that_turned_back_can_be_left_out() {
    on_stage(async |stage| {
        let name = stage.admit(plan([change("a"), approval("ask", 1).after(&["a"])])).await.run.id;
        let answer = stage.steer_at_rest(&name, resolve("ask", Resolution::Skip), actor("ann")).await;
        assert!(matches!(answer, Err(RestError::Refused(SteerError::NotYou(_)))), "{answer:?}");
        for resolution in [Resolution::Retry, Resolution::GiveUp] {
            let answer = stage.steer_at_rest(&name, resolve("a", resolution), actor("ann")).await;
            assert!(matches!(answer, Err(RestError::Refused(SteerError::NotNow(_)))), "{answer:?}");
        }
    });
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::SucceedAfter(5000)]);
        let mut turn = 0;
        let mut people = |run: &Run| {
            (run.state(&id("a")) == S::Running && turn < 2).then(|| {
                turn += 1;
                (if turn == 1 { cancel() } else { resolve("b", Resolution::Skip) }, actor("ann"))
            })
        };
        stage.run_with(plan([change("a"), change("b").after(&["a"])]), &mut people).await;
        assert!(matches!(stage.answers()[..], [Ok(()), Err(SteerError::NotNow(_))]), "{:?}", stage.answers());
    });
}
