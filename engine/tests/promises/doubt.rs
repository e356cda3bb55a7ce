//! Unknown outcomes: after lost answers, timeouts, panics and the death of the process, the world is asked what happened.

use lifeboat_engine::journal::{Event, Outcome, Resolution, Seen};
use lifeboat_engine::run::StepState as S;
use lifeboat_runbooks::plan::OnFailure;

use crate::world::plans::{PlanWords, actor, change, id, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, cancel, on_stage, once, resolve};
use crate::world::{Act, Gate, Sight};

async fn how_seen(stage: &Stage, run: &lifeboat_engine::RunId) -> Vec<Seen> {
    stage
        .events(run)
        .await
        .into_iter()
        .filter_map(|event| if let Event::StepSucceeded { seen, .. } = event { Some(seen) } else { None })
        .collect()
}

#[test]
fn a_lost_answer_is_observed_and_recorded_without_a_second_effect() {
    for act in [Act::LoseAnswer, Act::HangAfter, Act::PanicAfter] {
        on_stage(async |stage| {
            stage.world.always("a", act);
            let (run, rest) = stage.run(plan([change("a")])).await;
            assert_eq!(rest.outcome(), Outcome::Succeeded, "{act:?}");
            assert_eq!(stage.world.times("a"), 1, "{act:?}");
            assert_eq!(how_seen(&stage, &run).await, [Seen::Observed], "{act:?}");
        });
    }
}

#[test]
fn a_lost_request_is_observed_as_not_done_and_tried_again() {
    for act in [Act::LoseRequest, Act::Hang, Act::Panic] {
        on_stage(async |stage| {
            stage.world.acts("a", &[act]);
            let (run, rest) = stage.run(plan([change("a")])).await;
            assert_eq!(rest.outcome(), Outcome::Succeeded, "{act:?}");
            assert_eq!(stage.world.times("a"), 1, "{act:?}");
            assert_eq!(stage.load(&run).await.run.steps[&id("a")].attempts, 2, "{act:?}");
            assert_eq!(stage.effects()["a"].by_attempt.keys().copied().collect::<Vec<_>>(), [2], "{act:?}: by its own intent");
        });
    }
}

#[test]
fn a_step_whose_requests_are_always_lost_fails_in_the_end() {
    on_stage(async |stage| {
        stage.world.always("a", Act::LoseRequest);
        let (run, rest) = stage.run(plan([change("a")])).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert_eq!(stage.state(&run, "a").await, S::Failed);
        assert_eq!(stage.world.calls("execute", "a"), 3);
    });
}

#[test]
fn what_goes_on_by_itself_after_a_timeout_is_adopted_not_begun_again() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::Late(15_000)]);
        let (run, rest) = stage.run(plan([change("a")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
        let events = stage.events(&run).await;
        assert!(events.iter().any(|event| matches!(event, Event::StepInProgress { .. })), "{events:#?}");
        assert_eq!(stage.load(&run).await.run.steps[&id("a")].attempts, 1, "adopting is no new attempt");
    });
}

#[test]
fn an_effect_that_lands_after_the_timeout_is_found() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::Late(9_900)]);
        let (run, rest) = stage.run(plan([change("a")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
        assert!(!how_seen(&stage, &run).await.is_empty());
    });
}

#[test]
fn an_effect_that_lands_after_it_was_ruled_out_is_found_before_the_next_attempt() {
    on_stage(async |stage| {
        // The first look comes too early and is wrong; the look before the next attempt sees what is so.
        stage.world.acts("a", &[Act::LoseAnswer]).sights("a", &[Sight::NotDone]);
        let (run, rest) = stage.run(plan([change("a")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1, "a second attempt would have acted twice");
        assert_eq!(how_seen(&stage, &run).await, [Seen::Observed]);
    });
}

#[test]
fn what_goes_on_for_ever_is_handed_to_a_person() {
    on_stage(async |stage| {
        stage.world.always("a", Act::LoseRequest).always_sight("a", Sight::InProgress);
        let (run, rest) = stage.run(plan([change("a")])).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert_eq!(stage.state(&run, "a").await, S::Held);
        assert!(stage.world.calls("execute", "a") <= 5, "{} calls", stage.world.calls("execute", "a"));
    });
}

#[test]
fn what_cannot_be_told_or_is_somebody_elses_holds_for_a_person() {
    for sight in [Sight::Foreign, Sight::Unknown, Sight::Error, Sight::Panic, Sight::Hang] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::LoseRequest]).always_sight("a", sight);
            let (run, rest) = stage.run(plan([change("a")])).await;
            assert!(matches!(rest, Rest::Held), "{sight:?}: {rest:?}");
            assert_eq!(stage.state(&run, "a").await, S::Held, "{sight:?}");
            assert_eq!(stage.world.calls("execute", "a"), 1, "{sight:?}: nothing is tried while nobody knows");
            assert_eq!(stage.holder("db").await, Some(run));
        });
    }
}

