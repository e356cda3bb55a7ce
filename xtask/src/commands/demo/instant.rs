//! Points on the wall clock, as the client's log has them. Nothing is decided by them; figures are compared.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in seconds since 1970, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Instant(Duration);

impl Instant {
    /// This moment.
    #[expect(clippy::disallowed_methods, reason = "the client outside the engine has its own clock, which is the point of it")]
    pub(super) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Seconds from an earlier point to this one; negative when it is not earlier.
    pub(super) fn since(self, earlier: Self) -> f64 {
        self.0.as_secs_f64() - earlier.0.as_secs_f64()
    }

    #[cfg(test)]
    pub(super) fn at_seconds(seconds: f64) -> Self {
        Self(Duration::from_secs_f64(seconds))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}
