//! What ended runs prove of each step, and how long it took: one record a run in the log `proof/<runbook>`, so that nobody has to read
//! the runs again. What a plan makes of it is in `readiness` and `predict`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::context::Proof;
use crate::history;
use crate::journal::{Outcome, RunId};
use crate::run::{Run, StepRun, StepState, effect_of};
use lifeboat_runbooks::names::{Effect, StepId};
use lifeboat_runbooks::plan::PlanStep;
use lifeboat_store::{Digest, LogId, Record, Seq, Store, StoreError};

/// Version of the stored form.
pub const PROOF_FORMAT: u16 = 1;

/// Timings kept of one step: the latest so many.
pub const TIMINGS_MAX: usize = 20;

/// Records that a log may have before the older ones are folded into one.
const RECORDS_MAX: u64 = 64;

/// Records that stay as they are when the others are folded.
const RECORDS_KEPT: u64 = 32;

/// Steps of which something is remembered once records were folded: more than the largest plan has.
const STEPS_MAX: usize = 200_000;

/// Records larger than this are kept beside the log and named by digest.
const INLINE_BYTES_MAX: usize = 256 * 1024;

/// What one run proved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunProof {
    /// [`PROOF_FORMAT`].
    pub format: u16,
    /// The run.
    pub run: RunId,
    /// Its mode.
    pub mode: String,
    /// When it ended.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// Digest of its structure.
    pub structure: String,
    /// Every step of its plan, in plan order.
    pub steps: Vec<StepProof>,
}

/// What one run says of one step. Stored as a list, because there is one for each step of each run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub struct StepProof {
    /// The step.
    pub step: StepId,
    /// Digest of the step as written.
    pub structure: String,
    /// Whether it was seen to succeed, by this run and not by a person's word.
    pub proven: bool,
    /// From when everything it needs was there until it was done, waits for people left out, in milliseconds. Absent where it was not
    /// done by itself, or where the engine was away meanwhile.
    pub took_ms: Option<u64>,
    /// How long it waited for people, in milliseconds.
    pub waited_ms: u64,
    /// The resources that it acted on.
    pub on: Vec<String>,
}

type Packed = (StepId, String, bool, Option<u64>, u64, Vec<String>);

impl From<Packed> for StepProof {
    fn from((step, structure, proven, took_ms, waited_ms, on): Packed) -> Self {
        Self { step, structure, proven, took_ms, waited_ms, on }
    }
}

impl From<StepProof> for Packed {
    fn from(proof: StepProof) -> Self {
        (proof.step, proof.structure, proof.proven, proof.took_ms, proof.waited_ms, proof.on)
    }
}

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProofRecord {
    Run(RunProof),
    /// All that older records said.
    Folded(Proofs),
    /// Kept in the store under this digest, because it is large.
    Kept(String),
}

/// What is known of all steps of a runbook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proofs {
    /// Runs that this is from.
    pub runs: u64,
    /// By the digest of the step as written.
    pub steps: BTreeMap<String, Known>,
    /// The last drill that succeeded.
    pub drill: Option<Drilled>,
}

/// What is known of one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// When it was seen to succeed last.
    pub proven: Option<ProvenBy>,
    /// How long it took in the latest runs, oldest first, in milliseconds. At most [`TIMINGS_MAX`].
    pub took_ms: Vec<u64>,
}

/// The run that proved a step last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenBy {
    /// The run.
    pub run: RunId,
    /// Its mode.
    pub mode: String,
    /// When it ended.
    pub at: Timestamp,
    /// The resources that the step acted on.
    pub on: Vec<String>,
}

/// A drill that succeeded, for telling what changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drilled {
    /// The drill.
    pub run: RunId,
    /// When it ended.
    pub at: Timestamp,
    /// Digest of its structure.
    pub structure: String,
    /// Its steps as they were written.
    pub steps: BTreeMap<StepId, String>,
}

