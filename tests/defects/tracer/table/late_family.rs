//! fork and descriptors that go wrong only in a later child or call, for one mapping or file of several, or for large numbers.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use libc::{EBADF, EINVAL, MADV_DONTNEED, PROT_READ, PROT_WRITE};

use crate::tracer::behaviour::Entry;
use crate::tracer::call::{COUNT, DUP, FTRUNCATE, LSEEK, MPROTECT, PREAD, PROTECTION, PWRITE, READ, WRITE, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page};
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, every, file};

/// fork.
pub const FORKS: &[Defect] = &[
    Defect {
        name: "fork-shared-is-private-in-the-third-child",
        correct: "a shared file mapping made before fork is shared with every child",
        wrong: "the third child has a private copy",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                if child.process().ordinal % 3 == 0 {
                    each_shared(child, |child, hit| child.detach(hit.range.start, hit.length(), hit.protection));
                }
            })
        },
    },
    Defect {
        name: "fork-loses-the-third-mapping",
        correct: "the child has the parent's mappings",
        wrong: "of three shared mappings of files and more it lacks the third",
        subtle: SUBTLE,
        claims: &["fork.inherits-mapping-address"],
        make: || {
            on_fork(|_, child| {
                let hits: Vec<Mapping> = child.tested_mappings().into_iter().filter(|hit| hit.shared).collect();
                if let Some(third) = hits.get(2) {
                    child.count();
                    child.unmap(third.range.start, third.length());
                }
            })
        },
    },
    Defect {
        name: "fork-undoes-mprotect",
        correct: "the child's mappings have the rights that the parent's have",
        wrong: "those that mprotect had made read-only are writable",
        subtle: SUBTLE,
        claims: &["fork.inherits-mapping-address", "fork.shared-file-mapping"],
        make: || {
            let lowered: Rc<RefCell<HashSet<(i32, u64, u64)>>> = Rc::default();
            let known = Rc::clone(&lowered);
            several([
                on(MPROTECT).when(argument(PROTECTION, PROT_READ)).after(move |t, c, result| {
                    if *result == 0 {
                        let range = c.range();
                        lowered.borrow_mut().insert((t.id(), range.start, range.end));
                    }
                }),
                on_fork(move |parent, child| {
                    for hit in child.mappings() {
                        let meant = known.borrow().contains(&(parent, hit.range.start, hit.range.end));
                        if meant && hit.protection == bits(PROT_READ) {
                            child.count();
                            child.protect(hit.range.start, hit.length(), bits(PROT_READ | PROT_WRITE));
                        }
                    }
                }),
            ])
        },
    },
    Defect {
        name: "fork-forgets-the-third-page",
        correct: "the child sees what the parent stored through a private mapping before fork",
        wrong: "in the third page it sees the file",
        subtle: SUBTLE,
        claims: &["fork.private-mapping"],
        make: || {
            on_fork(|_, child| {
                for hit in child.tested_mappings() {
                    if !hit.shared && hit.length() > 2 * page() {
                        child.count();
                        let advice = bits(MADV_DONTNEED);
                        child.perform(libc::SYS_madvise, [hit.range.start + 2 * page(), page(), advice, 0, 0, 0]);
                    }
                }
            })
        },
    },
    Defect {
        name: "fork-descriptors-have-offsets-in-grandchildren",
        correct: "an inherited descriptor shares its offset with all that inherit it",
        wrong: "a child's child has one of its own",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on_fork(|_, child| {
                if child.process().generation > 1 {
                    own_offsets(child, 0);
                }
            })
        },
    },
    Defect {
        name: "fork-second-descriptor-has-an-offset",
        correct: "parent and child share the offset of every inherited descriptor",
        wrong: "of the second file that is open the child has one of its own",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared", "fork.reopened-file"],
        make: || on_fork(|_, child| own_offsets(child, 1)),
    },
    Defect {
        name: "fork-read-only-shared-is-copied",
        correct: "a shared file mapping made before fork is shared with the child",
        wrong: "one without PROT_WRITE is a copy",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                each_shared(child, |child, hit| {
                    if hit.protection == bits(PROT_READ) {
                        child.detach(hit.range.start, hit.length(), hit.protection);
                    }
                })
            })
        },
    },
];

