//! The simulator's campaign: every shape under every fault of first order, and schedules of higher order by their seeds.
//!
//! `cargo xtask torture sim` plays a long one; the tests here play a short one. A failure prints its seed and the command that plays
//! it again. What the simulation models and what it does not is in `docs/adr/0015-simulation.md`.

mod approvals;
mod chance;
mod crowd;
mod found;
mod laws;
mod mutants;
mod play;
mod report;
mod schedule;
mod shapes;

use std::time::Duration;

use lifeboat_engine::sim::{Broken, Point};

use play::{Ending, Keep, Played, play};
use report::Findings;
use schedule::{Schedule, deaths_while_resuming, first_order, must_end_alike, of_seed};
use shapes::{Shape, shapes};

/// Schedules of higher order that the tests play.
const SCHEDULES: u64 = 500;

/// Each how many of the schedules of first order the tests play; the long campaign plays all.
const ONE_IN: usize = 24;

/// Each how many of the pairs of deaths the tests play; the long campaign plays all.
const ONE_IN_RESUMED: usize = 307;

/// What a schedule broke, with its ending held against the undisturbed one.
fn judge(shape: &Shape, schedule: &Schedule, calm: &Ending, played: &Played) -> Vec<Broken> {
    // Two primaries are no surprise where people accepted exactly that, on record.
    let mut broken: Vec<Broken> =
        played.broken.iter().filter(|broken| !(broken.law == "two primaries" && played.accepted)).cloned().collect();
    if broken.is_empty() && must_end_alike(shape, schedule) && played.ending != *calm {
        let words = format!("it ended as\n{:#?}\nand undisturbed as\n{calm:#?}", played.ending);
        broken.push(Broken { law: "same end", words });
    }
    broken
}

/// The undisturbed run of each shape, and the points it came to.
fn undisturbed() -> Vec<(Ending, Vec<Point>)> {
    shapes()
        .iter()
        .map(|shape| {
            let calm = play(shape, &Schedule::calm(), Keep::Sum);
            let broken = judge(shape, &Schedule::calm(), &calm.ending, &calm);
            assert!(broken.is_empty(), "{}: undisturbed, and yet {broken:#?}", shape.name);
            assert!(!calm.points.is_empty(), "{}: came to no point", shape.name);
            (calm.ending, calm.points)
        })
        .collect()
}

#[test]
fn every_shape_has_a_name_of_its_own_and_there_are_at_least_forty() {
    let mut names: Vec<&str> = shapes().iter().map(|shape| shape.name).collect();
    assert!(names.len() >= 40, "{}", names.len());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), shapes().len());
    assert!(names.iter().all(|name| shapes::named(&name.replace(' ', "-")).is_some()));
}

#[test]
fn no_single_fault_breaks_a_law_or_changes_the_end() {
    let calm = undisturbed();
    let mut findings = Findings::default();
    let mut played = 0;
    for (place, shape) in shapes().iter().enumerate() {
        // Another part of the points for each shape, the same on each day.
        for schedule in first_order(shape, &calm[place].1).iter().skip(place % ONE_IN).step_by(ONE_IN) {
            findings.play(shape, schedule, &calm[place].0, None);
            played += 1;
        }
    }
    findings.none();
    assert!(played > 300, "only {played} schedules");
}

#[test]
fn no_death_while_resuming_from_a_death_breaks_a_law_or_changes_the_end() {
    let calm = undisturbed();
    let mut findings = Findings::default();
    let mut played = 0;
    for (place, shape) in shapes().iter().enumerate() {
        for schedule in deaths_while_resuming(shape, &calm[place].1).skip(place % ONE_IN_RESUMED).step_by(ONE_IN_RESUMED) {
            findings.play(shape, &schedule, &calm[place].0, None);
            played += 1;
        }
    }
    findings.none();
    assert!(played > 100, "only {played} schedules");
}

#[test]
fn no_few_faults_break_a_law_or_change_the_end() {
    let calm = undisturbed();
    let points: Vec<Vec<Point>> = calm.iter().map(|(_, points)| points.clone()).collect();
    let mut findings = Findings::default();
    for seed in 1..=SCHEDULES {
        let (place, schedule) = of_seed(seed, None, &points);
        findings.play(&shapes()[place], &schedule, &calm[place].0, Some(seed));
    }
    findings.none();
}

#[test]
fn the_same_seed_plays_the_same_play() {
    let calm = undisturbed();
    let points: Vec<Vec<Point>> = calm.iter().map(|(_, points)| points.clone()).collect();
    let mut sums = std::collections::BTreeSet::new();
    for seed in 1..=30 {
        let (place, schedule) = of_seed(seed, None, &points);
        let (one, two) = (play(&shapes()[place], &schedule, Keep::Sum), play(&shapes()[place], &schedule, Keep::Lines));
        assert_eq!((one.trace.sum(), one.trace.count()), (two.trace.sum(), two.trace.count()), "seed {seed}");
        assert_eq!(two.trace.lines().len() as u64, two.trace.count());
        sums.insert(one.trace.sum());
    }
    assert!(sums.len() > 25, "different seeds play different plays: {}", sums.len());
}

/// The long campaign, by `cargo xtask torture sim`.
#[test]
#[ignore = "takes minutes; cargo xtask torture sim plays it"]
fn the_campaign() {
    let asked = report::Asked::from_environment();
    let began = report::clock();
    let calm = undisturbed();
    let points: Vec<Vec<Point>> = calm.iter().map(|(_, points)| points.clone()).collect();
    let mut findings = Findings::default();
    if asked.one_seed {
        let (place, schedule) = of_seed(asked.seed, asked.shape, &points);
        report::tell(&shapes()[place], &schedule);
        findings.play(&shapes()[place], &schedule, &calm[place].0, Some(asked.seed));
        findings.none();
        return;
    }
    let (mut first, mut resumed) = (0, 0);
    for (place, shape) in shapes().iter().enumerate().filter(|(place, _)| asked.shape.is_none_or(|only| only == *place)) {
        for schedule in first_order(shape, &calm[place].1) {
            findings.play(shape, &schedule, &calm[place].0, None);
            first += 1;
        }
        for schedule in deaths_while_resuming(shape, &calm[place].1) {
            findings.play(shape, &schedule, &calm[place].0, None);
            resumed += 1;
        }
    }
    let higher = asked.schedules.saturating_sub(first);
    for seed in asked.seed..asked.seed.saturating_add(higher) {
        let (place, schedule) = of_seed(seed, asked.shape, &points);
        findings.play(&shapes()[place], &schedule, &calm[place].0, Some(seed));
    }
    findings.none();
    let took: Duration = report::clock().saturating_sub(began);
    report::summary([first, resumed, higher], asked.seed, took);
}
