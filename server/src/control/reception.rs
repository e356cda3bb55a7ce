//! Connections of the control socket: a place for each, one line in, one line out, each within its time. What is asked and answered is
//! not known here.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifeboat_engine::clock::Clock;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::protocol::{REQUEST_BYTES_MAX, Reply};
use super::system_user::user_name;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections served at once for one user. One who opens many and says nothing must not keep others from answering.
    pub(super) each: usize,
    /// Connections served at once.
    pub(super) all: usize,
    /// Longest wait for a request to arrive whole. Our own client sends it right after it has connected.
    pub(super) request_within: Duration,
    /// Longest wait for a reply to be taken. The longest is a whole journal.
    pub(super) reply_within: Duration,
    /// Wait after a connection could not be accepted, as where files run out: trying again at once would only burn a core.
    pub(super) pause: Duration,
}

/// The limits of the real socket.
pub(super) const LIMITS: Limits = Limits {
    each: 16,
    all: 64,
    request_within: Duration::from_secs(2),
    reply_within: Duration::from_secs(10),
    pause: Duration::from_millis(100),
};

/// How many connections each user has now.
type Taken = Arc<Mutex<HashMap<u32, usize>>>;

/// A connection that counts until it is dropped.
struct Place {
    taken: Taken,
    uid: u32,
}

impl Place {
    /// `Err` says why there is none.
    fn take(taken: &Taken, uid: u32, limits: &Limits) -> Result<Self, String> {
        let mut users = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = users.values().sum();
        let mine = users.entry(uid).or_default();
        if *mine >= limits.each {
            return Err(format!("{mine} requests of {} are open already; try again once they have ended", user_name(uid)));
        }
        if all >= limits.all {
            return Err(format!("{all} requests are open already; try again once some have ended"));
        }
        *mine += 1;
        Ok(Self { taken: Arc::clone(taken), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mine) = users.get_mut(&self.uid) {
            *mine -= 1;
            if *mine == 0 {
                users.remove(&self.uid);
            }
        }
    }
}

/// Receives connections for ever. `peer` tells who is at the other end, `answer` answers a request's line.
pub(super) async fn receive<P, A, F>(listener: UnixListener, clock: Arc<dyn Clock>, limits: Limits, peer: P, answer: A)
where
    P: Fn(&UnixStream) -> io::Result<u32>,
    A: Fn(u32, Vec<u8>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send,
{
    let taken = Taken::default();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            clock.sleep(limits.pause).await;
            continue;
        };
        // A peer that is gone before it can be asked who it is wants no answer.
        let Ok(uid) = peer(&stream) else { continue };
        match Place::take(&taken, uid, &limits) {
            Ok(place) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    // A peer that goes away or talks nonsense harms only itself.
                    let _ = serve(stream, uid, limits, answer).await;
                    drop(place);
                });
            }
            // Nothing waits for this peer: what does not fit into the socket's buffer at once is not sent.
            Err(why) => {
                let _ = line(&Reply::Failed(why)).map(|bytes| stream.try_write(&bytes));
            }
        }
    }
}

