//! A journal of 1,000 entries with its signed checkpoints: whatever is changed, cut, moved, put in or taken out up to the last checkpoint is
//! found, at every place and in every way. And: checkpoints are made in time, and never silently missing.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifeboat_engine::audit::{Audit, Auditor, Cause, Claims, Extent};
use lifeboat_engine::checkpoint::key::{PublicKey, SigningKey};
use lifeboat_engine::checkpoint::sink::{FileSink, Sink};
use lifeboat_engine::checkpoint::{Checkpoint, Signed, Tell, Timing, Witness};
use lifeboat_engine::clock::{Clock, SystemClock};
use lifeboat_engine::journal::{Entry, Event, Outcome};
use lifeboat_store::export::{Reader, write};
use lifeboat_store::{Commit, LogHead, LogId, MemoryStore, Record, Seen, Seq, Store, StoreError, Walk, chain_after, chain_start};

const ENTRIES: u64 = 1000;

fn log() -> LogId {
    LogId::new("run/a").unwrap()
}

fn entry(n: u64) -> Record {
    Record(format!("{{\"entry\":{n},\"what\":\"so it was\"}}").into_bytes())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

/// What was told to people.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn ear(&self) -> Tell {
        let told = self.0.clone();
        Arc::new(move |text: &str| told.lock().unwrap().push(text.to_owned()))
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn witness(inner: &MemoryStore, key: SigningKey, sink: Box<dyn Sink>, told: &Told) -> Witness {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Witness::before(
        Arc::new(inner.clone()),
        Box::new(move || SigningKey::from_pem(&key.to_pem())),
        sink,
        clock,
        Timing::default(),
        "store-1",
        told.ear(),
    )
    .await
    .unwrap()
}

/// Commits so many more entries to the log, one at a time, as an executor does.
async fn go_on(store: &dyn Store, from: u64, count: u64) {
    for n in from..from + count {
        let mut append = vec![(log(), vec![entry(n)])];
        if n == 0 {
            // Admission also lists the run.
            append.push((LogId::new("open").unwrap(), vec![Record(b"{\"opened\":\"a\"}".to_vec())]));
        }
        store.commit(Commit { expect: vec![(log(), Seq(n))], append }).await.unwrap();
    }
}

/// A journal, its checkpoints, and the key to check them with.
struct Sample {
    place: tempfile::TempDir,
    records: Vec<Record>,
    claims: Claims,
    public: PublicKey,
}

/// Entries beyond the last checkpoint.
const BEHIND: u64 = 7;

impl Sample {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let public = key.public();
        let inner = MemoryStore::new();
        let file = place.path().join("checkpoints");
        block_on(async {
            let store = witness(&inner, key, Box::new(FileSink::new(&file)), &Told::default()).await;
            go_on(&store, 0, ENTRIES).await;
            drop(store);
            // These come about without a witness, as those do that a crash leaves behind the last checkpoint.
            go_on(&inner, ENTRIES, BEHIND).await;
        });
        let claims = claims(&file, &public);
        let records = (0..ENTRIES + BEHIND).map(entry).collect();
        Self { place, records, claims, public }
    }

    /// A store with these entries: their chain is as right as a forger can make it.
    async fn forged(&self, records: &[Record]) -> MemoryStore {
        let store = MemoryStore::new();
        let id = Record(b"{\"id\":\"store-1\"}".to_vec());
        store.commit(Commit { expect: Vec::new(), append: vec![(LogId::new("store").unwrap(), vec![id])] }).await.unwrap();
        store.commit(Commit { expect: Vec::new(), append: vec![(log(), records.to_vec())] }).await.unwrap();
        store
    }

    async fn audit(&self, records: &[Record]) -> Audit {
        audit(&self.forged(records).await, self.claims.clone()).await
    }
}

fn claims(file: &Path, public: &PublicKey) -> Claims {
    let claims = Claims::read(BufReader::new(std::fs::File::open(file).unwrap()), public).unwrap();
    assert_eq!(claims.void, []);
    claims
}

async fn audit(store: &dyn Store, claims: Claims) -> Audit {
    let mut auditor = Auditor::new(claims);
    let mut walk = Walk::over_all(store).await.unwrap();
    while let Some(seen) = walk.next().await.unwrap() {
        auditor.hear(&seen);
    }
    auditor.judge(Extent::Whole)
}

