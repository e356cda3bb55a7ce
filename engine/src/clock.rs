//! Time, handed in as an argument. The one door to the system's clocks is [`SystemClock`].

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
pub use jiff::Timestamp;

/// An instant on a clock that never steps and goes on during suspend (CLOCK_BOOTTIME). Meaningless outside its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub Duration);

impl Instant {
    /// Time since an earlier instant, zero if it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// A later instant.
    #[must_use]
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

/// Where time comes from.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// The steady clock.
    fn instant(&self) -> Instant;
    /// Waits.
    async fn sleep(&self, length: Duration);
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one door to the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Instant(Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)))
    }

    #[expect(clippy::disallowed_methods, reason = "the one door to timers")]
    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}
