//! Drills: they put everything back, prove it by what the peers list before and after, and need nobody to end.

use lifeboat_engine::Event;
use lifeboat_engine::census::{Found, Moment};
use lifeboat_engine::drill;
use lifeboat_engine::journal::{Outcome, Turn};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_runbooks::plan::{OnFailure, Plan};

use crate::world::plans::{Draft, PlanWords, approval, change, look, plan};
use crate::world::stage::{Rest, RestWords, cancel, nobody, on_stage, once};
use crate::world::{Act, Back, Count, Gate};

fn drill_of(steps: impl IntoIterator<Item = Draft>) -> Plan {
    plan(steps).mode("drill")
}

fn why(run: &Run) -> String {
    run.why.clone().unwrap_or_default()
}

#[test]
fn a_drill_that_went_well_undoes_everything_in_reverse_and_succeeds() {
    on_stage(async |stage| {
        stage.world.put("web", "node a", "primary");
        let steps =
            [change("first").on("web"), change("promote").on("web").after(&["first"]).no_return(), look("seen").after(&["promote"])];
        let (name, rest) = stage.run(drill_of(steps)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let undone: Vec<String> = stage.world.undone().into_iter().map(|(_, step)| step.to_string()).collect();
        assert_eq!(undone, ["promote", "first"]);
        let run = stage.load(&name).await.run;
        assert_eq!(run.turn.as_ref().map(|(turn, _)| turn), Some(&Turn::DrillEnded));
        let compared = drill::comparison(&run).unwrap();
        assert!(compared.is_clean() && compared.same == 1, "{compared:?}");
        assert_eq!(stage.holder("web").await, None);
    });
}

#[test]
fn the_peers_are_listed_before_the_first_step_and_after_the_last_undo() {
    on_stage(async |stage| {
        let (name, _) = stage.run(drill_of([change("a").on("web")]).finally([look("last")])).await;
        let events = stage.events(&name).await;
        let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
        let before = place(&|event| matches!(event, Event::PeersListed { moment: Moment::Before, .. }));
        let after = place(&|event| matches!(event, Event::PeersListed { moment: Moment::After, .. }));
        assert!(before < place(&|event| matches!(event, Event::StepStarted { .. })));
        assert!(after > place(&|event| matches!(event, Event::UndoSucceeded { .. })));
        let last = events.iter().rposition(|event| matches!(event, Event::StepSucceeded { .. })).unwrap();
        assert!(after > last, "a final step may still change something");
        assert_eq!(after + 1, place(&|event| matches!(event, Event::RunEnded { .. })));
    });
}

#[test]
fn what_a_drill_leaves_behind_makes_it_fail_and_is_named() {
    on_stage(async |stage| {
        let world = stage.world.clone();
        let mut people = move |run: &Run| {
            if run.listed_before.is_some() {
                world.put("web", "slot forgotten", "physical");
            }
            None
        };
        let (name, rest) = stage.run_with(drill_of([change("a").on("web")]), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        let run = stage.load(&name).await.run;
        assert!(why(&run).contains("slot forgotten of web is \"physical\" and was not there"), "{}", why(&run));
        assert_eq!(drill::comparison(&run).unwrap().differences.len(), 1);
    });
}

#[test]
fn a_drill_that_cannot_be_listed_first_does_nothing() {
    for count in [Count::Error, Count::Panic, Count::Hang] {
        on_stage(async |stage| {
            stage.world.counts(&[count]);
            let (name, rest) = stage.run(drill_of([change("a").on("web")])).await;
            assert_eq!(rest.outcome(), Outcome::Failed, "{count:?}");
            assert_eq!((stage.world.times("a"), stage.world.calls("prepare", "a")), (0, 0));
            let run = stage.load(&name).await.run;
            assert!(why(&run).contains("cannot be listed"), "{}", why(&run));
        });
    }
}

#[test]
fn a_drill_that_cannot_be_listed_last_is_not_green() {
    for count in [Count::Error, Count::Panic, Count::Hang, Count::Unlisted] {
        on_stage(async |stage| {
            stage.world.counts(&[Count::Truth, count]);
            let (name, rest) = stage.run(drill_of([change("a").on("web")])).await;
            assert_eq!(rest.outcome(), Outcome::Failed, "{count:?}");
            assert!(!stage.world.stands("a"), "it is undone nevertheless");
            assert!(!drill::comparison(&stage.load(&name).await.run).unwrap().is_clean());
        });
    }
}

#[test]
fn what_no_step_type_lists_rests_on_its_undo() {
    on_stage(async |stage| {
        stage.world.counts(&[Count::Unlisted, Count::Unlisted, Count::Unlisted, Count::Unlisted]);
        let (name, rest) = stage.run(drill_of([change("a").on("web")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(drill::comparison(&stage.load(&name).await.run).unwrap().unlisted.len(), 1);
        // One that stays is left behind, whether or not anybody lists it.
        let (name, rest) = stage.run(drill_of([change("b").on("web").stays()])).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        let run = stage.load(&name).await.run;
        assert!(why(&run).contains("the effect of b on web was not taken back"), "{}", why(&run));
    });
}

#[test]
fn a_step_that_stays_is_listed_as_left_behind() {
    on_stage(async |stage| {
        let (name, rest) = stage.run(drill_of([change("a").on("web"), change("kept").on("web").stays()])).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        let run = stage.load(&name).await.run;
        assert!(why(&run).contains("is \"there\" and was not there"), "{}", why(&run));
        assert_eq!(stage.state(&name, "a").await, S::Undone);
        assert_eq!(stage.holder("web").await, None);
    });
}

#[test]
fn a_drill_whose_step_fails_is_held_or_refused_turns_back_by_itself() {
    on_stage(async |stage| {
        stage.world.always("b", Act::Hopeless);
        let (_, rest) = stage.run(drill_of([change("a").on("web"), change("b").on("web").after(&["a"])])).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        assert!(!stage.world.stands("a"));
    });
    on_stage(async |stage| {
        stage.world.gates("b", &[Gate::Refused]);
        let (name, rest) = stage.run(drill_of([change("a").on("web"), change("b").on("web").after(&["a"])])).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        assert!(!stage.world.stands("a"));
        let run = stage.load(&name).await.run;
        assert!(why(&run).contains("b (its gate says no"), "{}", why(&run));
    });
    on_stage(async |stage| {
        // Nobody answers in the night: silence is a no, and the drill is over.
        let (name, rest) = stage.run(drill_of([change("a").on("web"), approval("ask", 1).after(&["a"])])).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        assert_eq!(stage.state(&name, "a").await, S::Undone);
    });
}

#[test]
fn a_step_of_a_drill_that_says_hold_waits_for_a_person() {
    on_stage(async |stage| {
        stage.world.always("b", Act::Hopeless);
        let steps = [change("a").on("web"), change("b").on("web").after(&["a"]).on_failure(OnFailure::Hold)];
        let (name, rest) = stage.run(drill_of(steps)).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert!(stage.world.stands("a"));
        stage.steer_at_rest(&name, cancel(), crate::world::plans::actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
        assert!(!stage.world.stands("a"));
    });
}

#[test]
fn an_undo_that_fails_in_a_drill_leaves_it_stuck_with_its_locks() {
    on_stage(async |stage| {
        stage.world.backs("a", &[Back::Fail]);
        let (name, rest) = stage.run(drill_of([change("a").on("web")])).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!(stage.holder("web").await, Some(name.clone()));
        let compared = drill::comparison(&stage.load(&name).await.run).unwrap();
        assert_eq!(compared.differences.len(), 1, "what is left is listed in a stuck drill too");
    });
}

#[test]
fn a_drill_killed_anywhere_puts_everything_back_and_lists_it() {
    for after_ms in (100..9000).step_by(300) {
        on_stage(async |stage| {
            let steps = || drill_of([change("a").on("web"), change("b").on("web").after(&["a"])]);
            let admitted = stage.admit(steps()).await;
            let name = admitted.run.id.clone();
            let (executor, handle) = lifeboat_engine::executor::Executor::new(stage.ports(), stage.owner(), admitted.run, admitted.next);
            let rest = stage.attend(executor, handle, &mut nobody, std::time::Duration::from_millis(after_ms)).await;
            let outcome = if let Rest::Killed = rest { stage.resume(&name).await.outcome() } else { rest.outcome() };
            assert_eq!(outcome, Outcome::Succeeded, "killed after {after_ms} ms");
            assert!(!stage.world.stands("a") && !stage.world.stands("b"));
            let run = stage.load(&name).await.run;
            let found = |listings: &Option<Vec<lifeboat_engine::census::Listing>>| {
                listings.iter().flatten().all(|listing| matches!(listing.found, Found::Things(_)))
            };
            assert!(found(&run.listed_before) && found(&run.listed_after));
        });
    }
}

#[test]
fn a_cancelled_drill_is_undone() {
    on_stage(async |stage| {
        stage.world.always("b", Act::Hang);
        let steps = [change("a").on("web"), change("b").on("web").after(&["a"])];
        let (_, rest) = stage.run_with(drill_of(steps), &mut once("b", S::Running, cancel(), "ann")).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert!(!stage.world.stands("a"));
    });
}

#[test]
fn a_run_that_is_no_drill_lists_nothing_and_keeps_its_effects() {
    on_stage(async |stage| {
        let (name, rest) = stage.run(plan([change("a").on("web")])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert!(stage.world.stands("a"));
        assert!(stage.events(&name).await.iter().all(|event| !matches!(event, Event::PeersListed { .. })));
    });
}
