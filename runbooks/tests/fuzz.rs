//! Whatever a file says, reading, checking, planning and drawing end, without a panic, with problems that lie inside the file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod catalog;

use std::path::Path;

use catalog::{Inventory, Types};
use lifeboat_runbooks::render::{self, Colour};
use lifeboat_runbooks::{PlanRequest, Severity, Source, check, parse, plan};
use proptest::prelude::*;

fn survives(text: &str) {
    let source = Source { name: "fuzz.yaml".into(), text: text.into() };
    let (types, inventory) = (Types::new(), Inventory::new());
    let (runbook, mut problems) = parse(&source);
    assert!(
        runbook.is_some() || problems.iter().any(|problem| problem.severity == Severity::Error),
        "neither a runbook nor a reason: {text:?}"
    );
    if let Some(runbook) = &runbook {
        problems.extend(check(runbook, &types, Some(&inventory)));
        for mode in [None, Some("failover"), Some("drill")] {
            let request = PlanRequest { mode: mode.map(str::to_owned), ..PlanRequest::default() };
            if let Err(more) = plan(runbook, &request, &types, &inventory) {
                assert!(more.iter().any(|problem| problem.severity == Severity::Error), "refused without a reason: {text:?}");
                problems.extend(more);
            }
        }
    }
    for problem in &problems {
        assert!(text.get(problem.span.start..problem.span.end).is_some(), "{problem:?} lies outside of {text:?}");
    }
    let shown = render::text(&source, &problems, Colour::Ansi);
    assert_eq!(shown.is_empty(), problems.is_empty());
    assert_eq!(render::json(&source, &problems).as_array().unwrap().len(), problems.len());
}

fn good() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut texts = Vec::new();
    for part in ["good", "bad"] {
        let mut paths: Vec<_> = std::fs::read_dir(folder.join(part)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
        paths.sort();
        texts.extend(paths.iter().map(|path| std::fs::read_to_string(path).unwrap()));
    }
    texts
}

const TOKENS: [&str; 44] = [
    "${{",
    "}}",
    "$${{",
    "inputs.",
    "steps.loss.outputs.",
    "steps[",
    "has(",
    ".orValue(",
    ".?",
    "mode == ",
    "\"",
    "'",
    "\\",
    "\\u00e9",
    "é",
    "\u{1F600}",
    "&a ",
    "*a",
    "!!str ",
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
    "#",
    " # ",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "~",
    "true",
    "1e999",
    "duration('1s')",
    "\u{feff}",
    "\u{85}",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
];

/// Cuts, doubles, moves and inserts, at places where characters begin.
fn mutated() -> impl Strategy<Value = String> {
    let texts = good();
    let edit = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8, prop::sample::select(TOKENS.to_vec()));
    (prop::sample::select(texts), prop::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (a, b, kind, token) in edits {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (a, b) = (*a.get(&places), *b.get(&places));
            let (from, to) = (a.min(b), a.max(b));
            match kind {
                0 => text.insert_str(from, token),
                1 => text.replace_range(
                    from..to.min(from + 12).max(from).min(places.iter().copied().filter(|place| *place <= from + 12).max().unwrap_or(from)),
                    token,
                ),
                2 => text.insert_str(from, &text[from..to].chars().take(200).collect::<String>()),
                _ => text.truncate(to),
            }
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}|(?s).{0,200}") {
        survives(&text);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_damaged_runbook_is_answered(text in mutated()) {
        survives(&text);
    }

    #[test]
    fn words_of_the_language_in_any_order_are_answered(words in prop::collection::vec(prop::sample::select(TOKENS.to_vec()), 0..40)) {
        survives(&format!("lifeboat: v1\nname: t\nsteps:\n  - id: a\n    type: wait\n    if: {}\n", words.concat()));
        survives(&words.concat());
    }
}
