//! What processes can do to each other's memory, and where memory lies.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use libc::PROT_WRITE;

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{ADDRESS, LENGTH, MMAP, MUNMAP, READ, WRITE, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::engine::Pid;
use crate::tracer::memory::{Memory, page};
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::in_child;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "munmap-in-the-child-reaches-the-parent",
        correct: "each process unmaps for itself",
        wrong: "what a child unmaps is gone in its parent too",
        subtle: PLAIN,
        claims: &["fork.munmap-is-local"],
        make: || reaches_the_other(MUNMAP, Relation::Parent, |_, c, _| Some(*c)),
    },
    Defect {
        name: "munmap-in-the-parent-reaches-the-child",
        correct: "each process unmaps for itself",
        wrong: "of several pages that a parent unmaps, its children lose the last",
        subtle: SUBTLE,
        claims: &["fork.munmap-is-local"],
        make: || {
            reaches_the_other(MUNMAP, Relation::Children, |_, c, _| {
                let mut last = *c;
                last.args[ADDRESS] = c.range().end - page();
                last.args[LENGTH] = page();
                (c.pages() > 1).then_some(last)
            })
        },
    },
    Defect {
        name: "mapping-after-fork-reaches-the-parent",
        correct: "what a child maps after fork is not in its parent",
        wrong: "there is memory at that place in the parent too",
        subtle: SUBTLE,
        claims: &["fork.mapping-after-fork", "fork.no-access-to-others"],
        make: || {
            reaches_the_other(MMAP, Relation::Parent, |_, c, start| {
                let mut again = *c;
                again.args[ADDRESS] = start as u64;
                again.args[3] |= bits(libc::MAP_FIXED_NOREPLACE);
                c.is_anonymous().then_some(again)
            })
        },
    },
    Defect {
        name: "hint-above-3-gib-refused",
        correct: "on a 64-bit machine user space reaches far above 3 GiB",
        wrong: "a hint above 4 GiB is ENOMEM",
        subtle: PLAIN,
        claims: &["fork.user-space-3gib"],
        make: || {
            const FAR: u64 = 1 << 32;
            on(MMAP).when(|_, c| c.args[ADDRESS] > FAR && c.args[3] & bits(PLACED) == 0).refuse(libc::ENOMEM)
        },
    },
    Defect {
        name: "variables-are-shared",
        correct: "a variable that the child changes is unchanged in the parent",
        wrong: "what a child changes in the program's data is changed in its parent",
        subtle: PLAIN,
        claims: &["fork.global-variable", "program.fork-variable"],
        make: share_variables,
    },
    Defect {
        name: "other-memory-read-wrong",
        correct: "process_vm_readv, with permission, reads another process's memory",
        wrong: "its first byte is read as 0",
        subtle: SUBTLE,
        claims: &["fork.no-access-to-others"],
        make: || {
            on(&[libc::SYS_process_vm_readv]).after_success(|t, c, _| {
                if let Ok(memory) = t.memory()
                    && let Ok(first) = memory.read(c.args[1], 8)
                {
                    let address = u64::from_ne_bytes(first.try_into().unwrap_or_default());
                    // The kernel has just written there.
                    let _ = memory.write(address, &[0]);
                }
            })
        },
    },
];

/// Flags that make an address more than a hint.
const PLACED: i32 = libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Relation {
    Parent,
    Children,
}

/// After a successful call of one process, its relatives make a call too: when they next return from read or
/// write, or before any of their other calls on memory.
fn reaches_the_other(
    calls: &'static [libc::c_long],
    relation: Relation,
    what: fn(&mut Tracee, &Syscall, i64) -> Option<Syscall>,
) -> Box<dyn Behaviour> {
    let family: Rc<RefCell<HashMap<Pid, Pid>>> = Rc::default();
    let pending: Rc<RefCell<HashMap<Pid, Vec<Syscall>>>> = Rc::default();
    let (parents, due, left) = (Rc::clone(&family), Rc::clone(&pending), Rc::clone(&pending));
    let suffer = move |t: &mut Tracee| {
        let calls = due.borrow_mut().remove(&t.id()).unwrap_or_default();
        for call in calls {
            t.count();
            t.make(&call);
        }
    };
    several([
        on(calls).after(move |t, c, result| {
            if *result < 0 {
                return;
            }
            let Some(call) = what(t, c, *result) else {
                return;
            };
            for (child, parent) in parents.borrow().iter() {
                let other = match relation {
                    Relation::Parent if *child == t.id() => *parent,
                    Relation::Children if *parent == t.id() => *child,
                    _ => continue,
                };
                left.borrow_mut().entry(other).or_default().push(call);
            }
        }),
        on(READ)
            .and(WRITE)
            .and(&[libc::SYS_wait4, libc::SYS_recvfrom, libc::SYS_recvmsg])
            .after(move |t, _, _| suffer(t)),
        on_fork(move |parent, child| {
            family.borrow_mut().insert(child.id(), parent);
        }),
    ])
}

/// Before a child writes to anyone, its parent gets the words of the program's data that the child has changed.
///
/// Only words of which one value is neither an address nor a small number, so that the memory's own
/// management, which may lie there too, stays as it is.
fn share_variables() -> Box<dyn Behaviour> {
    let at_fork: Rc<RefCell<HashMap<Pid, Contents>>> = Rc::default();
    let before = Rc::clone(&at_fork);
    several([
        on_fork(move |_, child| {
            let data = program_data(child);
            at_fork.borrow_mut().insert(child.id(), data);
        }),
        on(WRITE).when(in_child).enter(move |t, _| {
            let mut before = before.borrow_mut();
            let now = program_data(t);
            if let Some(old) = before.insert(t.id(), now)
                && let (Some(now), Ok(parent)) = (before.get(&t.id()), Memory::of(t.process().parent))
            {
                for ((start, old), (_, new)) in old.iter().zip(now) {
                    for (place, word) in changed_words(old, new) {
                        // A parent that has gone has no data.
                        let _ = parent.write(start + place, word);
                    }
                }
            }
            Entry::Pass
        }),
    ])
}

/// The program's own data that can be written, and the zeros that follow it.
fn program_data(tracee: &Tracee) -> Contents {
    let program = std::fs::read_link(format!("/proc/{}/exe", tracee.id())).unwrap_or_default();
    let Ok(memory) = tracee.memory() else {
        return Vec::new();
    };
    let mut end = 0;
    let mut mappings = tracee.mappings();
    mappings.retain(|mapping| {
        let own = mapping.name == program || mapping.name.as_os_str().is_empty() && mapping.range.start == end;
        end = if own { mapping.range.end } else { 0 };
        own && mapping.protection & bits(PROT_WRITE) != 0
    });
    mappings
        .iter()
        .filter_map(|mapping| {
            let bytes = memory.read(mapping.range.start, mapping.length() as usize);
            Some((mapping.range.start, bytes.ok()?))
        })
        .collect()
}

fn changed_words<'a>(old: &[u8], new: &'a [u8]) -> impl Iterator<Item = (u64, &'a [u8])> {
    const ADDRESSES: u64 = 1 << 48;
    let large = |word: &[u8]| {
        let word = word.try_into().map_or(0, u64::from_ne_bytes);
        word >= ADDRESSES
    };
    old.chunks(8)
        .zip(new.chunks(8))
        .enumerate()
        .filter(move |(_, (old, new))| old != new && (large(old) || large(new)))
        .map(|(index, (_, new))| (8 * index as u64, new))
}

/// Where memory begins, and what it holds.
type Contents = Vec<(u64, Vec<u8>)>;
