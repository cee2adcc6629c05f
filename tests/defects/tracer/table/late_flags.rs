//! msync and flags that go wrong only for some pages, neighbours, backings and pairs of flags.

use libc::{
    EINVAL, ENOMEM, EOPNOTSUPP, MAP_DENYWRITE, MAP_EXECUTABLE, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_NORESERVE,
    MAP_POPULATE, MS_ASYNC, MS_INVALIDATE, PROT_READ,
};

use crate::tracer::behaviour::{Behaviour, Syscall};
use crate::tracer::call::{ADDRESS, FLAGS, LENGTH, MMAP, MSYNC, bits, error};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{page, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, argument, flag, mapped_in_range, of_file, offset_pages, pages, private, shared};

/// The place of msync's flags.
const HOW: usize = 2;

/// msync.
pub const MSYNCS: &[Defect] = &[
    Defect {
        name: "msync-last-page-left",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "of three pages and more the last is",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || {
            on(MSYNC).when(pages(3..)).when(no_hole).change(|_, c| c.args[LENGTH] = page_up(c.args[LENGTH]) - page())
        },
    },
    Defect {
        name: "msync-from-inside-ignored",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "a range that begins inside of a mapping is not written",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || {
            on(MSYNC)
                .when(no_hole)
                .when(|_, c| c.args[HOW] & !bits(libc::MS_SYNC) == 0)
                .when(|t, c| t.mapping_at(c.args[ADDRESS]).is_some_and(|hit| hit.range.start < c.args[ADDRESS]))
                .answer(0)
        },
    },
    Defect {
        name: "msync-second-mapping-left",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "only the first of the mappings in the range is written",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || {
            on(MSYNC).when(no_hole).change(|t, c| {
                if let [first, _, ..] = &mapped_in_range(t, c)[..] {
                    c.args[LENGTH] = first.range.end - c.args[ADDRESS];
                }
            })
        },
    },
    Defect {
        name: "msync-hole-in-the-middle-accepted",
        correct: "msync over a page that is not mapped is ENOMEM",
        wrong: "it is 0 where the first and the last page of the range are mapped",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || {
            on(MSYNC)
                .when(|t, c| {
                    let ends = [c.args[ADDRESS], c.range().end.wrapping_sub(1)];
                    ends.iter().all(|at| t.mapping_at(*at).is_some())
                })
                .after(|_, _, result| {
                    if *result == error(ENOMEM) {
                        *result = 0;
                    }
                })
        },
    },
    Defect {
        name: "msync-of-private-files-refused",
        correct: "msync accepts private mappings",
        wrong: "a private mapping of a file is EINVAL",
        subtle: SUBTLE,
        claims: &["msync.arguments", "private.file-unchanged"],
        make: || {
            on(MSYNC).when(|t, c| mapped_in_range(t, c).iter().any(|hit| hit.inode != 0 && !hit.shared)).refuse(EINVAL)
        },
    },
    Defect {
        name: "msync-read-only-left",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "what has become read-only since it was stored to is not written",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || {
            on(MSYNC)
                .when(no_hole)
                .when(|_, c| c.args[HOW] & !bits(libc::MS_SYNC) == 0)
                .when(|t, c| mapped_in_range(t, c).iter().all(|hit| hit.protection == bits(PROT_READ)))
                .answer(0)
        },
    },
    Defect {
        name: "msync-async-with-invalidate-refused",
        correct: "MS_INVALIDATE goes together with MS_ASYNC",
        wrong: "it is EINVAL",
        subtle: SUBTLE,
        claims: &["msync.arguments", "msync.invalidate"],
        make: || on(MSYNC).when(argument(HOW, MS_ASYNC | MS_INVALIDATE)).refuse(EINVAL),
    },
];

/// Flags.
pub const MMAP_FLAGS: &[Defect] = &[
    Defect {
        name: "populate-of-long-files-ignored",
        correct: "MAP_POPULATE fills the pages in beforehand",
        wrong: "it has no effect on nine pages of a file and more",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(of_file).when(pages(9..)).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_POPULATE);
            })
        },
    },
    Defect {
        name: "populate-at-an-offset-ignored",
        correct: "MAP_POPULATE fills the pages in beforehand",
        wrong: "it has no effect on a file's pages from the second on",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(of_file).when(offset_pages(1..)).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_POPULATE);
            })
        },
    },
    Defect {
        name: "locked-but-the-last-page",
        correct: "MAP_LOCKED locks the pages in memory",
        wrong: "of three pages and more the last is not locked",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP).when(flag(MAP_LOCKED)).when(pages(3..)).after_success(|t, c, result| {
                let last = *result as u64 + page_up(c.args[LENGTH]) - page();
                t.perform(libc::SYS_munlock, [last, page(), 0, 0, 0, 0]);
            })
        },
    },
    Defect {
        name: "denywrite-refused",
        correct: "MAP_DENYWRITE and MAP_EXECUTABLE are ignored",
        wrong: "with MAP_PRIVATE they are EINVAL",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || {
            on(MMAP)
                .when(|t, _| t.process().settled)
                .when(private)
                .when(|_, c| c.args[FLAGS] & bits(MAP_DENYWRITE | MAP_EXECUTABLE) != 0)
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "validate-refuses-populate",
        correct: "MAP_SHARED_VALIDATE takes the flags that the kernel knows",
        wrong: "MAP_POPULATE is EOPNOTSUPP",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || validate_refuses(MAP_POPULATE),
    },
    Defect {
        name: "validate-refuses-noreserve",
        correct: "MAP_SHARED_VALIDATE takes the flags that the kernel knows",
        wrong: "MAP_NORESERVE is EOPNOTSUPP",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || validate_refuses(MAP_NORESERVE),
    },
    Defect {
        name: "noreserve-shared-refused",
        correct: "MAP_NORESERVE goes together with MAP_SHARED",
        wrong: "it is EINVAL",
        subtle: SUBTLE,
        claims: &["flag.noreserve", "flag.shared-validate"],
        make: || on(MMAP).when(flag(MAP_NORESERVE)).when(shared).refuse(EINVAL),
    },
    Defect {
        name: "noreplace-anonymous-shared-refused",
        correct: "MAP_FIXED_NOREPLACE takes any kind of mapping where there is room",
        wrong: "shared memory without a file is EINVAL",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).when(anonymous).when(shared).refuse(EINVAL),
    },
];

fn no_hole(tracee: &mut Tracee, call: &Syscall) -> bool {
    let mut at = call.args[ADDRESS];
    for hit in mapped_in_range(tracee, call) {
        if hit.range.start > at {
            return false;
        }
        at = hit.range.end;
    }
    at >= call.range().end
}

fn validate_refuses(flags: i32) -> Box<dyn Behaviour> {
    on(MMAP).when(flag(libc::MAP_SHARED_VALIDATE)).when(of_file).when(flag(flags)).refuse(EOPNOTSUPP)
}