async fn serve<A, F>(stream: UnixStream, uid: u32, limits: Limits, answer: A) -> io::Result<()>
where
    A: Fn(u32, Vec<u8>) -> F,
    F: Future<Output = Reply>,
{
    let (read, mut write) = stream.into_split();
    let mut asked = Vec::new();
    let mut limited = BufReader::new(read.take(REQUEST_BYTES_MAX + 1));
    let reply = match tokio::time::timeout(limits.request_within, limited.read_until(b'\n', &mut asked)).await {
        Err(_) => Reply::Failed("no whole request arrived in time".into()),
        Ok(Err(error)) => return Err(error),
        Ok(Ok(_)) if asked.len() as u64 > REQUEST_BYTES_MAX => Reply::Failed(format!("a request has at most {REQUEST_BYTES_MAX} bytes")),
        Ok(Ok(_)) => answer(uid, asked).await,
    };
    let bytes = line(&reply)?;
    let sent = async {
        write.write_all(&bytes).await?;
        write.shutdown().await
    };
    tokio::time::timeout(limits.reply_within, sent).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn line(reply: &Reply) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(reply)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_engine::clock::SystemClock;
    use std::collections::VecDeque;
    use std::path::Path;
    use tokio::task::JoinHandle;

    /// No test waits so long: what ends earlier was not waited for.
    const NEVER: Duration = Duration::from_secs(3600);
    /// How long a test waits before it fails.
    const PATIENCE: Duration = Duration::from_secs(60);

    const SLOW: Limits = Limits { each: 2, all: 5, request_within: NEVER, reply_within: NEVER, pause: Duration::from_millis(1) };

    /// A reception whose peers have these user ids, in the order in which they come; later ones are user 9. It answers each line with
    /// the user and so many letters.
    fn open(folder: &Path, limits: Limits, uids: &[u32], letters: usize) -> JoinHandle<()> {
        let listener = UnixListener::bind(folder.join("s")).unwrap();
        let uids: Mutex<VecDeque<u32>> = Mutex::new(uids.iter().copied().collect());
        let peer = move |_: &UnixStream| Ok(uids.lock().unwrap().pop_front().unwrap_or(9));
        let answer = move |uid: u32, _: Vec<u8>| async move { Reply::Failed(format!("{uid}{}", "x".repeat(letters))) };
        tokio::spawn(receive(listener, Arc::new(SystemClock), limits, peer, answer))
    }

    async fn connect(folder: &Path) -> UnixStream {
        UnixStream::connect(folder.join("s")).await.unwrap()
    }

    /// The line that the other end says before it hangs up.
    async fn heard(stream: &mut UnixStream) -> String {
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, BufReader::new(stream).read_line(&mut text)).await.expect("an answer in time").unwrap();
        text
    }

    async fn ask(folder: &Path) -> String {
        let mut stream = connect(folder).await;
        // Whoever has no place is answered without being read, and perhaps before this is written.
        let _ = stream.write_all(b"\"?\"\n").await;
        heard(&mut stream).await
    }

    #[tokio::test]
    async fn a_user_who_says_nothing_on_many_connections_blocks_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let reception = open(folder.path(), SLOW, &[1; 8], 0);
        let mut idle = Vec::new();
        for _ in 0..8 {
            idle.push(connect(folder.path()).await);
        }
        assert!(ask(folder.path()).await.contains("9"));
        // Beyond its places the first user is told so at once; within them it is waited for.
        assert!(heard(&mut idle[2]).await.contains("2 requests of"));
        idle[0].write_all(b"\"?\"\n").await.unwrap();
        assert!(heard(&mut idle[0]).await.contains("\"1\""));
        reception.abort();
    }

    #[tokio::test]
    async fn a_place_is_free_again_once_its_connection_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { request_within: Duration::from_millis(5), ..SLOW };
        let reception = open(folder.path(), limits, &[], 0);
        let mut timed_out = 0;
        while timed_out < 20 {
            // Hanging up is seen a moment before the place is given back.
            let text = heard(&mut connect(folder.path()).await).await;
            assert!(text.contains("no whole request arrived in time") || text.contains("requests of"), "{text}");
            timed_out += usize::from(text.contains("in time"));
        }
        reception.abort();
    }

    #[tokio::test]
    async fn many_users_together_are_bounded_too() {
        let folder = tempfile::tempdir().unwrap();
        let reception = open(folder.path(), SLOW, &[1, 1, 2, 2, 3], 0);
        let mut idle = Vec::new();
        for _ in 0..5 {
            idle.push(connect(folder.path()).await);
        }
        assert!(heard(&mut connect(folder.path()).await).await.contains("5 requests are open"));
        reception.abort();
    }

    #[tokio::test]
    async fn a_peer_that_does_not_take_its_reply_is_hung_up_on() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { each: 1, reply_within: Duration::from_millis(50), ..SLOW };
        // More than a socket's buffer holds, so that it waits for the peer to read.
        let length = 16 * 1024 * 1024;
        let reception = open(folder.path(), limits, &[], length);
        let mut deaf = connect(folder.path()).await;
        deaf.write_all(b"\"?\"\n").await.unwrap();
        // Its only place is given back although it reads nothing: another connection is served, not told to try again.
        let served = async {
            loop {
                let text = ask(folder.path()).await;
                if !text.contains("requests of") {
                    return text;
                }
                tokio::task::yield_now().await;
            }
        };
        let text = tokio::time::timeout(PATIENCE, served).await.expect("a place in time");
        assert!(!text.is_empty());
        assert!(heard(&mut deaf).await.len() < length);
        reception.abort();
    }
}
