//! Starting, signalling and outliving the lab's servers: who they run as, their recorded pids, the guardian. No server is known here.
//!
//! The standard library can neither send a signal nor catch one, and this workspace forbids `unsafe`, so signals
//! go through the shell's own `kill`, and cleaning up after Ctrl-C or SIGKILL is the work of a guardian: a
//! small shell process in a group of its own that reads from a pipe whose other end only we hold. When we are gone,
//! however it happened, it reads the end of the pipe, kills what the lab recorded and removes the lab's folder.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::patience::look_until;
use crate::trouble::{Doing, Result, Trouble};

/// How long a killed process may take to vanish. Generous: the machine may be busy; it is a bound, not a wait.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// How long a server that was told to drop everything may take before it is killed; a frozen one never ends by itself.
const ENDS_BY_ITSELF_WITHIN: Duration = Duration::from_millis(500);

/// The account that the lab's servers run as. PostgreSQL refuses to run as root, and nothing else should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {
    /// We are an ordinary user and the servers run as us.
    Ourselves,
    /// We are root and the servers run as this user and group.
    Service {
        /// Numeric user.
        uid: u32,
        /// Numeric group.
        gid: u32,
    },
}

impl Account {
    /// Finds the account: `postgres` when we are root, ourselves otherwise.
    pub(crate) fn find() -> Result<Self> {
        if !is_root() {
            return Ok(Self::Ourselves);
        }
        let (uid, gid) = service_user()?;
        Ok(Self::Service { uid, gid })
    }

    /// A command that will run as this account, in a process group of its own, with a plain environment.
    pub(crate) fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Self::Service { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command.process_group(0).env("LC_ALL", "C.UTF-8").env_remove("PGPASSFILE").current_dir("/");
        command
    }

    /// Gives a file or folder to this account.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Service { uid, gid } => {
                std::os::unix::fs::chown(path, Some(uid), Some(gid)).doing(|| format!("give {} to the servers' user", path.display()))
            }
        }
    }

    /// A shell prefix that becomes this account, for scripts that a person or a runbook calls.
    pub(crate) fn shell_prefix(self) -> String {
        match self {
            Self::Ourselves => "exec".to_owned(),
            Self::Service { uid, gid } => format!("exec setpriv --reuid={uid} --regid={gid} --clear-groups env LC_ALL=C.UTF-8"),
        }
    }
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// User and group of `postgres`, as whom the servers run when we are root.
///
/// # Errors
/// When the system has no such user.
pub fn service_user() -> Result<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").doing(|| "read /etc/passwd".to_owned())?;
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_it = fields.first() == Some(&"postgres");
        if is_it { Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)) } else { None }
    });
    found.ok_or_else(|| Trouble::new("there is no user `postgres` to run servers as; run `cargo xtask install`"))
}

/// One process, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id.
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub(crate) started_ticks: u64,
}

impl Identity {
    /// Reads who has this pid now; `None` when nobody has.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let fields = stat_after_name(pid)?;
        Some(Self { pid, started_ticks: fields.get(19)?.parse().ok()? })
    }

    /// Whether this very process still runs (a zombie does not).
    pub(crate) fn runs(self) -> bool {
        Self::of(self.pid) == Some(self) && stat_after_name(self.pid).is_some_and(|fields| fields[0] != "Z")
    }

    /// The line a pid file holds.
    fn line(self) -> String {
        format!("{} {}\n", self.pid, self.started_ticks)
    }

    /// Reads the line of a pid file.
    fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started_ticks: started.parse().ok()? })
    }
}

/// Our own identity, for the `owner` file of a lab.
pub(crate) fn ourselves() -> Result<Identity> {
    Identity::of(std::process::id()).ok_or_else(|| Trouble::new("cannot read our own /proc entry"))
}

/// The fields of `/proc/PID/stat` after the name, so `[0]` is the state and `[1]` the parent.
fn stat_after_name(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The processes whose parent is `pid`.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|candidate| stat_after_name(*candidate).is_some_and(|fields| fields.get(1).and_then(|p| p.parse().ok()) == Some(pid)))
        .collect()
}

/// What can be sent to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGSTOP: frozen, and nothing it can do about it.
    Stop,
    /// SIGCONT: goes on.
    Continue,
    /// SIGKILL.
    Kill,
    /// SIGINT: PostgreSQL's fast shutdown.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGQUIT: PostgreSQL's immediate shutdown.
    Quit,
    /// SIGHUP: PostgreSQL's reload.
    HangUp,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Continue => "CONT",
            Self::Kill => "KILL",
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::HangUp => "HUP",
        }
    }
}

/// Sends one signal to some processes. Those already gone are no error.
pub(crate) fn signal(signal: Signal, pids: &[u32]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    Command::new("/bin/sh")
        .args(["-c", "kill -s \"$0\" \"$@\"", signal.name()])
        .args(&pids)
        .stderr(Stdio::null())
        .status()
        .doing(|| format!("send SIG{} to {}", signal.name(), pids.join(" ")))?;
    Ok(())
}

/// Freezes a process, kills its children and then itself, so that no child outlives it by a moment.
pub(crate) fn kill_with_children(pid: u32) -> Result<()> {
    signal(Signal::Stop, &[pid])?;
    signal(Signal::Kill, &children_of(pid))?;
    signal(Signal::Kill, &[pid])
}

/// A server that the lab started.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    identity: Identity,
    pid_file: PathBuf,
}

