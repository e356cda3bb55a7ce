//! Guarantee mutants: each promise broken on purpose, and the law that sees it. A mutant that survives is a hole in the campaign.
//!
//! `cargo xtask torture mutants` prints the whole table; rows whose rig is another one (power cuts, damaged stores, real peers) are added
//! there. The ends that plays are held against are those of the unbroken engine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lifeboat_engine::mutants::{Mutant, with};
use lifeboat_engine::preflight;
use lifeboat_engine::sim::{Broken, Point};

use super::found;
use super::play::{Ending, Keep, play};
use super::schedule::of_seed;
use super::shapes::{Shape, shapes};
use super::{judge, undisturbed};
use crate::world::plans::PlanWords;
use crate::world::stage::simulated;

/// Every mutant has to be seen within so many seeds.
const SEEDS_MAX: u64 = 4_000;

/// Promise of the design's section 6, or the section that demands it, and the mutants that break it.
const TABLE: &[(&str, &[Mutant])] = &[
    ("1", &[Mutant::FailedCommitIgnored, Mutant::AnsweredBeforeDurable]),
    (
        "2",
        &[
            Mutant::ActedBeforeIntent,
            Mutant::BlindRetry,
            Mutant::TimeoutIsFailure,
            Mutant::UnknownIsDone,
            Mutant::UnknownIsNotDone,
            Mutant::ForeignIsDone,
            Mutant::ClaimWithoutDoubt,
        ],
    ),
    ("3", &[Mutant::NoFence, Mutant::LeaseIgnored, Mutant::ClaimWithoutLease, Mutant::DeadlineNotWaitedOut]),
    ("4", &[Mutant::LockNotTaken, Mutant::HolderIgnored, Mutant::LocksGivenBackAtClaim, Mutant::LocksLeaked, Mutant::StuckGivesLocksBack]),
    ("5", &[Mutant::LossHalved, Mutant::GateIgnored]),
    ("6", &[Mutant::WordIsProof]),
    (
        "8",
        &[
            Mutant::StarterAnswers,
            Mutant::CountedTwice,
            Mutant::RoleIgnored,
            Mutant::ExpiredCounts,
            Mutant::OneYesShort,
            Mutant::DenialIgnored,
        ],
    ),
    ("9", &[Mutant::PlanReadAnew]),
    ("11", &[Mutant::DrillGuardOff]),
    ("15", &[Mutant::PreviewActs]),
    ("16", &[Mutant::NoLimit]),
    (
        "section 4",
        &[
            Mutant::UndoForward,
            Mutant::BlindUndo,
            Mutant::StandingForgotten,
            Mutant::FinallySkipped,
            Mutant::FailedIsSucceeded,
            Mutant::DoubtForgotten,
            Mutant::ReturnFromNoReturn,
            Mutant::AssertionsHold,
            Mutant::PauseIgnored,
            Mutant::FreezeIgnored,
        ],
    ),
];

/// A preview of this shape: nothing but gates may be called, and nothing may be written.
fn preview(shape: &Shape) -> Vec<Broken> {
    let stage = simulated();
    (shape.script)(&stage.world);
    let plan = (shape.plan)().bound_to(&stage.inventory);
    let ports = stage.ports(&stage.process());
    let asked = stage.clock.play(preflight::preflight(&plan, &ports));
    let mut broken: Vec<Broken> = Vec::new();
    let acted = stage.world.all_calls().iter().any(|call| call.what != "prepare") || !stage.world.effects().is_empty();
    if asked.is_err() || acted {
        broken.push(Broken { law: "preview", words: format!("a preview of {} acted", shape.name) });
    }
    broken
}

/// The law that sees this mutant, and how many seeds that took; 0 where a kept play does.
fn seen(mutant: Mutant, calm: &[(Ending, Vec<Point>)], points: &[Vec<Point>]) -> Option<(String, u64)> {
    let kept = found::kept();
    let plays = kept.into_iter().map(|play| (0, play)).chain((1..=SEEDS_MAX).map(|seed| (seed, of_seed(seed, None, points))));
    for (seed, (place, schedule)) in plays {
        let shape = &shapes()[place];
        let played = catch_unwind(AssertUnwindSafe(|| {
            with(mutant, || {
                let previewed = if (1..=shapes().len() as u64).contains(&seed) { preview(shape) } else { Vec::new() };
                [previewed, judge(shape, &schedule, &calm[place].0, &play(shape, &schedule, Keep::Sum))].concat()
            })
        }));
        let law = played.map_or(Some("panic"), |broken| broken.first().map(|broken| broken.law));
        // What the unbroken engine breaks too says nothing of the mutant; the campaign is there to find it.
        let unbroken = || judge(shape, &schedule, &calm[place].0, &play(shape, &schedule, Keep::Sum)).is_empty();
        if let Some(law) = law.filter(|_| unbroken()) {
            return Some((format!("{law} ({})", shape.name), seed));
        }
    }
    None
}

#[test]
fn a_preview_of_any_shape_changes_nothing() {
    for shape in shapes() {
        assert_eq!(preview(shape), [], "{}", shape.name);
    }
}

/// All mutants, by `cargo xtask torture mutants`.
#[test]
#[ignore = "cargo xtask torture mutants plays it"]
fn every_broken_promise_is_seen() {
    let calm = undisturbed();
    let points: Vec<Vec<Point>> = calm.iter().map(|(_, points)| points.clone()).collect();
    let mut survivors = Vec::new();
    for (promise, mutants) in TABLE {
        // One alone, for whoever closes a hole.
        let asked = std::env::var_os("SIM_MUTANT");
        let wanted = |mutant: &&Mutant| asked.as_ref().is_none_or(|names| names.to_str().unwrap().contains(&format!("{mutant:?}")));
        for mutant in mutants.iter().filter(wanted) {
            let row = match seen(*mutant, &calm, &points) {
                Some((law, seeds)) => format!("{law} | {seeds}"),
                None => {
                    survivors.push(*mutant);
                    format!("SURVIVES | {SEEDS_MAX}")
                }
            };
            super::report::row(promise, &format!("{mutant:?}"), &row);
        }
    }
    assert!(survivors.is_empty(), "nothing saw {survivors:?}");
}

/// A few, chosen so that the machinery itself is seen to work with every change.
#[test]
fn a_broken_promise_is_seen_and_an_unbroken_one_is_not() {
    let calm = undisturbed();
    let points: Vec<Vec<Point>> = calm.iter().map(|(_, points)| points.clone()).collect();
    for mutant in [Mutant::ActedBeforeIntent, Mutant::BlindRetry, Mutant::LocksLeaked, Mutant::FinallySkipped, Mutant::PreviewActs] {
        assert!(seen(mutant, &calm, &points).is_some_and(|(_, seeds)| seeds <= 300), "{mutant:?}");
    }
}
