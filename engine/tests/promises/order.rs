//! Order, branches, conditions, retries, timeouts and the ways a run ends, without crashes.

use lifeboat_engine::journal::{Event, Outcome, Resolution};
use lifeboat_engine::run::StepState as S;
use lifeboat_runbooks::plan::OnFailure;
use serde_json::json;

use crate::world::plans::{PlanWords, approval, change, look, note, plan, poke};
use crate::world::stage::{Rest, RestWords, cancel, deny, on_stage, once, resolve};
use crate::world::{Act, Back, Gate, Sight};

#[test]
fn a_chain_runs_in_order_and_every_effect_follows_its_durable_intent() {
    on_stage(async |stage| {
        let (run, rest) = stage.run(plan([look("a"), change("b").after(&["a"]), note("c").after(&["b"])])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.times("b"), 1);
        let order: Vec<String> = stage.world.all_calls().into_iter().filter(|call| call.what == "execute").map(|call| call.step).collect();
        assert_eq!(order, ["a", "b", "c"]);
        assert_eq!(stage.holder("db").await, None, "{run} gave its lock back");
    });
}

#[test]
fn branches_run_side_by_side() {
    on_stage(async |stage| {
        let steps = [change("left"), change("right").on("dns"), look("join").after(&["left", "right"])];
        let (_, rest) = stage.run(plan(steps)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let calls = stage.world.all_calls();
        let span = |step: &str| {
            let call = calls.iter().find(|call| call.what == "execute" && call.step == step).unwrap();
            (call.began, call.ended.unwrap())
        };
        let (left, right, join) = (span("left"), span("right"), span("join"));
        assert!(left.0 < right.1 && right.0 < left.1, "{left:?} and {right:?} do not overlap");
        assert!(join.0 >= left.1 && join.0 >= right.1, "the join began before both branches were done");
    });
}

#[test]
fn a_step_skipped_by_its_own_condition_satisfies_those_that_need_it() {
    on_stage(async |stage| {
        let steps = [
            look("ask").says(json!("no")),
            change("skipped").after(&["ask"]).when("steps.ask.outputs.said == 'yes'"),
            change("next").after(&["skipped"]).when("steps.skipped.state == 'skipped'"),
        ];
        let (run, rest) = stage.run(plan(steps)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.state(&run, "skipped").await, S::Skipped);
        assert_eq!((stage.world.times("skipped"), stage.world.times("next")), (0, 1));
    });
}

#[test]
fn a_condition_without_an_answer_holds_and_is_never_taken_for_false() {
    on_stage(async |stage| {
        let steps = [look("ask"), change("maybe").after(&["ask"]).when("steps.ask.outputs.nope == 'yes'")];
        let (run, rest) = stage.run(plan(steps)).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert_eq!(stage.state(&run, "maybe").await, S::Held);
        assert_eq!(stage.world.calls("prepare", "maybe"), 0);
        assert_eq!(stage.holder("db").await, Some(run), "a held run keeps its locks");
    });
}

#[test]
fn parameters_without_an_answer_hold_too() {
    on_stage(async |stage| {
        let steps = [look("ask"), change("maybe").after(&["ask"]).says(json!("${{ steps.ask.outputs.nope }}"))];
        let (run, _) = stage.run(plan(steps)).await;
        assert_eq!(stage.state(&run, "maybe").await, S::Held);
        assert_eq!(stage.world.calls("execute", "maybe"), 0);
    });
}

#[test]
fn outputs_reach_the_parameters_of_later_steps() {
    on_stage(async |stage| {
        let steps = [look("ask").says(json!(42)), look("echo").after(&["ask"]).says(json!("${{ steps.ask.outputs.said }}"))];
        let (run, rest) = stage.run(plan(steps)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let echo = stage.load(&run).await.run.steps[&crate::world::plans::id("echo")].value.clone().unwrap();
        assert_eq!(echo["said"], json!(42));
    });
}

#[test]
fn a_failure_that_may_pass_is_tried_again_after_its_backoff() {
    on_stage(async |stage| {
        stage.world.acts("a", &[Act::NotDone, Act::NotDone]);
        let (run, rest) = stage.run(plan([change("a").tries(3)])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.calls("execute", "a"), 3);
        let loaded = stage.load(&run).await;
        let mut dues = Vec::new();
        for (entry, later) in loaded.entries.iter().zip(&loaded.entries[1..]) {
            if let Event::StepFailed { retry_at: Some(due), .. } = &entry.event {
                assert!(later.at >= *due, "the next attempt began before it was due");
                dues.push(due.duration_since(entry.at).as_millis());
            }
        }
        assert_eq!(dues.len(), 2);
        assert!((500..=1000).contains(&dues[0]) && (1000..=2000).contains(&dues[1]), "{dues:?}");
        assert_eq!(stage.world.calls("observe", "a"), 2, "every further attempt begins with a look");
    });
}

#[test]
fn a_hopeless_failure_is_not_tried_again() {
    on_stage(async |stage| {
        for (step, act) in [("a", Act::Hopeless), ("b", Act::Refused)] {
            stage.world.always(step, act);
        }
        let (run, rest) = stage.run(plan([change("a").tries(5), change("b").on("dns").tries(5)])).await;
        assert!(matches!(rest, Rest::Held));
        assert_eq!(stage.state(&run, "a").await, S::Failed);
        assert_eq!(stage.state(&run, "b").await, S::Failed);
        assert_eq!(stage.world.calls("execute", "a") + stage.world.calls("execute", "b"), 2);
    });
}

#[test]
fn a_gate_out_of_reach_is_asked_as_often_as_retries_allow() {
    on_stage(async |stage| {
        stage.world.gates("a", &[Gate::NotDone, Gate::NotDone]);
        let (_, rest) = stage.run(plan([change("a").tries(3)])).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        assert_eq!(stage.world.calls("prepare", "a"), 3);
    });
}

#[test]
fn a_gate_that_does_not_say_yes_holds_whatever_else_it_says() {
    for gate in [Gate::NotDone, Gate::Refused, Gate::Later, Gate::Unknown, Gate::Panic, Gate::Hang] {
        on_stage(async |stage| {
            stage.world.always_gate("a", gate);
            let (run, rest) = stage.run(plan([change("a")])).await;
            assert!(matches!(rest, Rest::Held), "{gate:?}: {rest:?}");
            assert_eq!(stage.state(&run, "a").await, S::Held, "{gate:?}");
            assert_eq!(stage.world.calls("execute", "a"), 0, "{gate:?}");
        });
    }
}

#[test]
fn a_gate_that_only_computes_cannot_take_the_executor_with_it() {
    for gate in [Gate::Panic, Gate::Hang] {
        on_stage(async |stage| {
            stage.world.always_gate("a", gate);
            let (run, rest) = stage.run(plan([note("a"), change("b")])).await;
            assert!(matches!(rest, Rest::Held), "{gate:?}: {rest:?}");
            assert_eq!(stage.state(&run, "a").await, S::Held, "{gate:?}");
            assert_eq!(stage.world.times("b"), 1);
        });
    }
}

#[test]
fn a_gate_that_only_glances_keeps_no_outcome_from_the_journal_for_long() {
    on_stage(async |stage| {
        stage.world.gates("b", &[Gate::Hang]);
        let run = stage.run_and_kill(plan([change("a"), poke("b").after(&["a"])]), 10_000).await;
        assert_eq!((stage.world.times("a"), stage.world.calls("prepare", "b")), (1, 1), "its gate was asked, and hangs");
        assert_eq!((stage.state(&run, "a").await, stage.state(&run, "b").await), (S::Succeeded, S::Waiting));
    });
}

#[test]
fn a_held_step_holds_the_run_only_after_independent_branches_went_on() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let steps = [
            change("bad"),
            change("behind").after(&["bad"]),
            look("other"),
            change("far").on("dns").after(&["other"]),
            look("farther").after(&["far"]),
        ];
        let (run, rest) = stage.run(plan(steps)).await;
        assert!(matches!(rest, Rest::Held));
        assert_eq!(stage.state(&run, "farther").await, S::Succeeded);
        assert_eq!(stage.state(&run, "behind").await, S::Waiting);
        assert_eq!(stage.world.times("far"), 1);
    });
}

