//! Watching: wakes on every change of a head, and after every interruption, because what happened meanwhile is not told.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::WatchStream;
use tokio::sync::watch;

use super::Shared;
use super::members::pause;
use crate::StoreError;

/// Pause before a watch that broke is begun anew.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Longest silence. A member that lost its cluster may stay silent for ever; a look costs little.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Begins to watch; what changes after this returned wakes the receiver.
pub(super) async fn follow(shared: &Arc<Shared>, prefix: &str) -> Result<watch::Receiver<u64>, StoreError> {
    let (sender, receiver) = watch::channel(0);
    let stream = begin(shared, prefix).await?;
    let (shared, prefix) = (Arc::clone(shared), prefix.to_owned());
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = wake(&shared, &prefix, stream, &sender) => {}
            // The store is gone: nobody is to be woken any more.
            () = shared.gone() => {}
        }
    });
    Ok(receiver)
}

async fn begin(shared: &Shared, prefix: &str) -> Result<WatchStream, StoreError> {
    let (from, end) = shared.keys.heads(prefix);
    shared.members.watch(shared.members.deadline(), from, end).await
}

async fn wake(shared: &Shared, prefix: &str, mut stream: WatchStream, sender: &watch::Sender<u64>) {
    loop {
        loop {
            match tokio::time::timeout(SILENCE_MAX, stream.message()).await {
                Ok(Ok(Some(message))) if !message.canceled() => sender.send_modify(|count| *count = count.wrapping_add(1)),
                Err(_) => sender.send_modify(|count| *count = count.wrapping_add(1)),
                Ok(_) => break,
            }
        }
        stream = loop {
            pause(BEGIN_AGAIN_AFTER).await;
            if let Ok(stream) = begin(shared, prefix).await {
                break stream;
            }
        };
        sender.send_modify(|count| *count = count.wrapping_add(1));
    }
}
