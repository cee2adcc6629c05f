//! mmap and mprotect that go wrong only at some lengths and places, for some neighbours, or on a later occasion.

use std::collections::HashMap;

use libc::{
    EACCES, EBADF, MADV_DONTNEED, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_POPULATE, MAP_SHARED, O_APPEND, PROT_NONE,
    PROT_READ, PROT_WRITE,
};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{ADDRESS, DESCRIPTOR, FLAGS, LENGTH, MMAP, MPROTECT, OFFSET, PROTECTION, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_down};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{mapped_in_range, of_file, offset_pages, opened, pages, prot, shared};

/// Lengths, offsets and descriptors.
pub const ARGUMENTS: &[Defect] = &[
    Defect {
        name: "offset-of-a-mebibyte-lost",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "only the low 20 bits of the offset count",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP).when(of_file).when(|_, c| c.args[OFFSET] >> 20 != 0).change(|_, c| c.args[OFFSET] &= 0xf_ffff)
        },
    },
    Defect {
        name: "offset-of-4-gib-lost",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "only the low 32 bits of the offset count",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP).when(of_file).when(|_, c| c.args[OFFSET] >> 32 != 0).change(|_, c| c.args[OFFSET] &= 0xffff_ffff)
        },
    },
    Defect {
        name: "offset-of-44-pages-is-45",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "an offset of exactly 44 pages counts as 45",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || on(MMAP).when(of_file).when(offset_pages(44..=44)).change(|_, c| c.args[OFFSET] += page()),
    },
    Defect {
        name: "offset-of-16-pages-lost",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "offsets of 16 to 31 pages count as 16 less",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || on(MMAP).when(of_file).when(offset_pages(16..32)).change(|_, c| c.args[OFFSET] -= 16 * page()),
    },
    Defect {
        name: "second-window-at-the-first",
        correct: "byte i of a mapping is byte offset + i of the file",
        wrong: "while a file is mapped at one offset, it is mapped there again whatever is asked for",
        subtle: SUBTLE,
        claims: &["mmap.offset.window"],
        make: || {
            on(MMAP).when(of_file).change(|t, c| {
                if let Some(first) = t.mappings_of(c.args[DESCRIPTOR]).first()
                    && c.args[OFFSET].is_multiple_of(page())
                {
                    c.args[OFFSET] = first.offset;
                }
            })
        },
    },
    Defect {
        name: "length-one-short-of-pages",
        correct: "a length is rounded up to whole pages",
        wrong: "one byte less than whole pages, from two on, is rounded down",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up"],
        make: || round_down(|length| length % page() == page() - 1 && length > page()),
    },
    Defect {
        name: "length-one-above-pages",
        correct: "a length is rounded up to whole pages",
        wrong: "one byte more than two pages or more is rounded down",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up"],
        make: || round_down(|length| length % page() == 1 && length > 2 * page()),
    },
    Defect {
        name: "length-from-32-pages-on-rounded-down",
        correct: "a length is rounded up to whole pages",
        wrong: "from 32 pages on it is rounded down",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up"],
        make: || round_down(|length| length > 32 * page()),
    },
    Defect {
        name: "length-of-16-pages-is-15",
        correct: "all pages of the length are mapped",
        wrong: "of exactly 16 pages of a file 15 are",
        subtle: SUBTLE,
        claims: &["mmap.length.rounded-up", "mmap.length.file-size"],
        make: || on(MMAP).when(of_file).when(pages(16..=16)).change(|_, c| c.args[LENGTH] = 15 * page()),
    },
    Defect {
        name: "descriptor-from-64-on-not-mapped",
        correct: "any open descriptor of a file can be mapped",
        wrong: "one with a number from 64 on is EBADF",
        subtle: SUBTLE,
        claims: &["mmap.fd.invalid"],
        make: || on(MMAP).when(of_file).when(|_, c| c.args[DESCRIPTOR] as i32 >= 64).refuse(EBADF),
    },
];

