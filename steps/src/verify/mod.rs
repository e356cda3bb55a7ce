//! The `verify` step type: its parameters, its rounds, its output. How each kind of check is made is in `check` and beside it.

mod check;
mod path;
mod sql;
mod streak;

use std::time::Duration;

use jiff::Timestamp;
use lifeboat_engine::step::{Gate, Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Evidence, Measure, Period, ReadContext, StepContext, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub use check::{Check, DnsCheck, HttpCheck, Statuses, TcpCheck};
pub use sql::SqlCheck;
use streak::Streak;

/// Makes checks from outside, again and again, until all of them pass often enough in a row, and states since when.
///
/// It only reads. All checks are made in rounds, so that at the end all of them hold at the same time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// What must hold.
    #[schemars(length(min = 1, max = 32))]
    pub checks: Vec<Check>,
    /// How long all of it may take. The step's own `timeout` may end it sooner.
    #[serde(default = "two_minutes")]
    pub within: Period,
    /// Pause between two rounds.
    #[serde(default = "quarter_second")]
    pub interval: Period,
}

/// Most checks of one step.
pub const CHECKS_MAX: usize = 32;

fn two_minutes() -> Period {
    Period(Duration::from_secs(120))
}

fn quarter_second() -> Period {
    Period(Duration::from_millis(250))
}

/// Nothing has to be known again: checks are made anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// When the step was prepared.
    pub prepared_at: Timestamp,
}

/// Since when everything holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    /// When the last of the checks began to pass without a break.
    #[schemars(with = "String")]
    pub restored_at: Timestamp,
    /// When the last success that was asked for was seen.
    #[schemars(with = "String")]
    pub verified_at: Timestamp,
    /// Each check.
    pub checks: Vec<CheckSeen>,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckSeen {
    /// What was checked, in words.
    pub check: String,
    /// The first success of the unbroken streak.
    #[schemars(with = "String")]
    pub first_success_at: Timestamp,
    /// Length of that streak.
    pub consecutive: u32,
    /// How often it was made.
    pub attempts: u32,
    /// How often it failed.
    pub failures: u32,
    /// How long the last one took, in milliseconds.
    pub latency_ms: u64,
    /// What was found at last.
    pub found: String,
}

/// One making of a check.
#[derive(Clone, Debug)]
struct Made {
    /// What was found, or why it does not pass.
    found: Result<String, String>,
    /// When the answer was there.
    at: Timestamp,
    /// How long it took.
    latency: Duration,
}

impl Step for Verify {
    const TYPE: &'static str = "verify";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Read;
    const GATE: Gate = Gate::Nothing;
    type Intent = Intent;
    type Output = Verified;

    fn touches(&self) -> Vec<Touch> {
        let mut resources: Vec<String> = self.checks.iter().flat_map(Check::resources).collect();
        resources.sort_unstable();
        resources.dedup();
        resources.into_iter().map(|resource| Touch { resource, effect: Effect::Read }).collect()
    }

    fn preview(&self) -> String {
        let checks: Vec<String> = self.checks.iter().map(ToString::to_string).collect();
        format!("check within {} that {}", self.within, checks.join("; that "))
    }

    fn measures(output: &Verified) -> Vec<Measure> {
        let method: Vec<&str> = output.checks.iter().map(|check| check.check.as_str()).collect();
        vec![Measure::ServiceRestored { at: output.restored_at, method: method.join("; ") }, Measure::Verified { at: output.verified_at }]
    }

    /// There is an output only where every check passed: passing later, or after another number of tries, is no worse.
    fn worse(_: &Verified, _: &Verified) -> Option<String> {
        None
    }

    async fn prepare(&self, cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
        if self.checks.is_empty() || self.checks.len() > CHECKS_MAX {
            let why = format!("a verify step makes 1 to {CHECKS_MAX} checks, not {}", self.checks.len());
            return Ok(Readiness::Refused { why, evidence: Evidence::none() });
        }
        // The service itself is not asked: before the steps in front of this one, it need not answer.
        for check in &self.checks {
            if let Err(why) = check.prepare(cx) {
                return Ok(Readiness::Refused { why: format!("the check that {check} cannot be made: {why}"), evidence: Evidence::none() });
            }
        }
        Ok(Readiness::Ready {
            intent: Intent { prepared_at: cx.now() },
            evidence: Evidence::of("checks that can be made", self.checks.len()),
        })
    }

