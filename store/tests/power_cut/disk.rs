//! What a disk may hold after a power cut: everything that was synced, and any part of what was not.
//!
//! A sync of a file makes its bytes and length durable, a sync of a folder its entries; nothing else is promised. What was not
//! synced may be there whole, in part (in sectors of 512 bytes or pages of 4,096), in another order, or not at all; entries too.
//! A rename is one change of its folder. After a failed sync the writes before it never reach the disk here, and a later sync does
//! not help them: Linux may have marked their pages clean.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::chance::Chance;
use crate::trace::Op;

type NodeId = usize;

/// A disk during one recorded run.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    root: String,
    nodes: Vec<Node>,
    by_inode: HashMap<u64, NodeId>,
    /// Calls so far.
    time: usize,
}

#[derive(Clone, Debug)]
enum Node {
    File(File),
    Folder(Folder),
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<(usize, Change)>,
    /// What the process sees.
    seen: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Clone, Debug, Default)]
struct Folder {
    durable: BTreeMap<String, NodeId>,
    pending: Vec<(usize, Names)>,
    seen: BTreeMap<String, NodeId>,
}

/// Names that are set or removed at once.
type Names = Vec<(String, Option<NodeId>)>;

/// Which syncs the disk ignores. The controls of the rig: a store that does without them must be caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignoring {
    Nothing,
    /// Every sync of a segment.
    Segments,
    /// Every sync of the index's file. It may do without: the index is made anew.
    Index,
    /// Every sync of a kept value's file.
    KeptFiles,
    /// Every sync of a folder.
    Folders,
}

/// A whole image: paths below the root; a folder has no content.
pub(crate) type Image = BTreeMap<String, Option<Vec<u8>>>;

impl Disk {
    /// What is in `root` now, all of it durable.
    pub(crate) fn load(root: &Path) -> Self {
        let mut disk = Self { root: root.to_str().unwrap().to_owned(), nodes: Vec::new(), by_inode: HashMap::new(), time: 0 };
        disk.load_node(root);
        disk
    }

