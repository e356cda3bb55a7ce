//! Medians, and the clock that the bench reads. What is measured is elsewhere.

use std::time::Duration;

use lifeboat_engine::clock::{Clock as _, Instant, SystemClock};

/// Now, on a clock that never steps.
pub(crate) fn now() -> Instant {
    SystemClock.instant()
}

/// The middle one; zero of none.
pub(crate) fn median<T: Copy + PartialOrd + Default>(values: &mut [T]) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Microseconds, for people.
pub(crate) fn micros(length: Duration) -> String {
    format!("{:.0} us", length.as_secs_f64() * 1e6)
}

/// Milliseconds, for people.
pub(crate) fn millis(length: Duration) -> String {
    format!("{:.1} ms", length.as_secs_f64() * 1e3)
}
