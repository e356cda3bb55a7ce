//! The real binary on a disk that fills up at a byte, and on one whose k-th sync fails: it says clearly what happened, loses nothing that it
//! acknowledged, and once the disk is well again the run goes on to its end with every effect exactly once.
//!
//! The disk is one of two. A shim between the binary and the kernel takes exactly so many bytes, for every byte of a run, or fails exactly one
//! sync, for every sync. As root also a real file system in memory, with room for exactly so many pages or files: it refuses what the shim lets
//! through, new files and folders and longer files.
//!
//! `DISK_ROUNDS` asks for so many places of each kind, spread over the whole run, and a large number for all of them; without it a few are
//! tried. `cargo xtask torture disk-full --rounds N` and `sync-fails --rounds N` set it.
#![expect(clippy::print_stdout, reason = "a person reads how much was tried")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::process::{Ended, binary, run};
use support::stage::write;

/// Places tried where nobody asks for more.
const ROUNDS: usize = 6;

const STEPS: [&str; 3] = ["first", "second", "third"];

/// Writes a line for each effect, and tells afterwards whether it did.
const PROGRAM: &str = "#!/bin/sh\ncase \"$2\" in\n  do) echo \"$1\" >> \"$3\" ;;\n  seen) grep -qx \"$1\" \"$3\" || exit 1 ;;\nesac\n";

#[expect(clippy::disallowed_methods, reason = "the test runner takes no options of ours")]
fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// How many places to try of so many.
fn places(all: usize) -> Vec<usize> {
    let wanted = number("DISK_ROUNDS").unwrap_or(ROUNDS).min(all).max(1);
    let mut places: Vec<usize> = (0..wanted).map(|place| place * all / wanted).collect();
    places.push(all.saturating_sub(1));
    places.dedup();
    places
}

/// The shim between the binary and its disk, built once.
fn shim() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("xtask/shim/powercut.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-trouble-{}.so", std::process::id()));
        let built =
            Command::new("cc").args(["-O1", "-Wall", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-lpthread").output();
        let built = built.unwrap_or_else(|error| panic!("the rig needs a C compiler called cc: {error}"));
        assert!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        library
    })
}

/// What goes wrong with the disk.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Nothing,
    /// This many bytes are taken, then it is full.
    Room(u64),
    /// The sync of this number fails, of whatever file or folder.
    Sync(usize),
}

/// Files of one run. The effects lie outside of the folder whose disk is in trouble.
struct Place {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = tempfile::Builder::new().prefix("disk-trouble-").tempdir_in(memory).or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap_or_else(|error| panic!("{error}"));
        let place = Self { data: folder.path().join("data"), folder };
        let (program, effects) = (place.path("program"), place.path("effects"));
        write(&program, PROGRAM);
        write(&effects, "");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| panic!("{error}"));
        // The disk of the test is another one than that of the product: it may be as full as it likes.
        write(
            &place.path("lifeboat.yaml"),
            &format!(
                "lifeboat: v1\npolicies:\n  programs: [{}]\n  disk: {{ enough_free_bytes: 0, refuse_percent: 101 }}\n",
                program.display()
            ),
        );
        let mut text = "lifeboat: v1\nname: trouble\nsteps:\n".to_owned();
        for (number, step) in STEPS.iter().enumerate() {
            let needs = if number == 0 { String::new() } else { format!("    needs: [{}]\n", STEPS[number - 1]) };
            let (program, effects) = (program.display(), effects.display());
            text.push_str(&format!(
                "  - id: {step}\n    type: command\n{needs}    retry: {{ attempts: 3, backoff: 1ms..1ms }}\n    with:\n      program: {program}\n      args: [{step}, do, {effects}]\n      check: {{ program: {program}, args: [{step}, seen, {effects}] }}\n"
            ));
        }
        write(&place.path("runbook.yaml"), &text);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lifeboat(&self, words: &[&str], trouble: Trouble) -> Ended {
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.path("lifeboat.yaml")).arg("--data").arg(&self.data).args(words);
        command.env("RUST_BACKTRACE", "0");
        match trouble {
            Trouble::Nothing => {}
            Trouble::Room(bytes) => {
                command.env("SHIM_ROOM", bytes.to_string());
            }
            Trouble::Sync(number) => {
                command.env("SHIM_FAIL_ANY_SYNC", number.to_string());
            }
        }
        if !matches!(trouble, Trouble::Nothing) {
            command.env("LD_PRELOAD", shim()).env("SHIM_ROOT", &self.data).env("SHIM_TRACE", self.path("trace"));
        }
        run(&mut command)
    }

    fn go(&self, trouble: Trouble) -> Ended {
        let runbook = self.path("runbook.yaml").display().to_string();
        self.lifeboat(&["run", &runbook, "--no-wait"], trouble)
    }

    fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("effects")).unwrap_or_else(|error| panic!("{error}"));
        text.lines().map(str::to_owned).collect()
    }
}

