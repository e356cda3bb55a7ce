//! Shapes with retries, lost messages, late effects, panics, and steps of which nobody can tell what they did.

use lifeboat_engine::journal::{Actor, Resolution};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::sim::nobody;
use lifeboat_engine::steering::Command;
use serde_json::json;

use super::{Shape, calm, shape};
use crate::world::plans::{actor, change, id, look, note, plan};
use crate::world::stage::resolve;
use crate::world::{Act, Gate, Sight};

type Answer = Option<(Command, Actor)>;

fn at(run: &Run, step: &str, states: &[S]) -> bool {
    states.contains(&run.state(&id(step)))
}

fn ann_retries(run: &Run) -> Answer {
    at(run, "a", &[S::Held, S::Failed]).then(|| (resolve("a", Resolution::Retry), actor("ann")))
}

fn ann_skips(run: &Run) -> Answer {
    at(run, "held", &[S::Held]).then(|| (resolve("held", Resolution::Skip), actor("ann")))
}

fn ann_gives_up(run: &Run) -> Answer {
    let open = run.steps.get(&id("held")).is_some_and(|step| matches!(step.state, S::Held | S::Failed) && !step.given_up);
    open.then(|| (resolve("held", Resolution::GiveUp), actor("ann")))
}

fn ann_says_done(run: &Run) -> Answer {
    let done = Resolution::Done { outputs: json!({ "said": "by hand", "blob": "" }) };
    at(run, "held", &[S::Held]).then(|| (resolve("held", done), actor("ann")))
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        shape(
            "retries",
            || plan([change("a").tries(4), look("b").after(&["a"]).tries(3)]),
            |world| {
                world.acts("a", &[Act::NotDone, Act::LoseRequest]).acts("b", &[Act::NotDone]);
            },
            nobody,
        ),
        shape(
            "lost answers",
            || plan([change("a"), change("b").on("dns"), change("c").after(&["a", "b"])]),
            |world| {
                world.always("a", Act::LoseAnswer).acts("b", &[Act::Late(15_000)]).always("c", Act::PanicAfter);
            },
            nobody,
        ),
        shape(
            "a lost request",
            || plan([change("a").tries(3), change("b").after(&["a"])]),
            |world| _ = world.acts("a", &[Act::LoseRequest]),
            nobody,
        ),
        shape("a late effect", || plan([change("a"), look("b").after(&["a"])]), |world| _ = world.acts("a", &[Act::Late(14_000)]), nobody),
        shape(
            "an effect just past the deadline",
            || plan([change("a"), note("b").after(&["a"])]),
            |world| _ = world.acts("a", &[Act::Late(9_800)]),
            nobody,
        ),
        shape(
            "hangs after its effect",
            || plan([change("a"), change("b").on("dns")]),
            |world| _ = world.acts("a", &[Act::HangAfter]),
            nobody,
        ),
        shape(
            "hangs without effect",
            || plan([change("a").tries(3), change("b").on("dns")]),
            |world| _ = world.acts("a", &[Act::Hang]),
            nobody,
        ),
        shape(
            "panics",
            || plan([change("a").tries(3), change("b").on("dns"), look("c").after(&["a", "b"])]),
            |world| {
                world.acts("a", &[Act::Panic]).acts("b", &[Act::PanicAfter]);
            },
            nobody,
        ),
        shape(
            "the world is out of reach for a while",
            || plan([change("a"), change("b").after(&["a"])]),
            |world| {
                world.acts("a", &[Act::LoseAnswer]).sights("a", &[Sight::Error, Sight::Unknown, Sight::Error]);
            },
            nobody,
        ),
        shape(
            "a gate out of reach for a while",
            || plan([change("a").tries(4), look("b").after(&["a"])]),
            |world| _ = world.gates("a", &[Gate::NotDone; 2]),
            nobody,
        ),
        shape(
            "held and skipped",
            || plan([change("held"), change("other").on("dns"), change("after").after(&["held"])]),
            |world| _ = world.always_gate("held", Gate::Refused),
            ann_skips,
        ),
        shape(
            "held and given up",
            || plan([change("held"), change("other").on("dns"), change("after").after(&["held"])]),
            |world| _ = world.always_gate("held", Gate::Refused),
            ann_gives_up,
        ),
        shape(
            "somebody else's work, called done",
            || plan([change("held"), change("after").after(&["held"])]),
            |world| {
                world.always("held", Act::LoseRequest).always_sight("held", Sight::Foreign);
            },
            ann_says_done,
        ),
        shape(
            "nobody can tell, and it is tried again",
            || plan([change("a"), look("b").after(&["a"])]),
            |world| {
                world.acts("a", &[Act::LoseRequest]).sights("a", &[Sight::Unknown; 6]);
            },
            ann_retries,
        ),
        shape(
            "nobody can tell, and it was done",
            || plan([change("a"), look("b").after(&["a"])]),
            |world| {
                world.acts("a", &[Act::LoseAnswer]).sights("a", &[Sight::Unknown; 6]);
            },
            ann_retries,
        ),
        shape(
            "failed and tried again",
            || plan([change("a"), change("b").after(&["a"])]),
            |world| _ = world.acts("a", &[Act::Hopeless]),
            ann_retries,
        ),
        shape(
            "an expression that fails",
            || plan([look("a").says(json!("no number")), change("held").after(&["a"]).when("steps.a.outputs.said > 3")]),
            calm,
            ann_skips,
        ),
        shape(
            "a request on its way",
            // Longer on its way than a lease lasts, and shorter than a call may take.
            || plan([change("a").timeout_ms(60_000), change("b").on("dns").after(&["a"])]),
            |world| {
                world.acts("a", &[Act::OnItsWay(40_000)]).acts("b", &[Act::OnItsWay(4000)]);
            },
            nobody,
        )
        .outliving(),
        shape(
            "never settled, never answered",
            || plan([change("held"), change("b").on("dns")]),
            |world| {
                world.always("held", Act::LoseRequest).always_sight("held", Sight::Unknown);
            },
            nobody,
        ),
    ]
}
