//! The power-cut rig: records what the store asks of the disk, and replays cuts that keep only what was synced.
//!
//! A run records several processes, each starting on an image that a cut left of the one before. `POWER_CUT_ROUNDS` asks for
//! more rounds (the numbers of the constants `ROUNDS` without it): a round is an image judged here, a kill in `kill`, a copied
//! file system in `live`. `POWER_CUT_SEED` repeats a run's choices. What the threads of the recorded process do in which order
//! is not repeated; the message of a failure names the kept record that is.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap is a failed test; the rig reports its numbers")]

mod chance;
mod disk;
mod full_disk;
mod judge;
mod kill;
mod live;
mod older;
mod plan;
mod recording;
#[path = "../samples/mod.rs"]
mod samples;
mod syncs;
mod trace;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use chance::Chance;
use disk::{Disk, Ignoring, Image, lay_out};
use judge::{Progress, Settled, judge};
use recording::{Fault, Recording, WRITER, record, scratch};
use trace::Op;
use writer::{Job, SEGMENT_BYTES};

/// Images judged by default.
const ROUNDS: u64 = 1_500;

/// Images judged of each recorded process.
const ROUNDS_PER_RECORDING: u64 = 125;

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var_os(name).map(|text| text.into_string().unwrap().parse().unwrap())
}

/// The rounds that a person asked for.
fn rounds_asked() -> Option<u64> {
    number_from_environment("POWER_CUT_ROUNDS")
}

/// As many rounds as were asked for, and never fewer than the tests always make: with fewer, the checks of the rig itself would
/// have too little to go by.
fn rounds(always: u64) -> u64 {
    rounds_asked().map_or(always, |asked| asked.max(always))
}

/// The file system of the live images.
fn file_system() -> String {
    std::env::var_os("POWER_CUT_FS").map_or_else(|| "ext4".to_owned(), |name| name.into_string().unwrap())
}

