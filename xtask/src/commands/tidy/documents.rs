//! Rules about what people read and type: links lead somewhere, and every example YAML gives completion in an editor.

use super::{File, Finding};

/// The comment by which an editor finds the schema.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=";

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let documents = files.iter().filter(|file| file.extension() == "md");
    let mut findings: Vec<Finding> = documents.flat_map(|file| links(file, files)).collect();
    findings.extend(files.iter().filter_map(|file| schema_line(file, files)));
    findings
}

fn schema_line(file: &File, files: &[File]) -> Option<Finding> {
    let is_yaml = ["yaml", "yml"].contains(&file.extension());
    let is_shown = file.path.starts_with("examples/") || file.path.starts_with("runbooks/library/");
    if !is_yaml || !is_shown {
        return None;
    }
    let schema = file.text.lines().find_map(|line| line.strip_prefix(SCHEMA_LINE));
    match schema {
        None => Some(Finding::new(file, 1, format!("an editor gives no completion here: add `{SCHEMA_LINE}PATH`"))),
        Some(schema) if exists(file, schema.trim(), files) => None,
        Some(schema) => Some(Finding::new(file, 1, format!("the schema `{}` is not there", schema.trim()))),
    }
}

fn links(file: &File, files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets {
            let path = target.split(['#', ' ']).next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !elsewhere && !exists(file, path, files) {
                findings.push(Finding::new(file, number, format!("the link to `{path}` leads nowhere")));
            }
        }
    }
    findings
}

/// Whether a relative path from `file` names a file, or a folder with files. A URL is taken on trust: this check stays offline.
fn exists(file: &File, relative: &str, files: &[File]) -> bool {
    if relative.contains("://") {
        return true;
    }
    let mut parts: Vec<&str> = file.path.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    // Pictures are not text and so are not in the list; the disk knows them.
    let on_disk = || xtask::lab::root().join(&path).exists();
    let folder = format!("{path}/");
    files.iter().any(|other| other.path == path || other.path.starts_with(&folder)) || on_disk()
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn messages(files: &[File]) -> Vec<String> {
        check(files).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let page = file("docs/a.md", "[b](adr/b.md) [c](../nowhere/c.md#top) [d](https://example.com) [e](#here)");
        let other = file("docs/adr/b.md", "");
        assert_eq!(messages(&[page, other]), ["the link to `../nowhere/c.md` leads nowhere"]);
    }

    #[test]
    fn a_link_in_an_example_of_code_is_no_link() {
        assert_eq!(messages(&[file("docs/a.md", "```\nx[0](nowhere)\n```\n")]), Vec::<String>::new());
    }

    #[test]
    fn an_example_without_its_schema_is_found() {
        let schema = file("docs/runbook.schema.json", "{}");
        let good = file("examples/x/runbook.yaml", "# yaml-language-server: $schema=../../docs/runbook.schema.json\nlifeboat: v1\n");
        let bad = file("examples/x/other.yaml", "lifeboat: v1\n");
        let broken = file("runbooks/library/z.yaml", "# yaml-language-server: $schema=./no.json\n");
        let found = messages(&[schema, good, bad, broken]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("no completion") && found[1].contains("is not there"));
    }
}