#[test]
fn a_world_that_cannot_be_asked_for_a_moment_is_asked_again() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::LoseAnswer]).sights("a", &[Sight::Unknown, Sight::Error, Sight::Hang]);
        let (_, rest) = stage.run(plan([change("a")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.calls("observe", "a"), 4);
    });
}

#[test]
fn after_the_death_of_the_process_the_world_is_asked() {
    for (act, times_alive, attempts) in [(Act::HangAfter, 1, 1), (Act::Hang, 0, 2), (Act::Late(20_000), 0, 1)] {
        on_stage(async |stage| {
            stage.world.acts("a", &[act]);
            let name = stage.run_and_kill(plan([change("a"), look("b").after(&["a"])]), 2000).await;
            assert_eq!(stage.world.times("a"), times_alive, "{act:?}");
            assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded, "{act:?}");
            assert_eq!(stage.world.times("a"), 1, "{act:?}");
            assert_eq!(stage.load(&name).await.run.steps[&id("a")].attempts, attempts, "{act:?}");
        });
    }
}

#[test]
fn after_the_death_of_the_process_foreign_and_unknown_hold() {
    for sight in [Sight::Foreign, Sight::Unknown] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::HangAfter]).always_sight("a", sight);
            let name = stage.run_and_kill(plan([change("a")]), 2000).await;
            assert!(matches!(stage.resume(&name).await, Rest::Held));
            assert_eq!(stage.state(&name, "a").await, S::Held);
            assert_eq!(stage.world.calls("execute", "a"), 1);
        });
    }
}

#[test]
fn a_step_that_only_looks_simply_runs_again_after_a_death() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::Hang]);
        let name = stage.run_and_kill(plan([look("a")]), 2000).await;
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.calls("execute", "a"), 2);
    });
}

#[test]
fn a_death_during_an_undo_leads_to_the_undo_again_and_to_the_same_end() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("a", &[crate::world::Back::SucceedAfter(60_000)]);
        let steps = plan([change("a").timeout_ms(120_000), change("bad").after(&["a"])]).failing(OnFailure::Undo);
        let name = stage.run_and_kill(steps, 10_000).await;
        assert_eq!(stage.state(&name, "a").await, S::Undoing);
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
        assert_eq!(stage.undone(), ["a"]);
        assert_eq!(stage.holder("db").await, None);
    });
}

#[test]
fn a_cancelled_run_with_an_unknown_effect_is_stuck_not_cancelled() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::LoseAnswer]).always_sight("a", Sight::Unknown);
        let mut people = once("a", S::Held, cancel(), "ann");
        let (run, rest) = stage.run_with(plan([change("a")]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!(stage.holder("db").await, Some(run));
    });
}

#[test]
fn asking_for_another_attempt_does_not_settle_what_the_last_one_did() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::LoseAnswer]).always_sight("a", Sight::Unknown);
        let (name, rest) = stage.run(plan([change("a")])).await;
        assert!(matches!(rest, Rest::Held));
        stage.steer_at_rest(&name, resolve("a", Resolution::Retry), crate::world::plans::actor("ann")).await.unwrap();
        stage.steer_at_rest(&name, cancel(), crate::world::plans::actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Stuck, "the effect stands, and nobody has said otherwise");
    });
}

#[test]
fn another_attempt_that_a_person_asks_for_begins_with_a_look() {
    on_stage(async |stage| {
        let six = [Sight::Unknown; 6];
        stage.world.acts("a", &[Act::LoseAnswer]).sights("a", &six);
        let mut people = once("a", S::Held, resolve("a", Resolution::Retry), "ann");
        let (_, rest) = stage.run_with(plan([change("a")]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!((stage.world.times("a"), stage.world.calls("execute", "a")), (1, 1));
    });
}

#[test]
fn a_gate_that_refuses_the_second_attempt_holds() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::NotDone]).gates("a", &[Gate::Ready, Gate::Refused]);
        let (name, rest) = stage.run(plan([change("a").tries(3)])).await;
        assert!(matches!(rest, Rest::Held));
        assert_eq!(stage.state(&name, "a").await, S::Held);
        assert_eq!(stage.world.calls("execute", "a"), 1);
    });
}

#[test]
fn a_doubt_outlives_that_a_person_goes_on_without_the_step_or_gives_it_up() {
    for resolution in [Resolution::Skip, Resolution::GiveUp] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::HangAfter]).always_sight("a", Sight::Unknown);
            let name = stage.run_and_kill(plan([change("a")]), 2000).await;
            assert!(matches!(stage.resume(&name).await, Rest::Held));
            stage.steer_at_rest(&name, resolve("a", resolution.clone()), actor("bob")).await.unwrap();
            assert_eq!(stage.resume(&name).await.outcome(), Outcome::Stuck);
            assert!(stage.load(&name).await.run.holds_locks());
        });
    }
}
