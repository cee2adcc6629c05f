//! Descriptors and open file descriptions: offsets, flags, reads and writes.

use super::{Object, OpenFile, Prediction, Rule, World};
use crate::kernel::call::{ActorId, Call, Fd};
use crate::kernel::names::LARGEFILE;
use crate::kernel::outcome::Outcome;
use crate::lab::expect::Expect;

/// The flags that F_SETFL can change and the model follows.
const STATUS: i32 = libc::O_NONBLOCK | libc::O_APPEND;

impl World {
    /// A new open file description, and a descriptor of it.
    pub(super) fn add_descriptor(&mut self, who: ActorId, fd: Fd, file: OpenFile) {
        self.open_files.push(file);
        let index = self.open_files.len() - 1;
        self.refer(who, fd, index);
    }

    fn refer(&mut self, who: ActorId, fd: Fd, index: usize) {
        let Fd::Named(name) = fd else { return };
        self.drop_descriptor(who, fd);
        self.take_reference(index);
        self.process_mut(who).descriptors.insert(name, index);
    }

    /// One more descriptor refers to an open file description.
    pub(super) fn take_reference(&mut self, index: usize) {
        let file = &mut self.open_files[index];
        file.references += 1;
        if file.references == 1
            && let Object::Pipe(pipe) = file.object
        {
            self.pipes[pipe].readers += usize::from(file.reads);
            self.pipes[pipe].writers += usize::from(file.writes);
        }
    }

    /// One descriptor fewer refers to it; the last one closes it.
    pub(super) fn drop_reference(&mut self, index: usize) {
        let file = &mut self.open_files[index];
        file.references -= 1;
        if file.references == 0
            && let Object::Pipe(pipe) = file.object
        {
            let pipe = &mut self.pipes[pipe];
            pipe.readers -= usize::from(file.reads);
            pipe.writers -= usize::from(file.writes);
            if pipe.readers == 0 && pipe.writers == 0 {
                pipe.forget();
            }
        }
    }

    fn drop_descriptor(&mut self, who: ActorId, fd: Fd) {
        let Fd::Named(name) = fd else { return };
        if let Some(index) = self.process_mut(who).descriptors.remove(&name) {
            self.drop_reference(index);
        }
    }

    fn size_of(&self, file: &OpenFile) -> usize {
        match file.object {
            Object::File(inode) => self.inodes[inode].size,
            Object::Pipe(_) => 0,
        }
    }

    pub(super) fn predict_descriptors(&self, who: ActorId, call: &Call) -> Option<Prediction> {
        let fd = descriptor(call)?;
        let Some(file) = self.open_file(who, fd) else {
            return Some(self.refused(Rule::BadDescriptor, libc::EBADF));
        };
        if let Call::Fcntl { command: libc::F_GETFL, .. } = call {
            return Some(self.by(Rule::StatusFlags, status_flags(file)));
        }
        if let Object::Pipe(pipe) = file.object {
            return self.predict_pipe(file, &self.pipes[pipe], call);
        }
        Some(match call {
            Call::Close { .. } => self.by(Rule::Close, Expect::Value(0)),
            Call::Dup { .. } | Call::Dup2 { .. } => self.by(Rule::Duplicate, Expect::Success),
            Call::Lseek { offset, whence, .. } => match self.seek(file, *offset, *whence) {
                Some(position) => self.by(Rule::Seek, Expect::Value(position as u64)),
                None => self.refused(Rule::SeekNegative, libc::EINVAL),
            },
            Call::Read { len, .. } => self.predict_read(file, Rule::Read, file.offset, *len),
            Call::Pread { len, offset, .. } => self.predict_read(file, Rule::Positioned, offset.get(), *len),
            Call::Write { data, .. } | Call::Pwrite { data, .. } if file.writes => {
                self.by(Rule::Write, Expect::Value(data.len() as u64))
            }
            Call::Write { .. } | Call::Pwrite { .. } => self.refused(Rule::WriteAccess, libc::EBADF),
            Call::Ftruncate { .. } if file.writes => self.by(Rule::Truncate, Expect::Value(0)),
            Call::Ftruncate { .. } => self.refused(Rule::TruncateAccess, libc::EINVAL),
            Call::Fcntl { command: libc::F_SETFL, .. } => self.by(Rule::Flags, Expect::Value(0)),
            _ => return None,
        })
    }

