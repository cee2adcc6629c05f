//! Mappings that go wrong for their neighbours and twins, after a failure, or where two conditions meet.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use libc::{
    EACCES, EEXIST, EINVAL, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, O_APPEND, O_RDONLY, O_RDWR, O_TRUNC, PROT_WRITE,
};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{
    ADDRESS, DESCRIPTOR, DUP2, FLAGS, FTRUNCATE, LENGTH, MMAP, MPROTECT, MSYNC, MUNMAP, OFFSET, OPEN, PROTECTION,
    WRITE, bits,
};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_down};
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{file, mapped_in_range, of_file, opened, pages, private, prot};

/// Where mappings go.
pub const PLACEMENT: &[Defect] = &[Defect {
    name: "noreplace-next-to-something-refused",
    correct: "MAP_FIXED_NOREPLACE places a mapping wherever its range is free",
    wrong: "it is EEXIST if something is mapped right behind the range",
    subtle: SUBTLE,
    claims: &["flag.fixed-discouraged"],
    make: || {
        on(MMAP)
            .when(|_, c| c.has(MAP_FIXED_NOREPLACE))
            .when(|t, c| mapped_in_range(t, c).is_empty() && t.mapping_at(c.range().end).is_some())
            .refuse(EEXIST)
    },
}];

/// Rights, and how mprotect sets them.
pub const PERMISSIONS: &[Defect] = &[
    Defect {
        name: "none-of-shared-files-stays-read-only",
        correct: "mprotect gives any right that the open mode permits",
        wrong: "not to write to a shared file that was mapped without any right",
        subtle: SUBTLE,
        claims: &["perm.prot-write", "perm.prot-combines"],
        make: || {
            on(MPROTECT)
                .when(prot(PROT_WRITE))
                .when(|t, c| {
                    let there = mapped_in_range(t, c);
                    let barred = |m: &Mapping| m.shared && m.inode != 0 && m.protection == 0;
                    there.iter().any(barred)
                })
                .refuse(EACCES)
        },
    },
    Defect {
        name: "mprotect-of-private-over-rdonly-refused",
        correct: "a private mapping of a file opened O_RDONLY may become writable",
        wrong: "mprotect is EACCES",
        subtle: SUBTLE,
        claims: &["perm.private-write-over-rdonly", "perm.not-above-open-mode"],
        make: || {
            let made: Rc<RefCell<HashSet<(i32, u64)>>> = Rc::default();
            let known = Rc::clone(&made);
            several([
                on(MMAP).when(of_file).when(private).when(opened(O_RDONLY)).after(move |t, _, result| {
                    if *result > 0 {
                        made.borrow_mut().insert((t.id(), *result as u64));
                    }
                }),
                on(MPROTECT)
                    .when(prot(PROT_WRITE))
                    .when(move |t, c| {
                        known.borrow().contains(&(t.id(), c.args[ADDRESS]))
                            && t.mapping_at(c.args[ADDRESS]).is_some_and(|hit| hit.inode != 0 && !hit.shared)
                    })
                    .refuse(EACCES),
            ])
        },
    },
    Defect {
        name: "mprotect-of-nothing-refused",
        correct: "mprotect of no bytes does nothing and succeeds",
        wrong: "it is EINVAL",
        subtle: SUBTLE,
        claims: &["perm.prot-combines", "perm.prot-read"],
        make: || on(MPROTECT).when(|_, c| c.args[LENGTH] == 0).refuse(EINVAL),
    },
    Defect {
        name: "none-of-files-is-anonymous",
        correct: "a file mapped with PROT_NONE shows its bytes once that is permitted",
        wrong: "from the second page of a file on, it is zeros",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-write", "perm.prot-combines"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|_, c| c.args[PROTECTION] == 0 && c.args[OFFSET] > 0 && c.args[OFFSET].is_multiple_of(page()))
                .change(|_, c| {
                    c.args[FLAGS] |= bits(MAP_ANONYMOUS);
                    c.args[DESCRIPTOR] = u64::MAX;
                })
        },
    },
];

