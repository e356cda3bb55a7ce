//! The checker of expressions against the evaluator: what is accepted when a file is loaded has an answer in every run that can follow.
//! `EXPRESSIONS=60000` tries more of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::collections::BTreeMap;

use catalog::{Inventory, Types};
use lifeboat_runbooks::expr::{Scope, StepFacts, fill, is_true};
use lifeboat_runbooks::{Severity, Source, StepId, check, parse};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

type Text = BoxedStrategy<String>;

fn one_of(words: &[&str]) -> Text {
    prop::sample::select(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).boxed()
}

const OUTPUTS: [&str; 4] = ["steps.loss.outputs", "steps.maybe.outputs", "steps.loss.?outputs", "steps.maybe.?outputs"];

/// Anything, wherever it stands: most of it is refused.
fn wild() -> Text {
    let output = (
        one_of(&OUTPUTS),
        one_of(&[".", ".?"]),
        one_of(&["within_rpo", "bytes", "share", "seconds", "lag", "method", "nodes", "labels", "raw", "nope"]),
    )
        .prop_map(|(base, dot, field)| format!("{base}{dot}{field}"));
    prop_oneof![
        output,
        one_of(&[
            "null",
            "mode",
            "inputs",
            "steps",
            "inputs.to",
            "inputs.n",
            "inputs.r",
            "inputs.wait",
            "inputs.flag",
            "inputs.pick",
            "steps.loss",
            "steps.maybe.state",
            "steps.after.outputs",
            "steps.loss.outputs.nodes[0]",
            "steps.loss.outputs.labels.a",
            "steps.loss.outputs.labels[inputs.to]",
            "x",
            "x.name",
            "x.lag_ms",
            "[]",
            "{}",
            "1u",
            "b'a'",
            "duration(inputs.to)",
            "steps.loss.outputs.raw.?a",
            "steps.loss.outputs.raw",
            "has(steps.maybe.outputs.seconds)",
        ]),
    ]
    .boxed()
}

struct Grammar {
    depth: u32,
}

impl Grammar {
    fn below(&self) -> Self {
        Self { depth: self.depth.saturating_sub(1) }
    }

    /// A leaf, rarely a wild one, or, above the ground, something built.
    fn grow(&self, leaf: Text, built: impl FnOnce(&Self) -> Text) -> Text {
        let leaf = prop_oneof![12 => leaf, 1 => wild()].boxed();
        if self.depth == 0 { leaf } else { prop_oneof![2 => leaf, 5 => built(&self.below())].boxed() }
    }

