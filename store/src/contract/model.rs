//! Random histories against the simplest model of a store. The named checks are next door.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Subject, limit, read_all};
use crate::{Commit, Digest, LogId, Record, Seq, Store, StoreError, chain_after, chain_start};

#[derive(Clone, Debug)]
enum Deed {
    /// Append to these logs; each expectation is off by this much (0 is right).
    Commit {
        logs: Vec<(u8, u16, u8)>,
        off_by: u8,
    },
    Truncate {
        log: u8,
        back: u8,
        bytes: u16,
    },
    Remove {
        log: u8,
    },
    Reopen,
}

#[derive(Debug)]
struct ModelLog {
    first: u64,
    records: Vec<Record>,
    chain: Digest,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let bytes = prop_oneof![4 => 0u16..300, 1 => 4000u16..4200, 1 => 8000u16..30_000];
    let target = (0u8..4, bytes.clone(), 1u8..4);
    let deed = prop_oneof![
        10 => (prop::collection::vec(target, 1..4), prop_oneof![5 => Just(0u8), 1 => 1u8..3])
            .prop_map(|(logs, off_by)| Deed::Commit { logs, off_by }),
        2 => (0u8..4, 0u8..8, bytes).prop_map(|(log, back, bytes)| Deed::Truncate { log, back, bytes }),
        1 => (0u8..4).prop_map(|log| Deed::Remove { log }),
        2 => Just(Deed::Reopen),
    ];
    prop::collection::vec(deed, 1..30)
}

/// Runs random histories, with the store opened again in between, and compares every log with the model at the end of each.
///
/// # Panics
/// Where store and model differ; the smallest history found is part of the message.
pub fn random_histories_match_the_model_across_reopening(make: impl Fn() -> Box<dyn Subject>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&deeds(), |deeds| {
        runtime.block_on(live_through(&mut *make(), &deeds));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

async fn live_through(subject: &mut dyn Subject, deeds: &[Deed]) {
    let mut store = subject.open().await;
    let mut model: BTreeMap<LogId, ModelLog> = BTreeMap::new();
    for (number, deed) in deeds.iter().enumerate() {
        match deed {
            Deed::Commit { logs, off_by } => commit(&*store, &mut model, logs, *off_by, number).await,
            Deed::Truncate { log, back, bytes } => truncate(&*store, &mut model, name(*log), *back, content(*bytes, number)).await,
            Deed::Remove { log } => {
                store.remove(&name(*log)).await.expect("removing");
                model.remove(&name(*log));
            }
            Deed::Reopen => {
                drop(store);
                store = subject.open().await;
                compare(&*store, &model).await;
            }
        }
    }
    compare(&*store, &model).await;
}

fn name(log: u8) -> LogId {
    LogId::new(&format!("run/{log}")).expect("a proper name")
}

fn content(bytes: u16, number: usize) -> Record {
    Record((0..bytes).map(|at| (at as usize + number) as u8).collect())
}

async fn commit(store: &dyn Store, model: &mut BTreeMap<LogId, ModelLog>, logs: &[(u8, u16, u8)], off_by: u8, number: usize) {
    let next = |model: &BTreeMap<LogId, ModelLog>, log: &LogId| model.get(log).map_or(0, |found| found.first + found.records.len() as u64);
    let mut wanted = Commit::default();
    for (log, bytes, count) in logs {
        wanted.expect.push((name(*log), Seq(next(model, &name(*log)) + u64::from(off_by))));
        wanted.append.push((name(*log), vec![content(*bytes, number); usize::from(*count)]));
    }
    match (store.commit(wanted.clone()).await, off_by) {
        (Ok(()), 0) => {}
        (Err(StoreError::Conflict { log, expected, found }), 1..) => {
            assert_eq!(Some(&(log.clone(), expected)), wanted.expect.first(), "the first difference is named");
            assert_eq!(found, Seq(next(model, &log)));
            return;
        }
        (other, _) => panic!("a commit off by {off_by} answered {other:?}"),
    }
    for (log, records) in wanted.append {
        let start = chain_start(&log);
        let found = model.entry(log).or_insert(ModelLog { first: 0, records: Vec::new(), chain: start });
        for record in records {
            found.chain = chain_after(&found.chain, &record);
            found.records.push(record);
        }
    }
}

async fn truncate(store: &dyn Store, model: &mut BTreeMap<LogId, ModelLog>, log: LogId, back: u8, carry: Record) {
    let Some(found) = model.get_mut(&log) else {
        return;
    };
    let before = (found.first + found.records.len() as u64).saturating_sub(u64::from(back));
    let answer = store.truncate(&log, Seq(before), carry.clone()).await;
    match before.checked_sub(1) {
        None => answer.expect("nothing to forget"),
        Some(place) if place < found.first => {
            assert!(matches!(answer, Err(StoreError::Compacted { first, .. }) if first.0 == found.first), "{answer:?}");
        }
        Some(place) => {
            answer.expect("truncating");
            found.records.drain(..(place - found.first) as usize);
            found.first = place;
            if let Some(first) = found.records.first_mut() {
                *first = carry;
            }
        }
    }
}

async fn compare(store: &dyn Store, model: &BTreeMap<LogId, ModelLog>) {
    let heads = store.logs("", None, limit(100)).await.expect("listing");
    let named: Vec<_> = heads.iter().map(|head| (&head.log, head.first.0, head.next.0, head.chain)).collect();
    let wanted: Vec<_> = model.iter().map(|(log, m)| (log, m.first, m.first + m.records.len() as u64, m.chain)).collect();
    assert_eq!(named, wanted);
    for (log, expected) in model {
        let (all, _, chain) = read_all(store, log, 7).await;
        assert_eq!(chain, expected.chain);
        let records: Vec<Record> = all.into_iter().map(|(_, record)| record).collect();
        assert_eq!(records, expected.records, "{log}");
    }
}