/// What an undisturbed run asks of the disk.
#[derive(Default)]
struct Recorded {
    /// How many bytes the disk has taken where it fills up: at every byte that says something. Of room that is only laid in, the ballast and the
    /// zeros at the end of a write, there are a few: one byte into it, in its middle and one byte before its end.
    rooms: Vec<u64>,
    /// Four places of every write.
    marked: Vec<u64>,
    syncs: usize,
}

/// A record of the shim: 33 bytes of head, two paths, and for writes the bytes. See xtask/shim/powercut.c.
fn recorded() -> Recorded {
    const CREATE: u8 = 1;
    const WRITE: u8 = 2;
    const SYNC: u8 = 8;
    let place = Place::new();
    place.go(Trouble::Room(1 << 40)).expect(0);
    let trace = std::fs::read(place.path("trace")).unwrap_or_else(|error| panic!("{error}"));
    let (mut rest, mut taken) = (trace.as_slice(), 0u64);
    let mut recorded = Recorded::default();
    let mut ballast = None;
    while let Some((head, behind)) = rest.split_at_checked(33) {
        let number = |from: usize, bytes: usize| head[from..from + bytes].iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        let length = number(25, 8);
        let (path, behind) = behind.split_at(usize::try_from(number(1, 4)).unwrap_or(usize::MAX));
        let (_, behind) = behind.split_at(usize::try_from(number(5, 4)).unwrap_or(usize::MAX));
        let (data, behind) = behind.split_at(usize::try_from(length).unwrap_or(usize::MAX));
        match head[0] {
            // The ballast is some mebibytes that say nothing, to be given up where the disk is full.
            CREATE if path.ends_with(b"/ballast") => ballast = Some(number(9, 8)),
            WRITE => {
                let four = [taken, taken + 1, taken + length / 2, taken + length - 1];
                recorded.marked.extend(four);
                recorded.rooms.extend(four);
                // Zeros at the end are room that is laid in.
                let says = data.iter().rposition(|byte| *byte != 0).filter(|_| ballast != Some(number(9, 8)));
                recorded.rooms.extend(taken..taken + says.map_or(0, |last| last as u64 + 1));
                taken += length;
            }
            SYNC => recorded.syncs += 1,
            _ => {}
        }
        rest = behind;
    }
    for places in [&mut recorded.rooms, &mut recorded.marked] {
        places.sort_unstable();
        places.dedup();
    }
    assert!(recorded.rooms.len() > 3000 && recorded.syncs > 8, "{} places, {} syncs", recorded.rooms.len(), recorded.syncs);
    recorded
}

/// A process in trouble, then one on a disk that is well again. Answers whether the trouble was felt.
fn survives(trouble: Trouble) -> bool {
    let place = Place::new();
    let ended = place.go(trouble);
    goes_on(&place, &ended, &format!("{trouble:?}"))
}

/// What one process in trouble said and left is held against what the next finds, and that one brings the run to its end. Answers whether the
/// trouble was felt.
fn goes_on(place: &Place, ended: &Ended, trouble: &str) -> bool {
    let context = format!("{trouble}:\n{}", ended.stderr);
    let felt = ended.code != Some(0);
    assert!(!felt || ended.code == Some(5), "exit code {:?} with {context}", ended.code);
    assert!(!felt || ended.stderr.contains("error: "), "nothing is said with {context}");
    assert!(!ended.stderr.contains("panicked at"), "it panicked with {context}");
    let acknowledged = ended.stderr.lines().any(|line| line.contains(" is admitted"));
    let told: Vec<&str> = STEPS.into_iter().filter(|step| ended.stderr.contains(&format!("✓ {step} succeeded"))).collect();
    let before = place.effects();

    // A disk without room for a folder has no folder, and nothing was acknowledged.
    let listed = place.data.exists().then(|| place.lifeboat(&["runs", "--format", "json"], Trouble::Nothing).expect(0).json());
    let runs = listed.and_then(|listed| listed.as_array().cloned()).unwrap_or_default();
    assert!(!acknowledged || runs.len() == 1, "the run that was acknowledged is gone with {context}");
    assert!(before.is_empty() || runs.len() == 1, "something was done that no journal tells of, with {context}");
    if let Some(name) = runs.first().and_then(|run| run["run"].as_str()).filter(|_| !told.is_empty()) {
        let status = place.lifeboat(&["status", name, "--format", "json"], Trouble::Nothing).json();
        let done: Vec<&str> = status["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|step| step["state"] == "succeeded")
            .filter_map(|step| step["id"].as_str())
            .collect();
        assert!(told.iter().all(|step| done.contains(step)), "{told:?} was told and {done:?} is in the journal, with {context}");
    }
    match runs.first().map(|run| run["outcome"].clone()) {
        None => {
            place.go(Trouble::Nothing).expect(0);
        }
        Some(outcome) if outcome.is_null() => {
            place.lifeboat(&["resume", "--no-wait"], Trouble::Nothing).expect(0);
        }
        Some(outcome) => assert_eq!(outcome, "succeeded", "{context}"),
    }
    assert_eq!(place.effects(), STEPS, "each effect once and in order, with {context}");
    place.lifeboat(&["store", "verify"], Trouble::Nothing).expect(0);
    felt
}

/// Tries all of these, as many at a time as there are processors; answers how many were felt.
fn each(tried: &[Trouble]) -> usize {
    let (next, felt) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(trouble) = tried.get(next.fetch_add(1, Ordering::Relaxed)) {
                    felt.fetch_add(usize::from(survives(*trouble)), Ordering::Relaxed);
                    let done = next.load(Ordering::Relaxed);
                    if done.is_multiple_of(1000) {
                        println!("{done} of {} places tried", tried.len());
                    }
                }
            });
        }
    });
    felt.load(Ordering::Relaxed)
}

