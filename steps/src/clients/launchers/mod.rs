//! Launchers: processes that wait ready to become a program, so that starting one costs a single `exec`, and so that nothing of it is left
//! when the engine dies. What may be started, and for how long, is decided in `clients::process`.

mod letter;
mod nursery;
mod stock;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use letter::Letter;
pub use nursery::{entry, tend};
pub(super) use stock::order;
pub use stock::set_up;

/// On a launcher's wire: what follows may have happened.
const BEGINS: u8 = b'b';
/// It could not become the program: a byte of length, then why.
const NOT_STARTED: u8 = b'n';
/// The program ended by itself: its code in four bytes.
const EXITED: u8 = b'x';
/// It was ended by a signal: its number in four bytes.
const ENDED_BY_SIGNAL: u8 = b's';

/// A program as a launcher is told it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) program: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) args: &'a [String],
    pub(super) env: &'a BTreeMap<&'a str, &'a str>,
}

/// What is heard from a launcher.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It becomes the program now.
    Begins,
    /// It could not. Nothing happened.
    NotStarted(String),
    /// The program exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// The nursery is gone, and whatever it held was killed with it.
    Lost,
}

/// A launcher in use. Dropped, what it became is killed if it still runs.
#[derive(Debug)]
pub(super) struct Launcher {
    line: UnixStream,
    pid: Pid,
    heard: Vec<u8>,
    _out: Arc<()>,
}

impl Launcher {
    /// One that waits for its letter; `None` where none can be had.
    pub(super) async fn take() -> Option<Self> {
        let stock::Ready { pid, line, out } = stock::take().await?;
        Some(Self { line: UnixStream::from_std(line).ok()?, pid, heard: Vec::new(), _out: out })
    }

    /// The process, which is also its group. The number is nobody else's while this is held and the nursery lives.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends the letter. Its secrets pass through this socket alone, never a file or a command line.
    pub(super) async fn become_program(&mut self, told: Told<'_>, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<()> {
        let owned = |text: &&str| OsString::from(*text);
        let letter = Letter {
            program: told.program.into(),
            folder: told.folder.into(),
            args: told.args.iter().map(OsString::from).collect(),
            env: told.env.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
        };
        let bytes = letter.encode()?;
        let files = [stdout.as_fd(), stderr.as_fd()];
        let sent = self.line.async_io(Interest::WRITABLE, || letter::send(self.line.as_fd(), &bytes, &files)).await?;
        self.line.write_all(&bytes[sent..]).await
    }

    /// What is heard next. A call that is dropped has lost nothing.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.first() {
                return heard;
            }
            match self.line.read_buf(&mut self.heard).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Heard::Lost,
            }
        }
    }

    fn first(&mut self) -> Option<Heard> {
        let number = |rest: &[u8]| Some(i32::from_le_bytes(*rest.first_chunk()?));
        let (heard, length) = match self.heard.split_first()? {
            (&BEGINS, _) => (Heard::Begins, 1),
            (&EXITED, rest) => (Heard::Exited(number(rest)?), 5),
            (&ENDED_BY_SIGNAL, rest) => (Heard::Signalled(number(rest)?), 5),
            (&NOT_STARTED, rest) => {
                let (length, words) = rest.split_first()?;
                let words = words.get(..usize::from(*length))?;
                (Heard::NotStarted(String::from_utf8_lossy(words).into_owned()), 2 + words.len())
            }
            (_, _) => (Heard::Lost, 0),
        };
        self.heard.drain(..length);
        Some(heard)
    }
}