#[test]
fn a_given_up_step_leaves_those_that_need_it_not_run_and_the_run_failed() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let steps = [change("bad"), change("behind").after(&["bad"]), look("last").after(&["behind"])];
        let mut people = once("bad", S::Failed, resolve("bad", Resolution::GiveUp), "ann");
        let (run, rest) = stage.run_with(plan(steps), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        assert_eq!(stage.state(&run, "behind").await, S::NotRun);
        assert_eq!(stage.state(&run, "last").await, S::NotRun);
        assert_eq!(stage.world.times("behind"), 0);
        assert_eq!(stage.holder("db").await, None);
    });
}

#[test]
fn abort_starts_nothing_more_and_leaves_what_is_done() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let steps = [change("done"), change("bad").after(&["done"]), change("behind").after(&["done"]).on("dns").after(&["bad"])];
        let (run, rest) = stage.run(plan(steps).failing(OnFailure::Abort)).await;
        assert_eq!(rest.outcome(), Outcome::Failed);
        assert_eq!(stage.state(&run, "behind").await, S::NotRun);
        assert!(stage.world.stands("done"));
    });
}

#[test]
fn undo_takes_effects_back_in_reverse_order_and_nothing_else() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let steps = [
            change("first"),
            look("seen").after(&["first"]),
            change("kept").on("web").after(&["first"]).stays(),
            change("second").on("dns").after(&["seen", "kept"]),
            change("bad").after(&["second"]),
        ];
        let (run, rest) = stage.run(plan(steps).failing(OnFailure::Undo)).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!(stage.undone(), ["second", "first"]);
        assert!(stage.world.stands("kept"), "a step that says `undo: never` stays");
        assert_eq!(stage.state(&run, "bad").await, S::Failed);
        assert_eq!(stage.state(&run, "first").await, S::Undone);
    });
}

