//! Wrong only for one kind of backing or process, through one way to the same file, or with one flag beside another.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use libc::{EINVAL, MAP_FIXED, MAP_POPULATE, MAP_STACK, O_RDWR};

use crate::tracer::behaviour::Entry;
use crate::tracer::call::{DESCRIPTOR, FCNTL, FLAGS, LENGTH, MMAP, MSYNC, PROTECTION, UNLINK, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::kept::Windows;
use crate::tracer::memory::page;
use crate::tracer::rule::{on, several};
use crate::tracer::when::{
    anonymous, argument, file, flag, in_peer, mapped_in_range, of_dev_zero, of_file, offset_pages, opened, pages,
    private, shared,
};

/// What goes between mappings, files and processes.
pub const SHARING: &[Defect] = &[
    Defect {
        name: "second-name-second-memory",
        correct: "a file is one memory, by whichever of its names it was opened",
        wrong: "with two names, what is mapped shared is private",
        subtle: SUBTLE,
        claims: &["shared.same-memory-two-addresses", "peer.same-file"],
        make: || {
            on(MMAP)
                .when(shared)
                .when(|t, c| t.status(c.args[DESCRIPTOR]).is_ok_and(|status| status.nlink() > 1 && status.is_file()))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "fixed-forgets-stores",
        correct: "what was stored through MAP_SHARED stays in the file when another mapping takes its place",
        wrong: "the file gets its old bytes back",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            let windows = Windows::default();
            let old = windows.clone();
            several([
                on(MMAP).when(flag(MAP_FIXED)).enter(move |t, c| {
                    for hit in mapped_in_range(t, c).iter().filter(|hit| hit.shared && hit.inode != 0) {
                        old.with(hit, |kept| kept.restore(0));
                        t.count();
                    }
                    Entry::Pass
                }),
                windows.keep(),
            ])
        },
    },
    Defect {
        name: "shared-first-page-only-in-peers",
        correct: "unrelated processes exchange data through MAP_SHARED",
        wrong: "in a program that was executed apart, the pages from the second on are a copy",
        subtle: SUBTLE,
        claims: &["peer.same-file", "shared.store-visible-to-peers"],
        make: || {
            on(MMAP).when(in_peer).when(of_file).when(shared).when(pages(2..)).after_success(|t, c, result| {
                t.detach(*result as u64 + page(), c.args[LENGTH] - page(), c.args[PROTECTION]);
            })
        },
    },
    Defect {
        name: "shared-window-is-private-in-peers",
        correct: "unrelated processes exchange data through MAP_SHARED",
        wrong: "in a program that was executed apart, a window at an offset is private",
        subtle: SUBTLE,
        claims: &["peer.same-file", "shared.store-visible-to-peers"],
        make: || {
            on(MMAP).when(in_peer).when(of_file).when(opened(O_RDWR)).when(shared).when(offset_pages(1..)).change(
                |_, c| {
                    c.share(libc::MAP_PRIVATE);
                },
            )
        },
    },
];

/// Memory without a file.
pub const ANONYMOUS: &[Defect] = &[Defect {
    name: "dev-zero-of-one-page-refused",
    correct: "/dev/zero is mapped like memory without a file",
    wrong: "a shared mapping of one page is EINVAL",
    subtle: SUBTLE,
    claims: &["anon.dev-zero"],
    make: || on(MMAP).when(of_dev_zero).when(shared).when(pages(1..=1)).refuse(EINVAL),
}];

/// Files and their sizes.
pub const FILES: &[Defect] = &[
    Defect {
        name: "growth-by-name-not-zero",
        correct: "bytes that truncate adds read as zero",
        wrong: "the first of them is 0xee",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate"],
        make: || {
            on(&[libc::SYS_truncate]).carrying(
                |t, c| {
                    let path = t.path_argument(c)?;
                    let size = std::fs::metadata(&path).ok()?.len();
                    (size < c.args[1]).then_some((path, size))
                },
                |t, _, (path, size), result| {
                    if *result == 0
                        && let Ok(file) = File::options().write(true).open(path)
                        && file.write_at(&[0xee], size).is_ok()
                    {
                        t.count();
                    }
                },
            )
        },
    },
    Defect {
        name: "stores-extend-at-msync",
        correct: "what is stored beyond the end of the file in its last page is not in the file",
        wrong: "at msync the file grows to the end of the page",
        subtle: SUBTLE,
        claims: &["file.store-does-not-extend"],
        make: || {
            on(MSYNC).enter(|t, c| {
                for hit in mapped_in_range(t, c).iter().filter(|hit| hit.shared && hit.inode != 0) {
                    let Ok(file) = File::options().write(true).open(t.mapped_file(hit)) else { continue };
                    let size = file.metadata().map_or(0, |status| status.len());
                    if size % page() != 0 && file.set_len(size.next_multiple_of(page())).is_ok() {
                        t.count();
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "unlink-of-one-name-empties",
        correct: "a file that has another name keeps its contents when one is removed",
        wrong: "it is emptied",
        subtle: SUBTLE,
        claims: &["lifetime.unlinked-file"],
        make: || {
            on(UNLINK).carrying(
                |t, c| {
                    let path = t.path_argument(c)?;
                    let status = std::fs::symlink_metadata(&path).ok()?;
                    (status.is_file() && status.nlink() > 1).then(|| File::options().write(true).open(path).ok())?
                },
                |t, _, file, result| {
                    if *result == 0 && file.set_len(0).is_ok() {
                        t.count();
                    }
                },
            )
        },
    },
];

/// msync.
pub const MSYNCS: &[Defect] = &[Defect {
    name: "msync-ninth-page-left",
    correct: "after MS_SYNC no page of the range is dirty",
    wrong: "those behind the eighth are",
    subtle: SUBTLE,
    claims: &["msync.makes-consistent", "msync.sync-waits"],
    make: || {
        on(MSYNC)
            .when(pages(9..))
            .when(|t, c| mapped_in_range(t, c).first().is_some_and(|hit| hit.range.end >= c.range().end))
            .change(|_, c| c.args[LENGTH] = 8 * page())
    },
}];

/// Flags.
pub const MMAP_FLAGS: &[Defect] = &[
    Defect {
        name: "populate-of-private-files-ignored",
        correct: "MAP_POPULATE fills the pages in beforehand",
        wrong: "it has no effect on private mappings of files",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(of_file).when(private).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_POPULATE);
            })
        },
    },
    Defect {
        name: "populate-of-shared-memory-ignored",
        correct: "MAP_POPULATE fills the pages in beforehand",
        wrong: "it has no effect on shared memory without a file",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(anonymous).when(shared).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_POPULATE);
            })
        },
    },
    Defect {
        name: "stack-of-private-files-refused",
        correct: "MAP_STACK has no effect",
        wrong: "it is EINVAL with private mappings of files",
        subtle: SUBTLE,
        claims: &["flag.stack"],
        make: || on(MMAP).when(flag(MAP_STACK)).when(of_file).when(private).refuse(EINVAL),
    },
];

/// Descriptors.
pub const DESCRIPTORS: &[Defect] = &[Defect {
    name: "setfl-append-ignored-for-files",
    correct: "O_APPEND can be set with F_SETFL, and taken away",
    wrong: "for regular files it cannot",
    subtle: SUBTLE,
    claims: &["fork.descriptor-shared"],
    make: || {
        on(FCNTL).when(argument(1, libc::F_SETFL)).when(file(0)).change(|t, c| {
            let now = t.open_file(c.args[0]).map_or(0, |(flags, _)| flags) & libc::O_APPEND;
            c.args[2] = c.args[2] & !bits(libc::O_APPEND) | bits(now);
        })
    },
}];
