//! What a step's output says about recovery time and data loss, in words that the report understands for every step type.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One measured contribution to the actual recovery time or point. Intervals, because the truth lies between observations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// Service ended between these instants: the last success seen and the first failure seen.
    OutageBegan {
        /// Last success seen.
        earliest: Timestamp,
        /// First failure seen.
        latest: Timestamp,
        /// How it was seen: `heartbeat`, `probe`.
        method: String,
    },
    /// Clients cannot have been served again before this instant.
    NotRestoredBefore {
        /// When.
        at: Timestamp,
        /// Why not: `the DNS record still named us-east-1`.
        because: String,
    },
    /// Clients that cached something old follow by this instant at the latest.
    ClientsFollowBy {
        /// When.
        at: Timestamp,
        /// Why so late: `answers with a TTL of 1 s were given out until then`.
        because: String,
    },
    /// Service was seen working from outside: the first success of the unbroken streak that counted.
    ServiceRestored {
        /// First success of the streak.
        at: Timestamp,
        /// What was checked.
        method: String,
    },
    /// The last check passed.
    Verified {
        /// When.
        at: Timestamp,
    },
    /// The old primary was proven unable to take writes.
    Fenced {
        /// When it was proven.
        at: Timestamp,
    },
    /// A promotion was asked for.
    PromoteSent {
        /// When.
        at: Timestamp,
    },
    /// The new primary took a committed write.
    Writable {
        /// When.
        at: Timestamp,
    },
    /// Data that acting now would lose (an estimate before the act).
    ExpectedLoss(Loss),
    /// Data that was lost (measured after the act).
    Loss(Loss),
}

/// An amount of lost data as an interval with its method. Absent means unknown; unknown is never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// The resource that lost it.
    pub resource: String,
    /// `exact-lsn`, `heartbeat`, `replay-timestamp` or `unknown`, best first.
    pub method: String,
    /// At least so many seconds of acknowledged commits are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_min: Option<f64>,
    /// At most so many seconds of acknowledged commits are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_max: Option<f64>,
    /// Bytes of WAL or data, where both ends are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}
