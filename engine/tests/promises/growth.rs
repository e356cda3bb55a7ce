//! The store does not grow for ever: finished runs are archived and stay proven, starting reads nothing of them, values that nothing names are
//! thrown away and no others, and a disk that fills up is told before a run can die of it.

use std::io::BufReader;
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use lifeboat_engine::Effect;
use lifeboat_engine::admission::{self, AdmissionError};
use lifeboat_engine::audit::soundness;
use lifeboat_engine::growth::compact::{CompactError, Keep, compact};
use lifeboat_engine::growth::sample::{self, Standing};
use lifeboat_engine::growth::{archived, fold, values};
use lifeboat_engine::history;
use lifeboat_engine::journal::{Incident, Lock, Outcome};
use lifeboat_store::export::{Partly, import};
use lifeboat_store::{Fault, FaultyStore, LogId, MemoryStore, Room, Seq, Store};

use crate::world::plans::{PlanWords, actor, change, look, note, plan};
use crate::world::stage::{RestWords, on_stage};

const ALL: Keep = Keep { newest: 0, younger_than: SignedDuration::ZERO };
const MANY: NonZeroU32 = NonZeroU32::MAX;

fn later() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn early() -> Timestamp {
    "2025-01-01T00:00:00Z".parse().unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn logs(store: &dyn Store, prefix: &str) -> usize {
    store.logs(prefix, None, MANY).await.unwrap().len()
}

#[test]
fn a_finished_run_leaves_for_an_archive_file_and_comes_back_from_it_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    on_stage(async |stage| {
        let steps = || plan([change("a").with("blob_bytes", serde_json::json!(70_000)), look("b").after(&["a"])]);
        let (name, rest) = stage.run(steps()).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
        let before = stage.load(&name).await;
        let done = compact(&stage.memory, later(), ALL, place.path()).await.unwrap();
        assert_eq!((done.runs, done.entries, done.left.len()), (1, before.entries.len() as u64, 0));
        assert_eq!(logs(&stage.memory, "run/").await, 0);
        assert!(history::open_runs(&stage.memory).await.unwrap().is_empty());
        let listed = archived(&stage.memory, None, MANY).await.unwrap();
        let [(_, record)] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((&record.run, record.outcome, record.entries), (&name, Outcome::Succeeded, before.entries.len() as u64));
        assert_eq!(soundness::examine(&stage.memory).await.unwrap().findings, []);

        let back = MemoryStore::new();
        let file = std::fs::File::open(&done.files[0]).unwrap();
        import(&back, BufReader::new(file), Partly::Refuse).await.unwrap();
        assert_eq!(history::load(&back, &name).await.unwrap().entries, before.entries);
        // The same run can be admitted again, although its plan was archived with the first one.
        let (_, rest) = stage.run(steps()).await;
        assert_eq!(rest.outcome(), Outcome::Succeeded);
    });
}

#[test]
fn what_is_held_stuck_young_or_among_the_newest_stays() {
    let place = tempfile::tempdir().unwrap();
    on_stage(async |stage| {
        let names = sample::runs(&stage.memory, &plan([note("a")]), Standing::Finished, 5, early()).await.unwrap();
        let open = stage.run_and_kill(plan([change("x")]), 200).await;
        let keep = Keep { newest: 2, younger_than: SignedDuration::ZERO };
        assert_eq!(compact(&stage.memory, later(), keep, place.path()).await.unwrap().runs, 3);
        let left = history::list(&stage.memory).await.unwrap();
        assert_eq!(left, [names[3].clone(), names[4].clone(), open.clone()]);
        let young = Keep { newest: 0, younger_than: SignedDuration::from_hours(24) };
        let now = early().saturating_add(SignedDuration::from_hours(1)).unwrap();
        let done = compact(&stage.memory, now, young, place.path()).await.unwrap();
        assert_eq!((done.runs, done.young), (0, 2));
        assert_eq!(compact(&stage.memory, later(), ALL, place.path()).await.unwrap().runs, 2);
        assert_eq!(history::list(&stage.memory).await.unwrap(), std::slice::from_ref(&open));
        assert_eq!(stage.resume(&open).await.outcome(), Outcome::Succeeded);
    });
}

