//! A proxy before a member that lets requests through and, once it is told to, keeps the answers to itself. It knows no protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Muted {
    address: SocketAddr,
    muted: Arc<AtomicBool>,
    swallowed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Muted {
    /// Listens on loopback and passes everything on to the member at this endpoint.
    pub(crate) async fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let member: SocketAddr = endpoint.trim_start_matches("http://").parse().unwrap();
        let (muted, swallowed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (quiet, count) = (Arc::clone(&muted), Arc::clone(&swallowed));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, member, Arc::clone(&quiet), Arc::clone(&count)));
            }
        });
        Self { address, muted, swallowed, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on no answer comes back.
    pub(crate) fn mute(&self) {
        self.muted.store(true, Ordering::SeqCst);
    }

    /// Bytes of answers that were kept back.
    pub(crate) fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, member: SocketAddr, muted: Arc<AtomicBool>, swallowed: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(member).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(|_| ()) };
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return Ok::<(), std::io::Error>(());
            }
            if muted.load(Ordering::SeqCst) {
                swallowed.fetch_add(length as u64, Ordering::SeqCst);
            } else {
                to_client.write_all(&buffer[..length]).await?;
            }
        }
    };
    // Either side that ends, ends the connection.
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
    }
}