    fn truth(&self) -> Text {
        let leaf = one_of(&[
            "true",
            "false",
            "inputs.flag",
            "steps.loss.outputs.within_rpo",
            "has(steps.maybe.outputs)",
            "has(steps.loss.outputs.seconds)",
            "steps.maybe.state == 'succeeded'",
            "steps.maybe.state != 'skipped'",
            "mode == 'failover'",
            "has(x.lag_ms)",
        ]);
        self.grow(leaf, |g| {
            prop_oneof![
                (g.truth(), one_of(&["&&", "||", "==", "!="]), g.truth()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                g.truth().prop_map(|a| format!("!{a}")),
                (g.truth(), g.truth(), g.truth()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
                (g.whole(), one_of(&["<", "<=", ">", ">=", "==", "!="]), prop_oneof![g.whole(), g.real()])
                    .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (g.text(), one_of(&["==", "!=", "<", ">="]), g.text()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (g.length(), one_of(&["<", "<=", "==", "!="]), g.length()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (g.text(), one_of(&["contains", "startsWith", "endsWith"]), g.text()).prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
                (g.text(), one_of(&["'^a+$'", "'['", "inputs.to"])).prop_map(|(a, pattern)| format!("{a}.matches({pattern})")),
                (g.text(), g.list()).prop_map(|(a, list)| format!("({a} in {list})")),
                (g.text(), one_of(&["steps.loss.outputs.labels", "{'a': 1}", "inputs"])).prop_map(|(a, map)| format!("({a} in {map})")),
                (one_of(&["all", "exists", "exists_one"]), g.list(), g.truth())
                    .prop_map(|(name, list, body)| format!("{list}.{name}(x, {body})")),
                (
                    one_of(&[
                        "has(steps.maybe.outputs) && ",
                        "has(steps.loss.outputs.seconds) && ",
                        "steps.maybe.state == 'skipped' || ",
                        "!has(x.lag_ms) || "
                    ]),
                    g.truth()
                )
                    .prop_map(|(guard, a)| format!("({guard}{a})")),
                g.maybe().prop_map(|a| format!("{a}.hasValue()")),
                (
                    one_of(&[
                        "has(steps.maybe.outputs)",
                        "!has(steps.maybe.outputs)",
                        "has(steps.loss.outputs.seconds)",
                        "steps.maybe.state == 'succeeded'"
                    ]),
                    one_of(&["&&", "||"]),
                    one_of(&["inputs.flag", "has(steps.maybe.outputs)"]),
                    one_of(&["&&", "||"]),
                    one_of(&["steps.maybe.outputs.within_rpo", "steps.maybe.outputs.bytes > 1", "steps.loss.outputs.seconds > 1"])
                )
                    .prop_map(|(a, first, b, second, c)| format!("(({a} {first} {b}) {second} {c})")),
            ]
            .boxed()
        })
    }

    fn whole(&self) -> Text {
        let leaf = one_of(&[
            "0",
            "7",
            "inputs.n",
            "steps.loss.outputs.bytes",
            "steps.loss.outputs.seconds",
            "steps.maybe.outputs.bytes",
            "steps.maybe.outputs.seconds",
            "x.lag_ms",
        ]);
        self.grow(leaf, |g| {
            prop_oneof![
                (g.whole(), one_of(&["+", "-", "*"]), g.whole()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (g.whole(), one_of(&["/", "%"]), one_of(&["3", "0", "-1", "inputs.n"])).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                g.whole().prop_map(|a| format!("-{a}")),
                prop_oneof![g.text(), g.list()].prop_map(|a| format!("size({a})")),
                (g.truth(), g.whole(), g.whole()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
                (
                    one_of(&[
                        "steps.loss.outputs.?seconds",
                        "steps.maybe.?outputs.?seconds",
                        "steps.maybe.?outputs.seconds",
                        "steps.loss.outputs.nodes[?0].?lag_ms"
                    ]),
                    g.whole()
                )
                    .prop_map(|(a, b)| format!("{a}.orValue({b})")),
                (
                    one_of(&["steps.loss.outputs.seconds", "steps.maybe.outputs.bytes", "steps.maybe.outputs.seconds"]),
                    one_of(&["steps.loss.outputs.seconds", "steps.maybe.outputs", "steps.maybe.outputs.seconds"])
                )
                    .prop_map(|(a, guard)| format!("(has({guard}) ? {a} : 0)")),
            ]
            .boxed()
        })
    }

    fn real(&self) -> Text {
        let leaf = one_of(&["0.5", "inputs.r", "steps.loss.outputs.share", "steps.maybe.outputs.share"]);
        self.grow(leaf, |g| {
            prop_oneof![
                (g.real(), one_of(&["+", "-", "*"]), g.real()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
                (g.real(), one_of(&["2.0", "0.0"])).prop_map(|(a, b)| format!("({a} / {b})")),
                g.whole().prop_map(|a| format!("double({a})")),
            ]
            .boxed()
        })
    }

    fn text(&self) -> Text {
        let leaf = one_of(&[
            "'a'",
            "'failover'",
            "'heartbeat'",
            "mode",
            "inputs.to",
            "inputs.pick",
            "inputs.wait",
            "steps.loss.outputs.method",
            "steps.loss.outputs.lag",
            "steps.maybe.state",
            "steps.maybe.outputs.method",
            "x.name",
            "x",
        ]);
        self.grow(leaf, |g| {
            prop_oneof![
                (g.text(), g.text()).prop_map(|(a, b)| format!("({a} + {b})")),
                prop_oneof![g.whole(), g.real(), g.truth(), g.text(), g.length()].prop_map(|a| format!("string({a})")),
                (g.truth(), g.text(), g.text()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
                (
                    one_of(&[
                        "steps.loss.outputs.labels.?a",
                        "steps.loss.outputs.labels[?inputs.to]",
                        "steps.maybe.?outputs.?method",
                        "steps.loss.outputs.nodes[?1].?name",
                        "[inputs.to][?0]"
                    ]),
                    g.text()
                )
                    .prop_map(|(a, b)| format!("{a}.orValue({b})")),
            ]
            .boxed()
        })
    }

    fn length(&self) -> Text {
        prop_oneof![
            g_text(&["'1m30s'", "'1d'", "'soon'", "inputs.wait", "steps.loss.outputs.lag", "steps.maybe.outputs.lag", "inputs.pick"])
                .prop_map(|a| format!("duration({a})")),
            wild()
        ]
        .boxed()
    }

    fn list(&self) -> Text {
        let leaf = one_of(&[
            "steps.loss.outputs.nodes",
            "['a', mode]",
            "[]",
            "[1, 2]",
            "steps.loss.outputs.labels",
            "steps.maybe.outputs.nodes",
            "steps.maybe.?outputs.?nodes.orValue([])",
        ]);
        self.grow(leaf, |g| {
            prop_oneof![
                (g.list(), g.truth()).prop_map(|(list, body)| format!("{list}.filter(x, {body})")),
                (g.list(), prop_oneof![g.text(), g.whole(), g.truth()]).prop_map(|(list, body)| format!("{list}.map(x, {body})")),
                (g.list(), g.truth(), g.text()).prop_map(|(list, condition, body)| format!("{list}.map(x, {condition}, {body})")),
                (g.list(), g.list()).prop_map(|(a, b)| format!("({a} + {b})")),
                (g.text(), g.whole()).prop_map(|(a, b)| format!("[{a}, {b}]")),
                (g.text(), g.text()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            ]
            .boxed()
        })
    }

    fn maybe(&self) -> Text {
        one_of(&[
            "steps.loss.outputs.?seconds",
            "steps.maybe.?outputs",
            "steps.loss.outputs.?raw.?a.?b",
            "steps.loss.outputs.nodes[?9]",
            "inputs.?to",
            "steps.maybe.?outputs.seconds",
        ])
    }

    fn any(&self) -> Text {
        prop_oneof![4 => self.truth(), 2 => self.whole(), 1 => self.real(), 2 => self.text(), 1 => self.list(), 1 => self.length(), 1 => self.maybe(), 1 => self.text().prop_map(|a| format!("{{'a': {a}}}"))]
            .boxed()
    }
}

fn g_text(words: &[&str]) -> Text {
    one_of(words)
}

/// What each step of [`file`] is for: the reader's own condition, and where the expression stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Show,
    ShowInFailover,
    If,
    Finally,
}

const PLACES: [Place; 4] = [Place::Show, Place::ShowInFailover, Place::If, Place::Finally];

/// One file that holds every expression in every place.
fn file(expressions: &[String]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "lifeboat: v1\nname: t\nmodes: [failover, switchover]\ninputs:\n  to: { type: string, default: a }\n  pick: { one_of: [heartbeat, a, b], default: a }\n  n: { type: integer, default: 1 }\n  r: { type: number, default: 1 }\n  wait: { type: duration, default: 1s }\n  flag: { type: boolean, default: true }\nsteps:\n  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: maybe, type: measure-rpo, if: mode == \"failover\", with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: after, type: wait, needs: [loss], with: { period: 1s } }\n",
    );
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let step = |text: &mut String, index: usize, place: Place, expression: &str| {
        let needs = if place == Place::Finally { "" } else { "needs: [loss, maybe], " };
        let condition = match place {
            Place::ShowInFailover => "if: mode == \"failover\", ".to_owned(),
            Place::If => format!("if: {}, ", quoted(expression)),
            Place::Show | Place::Finally => String::new(),
        };
        let show = if place == Place::If { String::new() } else { format!(", show: {}", quoted(&format!("${{{{ {expression} }}}}"))) };
        let name = format!("{place:?}").to_lowercase();
        writeln!(
            text,
            "  - {{ id: {name}_{index}, type: approval, {needs}{condition}with: {{ roles: [oncall], count: 1, timeout: 1m{show} }} }}"
        )
        .unwrap();
    };
    for place in [Place::Show, Place::ShowInFailover, Place::If] {
        expressions.iter().enumerate().for_each(|(index, expression)| step(&mut text, index, place, expression));
    }
    text.push_str("finally:\n");
    expressions.iter().enumerate().for_each(|(index, expression)| step(&mut text, index, Place::Finally, expression));
    text
}

/// A run as it may be: mode, inputs and what the steps before gave.
struct World {
    mode: &'static str,
    inputs: BTreeMap<String, Value>,
    steps: BTreeMap<StepId, StepFacts>,
}

fn outputs(rich: bool, number: i64) -> Value {
    let mut outputs = json!({
        "within_rpo": rich, "bytes": number, "share": 0.25, "lag": "1m30s", "method": if rich { "heartbeat" } else { "position" }, "raw": if rich { json!({"a": {"b": 1}}) } else { Value::Null },
        "nodes": [{"name": "a"}], "labels": {"a": "b"},
    });
    if rich {
        outputs["seconds"] = json!(number);
        outputs["nodes"] = json!([{"name": "a", "lag_ms": 5}, {"name": "b"}]);
    } else {
        outputs["seconds"] = Value::Null;
        outputs["nodes"] = json!([]);
        outputs["labels"] = json!({});
    }
    outputs
}

fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for mode in ["failover", "switchover"] {
        for (rich, number) in [(true, 5), (false, 0), (true, -3)] {
            let inputs = BTreeMap::from(
                [
                    ("to", json!("a")),
                    ("pick", json!("b")),
                    ("n", json!(number)),
                    ("r", json!(1.5)),
                    ("wait", json!("2h")),
                    ("flag", json!(rich)),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            );
            let maybe = if mode == "failover" {
                StepFacts { state: "succeeded", outputs: Some(outputs(!rich, number)) }
            } else {
                StepFacts { state: "skipped", outputs: None }
            };
            let facts = [
                ("loss", StepFacts { state: "succeeded", outputs: Some(outputs(rich, number)) }),
                ("maybe", maybe),
                ("after", StepFacts { state: "succeeded", outputs: Some(json!({})) }),
            ];
            worlds.push(World { mode, inputs, steps: facts.map(|(id, facts)| (StepId::new(id).unwrap(), facts)).into() });
        }
    }
    worlds
}

/// Runs in which a step of the main part failed: only `finally` sees them.
fn broken_worlds() -> Vec<World> {
    let mut worlds = worlds();
    for world in &mut worlds {
        world.steps.insert(StepId::new("loss").unwrap(), StepFacts { state: "failed", outputs: None });
        world.steps.insert(StepId::new("after").unwrap(), StepFacts { state: "not_run", outputs: None });
    }
    worlds
}

/// The one thing that is not settled before the run: numbers may leave their range.
fn is_overflow(why: &str) -> bool {
    why.contains("verflow") || why.contains("finite")
}

fn answers(expression: &str, place: Place, world: &World) -> Result<(), String> {
    let scope = Scope::new(world.mode, &world.inputs, &world.steps);
    let answer = match place {
        Place::If => is_true(expression, &scope).map(|_| ()),
        Place::Show | Place::ShowInFailover | Place::Finally => fill(&json!(format!("${{{{ {expression} }}}}")), &scope).map(|_| ()),
    };
    answer.or_else(|error| if is_overflow(&error.why) { Ok(()) } else { Err(error.why) })
}

#[test]
fn what_the_checker_accepts_has_an_answer_in_every_run() {
    let wanted = std::env::var_os("EXPRESSIONS").and_then(|count| count.to_str()?.parse().ok()).unwrap_or(1500_usize);
    let seed: [u8; 32] = *b"lifeboat: the same ones each try";
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let grammar = Grammar { depth: 3 }.any();
    let (types, inventory) = (Types::new(), Inventory::new());
    let (sound, broken) = (worlds(), broken_worlds());
    let (mut tried, mut accepted, mut wrong) = (0, 0, Vec::new());
    while tried < wanted {
        let expressions: Vec<String> = (0..50).map(|_| grammar.new_tree(&mut runner).unwrap().current()).collect();
        tried += expressions.len();
        let text = file(&expressions);
        let source = Source { name: "t".into(), text: text.as_str().into() };
        let (runbook, problems) = parse(&source);
        assert!(problems.is_empty(), "{problems:?}");
        let runbook = runbook.unwrap();
        let problems = check(&runbook, &types, Some(&inventory));
        assert!(problems.len() < 500, "too many to be told: some would count as accepted");
        let errors: Vec<usize> =
            problems.iter().filter(|problem| problem.severity == Severity::Error).map(|problem| problem.span.start).collect();
        let mut from = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let range = from..from + line.len();
            from = range.end;
            let Some(step) = line.trim().strip_prefix("- { id: ") else { continue };
            let Some((name, number)) = step.split(',').next().and_then(|id| id.rsplit_once('_')) else { continue };
            let Some(place) = PLACES.into_iter().find(|place| format!("{place:?}").to_lowercase() == name) else { continue };
            if errors.iter().any(|at| range.contains(at)) {
                continue;
            }
            accepted += 1;
            let expression = &expressions[number.parse::<usize>().unwrap()];
            let runs = sound.iter().filter(|world| place != Place::ShowInFailover || world.mode == "failover");
            let also = broken.iter().filter(|_| place == Place::Finally);
            for world in runs.chain(also) {
                if let Err(why) = answers(expression, place, world) {
                    wrong.push(format!("line {}: {place:?} in {}: {expression}\n    {why}", index + 1, world.mode));
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "accepted, but without an answer:\n{}", wrong.join("\n"));
    assert!(accepted * 5 > tried * 2, "{accepted} of {} places accepted: too few to prove anything", tried * 4);
}

#[test]
fn guards_make_what_may_be_absent_readable() {
    let good = [
        "has(steps.maybe.outputs) && steps.maybe.outputs.within_rpo",
        "!has(steps.maybe.outputs) || steps.maybe.outputs.within_rpo",
        "has(steps.maybe.outputs) ? steps.maybe.outputs.within_rpo : false",
        "steps.maybe.state == \"succeeded\" && steps.maybe.outputs.within_rpo",
        "steps.maybe.state != \"skipped\" && steps.maybe.outputs.within_rpo",
        "steps.maybe.?outputs.?within_rpo.orValue(false)",
        "has(steps.maybe.outputs) && has(steps.maybe.outputs.seconds) && steps.maybe.outputs.seconds > 3",
        "steps[\"maybe\"].?outputs.?seconds.orValue(0) > 3",
        "steps.loss.outputs.nodes.all(n, has(n.lag_ms) && n.lag_ms < 5)",
        "duration(steps.loss.outputs.lag) < duration(\"30s\")",
        "steps.loss.outputs.?raw.?a.orValue(1) == 5",
        "mode == \"failover\" && inputs.pick != \"heartbeat\"",
    ];
    let bad = [
        "steps.maybe.outputs.within_rpo",
        "has(steps.maybe.outputs) || steps.maybe.outputs.within_rpo",
        "has(steps.maybe.outputs.seconds)",
        "steps.maybe.state == \"skipped\" && steps.maybe.outputs.within_rpo",
        "!(has(steps.maybe.outputs)) && steps.maybe.outputs.within_rpo",
        "steps.loss.outputs.nodes.all(n, n.lag_ms < 5)",
        "mode == \"failover\" ? steps.maybe.outputs.within_rpo : false",
        "(has(steps.maybe.outputs) || inputs.flag) && steps.maybe.outputs.within_rpo",
        "(!has(steps.maybe.outputs) && inputs.flag) || steps.maybe.outputs.within_rpo",
        "!(has(steps.maybe.outputs) && inputs.flag) && steps.maybe.outputs.within_rpo",
        "(inputs.flag ? has(steps.maybe.outputs) : true) && steps.maybe.outputs.within_rpo",
        "steps.loss.outputs.nodes.exists(n, has(n.lag_ms)) && steps.loss.outputs.nodes.all(n, n.lag_ms < 5)",
        "has(steps.loss.outputs.seconds) && steps.maybe.outputs.seconds > 3",
    ];
    let problems_of = |expression: &str| {
        let text = file(&[expression.to_owned()]);
        let source = Source { name: "t".into(), text: text.as_str().into() };
        let problems = check(&parse(&source).0.unwrap(), &Types::new(), None);
        let start = text.find("id: if_0").unwrap();
        let end = text[start..].find('\n').unwrap() + start;
        problems.into_iter().filter(|problem| (start..end).contains(&problem.span.start)).map(|problem| problem.message).collect::<Vec<_>>()
    };
    for expression in good {
        assert_eq!(problems_of(expression), [] as [String; 0], "{expression}");
    }
    for expression in bad {
        assert_ne!(problems_of(expression), [] as [String; 0], "{expression}");
    }
}

#[test]
fn a_step_with_every_condition_of_another_runs_only_where_that_ran() {
    let problems_of = |theirs: &str, ours: &str| {
        let text = format!(
            "lifeboat: v1\nname: t\nmodes: [live, rehearsal]\ninputs: {{ a: {{ type: boolean, default: true }}, b: {{ type: boolean, default: true }} }}\nsteps:\n  - {{ id: first, type: command, if: '{theirs}', with: {{ argv: [date] }} }}\n  - {{ id: then, type: command, needs: [first], if: '{ours}', with: {{ argv: [\"${{{{ steps.first.outputs.stdout }}}}\"] }} }}\n"
        );
        let source = Source { name: "t".into(), text: text.into() };
        let (runbook, problems) = parse(&source);
        assert_eq!(problems, []);
        check(&runbook.unwrap(), &Types::new(), None).iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    assert_eq!(problems_of("inputs.a", "inputs.a"), [] as [&str; 0]);
    assert_eq!(problems_of("inputs.a", "inputs.b && inputs.a"), [] as [&str; 0]);
    assert_eq!(problems_of("inputs.a && inputs.b", "inputs.b && (inputs.a && mode == \"live\")"), [] as [&str; 0]);
    assert_eq!(problems_of("inputs.a && inputs.b", "inputs.a"), ["LB034"]);
    assert_eq!(problems_of("inputs.a", "inputs.b"), ["LB034"]);
    assert_eq!(problems_of("inputs.a", "inputs.a || inputs.b"), ["LB034"]);
    assert_eq!(problems_of("inputs.a || inputs.b", "inputs.a"), ["LB034"], "sound, but beyond what is seen");
}
