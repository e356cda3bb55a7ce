//! When the next attempt is due. Pure: chance comes from the attempt's own name, so that a replay waits as long.

use std::time::Duration;

use lifeboat_runbooks::plan::Retry;
use lifeboat_store::Digest;

/// Wait before attempt `attempt + 1`: doubled each time from the shortest to the longest, then shortened by up to half, so that
/// many runs that failed at once do not come back at once.
#[must_use]
pub fn delay(retry: &Retry, attempt: u32, name: &str) -> Duration {
    let doubled = retry.backoff_min_ms.saturating_mul(1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX));
    let whole = doubled.min(retry.backoff_max_ms).max(1);
    let chance = Digest::of(format!("{name}/{attempt}").as_bytes()).0;
    let share = u64::from(u16::from_be_bytes([chance[0], chance[1]]));
    Duration::from_millis(whole - (whole / 2) * share / u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_never_past_it() {
        let retry = Retry { attempts: 50, backoff_min_ms: 2000, backoff_max_ms: 30_000, on: None };
        for attempt in 1..50 {
            let wait = delay(&retry, attempt, "run/step").as_millis();
            let whole = (2000u128 << (attempt - 1).min(10)).min(30_000);
            assert!(wait <= whole && wait >= whole / 2, "attempt {attempt} waits {wait} ms of {whole}");
        }
    }

    #[test]
    fn two_steps_do_not_wait_equally_long() {
        let retry = Retry { attempts: 2, backoff_min_ms: 10_000, backoff_max_ms: 30_000, on: None };
        assert_ne!(delay(&retry, 1, "a/x"), delay(&retry, 1, "b/x"));
    }
}
