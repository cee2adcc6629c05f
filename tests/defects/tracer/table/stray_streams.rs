//! Pipes that go wrong for a second who waits, at one count, or after what should have no effect.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use libc::{
    EAGAIN, EBUSY, EIO, EPIPE, F_GETPIPE_SZ, F_SETFL, F_SETPIPE_SZ, O_NONBLOCK, O_RDONLY, O_WRONLY, PIPE_BUF, POLLERR,
    POLLIN, POLLOUT, SEEK_CUR,
};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall, Sysno};
use crate::tracer::call::{CLOSE, COUNT, FCNTL, IOCTL, LSEEK, POLL, READ, WRITE, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::table::pipe_room::write_what_fits;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, nonblocking, pipe};

/// Reading, and what may be read.
pub const READING: &[Defect] = &[
    Defect {
        name: "poll-of-one-byte-is-empty",
        correct: "poll tells POLLIN when there is anything to read",
        wrong: "not of a single byte",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.read-blocks", "pipe.consumed-once", "pipe.nonblocking-read"],
        make: || {
            on(POLL).when(|_, c| c.args[1] == 1).after_success(|t, c, result| {
                let descriptor = u64::from(t.number_at(c.args[0]).unwrap_or(u32::MAX));
                let events = t.number_at(c.args[0] + 4).unwrap_or(0);
                let told = u32::from(POLLIN as u16) << 16;
                if events & told != 0 && t.is_pipe(descriptor) && t.available(descriptor) == 1 {
                    t.set_number_at(c.args[0] + 4, events & !told);
                    *result = i64::from((events & !told) >> 16 != 0);
                }
            })
        },
    },
    Defect {
        name: "fionread-of-the-first-page",
        correct: "FIONREAD counts all bytes of a pipe",
        wrong: "no more than a page of them",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.write-count", "pipe.consumed-once"],
        make: || fionread(|_, _, bytes| bytes.min(page() as u32)),
    },
    Defect {
        name: "fionread-of-the-write-end-is-zero",
        correct: "FIONREAD counts the bytes of a pipe, by either end",
        wrong: "it is 0 by the write end",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.write-count", "pipe.consumed-once"],
        make: || fionread(|t, c, bytes| if t.access_mode(c.args[0]) == O_WRONLY { 0 } else { bytes }),
    },
    Defect {
        name: "empty-read-takes-a-byte",
        correct: "a read of no bytes takes none",
        wrong: "the next byte is gone",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.byte-stream"],
        make: || {
            on(READ)
                .when(pipe(0))
                .when(|t, c| c.args[COUNT] == 0 && t.access_mode(c.args[0]) == O_RDONLY && t.available(c.args[0]) > 0)
                .instead(|t, c| {
                    if let Ok(place) = t.scratch() {
                        t.perform(libc::SYS_read, [c.args[0], place, 1, 0, 0, 0]);
                    }
                    0
                })
        },
    },
    Defect {
        name: "second-waiting-reader-stays-asleep",
        correct: "every process that waits in read is woken when there is something for it",
        wrong: "not one that has begun to wait behind another",
        subtle: SUBTLE,
        claims: &["pipe.read-blocks", "pipe.read-eof"],
        make: || second_waiter_stays_asleep(READ, POLLIN),
    },
    Defect {
        name: "end-told-once",
        correct: "at the end every read is 0",
        wrong: "the second one, if it does not wait, is EAGAIN",
        subtle: SUBTLE,
        claims: &["pipe.read-eof", "pipe.nonblocking-read"],
        make: || {
            let mut told = HashSet::new();
            on(READ).when(pipe(0)).when(nonblocking(true)).when(|_, c| c.args[COUNT] > 0).after(move |t, c, result| {
                if *result == 0 && !told.insert(t.inode(c.args[0])) {
                    *result = error(EAGAIN);
                }
            })
        },
    },
    Defect {
        name: "read-of-pages-waits-for-all",
        correct: "a read that waits returns with what there is",
        wrong: "one of two whole pages and more goes on waiting for the rest",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.read-blocks"],
        make: || {
            on(READ)
                .when(pipe(0))
                .when(|_, c| c.args[COUNT] >= 2 * page() && c.args[COUNT].is_multiple_of(page()))
                .when(nonblocking(false))
                .when(|t, c| (1..c.args[COUNT]).contains(&t.available(c.args[0])))
                .change(wait_for_ever)
        },
    },
    Defect {
        name: "duplicate-of-the-write-end-closed-is-the-end",
        correct: "the end comes when every write end is closed",
        wrong: "it comes when a process closes one of two that it has",
        subtle: SUBTLE,
        claims: &["pipe.read-eof", "pipe.read-blocks"],
        make: || {
            let ended: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let over = Rc::clone(&ended);
            several([
                on(CLOSE).when(pipe(0)).when(|t, c| t.access_mode(c.args[0]) == O_WRONLY).enter(move |t, c| {
                    let inode = t.inode(c.args[0]);
                    let ends = t.descriptors().into_iter().filter(|fd| t.inode(*fd) == inode);
                    if ends.filter(|fd| t.access_mode(*fd) == O_WRONLY).count() > 1 {
                        ended.borrow_mut().insert(inode);
                    }
                    Entry::Pass
                }),
                on(READ)
                    .when(pipe(0))
                    .when(move |t, c| over.borrow().contains(&t.inode(c.args[0])) && t.available(c.args[0]) == 0)
                    .answer(0),
            ])
        },
    },
    Defect {
        name: "pipe-tells-an-offset",
        correct: "lseek of a pipe is ESPIPE",
        wrong: "asked where it is it says 0",
        subtle: SUBTLE,
        claims: &["pipe.no-seek"],
        make: || on(LSEEK).when(pipe(0)).when(argument(2, SEEK_CUR)).when(|_, c| c.args[1] == 0).answer(0),
    },
    Defect {
        name: "fork-clears-nonblock",
        correct: "fork leaves the flags of open files",
        wrong: "pipes are blocking again",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || {
            on_fork(|_, child| {
                for descriptor in child.descriptors() {
                    let flags = child.open_file(descriptor).map_or(0, |(flags, _)| flags);
                    if flags & O_NONBLOCK != 0 && child.is_pipe(descriptor) {
                        child.count();
                        child.fcntl(descriptor, F_SETFL, bits(flags & !O_NONBLOCK));
                    }
                }
            })
        },
    },
];

