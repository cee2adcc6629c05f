//! munmap and close that go wrong only for some pages, neighbours and remains, or show it later.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use libc::{EINVAL, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};

use super::late_mappings::{cut, map_rest};
use crate::tracer::behaviour::{Behaviour, Entry};
use crate::tracer::call::{ADDRESS, CLOSE, LENGTH, MMAP, MUNMAP};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_up};
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{mapped_in_range, pages};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "munmap-last-of-three-ignored",
        correct: "munmap releases every page of the range",
        wrong: "the last page of a mapping of exactly three stays",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP)
                .when(|t, c| {
                    let hit = t.mapping_at(c.args[ADDRESS]);
                    let of_three = |hit: &Mapping| hit.length() == 3 * page() && hit.range.end == c.range().end;
                    c.pages() == 1 && hit.is_some_and(|hit| of_three(&hit))
                })
                .answer(0)
        },
    },
    Defect {
        name: "munmap-seventeenth-page-stays",
        correct: "munmap releases every page of the range",
        wrong: "those behind the sixteenth stay",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || on(MUNMAP).when(pages(17..)).change(|_, c| c.args[LENGTH] = 16 * page()),
    },
    Defect {
        name: "munmap-of-nothing-refused",
        correct: "a hole is no error",
        wrong: "where nothing at all is mapped it is EINVAL",
        subtle: SUBTLE,
        claims: &["munmap.releases", "munmap.result"],
        make: || {
            on(MUNMAP)
                .when(|_, c| c.args[ADDRESS].is_multiple_of(page()) && c.args[LENGTH] != 0)
                .when(|t, c| mapped_in_range(t, c).is_empty())
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "munmap-leaves-what-it-ends-in",
        correct: "munmap releases every page of the range",
        wrong: "where the range begins inside of one mapping and ends inside of another, the latter stays whole",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || {
            on(MUNMAP).change(|t, c| {
                let range = c.range();
                if let [first, .., last] = &mapped_in_range(t, c)[..]
                    && first.range.start < range.start
                    && range.end < last.range.end
                    && last.range.start > range.start
                {
                    c.args[LENGTH] = last.range.start - range.start;
                }
            })
        },
    },
    Defect {
        name: "munmap-shifts-what-is-behind",
        correct: "what munmap leaves of a mapping shows the same bytes as before",
        wrong: "behind a gap in the middle it shows the file from a page before",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || behind_a_gap(|t, hit, end| map_rest(t, hit, end, -(page() as i64))),
    },
    Defect {
        name: "munmap-ends-sharing-of-what-is-behind",
        correct: "what munmap leaves of a shared mapping goes on being shared",
        wrong: "behind a gap in the middle it is a copy",
        subtle: SUBTLE,
        claims: &["munmap.releases"],
        make: || behind_a_gap(|t, hit, end| t.detach(end, hit.range.end - end, hit.protection)),
    },
    Defect {
        name: "close-of-a-duplicate-unmaps",
        correct: "closing a descriptor leaves mappings as they are",
        wrong: "while another descriptor of the file is open, its first mapping goes",
        subtle: SUBTLE,
        claims: &["lifetime.close-before-munmap"],
        make: || {
            on(CLOSE).enter(|t, c| {
                let inode = t.inode(c.args[0]);
                let another = t.descriptors().into_iter().any(|fd| fd != c.args[0] && t.inode(fd) == inode);
                if another && let Some(first) = t.mappings_of(c.args[0]).first().cloned() {
                    t.count();
                    t.unmap(first.range.start, first.length());
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "mapping-over-a-gap-shows-old-bytes",
        correct: "anonymous memory starts as zeros, wherever it lies",
        wrong: "where private memory was unmapped at the same address, its first bytes come back",
        subtle: SUBTLE,
        claims: &["anon.zeroed", "flag.fixed-exact"],
        make: old_bytes,
    },
];

/// The same with something left before the range, when the call has been done.
fn behind_a_gap(then: fn(&mut Tracee, &Mapping, u64)) -> Box<dyn Behaviour> {
    on(MUNMAP).carrying(
        |t, c| cut(t, c).filter(|(hit, _)| hit.range.start < c.args[ADDRESS]),
        move |t, _, (hit, end), result| {
            if *result == 0 {
                then(t, &hit, end);
            }
        },
    )
}

/// The first bytes of what a process unmapped at an address.
type Remains = HashMap<(i32, u64), Vec<u8>>;

/// Memory at an address where private memory was before has its first bytes.
fn old_bytes() -> Box<dyn Behaviour> {
    let gone: Rc<RefCell<Remains>> = Rc::default();
    let kept = Rc::clone(&gone);
    several([
        on(MUNMAP).enter(move |t, c| {
            let private = t.mapping_at(c.args[ADDRESS]).is_some_and(|hit| !hit.shared && hit.inode == 0);
            let bytes = t.memory().and_then(|memory| memory.read(c.args[ADDRESS], 16)).unwrap_or_default();
            if private && bytes.iter().any(|byte| *byte != 0) {
                gone.borrow_mut().insert((t.id(), c.args[ADDRESS]), bytes);
            }
            Entry::Pass
        }),
        on(MMAP)
            .when(|_, c| c.has(MAP_ANONYMOUS | MAP_PRIVATE) && c.wants(PROT_READ | PROT_WRITE))
            .when(|_, c| page_up(c.args[LENGTH]) >= page())
            .after_success(move |t, _, result| {
                let old = kept.borrow_mut().remove(&(t.id(), *result as u64));
                if let (Some(bytes), Ok(memory)) = (old, t.memory()) {
                    // It has just been mapped.
                    let _ = memory.write(*result as u64, &bytes);
                }
            }),
    ])
}
