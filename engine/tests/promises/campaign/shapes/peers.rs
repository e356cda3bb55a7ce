//! Failovers of a simulated database and its record: fences, promotions, lost data, and people who take a risk on record.

use lifeboat_engine::journal::{Actor, Resolution};
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::sim::{World, nobody};
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::{OnFailure, Plan};
use serde_json::json;
use std::time::Duration;

use super::{Shape, shape};
use crate::world::plans::{Draft, PlanWords, actor, approval, change, fence, id, look, plan, point, promote};
use crate::world::stage::{approve, resolve};
use crate::world::{Act, Back};

type Answer = Option<(Command, Actor)>;

/// `db` with the primary `a` and the copy `b`, three seconds behind; `dns` answers `a`.
fn orders(world: &World) {
    world.peers(|peers| {
        peers.add_database("db", "a", "b", 3000);
        peers.add_record("dns", "a");
    });
}

fn dead_primary(world: &World) {
    orders(world);
    world.peers(|peers| peers.dies("db", "a", Duration::ZERO));
}

fn failover() -> [Draft; 4] {
    [
        fence("fence", "a"),
        promote("promote", "b").after(&["fence"]).no_return(),
        point("dns", "b").after(&["promote"]),
        look("verify").after(&["dns"]),
    ]
}

fn switchover() -> Plan {
    plan([fence("fence", "a"), promote("promote", "b").after(&["fence"]), point("dns", "b").after(&["promote"])]).failing(OnFailure::Undo)
}

fn accepts_the_risk(run: &Run) -> Answer {
    match (run.state(&id("fence")), run.state(&id("accept"))) {
        (S::Failed, _) => Some((resolve("fence", Resolution::Skip), actor("ann"))),
        (_, S::AwaitingApproval) => Some((approve("accept"), actor("bob"))),
        _ => None,
    }
}

/// Says that it is fenced, which it is not.
fn says_fenced(run: &Run) -> Answer {
    let done = Resolution::Done { outputs: json!({ "said": "pulled the plug", "blob": "" }) };
    (run.state(&id("fence")) == S::Failed).then(|| (resolve("fence", done), actor("ann")))
}

fn skips_the_fence(run: &Run) -> Answer {
    (run.state(&id("fence")) == S::Failed).then(|| (resolve("fence", Resolution::Skip), actor("ann")))
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        shape("failover", || plan(failover()), orders, nobody),
        shape("failover from a dead primary", || plan(failover()).finally([look("last")]), dead_primary, nobody),
        shape(
            "failover with lost answers",
            || plan(failover()),
            |world| {
                orders(world);
                world.always("fence", Act::LoseAnswer).always("promote", Act::LoseAnswer).always("dns", Act::LoseAnswer);
            },
            nobody,
        ),
        shape(
            "failover with late effects",
            || plan(failover()),
            |world| {
                orders(world);
                world.acts("fence", &[Act::Late(13_000)]).acts("promote", &[Act::Late(12_000)]);
            },
            nobody,
        ),
        shape(
            "a promotion past a fence, accepted by a person",
            || plan([fence("fence", "a"), approval("accept", 1).after(&["fence"]), promote("promote", "b").after(&["accept"])]),
            |world| {
                orders(world);
                world.always("fence", Act::Hopeless);
            },
            accepts_the_risk,
        ),
        shape(
            "a fence that a person calls done",
            || plan(failover()),
            |world| {
                orders(world);
                world.always("fence", Act::Hopeless);
            },
            says_fenced,
        ),
        shape(
            "a fence that a person skips",
            || plan(failover()),
            |world| {
                orders(world);
                world.always("fence", Act::Hopeless);
            },
            skips_the_fence,
        ),
        shape("switchover", switchover, orders, nobody),
        shape(
            "switchover that turns back",
            switchover,
            |world| {
                orders(world);
                world.always("dns", Act::Hopeless);
            },
            nobody,
        ),
        shape(
            "switchover whose promotion fails",
            switchover,
            |world| {
                orders(world);
                world.always("promote", Act::Hopeless);
            },
            nobody,
        ),
        shape(
            "switchover whose promotion cannot be taken back",
            switchover,
            |world| {
                orders(world);
                world.always("dns", Act::Hopeless).always_back("promote", Back::Fail);
            },
            nobody,
        ),
        shape(
            "records are put back",
            || plan([point("dns", "b"), change("bad").on("web").after(&["dns"])]).failing(OnFailure::Undo),
            |world| {
                orders(world);
                world.always("bad", Act::Hopeless);
            },
            nobody,
        ),
    ]
}
