//! Waiting for something real, with a bound: looks again and again until it is so or the time is over. No fixed sleeps elsewhere.

use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Looks until `look` finds something or `within` has passed; the last look is after the end of the time.
///
/// A server that ended, or another reason to stop early, is something found: let `look` return it.
pub fn look_until<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = now();
    loop {
        let late = now().duration_since(begin) > within;
        if let Some(found) = look() {
            return Some(found);
        }
        if late {
            return None;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The clock of waiting.
#[expect(clippy::disallowed_methods, reason = "these tools wait for other processes; no run is measured or decided by this clock")]
fn now() -> Instant {
    Instant::now()
}
