//! Cuts while a folder of an older format is brought up to date: before, in the middle of it and after, all that was there is there.

use crate::chance::Chance;
use crate::disk::Ignoring;
use crate::judge::Settled;
use crate::recording::{Fault, record, scratch};
use crate::samples::restored;
use crate::trace::Op;
use crate::writer::{Job, SEGMENT_BYTES};
use crate::{Numbers, Rig, rounds, seed};

/// Images judged of each older format.
const ROUNDS: u64 = 150;

#[test]
fn a_folder_of_an_older_format_is_whole_whenever_it_is_cut_while_it_is_brought_up_to_date() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for format in ["format_1", "format_2"] {
        let (root, copy, place) = (scratch(), scratch(), scratch());
        for root in [&root, &copy] {
            copy_folder(restored(format).path(), &root.path().join("data"));
        }
        let settled = runtime.block_on(Settled::of(copy.path()));
        let job = Job {
            root: root.path().to_path_buf(),
            notes: place.path().join("notes"),
            name: "new".into(),
            seed: 3,
            tasks: 2,
            sessions: 1,
            deeds: 3,
            segment_bytes: SEGMENT_BYTES,
        };
        let recording = record(&job, Fault::None);
        let opened = recording.ops.iter().position(|op| matches!(op, Op::Note(note) if note.starts_with("opened"))).unwrap();
        assert!(opened > 20, "{format}: the opening did too little to be of an older format: {opened} calls");
        let mut chance = Chance::new(seed());
        let instants: Vec<usize> = (0..rounds(ROUNDS)).map(|_| chance.below(opened as u64 + 4) as usize).collect();
        let mut numbers = Numbers::default();
        let rig = Rig { rounds: 0, rounds_per_recording: 0, ignoring: Ignoring::Nothing, fault: |_| Fault::None };
        rig.cut_often(&recording, &settled, &instants, &mut chance, &mut numbers);
        eprintln!("{format}: {numbers:?}");
        assert!(numbers.failures.is_empty(), "{numbers:#?}");
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
