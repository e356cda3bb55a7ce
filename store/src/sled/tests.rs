//! Tests that change the tree or the threads behind the store's back; the contract suite over short and long segments.

use super::engine::Engine;
use super::folder::Folder;
use super::hot::Newest;
use super::layout::Head;
use super::*;
use crate::contract::{LeasesAfterReopening, Subject};
use crate::leases::ManualClock;

#[derive(Debug)]
struct OnDisk {
    folder: tempfile::TempDir,
    clock: ManualClock,
    segment_bytes: u64,
}

#[async_trait]
impl Subject for OnDisk {
    async fn open(&mut self) -> Arc<dyn Store> {
        let options = options(self.segment_bytes).clock(Arc::new(self.clock.clone()));
        Arc::new(SledStore::open(&self.folder.path().join("data"), &options).unwrap())
    }

    async fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    fn leases_after_reopening(&self) -> LeasesAfterReopening {
        LeasesAfterReopening::Gone
    }
}

fn options(segment_bytes: u64) -> SledOptions {
    SledOptions::default().ballast_bytes(4096).segment_bytes(segment_bytes)
}

fn on_disk(segment_bytes: u64) -> OnDisk {
    OnDisk { folder: tempfile::tempdir().unwrap(), clock: ManualClock::default(), segment_bytes }
}

mod in_the_front {
    crate::contract_suite!(super::on_disk(4 * 1024 * 1024));
}

mod with_a_tree_that_takes_over_after_each_group {
    crate::contract_suite!(super::on_disk(1));
}

mod with_a_tree_that_takes_over_now_and_then {
    crate::contract_suite!(super::on_disk(20_000));
}

fn log() -> LogId {
    LogId::new("run/a").unwrap()
}

fn other(n: u64) -> Commit {
    Commit { expect: Vec::new(), append: vec![(LogId::new("run/b").unwrap(), vec![Record(vec![n as u8])])] }
}

