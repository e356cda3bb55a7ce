//! What an acknowledgement costs and what it rests on, counted in the record of one task at work.

use crate::disk::{Disk, Ignoring};
use crate::plan::Deed;
use crate::recording::{Fault, record, scratch};
use crate::trace::Op;
use crate::writer::Job;

/// What no promise rests on: the witness of the tip, the owner's name, and the entry of the ballast.
const MAY_LAG: [&str; 3] = ["/data", "/data/tip", "/data/owner"];

#[test]
fn a_commit_costs_exactly_one_sync_and_nothing_it_wrote_is_unsynced_when_it_is_acknowledged() {
    let (root, place) = (scratch(), scratch());
    let job = Job {
        root: root.path().to_path_buf(),
        notes: place.path().join("notes"),
        name: "s".into(),
        seed: 11,
        tasks: 1,
        sessions: 1,
        deeds: 150,
        // Nothing is handed over to the tree meanwhile: what that costs nobody waits for.
        segment_bytes: u64::MAX,
    };
    let recording = record(&job, Fault::None);
    let mut disk: Disk = recording.before.clone();
    let mut task = job.tasks().remove(0);
    let mut deed = None;
    let (mut syncs, mut commits) = (0, 0);
    for op in &recording.ops {
        disk.apply(op, Ignoring::Nothing);
        match op {
            Op::Sync { .. } => syncs += 1,
            Op::Note(note) if note.starts_with("try") => {
                deed = Some(task.next());
                syncs = 0;
            }
            Op::Note(note) if note.starts_with("ack") => match deed {
                Some(Deed::Commit(_) | Deed::Truncate { .. } | Deed::Remove { .. }) => {
                    commits += 1;
                    // The first one also makes the entry of the first segment durable.
                    assert_eq!(syncs, if commits == 1 { 2 } else { 1 }, "commit {commits} cost {syncs} syncs");
                    let unsynced = disk.unsynced();
                    assert!(unsynced.iter().all(|path| MAY_LAG.contains(&path.as_str())), "acknowledged with {unsynced:?} unsynced");
                }
                Some(Deed::Keep { .. }) => {}
                None => panic!("acknowledged before it was tried"),
            },
            Op::Note(_)
            | Op::Create { .. }
            | Op::Write { .. }
            | Op::Truncate { .. }
            | Op::Rename { .. }
            | Op::Unlink { .. }
            | Op::MakeFolder { .. }
            | Op::SyncFailed { .. } => {}
        }
    }
    assert!(commits > 50, "too few commits to speak of: {commits}");
}