/// Compacts three runs, crashing at one write, and again without a crash. Answers whether the write came about at all.
async fn crash_at(number: u64, fault: Fault) -> bool {
    let place = tempfile::tempdir().unwrap();
    let memory = MemoryStore::new();
    let names = sample::runs(&memory, &plan([note("a")]), Standing::Finished, 3, early()).await.unwrap();
    let store = FaultyStore::new(memory.clone()).fail_write(number, fault);
    let crashed = compact(&store, later(), ALL, place.path()).await.is_err();
    // Each run is in the store, or in the archive, or in both; never in neither.
    let live = history::list(&memory).await.unwrap();
    let gone = archived(&memory, None, MANY).await.unwrap();
    for name in &names {
        let filed = gone.iter().any(|(_, record)| record.run == *name && place.path().join(&record.file).exists());
        assert!(live.contains(name) || filed, "write {number}, {fault:?}: {name} is lost");
    }
    let done = compact(&memory, later(), ALL, place.path()).await.unwrap();
    assert!(done.left.is_empty());
    assert_eq!(logs(&memory, "run/").await, 0);
    assert_eq!(archived(&memory, None, MANY).await.unwrap().len(), 3, "write {number}: each run is listed once");
    crashed
}

#[test]
fn a_crash_at_any_write_of_a_compaction_loses_no_run() {
    block_on(async {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let mut number = 0;
            while crash_at(number, fault).await {
                number += 1;
            }
            assert!(number >= 4, "only {number} writes were spoilt");
        }
    });
}

#[test]
fn nothing_leaves_the_store_while_the_archive_cannot_be_written_or_a_journal_cannot_be_read() {
    let place = tempfile::tempdir().unwrap();
    block_on(async {
        let memory = MemoryStore::new();
        let names = sample::runs(&memory, &plan([note("a")]), Standing::Finished, 2, early()).await.unwrap();
        let file = place.path().join("a file, no folder");
        std::fs::write(&file, "x").unwrap();
        let refused = compact(&memory, later(), ALL, &file).await;
        assert!(matches!(refused, Err(CompactError::Archive { .. })), "{refused:?}");
        assert_eq!(history::list(&memory).await.unwrap(), names);
        // An entry that nobody understands: the run stays, and no value is thrown away, because what it names is not known.
        let log = history::run_log(&names[0]).unwrap();
        let nonsense = lifeboat_store::Record(b"nonsense".to_vec());
        memory.commit(lifeboat_store::Commit { expect: Vec::new(), append: vec![(log, vec![nonsense])] }).await.unwrap();
        let lone = memory.keep(b"nothing names this").await.unwrap();
        let done = compact(&memory, later(), ALL, place.path()).await.unwrap();
        assert_eq!((done.runs, done.values, done.left.len()), (1, 0, 1));
        assert_eq!(memory.kept(&lone).await.unwrap(), b"nothing names this");
    });
}

#[test]
fn only_values_that_nothing_names_and_nobody_kept_just_now_are_thrown_away() {
    let clock = lifeboat_store::ManualClock::default();
    let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
    block_on(async {
        let lone = memory.keep(b"nothing names this").await.unwrap();
        let [name] = sample::runs(&memory, &plan([note("a")]), Standing::Finished, 1, early()).await.unwrap().try_into().unwrap();
        assert_eq!(values::collect(&memory).await.unwrap(), 0, "it was kept just now");
        clock.advance(std::time::Duration::from_secs(2 * 3600));
        // Some log of another kind names a value: nobody has to know which.
        let proof = memory.keep(b"what a run proved").await.unwrap();
        let record = lifeboat_store::Record(format!("{{\"kept\":\"{proof}\"}}").into_bytes());
        let log = LogId::new("proof/orders").unwrap();
        memory.commit(lifeboat_store::Commit { expect: Vec::new(), append: vec![(log, vec![record])] }).await.unwrap();
        clock.advance(std::time::Duration::from_secs(2 * 3600));
        // A run that is being admitted: its plan is kept, and its first entry is still to come.
        let coming = memory.keep(b"the plan of a run that is being admitted").await.unwrap();
        assert_eq!(values::collect(&memory).await.unwrap(), 1);
        assert!(memory.kept(&lone).await.is_err());
        memory.kept(&coming).await.unwrap();
        memory.kept(&proof).await.unwrap();
        history::load(&memory, &name).await.unwrap();
    });
}

/// What starting reads: the open runs, and one of them taken over.
async fn reads_at_start(finished: u32, standing: Standing) -> u64 {
    let place = tempfile::tempdir().unwrap();
    let memory = MemoryStore::new();
    let steps = plan([note("a"), note("b").after(&["a"])]);
    sample::runs(&memory, &steps, standing, finished, early()).await.unwrap();
    sample::runs(&memory, &steps, Standing::InFlight, 5, later()).await.unwrap();
    if standing == Standing::Finished {
        compact(&memory, later(), ALL, place.path()).await.unwrap();
    }
    let store = FaultyStore::new(memory);
    let open = history::open_runs(&store).await.unwrap();
    assert_eq!(open.len(), 5);
    history::load(&store, &open[2]).await.unwrap();
    store.reads()
}

