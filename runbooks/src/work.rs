//! Counting of work, for the test that no file makes more of it than its size allows. In a real build nothing is counted.

/// Counts `units` of work: a node visited, a character walked over, a comparison of two letters.
#[cfg(not(test))]
pub(crate) fn spend(_: usize) {}

#[cfg(test)]
pub(crate) use counted::spend;

#[cfg(test)]
mod counted {
    use std::cell::Cell;

    thread_local! {
        static SPENT: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn spend(units: usize) {
        SPENT.with(|spent| spent.set(spent.get() + units));
    }

    /// Work since the last call.
    fn taken() -> usize {
        SPENT.with(|spent| spent.replace(0))
    }

    use std::path::Path;

    use super::super::tests_catalog::{Inventory, Types};
    use crate::diagnostic::Source;
    use crate::{check, parse};

    /// Work for a text that holds nothing bad: each byte is looked at a few times, and beside that there is a fixed amount.
    fn allowed(text: &str) -> usize {
        text.len() * 4 + 10_000
    }

    fn work_of(text: String) -> (usize, usize) {
        let allowed = allowed(&text);
        let source = Source { name: "t".into(), text: text.into() };
        taken();
        let (runbook, _) = parse(&source);
        if let Some(runbook) = runbook {
            let problems = check(&runbook, &Types::new(), Some(&Inventory::new()));
            assert!(problems.len() <= 501);
        }
        (taken(), allowed)
    }

    fn steps(count: usize, rest: impl Fn(usize) -> String) -> String {
        let step = |index| format!("  - {{ id: s{index}, type: wait, {}, with: {{ period: 1s }} }}\n", rest(index));
        format!("lifeboat: v1\nname: t\nsteps:\n{}", (0..count).map(step).collect::<String>())
    }

    #[test]
    fn no_bad_runbook_makes_more_work_than_its_size_allows() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
        let mut texts: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
            .map(|path| (path.display().to_string(), std::fs::read_to_string(path).unwrap()))
            .collect();
        assert!(texts.len() > 60);
        let many = |count: usize, item: &str| item.repeat(count);
        let wide = |body: String| format!("lifeboat: v1\nname: t\n{body}");
        let made: Vec<(&str, String)> = vec![
            ("needs that are no steps", steps(2000, |index| format!("needs: [x{index}, y{index}]"))),
            ("conditions on steps that are none", steps(2000, |index| format!("if: steps.x{index}.state == 'x'"))),
            ("conditions on inputs that are none", steps(2000, |index| format!("if: inputs.x{index} == 'x'"))),
            ("a circle", steps(2000, |index| format!("needs: [s{}]", (index + 1) % 2000))),
            ("many circles", steps(2000, |index| format!("needs: [s{}]", index ^ 1))),
            (
                "everybody needs everybody",
                steps(300, |_| format!("needs: [{}]", (0..300).map(|step| format!("s{step}, ")).collect::<String>())),
            ),
            (
                "one step with very many needs",
                wide(format!("steps:\n  - {{ id: a, type: wait, needs: [{}], with: {{ period: 1s }} }}\n", many(20_000, "a, "))),
            ),
            ("keys that nobody knows", wide((0..10_000).map(|index| format!("k{index}: x\n")).collect())),
            ("one key again and again", wide(many(10_000, "owner: x\n"))),
            ("modes", wide(format!("modes: [{}]\nsteps: []\n", (0..10_000).map(|index| format!("m{index}, ")).collect::<String>()))),
            (
                "triggers",
                wide(format!("triggers:\n{}steps: []\n", (0..5_000).map(|index| format!("  - id: t{index}\n")).collect::<String>())),
            ),
            (
                "values of an input",
                wide(format!(
                    "inputs: {{ a: {{ one_of: [{}], default: x }} }}\nsteps:\n  - {{ id: s, type: wait, if: inputs.a == 'y', with: {{ period: 1s }} }}\n",
                    (0..10_000).map(|index| format!("v{index}, ")).collect::<String>()
                )),
            ),
            (
                "inputs",
                wide(format!(
                    "inputs:\n{}steps:\n{}",
                    (0..5_000).map(|index| format!("  i{index}: {{}}\n")).collect::<String>(),
                    (0..500)
                        .map(|index| format!("  - {{ id: s{index}, type: wait, if: inputs.j{index} == 'y', with: {{ period: 1s }} }}\n"))
                        .collect::<String>()
                )),
            ),
            ("characters that nobody sees", "\u{200b}".repeat(20_000)),
            ("aliases", wide(format!("steps: [{}]\n", many(20_000, "*a, ")))),
            (
                "a scalar with very many expressions",
                wide(format!("steps:\n  - id: a\n    type: command\n    with: {{ argv: [\"{}\"] }}\n", many(10_000, "${{ x }}"))),
            ),
            (
                "very many scalars with expressions",
                wide(format!("steps:\n  - id: a\n    type: command\n    with: {{ argv: [{}] }}\n", many(10_000, "\"${{ x }}\", "))),
            ),
            (
                "an expression that is all brackets",
                wide(format!("steps:\n  - {{ id: a, type: wait, if: \"{}\", with: {{ period: 1s }} }}\n", many(20_000, "("))),
            ),
        ];
        texts.extend(made.into_iter().map(|(name, text)| (name.to_owned(), text)));
        let mut wrong = Vec::new();
        for (name, text) in texts {
            let (spent, allowed) = work_of(text);
            if spent > allowed {
                wrong.push(format!("{name}: {spent} of {allowed}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
