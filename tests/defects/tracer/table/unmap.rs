//! munmap, and how long a mapping lives.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use libc::{EINVAL, ENOMEM, PROT_NONE};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{ADDRESS, CLOSE, LENGTH, MUNMAP, UNLINK, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{file, mapped_in_range, pages};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "munmap-does-nothing",
        correct: "after munmap the region is gone",
        wrong: "it returns 0 and does nothing",
        subtle: PLAIN,
        claims: &["fault.after-munmap", "munmap.releases"],
        make: || on(MUNMAP).when(valid).answer(0),
    },
    Defect {
        name: "munmap-leaves-the-last-page",
        correct: "munmap releases every page of the range",
        wrong: "of two pages and more the last one stays",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || on(MUNMAP).when(pages(2..)).change(|_, c| c.args[LENGTH] = page_up(c.args[LENGTH]) - page()),
    },
    Defect {
        name: "munmap-leaves-the-first-page",
        correct: "munmap releases every page of the range",
        wrong: "of four pages and more the first one stays",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP).when(pages(4..)).when(valid).change(|_, c| {
                c.args[ADDRESS] += page();
                c.args[LENGTH] -= page();
            })
        },
    },
    Defect {
        name: "munmap-rounds-down",
        correct: "munmap rounds its length up to whole pages",
        wrong: "above one page it rounds it down",
        subtle: SUBTLE,
        claims: &["munmap.length-must-match"],
        make: || on(MUNMAP).when(pages(2..)).change(|_, c| c.args[LENGTH] = page_down(c.args[LENGTH])),
    },
    Defect {
        name: "munmap-takes-the-page-after",
        correct: "munmap leaves the pages beside the range alone",
        wrong: "it releases the page after it too",
        subtle: PLAIN,
        claims: &["munmap.releases"],
        make: || on(MUNMAP).when(valid).change(|_, c| c.args[LENGTH] += page()),
    },
    Defect {
        name: "munmap-takes-the-page-before",
        correct: "munmap leaves the pages beside the range alone",
        wrong: "from the middle of a mapping, it releases the page before it too",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP).when(valid).when(in_the_middle).change(|_, c| {
                c.args[ADDRESS] -= page();
                c.args[LENGTH] += page();
            })
        },
    },
    Defect {
        name: "munmap-clears-the-page-before",
        correct: "the neighbours of what munmap releases keep their contents",
        wrong: "from the middle of a mapping, the page before it becomes zeros",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP).when(valid).when(in_the_middle).after_success(|t, c, _| {
                let before = c.args[ADDRESS] - page();
                if let Ok(memory) = t.memory() {
                    // PROT_NONE memory that is shared cannot be written.
                    let _ = memory.write(before, &vec![0; page() as usize]);
                }
            })
        },
    },
    Defect {
        name: "munmap-first-mapping-only",
        correct: "munmap releases all mappings in the range",
        wrong: "only the first of several",
        subtle: SUBTLE,
        claims: &["munmap.address-must-match", "munmap.releases"],
        make: || {
            on(MUNMAP).when(|t, c| mapped_in_range(t, c).len() > 1).change(|t, c| {
                let end = mapped_in_range(t, c)[0].range.end;
                c.args[LENGTH] = end - c.args[ADDRESS];
            })
        },
    },
    Defect {
        name: "munmap-unaligned-accepted",
        correct: "an address that is not page-aligned is EINVAL",
        wrong: "it is rounded down",
        subtle: PLAIN,
        claims: &["munmap.moved-pointer", "munmap.moved-pointer-stores"],
        make: || on(MUNMAP).change(|_, c| c.args[ADDRESS] = page_down(c.args[ADDRESS])),
    },
    Defect {
        name: "munmap-unaligned-even-accepted",
        correct: "an address that is not page-aligned is EINVAL, and changes nothing",
        wrong: "a multiple of 16 is rounded up to the next page",
        subtle: SUBTLE,
        claims: &["munmap.moved-pointer"],
        make: || {
            on(MUNMAP)
                .when(|_, c| c.args[ADDRESS].is_multiple_of(16))
                .change(|_, c| c.args[ADDRESS] = page_up(c.args[ADDRESS]))
        },
    },
    Defect {
        name: "munmap-unaligned-ignored",
        correct: "an address that is not page-aligned is EINVAL",
        wrong: "it is 0, and nothing is done",
        subtle: PLAIN,
        claims: &["munmap.moved-pointer"],
        make: || on(MUNMAP).when(|_, c| !c.args[ADDRESS].is_multiple_of(page())).answer(0),
    },
    Defect {
        name: "munmap-einval-is-enomem",
        correct: "munmap's arguments, if wrong, are EINVAL",
        wrong: "they are ENOMEM",
        subtle: PLAIN,
        claims: &["munmap.moved-pointer", "munmap.result"],
        make: || on(MUNMAP).error(EINVAL, ENOMEM),
    },
    Defect {
        name: "munmap-failure-returns-one",
        correct: "munmap returns 0 on success",
        wrong: "it returns the number of mappings that were in the range",
        subtle: PLAIN,
        claims: &["munmap.result"],
        make: || {
            on(MUNMAP).carrying(
                |t, c| Some(mapped_in_range(t, c).len() as i64),
                |_, _, count, result| {
                    if *result == 0 {
                        *result = count;
                    }
                },
            )
        },
    },
    Defect {
        name: "munmap-length-zero-accepted",
        correct: "length 0 is EINVAL",
        wrong: "it is 0, and nothing is done",
        subtle: PLAIN,
        claims: &["munmap.length-must-match"],
        make: || on(MUNMAP).when(|_, c| c.args[LENGTH] == 0).answer(0),
    },
    Defect {
        name: "munmap-length-zero-accepted-at-the-start",
        correct: "length 0 is EINVAL",
        wrong: "where a mapping begins it is 0, and nothing is done",
        subtle: SUBTLE,
        claims: &["munmap.length-must-match"],
        make: || {
            on(MUNMAP)
                .when(|_, c| c.args[LENGTH] == 0)
                .when(|t, c| {
                    t.mapping_at(c.args[ADDRESS]).is_some_and(|mapping| mapping.range.start == c.args[ADDRESS])
                })
                .answer(0)
        },
    },
    Defect {
        name: "munmap-hole-refused",
        correct: "a hole in the range is no error",
        wrong: "it is ENOMEM",
        subtle: PLAIN,
        claims: &["munmap.length-must-match", "munmap.address-must-match"],
        make: || on(MUNMAP).when(valid).when(has_hole).refuse(ENOMEM),
    },
    Defect {
        name: "munmap-part-refused",
        correct: "a part of a mapping can be released",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["munmap.length-must-match"],
        make: || {
            on(MUNMAP)
                .when(valid)
                .when(|t, c| {
                    let end = c.range().end;
                    let mapped = mapped_in_range(t, c);
                    mapped.last().is_some_and(|mapping| mapping.range.end > end)
                })
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "munmap-whole-refused",
        correct: "munmap takes the address that mmap returned",
        wrong: "a whole mapping of three pages and more is EINVAL",
        subtle: SUBTLE,
        claims: &["munmap.saved-pointer", "munmap.result"],
        make: || {
            on(MUNMAP)
                .when(pages(3..))
                .when(|t, c| {
                    let mapping = t.mapping_at(c.args[ADDRESS]);
                    mapping.is_some_and(|mapping| mapping.range == c.range())
                })
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "munmap-from-the-middle-refused",
        correct: "any page-aligned address will do",
        wrong: "one inside a mapping is EINVAL",
        subtle: PLAIN,
        claims: &["munmap.address-must-match"],
        make: || on(MUNMAP).when(valid).when(in_the_middle).refuse(EINVAL),
    },
    Defect {
        name: "munmap-from-the-middle-takes-the-rest",
        correct: "munmap releases exactly the pages of the range",
        wrong: "from the middle of a mapping it releases all of the rest",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP).when(valid).when(in_the_middle).change(|t, c| {
                let mapping = t.mapping_at(c.args[ADDRESS]);
                let end = mapping.map_or(0, |mapping| mapping.range.end);
                c.args[LENGTH] = c.args[LENGTH].max(end - c.args[ADDRESS]);
            })
        },
    },
    Defect {
        name: "close-unmaps",
        correct: "closing the descriptor leaves the mapping as it was",
        wrong: "the mapping is gone",
        subtle: PLAIN,
        claims: &["lifetime.close-before-munmap"],
        make: || {
            on(CLOSE).when(file(0)).enter(|t, c| {
                for mapping in t.mappings_of(c.args[0]) {
                    let none = bits(PROT_NONE);
                    t.map_zeros(mapping.range.start, mapping.length(), none);
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "close-ends-sharing",
        correct: "after close, stores through a shared mapping still reach the file",
        wrong: "in the last of several pages they no longer do",
        subtle: SUBTLE,
        claims: &["lifetime.close-before-munmap"],
        make: || {
            on(CLOSE).when(file(0)).enter(|t, c| {
                for mapping in t.mappings_of(c.args[0]) {
                    if mapping.shared && mapping.length() > page() {
                        let last = mapping.range.end - page();
                        t.detach(last, page(), mapping.protection);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "close-makes-read-only",
        correct: "after close, loads and stores go on",
        wrong: "a store is a fault",
        subtle: SUBTLE,
        claims: &["lifetime.close-before-munmap"],
        make: || {
            on(CLOSE).when(file(0)).enter(|t, c| {
                for mapping in t.mappings_of(c.args[0]) {
                    let rights = mapping.protection & !bits(libc::PROT_WRITE);
                    t.protect(mapping.range.start, mapping.length(), rights);
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "unlink-empties",
        correct: "a file that is unlinked lives on while it is mapped or open",
        wrong: "its contents are gone",
        subtle: PLAIN,
        claims: &["lifetime.until-munmap", "lifetime.unlinked-file"],
        make: || at_unlink(|file, _| drop(file.set_len(0))),
    },
    Defect {
        name: "unlink-clears-the-last-page",
        correct: "a file that is unlinked lives on while it is mapped or open",
        wrong: "the last of several pages becomes zeros",
        subtle: SUBTLE,
        claims: &["lifetime.until-munmap", "lifetime.unlinked-file"],
        make: || {
            at_unlink(|file, size| {
                let start = page_down(size.saturating_sub(1));
                if start > 0 {
                    drop(file.set_len(start).and_then(|()| file.set_len(size)));
                }
            })
        },
    },
];

fn valid(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[ADDRESS].is_multiple_of(page()) && call.args[LENGTH] != 0 && call.args[LENGTH] < 1 << 46
}

fn in_the_middle(tracee: &mut Tracee, call: &Syscall) -> bool {
    let mapping = tracee.mapping_at(call.args[ADDRESS]);
    mapping.is_some_and(|mapping| mapping.range.start < call.args[ADDRESS])
}

fn has_hole(tracee: &mut Tracee, call: &Syscall) -> bool {
    let mapped: u64 = mapped_in_range(tracee, call)
        .iter()
        .map(|mapping| {
            let (start, end) = (mapping.range.start, mapping.range.end);
            end.min(call.range().end) - start.max(call.args[ADDRESS])
        })
        .sum();
    mapped < page_up(call.args[LENGTH])
}

/// What happens to a regular file when its last name goes.
fn at_unlink(end: fn(&File, u64)) -> Box<dyn Behaviour> {
    on(UNLINK).carrying(
        |t, c| {
            let path = t.path_argument(c)?;
            let status = std::fs::symlink_metadata(&path).ok()?;
            if !status.is_file() || status.nlink() > 1 {
                return None;
            }
            let file = File::options().read(true).write(true).open(path).ok()?;
            Some((file, status.len()))
        },
        move |t, _, (file, size), result| {
            if *result != error(0) {
                return;
            }
            t.count();
            end(&file, size);
        },
    )
}
