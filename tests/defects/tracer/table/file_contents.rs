//! Files behind mappings: what calls tell of their size, and what lies past the end.

use std::os::unix::fs::{FileExt, MetadataExt};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{COUNT, DESCRIPTOR, LENGTH, LSEEK, MMAP, MUNMAP, OFFSET, PREAD, PWRITE, READ, STAT, WRITE};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::kept::Windows;
use crate::tracer::memory::{page, page_up};
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, file, mapped_in_range, of_file, settled};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "lseek-extends",
        correct: "seeking past the end of a file changes nothing",
        wrong: "it extends the file to there",
        subtle: PLAIN,
        claims: &["file.extend-with-lseek"],
        make: || {
            on(LSEEK).when(file(0)).after_success(|t, c, result| {
                let to = *result as u64;
                if to > size(t, c, 0)
                    && let Ok(file) = t.file(c.args[0], true)
                {
                    // A file that is open for reading alone keeps its size.
                    let _ = file.set_len(to);
                }
            })
        },
    },
    Defect {
        name: "lseek-end-odd",
        correct: "SEEK_END tells the size",
        wrong: "an odd size above one page is told one too small",
        subtle: SUBTLE,
        claims: &["mmap.length.file-size"],
        make: || {
            on(LSEEK)
                .when(file(0))
                .when(argument(2, libc::SEEK_END))
                .when(argument(1, 0))
                .when(|t, c| size(t, c, 0) > page())
                .after_success(|_, _, result| *result -= *result % 2)
        },
    },
    Defect {
        name: "gap-not-zero",
        correct: "the gap that a write past the end leaves reads as zero",
        wrong: "its first byte is a space",
        subtle: PLAIN,
        claims: &["file.extend-with-lseek"],
        make: || {
            on(WRITE).and(PWRITE).when(file(0)).carrying(
                |t, c| {
                    let place = if PWRITE.contains(&c.number) { c.args[3] } else { t.open_file(c.args[0])?.1 };
                    let end = size(t, c, 0);
                    (place > end).then_some(end)
                },
                |t, c, end, _| {
                    if let Ok(file) = t.file(c.args[0], true) {
                        // A refused write leaves no gap.
                        let _ = file.write_at(b" ", end);
                    }
                },
            )
        },
    },
    Defect {
        name: "size-in-pages",
        correct: "stat tells the size to the byte",
        wrong: "it tells whole pages",
        subtle: PLAIN,
        claims: &["mmap.length.file-size", "file.store-does-not-extend"],
        make: || tell_size(page_up),
    },
    Defect {
        name: "size-odd-of-many-pages",
        correct: "stat tells the size to the byte",
        wrong: "an odd size above two pages is told one too large",
        subtle: SUBTLE,
        claims: &["mmap.length.file-size"],
        make: || tell_size(|size| if size > 2 * page() { size + size % 2 } else { size }),
    },
    Defect {
        name: "stores-extend",
        correct: "what is stored past the end of the file within its last page is not in the file",
        wrong: "at munmap the file grows to the end of the page",
        subtle: PLAIN,
        claims: &["file.store-does-not-extend"],
        make: || {
            let windows = Windows::default();
            let extended = windows.clone();
            several([
                on(MUNMAP).enter(move |t, c| {
                    for mapping in mapped_in_range(t, c).iter().filter(|mapping| mapping.shared) {
                        extended.with(mapping, |kept| {
                            let size = kept.file.metadata().map_or(0, |status| status.size());
                            let covered = mapping.offset..mapping.offset + mapping.length();
                            if covered.contains(&size) {
                                t.count();
                                drop(kept.file.set_len(page_up(size)));
                            }
                        });
                    }
                    Entry::Pass
                }),
                windows.keep(),
            ])
        },
    },
    Defect {
        name: "tail-not-zero",
        correct: "the part of the last page past the end of the file reads as zero",
        wrong: "its last byte does not",
        subtle: SUBTLE,
        claims: &["file.tail-is-zero"],
        make: || {
            on(MMAP).when(of_file).after_success(|t, c, result| {
                let size = size(t, c, DESCRIPTOR);
                let last = page_up(size).wrapping_sub(1);
                let covered = c.args[OFFSET]..c.args[OFFSET] + page_up(c.args[LENGTH]);
                if !size.is_multiple_of(page())
                    && covered.contains(&last)
                    && let Ok(memory) = t.memory()
                {
                    // A shared mapping for reading alone cannot be written.
                    let _ = memory.write(*result as u64 + last - c.args[OFFSET], b"~");
                }
            })
        },
    },
    Defect {
        name: "read-past-the-end",
        correct: "read stops at the size of the file",
        wrong: "pread fills the buffer with zeros, up to the end of the page",
        subtle: PLAIN,
        claims: &["file.peer-limited-by-size"],
        make: || {
            on(PREAD).when(file(0)).after_success(|t, c, result| {
                let end = c.args[3] + *result as u64;
                let more = (page_up(end) - end).min(c.args[COUNT] - *result as u64);
                if let Ok(memory) = t.memory()
                    && *result > 0
                    && memory.write(c.args[1] + *result as u64, &vec![0; more as usize]).is_ok()
                {
                    *result += more as i64;
                }
            })
        },
    },
    Defect {
        name: "read-stops-short-of-the-end",
        correct: "read gives the bytes up to the end of the file",
        wrong: "the last byte of an odd size is never read",
        subtle: SUBTLE,
        claims: &["peer.plain-file"],
        make: || {
            on(READ).and(PREAD).when(file(0)).carrying(
                |t, c| {
                    let from = if PREAD.contains(&c.number) { c.args[3] } else { t.open_file(c.args[0])?.1 };
                    let size = size(t, c, 0);
                    (size % 2 == 1 && from < size && from + c.args[COUNT] >= size).then_some(())
                },
                |_, _, (), result| *result -= 1,
            )
        },
    },
];

/// The size of the file whose descriptor is the argument at this place.
fn size(tracee: &Tracee, call: &Syscall, place: usize) -> u64 {
    tracee.status(call.args[place]).map_or(0, |status| status.size())
}

/// Changes the size that stat and its kin tell of regular files.
fn tell_size(tell: fn(u64) -> u64) -> Box<dyn Behaviour> {
    on(STAT).when(settled).after_success(move |t, c, _| {
        let (buffer, mode_at, size_at) = c.status_layout();
        let mode = t.number_at(buffer + mode_at).unwrap_or(0) & libc::S_IFMT;
        if mode == libc::S_IFREG
            && let Ok(memory) = t.memory()
            && let Ok(bytes) = memory.read(buffer + size_at, 8)
        {
            let size = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
            // The kernel has just written there.
            let _ = memory.write(buffer + size_at, &tell(size).to_ne_bytes());
        }
    })
}
