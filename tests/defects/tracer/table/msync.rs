//! msync: its flags, its range, and whether it does anything.

use libc::{EBUSY, EFAULT, EINVAL, ENOMEM, MS_ASYNC, MS_INVALIDATE, MS_SYNC};

use crate::tracer::behaviour::{Entry, Syscall};
use crate::tracer::call::{ADDRESS, LENGTH, MSYNC, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::kept::Windows;
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{in_child, mapped_in_range, pages};

/// The place of msync's flags.
const HOW: usize = 2;
const BOTH: u64 = (MS_ASYNC | MS_SYNC) as u64;
const KNOWN: u64 = (MS_ASYNC | MS_SYNC | MS_INVALIDATE) as u64;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "msync-hole-accepted",
        correct: "msync over a page that is not mapped is ENOMEM",
        wrong: "it is 0",
        subtle: PLAIN,
        claims: &["msync.arguments"],
        make: || on(MSYNC).after(|_, _, result| accept(result)),
    },
    Defect {
        name: "msync-hole-accepted-further-on",
        correct: "msync over a page that is not mapped is ENOMEM",
        wrong: "it is 0 where the first page of the range is mapped",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || on(MSYNC).when(|t, c| t.mapping_at(c.args[ADDRESS]).is_some()).after(|_, _, result| accept(result)),
    },
    Defect {
        name: "msync-hole-accepted-far-away",
        correct: "msync over a page that is not mapped is ENOMEM",
        wrong: "it is 0 if the range is longer than a terabyte",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || on(MSYNC).when(|_, c| c.args[LENGTH] > 1 << 40).after(|_, _, result| accept(result)),
    },
    Defect {
        name: "msync-hole-efault",
        correct: "msync over a page that is not mapped is ENOMEM",
        wrong: "it is EFAULT",
        subtle: PLAIN,
        claims: &["msync.arguments"],
        make: || on(MSYNC).error(ENOMEM, EFAULT),
    },
    Defect {
        name: "msync-hole-stops-it",
        correct: "msync over a range with a hole does the part that is mapped, then says ENOMEM",
        wrong: "it does nothing",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || on(MSYNC).when(has_hole).refuse(ENOMEM),
    },
    Defect {
        name: "msync-both-accepted",
        correct: "MS_ASYNC together with MS_SYNC is EINVAL",
        wrong: "it is taken for MS_SYNC",
        subtle: PLAIN,
        claims: &["msync.async-xor-sync"],
        make: || on(MSYNC).when(|_, c| c.args[HOW] & BOTH == BOTH).change(|_, c| c.args[HOW] &= !bits(MS_ASYNC)),
    },
    Defect {
        name: "msync-both-accepted-with-invalidate",
        correct: "MS_ASYNC together with MS_SYNC is EINVAL",
        wrong: "with MS_INVALIDATE beside them they are accepted",
        subtle: SUBTLE,
        claims: &["msync.async-xor-sync"],
        make: || on(MSYNC).when(|_, c| c.args[HOW] & KNOWN == KNOWN).change(|_, c| c.args[HOW] &= !bits(MS_ASYNC)),
    },
    Defect {
        name: "msync-neither-refused",
        correct: "msync with neither MS_ASYNC nor MS_SYNC is accepted by Linux",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["msync.async-xor-sync"],
        make: || on(MSYNC).when(|_, c| c.args[HOW] & BOTH == 0).refuse(EINVAL),
    },
    Defect {
        name: "msync-async-refused",
        correct: "MS_ASYNC returns at once, with 0",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["msync.sync-waits"],
        make: || on(MSYNC).when(|_, c| c.args[HOW] == bits(MS_ASYNC)).refuse(EINVAL),
    },
    Defect {
        name: "msync-unaligned-accepted",
        correct: "an address that is not page-aligned is EINVAL",
        wrong: "it is rounded down",
        subtle: PLAIN,
        claims: &["msync.arguments"],
        make: || on(MSYNC).change(|_, c| c.args[ADDRESS] = page_down(c.args[ADDRESS])),
    },
    Defect {
        name: "msync-unknown-flag-accepted",
        correct: "a flag that is not defined is EINVAL",
        wrong: "it is ignored",
        subtle: PLAIN,
        claims: &["msync.arguments"],
        make: || on(MSYNC).change(|_, c| c.args[HOW] &= KNOWN),
    },
    Defect {
        name: "msync-high-flag-accepted",
        correct: "a flag that is not defined is EINVAL",
        wrong: "those of bit 8 and above are ignored",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || on(MSYNC).change(|_, c| c.args[HOW] &= 0xff),
    },
    Defect {
        name: "msync-length-zero-refused",
        correct: "length 0 is accepted at any aligned address",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["msync.arguments"],
        make: || on(MSYNC).when(|_, c| c.args[LENGTH] == 0).refuse(EINVAL),
    },
    Defect {
        name: "msync-length-overflow-refused",
        correct: "a length that overflows when rounded up counts as 0",
        wrong: "it is ENOMEM",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || on(MSYNC).when(|_, c| c.args[LENGTH] != 0 && page_up(c.args[LENGTH]) == 0).refuse(ENOMEM),
    },
    Defect {
        name: "msync-does-nothing",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "it returns 0 and writes nothing",
        subtle: PLAIN,
        claims: &["msync.makes-consistent", "msync.sync-waits"],
        make: || on(MSYNC).when(|t, c| !has_hole(t, c)).when(valid).answer(0),
    },
    Defect {
        name: "msync-by-a-child-does-nothing",
        correct: "after MS_SYNC no page of the range is dirty, whoever stored there",
        wrong: "in a forked child it returns 0 and writes nothing",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || on(MSYNC).when(in_child).when(|t, c| !has_hole(t, c)).when(valid).answer(0),
    },
    Defect {
        name: "msync-first-page-only",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "only the first page is written",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || on(MSYNC).when(pages(2..)).when(|t, c| !has_hole(t, c)).change(|_, c| c.args[LENGTH] = page()),
    },
    Defect {
        name: "msync-sync-is-async",
        correct: "MS_SYNC returns when the writing is done",
        wrong: "with MS_INVALIDATE beside it, it is taken for MS_ASYNC",
        subtle: SUBTLE,
        claims: &["msync.sync-waits"],
        make: || {
            on(MSYNC)
                .when(|_, c| c.args[HOW] == bits(MS_SYNC | MS_INVALIDATE))
                .change(|_, c| c.args[HOW] = bits(MS_ASYNC | MS_INVALIDATE))
        },
    },
    Defect {
        name: "msync-invalidate-locked-accepted",
        correct: "MS_INVALIDATE over locked pages is EBUSY",
        wrong: "it is accepted",
        subtle: PLAIN,
        claims: &["msync.invalidate"],
        make: || {
            on(MSYNC).after(|_, _, result| {
                if *result == error(EBUSY) {
                    *result = 0;
                }
            })
        },
    },
    Defect {
        name: "msync-invalidate-forgets-stores",
        correct: "MS_INVALIDATE changes nothing of a shared mapping's contents",
        wrong: "the file gets back the bytes that it had when it was mapped",
        subtle: SUBTLE,
        claims: &["msync.invalidate"],
        make: || {
            let windows = Windows::default();
            let old = windows.clone();
            several([
                on(MSYNC).when(|_, c| c.args[HOW] & bits(MS_INVALIDATE) != 0).enter(move |t, c| {
                    for mapping in mapped_in_range(t, c) {
                        old.with(&mapping, |kept| kept.restore(0));
                    }
                    Entry::Pass
                }),
                windows.keep(),
            ])
        },
    },
];

fn accept(result: &mut i64) {
    if *result == error(ENOMEM) {
        *result = 0;
    }
}

pub(super) fn valid(_: &mut Tracee, call: &Syscall) -> bool {
    let how = call.args[HOW];
    call.args[ADDRESS].is_multiple_of(page()) && how & !KNOWN == 0 && how & BOTH != BOTH
}

pub(super) fn has_hole(tracee: &mut Tracee, call: &Syscall) -> bool {
    let length = page_up(call.args[LENGTH]);
    let end = call.args[ADDRESS].saturating_add(length);
    let mut at = call.args[ADDRESS];
    for mapping in mapped_in_range(tracee, call) {
        if mapping.range.start > at {
            return true;
        }
        at = mapping.range.end;
    }
    at < end
}
