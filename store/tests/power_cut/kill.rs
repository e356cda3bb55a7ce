//! The same writer and the same judge, with SIGKILL in place of a power cut: the page cache survives, the process does not.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lifeboat_store::{SledStore, StoreError};

use crate::chance::Chance;
use crate::judge::{Progress, Settled, judge};
use crate::recording::{WRITER, scratch};
use crate::writer::{Job, SEGMENT_BYTES, options};

const ROUNDS: u64 = 15;

/// How often the notes of the writer are looked at.
const PAUSE: Duration = Duration::from_millis(1);

/// Looks before a writer that does nothing is given up: a minute.
const LOOKS_MAX: u32 = 60_000;

#[test]
fn every_acknowledged_deed_survives_kill_9_and_the_folder_is_free_at_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut chance = Chance::new(crate::seed());
    let folder = scratch();
    let mut settled = Settled::default();
    for round in 0..crate::rounds(ROUNDS) {
        let place = tempfile::tempdir().unwrap();
        let job = Job {
            root: folder.path().to_path_buf(),
            notes: place.path().join("notes"),
            name: format!("k{round}"),
            seed: chance.next() >> 16,
            tasks: 6,
            sessions: 1,
            deeds: 1_000,
            segment_bytes: SEGMENT_BYTES,
        };
        let mut writer = start(&job);
        wait_for_notes(&job, &mut writer, 2 + chance.below(120) as usize);
        match SledStore::open(&folder.path().join("data"), &options()) {
            Err(StoreError::InUse { owner, .. }) => assert!(owner.contains(&format!("pid {} ", writer.id())), "{owner}"),
            other => panic!("a second owner was let in: {other:?}"),
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        let mut progress = Progress::new(job.tasks());
        std::fs::read_to_string(&job.notes).unwrap().lines().for_each(|note| progress.hear(note));
        let found = runtime.block_on(judge(folder.path(), &settled, &progress));
        let found = found.unwrap_or_else(|what| panic!("round {round}: {what}"));
        settled = progress.settle_onto(&settled, found);
    }
}

pub(crate) fn start(job: &Job) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_recorded_process"]).env(WRITER, job.words());
    let said = std::fs::File::create(said_by(job)).unwrap();
    command.stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

/// Where a writer that fails says why.
fn said_by(job: &Job) -> std::path::PathBuf {
    job.notes.with_extension("said")
}

pub(crate) fn wait_for_notes(job: &Job, writer: &mut Child, lines: usize) {
    for _ in 0..LOOKS_MAX {
        if std::fs::read_to_string(&job.notes).is_ok_and(|notes| notes.lines().count() >= lines) {
            return;
        }
        if let Some(status) = writer.try_wait().unwrap() {
            panic!("the writer ended by itself ({status}): {}", std::fs::read_to_string(said_by(job)).unwrap_or_default());
        }
        std::thread::sleep(PAUSE);
    }
    panic!("the writer did not get going");
}
