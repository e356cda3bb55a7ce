//! The `wait` step type: lets time pass. Waiting for something to happen is `verify`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::step::{Facts, Gate, Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Evidence, Period, ReadContext, StepContext, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Waits a fixed time, or until an instant. A restart does not begin the wait anew.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, try_from = "Written")]
pub struct Wait {
    /// How long, counted from when the step starts.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    length: Option<Period>,
    /// Until when, with its offset: `2026-11-22T04:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    until: Option<Timestamp>,
}

/// The parameters as written, before it is known that exactly one is there.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// How long, counted from when the step starts.
    #[serde(rename = "for", default)]
    length: Option<Period>,
    /// Until when, with its offset: `2026-11-22T04:00:00Z`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    until: Option<Timestamp>,
}

impl TryFrom<Written> for Wait {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let Written { length, until } = written;
        match (&length, &until) {
            (Some(_), None) | (None, Some(_)) => Ok(Self { length, until }),
            (None, None) => Err("say how long: give `for: 30s` or `until: 2026-11-22T04:00:00Z`".into()),
            (Some(_), Some(_)) => Err("give either `for` or `until`, not both".into()),
        }
    }
}

/// The end of the wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// When it is over, by the wall clock, so that it survives a restart.
    pub until: Timestamp,
}

/// When the wait was over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Waited {
    /// The instant that was waited for.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// When the step saw that it had passed.
    #[schemars(with = "String")]
    pub seen_at: Timestamp,
}

/// Longest single sleep: the wall clock may be set meanwhile, and is read again after each.
const SLEEP_MAX: Duration = Duration::from_secs(10);

impl Step for Wait {
    const TYPE: &'static str = "wait";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Read;
    const GATE: Gate = Gate::Nothing;
    // Waiting again would measure nothing.
    const FACTS: Facts = Facts::Fixed;
    type Intent = Intent;
    type Output = Waited;

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn preview(&self) -> String {
        match (&self.length, &self.until) {
            (Some(length), _) => format!("wait {length}"),
            (None, Some(until)) => format!("wait until {until}"),
            (None, None) => "wait".into(),
        }
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
        let until = match (&self.length, &self.until) {
            (Some(length), _) => SignedDuration::try_from(length.0).ok().and_then(|length| cx.now().checked_add(length).ok()),
            (None, until) => *until,
        };
        match until {
            Some(until) => Ok(Readiness::Ready { intent: Intent { until }, evidence: Evidence::of("waits until", until.to_string()) }),
            None => Ok(Readiness::Refused { why: "the end of the wait is out of range".into(), evidence: Evidence::none() }),
        }
    }

    async fn execute(&self, intent: &Intent, cx: &StepContext) -> Result<Waited, StepError> {
        loop {
            let now = cx.now();
            let Some(left) = left(now, intent.until) else {
                return Ok(Waited { until: intent.until, seen_at: now });
            };
            let time_left = cx.time_left();
            if left > time_left {
                let why = format!(
                    "the wait ends in {} s, and the step is cut off in {} s: give the step a longer `timeout`",
                    left.as_secs(),
                    time_left.as_secs()
                );
                return Err(StepError::hopeless(why));
            }
            cx.progress(&format!("{} s left", left.as_secs_f64().ceil()));
            tokio::select! {
                biased;
                () = cx.turned_back() => return Err(StepError::hopeless("the run turned back, so the wait was ended early")),
                () = cx.sleep(left.min(SLEEP_MAX)) => {}
            }
        }
    }

    async fn observe(&self, intent: &Intent, cx: &ReadContext) -> Result<Observation<Waited>, StepError> {
        let now = cx.now();
        Ok(match left(now, intent.until) {
            None => Observation::Done(Waited { until: intent.until, seen_at: now }),
            Some(_) => Observation::InProgress,
        })
    }
}

/// Time from now until then, or `None` once it has come.
fn left(now: Timestamp, until: Timestamp) -> Option<Duration> {
    Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero())
}
