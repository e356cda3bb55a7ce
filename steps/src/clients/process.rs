//! Starting programs of the operator: which may be started, without a shell, in a clean environment, and so that nothing of
//! them is left when time is up or the engine dies. What an exit code means is decided by the steps.

use std::collections::BTreeMap;
use std::io::{ErrorKind, PipeReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifeboat_engine::secret::Secret;
use lifeboat_engine::{Inventory, ReadContext, StepContext};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::launchers::{self, Heard, Launcher, Told};
use crate::mutants::{self, Mutant};

/// Most bytes of stdout, and of stderr, that are kept: the last ones, because programs say what went wrong at the end.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Kills a program when the thread that started it dies, with the engine or before: the plain way, where no launcher can be had. Part of
/// util-linux on every Linux.
const WRAPPER: &str = "/usr/bin/setpriv";

/// Marks every process of one step, whatever it becomes: environment is inherited, pids and groups can be left.
const MARK: &str = "LIFEBOAT_KEY";

/// How long output may still come after the program has ended: a daemon it left behind may hold the pipe for ever.
const DRAIN: Duration = Duration::from_millis(500);

/// A program that the inventory allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Checks that the inventory's `policies.programs` allow it, and that nobody else could have put another in its place.
    ///
    /// # Errors
    /// Why it may not be started.
    pub fn allowed(inventory: &Inventory, program: &Path) -> Result<Self, String> {
        let shown = program.display();
        if !program.is_absolute() {
            return Err(format!("{shown} is no absolute path; programs are named in full, because nothing is searched for"));
        }
        let resolved = program.canonicalize().map_err(|error| format!("the program {shown} cannot be found: {error}"))?;
        if !inventory.policies.programs.contains(&resolved) {
            let link = if resolved == program { String::new() } else { format!(" (it leads to {})", resolved.display()) };
            return Err(format!("the inventory does not allow the program {shown}{link}: add {} to policies.programs", resolved.display()));
        }
        let found = std::fs::metadata(&resolved).map_err(|error| format!("the program {shown} cannot be looked at: {error}"))?;
        if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
            return Err(format!("{shown} is not a file that can be started"));
        }
        for place in resolved.ancestors() {
            let found = std::fs::metadata(place).map_err(|error| format!("{} cannot be looked at: {error}", place.display()))?;
            let (mode, sticky) = (found.permissions().mode(), found.permissions().mode() & 0o1000 != 0);
            if mode & 0o022 != 0 && !(found.is_dir() && sticky) {
                return Err(format!(
                    "others may write to {} (mode {:o}), so {shown} could be exchanged: take that right away",
                    place.display(),
                    mode & 0o7777
                ));
            }
            if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
                return Err(format!(
                    "{} belongs to user {}, who could exchange {shown}: it must belong to root or to Lifeboat's own user",
                    place.display(),
                    found.uid()
                ));
            }
        }
        Ok(Self { path: resolved })
    }

    /// Its full path, free of links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program.
    pub program: &'a Program,
    /// Its arguments, passed on byte by byte.
    pub args: &'a [String],
    /// Its environment, beside a plain `PATH` and locale.
    pub env: BTreeMap<String, String>,
    /// Parts of the environment that nobody may read in its output.
    pub secret_env: BTreeMap<String, Secret>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal, which was not ours.
    Signal(i32),
    /// It was stopped because time was up.
    TimeUp,
}

/// A program that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: End,
    /// What it said.
    pub stdout: Said,
    /// What it complained about.
    pub stderr: Said,
}

/// Output of a program: its last part as text, free of secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// At most [`OUTPUT_BYTES_MAX`] bytes.
    pub text: String,
    /// How much there was in all.
    pub bytes_total: u64,
}

/// A program that could not be started. Nothing happened.
#[derive(Debug, thiserror::Error)]
#[error("{program} could not be started: {why}")]
pub struct NotStarted {
    /// Which.
    pub program: String,
    /// Why.
    pub why: String,
}

/// Starts a program that acts, and waits for its end or the call's deadline.
///
/// # Errors
/// Where it could not be started.
pub async fn act(cx: &StepContext, launch: Launch<'_>) -> Result<Ran, NotStarted> {
    run(cx, launch, &cx.idempotency_key()).await
}

/// Starts a program that only looks. That it does is the operator's word: it is named apart from the one that acts.
///
/// # Errors
/// Where it could not be started.
pub async fn look(cx: &ReadContext, launch: Launch<'_>) -> Result<Ran, NotStarted> {
    run(cx, launch, &format!("{}-look", cx.idempotency_key())).await
}

