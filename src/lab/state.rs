//! What a lab keeps of a case: names given, actors started, files made, and the address space as it was.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::processes::Processes;
use crate::kernel::arena;
use crate::kernel::call::{ActorId, At, Call, Fd, Library, MapId, MmapArgs, Path};
use crate::kernel::environment;
use crate::kernel::machine;
use crate::kernel::names;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, page};
use crate::kernel::perform::Performer;
use crate::kernel::process::ProcessId;

/// How many pages of the arena are looked at after a refused call.
const WATCHED: usize = 64;

#[derive(Debug)]
pub(super) struct State {
    pub(super) performer: Performer,
    pub(super) processes: Processes,
    arena: usize,
    holes: Vec<(usize, usize)>,
    /// Whether pages of the arena itself have been unmapped or given rights.
    arena_changed: bool,
    statm: Option<OwnedFd>,
    /// How many bytes have come back from calls since the heap was trimmed.
    received: usize,
    fds: u16,
    maps: u16,
    paths: u16,
    made: Vec<Path>,
    /// Files of this case that are handed out as new ones again in the next.
    kept: Vec<Path>,
    /// Empty files of cases before: to make one anew costs more than most of what is tried with it.
    spare: Vec<Path>,
}

/// What a refused call must leave as it was.
#[derive(PartialEq, Eq)]
enum Fingerprint {
    /// Pages of address space in use, as /proc/self/statm counts them.
    Pages(u64),
    /// Where that cannot be had: whether the first pages of the arena are mapped throughout.
    Arena(bool),
}

