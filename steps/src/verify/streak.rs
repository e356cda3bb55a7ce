//! Counting successes in a row. Pure: when and how a check is made is elsewhere.

use jiff::Timestamp;

/// Unbroken successes of one check up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Streak {
    began: Option<Timestamp>,
    length: u32,
    attempts: u32,
    failures: u32,
}

impl Streak {
    /// One more success.
    pub(super) fn passed(&mut self, at: Timestamp) {
        self.attempts = self.attempts.saturating_add(1);
        self.length = self.length.saturating_add(1);
        self.began.get_or_insert(at);
    }

    /// A failure: what was before counts no more.
    pub(super) fn failed(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.length = 0;
        self.began = None;
    }

    /// When the streak began, if it has reached that length. A check that was never made has reached none.
    pub(super) fn reached(&self, length: u32) -> Option<Timestamp> {
        self.began.filter(|_| self.length >= length.max(1))
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    #[test]
    fn a_failure_between_begins_the_count_anew() {
        let mut streak = Streak::default();
        streak.passed(second(1));
        streak.passed(second(2));
        streak.failed();
        assert_eq!(streak.reached(1), None);
        streak.passed(second(4));
        streak.passed(second(5));
        assert_eq!(streak.reached(3), None);
        streak.passed(second(6));
        assert_eq!(streak.reached(3), Some(second(4)));
        assert_eq!((streak.attempts(), streak.failures(), streak.length()), (6, 1, 3));
    }

    #[test]
    fn a_check_that_was_never_made_is_not_green() {
        assert_eq!(Streak::default().reached(0), None);
        assert_eq!(Streak::default().reached(1), None);
    }
}
