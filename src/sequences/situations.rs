//! Which calls have met which situations: what a soak has tried, and what it never did.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::cells;
use crate::kernel::call::{ActorId, At, Call, Path};
use crate::kernel::names;
use crate::kernel::page::page;
use crate::lab::expect::Expect;
use crate::model::{Object, OpenFile, Prediction, Rule, Source, World};

/// How often each pair of call and situation was met.
pub type Table = BTreeMap<(String, String), u64>;

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
    static RULES: RefCell<BTreeMap<Rule, u64>> = RefCell::default();
}

/// Counts a call in its situation.
pub(super) fn count(world: &World, who: ActorId, call: &Call, prediction: &Prediction) {
    let situation = situation(world, who, call, prediction);
    TABLE.with_borrow_mut(|table| *table.entry((name(call).into(), situation)).or_default() += 1);
    RULES.with_borrow_mut(|rules| *rules.entry(prediction.rule).or_default() += 1);
}

/// The counts since the last call of this.
pub fn take() -> Table {
    TABLE.take()
}

/// How often each rule has predicted an outcome since the last call of this.
pub fn take_rules() -> BTreeMap<Rule, u64> {
    RULES.take()
}

/// The pairs that a kernel can reach, for sequences of so many processes, and that were not met.
pub fn never_met(met: &Table, processes: usize) -> Vec<(String, String)> {
    cells::reachable(processes).into_iter().filter(|cell| !met.contains_key(cell)).collect()
}

/// The pairs that were met though none of those that a kernel can reach is like them.
pub fn undeclared(met: &Table, processes: usize) -> Vec<(String, String)> {
    let reachable = cells::reachable(processes);
    met.keys().filter(|cell| !reachable.contains(cell)).cloned().collect()
}

fn name(call: &Call) -> &'static str {
    match call {
        Call::Open { .. } => "open",
        Call::Close { .. } => "close",
        Call::Dup { .. } => "dup",
        Call::Dup2 { .. } => "dup2",
        Call::Lseek { .. } => "lseek",
        Call::Read { .. } => "read",
        Call::Write { .. } => "write",
        Call::Pread { .. } => "pread",
        Call::Pwrite { .. } => "pwrite",
        Call::Ftruncate { .. } => "ftruncate",
        Call::Unlink { .. } => "unlink",
        Call::Rename { .. } => "rename",
        Call::Mkfifo { .. } => "mkfifo",
        Call::Fcntl { command: libc::F_GETFL, .. } => "fcntl F_GETFL",
        Call::Fcntl { command: libc::F_SETPIPE_SZ, .. } => "fcntl F_SETPIPE_SZ",
        Call::Fcntl { .. } => "fcntl F_SETFL",
        Call::Fionread { .. } => "FIONREAD",
        Call::Poll { .. } => "poll",
        Call::Pipe { .. } => "pipe",
        Call::Mmap { .. } => "mmap",
        Call::Munmap { .. } => "munmap",
        Call::Mprotect { .. } => "mprotect",
        Call::Mremap { .. } => "mremap",
        Call::Msync { .. } => "msync",
        Call::Madvise { .. } => "madvise",
        Call::Load { .. } => "load",
        Call::Store { .. } => "store",
        Call::CompareExchange { .. } => "compare-exchange",
        Call::Fork { .. } => "fork",
        Call::Exit { .. } => "exit",
        Call::Wait { .. } => "wait",
        _ => "other",
    }
}

fn situation(world: &World, who: ActorId, call: &Call, prediction: &Prediction) -> String {
    if let Expect::Refused(errno) = prediction.expect {
        return names::errno(errno);
    }
    if prediction.expect == Expect::Blocked {
        return "waits".into();
    }
    match call {
        Call::Mmap { .. } => mmap_situation(call),
        Call::Load { at, .. }
        | Call::Store { at, .. }
        | Call::CompareExchange { at, .. }
        | Call::Munmap { at, .. }
        | Call::Mprotect { at, .. }
        | Call::Mremap { at, .. }
        | Call::Msync { at, .. }
        | Call::Madvise { at, .. } => {
            world.address(who, *at).map_or("nothing mapped", |address| page_situation(world, who, address)).into()
        }
        Call::Open { path, .. }
        | Call::Unlink { path }
        | Call::Rename { from: path, .. }
        | Call::Mkfifo { path, .. } => name_situation(world, *path).into(),
        _ => match crate::model::descriptor(call).and_then(|fd| world.open_file(who, fd)) {
            Some(file) => file_situation(world, file),
            None => cells::ALIVE[world.processes.iter().filter(|process| process.alive).count().clamp(1, 4) - 1].into(),
        },
    }
}

fn mmap_situation(call: &Call) -> String {
    let Call::Mmap { args, .. } = call else { return String::new() };
    let place = match args.at {
        _ if args.flags.has(names::FIXED) => "fixed",
        _ if args.flags.has(names::FIXED_NOREPLACE) => "fixed, nothing there",
        At::Null => "anywhere",
        _ => "hint",
    };
    let sharing = if args.flags.is_shared() { "shared" } else { "private" };
    let backing = if args.flags.has(names::ANONYMOUS) { "anonymous" } else { "file" };
    format!("{sharing} {backing}, {place}")
}

fn name_situation(world: &World, path: Path) -> &'static str {
    match world.names.get(&path) {
        None => "new name",
        Some(Object::Pipe(_)) => "FIFO",
        Some(Object::File(inode)) if is_mapped(world, *inode) => "mapped file",
        Some(object) if world.open_files.iter().any(|file| file.references > 0 && file.object == *object) => {
            "open file"
        }
        Some(_) => "file that is not open",
    }
}

fn is_mapped(world: &World, inode: usize) -> bool {
    let mut pages = world.processes.iter().flat_map(|process| process.pages.values());
    pages.any(|page| matches!(page.source, Source::File(of, _) if of == inode))
}

fn file_situation(world: &World, file: &OpenFile) -> String {
    match file.object {
        Object::File(inode) => {
            let kind = if file.append { "appending file" } else { "file" };
            let mapped = if is_mapped(world, inode) { ", mapped" } else { "" };
            format!("{kind}{mapped}{}", if file.references > 1 { ", duplicated" } else { "" })
        }
        Object::Pipe(pipe) => {
            let pipe = &world.pipes[pipe];
            let filling = match pipe.len() {
                _ if pipe.readers == 0 => "pipe without readers",
                0 if pipe.writers == 0 => "empty pipe without writers",
                0 => "empty pipe",
                _ if pipe.writers == 0 => "pipe with data, without writers",
                len if len >= pipe.capacity * page() => "full pipe",
                _ => "partly full pipe",
            };
            filling.into()
        }
    }
}

fn page_situation(world: &World, who: ActorId, address: usize) -> &'static str {
    let Some(found) = world.process(who).pages.get(&(address / page())) else { return "nothing mapped" };
    if found.rights == names::NONE {
        return "PROT_NONE";
    }
    match (found.shared, found.source, &found.copy) {
        (false, Source::Zero, None) => "private anonymous, untouched",
        (false, Source::Zero, Some(_)) => "private anonymous, stored to",
        (false, Source::File(..), Some(_)) => "private file, stored to",
        (shared, Source::File(inode, index), None) => {
            let size = world.inodes[inode].size;
            match (index * page() >= size, (index + 1) * page() > size, shared) {
                (true, _, _) => "beyond the file",
                (_, true, true) => "shared file, last page",
                (_, true, false) => "private file, last page",
                (_, _, true) => "shared file",
                (_, _, false) => "private file, untouched",
            }
        }
        (true, ..) => "shared memory that is no file's",
    }
}
