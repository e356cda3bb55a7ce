//! Entries on their way to the store: applied at once, durable before anything acts on them.

use super::{Executor, ExecutorError, Notice, freezing};
use crate::admission;
use crate::history::run_log;
use crate::journal::{ENTRY_FORMAT, Entry, Event, Output};
use crate::mutants::{self, Mutant};
use crate::proof;
use crate::run::{RunPhase, StepState};
use lifeboat_runbooks::names::StepId;
use lifeboat_store::{Commit, Record, Seq, StoreError};
use serde_json::Value;
use std::sync::Arc;

/// Outputs above this many bytes of JSON are kept beside the journal and named by digest.
pub(super) const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of entries in one commit: well below what every store takes (etcd: 1.5 MiB), so that the end of a run fits beside them.
const COMMIT_BYTES_MAX: usize = 1024 * 1024;

/// What became of what was pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// It is durable.
    Durable,
    /// A freeze came before an intent of it: what to start is to be decided anew.
    Withdrawn,
}

impl Executor {
    /// Applies an event and puts it in line for the next commit.
    pub(super) fn record(&mut self, event: Event) -> Result<(), ExecutorError> {
        let entry = Entry { format: ENTRY_FORMAT, at: self.ports.clock.now(), owner: self.owner.0.clone(), event };
        // A record that calls under way could read is copied when it changes; one that was taken from them first is not.
        let place = entry.event.step().and_then(|step| self.run.plan.place(step));
        if let Some(place) = place {
            self.known.take(place);
        }
        let applied = self.run.apply(&entry);
        if let Some(place) = place {
            self.known.put(&self.run, place);
        }
        applied?;
        if matches!(entry.event, Event::CancelRequested { .. } | Event::UnwindingStarted { .. })
            && let Some(told) = self.turned_back.get()
        {
            told.tell();
        }
        self.pending.push(entry);
        Ok(())
    }

    /// Makes everything pending durable, in one commit unless it is very much; then answers people and tells watchers.
    pub(super) async fn flush(&mut self) -> Result<Flushed, ExecutorError> {
        while !self.pending.is_empty() {
            let (records, count) = self.portion()?;
            let log = run_log(&self.run.id)?;
            let mut commit = Commit { expect: vec![(log.clone(), self.next)], append: vec![(log, records)] };
            if mutants::is(Mutant::NoFence) {
                commit.expect.clear();
            }
            let ended = self.pending.iter().take(count).any(|entry| matches!(entry.event, Event::RunEnded { .. }));
            if ended && self.run.phase == RunPhase::Ended {
                commit.append.extend(admission::closing(&self.run)?);
                commit
                    .append
                    .extend(Box::pin(proof::closing(self.ports.store.as_ref(), &self.run)).await?.map(|(log, record)| (log, vec![record])));
            }
            let frozen_log = freezing::log()?;
            if self.pending.iter().take(count).any(|entry| self.is_intent(&entry.event)) && !mutants::is(Mutant::FreezeIgnored) {
                let Some(place) = self.freezes.place() else {
                    Box::pin(self.withdraw()).await?;
                    return Ok(Flushed::Withdrawn);
                };
                commit.expect.push((frozen_log.clone(), place));
            }
            match self.ports.store.commit(commit).await {
                Ok(()) => {}
                Err(StoreError::Io { .. } | StoreError::DiskFull { .. }) if mutants::is(Mutant::FailedCommitIgnored) => {}
                Err(StoreError::Conflict { log, .. }) if log == frozen_log => {
                    Box::pin(self.withdraw()).await?;
                    return Ok(Flushed::Withdrawn);
                }
                Err(StoreError::Conflict { .. }) => return Err(ExecutorError::Overtaken(self.run.id.clone())),
                Err(error) => return Err(ExecutorError::Store(error)),
            }
            self.next = Seq(self.next.0 + count as u64);
            for entry in self.pending.drain(..count) {
                self.handle.notices.send(|| Notice::Entry(Arc::new(entry)));
            }
        }
        // The room goes too: a run may be under way for days, and thousands of them.
        self.pending = Vec::new();
        for reply in std::mem::take(&mut self.replies) {
            let _ = reply.send(Ok(()));
        }
        Ok(Flushed::Durable)
    }

    /// The first entries in line that fit one commit. A success and the assertion that rejects it are never parted: in between, a
    /// crash would leave a success that nobody asserts again.
    fn portion(&self) -> Result<(Vec<Record>, usize), ExecutorError> {
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        for entry in &self.pending {
            let record = entry.encode().map_err(|error| ExecutorError::Encode(error.to_string()))?;
            let parts = !matches!(entry.event, Event::StepRejected { .. });
            if parts && bytes > 0 && bytes + record.len() > COMMIT_BYTES_MAX {
                break;
            }
            bytes += record.len();
            records.push(Record(record));
        }
        let count = records.len();
        Ok((records, count))
    }

    /// The value of an output that was just journaled, also where it is kept beside the journal.
    pub(super) fn hold_value(&mut self, step: &StepId, value: Value) {
        let Some(place) = self.run.plan.place(step) else { return };
        self.known.take(place);
        if let Some(record) = self.run.steps.get_mut(step) {
            Arc::make_mut(record).value = Some(value);
        }
        self.known.put(&self.run, place);
    }

    /// An output as it is journaled: large ones are kept first, so that the entry never names something that is not there.
    pub(super) async fn output(&self, value: &Value) -> Result<Output, ExecutorError> {
        let bytes = serde_json::to_vec(value).map_err(|error| ExecutorError::Encode(error.to_string()))?;
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok(Output::Inline(value.clone()));
        }
        let digest = self.ports.store.keep(&bytes).await?;
        Ok(Output::Kept { digest: digest.to_string(), bytes: bytes.len() as u64 })
    }

    /// A step that will not go on. Where an attempt acted it has failed rather than not run.
    pub(super) fn call_off(&mut self, step: StepId, why: String) -> Result<(), ExecutorError> {
        let acted = self.run.steps.get(&step).is_some_and(|record| record.attempts > 0);
        let waiting = matches!(self.run.state(&step), StepState::Waiting | StepState::AwaitingApproval);
        if acted && !waiting {
            self.record(Event::StepFailed { step, why, evidence: crate::evidence::Evidence::none(), retry_at: None })
        } else {
            self.record(Event::StepNotRun { step, why })
        }
    }
}
