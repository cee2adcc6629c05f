//! What a child has of its parent at fork.

use std::cell::RefCell;
use std::rc::Rc;

use libc::{MADV_DONTNEED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_WRITE};

use crate::tracer::call::{LENGTH, MMAP, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_up};
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::anonymous;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "fork-shared-is-private",
        correct: "a shared file mapping made before fork is shared with the child",
        wrong: "the child has a private copy",
        subtle: PLAIN,
        claims: &["fork.shared-file-mapping", "program.parent-child-string", "file.related-beyond-size"],
        make: || on_fork(|_, child| each_shared_file(child, detach_all)),
    },
    Defect {
        name: "fork-shared-is-private-in-the-second-child",
        correct: "a shared file mapping made before fork is shared with every child",
        wrong: "the second child has a private copy",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                if child.process().ordinal % 2 == 0 {
                    each_shared_file(child, detach_all);
                }
            })
        },
    },
    Defect {
        name: "fork-shared-is-private-in-grandchildren",
        correct: "a shared file mapping is shared with a child's children too",
        wrong: "they have a private copy",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                if child.process().generation > 1 {
                    each_shared_file(child, detach_all);
                }
            })
        },
    },
    Defect {
        name: "fork-shared-but-the-last-page",
        correct: "a shared file mapping made before fork is shared with the child",
        wrong: "of the last of several pages the child has a private copy",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                each_shared_file(child, |child, mapping| {
                    if mapping.length() > page() {
                        let last = mapping.range.end - page();
                        child.detach(last, page(), mapping.protection);
                    }
                });
            })
        },
    },
    Defect {
        name: "fork-shared-anonymous-is-private",
        correct: "shared anonymous memory is shared with the child",
        wrong: "the child has a private copy",
        subtle: PLAIN,
        claims: &["anon.shared-with-child", "program.anonymous-string"],
        make: || {
            on_fork(|_, child| {
                for mapping in shared_anonymous(child) {
                    detach_all(child, &mapping);
                }
            })
        },
    },
    Defect {
        name: "fork-shared-anonymous-is-private-in-the-second-child",
        correct: "shared anonymous memory is shared with every child",
        wrong: "the second child has a private copy",
        subtle: SUBTLE,
        claims: &["anon.shared-with-child"],
        make: || {
            on_fork(|_, child| {
                if child.process().ordinal % 2 == 0 {
                    for mapping in shared_anonymous(child) {
                        detach_all(child, &mapping);
                    }
                }
            })
        },
    },
    Defect {
        name: "fork-loses-mappings",
        correct: "the child has the parent's mappings",
        wrong: "it has no shared mapping of a file",
        subtle: PLAIN,
        claims: &["fork.inherits-mapping-address"],
        make: || {
            on_fork(|_, child| {
                each_shared_file(child, |child, mapping| {
                    child.count();
                    child.unmap(mapping.range.start, mapping.length());
                });
            })
        },
    },
    Defect {
        name: "fork-moves-mappings",
        correct: "the child has the mapping at the same address",
        wrong: "it has it elsewhere",
        subtle: SUBTLE,
        claims: &["fork.inherits-mapping-address"],
        make: || on_fork(|_, child| each_shared_file(child, go_elsewhere)),
    },
    Defect {
        name: "fork-makes-read-only",
        correct: "the child may store where the parent may",
        wrong: "its shared mappings of files are for reading",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                each_shared_file(child, |child, mapping| {
                    child.count();
                    let rights = mapping.protection & !bits(PROT_WRITE);
                    child.protect(mapping.range.start, mapping.length(), rights);
                });
            })
        },
    },
    Defect {
        name: "fork-forgets-private-stores",
        correct: "the child sees what the parent stored through a private mapping before fork",
        wrong: "it sees the file",
        subtle: SUBTLE,
        claims: &["fork.private-mapping"],
        make: || {
            on_fork(|_, child| {
                for mapping in child.tested_mappings() {
                    if !mapping.shared {
                        child.count();
                        forget(child, mapping.range.start, mapping.length());
                    }
                }
            })
        },
    },
    Defect {
        name: "fork-forgets-private-anonymous",
        correct: "the child sees what the parent stored in private anonymous memory before fork",
        wrong: "it sees zeros",
        subtle: SUBTLE,
        claims: &["anon.private-copy-on-write"],
        make: || {
            let made = Rc::new(RefCell::new(Vec::new()));
            let known = Rc::clone(&made);
            several([
                on(MMAP).when(anonymous).when(|_, c| c.is_private() && c.wants(PROT_WRITE)).after_success(
                    move |t, c, result| {
                        let length = page_up(c.args[LENGTH]);
                        made.borrow_mut().push((t.id(), *result as u64, length));
                    },
                ),
                on_fork(move |parent, child| {
                    for (process, start, length) in known.borrow().iter() {
                        if *process == parent {
                            forget(child, *start, *length);
                        }
                    }
                }),
            ])
        },
    },
    Defect {
        name: "fork-descriptors-have-offsets",
        correct: "parent and child share the offset of an inherited descriptor",
        wrong: "the child has one of its own",
        subtle: PLAIN,
        claims: &["fork.descriptor-shared"],
        make: || on_fork(|_, child| own_offsets(child)),
    },
    Defect {
        name: "fork-descriptors-have-offsets-in-the-second-child",
        correct: "parent and children share the offset of an inherited descriptor",
        wrong: "the second child has one of its own",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on_fork(|_, child| {
                if child.process().ordinal % 2 == 0 {
                    own_offsets(child);
                }
            })
        },
    },
];

pub(super) fn detach_all(child: &mut Tracee, mapping: &Mapping) {
    child.detach(mapping.range.start, mapping.length(), mapping.protection);
}

pub(super) fn each_shared_file(child: &mut Tracee, each: impl Fn(&mut Tracee, &Mapping)) {
    for mapping in child.tested_mappings() {
        if mapping.shared {
            each(child, &mapping);
        }
    }
}

pub(super) fn shared_anonymous(child: &Tracee) -> Vec<Mapping> {
    let mut mappings = child.mappings();
    mappings.retain(|mapping| mapping.shared && mapping.name.starts_with("/dev/zero (deleted)"));
    mappings
}

/// Puts a mapping at a place that the kernel chooses.
fn go_elsewhere(child: &mut Tracee, mapping: &Mapping) {
    let length = mapping.length();
    let place = [0, length, bits(PROT_NONE), bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), u64::MAX, 0];
    let to = child.perform(libc::SYS_mmap, place);
    let how = bits(MREMAP_MAYMOVE | MREMAP_FIXED);
    let from = mapping.range.start;
    child.perform(libc::SYS_mremap, [from, length, length, how, to as u64, 0]);
    child.count();
}

/// Has private memory go back to what it was when it was mapped.
fn forget(child: &mut Tracee, start: u64, length: u64) {
    let advice = bits(MADV_DONTNEED);
    child.perform(libc::SYS_madvise, [start, length, advice, 0, 0, 0]);
    child.count();
}

/// Opens anew every regular file that the child inherited.
fn own_offsets(child: &mut Tracee) {
    for descriptor in child.descriptors() {
        if !child.is_tested_file(descriptor) {
            continue;
        }
        if let Some((flags, offset)) = child.open_file(descriptor) {
            let new = child.reopen_at(descriptor, flags, offset);
            let how = bits(flags & libc::O_CLOEXEC);
            child.perform(libc::SYS_dup3, [new as u64, descriptor, how, 0, 0, 0]);
            child.close(new);
            child.count();
        }
    }
}
