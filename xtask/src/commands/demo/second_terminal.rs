//! The second terminal: another system user, who is a person of the inventory, answers the run's question. Decides nothing else.
//!
//! Whoever started a run cannot approve it, and root is nobody in particular. So the demo, as root, lets the user `postgres` speak for Ada.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use xtask::lab::{self, Lab, service_user};
use xtask::{Result, Trouble, look_until};

use super::json::Json;

/// The system user of the person who answers, as the example's inventory has it.
const USER: &str = "postgres";
/// How long the run may take to ask.
const ASKS_WITHIN: Duration = Duration::from_secs(60);
/// The step that asks.
const STEP: &str = "accept";

/// Whether another system user can be had.
pub(super) fn possible() -> Result<()> {
    if lab::is_root() {
        return Ok(());
    }
    Err(Trouble::new(
        "--lossy needs root: the run asks for an approval, and whoever started it cannot give it. \
         As root the demo lets another system user answer; try `sudo -E env PATH=\"$PATH\" cargo xtask demo --lossy`",
    ))
}

/// The example's inventory with one line more: members of the other user's group may speak to the owner of the data folder.
pub(super) fn inventory(lab: &Lab, example: &Path, demo: &Path) -> Result<PathBuf> {
    let text = std::fs::read_to_string(example).map_err(|error| Trouble::new(format!("cannot read {}: {error}", example.display())))?;
    let text = text.replace("../../target/demo", &demo.display().to_string());
    let schema = format!("$schema={}", lab::root().join("docs").display());
    let text = text.replace("$schema=../../docs", &schema);
    let file = lab.folder().join("lifeboat.yaml");
    std::fs::write(&file, format!("{text}\npolicies:\n  control_group: {USER}\n"))
        .map_err(|error| Trouble::new(format!("cannot write {}: {error}", file.display())))?;
    Ok(file)
}

/// Where runs are kept: beside the report where others can reach it, else in the lab's own folder.
pub(super) fn data_folder(lab: &Lab, demo: &Path) -> PathBuf {
    if lab::others_may_reach(demo) { demo.join("lifeboat") } else { lab.folder().join("lifeboat") }
}

/// Somebody at another terminal.
#[derive(Debug)]
pub(super) struct Answerer {
    thread: JoinHandle<Result<()>>,
    run_ended: Arc<AtomicBool>,
}

impl Answerer {
    /// Says whether the answer was given.
    pub(super) fn finish(self) -> Result<()> {
        self.run_ended.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| Trouble::new("the second terminal broke"))?
    }
}

/// Opens the second terminal, which waits for the question and says yes.
pub(super) fn open(lab: &Lab, lifeboat: &Path, config: &Path, data: &Path) -> Result<Answerer> {
    let lifeboat = reachable_copy(lab, lifeboat)?;
    let (config, data) = (config.to_owned(), data.to_owned());
    let (uid, gid) = service_user()?;
    let run_ended = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&run_ended);
    let command = move || {
        let mut command = Command::new(&lifeboat);
        command.uid(uid).gid(gid).current_dir("/").arg("--config").arg(&config).arg("--data").arg(&data);
        command
    };
    let thread = thread::spawn(move || {
        let waiting = look_until(ASKS_WITHIN, || {
            if ended.load(Ordering::SeqCst) {
                return Some(None);
            }
            thread::sleep(Duration::from_millis(200));
            asking(command()).map(Some)
        });
        let Some(run) = waiting.flatten() else { return Err(Trouble::new("the run never asked for an approval")) };
        let comment = "four seconds of orders are gone; support knows; go on";
        eprintln!("\n[second terminal, user {USER}] lifeboat approve {run} {STEP} --comment '{comment}'");
        let output = command().args(["approve", &run, STEP, "--comment", comment]).output();
        let output = output.map_err(|error| Trouble::new(format!("cannot start lifeboat approve: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Trouble::new(format!("the approval was refused: {}", String::from_utf8_lossy(&output.stderr).trim())))
    });
    Ok(Answerer { thread, run_ended })
}

/// The run whose step asks now.
fn asking(mut command: Command) -> Option<String> {
    command.args(["status", "--format", "json"]);
    let output = command.output().ok()?;
    let status = Json::parse(&String::from_utf8_lossy(&output.stdout))?;
    let waits = (0..)
        .map_while(|n| status.at(&format!("steps.{n}")))
        .any(|step| step.text("id") == Some(STEP) && step.text("state").is_some_and(|state| state.contains("approval")));
    if waits { status.text("summary.run").map(str::to_owned) } else { None }
}

/// The binary where the other user can start it.
fn reachable_copy(lab: &Lab, lifeboat: &Path) -> Result<PathBuf> {
    if lab::others_may_reach(lifeboat) {
        return Ok(lifeboat.to_owned());
    }
    let copy = lab.folder().join("lifeboat-binary");
    std::fs::copy(lifeboat, &copy).map_err(|error| Trouble::new(format!("cannot copy {}: {error}", lifeboat.display())))?;
    Ok(copy)
}
