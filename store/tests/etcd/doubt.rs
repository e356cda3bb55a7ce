//! Lost answers, lost members, no room: what is certain is said, and what is not is made certain or said to be in doubt.

use std::num::NonZeroU32;
use std::time::Duration;

use lifeboat_store::{Commit, EtcdOptions, EtcdStore, LogId, OwnerId, Record, Seq, Store as _, StoreError};
use xtask::lab::Signal;
use xtask::lab::etcd::{EtcdCluster, EtcdSettings};

use crate::muted::Muted;
use crate::{now, open, options, until};

const MANY: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

fn log() -> LogId {
    LogId::new("run/a").unwrap()
}

fn at(place: u64, text: &str) -> Commit {
    Commit { expect: vec![(log(), Seq(place))], append: vec![(log(), vec![Record(text.as_bytes().to_vec())])] }
}

async fn texts(store: &EtcdStore) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let page = store.read(&log(), Seq(texts.len() as u64), MANY).await.unwrap();
        texts.extend(page.records.into_iter().map(|(_, record)| String::from_utf8(record.0).unwrap()));
        if texts.len() as u64 >= page.next.0 {
            return texts;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_the_death_of_the_leader_loses_no_acknowledgement_and_commits_go_on() {
    let cluster = EtcdCluster::start().unwrap();
    let store = open(&options(&cluster)).await;
    let mut acknowledged = 0;
    for round in 0..3 {
        for _ in 0..20 {
            store.commit(at(acknowledged, &format!("{acknowledged}"))).await.unwrap();
            acknowledged += 1;
        }
        let leader = until("a leader", async || cluster.leader()).await;
        cluster.signal(leader, Signal::Kill).unwrap();
        let died = now();
        // The very next commit comes back with a yes: whatever became of the first try is found out.
        store.commit(at(acknowledged, &format!("{acknowledged}"))).await.unwrap();
        acknowledged += 1;
        println!("round {round}: leader {leader} killed, the next commit took {:?}", now() - died);
        cluster.start_member(leader).unwrap();
        cluster.wait_healthy(leader).unwrap();
    }
    let expected: Vec<String> = (0..acknowledged).map(|n| n.to_string()).collect();
    assert_eq!(texts(&store).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_without_a_majority_nothing_goes_on_and_that_is_said_within_the_bound() {
    let cluster = EtcdCluster::start().unwrap();
    let options = EtcdOptions { answer_within: Duration::from_secs(6), ..options(&cluster) };
    let store = open(&options).await;
    store.commit(at(0, "before")).await.unwrap();
    for member in [0, 1] {
        cluster.host(member).cut().unwrap();
    }
    let began = now();
    match store.commit(at(1, "without")).await {
        Err(StoreError::InDoubt { within, .. }) => assert_eq!(within, options.answer_within),
        other => panic!("{other:?}"),
    }
    println!("the commit came back after {:?}", now() - began);
    assert!(matches!(store.read(&log(), Seq(0), MANY).await, Err(StoreError::Unreachable { .. })));
    let owner = OwnerId("one".into());
    assert!(matches!(store.lease(&log(), &owner, Duration::from_secs(15)).await, Err(StoreError::Unreachable { .. })));
    assert!(matches!(EtcdStore::open(options.clone()).await, Err(StoreError::Unreachable { .. })));
    for member in [0, 1] {
        cluster.host(member).heal().unwrap();
    }
    // Whether the commit in doubt happened is decided by whoever asks next, and it happened at most once.
    let texts = until("the cluster answers", async || match store.read(&log(), Seq(0), MANY).await {
        Ok(page) => Some(page.next.0),
        Err(_) => None,
    })
    .await;
    match store.commit(at(1, "again")).await {
        Ok(()) => assert_eq!(self::texts(&store).await, ["before", "again"]),
        Err(StoreError::Conflict { found: Seq(2), .. }) => assert_eq!(self::texts(&store).await, ["before", "without"]),
        other => panic!("{other:?} after {texts} records"),
    }
}

/// A commit whose answer is cut off either happened or not; the caller is told which, and never hears a conflict with itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_commit_whose_answer_is_lost_is_found_out() {
    let cluster = EtcdCluster::start().unwrap();
    let store = open(&options(&cluster)).await;
    let mut place = 0;
    for round in 0..6u64 {
        // One member after the other freezes while commits go on: some requests reach it and are never answered.
        let member = (round % 3) as usize;
        let freeze = async {
            cluster.signal(member, Signal::Stop).unwrap();
            crate::nap(Duration::from_millis(4000 + 150 * round)).await;
            cluster.signal(member, Signal::Continue).unwrap();
        };
        let commits = async {
            let mut done = 0;
            let began = now();
            while now() - began < Duration::from_secs(5) || done < 5 {
                store.commit(at(place + done, &format!("{}", place + done))).await.unwrap();
                done += 1;
                crate::nap(Duration::from_millis(20)).await;
            }
            done
        };
        let ((), done) = tokio::join!(freeze, commits);
        place += done;
        cluster.wait_healthy(member).unwrap();
    }
    let expected: Vec<String> = (0..place).map(|n| n.to_string()).collect();
    assert_eq!(texts(&store).await, expected, "each exactly once, in order");
}

/// The request arrives and the answer does not: the commit happened, and its writer is told so, not of a conflict with itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_commit_that_happened_unheard_is_told_as_done() {
    let cluster = EtcdCluster::start().unwrap();
    let direct = cluster.endpoints();
    let muted = Muted::before(&direct[0]).await;
    let through = EtcdOptions { endpoints: vec![muted.endpoint(), direct[1].clone(), direct[2].clone()], ..options(&cluster) };
    let beside = EtcdOptions { endpoints: direct[1..].to_vec(), ..through.clone() };
    let (store, witness) = (open(&through).await, open(&beside).await);
    store.commit(at(0, "heard")).await.unwrap();
    muted.mute();
    let (done, seen_at) = tokio::join!(store.commit(at(1, "unheard")), async {
        until("the commit is there", async || (witness.read(&log(), Seq(0), MANY).await.ok()?.next == Seq(2)).then_some(())).await;
        now()
    });
    let told_at = now();
    done.unwrap();
    assert!(muted.swallowed() > 0, "the answer was not withheld");
    assert!(told_at > seen_at, "it was told before it was there");
    assert_eq!(texts(&store).await, ["heard", "unheard"]);
    store.commit(at(2, "afterwards")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_full_cluster_says_so_and_keeps_what_it_acknowledged() {
    // Etcd begins with a file of some hundred kilobytes; a few mebibytes fill it.
    let quota = EtcdSettings { arguments: vec!["--quota-backend-bytes=8388608".into()], ..EtcdSettings::default() };
    let cluster = EtcdCluster::start_with(quota).unwrap();
    let store = open(&options(&cluster)).await;
    let mut acknowledged = 0;
    let full = loop {
        let large = Commit { expect: vec![(log(), Seq(acknowledged))], append: vec![(log(), vec![Record(vec![b'x'; 500_000])])] };
        match store.commit(large).await {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100, "it never was full");
    };
    assert!(matches!(&full, StoreError::DiskFull { folder } if folder.contains("NOSPACE")), "{full:?}");
    assert!(acknowledged > 3, "{acknowledged}");
    // The alarm can be raised by the very change that still fits: after any error but a conflict its outcome is unknown.
    let there = texts(&store).await.len() as u64;
    assert!(there == acknowledged || there == acknowledged + 1, "{acknowledged} were acknowledged, {there} are there");
    assert!(matches!(store.commit(at(there, "small")).await, Err(StoreError::DiskFull { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_lease_is_not_renewed_by_whoever_lost_it_and_ends_without_its_holder() {
    let cluster = EtcdCluster::start().unwrap();
    let options = options(&cluster);
    let (one, two) = (open(&options).await, open(&options).await);
    let ttl = Duration::from_secs(3);
    let (first, second) = (OwnerId("one".into()), OwnerId("two".into()));
    let asked_at = now();
    let lease = one.lease(&log(), &first, ttl).await.unwrap();
    let taken = until("the lease ends", async || two.lease(&log(), &second, ttl).await.ok()).await;
    assert!(now() - asked_at >= ttl, "it ended {:?} after it was asked for", now() - asked_at);
    assert!(matches!(one.renew(&lease).await, Err(StoreError::Lost { .. })));
    one.release(lease).await.unwrap();
    two.renew(&taken).await.unwrap();
    assert!(matches!(one.lease(&log(), &first, ttl).await, Err(StoreError::Held { by, .. }) if by == "two"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_watcher_outlives_the_member_it_watches_at() {
    let cluster = EtcdCluster::start().unwrap();
    let options = options(&cluster);
    let (watching, writing) = (open(&options).await, open(&options).await);
    let mut changes = watching.watch("run/").await.unwrap();
    // The first of the endpoints is the one that is asked until it fails.
    cluster.signal(0, Signal::Kill).unwrap();
    writing.commit(at(0, "while it was gone")).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(60), changes.next()).await;
    assert_eq!(woken, Ok(Some(())));
    cluster.start_member(0).unwrap();
    cluster.wait_healthy(0).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_what_etcd_would_not_take_is_refused_before_and_nothing_is_written() {
    let cluster = EtcdCluster::start().unwrap();
    let store = open(&options(&cluster)).await;
    let mut many = Commit::default();
    for number in 0..65 {
        let log = LogId::new(&format!("lock/r{number}")).unwrap();
        many.expect.push((log.clone(), Seq(0)));
        many.append.push((log, vec![Record(vec![1])]));
    }
    assert!(matches!(store.commit(many.clone()).await, Err(StoreError::TooLarge { limit_bytes: 64, .. })));
    let large = Commit { expect: Vec::new(), append: vec![(log(), vec![Record(vec![7; 800_000]), Record(vec![7; 800_000])])] };
    assert!(matches!(store.commit(large).await, Err(StoreError::TooLarge { .. })));
    assert!(store.logs("", None, MANY).await.unwrap().is_empty());
    many.expect.truncate(63);
    many.append.truncate(63);
    store.commit(many).await.unwrap();
    assert_eq!(store.logs("lock/", None, MANY).await.unwrap().len(), 63);
}