/// Descriptors.
pub const DESCRIPTORS: &[Defect] = &[
    Defect {
        name: "descriptors-from-64-on-closed",
        correct: "a descriptor is good whatever its number",
        wrong: "reads and writes of files through one from 64 on are EBADF",
        subtle: SUBTLE,
        claims: &["mmap.fd.invalid"],
        make: || {
            on(READ).and(WRITE).and(PREAD).and(PWRITE).when(|_, c| c.args[0] as i32 >= 64).when(file(0)).refuse(EBADF)
        },
    },
    Defect {
        name: "duplicate-of-a-duplicate-has-an-offset",
        correct: "a descriptor made by dup shares the open file, its offset included",
        wrong: "one that is made of such a one has an offset of its own",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            let mut made: HashSet<(i32, u64)> = HashSet::new();
            on(DUP).when(file(0)).enter(move |t, c| {
                if made.contains(&(t.id(), c.args[0])) {
                    let (flags, offset) = t.open_file(c.args[0]).unwrap_or_default();
                    return Entry::Answer(t.reopen_at(c.args[0], flags, offset));
                }
                let new = t.make(c);
                made.insert((t.id(), new as u64));
                Entry::Answer(new)
            })
        },
    },
    Defect {
        name: "seventh-write-loses-a-byte",
        correct: "write stores all the bytes that it counts",
        wrong: "every seventh write to files lacks the last",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared", "fork.reopened-file", "peer.plain-file"],
        make: || {
            on(WRITE).when(file(0)).when(|_, c| c.args[COUNT] > 1).when(every(7)).carrying(
                |_, c| {
                    c.args[COUNT] -= 1;
                    Some(())
                },
                |t, c, (), result| {
                    *result += 1;
                    t.perform(libc::SYS_lseek, [c.args[0], 1, bits(libc::SEEK_CUR), 0, 0, 0]);
                },
            )
        },
    },
    Defect {
        name: "lseek-from-here-ignored",
        correct: "lseek with SEEK_CUR moves the offset",
        wrong: "it tells the right offset but leaves it where it was",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared", "sequences.one-process"],
        make: || {
            on(LSEEK).when(file(0)).when(argument(2, libc::SEEK_CUR)).when(|_, c| c.args[1] != 0).enter(|t, c| {
                let offset = t.open_file(c.args[0]).map_or(0, |(_, offset)| offset);
                Entry::Answer(offset as i64 + c.args[1] as i64)
            })
        },
    },
    Defect {
        name: "size-beyond-2-gib-refused",
        correct: "files and offsets go beyond 2 GiB",
        wrong: "ftruncate to more is EINVAL",
        subtle: SUBTLE,
        claims: &["mmap.length.file-size"],
        make: || on(FTRUNCATE).when(|_, c| c.args[1] as i64 > i64::from(i32::MAX)).refuse(EINVAL),
    },
];

fn each_shared(child: &mut Tracee, each: impl Fn(&mut Tracee, &Mapping)) {
    for hit in child.tested_mappings() {
        if hit.shared {
            each(child, &hit);
        }
    }
}

/// Opens anew the regular files that the child inherited, but for so many of the first ones.
fn own_offsets(child: &mut Tracee, skip: usize) {
    let mut descriptors = child.descriptors();
    descriptors.sort_unstable();
    descriptors.retain(|descriptor| child.is_tested_file(*descriptor));
    let mut files: HashMap<u64, usize> = HashMap::new();
    for descriptor in descriptors {
        let count = files.len();
        let number = *files.entry(child.inode(descriptor)).or_insert(count);
        if let Some((flags, offset)) = child.open_file(descriptor).filter(|_| number >= skip) {
            let new = child.reopen_at(descriptor, flags, offset);
            child.perform(libc::SYS_dup3, [new as u64, descriptor, bits(flags & libc::O_CLOEXEC), 0, 0, 0]);
            child.close(new);
            child.count();
        }
    }
}
