//! Pipes: what a read finds when there is nothing, what a write finds when nobody reads, and O_NONBLOCK.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use libc::{EAGAIN, EIO, EPIPE, O_NONBLOCK, POLLHUP, POLLIN, SIGPIPE};

use crate::tracer::behaviour::{Behaviour, Deliver, Entry, Syscall};
use crate::tracer::call::{CLOSE, COUNT, FCNTL, PIPE, POLL, READ, WRITE, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::rule::{on, on_signal, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, nonblocking, pipe};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "pipe-nonblock-lost",
        correct: "pipe2 with O_NONBLOCK makes ends that do not block",
        wrong: "the flag has no effect",
        subtle: PLAIN,
        claims: &["pipe.nonblocking-read"],
        make: || without_flag(O_NONBLOCK),
    },
    Defect {
        name: "empty-read-is-eagain",
        correct: "a read of an empty pipe blocks while a write end is open",
        wrong: "it is EAGAIN",
        subtle: PLAIN,
        claims: &["pipe.read-blocks", "program.pipe-message", "program.pipeline-output-after-end"],
        make: || on(READ).when(pipe(0)).when(nonblocking(false)).instead(|t, c| t.make_without_blocking(c)),
    },
    Defect {
        name: "empty-read-is-the-end",
        correct: "a read of an empty pipe blocks while a write end is open",
        wrong: "it is 0, as at the end",
        subtle: PLAIN,
        claims: &["pipe.read-blocks", "fifo.read-eof"],
        make: || on(READ).when(pipe(0)).when(nonblocking(false)).instead(|t, c| t.make_without_blocking(c).max(0)),
    },
    Defect {
        name: "end-with-the-first-writer",
        correct: "the end of the file comes when every write end is closed",
        wrong: "it comes when one of them is",
        subtle: SUBTLE,
        claims: &["pipe.read-eof"],
        make: end_with_first_writer,
    },
    Defect {
        name: "end-is-missed",
        correct: "when every write end is closed read returns 0",
        wrong: "it is EAGAIN",
        subtle: PLAIN,
        claims: &["pipe.read-eof", "fifo.read-eof", "pipe.no-name"],
        make: || on(READ).when(pipe(0)).when(counted).after(at_end(EAGAIN)),
    },
    Defect {
        name: "end-is-epipe",
        correct: "when every write end is closed read returns 0",
        wrong: "without O_NONBLOCK it is EPIPE",
        subtle: SUBTLE,
        claims: &["pipe.read-eof", "fifo.read-eof"],
        make: || on(READ).when(pipe(0)).when(counted).when(nonblocking(false)).after(at_end(EPIPE)),
    },
    Defect {
        name: "rest-lost-at-the-end",
        correct: "when every write end is closed the remaining bytes are read first",
        wrong: "they are lost",
        subtle: PLAIN,
        claims: &["pipe.read-eof"],
        make: || {
            on(READ)
                .when(pipe(0))
                .when(|t, c| {
                    let seen = t.poll(c.args[0], POLLIN);
                    seen & POLLHUP != 0 && seen & POLLIN != 0
                })
                .answer(0)
        },
    },
    Defect {
        name: "nonblocking-empty-is-the-end",
        correct: "a non-blocking read of an empty pipe with a writer is EAGAIN",
        wrong: "it is 0",
        subtle: PLAIN,
        claims: &["pipe.nonblocking-read"],
        make: || {
            on(READ).when(pipe(0)).after(|_, _, result| {
                if *result == error(EAGAIN) {
                    *result = 0;
                }
            })
        },
    },
    Defect {
        name: "nonblocking-end-is-eagain",
        correct: "a non-blocking read is 0 once all writers are gone",
        wrong: "it goes on being EAGAIN",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read"],
        make: || on(READ).when(pipe(0)).when(counted).when(nonblocking(true)).after(at_end(EAGAIN)),
    },
    Defect {
        name: "nonblock-not-set",
        correct: "O_NONBLOCK can be set with F_SETFL",
        wrong: "on pipes it cannot",
        subtle: PLAIN,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || on(FCNTL).when(argument(1, libc::F_SETFL)).when(pipe(0)).change(|_, c| c.args[2] &= !bits(O_NONBLOCK)),
    },
    Defect {
        name: "setfl-forgets-flags",
        correct: "F_SETFL keeps the other flags that it is given",
        wrong: "with O_NONBLOCK, O_APPEND is dropped on pipes",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read"],
        make: || {
            on(FCNTL)
                .when(argument(1, libc::F_SETFL))
                .when(pipe(0))
                .when(|_, c| c.args[2] & bits(O_NONBLOCK) != 0)
                .change(|_, c| c.args[2] &= !bits(libc::O_APPEND))
        },
    },
    Defect {
        name: "setfl-forgets-flags-of-write-ends",
        correct: "F_SETFL keeps the other flags that it is given",
        wrong: "with O_NONBLOCK, O_APPEND is dropped on write ends",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write"],
        make: || forgets_append(libc::O_WRONLY),
    },
    Defect {
        name: "setfl-forgets-flags-of-read-ends",
        correct: "F_SETFL keeps the other flags that it is given",
        wrong: "with O_NONBLOCK, O_APPEND is dropped on read ends",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read"],
        make: || forgets_append(libc::O_RDONLY),
    },
    Defect {
        name: "getfl-forgets-the-mode",
        correct: "F_GETFL tells the access mode",
        wrong: "on non-blocking pipes it tells O_RDONLY",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write", "pipe.ends"],
        make: || {
            on(FCNTL).when(argument(1, libc::F_GETFL)).when(pipe(0)).after_success(|_, _, result| {
                if *result & i64::from(O_NONBLOCK) != 0 {
                    *result &= !i64::from(libc::O_ACCMODE);
                }
            })
        },
    },
    Defect {
        name: "sigpipe-missing",
        correct: "a write without readers sends SIGPIPE",
        wrong: "it is EPIPE alone",
        subtle: PLAIN,
        claims: &["pipe.write-sigpipe", "fifo.write-sigpipe"],
        make: || on_signal(&[SIGPIPE], |_, _| Deliver::Suppress),
    },
    Defect {
        name: "sigpipe-is-sigterm",
        correct: "a write without readers sends SIGPIPE",
        wrong: "it sends SIGTERM",
        subtle: PLAIN,
        claims: &["pipe.write-sigpipe", "fifo.write-sigpipe"],
        make: || {
            on_signal(&[SIGPIPE], |_, info| {
                info.signal = libc::SIGTERM;
                Deliver::Pass
            })
        },
    },
    Defect {
        name: "write-without-readers-accepted",
        correct: "a write without readers is EPIPE, and sends SIGPIPE",
        wrong: "it is counted and lost",
        subtle: PLAIN,
        claims: &["pipe.write-sigpipe", "fifo.write-sigpipe"],
        make: || {
            several([
                on(WRITE).when(pipe(0)).after(|_, c, result| {
                    if *result == error(EPIPE) {
                        *result = c.args[COUNT] as i64;
                    }
                }),
                on_signal(&[SIGPIPE], |_, _| Deliver::Suppress),
            ])
        },
    },
    Defect {
        name: "epipe-is-eio",
        correct: "a write without readers is EPIPE where SIGPIPE does not kill",
        wrong: "it is EIO",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe"],
        make: || on(WRITE).when(pipe(0)).error(EPIPE, EIO),
    },
    Defect {
        name: "epipe-is-eio-without-a-name",
        correct: "a write without readers is EPIPE",
        wrong: "of a pipe that is no FIFO it is EIO",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe"],
        make: || on(WRITE).when(pipe(0)).when(|t, c| !t.is_fifo(c.args[0])).error(EPIPE, EIO),
    },
    Defect {
        name: "empty-write-is-epipe",
        correct: "a write of 0 bytes without readers is 0",
        wrong: "it is EPIPE",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|t, c| c.args[COUNT] == 0 && t.poll(c.args[0], libc::POLLOUT) & libc::POLLERR != 0)
                .refuse(EPIPE)
        },
    },
    Defect {
        name: "poll-of-empty-is-readable",
        correct: "poll says POLLIN when there is something to read",
        wrong: "it says so of an empty pipe",
        subtle: PLAIN,
        claims: &["pipe.consumed-once", "pipe.read-count"],
        make: || on(POLL).after(|t, c, result| see(t, c, result, |seen| seen | POLLIN)),
    },
    Defect {
        name: "poll-misses-the-end",
        correct: "poll says POLLHUP when every write end is closed",
        wrong: "it does not",
        subtle: SUBTLE,
        claims: &["pipe.read-eof"],
        make: || on(POLL).after(|t, c, result| see(t, c, result, |seen| seen & !POLLHUP)),
    },
];

