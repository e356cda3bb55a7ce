//! What a run's journal says of its fence, for the steps that rely on it. Whether the fence still stands is asked in `proof`.

use lifeboat_engine::context::Proof;
use lifeboat_engine::run::StepState;
use lifeboat_engine::{ReadContext, Step, StepId};

use super::{FenceDb, Fenced};
use crate::mutants::{self, Mutant};

/// The fence that a later step may rely on: of this run, needed by it, of that database, and seen, not said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FenceOnRecord {
    /// It stands.
    Done {
        /// The step.
        step: StepId,
        /// What it did.
        fenced: Box<Fenced>,
    },
    /// It has not come to its turn.
    Waiting(StepId),
    /// There is a fence step that gives no proof.
    Worthless { why: String },
    /// No needed step fences the database.
    None,
}

/// Finds the fence of a database among the steps that this one needs.
pub(crate) fn on_record(cx: &ReadContext, db: &str) -> FenceOnRecord {
    let mut answer = FenceOnRecord::None;
    for id in cx.facts.ancestors() {
        let Some(record) = cx.facts.step(id).filter(|record| record.step_type == FenceDb::TYPE) else {
            continue;
        };
        let of_other = record.with.as_ref().and_then(|with| with.get("db")).is_some_and(|of| of != db);
        if of_other {
            continue;
        }
        answer = match (record.state, record.proof) {
            (StepState::Succeeded | StepState::Skipped, Proof::Said | Proof::None) if mutants::is(Mutant::SaidFenceWaits) => {
                FenceOnRecord::Waiting(id.clone())
            }
            (StepState::Succeeded, Proof::Seen) => match record.output.clone().map(serde_json::from_value::<Fenced>) {
                Some(Ok(fenced)) if fenced.db == db => {
                    return FenceOnRecord::Done { step: id.clone(), fenced: Box::new(fenced) };
                }
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => FenceOnRecord::Worthless { why: format!("the outcome of {id} cannot be read") },
            },
            (StepState::Succeeded, Proof::Said | Proof::None) => {
                FenceOnRecord::Worthless { why: format!("{id} was declared done by a person, which is no proof") }
            }
            (StepState::Skipped, _) => FenceOnRecord::Worthless { why: format!("{id} was skipped, and a skipped fence is no fence") },
            (
                StepState::Waiting
                | StepState::AwaitingApproval
                | StepState::Running
                | StepState::Backoff
                | StepState::InDoubt
                | StepState::Held,
                _,
            ) => FenceOnRecord::Waiting(id.clone()),
            (
                StepState::Rejected
                | StepState::Failed
                | StepState::NotRun
                | StepState::Undoing
                | StepState::Undone
                | StepState::UndoFailed
                | StepState::UndoInDoubt,
                _,
            ) => FenceOnRecord::Worthless { why: format!("{id} did not succeed") },
        };
    }
    answer
}
