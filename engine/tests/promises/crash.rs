//! Death at every place: before each write, after it with the answer lost, on a full disk, at chosen instants, and again while
//! resuming. Whatever happens, the run ends as the undisturbed one does, and no effect comes about twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::executor::Executor;
use lifeboat_engine::history;
use lifeboat_engine::journal::{Actor, Outcome, Resolution};
use lifeboat_engine::resume::{self, ResumeError};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::{OnFailure, Plan};
use lifeboat_store::{Fault, FaultyStore};
use serde_json::json;

use crate::world::plans::{PlanWords, actor, approval, change, id, look, note, plan};
use crate::world::stage::{Rest, Stage, approve, cancel, on_stage, resolve};
use crate::world::{Act, Back, Gate, World};

/// A kind of run, with its world and its people.
struct Shape {
    name: &'static str,
    plan: fn() -> Plan,
    script: fn(&World),
    people: fn(&Run) -> Option<(Command, Actor)>,
}

fn nobody(_: &Run) -> Option<(Command, Actor)> {
    None
}

/// Two people say yes, each as long as they have not.
fn two_say_yes(run: &Run) -> Option<(Command, Actor)> {
    let step = run.steps.get(&id("ask"))?;
    let missing = ["ann", "bob"].into_iter().find(|name| step.approvals.iter().all(|yes| yes.by != *name))?;
    (step.state == S::AwaitingApproval).then(|| (approve("ask"), actor(missing)))
}

fn somebody_skips(run: &Run) -> Option<(Command, Actor)> {
    (run.state(&id("held")) == S::Held).then(|| (resolve("held", Resolution::Skip), actor("ann")))
}

fn somebody_cancels_at_the_question(run: &Run) -> Option<(Command, Actor)> {
    (run.state(&id("ask")) == S::AwaitingApproval && run.cancelled_by.is_none()).then(|| (cancel(), actor("ann")))
}

fn shapes() -> Vec<Shape> {
    let shape = |name, plan, script, people| Shape { name, plan, script, people };
    vec![
        shape("chain", || plan([look("a"), change("b").after(&["a"]), note("c").after(&["b"]), change("d").after(&["c"])]), |_| {}, nobody),
        shape(
            "diamond",
            || {
                let top = [change("top"), change("left").after(&["top"]), change("right").on("dns").after(&["top"])];
                plan(top.into_iter().chain([look("join").after(&["left", "right"])])).finally([change("last").on("web")])
            },
            |world| {
                world.always("right", Act::SucceedAfter(1700));
            },
            nobody,
        ),
        shape(
            "retries",
            || plan([change("a").tries(4), look("b").after(&["a"]).tries(3)]),
            |world| {
                world.acts("a", &[Act::NotDone, Act::LoseRequest]).acts("b", &[Act::NotDone]);
            },
            nobody,
        ),
        shape(
            "lost answers",
            || plan([change("a"), change("b").on("dns"), change("c").after(&["a", "b"])]),
            |world| {
                world.always("a", Act::LoseAnswer).acts("b", &[Act::Late(15_000)]).always("c", Act::PanicAfter);
            },
            nobody,
        ),
        shape(
            "conditions",
            || {
                plan([
                    look("ask").says(json!("no")),
                    change("skipped").after(&["ask"]).when("steps.ask.outputs.said == 'yes'"),
                    change("done").after(&["skipped"]).asserts("steps.done.state == 'succeeded'"),
                ])
            },
            |_| {},
            nobody,
        ),
        shape(
            "undo",
            || {
                let steps = [change("a"), change("b").on("dns").after(&["a"]), change("bad").after(&["b"])];
                plan(steps).failing(OnFailure::Undo).finally([look("last")])
            },
            |world| {
                world.always("bad", Act::Hopeless);
            },
            nobody,
        ),
        shape(
            "stuck undo",
            || plan([change("a"), change("b").on("dns"), change("bad").after(&["a", "b"])]).failing(OnFailure::Undo),
            |world| {
                world.always("bad", Act::Hopeless).always_back("b", Back::Fail);
            },
            nobody,
        ),
        shape(
            "abort",
            || {
                plan([change("a"), change("bad").after(&["a"]), change("c").after(&["bad"])])
                    .failing(OnFailure::Abort)
                    .finally([note("last")])
            },
            |world| {
                world.always("bad", Act::Refused);
            },
            nobody,
        ),
        shape("approval", || plan([approval("ask", 2), change("a").after(&["ask"])]), |_| {}, two_say_yes),
        shape(
            "held and skipped",
            || plan([change("held"), change("other").on("dns"), change("after").after(&["held"])]),
            |world| {
                world.always_gate("held", Gate::Refused);
            },
            somebody_skips,
        ),
        shape(
            "cancel past the point of no return",
            || {
                let steps = [change("a").no_return(), approval("ask", 1).after(&["a"]), change("never").after(&["ask"])];
                plan(steps).failing(OnFailure::Undo).finally([change("last").on("web")])
            },
            |_| {},
            somebody_cancels_at_the_question,
        ),
        shape(
            "large output",
            || plan([change("a").with("blob_bytes", json!(70_000)), change("b").after(&["a"]).when("size(steps.a.outputs.blob) == 70000")]),
            |_| {},
            nobody,
        ),
    ]
}

/// What must come out the same.
#[derive(Debug, PartialEq)]
struct Ending {
    outcome: Option<Outcome>,
    steps: BTreeMap<String, S>,
    effects: BTreeMap<String, (u32, bool)>,
    locks: BTreeMap<&'static str, bool>,
    open: usize,
}