fn counted(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[COUNT] > 0
}

/// Gives an error in place of the end of the file.
fn at_end(errno: i32) -> impl FnMut(&mut Tracee, &Syscall, &mut i64) {
    move |_, _, result| {
        if *result == 0 {
            *result = error(errno);
        }
    }
}

fn without_flag(flag: i32) -> Box<dyn Behaviour> {
    on(PIPE)
        .when(move |_, c| c.number == libc::SYS_pipe2 && c.args[1] & bits(flag) != 0)
        .change(move |_, c| c.args[1] &= !bits(flag))
}

/// Once a descriptor for writing has been closed, a read of the empty pipe is at the end.
fn end_with_first_writer() -> Box<dyn Behaviour> {
    let closed: Rc<RefCell<HashSet<u64>>> = Rc::default();
    let ended = Rc::clone(&closed);
    let writer = |t: &Tracee, descriptor: u64| {
        let open = t.open_file(descriptor);
        open.is_some_and(|(flags, _)| flags & libc::O_ACCMODE == libc::O_WRONLY)
    };
    several([
        on(CLOSE).when(pipe(0)).enter(move |t, c| {
            if writer(t, c.args[0]) {
                closed.borrow_mut().insert(t.inode(c.args[0]));
            }
            Entry::Pass
        }),
        on(READ)
            .when(pipe(0))
            .when(move |t, c| ended.borrow().contains(&t.inode(c.args[0])))
            .when(nonblocking(false))
            .instead(|t, c| t.make_without_blocking(c).max(0)),
    ])
}

