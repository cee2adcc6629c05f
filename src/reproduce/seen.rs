//! Whether what came of a step that no rule judges by itself is what was seen, as C: what is expected later rests on it.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::expressions::{address, recall, size};
use super::{Program, order};
use crate::kernel::call::{At, Call, Library, MapId, MmapArgs};
use crate::kernel::names;
use crate::kernel::notation::made;
use crate::kernel::outcome::{Outcome, Stat};
use crate::kernel::page::{Size, page};
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

/// Where the inodes are kept of what stat(2) was asked of.
pub(super) const INODES: &str = "inode[";

/// A condition, with the statements it needs before it; `None` where it says nothing, or nothing rests on the step.
pub(super) fn condition(text: &mut String, program: &Program<'_>, index: usize) -> Option<String> {
    let step = &program.steps[index];
    let judged = !matches!(step.expect, None | Some(Expect::Success | Expect::Relation(_) | Expect::AnyOf(_)));
    if judged || matches!(step.call, Call::Fork { .. } | Call::Peer { .. }) {
        return None;
    }
    if program.departed.is_none() && !is_the_same_again(&step.call, &step.outcome) {
        return (step.expect.is_none() && step.outcome.is_success()).then(|| "!err".into());
    }
    // Nothing rests on the last step, nor on what was told late of a call in a row: the departure had been seen by then.
    let late = index + 1 == program.steps.len() || order::is_queued(step) && step.expect.is_none();
    if program.departed.is_none() && late {
        return None;
    }
    Some(match &step.outcome {
        Outcome::Refused(errno) => format!("err == {}", names::errno(*errno)),
        Outcome::Fault(fault) => format!("fault_signal == {}", names::signal(fault.signal)),
        Outcome::Bytes(list) => contents(text, program, list),
        Outcome::Mapped(seen) => placed(program, index, *seen),
        Outcome::Stat(stat) => {
            let _ = writeln!(text, "\t{INODES}{index}] = facts.st_ino;");
            facts(program, index, stat)
        }
        Outcome::Value(_)
            if matches!(step.call, Call::Store { .. } | Call::StoreWord { .. } | Call::StoreReturn { .. }) =>
        {
            "fault_signal == 0".into()
        }
        // How many faults there are depends on what the kernel maps around them.
        Outcome::Value(value) if matches!(step.call, Call::Touch { .. }) => {
            if *value == 0 { "got == 0" } else { "got != 0" }.into()
        }
        Outcome::Value(_) if made(&step.call).is_some() => "!err".into(),
        Outcome::Value(value) => format!("!err && got == {value:#x}l"),
        _ => return None,
    })
}

/// Whether a call that is made in the same situation has this outcome again, on any run and whoever else is at work.
fn is_the_same_again(call: &Call, outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Value(_) | Outcome::Refused(_) | Outcome::Fault(_) | Outcome::Bytes(_))
        && !matches!(
            call,
            Call::Touch { .. }
                | Call::PageFaults
                | Call::Mincore { .. }
                | Call::Smaps { .. }
                | Call::Status { .. }
                | Call::Cachestat { .. }
                | Call::Entries
                | Call::FetchAdd { .. }
                | Call::LockedAdd { .. }
                | Call::Library(_)
        )
}

fn contents(text: &mut String, program: &Program<'_>, list: &[u8]) -> String {
    let len = size(Size(list.len()));
    if list.len() < Outcome::KEPT {
        let octal: String = list.iter().map(|byte| format!("\\{byte:03o}")).collect();
        return format!("!err && got == {len} && !memcmp(buffer, \"{octal}\", {len})");
    }
    let _ = writeln!(text, "\t{}", recall("expected", list, &program.sources));
    // It may have been cut.
    let equal = if list.len() == Outcome::KEPT { ">=" } else { "==" };
    format!("!err && got {equal} (long)({len}) && !memcmp(buffer, expected, {len})")
}

/// What stat(2) said, and whether it is the file that it was asked of before.
fn facts(program: &Program<'_>, index: usize, stat: &Stat) -> String {
    let Stat { mode, size: bytes, links, inode, on_device } = stat;
    let mut text = format!(
        "!err && facts.st_mode == 0{mode:o} && facts.st_size == (long)({}) && facts.st_nlink == {links} && !!major(facts.st_dev) == {}",
        size(Size(*bytes as usize)),
        u8::from(*on_device)
    );
    let actor = program.steps[index].actor;
    for (at, before) in program.steps[..index].iter().enumerate().filter(|(_, before)| before.actor == actor) {
        if let (Outcome::Stat(other), None | Some(Expect::Relation(_) | Expect::Success)) =
            (&before.outcome, &before.expect)
        {
            // The number of a file that has gone may be that of the next one, or not.
            if program.steps[at..index]
                .iter()
                .any(|step| matches!(step.call, Call::Unlink { .. } | Call::Rename { .. }))
            {
                continue;
            }
            let same = if other.inode == *inode { "==" } else { "!=" };
            let _ = write!(text, " && {INODES}{index}] {same} {INODES}{at}]");
        }
    }
    text
}

