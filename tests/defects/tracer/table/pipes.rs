//! Pipes: their ends, and the bytes that go through. What is said of pipes holds for FIFOs as well.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::rc::Rc;

use libc::{EBADF, EFAULT, EINVAL, EMFILE, ENFILE, ESPIPE, O_CLOEXEC, O_NONBLOCK};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{BUFFER, COUNT, LSEEK, PIPE, PREAD, PWRITE, READ, STAT, WRITE, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, every, pipe};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "pipe-ends-swapped",
        correct: "the first descriptor is for reading, the second for writing",
        wrong: "it is the other way round",
        subtle: PLAIN,
        claims: &["pipe.ends"],
        make: || {
            on(PIPE).after_success(|t, c, _| {
                let ends = (t.number_at(c.args[0]), t.number_at(c.args[0] + 4));
                if let (Some(read), Some(write)) = ends {
                    t.set_number_at(c.args[0], write);
                    t.set_number_at(c.args[0] + 4, read);
                }
            })
        },
    },
    Defect {
        name: "pipe-emfile-is-enfile",
        correct: "at the descriptor limit pipe is EMFILE",
        wrong: "it is ENFILE",
        subtle: PLAIN,
        claims: &["pipe.ends"],
        make: || on(PIPE).error(EMFILE, ENFILE),
    },
    Defect {
        name: "pipe-failure-leaves-descriptors",
        correct: "when pipe fails nothing is left open",
        wrong: "with a bad pointer both ends are",
        subtle: SUBTLE,
        claims: &["pipe.ends"],
        make: || {
            on(PIPE).after(|t, _, result| {
                if *result == error(EFAULT)
                    && let Ok(place) = t.scratch()
                {
                    t.perform(libc::SYS_pipe2, [place, 0, 0, 0, 0, 0]);
                    t.count();
                }
            })
        },
    },
    Defect {
        name: "pipe-cloexec-lost",
        correct: "pipe2 with O_CLOEXEC makes descriptors that exec closes",
        wrong: "the flag has no effect",
        subtle: SUBTLE,
        claims: &["pipe.ends"],
        make: || without_flag(O_CLOEXEC),
    },
    Defect {
        name: "pipe-told-as-a-file",
        correct: "stat tells of a pipe that it is a FIFO",
        wrong: "of one without a name it tells that it is a regular file",
        subtle: SUBTLE,
        claims: &["pipe.no-name"],
        make: || {
            on(STAT).when(|t, c| t.is_pipe(c.args[0]) && !t.is_fifo(c.args[0])).after_success(|t, c, _| {
                let (buffer, mode_at, _) = c.status_layout();
                let mode = t.number_at(buffer + mode_at).unwrap_or(0);
                t.set_number_at(buffer + mode_at, mode & !libc::S_IFMT | libc::S_IFREG);
            })
        },
    },
    Defect {
        name: "read-of-the-write-end",
        correct: "a read of the write end is EBADF",
        wrong: "it reads",
        subtle: PLAIN,
        claims: &["pipe.one-way"],
        make: || wrong_way(READ, libc::O_RDONLY),
    },
    Defect {
        name: "write-to-the-read-end",
        correct: "a write to the read end is EBADF",
        wrong: "it writes",
        subtle: PLAIN,
        claims: &["pipe.one-way"],
        make: || wrong_way(WRITE, libc::O_WRONLY),
    },
    Defect {
        name: "wrong-end-is-einval",
        correct: "a read of the write end and a write to the read end are EBADF",
        wrong: "they are EINVAL",
        subtle: SUBTLE,
        claims: &["pipe.one-way"],
        make: || on(READ).and(WRITE).when(pipe(0)).error(EBADF, EINVAL),
    },
    Defect {
        name: "read-stops-at-records",
        correct: "a pipe has no messages: a read takes what there is, however it was written",
        wrong: "it takes the bytes of one write",
        subtle: PLAIN,
        claims: &["pipe.byte-stream"],
        make: records,
    },
    Defect {
        name: "read-changes-the-order",
        correct: "bytes are read in the order in which they were written",
        wrong: "a read of more than a page has two changed about at the page's end",
        subtle: SUBTLE,
        claims: &["pipe.order", "pipe.byte-stream"],
        make: || {
            on(READ).when(pipe(0)).after_success(|t, c, result| {
                if *result as u64 > page() {
                    swap(t, c.args[BUFFER] + page() - 1);
                }
            })
        },
    },
    Defect {
        name: "third-read-changes-the-order",
        correct: "bytes are read in the order in which they were written",
        wrong: "every third read has its first two changed about",
        subtle: SUBTLE,
        claims: &["pipe.order", "pipe.byte-stream"],
        make: || {
            on(READ).when(pipe(0)).when(every(3)).after_success(|t, c, result| {
                if *result > 1 {
                    swap(t, c.args[BUFFER]);
                }
            })
        },
    },
    Defect {
        name: "byte-lost-at-64-kib",
        correct: "every byte that is written is read",
        wrong: "the write that crosses a multiple of 64 KiB loses its last",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream", "pipe.order", "pipe.related-only", "pipe.before-fork"],
        make: || loses_a_byte_at_each(64 << 10),
    },
    Defect {
        name: "write-of-a-certain-count-loses-a-byte",
        correct: "every byte that is written is read",
        wrong: "of a write of exactly 1717 the last is lost",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream"],
        make: || on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] == 1717).lose_the_last_byte(),
    },
    Defect {
        name: "odd-write-loses-a-byte",
        correct: "every byte that is written is read",
        wrong: "the last of an odd number above 100 is lost",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream", "pipe.write-count"],
        make: || {
            on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] > 100 && c.args[COUNT] % 2 == 1).lose_the_last_byte()
        },
    },
    Defect {
        name: "read-does-not-consume",
        correct: "what has been read is gone from the pipe",
        wrong: "it is read again",
        subtle: PLAIN,
        claims: &["pipe.consumed-once"],
        make: || on(READ).when(pipe(0)).after_success(put_back),
    },
    Defect {
        name: "fourth-read-does-not-consume",
        correct: "what has been read is gone from the pipe",
        wrong: "after every fourth read it is there again",
        subtle: SUBTLE,
        claims: &["pipe.consumed-once", "pipe.byte-stream"],
        make: || on(READ).when(pipe(0)).when(every(4)).after_success(put_back),
    },
    Defect {
        name: "pipe-lseek-accepted",
        correct: "lseek on a pipe is ESPIPE",
        wrong: "it is 0",
        subtle: PLAIN,
        claims: &["pipe.no-seek", "fifo.same-calls"],
        make: || on(LSEEK).when(pipe(0)).answer(0),
    },
    Defect {
        name: "pipe-pread-reads",
        correct: "pread on a pipe is ESPIPE",
        wrong: "at offset 0 it reads",
        subtle: SUBTLE,
        claims: &["pipe.no-seek"],
        make: || on(PREAD).when(pipe(0)).when(argument(3, 0)).change(|_, c| c.number = libc::SYS_read),
    },
    Defect {
        name: "pipe-pwrite-is-einval",
        correct: "pwrite on a pipe is ESPIPE",
        wrong: "it is EINVAL",
        subtle: SUBTLE,
        claims: &["pipe.no-seek"],
        make: || on(PWRITE).when(pipe(0)).error(ESPIPE, EINVAL),
    },
    Defect {
        name: "read-counts-one-more",
        correct: "read returns the number of bytes that it took",
        wrong: "of a read that gets fewer than asked for, it says one more",
        subtle: PLAIN,
        claims: &["pipe.read-count"],
        make: || {
            on(READ).when(pipe(0)).after_success(|_, c, result| {
                *result += i64::from(*result > 0 && (*result as u64) < c.args[COUNT]);
            })
        },
    },
];

