//! The other commands' end of the control socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::protocol::{Reply, Request};
use super::socket::address;

/// Longest wait for an answer: a journal is read from disk and may be long.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// An answer that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not for this user.
    #[error("the control socket of {folder} cannot be reached")]
    Unreachable {
        /// The data folder.
        folder: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the owner of the data folder went away before it answered")]
    Broken(#[source] io::Error),
    /// No answer in time.
    #[error("the owner of the data folder did not answer within 60 s")]
    Late,
    /// Not an answer of this protocol.
    #[error("the owner of the data folder answered something else: is it another version?")]
    Unreadable(#[source] serde_json::Error),
}

/// A way to the owner of a data folder.
#[derive(Clone, Debug)]
pub struct Client {
    folder: std::path::PathBuf,
}

impl Client {
    /// For this data folder; connects anew for each request.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Asks.
    ///
    /// # Errors
    /// Where there is no answer; an act may then have been journaled all the same.
    pub async fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        tokio::time::timeout(ANSWER_WITHIN, self.exchange(request)).await.map_err(|_| ClientError::Late)?
    }

    async fn exchange(&self, request: &Request) -> Result<Reply, ClientError> {
        let unreachable = |source| ClientError::Unreachable { folder: self.folder.display().to_string(), source };
        let (path, keep) = address(&self.folder).map_err(unreachable)?;
        let mut stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        drop(keep);
        let mut line = serde_json::to_vec(request).map_err(ClientError::Unreadable)?;
        line.push(b'\n');
        // An owner that has no place for us answers without reading; its words tell more than the broken pipe does.
        let sent = stream.write_all(&line).await;
        let mut answer = Vec::new();
        let read = BufReader::new(stream).read_until(b'\n', &mut answer).await;
        if answer.is_empty() {
            sent.and(read).map_err(ClientError::Broken)?;
        }
        serde_json::from_slice(&answer).map_err(ClientError::Unreadable)
    }
}