#[test]
fn what_a_start_reads_does_not_grow_with_the_runs_that_finished() {
    block_on(async {
        let few = reads_at_start(1000, Standing::Finished).await;
        let many = reads_at_start(4000, Standing::Finished).await;
        assert!(many <= few && few < 200, "{few} reads with 1,000 finished runs, {many} with 4,000");
        assert_eq!(reads_at_start(20_000, Standing::Archived).await, reads_at_start(10, Standing::Archived).await);
    });
}

#[test]
fn a_page_of_the_archive_reads_only_that_page() {
    block_on(async {
        let memory = MemoryStore::new();
        let names = sample::runs(&memory, &plan([note("a")]), Standing::Archived, 5000, early()).await.unwrap();
        let store = FaultyStore::new(memory);
        let page = archived(&store, None, NonZeroU32::new(20).unwrap()).await.unwrap();
        assert_eq!((page.len(), &page[0].1.run, &page[19].1.run), (20, &names[4999], &names[4980]));
        let next = archived(&store, Some(page[19].0), NonZeroU32::new(20).unwrap()).await.unwrap();
        assert_eq!(next[0].1.run, names[4979]);
        assert!(store.reads() < 50, "{} records were read for two pages", store.reads());
    });
}

#[test]
fn folding_the_list_of_open_runs_and_a_lock_changes_nothing_that_they_tell() {
    on_stage(async |stage| {
        let memory = &stage.memory;
        let steps = plan([note("a")]);
        // The open run is older than all that ended: only what the log is folded into still tells of it.
        let open = stage.run_and_kill(plan([change("x").on("dns")]), 200).await;
        sample::runs(memory, &steps, Standing::Finished, 400, early()).await.unwrap();
        let before = (history::open_runs(memory).await.unwrap(), history::lock_holder(memory, "dns").await.unwrap());
        let dns = LogId::new("lock/dns").unwrap();
        // A long history of a lock: taken and given back by others, and by one that no longer had it.
        let lock = LogId::new("lock/web").unwrap();
        let record = |text: &str| lifeboat_store::Record(text.as_bytes().to_vec());
        let mut history: Vec<_> =
            (0..200).flat_map(|n| [record(&format!("{{\"taken\":\"r{n}\"}}")), record(&format!("{{\"released\":\"r{n}\"}}"))]).collect();
        history.extend([record("{\"taken\":\"last\"}"), record("{\"released\":\"r7\"}")]);
        memory.commit(lifeboat_store::Commit { expect: Vec::new(), append: vec![(lock.clone(), history)] }).await.unwrap();
        let web = history::lock_holder(memory, "web").await.unwrap();
        let locks = ["dns", "web"].map(|name| Lock { resource: name.into(), effect: Effect::Change });
        fold(memory, &locks).await.unwrap();
        assert_eq!((history::open_runs(memory).await.unwrap(), history::lock_holder(memory, "dns").await.unwrap()), before);
        assert_eq!(before.0, std::slice::from_ref(&open));
        assert_eq!(history::lock_holder(memory, "web").await.unwrap(), web);
        assert_eq!(web.0.unwrap().as_str(), "last");
        let first = async |name: &LogId| memory.logs(name.as_str(), None, NonZeroU32::MIN).await.unwrap()[0].first;
        assert!(first(&LogId::new("open").unwrap()).await > Seq(600));
        assert_eq!((first(&lock).await, first(&dns).await), (Seq(401), Seq(0)));
        assert_eq!(stage.resume(&open).await.outcome(), Outcome::Succeeded);
        assert!(history::open_runs(memory).await.unwrap().is_empty());
    });
}

#[test]
fn no_new_run_is_admitted_on_a_full_disk_and_those_that_were_go_on() {
    on_stage(async |stage| {
        let going = stage.run_and_kill(plan([change("a")]), 200).await;
        let store = FaultyStore::new(stage.slow());
        let ports = stage.ports_on(Arc::new(store.clone()));
        let mib = 1024 * 1024;
        let admit = async || {
            let plan = plan([change("b").on("dns")]).bound_to(&ports.inventory);
            admission::admit(&ports, plan, &stage.owner(), actor("sam"), Incident::default(), 7).await
        };
        store.set_room(Room { used_bytes: 81 * mib, total_bytes: 100 * mib });
        let writes = store.writes();
        let refused = admit().await;
        assert!(matches!(refused, Err(AdmissionError::NoRoom { used_percent: 81, limit_percent: 80 })), "{refused:?}");
        assert_eq!(store.writes(), writes, "nothing was written");
        assert_eq!(stage.resume(&going).await.outcome(), Outcome::Succeeded);
        store.set_room(Room { used_bytes: 79 * mib, total_bytes: 100 * mib });
        admit().await.unwrap();
    });
}
