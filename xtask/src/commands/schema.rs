//! `cargo xtask schema`: writes the JSON Schemas that editors use, from the binary itself. What is in them is the binary's business.

use std::path::PathBuf;
use std::process::Command;

use xtask::lab;
use xtask::{Result, Trouble};

/// What is written, by the word that `lifeboat schema` takes.
const SCHEMAS: [(&str, &str); 3] = [
    ("runbook", "docs/schema/runbook.schema.json"),
    ("inventory", "docs/schema/inventory.schema.json"),
    ("test", "docs/schema/test.schema.json"),
];

/// Writes the schemas anew.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let Some(word) = words.first() {
        return Err(Trouble::new(format!("`schema` takes no argument, found `{word}`")));
    }
    let lifeboat = super::demo::build()?;
    for (of, path) in SCHEMAS {
        let file = lab::root().join(path);
        let folder = file.parent().map(PathBuf::from).unwrap_or_default();
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, print(&lifeboat, of)?));
        written.map_err(|error| Trouble::new(format!("cannot write {path}: {error}")))?;
        println!("{path}");
    }
    Ok(())
}

/// Fails when a schema is not what the binary prints now.
pub(super) fn check() -> Result<()> {
    let lifeboat = super::demo::build()?;
    for (of, path) in SCHEMAS {
        let kept = std::fs::read_to_string(lab::root().join(path)).unwrap_or_default();
        let now = print(&lifeboat, of).map_err(|error| Trouble::new(error.to_string()))?;
        if kept != now {
            return Err(Trouble::new(format!("{path} is not what `lifeboat schema {of}` prints; `cargo xtask schema` writes it anew")));
        }
    }
    Ok(())
}

fn print(lifeboat: &std::path::Path, of: &str) -> std::io::Result<String> {
    let output = Command::new(lifeboat).args(["schema", of]).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(std::io::Error::other(format!("lifeboat schema {of}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
