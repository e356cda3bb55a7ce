//! How long a run will take: the critical path over its plan, weighed with the timings of earlier runs. Pure.

use serde::{Deserialize, Serialize};

use lifeboat_runbooks::names::StepId;

/// How long a run is expected to take, waits for people left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// With the middle timing of every step, in milliseconds.
    pub p50_ms: u64,
    /// With the timing of every step that nine of ten runs stayed within, in milliseconds.
    pub p90_ms: u64,
    /// Earlier runs that the timings are from.
    pub runs: u64,
    /// Steps that will run and were never timed: they count as nothing above, so that the figures are a lower bound.
    pub never_timed: Vec<StepId>,
    /// Steps that wait for people, however long that takes.
    pub waits_for_people: Vec<StepId>,
}
