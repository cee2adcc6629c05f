//! Ranges of many pages of which only the beginning is dealt with, offsets far into a file, windows beside each other.

use libc::{MADV_DONTNEED, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_POPULATE};

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{ADDRESS, DESCRIPTOR, FLAGS, LENGTH, MMAP, MPROTECT, MSYNC, MUNMAP, OFFSET, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_up};
use crate::tracer::rule::on;
use crate::tracer::table::stray_mappings::is_hint;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{flag, mapped_in_range, of_file, pages};

/// mmap's offset.
pub const ARGUMENTS: &[Defect] = &[
    Defect {
        name: "offset-of-2-to-the-32-pages-lost",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "of the offset's pages only 32 bits count",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|_, c| c.args[OFFSET] >> 63 == 0 && c.args[OFFSET] >= page() << 32)
                .change(|_, c| c.args[OFFSET] %= page() << 32)
        },
    },
    Defect {
        name: "negative-offset-accepted",
        correct: "a window beyond the largest offset is EOVERFLOW",
        wrong: "from 2^63 on the offset is 0, if the end of the window is a number too",
        subtle: SUBTLE,
        claims: &["mmap.result.failed"],
        make: || {
            on(MMAP)
                .when(|_, c| {
                    let end = c.args[OFFSET].checked_add(page_up(c.args[LENGTH]));
                    c.args[OFFSET] >> 63 != 0 && c.args[OFFSET].is_multiple_of(page()) && end.is_some()
                })
                .change(|_, c| c.args[OFFSET] = 0)
        },
    },
    Defect {
        name: "mmap-of-83-pages-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "those to a shared mapping of exactly 83 pages do not",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|_, c| c.is_shared())
                .when(pages(83..=83))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "window-below-its-continuation-is-a-page-on",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "of one that goes directly below its continuation it is byte offset + i + a page",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || on(MMAP).when(of_file).when(continues_above).change(|_, c| c.args[OFFSET] += page()),
    },
    Defect {
        name: "window-above-its-beginning-is-a-page-back",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "of one that goes directly above what is before it in the file it is a page less",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || on(MMAP).when(of_file).when(continues_below).change(|_, c| c.args[OFFSET] -= page()),
    },
    Defect {
        name: "window-between-two-is-the-first",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "one that fills the gap between two of the same file shows what the lower one shows",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP).when(of_file).when(continues_below).when(continues_above).change(|_, c| {
                c.args[OFFSET] = c.args[OFFSET].saturating_sub(page_up(c.args[LENGTH]));
            })
        },
    },
];

/// Where mappings go.
pub const PLACEMENT: &[Defect] = &[
    Defect {
        name: "noreplace-looks-at-64-pages",
        correct: "MAP_FIXED_NOREPLACE is EEXIST if anything of the range is taken",
        wrong: "it replaces what is behind the 64th page",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).when(pages(65..)).when(taken_behind_64).change(|_, c| {
                c.args[FLAGS] = c.args[FLAGS] & !bits(MAP_FIXED_NOREPLACE) | bits(MAP_FIXED);
            })
        },
    },
    Defect {
        name: "hint-looks-at-64-pages",
        correct: "a hint never puts a mapping over another",
        wrong: "it does if that begins behind the 64th page",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(|_, c| is_hint(c))
                .when(pages(65..))
                .when(taken_behind_64)
                .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
        },
    },
];

/// Rights.
pub const PERMISSIONS: &[Defect] = &[
    Defect {
        name: "mprotect-of-64-pages-at-most",
        correct: "mprotect sets the rights of every page of the range",
        wrong: "of the first 64",
        subtle: SUBTLE,
        claims: &["perm.prot-none", "perm.prot-read", "perm.prot-write"],
        make: || on(MPROTECT).when(pages(65..)).change(|_, c| c.args[LENGTH] = 64 * page()),
    },
    Defect {
        name: "mprotect-of-59-pages-leaves-the-last",
        correct: "mprotect sets the rights of every page of the range",
        wrong: "of exactly 59 the last one keeps its own",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || on(MPROTECT).when(pages(59..=59)).change(|_, c| c.args[LENGTH] = 58 * page()),
    },
    Defect {
        name: "mprotect-length-of-32-bits",
        correct: "mprotect sets the rights of every page of the range",
        wrong: "of the length 32 bits count",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || on(MPROTECT).when(beyond_32_bits).change(|_, c| c.args[LENGTH] %= 1 << 32),
    },
];

