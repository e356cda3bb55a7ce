//! Shapes in which all goes well: chains, branches, conditions, assertions, final steps, two runs.

use serde_json::json;

use lifeboat_engine::sim::nobody;

use super::{Shape, calm, shape};
use crate::world::plans::{PlanWords, change, look, note, plan, poke};
use crate::world::{Act, Gate};

pub(super) fn shapes() -> Vec<Shape> {
    let mut all = vec![
        shape("one change", || plan([change("a")]), calm, nobody),
        shape("one look", || plan([look("a")]), calm, nobody),
        shape("chain", || plan([look("a"), change("b").after(&["a"]), note("c").after(&["b"]), change("d").after(&["c"])]), calm, nobody),
        shape("chain of notes", || plan([note("a"), note("b").after(&["a"]), note("c").after(&["b"])]), calm, nobody),
        shape(
            "chain of pokes",
            || plan([poke("a"), poke("b").after(&["a"]), look("c").after(&["b"]), poke("d").after(&["c"])]),
            calm,
            nobody,
        ),
        shape("pokes, frozen for a while", || plan([poke("a"), poke("b").after(&["a"]), poke("c").on("web").after(&["b"])]), calm, nobody)
            .frozen(300, 90_000),
        shape(
            "pokes that fail and hang",
            || plan([change("a"), poke("b").after(&["a"]).tries(3), poke("c").on("dns").after(&["a"]), note("d").after(&["b", "c"])]),
            |world| {
                world.gates("b", &[Gate::NotDone]);
                world.always_gate("c", Gate::Hang);
                world.acts("b", &[Act::LoseAnswer]);
            },
            nobody,
        ),
        shape(
            "long chain",
            || {
                let names = ["a", "b", "c", "d", "e", "f", "g"];
                plan(names.iter().enumerate().map(|(place, name)| {
                    let step = if place % 3 == 1 { look(name) } else { change(name) };
                    if place == 0 { step } else { step.after(&[names[place - 1]]) }
                }))
            },
            calm,
            nobody,
        ),
        shape("parallel", || plan([change("a"), change("b").on("dns"), change("c").on("web"), look("d"), note("e")]), calm, nobody),
        shape(
            "diamond",
            || {
                let top = [change("top"), change("left").after(&["top"]), change("right").on("dns").after(&["top"])];
                plan(top.into_iter().chain([look("join").after(&["left", "right"])])).finally([change("last").on("web")])
            },
            |world| {
                world.always("right", Act::SucceedAfter(1700));
            },
            nobody,
        ),
        shape(
            "fan and join",
            || {
                let fan = ["a", "b", "c", "d", "e", "f"];
                plan(fan.iter().map(|name| look(name)).chain([change("join").after(&fan)]))
            },
            |world| {
                world.acts("c", &[Act::SucceedAfter(900)]);
            },
            nobody,
        ),
        shape(
            "two diamonds",
            || {
                plan([
                    change("a"),
                    change("b").after(&["a"]),
                    change("c").on("dns").after(&["a"]),
                    look("d").after(&["b", "c"]),
                    change("e").after(&["d"]),
                    change("f").on("web").after(&["d"]),
                    note("g").after(&["e", "f"]),
                ])
            },
            calm,
            nobody,
        ),
        shape(
            "two branches of unequal speed",
            || plan([change("slow"), change("fast").on("dns"), change("behind").on("dns").after(&["fast"])]),
            |world| {
                world.always("slow", Act::SucceedAfter(4000));
            },
            nobody,
        ),
        shape(
            "conditions",
            || {
                plan([
                    look("ask").says(json!("no")),
                    change("skipped").after(&["ask"]).when("steps.ask.outputs.said == 'yes'"),
                    change("done").after(&["skipped"]).asserts("steps.done.state == 'succeeded'"),
                ])
            },
            calm,
            nobody,
        ),
        shape("everything skipped", || plan([change("a").when("mode == 'drill'"), look("b").when("mode == 'drill'")]), calm, nobody),
        shape(
            "outputs read by later steps",
            || {
                plan([
                    look("a").says(json!({ "node": "b", "lag": 3 })),
                    change("b").after(&["a"]).says(json!("${{ steps.a.outputs.said.node }}")),
                    note("c").after(&["b"]).says(json!("to ${{ steps.b.outputs.said }}")).when("steps.b.outputs.said == 'b'"),
                ])
            },
            calm,
            nobody,
        ),
        shape(
            "assertions hold",
            || plan([change("a").says(json!(7)).asserts("steps.a.outputs.said == 7"), look("b").after(&["a"])]),
            calm,
            nobody,
        ),
        shape(
            "large output",
            || plan([change("a").with("blob_bytes", json!(70_000)), change("b").after(&["a"]).when("size(steps.a.outputs.blob) == 70000")]),
            calm,
            nobody,
        ),
        shape(
            "parameters beyond their limit",
            || plan([change("a").with("blob_bytes", json!(300_000)), look("b").after(&["a"]).says(json!("${{ steps.a.outputs.blob }}"))]),
            calm,
            nobody,
        ),
        shape(
            "slow step",
            || plan([change("a"), change("b").after(&["a"])]),
            |world| _ = world.always("a", Act::SucceedAfter(5000)),
            nobody,
        ),
        shape("frozen for a while", || plan([change("a"), change("b").after(&["a"]), change("c").on("web").after(&["b"])]), calm, nobody)
            .frozen(300, 90_000),
        shape("final steps", || plan([change("a")]).finally([change("x").on("web"), look("y").after(&["x"])]), calm, nobody),
        shape("only looking", || plan([look("a").on("db"), look("b").on("db"), note("c").after(&["a", "b"])]), calm, nobody),
        shape("a drill", || plan([change("a").on("web"), look("b").after(&["a"])]).mode("drill"), calm, nobody),
    ];
    let two = |name, first: fn() -> _, second: fn() -> _| Shape { second: Some(second), ..shape(name, first, calm, nobody) };
    all.extend([
        two("two runs, one lock", || plan([change("a"), change("b").after(&["a"])]), || plan([change("p"), look("q").after(&["p"])])),
        two("two runs apart", || plan([change("a"), look("b").after(&["a"])]), || plan([change("p").on("dns"), change("q").on("web")])),
        two(
            "two runs, two locks each",
            || plan([change("a"), change("b").on("dns").after(&["a"])]),
            || plan([change("p").on("dns"), change("q").after(&["p"])]),
        ),
    ]);
    all
}
