//! `lifeboat store`: check, move and shrink the data folder.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use lifeboat_engine::audit::soundness::{self, Soundness};
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::growth::compact::{Keep, compact};
use lifeboat_engine::history;
use lifeboat_engine::journal::RunId;
use lifeboat_store::export::{ExportError, Imported, Partly, Reader, import, write};
use lifeboat_store::{Digest, LogHead, LogId, Problem, Record, Seen, Store, StoreError, Walk};
use serde_json::json;

use crate::args::{CompactArgs, ExportArgs, Format, Global, ImportArgs, StoreArgs, StoreCommand};
use crate::exit::{Exit, Trouble, print, say};
use crate::wiring;

pub(crate) async fn run(global: &Global, args: &StoreArgs) -> Result<Exit, Trouble> {
    match &args.command {
        StoreCommand::Verify { format } => verify(global, *format).await,
        StoreCommand::Export(args) => export(global, args).await,
        StoreCommand::Import(args) => take_in(global, args).await,
        StoreCommand::Compact(args) => shrink(global, args).await,
    }
}

fn trouble(error: &StoreError) -> Trouble {
    wiring::store_trouble(error)
}

async fn verify(global: &Global, format: Format) -> Result<Exit, Trouble> {
    let store = wiring::open_at_rest(global)?;
    let (mut logs, mut records, mut values) = (0u64, 0u64, 0u64);
    let mut problems: Vec<Problem> = Vec::new();
    let mut walk = Walk::over_all(store.as_ref()).await.map_err(|error| trouble(&error))?;
    while let Some(seen) = walk.next().await.map_err(|error| trouble(&error))? {
        match seen {
            Seen::Log(_) => logs += 1,
            Seen::Record { .. } | Seen::Carry { .. } => records += 1,
            Seen::Value { .. } => values += 1,
            Seen::Problem(problem) => problems.push(problem),
        }
    }
    let Soundness { runs, entries, findings } = soundness::examine(store.as_ref()).await.map_err(|error| trouble(&error))?;
    if logs == 0 && values > 0 {
        let what = format!(
            "{values} kept values are there and not one entry that could name them: the segments are gone, or never came with a copy"
        );
        problems.push(Problem { log: None, at: None, line: None, what });
    }
    let damaged = "keep a copy of the folder as it is; restore what is damaged from an export or a backup";
    let found =
        problems.iter().map(|problem| (problem.log.as_ref().map(ToString::to_string), problem.at.map(|at| at.0), &problem.what, damaged));
    let made_no_sense = findings.iter().map(|(finding, help)| (finding.log.clone(), finding.entry, &finding.what, *help));
    let all: Vec<_> = found.chain(made_no_sense).collect();
    match format {
        Format::Text => {
            let mut text = String::new();
            for (log, _, what, help) in &all {
                let log = log.as_ref().map_or_else(String::new, |log| format!("{log}: "));
                text.push_str(&format!("DAMAGED  {log}{what}\n   help: {help}\n"));
            }
            text.push_str(&format!(
                "{logs} logs with {records} records, {values} kept values; {runs} runs with {entries} entries replay\n"
            ));
            text.push_str(if all.is_empty() { "nothing is wrong\n" } else { "the store is not sound\n" });
            print(&text)?;
        }
        Format::Json => {
            let problems: Vec<_> =
                all.iter().map(|(log, entry, what, help)| json!({ "log": log, "entry": entry, "what": what, "help": help })).collect();
            let document = json!({ "sound": problems.is_empty(), "logs": logs, "records": records, "kept_values": values, "runs": runs, "entries": entries, "problems": problems });
            print(&format!("{document:#}\n"))?;
        }
    }
    Ok(if all.is_empty() { Exit::Done } else { Exit::Engine })
}

async fn export(global: &Global, args: &ExportArgs) -> Result<Exit, Trouble> {
    let (store, damage) = if args.leave_out_damaged { open_or_salvage(global)? } else { (wiring::open_at_rest(global)?, Damage::None) };
    let (heads, values) = match &args.run {
        None => (
            store.logs("", None, NonZeroU32::MAX).await.map_err(|error| trouble(&error))?,
            store.kept_values(None, NonZeroU32::MAX).await.map_err(|error| trouble(&error))?,
        ),
        Some(name) => {
            let all = history::list(store.as_ref()).await.map_err(|error| trouble(&error))?;
            of_run(store.as_ref(), &wiring::only(&all, name)?).await?
        }
    };
    let Sound { heads, values, left_out } = if args.leave_out_damaged {
        sound(store.as_ref(), heads, values, &damage).await?
    } else {
        Sound { heads, values, left_out: Vec::new() }
    };
    for left in &left_out {
        say(&format!("left out: {left}"));
    }
    let walk = Walk::new(store.as_ref(), heads, values);
    let written = match &args.output {
        None => {
            let mut out = std::io::stdout();
            let written = write(walk, &mut out).await;
            out.flush().map_err(|error| Trouble::engine(format!("the output cannot be written: {error}")))?;
            written
        }
        Some(path) => to_file(walk, path).await,
    };
    let written = written.map_err(|error| export_trouble(&error))?;
    say(&format!("{} logs with {} records and {} kept values in {} bytes", written.logs, written.records, written.values, written.bytes));
    let whole = left_out.is_empty() && matches!(damage, Damage::None);
    Ok(if whole { Exit::Done } else { Exit::Engine })
}

