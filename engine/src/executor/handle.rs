//! The way to a run that is being driven: requests go in, notices come out. What becomes of them is the executor's.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, broadcast, oneshot};

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

pub(super) fn open(run: RunId) -> (Handle, Asked) {
    let line = Arc::<Line>::default();
    (Handle { run, requests: Requests(Arc::clone(&line)), notices: Notices(Arc::clone(&line)) }, Asked(line))
}

/// Requests in the order in which they came. A channel of the runtime takes room for many at once; thousands of runs have a line each, and most
/// are never asked anything.
#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
    /// Wakes the executor.
    came: Notify,
    /// Wakes one who waits for room.
    left: Notify,
    /// Who watches, once somebody does.
    watched: OnceLock<broadcast::Sender<Notice>>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Box<Request>>,
    /// Nobody drives the run any more.
    over: Over,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Over {
    Yes,
    #[default]
    No,
}

/// Why a request was not put in line.
enum Turned {
    Full(Box<Request>),
    Over,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A line is whole after every single operation.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, request: Box<Request>) -> Result<(), Turned> {
        let mut waiting = self.lock();
        if waiting.over == Over::Yes {
            return Err(Turned::Over);
        }
        if waiting.requests.len() >= REQUESTS {
            return Err(Turned::Full(request));
        }
        waiting.requests.push_back(request);
        drop(waiting);
        self.came.notify_one();
        Ok(())
    }

    fn take(&self) -> Option<Box<Request>> {
        let mut waiting = self.lock();
        let request = waiting.requests.pop_front()?;
        if waiting.requests.is_empty() {
            waiting.requests = VecDeque::new();
        }
        drop(waiting);
        self.left.notify_one();
        Some(request)
    }
}

/// Where requests come out.
#[derive(Debug)]
pub(super) struct Asked(Arc<Line>);

impl Asked {
    /// The next request. Nothing is lost where the caller goes away before there is one.
    pub(super) async fn next(&mut self) -> Box<Request> {
        loop {
            if let Some(request) = self.0.take() {
                return request;
            }
            self.0.came.notified().await;
        }
    }
}

impl Drop for Asked {
    /// Whoever still waits in line learns it by the end of their request.
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.over = Over::Yes;
        let turned_away = std::mem::take(&mut waiting.requests);
        drop(waiting);
        drop(turned_away);
        self.0.left.notify_waiters();
    }
}

/// Takes requests.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Line>);

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
        let mut request = Box::new(request);
        loop {
            // Looked at before the line is: room that comes in between is not missed.
            let mut left = Box::pin(self.0.left.notified());
            left.as_mut().enable();
            request = match self.0.put(request) {
                Ok(()) => return Ok(()),
                Err(Turned::Over) => return Err(NotTaken),
                Err(Turned::Full(request)) => request,
            };
            left.await;
        }
    }

    /// Asks, if there is room.
    ///
    /// # Errors
    /// Where there is none, or nobody drives the run any more.
    pub fn try_send(&self, request: Request) -> Result<(), NotTaken> {
        self.0.put(Box::new(request)).map_err(|_| NotTaken)
    }
}

/// Tells watchers. Costs nothing until somebody watches.
#[derive(Clone)]
pub struct Notices(Arc<Line>);

impl Notices {
    /// What is told from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.watched.get_or_init(|| broadcast::Sender::new(NOTICES)).subscribe()
    }

    pub(super) fn send(&self, notice: impl FnOnce() -> Notice) {
        if let Some(watched) = self.0.watched.get() {
            // Nobody watching any more is no error.
            let _ = watched.send(notice());
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.watched.get().is_some() { "Notices(watched)" } else { "Notices(unwatched)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn line() -> (Handle, Asked) {
        open(RunId::new("20260101t000000-a-b").unwrap())
    }

    fn asks() -> (Request, oneshot::Receiver<Result<(), SteerError>>) {
        let (reply, answer) = oneshot::channel();
        let by = Actor { person: None, system_user: "ann".into(), via: "terminal".into() };
        (Request::Steer { command: Command::Cancel { comment: None }, by, reply }, answer)
    }

    #[tokio::test]
    async fn requests_come_out_in_the_order_in_which_they_went_in() {
        let (handle, mut asked) = line();
        handle.requests.send(Request::MakeWay(handle.run.clone())).await.unwrap();
        handle.requests.try_send(Request::Detach).unwrap();
        assert!(matches!(*asked.next().await, Request::MakeWay(_)));
        assert!(matches!(*asked.next().await, Request::Detach));
    }

    #[tokio::test]
    async fn whoever_waits_for_a_request_wakes_when_it_comes() {
        let (handle, mut asked) = line();
        let waiting = tokio::spawn(async move { asked.next().await });
        tokio::task::yield_now().await;
        handle.requests.try_send(Request::Detach).unwrap();
        assert!(matches!(*waiting.await.unwrap(), Request::Detach));
    }

    #[tokio::test]
    async fn a_line_has_an_end_and_whoever_waits_for_room_gets_it() {
        let (handle, mut asked) = line();
        for _ in 0..REQUESTS {
            handle.requests.try_send(Request::Detach).unwrap();
        }
        assert_eq!(handle.requests.try_send(Request::Detach), Err(NotTaken));
        let mut cx = Context::from_waker(Waker::noop());
        let mut late = pin!(handle.requests.send(Request::MakeWay(handle.run.clone())));
        assert!(late.as_mut().poll(&mut cx).is_pending());
        asked.next().await;
        assert_eq!(late.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        assert_eq!(handle.requests.try_send(Request::Detach), Err(NotTaken));
    }

    #[tokio::test]
    async fn nobody_waits_for_an_executor_that_is_gone() {
        let (handle, asked) = line();
        let (request, answer) = asks();
        handle.requests.try_send(request).unwrap();
        for _ in 1..REQUESTS {
            handle.requests.try_send(Request::Detach).unwrap();
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut late = pin!(handle.requests.send(Request::Detach));
        assert!(late.as_mut().poll(&mut cx).is_pending());
        drop(asked);
        assert_eq!(late.as_mut().poll(&mut cx), Poll::Ready(Err(NotTaken)));
        assert!(answer.await.is_err(), "whoever asked waits for an answer that never comes");
        assert_eq!(handle.requests.try_send(Request::Detach), Err(NotTaken));
    }
}
