//! The real `lifeboat` process: started, listened to, signalled, and ended by its pid when it takes too long.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use xtask::look_until;

use super::clock;

/// How long any command may take on a busy machine. A bound: nothing waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The binary under test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lifeboat"))
}

/// How a process ended and what it said.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Fails the test, with everything that was said, unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless standard error has each of these words.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in:\n{}", self.stderr);
        }
        self
    }

    /// The name of the run that was admitted.
    #[track_caller]
    pub(crate) fn run_name(&self) -> String {
        admitted(self.stderr.lines()).unwrap_or_else(|| panic!("no run was admitted:\n{}", self.stderr))
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}):\n{}\nstderr:\n{}", self.stdout, self.stderr),
        }
    }
}

/// The first words of a run are `run NAME is admitted`.
fn admitted<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<String> {
    lines.find_map(|line| Some(line.strip_prefix("run ")?.split_once(" is admitted")?.0.to_owned()))
}

/// Runs a command to its end. One that takes too long is killed and fails the test.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ended {
    Going::start(command).end()
}

/// A process that is going on. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Going {
    child: Child,
    started: std::time::Instant,
    lines: Arc<Mutex<Vec<String>>>,
    stderr: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<String>>,
}

impl Going {
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let started = clock::now();
        let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {command:?}: {error}"),
        };
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&lines);
        let stderr = child.stderr.take().map(|pipe| {
            std::thread::spawn(move || {
                let mut pipe = BufReader::new(pipe);
                let mut line = Vec::new();
                while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&line).into_owned());
                    line.clear();
                }
            })
        });
        let stdout = child.stdout.take().map(|mut pipe| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // What was read before a broken pipe is what was said.
                let _read = pipe.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        Self { child, started, lines, stderr, stdout }
    }

    /// Time since it was started.
    pub(crate) fn age(&self) -> Duration {
        clock::now().duration_since(self.started)
    }

    /// The name of the run that was admitted.
    #[track_caller]
    pub(crate) fn run_name(&self) -> String {
        let lines = self.lines();
        admitted(lines.iter().map(String::as_str)).unwrap_or_else(|| panic!("no run was admitted:\n{}", lines.concat()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error so far, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines it has said on standard error so far.
    pub(crate) fn line_count(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits until it says a line with these words; it ending first, or taking too long, fails the test.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, words: &str) {
        let found = look_until(PATIENCE, || {
            let said = self.lines().iter().any(|line| line.contains(words));
            if said { Some(true) } else { self.has_ended().then_some(false) }
        });
        // The last words may have been read after the end was seen.
        let said = found == Some(true) || (self.has_ended() && look_until(Duration::from_secs(1), || self.said(words)).is_some());
        assert!(said, "{words:?} was not said:\n{}", self.lines().concat());
    }

    fn said(&self, words: &str) -> Option<()> {
        self.lines().iter().any(|line| line.contains(words)).then_some(())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended just now.
            let _sent = kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Ended {
        let _killed = self.child.kill();
        self.end()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let status = look_until(PATIENCE, || self.child.try_wait().ok().flatten());
        let late = status.is_none();
        if late {
            let _killed = self.child.kill();
        }
        let status = status.or_else(|| self.child.wait().ok());
        if let Some(thread) = self.stderr.take() {
            let _joined = thread.join();
        }
        let stdout = self.stdout.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let stderr = self.lines().concat();
        assert!(!late, "it did not end within {PATIENCE:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        Ended { code: status.and_then(|status| status.code()), stdout, stderr }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // It has ended already in most tests.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
