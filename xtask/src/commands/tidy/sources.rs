//! Rules about Rust files and file names: the first line, the length, the words. Reads text, parses nothing.

use super::{File, Finding};

/// A file longer than this, without its tests, is two rooms with one door.
const LINES_MAX: usize = 600;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "helper", "helpers", "common", "manager", "misc", "shared_code", "data"];
/// Beginnings of paths that exist on one machine only, in two parts, so that this file does not break its own rule.
const MACHINE_PATHS: [(&str, &str); 4] = [("/wo", "rk/"), ("/ro", "ot/"), ("/home", "/"), ("/Us", "ers/")];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let rust = files.iter().filter(|file| file.extension() == "rs");
    let mut findings: Vec<Finding> = rust.flat_map(|file| [first_line(file), length(file)]).flatten().collect();
    findings.extend(files.iter().filter_map(name));
    findings.extend(files.iter().flat_map(machine_paths));
    findings
}

fn first_line(file: &File) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//! ").is_some_and(|text| text.trim().len() > 10);
    (!says).then(|| Finding::new(file, 1, "the first line must be `//! ` and say what lives here and what does not"))
}

fn length(file: &File) -> Option<Finding> {
    // Tests stand last in a file, so everything from their module on is not counted.
    let lines = file.text.lines().take_while(|line| !line.starts_with("mod tests {")).count();
    let in_tests_folder = file.path.split('/').any(|part| part == "tests");
    (lines > LINES_MAX && !in_tests_folder)
        .then(|| Finding::new(file, LINES_MAX, format!("{lines} lines without the tests; more than {LINES_MAX} is more than one room")))
}

fn name(file: &File) -> Option<Finding> {
    let stem = file.name().split('.').next().unwrap_or_default();
    let folders = file.path.split('/').rev().skip(1);
    let words = folders.chain([stem]).flat_map(|part| part.split(['_', '-']));
    let mut empty = words.filter(|word| EMPTY_NAMES.contains(word));
    empty.next().map(|word| Finding::new(file, 1, format!("`{word}` in a name says nothing; name what is inside")))
}

fn machine_paths(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        for (begin, end) in MACHINE_PATHS {
            let path = format!("{begin}{end}");
            // A URL may have a path that looks the same; only one that begins a word is a path of a machine.
            let is_word = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "/.-_}".contains(c));
            if line.match_indices(&path).any(|(at, _)| is_word(at)) {
                findings.push(Finding::new(file, number, format!("`{path}...` exists on one machine only")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    const GOOD: &str = "//! Says what lives here.\n";

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&[file(path, text)]).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_file_that_says_what_it_is_passes() {
        assert_eq!(messages("engine/src/clock.rs", GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_a_first_line_is_found() {
        assert!(messages("engine/src/clock.rs", "use std::fs;\n")[0].contains("first line"));
        assert!(messages("engine/src/clock.rs", "//! Clock.\n")[0].contains("first line"));
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let long = format!("{GOOD}{}", "//\n".repeat(LINES_MAX));
        assert!(messages("engine/src/clock.rs", &long)[0].contains("more than one room"));
        let tested = format!("{GOOD}mod tests {{\n{}", "//\n".repeat(LINES_MAX));
        assert_eq!(messages("engine/src/clock.rs", &tested), Vec::<String>::new());
    }

    #[test]
    fn empty_names_are_found_in_files_and_folders() {
        assert!(messages("engine/src/run_utils.rs", GOOD)[0].contains("`utils`"));
        assert!(messages("engine/src/common/clock.rs", GOOD)[0].contains("`common`"));
    }

    #[test]
    fn paths_of_one_machine_are_found_and_urls_are_not() {
        let (home, url) = (["/home", "/me/x"].concat(), ["https://example.com/home", "/me"].concat());
        assert_eq!(messages("docs/a.md", &format!("see `{home}`")).len(), 1);
        assert_eq!(messages("docs/a.md", &format!("see {url}")), Vec::<String>::new());
    }
}
