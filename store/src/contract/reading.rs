//! Reading and listing: pages, the chain, kept values, and the same after reopening.

use super::{Subject, append, head, limit, log, read_all, record};
use crate::{Commit, Digest, LogHead, PAGE_BYTES_MAX, RECORD_BYTES_MAX, Record, Seq, StoreError, chain_after, chain_start};

/// Pages of any size join up to the same log, and each tells the chain at its end.
pub async fn pages_keep_to_their_limits_and_join_up(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let all: Vec<String> = (0..23).map(|n| format!("record {n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    store.commit(append("run/a", 0, &all)).await.expect("committing");
    let whole = read_all(&*store, &log("run/a"), 1000).await;
    for size in [1, 2, 7, 22, 23, 24] {
        let page = store.read(&log("run/a"), Seq(0), limit(size)).await.expect("reading");
        assert_eq!(page.records.len(), (size as usize).min(23));
        assert_eq!(page.next, Seq(23), "every page tells where the log ends");
        let chain = all.iter().take(page.records.len()).fold(chain_start(&log("run/a")), |c, text| chain_after(&c, &record(text)));
        assert_eq!(page.chain, chain, "a page's chain is the one after its last record");
        assert_eq!(read_all(&*store, &log("run/a"), size).await, whole);
    }
}

/// A page of large records ends before it is too large, and always holds at least one.
pub async fn one_page_never_exceeds_its_bytes(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let large = |n: u8| Record(vec![n; RECORD_BYTES_MAX / 2]);
    for n in 0..10 {
        let commit = Commit { expect: Vec::new(), append: vec![(log("run/a"), vec![large(n)])] };
        store.commit(commit).await.expect("committing");
    }
    let page = store.read(&log("run/a"), Seq(0), limit(1000)).await.expect("reading");
    let bytes: usize = page.records.iter().map(|(_, record)| record.0.len()).sum();
    assert!(bytes <= PAGE_BYTES_MAX && !page.records.is_empty(), "{bytes} bytes");
    let (all, _, _) = read_all(&*store, &log("run/a"), 1000).await;
    assert_eq!(all.len(), 10);
    assert!(all.iter().zip(0..).all(|((_, record), n)| *record == large(n)));
}

/// Nothing is there yet, which is not an error: this is how a log is followed.
pub async fn reading_past_the_end_is_an_empty_page(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("run/a", 0, &["x"])).await.expect("committing");
    let chain = chain_after(&chain_start(&log("run/a")), &record("x"));
    for from in [1, 2, u64::MAX] {
        let page = store.read(&log("run/a"), Seq(from), limit(5)).await.expect("reading");
        assert_eq!((page.records.len(), page.next, page.chain), (0, Seq(1), chain));
    }
}

/// The hash chain is a matter of the records and the name alone.
pub async fn the_chain_is_the_one_that_anybody_can_compute(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("run/a", 0, &["one"])).await.expect("committing");
    store.commit(append("run/a", 1, &["two", "three"])).await.expect("committing");
    let chain = ["one", "two", "three"].iter().fold(chain_start(&log("run/a")), |c, text| chain_after(&c, &record(text)));
    let head = head(&*store, "run/a").await.expect("the log is there");
    assert_eq!(head, LogHead { log: log("run/a"), first: Seq(0), next: Seq(3), chain });
}

/// Listing is by prefix, in order of name, and goes on after the last one seen.
pub async fn logs_are_listed_by_prefix_in_order_and_in_pages(subject: &mut dyn Subject) {
    let store = subject.open().await;
    for name in ["run/c", "run/a", "lock/a", "run/b", "runs", "run/a/child"] {
        store.commit(append(name, 0, &["x"])).await.expect("committing");
    }
    let list = async |prefix: &str, after: Option<&str>, most: u32| -> Vec<String> {
        let after = after.map(log);
        let heads = store.logs(prefix, after.as_ref(), limit(most)).await.expect("listing");
        heads.into_iter().map(|head| head.log.to_string()).collect()
    };
    assert_eq!(list("run/", None, 10).await, ["run/a", "run/a/child", "run/b", "run/c"]);
    assert_eq!(list("run/", None, 2).await, ["run/a", "run/a/child"]);
    assert_eq!(list("run/", Some("run/a/child"), 2).await, ["run/b", "run/c"]);
    assert_eq!(list("run/", Some("run/aa"), 9).await, ["run/b", "run/c"]);
    assert_eq!(list("", None, 10).await.len(), 6);
    assert!(list("nothing/", None, 10).await.is_empty());
    assert!(list("run/", Some("run/c"), 10).await.is_empty());
}

/// Large values come back by digest, also after reopening.
pub async fn a_kept_value_comes_back_and_an_unknown_one_is_said_to_be_unknown(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for value in [&b""[..], b"small", &large] {
        let digest = store.keep(value).await.expect("keeping");
        assert_eq!(digest, Digest::of(value));
        assert_eq!(store.keep(value).await.expect("keeping again"), digest);
        assert_eq!(store.kept(&digest).await.expect("reading"), value);
    }
    let unknown = Digest::of(b"never kept");
    assert!(matches!(store.kept(&unknown).await, Err(StoreError::NoSuchValue(digest)) if digest == unknown));
    drop(store);
    let store = subject.open().await;
    assert_eq!(store.kept(&Digest::of(&large)).await.expect("reading"), large);
}

/// Nothing depends on the process that wrote it.
pub async fn a_reopened_store_reads_the_same(subject: &mut dyn Subject) {
    let store = subject.open().await;
    for n in 0..40u64 {
        let name = format!("run/{}", n % 4);
        let commit = Commit { expect: Vec::new(), append: vec![(log(&name), vec![Record(vec![n as u8; n as usize * 700])])] };
        store.commit(commit).await.expect("committing");
    }
    store.truncate(&log("run/1"), Seq(4), record("carry")).await.expect("truncating");
    store.remove(&log("run/2")).await.expect("removing");
    let heads = store.logs("", None, limit(100)).await.expect("listing");
    let mut content = Vec::new();
    for head in &heads {
        content.push(read_all(&*store, &head.log, 3).await);
    }
    drop(store);
    for _ in 0..3 {
        let store = subject.open().await;
        assert_eq!(store.logs("", None, limit(100)).await.expect("listing"), heads);
        for (head, content) in heads.iter().zip(&content) {
            assert_eq!(read_all(&*store, &head.log, 100).await, *content);
        }
    }
}