#[test]
fn an_untouched_journal_is_proven_up_to_its_last_checkpoint_and_no_further() {
    let sample = Sample::new();
    block_on(async {
        let audit = sample.audit(&sample.records).await;
        assert_eq!(audit.findings, []);
        let [run] = audit.logs.as_slice() else { panic!("{audit:?}") };
        assert_eq!((run.entries, run.proven, audit.unproven()), (ENTRIES + BEHIND, ENTRIES, BEHIND));
        // At admission, then every hundred, and at the end of the process.
        assert!(audit.checkpoints >= ENTRIES / 100, "{}", audit.checkpoints);
        // What lies behind the last checkpoint can be rewritten unseen, and it is said that it is unproven.
        let mut rewritten = sample.records.clone();
        rewritten[ENTRIES as usize + 2] = Record(b"something else".to_vec());
        let audit = sample.audit(&rewritten).await;
        assert_eq!((audit.findings.len(), audit.unproven()), (0, BEHIND));
    });
    drop(sample.place);
}

/// Tampers at every place and sees each one found, in the window of the checkpoint that covers it.
fn at_every_place(tamper: impl Fn(&mut Vec<Record>, usize)) {
    let sample = Sample::new();
    let mut chains = vec![chain_start(&log())];
    for record in &sample.records {
        chains.push(chain_after(chains.last().unwrap(), record));
    }
    for place in 0..ENTRIES as usize {
        let mut records = sample.records.clone();
        tamper(&mut records, place);
        let mut auditor = Auditor::new(sample.claims.clone());
        let head = LogHead { log: log(), first: Seq(0), next: Seq(records.len() as u64), chain: chain_start(&log()) };
        auditor.hear(&Seen::Log(head));
        // What stands before the place is untouched; from there on the forger made the chain anew.
        let mut chain = chains[place];
        for (at, record) in records.into_iter().enumerate() {
            chain = if at < place { chains[at + 1] } else { chain_after(&chain, &record) };
            auditor.hear(&Seen::Record { log: log(), at: Seq(at as u64), chain, record });
        }
        let audit = auditor.judge(Extent::Part);
        let found = audit.findings.iter().find(|finding| finding.log.as_deref() == Some("run/a"));
        let found = found.unwrap_or_else(|| panic!("tampering at entry {place} went unnoticed"));
        let from = found.entry.unwrap();
        assert!(from <= place as u64 && place as u64 - from <= 100, "entry {place} is told as {from}: {found}");
        assert!(audit.logs[0].proven <= place as u64, "entry {place} counts as proven");
    }
}

#[test]
fn every_flipped_entry_is_found_although_the_whole_chain_behind_it_was_made_anew() {
    at_every_place(|records, place| records[place].0[3] ^= 1);
}

#[test]
fn every_dropped_entry_is_found_although_the_whole_chain_behind_it_was_made_anew() {
    at_every_place(|records, place| {
        records.remove(place);
    });
}

#[test]
fn every_swapped_pair_is_found_although_the_whole_chain_behind_it_was_made_anew() {
    at_every_place(|records, place| records.swap(place, place + 1));
}

#[test]
fn every_inserted_entry_is_found_although_the_whole_chain_behind_it_was_made_anew() {
    at_every_place(|records, place| records.insert(place, Record(b"{\"entry\":\"never happened\"}".to_vec())));
}

#[test]
fn every_truncation_is_found() {
    let sample = Sample::new();
    block_on(async {
        for place in (1..ENTRIES as usize).step_by(13).chain([1, 99, 100, 101, 998, 999]) {
            let audit = sample.audit(&sample.records[..place]).await;
            let told = audit.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(told.contains("the rest was cut off"), "cut at {place}: {told}");
        }
        // The whole journal taken away, and the store exchanged for another.
        let gone = audit(&sample.forged(&[]).await, sample.claims.clone()).await;
        assert!(gone.findings.iter().any(|finding| finding.what.contains("the log is gone")), "{gone:?}");
        let other = audit(&MemoryStore::new(), sample.claims.clone()).await;
        assert!(other.findings.iter().any(|finding| finding.what.contains("the store's id is missing")), "{other:?}");
    });
}