/// Where mappings go, and what they go over.
pub const PLACEMENT: &[Defect] = &[
    Defect {
        name: "fixed-keeps-the-middle-mapping",
        correct: "MAP_FIXED replaces all that is mapped in the range",
        wrong: "of three mappings or more it leaves the second",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || on(MMAP).when(fixed).when(|_, c| c.is_anonymous()).around(around_the_second, |_, _, _| {}),
    },
    Defect {
        name: "fixed-clears-what-is-behind",
        correct: "MAP_FIXED touches no page outside the range",
        wrong: "in the middle of a mapping of private memory, what lies behind it becomes zeros",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact"],
        make: || {
            on(MMAP).when(fixed).carrying(
                |t, c| {
                    let range = c.range();
                    let hit = t.mapping_at(range.start)?;
                    let inside = hit.range.start < range.start && range.end < hit.range.end;
                    (inside && !hit.shared && hit.inode == 0 && hit.protection & bits(PROT_WRITE) != 0)
                        .then(|| (range.end, hit.range.end - range.end, hit.protection))
                },
                |t, _, (start, length, protection), result| {
                    if *result >= 0 {
                        t.map_zeros(start, length, protection);
                    }
                },
            )
        },
    },
    Defect {
        name: "noreplace-overlooks-files-without-rights",
        correct: "MAP_FIXED_NOREPLACE over something is EEXIST",
        wrong: "a file mapped with PROT_NONE is replaced",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP)
                .when(|_, c| c.has(MAP_FIXED_NOREPLACE))
                .when(|t, c| {
                    let there = mapped_in_range(t, c);
                    !there.is_empty() && there.iter().all(|mapping| mapping.protection == 0 && mapping.inode != 0)
                })
                .change(|_, c| c.args[FLAGS] = c.args[FLAGS] & !bits(MAP_FIXED_NOREPLACE) | bits(MAP_FIXED))
        },
    },
    Defect {
        name: "hint-replaces-if-long",
        correct: "a hint never replaces what is mapped",
        wrong: "a mapping of nine pages or more does",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(|_, c| !c.has(MAP_FIXED) && !c.has(MAP_FIXED_NOREPLACE) && c.args[ADDRESS] != 0)
                .when(|_, c| c.args[ADDRESS].is_multiple_of(page()))
                .when(pages(9..))
                .when(|t, c| !mapped_in_range(t, c).is_empty())
                .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
        },
    },
    Defect {
        name: "fixed-populated-is-a-hint",
        correct: "MAP_FIXED takes the address literally",
        wrong: "with MAP_POPULATE it goes elsewhere where something is mapped",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.populate"],
        make: || on(MMAP).when(fixed).when(|_, c| c.has(MAP_POPULATE)).change(|_, c| c.args[FLAGS] &= !bits(MAP_FIXED)),
    },
];

/// Rights, and how mprotect sets them.
pub const PERMISSIONS: &[Defect] = &[
    Defect {
        name: "shared-write-over-append-refused",
        correct: "a file opened O_RDWR can be mapped shared and writable, with O_APPEND as well",
        wrong: "with O_APPEND it is EACCES",
        subtle: SUBTLE,
        claims: &["perm.not-above-open-mode"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(prot(PROT_WRITE))
                .when(opened(libc::O_RDWR))
                .when(|t, c| t.open_file(c.args[DESCRIPTOR]).is_some_and(|(flags, _)| flags & O_APPEND != 0))
                .refuse(EACCES)
        },
    },
    Defect {
        name: "mprotect-goes-on-to-the-end",
        correct: "mprotect changes the pages of its range alone",
        wrong: "from inside a mapping, it changes all up to the mapping's end",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || {
            on(MPROTECT).change(|t, c| {
                let range = c.range();
                if let Some(hit) = t.mapping_at(range.start)
                    && hit.range.start < range.start
                    && range.end < hit.range.end
                {
                    c.args[LENGTH] = hit.range.end - range.start;
                }
            })
        },
    },
    Defect {
        name: "mprotect-first-mapping-only",
        correct: "mprotect changes all mappings in its range",
        wrong: "it changes the first",
        subtle: SUBTLE,
        claims: &["perm.prot-none", "perm.prot-read"],
        make: || {
            on(MPROTECT).change(|t, c| {
                if let [first, _, ..] = &mapped_in_range(t, c)[..]
                    && first.range.start <= c.args[ADDRESS]
                {
                    c.args[LENGTH] = first.range.end - c.args[ADDRESS];
                }
            })
        },
    },
    Defect {
        name: "mprotect-rounds-down",
        correct: "mprotect rounds its length up to whole pages",
        wrong: "above one page it rounds it down",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || on(MPROTECT).when(pages(2..)).change(|_, c| c.args[LENGTH] = page_down(c.args[LENGTH])),
    },
    Defect {
        name: "mprotect-once-only",
        correct: "mprotect sets the protection, however often it was set before",
        wrong: "the third time that a process calls it for one address it returns 0 and does nothing",
        subtle: SUBTLE,
        claims: &["perm.prot-combines", "perm.prot-none"],
        make: || {
            let mut times: HashMap<(i32, u64), u32> = HashMap::new();
            on(MPROTECT)
                .when(|_, c| c.args[ADDRESS].is_multiple_of(page()))
                .when(move |t, c| {
                    let count = times.entry((t.id(), c.args[ADDRESS])).or_default();
                    *count += 1;
                    *count == 3
                })
                .answer(0)
        },
    },
    Defect {
        name: "mprotect-read-forgets-private-stores",
        correct: "mprotect leaves the contents as they are",
        wrong: "a private mapping of a file that becomes read-only goes back to the file's bytes",
        subtle: SUBTLE,
        claims: &["private.file-unchanged", "perm.prot-read"],
        make: || forgetting(PROT_READ, |mapping| mapping.inode != 0 && !mapping.shared),
    },
    Defect {
        name: "mprotect-none-forgets-memory",
        correct: "mprotect leaves the contents as they are",
        wrong: "private memory that loses all rights is zeros when it gets them back",
        subtle: SUBTLE,
        claims: &["perm.prot-none"],
        make: || forgetting(PROT_NONE, |mapping| mapping.inode == 0 && !mapping.shared),
    },
    Defect {
        name: "mprotect-shifts-what-is-behind",
        correct: "a mapping of which a part gets other rights shows the same bytes as before",
        wrong: "what lies behind that part shows the file from a page further on",
        subtle: SUBTLE,
        claims: &["perm.prot-read", "perm.prot-none"],
        make: || {
            on(MPROTECT).carrying(
                |t, c| cut(t, c).filter(|(hit, _)| hit.protection != c.args[PROTECTION]),
                |t, _, (hit, end), result| {
                    if *result == 0 {
                        map_rest(t, &hit, end, page() as i64);
                    }
                },
            )
        },
    },
];

