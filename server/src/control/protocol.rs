//! The words of the control socket: one JSON request a line, one JSON reply a line. No I/O.

use std::num::NonZeroU32;

use jiff::Timestamp;
use lifeboat_engine::freeze::Freeze;
use lifeboat_engine::growth::ArchiveRecord;
use lifeboat_engine::journal::{Entry, Lock, Outcome, RunId};
use lifeboat_engine::proof::Proofs;
use lifeboat_engine::run::{Run, RunPhase, StepState};
use lifeboat_engine::steering::{Command, SteerError};
use lifeboat_runbooks::plan::Plan;
use serde::{Deserialize, Serialize};

/// Longest request, in bytes.
pub const REQUEST_BYTES_MAX: u64 = 1024 * 1024;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// All runs.
    Runs,
    /// The newest runs.
    Page(PageOf),
    /// The names of all runs, oldest first.
    Names,
    /// A run's plan and entries.
    Journal(RunId),
    /// What the runs of a runbook proved.
    Proofs(String),
    /// A live run is about to begin: runs that make way are to turn back.
    MakeWay {
        /// Its name.
        by: RunId,
        /// Its mode.
        mode: String,
        /// Its locks.
        locks: Vec<Lock>,
    },
    /// An act.
    Steer {
        /// The run.
        run: RunId,
        /// What.
        command: Command,
    },
    /// Freeze a resource, or everything.
    Freeze(FreezeRequest),
    /// Lift a freeze.
    Unfreeze(FreezeRequest),
}

/// What is frozen or unfrozen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// The resource; `None` for everything.
    pub resource: Option<String>,
    /// Why.
    pub comment: String,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// All runs.
    Runs(Listing),
    /// Names of runs.
    Names(Vec<RunId>),
    /// A run.
    Journal {
        /// Its pinned plan.
        plan: Box<Plan>,
        /// Its entries.
        entries: Vec<Entry>,
    },
    /// What the runs of a runbook proved.
    Proofs(Box<Proofs>),
    /// These runs turn back. None where a run that makes way for nobody goes on here.
    MakesWay(Vec<RunId>),
    /// The act is journaled.
    Done,
    /// The act is not possible; nothing was changed.
    Refused(SteerError),
    /// Something failed.
    Failed(String),
}

/// All runs. One that cannot be read hides none of the others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Those that can be read, oldest first.
    pub runs: Vec<RunSummary>,
    /// Those that cannot, oldest first.
    pub unreadable: Vec<Unreadable>,
    /// What must not be changed for now.
    #[serde(default)]
    pub freezes: Vec<Freeze>,
    /// Why the freezes cannot be read, which counts as a freeze of everything.
    #[serde(default)]
    pub freezes_unreadable: Option<String>,
    /// Runs that left the store for an archive file, newest first.
    #[serde(default)]
    pub archived: Vec<ArchiveRecord>,
    /// So many older runs are not listed here.
    #[serde(default)]
    pub older: u64,
    /// What people should know of the store.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// A part of the list of runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageOf {
    /// At most so many.
    pub limit: NonZeroU32,
    /// Only those before this one.
    #[serde(default)]
    pub before: Option<RunId>,
}

/// A run whose journal or plan cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unreadable {
    /// The run.
    pub run: RunId,
    /// Why not, for people.
    #[serde(rename = "unreadable")]
    pub why: String,
}

/// A run in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its runbook.
    pub runbook: String,
    /// Its mode.
    pub mode: String,
    /// How it stands.
    pub phase: RunPhase,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it was admitted.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Who started it.
    pub started_by: String,
    /// Locks that it has now.
    pub locks: Vec<Lock>,
    /// What waits for a person.
    pub waiting: Vec<Waiting>,
    /// What holds the whole run, or parts of it, back by a person's will.
    #[serde(default)]
    pub brakes: Vec<Braked>,
}

/// A pause, or a freeze that a run met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Braked {
    /// `paused` or `frozen`.
    pub kind: BrakeKind,
    /// The frozen resource; `None` for everything.
    pub resource: Option<String>,
    /// Who; `None` where the freezes cannot be read.
    pub by: Option<String>,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// What holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrakeKind {
    /// The run is paused.
    Paused,
    /// What it would change is frozen.
    Frozen,
}

/// A step that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The step.
    pub step: String,
    /// `awaiting_approval`, `held`, `failed` or `rejected`.
    pub state: StepState,
    /// Why.
    pub why: String,
}

impl RunSummary {
    /// A run in one line.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        Self {
            run: run.id.clone(),
            runbook: run.plan.runbook.clone(),
            mode: run.plan.mode.clone(),
            phase: run.phase,
            outcome: run.outcome,
            started_at: run.admitted_at,
            ended_at: run.ended_at,
            started_by: run.started_by.as_ref().map(|by| by.name().to_owned()).unwrap_or_default(),
            locks: if run.holds_locks() { run.locks.clone() } else { Vec::new() },
            waiting: waiting(run),
            brakes: brakes(run),
        }
    }
}

fn brakes(run: &Run) -> Vec<Braked> {
    if run.phase == RunPhase::Ended {
        return Vec::new();
    }
    let paused = run.paused.iter().map(|pause| Braked {
        kind: BrakeKind::Paused,
        resource: None,
        by: Some(pause.by.name().to_owned()),
        why: pause.why.clone(),
        since: pause.since,
    });
    let frozen = run.frozen.iter().map(|frozen| Braked {
        kind: BrakeKind::Frozen,
        resource: frozen.resource.clone(),
        by: frozen.by.as_ref().map(|by| by.name().to_owned()),
        why: frozen.why.clone(),
        since: frozen.since,
    });
    paused.chain(frozen).collect()
}

fn waiting(run: &Run) -> Vec<Waiting> {
    if run.phase == RunPhase::Ended {
        return Vec::new();
    }
    run.plan
        .steps
        .iter()
        .chain(&run.plan.finally)
        .filter_map(|step| {
            let record = run.steps.get(&step.id)?;
            let needs_person = match record.state {
                StepState::AwaitingApproval | StepState::Held => true,
                StepState::Failed | StepState::Rejected => !record.given_up,
                StepState::Waiting
                | StepState::Running
                | StepState::Backoff
                | StepState::InDoubt
                | StepState::Succeeded
                | StepState::Skipped
                | StepState::NotRun
                | StepState::Undoing
                | StepState::Undone
                | StepState::UndoFailed
                | StepState::UndoInDoubt => false,
            };
            let why = match (&record.ask, record.state) {
                (Some(ask), StepState::AwaitingApproval) => format!(
                    "{} of {} people with the role {} said yes; time runs out at {}",
                    record.approvals.len(),
                    ask.count,
                    ask.roles.join(" or "),
                    ask.expires_at.strftime("%H:%M:%S UTC")
                ),
                (_, _) => record.why.clone().unwrap_or_default(),
            };
            needs_person.then(|| Waiting { step: step.id.to_string(), state: record.state, why })
        })
        .collect()
}
