//! Truncating and removing logs, restoring cut ones, and throwing kept values away.

use std::time::Duration;

use super::{Subject, append, head, limit, log, record, texts};
use crate::{Digest, Forgotten, LogHead, Seq, StoreError, chain_after};

/// Earlier places answer `Compacted`, the carry stands at `before - 1`, later records and the chain are as they were.
pub async fn truncating_leaves_the_carry_and_an_unbroken_chain(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let large = "x".repeat(20_000);
    store.commit(append("run/a", 0, &["0", "1", &large, "3", "4"])).await.expect("committing");
    let before = head(&*store, "run/a").await.expect("the log is there");
    store.truncate(&log("run/a"), Seq(3), record("sum of 0 to 2")).await.expect("truncating");
    for gone in 0..2 {
        match store.read(&log("run/a"), Seq(gone), limit(5)).await {
            Err(StoreError::Compacted { first, log }) => {
                assert_eq!((first, log.as_str()), (Seq(2), "run/a"))
            }
            other => panic!("place {gone} should be gone, got {other:?}"),
        }
    }
    assert_eq!(texts(&*store, "run/a").await, ["sum of 0 to 2", "3", "4"]);
    assert_eq!(head(&*store, "run/a").await.expect("still there"), LogHead { first: Seq(2), ..before.clone() });
    let page = store.read(&log("run/a"), Seq(3), limit(5)).await.expect("reading behind the carry");
    assert_eq!((page.records.len(), page.chain), (2, before.chain));
    store.commit(append("run/a", 5, &["5"])).await.expect("the log goes on");
    let chain = chain_after(&before.chain, &record("5"));
    drop(store);
    let store = subject.open().await;
    assert_eq!(texts(&*store, "run/a").await, ["sum of 0 to 2", "3", "4", "5"]);
    assert_eq!(head(&*store, "run/a").await.expect("still there").chain, chain);
}

/// A log may be folded into its carry alone, and folded again.
pub async fn truncating_the_whole_log_and_again_keeps_the_place(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.truncate(&log("run/none"), Seq(0), record("x")).await.expect("nothing to forget");
    assert!(head(&*store, "run/none").await.is_none());
    store.commit(append("run/a", 0, &["0", "1"])).await.expect("committing");
    let chain = head(&*store, "run/a").await.expect("there").chain;
    let long = "long ".repeat(3000);
    for carry in ["first carry", &long, "short"] {
        store.truncate(&log("run/a"), Seq(2), record(carry)).await.expect("truncating");
        assert_eq!(texts(&*store, "run/a").await, [carry]);
    }
    let now = head(&*store, "run/a").await.expect("there");
    assert_eq!((now.first, now.next, now.chain), (Seq(1), Seq(2), chain));
    store.truncate(&log("run/a"), Seq(0), record("ignored")).await.expect("place 0 forgets nothing");
    store.commit(append("run/a", 2, &["2"])).await.expect("the place is kept");
    assert_eq!(texts(&*store, "run/a").await, ["short", "2"]);
}

/// A place that is not there yet or not there any more cannot be folded.
pub async fn truncating_past_the_end_or_what_is_gone_is_refused(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("run/a", 0, &["0", "1", "2"])).await.expect("committing");
    assert!(matches!(
        store.truncate(&log("run/a"), Seq(4), record("x")).await,
        Err(StoreError::Conflict { expected: Seq(4), found: Seq(3), .. })
    ));
    store.truncate(&log("run/a"), Seq(3), record("sum")).await.expect("truncating");
    let gone = store.truncate(&log("run/a"), Seq(2), record("x")).await;
    assert!(matches!(gone, Err(StoreError::Compacted { first: Seq(2), .. })), "{gone:?}");
    assert_eq!(texts(&*store, "run/a").await, ["sum"]);
}

