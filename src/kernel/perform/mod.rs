//! The one place where calls are performed: names become addresses and numbers, the kernel is asked, its answer is an outcome.

mod files;
mod library;
mod memory;
mod others;
mod pipes;

pub(crate) use files::close;
pub(crate) use pipes::{receive_descriptor, send_descriptor};

use std::os::fd::IntoRawFd;

use super::call::{At, Call, Fd, MapId, Path};
use super::outcome::Outcome;

/// What the names of a case stand for in one process.
///
/// A forked child goes on with a copy of its parent's, as it does with the things themselves.
#[derive(Debug, Default)]
pub struct Performer {
    descriptors: Vec<i32>,
    open: Vec<i32>,
    mappings: Vec<usize>,
    spans: Vec<(usize, usize)>,
    arena: usize,
    scratch: Vec<u8>,
    processes: Vec<i32>,
}

impl Performer {
    /// One with no names, which places [`At::Arena`] at this address.
    pub fn new(arena: usize) -> Performer {
        Performer { arena, ..Performer::default() }
    }

    /// Performs one call.
    ///
    /// Fork, exec, exit and wait are more than one answer and are the actor's matter (`lab::actor`).
    pub fn perform(&mut self, call: &Call) -> Outcome {
        use Call::*;
        match call {
            Mmap { .. }
            | Munmap { .. }
            | Mprotect { .. }
            | Mremap { .. }
            | Msync { .. }
            | Madvise { .. }
            | Mincore { .. }
            | Mlock { .. }
            | Munlock { .. }
            | Load { .. }
            | Store { .. }
            | LoadWord { .. }
            | StoreWord { .. }
            | Execute { .. }
            | StoreReturn { .. }
            | Touch { .. }
            | CompareExchange { .. }
            | FetchAdd { .. }
            | LockedAdd { .. }
            | Reply { .. }
            | Await { .. } => self.memory(call),
            Open { .. }
            | OpenPath { .. }
            | Memfd { .. }
            | Close { .. }
            | Dup { .. }
            | Dup2 { .. }
            | Lseek { .. }
            | Read { .. }
            | ReadAll { .. }
            | Write { .. }
            | Pread { .. }
            | Pwrite { .. }
            | Ftruncate { .. }
            | Truncate { .. }
            | Fsync { .. }
            | Fstat { .. }
            | Stat { .. }
            | Access { .. }
            | Unlink { .. }
            | Rename { .. }
            | Link { .. }
            | Symlink { .. }
            | Mkdir { .. }
            | Rmdir { .. }
            | Entries
            | Umask { .. }
            | Fcntl { .. }
            | Cachestat { .. } => self.files(call),
            Pipe { .. }
            | PipeAt { .. }
            | Poll { .. }
            | Socketpair { .. }
            | SendFd { .. }
            | Adopt { .. }
            | ReceiveFd { .. }
            | Special { .. }
            | Mkfifo { .. }
            | Fionread { .. } => self.pipes(call),
            Exit { .. }
            | Kill { .. }
            | Signal { .. }
            | SignalCount
            | Limit { .. }
            | DropPrivileges
            | PageFaults
            | Smaps { .. }
            | Status { .. }
            | Tmpfs { .. }
            | Confine(_)
            | ReadOther { .. }
            | Fork { .. }
            | Peer { .. }
            | Wait { .. }
            | Exec { .. }
            | ExecSelf => self.others(call),
            Library(function) => self.library(*function),
        }
    }

    /// The address that a name stands for in this process.
    pub fn address(&self, at: At) -> usize {
        match at {
            At::Null => 0,
            At::Number(address) => address,
            At::Arena(distance) => self.arena.wrapping_add(distance),
            At::Variable(segment, distance) => segment.start().wrapping_add(distance),
            At::Map(MapId(n), distance) => match self.mappings.get(usize::from(n)) {
                Some(base) if *base != 0 => base.wrapping_add_signed(distance),
                _ => panic!("m{n} is not mapped in this process"),
            },
        }
    }