/// What is known of the damage before the logs are read one by one.
enum Damage {
    /// The store opened.
    None,
    /// It did not: these logs lack records, and any other may lack its newest.
    Partly(BTreeSet<LogId>),
}

/// The store, or what still reads of it.
fn open_or_salvage(global: &Global) -> Result<(Arc<dyn Store>, Damage), Trouble> {
    let inventory = wiring::inventory_if_there(global)?;
    match wiring::open_store_to_look(global, &inventory) {
        Err(error @ StoreError::Damaged { .. }) if inventory.store.etcd.is_none() => {
            let salvaged = wiring::salvage(global, &error).ok_or_else(|| wiring::open_trouble(&global.data, &error))?;
            Ok((Arc::new(salvaged.store), Damage::Partly(salvaged.cut)))
        }
        Ok(store) => Ok((store, Damage::None)),
        Err(_) => Ok((wiring::open_at_rest(global)?, Damage::None)),
    }
}

/// What can be exported, and what cannot, each with why.
struct Sound {
    heads: Vec<LogHead>,
    values: Vec<Digest>,
    left_out: Vec<String>,
}

/// Tries everything once: what does not read is left out. Of a store that did not open only what is over and can lack nothing is taken:
/// runs that have ended, the list of archived ones and the store's own name. Its open runs, locks and freezes may have gone on since.
async fn sound(store: &dyn Store, heads: Vec<LogHead>, values: Vec<Digest>, damage: &Damage) -> Result<Sound, Trouble> {
    let mut sound = Sound { heads: Vec::new(), values: Vec::new(), left_out: Vec::new() };
    for head in heads {
        let (name, is_run) = (head.log.to_string(), head.log.as_str().starts_with("run/"));
        let (problem, ended) = try_walk(Walk::new(store, vec![head.clone()], Vec::new())).await?;
        let doubt = match damage {
            Damage::None => None,
            Damage::Partly(cut) if cut.contains(&head.log) => Some("it lacks records"),
            Damage::Partly(_) if is_run && !ended => Some("it has not ended as far as it reads, and its newest entries may be lost"),
            Damage::Partly(_) if is_run || matches!(name.as_str(), "archive" | "store") => None,
            Damage::Partly(_) => Some("its newest entries may be lost, and a store that is whole makes it anew"),
        };
        match problem.or(doubt.map(str::to_owned)) {
            Some(why) => sound.left_out.push(format!("{name}: {why}")),
            None => sound.heads.push(head),
        }
    }
    for digest in values {
        match try_walk(Walk::new(store, Vec::new(), vec![digest])).await?.0 {
            Some(why) => sound.left_out.push(why),
            None => sound.values.push(digest),
        }
    }
    Ok(sound)
}

/// The first thing that does not fit, and whether a run ended in what was read.
async fn try_walk(mut walk: Walk<'_>) -> Result<(Option<String>, bool), Trouble> {
    let mut ended = false;
    while let Some(seen) = walk.next().await.map_err(|error| trouble(&error))? {
        match seen {
            Seen::Problem(problem) => return Ok((Some(problem.what), ended)),
            Seen::Record { record, .. } => ended |= ends_a_run(&record),
            Seen::Log(_) | Seen::Carry { .. } | Seen::Value { .. } => {}
        }
    }
    Ok((None, ended))
}

fn ends_a_run(record: &Record) -> bool {
    lifeboat_engine::Entry::decode(&record.0).is_ok_and(|entry| matches!(entry.event, lifeboat_engine::Event::RunEnded { .. }))
}

/// A run's log, and what it names.
async fn of_run(store: &dyn Store, run: &RunId) -> Result<(Vec<LogHead>, Vec<Digest>), Trouble> {
    let log = history::run_log(run).map_err(|error| trouble(&error))?;
    let mut heads = store.logs(log.as_str(), None, NonZeroU32::MIN).await.map_err(|error| trouble(&error))?;
    heads.retain(|head| head.log == log);
    let (entries, _) = history::entries(store, run).await.map_err(|error| Trouble::from_error(Exit::Engine, &error))?;
    let mut values: Vec<Digest> = entries.iter().filter_map(|entry| entry.event.keeps()).filter_map(Digest::parse).collect();
    values.sort_unstable();
    values.dedup();
    Ok((heads, values))
}

