//! The second witness: a real file system on a loop device, ext4 unless `POWER_CUT_FS` names another one. Its image is copied while a live writer is stopped, which is what a power cut
//! leaves where the disk kept its order; the copy is mounted, which replays the file system's own journal, and judged.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chance::Chance;
use crate::judge::{Progress, Settled, judge};
use crate::kill::{start, wait_for_notes};
use crate::writer::{Job, SEGMENT_BYTES};

/// Rounds by default; who asks for a number gets exactly so many.
const ROUNDS: u64 = 20;

/// Copies of one image before giving up: write-back of so little data takes a second or two.
const COPIES_MAX: u32 = 60;

/// Looks at the threads of a process that was told to stop: one that waits for the disk stops when it has answered.
const STOP_LOOKS: u32 = 10_000_000;

/// Room of the file system, in mebibytes.
const IMAGE_MEBIBYTES: u64 = 320;

/// Rounds on one image. Each leaves what it wrote to the next, so that an image fills up and takes longer and longer to judge.
const ROUNDS_OF_AN_IMAGE: u64 = 50;

#[test]
#[ignore = "mounts loop devices, so it needs root; `cargo xtask torture power-cut` runs it"]
fn a_copy_of_a_live_file_system_holds_everything_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut chance = Chance::new(crate::seed());
    let place = tempfile::tempdir().unwrap();
    let mut image = place.path().join("0.img");
    let kind = crate::file_system();
    let mut settled = Settled::default();
    let mut acknowledged = 0;
    let rounds = crate::rounds_asked().unwrap_or(ROUNDS);
    for round in 0..rounds {
        if round % ROUNDS_OF_AN_IMAGE == 0 {
            make_image(&kind, &image);
            settled = Settled::default();
        }
        let copy = place.path().join(format!("{}.img", round + 1));
        let mounted = Mount::of(&kind, &image, place.path().join("live"));
        let job = Job {
            root: mounted.folder.clone(),
            notes: place.path().join(format!("notes-{round}")),
            name: format!("l{round}"),
            seed: chance.next() >> 16,
            tasks: 6,
            sessions: 1,
            deeds: 1_000,
            segment_bytes: SEGMENT_BYTES,
        };
        let mut writer = start(&job);
        wait_for_notes(&job, &mut writer, 2 + chance.below(150) as usize);
        stop_every_thread(writer.id());
        let notes = std::fs::read_to_string(&job.notes).unwrap();
        copy_one_instant(&image, &copy);
        writer.kill().unwrap();
        writer.wait().unwrap();
        drop(mounted);
        std::fs::remove_file(&image).unwrap();

        let mut progress = Progress::new(job.tasks());
        notes.lines().for_each(|note| progress.hear(note));
        acknowledged += notes.lines().filter(|note| note.starts_with("ack")).count();
        let mounted = Mount::of(&kind, &copy, place.path().join("copy"));
        let found = runtime.block_on(judge(&mounted.folder, &settled, &progress));
        let found = found.unwrap_or_else(|what| panic!("round {round}: {what}"));
        settled = progress.settle_onto(&settled, found);
        drop(mounted);
        image = copy;
    }
    eprintln!("live images of {kind}: {rounds} rounds, {acknowledged} deeds acknowledged before the cuts, none lost");
    assert!(acknowledged > rounds as usize, "too little was acknowledged: {acknowledged}");
}

/// Puts an empty file system in the place of whatever is there.
fn make_image(kind: &str, image: &Path) {
    if image.exists() {
        std::fs::remove_file(image).unwrap();
    }
    do_or_die(Command::new("truncate").arg("-s").arg(format!("{IMAGE_MEBIBYTES}M")).arg(image));
    do_or_die(Command::new(format!("mkfs.{kind}")).args(if kind == "ext4" { ["-q", "-F"] } else { ["-q", "-f"] }).arg(image));
}

/// Stops a process and waits until each of its threads stands still: what they did until then is in the notes, and no more follows.
fn stop_every_thread(pid: u32) {
    do_or_die(Command::new("kill").arg("-STOP").arg(pid.to_string()));
    for _ in 0..STOP_LOOKS {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let stands = |stat: String| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
        if threads.flatten().all(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(stands)) {
            return;
        }
        std::thread::yield_now();
    }
    panic!("process {pid} did not stop");
}

/// Copies until nothing was written meanwhile. The writer is stopped, but the kernel still writes back what it left: a copy of several
/// instants is no power cut. Where the image equals the finished copy, every block had that value at the instant in between.
fn copy_one_instant(image: &Path, copy: &Path) {
    for _ in 0..COPIES_MAX {
        do_or_die(Command::new("cp").arg("--sparse=always").arg(image).arg(copy));
        if Command::new("cmp").arg("-s").arg(image).arg(copy).status().is_ok_and(|status| status.success()) {
            return;
        }
    }
    panic!("the kernel never rested for the length of a copy, {COPIES_MAX} times");
}

/// A mounted image, unmounted when dropped, also when a check fails.
struct Mount {
    folder: PathBuf,
}

impl Mount {
    fn of(kind: &str, image: &Path, folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        do_or_die(Command::new("mount").args(["-t", kind, "-o", "loop"]).arg(image).arg(&folder));
        Self { folder }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.folder).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "cannot unmount {}", self.folder.display());
    }
}

fn do_or_die(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
