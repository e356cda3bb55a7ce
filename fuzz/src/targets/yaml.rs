//! The YAML reader: whatever a file says, it is answered, with problems that lie inside the file.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use lifeboat_runbooks::render::{self, Colour};
use lifeboat_runbooks::{Diagnostic, PlanRequest, Severity, Source, check, parse, plan, testing};

use super::catalog::{Inventory, Types};
use super::{Ran, Whole, is_one_in, ran, size};

/// Words of the language and traps of YAML.
pub(super) const WORDS: [&str; 96] = [
    "lifeboat: v1\n",
    "name: t\n",
    "title: ",
    "owner: ",
    "objectives: { rto: 5m, rpo: 1m }\n",
    "modes: [failover, drill]\n",
    "inputs:\n",
    "  to: { type: string, default: us-west-2 }\n",
    "one_of: ",
    "triggers:\n",
    "schedule: { cron: \"0 4 * * SUN\", timezone: UTC, mode: drill }",
    "on_failure: hold\n",
    "deadline: 1h\n",
    "steps:\n",
    "finally:\n",
    "  - id: a\n",
    "    type: wait\n",
    "    type: promote-db\n",
    "    type: fence-db\n",
    "    type: approval\n",
    "    type: command\n",
    "    type: measure-rpo\n",
    "    type: runbook\n",
    "    needs: [a]\n",
    "    if: mode == \"failover\"\n",
    "    with: { period: 1s }\n",
    "    with: { db: orders-db, node: us-west-2 }\n",
    "    with: { argv: [\"${{ inputs.to }}\"] }\n",
    "    assert: steps.a.state == 'succeeded'\n",
    "    timeout: 2m\n",
    "    retry: { attempts: 5, backoff: 2s..30s }\n",
    "    undo: never\n",
    "    point_of_no_return: true\n",
    "    for_each: [1, 2]\n",
    "outputs:\n",
    "lifeboat-test: v1\n",
    "cases:\n",
    "  - name: x\n",
    "    expect: { outcome: held }\n",
    "in_doubt: { observed: done }",
    "people: ",
    "orders-db",
    "orders-dns",
    "us-east-1",
    "us-west-2",
    "oncall",
    "inputs.",
    "steps.",
    ".outputs.",
    ".state",
    "${{",
    "}}",
    "$${{",
    "!x",
    "!!str ",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "|\n",
    ">-\n",
    "|2-\n",
    "#",
    " # ",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "~",
    "null",
    "true",
    "no",
    "12:30",
    "012",
    "0x1F",
    "1e999",
    ".inf",
    "\"",
    "'",
    "\\",
    "\\u00e9",
    "\\x41",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "\u{feff}",
    "\u{85}",
    "\u{202e}",
    "a: b",
    ",",
];

thread_local! {
    // Made once: it takes longer than reading a file.
    static CATALOG: OnceCell<(Types, Inventory)> = const { OnceCell::new() };
}

pub(super) fn run(input: &[u8]) -> Ran {
    let text = String::from_utf8_lossy(input);
    let source = Source { name: "fuzz.yaml".into(), text: text.as_ref().into() };
    CATALOG.with(|catalog| {
        let (types, inventory) = catalog.get_or_init(|| (Types::new(), Inventory::new()));
        if text.contains("lifeboat-test") { tests(&source, types) } else { runbook(&source, types, inventory) }
    })
}

fn runbook(source: &Source, types: &Types, inventory: &Inventory) -> Ran {
    let (runbook, mut problems) = parse(source);
    assert!(runbook.is_some() || problems.iter().any(is_error), "neither a runbook nor a reason");
    let mut planned = [0; 2];
    if let Some(runbook) = &runbook {
        problems.extend(check(runbook, types, Some(inventory)));
        // Planning begins with the same checks, and ends there where something is wrong: that it does is seen with some of them.
        let goes_on = !problems.iter().any(is_error) || is_one_in(8, source.text.as_bytes());
        for (mode, steps) in ["failover", "drill"].iter().zip(&mut planned).filter(|_| goes_on) {
            let request = PlanRequest { mode: Some((*mode).to_owned()), ..PlanRequest::default() };
            match plan(runbook, &request, types, inventory) {
                Ok(made) => *steps = size(made.steps.len()),
                Err(more) => {
                    assert!(more.iter().any(is_error), "refused without a reason");
                    problems.extend(more);
                }
            }
        }
    }
    inside(source, &problems);
    let whole = Whole(planned.iter().any(|steps| *steps > 0));
    let shape = runbook.map(|runbook| (size(runbook.steps.len()), size(runbook.inputs.len()), format!("{:?}", runbook.on_failure)));
    ran((codes(&problems), planned, shape), whole)
}

fn tests(source: &Source, types: &Types) -> Ran {
    let (file, mut problems) = testing::parse(source);
    assert!(file.is_some() || problems.iter().any(is_error), "neither a test file nor a reason");
    if let Some(file) = &file {
        let text = "lifeboat: v1\nname: t\nmodes: [failover, drill]\nsteps:\n  - { id: a, type: wait, with: { period: 1s } }\n  - { id: loss, type: measure-rpo, with: { db: orders-db, from: us-east-1, to: us-west-2 } }\n  - { id: accept, type: approval, with: { roles: [oncall], count: 1, timeout: 1m } }\n";
        let (runbook, _) = parse(&Source { name: "t".into(), text: text.into() });
        if let Some(runbook) = runbook {
            problems.extend(testing::check(file, &runbook, types, &["ada"]));
        }
    }
    inside(source, &problems);
    let whole = Whole(!problems.iter().any(is_error));
    let shape = file.map(|file| (size(file.cases.len()), file.cases.iter().map(|case| size(case.expect.len())).max()));
    ran((1, codes(&problems), shape), whole)
}

fn is_error(problem: &Diagnostic) -> bool {
    problem.severity == Severity::Error
}

fn codes(problems: &[Diagnostic]) -> BTreeSet<&'static str> {
    problems.iter().map(|problem| problem.code).collect()
}

fn inside(source: &Source, problems: &[Diagnostic]) {
    for problem in problems {
        assert!(source.text.get(problem.span.start..problem.span.end).is_some(), "{problem:?} lies outside");
    }
    let shown = render::text(source, problems, Colour::Plain);
    assert_eq!(shown.is_empty(), problems.is_empty(), "every problem is shown");
    assert_eq!(render::json(source, problems).as_array().map(Vec::len), Some(problems.len()));
}
