//! The report as data: what `report --format json` prints, field by field. Where the figures come from is in `judge`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use lifeboat_engine::run::StepState;

use crate::drill::{DrillReport, Prediction};
use crate::rows::UnusedPlace;

/// Version of the JSON form. Fields may be added within a version; none is removed or changes its meaning.
pub const REPORT_FORMAT: u16 = 1;

/// What a run achieved against what was promised. Absent figures are `null`: unknown is never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_FORMAT`].
    pub format: u16,
    /// The run.
    pub run: String,
    /// Name of the runbook.
    pub runbook: String,
    /// What people call it.
    pub title: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// `drill`, or a mode that the runbook names.
    pub mode: String,
    /// How the run ended, or how it stands.
    pub outcome: Standing,
    /// The run's own sentence about its end, or about why it waits.
    pub why: Option<String>,
    /// The judgement in one word.
    pub verdict: Verdict,
    /// The judgement in one sentence.
    pub headline: String,
    /// Who asked for the run.
    pub started_by: Person,
    /// What exactly was run.
    pub digests: Digests,
    /// What was promised.
    pub objectives: ObjectiveSeconds,
    /// What was achieved.
    pub actuals: Actuals,
    /// Whether the promises were kept.
    pub met: Met,
    /// In a drill, what would be judged in a disaster; a drill itself never meets an objective.
    pub rehearsal: Option<Rehearsal>,
    /// A drill's own judgement, once it is over.
    pub drill: Option<DrillReport>,
    /// What it was expected to take when it was admitted, and what it took; absent where nothing was known then.
    pub prediction: Option<Prediction>,
    /// The named instants.
    pub clock: Clock,
    /// Instant of the last entry: nothing later is known.
    pub as_of: Timestamp,
    /// What needs a reader's attention, gravest first.
    pub notices: Vec<Notice>,
    /// What a person must do for the run to go on.
    pub wanted: Vec<Wanted>,
    /// Every step of the plan, in plan order, `finally` last.
    pub steps: Vec<StepReport>,
    /// The chain of needs that decided when the last step of the main part ended, first to last.
    pub critical_path: Vec<String>,
    /// What people were asked, shown, and said.
    pub approvals: Vec<Approval>,
    /// Every act of a person in this run, in order.
    pub decisions: Vec<Decision>,
    /// Each time a new process took the run over.
    pub resumes: Vec<Resume>,
    /// Pauses and freezes that held the run back.
    #[serde(default)]
    pub stops: Vec<Stop>,
    /// Losses measured after the act, one for each resource, best method.
    pub losses: Vec<Rpa>,
    /// Losses estimated before the act: not actuals.
    pub expected_losses: Vec<ExpectedLoss>,
    /// Effects that stand though the run did not end as planned, or though it was a drill.
    pub left_behind: Vec<LeftBehind>,
    /// Resources still locked by this run.
    pub locks_kept: Vec<String>,
    /// Entries judged.
    pub journal_entries: u64,
}

/// How a run ended, or how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Accepted; no step has begun.
    Admitted,
    /// Steps are going on.
    Running,
    /// Nothing can go on without a person.
    Held,
    /// It is turning back.
    Unwinding,
    /// Only `finally` steps remain.
    Finalising,
    /// Every step is done or was skipped as planned.
    Succeeded,
    /// A step failed; nothing was undone.
    Failed,
    /// What was done is undone.
    Undone,
    /// A person stopped it.
    Cancelled,
    /// A person is needed; locks are kept.
    Stuck,
}

impl Standing {
    /// Whether the run has ended.
    #[must_use]
    pub fn ended(self) -> bool {
        match self {
            Self::Admitted | Self::Running | Self::Held | Self::Unwinding | Self::Finalising => false,
            Self::Succeeded | Self::Failed | Self::Undone | Self::Cancelled | Self::Stuck => true,
        }
    }