/// The seed of this run, printed so that it can be given again.
fn seed() -> u64 {
    let seed = number_from_environment("POWER_CUT_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20 ^ 0x5eed);
    eprintln!("POWER_CUT_SEED={seed}");
    seed
}

/// Not a check: what the rig starts in a process of its own. Without being told to it does nothing.
#[test]
fn the_recorded_process() {
    if let Some(words) = std::env::var_os(WRITER) {
        writer::work(&Job::from_words(words.to_str().unwrap()));
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_torn_is_seen_after_a_power_cut() {
    let numbers =
        Rig { rounds: rounds(ROUNDS), rounds_per_recording: ROUNDS_PER_RECORDING, ignoring: Ignoring::Nothing, fault: |_| Fault::None }
            .run(seed());
    eprintln!("power cuts: {numbers:?}");
    assert!(numbers.failures.is_empty(), "{numbers:#?}");
    assert!(numbers.discarded > numbers.images / 4, "too few cuts lost anything: {numbers:?}");
    assert!(numbers.growths >= 3, "the index grew too little: {numbers:?}");
    assert!(numbers.given_up >= 10, "too few segments were given up: {numbers:?}");
}

#[test]
fn after_a_failed_sync_the_store_stops_and_the_next_opening_believes_only_what_it_wrote_anew() {
    let fault = |chance: &mut Chance| Fault::Sync(4 + chance.below(30));
    let numbers = Rig { rounds: rounds(ROUNDS / 8), rounds_per_recording: 25, ignoring: Ignoring::Nothing, fault }.run(seed());
    eprintln!("failed syncs: {numbers:?}");
    assert!(numbers.failures.is_empty(), "{numbers:#?}");
    assert!(numbers.errors > 0, "no sync failed: {numbers:?}");
}

#[test]
fn a_disk_that_fills_up_at_any_byte_costs_nothing_acknowledged() {
    let fault = |chance: &mut Chance| Fault::Room(20_000 + chance.below(2_500_000));
    let numbers = Rig { rounds: rounds(ROUNDS / 8), rounds_per_recording: 10, ignoring: Ignoring::Nothing, fault }.run(seed());
    eprintln!("full disks: {numbers:?}");
    assert!(numbers.failures.is_empty(), "{numbers:#?}");
    assert!(numbers.errors > 0, "no disk was full: {numbers:?}");
}

#[test]
fn an_index_that_the_disk_never_takes_costs_at_most_one_more_opening() {
    let rounds = rounds(ROUNDS / 8);
    let numbers = Rig { rounds, rounds_per_recording: 50, ignoring: Ignoring::Index, fault: |_| Fault::None }.run(seed());
    eprintln!("unsynced indexes: {numbers:?}");
    assert!(numbers.failures.is_empty(), "{numbers:#?}");
}

#[test]
fn the_rig_catches_a_store_that_does_not_sync_its_segments() {
    caught(Ignoring::Segments);
}

#[test]
fn the_rig_catches_a_store_that_does_not_sync_kept_values() {
    caught(Ignoring::KeptFiles);
}

#[test]
fn the_rig_catches_a_store_that_does_not_sync_its_folders() {
    caught(Ignoring::Folders);
}

fn caught(ignoring: Ignoring) {
    let numbers = Rig { rounds: 60, rounds_per_recording: 60, ignoring, fault: |_| Fault::None }.run(7);
    eprintln!("control {ignoring:?}: {} of {} images failed", numbers.failures.len(), numbers.images);
    assert!(numbers.failures.len() >= 5, "a store without {ignoring:?} passed: {numbers:?}");
}

/// What one run of the rig is to do.
#[derive(Clone, Copy, Debug)]
struct Rig {
    rounds: u64,
    rounds_per_recording: u64,
    ignoring: Ignoring,
    fault: fn(&mut Chance) -> Fault,
}

/// What a run did.
#[derive(Debug, Default)]
struct Numbers {
    images: u64,
    /// Images that lacked something the process had written.
    discarded: u64,
    inside_opening: u64,
    deeds: u64,
    /// Errors that the recorded processes met.
    errors: u64,
    recordings: u64,
    /// How many times the index's file grew.
    growths: u64,
    /// Segments that were given up.
    given_up: u64,
    failures: Vec<String>,
}

/// One image to judge.
struct Case {
    image: Image,
    progress: Arc<Progress>,
    name: String,
}

/// What the judges share.
#[derive(Default)]
struct Verdicts {
    failures: Vec<String>,
    /// An image that passed, to go on with.
    next: Option<(tempfile::TempDir, Settled)>,
}

impl Rig {
    fn run(self, seed: u64) -> Numbers {
        let mut numbers = Numbers::default();
        let mut chance = Chance::new(seed);
        let mut settled = Settled::default();
        let mut start = scratch();
        while numbers.images < self.rounds && numbers.failures.is_empty() {
            let place = scratch();
            let job = Job {
                root: start.path().to_path_buf(),
                notes: place.path().join("notes"),
                name: format!("g{}", numbers.recordings),
                seed: chance.next() >> 16,
                tasks: 4 + chance.below(5),
                sessions: 2 + chance.below(3),
                deeds: 8 + chance.below(16),
                segment_bytes: SEGMENT_BYTES,
            };
            let recording = record(&job, (self.fault)(&mut chance));
            numbers.recordings += 1;
            let images = self.rounds_per_recording.min(self.rounds - numbers.images);
            let instants = choose_instants(&recording, images, &mut chance);
            let next = self.cut_often(&recording, &settled, &instants, &mut chance, &mut numbers);
            // Every few generations the store starts empty again, so that creation is cut too.
            match next {
                Some((folder, state)) if numbers.recordings % 4 != 0 => (start, settled) = (folder, state),
                Some(_) | None => (start, settled) = (scratch(), Settled::default()),
            }
        }
        numbers
    }

    /// Judges images of one recording; gives back one of them to go on with.
    fn cut_often(
        self,
        recording: &Recording,
        settled: &Settled,
        instants: &[usize],
        chance: &mut Chance,
        numbers: &mut Numbers,
    ) -> Option<(tempfile::TempDir, Settled)> {
        let judges = std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4));
        let verdicts = Mutex::new(Verdicts::default());
        let (hand_out, cases) = mpsc::sync_channel::<Case>(judges);
        let cases = Mutex::new(cases);
        std::thread::scope(|scope| {
            for _ in 0..judges {
                scope.spawn(|| self.judge_all(&cases, settled, &verdicts));
            }
            self.cut(recording, instants, chance, numbers, &hand_out);
            drop(hand_out);
        });
        let verdicts = verdicts.into_inner().unwrap();
        numbers.failures.extend(verdicts.failures);
        verdicts.next
    }

    fn cut(self, recording: &Recording, instants: &[usize], chance: &mut Chance, numbers: &mut Numbers, cases: &mpsc::SyncSender<Case>) {
        let mut disk: Disk = recording.before.clone();
        let mut progress = Progress::new(recording.job.tasks());
        let mut opening = false;
        let mut tree_bytes = 0;
        for (at, op) in recording.ops.iter().enumerate() {
            disk.apply(op, self.ignoring);
            if let Op::Note(note) = op {
                opening = note.starts_with("opening") || opening && !note.starts_with("opened");
                numbers.errors += u64::from(note.starts_with("error") || note.starts_with("not opened"));
                progress.hear(note);
            }
            if let Op::Unlink { path } = op {
                numbers.given_up += u64::from(path.contains("/data/segments/00"));
            }
            if let Op::Write { at, bytes, .. } = op
                && at + bytes.len() as u64 > tree_bytes + 500_000
            {
                tree_bytes = at + bytes.len() as u64;
                numbers.growths += 1;
            }
            for _ in instants.iter().filter(|instant| **instant == at) {
                let image = disk.cut(&mut Chance::new(chance.next()));
                numbers.images += 1;
                numbers.inside_opening += u64::from(opening);
                numbers.discarded += u64::from(lacks_records(&image, &disk.seen()));
                let name = format!("generation {}, cut after call {at}, {:.80}", recording.job.name, format!("{op:?}"));
                cases.send(Case { image, progress: Arc::new(progress.clone()), name }).unwrap();
            }
        }
        numbers.deeds += progress.tried();
    }

    fn judge_all(self, cases: &Mutex<mpsc::Receiver<Case>>, settled: &Settled, verdicts: &Mutex<Verdicts>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        loop {
            let Ok(case) = cases.lock().unwrap().recv() else { return };
            let folder = scratch();
            lay_out(&case.image, folder.path());
            let judged = runtime.block_on(async {
                let judged = judge(folder.path(), settled, &case.progress).await;
                match (judged, self.ignoring) {
                    // A page that sled cannot read is met when it is asked for: that stops the store, and the next opening makes the index anew.
                    (Err(_), Ignoring::Index) => judge(folder.path(), settled, &case.progress).await,
                    (judged, _) => judged,
                }
            });
            let mut verdicts = verdicts.lock().unwrap();
            match judged {
                Ok(found) => verdicts.next = Some((folder, Progress::clone(&case.progress).settle_onto(settled, found))),
                Err(what) => {
                    let kept = match self.ignoring {
                        Ignoring::Nothing | Ignoring::Index => keep_for_a_person(&case.image, verdicts.failures.len()),
                        Ignoring::Segments | Ignoring::KeptFiles | Ignoring::Folders => "not kept".into(),
                    };
                    verdicts.failures.push(format!("{}: {what}; image {kept}", case.name));
                }
            }
        }
    }
}

/// Whether an image lacks something of the files that carry records.
fn lacks_records(image: &Image, seen: &Image) -> bool {
    let carries = |path: &str| path.starts_with("/data/segments/");
    seen.iter().any(|(path, content)| carries(path) && image.get(path) != Some(content))
}

/// Lays a failed image out where it outlives the test.
fn keep_for_a_person(image: &Image, number: usize) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-cut-{}-{number}", std::process::id()));
    if number < 3 {
        lay_out(image, &folder);
    }
    folder.display().to_string()
}

