//! What the PostgreSQL tests share: a lab, an inventory of it, contexts with a journal's facts, a heartbeat that can be stopped.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::clock::SystemClock;
use lifeboat_engine::context::{Approval, Proof, RunFacts, StepRecord, Unwatched};
use lifeboat_engine::journal::RunId;
use lifeboat_engine::run::StepState;
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_engine::step::Readiness;
use lifeboat_engine::{Clock, Evidence, Inventory, ReadContext, Step, StepContext, StepId};
use lifeboat_steps::heartbeat::{self, Beats, TableRule};
use lifeboat_steps::registry;
use serde_json::{Value, json};
use xtask::lab::postgres::{PRIMARY, REGIONS};
use xtask::lab::{Lab, Parts};

/// The first replica.
pub(crate) const WEST: &str = "us-west-2";
/// The second replica.
pub(crate) const EUROPE: &str = "eu-west-1";

/// What a journal would say.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    pub(crate) steps: BTreeMap<StepId, StepRecord>,
    pub(crate) ancestors: Vec<StepId>,
}

/// A lab and what describes it.
pub(crate) struct Rig {
    pub(crate) lab: Lab,
    pub(crate) inventory: Value,
    pub(crate) facts: Facts,
    pub(crate) step_timeout: Duration,
}

impl Rig {
    /// A lab with the heartbeat's table made.
    pub(crate) fn start() -> Self {
        let rig = Self::bare();
        rig.lab.node(PRIMARY).psql("heartbeat", TABLE).unwrap();
        rig.lab.postgres().wait_streaming().unwrap();
        rig
    }

    /// A lab without that table.
    pub(crate) fn bare() -> Self {
        let lab = Lab::start(Parts::Postgres).unwrap();
        let secret = |role: &str| format!("file:{}", lab.secret(role).display());
        let nodes: BTreeMap<&str, Value> = REGIONS
            .into_iter()
            .map(|region| {
                let node = lab.node(region);
                let local = json!({ "data_dir": node.data, "bin_dir": "/usr/lib/postgresql/15/bin" });
                (region, json!({ "host": node.address.to_string(), "port": node.port, "local": local, "fence": [{ "pg_ctl": { "timeout": "5s" } }] }))
            })
            .collect();
        let inventory = json!({
            "databases": { "orders-db": {
                "database": "orders",
                "nodes": nodes,
                "probe": { "user": "lifeboat_probe", "password": secret("lifeboat_probe") },
                "act": { "user": "lifeboat_act", "password": secret("lifeboat_act") },
                "connect_timeout": "2s",
                "statement_timeout": "2s",
                "heartbeat": {
                    "table": "lifeboat.heartbeat", "user": "heartbeat", "password": secret("heartbeat"), "period": "100ms",
                    "acknowledged": lab.folder().join("heartbeat.json"),
                },
            } },
        });
        Self { lab, inventory, facts: Facts::default(), step_timeout: Duration::from_secs(30) }
    }

    /// The fields of the database, to change them.
    pub(crate) fn db(&mut self) -> &mut Value {
        &mut self.inventory["databases"]["orders-db"]
    }

    /// Makes a node remote: Lifeboat sees neither its files nor its processes.
    pub(crate) fn remote(&mut self, node: &str, fence: Value) {
        let node = &mut self.db()["nodes"][node];
        node.as_object_mut().unwrap().remove("local");
        node["fence"] = fence;
    }

    /// The inventory as the steps get it.
    pub(crate) fn checked(&self) -> Arc<Inventory> {
        Arc::new(Inventory::from_value(&self.inventory, self.lab.folder(), registry().kinds()).unwrap())
    }

    /// A context that may look.
    pub(crate) fn read(&self, step: &str, attempt: u32) -> ReadContext {
        let clock = Arc::new(SystemClock);
        let deadline = clock.instant().after(self.step_timeout);
        ReadContext::new(
            RunId::new("run-1").unwrap(),
            StepId::new(step).unwrap(),
            attempt,
            clock,
            self.checked(),
            Arc::new(LocalSecrets::new(self.lab.folder())),
            Arc::new(RunFacts::given(String::new(), self.facts.steps.clone(), self.facts.ancestors.clone())),
            deadline,
        )
    }

