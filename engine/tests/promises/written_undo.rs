//! An undo that the runbook writes is made as a step is: gated, journaled with its intent before it acts, observed after a crash, stopped by
//! freezes of what it acts on, and held within the locks of its run.

use lifeboat_engine::Effect;
use lifeboat_engine::admission;
use lifeboat_engine::census::{Subject, subjects};
use lifeboat_engine::freeze;
use lifeboat_engine::journal::{Event, Outcome, Resolution, UndoAct};
use lifeboat_engine::resume::ResumeError;
use lifeboat_engine::run::StepState as S;
use lifeboat_runbooks::plan::{OnFailure, Plan};
use serde_json::json;

use crate::world::plans::{Draft, PlanWords, actor, change, look, note, plan};
use crate::world::stage::{RestWords, Stage, on_stage, resolve};
use crate::world::{Act, Back, Gate, Sight};

/// What takes `first` back: it acts on `dns`, and says what the step gave.
fn undo() -> Draft {
    change("undo").on("dns").says(json!("${{ outputs.said }} of ${{ mode }}"))
}

/// `first` is taken back by what is written, because `bad` fails.
fn turning_back() -> Plan {
    let first = change("first").says(json!("token")).tries(3).undone_by(undo());
    plan([first, change("bad").on("web").after(&["first"])]).failing(OnFailure::Undo)
}

async fn acts(stage: &Stage, name: &lifeboat_engine::RunId) -> Vec<UndoAct> {
    let act = |event| if let Event::UndoStarted { act: Some(act), .. } = event { Some(*act) } else { None };
    stage.events(name).await.into_iter().filter_map(act).collect()
}

#[test]
fn what_is_written_takes_the_step_back_with_what_the_step_gave() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let (name, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!((stage.world.calls("undo", "first"), stage.world.stands("first")), (1, false));
        let acts = acts(&stage, &name).await;
        assert_eq!(acts.len(), 1);
        assert_eq!(acts[0].with, json!({ "on": "dns", "say": "token of failover" }));
        assert_eq!(acts[0].intent["key"], json!(format!("{name}-first-undo")), "it goes by a name of its own, not by the step's");
    });
}

#[test]
fn what_an_undo_acts_on_is_locked_from_the_beginning_and_listed_in_a_drill() {
    let locks: Vec<(String, Effect)> = admission::locks(&turning_back()).into_iter().map(|lock| (lock.resource, lock.effect)).collect();
    let wanted = [("db", Effect::Change), ("dns", Effect::Change), ("web", Effect::Change)];
    assert_eq!(locks, wanted.map(|(resource, effect)| (resource.to_owned(), effect)));
    let listed = Subject { resource: "dns".into(), step_type: "change".into() };
    assert!(subjects(&turning_back()).contains(&listed));
}

#[test]
fn an_undo_that_is_refused_at_its_gate_leaves_the_effect_and_a_person_can_have_it_tried_again() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).undo_gates("first", &[Gate::Refused, Gate::Refused]);
        let (name, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!((stage.state(&name, "first").await, stage.world.calls("undo", "first")), (S::UndoFailed, 0));
        let why = stage.load(&name).await.run.why.unwrap();
        assert!(why.contains("could not be taken back by its undo (change back) and stands still: its gate says no"), "{why}");
        for (outcome, undos) in [(Outcome::Stuck, 0), (Outcome::Undone, 1)] {
            stage.steer_at_rest(&name, resolve("first", Resolution::Retry), actor("ann")).await.unwrap();
            assert_eq!(stage.resume(&name).await.outcome(), outcome);
            assert_eq!(stage.world.calls("undo", "first"), undos);
        }
    });
}

#[test]
fn an_undo_cut_short_by_a_crash_is_looked_at_and_only_repeated_where_it_was_not_done() {
    for (back, undos) in [(Back::HangAfter, 1), (Back::Hang, 2)] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("first", &[back]);
            let name = stage.run_and_kill(turning_back(), 6000).await;
            assert_eq!(stage.state(&name, "first").await, S::Undoing);
            assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone, "{back:?}");
            assert_eq!(stage.world.calls("undo", "first"), undos, "{back:?}");
            let acts = acts(&stage, &name).await;
            assert!(acts.iter().all(|act| act.with["say"] == "token of failover"), "{acts:?}");
        });
    }
}

