//! The whole process: start-up, commands, checking. It is the release build that people get. Going on after `kill -9` is in `resume`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::figures::{median, millis, now};
use crate::table::{Holds, Row, Verdict, met_if};
use crate::trouble::{Result, Trouble, trouble};
use crate::{Place, raw};

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| trouble("writing a file of the bench", error))
}

pub(crate) fn missing(what: &str) -> Vec<Row> {
    vec![Row::new(what, "not measured: name the release build with --lifeboat FILE").goal("measured", Verdict::Missed)]
}

pub(crate) fn lifeboat(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).args(["--data", "data"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn timed(command: &mut Command) -> Result<Duration> {
    let began = now();
    let status = command.status().map_err(|error| trouble("running a process", error))?;
    let took = now().since(began);
    if status.success() { Ok(took) } else { Err(Trouble(format!("{command:?} ended with {status}"))) }
}

pub(crate) fn scene(place: &Place, name: &str, file: &str, text: &str) -> Result<PathBuf> {
    let folder = place.fresh(name)?;
    write(&folder.join("lifeboat.yaml"), "lifeboat: v1\n")?;
    write(&folder.join(file), text)?;
    Ok(folder)
}

/// A hundred times `/bin/true`, one behind the other.
pub(crate) fn commands(place: &Place) -> Result<Vec<Row>> {
    let Some(program) = &place.lifeboat else { return Ok(missing("100 x /bin/true")) };
    let steps = place.depth.pick(100, 5);
    let chain = |steps: usize| {
        let step = |step: usize| {
            let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
            format!("  - id: s{step}\n    type: command\n{needs}    with: {{ program: /bin/true }}\n")
        };
        format!("lifeboat: v1\nname: commands\nsteps:\n{}", (0..steps).map(step).collect::<String>())
    };
    let mut ratios = Vec::new();
    let (mut walls, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..place.depth.rounds() {
        let folder = scene(place, "commands", "commands.yaml", &chain(steps))?;
        // The file that a program's name leads to is what the inventory allows.
        let programs = std::fs::canonicalize("/bin/true").map_err(|error| trouble("finding /bin/true", error))?;
        write(&folder.join("lifeboat.yaml"), &format!("lifeboat: v1\npolicies: {{ programs: [{}] }}\n", programs.display()))?;
        write(&folder.join("one.yaml"), &chain(1))?;
        let raw = raw::measure(&folder, place.depth.pick(200, 20))?;
        let mut spawns = Vec::new();
        for _ in 0..steps {
            spawns.push(timed(&mut Command::new("/bin/true"))?);
        }
        // What the process itself costs is not the steps': a run of one step is taken off.
        let one = timed(lifeboat(program, &folder).args(["run", "one.yaml"]))?;
        std::fs::remove_dir_all(folder.join("data")).map_err(|error| trouble("clearing", error))?;
        let wall = timed(lifeboat(program, &folder).args(["run", "commands.yaml"]))?.saturating_sub(one);
        let limit = (median(&mut spawns) + raw.p50) * u32::try_from(steps).unwrap_or(u32::MAX);
        ratios.push(wall.as_secs_f64() / limit.as_secs_f64());
        walls.push(wall);
        limits.push(limit);
    }
    let ratio = median(&mut ratios);
    Ok(vec![
        Row::new(&format!("{steps} x /bin/true as command steps"), millis(median(&mut walls)))
            .raw(millis(median(&mut limits)))
            .ratio(ratio)
            .goal("at most 1.25", met_if(Holds::AtMost(ratio, 1.25))),
    ])
}

/// The whole process of a run of one step that does nothing, on a new folder.
pub(crate) fn one_step(place: &Place) -> Result<Vec<Row>> {
    let Some(program) = &place.lifeboat else { return Ok(missing("`lifeboat run` of one step")) };
    let text = "lifeboat: v1\nname: one\nsteps:\n  - id: one\n    type: wait\n    with: { for: 1ms }\n";
    let (mut fresh, mut again, mut help) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..place.depth.rounds() * 2 {
        let folder = scene(place, "process", "one.yaml", text)?;
        fresh.push(timed(lifeboat(program, &folder).args(["run", "one.yaml"]))?);
        again.push(timed(lifeboat(program, &folder).args(["run", "one.yaml"]))?);
        help.push(timed(lifeboat(program, &folder).arg("--help"))?);
    }
    let (fresh, again) = (median(&mut fresh), median(&mut again));
    let within = |length: Duration| met_if(Holds::AtMost(length.as_secs_f64(), 0.06));
    Ok(vec![
        Row::new("`lifeboat run` of one step, new folder", millis(fresh))
            .raw(millis(median(&mut help)))
            .goal("at most 60 ms", within(fresh)),
        Row::new("`lifeboat run` of one step, folder there", millis(again)).goal("at most 60 ms", within(again)),
    ])
}

/// Checking a large file beside reading it as bare YAML events.
pub(crate) fn check(place: &Place) -> Result<Vec<Row>> {
    let Some(program) = &place.lifeboat else { return Ok(missing("`lifeboat check`")) };
    let steps = place.depth.pick(10_000, 100);
    let mut text = String::from("lifeboat: v1\nname: long\nsteps:\n");
    for step in 0..steps {
        let needs = if step == 0 { String::new() } else { format!("    needs: [s{}]\n", step - 1) };
        text.push_str(&format!("  - id: s{step}\n    type: wait\n{needs}    with: {{ for: 1ms }}\n"));
    }
    let folder = scene(place, "check", "long.yaml", &text)?;
    let (mut checks, mut parses, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..place.depth.rounds() {
        checks.push(timed(lifeboat(program, &folder).args(["check", "long.yaml"]))?);
        starts.push(timed(lifeboat(program, &folder).arg("--help"))?);
        let began = now();
        let events = granit_parser::Parser::new_from_str(&text).try_fold(0u64, |count, event| event.map(|_| count + 1));
        parses.push(now().since(began));
        events.map_err(|error| trouble("parsing", error))?;
    }
    let (check, parse) = (median(&mut checks).saturating_sub(median(&mut starts)), median(&mut parses));
    let ratio = check.as_secs_f64() / parse.as_secs_f64();
    Ok(vec![
        Row::new(&format!("`lifeboat check` of {steps} steps, without its start"), millis(check))
            .raw(millis(parse))
            .ratio(ratio)
            .goal("at most 4", met_if(Holds::AtMost(ratio, 4.0))),
    ])
}
