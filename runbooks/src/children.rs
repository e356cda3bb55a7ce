//! Which files the child runs of a runbook need, and how they hang together: found, read once each, without circles. The texts come from
//! a [`Library`]; nothing is opened here. What a child may be given is checked in `rules`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::codes;
use crate::diagnostic::{Diagnostic, Severity, Source, Span};
use crate::names::CHILD_DEPTH_MAX;
use crate::parse::{parse, tidy};
use crate::runbook::Runbook;

/// Most files of a runbook and its children together: a person who reads them has to keep them in mind.
const FILES_MAX: usize = 64;

/// Most bytes of all these files together: four times the largest single one.
const FILES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the files of child runs come from.
pub trait Library {
    /// The file at this path: relative to the folder of the runbook that is run, with `/` between its parts, never absolute, never
    /// leading out of that folder by `..`. Links that do must be refused here.
    ///
    /// # Errors
    /// A fragment that says why it cannot be had.
    fn open(&self, path: &str) -> Result<Source, String>;
}

impl Library for BTreeMap<String, String> {
    fn open(&self, path: &str) -> Result<Source, String> {
        let text = self.get(path).ok_or_else(|| "there is no such file".to_owned())?;
        Ok(Source { name: path.into(), text: text.as_str().into() })
    }
}

/// Reads a runbook and all that it runs as children. Like [`crate::parse()`], all problems of form are told at once, each in its own file.
#[must_use]
pub fn load(source: &Source, library: &dyn Library) -> (Option<Runbook>, Vec<Diagnostic>) {
    let (runbook, mut problems) = parse(source);
    let Some(runbook) = runbook else { return (None, problems) };
    let own = source.name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut linker = Linker { library, known: HashMap::new(), path: vec![own], files: 1, bytes: source.text.len(), problems: Vec::new() };
    let mut runbook = linker.link(runbook, "");
    problems.append(&mut linker.problems);
    tidy(&mut problems);
    runbook.problems.clone_from(&problems);
    (Some(runbook), problems)
}

struct Linker<'l> {
    library: &'l dyn Library,
    /// Files read so far; `None` where one cannot be read, which was reported.
    known: HashMap<String, Option<Arc<Runbook>>>,
    /// The files that are being read, from the outermost.
    path: Vec<String>,
    files: usize,
    bytes: usize,
    problems: Vec<Diagnostic>,
}

impl Linker<'_> {
    /// Finds the children of a runbook that stands in this folder.
    fn link(&mut self, mut runbook: Runbook, folder: &str) -> Runbook {
        let outermost = self.path.len() == 1;
        let named: Vec<(String, Span)> =
            runbook.all_steps().filter_map(|step| step.child().map(|(text, span)| (text.to_owned(), span))).collect();
        let mut children = BTreeMap::new();
        for (text, span) in named {
            if children.contains_key(&text) {
                continue;
            }
            let (found, mut problems) = match self.child(folder, &text, span) {
                Ok(child) => (child, None),
                Err(problem) => (None, Some(problem)),
            };
            if let Some(problem) = problems.take() {
                self.problems.push(if outermost { problem } else { problem.inside(&runbook.source) });
            }
            if let Some(child) = found {
                runbook.height = runbook.height.max(child.height + 1);
                children.insert(text, child);
            }
        }
        runbook.children = Some(children);
        runbook
    }

    fn child(&mut self, folder: &str, text: &str, span: Span) -> Result<Option<Arc<Runbook>>, Diagnostic> {
        let error = |code, message: String, help: &str| Diagnostic::error(code, span, message).help(help);
        let path = path_of(folder, text).map_err(|why| {
            error(codes::NO_CHILD, format!("`{}` names no runbook: {why}", shown(text)), "name a file in the folder of this one, or below")
        })?;
        if let Some(at) = self.path.iter().position(|open| *open == path) {
            let mut circle: Vec<&str> = self.path[at..].iter().map(String::as_str).collect();
            circle.push(&path);
            let message = format!("this runbook would run itself: {}", circle.join(" -> "));
            return Err(error(codes::CHILD_CIRCLE, message, "take one of these child runs away"));
        }
        if self.path.len() > CHILD_DEPTH_MAX {
            let message = format!("child runs are nested deeper than {CHILD_DEPTH_MAX} levels: {}", self.path.join(" -> "));
            return Err(error(codes::LIMIT, message, "run some of them from further out"));
        }
        if let Some(known) = self.known.get(&path) {
            let height = known.as_ref().map_or(0, |child| child.height);
            if self.path.len() + height > CHILD_DEPTH_MAX {
                let message = format!("child runs are nested deeper than {CHILD_DEPTH_MAX} levels below {path}");
                return Err(error(codes::LIMIT, message, "run some of them from further out"));
            }
            return Ok(known.clone());
        }
        if self.files >= FILES_MAX {
            let message = format!("the runbook and its children are more than {FILES_MAX} files");
            return Err(error(codes::LIMIT, message, "put several of them into one"));
        }
        let source = self.library.open(&path).map_err(|why| {
            error(codes::NO_CHILD, format!("the runbook {path} cannot be read: {why}"), "correct the name, or put the file there")
        })?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + source.text.len());
        if self.bytes > FILES_BYTES_MAX {
            let message = format!("the runbook and its children have more than {FILES_BYTES_MAX} bytes");
            return Err(error(codes::LIMIT, message, "make them smaller"));
        }
        let (runbook, problems) = parse(&source);
        let bad = problems.iter().any(|problem| problem.severity == Severity::Error);
        self.problems.extend(problems.into_iter().map(|problem| problem.inside(&source)));
        let linked = runbook.map(|runbook| {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            self.path.push(path.clone());
            let linked = self.link(runbook, &folder);
            self.path.pop();
            Arc::new(linked)
        });
        // One with problems of form is linked nevertheless: the rules have more to say about what could be read.
        let linked = linked.filter(|child| !bad || !child.steps.is_empty());
        self.known.insert(path, linked.clone());
        Ok(linked)
    }
}

/// The path, from the folder of the outermost runbook, of what a text in a file of this folder names.
fn path_of(folder: &str, text: &str) -> Result<String, &'static str> {
    if text.contains("${{") {
        return Err("it must be written out: the plan holds the child's steps");
    }
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err("it is no path");
    }
    if text.contains('\\') || text.starts_with('/') || text.contains(':') {
        return Err("write a relative path with / between its parts");
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" => return Err("it is no path"),
            "." => {}
            ".." => _ = parts.pop().ok_or("it leads out of the folder of the runbook that is run")?,
            name => parts.push(name),
        }
    }
    let path = parts.join("/");
    Ok(if path.ends_with(".yaml") || path.ends_with(".yml") { path } else { format!("{path}.yaml") })
}

fn shown(text: &str) -> String {
    crate::shape::literal::shortened(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_the_folder_of_the_runbook_that_is_run() {
        assert_eq!(path_of("", "child").as_deref(), Ok("child.yaml"));
        assert_eq!(path_of("", "./regions/child.yml").as_deref(), Ok("regions/child.yml"));
        assert_eq!(path_of("regions", "../child.yaml").as_deref(), Ok("child.yaml"));
        assert_eq!(path_of("a/b", "../../c/d").as_deref(), Ok("c/d.yaml"));
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "file:///x", "c:x", "a\nb", "a\0b", "${{ mode }}"] {
            assert!(path_of("", bad).is_err(), "{bad:?}");
        }
        assert!(path_of("a", "../../x").is_err());
    }
}
