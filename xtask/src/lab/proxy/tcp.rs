//! A TCP proxy in front of one server: forwards, cuts, falls silent, or loses single requests or answers. Knows PostgreSQL only by `statement`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::lab::proxy::statement::{Executes, Message, Statements, has};
use crate::lab::proxy::{Link, Loss, Shared, contains, lock};
use crate::trouble::{Doing, Result};

/// How long the server behind may take to accept.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How requests are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// PostgreSQL: a rule is about the execution of a statement, prepared or not.
    Postgres,
    /// Anything else: a rule is about a piece of the stream that contains the pattern.
    Bytes,
}

/// A running proxy; everything is closed when it is dropped.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where clients connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    ended: Arc<AtomicBool>,
}

impl TcpProxy {
    /// Listens on `address` and forwards to `upstream`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(address: SocketAddr, upstream: SocketAddr, speaks: Speaks) -> Result<Self> {
        let listener = TcpListener::bind(address).doing(|| format!("listen on {address}"))?;
        let address = listener.local_addr().doing(|| "read the proxy's address".to_owned())?;
        let proxy = Self {
            address,
            shared: Arc::new(Shared::new()),
            streams: Arc::new(Mutex::new(Vec::new())),
            ended: Arc::new(AtomicBool::new(false)),
        };
        let (shared, streams, ended) = (Arc::clone(&proxy.shared), Arc::clone(&proxy.streams), Arc::clone(&proxy.ended));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, streams) = (Arc::clone(&shared), Arc::clone(&streams));
                // Connecting may take time, and the next client must not wait for it.
                // A server that is down is for the client to notice: its connection closes.
                thread::spawn(move || serve(client, upstream, speaks, &shared, &streams).ok());
            }
        });
        Ok(proxy)
    }

    /// Closes every connection and, until `restore`, every new one at once. What was sent and not yet delivered is lost.
    pub fn cut(&self) {
        self.shared.set_link(Link::Cut);
        self.close();
    }

    /// Keeps connections and passes nothing, in both directions, until `restore`. What is sent meanwhile is lost for good,
    /// so connections of that time do not recover.
    pub fn silence(&self) {
        self.shared.set_link(Link::Silent);
    }

    /// Forwards again. Connections that lost something are closed.
    pub fn restore(&self) {
        self.close();
        self.shared.set_link(Link::Up);
    }

    /// Loses the next `times` requests that contain `pattern`, or only their answers. Nothing else passes on that connection afterwards.
    pub fn lose(&self, loss: Loss, pattern: &str, times: u32) {
        self.shared.set_rule(loss, pattern.as_bytes(), times);
    }

    /// How many requests or answers were lost by a rule so far.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.shared.lost()
    }

    fn close(&self) {
        for stream in lock(&self.streams).drain(..) {
            // Already closed by its own end, at worst.
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.shared.set_link(Link::Cut);
        self.close();
        // Wakes the thread that waits for clients, so that it sees the end and frees the port.
        let _woken = TcpStream::connect_timeout(&self.address, CONNECT_WITHIN);
    }
}

fn serve(
    client: TcpStream,
    upstream: SocketAddr,
    speaks: Speaks,
    shared: &Arc<Shared>,
    streams: &Mutex<Vec<TcpStream>>,
) -> std::io::Result<()> {
    if shared.link() == Link::Cut {
        return Ok(());
    }
    let server = TcpStream::connect_timeout(&upstream, CONNECT_WITHIN)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    lock(streams).extend([client.try_clone()?, server.try_clone()?]);
    let mute = Arc::new(AtomicBool::new(false));
    let (answers_from, answers_to) = (server.try_clone()?, client.try_clone()?);
    let (its_mute, its_shared) = (Arc::clone(&mute), Arc::clone(shared));
    let answers = thread::spawn(move || carry_answers(answers_from, answers_to, &its_mute, &its_shared));
    let carried = carry_requests(client, server, speaks, &mute, shared);
    // The thread ends with its streams; it cannot panic, and if it did, the connection would be closed all the same.
    let _joined = answers.join();
    carried
}

fn carry_answers(mut from: TcpStream, mut to: TcpStream, mute: &AtomicBool, shared: &Shared) {
    let mut buffer = vec![0u8; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if mute.load(Ordering::SeqCst) || shared.link() != Link::Up {
            continue;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // A muted client must go on waiting: closing would be an answer of its own.
    if !mute.load(Ordering::SeqCst) && shared.link() == Link::Up {
        let _closed = to.shutdown(Shutdown::Both);
    }
}

fn carry_requests(mut from: TcpStream, mut to: TcpStream, speaks: Speaks, mute: &AtomicBool, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    let mut statements = Statements::default();
    let mut deaf = false;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        if deaf || shared.link() != Link::Up {
            continue;
        }
        for Message { bytes, executes } in split(&buffer[..length], speaks, &mut statements, shared) {
            let lost = if executes == Executes::Pattern { shared.lose_once() } else { None };
            match lost {
                Some(Loss::Request) => {
                    mute.store(true, Ordering::SeqCst);
                    deaf = true;
                    break;
                }
                Some(Loss::Answer) => mute.store(true, Ordering::SeqCst),
                None => {}
            }
            to.write_all(&bytes)?;
        }
    }
    to.shutdown(Shutdown::Both)
}

fn split(bytes: &[u8], speaks: Speaks, statements: &mut Statements, shared: &Shared) -> Vec<Message> {
    match speaks {
        Speaks::Postgres => statements.feed(bytes, |text| shared.matches(|pattern| has(pattern)(text))),
        Speaks::Bytes => {
            let wanted = shared.matches(|pattern| contains(bytes, pattern));
            let executes = if wanted { Executes::Pattern } else { Executes::Other };
            vec![Message { bytes: bytes.to_vec(), executes }]
        }
    }
}