#[test]
fn the_rule_of_a_step_goes_before_the_rule_of_the_run() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let steps = [change("first"), change("bad").after(&["first"]).on_failure(OnFailure::Undo)];
        let (_, rest) = stage.run(plan(steps)).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert!(!stage.world.stands("first"));
    });
}

#[test]
fn an_undo_that_fails_leaves_the_run_stuck_with_its_locks() {
    for back in [Back::Fail, Back::LoseRequest, Back::Hang, Back::Panic] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless).always_back("first", back);
            let (run, rest) = stage.run(plan([change("first"), change("bad").after(&["first"])]).failing(OnFailure::Undo)).await;
            assert_eq!(rest.outcome(), Outcome::Stuck, "{back:?}");
            assert_eq!(stage.state(&run, "first").await, S::UndoFailed);
            assert_eq!(stage.holder("db").await, Some(run), "a stuck run keeps its locks");
        });
    }
}

#[test]
fn what_a_step_stands_on_is_not_undone_while_its_own_undo_failed() {
    on_stage(async |stage| {
        // Taking the fence away from under a promotion that could not be undone would make two primaries.
        stage.world.always("bad", Act::Hopeless).always_back("promote", Back::Fail);
        let steps = [
            change("fence"),
            change("promote").after(&["fence"]),
            change("apart").on("dns"),
            change("bad").on("web").after(&["promote", "apart"]),
        ];
        let (run, rest) = stage.run(plan(steps).failing(OnFailure::Undo)).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert_eq!(stage.state(&run, "fence").await, S::Succeeded);
        assert!(stage.world.stands("fence"));
        assert_eq!(stage.undone(), ["apart"]);
    });
}

