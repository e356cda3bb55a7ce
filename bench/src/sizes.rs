//! What steps weigh: bytes written for each, and what a step costs in a plan of a hundred thousand.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_runbooks::names::StepId;
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::{LogHead, LogId, MemoryStore, Store};

use crate::engine::{Engine, on_disk, runtime};
use crate::figures::{median, micros, millis, now};
use crate::table::{Holds, Row, met_if};
use crate::trouble::{Result, Trouble, trouble};
use crate::{Place, plans};

/// Bytes of output that a step of this workload has.
const OUTPUT_BYTES: usize = 200;

/// Steps of a chain with 200 bytes of output each: in a new folder, and once segments are sealed and indexed.
pub(crate) fn bytes(place: &Place) -> Result<Vec<Row>> {
    let runtime = runtime()?;
    let folder = place.fresh("bytes")?;
    let engine = Engine::new(on_disk(&folder.join("data"))?);
    let (fresh, later) = (place.depth.pick(2_000, 50), place.depth.pick(20_000, 50));
    let mut rows = Vec::new();
    for (steps, when) in [(fresh, "new folder"), (later, "later, with sealed segments and their index")] {
        // A filler of 188 bytes makes an output of 200 bytes of JSON.
        let text = plans::chain(2, &format!("{{ bytes: {} }}", OUTPUT_BYTES - 12));
        let plan = lengthened(engine.plan(&text)?, steps)?;
        let (entries, written) = runtime.block_on(weigh(&engine, plan, steps))?;
        if rows.is_empty() {
            rows.push(
                Row::new("bytes of entries a step, 200 of output", format!("{entries:.0}"))
                    .goal("near 600", met_if(Holds::AtMost(entries, 600.0))),
            );
        }
        rows.push(
            Row::new(&format!("bytes written a step, {when}"), format!("{written:.0}"))
                .raw(format!("{entries:.0}"))
                .ratio(written / entries),
        );
    }
    Ok(rows)
}

/// Bytes of entries, and bytes written, for each step of a run.
async fn weigh<S: Store + 'static>(engine: &Arc<Engine<S>>, plan: Plan, steps: usize) -> Result<(f64, f64)> {
    let known: BTreeSet<LogId> = journals(engine).await?.into_iter().map(|head| head.log).collect();
    let executor = engine.admit(plan).await?;
    let before = written()?;
    engine.drive(vec![executor]).await?;
    let written = written()? - before;
    let mut entries = 0usize;
    for head in journals(engine).await?.into_iter().filter(|head| !known.contains(&head.log)) {
        let mut from = head.first;
        while from < head.next {
            let page = engine.store.read(&head.log, from, NonZeroU32::MAX).await.map_err(|error| trouble("reading", error))?;
            from.0 += page.records.len() as u64;
            entries += page.records.iter().map(|(_, record)| record.0.len()).sum::<usize>();
        }
    }
    Ok((entries as f64 / steps as f64, written as f64 / steps as f64))
}

async fn journals<S: Store + 'static>(engine: &Arc<Engine<S>>) -> Result<Vec<LogHead>> {
    engine.store.logs("run/", None, NonZeroU32::MAX).await.map_err(|error| trouble("listing", error))
}

/// Bytes that this process has given to `write` and its like.
fn written() -> Result<u64> {
    let told = std::fs::read_to_string("/proc/self/io").map_err(|error| trouble("reading /proc/self/io", error))?;
    let bytes = told.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    bytes.ok_or_else(|| Trouble("/proc/self/io does not tell what was written".into()))
}

/// What a step costs in small and in large plans, on a store in memory; and what planning costs.
pub(crate) fn plans(place: &Place) -> Result<Vec<Row>> {
    let counts: &[usize] = place.depth.pick(&[10, 1_000, 10_000, 100_000], &[10, 100]);
    let mut rows = Vec::new();
    let mut costs = Vec::new();
    for count in counts {
        let mut each = Vec::new();
        for _ in 0..place.depth.pick(3, 1) {
            each.push(step_cost(*count)?);
        }
        let cost = median(&mut each);
        costs.push((*count, cost));
        rows.push(Row::new(&format!("engine alone, a step in a chain of {count}"), micros(cost)));
    }
    let at = |count: usize| costs.iter().find(|(known, _)| *known == count).map(|(_, cost)| cost.as_secs_f64());
    if let (Some(small), Some(large), Some(row)) = (at(1_000), at(100_000), rows.last_mut()) {
        *row = row.clone().ratio(large / small).goal("at most 1.3 of that at 1000", met_if(Holds::AtMost(large / small, 1.3)));
    }
    rows.push(planning(place)?);
    Ok(rows)
}

/// Planning as such: the files are read before. No file has so many steps, so they are those of child runs.
fn planning(place: &Place) -> Result<Row> {
    let (times, steps) = place.depth.pick((99, 1_000), (3, 10));
    let runbook = plans::nested(times, steps)?;
    let engine = Engine::new(MemoryStore::new());
    let mut each = Vec::new();
    let mut count = 0;
    for _ in 0..place.depth.rounds() {
        let began = now();
        let plan = plans::bound(&runbook, &engine.ports.registry, &engine.ports.inventory)?;
        each.push(now().since(began));
        count = plan.steps.len();
    }
    let planning = median(&mut each);
    let limit = Duration::from_millis(300).mul_f64(count as f64 / 100_000.0);
    Ok(Row::new(&format!("planning {count} steps"), millis(planning))
        .goal(format!("at most {} (300 ms for 100000)", millis(limit)), met_if(Holds::AtMost(planning.as_secs_f64(), limit.as_secs_f64()))))
}

fn step_cost(steps: usize) -> Result<Duration> {
    let runtime = runtime()?;
    let engine = Engine::new(MemoryStore::new());
    let plan = long_chain(&engine, steps)?;
    let whole = runtime.block_on(async {
        let executor = engine.admit(plan).await?;
        engine.drive(vec![executor]).await
    })?;
    Ok(whole.div_f64(steps as f64))
}

/// A chain longer than one file may have.
fn long_chain<S: Store + 'static>(engine: &Engine<S>, steps: usize) -> Result<Plan> {
    lengthened(engine.plan(&plans::chain(2, "{}"))?, steps)
}

/// A chain, grown or cut to so many steps like its last one.
fn lengthened(mut plan: Plan, steps: usize) -> Result<Plan> {
    let Some(pattern) = plan.steps.last().cloned() else { return Err(Trouble("a chain without steps".into())) };
    let name = |step: usize| StepId::new(&format!("s{step}")).map_err(|error| trouble("naming a step", format!("{error:?}")));
    for step in 2..steps {
        let mut next = pattern.clone();
        next.id = name(step)?;
        next.needs = vec![name(step - 1)?];
        plan.steps.push(next);
    }
    plan.steps.truncate(steps);
    Ok(plan)
}