/// The text of an export, changed without making its chain anew: the entry itself is named.
#[test]
fn a_byte_flipped_in_an_export_is_found_at_its_entry() {
    let sample = Sample::new();
    block_on(async {
        let mut text = Vec::new();
        write(Walk::over_all(&sample.forged(&sample.records).await).await.unwrap(), &mut text).await.unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let first = lines.iter().position(|line| line.starts_with(b"{\"log\":{\"name\":\"run/a\"")).unwrap() + 1;
        for place in (0..ENTRIES as usize).step_by(83) {
            let line = lines[first + place];
            // Within the text of the entry: everything between the first and the last quote of its value.
            let begin = line.windows(8).position(|word| word == b"\"text\":\"").unwrap() + 8;
            for at in (begin..line.len() - 4).step_by(5) {
                let mut bad: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
                bad[first + place][at] ^= 0x02;
                let mut auditor = Auditor::new(sample.claims.clone());
                for seen in Reader::new(bad.concat().as_slice()) {
                    auditor.hear(&seen);
                }
                let findings = auditor.judge(Extent::Whole).findings;
                assert!(findings.iter().any(|finding| finding.entry == Some(place as u64)), "entry {place}, byte {at}: {findings:?}");
            }
        }
    });
}

#[test]
fn checkpoints_of_another_key_prove_nothing_and_are_told() {
    let sample = Sample::new();
    let file = sample.place.path().join("checkpoints");
    let other = SigningKey::generate().unwrap().public();
    let claims = Claims::read(BufReader::new(std::fs::File::open(&file).unwrap()), &other).unwrap();
    assert!(claims.is_empty() && claims.void.len() >= 10 && claims.void.iter().all(|void| void.cause == Cause::OtherKey));
    // One line that is no checkpoint spoils no other.
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.insert_str(0, "half a li\n");
    let claims = Claims::read(text.as_bytes(), &sample.public).unwrap();
    assert_eq!((claims.void.len(), claims.len()), (1, sample.claims.len()));
}