    fn load_node(&mut self, path: &Path) -> NodeId {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        let id = self.nodes.len();
        self.by_inode.insert(metadata.ino(), id);
        if metadata.is_dir() {
            self.nodes.push(Node::Folder(Folder::default()));
            let mut entries = BTreeMap::new();
            for entry in std::fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                entries.insert(entry.file_name().into_string().unwrap(), self.load_node(&entry.path()));
            }
            self.nodes[id] = Node::Folder(Folder { durable: entries.clone(), pending: Vec::new(), seen: entries });
        } else {
            let bytes = std::fs::read(path).unwrap();
            self.nodes.push(Node::File(File { durable: bytes.clone(), seen: bytes, ..File::default() }));
        }
        id
    }

    /// Takes the next call of the record.
    pub(crate) fn apply(&mut self, op: &Op, ignoring: Ignoring) {
        self.time += 1;
        match op {
            Op::Create { path, inode } => self.add(path, *inode, Node::File(File::default())),
            Op::MakeFolder { path, inode } => self.add(path, *inode, Node::Folder(Folder::default())),
            Op::Write { inode, at, bytes } => {
                self.change(*inode, Change::Write { at: usize::try_from(*at).unwrap(), bytes: bytes.clone() });
            }
            Op::Truncate { inode, length } => self.change(*inode, Change::Truncate(usize::try_from(*length).unwrap())),
            Op::Unlink { path } => {
                let (folder, name) = self.place(path);
                self.rename(folder, vec![(name, None)]);
            }
            Op::Rename { from, to } => {
                let (folder, old) = self.place(from);
                let (other, new) = self.place(to);
                assert_eq!(folder, other, "a rename between folders is not modelled: {from} to {to}");
                let id = *self.folder(folder).seen.get(&old).unwrap_or_else(|| panic!("{from} was never made"));
                self.rename(folder, vec![(old, None), (new, Some(id))]);
            }
            Op::Sync { inode } => {
                let id = self.by_inode[inode];
                if !self.ignores(id, ignoring) {
                    self.sync(id);
                }
            }
            Op::SyncFailed { inode } => {
                if let Node::File(file) = &mut self.nodes[self.by_inode[inode]] {
                    file.pending.clear();
                }
            }
            Op::Note(_) => {}
        }
    }

    fn add(&mut self, path: &str, inode: u64, node: Node) {
        let id = self.nodes.len();
        self.nodes.push(node);
        self.by_inode.insert(inode, id);
        let (folder, name) = self.place(path);
        self.rename(folder, vec![(name, Some(id))]);
    }

    fn change(&mut self, inode: u64, change: Change) {
        let id = *self.by_inode.get(&inode).unwrap_or_else(|| panic!("a change to inode {inode}, which was never made"));
        let Node::File(file) = &mut self.nodes[id] else { panic!("a write to a folder") };
        change.apply_to(&mut file.seen);
        file.pending.push((self.time, change));
    }

    fn rename(&mut self, folder: NodeId, names: Names) {
        let time = self.time;
        let Node::Folder(folder) = &mut self.nodes[folder] else { panic!("a name in something that is no folder") };
        set_names(&mut folder.seen, &names);
        folder.pending.push((time, names));
    }

    fn folder(&self, id: NodeId) -> &Folder {
        match &self.nodes[id] {
            Node::Folder(folder) => folder,
            Node::File(_) => panic!("no folder"),
        }
    }

    /// The folder and the name of a path.
    fn place(&self, path: &str) -> (NodeId, String) {
        let below = path.strip_prefix(&self.root).unwrap_or_else(|| panic!("{path} is not below {}", self.root));
        let mut parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
        let name = parts.pop().unwrap().to_owned();
        let folder = parts.iter().fold(0, |id, part| *self.folder(id).seen.get(*part).unwrap_or_else(|| panic!("no {part} in {path}")));
        (folder, name)
    }

    fn ignores(&self, id: NodeId, ignoring: Ignoring) -> bool {
        match ignoring {
            Ignoring::Nothing => false,
            Ignoring::Segments => self.names_below(&["data", "segments"]).values().any(|segment| *segment == id),
            Ignoring::Index => self.names_below(&["data", "index"]).get("db") == Some(&id),
            Ignoring::KeptFiles => self.names_below(&["data", "kept"]).values().any(|kept| *kept == id),
            Ignoring::Folders => matches!(self.nodes[id], Node::Folder(_)),
        }
    }

    fn names_below(&self, path: &[&str]) -> BTreeMap<String, NodeId> {
        let folder = path.iter().try_fold(0, |id, part| self.folder(id).seen.get(*part).copied());
        folder.map_or_else(BTreeMap::new, |id| self.folder(id).seen.clone())
    }

    fn sync(&mut self, id: NodeId) {
        match &mut self.nodes[id] {
            Node::File(file) => {
                for (_, change) in file.pending.drain(..) {
                    change.apply_to(&mut file.durable);
                }
            }
            Node::Folder(folder) => {
                for (_, names) in folder.pending.drain(..) {
                    set_names(&mut folder.durable, &names);
                }
            }
        }
    }

    /// What the process sees: the rig's check of itself against the real folder.
    pub(crate) fn seen(&self) -> Image {
        self.image(&mut |file| file.seen.clone(), &mut |folder| folder.seen.clone())
    }

    /// One of the images that a cut at this instant may leave.
    pub(crate) fn cut(&self, chance: &mut Chance) -> Image {
        let mut other = Chance::new(chance.next());
        if chance.percent(20) {
            // A disk that keeps the order of everything, and is only behind.
            let time = self.time - chance.below(40.min(self.time as u64)) as usize;
            let (files, names) = (FileFate::Until(time), NameFate::Until(time));
            return self.image(&mut |file| files.leave(file, chance), &mut |folder| names.leave(folder, &mut other));
        }
        self.image(&mut |file| FileFate::any(chance).leave(file, chance), &mut |folder| NameFate::any(&mut other).leave(folder, &mut other))
    }

    /// Paths with a write or an entry that was not synced.
    pub(crate) fn unsynced(&self) -> Vec<String> {
        let mut unsynced = Vec::new();
        let mut left = vec![(String::new(), 0)];
        while let Some((path, id)) = left.pop() {
            let pending = match &self.nodes[id] {
                Node::File(file) => file.pending.len(),
                Node::Folder(folder) => {
                    left.extend(folder.seen.iter().map(|(name, id)| (format!("{path}/{name}"), *id)));
                    folder.pending.len()
                }
            };
            if pending > 0 {
                unsynced.push(path);
            }
        }
        unsynced
    }

    fn image(&self, content: &mut dyn FnMut(&File) -> Vec<u8>, names: &mut dyn FnMut(&Folder) -> BTreeMap<String, NodeId>) -> Image {
        let mut image = Image::new();
        let mut left = vec![(String::new(), 0)];
        while let Some((path, id)) = left.pop() {
            match &self.nodes[id] {
                Node::File(file) => {
                    image.insert(path, Some(content(file)));
                }
                Node::Folder(folder) => {
                    left.extend(names(folder).into_iter().map(|(name, id)| (format!("{path}/{name}"), id)));
                    image.insert(path, None);
                }
            }
        }
        image
    }
}