/// Changes what poll says of the descriptors for reading pipes.
fn see(tracee: &mut Tracee, call: &Syscall, result: &mut i64, change: fn(i16) -> i16) {
    if *result < 0 || call.args[1] > 16 {
        return;
    }
    let mut ready = 0;
    for index in 0..call.args[1] {
        let entry = call.args[0] + 8 * index;
        let descriptor = u64::from(tracee.number_at(entry).unwrap_or(u32::MAX));
        let events = tracee.number_at(entry + 4).unwrap_or(0);
        let mut seen = (events >> 16) as i16;
        if events as i16 & POLLIN != 0 && tracee.is_pipe(descriptor) {
            seen = change(seen);
            let both = events & 0xffff | u32::from(seen as u16) << 16;
            tracee.set_number_at(entry + 4, both);
        }
        ready += i64::from(seen != 0);
    }
    *result = ready;
}

/// F_SETFL of O_NONBLOCK drops O_APPEND on ends that are open in this mode.
fn forgets_append(mode: i32) -> Box<dyn Behaviour> {
    on(FCNTL)
        .when(argument(1, libc::F_SETFL))
        .when(pipe(0))
        .when(move |t, c| t.access_mode(c.args[0]) == mode)
        .when(|_, c| c.args[2] & bits(O_NONBLOCK) != 0)
        .change(|_, c| c.args[2] &= !bits(libc::O_APPEND))
}
