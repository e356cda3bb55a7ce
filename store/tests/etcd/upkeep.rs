//! What the keepers of a cluster do to it while runs go on: old revisions are compacted away, a full cluster is given room again.

use std::num::NonZeroU32;
use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client};
use lifeboat_store::{Commit, LogId, OwnerId, Record, Seq, Store as _, StoreError};
use xtask::lab::Signal;
use xtask::lab::etcd::{EtcdCluster, EtcdSettings};

use crate::{open, options};

fn log() -> LogId {
    LogId::new("run/a").unwrap()
}

fn at(place: u64, bytes: usize) -> Commit {
    let mut record = place.to_be_bytes().to_vec();
    record.resize(bytes.max(8), b'x');
    Commit { expect: vec![(log(), Seq(place))], append: vec![(log(), vec![Record(record)])] }
}

/// Forgets every revision before the newest.
async fn compact(cluster: &EtcdCluster, member: usize) {
    let client = Client::connect([&cluster.endpoints()[member]], None).await.unwrap();
    let newest = client.kv_client().get("x", None).await.unwrap().header().unwrap().revision();
    client.kv_client().compact(newest, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_watcher_wakes_although_what_it_missed_was_compacted_away() {
    let cluster = EtcdCluster::start().unwrap();
    let options = options(&cluster);
    let (watching, writing) = (open(&options).await, open(&options).await);
    let mut changes = watching.watch("run/").await.unwrap();
    writing.commit(at(0, 8)).await.unwrap();
    assert_eq!(changes.next().await, Some(()));
    for round in 0..3_u64 {
        // The member that serves the watch stands still, and the others go on and forget what happened.
        cluster.signal(0, Signal::Stop).unwrap();
        for number in 0..5 {
            writing.commit(at(1 + round * 5 + number, 8)).await.unwrap();
        }
        compact(&cluster, 1).await;
        cluster.signal(0, Signal::Continue).unwrap();
        let woken = tokio::time::timeout(Duration::from_secs(60), changes.next()).await;
        assert_eq!(woken, Ok(Some(())), "round {round}");
        cluster.wait_healthy(0).unwrap();
        let page = watching.read(&log(), Seq(0), NonZeroU32::MAX).await.unwrap();
        assert_eq!(page.next, Seq(1 + (round + 1) * 5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_long_log_is_read_to_its_end_while_its_moments_are_compacted_away() {
    const RECORDS: u64 = 600;
    let cluster = EtcdCluster::start().unwrap();
    let options = options(&cluster);
    let (reading, writing) = (open(&options).await, open(&options).await);
    for place in 0..RECORDS {
        writing.commit(at(place, 4000)).await.unwrap();
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    let keeper = async {
        let mut place = RECORDS;
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            writing.commit(at(place, 8)).await.unwrap();
            compact(&cluster, 0).await;
            place += 1;
        }
        place
    };
    let reader = async {
        for _ in 0..5 {
            let mut from = Seq(0);
            while from.0 < RECORDS {
                let page = reading.read(&log(), from, NonZeroU32::new(100_000).unwrap()).await.unwrap();
                assert!(!page.records.is_empty(), "nothing from {} on", from.0);
                for (place, record) in page.records {
                    assert_eq!((place, &record.0[..8]), (from, &from.0.to_be_bytes()[..]));
                    from.0 += 1;
                }
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(keeper, reader);
    assert!(written > RECORDS + 3, "{written}: too little was compacted meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_full_cluster_goes_on_when_it_has_room_again_with_all_it_acknowledged() {
    let quota = EtcdSettings { arguments: vec!["--quota-backend-bytes=8388608".into()], ..EtcdSettings::default() };
    let cluster = EtcdCluster::start_with(quota).unwrap();
    let store = open(&options(&cluster)).await;
    // Somebody else's keys fill the cluster, and our own commits meet it.
    let keeper = Client::connect(cluster.endpoints(), None).await.unwrap();
    let mut acknowledged = 0;
    let full = loop {
        if let Err(error) = store.commit(at(acknowledged, 8)).await {
            break error;
        }
        acknowledged += 1;
        assert!(acknowledged < 100, "it never was full");
        // The one that meets the end of the room raises the alarm, whoever it is.
        let _ = keeper.kv_client().put(format!("else/{acknowledged}"), vec![b'x'; 400_000], None).await;
    };
    assert!(matches!(&full, StoreError::DiskFull { folder } if folder.contains("NOSPACE")), "{full:?}");
    let lease = store.lease(&log(), &OwnerId("one".into()), Duration::from_secs(15)).await;
    assert!(matches!(&lease, Err(StoreError::DiskFull { .. })), "{lease:?}");
    // Room, as a keeper makes it: something large goes, old revisions go, the files are packed, the alarm is put off.
    let all = etcd_client::DeleteOptions::new().with_prefix();
    keeper.kv_client().delete("else/", Some(all)).await.unwrap();
    compact(&cluster, 0).await;
    for endpoint in cluster.endpoints() {
        Client::connect([endpoint], None).await.unwrap().maintenance_client().defragment().await.unwrap();
    }
    let raised = keeper.maintenance_client().alarm(AlarmAction::Get, AlarmType::Nospace, None).await.unwrap();
    assert!(!raised.alarms().is_empty());
    for alarm in raised.alarms() {
        let mut of = AlarmOptions::new();
        of.with_member(alarm.member_id());
        keeper.maintenance_client().alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of)).await.unwrap();
    }
    let page = store.read(&log(), Seq(0), NonZeroU32::new(100_000).unwrap()).await.unwrap();
    let there = page.next.0;
    assert!(there == acknowledged || there == acknowledged + 1, "{acknowledged} were acknowledged, {there} are there");
    for (place, (seq, record)) in (0_u64..).zip(&page.records) {
        assert_eq!((seq.0, &record.0[..]), (place, &place.to_be_bytes()[..]));
    }
    store.commit(at(there, 8)).await.unwrap();
}
