//! What still reads of a damaged folder: with any bit of any segment flipped, every log comes out as it was or as a part of it from its
//! beginning, and what is missing is told. Nothing on disk is changed.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifeboat_store::{Commit, Digest, LogId, Record, Salvaged, Seen, Seq, SledOptions, SledStore, Store, Walk};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

fn log(name: &str) -> LogId {
    LogId::new(name).unwrap()
}

fn record(text: &str) -> Record {
    Record(text.as_bytes().to_vec())
}

/// Each log with its records, and each record with its place and the chain after it.
type Content = BTreeMap<LogId, Vec<(Seq, Digest, Record)>>;

async fn content(store: &dyn Store) -> (Content, Vec<Digest>) {
    let (mut logs, mut values) = (Content::new(), Vec::new());
    let mut walk = Walk::over_all(store).await.unwrap();
    while let Some(seen) = walk.next().await.unwrap() {
        match seen {
            Seen::Log(head) => _ = logs.insert(head.log, Vec::new()),
            Seen::Record { log, at, chain, record } | Seen::Carry { log, at, chain, record } => {
                logs.get_mut(&log).unwrap().push((at, chain, record));
            }
            Seen::Value { digest, .. } => values.push(digest),
            Seen::Problem(problem) => panic!("{problem:?}"),
        }
    }
    (logs, values)
}

/// A folder with several segments, of which the first were given up, and logs of every kind.
fn folder() -> (tempfile::TempDir, Content, Vec<Digest>) {
    let place = tempfile::tempdir().unwrap();
    let (logs, values) = block_on(async {
        let options = SledOptions::default().segment_bytes(4096).ballast_bytes(0);
        let store = SledStore::open(&place.path().join("data"), &options).unwrap();
        store.keep(b"a large value").await.unwrap();
        for round in 0..12_u32 {
            let (gone, stays) = (log(&format!("run/gone-{round}")), log(&format!("run/stays-{round}")));
            for n in 0..8_u64 {
                let text = record(&format!("{round} {n} {}", "x".repeat(90)));
                let append =
                    vec![(gone.clone(), vec![text.clone()]), (stays.clone(), vec![text.clone(), text.clone()]), (log("open"), vec![text])];
                store.commit(Commit { expect: Vec::new(), append }).await.unwrap();
            }
            store.remove(&gone).await.unwrap();
            store.truncate(&log("open"), Seq(u64::from(round) * 8 + 4), record("the sum of what was")).await.unwrap();
        }
        content(&store).await
    });
    (place, logs, values)
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(data.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name.len() == 16));
    files.sort();
    files
}

fn salvaged(data: &Path) -> (Salvaged, Content, Vec<Digest>) {
    let salvaged = Salvaged::from(data).unwrap();
    let (logs, values) = block_on(content(&salvaged.store));
    (salvaged, logs, values)
}

#[test]
fn a_folder_that_is_whole_comes_out_whole() {
    let (place, logs, values) = folder();
    let data = place.path().join("data");
    assert!(segments(&data).len() >= 3);
    let (found, found_logs, found_values) = salvaged(&data);
    assert_eq!((found.lost, found.cut.len()), (Vec::new(), 0));
    assert_eq!((found_logs, found_values), (logs, values));
}

#[test]
fn whatever_bit_is_flipped_each_log_is_a_beginning_of_itself_and_what_is_missing_is_told() {
    let (place, logs, _) = folder();
    let data = place.path().join("data");
    let removed = |name: &LogId| name.as_str().starts_with("run/gone");
    let (mut hurt, mut whole_logs) = (0, 0);
    for file in segments(&data) {
        let bytes = std::fs::read(&file).unwrap();
        // Every bit would take minutes: a step that is prime comes by every kind of place.
        for bit in (0..bytes.len() * 8).step_by(4001) {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file, bad).unwrap();
            let (found, found_logs, _) = salvaged(&data);
            for (name, records) in &found_logs {
                // The note that a log was removed may be what is lost.
                let Some(all) = logs.get(name) else {
                    assert!(removed(name) && !found.lost.is_empty(), "{name} was never there");
                    continue;
                };
                let begins = records.first().is_none_or(|(at, ..)| all.first().is_some_and(|(first, ..)| at <= first));
                let known: Vec<_> = records.iter().filter(|record| record.0 >= all[0].0).collect();
                // Where the cut of a log is lost its first entries stand there as they were.
                let same = known.iter().zip(all).skip(1).all(|(found, all)| *found == all);
                assert!(begins && same, "bit {bit} of {}: {name} is not a beginning of itself", file.display());
            }
            let missing = logs.iter().any(|(name, all)| found_logs.get(name) != Some(all));
            assert!(!missing || !found.lost.is_empty(), "bit {bit} of {}: something is missing and nothing is told", file.display());
            hurt += u32::from(missing);
            whole_logs += logs.iter().filter(|(name, all)| found_logs.get(*name) == Some(*all)).count();
        }
        std::fs::write(&file, &bytes).unwrap();
    }
    assert!(hurt > 10 && whole_logs > 100, "{hurt} times something was missing; {whole_logs} logs came out whole");
}

#[test]
fn a_segment_that_is_gone_and_an_end_that_is_cut_off_are_told() {
    let (place, ..) = folder();
    let data = place.path().join("data");
    let files = segments(&data);
    let middle = &files[files.len() / 2];
    let bytes = std::fs::read(middle).unwrap();
    std::fs::remove_file(middle).unwrap();
    let (found, ..) = salvaged(&data);
    assert!(found.lost.iter().any(|lost| lost.contains("missing")), "{:?}", found.lost);
    std::fs::write(middle, bytes).unwrap();
    let last = files.last().unwrap();
    let bytes = std::fs::read(last).unwrap();
    std::fs::write(last, &bytes[..40]).unwrap();
    let (found, ..) = salvaged(&data);
    assert!(found.lost.iter().any(|lost| lost.contains("gone from the end")), "{:?}", found.lost);
}
