//! Pipes: how much they hold, what a full one does, and which writes are atomic.

use std::io::Read;

use libc::{EAGAIN, F_GETPIPE_SZ, F_SETPIPE_SZ};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{BUFFER, COUNT, FCNTL, IOCTL, PIPE, WRITE, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, nonblocking, pipe};

/// The largest write that is atomic.
const PIPE_BUF: u64 = 4096;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "pipe-of-one-page",
        correct: "a pipe has 16 pages by default",
        wrong: "it has one",
        subtle: PLAIN,
        claims: &["pipe.size-4096", "pipe.kernel-buffer"],
        make: || {
            on(PIPE).after_success(|t, c, _| {
                let end = t.number_at(c.args[0]).unwrap_or(u32::MAX);
                t.fcntl(u64::from(end), F_SETPIPE_SZ, page());
            })
        },
    },
    Defect {
        name: "capacity-told-wrong",
        correct: "F_GETPIPE_SZ tells the capacity",
        wrong: "it tells one page too many",
        subtle: PLAIN,
        claims: &["pipe.kernel-buffer"],
        make: || on(FCNTL).when(argument(1, F_GETPIPE_SZ)).after_success(|_, _, result| *result += page() as i64),
    },
    Defect {
        name: "capacity-not-set",
        correct: "F_SETPIPE_SZ sets the capacity",
        wrong: "above 16 pages it only says so",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL)
                .when(argument(1, F_SETPIPE_SZ))
                .when(|_, c| c.args[2] > 16 * page())
                .enter(|_, c| Entry::Answer(c.args[2].next_power_of_two() as i64))
        },
    },
    Defect {
        name: "capacity-rounded-down",
        correct: "F_SETPIPE_SZ rounds up",
        wrong: "it rounds down to a power of two",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL)
                .when(argument(1, F_SETPIPE_SZ))
                .when(|_, c| c.args[2] > page() && !c.args[2].is_power_of_two())
                .change(|_, c| c.args[2] = c.args[2].next_power_of_two() / 2)
        },
    },
    Defect {
        name: "full-pipe-overwrites",
        correct: "a write to a full pipe blocks or is EAGAIN",
        wrong: "it takes the place of the oldest bytes",
        subtle: PLAIN,
        claims: &["pipe.overflow-overwrites"],
        make: || {
            when_full(|t, c| {
                if let Ok(mut oldest) = t.file(c.args[0], false) {
                    // What cannot be read makes no room, and the write is still EAGAIN.
                    let _ = oldest.read(&mut vec![0; c.args[COUNT].max(page()) as usize]);
                }
                t.make_without_blocking(c)
            })
        },
    },
    Defect {
        name: "full-pipe-drops",
        correct: "a write to a full pipe blocks or is EAGAIN",
        wrong: "it is counted and lost",
        subtle: PLAIN,
        claims: &["pipe.write-blocks", "pipe.nonblocking-write"],
        make: || when_full(|_, c| c.args[COUNT] as i64),
    },
    Defect {
        name: "full-pipe-is-eagain",
        correct: "a write to a full pipe blocks while O_NONBLOCK is not set",
        wrong: "it is EAGAIN",
        subtle: PLAIN,
        claims: &["pipe.write-blocks", "fifo.full-blocks"],
        make: || on(WRITE).when(pipe(0)).when(nonblocking(false)).instead(|t, c| t.make_without_blocking(c)),
    },
    Defect {
        name: "full-pipe-is-enospc",
        correct: "a non-blocking write to a full pipe is EAGAIN",
        wrong: "it is ENOSPC",
        subtle: PLAIN,
        claims: &["pipe.nonblocking-write"],
        make: || on(WRITE).when(pipe(0)).error(EAGAIN, libc::ENOSPC),
    },
    Defect {
        name: "small-write-partial",
        correct: "a non-blocking write of up to PIPE_BUF bytes is done wholly or not at all",
        wrong: "where there is room for a part, that is written",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write", "pipe.atomic-writes"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|_, c| (2..=PIPE_BUF).contains(&c.args[COUNT]))
                .when(nonblocking(true))
                .instead(|t, c| {
                    let mut part = *c;
                    let mut result = t.make(&part);
                    while result == error(EAGAIN) && part.args[COUNT] > 1 {
                        part.args[COUNT] /= 2;
                        result = t.make(&part);
                    }
                    result
                })
        },
    },
    Defect {
        name: "small-write-in-two",
        correct: "writes of up to PIPE_BUF bytes are never interleaved",
        wrong: "one that has to wait puts in what fits first",
        subtle: SUBTLE,
        claims: &["pipe.atomic-writes"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|_, c| (2..=PIPE_BUF).contains(&c.args[COUNT]))
                .when(nonblocking(false))
                .carrying(write_what_fits, |_, _, written, result| {
                    if *result >= 0 {
                        *result += written;
                    }
                })
        },
    },
    Defect {
        name: "small-write-in-two-without-a-name",
        correct: "a write of at most PIPE_BUF bytes is not mixed with others",
        wrong: "to a pipe that is no FIFO what fits is written first",
        subtle: SUBTLE,
        claims: &["pipe.atomic-writes"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|t, c| !t.is_fifo(c.args[0]))
                .when(|_, c| (2..=PIPE_BUF).contains(&c.args[COUNT]))
                .when(nonblocking(false))
                .carrying(write_what_fits, |_, _, written, result| {
                    if *result >= 0 {
                        *result += written;
                    }
                })
        },
    },
    Defect {
        name: "large-write-all-or-nothing",
        correct: "a non-blocking write of more than PIPE_BUF bytes takes what there is room for",
        wrong: "if not all fit, it is EAGAIN",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|_, c| c.args[COUNT] > PIPE_BUF)
                .when(nonblocking(true))
                .when(|t, c| {
                    let capacity = t.fcntl(c.args[0], F_GETPIPE_SZ, 0) as u64;
                    t.available(c.args[0]) + c.args[COUNT] > capacity
                })
                .refuse(EAGAIN)
        },
    },
    Defect {
        name: "write-counts-one-less",
        correct: "write returns the number of bytes that it stored",
        wrong: "of three and more it says one less",
        subtle: PLAIN,
        claims: &["pipe.write-count"],
        make: || {
            on(WRITE).when(pipe(0)).after_success(|_, _, result| {
                *result -= i64::from(*result > 2);
            })
        },
    },
    Defect {
        name: "fionread-one-more",
        correct: "FIONREAD tells how many bytes can be read",
        wrong: "of more than one it tells one too many",
        subtle: SUBTLE,
        claims: &["pipe.read-count"],
        make: || {
            on(IOCTL).when(argument(1, libc::FIONREAD as i32)).when(pipe(0)).after_success(|t, c, _| {
                let count = t.number_at(c.args[2]).unwrap_or(0);
                t.set_number_at(c.args[2], count + u32::from(count > 1));
            })
        },
    },
];

