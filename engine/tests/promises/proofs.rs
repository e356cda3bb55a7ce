//! Readiness and prediction: what a run proved of each step, how long it took, and what a later plan makes of that.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_engine::journal::{Outcome, Resolution};
use lifeboat_engine::predict::{self, left, predict, timing};
use lifeboat_engine::proof::{self, Known, Proofs, RunProof, StepProof};
use lifeboat_engine::readiness::{Proven, Readiness, readiness};
use lifeboat_engine::run::StepState as S;
use lifeboat_engine::{Clock as _, RunId};
use lifeboat_runbooks::plan::Plan;
use proptest::prelude::*;

use crate::world::plans::{Draft, PlanWords, approval, change, id, look, plan};
use crate::world::stage::{RestWords, Stage, approve, nobody, on_stage, once, resolve};
use crate::world::{Act, Sight};

const DAY: Duration = Duration::from_secs(86_400);

async fn proofs(stage: &Stage) -> Proofs {
    proof::read(&stage.memory, "orders").await.unwrap()
}

async fn ready(stage: &Stage, plan: Plan, max_age: Option<Duration>) -> Readiness {
    readiness(&plan.bound_to(&stage.inventory), &proofs(stage).await, stage.clock.now(), max_age)
}

fn states(readiness: &Readiness) -> Vec<(&str, Proven)> {
    readiness.steps.iter().map(|step| (step.step.as_str(), step.state)).collect()
}

#[test]
fn a_drill_proves_each_step_that_was_seen_to_succeed_and_no_other() {
    on_stage(async |stage| {
        let steps = || [change("a").on("web"), look("b").after(&["a"]), change("never").on("web").after(&["b"]).when("mode != \"drill\"")];
        assert_eq!(states(&ready(&stage, plan(steps()), None).await).iter().filter(|(_, state)| *state == Proven::Never).count(), 3);
        let (drill, rest) = stage.run(plan(steps()).mode("drill")).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let found = ready(&stage, plan(steps()), None).await;
        assert_eq!(states(&found), [("a", Proven::Fresh), ("b", Proven::Fresh), ("never", Proven::Never)]);
        let by = found.steps[0].by.clone().unwrap();
        assert_eq!((by.run, by.mode.as_str(), by.on.as_slice()), (drill, "drill", ["web".to_owned()].as_slice()));
    });
}

#[test]
fn a_changed_step_has_to_be_proven_again_and_its_neighbours_have_not() {
    on_stage(async |stage| {
        let steps = |timeout| [change("a").on("web"), change("b").on("web").after(&["a"]).timeout_ms(timeout)];
        stage.run(plan(steps(10_000)).mode("drill")).await;
        let found = ready(&stage, plan(steps(20_000).into_iter().chain([look("new")])), None).await;
        assert_eq!(states(&found), [("a", Proven::Fresh), ("b", Proven::Never), ("new", Proven::Never)]);
        let drift = found.drift.unwrap();
        assert_eq!((drift.steps_changed, drift.steps_added, drift.steps_removed), (vec![id("b")], vec![id("new")], vec![]));
        assert!(drift.changed);
        let found = ready(&stage, plan([change("a").on("web")]), None).await;
        assert_eq!(found.drift.unwrap().steps_removed, [id("b")]);
    });
}

#[test]
fn a_proof_grows_stale() {
    on_stage(async |stage| {
        let steps = || plan([change("a").on("web")]);
        stage.run(steps().mode("drill")).await;
        stage.clock.sleep(4 * DAY).await;
        assert_eq!(ready(&stage, steps(), Some(5 * DAY)).await.steps[0].state, Proven::Fresh);
        stage.clock.sleep(2 * DAY).await;
        assert_eq!(ready(&stage, steps(), Some(5 * DAY)).await.steps[0].state, Proven::Stale);
        assert_eq!(ready(&stage, steps(), None).await.steps[0].state, Proven::Fresh, "without a policy nothing grows old");
        stage.run(steps()).await;
        assert_eq!(ready(&stage, steps(), Some(5 * DAY)).await.steps[0].state, Proven::Fresh, "a real run proves as well");
    });
}

#[test]
fn what_a_person_said_and_what_an_assertion_denied_is_no_proof() {
    on_stage(async |stage| {
        stage.world.always("a", Act::LoseRequest).always_sight("a", Sight::Unknown);
        let said = resolve("a", Resolution::Done { outputs: serde_json::json!({ "said": 1, "blob": "" }) });
        let (_, rest) = stage.run_with(plan([change("a").on("web")]), &mut once("a", S::Held, said, "ann")).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let denied = || plan([change("b").on("web").asserts("mode == 'other'")]).mode("drill");
        assert_eq!(stage.run(denied()).await.1.outcome(), Outcome::Failed);
        let found = ready(&stage, plan([change("a").on("web")]), None).await;
        assert_eq!(found.steps[0].state, Proven::Never);
        assert_eq!(ready(&stage, denied(), None).await.steps[0].state, Proven::Never);
    });
}