    /// In a word or two, for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Running => "running",
            Self::Held => "held",
            Self::Unwinding => "turning back",
            Self::Finalising => "finishing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Undone => "undone",
            Self::Cancelled => "cancelled",
            Self::Stuck => "stuck",
        }
    }
}

/// The judgement in one word. Only [`Verdict::Met`] is ever shown green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The run succeeded and every objective is proven kept; there is at least one.
    Met,
    /// It would be [`Verdict::Met`] or [`Verdict::DrillPassed`], but a person put their word in the place of an approval or of a fence.
    Overridden,
    /// At least one objective is proven missed.
    Missed,
    /// The run succeeded, but at least one objective is neither proven kept nor missed, or there is none.
    Unproven,
    /// The run ended without recovering what it was for.
    NotRecovered,
    /// A person is needed before it goes on.
    NeedsPerson,
    /// It is going on by itself.
    Underway,
    /// A drill succeeded; no promise is judged by a drill.
    DrillPassed,
}

/// A person, and how they reached the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The person of the inventory, or else the system user.
    pub name: String,
    /// The system user, as the kernel told it.
    pub system_user: String,
    /// `terminal` or `control socket`.
    pub via: String,
}

/// What exactly was run, as 64 hexadecimal digits each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// Steps, expressions and step versions.
    pub structure: String,
    /// The structure with resources, inputs and mode.
    pub binding: String,
    /// The plan as it is stored.
    pub plan: String,
}

/// What was promised, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveSeconds {
    /// Recovery time objective.
    pub rto_seconds: Option<f64>,
    /// Recovery point objective.
    pub rpo_seconds: Option<f64>,
}

/// An interval of seconds, because the truth lies between observations. An absent end is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// At least so long.
    pub seconds_min: Option<f64>,
    /// At most so long.
    pub seconds_max: Option<f64>,
}

/// What was achieved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Actuals {
    /// What users felt: from the end of service to service again.
    pub rta_outage: Figure,
    /// From the declaration to service again, for every client at the latest.
    pub rta_declared_seconds: Option<f64>,
    /// From the admission of the run to service again, for every client at the latest.
    pub rta_run_seconds: Option<f64>,
    /// Time of steps on the critical path, people's time and the engine's absence left out.
    pub automation_seconds: Option<f64>,
    /// Waits for approvals and holds on the critical path.
    pub human_seconds: Option<f64>,
    /// Time between the steps of the critical path, from admission on, in which the engine looked at the world before it acted.
    pub preparing_seconds: Option<f64>,
    /// Time on the critical path in which no process may have had the run; at most, because the instant of a crash is not recorded.
    pub engine_away_seconds: Option<f64>,
    /// Data that is gone.
    pub rpa: Rpa,
}

/// Data that is gone, as an interval with its method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rpa {
    /// The resource that decides; all of them together in `actuals` name the worst.
    pub resource: Option<String>,
    /// `exact-lsn`, `heartbeat`, `replay-timestamp`, `backup-start` (best first) or `unknown`.
    pub method: String,
    /// At least so many seconds of acknowledged commits.
    pub seconds_min: Option<f64>,
    /// At most so many seconds of acknowledged commits.
    pub seconds_max: Option<f64>,
    /// Bytes, summed over resources; absent where one of them is unknown.
    pub bytes: Option<u64>,
}

/// A loss foreseen before the act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectedLoss {
    /// The step that measured it.
    pub step: String,
    /// When it was recorded.
    pub at: Timestamp,
    /// What acting then would have lost.
    pub loss: Rpa,
}

/// Whether the promises were kept: `true`, `false` or `null` for unproven. `true` needs an ended, succeeded, verified run and the
/// whole interval within the objective; `false` needs the whole interval beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Against the outage, not against the run.
    pub rto: Option<bool>,
    /// Against the measured loss, not the expected one.
    pub rpo: Option<bool>,
}

