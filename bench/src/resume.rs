//! Going on after `kill -9`: with a small store, with a hundred thousand finished runs compacted away, and with ten thousand runs in flight.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lifeboat_engine::clock::{Clock as _, SystemClock};
use lifeboat_engine::growth::{ArchiveRecord, archive_log};
use lifeboat_engine::journal::{Outcome, RunId};
use lifeboat_store::{Commit, Digest, Record, Store as _};

use crate::binary::{lifeboat, missing, scene};
use crate::child::{BEGIN, END, WORD};
use crate::engine::{on_disk, runtime};
use crate::figures::{median, micros, millis, now};
use crate::table::{Holds, Row, met_if};
use crate::trouble::{Result, Trouble, trouble};
use crate::{Place, raw};

/// What the step itself may still have to wait: it was cut off in its 20 ms.
const STEP: Duration = Duration::from_millis(20);

/// Records of one commit while a large store is made.
const TOGETHER: usize = 2000;

/// How the store is before the run that is killed.
type Prepare = fn(&Path, usize) -> Result<()>;

pub(crate) fn all(place: &Place) -> Result<Vec<Row>> {
    let Some(program) = &place.lifeboat else { return Ok(missing("kill -9 to the next step")) };
    let raw = raw::measure(&place.fresh("killed")?, place.depth.pick(500, 20))?.p50;
    let (archived, flying) = place.depth.pick((100_000, 10_000), (100, 20));
    let small = killed(place, program, |_, _| Ok(()), 0)?;
    let limit = Duration::from_millis(50) + raw * 5;
    let row = |what: &str, took: Duration, goal: &str, limit: Duration| {
        Row::new(what, millis(took))
            .raw(micros(raw))
            .goal(format!("{goal}: {}", millis(limit)), met_if(Holds::AtMost(took.as_secs_f64(), limit.as_secs_f64())))
    };
    let large = killed(place, program, finished, archived)?;
    let beside = killed(place, program, in_flight, flying)?;
    let all = all_at_once(place, flying)?;
    let second = Duration::from_secs(1);
    Ok(vec![
        row("kill -9 in a chain, start to next step running", small, "at most 50 ms + 5 raw p50", limit),
        row(&format!("the same with {archived} finished runs compacted"), large, "at most 2 x that of the small store", small * 2),
        row(&format!("the same with {flying} other runs unfinished"), beside, "at most 1 s", second),
        row(&format!("kill -9 of {flying} runs in flight, start to every next step running"), all, "at most 1 s", second),
    ])
}

/// From the start of the process that takes over to the next step running.
fn killed(place: &Place, program: &Path, prepare: Prepare, count: usize) -> Result<Duration> {
    let mut text = String::from("lifeboat: v1\nname: killed\nsteps:\n");
    for step in 0..200 {
        let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
        text.push_str(&format!("  - id: s{step}\n    type: wait\n{needs}    with: {{ for: {}ms }}\n", STEP.as_millis()));
    }
    let folder = scene(place, "killed", "chain.yaml", &text)?;
    prepare(&folder.join("data"), count)?;
    let mut each = Vec::new();
    for _ in 0..place.depth.rounds() {
        let mut first = lifeboat(program, &folder)
            .args(["run", "chain.yaml"])
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| trouble("starting", error))?;
        let heard = words_before(first.stderr.take(), "s10 running");
        let _ = first.kill();
        let _ = first.wait();
        // "run NAME is admitted": the name tells this run from others in the same folder.
        let told = heard?;
        let run = told.split_whitespace().find(|word| word.contains("-killed-")).ok_or_else(|| Trouble("the run has no name".into()))?;
        let began = now();
        let mut second =
            lifeboat(program, &folder).args(["resume", run]).stderr(Stdio::piped()).spawn().map_err(|error| trouble("starting", error))?;
        // The step that was cut off is looked at; the one behind it is the next.
        let heard = words_before(second.stderr.take(), "s11 running");
        let took = now().since(began);
        let _ = second.kill();
        let _ = second.wait();
        heard?;
        each.push(took.saturating_sub(STEP));
    }
    Ok(median(&mut each))
}

/// What a process says until it says this.
fn words_before(output: Option<impl std::io::Read>, words: &str) -> Result<String> {
    let output = output.ok_or_else(|| Trouble("a process without output".into()))?;
    let mut told = String::new();
    for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
        if line.contains(words) {
            return Ok(told);
        }
        told.push_str(&line);
        told.push('\n');
    }
    Err(Trouble(format!("the process ended before it said {words:?}, and said\n{told}")))
}

/// A store from which so many finished runs were compacted away: what stays of each is its record in the list of archived runs.
fn finished(data: &Path, count: usize) -> Result<()> {
    let store = on_disk(data)?;
    let log = archive_log().map_err(|error| trouble("naming a log", error))?;
    let at = SystemClock.now();
    let record = |number: usize| {
        let run = RunId::new(&format!("20260101t000000-long-ago-{number}")).map_err(|error| trouble("naming a run", error))?;
        let record = ArchiveRecord {
            run,
            runbook: "long-ago".into(),
            mode: "failover".into(),
            outcome: Outcome::Succeeded,
            started_at: at,
            ended_at: at,
            started_by: "ann".into(),
            entries: 25,
            chain: Digest::of(&number.to_le_bytes()).to_string(),
            file: format!("20260101t000000-{}.lifeboat", number / 500),
        };
        serde_json::to_vec(&record).map(Record).map_err(|error| trouble("writing a record", error))
    };
    let numbers: Vec<usize> = (0..count).collect();
    let runtime = runtime()?;
    for some in numbers.chunks(TOGETHER) {
        let records = some.iter().map(|number| record(*number)).collect::<Result<Vec<Record>>>()?;
        let commit = Commit { expect: Vec::new(), append: vec![(log.clone(), records)] };
        runtime.block_on(store.commit(commit)).map_err(|error| trouble("committing", error))?;
    }
    Ok(())
}

/// A store with so many runs whose process was killed while a step of each was under way.
fn in_flight(data: &Path, count: usize) -> Result<()> {
    let mut child = bench("flying", count, data)?.stdout(Stdio::piped()).spawn().map_err(|error| trouble("starting a process", error))?;
    let heard = words_before(child.stdout.take(), BEGIN);
    let _ = child.kill();
    let _ = child.wait();
    heard.map(drop)
}

/// All of them are taken over by one process.
fn all_at_once(place: &Place, count: usize) -> Result<Duration> {
    let mut each = Vec::new();
    for _ in 0..place.depth.pick(3, 1) {
        let data = place.fresh("flying")?.join("data");
        in_flight(&data, count)?;
        let began = now();
        let mut child =
            bench("resume", count, &data)?.stdout(Stdio::piped()).spawn().map_err(|error| trouble("starting a process", error))?;
        let heard = words_before(child.stdout.take(), END);
        each.push(now().since(began));
        let _ = child.kill();
        let _ = child.wait();
        heard?;
    }
    Ok(median(&mut each))
}

fn bench(what: &str, count: usize, data: &Path) -> Result<Command> {
    let program = std::env::current_exe().map_err(|error| trouble("finding the bench", error))?;
    let mut command = Command::new(program);
    command.arg(WORD).arg(what).arg(count.to_string()).arg(data);
    Ok(command)
}
