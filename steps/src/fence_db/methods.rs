//! The ways to keep a server from taking writes, carried out. Whether it worked is judged in `proof`.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use lifeboat_engine::StepContext;
use rustix::process::{Pid, Signal, kill_process};

use super::operator;
use super::proof::Accepted;
use crate::clients::postgres::files::{self, Processes};
use crate::clients::postgres::{Session, program};
use crate::resources::database::{Database, FenceMethod, Local, Node, PgCtlStop, RejectLogins, StopMode};

/// How often a change that was asked for is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// First line of our block in `pg_hba.conf`.
pub(crate) const BLOCK: &str = "# lifeboat fence: remove this line and the four below, and standby.signal, to open this server again";
/// The block: every way in, the replication protocol named apart because `all` does not include it.
const REJECT: [&str; 4] =
    ["local all all reject", "local replication all reject", "host all all all reject", "host replication all all reject"];

/// Carries out one method. `Err` tells why it did not work; it may still have had an effect, which the proof will show.
pub(crate) async fn carry_out(cx: &StepContext, database: &Database, node: &Node, method: &FenceMethod) -> Result<Accepted, String> {
    match (method, &node.local) {
        (FenceMethod::PgCtl(how), Some(local)) => stop(cx, local, how).await,
        (FenceMethod::Reject(how), Some(local)) => reject(cx, database, node, local, how).await,
        (FenceMethod::PgCtl(_) | FenceMethod::Reject(_), None) => Err("the inventory does not give the server's files".into()),
        (FenceMethod::Command(command), _) => operator::run(cx, command).await.map(|()| Accepted::ByCommand),
    }
}

/// Leaves the file that makes the server come back as a standby, whoever starts it. A running server does not look at it.
pub(crate) fn leave_standby_signal(local: &Local) -> Result<(), String> {
    let path = local.data_dir.join("standby.signal");
    let trouble = |error: std::io::Error| format!("{} cannot be left: {error}", path.display());
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => {
            give_to_owner(local, &path)?;
            file.sync_all().map_err(trouble)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(trouble(error)),
    }
}

fn give_to_owner(local: &Local, path: &Path) -> Result<(), String> {
    let (user, group) = files::owner(local)?;
    chown(path, Some(user), Some(group)).map_err(|error| format!("{} cannot be given to its owner: {error}", path.display()))
}

async fn stop(cx: &StepContext, local: &Local, how: &PgCtlStop) -> Result<Accepted, String> {
    leave_standby_signal(local)?;
    let modes: &[&str] = match how.mode {
        StopMode::Fast => &["fast", "immediate"],
        StopMode::Immediate => &["immediate"],
    };
    let mut said = String::new();
    for mode in modes {
        if files::processes(local) == Processes::None {
            return Ok(Accepted::Unknown);
        }
        cx.progress(&format!("pg_ctl stop -m {mode}"));
        let seconds = how.timeout.0.as_secs().max(1).to_string();
        let length = how.timeout.0 + Duration::from_secs(2);
        said = match program::of_server(&*cx.clock, local, "pg_ctl", &["stop", "-m", mode, "-w", "-t", &seconds], length).await {
            Ok(ran) => ran.told(),
            Err(why) => why,
        };
        if gone(cx, local).await {
            return Ok(Accepted::Unknown);
        }
    }
    Err(format!("the server is still there after pg_ctl stop: {said}"))
}

/// Whether every process is gone. The postmaster ends last, but its children may take an instant to be reaped.
async fn gone(cx: &StepContext, local: &Local) -> bool {
    for _ in 0..20 {
        match files::processes(local) {
            Processes::None => return true,
            Processes::Some(pids) if files::postmaster_pid(local).is_some_and(|pid| pids.contains(&pid)) => return false,
            Processes::Some(_) | Processes::Unknown(_) => cx.sleep(LOOK_AGAIN).await,
        }
    }
    false
}

async fn reject(cx: &StepContext, database: &Database, node: &Node, local: &Local, how: &RejectLogins) -> Result<Accepted, String> {
    leave_standby_signal(local)?;
    close_pg_hba(local)?;
    let deadline = cx.clock.instant().after(how.timeout.0);
    loop {
        let pids = match files::processes(local) {
            // Not running is even better; the proof will say so.
            Processes::None => return Ok(Accepted::Unknown),
            Processes::Some(pids) => pids,
            Processes::Unknown(why) => return Err(why),
        };
        // The postmaster rereads pg_hba.conf for new logins on SIGHUP.
        if let Some(postmaster) = pids.first() {
            send(*postmaster, Signal::HUP);
        }
        let closed = Session::reading(cx, database, node).await.is_err_and(|error| error.is_reject());
        let sessions = files::lasting_sessions(&*cx.clock, local).await?;
        if closed && sessions.is_empty() {
            return Ok(Accepted::Unknown);
        }
        cx.progress(&format!("{} sessions to end", sessions.len()));
        if closed {
            // What pg_terminate_backend sends, but to superusers' sessions too. New ones cannot come any more.
            sessions.iter().for_each(|pid| send(*pid, Signal::TERM));
        }
        if cx.clock.instant() >= deadline {
            return Err(if closed { format!("{} sessions did not end", sessions.len()) } else { "logins are still accepted".into() });
        }
        cx.sleep(LOOK_AGAIN).await;
    }
}

/// Has a running server read `pg_hba.conf` again.
pub(crate) fn reload(local: &Local) {
    if let Some(postmaster) = files::postmaster_pid(local) {
        send(postmaster, Signal::HUP);
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A process that is gone, or not ours to signal, shows in the next look.
        let _seen_next_time = kill_process(pid, signal);
    }
}

/// Puts our block on top of `pg_hba.conf`, once. The first line that fits a login decides.
fn close_pg_hba(local: &Local) -> Result<(), String> {
    let path = local.data_dir.join("pg_hba.conf");
    let trouble = |error: std::io::Error| format!("{} cannot be changed: {error}", path.display());
    let old = fs::read_to_string(&path).map_err(trouble)?;
    if old.starts_with(BLOCK) {
        return Ok(());
    }
    replace_pg_hba(local, &format!("{BLOCK}\n{}\n{old}", REJECT.join("\n")))
}

/// Takes our block off `pg_hba.conf`, if it is there. Anything else in the file stays as it is.
pub(crate) fn open_pg_hba(local: &Local) -> Result<(), String> {
    let path = local.data_dir.join("pg_hba.conf");
    let old = fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let block = format!("{BLOCK}\n{}\n", REJECT.join("\n"));
    match old.strip_prefix(&block) {
        Some(rest) => replace_pg_hba(local, rest),
        None if old.contains(BLOCK) => Err(format!("{} was changed inside or above the block that refuses logins", path.display())),
        None => Ok(()),
    }
}

fn replace_pg_hba(local: &Local, text: &str) -> Result<(), String> {
    let path = local.data_dir.join("pg_hba.conf");
    let trouble = |error: std::io::Error| format!("{} cannot be changed: {error}", path.display());
    let beside = local.data_dir.join("pg_hba.conf.lifeboat");
    fs::write(&beside, text).map_err(trouble)?;
    let mode = fs::metadata(&path).map_err(trouble)?.permissions();
    fs::set_permissions(&beside, mode).map_err(trouble)?;
    give_to_owner(local, &beside)?;
    fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(trouble)?;
    fs::rename(&beside, &path).map_err(trouble)
}