#[test]
fn what_an_unknown_effect_stands_on_is_not_undone_either() {
    on_stage(async |stage| {
        stage.world.acts("promote", &[Act::LoseAnswer]).always_sight("promote", Sight::Unknown);
        let steps = [change("fence"), change("promote").after(&["fence"])];
        let mut people = once("promote", S::Held, cancel(), "ann");
        let (_, rest) = stage.run_with(plan(steps).failing(OnFailure::Undo), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Stuck);
        assert!(stage.world.stands("fence") && stage.world.stands("promote"));
    });
}

#[test]
fn past_the_point_of_no_return_undo_and_abort_become_hold() {
    for rule in [OnFailure::Undo, OnFailure::Abort] {
        on_stage(async |stage| {
            stage.world.always("bad", Act::Hopeless);
            let steps = [change("promote").no_return(), change("bad").after(&["promote"])];
            let (run, rest) = stage.run(plan(steps).failing(rule)).await;
            assert!(matches!(rest, Rest::Held), "{rule:?}: {rest:?}");
            assert!(stage.world.stands("promote"));
            assert_eq!(stage.state(&run, "bad").await, S::Failed);
        });
    }
}

#[test]
fn the_point_of_no_return_is_crossed_when_the_intent_is_journaled_not_when_the_step_is_done() {
    on_stage(async |stage| {
        stage.world.always("promote", Act::Hopeless);
        let (_, rest) = stage.run(plan([change("first"), change("promote").after(&["first"]).no_return()]).failing(OnFailure::Undo)).await;
        assert!(matches!(rest, Rest::Held), "{rest:?}");
        assert!(stage.world.stands("first"));
    });
}

#[test]
fn a_drill_is_undone_even_past_the_point_of_no_return() {
    for cancelled in [None, Some(cancel())] {
        on_stage(async |stage| {
            stage.world.always("bad", if cancelled.is_some() { Act::Hang } else { Act::Hopeless });
            let steps = [change("promote").on("web").no_return(), change("bad").on("web").after(&["promote"])];
            let mut wish = cancelled.clone();
            let mut people = |run: &lifeboat_engine::run::Run| {
                let running = run.state(&crate::world::plans::id("bad")) == S::Running;
                running.then(|| wish.take()).flatten().map(|command| (command, crate::world::plans::actor("ann")))
            };
            let (_, rest) = stage.run_with(plan(steps).mode("drill").failing(OnFailure::Undo), &mut people).await;
            // Whoever cancels a drill gets it undone; one whose step failed has failed, and is undone too.
            let wanted = if cancelled.is_some() { Outcome::Undone } else { Outcome::Failed };
            assert_eq!(rest.outcome(), wanted, "{cancelled:?}");
            assert!(!stage.world.stands("promote"));
        });
    }
}

#[test]
fn an_assertion_that_does_not_hold_rejects_the_step_whose_effect_stands() {
    for assertion in ["steps.a.outputs.said == 'good'", "steps.a.outputs.nope == 'good'"] {
        on_stage(async |stage| {
            let steps = [change("a").says(json!("bad")).asserts(assertion), change("b").after(&["a"])];
            let (run, rest) = stage.run(plan(steps)).await;
            assert!(matches!(rest, Rest::Held));
            assert_eq!(stage.state(&run, "a").await, S::Rejected);
            assert_eq!(stage.world.times("b"), 0);
        });
    }
}

#[test]
fn a_rejected_step_is_undone_like_one_that_is_done() {
    on_stage(async |stage| {
        let steps = [change("a").says(json!("bad")).asserts("steps.a.outputs.said == 'good'")];
        let (run, rest) = stage.run(plan(steps).failing(OnFailure::Undo)).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!(stage.state(&run, "a").await, S::Undone);
        assert!(!stage.world.stands("a"));
    });
}

