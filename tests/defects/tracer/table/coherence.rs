//! Mapping and file as one: what read, write and the disk have to do with it.

use crate::tracer::behaviour::{Entry, Syscall};
use crate::tracer::call::{COUNT, MUNMAP, PREAD, PWRITE, READ, WRITE, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::kept::Windows;
use crate::tracer::memory::{page, page_up};
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::file;

const CACHESTAT: &[libc::c_long] = &[451];

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "pwrite-stops-at-the-page",
        correct: "pwrite stores all the bytes that it counts",
        wrong: "those beyond the first page boundary are lost",
        subtle: SUBTLE,
        claims: &["shared.file-write-visible"],
        make: || {
            on(PWRITE).when(file(0)).carrying(
                |_, c| {
                    let room = page_up(c.args[3] + 1) - c.args[3];
                    let all = c.args[COUNT];
                    c.args[COUNT] = all.min(room);
                    (all > room).then_some(all)
                },
                |_, _, all, result| {
                    if *result > 0 {
                        *result = all as i64;
                    }
                },
            )
        },
    },
    Defect {
        name: "write-unseen-by-the-mapping",
        correct: "what write puts into the file is seen through a shared mapping",
        wrong: "the writing process's own mappings go on with what they had",
        subtle: PLAIN,
        claims: &["shared.file-write-visible"],
        make: || {
            on(WRITE).and(PWRITE).when(file(0)).enter(|t, c| {
                for mapping in t.mappings_of(c.args[0]) {
                    if mapping.shared {
                        t.detach(mapping.range.start, mapping.length(), mapping.protection);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "write-at-the-offset-unseen-by-the-mapping",
        correct: "what write puts into the file is seen in the mapping",
        wrong: "not if it is written at the file's offset",
        subtle: SUBTLE,
        claims: &["shared.file-write-visible"],
        make: || {
            on(WRITE).when(file(0)).enter(|t, c| {
                for mapping in t.mappings_of(c.args[0]) {
                    if mapping.shared {
                        t.detach(mapping.range.start, mapping.length(), mapping.protection);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "read-misses-stores",
        correct: "read sees what was stored through a shared mapping",
        wrong: "it gives what the file held when it was mapped, until munmap",
        subtle: PLAIN,
        claims: &["shared.store-reaches-file"],
        make: || {
            let windows = Windows::default();
            let (old, unmapped) = (windows.clone(), windows.clone());
            several([
                on(READ).and(PREAD).when(file(0)).carrying(
                    |t, c| match PREAD.contains(&c.number) {
                        true => Some(c.args[3]),
                        false => t.open_file(c.args[0]).map(|(_, offset)| offset),
                    },
                    move |t, c, offset, result| old_bytes(t, c, offset, *result, &old),
                ),
                on(MUNMAP).enter(move |t, c| {
                    unmapped.take(t.id(), c.range(), |_| {});
                    Entry::Pass
                }),
                windows.keep(),
            ])
        },
    },
    Defect {
        name: "munmap-writes-back",
        correct: "munmap writes nothing to the disk",
        wrong: "it does, as msync with MS_SYNC",
        subtle: PLAIN,
        claims: &["shared.written-back-at-munmap"],
        make: || {
            on(MUNMAP).enter(|t, c| {
                let how = bits(libc::MS_SYNC);
                t.perform(libc::SYS_msync, [c.args[0], c.args[1], how, 0, 0, 0]);
                Entry::Pass
            })
        },
    },
    Defect {
        name: "stores-go-to-the-disk",
        correct: "a store is not written to the disk as it is made",
        wrong: "no page of a file is ever seen dirty",
        subtle: PLAIN,
        claims: &["shared.not-at-once-on-disk"],
        make: || {
            on(CACHESTAT).when(file(0)).enter(|t, c| {
                t.perform(libc::SYS_fsync, [c.args[0], 0, 0, 0, 0, 0]);
                Entry::Pass
            })
        },
    },
    Defect {
        name: "read-calls-mmap",
        correct: "a process that may not call mmap any more still reads files",
        wrong: "read makes a mapping in the process's name",
        subtle: SUBTLE,
        claims: &["program.strace-uses-mmap"],
        make: || {
            on(READ).and(WRITE).when(file(0)).enter(|t, _| {
                let none = bits(libc::PROT_NONE);
                let how = bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                let start = t.perform(libc::SYS_mmap, [0, page(), none, how, u64::MAX, 0]);
                if start > 0 {
                    t.unmap(start as u64, page());
                }
                Entry::Pass
            })
        },
    },
];

/// Replaces what was read by what the file held when it was mapped.
fn old_bytes(tracee: &mut Tracee, call: &Syscall, offset: u64, count: i64, windows: &Windows) {
    let inode = tracee.inode(call.args[0]);
    let (Ok(memory), 1..) = (tracee.memory(), count) else {
        return;
    };
    windows.each(inode, |kept| {
        let start = offset.max(kept.offset);
        let end = (offset + count as u64).min(kept.offset + kept.bytes.len() as u64);
        if start < end {
            let part = (start - kept.offset) as usize..(end - kept.offset) as usize;
            // The kernel has just written there.
            let _ = memory.write(call.args[1] + start - offset, &kept.bytes[part]);
        }
    });
}
