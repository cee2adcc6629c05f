//! Files behind mappings: empty, growing, shrinking, without a name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

use libc::{EINVAL, ENODEV, MAP_FIXED, MAP_SHARED};

use crate::tracer::behaviour::{Behaviour, Syscall};
use crate::tracer::call::{ADDRESS, DESCRIPTOR, FTRUNCATE, LENGTH, MMAP, OFFSET, PROTECTION, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{file, of_file};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "empty-file-refused",
        correct: "a file of size 0 can be mapped, if the length is not 0",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["file.empty-refused"],
        make: || on(MMAP).when(of_file).when(|t, c| size(t, c, DESCRIPTOR) == 0).refuse(EINVAL),
    },
    Defect {
        name: "beyond-end-refused",
        correct: "a mapping may begin at or beyond the end of the file",
        wrong: "there it is EINVAL, but for an empty file",
        subtle: SUBTLE,
        claims: &["file.must-be-sized-first"],
        make: || {
            on(MMAP).when(of_file).when(|t, c| (1..=c.args[OFFSET]).contains(&size(t, c, DESCRIPTOR))).refuse(EINVAL)
        },
    },
    Defect {
        name: "grown-pages-stay-out",
        correct: "pages that a file gets after it was mapped become accessible",
        wrong: "those that lay beyond its end when it was mapped never do",
        subtle: PLAIN,
        claims: &["file.must-be-sized-first", "file.empty-refused"],
        make: || {
            on(MMAP).when(of_file).after_success(|t, c, result| {
                let inside = page_up(size(t, c, DESCRIPTOR)).saturating_sub(c.args[OFFSET]);
                let length = page_up(c.args[LENGTH]);
                if inside < length {
                    stay_out(t, c, *result as u64 + inside, length - inside);
                }
            })
        },
    },
    Defect {
        name: "grown-bytes-are-old",
        correct: "bytes that ftruncate adds read as zero",
        wrong: "those that were cut off before come back",
        subtle: PLAIN,
        claims: &["file.extend-with-truncate"],
        make: || keep_what_is_cut_off(|new, old| new..old),
    },
    Defect {
        name: "grown-bytes-are-old-within-the-page",
        correct: "bytes that ftruncate adds read as zero",
        wrong: "those that were cut off come back in the page that the file had ended in",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate"],
        make: || keep_what_is_cut_off(|new, old| new..old.min(page_up(new))),
    },
    Defect {
        name: "grown-bytes-not-zero",
        correct: "bytes that ftruncate adds read as zero",
        wrong: "the last of them is 0xee",
        subtle: PLAIN,
        claims: &["file.extend-with-truncate"],
        make: || after_growth(0, |_, new| new - 1),
    },
    Defect {
        name: "grown-bytes-not-zero-in-a-middle-page",
        correct: "bytes that ftruncate adds read as zero",
        wrong: "of three pages and more, one byte in the second is 0xee",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate"],
        make: || after_growth(3, |old, _| page_up(old) + page() + 5),
    },
    Defect {
        name: "ftruncate-rounds-up",
        correct: "ftruncate sets the size to the byte",
        wrong: "it rounds it up to whole pages",
        subtle: PLAIN,
        claims: &["file.extend-with-truncate", "mmap.length.file-size"],
        make: || on(FTRUNCATE).when(file(0)).change(|_, c| c.args[1] = page_up(c.args[1])),
    },
    Defect {
        name: "ftruncate-does-not-shrink-a-little",
        correct: "ftruncate sets the size to the byte",
        wrong: "less than 16 bytes are not cut off",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate"],
        make: || {
            on(FTRUNCATE).when(file(0)).when(|t, c| (c.args[1] + 1..c.args[1] + 16).contains(&size(t, c, 0))).answer(0)
        },
    },
    Defect {
        name: "ftruncate-odd-is-one-more",
        correct: "ftruncate sets the size to the byte",
        wrong: "an odd size above one page is one more",
        subtle: SUBTLE,
        claims: &["file.extend-with-truncate", "mmap.length.file-size"],
        make: || {
            on(FTRUNCATE)
                .when(file(0))
                .when(|_, c| c.args[1] % 2 == 1 && c.args[1] > page())
                .change(|_, c| c.args[1] += 1)
        },
    },
    Defect {
        name: "unlinked-file-not-sized",
        correct: "a file without a name can be sized",
        wrong: "ftruncate of it is EINVAL",
        subtle: SUBTLE,
        claims: &["lifetime.unlinked-file"],
        make: || on(FTRUNCATE).when(file(0)).when(|t, c| nameless(t, c, 0)).refuse(EINVAL),
    },
    Defect {
        name: "unlinked-file-not-mapped",
        correct: "a file without a name can be mapped",
        wrong: "it is ENODEV",
        subtle: SUBTLE,
        claims: &["lifetime.unlinked-file"],
        make: || on(MMAP).when(of_file).when(|t, c| nameless(t, c, DESCRIPTOR)).refuse(ENODEV),
    },
];

