//! How long service was out, as an interval that holds the truth. Where the observations come from is in `history`.

use jiff::Timestamp;

use crate::report::{Figure, Moment, OutageBegan};

/// What was observed of the end of service and of its return.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed {
    /// Service ended inside each of these, as it was measured.
    pub(super) began: Vec<OutageBegan>,
    /// Service ended inside this, as a person said.
    pub(super) reported: Option<OutageBegan>,
    /// Service cannot have been back before any of these.
    pub(super) not_before: Vec<Moment>,
    /// Service was seen working.
    pub(super) restored: Vec<Moment>,
    /// Clients with old answers followed by these.
    pub(super) follow: Vec<Moment>,
    /// Nanoseconds by which the recording clock went back during the run: true lengths may be longer by so much.
    pub(super) went_back_ns: i128,
}

/// What the observations add up to.
#[derive(Clone, Debug, Default)]
pub(super) struct Recovery {
    pub(super) began: Option<OutageBegan>,
    pub(super) not_before: Option<Moment>,
    pub(super) restored: Option<Moment>,
    pub(super) follow: Option<Moment>,
    /// Observations of the outage's begin that exclude each other: their hull is used.
    pub(super) began_conflict: bool,
    /// Service was seen working before it ended: no length can be told.
    pub(super) restored_before_began: bool,
    /// The length of the outage.
    pub(super) outage: Figure,
}

impl Observed {
    /// When service ended: measured where it was measured. What a person said fills the gap where nothing was, and widens the interval where
    /// it excludes what was measured; it never narrows it, because a figure must not get better by a word.
    fn began(&self) -> (Option<OutageBegan>, bool) {
        let (measured, conflict) = meet(&self.began);
        match (measured, &self.reported) {
            (Some(measured), Some(reported)) if conflict || !overlap(&measured, reported) => {
                let ((low, high), (said_low, said_high)) = (ends(&measured), ends(reported));
                let method = format!("{} + {}", reported.method, measured.method);
                (Some(OutageBegan { earliest: low.min(said_low), latest: high.max(said_high), method }), true)
            }
            (Some(measured), _) => (Some(measured), conflict),
            (None, reported) => (meet(reported.as_slice()).0, false),
        }
    }

    /// The tightest interval that all observations allow.
    pub(super) fn add_up(&self) -> Recovery {
        let (began, began_conflict) = self.began();
        let latest = |moments: &[Moment]| moments.iter().max_by_key(|moment| moment.at).cloned();
        let mut recovery = Recovery {
            began,
            began_conflict,
            not_before: latest(&self.not_before),
            restored: latest(&self.restored),
            follow: latest(&self.follow),
            ..Recovery::default()
        };
        if let Some(began) = recovery.began.clone() {
            let served = recovery.served_by();
            recovery.restored_before_began = served.is_some_and(|served| served < began.earliest);
            if !recovery.restored_before_began {
                recovery.outage = self.length(&began, recovery.not_before.as_ref(), served);
            }
        }
        recovery
    }

    fn length(&self, began: &OutageBegan, not_before: Option<&Moment>, served: Option<Timestamp>) -> Figure {
        let lower = not_before.map(|moment| nanoseconds(began.latest, moment.at).max(0));
        let upper = served.map(|served| nanoseconds(began.earliest, served) + self.went_back_ns);
        Figure {
            // Once service is back, an outage that nothing bounds from below lasted at least no time at all.
            seconds_min: lower.or(upper.map(|_| 0)).map(|ns| floor_micros(upper.map_or(ns, |upper| ns.min(upper)))),
            seconds_max: upper.map(ceil_micros),
        }
    }
}

impl Recovery {
    /// When the last client was served at the latest. Known only where service was seen working.
    pub(super) fn served_by(&self) -> Option<Timestamp> {
        let restored = self.restored.as_ref()?.at;
        let others = [&self.follow, &self.not_before].into_iter().flatten().map(|moment| moment.at);
        Some(others.fold(restored, Timestamp::max))
    }
}

/// The earlier and the later end.
fn ends(one: &OutageBegan) -> (Timestamp, Timestamp) {
    (one.earliest.min(one.latest), one.earliest.max(one.latest))
}

fn overlap(one: &OutageBegan, other: &OutageBegan) -> bool {
    let ((low, high), (other_low, other_high)) = (ends(one), ends(other));
    low <= other_high && other_low <= high
}

/// The intersection, or the hull where there is none (second answer: true).
fn meet(all: &[OutageBegan]) -> (Option<OutageBegan>, bool) {
    let Some((first_low, first_high)) = all.first().map(ends) else { return (None, false) };
    let mut methods: Vec<&str> = Vec::new();
    let (mut inner, mut hull) = ((first_low, first_high), (first_low, first_high));
    for one in all {
        let (low, high) = ends(one);
        inner = (inner.0.max(low), inner.1.min(high));
        hull = (hull.0.min(low), hull.1.max(high));
        if !methods.contains(&one.method.as_str()) {
            methods.push(&one.method);
        }
    }
    let conflict = inner.0 > inner.1;
    let (earliest, latest) = if conflict { hull } else { inner };
    (Some(OutageBegan { earliest, latest, method: methods.join(" + ") }), conflict)
}

/// From one instant to another; negative where the second is earlier.
pub(super) fn nanoseconds(from: Timestamp, to: Timestamp) -> i128 {
    to.as_nanosecond() - from.as_nanosecond()
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a run are far below 2^53")]
pub(super) fn floor_micros(ns: i128) -> f64 {
    ns.div_euclid(1000) as f64 / 1e6
}

pub(super) fn ceil_micros(ns: i128) -> f64 {
    floor_micros(ns + 999)
}

/// A length for people and sums; absent where the clock went back in between.
pub(super) fn length(from: Timestamp, to: Timestamp) -> Option<f64> {
    let ns = nanoseconds(from, to);
    (ns >= 0).then(|| floor_micros(ns))
}
