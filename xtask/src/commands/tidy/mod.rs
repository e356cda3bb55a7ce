//! `cargo xtask tidy`: the house rules that a compiler does not know. Collects files and findings; the rules are in the files beside.

mod documents;
mod manifests;
mod sources;

use std::fmt;
use std::process::Command;

use xtask::{Result, Trouble, lab};

/// One broken rule: where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// One text file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(self.path.as_str(), |(_, name)| name)
    }
}

/// Checks the working tree and fails with every broken rule.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let Some(word) = words.first() {
        return Err(Trouble::new(format!("`tidy` takes no argument, found `{word}`")));
    }
    let files = files()?;
    let findings = check(&files);
    if findings.is_empty() {
        println!("tidy: {} files keep the house rules", files.len());
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    Err(Trouble::new(format!("{} house rules are broken\n{}", lines.len(), lines.join("\n"))))
}

/// Every rule over every file.
fn check(files: &[File]) -> Vec<Finding> {
    [sources::check(files), manifests::check(files), documents::check(files)].concat()
}

/// What git knows or would add; files that are not text are left out.
fn files() -> Result<Vec<File>> {
    let root = lab::root();
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(&root)
        .output()
        .map_err(|error| Trouble::new(format!("cannot run git: {error}")))?;
    if !listed.status.success() {
        return Err(Trouble::new(format!("git cannot list the files: {}", String::from_utf8_lossy(&listed.stderr).trim())));
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths = names.split('\0').filter(|path| !path.is_empty());
    // A file that was deleted and not yet committed is still listed.
    Ok(paths.filter_map(|path| Some(File { path: path.to_owned(), text: std::fs::read_to_string(root.join(path)).ok()? })).collect())
}

#[cfg(test)]
pub(crate) fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}
