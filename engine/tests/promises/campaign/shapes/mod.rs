//! The shapes of runs that the campaign plays: a plan, what its world answers, and the people around it. Each has a name.

mod doubt;
mod failure;
mod nested;
mod peers;
mod people;
mod plain;

use std::sync::OnceLock;

use lifeboat_engine::journal::Actor;
use lifeboat_engine::run::Run;
use lifeboat_engine::sim::World;
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::Plan;

/// Who acts, from what they see alone: so that they do the same again after a restart.
pub(crate) type Around = fn(&Run) -> Option<(Command, Actor)>;

/// A kind of run.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) plan: fn() -> Plan,
    pub(crate) script: fn(&World),
    pub(crate) people: Around,
    /// A second run, asked for at the same time.
    pub(crate) second: Option<fn() -> Plan>,
    /// Whether an approval that expires or a deadline makes the outcome depend on time.
    pub(crate) has_window: bool,
    /// Whether branches race so that any delay of one may change what becomes of the other.
    pub(crate) races: bool,
    /// Whether it is played only where several machines share the store: requests that arrive after the death of whoever sent them.
    pub(crate) outlives: bool,
    /// Whether a dead process is followed only after a quarter of an hour, in which people act on the run at rest.
    pub(crate) rests: bool,
    /// Everything is frozen from the first to the second of these milliseconds.
    pub(crate) frozen_ms: Option<(u64, u64)>,
}

impl Shape {
    fn racing(self) -> Self {
        Self { races: true, ..self }
    }

    fn frozen(self, from_ms: u64, until_ms: u64) -> Self {
        Self { frozen_ms: Some((from_ms, until_ms)), races: true, ..self }
    }

    fn resting(self) -> Self {
        Self { rests: true, races: true, ..self }
    }

    fn outliving(self) -> Self {
        Self { outlives: true, ..self }
    }
}

fn shape(name: &'static str, plan: fn() -> Plan, script: fn(&World), people: Around) -> Shape {
    let made = plan();
    let asks = made.steps.iter().chain(&made.finally).any(|step| step.step_type == "approval");
    Shape {
        name,
        plan,
        script,
        people,
        second: None,
        has_window: asks || made.deadline_ms.is_some(),
        races: false,
        outlives: false,
        frozen_ms: None,
        rests: false,
    }
}

fn calm(_: &World) {}

/// All of them. The order is part of what a seed means.
pub(crate) fn shapes() -> &'static [Shape] {
    static ALL: OnceLock<Vec<Shape>> = OnceLock::new();
    ALL.get_or_init(|| [plain::shapes(), doubt::shapes(), failure::shapes(), people::shapes(), peers::shapes(), nested::shapes()].concat())
}

/// The place of a shape by its name, whatever stands between its words.
pub(crate) fn named(name: &str) -> Option<usize> {
    let letters = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
    shapes().iter().position(|shape| letters(shape.name) == letters(name))
}
