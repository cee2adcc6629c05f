//! Contents that are wrong only on one page, behind one descriptor, at one size, or on a later occasion.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use libc::{O_RDWR, PROT_READ, PROT_WRITE};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{
    BUFFER, CLOSE, COUNT, DESCRIPTOR, DUP, DUP2, FTRUNCATE, LSEEK, MMAP, OFFSET, PREAD, PROTECTION, PWRITE, READ, STAT,
};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::{On, on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, argument, file, of_file, opened, pages, prot, shared};

/// What goes between mappings, files and processes.
pub const SHARING: &[Defect] = &[
    Defect {
        name: "shared-but-the-fifth-page",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "those into its fifth page do not",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file"],
        make: || {
            on(MMAP).when(of_file).when(shared).when(opened(O_RDWR)).when(pages(5..)).after_success(|t, c, result| {
                t.detach(*result as u64 + 4 * page(), page(), c.args[PROTECTION]);
            })
        },
    },
    Defect {
        name: "third-mapping-is-private",
        correct: "every MAP_SHARED mapping of a file is the same memory",
        wrong: "the third one that a process makes of a file is private",
        subtle: SUBTLE,
        claims: &["shared.same-memory-two-addresses", "shared.store-reaches-file"],
        make: || {
            on(MMAP).when(shared_file).when(|t, c| t.mappings_of(c.args[DESCRIPTOR]).len() == 2).change(make_private)
        },
    },
    Defect {
        name: "mapped-through-a-duplicate-is-private",
        correct: "what a descriptor was made by makes no difference to a mapping through it",
        wrong: "through one made by dup, MAP_SHARED is private",
        subtle: SUBTLE,
        claims: &["shared.store-visible-to-peers", "shared.file-write-visible"],
        make: || through_duplicates(make_private),
    },
    Defect {
        name: "last-page-in-part-is-private",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "those do not that are made through a mapping of the last page alone, if the file ends in it",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "file.store-does-not-extend"],
        make: || {
            on(MMAP)
                .when(shared_file)
                .when(|t, c| {
                    let size = t.status(c.args[DESCRIPTOR]).map_or(0, |status| status.len());
                    size % page() != 0 && c.args[OFFSET] == page_down(size) && c.args[OFFSET] > 0
                })
                .change(make_private)
        },
    },
    Defect {
        name: "write-up-to-a-page-boundary-is-short",
        correct: "write stores all the bytes that it counts",
        wrong: "where it begins inside of a page and ends with one, the last byte is lost",
        subtle: SUBTLE,
        claims: &["shared.file-write-visible"],
        make: || {
            on(PWRITE)
                .when(file(0))
                .when(|_, c| (c.args[3] + c.args[COUNT]).is_multiple_of(page()) && c.args[3] % page() != 0)
                .lose_the_last_byte()
        },
    },
    Defect {
        name: "read-over-two-boundaries-is-damaged",
        correct: "pread gives the file's bytes",
        wrong: "where it crosses two page boundaries, the first byte behind the second is changed",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "mmap.offset.zero-is-start"],
        make: || {
            on(PREAD).when(file(0)).after_success(|t, c, result| {
                let second = page_up(c.args[3] + 1) + page() - c.args[3];
                if *result as u64 > second {
                    flip(t, c.args[BUFFER] + second);
                }
            })
        },
    },
];

/// Memory without a file.
pub const ANONYMOUS: &[Defect] = &[
    Defect {
        name: "anonymous-page-32-not-zero",
        correct: "anonymous memory starts as zeros",
        wrong: "a byte of its 32nd page does not",
        subtle: SUBTLE,
        claims: &["anon.zeroed"],
        make: || {
            on(MMAP).when(settled_anonymous).when(pages(32..)).after_success(|t, _, result| {
                flip(t, *result as u64 + 32 * page() - 7);
            })
        },
    },
    Defect {
        name: "anonymous-shared-of-four-pages-is-private",
        correct: "MAP_SHARED|MAP_ANONYMOUS is shared with a child",
        wrong: "of exactly four pages it is private",
        subtle: SUBTLE,
        claims: &["anon.shared-with-child"],
        make: || on(MMAP).when(settled_anonymous).when(shared).when(pages(4..=4)).change(make_private),
    },
    Defect {
        name: "anonymous-shared-but-the-middle-page",
        correct: "MAP_SHARED|MAP_ANONYMOUS is shared with a child",
        wrong: "of three pages and more, the second is private",
        subtle: SUBTLE,
        claims: &["anon.shared-with-child"],
        make: || {
            on(MMAP)
                .when(settled_anonymous)
                .when(shared)
                .when(prot(PROT_READ | PROT_WRITE))
                .when(pages(3..))
                .after_success(|t, c, result| t.detach(*result as u64 + page(), page(), c.args[PROTECTION]))
        },
    },
];

