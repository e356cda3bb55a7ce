//! `lifeboat test`: the tests beside a runbook, each case played in a simulated world. Reads files only.

use std::path::{Path, PathBuf};

use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::registry::Registry;
use lifeboat_engine::sim::rehearsal::{Play, Set, mismatches};
use lifeboat_runbooks::catalog::Catalog as _;
use lifeboat_runbooks::diagnostic::{Diagnostic, Severity, Source};
use lifeboat_runbooks::testing::{self, TestCase, TestFile};
use lifeboat_runbooks::{PlanRequest, Runbook};

use crate::args::{Format, Global, TestArgs};
use crate::exit::{Exit, Trouble, print};
use crate::render::test::{CaseShown, FileShown};
use crate::{render, wiring};

/// What test files are called: the runbook's name with this before its ending.
const MARK: &str = ".test";

pub(crate) fn run(global: &Global, args: &TestArgs) -> Result<Exit, Trouble> {
    let registry = lifeboat_steps::registry();
    let inventory = wiring::inventory(global, &registry)?;
    let mut shown = Vec::new();
    for path in &args.files {
        shown.push(file(global, &test_file(path), &registry, &inventory, args.only.as_deref())?);
    }
    let cases = shown.iter().map(|file| file.cases.len()).sum::<usize>();
    if cases == 0 {
        return Err(Trouble::usage("no case was run").help("no case has the text of --only in its name"));
    }
    match args.format {
        Format::Text => print(&render::test::text(&shown, wiring::colour_of_output(global)))?,
        Format::Json => print(&format!("{:#}\n", render::test::json(&shown)))?,
    }
    let failed = shown.iter().flat_map(|file| &file.cases).any(|case| !case.mismatches.is_empty());
    Ok(if failed { Exit::RunFailed } else { Exit::Done })
}

/// A test file itself, or the one beside a runbook.
fn test_file(path: &Path) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if stem.ends_with(MARK) {
        return path.to_owned();
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_else(|| "yaml".into());
    path.with_file_name(format!("{stem}{MARK}.{ending}"))
}

fn file(global: &Global, path: &Path, registry: &Registry, inventory: &Inventory, only: Option<&str>) -> Result<FileShown, Trouble> {
    let source = wiring::source(path)?;
    let (tests, problems) = testing::parse(&source);
    let Some(tests) = tests.filter(|_| problems.iter().all(|problem| problem.severity != Severity::Error)) else {
        wiring::show(global, &source, &problems)?;
        return Err(Trouble::told(Exit::Usage));
    };
    let (_, runbook) = wiring::runbook(global, &runbook_of(path, &tests)?)?;
    let people: Vec<&str> = inventory.people.keys().map(String::as_str).collect();
    wiring::show(global, &source, &testing::check(&tests, &runbook, registry, &people))?;
    let chosen = tests.cases.iter().filter(|case| only.is_none_or(|text| case.name.value.contains(text)));
    let cases = chosen.map(|case| play(global, &source, case, &runbook, registry, inventory)).collect::<Result<Vec<_>, _>>()?;
    Ok(FileShown { source, runbook: runbook.name.value, cases })
}

/// The runbook that a file tests.
fn runbook_of(path: &Path, tests: &TestFile) -> Result<PathBuf, Trouble> {
    let folder = path.parent().unwrap_or(Path::new(""));
    if let Some(named) = &tests.runbook {
        return Ok(folder.join(&named.value));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().replacen(MARK, "", 1)).unwrap_or_default();
    let beside = folder.join(name);
    if beside.exists() && beside != path {
        return Ok(beside);
    }
    Err(Trouble::usage(format!("{} names no runbook, and there is no {}", path.display(), beside.display()))
        .help("add `runbook: FILE` to it"))
}

fn play(
    global: &Global,
    source: &Source,
    case: &TestCase,
    runbook: &Runbook,
    registry: &Registry,
    inventory: &Inventory,
) -> Result<CaseShown, Trouble> {
    let request = PlanRequest {
        mode: case.mode.as_ref().map(|mode| mode.value.clone()),
        inputs: case.inputs.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect(),
    };
    let plan = lifeboat_runbooks::plan(runbook, &request, registry, inventory).map_err(|problems| {
        // Problems of the request belong to the case; the others to the runbook.
        let (asked, written): (Vec<Diagnostic>, Vec<Diagnostic>) =
            problems.into_iter().partition(|problem| problem.span == lifeboat_runbooks::Span::default());
        let asked: Vec<Diagnostic> = asked.into_iter().map(|problem| Diagnostic { span: case.name.span, ..problem }).collect();
        let told = wiring::show(global, source, &asked).and(wiring::show(global, &runbook.source, &written));
        told.err().unwrap_or_else(|| Trouble::told(Exit::Usage))
    })?;
    let types = registry.step_types().into_iter().cloned().collect();
    let ending = Set::new(plan, types, inventory).play(&Play::of(case));
    Ok(CaseShown { name: case.name.value.clone(), span: case.name.span, mismatches: mismatches(case, &ending), ending })
}
