//! What the bench does in a process of its own, so that another can count its calls or its memory. It says where it stands on its output.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lifeboat_engine::clock::{Clock as _, SystemClock};
use lifeboat_engine::history;
use lifeboat_runbooks::plan::Plan;
use lifeboat_store::Store;
use tokio::task::JoinSet;

use crate::engine::{Engine, on_disk, runtime};
use crate::noop::BEGUN;
use crate::plans;
use crate::trouble::{Result, Trouble, trouble};

/// First word of such a process.
pub(crate) const WORD: &str = "child";

/// Runs that come at the same time.
const COME_AT_ONCE: usize = 100;

/// What is counted lies between these two lines.
pub(crate) const BEGIN: &str = "bench-begins";
pub(crate) const END: &str = "bench-ends";

/// `chain N`, `fan N`, `runs N`, `idle MS`, `waiting N`, `flying N`, `resume N`, each with a data folder.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let [what, count, folder] = words else { return Err(Trouble("a child needs its work, a number and a folder".into())) };
    let count: usize = count.parse().map_err(|error| trouble("a child's number", error))?;
    let runtime = runtime()?;
    let engine = Engine::new(on_disk(Path::new(folder))?);
    let (text, runs) = match what.as_str() {
        "chain" => (plans::chain(count, "{}"), 1),
        "fan" => (plans::fan(count), 1),
        "runs" => (plans::chain(10, "{}"), count),
        "idle" => (plans::chain(1, "{ after_ms: 600000 }"), 1),
        // Ten steps behind a question that nobody answers.
        "waiting" => (plans::asked(10), count),
        "resume" => return runtime.block_on(resume(&engine, count)),
        // Ten steps, the first of which does not end.
        "flying" => (plans::chain(10, "{ after_ms: 600000 }"), count),
        other => return Err(Trouble(format!("a child cannot do {other}"))),
    };
    let plan = engine.plan(&text)?;
    runtime.block_on(async {
        if matches!(what.as_str(), "flying" | "waiting") {
            return stay(&engine, &plan, runs, if what == "flying" { Until::Begun } else { Until::Asked }).await;
        }
        let executors = engine.admit_all(&plan, runs).await?;
        match what.as_str() {
            "idle" => {
                let driving = tokio::spawn(async move { engine.drive(executors).await });
                SystemClock.sleep(Duration::from_secs(1)).await;
                say(BEGIN)?;
                SystemClock.sleep(Duration::from_millis(count as u64)).await;
                say(END)?;
                driving.abort();
                Ok(())
            }
            _ => {
                say(BEGIN)?;
                engine.drive(executors).await?;
                say(END)
            }
        }
    })
}

/// How far runs come that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Their first step is under way.
    Begun,
    /// People are asked.
    Asked,
}

/// Runs come some at a time, as they do in a server, and stay; the other side reads the memory and ends this process.
async fn stay<S: Store + 'static>(engine: &Arc<Engine<S>>, plan: &Plan, runs: usize, until: Until) -> Result<()> {
    let mut driving = JoinSet::new();
    while driving.len() < runs {
        let some = (runs - driving.len()).min(COME_AT_ONCE);
        for executor in engine.admit_all(plan, some).await? {
            driving.spawn(executor.drive());
        }
        if until == Until::Begun {
            until_begun(driving.len()).await;
        }
    }
    SystemClock.sleep(Duration::from_secs(1)).await;
    say(BEGIN)?;
    let ended = driving.join_next().await;
    Err(Trouble(format!("a run ended: {ended:?}")))
}

/// Takes all unfinished runs over and drives each until its next step is under way.
async fn resume<S: Store + 'static>(engine: &Arc<Engine<S>>, runs: usize) -> Result<()> {
    let open = history::open_runs(engine.ports.store.as_ref()).await.map_err(|error| trouble("listing open runs", error))?;
    if open.len() != runs {
        return Err(Trouble(format!("{} runs are open, not {runs}", open.len())));
    }
    let mut tasks = JoinSet::new();
    for run in open {
        let engine = Arc::clone(engine);
        tasks.spawn(async move { engine.take_over(&run).await?.drive().await.map_err(|error| trouble("driving", error)) });
    }
    tokio::select! {
        () = until_begun(runs) => say(END),
        Some(ended) = tasks.join_next() => Err(Trouble(format!("a run ended: {ended:?}"))),
    }
}

async fn until_begun(runs: usize) {
    while BEGUN.load(Ordering::Relaxed) < runs {
        SystemClock.sleep(Duration::from_millis(1)).await;
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| trouble("writing", error))
}
