//! Who waits for which logs. A store tells which logs changed, and only those who watch one of them wake: with thousands of runs in
//! flight, every commit would else wake them all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::{Changes, LogId};

/// The watchers of one store, by prefix.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_prefix: Mutex<BTreeMap<String, watch::Sender<u64>>>,
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<u64>>> {
        // A map of senders is whole after every single operation.
        self.by_prefix.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes on every change from now on of a log whose name begins with `prefix`.
    pub(crate) fn watch(&self, prefix: &str) -> Changes {
        let mut senders = self.lock();
        senders.retain(|_, sender| sender.receiver_count() > 0);
        Changes::new(senders.entry(prefix.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe())
    }

    /// These logs changed.
    pub(crate) fn tell<'log>(&self, logs: impl Iterator<Item = &'log LogId> + Clone) {
        for (prefix, sender) in self.lock().iter() {
            if logs.clone().any(|log| log.as_str().starts_with(prefix.as_str())) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    }

    /// Anything may have changed.
    pub(crate) fn tell_all(&self) {
        for sender in self.lock().values() {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> LogId {
        LogId::new(name).unwrap()
    }

    async fn woken(changes: &mut Changes) -> bool {
        tokio::select! {
            biased;
            change = changes.next() => change.is_some(),
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn only_those_who_watch_a_changed_log_wake() {
        let watchers = Watchers::default();
        let (mut runs, mut freeze) = (watchers.watch("run/"), watchers.watch("freeze"));
        watchers.tell([log("run/a"), log("lock/db")].iter());
        assert_eq!((woken(&mut runs).await, woken(&mut freeze).await), (true, false));
        watchers.tell([log("freeze")].iter());
        assert_eq!((woken(&mut runs).await, woken(&mut freeze).await), (false, true));
        watchers.tell_all();
        assert_eq!((woken(&mut runs).await, woken(&mut freeze).await), (true, true));
    }

    #[tokio::test]
    async fn prefixes_that_nobody_watches_any_more_are_forgotten() {
        let watchers = Watchers::default();
        for number in 0..100 {
            drop(watchers.watch(&format!("run/{number}")));
        }
        let _kept = watchers.watch("freeze");
        assert_eq!(watchers.lock().len(), 1);
    }
}
