//! The step of the bench: it does nothing, and answers with as many bytes as it is asked for. It has nothing to look at first.

use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_engine::step::{Gate, Observation, Readiness, Step, StepError};
use lifeboat_engine::{Effect, Evidence, ReadContext, StepContext, Touch};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Calls of this process that have begun: how far a crowd of runs is.
pub(crate) static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// Does nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noop {
    /// Bytes of its output.
    #[serde(default)]
    bytes: usize,
    /// Milliseconds until it answers.
    #[serde(default)]
    after_ms: u64,
}

/// Nothing to know again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Intent {}

/// The bytes asked for.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Output {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    filler: String,
}

impl Step for Noop {
    const TYPE: &'static str = "noop";
    const VERSION: u16 = 1;
    const EFFECT: Effect = Effect::Read;
    const GATE: Gate = Gate::Nothing;
    type Intent = Intent;
    type Output = Output;

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn preview(&self) -> String {
        "do nothing".into()
    }

    async fn prepare(&self, _cx: &ReadContext) -> Result<Readiness<Intent>, StepError> {
        Ok(Readiness::Ready { intent: Intent {}, evidence: Evidence::none() })
    }

    async fn execute(&self, _intent: &Intent, cx: &StepContext) -> Result<Output, StepError> {
        BEGUN.fetch_add(1, Ordering::Relaxed);
        if self.after_ms > 0 {
            cx.sleep(std::time::Duration::from_millis(self.after_ms)).await;
        }
        Ok(Output { filler: "x".repeat(self.bytes) })
    }

    async fn observe(&self, _intent: &Intent, _cx: &ReadContext) -> Result<Observation<Output>, StepError> {
        // One that takes time is found to go on by itself, as a wait is; what did nothing needs nobody to tell.
        Ok(if self.after_ms > 0 { Observation::InProgress } else { Observation::NotDone })
    }
}
