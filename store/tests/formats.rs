//! A saved store of each past format, which must open and read for ever. How it is written today is no concern here.

mod samples;

use std::fs;
use std::num::NonZeroU32;

use samples::restored;

use lifeboat_store::{Digest, LogId, Record, Seq, SledOptions, SledStore, Store, StoreError};

/// Length of the saved tree of format 1; the zeros at its end are not in the repository.
const TREE_BYTES: u64 = 524_287;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_of_format_1_opens_and_reads() {
    let place = restored("format_1");
    fs::OpenOptions::new().write(true).open(place.path().join("store/db")).unwrap().set_len(TREE_BYTES).unwrap();

    let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
    let (lock, run) = (LogId::new("lock/db").unwrap(), LogId::new("run/first").unwrap());
    let all = NonZeroU32::MAX;
    assert!(matches!(store.read(&lock, Seq(2), all).await, Err(StoreError::Compacted { first: Seq(3), .. })));
    let page = store.read(&lock, Seq(3), all).await.unwrap();
    assert_eq!(page.records, [(Seq(3), Record(b"carry".to_vec())), (Seq(4), Record(vec![4])), (Seq(5), Record(vec![5]))]);
    assert_eq!(page.chain.to_string(), "3398aac9dc23ee3b059df7010b768d3e1e75e23b7384f4c56af0db51e08745e3");
    let page = store.read(&run, Seq(0), all).await.unwrap();
    assert_eq!(page.records, [(Seq(0), Record(b"again".to_vec())), (Seq(1), Record(vec![9; 9000]))]);
    assert_eq!(store.kept(&Digest::of(b"a value worth keeping")).await.unwrap(), b"a value worth keeping");
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.logs.len(), verified.records, verified.damage.len()), (2, 5, 0));
    // It is a folder of today's format from then on.
    assert!(!place.path().join("store").exists() && place.path().join("segments").exists());
}

/// A sample with a tree that has taken a segment over, and a front that shortens, removes and begins again what is in the tree.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_of_format_2_opens_and_reads() {
    let place = restored("format_2");
    let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
    let log = |name: &str| LogId::new(name).unwrap();
    let all = NonZeroU32::MAX;
    assert!(matches!(store.read(&log("lock/db"), Seq(2), all).await, Err(StoreError::Compacted { first: Seq(3), .. })));
    let page = store.read(&log("lock/db"), Seq(3), all).await.unwrap();
    assert_eq!(page.records, [(Seq(3), Record(b"carry".to_vec())), (Seq(4), Record(vec![4])), (Seq(5), Record(vec![5]))]);
    assert_eq!(page.chain.to_string(), "3398aac9dc23ee3b059df7010b768d3e1e75e23b7384f4c56af0db51e08745e3");
    let page = store.read(&log("run/first"), Seq(0), all).await.unwrap();
    assert_eq!(page.records, [(Seq(0), Record(b"again".to_vec()))]);
    let page = store.read(&log("run/second"), Seq(0), all).await.unwrap();
    let expected = [b"one".to_vec(), b"two".to_vec(), Vec::new(), vec![7; 300]];
    assert!(page.records.iter().map(|(_, record)| &record.0).eq(expected.iter()));
    assert_eq!(store.kept(&Digest::of(b"a value worth keeping")).await.unwrap(), b"a value worth keeping");
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.logs.len(), verified.records, verified.damage.len()), (3, 8, 0));
}

/// A sample with segments that were given up, what was moved out of them, and an index; then the same without the index.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_of_format_3_opens_and_reads_with_its_index_and_without() {
    for index in ["kept", "lost"] {
        let place = restored("format_3");
        if index == "lost" {
            fs::remove_dir_all(place.path().join("index")).unwrap();
        }
        let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
        let log = |name: &str| LogId::new(name).unwrap();
        let all = NonZeroU32::MAX;
        assert!(matches!(store.read(&log("lock/db"), Seq(2), all).await, Err(StoreError::Compacted { first: Seq(3), .. })));
        let page = store.read(&log("lock/db"), Seq(3), all).await.unwrap();
        assert_eq!(page.records, [(Seq(3), Record(b"carry".to_vec())), (Seq(4), Record(vec![4])), (Seq(5), Record(vec![5]))]);
        let page = store.read(&log("run/first"), Seq(0), all).await.unwrap();
        assert_eq!(page.records, [(Seq(0), Record(b"again".to_vec())), (Seq(1), Record(vec![9; 2000]))]);
        let page = store.read(&log("run/second"), Seq(0), all).await.unwrap();
        let expected = [b"one".to_vec(), b"two".to_vec(), Vec::new(), vec![7; 300]];
        assert!(page.records.iter().map(|(_, record)| &record.0).eq(expected.iter()));
        assert_eq!(store.kept(&Digest::of(b"a value worth keeping")).await.unwrap(), b"a value worth keeping");
        let verified = store.verify().await.unwrap();
        assert_eq!((verified.logs.len(), verified.records, verified.damage.len()), (4, 10, 0));
    }
}

/// The folder that the tests of the engine resume: here only that every byte of it is what it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_folder_of_runs_of_format_1_opens_with_every_chain_as_it_was() {
    let place = restored("golden/runs_1");
    let store = SledStore::open(place.path(), &SledOptions::default().ballast_bytes(4096)).unwrap();
    let verified = store.verify().await.unwrap();
    assert!(verified.damage.is_empty(), "{:?}", verified.damage);
    let mut all = String::new();
    for head in &verified.logs {
        all.push_str(&format!("{} {} {} {}\n", head.log, head.first.0, head.next.0, head.chain));
    }
    verified.kept.iter().for_each(|digest| all.push_str(&format!("{digest}\n")));
    assert_eq!(Digest::of(all.as_bytes()).to_string(), "3c0507e45325b5c55aa66e0b9668163c1c4f4d5d42e82fbe089b7ba1887af468", "{all}");
}