impl Proofs {
    /// Takes one more run in. Runs come in the order in which they ended.
    pub fn take(&mut self, run: &RunProof) {
        self.runs += 1;
        for step in &run.steps {
            if !step.proven && step.took_ms.is_none() {
                continue;
            }
            let known = self.steps.entry(step.structure.clone()).or_default();
            if step.proven {
                known.proven = Some(ProvenBy { run: run.run.clone(), mode: run.mode.clone(), at: run.at, on: step.on.clone() });
            }
            known.took_ms.extend(step.took_ms);
            let surplus = known.took_ms.len().saturating_sub(TIMINGS_MAX);
            known.took_ms.drain(..surplus);
        }
        if run.mode == crate::run::DRILL && run.outcome == Outcome::Succeeded {
            self.drill = Some(Drilled {
                run: run.run.clone(),
                at: run.at,
                structure: run.structure.clone(),
                steps: run.steps.iter().map(|step| (step.step.clone(), step.structure.clone())).collect(),
            });
        }
    }

    /// Forgets the steps that were proven longest ago, or never, where there are too many.
    fn shrink(&mut self) {
        if self.steps.len() <= STEPS_MAX {
            return;
        }
        let mut ages: Vec<Option<Timestamp>> = self.steps.values().map(|known| known.proven.as_ref().map(|by| by.at)).collect();
        ages.sort_unstable();
        let oldest = ages[self.steps.len() - STEPS_MAX];
        self.steps.retain(|_, known| known.proven.as_ref().map(|by| by.at) >= oldest);
    }
}

/// What an ended run proves; `None` where it proves nothing.
#[must_use]
pub fn of(run: &Run) -> Option<RunProof> {
    let (at, outcome) = (run.ended_at?, run.outcome?);
    let steps: Vec<StepProof> = run.plan.all_steps().filter_map(|step| step_proof(run, step)).collect();
    steps.iter().any(|step| step.proven || step.took_ms.is_some()).then(|| RunProof {
        format: PROOF_FORMAT,
        run: run.id.clone(),
        mode: run.plan.mode.clone(),
        at,
        outcome,
        structure: run.plan.structure.clone(),
        steps,
    })
}

