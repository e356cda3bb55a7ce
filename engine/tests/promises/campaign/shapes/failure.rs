//! Shapes that turn back or end early: undo, abort, cancel, deadlines, the point of no return, drills, final steps that fail.

use lifeboat_engine::journal::Actor;
use lifeboat_engine::run::{Run, StepState as S};
use lifeboat_engine::sim::nobody;
use lifeboat_engine::steering::Command;
use lifeboat_runbooks::plan::OnFailure;
use serde_json::json;

use super::{Shape, calm, shape};
use crate::world::plans::{PlanWords, actor, approval, change, id, look, note, plan};
use crate::world::stage::cancel;
use crate::world::{Act, Back, Gate};

type Answer = Option<(Command, Actor)>;

fn cancelled_at_the_question(run: &Run) -> Answer {
    (run.state(&id("ask")) == S::AwaitingApproval && run.cancelled_by.is_none()).then(|| (cancel(), actor("ann")))
}

fn cancelled_behind_a(run: &Run) -> Answer {
    let late = run.state(&id("a")) == S::Succeeded && run.state(&id("held")) == S::Held && run.cancelled_by.is_none();
    late.then(|| (cancel(), actor("bob")))
}

pub(super) fn shapes() -> Vec<Shape> {
    vec![
        shape(
            "undo",
            || {
                let steps = [change("a"), change("b").on("dns").after(&["a"]), change("bad").after(&["b"])];
                plan(steps).failing(OnFailure::Undo).finally([look("last")])
            },
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "undo of a diamond",
            || {
                plan([
                    change("a"),
                    change("b").after(&["a"]),
                    change("c").on("dns").after(&["a"]),
                    change("d").on("web").after(&["b", "c"]),
                    look("bad").after(&["d"]),
                ])
                .failing(OnFailure::Undo)
            },
            |world| _ = world.always("bad", Act::Refused),
            nobody,
        ),
        shape(
            "stuck undo",
            || plan([change("a"), change("b").on("dns"), change("bad").after(&["a", "b"])]).failing(OnFailure::Undo),
            |world| {
                world.always("bad", Act::Hopeless).always_back("b", Back::Fail);
            },
            nobody,
        ),
        shape(
            "an undo whose answer is lost",
            || plan([change("a"), change("b").on("dns").after(&["a"]), look("bad").after(&["b"])]).failing(OnFailure::Undo),
            |world| {
                world.always("bad", Act::Hopeless).backs("b", &[Back::LoseAnswer]);
            },
            nobody,
        ),
        shape(
            "an undo that hangs",
            || plan([change("a"), change("b").on("dns").after(&["a"]), look("bad").after(&["b"])]).failing(OnFailure::Undo),
            |world| {
                world.always("bad", Act::Hopeless).always_back("b", Back::Hang);
            },
            nobody,
        ),
        shape(
            "a written undo",
            || {
                let held = change("a").says(json!("token")).undone_by(change("undo").on("dns").says(json!("${{ outputs.said }}")));
                plan([held, change("b").on("web").after(&["a"]), change("bad").after(&["b"])])
                    .failing(OnFailure::Undo)
                    .finally([look("last")])
            },
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "a written undo whose answer is lost",
            || {
                let b = change("b").on("dns").after(&["a"]).undone_by(change("undo").on("dns"));
                plan([change("a"), b, look("bad").after(&["b"])]).failing(OnFailure::Undo)
            },
            |world| {
                world.always("bad", Act::Hopeless).backs("b", &[Back::LoseAnswer]);
            },
            nobody,
        ),
        shape(
            "a written undo whose request is lost, and whose gate then says no",
            || {
                let b = change("b").on("dns").after(&["a"]).undone_by(change("undo").on("dns"));
                plan([change("a"), b, look("bad").after(&["b"])]).failing(OnFailure::Undo)
            },
            |world| {
                world.always("bad", Act::Hopeless).backs("b", &[Back::LoseRequest]).undo_gates("b", &[Gate::Ready, Gate::Refused]);
            },
            nobody,
        )
        .racing(),
        shape(
            "a written undo in a freeze of what it acts on",
            || {
                let a = change("a").undone_by(change("undo").on("web"));
                plan([a, look("bad").after(&["a"])]).failing(OnFailure::Undo)
            },
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        )
        .frozen(1700, 60_000),
        shape(
            "a drill with a written undo",
            || {
                let a = change("a").on("web").undone_by(change("undo").on("app"));
                plan([a, look("b").after(&["a"])]).mode("drill")
            },
            calm,
            nobody,
        ),
        shape(
            "a slow undo",
            || plan([change("a"), change("bad").after(&["a"])]).failing(OnFailure::Undo),
            |world| {
                world.always("bad", Act::Hopeless).always_back("a", Back::SucceedAfter(4000));
            },
            nobody,
        ),
        shape(
            "undo after an effect whose answer was lost",
            || plan([change("a"), change("bad").on("dns").after(&["a"]).asserts("mode == 'other'")]).failing(OnFailure::Undo),
            |world| _ = world.always("bad", Act::LoseAnswer),
            nobody,
        ),
        shape(
            "an effect that stays",
            || plan([change("a").stays(), change("b").on("dns").after(&["a"]), look("bad").after(&["b"])]).failing(OnFailure::Undo),
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "abort",
            || {
                plan([change("a"), change("bad").after(&["a"]), change("c").after(&["bad"])])
                    .failing(OnFailure::Abort)
                    .finally([note("last")])
            },
            |world| _ = world.always("bad", Act::Refused),
            nobody,
        ),
        shape(
            "abort while others run",
            || plan([change("slow"), look("bad").on_failure(OnFailure::Abort), change("after").after(&["slow"])]).failing(OnFailure::Undo),
            |world| {
                world.always("bad", Act::Hopeless).always("slow", Act::SucceedAfter(3000));
            },
            nobody,
        )
        .racing(),
        shape(
            "a failure that undoes, in a run that holds",
            || plan([change("a"), change("bad").on("dns").after(&["a"]).on_failure(OnFailure::Undo)]),
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "a failure that holds",
            || plan([change("a"), change("bad").on("dns"), look("c").after(&["bad"])]),
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "a rejected step that holds",
            || plan([change("a").asserts("mode == 'other'"), change("b").on("dns").after(&["a"])]).failing(OnFailure::Hold),
            calm,
            nobody,
        ),
        shape(
            "past the point of no return",
            || plan([change("a").no_return(), change("bad").on("dns").after(&["a"])]).failing(OnFailure::Undo),
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "cancel past the point of no return",
            || {
                let steps = [change("a").no_return(), approval("ask", 1).after(&["a"]), change("never").after(&["ask"])];
                plan(steps).failing(OnFailure::Undo).finally([change("last").on("web")])
            },
            calm,
            cancelled_at_the_question,
        ),
        shape(
            "cancel that undoes",
            || plan([change("a"), change("held").on("dns").after(&["a"])]).failing(OnFailure::Undo).finally([look("last")]),
            |world| _ = world.always_gate("held", Gate::Refused),
            cancelled_behind_a,
        ),
        shape(
            "a drill past the point of no return",
            || {
                let steps = [change("a").on("web").no_return(), change("bad").on("web").after(&["a"])];
                plan(steps).failing(OnFailure::Undo).mode("drill").finally([look("last")])
            },
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "a drill of what is closed to drills",
            || plan([change("a").on("web"), change("b").on("db").after(&["a"])]).failing(OnFailure::Undo).mode("drill"),
            calm,
            nobody,
        ),
        shape(
            "final steps that fail",
            || plan([change("a")]).finally([look("x"), change("y").on("web")]),
            |world| _ = world.always("x", Act::Hopeless),
            nobody,
        ),
        shape(
            "final steps after an undo",
            || {
                plan([change("a"), look("bad").after(&["a"])])
                    .failing(OnFailure::Undo)
                    .finally([change("x").on("web"), note("y").after(&["x"])])
            },
            |world| _ = world.always("bad", Act::Hopeless),
            nobody,
        ),
        shape(
            "a deadline that passes",
            || {
                plan([change("a"), change("slow").on("dns").after(&["a"]), change("never").after(&["slow"])])
                    .failing(OnFailure::Undo)
                    .deadline_ms(3000)
            },
            |world| _ = world.always("slow", Act::SucceedAfter(5000)),
            nobody,
        )
        // Who dies while the slow step acts finds it not done and too late to be tried again; otherwise it is done, and taken back.
        .racing(),
        shape("a deadline that is kept", || plan([change("a"), change("b").after(&["a"])]).deadline_ms(600_000), calm, nobody),
    ]
}
