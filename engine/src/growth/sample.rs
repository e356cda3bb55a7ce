//! Many runs at once, for benchmarks and tests: journals as an executor leaves them, written without one. Nothing is executed.

use jiff::{SignedDuration, Timestamp};

use super::{ArchiveRecord, archive_log};
use crate::history::{self, OpenRecord};
use crate::journal::{Actor, ENTRY_FORMAT, Entry, Event, Incident, Outcome, RunId};
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{Commit, Digest, LogId, Record, Seq, Store, StoreError, chain_start};

/// Runs in one commit.
const RUNS_PER_COMMIT: usize = 200;

/// How the runs of a sample stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They ended, every step skipped.
    Finished,
    /// They were admitted, and their process is gone.
    InFlight,
    /// They ended and were compacted away: only the archive's log tells of them.
    Archived,
}

/// Writes so many runs of this plan, a second apart from `from` on, and answers their names. Their locks are not taken: runs of one plan
/// could not stand beside each other otherwise.
///
/// # Errors
/// Where the store fails, or has runs of these names.
pub async fn runs(store: &dyn Store, plan: &Plan, standing: Standing, count: u32, from: Timestamp) -> Result<Vec<RunId>, StoreError> {
    let digest = store.keep(&serde_json::to_vec(plan).unwrap_or_default()).await?;
    let mut names = Vec::new();
    let mut commit = Commit::default();
    for number in 0..count {
        let at = from.saturating_add(SignedDuration::from_secs(number.into())).unwrap_or(from);
        let name = format!("{}-sample-{number:06}", at.strftime("%Y%m%dt%H%M%S"));
        let run = RunId::new(&name).map_err(|what| StoreError::BadLogId { name: what })?;
        match standing {
            Standing::Archived => commit.append.push((archive_log()?, vec![written(&archive_record(&run, plan, at))])),
            Standing::Finished | Standing::InFlight => add(&mut commit, &run, plan, digest, standing, at)?,
        }
        names.push(run);
        if names.len() % RUNS_PER_COMMIT == 0 {
            store.commit(std::mem::take(&mut commit)).await?;
        }
    }
    store.commit(commit).await?;
    Ok(names)
}

fn add(commit: &mut Commit, run: &RunId, plan: &Plan, digest: Digest, standing: Standing, at: Timestamp) -> Result<(), StoreError> {
    let admitted = Event::RunAdmitted {
        run: run.clone(),
        plan: digest.to_string(),
        structure: plan.structure.clone(),
        binding: plan.binding.clone(),
        runbook: plan.runbook.clone(),
        mode: plan.mode.clone(),
        by: Actor { person: Some("sample".into()), system_user: "sample".into(), via: "terminal".into() },
        locks: Vec::new(),
        incident: Incident::default(),
        predicted: None,
    };
    let mut events = vec![admitted];
    let mut open = vec![written(&OpenRecord::Opened(run.clone()))];
    if standing == Standing::Finished {
        let skipped = |id: &lifeboat_runbooks::names::StepId| Event::StepSkipped { step: id.clone(), why: "it is a sample".into() };
        events.extend(plan.steps.iter().map(|step| skipped(&step.id)));
        events.push(Event::FinalisingStarted);
        events.extend(plan.finally.iter().map(|step| skipped(&step.id)));
        events.push(Event::RunEnded { outcome: Outcome::Succeeded, why: "every step is done".into() });
        open.push(written(&OpenRecord::Closed(run.clone())));
    }
    let entry = |event| written(&Entry { format: ENTRY_FORMAT, at, owner: "sample".into(), event });
    let log = history::run_log(run)?;
    commit.expect.push((log.clone(), Seq(0)));
    commit.append.push((log, events.into_iter().map(entry).collect()));
    commit.append.push((history::open_log()?, open));
    Ok(())
}

fn archive_record(run: &RunId, plan: &Plan, at: Timestamp) -> ArchiveRecord {
    let log = LogId::new("sample").unwrap_or_else(|_| unreachable!("it is a name"));
    ArchiveRecord {
        run: run.clone(),
        runbook: plan.runbook.clone(),
        mode: plan.mode.clone(),
        outcome: Outcome::Succeeded,
        started_at: at,
        ended_at: at,
        started_by: "sample".into(),
        entries: 1,
        chain: chain_start(&log).to_string(),
        file: "sample.jsonl".into(),
    }
}

fn written<T: serde::Serialize>(value: &T) -> Record {
    // Enums over checked names always have a JSON form.
    Record(serde_json::to_vec(value).unwrap_or_default())
}
