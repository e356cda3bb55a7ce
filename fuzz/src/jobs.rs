//! One campaign on several processors: as many jobs, each with its own chance and its own kept inputs, and one count.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::run::{Campaign, Outcome, Shared, campaign};

/// The stack of a thread of the engine: what overflows there must overflow here.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Runs on a thread with such a stack. `None` where that cannot be had.
pub fn on_a_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?.join().ok())
}

/// The parts into which so many executions fall.
fn shares(executions: u64, jobs: u64) -> Vec<u64> {
    let jobs = jobs.max(1);
    (0..jobs).map(|job| executions / jobs + u64::from(job < executions % jobs)).collect()
}

/// Runs a campaign in so many jobs. `tell` hears now and then what came of all of them so far. The same seed with the same number of jobs does
/// the same.
///
/// # Errors
/// Where the kept inputs cannot be read, or a job could not be started or ended by itself.
pub fn in_jobs(asked: &Campaign, jobs: u64, tell: &(dyn Fn(&Outcome) + Sync)) -> std::io::Result<Outcome> {
    let shares = shares(asked.executions, jobs);
    let shared = Shared::default();
    let so_far = Mutex::new(vec![Outcome::default(); shares.len()]);
    let ended = thread::scope(|scope| -> std::io::Result<Vec<_>> {
        let mut running = Vec::new();
        for (job, executions) in (0..).zip(shares) {
            let (shared, so_far) = (&shared, &so_far);
            let own = Campaign { executions, job, ..asked.clone() };
            let work = move || {
                campaign(&own, shared, &mut |outcome| {
                    let mut all = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = usize::try_from(job).ok().and_then(|job| all.get_mut(job)) {
                        // The kept inputs are not for telling.
                        *place = Outcome { found: Vec::new(), ..outcome.clone() };
                    }
                    tell(&together(&all));
                })
            };
            running.push(thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work)?);
        }
        Ok(running.into_iter().map(thread::ScopedJoinHandle::join).collect())
    })?;
    let died = || std::io::Error::other("a job of the fuzzer itself panicked");
    let outcomes = ended.into_iter().map(|ended| ended.map_err(|_| died())?).collect::<std::io::Result<Vec<Outcome>>>()?;
    Ok(together(&outcomes))
}

fn together(outcomes: &[Outcome]) -> Outcome {
    let mut all = Outcome::default();
    for outcome in outcomes {
        all.executions += outcome.executions;
        all.distinct += outcome.distinct;
        all.whole += outcome.whole;
        all.slowest = all.slowest.max(outcome.slowest);
        all.behaviours.extend(&outcome.behaviours);
        all.found.extend(outcome.found.iter().cloned());
        all.finding = all.finding.or_else(|| outcome.finding.clone());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_jobs_are_all_that_was_asked_for() {
        for (executions, jobs) in [(10_000_000, 2), (7, 3), (1, 4), (0, 2), (5, 0)] {
            let shares = shares(executions, jobs);
            assert_eq!(shares.iter().sum::<u64>(), executions);
            assert!(shares.iter().max().zip(shares.iter().min()).is_some_and(|(most, least)| most - least <= 1), "{shares:?}");
        }
    }
}
