//! The engine's side of the nursery: one thread that starts it, keeps a launcher ready while programs are being run, and ends both when
//! nobody has wanted one for a while.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use tokio::sync::oneshot;

use super::letter::receive;
use super::nursery::WORD;

/// Launchers that are kept ready: the next of a chain of steps. Steps side by side wait for theirs, a fraction of a millisecond each.
const READY: usize = 1;

/// The nursery ends when nobody has wanted a launcher for so long: an engine that runs no programs holds no second process.
const IDLE: Duration = Duration::from_secs(3);

/// A nursery that does not answer for so long is given up. Forking takes far less on any machine that still runs.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// After so many nurseries that did not answer, programs are started the plain way for good.
const FAILURES_MAX: u32 = 3;

/// How the hidden entry is started in this program.
#[derive(Debug)]
struct Entry {
    program: PathBuf,
    args: Vec<String>,
}

static ENTRY: OnceLock<Entry> = OnceLock::new();
static STOCK: OnceLock<Option<Stock>> = OnceLock::new();

/// A launcher that waits for its letter.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) pid: Pid,
    pub(super) line: UnixStream,
    /// The nursery stays while this is held.
    pub(super) out: Arc<()>,
}

#[derive(Debug, Default)]
struct Shelf {
    ready: VecDeque<Ready>,
    waiting: VecDeque<oneshot::Sender<Ready>>,
    failures: u32,
}

struct Stock {
    shelf: Arc<Mutex<Shelf>>,
    orders: SyncSender<()>,
}

/// Says how this program is started with the hidden entry. Until then, and in programs without it, programs are started the plain way.
pub fn set_up(program: PathBuf, args: Vec<String>) {
    // The first word counts; who says it again says the same.
    let _ = ENTRY.set(Entry { program, args });
}

/// A launcher; `None` where none can be had.
pub(super) async fn take() -> Option<Ready> {
    let stock = STOCK.get_or_init(open).as_ref()?;
    let taken = {
        let mut shelf = lock(&stock.shelf);
        if shelf.failures >= FAILURES_MAX {
            return None;
        }
        match shelf.ready.pop_front() {
            Some(ready) => Ok(ready),
            None => {
                let (sender, receiver) = oneshot::channel();
                shelf.waiting.push_back(sender);
                Err(receiver)
            }
        }
    };
    match taken {
        Ok(ready) => Some(ready),
        Err(coming) => {
            order();
            coming.await.ok()
        }
    }
}

/// Has the shelf filled up again. Left to whoever took a launcher, so that its program is not kept waiting by the making of the next.
pub(in crate::clients) fn order() {
    if let Some(Some(stock)) = STOCK.get() {
        // One order that is still unread is enough: whoever reads it looks at the whole shelf.
        let _ = stock.orders.try_send(());
    }
}

fn open() -> Option<Stock> {
    let entry = ENTRY.get()?;
    let shelf = Arc::new(Mutex::new(Shelf::default()));
    let (orders, read) = sync_channel(1);
    let kept = Arc::clone(&shelf);
    // A thread of its own, which never ends: the nursery dies with the thread that started it.
    std::thread::Builder::new().name("launchers".into()).spawn(move || keep(entry, &kept, &read)).ok()?;
    Some(Stock { shelf, orders })
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(entry: &Entry, shelf: &Mutex<Shelf>, orders: &Receiver<()>) {
    let mut nursery: Option<Nursery> = None;
    // Programs of theirs may still run.
    let mut given_up: Vec<Nursery> = Vec::new();
    loop {
        let wait = if nursery.is_some() || !given_up.is_empty() { IDLE } else { Duration::MAX };
        match orders.recv_timeout(wait) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => {
                let mut shelf = lock(shelf);
                let unused = shelf.ready.len();
                let over = |kept: &Nursery| Arc::strong_count(&kept.out) <= 1;
                given_up.retain(|kept| !over(kept));
                if nursery.as_ref().is_some_and(|kept| Arc::strong_count(&kept.out) <= 1 + unused) && shelf.waiting.is_empty() {
                    shelf.ready.clear();
                    nursery = None;
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while wants(shelf) {
            let raised = match &mut nursery {
                Some(nursery) => nursery.raise(),
                None => Nursery::start(entry).and_then(|started| nursery.insert(started).raise()),
            };
            let mut shelf = lock(shelf);
            match raised {
                Ok(ready) => {
                    shelf.failures = 0;
                    shelf.deliver(ready);
                }
                Err(_) => {
                    given_up.extend(nursery.take());
                    shelf.failures += 1;
                    // Those who wait start their programs the plain way.
                    shelf.waiting.clear();
                    break;
                }
            }
        }
    }
}

fn wants(shelf: &Mutex<Shelf>) -> bool {
    let shelf = lock(shelf);
    shelf.ready.len() < READY + shelf.waiting.len()
}

impl Shelf {
    fn deliver(&mut self, mut ready: Ready) {
        while let Some(waits) = self.waiting.pop_front() {
            match waits.send(ready) {
                Ok(()) => return,
                // Whoever waited was cut off.
                Err(back) => ready = back,
            }
        }
        self.ready.push_back(ready);
    }
}

/// The process that makes launchers.
#[derive(Debug)]
struct Nursery {
    line: UnixStream,
    child: Child,
    out: Arc<()>,
}

impl Nursery {
    fn start(entry: &Entry) -> io::Result<Self> {
        let (line, theirs) = UnixStream::pair()?;
        line.set_read_timeout(Some(ANSWER_WITHIN))?;
        line.set_write_timeout(Some(ANSWER_WITHIN))?;
        let mut command = Command::new(&entry.program);
        command.args(&entry.args).arg(WORD).arg(std::process::id().to_string()).env_clear().current_dir("/");
        // In a group of its own: an interrupt from the terminal is for the engine.
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let child = command.spawn()?;
        Ok(Self { line, child, out: Arc::new(()) })
    }

    fn raise(&mut self) -> io::Result<Ready> {
        io::Write::write_all(&mut self.line, &[1])?;
        let mut pid = [0; 4];
        let (count, files) = receive(self.line.as_fd(), &mut pid)?;
        let pid = Pid::from_raw(i32::from_le_bytes(pid)).filter(|_| count == pid.len());
        match (pid, files.into_iter().next()) {
            (Some(pid), Some(line)) => {
                let line = UnixStream::from(line);
                line.set_nonblocking(true)?;
                Ok(Ready { pid, line, out: Arc::clone(&self.out) })
            }
            (_, _) => Err(io::Error::other("no launcher could be made")),
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // It runs nothing any more. Killed rather than asked: it may stand still.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
