//! What is not yet covered by a checkpoint, and when the next one is due. Pure: no file, no thread, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::Instant;
use lifeboat_store::{Digest, LogId, Seq};

/// When checkpoints are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// After so many entries of one log.
    pub entries: u64,
    /// So long after an entry, however few there are.
    pub at_latest: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { entries: 100, at_latest: Duration::from_secs(60) }
    }
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) next: Seq,
    pub(super) chain: Digest,
}

/// Whether a commit is one that nobody should be able to deny later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It waits for others.
    Usual,
    /// A run began or ended, or there was no checkpoint of an earlier process: it is due at once.
    Grave,
}

#[derive(Debug)]
struct Waiting {
    stand: Stand,
    /// Entries behind the last checkpoint.
    entries: u64,
    /// Stands that are due whatever comes after them, each so many entries behind the one before it.
    marks: VecDeque<Stand>,
    /// Entries behind the last of those.
    since_mark: u64,
    /// When the oldest of the entries was written.
    since: Instant,
    weight: Weight,
}

/// Marks that one log keeps while its checkpoints cannot be written; of more, the older ones are dropped, and the newer ones prove the same.
const MARKS_MAX: usize = 1000;

/// Logs with entries that no checkpoint covers.
#[derive(Debug, Default)]
pub(super) struct State {
    waiting: BTreeMap<LogId, Waiting>,
    /// Logs that are not what was signed before: they are signed no more.
    refused: BTreeSet<LogId>,
}

impl State {
    /// Where the log stood, as far as that is known here.
    pub(super) fn stand(&self, log: &LogId) -> Option<Stand> {
        self.waiting.get(log).map(|waiting| waiting.stand)
    }

    /// So many entries were written, and now the log stands so.
    pub(super) fn written(&mut self, log: &LogId, stand: Stand, entries: u64, weight: Weight, timing: &Timing, now: Instant) {
        if self.refused.contains(log) {
            return;
        }
        let fresh = || Waiting { stand, entries: 0, marks: VecDeque::new(), since_mark: 0, since: now, weight };
        let waiting = self.waiting.entry(log.clone()).or_insert_with(fresh);
        if stand.next >= waiting.stand.next {
            waiting.stand = stand;
        }
        waiting.entries += entries;
        waiting.since_mark += entries;
        if weight == Weight::Grave {
            waiting.weight = Weight::Grave;
        }
        if waiting.since_mark >= timing.entries {
            waiting.since_mark = 0;
            waiting.marks.push_back(waiting.stand);
            if waiting.marks.len() > MARKS_MAX {
                waiting.marks.pop_front();
            }
        }
    }

    /// What is to be signed now, in order of place for each log. It stays here until it is said to be signed.
    pub(super) fn due(&self, timing: &Timing, now: Instant) -> Vec<(LogId, Stand)> {
        let mut due = Vec::new();
        for (log, waiting) in &self.waiting {
            due.extend(waiting.marks.iter().map(|stand| (log.clone(), *stand)));
            let at_once = waiting.weight == Weight::Grave || now.since(waiting.since) >= timing.at_latest;
            if at_once && waiting.marks.back() != Some(&waiting.stand) {
                due.push((log.clone(), waiting.stand));
            }
        }
        due
    }

    /// Whether anything of this log is due.
    pub(super) fn is_due(&self, log: &LogId, timing: &Timing, now: Instant) -> bool {
        self.waiting.get(log).is_some_and(|waiting| {
            !waiting.marks.is_empty() || waiting.weight == Weight::Grave || now.since(waiting.since) >= timing.at_latest
        })
    }

    /// Everything, due or not.
    pub(super) fn all(&self) -> Vec<(LogId, Stand)> {
        self.due(&Timing { entries: 0, at_latest: Duration::ZERO }, Instant(Duration::MAX))
    }

    /// How long until the next one is due by time alone; `None` where nothing waits.
    pub(super) fn next_due(&self, timing: &Timing, now: Instant) -> Option<Duration> {
        self.waiting.values().map(|waiting| timing.at_latest.saturating_sub(now.since(waiting.since))).min()
    }

    /// So far the checkpoints are durable.
    pub(super) fn signed(&mut self, batch: &[(LogId, Stand)], now: Instant) {
        for (log, stand) in batch {
            let Some(waiting) = self.waiting.get_mut(log) else { continue };
            waiting.marks.retain(|mark| mark.next > stand.next);
            if waiting.stand.next <= stand.next {
                self.waiting.remove(log);
            } else {
                // Grave stays grave: what came meanwhile may have been the end.
                waiting.entries = waiting.stand.next.0 - stand.next.0;
                waiting.since = now;
            }
        }
    }

    /// This log is signed no more.
    /// Whether a log is known not to be what was signed.
    pub(super) fn is_refused(&self, log: &LogId) -> bool {
        self.refused.contains(log)
    }

    pub(super) fn refuse(&mut self, log: &LogId) {
        self.waiting.remove(log);
        self.refused.insert(log.clone());
    }

    /// How many entries no checkpoint covers.
    pub(super) fn uncovered(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.entries).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    fn stand(next: u64) -> Stand {
        Stand { next: Seq(next), chain: Digest::of(&next.to_le_bytes()) }
    }

    #[test]
    fn a_log_is_due_after_a_hundred_entries_or_a_minute_or_at_once_where_it_is_grave() {
        let (a, b, c) = (LogId::new("run/a").unwrap(), LogId::new("run/b").unwrap(), LogId::new("run/c").unwrap());
        let timing = Timing::default();
        let mut state = State::default();
        assert_eq!(state.next_due(&timing, at(0)), None, "an idle engine is not woken");
        state.written(&a, stand(99), 99, Weight::Usual, &timing, at(0));
        state.written(&b, stand(1), 1, Weight::Usual, &timing, at(10));
        assert_eq!(state.due(&timing, at(59)), []);
        assert_eq!(state.next_due(&timing, at(59)), Some(Duration::from_secs(1)));
        state.written(&a, stand(100), 1, Weight::Usual, &timing, at(59));
        assert_eq!(state.due(&timing, at(59)), [(a.clone(), stand(100))]);
        state.written(&c, stand(7), 1, Weight::Grave, &timing, at(59));
        assert_eq!(state.due(&timing, at(70)), [(a.clone(), stand(100)), (b.clone(), stand(1)), (c, stand(7))]);
        // While nothing can be signed each hundredth entry keeps its own.
        state.written(&a, stand(150), 50, Weight::Usual, &timing, at(70));
        state.written(&a, stand(200), 50, Weight::Usual, &timing, at(70));
        let due: Vec<_> = state.due(&timing, at(59)).into_iter().filter(|(log, _)| *log == a).map(|(_, stand)| stand.next.0).collect();
        assert_eq!(due, [100, 200]);
        // What comes while the signature is under way waits anew.
        state.written(&a, stand(202), 2, Weight::Usual, &timing, at(70));
        state.signed(&[(a.clone(), stand(100)), (a.clone(), stand(200)), (b, stand(1))], at(71));
        assert_eq!(state.stand(&a), Some(stand(202)));
        assert_eq!(state.uncovered(), 3);
        assert!(!state.due(&timing, at(100)).iter().any(|(log, _)| *log == a));
        assert!(state.due(&timing, at(131)).iter().any(|(log, _)| *log == a));
        state.refuse(&a);
        state.written(&a, stand(203), 1, Weight::Grave, &timing, at(140));
        assert!(!state.due(&timing, at(999)).iter().any(|(log, _)| *log == a));
    }
}
