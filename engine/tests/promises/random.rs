//! Random plans, random worlds, random deaths: every run comes to a documented rest, and no effect comes about twice.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::executor::Executor;
use lifeboat_engine::history;
use lifeboat_engine::journal::Outcome;
use lifeboat_engine::resume::{self, ResumeError};
use lifeboat_engine::run::{Run, RunPhase, StepState};
use lifeboat_engine::sim;
use lifeboat_runbooks::plan::{OnFailure, Plan};
use lifeboat_store::{Fault, FaultyStore};
use proptest::prelude::*;

use crate::world::plans::{PlanWords, change, look, note, plan};
use crate::world::stage::{Rest, RestWords, Stage, cancel, nobody, on_stage};
use crate::world::{Act, Back, Gate, Sight};

#[derive(Clone, Debug)]
struct Made {
    kind: u8,
    /// Bit n: it needs step n, where that comes before it.
    needs: u8,
    acts: Vec<Act>,
    gates: Vec<Gate>,
    sights: Vec<Sight>,
    backs: Vec<Back>,
    tries: u32,
    rule: Option<OnFailure>,
    no_return: bool,
    never: bool,
    rejected: bool,
    last: bool,
}

#[derive(Clone, Copy, Debug)]
enum Death {
    Write(u64, Fault),
    After(u64),
}

fn act() -> impl Strategy<Value = Act> {
    use Act as A;
    prop_oneof![
        6 => Just(A::Succeed),
        1 => Just(A::SucceedAfter(3000)),
        2 => Just(A::NotDone),
        1 => Just(A::Hopeless),
        1 => Just(A::Refused),
        2 => Just(A::LoseAnswer),
        2 => Just(A::LoseRequest),
        1 => Just(A::Late(14_000)),
        1 => Just(A::Late(9_800)),
        1 => Just(A::HangAfter),
        1 => Just(A::Hang),
        1 => Just(A::Panic),
        1 => Just(A::PanicAfter),
    ]
}

fn gate() -> impl Strategy<Value = Gate> {
    use Gate as G;
    prop_oneof![8 => Just(G::Ready), 1 => Just(G::NotDone), 1 => Just(G::Refused), 1 => Just(G::Hang), 1 => Just(G::Panic)]
}

/// What is seen may be hidden, never false: a world that lies can make anybody act twice.
fn sight() -> impl Strategy<Value = Sight> {
    use Sight as T;
    prop_oneof![6 => Just(T::Truth), 1 => Just(T::Unknown), 1 => Just(T::Error), 1 => Just(T::Foreign), 1 => Just(T::Hang), 1 => Just(T::Panic)]
}

fn back() -> impl Strategy<Value = Back> {
    use Back as B;
    prop_oneof![5 => Just(B::Succeed), 1 => Just(B::Fail), 1 => Just(B::LoseAnswer), 1 => Just(B::Hang), 1 => Just(B::Panic)]
}

fn rule() -> impl Strategy<Value = OnFailure> {
    prop_oneof![Just(OnFailure::Hold), Just(OnFailure::Undo), Just(OnFailure::Abort)]
}

fn made() -> impl Strategy<Value = Made> {
    let scripts = (
        prop::collection::vec(act(), 0..4),
        prop::collection::vec(gate(), 0..3),
        prop::collection::vec(sight(), 0..8),
        prop::collection::vec(back(), 0..2),
    );
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.15));
    (0u8..4, any::<u8>(), scripts, 1u32..4, prop::option::weighted(0.2, rule()), flags).prop_map(
        |(kind, needs, (acts, gates, sights, backs), tries, rule, (no_return, never, rejected, last))| Made {
            kind,
            needs,
            acts,
            gates,
            sights,
            backs,
            tries,
            rule,
            no_return,
            never,
            rejected,
            last,
        },
    )
}

fn death() -> impl Strategy<Value = Death> {
    prop_oneof![
        (0u64..12, prop_oneof![Just(Fault::CrashBefore), Just(Fault::CrashAfter), Just(Fault::DiskFull)])
            .prop_map(|(number, fault)| Death::Write(number, fault)),
        (1u64..20_000).prop_map(Death::After),
    ]
}

