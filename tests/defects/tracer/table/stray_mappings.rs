//! Mappings that go wrong at one place of a range, for one kind of target, or though they were refused.

use libc::{
    EACCES, EBADF, EINVAL, ENODEV, ENOMEM, EOVERFLOW, MAP_FIXED, MAP_FIXED_NOREPLACE, O_RDWR, PROT_READ, PROT_WRITE,
};

use crate::tracer::behaviour::{Entry, Syscall};
use crate::tracer::call::{
    ADDRESS, DESCRIPTOR, FLAGS, LENGTH, MMAP, MPROTECT, MUNMAP, OFFSET, PROTECTION, bits, error,
};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_down};
use crate::tracer::rule::on;
use crate::tracer::table::late_mappings::map_rest;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, flag, mapped_in_range, of_file, opened, pages, private, prot, settled, shared};

/// mmap's arguments, and what it says of them.
pub const ARGUMENTS: &[Defect] = &[
    Defect {
        name: "offset-one-short-of-a-page-taken",
        correct: "an offset that is no multiple of the page size is EINVAL",
        wrong: "one that lacks a single byte is rounded up",
        subtle: SUBTLE,
        claims: &["mmap.offset.page-multiple"],
        make: || {
            on(MMAP).when(|_, c| c.args[OFFSET] % page() == page() - 1).change(|_, c| {
                c.args[OFFSET] = c.args[OFFSET].wrapping_add(1);
            })
        },
    },
    Defect {
        name: "offset-unaligned-taken-behind-the-end",
        correct: "an offset that is no multiple of the page size is EINVAL, wherever the file ends",
        wrong: "from the end of the file on it is rounded down",
        subtle: SUBTLE,
        claims: &["mmap.offset.page-multiple"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|t, c| {
                    let size = t.status(c.args[DESCRIPTOR]).map_or(0, |status| status.len());
                    !c.args[OFFSET].is_multiple_of(page()) && c.args[OFFSET] >= size
                })
                .change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET]))
        },
    },
    Defect {
        name: "length-zero-of-an-empty-file-accepted",
        correct: "a length of 0 is EINVAL",
        wrong: "of an empty file it maps a page",
        subtle: SUBTLE,
        claims: &["mmap.length.zero", "file.empty-refused"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|t, c| c.args[LENGTH] == 0 && t.status(c.args[DESCRIPTOR]).is_ok_and(|status| status.len() == 0))
                .change(|_, c| c.args[LENGTH] = page())
        },
    },
    Defect {
        name: "fixed-outside-is-einval",
        correct: "MAP_FIXED outside of the address space is ENOMEM",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["flag.fixed-exact", "mmap.result.failed"],
        make: || on(MMAP).when(flag(MAP_FIXED)).error(ENOMEM, EINVAL),
    },
    Defect {
        name: "offset-overflow-is-einval",
        correct: "a part of a file beyond the largest offset is EOVERFLOW",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["mmap.result.failed", "mmap.offset.page-multiple"],
        make: || on(MMAP).error(EOVERFLOW, EINVAL),
    },
    Defect {
        name: "socket-is-einval",
        correct: "what cannot be mapped is ENODEV",
        wrong: "a socket is EINVAL",
        subtle: SUBTLE,
        claims: &["mmap.fd.kind"],
        make: || {
            on(MMAP)
                .when(|t, c| t.name(c.args[DESCRIPTOR]).as_os_str().as_encoded_bytes().starts_with(b"socket:"))
                .error(ENODEV, EINVAL)
        },
    },
    Defect {
        name: "o-path-is-eacces",
        correct: "a descriptor opened with O_PATH is EBADF to mmap",
        wrong: "it is EACCES",
        subtle: SUBTLE,
        claims: &["mmap.fd.kind"],
        make: || {
            on(MMAP).when(|t, c| !c.is_anonymous() && t.open_file(c.args[DESCRIPTOR]).is_some()).error(EBADF, EACCES)
        },
    },
    Defect {
        name: "fixed-with-a-bad-descriptor-unmaps",
        correct: "mmap that fails with EBADF leaves what is mapped",
        wrong: "with MAP_FIXED the range is unmapped",
        subtle: SUBTLE,
        claims: &["mmap.result.failed", "mmap.fd.invalid"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED)).after(|t, c, result| {
                if *result == error(EBADF) && c.args[ADDRESS].is_multiple_of(page()) {
                    t.count();
                    t.unmap(c.args[ADDRESS], c.args[LENGTH]);
                }
            })
        },
    },
];