#[test]
fn a_disk_that_fills_up_at_any_byte_of_a_run_costs_nothing_acknowledged_and_doubles_nothing() {
    let recorded = recorded();
    // Where nobody asks, a few of the places around the beginnings and ends of writes.
    let all = if number("DISK_ROUNDS").is_some() { recorded.rooms } else { recorded.marked };
    let tried: Vec<Trouble> = places(all.len()).into_iter().map(|place| Trouble::Room(all[place])).collect();
    let felt = each(&tried);
    println!("disk full: {} of {} bytes of a run tried, felt at {felt}; nothing lost, nothing doubled", tried.len(), all.len());
    assert!(felt > 0, "no place was felt");
}

#[test]
fn a_sync_that_fails_anywhere_in_a_run_costs_nothing_acknowledged_and_doubles_nothing() {
    let syncs = recorded().syncs;
    let tried: Vec<Trouble> = places(syncs).into_iter().map(|place| Trouble::Sync(place + 1)).collect();
    let felt = each(&tried);
    println!("failing sync: {} of {syncs} tried, felt at {felt}; nothing lost, nothing doubled", tried.len());
    assert!(felt > 0, "no sync was felt");
}

/// A file system in memory, unmounted when dropped, also when a check fails.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    fn of(folder: PathBuf, limit: &str) -> Self {
        std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{error}"));
        do_or_die(Command::new("mount").args(["-t", "tmpfs", "-o", limit, "tmpfs"]).arg(&folder));
        Self { folder }
    }

    /// It has room again.
    fn grow(&self) {
        do_or_die(Command::new("mount").args(["-o", "remount,size=512m,nr_inodes=10000"]).arg(&self.folder));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.folder).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "cannot unmount {}", self.folder.display());
    }
}

fn do_or_die(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A run on a real disk with so little room. Answers whether it was felt.
fn survives_on(limit: &str) -> bool {
    let mut place = Place::new();
    let disk = SmallDisk::of(place.path("disk"), limit);
    place.data = disk.folder.join("data");
    let ended = place.go(Trouble::Nothing);
    disk.grow();
    goes_on(&place, &ended, limit)
}

#[test]
fn as_root_a_real_disk_that_fills_up_at_any_page_or_file_costs_nothing_acknowledged_and_doubles_nothing() {
    for (what, limit) in [("pages of 4 KiB", "size={}k,nr_inodes=10000"), ("files and folders", "size=512m,nr_inodes={}")] {
        let unit = if limit.starts_with("size={}") { 4 } else { 1 };
        let fits = |room: usize| !survives_on(&limit.replace("{}", &(room * unit).to_string()));
        // The least room that a whole run fits into: everything below it is tried, or some of it. No room at all would mean no limit.
        let mut enough = 8;
        while !fits(enough) {
            enough *= 2;
            assert!(enough < 1 << 20, "it never has enough {what}");
        }
        let tried: Vec<usize> = places(enough - 1).into_iter().map(|place| place + 1).collect();
        let felt = tried.iter().filter(|room| !fits(**room)).count();
        println!("real disk: room for 1 to {enough} {what}, {} tried, felt at {felt}; nothing lost, nothing doubled", tried.len());
        assert!(felt > 0, "no lack of {what} was felt");
    }
}