impl Change {
    fn apply_to(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                if content.len() < at + bytes.len() {
                    content.resize(at + bytes.len(), 0);
                }
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }

    /// Keeps each aligned piece of a write with the given chance.
    fn apply_torn(&self, content: &mut Vec<u8>, piece: usize, percent: u64, chance: &mut Chance) {
        match self {
            Self::Write { at, bytes } => {
                let mut from = 0;
                while from < bytes.len() {
                    let to = bytes.len().min((at + from) / piece * piece + piece - at);
                    if chance.percent(percent) {
                        Self::Write { at: at + from, bytes: bytes[from..to].to_vec() }.apply_to(content);
                    }
                    from = to;
                }
            }
            Self::Truncate(_) if chance.percent(percent) => self.apply_to(content),
            Self::Truncate(_) => {}
        }
    }
}

fn set_names(entries: &mut BTreeMap<String, NodeId>, names: &[(String, Option<NodeId>)]) {
    for (name, id) in names {
        match id {
            Some(id) => entries.insert(name.clone(), *id),
            None => entries.remove(name),
        };
    }
}

/// What becomes of unsynced writes.
#[derive(Clone, Copy, Debug)]
enum FileFate {
    Lost,
    Whole,
    /// Everything asked for up to an instant, in order.
    Until(usize),
    /// Each call by itself.
    Calls {
        percent: u64,
    },
    /// Each aligned piece by itself.
    Torn {
        piece: usize,
        percent: u64,
        length_first: bool,
    },
}

impl FileFate {
    fn any(chance: &mut Chance) -> Self {
        let percent = [10, 50, 90][chance.below(3) as usize];
        match chance.below(10) {
            0 => Self::Lost,
            1 => Self::Whole,
            2..5 => Self::Calls { percent },
            5..8 => Self::Torn { piece: 512, percent, length_first: chance.percent(30) },
            _ => Self::Torn { piece: 4096, percent, length_first: chance.percent(30) },
        }
    }

    fn leave(self, file: &File, chance: &mut Chance) -> Vec<u8> {
        let mut left = file.durable.clone();
        let changes = file.pending.iter();
        match self {
            Self::Lost => {}
            Self::Whole => changes.for_each(|(_, change)| change.apply_to(&mut left)),
            Self::Until(time) => changes.filter(|(at, _)| *at <= time).for_each(|(_, change)| change.apply_to(&mut left)),
            Self::Calls { percent } => {
                changes.filter(|_| chance.percent(percent)).for_each(|(_, change)| change.apply_to(&mut left));
            }
            Self::Torn { piece, percent, length_first } => {
                for (_, change) in changes {
                    change.apply_torn(&mut left, piece, percent, chance);
                }
                if length_first && left.len() < file.seen.len() {
                    left.resize(file.seen.len(), 0);
                }
            }
        }
        left
    }
}

/// What becomes of unsynced entries.
#[derive(Clone, Copy, Debug)]
enum NameFate {
    Lost,
    Whole,
    Until(usize),
    /// Each change by itself.
    Changes {
        percent: u64,
    },
}

impl NameFate {
    fn any(chance: &mut Chance) -> Self {
        match chance.below(3) {
            0 => Self::Lost,
            1 => Self::Whole,
            _ => Self::Changes { percent: 50 },
        }
    }

    fn leave(self, folder: &Folder, chance: &mut Chance) -> BTreeMap<String, NodeId> {
        let mut left = folder.durable.clone();
        for (time, names) in &folder.pending {
            let kept = match self {
                Self::Lost => false,
                Self::Whole => true,
                Self::Until(until) => *time <= until,
                Self::Changes { percent } => chance.percent(percent),
            };
            if kept {
                set_names(&mut left, names);
            }
        }
        left
    }
}

/// Lays an image out in an empty folder.
pub(crate) fn lay_out(image: &Image, root: &Path) {
    for (path, content) in image {
        let path = root.join(path.trim_start_matches('/'));
        match content {
            None => std::fs::create_dir_all(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
    }
}

/// Reads a folder as an image.
pub(crate) fn read_image(root: &Path) -> Image {
    Disk::load(root).seen()
}
