//! Starts the writer under the shim and gives back what it recorded, checked against the folder it left.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::disk::{Disk, Ignoring, read_image};
use crate::trace::{self, Op};
use crate::writer::Job;

/// The environment word that turns this test binary into the recorded process.
pub(crate) const WRITER: &str = "POWER_CUT_WRITER";

/// One recorded run.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The disk before the first call.
    pub(crate) before: Disk,
    pub(crate) ops: Vec<Op>,
    pub(crate) job: Job,
}

/// A fault that the shim plays to the writer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// The sync of this number of the tree's file answers EIO.
    Sync(u64),
    /// After this many written bytes the disk is full.
    Room(u64),
}

/// Builds the shim once for this test run.
pub(crate) fn shim() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT.get_or_init(build_shim).clone()
}

fn build_shim() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/shim/powercut.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("powercut-{}.so", std::process::id()));
    let built = Command::new("cc").args(["-O1", "-Wall", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-lpthread").output();
    let built = built.expect("the power-cut rig needs a C compiler called cc");
    assert!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
    library
}

/// Where images are laid out: in memory if possible, because the rig's own disk proves nothing.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let scratch = tempfile::Builder::new().prefix("power-cut-").tempdir_in(memory);
    scratch.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Runs the writer in a process of its own, on what is in the job's folder.
pub(crate) fn record(job: &Job, fault: Fault) -> Recording {
    let before = Disk::load(&job.root);
    let trace = job.notes.with_extension("trace");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_recorded_process", "--nocapture"]);
    command.env(WRITER, job.words()).env("LD_PRELOAD", shim());
    command.env("SHIM_ROOT", &job.root).env("SHIM_TRACE", &trace).env("SHIM_NOTES", &job.notes);
    match fault {
        Fault::None => {}
        Fault::Sync(number) => drop(command.env("SHIM_FAIL_SYNC", number.to_string())),
        Fault::Room(bytes) => drop(command.env("SHIM_ROOM", bytes.to_string())),
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "the recorded process failed: {}", told(&output));
    let recording = Recording { before, ops: trace::read(&trace), job: job.clone() };
    recording.check_nothing_was_missed();
    recording
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Recording {
    /// Everything recorded, applied in full, must give the folder that the process left. Otherwise the shim is blind to some call,
    /// and the cuts would prove nothing.
    fn check_nothing_was_missed(&self) {
        let mut disk = self.before.clone();
        self.ops.iter().for_each(|op| disk.apply(op, Ignoring::Nothing));
        let (seen, real) = (disk.seen(), read_image(&self.job.root));
        assert!(seen.keys().eq(real.keys()), "recorded names {:?}, real ones {:?}", seen.keys(), real.keys());
        for (path, content) in &real {
            assert!(seen.get(path) == Some(content), "the record of {path} does not give its real content");
        }
    }
}
