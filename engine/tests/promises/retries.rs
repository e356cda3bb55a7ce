//! Which errors lead to another attempt.

use lifeboat_engine::journal::Outcome;
use lifeboat_engine::run::StepState as S;
use lifeboat_runbooks::plan::ErrorClass;

use crate::world::plans::{change, plan};
use crate::world::stage::{Rest, RestWords, on_stage};
use crate::world::{Act, Gate};

#[test]
fn a_refusal_is_tried_again_only_where_the_runbook_says_so() {
    for (classes, tries, wanted) in [(None, 1, S::Failed), (Some([ErrorClass::Refused]), 2, S::Succeeded)] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::Refused, Act::Succeed]);
            let step = change("a").tries(3);
            let (run, _) = stage.run(plan([classes.map_or(step.clone(), |classes| step.tries_on(&classes))])).await;
            assert_eq!(stage.state(&run, "a").await, wanted);
            assert_eq!(stage.world.calls("execute", "a"), tries);
        });
    }
}

#[test]
fn a_gate_that_says_no_is_asked_again_only_where_the_runbook_says_so() {
    for (classes, asked, wanted) in [(None, 1, S::Held), (Some([ErrorClass::Refused]), 3, S::Succeeded)] {
        on_stage(async |stage| {
            stage.world.gates("a", &[Gate::Refused, Gate::Refused, Gate::Ready]);
            let step = change("a").tries(3);
            let (run, _) = stage.run(plan([classes.map_or(step.clone(), |classes| step.tries_on(&classes))])).await;
            assert_eq!(stage.state(&run, "a").await, wanted);
            assert_eq!(stage.world.calls("prepare", "a"), asked);
        });
    }
}

#[test]
fn an_error_that_is_left_out_is_not_tried_again() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::NotDone, Act::Succeed]);
        let (run, rest) = stage.run(plan([change("a").tries(3).tries_on(&[ErrorClass::InDoubt])])).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert_eq!((stage.state(&run, "a").await, stage.world.calls("execute", "a")), (S::Failed, 1));
    });
}

#[test]
fn a_lost_request_is_observed_first_and_tried_again_unless_the_runbook_leaves_it_out() {
    for (classes, tries, wanted) in [(vec![ErrorClass::NotDone], 1, S::Failed), (ErrorClass::ALL.to_vec(), 2, S::Succeeded)] {
        on_stage(async |stage| {
            stage.world.acts("a", &[Act::LoseRequest, Act::Succeed]);
            let (run, _) = stage.run(plan([change("a").tries(3).tries_on(&classes)])).await;
            assert_eq!(stage.state(&run, "a").await, wanted);
            assert_eq!(stage.world.calls("execute", "a"), tries);
            assert!(stage.world.calls("observe", "a") >= 1, "nothing is tried again without a look");
        });
    }
}

#[test]
fn a_lost_answer_is_never_done_twice_whatever_the_classes() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::LoseAnswer]);
        let (_, rest) = stage.run(plan([change("a").tries(5).tries_on(&ErrorClass::ALL)])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("a"), 1);
    });
}