/// A child in its own process group. Dropped while it runs (the call was cut off), the whole group goes.
struct Running {
    child: Started,
    group: Option<Pid>,
    stdout: Option<Listener>,
    stderr: Option<Listener>,
}

enum Started {
    /// By a launcher.
    Launched(Launcher),
    /// Through [`WRAPPER`], where there are no launchers.
    Wrapped(Child),
}

/// How a child ended, as it is heard of.
enum Ended {
    Exit(i32),
    Signal(i32),
    /// It never was that program. Nothing happened.
    NotStarted(String),
    /// Nobody can tell any more; it was killed.
    Lost,
}

impl Running {
    async fn wait(&mut self) -> Ended {
        match &mut self.child {
            Started::Launched(launcher) => loop {
                match launcher.hear().await {
                    Heard::Exited(code) => return Ended::Exit(code),
                    Heard::Signalled(signal) => return Ended::Signal(signal),
                    Heard::NotStarted(why) => return Ended::NotStarted(why),
                    Heard::Lost => return Ended::Lost,
                    Heard::Begins => {}
                }
            },
            Started::Wrapped(child) => match child.wait().await {
                Ok(status) => match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
                    (Some(code), _) => Ended::Exit(code),
                    (None, signal) => Ended::Signal(signal.unwrap_or(0)),
                },
                Err(_) => Ended::Lost,
            },
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The leader is not reaped yet, so the number cannot belong to another group. A group that is gone is as wished.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn run(cx: &ReadContext, launch: Launch<'_>, mark: &str) -> Result<Ran, NotStarted> {
    let not_started = |why: String| NotStarted { program: launch.program.path.display().to_string(), why };
    let folder = if cx.inventory.folder.as_os_str().is_empty() { Path::new("/") } else { &cx.inventory.folder };
    let run = cx.run.to_string();
    let given = launch.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut env: BTreeMap<&str, &str> = given.collect();
    env.extend([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C.UTF-8")]);
    env.extend(launch.secret_env.iter().map(|(name, secret)| (name.as_str(), secret.reveal())));
    env.extend([("LIFEBOAT_RUN", run.as_str()), ("LIFEBOAT_STEP", cx.step.as_str()), (MARK, mark)]);
    let told = Told { program: &launch.program.path, folder, args: launch.args, env: &env };

    // Told to end a little before the deadline, so that a program that can clean up does.
    let limit = cx.time_left().saturating_sub(MARGIN);
    let grace = (limit / 10).min(GRACE_MAX);
    let ends_at = tokio::time::Instant::now() + limit.saturating_sub(grace);
    let mut running = match tokio::time::timeout_at(ends_at, begin(told)).await {
        Ok(begun) => begun.map_err(not_started)?,
        Err(_) => return Err(not_started("no launcher took it before its time was up".into())),
    };
    let mut end = tokio::time::timeout_at(ends_at, running.wait()).await.ok();
    let mut time_up = false;
    if end.is_none() {
        time_up = true;
        running.signal(Signal::TERM);
        end = tokio::time::timeout(grace, running.wait()).await.ok();
        // A leader that heeds TERM may leave children behind; they carry the mark.
        running.signal(Signal::KILL);
    }
    let end = match end {
        Some(end) => end,
        None => running.wait().await,
    };
    running.group = None;
    if time_up || matches!(end, Ended::Lost) {
        sweep(cx, mark).await;
    }
    let end = match end {
        Ended::NotStarted(why) => return Err(not_started(why)),
        Ended::Exit(_) | Ended::Signal(_) | Ended::Lost if time_up => End::TimeUp,
        Ended::Exit(code) => End::Exit(code),
        Ended::Signal(signal) => End::Signal(signal),
        Ended::Lost => End::Signal(Signal::KILL.as_raw()),
    };
    let secrets: Vec<&str> = launch.secret_env.values().map(Secret::reveal).collect();
    let mut ran = Ran { end, stdout: Said::default(), stderr: Said::default() };
    if let Some(stdout) = running.stdout.take() {
        ran.stdout = stdout.said(&secrets).await;
    }
    if let Some(stderr) = running.stderr.take() {
        ran.stderr = stderr.said(&secrets).await;
    }
    Ok(ran)
}

/// Launchers that may die before they begin; then the plain way is taken.
const LAUNCHERS_MAX: u32 = 3;

/// Starts the program. An error means that nothing happened.
async fn begin(told: Told<'_>) -> Result<Running, String> {
    for _ in 0..LAUNCHERS_MAX {
        let Some(mut launcher) = Launcher::take().await else { break };
        let pipes = std::io::pipe().and_then(|stdout| Ok((stdout, std::io::pipe()?)));
        let ((stdout, stdout_end), (stderr, stderr_end)) = pipes.map_err(|error| error.to_string())?;
        let pid = launcher.pid();
        let open = |pipe: PipeReader| pipe::Receiver::from_owned_fd(pipe.into()).map_err(|error| error.to_string());
        let (stdout, stderr) = (open(stdout)?, open(stderr)?);
        // A letter that did not go out began nothing, and neither did a launcher that died over it.
        let posted = launcher.become_program(told, stdout_end.into(), stderr_end.into()).await;
        // The program is on its way while its output is not yet listened to, and while the next launcher is made.
        let mut running = Running { child: Started::Launched(launcher), group: Some(pid), stdout: None, stderr: None };
        (running.stdout, running.stderr) = (Some(Listener::new(stdout)), Some(Listener::new(stderr)));
        launchers::order();
        let Started::Launched(launcher) = &mut running.child else { break };
        match posted {
            Ok(()) => match launcher.hear().await {
                Heard::Begins => return Ok(running),
                Heard::NotStarted(why) => return Err(why),
                Heard::Exited(_) | Heard::Signalled(_) | Heard::Lost => {}
            },
            Err(error) if error.kind() == ErrorKind::Other => return Err(error.to_string()),
            Err(_) => {}
        }
        // The nursery may be gone, and with it the warrant that the number is still this launcher's.
        running.group = None;
    }
    wrapped(told)
}

fn wrapped(told: Told<'_>) -> Result<Running, String> {
    let mut command = Command::new(WRAPPER);
    command.args(["--pdeathsig", "KILL", "--"]).arg(told.program).args(told.args).env_clear().envs(told.env).current_dir(told.folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{error} (started through {WRAPPER})"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take().map(Listener::new), child.stderr.take().map(Listener::new));
    Ok(Running { child: Started::Wrapped(child), group, stdout, stderr })
}

/// Kept back from the deadline, to tell what happened before the caller is cut off.
const MARGIN: Duration = Duration::from_millis(300);

/// Longest time between TERM and KILL.
const GRACE_MAX: Duration = Duration::from_secs(2);

/// What was read from a pipe so far, shared so that it can be had although the pipe does not end.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    bytes_total: u64,
}

/// Reads a pipe to its end, keeping the last part.
struct Listener {
    tail: Arc<Mutex<Tail>>,
    task: JoinHandle<()>,
}

impl Listener {
    fn new(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let tail = Arc::new(Mutex::new(Tail::default()));
        let shared = Arc::clone(&tail);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
                let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                tail.bytes_total += length as u64;
                tail.kept.extend_from_slice(&buffer[..length]);
                let surplus = tail.kept.len().saturating_sub(OUTPUT_BYTES_MAX);
                // Not at every read: moving 64 KiB for each line of a chatty program would be quadratic.
                if surplus > OUTPUT_BYTES_MAX {
                    tail.kept.drain(..surplus);
                }
            }
        });
        Self { tail, task }
    }

    /// What was said, once the program has ended.
    async fn said(mut self, secrets: &[&str]) -> Said {
        if tokio::time::timeout(DRAIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = &tail.kept[tail.kept.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        if (kept.len() as u64) < tail.bytes_total {
            kept = without_cut_secret(kept, secrets);
        }
        let text = without_secrets(&String::from_utf8_lossy(kept), secrets);
        Said { text: last_part(&text, OUTPUT_BYTES_MAX).to_owned(), bytes_total: tail.bytes_total }
    }
}

/// Output whose beginning was cut away may begin inside a secret: that end of it goes too.
fn without_cut_secret<'a>(kept: &'a [u8], secrets: &[&str]) -> &'a [u8] {
    let ends = secrets.iter().flat_map(|secret| (1..secret.len()).map(|from| &secret.as_bytes()[from..]));
    let longest = ends.filter(|end| kept.starts_with(end)).map(<[u8]>::len).max().unwrap_or(0);
    &kept[longest..]
}

/// Secrets shorter than this are taken out only as they are: what they look like in another dress may be anything.
const DRESSED_BYTES_MIN: usize = 8;

/// What a secret looks like where a program has dressed it up: hexadecimal, percent-encoded, inside JSON text, and base64, wherever in a longer
/// text it began.
fn dressed(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    if bytes.len() < DRESSED_BYTES_MIN {
        return Vec::new();
    }
    let percent = |keep: &dyn Fn(u8) -> bool, hex: &dyn Fn(u8) -> String| -> String {
        bytes.iter().map(|byte| if keep(*byte) { char::from(*byte).to_string() } else { format!("%{}", hex(*byte)) }).collect()
    };
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut found = vec![
        data_encoding::HEXLOWER.encode(bytes),
        data_encoding::HEXUPPER.encode(bytes),
        percent(&unreserved, &|byte| format!("{byte:02X}")),
        percent(&unreserved, &|byte| format!("{byte:02x}")),
        serde_json::Value::from(secret).to_string().trim_matches('"').to_owned(),
    ];
    for before in 0..3_usize {
        let all = [&[0; 2][..before.min(2)], bytes].concat();
        // Letters at both ends that hold bits of neighbours too are not those of the secret alone.
        let (from, to) = ((before * 8).div_ceil(6), all.len() * 8 / 6);
        for encoding in [&data_encoding::BASE64_NOPAD, &data_encoding::BASE64URL_NOPAD] {
            found.extend(encoding.encode(&all).get(from..to).map(str::to_owned));
        }
    }
    found.retain(|dress| dress != secret);
    found
}

/// The text with every secret, and every line of a secret that is long enough to tell, replaced, also where it was dressed up.
fn without_secrets(text: &str, secrets: &[&str]) -> String {
    if mutants::is(Mutant::OutputNotMasked) {
        return text.to_owned();
    }
    let dressed: Vec<String> = secrets.iter().flat_map(|secret| dressed(secret)).collect();
    let plain = secrets.iter().flat_map(|secret| secret.lines().filter(|line| line.len() >= 8).chain([*secret]));
    let mut parts: Vec<&str> = plain.chain(dressed.iter().map(String::as_str)).collect();
    // Longest first: one secret may be part of another.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.into_iter().filter(|part| !part.is_empty()).fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

fn last_part(text: &str, bytes_max: usize) -> &str {
    let mut from = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Processes of an earlier attempt of this step that still run, by their mark.
#[must_use]
pub fn leftovers(cx: &ReadContext) -> Vec<i32> {
    marked(&cx.idempotency_key())
}

/// Stops what an earlier attempt of this step left running.
pub async fn reap(cx: &StepContext) {
    sweep(cx, &cx.idempotency_key()).await;
}

fn marked(mark: &str) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| bears(*pid, mark)).collect()
}

fn bears(pid: i32, mark: &str) -> bool {
    // Environments of other users cannot be read, and their processes are none of ours.
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let wanted = format!("{MARK}={mark}");
    environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

/// How often marked processes are looked for until none is left: each may have started another meanwhile.
const SWEEPS_MAX: u32 = 100;

async fn sweep(cx: &ReadContext, mark: &str) {
    for _ in 0..SWEEPS_MAX {
        let found = marked(mark);
        if found.is_empty() {
            return;
        }
        for pid in found.into_iter().filter_map(Pid::from_raw) {
            // The handle keeps the number from being given to another process between the look and the signal.
            let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            if bears(pid.as_raw_nonzero().get(), mark) {
                let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
            }
        }
        cx.sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "Corr\u{e9}ct \"horse\"/battery+staple?";

    #[test]
    fn a_secret_is_taken_out_in_whatever_dress_and_wherever_in_it() {
        let bytes = SECRET.as_bytes();
        let mut said = vec![SECRET.to_owned(), data_encoding::HEXLOWER.encode(bytes), data_encoding::HEXUPPER.encode(bytes)];
        said.push(serde_json::json!({ "token": SECRET }).to_string());
        said.push("token=Corr%C3%A9ct%20%22horse%22%2Fbattery%2Bstaple%3F&x=1".to_owned());
        said.push("token=Corr%c3%a9ct%20%22horse%22%2fbattery%2bstaple%3f&x=1".to_owned());
        for before in ["", "u", "us", "use", "ada:", "user:x:"] {
            for after in ["", "@", "\n", " and more"] {
                let text = format!("{before}{SECRET}{after}");
                said.push(data_encoding::BASE64.encode(text.as_bytes()));
                said.push(data_encoding::BASE64URL.encode(text.as_bytes()));
                said.push(data_encoding::BASE64_NOPAD.encode(text.as_bytes()));
            }
        }
        for text in said {
            let left = without_secrets(&format!("it says {text} here"), &[SECRET]);
            assert!(left.contains("***") && left.starts_with("it says ") && left.ends_with(" here"), "{left}");
            // The middle of what was said is the middle of the secret; the ends may belong to neighbours too.
            let middle: String = text.chars().skip(text.chars().count() / 2 - 5).take(10).collect();
            assert!(!left.contains(&middle), "{text}: {left}");
        }
    }

    #[test]
    fn short_secrets_and_other_words_stay_readable() {
        assert_eq!(without_secrets("ab abab 6162", &["ab"]), "*** ****** 6162");
        assert_eq!(without_secrets("nothing here", &["correct-horse"]), "nothing here");
    }
}
