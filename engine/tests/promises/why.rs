//! `why`: what it foretells of a decision is what the run then does, and who can act is who is let act.

use lifeboat_engine::foresee::foresee;
use lifeboat_engine::journal::{Outcome, Resolution, RunId};
use lifeboat_engine::run::StepState as S;
use lifeboat_engine::steering::Command;
use lifeboat_engine::why::explain;
use lifeboat_runbooks::plan::{OnFailure, Plan};
use serde_json::json;

use crate::world::plans::{PlanWords, actor, approval, change, id, look, plan};
use crate::world::stage::{Rest, RestWords, Stage, approve, cancel, deny, on_stage, resolve};
use crate::world::{Act, Gate};

/// `b` is held by its gate once; `a` was done before it.
fn holding(rule: OnFailure) -> Plan {
    let steps =
        [change("a"), change("b").on("dns").after(&["a"]), look("c").after(&["b"]), look("d").when("mode == 'other'").after(&["c"])];
    plan(steps).failing(rule).finally([look("last")])
}

async fn held(stage: &Stage, plan: Plan) -> RunId {
    stage.world.gates("b", &[Gate::Refused]);
    let (name, rest) = stage.run(plan).await;
    assert!(matches!(rest, Rest::Held), "{rest:?}");
    name
}

#[test]
fn what_is_foreseen_of_a_decision_is_what_then_happens() {
    for rule in [OnFailure::Hold, OnFailure::Undo, OnFailure::Abort] {
        for command in [resolve("b", Resolution::Retry), resolve("b", Resolution::Skip), resolve("b", Resolution::GiveUp), cancel()] {
            on_stage(async |stage| {
                let name = held(&stage, holding(rule)).await;
                let run = stage.load(&name).await.run;
                let entries = run.entries;
                let seen = foresee(&run, &command, &actor("ann"), &stage.ports()).unwrap();
                assert_eq!(stage.load(&name).await.run.entries, entries, "foreseeing writes nothing");
                let before = stage.world.all_calls().len();
                stage.steer_at_rest(&name, command.clone(), actor("ann")).await.unwrap();
                let rest = stage.resume(&name).await;
                assert_eq!(seen.ends, Some(rest.outcome()), "{rule:?}, {command:?}: {seen:?}");
                let calls = stage.world.all_calls().split_off(before);
                let made =
                    |what: &str| -> Vec<String> { calls.iter().filter(|call| call.what == what).map(|call| call.step.clone()).collect() };
                let named = |ids: &[lifeboat_engine::StepId]| -> Vec<String> { ids.iter().map(ToString::to_string).collect() };
                assert_eq!(named(&seen.starts), made("execute"), "{rule:?}, {command:?}");
                assert_eq!(named(&seen.undone), made("undo"), "{rule:?}, {command:?}");
                let run = stage.load(&name).await.run;
                for (ids, state) in [(&seen.skipped, S::Skipped), (&seen.undone, S::Undone)] {
                    assert!(ids.iter().all(|step| run.state(step) == state), "{rule:?}, {command:?}: {seen:?}");
                }
            });
        }
    }
}

#[test]
fn what_a_no_leads_to_is_foreseen_too() {
    on_stage(async |stage| {
        let plan = plan([change("a"), approval("ask", 1).after(&["a"]), change("b").after(&["ask"])]).failing(OnFailure::Undo);
        let name = stage.run_and_kill(plan, 4000).await;
        assert_eq!(stage.state(&name, "ask").await, S::AwaitingApproval);
        let run = stage.load(&name).await.run;
        let seen = foresee(&run, &deny("ask"), &actor("ann"), &stage.ports()).unwrap();
        assert_eq!((seen.undone, seen.not_run, seen.ends), (vec![id("a")], vec![id("b")], Some(Outcome::Undone)));
        let seen = foresee(&run, &approve("ask"), &actor("ann"), &stage.ports()).unwrap();
        assert_eq!((seen.starts, seen.ends), (vec![id("b")], Some(Outcome::Succeeded)));
        stage.steer_at_rest(&name, deny("ask"), actor("ann")).await.unwrap();
        assert_eq!(stage.resume(&name).await.outcome(), Outcome::Undone);
    });
}

#[test]
fn who_can_answer_is_told_by_name_and_so_is_why_others_cannot() {
    on_stage(async |stage| {
        let name = stage.run_and_kill(plan([approval("ask", 2)]), 1000).await;
        stage.steer_at_rest(&name, approve("ask"), actor("ann")).await.unwrap();
        let why = explain(&stage.load(&name).await.run, None, &stage.ports());
        let [step] = &why.steps[..] else { panic!("{why:?}") };
        let cannot: Vec<(&str, bool)> = step.people.iter().map(|person| (person.name.as_str(), person.cannot.is_some())).collect();
        assert_eq!(cannot, [("ann", true), ("bob", false), ("cyd", true), ("dan", false), ("sam", true)]);
        assert_eq!(step.because, ["1 of 2 people with the role dba said yes (ann)"]);
        let commands: Vec<&str> = step.choices.iter().map(|choice| choice.command.split(' ').next().unwrap()).collect();
        assert_eq!(commands, ["approve", "deny"]);
    });
}

#[test]
fn a_step_that_was_left_out_is_told_with_the_values_that_its_condition_read() {
    on_stage(async |stage| {
        let steps = [look("loss").says(json!(3)), change("a").when("mode == 'failover' && steps.loss.outputs.said > 5").after(&["loss"])];
        let (name, rest) = stage.run(plan(steps)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let why = explain(&stage.load(&name).await.run, Some(&id("a")), &stage.ports());
        assert_eq!(why.steps[0].values, [("mode".to_owned(), json!("failover")), ("steps.loss.outputs.said".to_owned(), json!(3))]);
        assert_eq!(why.choices, [], "nothing can be decided about a run that has ended");
    });
}

#[test]
fn a_paused_run_and_a_stuck_one_say_what_lets_them_go_on() {
    on_stage(async |stage| {
        let name = stage.admit(plan([change("a")])).await.run.id;
        stage.steer_at_rest(&name, Command::Pause { comment: "a look first".into() }, actor("ann")).await.unwrap();
        let why = explain(&stage.load(&name).await.run, None, &stage.ports());
        assert_eq!(why.steps[0].because, ["the run is paused by ann: a look first"]);
        let go_on = why.choices.iter().find(|choice| choice.command.starts_with("continue")).unwrap();
        assert_eq!((go_on.then.starts.clone(), go_on.then.ends), (vec![id("a")], Some(Outcome::Succeeded)));
    });
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless).backs("a", &[crate::world::Back::Fail]);
        let (name, rest) = stage.run(plan([change("a"), change("bad").after(&["a"])]).failing(OnFailure::Undo)).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        let why = explain(&stage.load(&name).await.run, Some(&id("a")), &stage.ports());
        let choices: Vec<(&str, Option<Outcome>)> =
            why.steps[0].choices.iter().map(|choice| (choice.command.rsplit(' ').next().unwrap(), choice.then.ends)).collect();
        assert_eq!(choices, [("retry", Some(Outcome::Undone)), ("done", Some(Outcome::Undone))]);
    });
}
