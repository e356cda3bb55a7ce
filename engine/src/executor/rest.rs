//! A run that only waits, for a person or for a time that is far: it holds next to nothing until something happens, and is then what its
//! journal adds up to. Thousands of runs may wait for days.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

use lifeboat_store::{OwnerId, Seq};

use super::handle::{Asked, Handle, Request};
use super::{Driven, Executor, ExecutorError, Pass, freezing};
use crate::history::{self, HistoryError};
use crate::ports::Ports;
use crate::tenure::Standing;

/// A run that goes on by itself sooner than this stays as it is.
const RESTS_FOR_MIN: SignedDuration = SignedDuration::from_secs(10);

/// A run with a longer journal stays as it is: reading it again would keep the person waiting who answers.
const RESTS_WITH_ENTRIES_MAX: u64 = 500;

/// So does one of a larger plan.
const RESTS_WITH_STEPS_MAX: usize = 500;

/// What is left of an executor while its run waits.
struct Resting {
    ports: Ports,
    owner: OwnerId,
    next: Seq,
    standing: Standing,
    freezes: freezing::Watch,
    requests: Asked,
    handle: Handle,
    wake_at: Option<Timestamp>,
    woken_by: Option<Box<Request>>,
}

/// Drives a run until it ends or is detached from.
pub(super) async fn drive(mut executor: Box<Executor>) -> Result<Driven, ExecutorError> {
    // Each stretch on the heap, so that a run which waits does not keep their room.
    let tenure = Box::pin(executor.begin_driving()).await?;
    loop {
        let pass = Box::pin(executor.drive_while_it_lasts()).await?;
        match pass {
            Pass::Over(driven) => {
                drop(executor);
                Box::pin(tenure.give_back()).await;
                return Ok(driven);
            }
            Pass::Rests { wake_at } => executor = Box::pin(executor.lie_down(wake_at).rest()).await?,
        }
    }
}

impl Executor {
    /// Whether nothing is under way and nothing is kept in mind that the journal does not say.
    pub(super) fn may_rest(&self, wake_at: Option<Timestamp>) -> bool {
        let idle = self.busy.is_empty() && self.tasks.is_empty() && self.measuring.is_empty() && self.listing.is_empty();
        let nobody_waits = self.waiting.is_empty() && self.replies.is_empty() && self.pending.is_empty() && self.calls.is_empty();
        let long = wake_at.is_none_or(|at| at.duration_since(self.ports.clock.now()) >= RESTS_FOR_MIN);
        let small = self.run.entries <= RESTS_WITH_ENTRIES_MAX && self.run.steps.len() <= RESTS_WITH_STEPS_MAX;
        // Where others may take the run over, or it watches what it has to make way for, it stays awake.
        let alone = !self.standing.is_leased() && self.wishes.is_none() && !self.freezes.is_blind();
        idle && nobody_waits && long && small && alone && !self.detaching
    }

    fn lie_down(self: Box<Self>, wake_at: Option<Timestamp>) -> Box<Resting> {
        let Self { ports, owner, next, standing, freezes, requests, handle, .. } = *self;
        Box::new(Resting { ports, owner, next, standing, freezes, requests, handle, wake_at, woken_by: None })
    }
}

impl Resting {
    async fn rest(mut self: Box<Self>) -> Result<Box<Executor>, ExecutorError> {
        self.until_woken().await;
        Box::pin(self.get_up()).await
    }

    async fn until_woken(&mut self) {
        let now = self.ports.clock.now();
        let pause = self.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
        let clock = &self.ports.clock;
        let timer = async {
            match pause {
                Some(length) => clock.sleep(length).await,
                None => std::future::pending().await,
            }
        };
        // In the order in which an executor that is awake looks.
        tokio::select! {
            biased;
            request = self.requests.next() => self.woken_by = Some(request),
            () = self.freezes.changed() => self.freezes.forget(),
            () = timer => {}
        }
    }

    /// The executor of the run as its journal has it.
    async fn get_up(self: Box<Self>) -> Result<Box<Executor>, ExecutorError> {
        let Self { ports, owner, next, standing, freezes, requests, handle, woken_by, .. } = *self;
        let loaded = history::load(ports.store.as_ref(), &handle.run).await.map_err(|error| match error {
            HistoryError::Store(error) => ExecutorError::Store(error),
            error
            @ (HistoryError::NoSuchRun(_) | HistoryError::Entry { .. } | HistoryError::Illegal { .. } | HistoryError::Plan { .. }) => {
                ExecutorError::Unreadable(error)
            }
        })?;
        if loaded.next != next {
            return Err(ExecutorError::Overtaken(handle.run));
        }
        let mut executor = Box::new(Executor::with(ports, owner, loaded.run, next, standing, freezes, requests, handle));
        if executor.freezes.is_forgotten() {
            executor.read_freezes().await;
        }
        if let Some(request) = woken_by {
            executor.asked(*request)?;
        }
        Ok(executor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::perform;

    fn given<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    fn lent<F: Future>(_: impl FnOnce(&'static mut Executor) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_each_of_thousands_of_runs_takes_is_small() {
        let sizes = [
            ("the task of a run", given(drive), 160),
            ("the task of a call", given(perform::perform), 512),
            ("driving", lent(Executor::drive_while_it_lasts), 1024),
            ("an executor", size_of::<Executor>(), 1792),
            ("a run at rest", size_of::<Resting>(), 320),
            ("the record of a step", size_of::<crate::run::StepRun>(), 384),
        ];
        for (what, bytes, most) in sizes {
            assert!(bytes <= most, "{what} takes {bytes} bytes, and {most} is the most: {sizes:?}");
        }
    }
}