impl Server {
    /// Starts `command` and records its pid in the lab's `pids` folder under `name`.
    ///
    /// Everything it prints goes to the file `log`: an inherited output would keep a test's pipes open.
    pub(crate) fn start(mut command: Command, pids: &Path, name: &str, log: &Path) -> Result<Self> {
        let program = command.get_program().to_owned();
        let output = || fs::OpenOptions::new().create(true).append(true).open(log).doing(|| format!("open {}", log.display()));
        let child =
            command.stdin(Stdio::null()).stdout(output()?).stderr(output()?).spawn().doing(|| format!("start {}", program.display()))?;
        let identity = Identity::of(child.id()).ok_or_else(|| Trouble::new(format!("{} ended at once", program.display())))?;
        let pid_file = pids.join(name);
        fs::write(&pid_file, identity.line()).doing(|| format!("write {}", pid_file.display()))?;
        Ok(Self { child, identity, pid_file })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Whether it still runs; a finished one is collected.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to it alone.
    pub(crate) fn signal(&self, which: Signal) -> Result<()> {
        signal(which, &[self.identity.pid])
    }

    /// Waits until it has ended, at most a bounded time.
    pub(crate) fn wait(mut self) -> Result<()> {
        if look_until(GONE_WITHIN, || (!self.runs()).then_some(())).is_none() {
            return Err(Trouble::new(format!("process {} did not end within {GONE_WITHIN:?}", self.pid())));
        }
        // The pid file may be gone already when the guardian was faster.
        let _gone = fs::remove_file(&self.pid_file);
        Ok(())
    }

    /// Gives it a moment to end by itself after a signal that was just sent, then kills it with its children.
    pub(crate) fn end(mut self) -> Result<()> {
        // Whether it ended or not, what follows makes sure.
        let _ended = look_until(ENDS_BY_ITSELF_WITHIN, || (!self.runs()).then_some(()));
        self.kill_group()
    }

    /// Freezes it, kills its children and itself, and waits.
    pub(crate) fn kill_group(mut self) -> Result<()> {
        // A collected process has no pid any more, and the number may already be somebody else's.
        if self.runs() {
            kill_with_children(self.identity.pid)?;
        }
        self.wait()
    }
}

/// Kills everything recorded under `pids` that still is the recorded process. Used on what dead labs left.
pub(crate) fn kill_recorded(pids: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(pids) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let recorded = fs::read_to_string(entry.path()).ok().as_deref().and_then(Identity::parse);
        if let Some(identity) = recorded.filter(|identity| identity.runs()) {
            kill_with_children(identity.pid)?;
            // One that cannot be killed is reported by the removal of its folder.
            let _gone = look_until(GONE_WITHIN, || (!identity.runs()).then_some(()));
        }
    }
    Ok(())
}

/// The last lines of a log, for the message about a server that did not start.
pub(crate) fn end_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// Records a process under `pids`, to be killed with the lab.
pub(crate) fn record(pids: &Path, name: &str, pid: u32) -> Result<()> {
    let identity = Identity::of(pid).ok_or_else(|| Trouble::new(format!("process {pid} is gone already")))?;
    fs::write(pids.join(name), identity.line()).doing(|| format!("write {}", pids.join(name).display()))
}

/// Whether the owner recorded in a lab's folder is still alive.
pub(crate) fn owner_lives(owner_file: &Path) -> bool {
    fs::read_to_string(owner_file).ok().as_deref().and_then(Identity::parse).is_some_and(Identity::runs)
}

/// Writes the `owner` file of a lab.
pub(crate) fn record_owner(owner_file: &Path) -> Result<()> {
    fs::write(owner_file, ourselves()?.line()).doing(|| format!("write {}", owner_file.display()))
}

/// Kills the lab when we are gone: see the top of this file.
#[derive(Debug)]
pub(crate) struct Guardian {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guardian {
    /// Starts the guardian of the lab in `folder`. `farewell` is printed on stderr when it has to act; empty for silence.
    pub(crate) fn start(folder: &Path, farewell: &str) -> Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", GUARDIAN, "lab-guardian"])
            .arg(folder)
            .arg(farewell)
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(if farewell.is_empty() { Stdio::null() } else { Stdio::inherit() })
            .spawn()
            .doing(|| "start the lab's guardian".to_owned())?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Sends the guardian home: the lab is cleaned up by ourselves or is meant to stay.
    pub(crate) fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // A guardian that was killed has nothing left to be told.
            let _sent = std::io::Write::write_all(&mut pipe, b"home\n");
        }
        let _reaped = self.child.wait();
    }
}

/// Reads one line: a word means that all is well, the end of the pipe means that the owner is gone.
const GUARDIAN: &str = r#"
if read -r word; then exit 0; fi
trap '' INT HUP TERM
folder=$1 farewell=$2
look() { read -r line < "/proc/$1/stat" || return 1; set -- ${line##*) }; parent=$2; began=${20}; }
for file in "$folder"/pids/*; do
  read -r pid started < "$file" || continue
  look "$pid" && [ "$began" = "$started" ] || continue
  kill -STOP "$pid"
  for entry in /proc/[0-9]*; do
    look "${entry#/proc/}" && [ "$parent" = "$pid" ] && kill -KILL "${entry#/proc/}"
  done
  kill -KILL "$pid"
done 2>/dev/null
for file in "$folder"/postgres/*/postmaster.pid; do
  ipcrm -m "$(sed -n '7s/.* //p' "$file")"
done 2>/dev/null
if [ -f "$folder/network-down" ]; then sh "$folder/network-down" 2>/dev/null; fi
rm -rf "$folder" 2>/dev/null || { sleep 0.5; rm -rf "$folder"; }
if [ -n "$farewell" ]; then echo "$farewell" >&2; fi
"#;