#[test]
fn a_run_is_predicted_from_the_timings_of_the_runs_before_it() {
    on_stage(async |stage| {
        let steps = || plan([change("a").on("web"), change("slow").on("web").after(&["a"]).timeout_ms(90_000), look("side").after(&["a"])]);
        let (first, _) = stage.run(steps()).await;
        assert_eq!(stage.load(&first).await.run.predicted, None, "nothing was known");
        for seconds in [10, 20, 60] {
            stage.world.acts("slow", &[Act::SucceedAfter(seconds * 1000)]);
            stage.run(steps()).await;
        }
        let (last, _) = stage.run(steps()).await;
        let predicted = stage.load(&last).await.run.predicted.unwrap();
        assert_eq!(predicted.critical_path, [id("a"), id("slow")]);
        assert_eq!((predicted.runs, predicted.never_timed), (4, 0));
        assert!((10_000..15_000).contains(&predicted.p50_ms), "{predicted:?}");
        assert!((60_000..65_000).contains(&predicted.p90_ms), "{predicted:?}");
    });
}

#[test]
fn a_step_that_was_never_timed_is_said_and_not_taken_for_nothing() {
    on_stage(async |stage| {
        stage.run(plan([change("a").on("web")])).await;
        let wider = plan([change("a").on("web"), change("new").on("app"), approval("ask", 1), look("skipped").when("mode == 'x'")]);
        let predicted = predict(&wider.bound_to(&stage.inventory), &proofs(&stage).await).unwrap();
        assert_eq!((predicted.never_timed, predicted.never_timed_steps), (1, vec![id("new")]));
        assert_eq!(predicted.waits_for_people, [id("ask")]);
        assert_eq!(predict(&plan([change("other").on("web")]).bound_to(&stage.inventory), &proofs(&stage).await), None);
    });
}

#[test]
fn waits_for_people_and_dead_processes_are_no_time_of_a_step() {
    on_stage(async |stage| {
        let asked = || plan([approval("ask", 1), change("a").on("web").after(&["ask"])]);
        stage.run_with(asked(), &mut once("ask", S::AwaitingApproval, approve("ask"), "ann")).await;
        let known = proofs(&stage).await;
        let took = |step: &str| known.steps[&structure(&stage, asked(), step)].took_ms.clone();
        assert!(took("a")[0] < 2000, "{known:?}");
        assert!(took("ask")[0] < 100, "ann took her time, and that is hers: {known:?}");
        // A run that lost its process is slow for another reason.
        let name = stage.run_and_kill(plan([change("dead").on("web")]), 600).await;
        stage.clock.sleep(DAY).await;
        stage.resume(&name).await;
        let known = proofs(&stage).await;
        let dead = &known.steps[&structure(&stage, plan([change("dead").on("web")]), "dead")];
        assert!(dead.proven.is_some() && dead.took_ms.is_empty(), "{dead:?}");
    });
}

fn structure(stage: &Stage, plan: Plan, step: &str) -> String {
    plan.bound_to(&stage.inventory).step(&id(step)).unwrap().structure.clone()
}

#[test]
fn what_is_left_of_a_run_shrinks_as_it_goes_on() {
    on_stage(async |stage| {
        let steps = || plan([change("a").on("web"), change("b").on("web").after(&["a"]).timeout_ms(90_000)]);
        stage.world.always("b", Act::SucceedAfter(60_000));
        stage.run(steps()).await;
        let known = proofs(&stage).await;
        let admitted = stage.admit(steps()).await;
        let name = admitted.run.id.clone();
        let mut seen: Vec<u64> = Vec::new();
        let watching = async {
            while let Some(found) = left(&stage.load(&name).await.run, &known, stage.clock.now()) {
                seen.push(found.p50_ms);
                stage.clock.sleep(Duration::from_secs(5)).await;
            }
        };
        let mut people = nobody;
        tokio::join!(stage.drive(stage.ports(), admitted.run, admitted.next, &mut people), watching);
        assert!(seen.len() > 3 && seen.windows(2).all(|pair| pair[0] >= pair[1]), "{seen:?}");
        assert!(seen[0] > 55_000 && seen[seen.len() - 1] < 5000, "{seen:?}");
        let over = stage.load(&name).await.run;
        assert_eq!(left(&over, &known, stage.clock.now()), None);
    });
}

#[test]
fn a_long_log_of_proofs_is_folded_and_says_the_same() {
    on_stage(async |stage| {
        let steps = || plan([change("a").on("web")]).mode("drill");
        let mut last = None;
        for _ in 0..70 {
            last = Some(stage.run(steps()).await.0);
        }
        let records = lifeboat_engine::history::records(&stage.memory, &proof::proof_log("orders").unwrap()).await.unwrap().0;
        assert!(records.len() < 64, "{} records", records.len());
        let known = proofs(&stage).await;
        let step = known.steps.values().next().unwrap();
        assert_eq!((known.runs, known.steps.len(), step.took_ms.len()), (70, 1, proof::TIMINGS_MAX));
        assert_eq!(step.proven.as_ref().map(|by| &by.run), last.as_ref());
        assert_eq!(known.drill.map(|drill| drill.run), last);
    });
}

