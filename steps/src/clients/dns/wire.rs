//! Bytes to and from one DNS server: a datagram with a TCP fallback for questions, TCP alone for updates. What messages mean
//! is not known here.
//!
//! The transport of hickory-net is not used: it sends a datagram again by itself when no answer came, and does not say
//! whether bytes had left when it failed. For an update both decide between "not done" and "unknown".

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long a datagram may stay unanswered before it is asked again.
const DATAGRAM_TIMEOUT: Duration = Duration::from_millis(800);

/// How often a question is sent as a datagram before TCP is tried.
const DATAGRAM_TRIES: u32 = 2;

/// How long a TCP connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest datagram read. Answers are at most this long, as the question announces.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1232;

/// An exchange that brought no answer.
#[derive(Debug)]
pub(super) enum WireError {
    /// No byte left this machine.
    NotSent(String),
    /// Something may have left, and no whole answer came.
    Lost(String),
}

/// Sends a question as a datagram and returns the answers that `accept` takes; others are forged or late and are passed over.
pub(super) async fn datagram(
    server: SocketAddr,
    question: &[u8],
    limit: Duration,
    accept: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, WireError> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let not_sent = |error: std::io::Error| WireError::NotSent(error.to_string());
    let socket = UdpSocket::bind(local).await.map_err(not_sent)?;
    socket.connect(server).await.map_err(not_sent)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    for _ in 0..DATAGRAM_TRIES {
        socket.send(question).await.map_err(not_sent)?;
        let wait = async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                if accept(&buffer[..length]) {
                    return Ok::<_, std::io::Error>(length);
                }
            }
        };
        match tokio::time::timeout(DATAGRAM_TIMEOUT.min(limit), wait).await {
            Ok(Ok(length)) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // An ICMP answer: nothing listens there. TCP may still.
            Ok(Err(error)) => return Err(WireError::Lost(error.to_string())),
            Err(_) => {}
        }
    }
    Err(WireError::Lost("no answer".into()))
}

/// Sends one message over TCP and reads one answer.
pub(super) async fn stream(server: SocketAddr, message: &[u8], limit: Duration) -> Result<Vec<u8>, WireError> {
    let length = u16::try_from(message.len()).map_err(|_| WireError::NotSent("the message is longer than 65535 bytes".into()))?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    let mut connection = match tokio::time::timeout(CONNECT_TIMEOUT.min(limit), TcpStream::connect(server)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(WireError::NotSent(error.to_string())),
        Err(_) => return Err(WireError::NotSent("no connection in time".into())),
    };
    let exchange = async {
        connection.write_all(&framed).await?;
        let mut length = [0; 2];
        connection.read_exact(&mut length).await?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        connection.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(WireError::Lost(error.to_string())),
        Err(_) => Err(WireError::Lost(format!("no answer within {:.1} s", limit.as_secs_f64()))),
    }
}
