//! Running a server's own programs (`pg_ctl`, `pg_controldata`, `pg_waldump`) as the owner of its files. Those of operators are
//! run by `clients::process`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lifeboat_engine::clock::Clock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::files;
use super::session::within;
use crate::resources::database::Local;

/// Most that is kept of what a program prints, in bytes.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// How long the pipes of a program that has ended are read on.
const AFTERWORDS: Duration = Duration::from_millis(300);

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The beginning of its output.
    pub stdout: String,
    /// The beginning of its complaints.
    pub stderr: String,
}

impl Ran {
    /// Exit code 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// What it came to, in words.
    #[must_use]
    pub fn told(&self) -> String {
        let code = self.code.map_or_else(|| "it was ended by a signal".to_owned(), |code| format!("exit code {code}"));
        let words = if self.stderr.trim().is_empty() { self.stdout.trim() } else { self.stderr.trim() };
        let words: String = words.chars().take(300).collect();
        if words.is_empty() { code } else { format!("{code}: {words}") }
    }
}

/// Runs one of the server's programs on its data directory, as the directory's owner.
///
/// # Errors
/// That it cannot be started, or did not end in time (it is killed then).
pub async fn of_server(clock: &dyn Clock, local: &Local, name: &str, arguments: &[&str], length: Duration) -> Result<Ran, String> {
    let program = files::program(local, name);
    let (user, group) = files::owner(local)?;
    let mut command = Command::new(&program);
    command.arg("-D").arg(&local.data_dir).args(arguments);
    as_owner(&mut command, user, group);
    run(clock, command, &program, length).await
}

/// Runs a server's program that does not take `-D`.
///
/// # Errors
/// As [`of_server`].
pub async fn beside_server(clock: &dyn Clock, local: &Local, name: &str, arguments: &[&str], length: Duration) -> Result<Ran, String> {
    let program = files::program(local, name);
    let (user, group) = files::owner(local)?;
    let mut command = Command::new(&program);
    command.args(arguments);
    as_owner(&mut command, user, group);
    run(clock, command, &program, length).await
}

/// PostgreSQL's programs refuse to run as root. Any other user that is not the owner fails at the files, and says so.
fn as_owner(command: &mut Command, user: u32, group: u32) {
    if rustix::process::geteuid().is_root() && user != 0 {
        command.uid(user).gid(group);
    }
}

async fn run(clock: &dyn Clock, mut command: Command, program: &Path, length: Duration) -> Result<Ran, String> {
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    let group = child.id();
    match within(clock, length, finish(clock, &mut child)).await {
        Some(ran) => ran.map_err(|error| format!("{} cannot be followed: {error}", program.display())),
        None => {
            // Whatever it started dies with it.
            let pid = group.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _gone_already = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            let _gone_already = child.wait().await;
            Err(format!("{} did not end within {} s", program.display(), length.as_secs_f32()))
        }
    }
}

async fn finish(clock: &dyn Clock, child: &mut Child) -> std::io::Result<Ran> {
    let mut out = tokio::spawn(beginning(child.stdout.take()));
    let mut err = tokio::spawn(beginning(child.stderr.take()));
    let status = child.wait().await?;
    // A daemon that it left behind may keep the pipes open; what it says is not waited for.
    let stdout = within(clock, AFTERWORDS, &mut out).await.and_then(Result::ok).unwrap_or_default();
    let stderr = within(clock, AFTERWORDS, &mut err).await.and_then(Result::ok).unwrap_or_default();
    out.abort();
    err.abort();
    Ok(Ran { code: status.code(), stdout, stderr })
}

async fn beginning(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _cut_short = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