fn counted(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[COUNT] > 0
}

/// A rule for writes that a full pipe would hold up.
fn when_full(then: fn(&mut Tracee, &Syscall) -> i64) -> Box<dyn Behaviour> {
    on(WRITE).when(pipe(0)).when(counted).instead(move |t, c| match t.make_without_blocking(c) {
        result if result == error(EAGAIN) => then(t, c),
        result => result,
    })
}

/// Writes as much as there is room for, in halves, if not all fits; the rest is for the call itself.
pub(super) fn write_what_fits(tracee: &mut Tracee, call: &mut Syscall) -> Option<i64> {
    let capacity = tracee.fcntl(call.args[0], F_GETPIPE_SZ, 0) as u64;
    if tracee.available(call.args[0]) + call.args[COUNT] + page() <= capacity {
        return None;
    }
    let mut part = *call;
    let mut all = 0;
    part.args[COUNT] /= 2;
    while part.args[COUNT] > 0 && call.args[COUNT] > 1 {
        let written = tracee.make_without_blocking(&part);
        if written > 0 {
            all += written;
            call.args[BUFFER] += written as u64;
            call.args[COUNT] -= written as u64;
            part.args[BUFFER] = call.args[BUFFER];
        }
        part.args[COUNT] = (part.args[COUNT] / 2).min(call.args[COUNT] / 2);
    }
    Some(all)
}
