//! What a run achieved against what was promised: a journal in, a judgement out. Pure: no I/O, no clock, no globals.
//! How a run is executed and journaled is in `lifeboat-engine`; what a plan is, in `lifeboat-runbooks`.
//!
//! [`judge`] is the only place where figures are made. [`text`], [`json`], [`html`], [`graph`] and [`timeline_svg`] show them.

mod drill;
mod html;
mod judge;
mod marks;
mod picture;
mod report;
mod rows;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod tale;
mod text;
mod words;

pub use drill::{CleanUp, DrillLine, DrillReport, Prediction, drill_text, prediction_text};
pub use html::html;
pub use judge::{JudgeError, judge};
pub use picture::graph;
pub use picture::timeline::timeline_svg;
pub use report::{
    Actuals, Answer, Approval, ApprovalEnd, Band, Clock, Decision, Digests, Doing, ExpectedLoss, Figure, LeftBehind, Level, Met, Moment,
    Notice, ObjectiveSeconds, OutageBegan, Part, Person, REPORT_FORMAT, Rehearsal, Report, Resume, Rpa, Seen, Segment, Standing,
    StepReport, Stop, Verdict, Wanted, json,
};
pub use text::{Colour, text};
