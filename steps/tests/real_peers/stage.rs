//! What the tests of step types share: an inventory, contexts on the machine's clock, and steps read as a runbook gives them.
//! The peers themselves come from `xtask::lab`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::context::{RunFacts, Unwatched};
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_engine::step::{Observation, Readiness, Step, StepError};
use lifeboat_engine::{Inventory, ReadContext, RunId, StepContext, StepId};
use serde_json::{Value, json};

/// Time of one call. Long enough for a loaded machine; tests that wait for its end give their own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where steps are played: an inventory, and a run that never changes.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) facts: Arc<RunFacts>,
    run: RunId,
}

impl Stage {
    pub(crate) fn new(inventory: Value, folder: &Path) -> Self {
        let kinds = lifeboat_steps::registry().kinds().to_vec();
        let inventory = Inventory::from_value(&inventory, folder, &kinds).unwrap_or_else(|bad| panic!("{bad:#?}"));
        Self { inventory: Arc::new(inventory), clock: Arc::new(SystemClock), facts: Arc::default(), run: run_id() }
    }

    pub(crate) fn read(&self) -> ReadContext {
        self.read_for(PATIENCE)
    }

    pub(crate) fn read_for(&self, length: Duration) -> ReadContext {
        let step = StepId::new("under_test").unwrap();
        let secrets = Arc::new(LocalSecrets::new(&self.inventory.folder));
        let deadline = self.clock.instant().after(length);
        ReadContext::new(
            self.run.clone(),
            step,
            1,
            Arc::clone(&self.clock),
            Arc::clone(&self.inventory),
            secrets,
            Arc::clone(&self.facts),
            deadline,
        )
    }

    pub(crate) fn act(&self) -> StepContext {
        self.act_for(PATIENCE)
    }

    pub(crate) fn act_for(&self, length: Duration) -> StepContext {
        StepContext::new(self.read_for(length), Arc::new(Unwatched))
    }
}

/// Each stage is a run of its own: processes are told apart by it.
fn run_id() -> RunId {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    RunId::new(&format!("under-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))).unwrap()
}

/// A step from its parameters.
pub(crate) fn step<S: Step>(with: Value) -> S {
    serde_json::from_value(with).unwrap_or_else(|error| panic!("{error}"))
}

/// The intent, of a step that may start.
pub(crate) async fn ready<S: Step>(step: &S, stage: &Stage) -> S::Intent {
    match step.prepare(&stage.read()).await {
        Ok(Readiness::Ready { intent, .. }) => journaled(&intent),
        Ok(Readiness::Refused { why, .. }) => panic!("refused: {why}"),
        Ok(Readiness::Later { needs, .. }) => panic!("later: {needs}"),
        Err(error) => panic!("{error}"),
    }
}

/// Why a step may not start.
pub(crate) async fn refusal<S: Step>(step: &S, stage: &Stage) -> String {
    match step.prepare(&stage.read()).await {
        Ok(Readiness::Ready { intent, .. }) => panic!("ready with {}", json!(intent)),
        Ok(Readiness::Refused { why, .. }) => why,
        Ok(Readiness::Later { needs, .. }) => panic!("later: {needs}"),
        Err(error) => panic!("{error}"),
    }
}

/// As it comes back from the journal.
pub(crate) fn journaled<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
}

/// The name of an observation, for asserting.
pub(crate) fn seen<O>(observation: &Result<Observation<O>, StepError>) -> String {
    match observation {
        Ok(Observation::Done(_)) => "done".into(),
        Ok(Observation::InProgress) => "in progress".into(),
        Ok(Observation::NotDone) => "not done".into(),
        Ok(Observation::Foreign { .. }) => "foreign".into(),
        Ok(Observation::Unknown { why }) => format!("unknown: {why}"),
        Err(error) => format!("error: {error}"),
    }
}

/// The machine's clock, so many seconds ahead.
#[derive(Debug)]
pub(crate) struct Skewed(pub(crate) i64);

#[async_trait::async_trait]
impl Clock for Skewed {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now() + jiff::SignedDuration::from_secs(self.0)
    }
    fn instant(&self) -> lifeboat_engine::clock::Instant {
        SystemClock.instant()
    }
    async fn sleep(&self, length: Duration) {
        SystemClock.sleep(length).await;
    }
}

/// Looks again and again until there is something to see, or the time is over.
pub(crate) fn look_until<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = SystemClock.instant().after(within);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if SystemClock.instant() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