/// The size of the file whose descriptor is the argument at this place.
fn size(tracee: &Tracee, call: &Syscall, place: usize) -> u64 {
    tracee.status(call.args[place]).map_or(0, |status| status.size())
}

fn nameless(tracee: &Tracee, call: &Syscall, place: usize) -> bool {
    let status = tracee.status(call.args[place]);
    let memfd = tracee.name(call.args[place]).starts_with("/memfd:");
    !memfd && status.is_ok_and(|status| status.nlink() == 0)
}

/// Puts pages of an empty file where those of the file beyond its end are.
fn stay_out(tracee: &mut Tracee, mmap: &Syscall, start: u64, length: u64) {
    let empty = tracee.perform_with_path(libc::SYS_memfd_create, [0; 6], 0, "beyond");
    let mut outside = *mmap;
    outside.share(MAP_SHARED);
    outside.args[ADDRESS] = start;
    outside.args[LENGTH] = length;
    outside.args[3] = bits(MAP_SHARED | MAP_FIXED);
    outside.args[PROTECTION] = mmap.args[PROTECTION];
    outside.args[DESCRIPTOR] = empty as u64;
    outside.args[OFFSET] = 0;
    tracee.make(&outside);
    tracee.close(empty);
}

/// Keeps what ftruncate cuts off, of the bytes from the new to the old size, until the file grows again.
fn keep_what_is_cut_off(part: fn(u64, u64) -> std::ops::Range<u64>) -> Box<dyn Behaviour> {
    let cut = Rc::new(RefCell::new(HashMap::new()));
    on(FTRUNCATE).when(file(0)).carrying(
        |t, c| Some((size(t, c, 0), t.file(c.args[0], true).ok()?, read_all(t, c))),
        move |t, c, (old, file, contents), result| {
            let (new, inode) = (c.args[1], t.inode(c.args[0]));
            let mut cut = cut.borrow_mut();
            if *result < 0 {
                return;
            }
            if new < old {
                let part = part(new, old);
                let kept = contents.get(part.start as usize..part.end as usize);
                cut.insert(inode, (part.start, kept.unwrap_or_default().to_vec()));
            } else if let Some((start, bytes)) = cut.remove(&inode) {
                let fitting = bytes.len().min(new.saturating_sub(start) as usize);
                drop(file.write_all_at(&bytes[..fitting], start));
            }
        },
    )
}

fn read_all(tracee: &Tracee, call: &Syscall) -> Vec<u8> {
    const LIMIT: usize = 4 << 20;
    let length = (size(tracee, call, 0) as usize).min(LIMIT);
    let mut bytes = vec![0; length];
    match tracee.file(call.args[0], false) {
        Ok(file) if file.read_exact_at(&mut bytes, 0).is_ok() => bytes,
        _ => Vec::new(),
    }
}

/// Spoils one byte, placed by the old and new size, when a file has grown by so many pages at least.
fn after_growth(pages: u64, place: fn(u64, u64) -> u64) -> Box<dyn Behaviour> {
    on(FTRUNCATE).when(file(0)).carrying(
        move |t, c| {
            let old = size(t, c, 0);
            (c.args[1] > old && c.args[1] - page_down(old) > pages * page()).then_some(old)
        },
        move |t, c, old, result| {
            if let (0, Ok(file)) = (*result, t.file(c.args[0], true)) {
                drop(file.write_all_at(&[0xee], place(old, c.args[1])));
            }
        },
    )
}
