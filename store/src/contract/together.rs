//! Many at once: watchers, competing writers, readers beside writers.

use std::time::Duration;

use super::{Subject, append, limit, log, record, texts};
use crate::{Seq, StoreError};

/// Whatever changes after `watch` returned wakes the watcher.
pub async fn a_watcher_never_misses_a_change(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let mut changes = store.watch("run/").await.expect("watching");
    let soon = Duration::from_secs(20);
    for place in 0..5 {
        store.commit(append("run/a", place, &["x"])).await.expect("committing");
        tokio::time::timeout(soon, changes.next()).await.expect("woken by a commit").expect("the store is there");
    }
    store.truncate(&log("run/a"), Seq(2), record("sum")).await.expect("truncating");
    tokio::time::timeout(soon, changes.next()).await.expect("woken by a truncation").expect("the store is there");
    store.remove(&log("run/a")).await.expect("removing");
    tokio::time::timeout(soon, changes.next()).await.expect("woken by a removal").expect("the store is there");
    // A follower that reads, then waits, reaches the end whatever the timing.
    let writer = store.clone();
    let written = tokio::spawn(async move {
        for place in 0..200 {
            writer.commit(append("run/b", place, &["x"])).await.expect("committing");
        }
    });
    let mut changes = store.watch("run/b").await.expect("watching");
    let mut seen = 0;
    while seen < 200 {
        let page = store.read(&log("run/b"), Seq(seen), limit(1000)).await.expect("reading");
        seen += page.records.len() as u64;
        if seen < 200 {
            tokio::time::timeout(soon, changes.next()).await.expect("woken").expect("the store is there");
        }
    }
    written.await.expect("the writer ended well");
}

/// Many writers on one log: each place is won once, and every loser is told so.
pub async fn of_many_writers_exactly_one_gets_each_place(subject: &mut dyn Subject) {
    const WRITERS: u64 = 8;
    const PLACES: u64 = 25;
    let store = subject.open().await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            let mut won = Vec::new();
            for place in 0..PLACES {
                let name = format!("writer {writer} at {place}");
                match store.commit(append("run/a", place, &[&name])).await {
                    Ok(()) => won.push((place, name)),
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("unexpected {other:?}"),
                }
                // A slow writer must not run ahead of places that are not taken yet.
                let mut changes = store.watch("run/a").await.expect("watching");
                while store.read(&log("run/a"), Seq(place), limit(1)).await.expect("reading").next.0 <= place {
                    changes.next().await.expect("the store is there");
                }
            }
            won
        }));
    }
    let mut won = Vec::new();
    for writer in writers {
        won.extend(writer.await.expect("the writer ended well"));
    }
    won.sort();
    assert_eq!(won.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (0..PLACES).collect::<Vec<_>>());
    assert_eq!(texts(&*store, "run/a").await, won.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
}

/// Reading goes on while others append, truncate and remove, and never shows a broken chain.
pub async fn readers_beside_writers_always_see_a_whole_chain(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let writer = store.clone();
    let work = tokio::spawn(async move {
        for _ in 0..6 {
            let mut next = 0;
            for _ in 0..4 {
                writer.commit(append("run/a", next, &["a", "b", "c", "d", "e"])).await.expect("committing");
                next += 5;
                writer.truncate(&log("run/a"), Seq(next - 2), record("carry")).await.expect("truncating");
            }
            writer.remove(&log("run/a")).await.expect("removing");
        }
    });
    while !work.is_finished() {
        let mut from = Seq(0);
        loop {
            match store.read(&log("run/a"), from, limit(2)).await {
                Ok(page) if page.records.is_empty() => break,
                Ok(page) => from = page.records.last().map_or(from, |(place, _)| Seq(place.0 + 1)),
                Err(StoreError::Compacted { first, .. }) => {
                    assert!(first > from, "told to go on from {first:?} at {from:?}");
                    from = first;
                }
                Err(other) => panic!("reading beside a writer: {other:?}"),
            }
        }
        tokio::task::yield_now().await;
    }
    work.await.expect("the writer ended well");
    assert!(texts(&*store, "run/a").await.is_empty());
}