/// Where mappings go.
pub const PLACEMENT: &[Defect] = &[
    Defect {
        name: "hint-of-shared-memory-replaces",
        correct: "a hint never puts a mapping over another",
        wrong: "shared anonymous memory replaces what is there",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(shared)
                .when(|t, c| is_hint(c) && !mapped_in_range(t, c).is_empty())
                .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
        },
    },
    Defect {
        name: "hint-replaces-at-its-last-page",
        correct: "a hint never puts a mapping over another",
        wrong: "it does if only the last page of the range is taken",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(|_, c| is_hint(c))
                .when(only_the_last_page_is_taken)
                .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
        },
    },
    Defect {
        name: "noreplace-overlooks-the-last-page",
        correct: "MAP_FIXED_NOREPLACE is EEXIST if anything of the range is taken",
        wrong: "it replaces what is in the last page",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).when(only_the_last_page_is_taken).change(|_, c| {
                c.args[FLAGS] = c.args[FLAGS] & !bits(MAP_FIXED_NOREPLACE) | bits(MAP_FIXED);
            })
        },
    },
    Defect {
        name: "noreplace-unaligned-rounded",
        correct: "MAP_FIXED_NOREPLACE off a page boundary is EINVAL",
        wrong: "the address is rounded down",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || {
            on(MMAP)
                .when(flag(MAP_FIXED_NOREPLACE))
                .when(|_, c| !c.args[ADDRESS].is_multiple_of(page()))
                .change(|_, c| c.args[ADDRESS] = page_down(c.args[ADDRESS]))
        },
    },
    Defect {
        name: "fixed-in-the-middle-shifts-what-is-behind",
        correct: "what MAP_FIXED leaves of a mapping shows the same bytes as before",
        wrong: "behind the new one it shows the file from a page before",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED)).carrying(
                |t, c| in_the_middle(t, c),
                |t, c, hit, result| {
                    if *result >= 0 {
                        map_rest(t, &hit, c.range().end, -(page() as i64));
                    }
                },
            )
        },
    },
];

/// Rights, and how mprotect sets them.
pub const PERMISSIONS: &[Defect] = &[
    Defect {
        name: "mprotect-reaches-the-page-before",
        correct: "mprotect sets the rights of its range alone",
        wrong: "in the middle of a mapping the page before it gets them too",
        subtle: SUBTLE,
        claims: &["perm.prot-combines", "perm.prot-none", "perm.prot-read", "perm.prot-write"],
        make: || {
            on(MPROTECT).when(starts_inside).enter(|t, c| {
                t.protect(c.args[ADDRESS] - page(), page(), c.args[PROTECTION]);
                Entry::Pass
            })
        },
    },
    Defect {
        name: "mprotect-refused-changes-rights",
        correct: "mprotect off a page boundary is refused and changes nothing",
        wrong: "it is refused, and the page has the new rights",
        subtle: SUBTLE,
        claims: &["perm.prot-combines", "perm.prot-none", "perm.prot-read", "perm.prot-write"],
        make: || {
            on(MPROTECT).when(settled).when(|_, c| !c.args[ADDRESS].is_multiple_of(page())).enter(|t, c| {
                t.protect(page_down(c.args[ADDRESS]), page(), c.args[PROTECTION]);
                Entry::Pass
            })
        },
    },
    Defect {
        name: "none-of-shared-memory-is-readable",
        correct: "what is mapped without any right cannot be loaded from",
        wrong: "shared anonymous memory can",
        subtle: SUBTLE,
        claims: &["perm.prot-none", "perm.prot-combines"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(shared)
                .when(|_, c| c.args[PROTECTION] == 0)
                .change(|_, c| c.args[PROTECTION] = bits(PROT_READ))
        },
    },
    Defect {
        name: "private-read-of-rdwr-is-writable",
        correct: "what is mapped with PROT_READ cannot be stored to",
        wrong: "a private mapping of a file opened O_RDWR can",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-combines"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(private)
                .when(opened(O_RDWR))
                .when(|_, c| c.args[PROTECTION] == bits(PROT_READ))
                .change(|_, c| c.args[PROTECTION] |= bits(PROT_WRITE))
        },
    },
    Defect {
        name: "mprotect-of-the-start-ends-sharing-of-the-rest",
        correct: "mprotect of a part leaves the rest of a mapping shared",
        wrong: "what is behind the first page becomes a copy",
        subtle: SUBTLE,
        claims: &["perm.prot-combines", "perm.prot-write", "perm.prot-read"],
        make: || {
            on(MPROTECT).when(pages(1..=1)).carrying(
                |t, c| {
                    let hit = t.mapping_at(c.args[ADDRESS])?;
                    let starts = hit.shared && hit.inode != 0 && hit.range.start == c.args[ADDRESS];
                    (starts && hit.range.end > c.range().end).then_some(hit)
                },
                |t, c, hit, result| {
                    if *result == 0 {
                        let rest = c.range().end;
                        t.detach(rest, hit.range.end - rest, hit.protection);
                    }
                },
            )
        },
    },
    Defect {
        name: "mprotect-to-write-ends-sharing",
        correct: "a shared mapping stays one, whatever rights it gets",
        wrong: "one that was mapped read-only is a copy once it may be written",
        subtle: SUBTLE,
        claims: &["perm.prot-write", "perm.prot-combines"],
        make: || {
            on(MPROTECT).when(prot(PROT_WRITE)).carrying(
                |t, c| {
                    let hit = t.mapping_at(c.args[ADDRESS])?;
                    (hit.shared && hit.inode != 0 && hit.protection & bits(PROT_WRITE) == 0).then_some(())
                },
                |t, c, (), result| {
                    if *result == 0 {
                        t.detach(c.args[ADDRESS], c.range().end - c.args[ADDRESS], c.args[PROTECTION]);
                    }
                },
            )
        },
    },
];

