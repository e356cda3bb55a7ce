//! How much memory a process holds: idle, and for each run that it drives.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Place;
use crate::child::{BEGIN, WORD};
use crate::table::{Holds, Row, met_if};
use crate::trouble::{Result, Trouble, trouble};

pub(crate) fn all(place: &Place) -> Result<Vec<Row>> {
    let (first, then, all) = place.depth.pick((1000, 2000, 5000), (50, 100, 100));
    let few = resident(place, "flying", 1)?;
    let large = resident(place, "waiting", all)?;
    let mut rows = vec![
        Row::new("memory, engine with one run", megabytes(few)),
        each(place, ("flying", "in flight"), (first, then), 8)?,
        each(place, ("waiting", "that wait for people"), (first, then), 2)?,
        Row::new(&format!("memory, engine with {all} runs that wait, the store's index included"), megabytes(large)),
    ];
    if let Some(lifeboat) = &place.lifeboat {
        let idle = of_the_binary(place, lifeboat)?;
        rows.push(
            Row::new("memory, idle `lifeboat run`, small store", format!("{:.1} MB", idle as f64 / 1e6))
                .goal("at most 20 MB", met_if(Holds::AtMost(idle as f64, 20e6))),
        );
    }
    Ok(rows)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// What each further run takes. The store's own index, which it makes after its first megabytes, is no run's.
fn each(place: &Place, (what, words): (&str, &str), (first, then): (usize, usize), goal_kib: u32) -> Result<Row> {
    let (few, many) = (resident(place, what, first)?, resident(place, what, then)?);
    let each = many.saturating_sub(few) as f64 / (then - first) as f64 / 1024.0;
    Ok(Row::new(&format!("memory for each of {} runs {words}", then - first), format!("{each:.1} KiB"))
        .goal(format!("at most {goal_kib} KiB"), met_if(Holds::AtMost(each, f64::from(goal_kib)))))
}

fn resident(place: &Place, what: &str, count: usize) -> Result<u64> {
    let folder = place.fresh("memory")?;
    let program = std::env::current_exe().map_err(|error| trouble("finding the bench", error))?;
    let mut command = Command::new(program);
    command.arg(WORD).arg(what).arg(count.to_string()).arg(folder.join("data"));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| trouble("starting a process", error))?;
    let heard = hear(&mut child);
    let bytes = rss(child.id());
    end(&mut child);
    heard.and(bytes)
}

fn hear(child: &mut Child) -> Result<()> {
    let out = child.stdout.take().ok_or_else(|| Trouble("the process has no output".into()))?;
    let begun = BufReader::new(out).lines().any(|line| line.is_ok_and(|line| line == BEGIN));
    if begun { Ok(()) } else { Err(Trouble("the process ended before it was measured".into())) }
}

fn of_the_binary(place: &Place, lifeboat: &Path) -> Result<u64> {
    let folder = place.fresh("memory")?;
    crate::binary::write(&folder.join("lifeboat.yaml"), "lifeboat: v1\n")?;
    crate::binary::write(
        &folder.join("wait.yaml"),
        "lifeboat: v1\nname: idle\nsteps:\n  - id: wait\n    type: wait\n    with: { for: 5m }\n    timeout: 10m\n",
    )?;
    let mut command = Command::new(lifeboat);
    command.current_dir(&folder).args(["--data", "data", "run", "wait.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| trouble("starting lifeboat", error))?;
    let told = child.stderr.take().ok_or_else(|| Trouble("lifeboat has no error output".into()))?;
    let runs = BufReader::new(told).lines().any(|line| line.is_ok_and(|line| line.contains("wait running")));
    let bytes = rss(child.id());
    end(&mut child);
    if runs { bytes } else { Err(Trouble("lifeboat ended before it was measured".into())) }
}

fn rss(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|error| trouble("reading the memory", error))?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| Trouble("the process has no resident memory".into()))
}

fn end(child: &mut Child) {
    // It has told what it was started for.
    let _ = child.kill();
    let _ = child.wait();
}
