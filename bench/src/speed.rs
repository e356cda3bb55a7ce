//! How fast runs go on the disk, each beside the raw limit of the same minute: chain, fan-out, many runs, and the store by itself.

use std::time::Duration;

use lifeboat_store::{Commit, LogId, MemoryStore, Record, Seq, Store as _};

use crate::engine::{Engine, on_disk, runtime};
use crate::figures::{median, micros, millis, now};
use crate::table::{Holds, Row, met_if};
use crate::trouble::{Result, trouble};
use crate::{Place, plans, raw};

/// One round of a workload beside the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    /// Median time of one step or commit.
    p50: Duration,
    pub(crate) whole: Duration,
    raw_p50: Duration,
    raw_per_second: f64,
}

fn middle<T: Copy + PartialOrd + Default>(rounds: &[Round], of: impl Fn(&Round) -> T) -> T {
    median(&mut rounds.iter().map(of).collect::<Vec<T>>())
}

/// So many runs of a text, side by side, in rounds.
fn rounds(place: &Place, name: &str, text: &str, runs: usize, raw_writes: u32) -> Result<Vec<Round>> {
    (0..place.depth.rounds()).map(|_| round(place, name, text, runs, raw_writes)).collect()
}

/// One round: the raw limit, then the runs.
pub(crate) fn round(place: &Place, name: &str, text: &str, runs: usize, raw_writes: u32) -> Result<Round> {
    let runtime = runtime()?;
    let folder = place.fresh(name)?;
    let raw = raw::measure(&folder, raw_writes)?;
    let engine = Engine::new(on_disk(&folder.join("data"))?);
    let plan = engine.plan(text)?;
    runtime.block_on(async {
        let executors = engine.admit_all(&plan, runs).await?;
        engine.store.take();
        let whole = engine.drive(executors).await?;
        let durable = engine.store.take();
        let mut each: Vec<Duration> = durable.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        Ok(Round { p50: median(&mut each), whole, raw_p50: raw.p50, raw_per_second: raw.per_second })
    })
}

/// A chain of steps that do nothing.
pub(crate) fn chain(place: &Place) -> Result<Vec<Row>> {
    let steps = place.depth.pick(1000, 50);
    let rounds = rounds(place, "chain", &plans::chain(steps, "{}"), 1, place.depth.pick(1000, 50))?;
    let p50 = middle(&rounds, |round| round.p50.as_secs_f64() / round.raw_p50.as_secs_f64());
    let speed = middle(&rounds, |round| steps as f64 / round.whole.as_secs_f64() / round.raw_per_second);
    Ok(vec![
        Row::new(&format!("chain of {steps}, step p50"), micros(middle(&rounds, |round| round.p50)))
            .raw(micros(middle(&rounds, |round| round.raw_p50)))
            .ratio(p50)
            .goal("at most 1.25", met_if(Holds::AtMost(p50, 1.25))),
        Row::new(&format!("chain of {steps}, steps a second"), format!("{:.0}", middle(&rounds, |r| steps as f64 / r.whole.as_secs_f64())))
            .raw(format!("{:.0}", middle(&rounds, |round| round.raw_per_second)))
            .ratio(speed)
            .goal("at least 0.8", met_if(Holds::AtLeast(speed, 0.8))),
        without_a_disk("chain, engine alone, a step", &plans::chain(steps, "{}"), 1, steps)?,
    ])
}

/// Steps side by side and a join.
pub(crate) fn fan(place: &Place) -> Result<Vec<Row>> {
    let steps = place.depth.pick(500, 50);
    let rounds = rounds(place, "fan", &plans::fan(steps), 1, place.depth.pick(300, 50))?;
    let whole = middle(&rounds, |round| round.whole);
    let ratio = middle(&rounds, |round| round.whole.as_secs_f64() / round.raw_p50.as_secs_f64());
    let limit = middle(&rounds, |round| (round.raw_p50 * 10).max(Duration::from_millis(25)));
    Ok(vec![
        Row::new(&format!("{steps} side by side and a join"), millis(whole))
            .raw(micros(middle(&rounds, |round| round.raw_p50)))
            .ratio(ratio)
            .goal(format!("at most {}", millis(limit)), met_if(Holds::AtMost(whole.as_secs_f64(), limit.as_secs_f64()))),
        without_a_disk("side by side, engine alone, a step", &plans::fan(steps), 1, steps)?,
    ])
}

