//! How states, verdicts and notices are marked: always a sign and a word, a colour only on top. One table for text, page and pictures.

use lifeboat_engine::run::StepState;

use crate::report::{Doing, Level, Verdict};

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Attention,
    Active,
    Quiet,
}

impl Tone {
    /// Class name in pages and pictures.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Attention => "attention",
            Self::Active => "active",
            Self::Quiet => "quiet",
        }
    }
}

/// A sign, a word and a tone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) sign: char,
    pub(crate) word: &'static str,
    pub(crate) tone: Tone,
}

const fn mark(sign: char, word: &'static str, tone: Tone) -> Mark {
    Mark { sign, word, tone }
}

/// How a step stands.
pub(crate) fn of_state(state: StepState) -> Mark {
    match state {
        StepState::Waiting => mark('·', "waiting", Tone::Quiet),
        StepState::AwaitingApproval => mark('?', "asks people", Tone::Attention),
        StepState::Running => mark('▸', "running", Tone::Active),
        StepState::Backoff => mark('↻', "tries again", Tone::Active),
        StepState::InDoubt => mark('?', "in doubt", Tone::Attention),
        StepState::Held => mark('‖', "held", Tone::Attention),
        StepState::Succeeded => mark('✓', "done", Tone::Good),
        StepState::Rejected => mark('✗', "rejected", Tone::Bad),
        StepState::Failed => mark('✗', "failed", Tone::Bad),
        StepState::Skipped => mark('–', "skipped", Tone::Quiet),
        StepState::NotRun => mark('–', "not run", Tone::Quiet),
        StepState::Undoing => mark('↩', "undoing", Tone::Active),
        StepState::Undone => mark('↩', "undone", Tone::Quiet),
        StepState::UndoFailed => mark('!', "undo failed", Tone::Bad),
        StepState::UndoInDoubt => mark('?', "undo in doubt", Tone::Attention),
    }
}

/// The judgement.
pub(crate) fn of_verdict(verdict: Verdict) -> Mark {
    match verdict {
        Verdict::Met => mark('✓', "kept", Tone::Good),
        Verdict::Overridden => mark('!', "kept, with an override", Tone::Attention),
        Verdict::Missed => mark('✗', "missed", Tone::Bad),
        Verdict::Unproven => mark('?', "unproven", Tone::Attention),
        Verdict::NotRecovered => mark('✗', "not recovered", Tone::Bad),
        Verdict::NeedsPerson => mark('‖', "a person is needed", Tone::Attention),
        Verdict::Underway => mark('▸', "under way", Tone::Active),
        Verdict::DrillPassed => mark('◇', "drill passed", Tone::Active),
    }
}

/// A promise.
pub(crate) fn of_met(met: Option<bool>) -> Mark {
    match met {
        Some(true) => mark('✓', "kept", Tone::Good),
        Some(false) => mark('✗', "missed", Tone::Bad),
        None => mark('?', "unproven", Tone::Attention),
    }
}

/// A notice.
pub(crate) fn of_level(level: Level) -> Mark {
    match level {
        Level::Bad => mark('✗', "wrong", Tone::Bad),
        Level::Attention => mark('!', "look", Tone::Attention),
        Level::Note => mark('·', "note", Tone::Quiet),
    }
}

/// A stretch of a step's time: the filling of its bar in text, and its words.
pub(crate) fn of_doing(doing: Doing) -> Mark {
    match doing {
        Doing::Working => mark('█', "working", Tone::Active),
        Doing::InDoubt => mark('▚', "outcome unknown, looking", Tone::Attention),
        Doing::Backoff => mark('·', "waiting to try again", Tone::Quiet),
        Doing::AwaitingApproval => mark('░', "waiting for people", Tone::Attention),
        Doing::Held => mark('░', "held for a person", Tone::Attention),
        Doing::Undoing => mark('▓', "undoing", Tone::Active),
    }
}