/// Writing, and how much fits.
pub const WRITING: &[Defect] = &[
    Defect {
        name: "write-of-the-capacity-is-short",
        correct: "an empty pipe takes as many bytes as its capacity at once",
        wrong: "of just that many, without waiting, the last is not taken",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer", "pipe.nonblocking-write"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(nonblocking(true))
                .when(|t, c| c.args[COUNT] == capacity(t, c.args[0]) && t.available(c.args[0]) == 0)
                .change(|_, c| c.args[COUNT] -= 1)
        },
    },
    Defect {
        name: "last-free-page-refused",
        correct: "a page fits into the last free page",
        wrong: "without waiting it is EAGAIN",
        subtle: PLAIN,
        claims: &["pipe.kernel-buffer", "pipe.nonblocking-write"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(nonblocking(true))
                .when(|t, c| c.args[COUNT] == page() && t.available(c.args[0]) + page() == capacity(t, c.args[0]))
                .refuse(EAGAIN)
        },
    },
    Defect {
        name: "second-waiting-writer-stays-asleep",
        correct: "every process that waits in write is woken when there is room for it",
        wrong: "not one that has begun to wait behind another",
        subtle: SUBTLE,
        claims: &["pipe.write-blocks", "pipe.write-sigpipe"],
        make: || second_waiter_stays_asleep(WRITE, POLLOUT),
    },
    Defect {
        name: "waiting-write-without-readers-is-eio",
        correct: "a write that waits is EPIPE when the last reader goes",
        wrong: "it is EIO",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe", "pipe.write-blocks", "fifo.write-sigpipe", "fifo.full-blocks"],
        make: || {
            on(WRITE).when(pipe(0)).carrying(
                |t, c| (t.poll(c.args[0], POLLOUT) & POLLERR == 0).then_some(()),
                |_, _, (), result| {
                    if *result == error(EPIPE) {
                        *result = error(EIO);
                    }
                },
            )
        },
    },
    Defect {
        name: "capacity-not-set-with-bytes-in-it",
        correct: "the capacity can be set to anything that is in use by then",
        wrong: "it is EBUSY unless the pipe is empty",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || on(FCNTL).when(argument(1, F_SETPIPE_SZ)).when(|t, c| t.available(c.args[0]) > 0).refuse(EBUSY),
    },
    Defect {
        name: "empty-write-is-an-end",
        correct: "a write of no bytes has no effect",
        wrong: "the next read of the empty pipe is 0",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream", "pipe.read-blocks", "pipe.write-count"],
        make: || {
            let marked: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let due = Rc::clone(&marked);
            several([
                on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] == 0).enter(move |t, c| {
                    marked.borrow_mut().insert(t.inode(c.args[0]));
                    Entry::Pass
                }),
                on(READ)
                    .when(pipe(0))
                    .when(move |t, c| t.available(c.args[0]) == 0 && due.borrow_mut().remove(&t.inode(c.args[0])))
                    .answer(0),
            ])
        },
    },
    Defect {
        name: "write-after-a-read-in-part-loses-a-byte",
        correct: "what is written comes out, whatever was read before",
        wrong: "the first write after a read that left something loses its last byte",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream", "pipe.consumed-once", "pipe.order"],
        make: || {
            let begun: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let due = Rc::clone(&begun);
            several([
                on(READ).when(pipe(0)).after_success(move |t, c, result| {
                    if *result > 0 && t.available(c.args[0]) > 0 {
                        begun.borrow_mut().insert(t.inode(c.args[0]));
                    }
                }),
                on(WRITE)
                    .when(pipe(0))
                    .when(move |t, c| c.args[COUNT] > 1 && due.borrow_mut().remove(&t.inode(c.args[0])))
                    .lose_the_last_byte(),
            ])
        },
    },
    Defect {
        name: "write-of-just-pipe-buf-in-two",
        correct: "a write of PIPE_BUF bytes is not mixed with others",
        wrong: "one of exactly so many puts in what fits first",
        subtle: SUBTLE,
        claims: &["pipe.atomic-writes"],
        make: || {
            on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] == PIPE_BUF as u64).when(nonblocking(false)).carrying(
                write_what_fits,
                |_, _, written, result| {
                    if *result >= 0 {
                        *result += written;
                    }
                },
            )
        },
    },
    Defect {
        name: "freed-page-is-refused-once",
        correct: "when a page has been read from a full pipe there is room for one",
        wrong: "the first write after that, if it does not wait, is EAGAIN",
        subtle: SUBTLE,
        claims: &["pipe.consumed-once", "pipe.nonblocking-write"],
        make: freed_page_is_refused_once,
    },
];

