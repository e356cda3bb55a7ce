//! No interval ever loses the truth: random true histories with observations around them. Hand-made nights are in `tests`.

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::tale::loss;

/// A true history in microseconds, and observations that are each true of it.
#[derive(Clone, Debug)]
struct Truth {
    began: i64,
    served: i64,
    seen: Observed,
}

fn micros(at: i64) -> Timestamp {
    Timestamp::from_microsecond(1_800_000_000_000_000 + at).unwrap()
}

fn moment(at: i64) -> Moment {
    Moment { at: micros(at), because: String::new() }
}

fn truths() -> impl Strategy<Value = Truth> {
    let around = prop::collection::vec((0i64..5_000_000, 0i64..5_000_000), 0..4);
    // Some observations hug the truth, so that a bound taken from the wrong end is beyond it.
    let before = prop::collection::vec(prop_oneof![0i64..10, 0i64..1_000_000, 0i64..600_000_000], 0..4);
    let after = prop::collection::vec(0i64..9_000_000, 0..3);
    (0i64..1_000_000_000, 0i64..600_000_000, around, before, after.clone(), after).prop_map(
        |(began, length, around, before, after, follow)| {
            let served = began + length;
            let seen = Observed {
                began: around
                    .iter()
                    .map(|(low, high)| OutageBegan { earliest: micros(began - low), latest: micros(began + high), method: "probe".into() })
                    .collect(),
                not_before: before.iter().map(|early| moment(served - early)).collect(),
                restored: after.iter().map(|late| moment(served + late)).collect(),
                follow: follow.iter().map(|late| moment(served + late)).collect(),
                reported: None,
                went_back_ns: 0,
            };
            Truth { began, served, seen }
        },
    )
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn in_s(micros: i64) -> f64 {
    micros as f64 / 1e6
}

proptest! {
    #[test]
    fn a_reported_outage_holds_the_true_one(truth in truths()) {
        let length = in_s(truth.served - truth.began);
        let recovery = truth.seen.add_up();
        if let Some(min) = recovery.outage.seconds_min { prop_assert!(min <= length, "{min} > {length}"); }
        if let Some(max) = recovery.outage.seconds_max { prop_assert!(max >= length, "{max} < {length}"); }
        prop_assert!(!recovery.began_conflict && !recovery.restored_before_began);
        prop_assert_eq!(recovery.outage.seconds_max.is_some(), !truth.seen.began.is_empty() && !truth.seen.restored.is_empty());
    }

    #[test]
    fn one_more_true_observation_never_widens_the_outage(truth in truths(), low in 0i64..5_000_000, high in 0i64..5_000_000, early in 0i64..600_000_000) {
        prop_assume!(!truth.seen.began.is_empty());
        let before = truth.seen.add_up().outage;
        let mut seen = truth.seen.clone();
        seen.began.push(OutageBegan { earliest: micros(truth.began - low), latest: micros(truth.began + high), method: "probe".into() });
        seen.not_before.push(moment(truth.served - early));
        let after = seen.add_up().outage;
        prop_assert!(after.seconds_min.unwrap_or(0.0) >= before.seconds_min.unwrap_or(0.0));
        prop_assert!(after.seconds_max.unwrap_or(f64::INFINITY) <= before.seconds_max.unwrap_or(f64::INFINITY));
    }

    #[test]
    fn a_word_of_a_person_never_narrows_a_measured_outage(truth in truths(), from in -9_000_000i64..9_000_000, long in 0i64..9_000_000) {
        prop_assume!(!truth.seen.began.is_empty());
        let measured = truth.seen.add_up().outage;
        let mut seen = truth.seen.clone();
        let earliest = truth.began + from;
        seen.reported = Some(OutageBegan { earliest: micros(earliest), latest: micros(earliest + long), method: "reported".into() });
        let recovery = seen.add_up();
        // Service that is said to have ended after it was seen to work gives no figure at all.
        if !recovery.restored_before_began {
            prop_assert!(recovery.outage.seconds_min.unwrap_or(0.0) <= measured.seconds_min.unwrap_or(0.0));
            prop_assert!(recovery.outage.seconds_max.unwrap_or(f64::INFINITY) >= measured.seconds_max.unwrap_or(f64::INFINITY));
        }
    }

    #[test]
    fn a_reported_loss_is_never_below_the_true_one(
        truth in prop::collection::btree_map("[a-d]", 0.0f64..1000.0, 1..4),
        seen in prop::collection::vec((0usize..4, 0usize..6, 0.0f64..50.0, prop::option::of(0.0f64..50.0)), 0..12),
    ) {
        let methods = ["exact-lsn", "heartbeat", "replay-timestamp", "backup-start", "unknown", "guess"];
        let names: Vec<&String> = truth.keys().collect();
        let losses: Vec<Loss> = seen.iter().map(|(who, method, below, above)| {
            let name = names[who % names.len()];
            let true_loss = truth[name];
            loss(name, methods[*method], Some((true_loss - below).max(0.0)), above.map(|above| true_loss + above), None)
        }).collect();
        let acted_on: BTreeSet<String> = truth.keys().cloned().collect();
        let worst = loss::worst(&loss::by_resource(&losses, &acted_on));
        let true_worst = truth.values().copied().fold(0.0, f64::max);
        if let Some(max) = worst.seconds_max { prop_assert!(max >= true_worst, "{max} < {true_worst}"); }
        if let Some(min) = worst.seconds_min { prop_assert!(min <= true_worst, "{min} > {true_worst}"); }
    }

    #[test]
    fn a_looser_objective_is_never_kept_worse(min in 0.0f64..100.0, width in 0.0f64..100.0, tight in 0.0f64..200.0, more in 0.0f64..200.0) {
        let actual = Figure { seconds_min: Some(min), seconds_max: Some(min + width) };
        let rank = |kept: Option<bool>| match kept { Some(false) => 0, None => 1, Some(true) => 2 };
        prop_assert!(rank(verdict::within(actual, Some(tight))) <= rank(verdict::within(actual, Some(tight + more))));
        // A wider interval never proves more.
        let wider = Figure { seconds_min: Some(min / 2.0), seconds_max: None };
        prop_assert!(verdict::within(wider, Some(tight)) != Some(true));
    }

    #[test]
    fn what_is_shown_holds_the_interval_it_is_made_from(min in 0.0f64..10_000.0, width in 0.0f64..5_000.0) {
        let shown = crate::words::interval(Figure { seconds_min: Some(min), seconds_max: Some(min + width) });
        let (low, high) = read(&shown);
        prop_assert!(low <= min + 2e-6 && high >= min + width - 2e-6, "{shown} for {min}..{}", min + width);
    }
}

/// Reads a shown interval back.
fn read(shown: &str) -> (f64, f64) {
    let one = |text: &str| -> f64 {
        let mut total = 0.0;
        let words: Vec<&str> = text.split_whitespace().collect();
        for pair in words.chunks(2) {
            let unit = match pair.get(1).copied() {
                Some("h") => 3600.0,
                Some("min") => 60.0,
                Some("s") | None => 1.0,
                Some(other) => panic!("unit {other}"),
            };
            total += pair[0].parse::<f64>().unwrap() * unit;
        }
        total
    };
    match shown.split_once('–') {
        None => (one(shown), one(shown)),
        Some((low, high)) => {
            let high = high.trim();
            let low = if low.ends_with(' ') { low.trim().to_owned() } else { format!("{low} {}", high.split_whitespace().last().unwrap()) };
            (one(&low), one(high))
        }
    }
}