/// Files and their sizes.
pub const FILES: &[Defect] = &[
    Defect {
        name: "second-growth-not-zero",
        correct: "bytes that ftruncate adds read as zero",
        wrong: "the second time that a file grows, the last of them is 0xee",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate"],
        make: || {
            let mut grown: HashMap<u64, u32> = HashMap::new();
            on(FTRUNCATE).when(file(0)).carrying(
                |t, c| t.status(c.args[0]).ok().map(|status| status.len()).filter(|old| *old < c.args[1]),
                move |t, c, _, result| {
                    let times = grown.entry(t.inode(c.args[0])).or_default();
                    *times += u32::from(*result == 0);
                    if *result == 0
                        && *times == 2
                        && let Ok(file) = t.file(c.args[0], true)
                        && std::os::unix::fs::FileExt::write_at(&file, &[0xee], c.args[1] - 1).is_ok()
                    {
                        t.count();
                    }
                },
            )
        },
    },
    Defect {
        name: "ftruncate-to-two-pages-is-one-less",
        correct: "ftruncate sets the size to the byte",
        wrong: "two whole pages or more are one byte less",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate", "mmap.length.file-size"],
        make: || {
            on(FTRUNCATE)
                .when(file(0))
                .when(|_, c| c.args[1].is_multiple_of(page()) && (2 * page()..1 << 40).contains(&c.args[1]))
                .change(|_, c| c.args[1] -= 1)
        },
    },
    Defect {
        name: "ftruncate-of-mapped-rounds-up",
        correct: "ftruncate sets the size to the byte",
        wrong: "a file that the process has mapped shrinks to whole pages only",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate", "fault.beyond-end-of-file"],
        make: || {
            on(FTRUNCATE)
                .when(file(0))
                .when(|t, c| t.status(c.args[0]).is_ok_and(|status| status.len() > c.args[1]))
                .when(|t, c| !t.mappings_of(c.args[0]).is_empty())
                .change(|_, c| c.args[1] = page_up(c.args[1]))
        },
    },
    Defect {
        name: "size-of-unlinked-is-zero",
        correct: "fstat tells the size of a file that has no name any more",
        wrong: "it tells 0",
        subtle: SUBTLE,
        claims: &["lifetime.unlinked-file"],
        make: || {
            use std::os::unix::fs::MetadataExt as _;
            on(STAT)
                .when(file(0))
                .when(|t, c| t.status(c.args[0]).is_ok_and(|status| status.nlink() == 0))
                .after_success(|t, c, _| {
                    let (buffer, _, size_at) = c.status_layout();
                    t.set_number_at(buffer + size_at, 0);
                })
        },
    },
    Defect {
        name: "lseek-back-from-the-end-is-one-off",
        correct: "lseek with SEEK_END counts from the file's end",
        wrong: "with a negative offset it ends up one byte later",
        subtle: SUBTLE,
        claims: &["mmap.length.file-size", "file.extend-with-lseek"],
        make: || {
            on(LSEEK)
                .when(file(0))
                .when(argument(2, libc::SEEK_END))
                .when(|_, c| (c.args[1] as i64) < 0)
                .change(|_, c| c.args[1] = c.args[1].wrapping_add(1))
        },
    },
    Defect {
        name: "end-of-a-file-is-for-good",
        correct: "a read gives what was added since one that met the end",
        wrong: "once a process has met the end of a file, its reads are 0",
        subtle: SUBTLE,
        claims: &["peer.plain-file", "fork.reopened-file"],
        make: || {
            let ended: Rc<RefCell<HashSet<(i32, u64)>>> = Rc::default();
            let met = Rc::clone(&ended);
            let at_end = |t: &Tracee, c: &Syscall| {
                let size = t.status(c.args[0]).map_or(0, |status| status.len());
                t.open_file(c.args[0]).is_some_and(|(_, offset)| offset >= size)
            };
            several([
                on(READ)
                    .when(file(0))
                    .when(move |t, c| {
                        met.borrow().contains(&(t.id(), t.inode(c.args[0]))) && !at_end(t, c) && c.args[COUNT] > 0
                    })
                    .answer(0),
                on(READ).when(file(0)).after(move |t, c, result| {
                    if *result == 0 && c.args[COUNT] > 0 {
                        ended.borrow_mut().insert((t.id(), t.inode(c.args[0])));
                    }
                }),
            ])
        },
    },
];

fn shared_file(tracee: &mut Tracee, call: &Syscall) -> bool {
    of_file(tracee, call) && call.is_shared() && opened(O_RDWR)(tracee, call)
}

fn settled_anonymous(tracee: &mut Tracee, call: &Syscall) -> bool {
    tracee.process().settled && anonymous(tracee, call)
}

fn make_private(_: &mut Tracee, call: &mut Syscall) {
    call.share(libc::MAP_PRIVATE);
}

/// Changes a byte of the task's memory.
fn flip(tracee: &Tracee, at: u64) {
    if let Ok(memory) = tracee.memory()
        && let Ok(byte) = memory.read(at, 1)
    {
        // The kernel has just put it there.
        let _ = memory.write(at, &[byte[0] ^ 1]);
    }
}

/// Changes shared mappings of files that are made through descriptors that dup made.
fn through_duplicates(change: fn(&mut Tracee, &mut Syscall)) -> Box<dyn Behaviour> {
    let made: Rc<RefCell<HashSet<(i32, u64)>>> = Rc::default();
    let [noted, forgotten, known] = [0; 3].map(|_| Rc::clone(&made));
    let note = move |on: On| {
        let noted = Rc::clone(&noted);
        on.after(move |t, _, result| {
            if *result >= 0 && t.is_tested_file(*result as u64) {
                noted.borrow_mut().insert((t.id(), *result as u64));
            }
        })
    };
    several([
        note(on(DUP).and(DUP2)),
        on(CLOSE).enter(move |t, c| {
            forgotten.borrow_mut().remove(&(t.id(), c.args[0]));
            Entry::Pass
        }),
        on(MMAP)
            .when(shared_file)
            .when(move |t, c| known.borrow().contains(&(t.id(), c.args[DESCRIPTOR])))
            .change(change),
    ])
}
