//! Files: one size, one set of bytes, seen by read, write and every mapping; and the names that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::{Contents, Object, OpenFile, Prediction, Rule, Source, World};
use crate::kernel::call::{ActorId, Call, Fd, Path};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
use crate::lab::expect::Expect;

/// A file.
#[derive(Clone, Debug, Default)]
pub struct Inode {
    /// Its size, in bytes.
    pub size: usize,
    /// Its bytes, to the end of its last page.
    bytes: Vec<u8>,
    /// Bytes that were stored beyond the end of the file, in its last page: they may still be there, or be zero again,
    /// since the kernel may clear the tail whenever it writes the page back.
    doubtful: BTreeSet<usize>,
}

impl Inode {
    /// The bytes from a position on, zeros where there are none.
    pub fn look(&self, from: usize, into: &mut [u8]) {
        let there = self.bytes.get(from..).unwrap_or(&[]);
        let count = there.len().min(into.len());
        into[..count].copy_from_slice(&there[..count]);
        into[count..].fill(0);
    }

    /// What a page of it may hold.
    fn versions(&self, index: usize) -> Vec<Contents> {
        let mut bytes = vec![0; page()];
        self.look(index * page(), &mut bytes);
        let mut zeroed = bytes.clone();
        self.doubts(index * page(), page(), |place, value| zeroed[place % page()] = value);
        let one = zeroed == bytes;
        let whole = [bytes, zeroed].map(Rc::new);
        whole.into_iter().skip(usize::from(one)).collect()
    }

    /// The places of a range that may be zero instead.
    pub(super) fn doubts(&self, from: usize, count: usize, mut doubt: impl FnMut(usize, u8)) {
        for place in self.doubtful.range(from..from + count) {
            doubt(*place, 0);
        }
    }

    /// Stores through a mapping: within the last page, and never beyond.
    pub(super) fn store(&mut self, at: usize, bytes: &[u8]) {
        let end = (at + bytes.len()).min(self.bytes.len());
        for (place, byte) in (at..end).zip(bytes) {
            self.bytes[place] = *byte;
            if place >= self.size {
                self.doubtful.insert(place);
            } else {
                self.doubtful.remove(&place);
            }
        }
    }

    /// Writes, and grows the file if need be.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.resize(self.size.max(at + bytes.len()));
        self.store(at, bytes);
    }

    /// Sets the size. What a larger file gains is zero, but for what was stored there before as the tail of a page.
    fn resize(&mut self, size: usize) {
        if size < self.size {
            let kept = size.div_ceil(page()) * page();
            self.bytes.truncate(kept);
            self.bytes[size..].fill(0);
            self.doubtful.retain(|place| *place < size);
        }
        self.bytes.resize(size.div_ceil(page()) * page(), 0);
        self.size = size;
    }

    /// A doubtful byte has been seen: inside of the file that decides it.
    pub(super) fn settle(&mut self, at: usize, seen: u8) {
        if self.doubtful.contains(&at) && (at < self.size || seen == 0) {
            self.doubtful.remove(&at);
            if let Some(byte) = self.bytes.get_mut(at) {
                *byte = seen;
            }
        }
    }
}

