//! Undo is made as carefully as an act: observed when in doubt, tried again when it may help, and left to a person with words that say
//! what is left behind.

use lifeboat_engine::history;
use lifeboat_engine::journal::{Event, Outcome, Resolution, RunId};
use lifeboat_engine::resume::RestError;
use lifeboat_engine::run::{RunPhase, StepState as S};
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::{OnFailure, Plan};
use serde_json::json;

use crate::world::plans::{PlanWords, actor, change, id, look, plan};
use crate::world::stage::{RestWords, Stage, on_stage, resolve};
use crate::world::{Act, Back, Sight};

/// `first` is undone because `bad` fails.
fn turning_back() -> Plan {
    plan([change("first").tries(3), change("bad").after(&["first"])]).failing(OnFailure::Undo)
}

fn done() -> Resolution {
    Resolution::Done { outputs: json!({}) }
}

#[test]
fn an_undo_whose_answer_was_lost_is_looked_at_and_not_repeated_where_it_worked() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).always_back("first", Back::LoseAnswer);
        let (name, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!(stage.world.calls("undo", "first"), 1, "it was repeated although it had worked");
        assert_eq!(stage.world.calls("observe", "first"), 1);
        assert_eq!(stage.state(&name, "first").await, S::Undone);
    });
}

#[test]
fn an_undo_that_never_arrived_is_repeated() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("first", &[Back::LoseRequest]);
        let (_, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!((stage.world.calls("undo", "first"), stage.world.stands("first")), (2, false));
    });
}

#[test]
fn an_undo_cut_short_by_a_crash_is_looked_at_first() {
    for (back, undos) in [(Back::HangAfter, 1), (Back::Hang, 2)] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("first", &[back]);
            let name = stage.run_and_kill(turning_back(), 5000).await;
            assert_eq!(stage.state(&name, "first").await, S::Undoing);
            assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone, "{back:?}");
            assert_eq!(stage.world.calls("undo", "first"), undos, "{back:?}");
        });
    }
}

#[test]
fn an_undo_that_may_pass_is_tried_as_often_as_the_step_may_be() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("first", &[Back::NotDone, Back::NotDone]);
        let (name, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!(stage.world.calls("undo", "first"), 3);
        let events = stage.events(&name).await;
        assert_eq!(events.iter().filter(|event| matches!(event, Event::UndoNotDone { .. })).count(), 2);
    });
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).always_back("first", Back::NotDone);
        let (_, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!(stage.world.calls("undo", "first"), 3, "no more often than its retry allows");
    });
}

#[test]
fn an_undo_that_nobody_can_judge_is_not_repeated_blindly() {
    for sight in [Sight::Unknown, Sight::Foreign, Sight::Error] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("first", &[Back::LoseAnswer]).always_sight("first", sight);
            let (name, rest) = stage.run(turning_back()).await;
            assert_eq!(rest.outcome(), Outcome::Stuck, "{sight:?}");
            assert_eq!(stage.world.calls("undo", "first"), 1, "{sight:?}");
            assert_eq!(stage.state(&name, "first").await, S::UndoFailed);
        });
    }
}

/// A run that ended stuck over the undo of `promote`, which stands on `fence`; `apart` was undone.
async fn stuck(stage: &Stage) -> RunId {
    stage.world.always("bad", Act::Hopeless).backs("promote", &[Back::Fail]);
    let steps = [
        change("fence"),
        change("promote").after(&["fence"]),
        change("apart").on("dns"),
        change("bad").on("web").after(&["promote", "apart"]),
    ];
    let mut plan = plan(steps).failing(OnFailure::Undo).finally([look("last")]);
    plan.steps[1].preview = "promote us-west-2".into();
    let (name, rest) = stage.run(plan).await;
    assert_eq!(rest.outcome(), Outcome::Stuck);
    name
}

#[test]
fn a_stuck_run_says_what_is_left_behind_and_who_can_do_what() {
    on_stage(async |stage| {
        let name = stuck(&stage).await;
        let why = stage.load(&name).await.run.why.unwrap();
        for part in [
            "the effect of promote on db (promote us-west-2) could not be taken back and stands still: it cannot be taken back",
            "fence stays done beneath it",
            "keeps its locks on db, dns, web",
            &format!("lifeboat resolve {name} promote retry"),
            &format!("lifeboat resolve {name} promote done"),
        ] {
            assert!(why.contains(part), "{part:?} is missing in {why:?}");
        }
        assert!(!why.contains("apart"), "{why:?}");
    });
}

#[test]
fn what_a_stuck_run_left_behind_is_tried_again_or_called_done_by_a_person() {
    for (resolution, undos) in [(Resolution::Retry, 2), (done(), 1)] {
        on_stage(async |stage| {
            let name = stuck(&stage).await;
            let open = || async { history::open_runs(&stage.memory).await.unwrap() };
            assert!(open().await.is_empty());
            stage.steer_at_rest(&name, resolve("promote", resolution.clone()), actor("ann")).await.unwrap();
            let run = stage.load(&name).await.run;
            assert_eq!((run.phase, run.outcome, run.holds_locks()), (RunPhase::Unwinding, None, true));
            assert_eq!(open().await, std::slice::from_ref(&name), "a run that was taken up again is found by resume");
            assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
            assert_eq!(stage.world.calls("undo", "promote"), undos);
            assert!(!stage.world.stands("fence"), "what it stood on is undone after it");
            assert_eq!(stage.world.calls("execute", "last"), 1, "final steps run once");
            assert_eq!(stage.holder("db").await, None);
            assert!(open().await.is_empty());
        });
    }
}

#[test]
fn only_a_failed_undo_takes_a_run_up_again_and_only_while_it_has_its_locks() {
    on_stage(async |stage| {
        let name = stuck(&stage).await;
        let refused =
            async |step: &str, resolution: Resolution| match stage.steer_at_rest(&name, resolve(step, resolution), actor("ann")).await {
                Err(RestError::Refused(SteerError::NotNow(_))) => {}
                other => panic!("{step} was not refused: {other:?}"),
            };
        refused("bad", Resolution::Retry).await;
        refused("fence", Resolution::Retry).await;
        refused("promote", Resolution::Skip).await;
        stage.steer_at_rest(&name, Command::Release { comment: "mended by hand".into() }, actor("ann")).await.unwrap();
        refused("promote", Resolution::Retry).await;
        refused("promote", done()).await;
        assert_eq!(stage.load(&name).await.run.state(&id("promote")), S::UndoFailed);
    });
}
