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

    fn tree(&self) -> PathBuf {
        self.data().join("store/db")
    }

    /// The one segment that the tree has not taken over.
    fn front(&self) -> PathBuf {
        segments(&self.data()).pop().unwrap()
    }

    /// A copy to be damaged.
    fn copy(&self) -> Self {
        let place = tempfile::tempdir().unwrap();
        copy_folder(&self.data(), &place.path().join("data"));
        Self { place, content: self.content.clone(), kept: self.kept }
    }
}

/// The segments of the front, in order; what waits to be written over is none.
fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("front")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = entries.filter(|path| path.file_name().is_some_and(|name| name.len() == 16)).collect();
    segments.sort();
    segments
}

/// Waits until the tree has taken over what is sealed. How long that takes is its own affair.
fn let_the_tree_take_over(data: &Path) {
    for _ in 0..20_000 {
        if segments(data).len() == 1 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the tree did not take over the front");
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

/// Short enough that most of the sample is in the tree, and long enough that some of it is in the front.
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
    let_the_tree_take_over(&place.path().join("data"));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_or_zeroed_tail_is_noticed() {
    let whole = sample().await;
    let length = fs::metadata(whole.tree()).unwrap().len();
    let used = fs::read(whole.tree()).unwrap().iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut damaged = 0;
    for step in 1..=24 {
        let cut = whole.copy();
        let keep = used / 25 * step;
        let file = fs::OpenOptions::new().write(true).open(cut.tree()).unwrap();
        file.set_len(keep).unwrap();
        if step % 2 == 0 {
            file.set_len(length).unwrap();
        }
        // Where sled reused an earlier segment, what lies behind it may be out of date as a whole: then everything is still there,
        // which `noticed` compares record by record.
        damaged += u32::from(noticed(&cut, &format!("cut to {keep}")).await == Noticed::Damaged);
    }
    assert!(damaged >= 10, "only {damaged} of 24 cuts were damage at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_and_noise_are_noticed_or_harmless() {
    let whole = sample().await;
    let used = fs::read(whole.tree()).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    let mut damaged = 0;
    for round in 0..80usize {
        let bad = whole.copy();
        let mut bytes = fs::read(bad.tree()).unwrap();
        let at = (round * 7919 * 131) % used;
        match round % 4 {
            0..3 => bytes[at] ^= 1 << (round % 8),
            _ => bytes.iter_mut().skip(at).take(4096).enumerate().for_each(|(n, byte)| *byte = (n * 37 + round) as u8),
        }
        fs::write(bad.tree(), bytes).unwrap();
        damaged += u32::from(noticed(&bad, &format!("round {round} at {at}")).await == Noticed::Damaged);
    }
    assert!(damaged >= 30, "only {damaged} of 80 were damaged at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_files_and_left_overs_are_noticed_or_mended() {
    let whole = sample().await;
    let store = |sample: &Sample, name: &str| sample.data().join("store").join(name);
    let snapshots = |sample: &Sample| -> Vec<PathBuf> {
        let entries = fs::read_dir(sample.data().join("store")).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains("snap.")).collect()
    };

    let gone = whole.copy();
    fs::remove_file(gone.tree()).unwrap();
    assert_eq!(noticed(&gone, "no tree").await, Noticed::Damaged);
    let gone = whole.copy();
    fs::remove_dir_all(gone.data().join("store")).unwrap();
    assert_eq!(noticed(&gone, "no folder").await, Noticed::Damaged);
    let empty = whole.copy();
    fs::write(empty.tree(), b"").unwrap();
    assert_eq!(noticed(&empty, "an empty tree").await, Noticed::Damaged);

    for conf in [None, Some(&b""[..]), Some(b"segment_size: 5"), Some(b"\xff\xfe\xfd garbage that is no text")] {
        let odd = whole.copy();
        match conf {
            None => fs::remove_file(store(&odd, "conf")).unwrap(),
            Some(bytes) => fs::write(store(&odd, "conf"), bytes).unwrap(),
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
        fs::write(store(&odd, "snap.00000000FFFFFFFF.generating"), left).unwrap();
        assert_eq!(noticed(&odd, "a half-written snapshot").await, Noticed::Unharmed);
        assert!(snapshots(&odd).iter().all(|path| path.extension().is_none_or(|ending| ending != "generating")));
    }
}

/// Where the groups of a segment end.
fn used(segment: &Path) -> usize {
    let bytes = fs::read(segment).unwrap();
    let mut at = 32;
    loop {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return at;
        }
        at += 20 + length;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_front_that_was_cut_zeroed_or_changed_at_any_byte_is_noticed() {
    let whole = sample().await;
    let used = used(&whole.front());
    assert!(used > 50_000, "too little is in the front: {used}");
    for round in 0..150usize {
        let bad = whole.copy();
        let mut bytes = fs::read(bad.front()).unwrap();
        // The last group and the head of the segment are met too, and so is every kind of place in between.
        let at = [round * used / 130 % used, used - 1 - round, round % 60][round % 3];
        match round % 4 {
            0 | 1 => bytes[at] ^= 1 << (round % 8),
            2 => bytes.truncate(at),
            _ => bytes[at..].fill(0),
        }
        if bytes == fs::read(bad.front()).unwrap() {
            continue;
        }
        fs::write(bad.front(), bytes).unwrap();
        assert_eq!(noticed(&bad, &format!("round {round} at {at}")).await, Noticed::Damaged, "round {round} at {at} of {used}");
        // Without the witness of the tip, what was cut off at the very end passes for a write that was never acknowledged; a hole does not.
        if round % 4 < 2 && at < used / 2 {
            fs::remove_file(bad.data().join("tip")).unwrap();
            assert_eq!(noticed(&bad, "a hole").await, Noticed::Damaged, "round {round} at {at} of {used}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_segment_or_front_is_noticed_and_a_spare_may_be_anything() {
    let whole = sample().await;
    let gone = whole.copy();
    fs::remove_file(gone.front()).unwrap();
    assert_eq!(noticed(&gone, "no segment").await, Noticed::Damaged);
    let gone = whole.copy();
    fs::remove_dir_all(gone.data().join("front")).unwrap();
    assert_eq!(noticed(&gone, "no front").await, Noticed::Damaged);
    let moved = whole.copy();
    fs::rename(moved.front(), moved.data().join("front/00000000000000ff")).unwrap();
    assert_eq!(noticed(&moved, "a segment under another number").await, Noticed::Damaged);
    for spare in [None, Some(&b""[..]), Some(b"whatever")] {
        let odd = whole.copy();
        match spare {
            None => fs::remove_file(odd.data().join("front/spare")).unwrap(),
            Some(bytes) => fs::write(odd.data().join("front/spare"), bytes).unwrap(),
        }
        assert_eq!(noticed(&odd, "an odd spare").await, Noticed::Unharmed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_put_in_place_is_noticed_until_a_person_accepts_it() {
    let older = sample().await;
    let newer = older.copy();
    let log = LogId::new("run/0").unwrap();
    let store = open(&newer.data()).unwrap();
    store.commit(Commit { expect: vec![(log.clone(), Seq(80))], append: vec![(log, vec![Record(b"later".to_vec())])] }).await.unwrap();
    drop(store);
    fs::remove_dir_all(newer.data().join("front")).unwrap();
    copy_folder(&older.data().join("front"), &newer.data().join("front"));
    let refusal = open(&newer.data()).unwrap_err().to_string();
    assert!(refusal.contains("group 240") && refusal.contains("group 241") && refusal.contains("remove the file tip"), "{refusal}");
    fs::remove_file(newer.data().join("tip")).unwrap();
    assert_eq!(read(&newer.data()).await.unwrap(), older.content);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_tree_behind_a_newer_front_leaves_a_gap_that_is_named() {
    let older = sample().await;
    let newer = older.copy();
    let store = open(&newer.data()).unwrap();
    let log = LogId::new("run/later").unwrap();
    for _ in 0..12 {
        store.commit(Commit { expect: Vec::new(), append: vec![(log.clone(), vec![Record(vec![5; 60_000])])] }).await.unwrap();
    }
    let_the_tree_take_over(&newer.data());
    drop(store);
    fs::remove_dir_all(newer.data().join("store")).unwrap();
    copy_folder(&older.data().join("store"), &newer.data().join("store"));
    fs::remove_file(newer.data().join("tip")).unwrap();
    let refusal = open(&newer.data()).unwrap_err().to_string();
    assert!(refusal.contains("what lay between is gone"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_format_is_refused_and_the_folder_left_alone() {
    let whole = sample().await;
    let before = fs::read(whole.tree()).unwrap();
    fs::write(whole.data().join("format"), "lifeboat-store 3\n").unwrap();
    let refusal = open(&whole.data()).unwrap_err();
    assert!(matches!(refusal, StoreError::NewerFormat { found: 3, known: 2, .. }), "{refusal}");
    for odd in ["", "lifeboat-store", "lifeboat-store one", "something else 1"] {
        fs::write(whole.data().join("format"), odd).unwrap();
        assert!(matches!(open(&whole.data()), Err(StoreError::Damaged { .. })), "{odd:?}");
    }
    fs::remove_file(whole.data().join("format")).unwrap();
    let refusal = open(&whole.data()).unwrap_err().to_string();
    assert!(refusal.contains("format is missing"), "{refusal}");
    assert_eq!(fs::read(whole.tree()).unwrap(), before);
    fs::write(whole.data().join("format"), "lifeboat-store 2\n").unwrap();
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
