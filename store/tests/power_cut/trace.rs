//! The record that the shim makes of one process: what it asked of the disk, in order. What a disk makes of it is in `disk`.

use std::path::Path;

/// One call.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create { path: String, inode: u64 },
    Write { inode: u64, at: u64, bytes: Vec<u8> },
    Truncate { inode: u64, length: u64 },
    Rename { from: String, to: String },
    Unlink { path: String },
    MakeFolder { path: String, inode: u64 },
    Sync { inode: u64 },
    SyncFailed { inode: u64 },
    Note(String),
}

/// Reads a record. A process that was killed may have left half a call at the end, which never happened.
pub(crate) fn read(path: &Path) -> Vec<Op> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut ops = Vec::new();
    while let Some((op, after)) = next(rest) {
        ops.push(op);
        rest = after;
    }
    assert!(!ops.is_empty(), "the shim recorded nothing: was it loaded?");
    ops
}

fn next(bytes: &[u8]) -> Option<(Op, &[u8])> {
    let (head, rest) = bytes.split_at_checked(33)?;
    let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap()) as usize;
    let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
    let (inode, at) = (long(9), long(17));
    let (path, rest) = rest.split_at_checked(word(1))?;
    let (to, rest) = rest.split_at_checked(word(5))?;
    let (data, rest) = rest.split_at_checked(usize::try_from(long(25)).unwrap())?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let op = match head[0] {
        1 => Op::Create { path: text(path), inode },
        2 => Op::Write { inode, at, bytes: data.to_vec() },
        3 => Op::Truncate { inode, length: at },
        4 => Op::Rename { from: text(path), to: text(to) },
        5 | 7 => Op::Unlink { path: text(path) },
        6 => Op::MakeFolder { path: text(path), inode },
        8 => Op::Sync { inode },
        9 => Op::Note(text(data)),
        12 => Op::SyncFailed { inode },
        other => panic!("the shim wrote an unknown call {other}"),
    };
    Some((op, rest))
}
