//! How much data was lost, as an interval with its method. Never below the truth; unknown where any part of it is unknown.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_engine::measure::Loss;

use crate::report::Rpa;

/// Methods, best first. Others rank below all of these.
const METHODS: [&str; 4] = ["exact-lsn", "heartbeat", "replay-timestamp", "backup-start"];

/// What stands for a method that is not known.
pub(super) const UNKNOWN: &str = "unknown";

fn rank(method: &str) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len())
}

pub(super) fn unknown(resource: Option<String>) -> Rpa {
    Rpa { resource, method: UNKNOWN.to_owned(), seconds_min: None, seconds_max: None, bytes: None }
}

/// A number that a journal may hold and arithmetic can bear. Anything else is as good as unknown.
fn sane(seconds: Option<f64>) -> Option<f64> {
    // Adding zero makes a negative zero a plain one.
    seconds.filter(|s| s.is_finite() && *s >= 0.0).map(|s| s + 0.0)
}

/// One measured loss as it is reported.
pub(super) fn of(loss: &Loss) -> Rpa {
    let (min, max) = (sane(loss.seconds_min), sane(loss.seconds_max));
    let method = if rank(&loss.method) < METHODS.len() { loss.method.clone() } else { UNKNOWN.to_owned() };
    // A lower end above the upper one contradicts itself; the larger is kept as the upper end, so that it is not below the truth.
    match (min, max) {
        (Some(low), Some(high)) if low > high => {
            Rpa { resource: Some(loss.resource.clone()), method, seconds_min: Some(high), seconds_max: Some(low), bytes: loss.bytes }
        }
        _ => Rpa { resource: Some(loss.resource.clone()), method, seconds_min: min, seconds_max: max, bytes: loss.bytes },
    }
}

/// One loss for each resource: by the best method that bounds it from above, and for several of that method their hull.
/// A resource that was acted on, or whose loss was foreseen, without a measured loss is unknown.
pub(super) fn by_resource(losses: &[Loss], acted_on: &BTreeSet<String>) -> Vec<Rpa> {
    let mut groups: BTreeMap<&str, Vec<Rpa>> = acted_on.iter().map(|resource| (resource.as_str(), Vec::new())).collect();
    for loss in losses {
        groups.entry(&loss.resource).or_default().push(of(loss));
    }
    groups.into_iter().map(|(resource, group)| best(resource, &group)).collect()
}

fn best(resource: &str, group: &[Rpa]) -> Rpa {
    let order = |rpa: &Rpa| (rpa.seconds_max.is_none(), rank(&rpa.method));
    let Some(first) = group.iter().min_by_key(|rpa| order(rpa)) else { return unknown(Some(resource.to_owned())) };
    let same: Vec<&Rpa> = group.iter().filter(|rpa| order(rpa) == order(first)).collect();
    let least = |values: Vec<Option<f64>>| {
        values.into_iter().collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(f64::INFINITY, f64::min))
    };
    let most = |values: Vec<Option<f64>>| values.into_iter().collect::<Option<Vec<f64>>>().map(|all| all.into_iter().fold(0.0, f64::max));
    Rpa {
        resource: Some(resource.to_owned()),
        method: first.method.clone(),
        seconds_min: least(same.iter().map(|rpa| rpa.seconds_min).collect()),
        seconds_max: most(same.iter().map(|rpa| rpa.seconds_max).collect()),
        // Positions count bytes even where they tell no time, so the best method that has them speaks.
        bytes: group
            .iter()
            .filter(|rpa| rpa.bytes.is_some())
            .min_by_key(|rpa| rank(&rpa.method))
            .and_then(|best| group.iter().filter(|rpa| rank(&rpa.method) == rank(&best.method)).filter_map(|rpa| rpa.bytes).max()),
    }
}

/// The loss of the service: its worst resource, and unknown above where one of them is unknown.
pub(super) fn worst(all: &[Rpa]) -> Rpa {
    let Some(decisive) = all.iter().max_by(|a, b| height(a).total_cmp(&height(b))) else { return unknown(None) };
    let least = all.iter().filter_map(|rpa| rpa.seconds_min).fold(None, |least: Option<f64>, min| Some(least.map_or(min, |l| l.max(min))));
    Rpa {
        resource: decisive.resource.clone(),
        method: if decisive.seconds_max.is_some() || least.is_some() { decisive.method.clone() } else { UNKNOWN.to_owned() },
        seconds_min: least,
        seconds_max: decisive.seconds_max,
        bytes: all.iter().map(|rpa| rpa.bytes).try_fold(0u64, |sum, bytes| sum.checked_add(bytes?)),
    }
}

/// An unknown upper end is above every known one.
fn height(rpa: &Rpa) -> f64 {
    rpa.seconds_max.unwrap_or(f64::INFINITY)
}
