//! The way to a run that is being driven: requests go in, notices come out. What becomes of them is the executor's.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::context::Progress;
use crate::journal::{Actor, Entry, RunId};
use crate::steering::{Command, SteerError};
use lifeboat_runbooks::names::StepId;

/// What those who watch a run are told. Whoever lags behind reads the journal again.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Journaled, and durable.
    Entry(Arc<Entry>),
    /// What a step is doing now.
    Progress {
        /// The step.
        step: StepId,
        /// A few words.
        words: String,
    },
}

/// Notices kept for a slow watcher, who reads the journal where it falls behind. Their room is taken when the first one begins to watch.
const NOTICES: usize = 64;

/// Requests waiting for the executor.
const REQUESTS: usize = 64;

/// What people ask of a run.
#[derive(Debug)]
pub enum Request {
    /// Steer it.
    Steer {
        /// How.
        command: Command,
        /// Who.
        by: Actor,
        /// Where the answer goes, after it is durable.
        reply: oneshot::Sender<Result<(), SteerError>>,
    },
    /// Start nothing more, let running calls end, and give the run back unfinished.
    Detach,
    /// Turn back for this live run. It is heeded by runs that make way ([`crate::preemption::makes_way`]), and by no other.
    MakeWay(RunId),
}

/// The way to a run that is being driven.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Which run.
    pub run: RunId,
    /// Requests.
    pub requests: Requests,
    /// Notices.
    pub notices: Notices,
}

impl Progress for Handle {
    fn tell(&self, step: &StepId, words: &str) {
        self.notices.send(|| Notice::Progress { step: step.clone(), words: words.to_owned() });
    }
}

/// Where requests come out.
pub(super) type Asked = mpsc::Receiver<Box<Request>>;

pub(super) fn open(run: RunId) -> (Handle, Asked) {
    let (sender, asked) = mpsc::channel(REQUESTS);
    (Handle { run, requests: Requests(sender), notices: Notices::default() }, asked)
}

/// Takes requests. Each is on the heap: a channel keeps room for many, and thousands of runs have one each.
#[derive(Clone, Debug)]
pub struct Requests(mpsc::Sender<Box<Request>>);

/// Nobody drives the run any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody drives the run any more, or it has more requests than it takes")]
pub struct NotTaken;

impl Requests {
    /// Asks, after waiting for room.
    ///
    /// # Errors
    /// Where nobody drives the run any more.
    pub async fn send(&self, request: Request) -> Result<(), NotTaken> {
        self.0.send(Box::new(request)).await.map_err(|_| NotTaken)
    }

    /// Asks, if there is room.
    ///
    /// # Errors
    /// Where there is none, or nobody drives the run any more.
    pub fn try_send(&self, request: Request) -> Result<(), NotTaken> {
        self.0.try_send(Box::new(request)).map_err(|_| NotTaken)
    }
}

/// Tells watchers. Costs nothing until somebody watches.
#[derive(Clone, Default)]
pub struct Notices(Arc<OnceLock<broadcast::Sender<Notice>>>);

impl Notices {
    /// What is told from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.get_or_init(|| broadcast::Sender::new(NOTICES)).subscribe()
    }

    pub(super) fn send(&self, notice: impl FnOnce() -> Notice) {
        if let Some(watched) = self.0.get() {
            // Nobody watching any more is no error.
            let _ = watched.send(notice());
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Notices(watched)" } else { "Notices(unwatched)" })
    }
}