/// A third of the cuts fall right after an acknowledgement, a third right after a write, some inside opening, the rest anywhere.
fn choose_instants(recording: &Recording, images: u64, chance: &mut Chance) -> Vec<usize> {
    let at = |wanted: &dyn Fn(&Op) -> bool| -> Vec<usize> {
        recording.ops.iter().enumerate().filter(|(_, op)| wanted(op)).map(|(at, _)| at).collect()
    };
    let noted = |verb: &'static str| at(&|op| matches!(op, Op::Note(note) if note.starts_with(verb)));
    let (acknowledged, opening) = (noted("ack"), noted("opening"));
    let end_of_opening: Vec<usize> = noted("opened").into_iter().chain(noted("not opened")).collect();
    let writes = at(&|op| matches!(op, Op::Write { bytes, .. } if bytes.len() > 60));
    let between = |from: usize, to: usize, chance: &mut Chance| from + chance.below((to - from) as u64) as usize;
    let mut instants = Vec::new();
    for _ in 0..images {
        instants.push(match chance.below(100) {
            0..35 if !acknowledged.is_empty() => acknowledged[between(0, acknowledged.len(), chance)],
            35..70 => writes[between(0, writes.len(), chance)],
            70..85 => {
                let begin = opening[between(0, opening.len(), chance)];
                let end = end_of_opening.iter().copied().filter(|end| *end > begin).min().unwrap();
                between(begin, end, chance)
            }
            _ => between(0, recording.ops.len(), chance),
        });
    }
    instants
}