    /// The number that a descriptor's name stands for in this process; it keeps it after close.
    pub fn number(&self, fd: Fd) -> i32 {
        match fd {
            Fd::Number(number) => number,
            Fd::Named(n) => match self.descriptors.get(usize::from(n)) {
                Some(number) if *number >= 0 => *number,
                _ => panic!("fd{n} is not open in this process"),
            },
        }
    }

    /// Keeps the process identifier of an actor, for calls that name it.
    pub fn learn_process(&mut self, actor: super::call::ActorId, pid: i32) {
        set(&mut self.processes, actor.0, pid, 0);
    }

    /// The process identifier of an actor, 0 if it is not known here.
    pub fn process(&self, actor: super::call::ActorId) -> i32 {
        self.processes.get(usize::from(actor.0)).copied().unwrap_or(0)
    }

    /// Gives an open descriptor a name of the case.
    pub fn adopt(&mut self, fd: Fd, descriptor: std::os::fd::OwnedFd) -> Outcome {
        self.opened(fd, descriptor.into_raw_fd())
    }

    fn opened(&mut self, fd: Fd, number: i32) -> Outcome {
        if let Fd::Named(n) = fd {
            set(&mut self.descriptors, n, number, -1);
        }
        if !self.open.contains(&number) {
            self.open.push(number);
        }
        Outcome::Value(0)
    }

    fn mapped(&mut self, map: MapId, start: usize, len: usize) -> Outcome {
        set(&mut self.mappings, map.0, start, 0);
        self.forget_span(start, len);
        self.spans.push((start, start.saturating_add(extent(len))));
        Outcome::Mapped(start)
    }

    /// Takes a range out of what is to be unmapped at the end of the case.
    fn forget_span(&mut self, start: usize, len: usize) {
        let end = start.saturating_add(extent(len));
        for at in (0..self.spans.len()).rev() {
            let (from, to) = self.spans[at];
            if from < end && start < to {
                self.spans.swap_remove(at);
                if from < start {
                    self.spans.push((from, start));
                }
                if end < to {
                    self.spans.push((end, to));
                }
            }
        }
    }

    /// Closes and unmaps what the case left, and forgets every name.
    pub fn clean_up(&mut self) {
        for number in std::mem::take(&mut self.open) {
            files::close(number);
        }
        let spans = std::mem::take(&mut self.spans);
        self.descriptors.clear();
        self.mappings.clear();
        self.processes.clear();
        for (start, end) in spans {
            self.release(start, end);
        }
    }

    fn name(path: Path) -> String {
        format!("f{}", path.0)
    }
}

/// The bytes that a mapping of this length takes up; a length that no kernel may grant counts as the page that a wrong one has mapped.
fn extent(len: usize) -> usize {
    let page = super::page::page();
    match len.checked_next_multiple_of(page) {
        Some(extent) if extent > 0 && extent <= isize::MAX as usize => extent,
        _ => page,
    }
}

fn set<T: Clone>(table: &mut Vec<T>, index: u16, value: T, absent: T) {
    let index = usize::from(index);
    if table.len() <= index {
        table.resize(index + 1, absent);
    }
    table[index] = value;
}

/// The outcome of a call with or without a value.
fn outcome<T>(result: rustix::io::Result<T>, value: impl FnOnce(T) -> Outcome) -> Outcome {
    match result {
        Ok(success) => value(success),
        Err(errno) => Outcome::Refused(errno.raw_os_error()),
    }
}

fn done(result: rustix::io::Result<()>) -> Outcome {
    outcome(result, |()| Outcome::DONE)
}

fn value(result: rustix::io::Result<usize>) -> Outcome {
    outcome(result, |count| Outcome::Value(count as u64))
}

/// The errno of libc, for a call that rustix does not have.
fn errno() -> Outcome {
    std::io::Error::last_os_error().into()
}