fn built(steps: &[Made], rule: OnFailure, mode: &str) -> Plan {
    let (mut main, mut last, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
    for (place, made) in steps.iter().enumerate() {
        let name = format!("s{place}");
        let mut step = match made.kind {
            0 => look(&name),
            1 => note(&name),
            _ => change(&name).on("web"),
        };
        step = step.tries(made.tries);
        if let Some(rule) = made.rule {
            step = step.on_failure(rule);
        }
        if made.no_return {
            step = step.no_return();
        }
        if made.never {
            step = step.stays();
        }
        if made.rejected {
            step = step.asserts("mode == 'other'");
        }
        if made.last {
            last.push(step);
            continue;
        }
        let needs: Vec<String> =
            earlier.iter().filter(|(bit, _)| made.needs >> bit & 1 == 1).map(|(_, name): &(usize, String)| name.clone()).collect();
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        main.push(step.after(&needs));
        earlier.push((place, name));
    }
    plan(main).finally(last).failing(rule).mode(mode)
}

/// One process; the run's rest, or `None` where the process died.
async fn one_life(
    stage: &Stage,
    name: &lifeboat_engine::RunId,
    at_hand: Option<(Run, lifeboat_store::Seq)>,
    death: Option<Death>,
) -> Option<Rest> {
    let mut store = FaultyStore::new(stage.slow());
    let mut until = Duration::from_secs(6 * 24 * 3600);
    match death {
        Some(Death::Write(number, fault)) => store = store.fail_write(number, fault),
        Some(Death::After(ms)) => until = Duration::from_millis(ms),
        None => {}
    }
    let ports = stage.ports_on(Arc::new(store.clone()));
    let owner = stage.owner();
    let (run, next) = match at_hand {
        Some(at_hand) => at_hand,
        None => match resume::claim(&ports, &owner, name).await {
            Ok(loaded) => (loaded.run, loaded.next),
            Err(ResumeError::Ended(_)) => return Some(Rest::Ended(stage.load(name).await.run.outcome.unwrap())),
            Err(error) if store.is_stopped() => {
                drop(error);
                return None;
            }
            Err(error) => panic!("it cannot be resumed: {error:?}"),
        },
    };
    let (executor, handle) = Executor::new(ports, owner, run, next);
    match stage.attend(executor, handle, &mut nobody, until).await {
        Rest::Stopped(error) if store.is_stopped() => {
            drop(error);
            None
        }
        Rest::Killed if death.is_some() => None,
        rest @ (Rest::Ended(_) | Rest::Held) => Some(rest),
        other @ (Rest::Stopped(_) | Rest::Killed) => panic!("{other:?}"),
    }
}

async fn lives(stage: &Stage, steps: &[Made], rule: OnFailure, mode: &str, deaths: &[Death]) {
    for (place, made) in steps.iter().enumerate() {
        let name = format!("s{place}");
        stage.world.acts(&name, &made.acts).gates(&name, &made.gates).sights(&name, &made.sights).backs(&name, &made.backs);
    }
    let admitted = stage.admit(built(steps, rule, mode)).await;
    let name = admitted.run.id.clone();
    let mut at_hand = Some((admitted.run, admitted.next));
    let mut rest = None;
    for death in deaths.iter().copied().map(Some).chain([None]) {
        rest = one_life(stage, &name, at_hand.take(), death).await;
        if matches!(rest, Some(Rest::Ended(_))) {
            break;
        }
    }
    if matches!(rest, Some(Rest::Held)) {
        let run = stage.load(&name).await.run;
        assert_eq!(run.phase, RunPhase::Held);
        let waits = run.steps.values().any(|step| matches!(step.state, StepState::Held | StepState::Failed | StepState::Rejected));
        assert!(waits, "it is held, and no step waits for a person: {run:#?}");
        assert_eq!(history::open_runs(&stage.memory).await.unwrap(), std::slice::from_ref(&name));
        stage.steer_at_rest(&name, cancel(), crate::world::plans::actor("ann")).await.unwrap();
        rest = one_life(stage, &name, None, None).await;
    }
    ended(stage, &name, rest).await;
}

/// What must be so at the end, whatever happened before.
async fn ended(stage: &Stage, name: &lifeboat_engine::RunId, rest: Option<Rest>) {
    let run = stage.load(name).await.run;
    let outcome = rest.unwrap().outcome();
    assert_eq!(run.outcome, Some(outcome));
    assert_eq!(run.phase, RunPhase::Ended);
    assert!(history::open_runs(&stage.memory).await.unwrap().is_empty());
    let locked = stage.holder("web").await.is_some();
    assert_eq!(locked, outcome == Outcome::Stuck && !run.locks.is_empty(), "{outcome:?}");
    for (id, step) in run.steps.iter() {
        assert!(
            !step.state.is_open() && step.state != StepState::Waiting && step.state != StepState::Backoff,
            "{id} is {:?} at the end",
            step.state
        );
        for (attempt, times) in stage.effects().get(id.as_str()).map(|effect| effect.by_attempt.clone()).unwrap_or_default() {
            assert!(times <= 1, "attempt {attempt} of {id} acted {times} times");
        }
        if outcome != Outcome::Stuck {
            // What the journal says of an effect is what is so.
            let said = matches!(step.state, StepState::Succeeded | StepState::Rejected)
                && run.plan.step(id).is_some_and(|planned| planned.step_type == "change");
            assert_eq!(stage.world.stands(id.as_str()), said, "{id} is {:?} in a run that {outcome:?}", step.state);
        }
    }
    let done = |state| matches!(state, StepState::Succeeded | StepState::Skipped) || (run.is_drill() && state == StepState::Undone);
    let whole = run.plan.steps.iter().chain(&run.plan.finally).all(|step| done(run.state(&step.id)));
    if outcome == Outcome::Succeeded {
        assert!(whole, "it succeeded without being done: {run:#?}");
        let main = |name: &str| run.plan.steps.iter().any(|step| step.id.as_str() == name);
        let stands = |((_, name), effect): (&sim::Whose, &sim::Effect)| main(name.as_str()) && effect.stands;
        assert!(!run.is_drill() || !stage.world.effects().iter().any(stands), "a drill succeeded and left something: {run:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_run_comes_to_a_documented_rest_and_no_effect_comes_about_twice(
        steps in prop::collection::vec(made(), 1..6),
        rule in rule(),
        drill in any::<bool>(),
        deaths in prop::collection::vec(death(), 0..4),
    ) {
        on_stage(async |stage| Box::pin(lives(&stage, &steps, rule, if drill { "drill" } else { "failover" }, &deaths)).await);
    }
}