    fn predict_read(&self, file: &OpenFile, rule: Rule, from: usize, len: usize) -> Prediction {
        if !file.reads {
            return self.refused(Rule::ReadAccess, libc::EBADF);
        }
        let Object::File(inode) = file.object else { return self.refused(Rule::ReadAccess, libc::EBADF) };
        let inode = &self.inodes[inode];
        let count = inode.size.saturating_sub(from).min(len);
        let mut bytes = vec![0; count];
        inode.look(from, &mut bytes);
        if !self.in_force(Rule::GrownZero) {
            bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 0xff);
        }
        let mut or = Vec::new();
        inode.doubts(from, count, |place, value| or.push((place - from, value)));
        self.by(rule, Expect::Contents { bytes, or })
    }

    fn seek(&self, file: &OpenFile, offset: i64, whence: i32) -> Option<usize> {
        let from = match whence {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => file.offset,
            _ => self.size_of(file),
        };
        usize::try_from(from as i64 + offset).ok()
    }

    pub(super) fn apply_descriptors(&mut self, who: ActorId, call: &Call, outcome: &Outcome) {
        let Some(fd) = descriptor(call) else { return };
        if let Call::Close { .. } = call {
            self.drop_descriptor(who, fd);
            return;
        }
        let Some(file) = self.open_file(who, fd).cloned() else { return };
        if !outcome.is_success() {
            return;
        }
        match (call, file.object) {
            (Call::Dup { of, fd }, _) | (Call::Dup2 { of, onto: fd, .. }, _) => self.duplicate(who, *of, *fd),
            (Call::Fcntl { command: libc::F_SETFL, argument, .. }, _) if self.in_force(Rule::Flags) => {
                let argument = *argument as i32 & STATUS;
                if let Some(file) = self.open_file_mut(who, fd) {
                    file.append = argument & libc::O_APPEND != 0;
                    file.nonblocking = argument & libc::O_NONBLOCK != 0;
                }
            }
            (_, Object::Pipe(pipe)) => self.apply_pipe(pipe, call, outcome),
            (Call::Lseek { .. }, _) => {
                if let (Outcome::Value(position), Some(file)) = (outcome, self.open_file_mut(who, fd)) {
                    file.offset = *position as usize;
                }
            }
            (Call::Read { .. }, Object::File(inode)) => {
                if let Outcome::Bytes(seen) = outcome {
                    self.settle_read(inode, file.offset, seen);
                    self.move_offset(who, fd, file.offset + seen.len());
                }
            }
            (Call::Pread { offset, .. }, Object::File(inode)) => {
                if let Outcome::Bytes(seen) = outcome {
                    self.settle_read(inode, offset.get(), seen);
                    if !self.in_force(Rule::Positioned) {
                        self.move_offset(who, fd, offset.get() + seen.len());
                    }
                }
            }
            (Call::Write { data, .. }, Object::File(inode)) => {
                let at = if file.append { self.inodes[inode].size } else { file.offset };
                self.write_file(inode, at, &data.to_vec());
                self.move_offset(who, fd, at + data.len());
            }
            (Call::Pwrite { data, offset, .. }, Object::File(inode)) => {
                // With O_APPEND Linux appends whatever the offset says (pwrite(2), BUGS).
                let at = if file.append { self.inodes[inode].size } else { offset.get() };
                self.write_file(inode, at, &data.to_vec());
            }
            (Call::Ftruncate { len, .. }, Object::File(inode)) if self.in_force(Rule::Size) => {
                self.set_size(inode, len.get())
            }
            _ => {}
        }
    }

    fn duplicate(&mut self, who: ActorId, of: Fd, onto: Fd) {
        let Fd::Named(name) = of else { return };
        let Some(index) = self.process(who).descriptors.get(&name).copied() else { return };
        if of == onto {
            return;
        }
        if self.in_force(Rule::Duplicate) {
            self.refer(who, onto, index);
        } else {
            let copy = OpenFile { references: 0, ..self.open_files[index].clone() };
            self.drop_descriptor(who, onto);
            self.add_descriptor(who, onto, copy);
        }
    }

    fn settle_read(&mut self, inode: usize, from: usize, seen: &[u8]) {
        let mut doubtful = Vec::new();
        self.inodes[inode].doubts(from, seen.len(), |place, _| doubtful.push(place));
        for place in doubtful {
            self.inodes[inode].settle(place, seen[place - from]);
        }
    }

    fn move_offset(&mut self, who: ActorId, fd: Fd, to: usize) {
        if let Some(file) = self.open_file_mut(who, fd) {
            file.offset = to;
        }
    }
}

/// What F_GETFL tells; O_LARGEFILE is set where the kernel sets it for every file that is opened (open(2)).
fn status_flags(file: &OpenFile) -> Expect {
    let mode = match (file.reads, file.writes) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    let append = if file.append { libc::O_APPEND } else { 0 };
    let nonblocking = if file.nonblocking { libc::O_NONBLOCK } else { 0 };
    let flags = (mode | append | nonblocking) as u32;
    Expect::AnyOf([flags, flags | LARGEFILE].map(|flags| Expect::Value(flags.into())).to_vec())
}

/// The descriptor that a call acts on.
pub fn descriptor(call: &Call) -> Option<Fd> {
    match call {
        Call::Close { fd }
        | Call::Dup { of: fd, .. }
        | Call::Dup2 { of: fd, .. }
        | Call::Lseek { fd, .. }
        | Call::Read { fd, .. }
        | Call::Write { fd, .. }
        | Call::Pread { fd, .. }
        | Call::Pwrite { fd, .. }
        | Call::Ftruncate { fd, .. }
        | Call::Fstat { fd }
        | Call::Fcntl { fd, .. }
        | Call::Poll { fd, .. }
        | Call::Fionread { fd } => Some(*fd),
        _ => None,
    }
}

/// No descriptor has this name: what a call names to be refused.
pub const NEVER_OPEN: Fd = Fd::Number(900);