/// Where a mapping was placed, in terms that hold in another run: by what was asked for, and by what it lies on.
fn placed(program: &Program<'_>, index: usize, seen: usize) -> String {
    const LOW: usize = 1 << 20;
    const NEAR: usize = 1 << 20;
    const HALF: usize = 1 << 31;
    let step = &program.steps[index];
    let mut text = format!("!err && got {} 0 && got % page == {}", equal(seen == 0), seen % page());
    let (hint, len) = asked_for(&step.call);
    match address_of(program, index, hint) {
        None | Some(0) => {}
        Some(_) if seen < LOW => {
            let _ = write!(text, " && got == {seen:#x}");
        }
        Some(wanted) => {
            let (wish, distance) = (address(hint), seen.abs_diff(wanted));
            let _ = match seen.cmp(&wanted) {
                Ordering::Equal => write!(text, " && (uintptr_t)got == {wish}"),
                Ordering::Less if distance <= NEAR => {
                    write!(text, " && (uintptr_t)got == {wish} - ({})", size(Size(distance)))
                }
                Ordering::Greater if distance <= NEAR => {
                    write!(text, " && (uintptr_t)got == {wish} + {}", size(Size(distance)))
                }
                Ordering::Less => write!(text, " && (uintptr_t)got < {wish}"),
                Ordering::Greater => write!(text, " && (uintptr_t)got > {wish}"),
            };
        }
    }
    if names_the_lower_half(&step.call) {
        let above = if seen + len.get() > HALF { ">" } else { "<=" };
        let _ = write!(text, " && got + (long)({}) {above} 1l << 31", size(len));
    }
    for (map, extent) in overlapped(program, index, seen, len) {
        let (len, extent) = (size(len), size(extent));
        let _ = write!(text, " && (uintptr_t)got < {map:?} + {extent} && {map:?} < (uintptr_t)got + {len}");
    }
    text
}

fn equal(holds: bool) -> &'static str {
    if holds { "==" } else { "!=" }
}

/// The address that a call asks for, and the length of what it makes, in bytes.
fn asked_for(call: &Call) -> (At, Size) {
    match call {
        Call::Mmap { args, .. } | Call::Library(Library::Mmap { args, .. }) => (args.at, args.len),
        Call::Mremap { new, to, flags, .. } if *flags & libc::MREMAP_FIXED as u32 != 0 => (*to, *new),
        Call::Mremap { at, new, .. } => (*at, *new),
        _ => (At::Null, Size::ZERO),
    }
}

fn names_the_lower_half(call: &Call) -> bool {
    const MAP_32BIT: u32 = 0x40;
    matches!(call, Call::Mmap { args: MmapArgs { flags, .. }, .. } if flags.0 & MAP_32BIT != 0)
}

/// The number that a name stood for when the outcomes were seen.
fn address_of(program: &Program<'_>, index: usize, at: At) -> Option<usize> {
    match at {
        At::Null => Some(0),
        At::Number(number) => Some(number),
        At::Arena(distance) => (program.arena != 0).then(|| program.arena.wrapping_add(distance)),
        At::Map(map, distance) => {
            let base = program.steps[..index].iter().rev().find_map(|step| made_at(step).filter(|made| made.0 == map));
            base.map(|(_, start, _)| start.wrapping_add_signed(distance))
        }
        At::Variable(..) => None,
    }
}

/// The mapping that a step made: where, and of what length.
fn made_at(step: &Step) -> Option<(MapId, usize, Size)> {
    let Outcome::Mapped(start) = step.outcome else { return None };
    match &step.call {
        Call::Mmap { map, .. } | Call::Mremap { map, .. } | Call::Library(Library::Mmap { map, .. }) => {
            Some((*map, start, asked_for(&step.call).1))
        }
        _ => None,
    }
}

/// The mappings of the same process that lay where this one was placed.
fn overlapped(program: &Program<'_>, index: usize, seen: usize, len: Size) -> Vec<(MapId, Size)> {
    let actor = program.steps[index].actor;
    let before = program.steps[..index].iter().filter(|step| step.actor == actor).filter_map(made_at);
    let overlaps = |start: usize, extent: usize| seen < start + extent && start < seen + len.get();
    before
        .map(|(map, start, len)| (map, start, len.round_up()))
        .filter(|(_, start, extent)| overlaps(*start, extent.get()))
        .map(|(map, _, extent)| (map, extent))
        .collect()
}
