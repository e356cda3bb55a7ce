//! How often the disk is waited for, counted by strace between admission and end.

use std::path::Path;
use std::process::Command;

use crate::child::{BEGIN, END, WORD};
use crate::table::{Holds, Row, Verdict, met_if};
use crate::trouble::{Result, Trouble, trouble};
use crate::{Place, figures};

pub(crate) fn all(place: &Place) -> Result<Vec<Row>> {
    if Command::new("strace").arg("-V").output().is_err() {
        return Ok(vec![Row::new("syncs", "not counted: strace is not installed").goal("counted", Verdict::Missed)]);
    }
    let (chain, fan, runs) = place.depth.pick((100, 500, 200), (10, 20, 10));
    let idle_ms = place.depth.pick(3000, 500);
    let row = |what: String, found: usize, limit: usize| {
        Row::new(&what, found.to_string()).goal(format!("at most {limit}"), met_if(Holds::AtMost(found as f64, limit as f64)))
    };
    Ok(vec![
        row(format!("syncs, chain of {chain}"), middle(place, "chain", chain)?, chain + 2),
        row(format!("syncs, {fan} side by side and a join"), middle(place, "fan", fan)?, 4),
        row(format!("syncs, {runs} runs x 10 at once"), middle(place, "runs", runs)?, 30),
        row(format!("syncs, idle, in {} s", idle_ms as f64 / 1e3), middle(place, "idle", idle_ms)?, 0),
    ])
}

fn middle(place: &Place, what: &str, count: usize) -> Result<usize> {
    let mut found = Vec::new();
    for _ in 0..place.depth.pick(3, 1) {
        found.push(counted(&place.fresh("syncs")?, what, count)?);
    }
    Ok(figures::median(&mut found))
}

fn counted(folder: &Path, what: &str, count: usize) -> Result<usize> {
    let calls = folder.join("calls");
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-s", "64", "-e", "trace=fdatasync,fsync,sync_file_range,msync,sync,syncfs,write", "-o"]);
    let program = std::env::current_exe().map_err(|error| trouble("finding the bench", error))?;
    command.arg(&calls).arg(program).arg(WORD).arg(what).arg(count.to_string()).arg(folder.join("data"));
    let output = command.output().map_err(|error| trouble("running strace", error))?;
    if !output.status.success() {
        return Err(Trouble(format!("the counted process failed: {}", String::from_utf8_lossy(&output.stderr))));
    }
    let calls = std::fs::read_to_string(&calls).map_err(|error| trouble("reading strace's record", error))?;
    let between = calls.lines().skip_while(|line| !line.contains(BEGIN)).take_while(|line| !line.contains(END));
    // A call that another thread interrupted in the record is told twice: once begun, once resumed.
    let sync = |line: &&str| {
        !line.contains("resumed>")
            && ["fsync(", "fdatasync(", "sync_file_range(", " sync(", "syncfs("].iter().any(|call| line.contains(call))
    };
    Ok(between.filter(sync).count())
}