/// Steps of older plans have no digest and prove nothing; neither do those that the engine does by itself.
fn step_proof(run: &Run, step: &PlanStep) -> Option<StepProof> {
    if step.structure.is_empty() || step.inner.is_some() {
        return None;
    }
    let record = run.steps.get(&step.id)?;
    let seen = record.proof == Some(Proof::Seen) && record.succeeded_at.is_some();
    let acts = |effect: Effect| effect > Effect::Read || effect_of(step) == Effect::Read;
    Some(StepProof {
        step: step.id.clone(),
        structure: step.structure.clone(),
        proven: seen && !record.was_rejected,
        took_ms: if seen { took_ms(run, step, record) } else { None },
        waited_ms: record.waited_ms,
        on: step
            .touches
            .iter()
            .filter(|touch| acts(touch.effect))
            .map(|touch| touch.resource.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
    })
}

fn took_ms(run: &Run, step: &PlanStep, record: &StepRun) -> Option<u64> {
    // What passed while no process had the run, or while it was paused, says nothing of the step.
    if run.claims > 0 || run.was_paused {
        return None;
    }
    let ready = if run.plan.place(&step.id)? < run.plan.steps.len() { ready_at(run, step)? } else { record.started_at? };
    let ended = record.succeeded_at?;
    let took = u64::try_from(ended.duration_since(ready).as_millis()).ok()?;
    Some(took.saturating_sub(record.waited_ms))
}

/// When everything that a step needs was there.
fn ready_at(run: &Run, step: &PlanStep) -> Option<Timestamp> {
    let settled = |need: &StepId| {
        let record = run.steps.get(need)?;
        record.succeeded_at.or_else(|| record.changed_at.filter(|_| record.state == StepState::Skipped))
    };
    step.needs.iter().try_fold(run.ready_at?, |latest, need| Some(latest.max(settled(need)?)))
}

/// The log of what the runs of a runbook prove.
///
/// # Errors
/// Where the name has characters that a log may not have.
pub fn proof_log(runbook: &str) -> Result<LogId, StoreError> {
    LogId::new(&format!("proof/{runbook}"))
}

/// What the commit that ends a run adds to the log.
pub(crate) async fn closing(store: &dyn Store, run: &Run) -> Result<Option<(LogId, Record)>, StoreError> {
    let Some(proof) = of(run) else { return Ok(None) };
    Ok(Some((proof_log(&run.plan.runbook)?, record(store, &ProofRecord::Run(proof)).await?)))
}

async fn record(store: &dyn Store, record: &ProofRecord) -> Result<Record, StoreError> {
    let plain = |record: &ProofRecord| serde_json::to_vec(record).unwrap_or_default();
    let bytes = plain(record);
    if bytes.len() <= INLINE_BYTES_MAX {
        return Ok(Record(bytes));
    }
    Ok(Record(plain(&ProofRecord::Kept(store.keep(&bytes).await?.to_string()))))
}

async fn decoded(store: &dyn Store, bytes: &[u8]) -> Result<ProofRecord, StoreError> {
    match history::record::<ProofRecord>("proof", bytes)? {
        ProofRecord::Kept(digest) => {
            let damaged = || StoreError::Damaged { folder: "log proof".into(), what: format!("{digest:?} is no digest") };
            history::record("proof", &store.kept(&Digest::parse(&digest).ok_or_else(damaged)?).await?)
        }
        found @ (ProofRecord::Run(_) | ProofRecord::Folded(_)) => Ok(found),
    }
}

/// Folds records, oldest first. A run that ended twice, because a stuck one was taken up again, counts once.
async fn fold(store: &dyn Store, records: &[Vec<u8>]) -> Result<Proofs, StoreError> {
    let mut proofs = Proofs::default();
    let mut runs: Vec<RunProof> = Vec::new();
    for bytes in records {
        match decoded(store, bytes).await? {
            ProofRecord::Run(run) => {
                runs.retain(|earlier| earlier.run != run.run);
                runs.push(run);
            }
            ProofRecord::Folded(folded) => proofs = folded,
            ProofRecord::Kept(_) => {}
        }
    }
    runs.iter().for_each(|run| proofs.take(run));
    Ok(proofs)
}

/// What is known of a runbook's steps.
///
/// # Errors
/// Where the store fails or the log holds something else.
pub async fn read(store: &dyn Store, runbook: &str) -> Result<Proofs, StoreError> {
    let (records, _) = history::records(store, &proof_log(runbook)?).await?;
    fold(store, &records).await
}

/// Folds the older records of a long log into one. What the log says stays the same; a crash at any point changes nothing.
///
/// # Errors
/// Where the store fails.
pub async fn tidy(store: &dyn Store, runbook: &str) -> Result<(), StoreError> {
    let log = proof_log(runbook)?;
    // Hundreds of runs may end at the same time: one of them does it.
    let Some(_turn) = Turn::take(store, &log) else { return Ok(()) };
    let heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await?;
    let Some(head) = heads.first().filter(|head| head.log == log) else { return Ok(()) };
    if head.next.0 - head.first.0 <= RECORDS_MAX {
        return Ok(());
    }
    let before = Seq(head.next.0 - RECORDS_KEPT);
    let (records, _) = history::records(store, &log).await?;
    let older = usize::try_from(before.0 - head.first.0).unwrap_or(usize::MAX).min(records.len());
    let mut proofs = fold(store, &records[..older]).await?;
    proofs.shrink();
    let carry = record(store, &ProofRecord::Folded(proofs)).await?;
    match store.truncate(&log, before, carry).await {
        // Another run that ended at the same time has done it.
        Err(StoreError::Conflict { .. } | StoreError::Compacted { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Logs that are being folded in this process, by the place of their store in memory.
static FOLDED_NOW: Mutex<BTreeSet<(usize, LogId)>> = Mutex::new(BTreeSet::new());

struct Turn(usize, LogId);

impl Turn {
    fn take(store: &dyn Store, log: &LogId) -> Option<Self> {
        let (place, log) = (std::ptr::from_ref(store).cast::<()>().addr(), log.clone());
        let is_first = FOLDED_NOW.lock().unwrap_or_else(PoisonError::into_inner).insert((place, log.clone()));
        // Made only by the first, because its end gives the turn to others.
        is_first.then(|| Self(place, log))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        FOLDED_NOW.lock().unwrap_or_else(PoisonError::into_inner).remove(&(self.0, self.1.clone()));
    }
}