fn capacity(tracee: &mut Tracee, descriptor: u64) -> u64 {
    tracee.fcntl(descriptor, F_GETPIPE_SZ, 0) as u64
}

/// What FIONREAD tells of a pipe.
pub(super) fn fionread(told: fn(&mut Tracee, &Syscall, u32) -> u32) -> Box<dyn Behaviour> {
    on(IOCTL).when(pipe(0)).when(|_, c| c.args[1] == libc::FIONREAD).after(move |t, c, result| {
        let Some(bytes) = t.number_at(c.args[2]) else { return };
        let wrong = told(t, c, bytes);
        if *result == 0 && wrong != bytes {
            t.count();
            t.set_number_at(c.args[2], wrong);
        }
    })
}

/// The call is made on a pipe that nobody else has.
fn wait_for_ever(tracee: &mut Tracee, call: &mut Syscall) {
    let Ok(place) = tracee.scratch() else { return };
    if tracee.perform(libc::SYS_pipe2, [place, 0, 0, 0, 0, 0]) == 0 {
        call.args[0] = tracee.number_at(place).map_or(u64::MAX, u64::from);
    }
}

/// A process that begins to wait where another waits already waits for ever, though `events` come.
fn second_waiter_stays_asleep(call: &'static [Sysno], events: i16) -> Box<dyn Behaviour> {
    let held: Rc<RefCell<HashMap<i32, u64>>> = Rc::default();
    let left = Rc::clone(&held);
    on(call).when(pipe(0)).when(nonblocking(false)).carrying(
        move |t, c| {
            let inode = t.inode(c.args[0]);
            if t.poll(c.args[0], events) != 0 || c.args[COUNT] == 0 {
                return None;
            }
            left.borrow_mut().retain(|task, _| std::path::Path::new(&format!("/proc/{task}")).exists());
            let second = left.borrow().iter().any(|(task, other)| *task != t.task() && *other == inode);
            left.borrow_mut().insert(t.task(), inode);
            if second {
                stay_asleep(t, c);
            }
            Some(())
        },
        move |t, _, (), _| {
            held.borrow_mut().remove(&t.task());
        },
    )
}

/// A read of an empty pipe, or a write of a full one, that nobody else has.
pub(super) fn stay_asleep(tracee: &mut Tracee, call: &mut Syscall) {
    let Ok(place) = tracee.scratch() else { return };
    if tracee.perform(libc::SYS_pipe2, [place, bits(O_NONBLOCK), 0, 0, 0, 0]) != 0 {
        return;
    }
    tracee.count();
    let ends = [place, place + 4].map(|at| tracee.number_at(at).map_or(u64::MAX, u64::from));
    let end = if READ.contains(&call.number) { ends[0] } else { ends[1] };
    if WRITE.contains(&call.number) {
        let length = capacity(tracee, end);
        for _ in 0..length {
            if tracee.perform(libc::SYS_write, [end, call.args[1], call.args[COUNT], 0, 0, 0]) < 0 {
                break;
            }
        }
    }
    tracee.fcntl(end, F_SETFL, bits(tracee.access_mode(end)));
    call.args[0] = end;
}

fn freed_page_is_refused_once() -> Box<dyn Behaviour> {
    let freed: Rc<RefCell<HashSet<u64>>> = Rc::default();
    let due = Rc::clone(&freed);
    several([
        on(READ).when(pipe(0)).carrying(
            |t, c| (t.available(c.args[0]) == capacity(t, c.args[0])).then_some(()),
            move |t, c, (), result| {
                if *result >= page() as i64 {
                    freed.borrow_mut().insert(t.inode(c.args[0]));
                }
            },
        ),
        on(WRITE)
            .when(pipe(0))
            .when(nonblocking(true))
            .when(move |t, c| c.args[COUNT] > 0 && due.borrow_mut().remove(&t.inode(c.args[0])))
            .refuse(EAGAIN),
    ])
}
