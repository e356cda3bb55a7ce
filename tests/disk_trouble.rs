//! The real binary on a disk that fills up at a byte, and on one whose k-th sync fails: it says clearly what happened, loses nothing that it
//! acknowledged, and once the disk is well again the run goes on to its end with every effect exactly once.
//!
//! `DISK_ROUNDS` asks for so many places of each kind, spread over the whole run, and a large number for all of them; without it a few are
//! tried. `cargo xtask torture disk-full --rounds N` and `sync-fails --rounds N` set it.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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
}

impl Place {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = tempfile::Builder::new().prefix("disk-trouble-").tempdir_in(memory).or_else(|_| tempfile::tempdir());
        let place = Self { folder: folder.unwrap_or_else(|error| panic!("{error}")) };
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
        command.arg("--config").arg(self.path("lifeboat.yaml")).arg("--data").arg(self.path("data")).args(words);
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
            command.env("LD_PRELOAD", shim()).env("SHIM_ROOT", self.path("data")).env("SHIM_TRACE", self.path("trace"));
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

/// What an undisturbed run asks of the disk: the bytes taken after each write, and how many syncs there are.
struct Recorded {
    borders: Vec<u64>,
    syncs: usize,
}

/// A record of the shim: 33 bytes of head, two paths, and for writes the bytes. See xtask/shim/powercut.c.
fn recorded() -> Recorded {
    const WRITE: u8 = 2;
    const SYNC: u8 = 8;
    let place = Place::new();
    place.go(Trouble::Room(1 << 40)).expect(0);
    let trace = std::fs::read(place.path("trace")).unwrap_or_else(|error| panic!("{error}"));
    let (mut rest, mut taken) = (trace.as_slice(), 0u64);
    let mut recorded = Recorded { borders: vec![0], syncs: 0 };
    while let Some((head, behind)) = rest.split_at_checked(33) {
        let number = |from: usize, bytes: usize| head[from..from + bytes].iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        let (paths, length) = (number(1, 4) + number(5, 4), number(25, 8));
        match head[0] {
            WRITE => {
                taken += length;
                recorded.borders.push(taken);
            }
            SYNC => recorded.syncs += 1,
            _ => {}
        }
        rest = &behind[usize::try_from(paths + length).unwrap_or(usize::MAX)..];
    }
    assert!(recorded.borders.len() > 20 && recorded.syncs > 8, "{} writes, {} syncs", recorded.borders.len(), recorded.syncs);
    recorded
}

/// A process in trouble, then one on a disk that is well again. Answers whether the trouble was felt.
fn survives(trouble: Trouble) -> bool {
    let place = Place::new();
    let ended = place.go(trouble);
    let context = format!("{trouble:?}:\n{}", ended.stderr);
    let felt = ended.code != Some(0);
    assert!(!felt || ended.code == Some(5), "exit code {:?} with {context}", ended.code);
    assert!(!felt || ended.stderr.contains("error: "), "nothing is said with {context}");
    assert!(!ended.stderr.contains("panicked at"), "it panicked with {context}");
    let acknowledged = ended.stderr.lines().any(|line| line.contains(" is admitted"));
    let before = place.effects();

    let listed = place.lifeboat(&["runs", "--format", "json"], Trouble::Nothing).expect(0).json();
    let runs = listed.as_array().cloned().unwrap_or_default();
    assert!(!acknowledged || runs.len() == 1, "the run that was acknowledged is gone with {context}");
    assert!(before.is_empty() || runs.len() == 1, "something was done that no journal tells of, with {context}");
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

#[test]
fn a_disk_that_fills_up_at_a_byte_of_a_run_costs_nothing_acknowledged_and_doubles_nothing() {
    let borders = recorded().borders;
    // Before each write, one byte into it, in its middle and one byte before its end.
    let mut rooms: Vec<u64> =
        borders.windows(2).flat_map(|pair| [pair[0], pair[0] + 1, u64::midpoint(pair[0], pair[1]), pair[1] - 1]).collect();
    rooms.sort_unstable();
    rooms.dedup();
    let tried = places(rooms.len());
    let felt = tried.iter().filter(|place| survives(Trouble::Room(rooms[**place]))).count();
    println!("disk full: {} of {} places tried, felt at {felt}; nothing lost, nothing doubled", tried.len(), rooms.len());
    assert!(felt > 0, "no place was felt");
}

#[test]
fn a_sync_that_fails_anywhere_in_a_run_costs_nothing_acknowledged_and_doubles_nothing() {
    let syncs = recorded().syncs;
    let tried = places(syncs);
    let felt = tried.iter().filter(|place| survives(Trouble::Sync(**place + 1))).count();
    println!("failing sync: {} of {syncs} tried, felt at {felt}; nothing lost, nothing doubled", tried.len());
    assert!(felt > 0, "no sync was felt");
}