/// The checkpoint file of the sample after `change`, held against the untouched store.
fn with_file(sample: &Sample, change: impl FnOnce(&mut Vec<String>)) -> Audit {
    let text = std::fs::read_to_string(sample.place.path().join("checkpoints")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    let claims = Claims::read((lines.join("\n") + "\n").as_bytes(), &sample.public).unwrap();
    block_on(async { audit(&sample.forged(&sample.records).await, claims).await })
}

#[test]
fn a_checkpoint_file_that_somebody_had_in_hand_is_a_finding_and_half_a_line_of_a_crash_is_none() {
    let sample = Sample::new();
    let whats = |audit: Audit| audit.findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>();
    let forged = whats(with_file(&sample, |lines| lines[3] = lines[3].replacen("\"next\":", "\"next\":1", 1)));
    assert_eq!(forged, ["line 4 of the checkpoints does not have the signature of its key: it was changed or forged"]);
    let scribbled = whats(with_file(&sample, |lines| lines.push("{\"lifeboat_checkpoint\": \"none\"}".into())));
    assert!(scribbled.len() == 1 && scribbled[0].contains("of the checkpoints is no checkpoint"), "{scribbled:?}");
    let torn = whats(with_file(&sample, |lines| {
        let half = lines[2][..lines[2].len() / 2].to_owned();
        lines.insert(2, half);
    }));
    assert_eq!(torn, Vec::<String>::new());
    for emptied in [whats(with_file(&sample, Vec::clear)), whats(with_file(&sample, |lines| *lines = vec![String::new()]))] {
        assert_eq!(emptied, [format!("no checkpoint counts, so none of {} entries is proven to be what was written", ENTRIES + BEHIND)]);
    }
}

#[test]
fn a_run_whose_end_nobody_signed_for_is_a_finding() {
    let sample = Sample::new();
    let ended = |at: &str| {
        let event = Event::RunEnded { outcome: Outcome::Succeeded, why: "all done".into() };
        let entry = Entry { format: 1, at: at.parse().unwrap(), owner: "x".into(), event };
        Record(entry.encode().unwrap())
    };
    let findings = |at: &str| {
        block_on(async {
            let store = sample.forged(&sample.records).await;
            let put_in = vec![(LogId::new("run/b").unwrap(), vec![entry(0), ended(at)])];
            store.commit(Commit { expect: Vec::new(), append: put_in }).await.unwrap();
            audit(&store, sample.claims.clone()).await.findings
        })
    };
    let [finding] = findings("2999-01-01T00:00:00Z").try_into().unwrap();
    assert_eq!((finding.log.as_deref(), finding.entry), (Some("run/b"), Some(0)));
    assert!(finding.what.contains("nobody signed for its end"), "{finding}");
    // Runs of the time before the first checkpoint were never to be signed for.
    assert_eq!(findings("1999-01-01T00:00:00Z"), []);
}

#[test]
fn taking_away_the_lines_of_the_first_runs_is_a_finding_because_the_store_knows_since_when_it_is_signed_for() {
    let key = SigningKey::generate().unwrap();
    let ended = Entry {
        format: 1,
        at: "2026-06-01T00:00:00Z".parse().unwrap(),
        owner: "x".into(),
        event: Event::RunEnded { outcome: Outcome::Succeeded, why: "all done".into() },
    };
    // Of 2026-01-01, and one that carries no time.
    for (id, found) in [("019b76da-a800-7000-8000-000000000000", 1), ("store-1", 0)] {
        let findings = block_on(async {
            let store = MemoryStore::new();
            let id_record = Record(format!("{{\"id\":\"{id}\"}}").into_bytes());
            let append = vec![
                (LogId::new("store").unwrap(), vec![id_record]),
                (LogId::new("run/first").unwrap(), vec![Record(ended.encode().unwrap())]),
                (log(), vec![entry(0)]),
            ];
            store.commit(Commit { expect: Vec::new(), append }).await.unwrap();
            let page = store.read(&log(), Seq(0), NonZeroU32::MIN).await.unwrap();
            let at = "2026-07-01T00:00:00Z".parse().unwrap();
            let later = Checkpoint { store: id.into(), log: log(), next: Seq(1), chain: page.chain, at }.sign(&key).to_line();
            audit(&store, Claims::read(later.as_bytes(), &key.public()).unwrap()).await.findings
        });
        assert_eq!(findings.len(), found, "{findings:?}");
    }
}

/// A sink that fails as often as it is told to.
#[derive(Debug)]
struct Failing {
    inner: FileSink,
    failures: u32,
}

impl Sink for Failing {
    fn append(&mut self, lines: &str) -> io::Result<()> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.inner.append(lines)
    }

    fn recent(&mut self) -> io::Result<Vec<Signed>> {
        self.inner.recent()
    }

    fn name(&self) -> String {
        "the far disk".into()
    }
}

#[test]
fn a_sink_that_fails_is_told_at_once_stops_nobody_and_is_tried_until_it_works() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("checkpoints");
    let key = SigningKey::generate().unwrap();
    let public = key.public();
    let (inner, told) = (MemoryStore::new(), Told::default());
    block_on(async {
        let store = witness(&inner, key, Box::new(Failing { inner: FileSink::new(&file), failures: 2 }), &told).await;
        go_on(&store, 0, 150).await;
        assert_eq!(inner.read(&log(), Seq(149), NonZeroU32::MIN).await.unwrap().records.len(), 1, "no commit waited for the sink");
        drop(store);
        let told = told.all();
        assert!(told[0].contains("checkpoints cannot be written to the far disk"), "{told:?}");
        assert!(told.iter().any(|text| text.contains("are written to the far disk again")), "{told:?}");
        let audit = audit(&inner, claims(&file, &public)).await;
        assert_eq!((audit.findings.len(), audit.unproven()), (0, 0), "{audit:?}");
    });
}

