//! What is on disk is not what was written: every kind of damage is named, or did no harm. It never panics and never goes unnoticed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use lifeboat_store::{Commit, Digest, LogId, Record, Seq, SledOptions, SledStore, Store, StoreError};

type Content = BTreeMap<String, Vec<Record>>;

/// A closed store with three logs, and what is in it.
struct Sample {
    place: tempfile::TempDir,
    content: Content,
    kept: Digest,
}

impl Sample {
    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn index(&self) -> PathBuf {
        self.data().join("index/db")
    }

    /// The segment that takes the next group.
    fn last(&self) -> PathBuf {
        segments(&self.data()).pop().unwrap()
    }

    /// A segment that takes no more.
    fn sealed(&self) -> PathBuf {
        segments(&self.data()).remove(0)
    }

    /// A copy to be damaged.
    fn copy(&self) -> Self {
        let place = tempfile::tempdir().unwrap();
        copy_folder(&self.data(), &place.path().join("data"));
        Self { place, content: self.content.clone(), kept: self.kept }
    }
}

/// The segments, in order.
fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = entries.filter(|path| path.file_name().is_some_and(|name| name.len() == 16)).collect();
    segments.sort();
    segments
}

/// Waits until what is sealed is in the index: then the zeros behind its last group are gone. How long that takes is its own affair.
fn let_the_index_take_up(data: &Path) {
    for _ in 0..20_000 {
        let segments = segments(data);
        let (_, sealed) = segments.split_last().unwrap();
        if sealed.iter().all(|segment| used(segment) as u64 == fs::metadata(segment).unwrap().len()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the index did not take up the segments");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn open(data: &Path) -> Result<SledStore, StoreError> {
    SledStore::open(data, &SledOptions::default().ballast_bytes(4096).cache_bytes(4 * 1024 * 1024).segment_bytes(SEGMENT_BYTES))
}

/// Short enough that most of the sample is indexed, and long enough that some of it is not.
const SEGMENT_BYTES: u64 = 250_000;

async fn sample() -> Sample {
    let place = tempfile::tempdir().unwrap();
    let mut content = Content::new();
    let store = open(&place.path().join("data")).unwrap();
    for n in 0..240usize {
        let name = format!("run/{}", n % 3);
        let record = Record((0..200 + n % 7 * 900).map(|at| (at * 31 + n) as u8).collect());
        store.commit(Commit { expect: Vec::new(), append: vec![(LogId::new(&name).unwrap(), vec![record.clone()])] }).await.unwrap();
        content.entry(name).or_default().push(record);
    }
    let kept = store.keep(b"a value worth keeping").await.unwrap();
    let_the_index_take_up(&place.path().join("data"));
    drop(store);
    Sample { place, content, kept }
}

/// Everything, read the way the product reads it.
async fn read(data: &Path) -> Result<Content, StoreError> {
    let store = open(data)?;
    let mut content = Content::new();
    for head in store.logs("", None, NonZeroU32::MAX).await? {
        let mut from = head.first;
        while from < head.next {
            let page = store.read(&head.log, from, NonZeroU32::MAX).await?;
            from.0 += page.records.len() as u64;
            content.entry(head.log.to_string()).or_default().extend(page.records.into_iter().map(|(_, record)| record));
        }
    }
    let verified = store.verify().await?;
    assert_eq!(verified.damage, Vec::<String>::new(), "reading saw nothing wrong, but verifying does");
    Ok(content)
}

/// Damaged and named, or unharmed.
async fn noticed(sample: &Sample, what: &str) -> Noticed {
    match read(&sample.data()).await {
        Ok(content) => {
            assert!(content == sample.content, "{what}: the store opened and reads differently, without a word");
            Noticed::Unharmed
        }
        Err(StoreError::Damaged { what, .. }) => {
            assert!(!what.is_empty());
            Noticed::Damaged
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Noticed {
    Damaged,
    Unharmed,
}

/// Whatever was done to the index: all is there at once, or it is noticed and all is there at the next opening.
async fn mended(sample: &Sample, what: &str) -> Noticed {
    let noticed_at_first = noticed(sample, what).await;
    if noticed_at_first == Noticed::Damaged {
        assert_eq!(noticed(sample, what).await, Noticed::Unharmed, "{what}: the index was not made anew");
    }
    noticed_at_first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_was_cut_off_or_zeroed_is_made_anew() {
    let whole = sample().await;
    let length = fs::metadata(whole.index()).unwrap().len();
    let used = fs::read(whole.index()).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    for step in 1..=24 {
        let cut = whole.copy();
        let keep = used / 25 * step;
        let file = fs::OpenOptions::new().write(true).open(cut.index()).unwrap();
        file.set_len(keep).unwrap();
        if step % 2 == 0 {
            file.set_len(length).unwrap();
        }
        mended(&cut, &format!("cut to {keep}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_with_flipped_bits_or_noise_is_made_anew() {
    let whole = sample().await;
    let used = fs::read(whole.index()).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    for round in 0..80usize {
        let bad = whole.copy();
        let mut bytes = fs::read(bad.index()).unwrap();
        let at = (round * 7919 * 131) % used;
        match round % 4 {
            0..3 => bytes[at] ^= 1 << (round % 8),
            _ => bytes.iter_mut().skip(at).take(4096).enumerate().for_each(|(n, byte)| *byte = (n * 37 + round) as u8),
        }
        fs::write(bad.index(), bytes).unwrap();
        mended(&bad, &format!("round {round} at {at}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_files_of_the_index_and_left_overs_do_no_harm() {
    let whole = sample().await;
    let index = |sample: &Sample, name: &str| sample.data().join("index").join(name);
    let snapshots = |sample: &Sample| -> Vec<PathBuf> {
        let entries = fs::read_dir(sample.data().join("index")).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains("snap.")).collect()
    };

    let gone = whole.copy();
    fs::remove_file(gone.index()).unwrap();
    assert_eq!(noticed(&gone, "no tree").await, Noticed::Unharmed);
    let gone = whole.copy();
    fs::remove_dir_all(gone.data().join("index")).unwrap();
    assert_eq!(noticed(&gone, "no folder").await, Noticed::Unharmed);
    let empty = whole.copy();
    fs::write(empty.index(), b"").unwrap();
    assert_eq!(noticed(&empty, "an empty tree").await, Noticed::Unharmed);
    let half = whole.copy();
    copy_folder(&half.data().join("index"), &half.data().join("index.new"));
    assert_eq!(noticed(&half, "an index that was being made").await, Noticed::Unharmed);

    for conf in [None, Some(&b""[..]), Some(b"segment_size: 5"), Some(b"\xff\xfe\xfd garbage that is no text")] {
        let odd = whole.copy();
        match conf {
            None => fs::remove_file(index(&odd, "conf")).unwrap(),
            Some(bytes) => fs::write(index(&odd, "conf"), bytes).unwrap(),
        }
        assert_eq!(noticed(&odd, "a bad conf").await, Noticed::Unharmed);
    }
    // A second opening leaves a snapshot to spoil.
    drop(open(&whole.data()).unwrap());
    assert!(!snapshots(&whole).is_empty());
    for spoilt in [None, Some(vec![7; 5]), Some(vec![7; 900])] {
        let odd = whole.copy();
        for path in snapshots(&odd) {
            match &spoilt {
                None => fs::remove_file(path).unwrap(),
                Some(bytes) => fs::write(path, bytes).unwrap(),
            }
        }
        assert_eq!(noticed(&odd, "a spoilt snapshot").await, Noticed::Unharmed);
    }
    for left in [&b""[..], b"half a snapshot"] {
        let odd = whole.copy();
        fs::write(index(&odd, "snap.00000000FFFFFFFF.generating"), left).unwrap();
        assert_eq!(noticed(&odd, "a half-written snapshot").await, Noticed::Unharmed);
        assert!(snapshots(&odd).iter().all(|path| path.extension().is_none_or(|ending| ending != "generating")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_another_time_or_another_store_does_no_harm() {
    let older = sample().await;
    let newer = older.copy();
    let store = open(&newer.data()).unwrap();
    let log = LogId::new("run/0").unwrap();
    let mut content = newer.content.clone();
    for n in 0..12u8 {
        let record = Record(vec![n; 60_000]);
        store.commit(Commit { expect: Vec::new(), append: vec![(log.clone(), vec![record.clone()])] }).await.unwrap();
        content.entry(log.to_string()).or_default().push(record);
    }
    let_the_index_take_up(&newer.data());
    drop(store);
    let newer = Sample { content, ..newer };
    let exchanged = |data: &Sample, index: &Sample| {
        let mixed = data.copy();
        fs::remove_dir_all(mixed.data().join("index")).unwrap();
        copy_folder(&index.data().join("index"), &mixed.data().join("index"));
        mixed
    };
    assert_eq!(noticed(&exchanged(&newer, &older), "an older index").await, Noticed::Unharmed);
    assert_eq!(noticed(&exchanged(&older, &newer), "a newer index").await, Noticed::Unharmed);
    let foreign = foreign().await;
    assert_eq!(mended(&exchanged(&newer, &foreign), "a foreign index").await, Noticed::Unharmed);
}

/// Another store, as far as the sample.
async fn foreign() -> Sample {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place.path().join("data")).unwrap();
    for n in 0..240usize {
        let record = Record(vec![n as u8; 200 + n % 7 * 900]);
        let log = LogId::new(&format!("run/{}", n % 5)).unwrap();
        store.commit(Commit { expect: Vec::new(), append: vec![(log, vec![record])] }).await.unwrap();
    }
    let_the_index_take_up(&place.path().join("data"));
    Sample { place, content: Content::new(), kept: Digest::of(b"") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_segment_that_was_changed_or_cut_at_any_byte_is_noticed_with_an_index_and_without() {
    let whole = sample().await;
    let used = used(&whole.sealed());
    for round in 0..120usize {
        let bad = whole.copy();
        let mut bytes = fs::read(bad.sealed()).unwrap();
        let at = 32 + (round * 7919 * 31) % (used - 32);
        match round % 4 {
            0 | 1 => bytes[at] ^= 1 << (round % 8),
            2 => bytes.truncate(at),
            _ => bytes[at..(at + 700).min(used)].fill(0),
        }
        if bytes == fs::read(whole.sealed()).unwrap() {
            continue;
        }
        fs::write(bad.sealed(), bytes).unwrap();
        // The frame around parts is not read again where the index says where they lie: then all is there.
        noticed(&bad, &format!("round {round} at {at}")).await;
        fs::remove_dir_all(bad.data().join("index")).unwrap();
        assert_eq!(noticed(&bad, &format!("round {round} at {at}")).await, Noticed::Damaged, "round {round} at {at}");
    }
}

/// Where the groups of a segment end.
fn used(segment: &Path) -> usize {
    let bytes = fs::read(segment).unwrap();
    let mut at = 32;
    loop {
        let length = bytes.get(at..at + 4).map_or(0, |length| u32::from_le_bytes(length.try_into().unwrap()) as usize);
        if length == 0 {
            return at;
        }
        at += 20 + length;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_segment_that_was_cut_zeroed_or_changed_at_any_byte_is_noticed() {
    let whole = sample().await;
    let used = used(&whole.last());
    assert!(used > 50_000, "too little is in the last segment: {used}");
    for round in 0..150usize {
        let bad = whole.copy();
        let mut bytes = fs::read(bad.last()).unwrap();
        // The last group and the head of the segment are met too, and so is every kind of place in between.
        let at = [round * used / 130 % used, used - 1 - round, round % 60][round % 3];
        match round % 4 {
            0 | 1 => bytes[at] ^= 1 << (round % 8),
            2 => bytes.truncate(at),
            _ => bytes[at..].fill(0),
        }
        if bytes == fs::read(bad.last()).unwrap() {
            continue;
        }
        fs::write(bad.last(), bytes).unwrap();
        assert_eq!(noticed(&bad, &format!("round {round} at {at}")).await, Noticed::Damaged, "round {round} at {at} of {used}");
        // Without the witness of the tip, what was cut off at the very end passes for a write that was never acknowledged; a hole does not.
        if round % 4 < 2 && at < used / 2 {
            fs::remove_file(bad.data().join("tip")).unwrap();
            assert_eq!(noticed(&bad, "a hole").await, Noticed::Damaged, "round {round} at {at} of {used}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_segment_is_noticed() {
    let whole = sample().await;
    for gone in 0..segments(&whole.data()).len() {
        let sample = whole.copy();
        fs::remove_file(&segments(&sample.data())[gone]).unwrap();
        assert_eq!(noticed(&sample, "no segment").await, Noticed::Damaged, "segment {gone}");
    }
    let gone = whole.copy();
    fs::remove_dir_all(gone.data().join("segments")).unwrap();
    assert_eq!(noticed(&gone, "no segments").await, Noticed::Damaged);
    let moved = whole.copy();
    fs::rename(moved.last(), moved.data().join("segments/00000000000000ff")).unwrap();
    assert_eq!(noticed(&moved, "a segment under another number").await, Noticed::Damaged);
    let odd = whole.copy();
    fs::write(odd.data().join("segments/first"), b"segment 1 group 1").unwrap();
    assert_eq!(noticed(&odd, "a beginning without its checksum").await, Noticed::Damaged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_put_in_place_is_noticed_until_a_person_accepts_it() {
    let older = sample().await;
    let newer = older.copy();
    let log = LogId::new("run/0").unwrap();
    let store = open(&newer.data()).unwrap();
    store.commit(Commit { expect: vec![(log.clone(), Seq(80))], append: vec![(log, vec![Record(b"later".to_vec())])] }).await.unwrap();
    drop(store);
    fs::remove_dir_all(newer.data().join("segments")).unwrap();
    copy_folder(&older.data().join("segments"), &newer.data().join("segments"));
    let refusal = open(&newer.data()).unwrap_err().to_string();
    assert!(refusal.contains("group 240") && refusal.contains("group 241") && refusal.contains("removes the file tip"), "{refusal}");
    fs::remove_file(newer.data().join("tip")).unwrap();
    assert_eq!(read(&newer.data()).await.unwrap(), older.content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_format_is_refused_and_the_folder_left_alone() {
    let whole = sample().await;
    let before = fs::read(whole.last()).unwrap();
    fs::write(whole.data().join("format"), "lifeboat-store 4\n").unwrap();
    let refusal = open(&whole.data()).unwrap_err();
    assert!(matches!(refusal, StoreError::NewerFormat { found: 4, known: 3, .. }), "{refusal}");
    for odd in ["", "lifeboat-store", "lifeboat-store one", "something else 1"] {
        fs::write(whole.data().join("format"), odd).unwrap();
        assert!(matches!(open(&whole.data()), Err(StoreError::Damaged { .. })), "{odd:?}");
    }
    fs::remove_file(whole.data().join("format")).unwrap();
    let refusal = open(&whole.data()).unwrap_err().to_string();
    assert!(refusal.contains("format is missing"), "{refusal}");
    assert_eq!(fs::read(whole.last()).unwrap(), before);
    fs::write(whole.data().join("format"), "lifeboat-store 3\n").unwrap();
    assert_eq!(read(&whole.data()).await.unwrap(), whole.content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoilt_kept_value_is_named_and_keeping_it_again_mends_it() {
    let whole = sample().await;
    let path = whole.data().join("kept").join(whole.kept.to_string());
    fs::write(&path, b"a value worth Keeping").unwrap();
    let store = open(&whole.data()).unwrap();
    let refusal = store.kept(&whole.kept).await.unwrap_err();
    assert!(matches!(&refusal, StoreError::Damaged { what, .. } if what.contains(&whole.kept.to_string())), "{refusal}");
    assert_eq!(store.verify().await.unwrap().damage.len(), 1);
    store.keep(b"a value worth keeping").await.unwrap();
    assert_eq!(store.kept(&whole.kept).await.unwrap(), b"a value worth keeping");
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.damage.len(), verified.records, verified.kept.len()), (0, 240, 1));
}

#[test]
fn a_data_folder_that_is_no_folder_or_may_not_be_written_is_an_error_and_a_new_one_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, b"mine").unwrap();
    assert!(matches!(open(&file), Err(StoreError::Io { .. })));
    assert!(matches!(open(&file.join("below")), Err(StoreError::Io { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let data = place.path().join("a/b/data");
    drop(open(&data).unwrap());
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
}
