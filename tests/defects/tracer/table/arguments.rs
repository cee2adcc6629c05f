//! mmap's lengths and offsets.

use libc::{EINVAL, ENOMEM};

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{DESCRIPTOR, LENGTH, MMAP, OFFSET};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, of_file, offset_pages, pages, shared};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "length-zero-is-a-page",
        correct: "mmap of length 0 is EINVAL",
        wrong: "it maps one page",
        subtle: PLAIN,
        claims: &["mmap.length.zero", "mmap.length.malloc-zero"],
        make: || on(MMAP).when(length_zero).change(|_, c| c.args[LENGTH] = page()),
    },
    Defect {
        name: "length-zero-shared-anonymous",
        correct: "mmap of length 0 is EINVAL, whatever is mapped",
        wrong: "shared anonymous memory of length 0 is one page",
        subtle: SUBTLE,
        claims: &["mmap.length.zero"],
        make: || on(MMAP).when(length_zero).when(anonymous).when(shared).change(|_, c| c.args[LENGTH] = page()),
    },
    Defect {
        name: "length-zero-with-offset",
        correct: "mmap of length 0 is EINVAL at any offset",
        wrong: "at an offset above 0 it maps one page",
        subtle: SUBTLE,
        claims: &["mmap.length.zero"],
        make: || on(MMAP).when(length_zero).when(offset_pages(1..)).change(|_, c| c.args[LENGTH] = page()),
    },
    Defect {
        name: "length-zero-enomem",
        correct: "mmap of length 0 is EINVAL",
        wrong: "it is ENOMEM",
        subtle: PLAIN,
        claims: &["mmap.length.zero"],
        make: || on(MMAP).when(length_zero).error(EINVAL, ENOMEM),
    },
    Defect {
        name: "length-huge-wraps",
        correct: "a length that overflows when rounded up is ENOMEM",
        wrong: "it wraps around and one page is mapped",
        subtle: SUBTLE,
        claims: &["mmap.result.failed"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[LENGTH] != 0 && page_up(c.args[LENGTH]) == 0)
                .change(|_, c| c.args[LENGTH] = page())
        },
    },
    Defect {
        name: "length-huge-einval",
        correct: "a length beyond the address space is ENOMEM",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["mmap.result.failed"],
        make: || on(MMAP).when(|_, c| c.args[LENGTH] > 1 << 46).error(ENOMEM, EINVAL),
    },
    Defect {
        name: "length-rounded-down",
        correct: "a length is rounded up to whole pages",
        wrong: "above one page it is rounded down: the page in part is not mapped",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up"],
        make: || {
            on(MMAP)
                .when(pages(2..))
                .when(|_, c| c.args[LENGTH] % page() != 0)
                .change(|_, c| c.args[LENGTH] = page_down(c.args[LENGTH]))
        },
    },
    Defect {
        name: "length-one-page-more",
        correct: "a mapping ends with the page of its last byte",
        wrong: "one page more is mapped, whatever was there",
        subtle: PLAIN,
        claims: &["mmap.length.rounded-up"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[LENGTH] != 0)
                .change(|_, c| c.args[LENGTH] = c.args[LENGTH].saturating_add(page()))
        },
    },
    Defect {
        name: "length-one-page-more-odd",
        correct: "a mapping ends with the page of its last byte",
        wrong: "of three pages and more, with an odd length, one page more is mapped",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[LENGTH] % 2 == 1)
                .when(pages(3..))
                .change(|_, c| c.args[LENGTH] = c.args[LENGTH].saturating_add(page()))
        },
    },
    Defect {
        name: "offset-rounded-down",
        correct: "an offset that is no multiple of the page is EINVAL",
        wrong: "it is rounded down",
        subtle: PLAIN,
        claims: &["mmap.offset.page-multiple"],
        make: || on(MMAP).change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET])),
    },
    Defect {
        name: "offset-of-sectors",
        correct: "an offset that is no multiple of the page is EINVAL",
        wrong: "multiples of 512 are accepted and rounded down",
        subtle: SUBTLE,
        claims: &["mmap.offset.page-multiple"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[OFFSET] % 512 == 0 && c.args[OFFSET] % page() != 0)
                .change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET]))
        },
    },
    Defect {
        name: "offset-of-half-pages",
        correct: "the page is the unit of offsets",
        wrong: "multiples of half a page are accepted and rounded down",
        subtle: SUBTLE,
        claims: &["mmap.page-size-4k", "mmap.offset.page-multiple"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[OFFSET] % page() == page() / 2)
                .change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET]))
        },
    },
    Defect {
        name: "offset-of-quarter-pages",
        correct: "an offset that is not a multiple of the page size is EINVAL",
        wrong: "one that ends with a quarter of a page is rounded down",
        subtle: SUBTLE,
        claims: &["mmap.page-size-4k"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[OFFSET] % page() == page() / 4)
                .change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET]))
        },
    },
    Defect {
        name: "offset-of-1000-taken",
        correct: "an offset that is not a multiple of the page size is EINVAL",
        wrong: "1000 is rounded down",
        subtle: SUBTLE,
        claims: &["mmap.offset.page-multiple"],
        make: || on(MMAP).when(|_, c| c.args[OFFSET] == 1000).change(|_, c| c.args[OFFSET] = 0),
    },
    Defect {
        name: "offset-unaligned-anonymous",
        correct: "an offset that is no multiple of the page is EINVAL, for anonymous memory too",
        wrong: "anonymous memory ignores its offset altogether",
        subtle: SUBTLE,
        claims: &["mmap.offset.page-multiple"],
        make: || on(MMAP).when(anonymous).change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET])),
    },
    Defect {
        name: "offset-unaligned-enxio",
        correct: "an offset that is no multiple of the page is EINVAL",
        wrong: "it is ENXIO",
        subtle: PLAIN,
        claims: &["mmap.offset.page-multiple"],
        make: || on(MMAP).when(|_, c| c.args[OFFSET] % page() != 0).error(EINVAL, libc::ENXIO),
    },
    Defect {
        name: "offset-ignored",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "every mapping starts at the beginning of the file",
        subtle: PLAIN,
        claims: &["mmap.offset.window"],
        make: || on(MMAP).when(of_file).when(offset_pages(1..)).change(|_, c| c.args[OFFSET] %= page()),
    },
    Defect {
        name: "offset-beyond-one-page",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "offsets of two pages and more count as one page",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(offset_pages(2..))
                .change(|_, c| c.args[OFFSET] = page() + c.args[OFFSET] % page())
        },
    },
    Defect {
        name: "offset-of-odd-pages",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "from three pages on, an odd number of pages is one page too few",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|_, c| c.args[OFFSET] / page() >= 3 && c.args[OFFSET] / page() % 2 == 1)
                .change(|_, c| c.args[OFFSET] -= page())
        },
    },
    Defect {
        name: "offset-zero-second-page",
        correct: "offset 0 maps from the beginning of the file",
        wrong: "a mapping of one page at offset 0 shows the file's second page",
        subtle: SUBTLE,
        claims: &["mmap.offset.zero-is-start"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|t, c| {
                    let size = t.status(c.args[DESCRIPTOR]).map_or(0, |status| status.len());
                    c.args[OFFSET] == 0 && c.pages() == 1 && size > page()
                })
                .change(|_, c| c.args[OFFSET] = page())
        },
    },
];

fn length_zero(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[LENGTH] == 0
}
