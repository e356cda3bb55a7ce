//! A real full disk: a small file system in memory, in a mount namespace of its own.

use std::fs::{File, remove_file};
use std::io::{ErrorKind, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;

use lifeboat_store::{Commit, LogId, Record, Seq, SledOptions, SledStore, Store, StoreError};

/// The environment word that turns this test binary into the process on the small disk.
const SMALL_DISK: &str = "POWER_CUT_SMALL_DISK";

/// Mounts 24 MiB where only the child sees it. As root first, else as root of a user namespace.
const MOUNT: &str = "mount -t tmpfs -o size=24m tmpfs \"$1\" && exec \"$2\" --exact full_disk::the_process_on_the_small_disk --nocapture";

#[test]
fn on_a_full_disk_nothing_acknowledged_is_lost_and_the_store_opens_again() {
    let place = tempfile::tempdir().unwrap();
    let mut told = String::new();
    for namespaces in ["-m", "-rm"] {
        let mut command = Command::new("unshare");
        command.args([namespaces, "sh", "-c", MOUNT, "sh"]).arg(place.path()).arg(std::env::current_exe().unwrap());
        let output = command.env(SMALL_DISK, place.path()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if text.contains("the small disk was seen") {
            assert!(output.status.success(), "{text}");
            return;
        }
        told.push_str(&text);
    }
    panic!("no small disk could be mounted, so nothing was proven; run as root or allow user namespaces: {told}");
}

/// Not a check of its own: what the check above starts on the small disk.
#[test]
fn the_process_on_the_small_disk() {
    if let Some(folder) = std::env::var_os(SMALL_DISK) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(live_on_it(Path::new(&folder)));
        println!("the small disk was seen");
    }
}

async fn live_on_it(mount: &Path) {
    let data = mount.join("data");
    let ballast = data.join("ballast");
    // Somebody else's file takes most of the disk, and is removed in the end.
    std::fs::write(mount.join("else"), vec![1; 14_000_000]).unwrap();
    let store = open(&data).unwrap();
    assert!(!ballast.exists(), "there was no ample room for a ballast");
    drop(store);
    remove_file(mount.join("else")).unwrap();
    let store = open(&data).unwrap();
    assert!(ballast.exists());
    std::fs::write(mount.join("else"), vec![1; 14_000_000]).unwrap();
    let acknowledged = write_until_full(&store).await;
    assert!(acknowledged > 10, "{acknowledged} commits fitted");
    assert!(matches!(commit(&store, acknowledged).await, Err(StoreError::Poisoned(_))), "a full store acknowledges nothing more");
    drop(store);
    fill(&mount.join("junk"));

    let store = open(&data).unwrap();
    assert!(!ballast.exists(), "the ballast was not what made room");
    let after = check(&store, acknowledged).await;
    store.keep(&[7; 6_000_000]).await.expect_err("there is no room for this");
    assert_eq!(check(&store, acknowledged).await, after, "a value without room costs nothing else");
    drop(store);

    remove_file(mount.join("junk")).unwrap();
    remove_file(mount.join("else")).unwrap();
    let store = open(&data).unwrap();
    assert!(ballast.exists(), "with room again the ballast is laid in again");
    assert_eq!(check(&store, acknowledged).await, after);
    commit(&store, after).await.unwrap();
}

fn open(data: &Path) -> Result<SledStore, StoreError> {
    SledStore::open(data, &SledOptions::default().ballast_bytes(3 * 1024 * 1024))
}

fn log() -> LogId {
    LogId::new("run/full").unwrap()
}

fn content(place: u64) -> Record {
    Record((0..40_000u64).map(|n| (n * (place + 3)) as u8).collect())
}

async fn commit(store: &SledStore, place: u64) -> Result<(), StoreError> {
    store.commit(Commit { expect: vec![(log(), Seq(place))], append: vec![(log(), vec![content(place)])] }).await
}

async fn write_until_full(store: &SledStore) -> u64 {
    for place in 0.. {
        match commit(store, place).await {
            Ok(()) => {}
            Err(StoreError::DiskFull { .. }) => return place,
            Err(other) => panic!("commit {place}: {other}"),
        }
    }
    unreachable!("the disk is small");
}

/// Everything acknowledged is there; the one in flight may be.
async fn check(store: &SledStore, acknowledged: u64) -> u64 {
    let mut from = Seq(0);
    loop {
        let page = store.read(&log(), from, NonZeroU32::MAX).await.unwrap();
        for (place, record) in &page.records {
            assert_eq!((*place, record), (from, &content(from.0)));
            from.0 += 1;
        }
        if from >= page.next {
            break;
        }
    }
    assert!(from.0 == acknowledged || from.0 == acknowledged + 1, "{acknowledged} were acknowledged, {} are there", from.0);
    from.0
}

fn fill(path: &Path) {
    let mut junk = File::create(path).unwrap();
    for size in [65_536, 4096, 1] {
        loop {
            match junk.write(&vec![1; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
