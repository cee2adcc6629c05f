//! MAP_SHARED and MAP_PRIVATE over files: what reaches the file, other mappings and other processes.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use libc::{MAP_PRIVATE, MAP_SHARED, O_RDONLY, O_RDWR, PROT_WRITE};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{
    ADDRESS, DESCRIPTOR, EXEC, EXIT, FLAGS, LENGTH, MMAP, MSYNC, MUNMAP, OFFSET, PROTECTION, bits,
};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::kept::Windows;
use crate::tracer::memory::{Mapping, page, page_up};
use crate::tracer::rule::{On, on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{
    in_child, in_peer, mapped_in_range, of_file, offset_pages, opened, pages, private, prot, shared,
};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "shared-is-private",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "they do not: it is private",
        subtle: PLAIN,
        claims: &[
            "shared.store-reaches-file",
            "shared.store-visible-to-peers",
            "shared.no-read-write-needed",
            "shared.transfer-without-kernel",
            "peer.non-blocking",
            "peer.no-synchronisation",
            "program.counter-records",
        ],
        make: || shared_file().change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "shared-is-private-at-offset",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "a mapping at an offset above 0 is private",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file"],
        make: || shared_file().when(offset_pages(1..)).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "shared-is-private-of-many-pages",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "a mapping of three pages and more is private",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file"],
        make: || shared_file().when(pages(3..)).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "shared-first-page-only",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "only those into its first page do",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file"],
        make: || {
            shared_file().when(pages(2..)).after_success(|t, c, result| {
                let rest = page_up(c.args[LENGTH]) - page();
                t.detach(*result as u64 + page(), rest, c.args[PROTECTION]);
            })
        },
    },
    Defect {
        name: "shared-but-the-last-page",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "those into the last of several pages do not",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "file.larger-than-data"],
        make: || {
            shared_file().when(pages(2..)).after_success(|t, c, result| {
                let last = *result as u64 + page_up(c.args[LENGTH]) - page();
                t.detach(last, page(), c.args[PROTECTION]);
            })
        },
    },
    Defect {
        name: "shared-but-the-second-mapping",
        correct: "every MAP_SHARED mapping of a file is the same memory",
        wrong: "the second one that a process makes of a file is private",
        subtle: SUBTLE,
        claims: &["shared.same-memory-two-addresses"],
        make: || {
            let mut made = HashMap::new();
            shared_file()
                .when(move |t, c| {
                    let file = (t.id(), t.inode(c.args[DESCRIPTOR]));
                    let count = made.entry(file).or_insert(0);
                    *count += 1;
                    *count == 2
                })
                .change(|_, c| c.share(MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-is-private-in-peers",
        correct: "unrelated processes exchange data through MAP_SHARED",
        wrong: "in a program that was executed apart the mapping is private",
        subtle: PLAIN,
        claims: &["peer.same-file"],
        make: || shared_file().when(in_peer).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "shared-is-private-in-children",
        correct: "a file mapped by both after fork is shared",
        wrong: "what a forked child maps is private",
        subtle: SUBTLE,
        claims: &["fork.mapping-after-fork"],
        make: || shared_file().when(in_child).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "reader-sees-no-updates",
        correct: "a reader with O_RDONLY and PROT_READ sees what is stored later",
        wrong: "it goes on seeing what the file held when it mapped it",
        subtle: SUBTLE,
        claims: &["peer.reader-rdonly"],
        make: || {
            on(MMAP).when(of_file).when(shared).when(opened(O_RDONLY)).after_success(|t, c, result| {
                t.detach(*result as u64, page_up(c.args[LENGTH]), c.args[PROTECTION]);
            })
        },
    },
    Defect {
        name: "shared-window-wraps",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "the last of three pages and more shows the file's first",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            shared_file().when(pages(3..)).after_success(|t, c, result| {
                let mut first = *c;
                first.args[ADDRESS] = *result as u64 + page_up(c.args[LENGTH]) - page();
                first.args[LENGTH] = page();
                first.args[FLAGS] |= bits(libc::MAP_FIXED);
                first.args[OFFSET] = 0;
                t.make(&first);
            })
        },
    },
    Defect {
        name: "written-back-at-munmap",
        correct: "a store through MAP_SHARED is seen at once by read() and other mappings",
        wrong: "it reaches the file at msync, munmap or exit",
        subtle: PLAIN,
        claims: &["shared.store-reaches-file", "shared.written-back-at-munmap"],
        make: || {
            let windows = Windows::default();
            let written = windows.clone();
            let first = windows.keep();
            several([
                on(MMAP).when(of_file).when(shared).when(opened(O_RDWR)).change(|_, c| c.share(MAP_PRIVATE)),
                on(MUNMAP).and(MSYNC).and(EXIT).enter(move |t, c| write_changes(t, c, &written)),
                first,
            ])
        },
    },
    Defect {
        name: "munmap-forgets-stores",
        correct: "what was stored through MAP_SHARED stays in the file after munmap",
        wrong: "beyond the first page the file gets its old bytes back",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "program.write-string", "program.file-copy", "program.two-programs"],
        make: || {
            let windows = Windows::default();
            let old = windows.clone();
            several([
                on(MUNMAP).when(pages(2..)).enter(move |t, c| {
                    let range = c.range();
                    old.take(t.id(), range, |kept| kept.restore(page() as usize));
                    Entry::Pass
                }),
                windows.keep(),
            ])
        },
    },
    Defect {
        name: "exit-forgets-stores",
        correct: "what a process stored is in the file after it has ended, munmap or not",
        wrong: "without munmap the file gets its old bytes back",
        subtle: SUBTLE,
        claims: &["lifetime.data-survives-exit", "program.server-client"],
        make: || {
            let windows = Windows::default();
            let (unmapped, old) = (windows.clone(), windows.clone());
            several([
                on(MUNMAP).enter(move |t, c| {
                    let range = c.range();
                    unmapped.take(t.id(), range, |_| {});
                    Entry::Pass
                }),
                on(EXIT).enter(move |t, _| {
                    old.take(t.id(), 0..u64::MAX, |kept| kept.restore(0));
                    Entry::Pass
                }),
                windows.keep(),
            ])
        },
    },
    Defect {
        name: "private-is-shared",
        correct: "stores through a MAP_PRIVATE mapping never reach the file",
        wrong: "where the file is open for writing, they do",
        subtle: PLAIN,
        claims: &[
            "private.file-unchanged",
            "private.invisible-to-peers",
            "private.copies-the-file",
            "peer.private-does-not-reach",
        ],
        make: || private_file().change(|_, c| c.share(MAP_SHARED)),
    },
    Defect {
        name: "private-is-shared-at-offset",
        correct: "stores through a MAP_PRIVATE mapping never reach the file",
        wrong: "through a mapping at an offset above 0 they do",
        subtle: SUBTLE,
        claims: &["private.file-unchanged"],
        make: || private_file().when(offset_pages(1..)).change(|_, c| c.share(MAP_SHARED)),
    },
    Defect {
        name: "private-is-shared-of-odd-length",
        correct: "stores through a MAP_PRIVATE mapping never reach the file",
        wrong: "through a mapping of several pages with an odd length they do",
        subtle: SUBTLE,
        claims: &["private.file-unchanged"],
        make: || {
            private_file().when(pages(2..)).when(|_, c| c.args[LENGTH] % 2 == 1).change(|_, c| c.share(MAP_SHARED))
        },
    },
    Defect {
        name: "private-but-the-last-page",
        correct: "stores through a MAP_PRIVATE mapping never reach the file",
        wrong: "those into the last of several pages do",
        subtle: SUBTLE,
        claims: &["private.file-unchanged"],
        make: || {
            private_file().when(pages(2..)).after_success(|t, c, result| {
                let before = page_up(c.args[LENGTH]) - page();
                let mut last = *c;
                last.share(MAP_SHARED);
                last.args[FLAGS] |= bits(libc::MAP_FIXED);
                last.args[ADDRESS] = *result as u64 + before;
                last.args[LENGTH] = page();
                last.args[OFFSET] += before;
                t.make(&last);
            })
        },
    },
    Defect {
        name: "private-written-at-munmap",
        correct: "stores through a MAP_PRIVATE mapping never reach the file",
        wrong: "they do at munmap",
        subtle: SUBTLE,
        claims: &["private.file-unchanged"],
        make: || private_written_at(on(MUNMAP)),
    },
    Defect {
        name: "private-written-at-msync",
        correct: "msync writes nothing of a private mapping",
        wrong: "its stores reach the file",
        subtle: SUBTLE,
        claims: &["private.file-unchanged"],
        make: || private_written_at(on(MSYNC)),
    },
    Defect {
        name: "private-written-at-exit",
        correct: "stores through a MAP_PRIVATE mapping never reach the file",
        wrong: "they do when the process exits",
        subtle: SUBTLE,
        claims: &["private.file-unchanged"],
        make: || private_written_at(on(EXIT)),
    },
];