    async fn execute(&self, _: &Intent, cx: &StepContext) -> Result<Verified, StepError> {
        let began = cx.clock.instant();
        let mut streaks = vec![Streak::default(); self.checks.len()];
        loop {
            let made = self.round(cx).await?;
            for (streak, made) in streaks.iter_mut().zip(&made) {
                match &made.found {
                    Ok(_) => streak.passed(made.at),
                    Err(_) => streak.failed(),
                }
            }
            if let Some(verified) = self.verified(&streaks, &made) {
                return Ok(verified);
            }
            cx.progress(&self.progress(&streaks, &made));
            let left = self.within.0.saturating_sub(cx.clock.instant().since(began)).min(cx.time_left().saturating_sub(MARGIN));
            if left <= self.interval.0 {
                return Err(StepError::not_done(self.failure(&streaks, &made)));
            }
            cx.sleep(self.interval.0).await;
        }
    }

    async fn observe(&self, _: &Intent, _: &ReadContext) -> Result<Observation<Verified>, StepError> {
        Ok(Observation::NotDone)
    }
}

/// Kept back from the deadline, so that the reason can still be told.
const MARGIN: Duration = Duration::from_millis(200);

impl Verify {
    async fn round(&self, cx: &ReadContext) -> Result<Vec<Made>, StepError> {
        let mut making = JoinSet::new();
        for (place, check) in self.checks.iter().cloned().enumerate() {
            let cx = cx.clone();
            making.spawn(async move {
                let began = cx.clock.instant();
                let found = check.make(&cx).await;
                let latency = cx.clock.instant().since(began);
                let found = found.and_then(|found| check.in_time(latency).map(|()| found));
                (place, Made { found, at: cx.now(), latency })
            });
        }
        let mut made = Vec::with_capacity(self.checks.len());
        while let Some(joined) = making.join_next().await {
            made.push(joined.map_err(|error| StepError::not_done(format!("a check was cut off: {error}")))?);
        }
        made.sort_by_key(|(place, _)| *place);
        Ok(made.into_iter().map(|(_, made)| made).collect())
    }

    fn verified(&self, streaks: &[Streak], made: &[Made]) -> Option<Verified> {
        let mut checks = Vec::with_capacity(self.checks.len());
        for ((check, streak), made) in self.checks.iter().zip(streaks).zip(made) {
            let first_success_at = streak.reached(check.consecutive())?;
            checks.push(CheckSeen {
                check: check.to_string(),
                first_success_at,
                consecutive: streak.length(),
                attempts: streak.attempts(),
                failures: streak.failures(),
                latency_ms: u64::try_from(made.latency.as_millis()).unwrap_or(u64::MAX),
                found: made.found.clone().ok()?,
            });
        }
        let restored_at = checks.iter().map(|check| check.first_success_at).max()?;
        let verified_at = made.iter().map(|made| made.at).max()?;
        Some(Verified { restored_at, verified_at, checks })
    }

    fn progress(&self, streaks: &[Streak], made: &[Made]) -> String {
        let good = self.checks.iter().zip(streaks).filter(|(check, streak)| streak.reached(check.consecutive()).is_some()).count();
        let failing = made.iter().find_map(|made| made.found.as_ref().err());
        let failing = failing.map_or_else(String::new, |why| format!(": {why}"));
        format!("{good} of {} checks hold{failing}", self.checks.len())
    }

    fn failure(&self, streaks: &[Streak], made: &[Made]) -> String {
        let open = self.checks.iter().zip(streaks).zip(made).filter(|((check, streak), _)| streak.reached(check.consecutive()).is_none());
        let open: Vec<String> = open
            .map(|((check, streak), made)| match &made.found {
                Err(why) => format!("{check}: {why} ({} of {} attempts failed)", streak.failures(), streak.attempts()),
                Ok(_) => format!("{check}: passed {} times in a row, {} are needed", streak.length(), check.consecutive()),
            })
            .collect();
        format!("the service was not seen to work within {}: {}", self.within, open.join("; "))
    }
}