/// What goes between mappings and files.
pub const SHARING: &[Defect] = &[
    Defect {
        name: "append-write-unseen-by-the-mapping",
        correct: "what write puts into the file is seen in the mapping",
        wrong: "not if it is appended, by O_APPEND",
        subtle: SUBTLE,
        claims: &["shared.file-write-visible"],
        make: || {
            on(WRITE).when(file(0)).when(appending).enter(|t, c| {
                for mapping in t.mappings_of(c.args[0]) {
                    if mapping.shared {
                        t.detach(mapping.range.start, mapping.length(), mapping.protection);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "shared-after-a-failure-is-private",
        correct: "a mmap that failed has no effect on those that follow",
        wrong: "the process's next mapping of a file is private",
        subtle: SUBTLE,
        claims: &["mmap.result.failed"],
        make: shared_after_a_failure_is_private,
    },
    Defect {
        name: "windows-at-other-offsets-are-private",
        correct: "every MAP_SHARED mapping of a file is the same memory",
        wrong: "one that begins elsewhere in the file than an earlier one is private",
        subtle: SUBTLE,
        claims: &["shared.same-memory-two-addresses", "shared.store-reaches-file"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|_, c| c.is_shared())
                .when(opened(O_RDWR))
                .when(|t, c| {
                    let others = t.mappings_of(c.args[DESCRIPTOR]);
                    !others.is_empty() && others.iter().all(|other| other.offset != c.args[OFFSET])
                })
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "unlinked-mapped-is-private",
        correct: "a file without a name can be mapped shared as any other",
        wrong: "the mapping is private",
        subtle: SUBTLE,
        claims: &["lifetime.unlinked-file"],
        make: || {
            use std::os::unix::fs::MetadataExt as _;
            on(MMAP)
                .when(of_file)
                .when(|_, c| c.is_shared())
                .when(|t, c| {
                    let nameless = t.status(c.args[DESCRIPTOR]).is_ok_and(|status| status.nlink() == 0);
                    nameless && !is_memfd(t, c)
                })
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
];

/// Files and their sizes.
pub const FILES: &[Defect] = &[
    Defect {
        name: "ftruncate-to-the-same-size-clears-the-last-byte",
        correct: "ftruncate to the size that the file has changes no byte",
        wrong: "the last one becomes zero",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate"],
        make: || {
            on(FTRUNCATE).when(file(0)).carrying(
                |t, c| t.status(c.args[0]).ok().filter(|status| status.len() == c.args[1] && c.args[1] > 0),
                |t, c, _, result| {
                    if *result == 0
                        && let Ok(file) = t.file(c.args[0], true)
                        && std::os::unix::fs::FileExt::write_at(&file, &[0], c.args[1] - 1).is_ok()
                    {
                        t.count();
                    }
                },
            )
        },
    },
    Defect {
        name: "open-trunc-ignored-while-mapped",
        correct: "O_TRUNC empties the file",
        wrong: "not while the process has it mapped",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file", "file.empty-refused"],
        make: || {
            on(OPEN)
                .when(|t, c| {
                    use std::os::unix::fs::MetadataExt as _;
                    let mut call = *c;
                    let truncates = *call.open_flags() & bits(O_TRUNC) != 0;
                    let inode =
                        t.path_argument(c).and_then(|path| std::fs::metadata(path).ok()).map(|status| status.ino());
                    truncates && t.tested_mappings().iter().any(|mapping| Some(mapping.inode) == inode)
                })
                .change(|_, c| *c.open_flags() &= !bits(O_TRUNC))
        },
    },
];

/// What munmap and close take away.
pub const UNMAPPING: &[Defect] = &[
    Defect {
        name: "munmap-leaves-the-second-of-three",
        correct: "munmap removes all that is mapped in its range",
        wrong: "of three mappings and more it leaves the second",
        subtle: SUBTLE,
        claims: &["munmap.releases", "munmap.length-must-match"],
        make: || {
            on(MUNMAP).when(|t, c| c.args[ADDRESS].is_multiple_of(page()) && mapped_in_range(t, c).len() >= 3).instead(
                |t, c| {
                    let (range, second) = (c.range(), mapped_in_range(t, c)[1].range.clone());
                    t.unmap(range.start, second.start - range.start);
                    t.unmap(second.end, range.end - second.end)
                },
            )
        },
    },
    Defect {
        name: "munmap-ends-sharing-of-twins",
        correct: "munmap ends the mapping of its range alone",
        wrong: "others of the same file, at the same offset, go on as private ones",
        subtle: SUBTLE,
        claims: &["lifetime.until-munmap", "munmap.releases"],
        make: || {
            on(MUNMAP).enter(|t, c| {
                let gone = mapped_in_range(t, c);
                for mapping in t.tested_mappings() {
                    let twin = |other: &Mapping| {
                        other.inode == mapping.inode && other.offset == mapping.offset && other.range != mapping.range
                    };
                    if mapping.shared && gone.iter().any(twin) && !gone.iter().any(|m| m.range == mapping.range) {
                        t.detach(mapping.range.start, mapping.length(), mapping.protection);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "dup2-over-a-descriptor-unmaps",
        correct: "closing a descriptor leaves its file's mappings",
        wrong: "where dup2 closes it, the mappings go too",
        subtle: SUBTLE,
        claims: &["lifetime.close-before-munmap", "lifetime.until-munmap"],
        make: || {
            on(DUP2).when(|t, c| t.is_tested_file(c.args[1])).when(|_, c| c.args[0] != c.args[1]).enter(|t, c| {
                for mapping in t.mappings_of(c.args[1]) {
                    t.unmap(mapping.range.start, mapping.length());
                }
                Entry::Pass
            })
        },
    },
];

/// msync.
pub const MSYNCS: &[Defect] = &[Defect {
    name: "msync-rounds-down",
    correct: "msync reaches every page that its range touches",
    wrong: "a length that ends inside of a page is rounded down, from two pages on",
    subtle: SUBTLE,
    claims: &["msync.sync-waits", "msync.makes-consistent"],
    make: || {
        on(MSYNC)
            .when(pages(2..))
            .when(|t, c| !c.args[LENGTH].is_multiple_of(page()) && mapped_in_range(t, c).len() == 1)
            .change(|_, c| c.args[LENGTH] = page_down(c.args[LENGTH]))
    },
}];

/// Forked processes.
pub const FORKS: &[Defect] = &[Defect {
    name: "fork-makes-none-readable",
    correct: "a child's mappings have the rights of its parent's",
    wrong: "a file mapped without any right can be read in the child",
    subtle: SUBTLE,
    claims: &["perm.prot-none", "fork.inherits-mapping-address"],
    make: || {
        on_fork(|_, child| {
            for mapping in child.tested_mappings() {
                if mapping.protection == 0 {
                    child.count();
                    child.protect(mapping.range.start, mapping.length(), bits(libc::PROT_READ));
                }
            }
        })
    },
}];

fn appending(tracee: &mut Tracee, call: &Syscall) -> bool {
    tracee.open_file(call.args[0]).is_some_and(|(flags, _)| flags & O_APPEND != 0)
}

/// Files that never had a name are none that have lost it.
fn is_memfd(tracee: &Tracee, call: &Syscall) -> bool {
    tracee.name(call.args[DESCRIPTOR]).as_os_str().as_encoded_bytes().starts_with(b"/memfd:")
}

fn shared_after_a_failure_is_private() -> Box<dyn Behaviour> {
    let failed: Rc<RefCell<HashSet<i32>>> = Rc::default();
    let due = Rc::clone(&failed);
    several([
        on(MMAP)
            .when(of_file)
            .when(|_, c| c.is_shared() && c.wants(PROT_WRITE) && c.args[LENGTH] > 0)
            .when(opened(O_RDWR))
            .when(move |t, _| due.borrow_mut().remove(&t.id()))
            .change(|_, c| c.share(libc::MAP_PRIVATE)),
        on(MMAP).when(|t, _| t.process().settled).after(move |t, _, result| {
            if *result < 0 {
                failed.borrow_mut().insert(t.id());
            }
        }),
    ])
}