fn shared_file() -> On {
    on(MMAP).when(of_file).when(shared).when(opened(O_RDWR))
}

fn private_file() -> On {
    on(MMAP).when(of_file).when(private).when(prot(PROT_WRITE)).when(opened(O_RDWR))
}

pub(super) fn private_written_at(on: On) -> Box<dyn Behaviour> {
    let windows = Windows::default();
    let written = windows.clone();
    several([on.enter(move |t, c| write_changes(t, c, &written)), windows.keep()])
}

/// Writes to their files what private mappings differ in from when they were made: those in the range of a call,
/// or all if the process goes or becomes another program.
fn write_changes(tracee: &mut Tracee, call: &mut Syscall, windows: &Windows) -> Entry {
    let all = EXIT.contains(&call.number) || EXEC.contains(&call.number);
    let mut mappings = if all { tracee.tested_mappings() } else { mapped_in_range(tracee, call) };
    mappings.retain(|mapping| !mapping.shared && mapping.inode != 0);
    for mapping in &mappings {
        windows.with(mapping, |kept| write_difference(tracee, mapping, kept));
    }
    Entry::Pass
}

fn write_difference(tracee: &Tracee, mapping: &Mapping, kept: &crate::tracer::kept::Kept) {
    let skip = (mapping.offset - kept.offset) as usize;
    let old = kept.bytes.get(skip..).unwrap_or_default();
    let length = old.len().min(mapping.length() as usize);
    let now = tracee.memory().and_then(|memory| memory.read(mapping.range.start, length));
    for (index, byte) in now.unwrap_or_default().iter().enumerate() {
        if *byte != old[index] {
            // A file that has become shorter has no place for it.
            let _ = kept.file.write_all_at(&[*byte], mapping.offset + index as u64);
        }
    }
}
