//! Virtual time, and the runtime that lives in it: time moves on to the next timer whenever every task waits. One thread, no
//! chance: the same work makes the same steps in the same order. What processes do in this time is not here.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use lifeboat_store::LeaseClock;

use crate::clock::{Clock, Instant};

/// The wall clock when every play begins: 2026-03-01T00:00:00Z.
pub const DAWN_SECONDS: i64 = 1_772_323_200;

/// Longest play unless it says otherwise: a run that is not at rest by then goes in circles or waits for nothing.
pub const EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// A play that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stalled {
    /// Every task waits, and no timer will wake one.
    #[error("everything waits and no timer will wake anything")]
    Waiting,
    /// It goes on past the end of time.
    #[error("it still goes on after {0:?} of virtual time")]
    Endless(Duration),
    /// The runtime could not be built.
    #[error("the runtime could not be built")]
    Runtime,
}

/// A clock that moves only when told to, or when nothing else can. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    shared: Arc<Mutex<Time>>,
}

#[derive(Debug, Default)]
struct Time {
    steady: Duration,
    /// How far the wall clock was stepped away from the steady one.
    stepped: SignedDuration,
    /// Due time and order of asking.
    timers: BTreeMap<(Duration, u64), Waker>,
    asked: u64,
    /// Wakes the play itself when nothing can go on.
    play: Option<Waker>,
    stalled: Option<Stalled>,
    ends_at: Option<Duration>,
}

impl SimClock {
    /// Time at dawn.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since dawn, on the steady clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.time().steady
    }

    /// Steps the wall clock, as a person or a time server does. The steady clock does not notice.
    pub fn step_wall(&self, by: SignedDuration) {
        let mut time = self.time();
        time.stepped = time.stepped.saturating_add(by);
    }

    /// Plays in virtual time until `work` is over, at most [`EVER`].
    ///
    /// # Errors
    /// [`Stalled`] where it cannot come to an end.
    pub fn play<T>(&self, work: impl Future<Output = T>) -> Result<T, Stalled> {
        let idle = self.clone();
        // Nothing but this clock wakes anything: no timer and no driver of the runtime's own.
        let runtime =
            tokio::runtime::Builder::new_current_thread().on_thread_park(move || idle.go_on()).build().map_err(|_| Stalled::Runtime)?;
        {
            let mut time = self.time();
            time.ends_at = Some(time.steady.saturating_add(EVER));
            time.stalled = None;
        }
        runtime.block_on(async {
            let mut work = pin!(work);
            poll_fn(|cx| {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(Ok(done));
                }
                let mut time = self.time();
                match time.stalled {
                    Some(stalled) => Poll::Ready(Err(stalled)),
                    None => {
                        time.play = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
            .await
        })
    }

    /// Everything waits: wakes what is due next.
    fn go_on(&self) {
        let waker = {
            let mut time = self.time();
            let next = time.timers.pop_first();
            let stalled = match &next {
                None => Some(Stalled::Waiting),
                Some(((at, _), _)) if time.ends_at.is_some_and(|end| *at > end) => Some(Stalled::Endless(EVER)),
                Some(_) => None,
            };
            match (stalled, next) {
                (None, Some(((at, _), waker))) => {
                    time.steady = time.steady.max(at);
                    Some(waker)
                }
                (stalled, _) => {
                    time.stalled = stalled;
                    time.play.take()
                }
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let time = self.time();
        let dawn = Timestamp::from_second(DAWN_SECONDS).unwrap_or(Timestamp::UNIX_EPOCH);
        let since = SignedDuration::try_from(time.steady).unwrap_or(SignedDuration::MAX).saturating_add(time.stepped);
        dawn.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    fn instant(&self) -> Instant {
        Instant(self.elapsed())
    }

    async fn sleep(&self, length: Duration) {
        let due = self.elapsed().saturating_add(length);
        Sleep { clock: self, due, place: None }.await;
    }
}

impl LeaseClock for SimClock {
    fn now(&self) -> Duration {
        self.elapsed()
    }
}

struct Sleep<'a> {
    clock: &'a SimClock,
    due: Duration,
    place: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut time = this.clock.time();
        if time.steady >= this.due {
            if let Some(place) = this.place.take() {
                time.timers.remove(&(this.due, place));
            }
            return Poll::Ready(());
        }
        let place = *this.place.get_or_insert_with(|| {
            time.asked += 1;
            time.asked
        });
        time.timers.insert((this.due, place), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.clock.time().timers.remove(&(self.due, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_on_by_itself_and_in_order() {
        let clock = SimClock::new();
        let order = clock.play(async {
            let order = Mutex::new(Vec::new());
            let nap = async |seconds: u64| {
                clock.sleep(Duration::from_secs(seconds)).await;
                order.lock().unwrap().push((seconds, clock.elapsed().as_secs()));
            };
            tokio::join!(nap(3), nap(1), nap(2));
            order.into_inner().unwrap()
        });
        assert_eq!(order, Ok(vec![(1, 1), (2, 2), (3, 3)]));
    }

    #[test]
    fn a_wall_clock_that_is_stepped_does_not_move_the_steady_one() {
        let clock = SimClock::new();
        let before = Clock::now(&clock);
        assert_eq!(before.to_string(), "2026-03-01T00:00:00Z");
        clock.step_wall(SignedDuration::from_hours(-3));
        assert_eq!(Clock::now(&clock).duration_since(before), SignedDuration::from_hours(-3));
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[test]
    fn what_waits_for_nothing_and_what_never_ends_is_told() {
        let clock = SimClock::new();
        assert_eq!(clock.play(std::future::pending::<()>()), Err(Stalled::Waiting));
        let endless = clock.play(async {
            loop {
                clock.sleep(Duration::from_secs(3600)).await;
            }
        });
        assert_eq!(endless, Err::<(), _>(Stalled::Endless(EVER)));
    }

    #[test]
    fn a_timer_that_was_let_go_holds_nothing_up() {
        let clock = SimClock::new();
        let seen = clock.play(async {
            tokio::select! {
                () = clock.sleep(Duration::from_secs(1)) => {}
                () = clock.sleep(Duration::from_secs(3600)) => {}
            }
            clock.sleep(Duration::from_secs(1)).await;
            clock.elapsed()
        });
        assert_eq!(seen, Ok(Duration::from_secs(2)));
    }
}