/// Many runs at once.
pub(crate) fn runs(place: &Place) -> Result<Vec<Row>> {
    let (runs, steps) = (place.depth.pick(200, 10), 10);
    let rounds = rounds(place, "runs", &plans::chain(steps, "{}"), runs, place.depth.pick(1000, 50))?;
    let all = (runs * steps) as f64;
    let mut batched = Vec::new();
    for _ in 0..place.depth.rounds() {
        let folder = place.fresh("batched")?;
        let raw = raw::measure(&folder, place.depth.pick(1000, 50))?;
        batched.push(raw::batched(&folder, runs, steps)? / raw.per_second);
    }
    let speed = middle(&rounds, |round| all / round.whole.as_secs_f64() / round.raw_per_second);
    Ok(vec![
        Row::new(
            &format!("{runs} runs x {steps} steps at once, steps a second"),
            format!("{:.0}", middle(&rounds, |r| all / r.whole.as_secs_f64())),
        )
        .raw(format!("{:.0}", middle(&rounds, |round| round.raw_per_second)))
        .ratio(speed)
        .goal("at least 5", met_if(Holds::AtLeast(speed, 5.0))),
        Row::new(&format!("a bare loop that syncs once for {runs} such writes"), "").ratio(median(&mut batched)),
        without_a_disk("runs at once, engine alone, a step", &plans::chain(steps, "{}"), runs, runs * steps)?,
    ])
}

/// The same on a store in memory: what is left is the engine's own.
fn without_a_disk(what: &str, text: &str, runs: usize, steps: usize) -> Result<Row> {
    let runtime = runtime()?;
    let engine = Engine::new(MemoryStore::new());
    let plan = engine.plan(text)?;
    let whole = runtime.block_on(async {
        let executors = engine.admit_all(&plan, runs).await?;
        engine.drive(executors).await
    })?;
    Ok(Row::new(what, micros(whole.div_f64(steps as f64))))
}

/// One commit of two records, as a step of a chain makes: the store by itself beside the disk.
pub(crate) fn store(place: &Place) -> Result<Vec<Row>> {
    let commits = place.depth.pick(1000, 50);
    let runtime = runtime()?;
    let mut rounds = Vec::new();
    for _ in 0..place.depth.rounds() {
        let folder = place.fresh("store")?;
        let raw = raw::measure(&folder, commits)?;
        let store = on_disk(&folder.join("data"))?;
        let log = LogId::new("run/bench").map_err(|error| trouble("naming a log", error))?;
        let mut each = Vec::new();
        let begun = now();
        for turn in 0..u64::from(commits) {
            let records = vec![Record(vec![3; 150]), Record(vec![4; 150])];
            let began = now();
            let commit = Commit { expect: vec![(log.clone(), Seq(turn * 2))], append: vec![(log.clone(), records)] };
            runtime.block_on(store.commit(commit)).map_err(|error| trouble("committing", error))?;
            each.push(now().since(began));
        }
        rounds.push(Round { p50: median(&mut each), whole: now().since(begun), raw_p50: raw.p50, raw_per_second: raw.per_second });
    }
    let ratio = middle(&rounds, |round| round.p50.as_secs_f64() / round.raw_p50.as_secs_f64());
    Ok(vec![
        Row::new("store alone: one commit of 300 bytes, p50", micros(middle(&rounds, |round| round.p50)))
            .raw(micros(middle(&rounds, |round| round.raw_p50)))
            .ratio(ratio),
    ])
}
