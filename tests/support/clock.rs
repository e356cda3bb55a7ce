//! The clock and the environment of these tests. No product code measures or decides by them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// This moment, to measure how long something took.
#[expect(clippy::disallowed_methods, reason = "a test bounds how long another process may take")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970 on the wall clock, which every process of this machine shares.
#[expect(clippy::disallowed_methods, reason = "a client outside the engine has its own clock")]
pub(crate) fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A number from the environment: how a person repeats or lengthens a test.
#[expect(clippy::disallowed_methods, reason = "the test runner takes no options of ours")]
pub(crate) fn wish(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