async fn to_file(walk: Walk<'_>, path: &Path) -> Result<lifeboat_store::export::Written, ExportError> {
    let io = |source| ExportError::Io { action: "written", source };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let mut out = BufWriter::new(file);
    let written = write(walk, &mut out).await;
    match written.and_then(|written| out.flush().and_then(|()| out.get_ref().sync_all()).map_err(io).map(|()| written)) {
        Ok(written) => Ok(written),
        Err(error) => {
            // Half an export must not be taken for one.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

async fn take_in(global: &Global, args: &ImportArgs) -> Result<Exit, Trouble> {
    let unread = |error: &std::io::Error| Trouble::usage(format!("{} cannot be read: {error}", args.file.display()));
    let open = || File::open(&args.file).map(BufReader::new).map_err(|error| unread(&error));
    refuse_lone_open_runs(open()?)?;
    let inventory = wiring::inventory_if_there(global)?;
    let store = wiring::open_store(global, &inventory).map_err(|error| wiring::open_trouble(&global.data, &error))?;
    let partly = if args.go_on { Partly::GoOn } else { Partly::Refuse };
    let done = import(store.as_ref(), open()?, partly).await.map_err(|error| export_trouble(&error))?;
    let Imported { logs, records, values, there_already } = done;
    say(&format!("{logs} logs with {records} records and {values} kept values were taken in; {there_already} logs were there already"));
    Ok(Exit::Done)
}

/// A run that has not ended comes only with its locks and the list of open runs: alone, it could be driven while another run has them.
fn refuse_lone_open_runs(input: BufReader<File>) -> Result<(), Trouble> {
    let (mut last, mut with_list): (Option<(String, bool)>, bool) = (None, false);
    let mut unfinished = Vec::new();
    let mut close = |last: Option<(String, bool)>| unfinished.extend(last.filter(|(_, ended)| !ended).map(|(log, _)| log));
    for seen in Reader::new(input) {
        match seen {
            Seen::Log(head) => {
                close(last.take());
                with_list |= head.log.as_str() == "open";
                last = head.log.as_str().starts_with("run/").then(|| (head.log.to_string(), false));
            }
            Seen::Record { record, .. } => {
                if let Some((_, ended)) = last.as_mut() {
                    *ended |= ends_a_run(&record);
                }
            }
            Seen::Carry { .. } | Seen::Value { .. } | Seen::Problem(_) => {}
        }
    }
    close(last);
    match unfinished.first() {
        Some(log) if !with_list => {
            Err(Trouble::refused(format!("{log} has not ended, and the export has neither its locks nor the list of open runs"))
                .help("export the whole store instead, and import it into an empty data folder"))
        }
        Some(_) | None => Ok(()),
    }
}

fn export_trouble(error: &ExportError) -> Trouble {
    if let ExportError::Store(error) = error {
        return wiring::store_trouble(error);
    }
    let in_the_way = matches!(error, ExportError::Exists { .. } | ExportError::Differs { .. });
    let trouble = Trouble::from_error(if in_the_way { Exit::Refused } else { Exit::Engine }, error);
    let help = [
        (
            matches!(error, ExportError::Exists { .. }),
            "if an import was cut short, go on with it by --continue; else import into an empty data folder: --data DIR",
        ),
        (matches!(error, ExportError::Differs { .. }), "import into an empty data folder: --data DIR"),
        (
            matches!(error, ExportError::Unsound(_)),
            "`lifeboat store verify` tells all that is wrong in a data folder; --leave-out-damaged writes what is whole",
        ),
    ];
    match help.iter().find(|(fits, _)| *fits) {
        Some((_, help)) => trouble.help(*help),
        None => trouble,
    }
}

async fn shrink(global: &Global, args: &CompactArgs) -> Result<Exit, Trouble> {
    let inventory = wiring::inventory_if_there(global)?;
    let store = wiring::witnessed(wiring::open_at_rest(global)?, &inventory, &global.data)?;
    let folder = args.archive.clone().unwrap_or_else(|| global.data.join("archive"));
    let keep = Keep { newest: args.keep_newest, younger_than: SignedDuration::from_hours(24 * i64::from(args.keep_days)) };
    let done = compact(store.as_ref(), SystemClock.now(), keep, &folder).await.map_err(|error| {
        Trouble::from_error(Exit::Engine, &error).help(
            "what left the data folder before is in its archive file, and the same command goes on; where the disk is full, write to another: \
             --archive DIR",
        )
    })?;
    for (run, why) in &done.left {
        say(&format!("warning: run {run} stays, because it cannot be read: {why}"));
    }
    if done.young > 0 {
        say(&format!("{} more runs stay because they ended within {} days (--keep-days)", done.young, args.keep_days));
    }
    match args.format {
        Format::Text => {
            for file in &done.files {
                print(&format!("{}\n", file.display()))?;
            }
            say(&format!(
                "{} finished runs with {} entries were archived; {} kept values were thrown away",
                done.runs, done.entries, done.values
            ));
        }
        Format::Json => {
            let left: Vec<_> = done.left.iter().map(|(run, why)| json!({ "run": run, "why": why })).collect();
            let document = json!({ "runs": done.runs, "entries": done.entries, "kept_values": done.values, "files": done.files, "left": left, "young": done.young });
            print(&format!("{document:#}\n"))?;
        }
    }
    Ok(if done.left.is_empty() { Exit::Done } else { Exit::Engine })
}