#[test]
fn a_lost_answer_is_looked_at_and_what_may_pass_is_tried_again() {
    for (back, undos) in [(Back::LoseAnswer, 1), (Back::LoseRequest, 2), (Back::NotDone, 2), (Back::Panic, 2)] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("first", &[back]);
            let (_, rest) = stage.run(turning_back()).await;
            assert_eq!(rest.outcome(), Outcome::Undone, "{back:?}");
            assert_eq!((stage.world.calls("undo", "first"), stage.world.stands("first")), (undos, false), "{back:?}");
        });
    }
}

#[test]
fn an_undo_that_goes_on_by_itself_is_adopted_and_one_that_nobody_can_judge_is_left_to_a_person() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("first", &[Back::LoseRequest]).sights("first", &[Sight::InProgress]);
        let (name, rest) = stage.run(turning_back()).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        let acts = acts(&stage, &name).await;
        assert_eq!((acts.len(), acts[0].intent["attempt"].clone()), (2, acts[1].intent["attempt"].clone()), "with the intent that it had");
    });
    for sight in [Sight::Unknown, Sight::Foreign, Sight::Error] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).backs("first", &[Back::LoseAnswer]).always_sight("first", sight);
            let (name, rest) = stage.run(turning_back()).await;
            assert_eq!((rest.outcome(), stage.state(&name, "first").await), (Outcome::Stuck, S::UndoFailed), "{sight:?}");
            assert_eq!(stage.world.calls("undo", "first"), 1, "{sight:?}");
        });
    }
}

#[test]
fn a_freeze_of_what_the_undo_acts_on_stops_it_and_not_the_step() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        freeze::freeze(&stage.ports(), Some("dns".into()), &actor("ann"), "hands off").await.unwrap();
        let name = stage.run_and_kill(turning_back(), 600_000).await;
        assert_eq!((stage.state(&name, "first").await, stage.world.calls("undo", "first")), (S::Succeeded, 0));
        assert_eq!(acts(&stage, &name).await, []);
        freeze::unfreeze(&stage.ports(), Some("dns".into()), &actor("ann"), "go on").await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
        assert_eq!(stage.world.calls("undo", "first"), 1);
    });
}

#[test]
fn a_drill_does_not_take_back_on_what_is_closed_to_drills() {
    on_stage(async |stage| {
        let first = change("first").on("web").undone_by(change("undo").on("db"));
        let (name, rest) = stage.run(plan([first]).mode("drill")).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!(stage.world.calls("undo", "first"), 0);
        let why = stage.load(&name).await.run.why.unwrap();
        assert!(why.contains("the inventory does not open db to drills"), "{why}");
    });
}

#[test]
fn a_step_that_grips_nothing_by_name_is_taken_back_where_that_is_written() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let first = note("first").undone_by(change("undo").on("dns"));
        let (name, rest) = stage.run(plan([first, look("bad").after(&["first"])]).failing(OnFailure::Undo)).await;
        assert_eq!((rest.outcome(), stage.state(&name, "first").await), (Outcome::Undone, S::Undone));
        assert_eq!(stage.world.calls("undo", "first"), 1);
    });
}

#[test]
fn a_run_whose_undo_needs_another_version_is_not_taken_over() {
    on_stage(async |stage| {
        let first = change("first").undone_by(change("undo").version(9));
        let name = stage.run_and_kill(plan([first, look("after").after(&["first"])]), 100).await;
        let refused = stage.claim(&name).await;
        assert!(matches!(refused, Err(ResumeError::OtherVersion { wanted: 9, .. })), "{refused:?}");
        assert_eq!(stage.load(&name).await.run.claims, 0);
    });
}

#[test]
fn an_expression_without_an_answer_leaves_the_effect_to_a_person() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let first = change("first").undone_by(change("undo").says(json!("${{ outputs.nothing }}")));
        let (name, rest) = stage.run(plan([first, look("bad").after(&["first"])]).failing(OnFailure::Undo)).await;
        assert_eq!((rest.outcome(), stage.state(&name, "first").await), (Outcome::Stuck, S::UndoFailed));
        assert_eq!(stage.world.calls("undo", "first"), 0);
    });
}
