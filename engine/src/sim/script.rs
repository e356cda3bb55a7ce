//! What the simulated world answers: one word for each call of a step's code. What follows from a word is in `steps`.

use std::collections::VecDeque;

/// What one call of `execute` does. Times are milliseconds of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Takes effect and answers.
    Succeed,
    /// Takes effect after so many milliseconds and answers.
    SucceedAfter(u64),
    /// No effect; the cause may pass.
    NotDone,
    /// No effect; trying again is no use.
    Hopeless,
    /// A check says no.
    Refused,
    /// The effect is there, its answer is lost.
    LoseAnswer,
    /// The request never arrives.
    LoseRequest,
    /// Goes on by itself and takes effect after so many milliseconds; no answer comes meanwhile.
    Late(u64),
    /// The request is on its way for so many milliseconds and arrives whatever becomes of whoever sent it; until then nobody sees
    /// anything of it. Then it takes effect and is answered.
    OnItsWay(u64),
    /// Takes effect, then never answers.
    HangAfter,
    /// Never answers, and has no effect.
    Hang,
    /// The step's code panics before the effect.
    Panic,
    /// The step's code panics after the effect.
    PanicAfter,
}

/// What one call of `prepare` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may start.
    Ready,
    /// The gate could not be asked.
    NotDone,
    /// It must not start.
    Refused,
    /// It waits for another step's effect.
    Later,
    /// The gate's answer was lost.
    Unknown,
    /// The step's code panics.
    Panic,
    /// No answer.
    Hang,
}

/// What one call of `observe` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// What is so.
    Truth,
    /// It was not done.
    NotDone,
    /// It goes on.
    InProgress,
    /// Somebody else did it.
    Foreign,
    /// It cannot be told.
    Unknown,
    /// The world cannot be reached.
    Error,
    /// The step's code panics.
    Panic,
    /// No answer.
    Hang,
}

/// What one call of `undo` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// The effect is gone.
    Succeed,
    /// The effect is gone after so many milliseconds.
    SucceedAfter(u64),
    /// The effect stays; the cause may pass.
    NotDone,
    /// The effect stays.
    Fail,
    /// The effect is gone, the answer lost.
    LoseAnswer,
    /// The request never arrives: the effect stays.
    LoseRequest,
    /// The effect is gone, and no answer comes.
    HangAfter,
    /// No answer, and the effect stays.
    Hang,
    /// The step's code panics.
    Panic,
}

/// What one census answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// What is so.
    Truth,
    /// This type cannot tell.
    Unlisted,
    /// The peers cannot be reached.
    Error,
    /// The step's code panics.
    Panic,
    /// No answer.
    Hang,
}

/// Answers in order, then always the last word.
#[derive(Clone, Debug)]
pub struct Turns<T> {
    /// Given first, one each time.
    pub first: VecDeque<T>,
    /// Given ever after.
    pub then: T,
}

impl<T: Copy> Turns<T> {
    /// Always this.
    #[must_use]
    pub fn always(word: T) -> Self {
        Self { first: VecDeque::new(), then: word }
    }

    pub(super) fn next(&mut self) -> T {
        self.first.pop_front().unwrap_or(self.then)
    }
}

/// What the world answers one step. By default all goes well.
#[derive(Clone, Debug)]
pub struct Script {
    /// To `execute`.
    pub acts: Turns<Act>,
    /// To `prepare`.
    pub gates: Turns<Gate>,
    /// To `observe`.
    pub sights: Turns<Sight>,
    /// To `undo`, and to the act of a written undo.
    pub backs: Turns<Back>,
    /// To the `prepare` of a written undo.
    pub undo_gates: Turns<Gate>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            acts: Turns::always(Act::Succeed),
            gates: Turns::always(Gate::Ready),
            sights: Turns::always(Sight::Truth),
            backs: Turns::always(Back::Succeed),
            undo_gates: Turns::always(Gate::Ready),
        }
    }
}
