//! Where mappings go: hints, MAP_FIXED, MAP_FIXED_NOREPLACE, and what is there already.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use libc::{EEXIST, EINVAL, ENOMEM, MAP_FIXED, MAP_FIXED_NOREPLACE};

use crate::tracer::behaviour::{Entry, Syscall};
use crate::tracer::call::{ADDRESS, FLAGS, LENGTH, MMAP, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{flag, mapped_in_range, of_file, pages, private, shared};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "hint-replaces",
        correct: "a hint never replaces what is mapped",
        wrong: "it does, as with MAP_FIXED",
        subtle: PLAIN,
        claims: &["mmap.addr.hint"],
        make: || on(MMAP).when(aligned_hint).when(occupied).change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED)),
    },
    Defect {
        name: "hint-replaces-from-the-start",
        correct: "a hint never replaces what is mapped",
        wrong: "it does where it is the very start of a mapping",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(aligned_hint)
                .when(|t, c| {
                    let found = t.mapping_at(c.args[ADDRESS]);
                    found.is_some_and(|mapping| mapping.range.start == c.args[ADDRESS])
                })
                .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
        },
    },
    Defect {
        name: "hint-replaces-further-on",
        correct: "a hint never replaces what is mapped",
        wrong: "only the first page of the range is looked at before it is used",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(aligned_hint)
                .when(occupied)
                .when(|t, c| t.mapping_at(c.args[ADDRESS]).is_none())
                .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
        },
    },
    Defect {
        name: "hint-unaligned-refused",
        correct: "a hint that is not page-aligned is rounded",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["mmap.addr.hint-rounding"],
        make: || on(MMAP).when(unaligned_hint).refuse(EINVAL),
    },
    Defect {
        name: "hint-rounded-up",
        correct: "a hint that is not page-aligned is rounded down",
        wrong: "it is rounded up",
        subtle: PLAIN,
        claims: &["mmap.addr.hint-rounding"],
        make: || on(MMAP).when(unaligned_hint).change(|_, c| c.args[ADDRESS] = page_up(c.args[ADDRESS])),
    },
    Defect {
        name: "hint-rounded-to-nearest",
        correct: "a hint that is not page-aligned is rounded down",
        wrong: "it is rounded to the nearer page boundary",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint-rounding"],
        make: || {
            on(MMAP)
                .when(unaligned_hint)
                .change(|_, c| c.args[ADDRESS] = page_down(c.args[ADDRESS].wrapping_add(page() / 2)))
        },
    },
    Defect {
        name: "hint-returned",
        correct: "mmap returns where the mapping is",
        wrong: "it returns the hint, wherever the mapping is",
        subtle: PLAIN,
        claims: &["mmap.addr.hint", "mmap.addr.start-returned"],
        make: || on(MMAP).when(aligned_hint).after_success(|_, c, result| *result = c.args[ADDRESS] as i64),
    },
    Defect {
        name: "null-over-the-last",
        correct: "with a NULL address the kernel chooses a free place",
        wrong: "every second time it takes that of the mapping before",
        subtle: SUBTLE,
        claims: &["mmap.addr.null"],
        make: || {
            let last = Rc::new(RefCell::new(HashMap::new()));
            let noted = Rc::clone(&last);
            on(MMAP).when(|_, c| c.args[ADDRESS] == 0 && c.args[LENGTH] != 0).around(
                move |t, c| match last.borrow_mut().remove(&t.id()) {
                    Some(address) if t.mapping_at(address).is_some() => {
                        c.args[ADDRESS] = address;
                        c.args[FLAGS] |= bits(MAP_FIXED);
                        Entry::Pass
                    }
                    _ => Entry::Watch,
                },
                move |t, _, result| {
                    if *result > 0 {
                        noted.borrow_mut().insert(t.id(), *result as u64);
                    }
                },
            )
        },
    },
    Defect {
        name: "fixed-a-page-on",
        correct: "MAP_FIXED takes the address literally",
        wrong: "it maps one page further on",
        subtle: PLAIN,
        claims: &["flag.fixed-exact"],
        make: || on(MMAP).when(flag(MAP_FIXED)).change(|_, c| c.args[ADDRESS] = c.args[ADDRESS].wrapping_add(page())),
    },
    Defect {
        name: "fixed-is-a-hint",
        correct: "MAP_FIXED replaces what is mapped in the range",
        wrong: "where something is mapped, it goes elsewhere",
        subtle: PLAIN,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || on(MMAP).when(flag(MAP_FIXED)).when(occupied).change(|_, c| c.args[FLAGS] &= !bits(MAP_FIXED)),
    },
    Defect {
        name: "fixed-occupied-refused",
        correct: "MAP_FIXED replaces what is mapped in the range",
        wrong: "where two mappings lie in the range, it is EEXIST",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || on(MMAP).when(flag(MAP_FIXED)).when(|t, c| mapped_in_range(t, c).len() > 1).refuse(EEXIST),
    },
    Defect {
        name: "fixed-unaligned-rounded",
        correct: "MAP_FIXED with an address that is not page-aligned is EINVAL",
        wrong: "the address is rounded down",
        subtle: PLAIN,
        claims: &["flag.fixed-exact"],
        make: || on(MMAP).when(flag(MAP_FIXED)).change(|_, c| c.args[ADDRESS] = page_down(c.args[ADDRESS])),
    },
    Defect {
        name: "fixed-unaligned-rounded-for-shared-files",
        correct: "MAP_FIXED with an address inside a page is EINVAL",
        wrong: "for shared mappings of files it is rounded down",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact"],
        make: || {
            on(MMAP)
                .when(flag(MAP_FIXED))
                .when(of_file)
                .when(shared)
                .change(|_, c| c.args[ADDRESS] = page_down(c.args[ADDRESS]))
        },
    },
    Defect {
        name: "fixed-keeps-the-last-page",
        correct: "MAP_FIXED replaces all pages of the range",
        wrong: "of three pages and more it leaves the last as it was",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP)
                .when(flag(MAP_FIXED))
                .when(pages(3..))
                .when(occupied)
                .change(|_, c| c.args[LENGTH] = page_up(c.args[LENGTH]) - page())
        },
    },
    Defect {
        name: "fixed-clears-the-page-after",
        correct: "MAP_FIXED touches no page outside the range",
        wrong: "of two pages and more, it unmaps the page after it too",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED)).when(pages(2..)).after_success(|t, c, result| {
                t.unmap(*result as u64 + page_up(c.args[LENGTH]), page());
            })
        },
    },
    Defect {
        name: "fixed-keeps-contents",
        correct: "what MAP_FIXED replaces is gone",
        wrong: "anonymous memory put over anonymous memory shows the old bytes",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED | libc::MAP_ANONYMOUS)).when(occupied).carrying(
                |t, c| t.memory().ok()?.read(c.args[ADDRESS], 64).ok(),
                |t, _, bytes, result| {
                    if let (true, Ok(memory)) = (*result > 0, t.memory()) {
                        // Where it cannot be written, the new mapping is what it should be.
                        let _ = memory.write(*result as u64, &bytes);
                    }
                },
            )
        },
    },
    Defect {
        name: "noreplace-replaces",
        correct: "MAP_FIXED_NOREPLACE over something is EEXIST",
        wrong: "it replaces, as MAP_FIXED does",
        subtle: PLAIN,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).when(|_, c| !c.has(libc::MAP_SHARED_VALIDATE)).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_FIXED_NOREPLACE);
                c.args[FLAGS] |= bits(MAP_FIXED);
            })
        },
    },
    Defect {
        name: "noreplace-looks-at-the-first-page",
        correct: "MAP_FIXED_NOREPLACE is EEXIST if any page of the range is mapped",
        wrong: "only the range's first page is looked at",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).when(|t, c| t.mapping_at(c.args[ADDRESS]).is_none()).change(
                |_, c| {
                    c.args[FLAGS] &= !bits(MAP_FIXED_NOREPLACE);
                    c.args[FLAGS] |= bits(MAP_FIXED);
                },
            )
        },
    },
    Defect {
        name: "noreplace-looks-at-the-first-page-if-private",
        correct: "MAP_FIXED_NOREPLACE replaces nothing",
        wrong: "a private mapping replaces all but what is at its first page",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP)
                .when(flag(MAP_FIXED_NOREPLACE))
                .when(private)
                .when(|t, c| t.mapping_at(c.args[ADDRESS]).is_none())
                .change(|_, c| {
                    c.args[FLAGS] &= !bits(MAP_FIXED_NOREPLACE);
                    c.args[FLAGS] |= bits(MAP_FIXED);
                })
        },
    },
    Defect {
        name: "noreplace-moves",
        correct: "MAP_FIXED_NOREPLACE over something is EEXIST",
        wrong: "it maps elsewhere, as kernels before 4.17 do",
        subtle: PLAIN,
        claims: &["flag.fixed-discouraged"],
        make: || on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).change(|_, c| c.args[FLAGS] &= !bits(MAP_FIXED_NOREPLACE)),
    },
    Defect {
        name: "noreplace-enomem",
        correct: "MAP_FIXED_NOREPLACE over something is EEXIST",
        wrong: "it is ENOMEM",
        subtle: PLAIN,
        claims: &["flag.fixed-discouraged"],
        make: || on(MMAP).when(flag(MAP_FIXED_NOREPLACE)).error(EEXIST, ENOMEM),
    },
];

fn is_hint(call: &Syscall) -> bool {
    call.args[ADDRESS] != 0 && call.args[FLAGS] & bits(MAP_FIXED | MAP_FIXED_NOREPLACE) == 0
}

fn aligned_hint(_: &mut Tracee, call: &Syscall) -> bool {
    is_hint(call) && call.args[ADDRESS].is_multiple_of(page()) && call.args[LENGTH] != 0
}

fn unaligned_hint(_: &mut Tracee, call: &Syscall) -> bool {
    is_hint(call) && call.args[ADDRESS] > page() && !call.args[ADDRESS].is_multiple_of(page())
}

fn occupied(tracee: &mut Tracee, call: &Syscall) -> bool {
    !mapped_in_range(tracee, call).is_empty()
}