/// Of all that goes through a pipe, the last byte of each write that crosses a multiple of so many is lost.
pub(in crate::tracer::table) fn loses_a_byte_at_each(multiple: u64) -> Box<dyn Behaviour> {
    let mut passed: HashMap<u64, u64> = HashMap::new();
    on(WRITE)
        .when(pipe(0))
        .when(move |t, c| {
            let total = passed.entry(t.inode(c.args[0])).or_default();
            let before = *total / multiple;
            *total += c.args[COUNT];
            *total / multiple != before && c.args[COUNT] > 1
        })
        .lose_the_last_byte()
}

fn without_flag(flag: i32) -> Box<dyn Behaviour> {
    on(PIPE)
        .when(move |_, c| c.number == libc::SYS_pipe2 && c.args[1] & bits(flag) != 0)
        .change(move |_, c| c.args[1] &= !bits(flag))
}

/// Lets a call through at the wrong end, by opening the pipe anew for it.
fn wrong_way(calls: &[libc::c_long], mode: i32) -> Box<dyn Behaviour> {
    on(calls)
        .when(pipe(0))
        .when(move |t, c| {
            let open = t.open_file(c.args[0]);
            open.is_some_and(|(flags, _)| {
                let own = flags & libc::O_ACCMODE;
                own != libc::O_RDWR && own != mode
            })
        })
        .instead(move |t, c| {
            let other = t.reopen(c.args[0], mode | O_NONBLOCK);
            let mut call = *c;
            call.args[0] = other as u64;
            let result = t.make(&call);
            t.close(other);
            result
        })
}

/// Changes about two bytes.
fn swap(tracee: &mut Tracee, at: u64) {
    if let Ok(memory) = tracee.memory()
        && let Ok(two) = memory.read(at, 2)
    {
        // The kernel has just written there.
        let _ = memory.write(at, &[two[1], two[0]]);
    }
}

/// Writes what was read into the pipe again, before what is left in it.
fn put_back(tracee: &mut Tracee, call: &Syscall, result: &mut i64) {
    let read = tracee.memory().and_then(|memory| memory.read(call.args[BUFFER], *result as usize));
    let (Ok(mut bytes), Ok(mut from)) = (read, tracee.file(call.args[0], false)) else {
        return;
    };
    let Ok(mut to) = tracee.file(call.args[0], true) else {
        return;
    };
    // Ends with EAGAIN when the pipe is empty.
    let _ = from.read_to_end(&mut bytes);
    // A pipe that is read by others meanwhile may be too full.
    let _ = to.write_all(&bytes);
}

/// Remembers the size of each write, and lets no read go beyond the oldest.
fn records() -> Box<dyn Behaviour> {
    let written: Rc<RefCell<HashMap<u64, VecDeque<u64>>>> = Rc::default();
    let read = Rc::clone(&written);
    several([
        on(WRITE).when(pipe(0)).after(move |t, c, result| {
            if *result > 0 {
                let pipe = t.inode(c.args[0]);
                let mut written = written.borrow_mut();
                written.entry(pipe).or_default().push_back(*result as u64);
            }
        }),
        on(READ).when(pipe(0)).enter(move |t, c| {
            let mut records = read.borrow_mut();
            let records = records.entry(t.inode(c.args[0])).or_default();
            if let Some(first) = records.front_mut() {
                c.args[COUNT] = c.args[COUNT].min(*first);
                *first -= c.args[COUNT];
                if *first == 0 {
                    records.pop_front();
                }
            }
            Entry::Pass
        }),
    ])
}