/// Starts and stops of processes beside the faults of writes.
#[derive(Clone, Debug)]
enum Death {
    /// At a write of this process.
    Write(u64, Fault),
    /// So many milliseconds after it began.
    After(u64),
}

/// Plays a shape through these deaths, one process each, then one that lives. Says how it ended and whether each death came to pass.
fn play(shape: &Shape, deaths: &[Death]) -> (Ending, bool) {
    on_stage(async |stage| {
        (shape.script)(&stage.world);
        let admitted = stage.admit((shape.plan)()).await;
        let name = admitted.run.id.clone();
        let mut at_hand = Some((admitted.run, admitted.next));
        let mut all_died = true;
        for death in deaths {
            all_died &= one_life(&stage, shape, &name, at_hand.take(), Some(death)).await;
        }
        let died = one_life(&stage, shape, &name, at_hand, None).await;
        assert!(!died, "{}: the undisturbed process died", shape.name);
        (ending(&stage, &name).await, all_died)
    })
}

/// One process; true where it died as it was to.
async fn one_life(
    stage: &Stage,
    shape: &Shape,
    name: &lifeboat_engine::RunId,
    at_hand: Option<(Run, lifeboat_store::Seq)>,
    death: Option<&Death>,
) -> bool {
    let mut store = FaultyStore::new(stage.slow());
    let mut until = Duration::from_secs(24 * 3600);
    match death {
        Some(Death::Write(number, fault)) => store = store.fail_write(*number, *fault),
        Some(Death::After(ms)) => until = Duration::from_millis(*ms),
        None => {}
    }
    let ports = stage.ports_on(Arc::new(store.clone()));
    let owner = stage.owner();
    let (run, next) = match at_hand {
        Some(at_hand) => at_hand,
        None => match resume::claim(&ports, &owner, name).await {
            Ok(loaded) => (loaded.run, loaded.next),
            Err(ResumeError::Ended(_)) => return false,
            Err(ResumeError::Store(_)) if store.is_stopped() => return true,
            Err(error) => panic!("{}: it cannot be resumed: {error:?}", shape.name),
        },
    };
    let (executor, handle) = Executor::new(ports, owner, run, next);
    let mut people = shape.people;
    match stage.attend(executor, handle, &mut people, until).await {
        Rest::Ended(_) => false,
        Rest::Stopped(_) if store.is_stopped() => true,
        Rest::Killed if death.is_some() => true,
        other @ (Rest::Held | Rest::Stopped(_) | Rest::Killed) => panic!("{}: {other:?}", shape.name),
    }
}

async fn ending(stage: &Stage, name: &lifeboat_engine::RunId) -> Ending {
    let run = stage.load(name).await.run;
    let mut locks = BTreeMap::new();
    for resource in ["db", "dns", "web"] {
        locks.insert(resource, stage.holder(resource).await.is_some());
    }
    Ending {
        outcome: run.outcome,
        steps: run.steps.iter().map(|(id, step)| (id.to_string(), step.state)).collect(),
        effects: stage.effects().into_iter().filter(|(_, e)| e.times() > 0).map(|(id, e)| (id, (e.times(), e.stands))).collect(),
        locks,
        open: history::open_runs(&stage.memory).await.unwrap().len(),
    }
}

const FAULTS: [Fault; 3] = [Fault::CrashBefore, Fault::CrashAfter, Fault::DiskFull];

#[test]
fn a_death_at_any_write_changes_nothing_but_the_time_it_takes() {
    for shape in shapes() {
        let (calm, _) = play(&shape, &[]);
        assert!(calm.outcome.is_some() && calm.open == 0, "{}: {calm:?}", shape.name);
        let mut deaths = 0;
        for fault in FAULTS {
            for number in 0.. {
                let (found, died) = play(&shape, &[Death::Write(number, fault)]);
                assert_eq!(found, calm, "{}: {fault:?} at write {number}", shape.name);
                if !died {
                    break;
                }
                deaths += 1;
            }
        }
        assert!(deaths >= 9, "{}: only {deaths} deaths", shape.name);
    }
}

#[test]
fn a_death_while_resuming_from_a_death_changes_nothing_either() {
    for shape in shapes() {
        let (calm, _) = play(&shape, &[]);
        for first in [Fault::CrashBefore, Fault::CrashAfter] {
            for number in 0.. {
                let mut died_at_first = false;
                for again in 0.. {
                    let second = if (number + again) % 2 == 0 { Fault::CrashBefore } else { Fault::CrashAfter };
                    let (found, died) = play(&shape, &[Death::Write(number, first), Death::Write(again, second)]);
                    assert_eq!(found, calm, "{}: {first:?} at {number}, then {second:?} at {again}", shape.name);
                    if !died {
                        break;
                    }
                    died_at_first = true;
                }
                if !died_at_first {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_kill_at_any_instant_changes_nothing_either() {
    for shape in shapes() {
        let (calm, _) = play(&shape, &[]);
        for at in (1..40).map(|count| count * 330) {
            let (found, died) = play(&shape, &[Death::After(at), Death::After(900)]);
            assert_eq!(found, calm, "{}: killed after {at} ms and again after 900 ms", shape.name);
            if !died {
                break;
            }
        }
    }
}

#[test]
fn many_deaths_in_a_row_do_not_use_up_a_steps_attempts() {
    for shape in shapes() {
        let (calm, _) = play(&shape, &[]);
        let deaths: Vec<Death> = (0..12).map(|_| Death::After(700)).collect();
        assert_eq!(play(&shape, &deaths).0, calm, "{}", shape.name);
    }
}