/// Waits for the tree: how long it takes is its own affair.
async fn until(mut there: impl AsyncFnMut() -> bool) {
    for _ in 0..20_000 {
        if there().await {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the tree did not get there");
}

/// Records that lie in the tree.
async fn with_records(folder: &Path, count: u8) {
    let store = SledStore::open(folder, &options(1)).unwrap();
    for n in 0..count {
        store.commit(Commit { expect: vec![(log(), Seq(n.into()))], append: vec![(log(), vec![Record(vec![n; 5_000])])] }).await.unwrap();
    }
    // The segment of the last record is handed over when the next group comes.
    store.commit(other(0)).await.unwrap();
    until(async || matches!(store.shared.hot().newest(&log()), Newest::Tree)).await;
}

/// Changes the closed tree behind the store's back, and says what the store makes of it.
async fn after_tampering(tamper: impl FnOnce(&Engine, &Head) -> ::sled::Batch) -> String {
    let place = tempfile::tempdir().unwrap();
    with_records(place.path(), 5).await;
    let folder = Folder::enter(place.path()).unwrap();
    {
        let engine = Engine::open(&folder, &folder.store(), 1024 * 1024).unwrap();
        let head = engine.head(&log()).unwrap().unwrap();
        engine.apply(tamper(&engine, &head)).unwrap();
    }
    let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
    let verified = store.verify().await.unwrap();
    match store.read(&log(), Seq(0), NonZeroU32::MAX).await {
        Err(StoreError::Damaged { what, .. }) => {
            assert_eq!(verified.damage, std::slice::from_ref(&what), "verifying says what reading says");
            what
        }
        other => panic!("tampering went unnoticed: {other:?}"),
    }
}

fn rewrite(number: layout::LogNumber, place: Seq, framed: &layout::Framed) -> ::sled::Batch {
    let mut batch = ::sled::Batch::default();
    for (part, value) in (0..).zip(framed.to_parts(number, place)) {
        batch.insert(&layout::part_key(number, place, part), value);
    }
    batch
}

#[tokio::test]
async fn a_record_with_a_right_checksum_and_another_content_breaks_the_chain_at_its_place() {
    let what = after_tampering(|engine, head| {
        let mut found = engine.frames(&log(), head.number, Seq(2), Seq(3), 1).unwrap();
        let (place, framed) = found.first_mut().unwrap();
        framed.record.0[4_321] ^= 1;
        rewrite(head.number, *place, framed)
    })
    .await;
    assert!(what.contains("record 2 of log run/a") && what.contains("chain breaks"), "{what}");
}

#[tokio::test]
async fn a_forged_record_with_a_chain_of_its_own_is_noticed_at_the_next_one() {
    let what = after_tampering(|engine, head| {
        let before = engine.frames(&log(), head.number, Seq(1), Seq(2), 1).unwrap().remove(0).1;
        let record = Record(b"forged".to_vec());
        let chain = crate::chain::chain_after(&before.chain, &record);
        let mut batch = rewrite(head.number, Seq(2), &layout::Framed { kind: layout::Kind::Appended, chain, record });
        batch.remove(&layout::part_key(head.number, Seq(2), 1));
        batch
    })
    .await;
    assert!(what.contains("record 3 of log run/a"), "{what}");
}

#[tokio::test]
async fn a_missing_record_or_part_and_a_shortened_log_are_noticed() {
    for (place, part) in [(0, 0), (2, 0), (2, 1), (4, 0), (4, 1)] {
        let what = after_tampering(|_, head| {
            let mut batch = ::sled::Batch::default();
            batch.remove(&layout::part_key(head.number, Seq(place), part));
            batch
        })
        .await;
        assert!(what.contains(&format!("record {place} of log run/a")), "{what}");
    }
    let what = after_tampering(|_, head| {
        let key = layout::head_key(&log());
        let mut batch = ::sled::Batch::default();
        batch.insert(key.clone(), Head { next: Seq(4), ..*head }.to_value(&key));
        batch
    })
    .await;
    assert!(what.contains("record 3 of log run/a is the last one"), "{what}");
}

#[tokio::test]
async fn a_carry_in_the_middle_of_a_log_is_no_way_around_the_chain() {
    let what = after_tampering(|engine, head| {
        let mut framed = engine.frames(&log(), head.number, Seq(2), Seq(3), 1).unwrap().remove(0).1;
        framed.kind = layout::Kind::Carry;
        framed.record.0[0] ^= 1;
        rewrite(head.number, Seq(2), &framed)
    })
    .await;
    assert!(what.contains("record 2 of log run/a stands for others"), "{what}");
}

#[tokio::test]
async fn what_was_removed_is_cleared_away_once_the_tree_takes_it_over() {
    let place = tempfile::tempdir().unwrap();
    with_records(place.path(), 9).await;
    let store = SledStore::open(place.path(), &options(1)).unwrap();
    let number = store.shared.head(&log()).unwrap().unwrap().number;
    let tree = store.shared.tree.get().unwrap();
    let left = || tree.part_keys(number, Seq(0), Seq(u64::MAX), 1000).unwrap().len();
    assert_eq!(left(), 9 * 2);
    store.truncate(&log(), Seq(5), Record(vec![1; 9_000])).await.unwrap();
    store.commit(other(0)).await.unwrap();
    until(async || left() == 3 + 4 * 2).await;
    store.remove(&log()).await.unwrap();
    store.commit(other(1)).await.unwrap();
    until(async || left() == 0).await;
    assert!(store.read(&log(), Seq(0), NonZeroU32::MIN).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn a_blob_file_stops_the_store_because_sled_never_syncs_one() {
    let place = tempfile::tempdir().unwrap();
    with_records(place.path(), 1).await;
    let store = SledStore::open(place.path(), &options(1)).unwrap();
    std::fs::write(place.path().join("store/blobs/77"), b"large").unwrap();
    // What is acknowledged until then is in the front, and stays.
    let mut refusal = None;
    until(async || {
        refusal = store.commit(other(1)).await.err();
        refusal.is_some()
    })
    .await;
    assert!(matches!(&refusal, Some(StoreError::Poisoned(why)) if why.contains("blob")), "{refusal:?}");
    assert!(matches!(store.read(&log(), Seq(0), NonZeroU32::MIN).await, Err(StoreError::Poisoned(_))));
}

#[tokio::test]
async fn a_segment_that_the_tree_took_over_is_written_over_and_no_more_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let store = SledStore::open(place.path(), &options(20_000)).unwrap();
    for n in 0..200u64 {
        let log = LogId::new(&format!("run/{}", n % 7)).unwrap();
        store.commit(Commit { expect: Vec::new(), append: vec![(log, vec![Record(vec![n as u8; 1_000])])] }).await.unwrap();
    }
    let files = || std::fs::read_dir(place.path().join("front")).unwrap().count();
    until(async || files() <= 2).await;
    assert!(place.path().join("front/spare").exists());
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.records, verified.damage), (200, Vec::new()));
}