    /// A context that may act.
    pub(crate) fn act(&self, step: &str) -> StepContext {
        StepContext::new(self.read(step, 1), Arc::new(Unwatched))
    }

    /// Puts a step on record as an ancestor of whatever comes next.
    pub(crate) fn record(&mut self, id: &str, step_type: &str, state: StepState, with: Value, output: Option<Value>, proof: Proof) {
        let id = StepId::new(id).unwrap();
        let approvals = Vec::new();
        let record =
            StepRecord { step_type: step_type.into(), state, with: Some(with), intent: None, output, proof, approvals, ended_at: None };
        self.facts.steps.insert(id.clone(), record);
        self.facts.ancestors.push(id);
    }

    /// Puts an approval on record: ada said yes to these facts.
    pub(crate) fn approve(&mut self, id: &str, shown: Value) {
        self.record(id, "approval", StepState::Succeeded, json!({}), Some(json!({})), Proof::Seen);
        let approval = Approval { by: "ada".into(), comment: None, shown, at: SystemClock.now() };
        self.facts.steps.get_mut(&StepId::new(id).unwrap()).unwrap().approvals.push(approval);
    }

    /// Runs a step as the executor does: gate, then act; its output goes on record.
    pub(crate) async fn run<S: Step>(&mut self, id: &str, with: Value) -> S::Output {
        let step: S = serde_json::from_value(with.clone()).unwrap();
        let intent = match step.prepare(&self.read(id, 1)).await.unwrap() {
            Readiness::Ready { intent, .. } => intent,
            Readiness::Refused { why, evidence } => panic!("{id} is refused: {why} {evidence:?}"),
            Readiness::Later { needs, .. } => panic!("{id} waits for {needs}"),
        };
        let output = step.execute(&intent, &self.act(id)).await.unwrap();
        let kept = serde_json::to_value(&output).unwrap();
        self.record(id, S::TYPE, StepState::Succeeded, with, Some(kept), Proof::Seen);
        output
    }

    /// Prepares a step that must be refused; the sentence and what was seen.
    pub(crate) async fn refusal<S: Step>(&self, id: &str, with: Value) -> (String, Evidence) {
        let step: S = serde_json::from_value(with).unwrap();
        match step.prepare(&self.read(id, 1)).await.unwrap() {
            Readiness::Refused { why, evidence } => (why, evidence),
            Readiness::Ready { evidence, .. } => panic!("{id} is ready: {evidence:?}"),
            Readiness::Later { needs, evidence } => panic!("{id} waits for {needs}: {evidence:?}"),
        }
    }

    /// Starts a heartbeat in this process.
    pub(crate) fn beat(&self, table: TableRule) -> Beating {
        let beats =
            Beats { db: "orders-db".into(), inventory: self.checked(), secrets: Arc::new(LocalSecrets::new(self.lab.folder())), table };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stop = async {
                let _dropped_is_stopped = stopped.await;
            };
            heartbeat::run(beats, Arc::new(SystemClock), stop, |_| {}).await
        });
        Beating { file: self.lab.folder().join("heartbeat.json"), stop, task }
    }
}

/// The definition that the steps expect.
pub(crate) const TABLE: &str = "create table lifeboat.heartbeat (writer text not null, timeline int not null, n bigint not null, \
    sent_at timestamptz not null, written_at timestamptz not null default clock_timestamp(), primary key (writer, timeline))";

/// A running heartbeat.
pub(crate) struct Beating {
    file: PathBuf,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), heartbeat::HeartbeatError>>,
}

impl Beating {
    /// What it has kept so far.
    pub(crate) fn kept(&self) -> heartbeat::Acknowledged {
        heartbeat::Acknowledged::read(&self.file).unwrap().unwrap_or_default()
    }

    /// Waits until what it has kept fits.
    pub(crate) async fn until(&self, fits: impl Fn(&heartbeat::Acknowledged) -> bool) -> heartbeat::Acknowledged {
        until("the heartbeat", || {
            let kept = self.kept();
            fits(&kept).then_some(kept)
        })
        .await
    }

    pub(crate) async fn stop(self) {
        let _it_may_have_ended = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

/// Polls with a deadline.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = SystemClock.instant().after(Duration::from_secs(30));
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(SystemClock.instant() < deadline, "waited in vain for {what}");
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
}