fn round_down(when: fn(u64) -> bool) -> Box<dyn Behaviour> {
    on(MMAP)
        .when(of_file)
        .when(move |_, c| when(c.args[LENGTH]))
        .change(|_, c| c.args[LENGTH] = page_down(c.args[LENGTH]))
}

fn fixed(_: &mut Tracee, call: &Syscall) -> bool {
    call.has(MAP_FIXED) && call.args[ADDRESS].is_multiple_of(page()) && call.args[LENGTH] != 0
}

/// Makes a mapping in two parts, before and behind the second mapping of its range.
fn around_the_second(tracee: &mut Tracee, call: &mut Syscall) -> Entry {
    let range = call.range();
    let there = mapped_in_range(tracee, call);
    let [_, second, _, ..] = &there[..] else { return Entry::Pass };
    let mut rest = *call;
    rest.args[ADDRESS] = second.range.end;
    rest.args[LENGTH] = range.end - second.range.end;
    call.args[LENGTH] = second.range.start - range.start;
    tracee.make(&rest);
    Entry::Answer(tracee.make(call))
}

/// mprotect to these rights has the mappings in its range that are meant go back to how they began.
fn forgetting(rights: i32, meant: fn(&Mapping) -> bool) -> Box<dyn Behaviour> {
    on(MPROTECT).when(move |_, c| c.args[PROTECTION] == bits(rights)).enter(move |t, c| {
        let range = c.range();
        let advice = bits(MADV_DONTNEED);
        // Memory without rights is the suite's own, kept free for mappings at fixed places.
        for hit in mapped_in_range(t, c).iter().filter(|hit| hit.protection != 0 && meant(hit)) {
            let (start, end) = (hit.range.start.max(range.start), hit.range.end.min(range.end));
            t.perform(libc::SYS_madvise, [start, end - start, advice, 0, 0, 0]);
        }
        Entry::Pass
    })
}

/// The shared mapping of a file that a range ends inside of, and where the range ends.
pub(super) fn cut(tracee: &mut Tracee, call: &Syscall) -> Option<(Mapping, u64)> {
    let end = call.range().end;
    let hit = tracee.tested_mappings().into_iter().find(|hit| hit.range.contains(&end) && hit.range.start < end)?;
    hit.shared.then_some((hit, end))
}

/// Maps what is left of a mapping from `start` on anew, so many bytes further on in the file.
pub(super) fn map_rest(tracee: &mut Tracee, hit: &Mapping, start: u64, further: i64) {
    let path = format!("/proc/self/map_files/{start:x}-{:x}", hit.range.end);
    let mode = if hit.protection & bits(PROT_WRITE) != 0 { libc::O_RDWR } else { libc::O_RDONLY };
    let descriptor =
        tracee.perform_with_path(libc::SYS_openat, [bits(libc::AT_FDCWD), 0, bits(mode), 0, 0, 0], 1, &path);
    let offset = (hit.offset + start - hit.range.start).saturating_add_signed(further);
    let how = bits(MAP_SHARED | MAP_FIXED);
    if descriptor >= 0 {
        let length = hit.range.end - start;
        tracee.perform(libc::SYS_mmap, [start, length, hit.protection, how, descriptor as u64, offset]);
        tracee.close(descriptor);
    }
}