fn chain_or_fan() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<Vec<u64>>)> {
    prop::collection::vec((prop::collection::vec(any::<u8>(), 0..3), prop::collection::vec(0u64..1000, 0..6)), 1..9)
        .prop_map(|steps| steps.into_iter().unzip())
}

/// A plan whose step n needs some of the steps before it, and what is known of its steps.
fn drawn(needs: &[Vec<u8>], took: &[Vec<u64>], stage: &lifeboat_engine::Inventory) -> (Plan, Proofs) {
    let names: Vec<String> = (0..needs.len()).map(|place| format!("s{place}")).collect();
    let steps: Vec<Draft> = needs
        .iter()
        .enumerate()
        .map(|(place, needs)| {
            let needs: Vec<&str> = needs.iter().filter(|_| place > 0).map(|need| names[usize::from(*need) % place].as_str()).collect();
            look(&names[place]).after(&needs)
        })
        .collect();
    let plan = plan(steps).bound_to(stage);
    let known = plan.steps.iter().zip(took).map(|(step, took)| (step.structure.clone(), Known { proven: None, took_ms: took.clone() }));
    let steps: BTreeMap<String, Known> = known.collect();
    (plan, Proofs { runs: 1, steps, drill: None })
}

proptest! {
    #[test]
    fn a_prediction_lies_between_its_longest_step_and_the_sum_of_all((needs, took) in chain_or_fan()) {
        let (plan, proofs) = drawn(&needs, &took, &crate::world::plans::inventory());
        let Some(predicted) = predict(&plan, &proofs) else {
            prop_assert!(took.iter().all(Vec::is_empty));
            return Ok(());
        };
        let timings: Vec<predict::Timing> = took.iter().filter_map(|took| timing(took)).collect();
        prop_assert_eq!(predicted.never_timed as usize, took.iter().filter(|took| took.is_empty()).count());
        prop_assert!(predicted.p50_ms <= predicted.p90_ms);
        for (figure, of) in [
            (predicted.p50_ms, timings.iter().map(|timing| timing.p50_ms).collect::<Vec<_>>()),
            (predicted.p90_ms, timings.iter().map(|timing| timing.p90_ms).collect::<Vec<_>>()),
        ] {
            prop_assert!(figure >= of.iter().copied().max().unwrap_or(0));
            prop_assert!(figure <= of.iter().sum::<u64>());
        }
        // The way that it names is a way, and is as long as it says.
        for pair in predicted.critical_path.windows(2) {
            prop_assert!(plan.step(&pair[1]).unwrap().needs.contains(&pair[0]));
        }
        let along = predicted.critical_path.iter().map(|id| {
            timing(&proofs.steps[&plan.step(id).unwrap().structure].took_ms).map_or(0, |timing| timing.p50_ms)
        });
        prop_assert_eq!(along.sum::<u64>(), predicted.p50_ms);
    }

    #[test]
    fn slower_runs_never_make_a_prediction_shorter((needs, took) in chain_or_fan(), place in any::<prop::sample::Index>(), more in 1u64..500) {
        let inventory = crate::world::plans::inventory();
        let before = drawn(&needs, &took, &inventory);
        let mut slower = took.clone();
        let place = place.index(slower.len());
        slower[place].iter_mut().for_each(|ms| *ms += more);
        let after = drawn(&needs, &slower, &inventory);
        if let (Some(before), Some(after)) = (predict(&before.0, &before.1), predict(&after.0, &after.1)) {
            prop_assert!(after.p50_ms >= before.p50_ms && after.p90_ms >= before.p90_ms);
        }
    }

    #[test]
    fn timings_are_measured_figures_in_order(took in prop::collection::vec(0u64..10_000, 1..40)) {
        let found = timing(&took).unwrap();
        prop_assert!(took.contains(&found.p50_ms) && took.contains(&found.p90_ms) && found.p50_ms <= found.p90_ms);
        let within = |limit| took.iter().filter(|ms| **ms <= limit).count() * 100;
        prop_assert!(within(found.p50_ms) >= 50 * took.len() && within(found.p90_ms) >= 90 * took.len());
    }

    #[test]
    fn only_the_latest_timings_count(took in prop::collection::vec(0u64..10_000, 1..60)) {
        let mut proofs = Proofs::default();
        for (place, ms) in took.iter().enumerate() {
            let step = StepProof { step: id("a"), structure: "x".into(), proven: true, took_ms: Some(*ms), waited_ms: 0, on: vec![] };
            proofs.take(&RunProof {
                format: 1,
                run: RunId::new(&format!("r{place}")).unwrap(),
                mode: "drill".into(),
                at: jiff::Timestamp::UNIX_EPOCH,
                outcome: Outcome::Failed,
                structure: String::new(),
                steps: vec![step],
            });
        }
        let latest: Vec<u64> = took[took.len().saturating_sub(proof::TIMINGS_MAX)..].to_vec();
        prop_assert_eq!(&proofs.steps["x"].took_ms, &latest);
    }
}