/// A name is free again after removal, and nothing of the old log shows through, reopened or not.
pub async fn a_removed_name_starts_again_from_place_0(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let old: Vec<String> = (0..50).map(|n| format!("old {n} {}", "x".repeat(n * 200))).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    store.commit(append("run/a", 0, &old)).await.expect("committing");
    store.commit(append("run/b", 0, &["other"])).await.expect("committing");
    store.remove(&log("run/a")).await.expect("removing");
    store.remove(&log("run/never")).await.expect("removing what is not there");
    assert!(head(&*store, "run/a").await.is_none());
    assert!(texts(&*store, "run/a").await.is_empty());
    assert!(matches!(store.commit(append("run/a", 50, &["x"])).await, Err(StoreError::Conflict { found: Seq(0), .. })));
    store.commit(append("run/a", 0, &["new"])).await.expect("the name is free");
    assert_eq!(texts(&*store, "run/a").await, ["new"]);
    drop(store);
    let store = subject.open().await;
    assert_eq!(texts(&*store, "run/a").await, ["new"]);
    assert_eq!(texts(&*store, "run/b").await, ["other"]);
}

/// A log that was cut elsewhere begins with its carry, and goes on with its chain.
pub async fn a_restored_log_goes_on_from_its_carry(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let chain = Digest::of(b"what was before");
    store.restore(&log("run/a"), Seq(7), chain, record("sum of 0 to 7")).await.expect("restoring");
    assert_eq!(head(&*store, "run/a").await, Some(LogHead { log: log("run/a"), first: Seq(7), next: Seq(8), chain }));
    let again = store.restore(&log("run/a"), Seq(9), chain, record("x")).await;
    assert!(matches!(again, Err(StoreError::Conflict { found: Seq(8), .. })), "{again:?}");
    store.commit(append("run/a", 8, &["8"])).await.expect("the log goes on");
    drop(store);
    let store = subject.open().await;
    assert_eq!(texts(&*store, "run/a").await, ["sum of 0 to 7", "8"]);
    assert_eq!(head(&*store, "run/a").await.expect("there").chain, chain_after(&chain, &record("8")));
    let gone = store.read(&log("run/a"), Seq(6), limit(1)).await;
    assert!(matches!(gone, Err(StoreError::Compacted { first: Seq(7), .. })), "{gone:?}");
}

/// Kept values are listed in order and in pages; one that is thrown away is gone, unless it was kept just now, also where it was there before.
pub async fn a_kept_value_is_thrown_away_unless_it_was_kept_just_now(subject: &mut dyn Subject) {
    let grace = Duration::from_secs(60);
    let store = subject.open().await;
    let mut all = Vec::new();
    for text in ["one", "two", "three"] {
        all.push(store.keep(text.as_bytes()).await.expect("keeping"));
    }
    all.sort();
    let page = store.kept_values(None, limit(2)).await.expect("listing");
    assert_eq!(page, all[..2]);
    assert_eq!(store.kept_values(page.last(), limit(2)).await.expect("listing"), all[2..]);
    let one = Digest::of(b"one");
    assert_eq!(store.forget(&one, grace).await.expect("asking"), Forgotten::KeptJustNow);
    subject.advance(grace).await;
    store.keep(b"two").await.expect("keeping again");
    assert_eq!(store.forget(&Digest::of(b"two"), grace).await.expect("asking"), Forgotten::KeptJustNow);
    assert_eq!(store.forget(&one, grace).await.expect("throwing away"), Forgotten::Gone);
    assert_eq!(store.forget(&one, grace).await.expect("throwing away what is gone"), Forgotten::Gone);
    assert!(matches!(store.kept(&one).await, Err(StoreError::NoSuchValue(_))));
    assert_eq!(store.kept_values(None, limit(9)).await.expect("listing").len(), 2);
    assert_eq!(store.keep(b"one").await.expect("keeping it anew"), one);
    assert_eq!(store.kept(&one).await.expect("it is there again"), b"one");
}
