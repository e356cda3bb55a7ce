//! What the bench does in a process of its own, so that another can count its calls or its memory. It says where it stands on its output.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use lifeboat_engine::clock::{Clock as _, SystemClock};

use crate::engine::{Engine, on_disk, runtime};
use crate::plans;
use crate::trouble::{Result, Trouble, trouble};

/// First word of such a process.
pub(crate) const WORD: &str = "child";

/// What is counted lies between these two lines.
pub(crate) const BEGIN: &str = "bench-begins";
pub(crate) const END: &str = "bench-ends";

/// `chain N`, `fan N`, `runs N`, `idle MS`, `waiting N`, `flying N`, each with a data folder.
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
        // Ten steps, the first of which does not end.
        "flying" => (plans::chain(10, "{ after_ms: 600000 }"), count),
        other => return Err(Trouble(format!("a child cannot do {other}"))),
    };
    let plan = engine.plan(&text)?;
    runtime.block_on(async {
        let mut executors = Vec::new();
        for _ in 0..runs {
            executors.push(engine.admit(plan.clone()).await?);
        }
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
            "flying" => {
                let driving = tokio::spawn(async move { engine.drive(executors).await });
                // Until every first step is under way; the other side reads the memory and ends this process.
                SystemClock.sleep(Duration::from_secs(2)).await;
                say(BEGIN)?;
                driving.await.map_err(|error| trouble("driving", error))?.map(drop)
            }
            _ => {
                say(BEGIN)?;
                engine.drive(executors).await?;
                say(END)
            }
        }
    })
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| trouble("writing", error))
}
