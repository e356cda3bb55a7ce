//! `lifeboat check`: every problem of a runbook with its place. Reads files only.

use lifeboat_runbooks::diagnostic::{Diagnostic, Severity};
use serde_json::{Value, json};

use crate::args::{CheckArgs, Format, Global};
use crate::exit::{Exit, Trouble, print, say};
use crate::wiring;

pub(crate) fn run(global: &Global, args: &CheckArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    // Without an inventory the names of resources cannot be checked; everything else can.
    let inventory = if global.config.exists() { Some(wiring::inventory(global, &registry)?) } else { None };
    let mut errors = 0;
    let mut documents: Vec<Value> = Vec::new();
    for file in &args.files {
        let source = wiring::source(file)?;
        let (runbook, mut problems) = lifeboat_runbooks::load(&source, &wiring::Folder::of(file));
        if let Some(runbook) = &runbook {
            problems.extend(lifeboat_runbooks::check(runbook, &registry, inventory.as_ref().map(|inventory| inventory as _)));
        }
        problems.sort_by(|a, b| (a.file(), a.span.start).cmp(&(b.file(), b.span.start)));
        let bad = problems.iter().filter(|problem| is_error(problem)).count();
        errors += bad;
        match args.format {
            Format::Text if problems.is_empty() => print(&format!("{}: ok\n", source.name))?,
            Format::Text => {
                say(lifeboat_runbooks::render::text(&source, &problems, wiring::colour(global)).trim_end());
                let warnings = problems.len() - bad;
                print(&format!("{}: {}, {}\n", source.name, counted(bad, "error"), counted(warnings, "warning")))?;
            }
            Format::Json => documents.push(lifeboat_runbooks::render::json(&source, &problems)),
        }
    }
    if args.format == Format::Json {
        print(&format!("{:#}\n", json!(documents)))?;
    } else if inventory.is_none() {
        say(&format!("note: there is no inventory {}, so names of resources were not checked", global.config.display()));
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Usage })
}

fn is_error(problem: &Diagnostic) -> bool {
    problem.severity == Severity::Error
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
