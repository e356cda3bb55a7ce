//! The people around a run: those of the shape, or a crowd with a mind of its own, which also tries what it may not.

use lifeboat_engine::journal::{Actor, Resolution};
use lifeboat_engine::run::{Run, RunPhase, StepState as S};
use lifeboat_engine::steering::Command;
use serde_json::json;

use super::chance::Chance;
use super::schedule::Crowd;
use super::shapes::Around;
use crate::world::plans::actor;
use crate::world::stage::{approve, cancel, deny, resolve};

/// Most acts of a random crowd in one play: then it goes home.
const ACTS_MAX: u32 = 40;

#[derive(Debug)]
pub(crate) enum Crowded {
    Scripted,
    Random { chance: Chance, left: u32 },
}

impl Crowded {
    pub(crate) fn of(crowd: Crowd) -> Self {
        match crowd {
            Crowd::Scripted => Self::Scripted,
            Crowd::Random(seed) => Self::Random { chance: Chance::of(seed), left: ACTS_MAX },
        }
    }

    pub(crate) fn act(&mut self, run: &Run, scripted: Around) -> Option<(Command, Actor)> {
        match self {
            Self::Scripted => scripted(run),
            Self::Random { chance, left } => {
                if *left == 0 || chance.percent(30) {
                    return None;
                }
                *left -= 1;
                whim(run, chance)
            }
        }
    }
}

/// Sam started the run and may not answer; cyd has not the role; eve is nobody; root is nobody either.
const PEOPLE: [&str; 6] = ["ann", "bob", "dan", "sam", "cyd", "eve"];

fn whim(run: &Run, chance: &mut Chance) -> Option<(Command, Actor)> {
    let by = if chance.percent(5) {
        Actor { person: Some("ann".into()), system_user: "root".into(), via: "terminal".into() }
    } else {
        actor(chance.one_of(&PEOPLE))
    };
    let asking: Vec<&str> = run.steps.iter().filter(|(_, step)| step.state == S::AwaitingApproval).map(|(id, _)| id.as_str()).collect();
    let waiting =
        |step: &lifeboat_engine::run::StepRun| matches!(step.state, S::Held | S::Failed | S::Rejected | S::UndoFailed) && !step.given_up;
    let held: Vec<&str> = run.steps.iter().filter(|(_, step)| waiting(step)).map(|(id, _)| id.as_str()).collect();
    let command = if chance.percent(4) {
        cancel()
    } else if !asking.is_empty() && (held.is_empty() || chance.percent(50)) {
        let step = chance.one_of(&asking);
        if chance.percent(15) { deny(step) } else { approve(step) }
    } else if !held.is_empty() {
        let done = || Resolution::Done { outputs: json!({ "said": "by hand", "blob": "" }) };
        let resolutions: [fn() -> Resolution; 4] = [done, || Resolution::Retry, || Resolution::Skip, || Resolution::GiveUp];
        resolve(chance.one_of(&held), chance.one_of(&resolutions)())
    } else if run.phase == RunPhase::Running && chance.percent(3) {
        approve(run.steps.keys().next()?.as_str())
    } else {
        return None;
    };
    Some((command, by))
}
