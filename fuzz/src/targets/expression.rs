//! Expressions: whatever stands between the marks, parsing, checking and evaluating end.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use lifeboat_runbooks::expr::{Scope, StepFacts, fill, is_true};
use lifeboat_runbooks::{Diagnostic, Source, StepId, check, parse};
use serde_json::{Value, json};

use super::catalog::{Inventory, Types};
use super::{Ran, Whole, is_one_in, ran};
use crate::corpus;

/// Words of the expression language.
pub(super) const WORDS: [&str; 88] = [
    "mode",
    "inputs",
    "inputs.to",
    "inputs.n",
    "inputs.r",
    "inputs.flag",
    "inputs.wait",
    "steps",
    "steps.loss",
    "steps.loss.state",
    "steps.loss.outputs",
    "steps.loss.outputs.within_rpo",
    "steps.loss.outputs.bytes",
    "steps.loss.outputs.share",
    "steps.loss.outputs.?seconds",
    "steps.loss.outputs.lag",
    "steps.loss.outputs.method",
    "steps.loss.outputs.nodes",
    "steps.loss.outputs.labels",
    "steps.loss.outputs.raw",
    "steps.maybe.?outputs",
    "steps['loss']",
    "has(",
    "size(",
    "duration(",
    "string(",
    "int(",
    "double(",
    "uint(",
    "bool(",
    "bytes(",
    "type(",
    "timestamp(",
    "matches(",
    ".contains(",
    ".startsWith(",
    ".endsWith(",
    ".orValue(",
    ".or(",
    ".value()",
    ".hasValue()",
    "optional.of(",
    "optional.none()",
    ".all(x, ",
    ".exists(x, ",
    ".exists_one(x, ",
    ".map(x, ",
    ".filter(x, ",
    "x",
    "x.name",
    "x.?lag_ms",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    " && ",
    " || ",
    " in ",
    " ? ",
    " : ",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ".?",
    "[?",
    "'",
    "\"",
    "r'",
    "b'",
    "'''",
    "\\",
    "9223372036854775807",
    "1.5e308",
    "null",
    "true",
];

pub(super) const SEEDS: [&str; 24] = [
    "mode == \"failover\" && !steps.loss.outputs.within_rpo",
    "steps.loss.outputs.bytes > 1000 || steps.loss.outputs.share < 0.5",
    "steps.maybe.?outputs.?seconds.orValue(0) == 0",
    "has(steps.loss.outputs.seconds) && steps.loss.outputs.seconds > 3",
    "duration(steps.loss.outputs.lag) < duration('2m')",
    "steps.loss.outputs.nodes.all(x, has(x.lag_ms) && x.lag_ms < 10)",
    "steps.loss.outputs.nodes.filter(x, x.name.startsWith('us')).size() > 0",
    "steps.loss.outputs.nodes.map(x, x.name)",
    "steps.loss.outputs.labels[inputs.to]",
    "inputs.to in ['us-west-2', \"eu-west-1\"]",
    "inputs.n % 2 == 0 ? 'even' : 'odd'",
    "{'a': [1, 2.5, 3u], \"b\": {'c': null}}",
    "string(inputs.n) + '-' + inputs.to",
    "inputs.to.matches('^us-[a-z]+-[0-9]$')",
    "size(inputs.to) * 3 / 2 - 1",
    "steps['loss'].state == 'succeeded'",
    "inputs.r * 1e300 * 1e300",
    "-9223372036854775808 / -1",
    "steps.loss.outputs.raw.a.b[0]",
    "'\\u00e9\\x41\\U0001F600' == r'\\u00e9'",
    "b'abc' == b\"abc\"",
    "inputs.flag ? inputs.n : 0",
    "inputs.wait",
    "[1, 2, 3].exists_one(x, x == 2)",
];

struct World {
    types: Types,
    inventory: Inventory,
    inputs: BTreeMap<String, Value>,
    steps: BTreeMap<StepId, StepFacts>,
}