/// What a drill took, and how it compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// What it is counted from: `outage_began`, `declared` or `run_started`.
    pub counted_from: String,
    /// Until service was seen working.
    pub recovery: Figure,
    /// Whether that would have been within the recovery time objective.
    pub within_rto: Option<bool>,
    /// Whether the loss would have been within the recovery point objective.
    pub within_rpo: Option<bool>,
}

/// The named instants, all UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clock {
    /// Service ended in this interval.
    pub outage_began_at: Option<OutageBegan>,
    /// When the recovery time objective runs out, counted from the earliest instant at which service may have ended.
    pub rto_due_at: Option<Timestamp>,
    /// A monitor called it.
    pub detected_at: Option<Timestamp>,
    /// A person or an armed rule called it a disaster.
    pub declared_at: Option<Timestamp>,
    /// The run was admitted.
    pub run_started_at: Timestamp,
    /// The old primary was proven unable to take writes (the last, where there are several).
    pub fenced_at: Option<Timestamp>,
    /// A promotion was asked for (the first).
    pub promote_sent_at: Option<Timestamp>,
    /// The new primary took a committed write (the last, where there are several).
    pub writable_at: Option<Timestamp>,
    /// Clients cannot have been served again before this.
    pub not_restored_before: Option<Moment>,
    /// Service was seen working from outside.
    pub service_restored_at: Option<Moment>,
    /// Clients that cached something old followed by this at the latest.
    pub clients_follow_by: Option<Moment>,
    /// The last check passed.
    pub verified_at: Option<Timestamp>,
    /// The run ended, clean-up included.
    pub run_ended_at: Option<Timestamp>,
}

/// When service ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageBegan {
    /// Last success seen.
    pub earliest: Timestamp,
    /// First failure seen.
    pub latest: Timestamp,
    /// How it was seen; several methods are joined by ` + `.
    pub method: String,
}

/// An instant with the sentence that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// How it is known, or why it is so.
    pub because: String,
}

/// How grave a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something is wrong, or a promise is broken.
    Bad,
    /// Something is unproven, unusual, or waits.
    Attention,
    /// Good to know.
    Note,
}

/// One thing that a reader should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// How grave.
    pub level: Level,
    /// Stable name for scripts: `clock-went-back`.
    pub code: String,
    /// The step it is about.
    pub step: Option<String>,
    /// A sentence.
    pub text: String,
}

/// What a person must do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The step that waits.
    pub step: String,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: String,
    /// What can be typed.
    pub commands: Vec<String>,
}

/// In which part of the plan a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The main part.
    Steps,
    /// `finally`.
    Finally,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub id: String,
    /// Its step type.
    #[serde(rename = "type")]
    pub step_type: String,
    /// How it stands.
    pub state: StepState,
    /// Attempts that may have acted.
    pub attempts: u32,
    /// When the last of its needs was settled; for a step without needs, the admission of the run. Until its start the engine prepared it.
    pub ready_at: Option<Timestamp>,
    /// First attempt, first request for approval, or refusal.
    pub started_at: Option<Timestamp>,
    /// When its forward part was over; undoing is not counted.
    pub ended_at: Option<Timestamp>,
    /// From start to end, or to the last entry for a step that has not ended. Absent where the clock went back in between.
    pub duration_seconds: Option<f64>,
    /// Of that, waiting for people: approvals and holds.
    pub waited_seconds: f64,
    /// Of that, waiting for the next attempt.
    pub backoff_seconds: f64,
    /// Of that, between losing sight of an attempt and seeing what became of it.
    pub in_doubt_seconds: f64,
    /// Main part or `finally`.
    pub part: Part,
    /// Whether it lies on the critical path.
    pub critical: bool,
    /// Whether the run cannot be turned back once it has begun.
    pub point_of_no_return: bool,
    /// What it was to do, in one sentence.
    pub preview: String,
    /// `executed`, `observed` (found done in the world) or `resolved` (a person said so), where it is done.
    pub known_by: Option<String>,
    /// Whether this run proves the step as it is written: seen to succeed, by no person's word and against no assertion.
    pub proven: bool,
    /// The last reason recorded for how it stands.
    pub why: Option<String>,
    /// What it did when, for drawing.
    pub segments: Vec<Segment>,
    /// What was seen, in order.
    pub evidence: Vec<Seen>,
    /// What takes its effect back, where the runbook writes that: the step type and one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// The place of a list that it stands for, where the list turned out not to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<UnusedPlace>,
}

