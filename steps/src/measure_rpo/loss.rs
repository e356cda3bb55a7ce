//! What is lost if a replica takes over: from facts to an interval with its method. Pure; gathering the facts is next door.

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::measure::Loss;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clients::postgres::Lsn;
use crate::heartbeat::{Acknowledged, Found};

/// The latest instant at which the old primary could have acknowledged a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceEnd {
    /// It cannot have acknowledged anything after this instant.
    At {
        /// When.
        at: Timestamp,
        /// How that is known.
        because: String,
    },
    /// It takes writes, or nobody knows that it does not: the loss grows as time passes.
    Open,
}

/// Everything that is known when the loss is weighed.
#[derive(Clone, Debug)]
pub struct LossFacts<'a> {
    /// The database's name.
    pub resource: &'a str,
    /// When it is weighed.
    pub now: Timestamp,
    /// When the old primary ended.
    pub source_end: SourceEnd,
    /// Where the old primary's log ends, read before `kept_to`; `None` if unknown.
    pub source_position: Option<(Lsn, Timestamp)>,
    /// Transactions in the source's log beyond `kept_to`, where that could be read.
    pub lost_transactions: Option<u64>,
    /// Up to where the log is kept: the replica's position, or the fork.
    pub kept_to: Option<Lsn>,
    /// The last heartbeat of the old timeline that the replica holds.
    pub found: Option<&'a Found>,
    /// What was acknowledged.
    pub acknowledged: Option<&'a Acknowledged>,
    /// The old timeline.
    pub timeline: u32,
    /// Commit time of the last transaction that the replica replayed.
    pub last_replayed_commit: Option<Timestamp>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// The loss.
    pub loss: Loss,
    /// Whether it grows as time passes.
    pub growth: Growth,
    /// Everything acknowledged up to here is on the replica.
    pub recovered_to: Option<Timestamp>,
    /// The last instant at which something is known to have been acknowledged.
    pub acknowledged_to: Option<Timestamp>,
}

/// Readings of the clock that are closer than this are one: a figure that went through the journal comes back with its last digit
/// changed, and a loss that grows is measured some microseconds before its instant is written down.
pub(crate) const CLOCK_GRAIN_SECONDS: f64 = 0.01;

/// Whether a loss grows as time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// The old primary may still acknowledge commits that the replica does not get.
    Growing,
    /// The old primary has ended.
    Settled,
}

/// Weighs. The upper bound is never below the true loss, counted as the time from the last commit that is kept to the last one
/// acknowledged: whatever was acknowledged before a kept heartbeat was sent precedes it in the log, and so is kept too.
///
/// Sessions that chose `synchronous_commit = off` chose to have commits acknowledged before they are in the log; those are not counted.
#[must_use]
pub fn weigh(facts: &LossFacts<'_>) -> Weighed {
    let (end, growth) = match &facts.source_end {
        SourceEnd::At { at, .. } => (*at, Growth::Settled),
        SourceEnd::Open => (facts.now, Growth::Growing),
    };
    let bytes = facts.source_position.zip(facts.kept_to).map(|((source, _), kept)| source.beyond(kept));
    let acked = facts.acknowledged.and_then(|kept| kept.last_on(facts.timeline));
    let loss = |method: &str, min: Option<f64>, max: Option<f64>| Loss {
        resource: facts.resource.to_owned(),
        method: method.to_owned(),
        seconds_min: min,
        seconds_max: max,
        bytes,
    };
    let recovered_by_heartbeat = facts.found.map(|found| found.sent_at);
    let (loss, recovered_to) = match (bytes, facts.source_position, facts.found, facts.last_replayed_commit) {
        // The log that is missing holds no transaction, so nothing that was acknowledged is in it.
        _ if growth == Growth::Settled && (bytes == Some(0) || facts.lost_transactions == Some(0)) => {
            (loss("exact-lsn", Some(0.0), Some(0.0)), Some(end))
        }
        // The replica has the whole log as it was when the source was asked; a live source may have gone on since.
        (Some(0), Some((_, asked_at)), _, _) => (loss("exact-lsn", Some(0.0), Some(seconds(asked_at, end))), Some(asked_at)),
        (_, _, Some(found), _) => {
            (loss("heartbeat", Some(surely_lost(facts, found)), Some(seconds(found.sent_at, end))), recovered_by_heartbeat)
        }
        // The server stamps a commit before it writes its record, so later commits were stamped later but for clock resolution.
        (_, _, None, Some(commit)) => (loss("replay-timestamp", Some(0.0), Some(seconds(commit, end))), Some(commit)),
        (_, _, None, None) => (loss("unknown", None, None), None),
    };
    Weighed { loss, growth, recovered_to, acknowledged_to: acked.map(|beat| beat.acked_at) }
}