impl World {
    fn new() -> Self {
        let id = |text: &str| StepId::new(text).unwrap_or_else(|why| unreachable!("{why}"));
        let loss = json!({
            "within_rpo": true, "bytes": 12, "share": 0.25, "seconds": null, "lag": "1m30s", "method": "heartbeat",
            "nodes": [{"name": "us-west-2", "lag_ms": 5}, {"name": "eu"}], "labels": {"a": "b"}, "raw": {"a": {"b": [1, "x", null]}},
        });
        Self {
            types: Types::new(),
            inventory: Inventory::new(),
            inputs: BTreeMap::from([
                ("to".to_owned(), json!("us-west-2")),
                ("n".to_owned(), json!(3)),
                ("r".to_owned(), json!(0.5)),
                ("flag".to_owned(), json!(true)),
                ("wait".to_owned(), json!("1m30s")),
            ]),
            steps: BTreeMap::from([
                (id("loss"), StepFacts { state: "succeeded", outputs: Some(loss) }),
                (id("maybe"), StepFacts { state: "skipped", outputs: None }),
            ]),
        }
    }
}

thread_local! {
    static WORLD: OnceCell<World> = const { OnceCell::new() };
}

const AROUND: &str = "lifeboat: v1\nname: t\nmodes: [failover, drill]\ninputs: { to: { default: us-west-2 }, n: { type: integer, default: 3 }, r: { type: number, default: 0.5 }, flag: { type: boolean, default: true }, wait: { type: duration, default: 1m30s } }\nsteps:\n  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: maybe, type: measure-rpo, if: inputs.flag, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: a, type: wait, needs: [loss, maybe], with: { period: 1s }, if: ";

pub(super) fn run(input: &[u8]) -> Ran {
    let text = String::from_utf8_lossy(input);
    WORLD.with(|world| {
        let world = world.get_or_init(World::new);
        let scope = Scope::new("failover", &world.inputs, &world.steps);
        // As a condition, alone between its marks, and joined with text. Each is parsed and answered in the same way, so one of them is enough.
        let place = corpus::sum(input) % 3;
        let answer = match place {
            0 => is_true(&text, &scope).map(Value::Bool),
            1 => fill(&Value::String(format!("${{{{{text}}}}}")), &scope),
            _ => fill(&Value::String(format!("a ${{{{ {text} }}}}")), &scope),
        };
        // The checker reads the same expression in a file around it. Of those without a value, which are many, it is shown some.
        let problems = if answer.is_ok() || is_one_in(6, input) { checked(&text, world) } else { Vec::new() };
        let codes: BTreeSet<&str> = problems.iter().map(|problem| problem.code).collect();
        let kind = match &answer {
            Err(_) => 0,
            Ok(Value::Null) => 1,
            Ok(Value::Bool(_)) => 2,
            Ok(Value::Number(_)) => 3,
            Ok(Value::String(_)) => 4,
            Ok(Value::Array(_)) => 5,
            Ok(Value::Object(_)) => 6,
        };
        // The first words of a refusal tell refusals apart; what stands in quotes after them does not.
        let why = answer
            .as_ref()
            .err()
            .map(|error| error.why.chars().take_while(|c| !matches!(c, '`' | '\'' | '"') && !c.is_ascii_digit()).collect::<String>());
        ran((place, kind, answer.as_ref().ok().and_then(Value::as_bool), codes, why), Whole(answer.is_ok()))
    })
}

/// What the checker has to say of it, in a file around it.
fn checked(text: &str, world: &World) -> Vec<Diagnostic> {
    let quoted = Value::String(text.to_owned()).to_string();
    let source = Source { name: "fuzz".into(), text: format!("{AROUND}{quoted} }}\n").into() };
    let (runbook, mut problems) = parse(&source);
    if let Some(runbook) = &runbook {
        problems.extend(check(runbook, &world.types, Some(&world.inventory)));
    }
    for problem in &problems {
        assert!(source.text.get(problem.span.start..problem.span.end).is_some(), "{problem:?} lies outside");
    }
    problems
}