impl State {
    pub(super) fn new(case_limit: Duration, mut private: Vec<i32>) -> State {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        // What a translator maps for itself is counted with what its program has.
        let statm = (!machine::is_translated())
            .then(|| rustix::fs::open("/proc/self/statm", flags, rustix::fs::Mode::empty()).ok())
            .flatten();
        let before = statm.as_ref().and_then(pages_in_use);
        let arena = arena::reserve(0, arena::LENGTH);
        // Not every kernel that has the file counts in it.
        let statm = statm.filter(|statm| arena == 0 || pages_in_use(statm) > before);
        private.extend(statm.as_ref().map(std::os::fd::AsRawFd::as_raw_fd));
        State {
            performer: Performer::new(arena),
            processes: Processes::new(case_limit, private),
            arena,
            holes: Vec::new(),
            arena_changed: false,
            statm,
            received: 0,
            fds: 0,
            maps: 0,
            paths: 0,
            made: Vec::new(),
            kept: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub(super) fn arena(&self) -> usize {
        self.arena
    }

    pub(super) fn next_fd(&mut self) -> Fd {
        self.fds += 1;
        Fd::Named(self.fds)
    }

    pub(super) fn next_map(&mut self) -> MapId {
        self.maps += 1;
        MapId(self.maps)
    }

    /// A name that no file has.
    pub(super) fn next_path(&mut self) -> Path {
        self.paths += 1;
        let path = Path(self.paths);
        if self.spare.contains(&path) {
            self.spare.retain(|spare| *spare != path);
            let _ = rustix::fs::unlink(format!("{path}"));
        }
        path
    }

    /// A name for a new file of the worker's, which may stand for an empty file of a case before.
    pub(super) fn next_file(&mut self) -> Path {
        self.paths += 1;
        let path = Path(self.paths);
        self.kept.push(path);
        path
    }

    /// Empties the files that are to be had again; what is no longer a plain file of its own is removed.
    fn keep_files(&mut self) {
        use rustix::fs::{FileType, Mode, OFlags, fstat, open, unlink};
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for path in std::mem::take(&mut self.kept) {
            let name = format!("{path}");
            let empty = open(&name, flags, Mode::empty()).and_then(|fd| fstat(&fd));
            let plain = |stat: &rustix::fs::Stat| {
                FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                    && stat.st_nlink == 1
                    && stat.st_size == 0
            };
            self.spare.retain(|spare| *spare != path);
            if empty.is_ok_and(|stat| plain(&stat)) {
                self.spare.push(path);
            } else {
                let _ = unlink(&name);
            }
        }
    }

    pub(super) fn open_hole(&mut self, at: usize, len: usize) {
        arena::open_hole(self.arena + at, len);
        self.holes.push((at, len));
    }

    /// Performs a call; beside its outcome, what a refused one has changed all the same.
    pub(super) fn perform(&mut self, actor: ActorId, call: &Call) -> (Outcome, Option<String>) {
        let (outcome, disturbance) = self.performed(actor, call);
        if let Outcome::Bytes(bytes) = &outcome {
            self.received += bytes.len();
        }
        (outcome, disturbance)
    }

    fn performed(&mut self, actor: ActorId, call: &Call) -> (Outcome, Option<String>) {
        self.remember_files(call);
        if let Call::Wait { actor: child } = call {
            return (self.processes.wait(actor, *child), None);
        }
        if actor != ActorId(0) {
            return (self.processes.ask(actor, call), None);
        }
        if !changes_the_address_space(call) {
            return (self.performer.perform(call), None);
        }
        let before = self.fingerprint();
        let outcome = self.performer.perform(call);
        // A mapping in the arena is taken back by itself; one that was refused late may have left a hole.
        let changed = match call {
            Call::Mmap { .. } => outcome.errno().is_some_and(|errno| may_have_begun(call, errno)),
            _ => outcome.is_success(),
        };
        self.arena_changed |= changed && self.reaches_the_arena(call);
        let disturbance = match outcome {
            Outcome::Refused(errno) if !may_have_begun(call, errno) => {
                let after = self.fingerprint();
                (before != after).then(|| difference(&before, &after, errno))
            }
            _ => None,
        };
        (outcome, disturbance)
    }

    /// A child of any actor, or of the worker.
    pub(super) fn fork(&mut self, parent: ActorId, survives: bool) -> (ActorId, Outcome) {
        const MUCH: usize = 256 << 10;
        if self.received >= MUCH {
            self.received = 0;
            environment::trim_heap();
        }
        self.processes.fork(&mut self.performer, parent, survives)
    }

    /// A process of a program of its own.
    pub(super) fn peer(&mut self) -> Result<(ActorId, ProcessId), Lack> {
        self.processes.peer(&mut self.performer)
    }

    /// Orders a call, and sends a descriptor of the worker's after it.
    pub(super) fn hand(&mut self, to: ActorId, call: &Call, of: Fd) -> Outcome {
        self.processes.hand(&self.performer, to, call, of)
    }

    fn reaches_the_arena(&self, call: &Call) -> bool {
        if let Call::Mremap { new, to, .. } = call
            && self.is_in_the_arena(*to, *new)
        {
            return true;
        }
        let (Call::Munmap { at, len }
        | Call::Mprotect { at, len, .. }
        | Call::Mremap { at, old: len, .. }
        | Call::Mmap { args: MmapArgs { at, len, .. }, .. }) = call
        else {
            return false;
        };
        self.is_in_the_arena(*at, *len)
    }

    fn is_in_the_arena(&self, at: At, len: Size) -> bool {
        let start = self.performer.address(at);
        self.arena != 0 && start < self.arena + arena::LENGTH && self.arena < start.saturating_add(len.get())
    }

    fn fingerprint(&self) -> Fingerprint {
        let arena = || self.arena != 0 && self.performer.is_mapped(self.arena, WATCHED);
        self.address_space().map_or_else(|| Fingerprint::Arena(arena()), Fingerprint::Pages)
    }

    /// The pages of address space in use (proc(5), /proc/PID/statm, size); `None` without /proc.
    pub(super) fn address_space(&self) -> Option<u64> {
        self.statm.as_ref().and_then(pages_in_use)
    }

    fn remember_files(&mut self, call: &Call) {
        match call {
            Call::Open { flags, .. } if flags & libc::O_CREAT as u32 == 0 => {}
            Call::Open { path, .. }
            | Call::Mkfifo { path, .. }
            | Call::Mkdir { path, .. }
            | Call::Rename { to: path, .. }
            | Call::Link { to: path, .. }
            | Call::Symlink { path, .. }
                if !self.made.contains(path) =>
            {
                self.made.push(*path);
            }
            _ => {}
        }
    }

    pub(super) fn end_case(&mut self) {
        self.processes.end_all();
        self.performer.clean_up();
        let kept = std::mem::take(&mut self.kept);
        for path in self.made.drain(..).rev().filter(|path| !kept.contains(path)) {
            let name = format!("{path}");
            if rustix::fs::unlink(&name).is_err() {
                let _ = rustix::fs::rmdir(&name);
            }
        }
        self.kept = kept;
        self.keep_files();
        for (at, len) in self.holes.drain(..) {
            arena::reserve(self.arena + at, len);
        }
        if std::mem::take(&mut self.arena_changed) {
            arena::reserve(self.arena, arena::LENGTH);
        }
        (self.fds, self.maps, self.paths) = (0, 0, 0);
    }
}

/// Whether a call that is refused with this errno is one that can change the address space, and may not have.
pub fn leaves_the_address_space(call: &Call, errno: i32) -> bool {
    changes_the_address_space(call) && !may_have_begun(call, errno)
}

fn changes_the_address_space(call: &Call) -> bool {
    matches!(
        call,
        Call::Mmap { .. }
            | Call::Munmap { .. }
            | Call::Mprotect { .. }
            | Call::Mremap { .. }
            | Call::Library(Library::Mmap { .. })
    )
}

/// Whether a call that was refused with this errno may have done a part of its work before, as the manual pages have it:
/// a fixed mapping that is refused by the file's own rules has unmapped the range already, and mprotect over a range with
/// a part that is not there, or that may not be so, has done the part before (mmap(2), mprotect(2)).
fn may_have_begun(call: &Call, errno: i32) -> bool {
    match call {
        Call::Mmap { args, .. } => {
            args.flags.has(names::FIXED)
                && matches!(errno, libc::ENOMEM | libc::ENODEV | libc::EOPNOTSUPP | libc::EPERM | libc::EAGAIN)
        }
        Call::Mprotect { .. } => matches!(errno, libc::ENOMEM | libc::EACCES),
        Call::Mremap { .. } => matches!(errno, libc::ENOMEM | libc::EFAULT | libc::EAGAIN),
        _ => false,
    }
}

/// The pages of address space in use, by an open /proc/self/statm.
fn pages_in_use(statm: &OwnedFd) -> Option<u64> {
    let mut text = [0_u8; 64];
    let count = rustix::io::pread(statm, &mut text, 0).ok()?;
    let digits = text[..count].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn difference(before: &Fingerprint, after: &Fingerprint, errno: i32) -> String {
    let errno = names::errno(errno);
    let (Fingerprint::Pages(before), Fingerprint::Pages(after)) = (before, after) else {
        return format!("{errno}, and yet a part of the arena was mapped or unmapped");
    };
    let sign = if after > before { "more" } else { "fewer" };
    let pages = after.abs_diff(*before);
    format!("{errno}, and yet {pages} pages {sign} are mapped than before ({} bytes)", pages as usize * page())
}