/// What munmap takes away.
pub const UNMAPPING: &[Defect] = &[
    Defect {
        name: "munmap-of-61-pages-leaves-the-last",
        correct: "munmap releases every page of the range",
        wrong: "of exactly 61 the last one stays",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || on(MUNMAP).when(pages(61..=61)).change(|_, c| c.args[LENGTH] = 60 * page()),
    },
    Defect {
        name: "munmap-of-200-pages-leaves-the-last",
        correct: "munmap releases every page of the range",
        wrong: "of 200 and more the last one stays",
        subtle: SUBTLE,
        claims: &["munmap.releases", "munmap.result"],
        make: || on(MUNMAP).when(pages(200..)).change(|_, c| c.args[LENGTH] = page_up(c.args[LENGTH]) - page()),
    },
    Defect {
        name: "munmap-of-512-pages-at-most",
        correct: "munmap releases every page of the range",
        wrong: "those behind the 512th stay",
        subtle: SUBTLE,
        claims: &["munmap.releases", "munmap.result"],
        make: || on(MUNMAP).when(pages(513..)).change(|_, c| c.args[LENGTH] = 512 * page()),
    },
    Defect {
        name: "munmap-length-of-32-bits",
        correct: "munmap releases every page of the range",
        wrong: "of the length 32 bits count",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || on(MUNMAP).when(beyond_32_bits).change(|_, c| c.args[LENGTH] %= 1 << 32),
    },
    Defect {
        name: "munmap-of-67-pages-leaves-the-middle",
        correct: "munmap releases every page of the range",
        wrong: "of exactly 67 the one in the middle stays",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP).when(pages(67..=67)).change(|t, c| {
                let half = 33 * page();
                t.perform(libc::SYS_munmap, [c.args[ADDRESS], half, 0, 0, 0, 0]);
                c.args[ADDRESS] += half + page();
                c.args[LENGTH] = half;
            })
        },
    },
];

/// msync.
pub const MSYNCS: &[Defect] = &[
    Defect {
        name: "msync-of-32-pages-at-most",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "those behind the 32nd are",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || on(MSYNC).when(pages(33..)).change(|_, c| c.args[LENGTH] = 32 * page()),
    },
    Defect {
        name: "msync-length-of-32-bits",
        correct: "a hole in the range is ENOMEM",
        wrong: "of the length 32 bits count",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || on(MSYNC).when(beyond_32_bits).change(|_, c| c.args[LENGTH] %= 1 << 32),
    },
];

/// mmap's flags.
pub const MMAP_FLAGS: &[Defect] = &[
    Defect {
        name: "locked-16-pages-at-most",
        correct: "MAP_LOCKED locks the pages in memory",
        wrong: "it does the first 16",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP).when(flag(MAP_LOCKED)).when(pages(17..)).after_success(|t, c, result| {
                let front = 16 * page();
                let rest = [*result as u64 + front, page_up(c.args[LENGTH]) - front, 0, 0, 0, 0];
                t.perform(libc::SYS_munlock, rest);
            })
        },
    },
    Defect {
        name: "populate-64-pages-at-most",
        correct: "MAP_POPULATE fills all pages in beforehand",
        wrong: "it does the first 64",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(pages(65..)).after_success(|t, c, result| {
                let front = 64 * page();
                let (start, rest) = (*result as u64 + front, page_up(c.args[LENGTH]) - front);
                t.perform(libc::SYS_madvise, [start, rest, bits(MADV_DONTNEED), 0, 0, 0]);
            })
        },
    },
];

/// A length that is none a range can have is left alone.
fn beyond_32_bits(_: &mut Tracee, call: &Syscall) -> bool {
    (1 << 32..1 << 47).contains(&call.args[LENGTH])
}

fn taken_behind_64(tracee: &mut Tracee, call: &Syscall) -> bool {
    let there = mapped_in_range(tracee, call);
    !there.is_empty() && there.iter().all(|mapping| mapping.range.start >= call.args[ADDRESS] + 64 * page())
}

/// MAP_FIXED directly below a mapping that shows what follows in the same file.
fn continues_above(tracee: &mut Tracee, call: &Syscall) -> bool {
    let (inode, length) = (tracee.inode(call.args[DESCRIPTOR]), page_up(call.args[LENGTH]));
    let above = tracee.mapping_at(call.range().end);
    let offset = call.args[OFFSET].wrapping_add(length);
    call.has(MAP_FIXED) && above.is_some_and(|above| above.inode == inode && above.offset == offset)
}

/// MAP_FIXED directly above a mapping that shows what comes before in the same file.
fn continues_below(tracee: &mut Tracee, call: &Syscall) -> bool {
    let inode = tracee.inode(call.args[DESCRIPTOR]);
    let below = tracee.mapping_at(call.args[ADDRESS].wrapping_sub(1));
    let ends = |below: &Mapping| below.offset + below.length() == call.args[OFFSET];
    call.has(MAP_FIXED) && below.is_some_and(|below| below.inode == inode && ends(&below))
}