#[test]
fn the_runs_deadline_ends_it_by_its_rule_unless_there_is_no_return() {
    for (rule, outcome) in [(OnFailure::Undo, Outcome::Undone), (OnFailure::Hold, Outcome::Failed), (OnFailure::Abort, Outcome::Failed)] {
        on_stage(async |stage| {
            stage.world.always("slow", Act::SucceedAfter(8000));
            let steps = [change("first"), change("slow").after(&["first"]), change("never").after(&["slow"])];
            let (run, rest) = stage.run(plan(steps).failing(rule).deadline_ms(5000)).await;
            assert_eq!(rest.outcome(), outcome);
            assert_eq!(stage.state(&run, "never").await, S::NotRun);
            assert_eq!(stage.world.stands("slow"), rule != OnFailure::Undo);
        });
    }
    on_stage(async |stage| {
        stage.world.always("slow", Act::SucceedAfter(8000));
        let (_, rest) = stage.run(plan([change("slow").no_return(), look("last").after(&["slow"])]).deadline_ms(5000)).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded, "past the point of no return going on is the only way");
    });
}

/// The main part ends in each way a run can; the final step acts exactly once in all of them.
#[test]
fn finally_runs_once_in_every_ending() {
    let endings = [
        ("success", OnFailure::Hold, Outcome::Succeeded),
        ("failure", OnFailure::Abort, Outcome::Failed),
        ("undo", OnFailure::Undo, Outcome::Undone),
        ("cancel", OnFailure::Hold, Outcome::Cancelled),
        ("cancel and undo", OnFailure::Undo, Outcome::Undone),
    ];
    for (ending, rule, outcome) in endings {
        for last in [change("last").on("web"), look("last"), note("last")] {
            on_stage(async |stage| {
                stage.world.always("bad", if ending == "success" { Act::Succeed } else { Act::Hopeless });
                let mut first = approval("ask", 1);
                if !ending.contains("cancel") {
                    first = look("ask");
                }
                let steps = [first, change("done").after(&["ask"]), change("bad").after(&["done"])];
                let mut people = once("ask", S::AwaitingApproval, cancel(), "ann");
                let (run, rest) = stage.run_with(plan(steps).failing(rule).finally([last.clone()]), &mut people).await;
                assert_eq!(rest.outcome(), outcome, "{ending}");
                assert_eq!(stage.state(&run, "last").await, S::Succeeded, "{ending}");
                assert_eq!(stage.world.calls("execute", "last"), 1, "{ending}");
                let calls = stage.world.all_calls();
                assert_eq!(calls.last().map(|call| call.step.as_str()), Some("last"), "{ending}: it comes after everything");
            });
        }
    }
}

#[test]
fn finally_does_not_run_while_a_person_is_waited_for() {
    on_stage(async |stage| {
        stage.world.always("bad", Act::Hopeless);
        let (run, rest) = stage.run(plan([change("bad")]).finally([look("last")])).await;
        assert!(matches!(rest, Rest::Held));
        assert_eq!(stage.state(&run, "last").await, S::Waiting);
        assert_eq!(stage.world.calls("prepare", "last"), 0);
    });
}

#[test]
fn a_final_step_that_fails_leaves_the_run_stuck_with_its_locks() {
    for act in [Act::Hopeless, Act::Refused] {
        on_stage(async |stage| {
            stage.world.always("last", act);
            let (run, rest) = stage.run(plan([change("a")]).finally([change("last").on("web"), look("also")])).await;
            assert_eq!(rest.outcome(), Outcome::Stuck);
            assert_eq!(stage.state(&run, "also").await, S::Succeeded, "the other final steps still run");
            assert_eq!(stage.holder("db").await, Some(run.clone()));
            assert_eq!(stage.holder("web").await, Some(run));
        });
    }
}

#[test]
fn a_denied_approval_fails_and_its_rule_is_followed() {
    on_stage(async |stage| {
        let steps = [change("first"), approval("ask", 2).after(&["first"]), change("second").after(&["ask"])];
        let mut people = once("ask", S::AwaitingApproval, deny("ask"), "bob");
        let (run, rest) = stage.run_with(plan(steps).failing(OnFailure::Undo), &mut people).await;
        assert_eq!(rest.outcome(), Outcome::Undone);
        assert_eq!(stage.state(&run, "ask").await, S::Failed);
        assert_eq!(stage.world.times("second"), 0);
    });
}