/// At least so many seconds of acknowledged commits are gone: from the first missing heartbeat to the last one acknowledged.
fn surely_lost(facts: &LossFacts<'_>, found: &Found) -> f64 {
    let Some(kept) = facts.acknowledged else {
        return 0.0;
    };
    match (kept.last_on(facts.timeline), kept.first_after(found.n, facts.timeline)) {
        (Some(last), Some(first_lost)) if last.n > found.n => seconds(first_lost.acked_at, last.sent_at),
        (Some(_) | None, Some(_) | None) => 0.0,
    }
}

/// Seconds from one instant to a later one; zero if it is not later.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::Beat;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn beats(count: u64) -> Acknowledged {
        let mut kept = Acknowledged::new("orders-db", 1000);
        for n in 1..=count {
            let sent = i64::try_from(n).unwrap() * 1000;
            kept.acknowledge(Beat { n, timeline: 1, node: "a".into(), sent_at: at(sent), acked_at: at(sent + 10) });
        }
        kept
    }

    fn facts<'a>(found: Option<&'a Found>, kept: &'a Acknowledged) -> LossFacts<'a> {
        LossFacts {
            resource: "orders-db",
            now: at(60_000),
            source_end: SourceEnd::At { at: at(10_500), because: "its log was last written then".into() },
            source_position: None,
            lost_transactions: None,
            kept_to: Some(Lsn(500)),
            found,
            acknowledged: Some(kept),
            timeline: 1,
            last_replayed_commit: Some(at(6_500)),
        }
    }

    #[test]
    fn a_lost_stretch_lies_between_the_missing_heartbeats_and_the_end_of_the_source() {
        let kept = beats(10);
        let found = Found { n: 6, timeline: 1, sent_at: at(6_000) };
        let weighed = weigh(&facts(Some(&found), &kept));
        assert_eq!(weighed.loss.method, "heartbeat");
        assert_eq!(weighed.loss.seconds_min, Some(2.99), "from the acknowledgement of 7 to the sending of 10");
        assert_eq!(weighed.loss.seconds_max, Some(4.5), "from the sending of 6 to the end of the source");
        assert_eq!(weighed.growth, Growth::Settled);
    }

    #[test]
    fn a_source_that_may_live_loses_more_as_time_passes() {
        let kept = beats(10);
        let found = Found { n: 10, timeline: 1, sent_at: at(10_000) };
        let weighed = weigh(&LossFacts { source_end: SourceEnd::Open, ..facts(Some(&found), &kept) });
        assert_eq!((weighed.loss.seconds_min, weighed.loss.seconds_max), (Some(0.0), Some(50.0)));
        assert_eq!(weighed.growth, Growth::Growing);
    }

    #[test]
    fn the_same_position_is_no_loss_only_where_the_source_has_ended() {
        let kept = beats(10);
        let same = LossFacts { source_position: Some((Lsn(500), at(59_900))), ..facts(None, &kept) };
        let ended = weigh(&same);
        assert_eq!((ended.loss.method.as_str(), ended.loss.seconds_max, ended.loss.bytes), ("exact-lsn", Some(0.0), Some(0)));
        let idle = LossFacts { source_position: Some((Lsn(548), at(59_900))), lost_transactions: Some(0), ..same.clone() };
        assert_eq!((weigh(&idle).loss.seconds_max, weigh(&idle).loss.bytes), (Some(0.0), Some(48)));
        let lives = weigh(&LossFacts { source_end: SourceEnd::Open, ..same });
        assert_eq!(lives.loss.seconds_max, Some(0.1));
    }

    #[test]
    fn bytes_that_are_missing_are_counted_beside_the_seconds() {
        let kept = beats(10);
        let found = Found { n: 6, timeline: 1, sent_at: at(6_000) };
        let weighed = weigh(&LossFacts { source_position: Some((Lsn(800), at(59_900))), ..facts(Some(&found), &kept) });
        assert_eq!((weighed.loss.method.as_str(), weighed.loss.bytes), ("heartbeat", Some(300)));
    }

    #[test]
    fn without_a_heartbeat_the_replayed_commits_bound_the_loss_and_without_those_nothing_does() {
        let kept = beats(0);
        let weighed = weigh(&facts(None, &kept));
        assert_eq!((weighed.loss.method.as_str(), weighed.loss.seconds_max), ("replay-timestamp", Some(4.0)));
        let weighed = weigh(&LossFacts { last_replayed_commit: None, ..facts(None, &kept) });
        assert_eq!((weighed.loss.method.as_str(), weighed.loss.seconds_min, weighed.loss.seconds_max), ("unknown", None, None));
    }

    #[test]
    fn a_heartbeat_that_arrived_without_its_acknowledgement_is_no_loss() {
        let kept = beats(10);
        let found = Found { n: 11, timeline: 1, sent_at: at(11_000) };
        let weighed = weigh(&facts(Some(&found), &kept));
        assert_eq!((weighed.loss.seconds_min, weighed.loss.seconds_max), (Some(0.0), Some(0.0)));
    }
}