/// What munmap takes away.
pub const UNMAPPING: &[Defect] = &[
    Defect {
        name: "munmap-of-none-ignored",
        correct: "munmap removes mappings whatever their rights",
        wrong: "one of a file without any right stays",
        subtle: SUBTLE,
        claims: &["munmap.length-must-match"],
        make: || {
            on(MUNMAP)
                .when(|t, c| {
                    let there = mapped_in_range(t, c);
                    let barred = |m: &Mapping| m.inode != 0 && m.protection == 0;
                    c.args[ADDRESS].is_multiple_of(page()) && !there.is_empty() && there.iter().all(barred)
                })
                .answer(0)
        },
    },
    Defect {
        name: "munmap-refused-removes-a-page",
        correct: "munmap off a page boundary is refused and changes nothing",
        wrong: "it is refused, and the page is gone",
        subtle: SUBTLE,
        claims: &["munmap.moved-pointer", "munmap.result"],
        make: || {
            on(MUNMAP).when(settled).when(|_, c| !c.args[ADDRESS].is_multiple_of(page())).enter(|t, c| {
                t.unmap(page_down(c.args[ADDRESS]), page());
                Entry::Pass
            })
        },
    },
    Defect {
        name: "munmap-of-no-length-removes-a-page",
        correct: "munmap of a length of 0 is refused and changes nothing",
        wrong: "it is refused, and the page is gone",
        subtle: SUBTLE,
        claims: &["munmap.length-must-match", "munmap.result"],
        make: || {
            on(MUNMAP).when(settled).when(|_, c| c.args[LENGTH] == 0).enter(|t, c| {
                t.unmap(c.args[ADDRESS], page());
                Entry::Pass
            })
        },
    },
    Defect {
        name: "munmap-of-the-end-ends-sharing",
        correct: "what munmap leaves of a shared mapping goes on being shared",
        wrong: "where its end was unmapped, the start is a copy",
        subtle: SUBTLE,
        claims: &["munmap.releases", "munmap.address-must-match"],
        make: || {
            on(MUNMAP).when(starts_inside).enter(|t, c| {
                if let Some(hit) = t.mapping_at(c.args[ADDRESS])
                    && hit.shared
                    && hit.range.end <= c.range().end
                {
                    t.detach(hit.range.start, c.args[ADDRESS] - hit.range.start, hit.protection);
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "munmap-of-the-middle-makes-the-rest-read-only",
        correct: "what munmap leaves of a mapping keeps its rights",
        wrong: "what is behind a gap cannot be stored to",
        subtle: SUBTLE,
        claims: &["munmap.releases", "munmap.address-must-match"],
        make: || {
            on(MUNMAP).carrying(
                |t, c| in_the_middle(t, c).filter(|hit| hit.protection & bits(PROT_WRITE) != 0),
                |t, c, hit, result| {
                    if *result == 0 {
                        let rest = c.range().end;
                        t.count();
                        t.protect(rest, hit.range.end - rest, hit.protection & !bits(PROT_WRITE));
                    }
                },
            )
        },
    },
];

pub(super) fn is_hint(call: &Syscall) -> bool {
    let aligned = call.args[ADDRESS] != 0 && call.args[ADDRESS].is_multiple_of(page());
    aligned && call.args[FLAGS] & bits(MAP_FIXED | MAP_FIXED_NOREPLACE) == 0 && call.args[LENGTH] > 0
}

fn only_the_last_page_is_taken(tracee: &mut Tracee, call: &Syscall) -> bool {
    let there = mapped_in_range(tracee, call);
    call.pages() > 1 && !there.is_empty() && there.iter().all(|m| m.range.start >= call.range().end - page())
}

/// The range begins on a page boundary inside of a mapping, not where that begins.
fn starts_inside(tracee: &mut Tracee, call: &Syscall) -> bool {
    let start = call.args[ADDRESS];
    let hit = tracee.mapping_at(start);
    start.is_multiple_of(page()) && call.args[LENGTH] > 0 && hit.is_some_and(|hit| hit.range.start < start)
}

/// The mapping of a file that reaches beyond both ends of the range.
fn in_the_middle(tracee: &Tracee, call: &Syscall) -> Option<Mapping> {
    let there = mapped_in_range(tracee, call);
    let [hit] = there.as_slice() else { return None };
    let inside = hit.range.start < call.args[ADDRESS] && call.range().end < hit.range.end;
    (hit.inode != 0 && inside && call.args[ADDRESS].is_multiple_of(page()) && call.args[LENGTH] > 0)
        .then(|| hit.clone())
}
