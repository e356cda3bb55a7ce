//! Tests that change segments or the index behind the store's back; the contract suite over short and long segments.

use super::hot::Newest;
use super::index::Index;
use super::layout::{self, LogNumber};
use super::segments::first::First;
use super::segments::frame::{Body, GROUP_HEAD_BYTES, Next, Part, SEGMENT_HEAD_BYTES, SegmentNumber, next_group, parts};
use super::segments::{scan, segment_path};
use super::*;
use crate::chain::{chain_after, chain_start};
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

mod in_one_segment {
    crate::contract_suite!(super::on_disk(4 * 1024 * 1024));
}

mod with_a_segment_for_each_group {
    crate::contract_suite!(super::on_disk(1));
}

mod with_a_new_segment_now_and_then {
    crate::contract_suite!(super::on_disk(20_000));
}

fn log() -> LogId {
    LogId::new("run/a").unwrap()
}

fn other(n: u64) -> Commit {
    Commit { expect: Vec::new(), append: vec![(LogId::new("run/b").unwrap(), vec![Record(vec![n as u8])])] }
}

/// Waits for the caretaker: how long it takes is its own affair.
async fn until(mut there: impl AsyncFnMut() -> bool) {
    for _ in 0..20_000 {
        if there().await {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the caretaker did not get there");
}

/// Records in segments that are indexed, one in each.
async fn with_records(folder: &Path, count: u8) {
    let store = SledStore::open(folder, &options(1)).unwrap();
    for n in 0..count {
        store.commit(Commit { expect: vec![(log(), Seq(n.into()))], append: vec![(log(), vec![Record(vec![n; 5_000])])] }).await.unwrap();
    }
    // The segment of the last record is sealed when the next group comes.
    store.commit(other(0)).await.unwrap();
    until(async || matches!(store.shared.hot().newest(&log()), Newest::Index)).await;
}

/// Reads and verifies after something was changed behind the store's back, and says what the store makes of it.
async fn what_is_said_of(folder: &Path) -> String {
    let store = SledStore::open(folder, &SledOptions::default().ballast_bytes(4096)).unwrap();
    let verified = store.verify().await.unwrap();
    match store.read(&log(), Seq(0), NonZeroU32::MAX).await {
        Err(StoreError::Damaged { what, .. }) => {
            assert_eq!(verified.damage, std::slice::from_ref(&what), "verifying says what reading says");
            what
        }
        other => panic!("tampering went unnoticed: {other:?}"),
    }
}

/// Changes the record of one place in its segment, with every checksum made right again.
fn forge(folder: &Path, place: u64, forge: impl Fn(&mut Part)) {
    let segments = folder.join("segments");
    for number in scan::numbers(&segments).unwrap() {
        let path = segment_path(&segments, number);
        let mut bytes = std::fs::read(&path).unwrap();
        let begin = SEGMENT_HEAD_BYTES as usize;
        let Next::Group(found) = next_group(&bytes[begin..]) else { continue };
        let (group, before, length) = (found.number, found.before, GROUP_HEAD_BYTES + found.body.len());
        let mut parts: Vec<Part> = parts(found.body).unwrap().into_iter().map(|(_, part)| part).collect();
        let Some(part) = parts
            .iter_mut()
            .find(|part| matches!(part, Part::Records { first, records, .. } if first.0 == place && records[0].0.len() == 5_000))
        else {
            continue;
        };
        forge(part);
        let mut body = Body::default();
        for part in &parts {
            body.put(part);
        }
        let forged = body.seal(group, before);
        assert_eq!(forged.bytes.len(), length);
        bytes[begin..begin + length].copy_from_slice(&forged.bytes);
        std::fs::write(&path, bytes).unwrap();
        return;
    }
    panic!("no segment has record {place}");
}

#[tokio::test]
async fn a_record_with_a_right_checksum_and_another_content_breaks_the_chain_at_its_place() {
    let place = tempfile::tempdir().unwrap();
    with_records(place.path(), 5).await;
    forge(place.path(), 2, |part| {
        if let Part::Records { records, .. } = part {
            records[0].0[4_321] ^= 1;
        }
    });
    let what = what_is_said_of(place.path()).await;
    assert!(what.contains("log run/a from 2 on") && what.contains("chain breaks"), "{what}");
}

#[tokio::test]
async fn a_forged_record_with_a_chain_of_its_own_is_noticed_at_the_next_one() {
    let place = tempfile::tempdir().unwrap();
    with_records(place.path(), 5).await;
    let before = (0..2u8).fold(chain_start(&log()), |chain, n| chain_after(&chain, &Record(vec![n; 5_000])));
    forge(place.path(), 2, |part| {
        if let Part::Records { records, chain, .. } = part {
            records[0].0.fill(9);
            *chain = chain_after(&before, &records[0]);
        }
    });
    let what = what_is_said_of(place.path()).await;
    assert!(what.contains("log run/a from 3 on") && what.contains("chain breaks"), "{what}");
}

/// Changes the closed index behind the store's back.
async fn with_index_changed(place: &Path, change: impl FnOnce(LogNumber) -> ::sled::Batch) {
    with_records(place, 5).await;
    let folder = Folder::enter(place).unwrap();
    let index = Index::open(&folder, &folder.index(), 1024 * 1024).unwrap();
    let head = index.head(&log()).unwrap().unwrap();
    index.apply(change(head.number)).unwrap();
}

#[tokio::test]
async fn what_the_index_lacks_or_says_wrongly_is_noticed_and_the_next_opening_makes_it_anew() {
    for wrong in 0..4 {
        let place = tempfile::tempdir().unwrap();
        with_index_changed(place.path(), |number| {
            let mut batch = ::sled::Batch::default();
            let key = layout::spot_key(number, Seq(2));
            let mut head_value = vec![7; 60];
            head_value[0] = 1;
            match wrong {
                0 => batch.remove(&key[..]),
                1 => batch.insert(&key[..], vec![7; 32]),
                2 => batch.insert(layout::head_key(&log()), head_value),
                _ => batch.insert(layout::TIP_KEY, vec![7; 40]),
            }
            batch
        })
        .await;
        {
            let store = SledStore::open(place.path(), &options(1)).unwrap();
            let read = store.read(&log(), Seq(0), NonZeroU32::MAX).await;
            // What is wrong with its tip is seen, and mended, by the opening itself.
            assert_eq!(read.is_ok(), wrong == 3, "{wrong}: {read:?}");
        }
        let store = SledStore::open(place.path(), &options(1)).unwrap();
        let page = store.read(&log(), Seq(0), NonZeroU32::MAX).await.unwrap();
        assert_eq!(page.records.len(), 5);
        assert_eq!(store.verify().await.unwrap().damage, Vec::<String>::new());
    }
}

/// Everything in a store, log by log.
async fn content(store: &SledStore) -> Vec<(LogHead, Vec<Record>)> {
    let mut all = Vec::new();
    for head in store.logs("", None, NonZeroU32::MAX).await.unwrap() {
        let page = store.read(&head.log, head.first, NonZeroU32::MAX).await.unwrap();
        assert_eq!(page.next, head.next);
        all.push((head, page.records.into_iter().map(|(_, record)| record).collect()));
    }
    all
}

/// A store in which most of what was ever written is dead, and some of what lives is older than that.
async fn mostly_dead(folder: &Path) -> (SledStore, Vec<(LogHead, Vec<Record>)>) {
    let store = SledStore::open(folder, &options(10_000)).unwrap();
    let old = LogId::new("run/old").unwrap();
    let cut = LogId::new("lock/cut").unwrap();
    for n in 0..6u8 {
        let append = vec![(old.clone(), vec![Record(vec![n; 700])]), (cut.clone(), vec![Record(vec![n; 300]); 3])];
        store.commit(Commit { expect: Vec::new(), append }).await.unwrap();
    }
    // Cut in the middle of a part of three records.
    store.truncate(&cut, Seq(8), Record(b"carry".to_vec())).await.unwrap();
    for n in 0..120u64 {
        let log = LogId::new(&format!("run/{n}")).unwrap();
        store.commit(Commit { expect: Vec::new(), append: vec![(log.clone(), vec![Record(vec![n as u8; 2_000])])] }).await.unwrap();
        store.remove(&log).await.unwrap();
    }
    let content = content(&store).await;
    assert_eq!(content.iter().map(|(head, records)| (head.first.0, records.len())).collect::<Vec<_>>(), [(7, 11), (0, 6)]);
    (store, content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_full_of_what_was_removed_are_given_up_and_what_lives_in_them_is_moved() {
    let place = tempfile::tempdir().unwrap();
    let (store, before) = mostly_dead(place.path()).await;
    let numbers = || scan::numbers(&place.path().join("segments")).unwrap();
    until(async || numbers()[0].0 > 3).await;
    assert!(numbers().len() < 15, "{:?}", numbers());
    assert_eq!(content(&store).await, before);
    drop(store);
    let store = SledStore::open(place.path(), &options(10_000)).unwrap();
    assert_eq!(content(&store).await, before);
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.records, verified.damage), (17, Vec::new()));
    // What was moved can be cut, gone on with and removed like anything else.
    let cut = LogId::new("lock/cut").unwrap();
    store.truncate(&cut, Seq(12), Record(b"again".to_vec())).await.unwrap();
    store.commit(Commit { expect: vec![(cut.clone(), Seq(18))], append: vec![(cut.clone(), vec![Record(b"on".to_vec())])] }).await.unwrap();
    let page = store.read(&cut, Seq(11), NonZeroU32::MAX).await.unwrap();
    assert_eq!((page.records.len(), page.records[0].1.0.as_slice()), (8, &b"again"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_index_is_made_anew_also_where_segments_were_given_up() {
    let place = tempfile::tempdir().unwrap();
    let (store, before) = mostly_dead(place.path()).await;
    let numbers = || scan::numbers(&place.path().join("segments")).unwrap();
    until(async || numbers()[0].0 > 3).await;
    drop(store);
    for segment_bytes in [10_000, 4 * 1024 * 1024] {
        std::fs::remove_dir_all(place.path().join("index")).unwrap();
        let store = SledStore::open(place.path(), &options(segment_bytes)).unwrap();
        assert_eq!(content(&store).await, before);
        assert_eq!(store.verify().await.unwrap().damage, Vec::<String>::new());
        store.commit(other(3)).await.unwrap();
        store.remove(&LogId::new("run/b").unwrap()).await.unwrap();
    }
    // A segment that is missing is no lost index.
    let gone = numbers()[1];
    std::fs::remove_file(segment_path(&place.path().join("segments"), gone)).unwrap();
    let _ = std::fs::remove_dir_all(place.path().join("index"));
    let refusal = SledStore::open(place.path(), &options(10_000)).unwrap_err().to_string();
    assert!(refusal.contains(&format!("segment {:x} is missing", gone.0)), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lacks_what_should_have_been_moved_is_noticed_without_an_index() {
    let place = tempfile::tempdir().unwrap();
    let store = SledStore::open(place.path(), &options(10_000)).unwrap();
    for n in 0..30u8 {
        store.commit(Commit { expect: Vec::new(), append: vec![(log(), vec![Record(vec![n; 1_000])])] }).await.unwrap();
    }
    drop(store);
    // As if the first segment had been given up without moving what lives in it.
    let segments = place.path().join("segments");
    let second = SegmentNumber(2);
    let bytes = std::fs::read(segment_path(&segments, second)).unwrap();
    let Next::Group(found) = next_group(&bytes[SEGMENT_HEAD_BYTES as usize..]) else { panic!("no group") };
    First { segment: second, group: found.number }.write(&segments).unwrap();
    let _ = std::fs::remove_dir_all(place.path().join("index"));
    let refusal = SledStore::open(place.path(), &options(10_000)).unwrap_err().to_string();
    assert!(refusal.contains("all before record 10 of log run/a is missing"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_part_that_was_cut_only_what_is_behind_the_cut_lives_wherever_the_cut_is_known() {
    for (before, living) in [(1, Some(1)), (2, Some(2)), (3, None)] {
        let place = tempfile::tempdir().unwrap();
        let store = SledStore::open(place.path(), &options(1)).unwrap();
        let records: Vec<Record> = (0..3u8).map(|n| Record(vec![n; 10])).collect();
        store.commit(Commit { expect: Vec::new(), append: vec![(log(), records.clone())] }).await.unwrap();
        store.commit(other(0)).await.unwrap();
        until(async || matches!(store.shared.hot().newest(&log()), Newest::Index)).await;
        let number = store.shared.head(&log()).unwrap().unwrap().number;
        let (_, spot) = store.shared.reader().spot(number, Seq(2)).unwrap().unwrap();
        // The index does not hear of the cut: its segment is not sealed.
        store.truncate(&log(), Seq(before), Record(b"carry".to_vec())).await.unwrap();
        let part = Part::Records { log: number, first: Seq(0), chain: chain_start(&log()), records };
        let moved = committer::Moved { name: log(), segment: spot.segment, at: spot.at, part };
        assert_eq!(store.shared.still_living(&moved).unwrap(), living.map(Seq), "cut before {before}");
    }
}

/// Records behind each other in one commit are one part, whose chain is stored at its end alone. Whoever reads one of them must not go
/// back record by record.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_record_of_a_large_commit_is_read_from_anywhere_in_it() {
    const RECORDS: u64 = 30_000;
    let mut subject = on_disk(1);
    let store = subject.open().await;
    let record = |n: u64| Record(format!("record {n}").into_bytes());
    let commit = |from: u64, to: u64| Commit { expect: Vec::new(), append: vec![(log(), (from..to).map(record).collect())] };
    store.commit(commit(0, 3)).await.unwrap();
    store.commit(commit(3, RECORDS)).await.unwrap();
    let mut chains = vec![chain_start(&log())];
    for n in 0..RECORDS {
        chains.push(chain_after(&chains[n as usize], &record(n)));
    }
    let look = async |store: &Arc<dyn Store>, places: &[u64]| {
        for place in places.iter().copied() {
            let page = store.read(&log(), Seq(place), NonZeroU32::MIN).await.unwrap();
            assert_eq!((page.records, page.chain), (vec![(Seq(place), record(place))], chains[place as usize + 1]), "place {place}");
        }
    };
    look(&store, &[0, 1, 2, 3, 4, 5, RECORDS / 2, RECORDS - 2, RECORDS - 1]).await;
    // Cut in its middle: what was before is gone, and what follows hangs on the carry alone.
    let cut = RECORDS / 2;
    store.truncate(&log(), Seq(cut + 1), record(cut)).await.unwrap();
    look(&store, &[cut, cut + 1, cut + 2, RECORDS - 1]).await;
    drop(store);
    let store = subject.open().await;
    look(&store, &[cut, cut + 1, cut + 2, RECORDS - 1]).await;
}