/// What a step was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// An attempt was acting.
    Working,
    /// An attempt may or may not have had its effect.
    InDoubt,
    /// The next attempt was due later.
    Backoff,
    /// People were asked.
    AwaitingApproval,
    /// A person was needed.
    Held,
    /// Its effect was being taken back.
    Undoing,
}

/// A stretch of a step's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// What it was doing.
    pub doing: Doing,
    /// From.
    pub from: Timestamp,
    /// To; for one that goes on, the last entry's instant.
    pub to: Timestamp,
    /// The attempt it belongs to, from 1; 0 before the first.
    pub attempt: u32,
}

/// A stretch in which no process may have had the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// The last entry of the process before.
    pub from: Timestamp,
    /// The claim.
    pub to: Timestamp,
}

/// One thing seen, with when it was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// When it was recorded.
    pub at: Timestamp,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: Value,
}

/// How a question to people ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalEnd {
    /// Not yet.
    Open,
    /// Enough people said yes.
    Granted,
    /// The facts got worse.
    Voided,
    /// One said no.
    Denied,
    /// Nobody answered in time: no.
    Expired,
    /// The run went another way before it was answered.
    Withdrawn,
}

/// A question to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// The step.
    pub step: String,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// Any of these roles.
    pub roles: Vec<String>,
    /// Distinct people needed.
    pub count: u32,
    /// The facts shown.
    pub shown: Value,
    /// When the answer would have become no.
    pub expires_at: Timestamp,
    /// What people said.
    pub answers: Vec<Answer>,
    /// How it ended.
    pub end: ApprovalEnd,
    /// When.
    pub ended_at: Option<Timestamp>,
}

/// One person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who.
    pub by: Person,
    /// When.
    pub at: Timestamp,
    /// `yes` or `no`.
    pub said: String,
    /// Their words.
    pub comment: Option<String>,
}

/// One act of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Person,
    /// `started the run`, `approved`, `denied`, `resolved as done`, `retried`, `skipped`, `gave up`, `cancelled`, `released the locks`.
    pub what: String,
    /// The step, where it is about one.
    pub step: Option<String>,
    /// Their words.
    pub comment: Option<String>,
}

/// A pause, or a freeze that the run met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// `paused` or `frozen`.
    pub kind: String,
    /// The frozen resource; absent for everything.
    pub resource: Option<String>,
    /// Since when.
    pub from: Timestamp,
    /// Until when; absent where it goes on.
    pub to: Option<Timestamp>,
    /// So long, until now where it goes on.
    pub seconds: Option<f64>,
    /// Who; absent where the freezes could not be read.
    pub by: Option<Person>,
    /// Why.
    pub why: String,
    /// Who ended it.
    pub ended_by: Option<Person>,
    /// Why it was ended.
    pub ended_why: Option<String>,
}

/// A new process took the run over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
    /// Since the last entry of the process before: it was away at most so long. Absent where the clock went back.
    pub away_seconds_max: Option<f64>,
    /// The same as instants, for drawing.
    pub band: Band,
    /// Steps whose outcome was unknown then.
    pub in_doubt: Vec<String>,
}

/// An effect that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// The step that made it.
    pub step: String,
    /// The resources it changed.
    pub resources: Vec<String>,
    /// Why it stands.
    pub why: String,
}

/// The JSON contract: pretty, fields always in the same order, a newline at the end.
#[must_use]
pub fn json(report: &Report) -> String {
    // Every map key in a report is text, so writing cannot fail; the fallback keeps the promise of no panic.
    serde_json::to_string_pretty(report).map_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"), |text| text + "\n")
}
