//! A DNS proxy over UDP and TCP in front of one server: loses updates or their answers, or everything. Parses no more than the opcode.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::lab::proxy::{Link, Loss, Shared};
use crate::trouble::{Doing, Result};

/// How long the server behind may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The opcode of a dynamic update, RFC 2136.
const OPCODE_UPDATE: u8 = 5;
/// How often the threads look whether the proxy was dropped.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct DnsProxy {
    /// Where to send queries and updates, by UDP or TCP.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    ended: Arc<AtomicBool>,
}

impl DnsProxy {
    /// Listens on `address`, UDP and TCP, and forwards to `upstream`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(address: SocketAddr, upstream: SocketAddr) -> Result<Self> {
        let udp = UdpSocket::bind(address).doing(|| format!("listen on {address}/udp"))?;
        udp.set_read_timeout(Some(LOOK_AGAIN)).doing(|| "set a timeout".to_owned())?;
        let tcp = TcpListener::bind(address).doing(|| format!("listen on {address}/tcp"))?;
        let proxy = Self { address, shared: Arc::new(Shared::new()), ended: Arc::new(AtomicBool::new(false)) };
        let (shared, ended) = (Arc::clone(&proxy.shared), Arc::clone(&proxy.ended));
        thread::spawn(move || serve_udp(&udp, upstream, &shared, &ended));
        let (shared, ended) = (Arc::clone(&proxy.shared), Arc::clone(&proxy.ended));
        thread::spawn(move || {
            for client in tcp.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away in the middle is no concern of the proxy.
                thread::spawn(move || serve_tcp(client, upstream, &shared).ok());
            }
        });
        Ok(proxy)
    }

    /// Loses the next `times` updates, or only their answers. Queries pass.
    pub fn lose_updates(&self, loss: Loss, times: u32) {
        self.shared.set_rule(loss, b"update", times);
    }

    /// Loses everything, until `restore`.
    pub fn silence(&self) {
        self.shared.set_link(Link::Silent);
    }

    /// Forwards again.
    pub fn restore(&self) {
        self.shared.set_link(Link::Up);
    }

    /// How many updates or their answers were lost so far.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.shared.lost()
    }
}

impl Drop for DnsProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _woken = TcpStream::connect_timeout(&self.address, ANSWER_WITHIN);
    }
}

/// What happens to one message.
enum Fate {
    Pass,
    Lost(Loss),
}

fn fate(message: &[u8], shared: &Shared) -> Fate {
    if shared.link() != Link::Up {
        return Fate::Lost(Loss::Request);
    }
    let is_update = message.get(2).is_some_and(|flags| (flags >> 3) & 0x0f == OPCODE_UPDATE);
    if is_update && shared.matches(|_| true) {
        return shared.lose_once().map_or(Fate::Pass, Fate::Lost);
    }
    Fate::Pass
}

fn serve_udp(socket: &UdpSocket, upstream: SocketAddr, shared: &Arc<Shared>, ended: &AtomicBool) {
    let mut buffer = vec![0u8; 64 * 1024];
    while !ended.load(Ordering::SeqCst) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let (message, shared) = (buffer[..length].to_vec(), Arc::clone(shared));
        let Ok(answer_through) = socket.try_clone() else { continue };
        thread::spawn(move || {
            let fate = fate(&message, &shared);
            if matches!(fate, Fate::Lost(Loss::Request)) {
                return;
            }
            // The answer is awaited even when it is to be lost, so that whoever sees the loss counted also finds the change made.
            let answer = ask_udp(upstream, &message);
            if let (Fate::Pass, Ok(answer)) = (fate, answer) {
                let _sent = answer_through.send_to(&answer, client);
            }
        });
    }
}

fn ask_udp(upstream: SocketAddr, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(upstream)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send(message)?;
    let mut buffer = vec![0u8; 64 * 1024];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// One message after the other: enough for updates and queries, which all are one question and one answer.
fn serve_tcp(mut client: TcpStream, upstream: SocketAddr, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect_timeout(&upstream, ANSWER_WITHIN)?;
    server.set_read_timeout(Some(ANSWER_WITHIN))?;
    loop {
        let message = read_framed(&mut client)?;
        match fate(&message, shared) {
            Fate::Lost(Loss::Request) => {}
            Fate::Lost(Loss::Answer) => {
                write_framed(&mut server, &message)?;
                read_framed(&mut server)?;
            }
            Fate::Pass => {
                write_framed(&mut server, &message)?;
                let answer = read_framed(&mut server)?;
                write_framed(&mut client, &answer)?;
            }
        }
    }
}

fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0u8; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0u8; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}
