//! Committing: order, conflicts, all or nothing, limits.

use super::{Subject, append, head, limit, log, records, texts};
use crate::{COMMIT_BYTES_MAX, COMMIT_LOGS_MAX, Commit, KEPT_BYTES_MAX, LogId, RECORD_BYTES_MAX, Record, Seq, StoreError, chain_start};

/// What was committed is read back, in order, from place 0.
pub async fn a_commit_is_read_back_in_order(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("run/a", 0, &["one", "two"])).await.expect("first commit");
    store.commit(append("run/a", 2, &["three"])).await.expect("second commit");
    let page = store.read(&log("run/a"), Seq(0), limit(10)).await.expect("reading");
    let expected: Vec<_> = (0..).map(Seq).zip(records(&["one", "two", "three"])).collect();
    assert_eq!(page.records, expected);
    assert_eq!(page.next, Seq(3));
}

/// Who comes second is told which log was taken and where it stands; nothing of the commit is there.
pub async fn a_conflict_names_the_log_and_writes_nothing(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("run/a", 0, &["first"])).await.expect("first commit");
    for expected in [0, 2, u64::MAX] {
        let mut late = append("run/a", expected, &["late"]);
        late.append.push((log("run/new"), records(&["late"])));
        match store.commit(late).await {
            Err(StoreError::Conflict { log: name, expected: told, found }) => {
                assert_eq!((name.as_str(), told, found), ("run/a", Seq(expected), Seq(1)));
            }
            other => panic!("expected a conflict at place {expected}, got {other:?}"),
        }
    }
    assert_eq!(texts(&*store, "run/a").await, ["first"]);
    assert!(head(&*store, "run/new").await.is_none(), "a refused commit made a log");
}

/// `expect` alone guards a commit to other logs.
pub async fn a_log_that_is_only_expected_is_compared_too(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("freeze", 0, &["on"])).await.expect("freezing");
    let guarded = |place| Commit {
        expect: vec![(log("freeze"), Seq(place)), (log("run/a"), Seq(0))],
        append: vec![(log("run/a"), records(&["began"]))],
    };
    assert!(matches!(store.commit(guarded(0)).await, Err(StoreError::Conflict { log, .. }) if log.as_str() == "freeze"));
    assert!(texts(&*store, "run/a").await.is_empty());
    store.commit(guarded(1)).await.expect("the right expectation");
    let nothing = Commit { expect: vec![(log("freeze"), Seq(1))], append: Vec::new() };
    store.commit(nothing.clone()).await.expect("comparing alone");
    store.commit(append("freeze", 1, &["off"])).await.expect("unfreezing");
    assert!(matches!(store.commit(nothing).await, Err(StoreError::Conflict { found: Seq(2), .. })));
}

/// A log nobody wrote to is empty, not an error.
pub async fn an_unknown_log_is_empty_and_expected_at_place_0(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let page = store.read(&log("run/none"), Seq(0), limit(5)).await.expect("reading nothing");
    assert_eq!((page.records.len(), page.next, page.chain), (0, Seq(0), chain_start(&log("run/none"))));
    assert!(matches!(store.commit(append("run/none", 1, &["x"])).await, Err(StoreError::Conflict { found: Seq(0), .. })));
    store.commit(append("run/none", 0, &["x"])).await.expect("place 0 is free");
}

/// All logs of a commit move, or none.
pub async fn a_commit_over_several_logs_happens_whole_or_not_at_all(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let names = ["lock/db", "run/a", "slot/weekly"];
    let admit = |places: [u64; 3]| Commit {
        expect: names.iter().zip(places).map(|(name, place)| (log(name), Seq(place))).collect(),
        append: names.iter().map(|name| (log(name), records(&["admitted"]))).collect(),
    };
    store.commit(admit([0, 0, 0])).await.expect("all are free");
    for wrong in [[1, 1, 0], [1, 0, 1], [0, 1, 1]] {
        assert!(matches!(store.commit(admit(wrong)).await, Err(StoreError::Conflict { .. })));
    }
    for name in names {
        assert_eq!(texts(&*store, name).await, ["admitted"], "{name}");
    }
    store.commit(admit([1, 1, 1])).await.expect("all stand at 1");
}

/// Naming a log twice is no reason to lose or shuffle records.
pub async fn the_same_log_twice_in_one_commit_is_appended_to_in_order(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let twice = Commit {
        expect: vec![(log("run/a"), Seq(0)), (log("run/a"), Seq(0))],
        append: vec![(log("run/a"), records(&["1", "2"])), (log("run/b"), records(&["x"])), (log("run/a"), records(&["3"]))],
    };
    store.commit(twice).await.expect("committing");
    assert_eq!(texts(&*store, "run/a").await, ["1", "2", "3"]);
    assert_eq!(texts(&*store, "run/b").await, ["x"]);
}

/// A log exists from its first record on; a record of no bytes is one.
pub async fn an_empty_append_makes_no_log(subject: &mut dyn Subject) {
    let store = subject.open().await;
    store.commit(append("run/a", 0, &[])).await.expect("appending nothing");
    assert!(head(&*store, "run/a").await.is_none());
    store.commit(append("run/a", 0, &["", ""])).await.expect("appending empty records");
    assert_eq!(texts(&*store, "run/a").await, ["", ""]);
}

/// Limits are answered, and the store goes on.
pub async fn what_passes_a_limit_is_refused_and_nothing_is_written(subject: &mut dyn Subject) {
    let store = subject.open().await;
    let commit = |append: Vec<(LogId, Vec<Record>)>| Commit { expect: Vec::new(), append };
    let just = Record(vec![7; RECORD_BYTES_MAX]);
    let over = Record(vec![7; RECORD_BYTES_MAX + 1]);
    let too_large = |result: Result<(), StoreError>| matches!(result, Err(StoreError::TooLarge { .. }));
    assert!(too_large(store.commit(commit(vec![(log("run/b"), records(&["x"])), (log("run/a"), vec![over.clone()])])).await));
    assert!(too_large(store.commit(commit(vec![(log("run/a"), vec![just.clone(); COMMIT_BYTES_MAX / RECORD_BYTES_MAX])])).await));
    let many = (0..=COMMIT_LOGS_MAX).map(|n| (log(&format!("run/{n}")), records(&["x"]))).collect();
    assert!(too_large(store.commit(commit(many)).await));
    assert!(store.logs("", None, limit(10)).await.expect("listing").is_empty(), "a refused commit wrote something");
    store.commit(commit(vec![(log("run/a"), vec![just.clone()])])).await.expect("the limit itself is allowed");
    assert_eq!(store.read(&log("run/a"), Seq(0), limit(1)).await.expect("reading").records, [(Seq(0), just)]);
    assert!(too_large(store.truncate(&log("run/a"), Seq(1), over).await));
    let kept = store.keep(&vec![0; KEPT_BYTES_MAX + 1]).await;
    assert!(matches!(kept, Err(StoreError::TooLarge { limit_bytes: KEPT_BYTES_MAX, .. })));
}