impl World {
    /// A new file without a name.
    pub(super) fn new_inode(&mut self, size: usize) -> usize {
        let mut inode = Inode::default();
        inode.resize(size);
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// The open file behind a descriptor of a process.
    pub fn open_file(&self, who: ActorId, fd: Fd) -> Option<&OpenFile> {
        match fd {
            Fd::Named(name) => self.process(who).descriptors.get(&name).map(|index| &self.open_files[*index]),
            Fd::Number(_) => None,
        }
    }

    pub(super) fn open_file_mut(&mut self, who: ActorId, fd: Fd) -> Option<&mut OpenFile> {
        match fd {
            Fd::Named(name) => {
                let index = *self.process(who).descriptors.get(&name)?;
                self.open_files.get_mut(index)
            }
            Fd::Number(_) => None,
        }
    }

    pub(super) fn predict_names(&self, call: &Call) -> Option<Prediction> {
        let has = |path: &Path| self.names.contains_key(path);
        Some(match call {
            Call::Open { path, flags, .. } => {
                let flag = |bit: i32| flags & bit as u32 != 0;
                match self.names.get(path) {
                    None if !flag(libc::O_CREAT) => self.refused(Rule::OpenMissing, libc::ENOENT),
                    Some(_) if flag(libc::O_CREAT) && flag(libc::O_EXCL) => {
                        self.refused(Rule::OpenExclusive, libc::EEXIST)
                    }
                    Some(Object::Pipe(pipe)) => return self.predict_fifo(*pipe, *flags),
                    _ => self.by(Rule::Open, Expect::Success),
                }
            }
            Call::Unlink { path } if has(path) => self.by(Rule::Unlink, Expect::Value(0)),
            Call::Unlink { .. } => self.refused(Rule::UnlinkMissing, libc::ENOENT),
            Call::Rename { from, .. } if has(from) => self.by(Rule::Rename, Expect::Value(0)),
            Call::Rename { .. } => self.refused(Rule::UnlinkMissing, libc::ENOENT),
            Call::Mkfifo { path, .. } if has(path) => self.refused(Rule::Fifo, libc::EEXIST),
            Call::Mkfifo { .. } => self.by(Rule::Fifo, Expect::Value(0)),
            _ => return None,
        })
    }

    pub(super) fn apply_names(&mut self, who: ActorId, call: &Call, outcome: &Outcome) {
        if !outcome.is_success() {
            return;
        }
        match call {
            Call::Open { path, flags, fd, .. } => self.open(who, *path, *flags, *fd),
            Call::Unlink { path } if self.in_force(Rule::Unlink) => {
                self.names.remove(path);
            }
            Call::Rename { from, to } if self.in_force(Rule::Rename) => {
                if let Some(object) = self.names.remove(from) {
                    self.names.insert(*to, object);
                }
            }
            Call::Mkfifo { path, .. } => {
                let pipe = self.new_pipe();
                self.names.insert(*path, Object::Pipe(pipe));
            }
            _ => {}
        }
    }

    fn open(&mut self, who: ActorId, path: Path, flags: u32, fd: Fd) {
        let object = match self.names.get(&path) {
            Some(object) => *object,
            None => {
                let object = Object::File(self.new_inode(0));
                self.names.insert(path, object);
                object
            }
        };
        if let Object::File(inode) = object
            && flags & libc::O_TRUNC as u32 != 0
            && self.in_force(Rule::OpenTruncate)
        {
            self.set_size(inode, 0);
        }
        self.open_object(who, object, flags, fd);
    }

    /// Something has been opened with these flags.
    pub(super) fn open_object(&mut self, who: ActorId, object: Object, flags: u32, fd: Fd) {
        let (reads, writes) = access(flags);
        let file = OpenFile {
            object,
            reads,
            writes,
            offset: 0,
            append: flags & libc::O_APPEND as u32 != 0,
            nonblocking: flags & libc::O_NONBLOCK as u32 != 0,
            references: 0,
        };
        self.add_descriptor(who, fd, file);
    }

    /// Sets the size of a file; private copies of pages beyond a new end are gone (truncate(2) and what mmap(2) says of it).
    pub(super) fn set_size(&mut self, inode: usize, size: usize) {
        self.remember(inode, size, size.next_multiple_of(page()));
        self.inodes[inode].resize(size);
        if !self.in_force(Rule::ShrinkDropsCopies) {
            return;
        }
        let end = size.div_ceil(page());
        for process in &mut self.processes {
            for found in process.pages.values_mut() {
                if matches!(found.source, Source::File(of, index) if of == inode && index >= end) {
                    found.let_go();
                }
            }
        }
    }

    /// These bytes of a file are about to change: private pages that nobody has stored to may show what they were.
    pub(super) fn remember(&mut self, inode: usize, from: usize, to: usize) {
        let file = &self.inodes[inode];
        let changed = from / page()..to.min(file.bytes.len()).div_ceil(page());
        if changed.is_empty() {
            return;
        }
        let mut kept: BTreeMap<usize, Vec<Contents>> = BTreeMap::new();
        for found in self.processes.iter_mut().flat_map(|process| process.pages.values_mut()) {
            if let Source::File(of, index) = found.source
                && of == inode
                && changed.contains(&index)
                && !found.shared
                && found.copy.is_none()
            {
                found.older.extend_from_slice(kept.entry(index).or_insert_with(|| file.versions(index)));
            }
        }
    }

    pub(super) fn write_file(&mut self, inode: usize, at: usize, bytes: &[u8]) {
        self.remember(inode, at, at + bytes.len());
        if self.in_force(Rule::WriteReachesMappings) {
            self.inodes[inode].write(at, bytes);
        } else {
            // As if mappings kept to what they had: the bytes do not arrive, the size does.
            let size = self.inodes[inode].size.max(at + bytes.len());
            self.inodes[inode].resize(size);
        }
    }
}

/// Whether these flags of open(2) ask for reading, and for writing.
pub(super) fn access(flags: u32) -> (bool, bool) {
    let mode = flags as i32 & libc::O_ACCMODE;
    (mode != libc::O_WRONLY, mode != libc::O_RDONLY)
}
