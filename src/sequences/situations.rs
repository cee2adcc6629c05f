//! Which calls have met which situations: what a soak has tried, and what it never did.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::kernel::call::{ActorId, Call};
use crate::kernel::page::page;
use crate::lab::expect::Expect;
use crate::model::{Object, Prediction, Rule, Source, World};

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
        Call::Fcntl { .. } => "fcntl",
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
        _ => "other",
    }
}

fn situation(world: &World, who: ActorId, call: &Call, prediction: &Prediction) -> String {
    if let Expect::Refused(errno) = prediction.expect {
        return crate::kernel::names::errno(errno);
    }
    if let Call::Mmap { args, .. } = call {
        let place = match (args.flags.has(crate::kernel::names::FIXED), args.at) {
            (true, _) => "fixed",
            (false, crate::kernel::call::At::Null) => "anywhere",
            _ => "hint",
        };
        let sharing = if args.flags.is_shared() { "shared" } else { "private" };
        let backing = if args.flags.has(crate::kernel::names::ANONYMOUS) { "anonymous" } else { "file" };
        return format!("{sharing} {backing}, {place}");
    }
    let memory = match call {
        Call::Load { at, .. }
        | Call::Store { at, .. }
        | Call::CompareExchange { at, .. }
        | Call::Munmap { at, .. }
        | Call::Mprotect { at, .. }
        | Call::Mremap { at, .. }
        | Call::Msync { at, .. }
        | Call::Madvise { at, .. } => world.address(who, *at),
        _ => None,
    };
    if let Some(address) = memory {
        return page_situation(world, who, address).into();
    }
    let file = crate::model::descriptor(call).and_then(|fd| world.open_file(who, fd));
    match file.map(|file| (file, file.object)) {
        Some((file, Object::File(inode))) => {
            let mapped = world.processes.iter().flat_map(|process| process.pages.values());
            let mapped = mapped.into_iter().any(|page| matches!(page.source, Source::File(of, _) if of == inode));
            let kind = if file.append { "appending file" } else { "file" };
            format!(
                "{kind}{}{}",
                if mapped { ", mapped" } else { "" },
                if file.references > 1 { ", duplicated" } else { "" }
            )
        }
        Some((_, Object::Pipe(pipe))) => {
            let pipe = &world.pipes[pipe];
            let filling = match pipe.len() {
                0 => "empty",
                len if len >= pipe.capacity * page() => "full",
                _ => "partly full",
            };
            let ends = match (pipe.readers, pipe.writers) {
                (0, _) => ", no reader",
                (_, 0) => ", no writer",
                _ => "",
            };
            format!("{filling} pipe{ends}")
        }
        None => format!("{} processes", world.processes.iter().filter(|process| process.alive).count()),
    }
}

fn page_situation(world: &World, who: ActorId, address: usize) -> &'static str {
    let Some(found) = world.process(who).pages.get(&(address / page())) else { return "nothing mapped" };
    if found.rights == crate::kernel::names::NONE {
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
        (true, ..) => "shared",
    }
}
