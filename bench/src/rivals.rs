//! Rivals beside us: the same workload, in turn with ours, so that both have the same minute of the same machine. What each rival's script does is in
//! `bench/rivals`; nothing here knows more than how to start one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::figures::median;
use crate::table::{Holds, Row, met_if};
use crate::trouble::{Result, Trouble, trouble};
use crate::{Place, plans, speed};

/// A rival that may be on this machine.
struct Rival {
    name: &'static str,
    /// How its script is started; `None` where it is not installed.
    command: fn(&Path) -> Result<Option<Command>>,
    /// How much faster we must be.
    goal: Option<f64>,
    /// Rounds: fewer where one takes a minute.
    rounds: usize,
}

const RIVALS: &[Rival] = &[
    Rival { name: "Restate", command: restate, goal: Some(6.0), rounds: 5 },
    Rival { name: "DBOS", command: dbos, goal: None, rounds: 3 },
    Rival { name: "Temporal", command: temporal, goal: None, rounds: 1 },
];

/// Runs at once, and steps of each.
const RUNS: (usize, usize) = (200, 10);

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rivals")
}

fn restate(installed: &Path) -> Result<Option<Command>> {
    let home = installed.join("restate");
    let program = ["linux-x64", "linux-arm64"]
        .map(|kind| home.join(format!("node_modules/@restatedev/restate-server-{kind}/bin/restate-server")))
        .into_iter()
        .find(|program| program.exists());
    let Some(program) = program else { return Ok(None) };
    // A module finds others beside itself only.
    let script = home.join("chain.mjs");
    std::fs::copy(scripts().join("restate/chain.mjs"), &script).map_err(|error| trouble("copying Restate's script", error))?;
    let mut command = Command::new("node");
    command.arg(script).arg(program);
    Ok(Some(command))
}

fn dbos(installed: &Path) -> Result<Option<Command>> {
    Ok(python(installed, "dbos", "bin/dbos").map(|(command, _)| command))
}

fn temporal(installed: &Path) -> Result<Option<Command>> {
    Ok(python(installed, "temporal", "bin/temporal").map(|(mut command, server)| {
        command.arg(server);
        command
    }))
}

fn python(installed: &Path, rival: &str, program: &str) -> Option<(Command, PathBuf)> {
    let venv = installed.join("venv");
    let program = venv.join(program);
    if !program.exists() {
        return None;
    }
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(scripts().join(rival).join("chain.py"));
    Some((command, program))
}

/// A rival's script at work. Ends with the bench.
struct Script {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Ready(String),
    Seconds(f64),
}

impl Script {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| trouble("starting a rival", error))?;
        let (told, says) = child.stdin.take().zip(child.stdout.take()).ok_or_else(|| Trouble("a rival without pipes".into()))?;
        Ok(Self { child, told, says: BufReader::new(says) })
    }

    fn hear(&mut self) -> Result<Said> {
        let mut line = String::new();
        self.says.read_line(&mut line).map_err(|error| trouble("hearing a rival", error))?;
        serde_json::from_str(&line).map_err(|_| Trouble(format!("a rival said {line:?}; its errors are above")))
    }

    fn round(&mut self) -> Result<Duration> {
        writeln!(self.told, "go").and_then(|()| self.told.flush()).map_err(|error| trouble("telling a rival", error))?;
        match self.hear()? {
            Said::Seconds(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| trouble("a rival's time", error)),
            Said::Ready(name) => Err(Trouble(format!("{name} was not asked for its name"))),
        }
    }

    /// Its input ends; then it stops what it started.
    fn end(self) -> Result<()> {
        let Self { mut child, told, says } = self;
        drop((told, says));
        child.wait().map(drop).map_err(|error| trouble("waiting for a rival", error))
    }
}

/// Every rival that is there, each in turn with us.
pub(crate) fn all(place: &Place) -> Result<Vec<Row>> {
    let Some(installed) = &place.rivals else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for rival in RIVALS {
        match (rival.command)(installed)? {
            Some(command) => rows.extend(beside(place, rival, command)?),
            None => rows.push(Row::new(&format!("beside {}", rival.name), "not installed: `cargo xtask bench --install-rivals`")),
        }
    }
    Ok(rows)
}

fn beside(place: &Place, rival: &Rival, mut command: Command) -> Result<Vec<Row>> {
    let folder = place.fresh(&format!("rival-{}", rival.name))?;
    let (runs, steps) = (place.depth.pick(RUNS.0, 4), place.depth.pick(RUNS.1, 2));
    command.arg(&folder).arg(runs.to_string()).arg(steps.to_string());
    let mut script = Script::start(command)?;
    let Said::Ready(name) = script.hear()? else { return Err(Trouble(format!("{} did not say its name", rival.name))) };
    let text = plans::chain(steps, "{}");
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..place.depth.pick(rival.rounds, 1) {
        let round = speed::round(place, "runs", &text, runs, place.depth.pick(200, 20))?;
        let other = script.round()?;
        let speed = |whole: Duration| (runs * steps) as f64 / whole.as_secs_f64();
        ours.push(speed(round.whole));
        theirs.push(speed(other));
        ratios.push(other.as_secs_f64() / round.whole.as_secs_f64());
    }
    script.end()?;
    let ratio = median(&mut ratios);
    let row = Row::new(&format!("{runs} runs x {steps} steps, steps a second, beside {name}"), format!("{:.0}", median(&mut ours)))
        .raw(format!("theirs {:.0}", median(&mut theirs)))
        .ratio(ratio);
    Ok(vec![match rival.goal {
        Some(goal) => row.goal(format!("at least {goal}"), met_if(Holds::AtLeast(ratio, goal))),
        None => row,
    }])
}