#[test]
fn a_sink_that_never_works_is_told_at_the_end_and_the_next_process_makes_up_for_it() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("checkpoints");
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::from_pem(&key.to_pem()).unwrap();
    let public = key.public();
    let (inner, told) = (MemoryStore::new(), Told::default());
    block_on(async {
        let store = witness(&inner, key, Box::new(Failing { inner: FileSink::new(&file), failures: u32::MAX }), &told).await;
        go_on(&store, 0, 5).await;
        let deadline = SystemClock.instant().after(Duration::from_secs(30));
        while store.notices().is_empty() {
            assert!(SystemClock.instant() < deadline, "nobody was told");
            tokio::task::yield_now().await;
        }
        assert!(store.notices()[0].contains("cannot be written"), "{:?}", store.notices());
        drop(store);
        assert!(told.all().iter().any(|text| text.contains("are not covered by a checkpoint")), "{:?}", told.all());
        let store = witness(&inner, again, Box::new(FileSink::new(&file)), &told).await;
        drop(store);
        assert_eq!(audit(&inner, claims(&file, &public)).await.unproven(), 0);
    });
}

#[test]
fn a_journal_that_is_not_what_was_signed_is_signed_no_more_and_nobody_goes_on_with_its_run() {
    let sample = Sample::new();
    let file = sample.place.path().join("checkpoints");
    let before = std::fs::read_to_string(&file).unwrap();
    let told = Told::default();
    block_on(async {
        let mut records = sample.records.clone();
        records[500] = Record(b"it was quite otherwise".to_vec());
        let store = sample.forged(&records).await;
        let open = Record(b"{\"opened\":\"a\"}".to_vec());
        store.commit(Commit { expect: Vec::new(), append: vec![(LogId::new("open").unwrap(), vec![open])] }).await.unwrap();
        let store = witness(&store, SigningKey::generate().unwrap(), Box::new(FileSink::new(&file)), &told).await;
        assert!(told.all()[0].contains("is not what was signed"), "{:?}", told.all());
        assert!(store.notices()[0].contains("audit verify"), "{:?}", store.notices());
        // Nobody goes on with a run that may have gone further; everything else goes on.
        let at = Seq(ENTRIES + BEHIND);
        let refused = store.commit(Commit { expect: vec![(log(), at)], append: vec![(log(), vec![entry(at.0)])] }).await;
        assert!(matches!(&refused, Err(StoreError::Damaged { what, .. }) if what.contains("may have gone further")), "{refused:?}");
        let other = LogId::new("run/b").unwrap();
        store.commit(Commit { expect: vec![(other.clone(), Seq(0))], append: vec![(other, vec![entry(0)])] }).await.unwrap();
        drop(store);
        let lines = std::fs::read_to_string(&file).unwrap();
        assert!(lines.starts_with(&before) && !lines[before.len()..].contains("run/a"), "{lines}");
    });
}

#[test]
fn an_older_copy_that_was_written_on_is_found_by_two_histories_of_one_length() {
    let sample = Sample::new();
    let file = sample.place.path().join("checkpoints");
    let forger = SigningKey::generate().unwrap();
    let (public, told) = (forger.public(), Told::default());
    block_on(async {
        // Twice the same place, signed with one key: once for the one history, once for the other.
        let mut lines = BTreeMap::new();
        for (name, text) in [("first", "so it was"), ("second", "so it was not")] {
            let inner = sample.forged(&[Record(text.into())]).await;
            let path = sample.place.path().join(name);
            let key = SigningKey::from_pem(&forger.to_pem()).unwrap();
            let store = witness(&inner, key, Box::new(FileSink::new(&path)), &told).await;
            store.commit(Commit { expect: vec![(log(), Seq(1))], append: vec![(log(), vec![entry(1)])] }).await.unwrap();
            drop(store);
            lines.insert(name, std::fs::read_to_string(path).unwrap());
        }
        std::fs::write(&file, lines.values().cloned().collect::<String>()).unwrap();
        let found = audit(&sample.forged(&[Record(b"so it was".to_vec()), entry(1)]).await, claims(&file, &public)).await;
        assert!(found.findings.iter().any(|finding| finding.what.contains("two histories")), "{found:?}");
    });
}

#[test]
fn what_a_walk_finds_is_part_of_the_judgement() {
    let sample = Sample::new();
    let problem = lifeboat_store::Problem { log: Some(log()), at: Some(Seq(3)), line: None, what: "entry 3 is missing".into() };
    let mut auditor = Auditor::new(Claims::default());
    auditor.hear(&Seen::Problem(problem));
    assert_eq!(auditor.judge(Extent::Part).findings[0].to_string(), "run/a: entry 3 is missing");
    drop(sample);
}
