//! Pipes and FIFOs that go wrong after a refusal, in children, or where one process has both ends.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use libc::{EAGAIN, EPIPE, F_GETPIPE_SZ, O_RDWR, POLLOUT};

use crate::tracer::behaviour::{Behaviour, Syscall};
use crate::tracer::call::{COUNT, FCNTL, POLL, READ, WRITE, error};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, fifo, in_child, nonblocking, pipe};

/// Pipes.
pub const PIPES: &[Defect] = &[
    Defect {
        name: "capacity-told-in-children-is-the-default",
        correct: "the capacity is the pipe's, whoever asks for it",
        wrong: "a child is told 16 pages",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL)
                .when(argument(1, F_GETPIPE_SZ))
                .when(in_child)
                .after_success(|_, _, result| *result = 16 * page() as i64)
        },
    },
    Defect {
        name: "half-full-is-not-writable",
        correct: "poll tells POLLOUT while there is a free page",
        wrong: "not any more when half of the capacity is in use",
        subtle: SUBTLE,
        claims: &["pipe.write-count", "pipe.nonblocking-write", "pipe.write-blocks"],
        make: || {
            on(POLL).when(|_, c| c.args[1] == 1).after_success(|t, c, result| {
                let descriptor = u64::from(t.number_at(c.args[0]).unwrap_or(u32::MAX));
                if !t.is_pipe(descriptor) {
                    return;
                }
                let capacity = t.fcntl(descriptor, F_GETPIPE_SZ, 0) as u64;
                let events = t.number_at(c.args[0] + 4).unwrap_or(0);
                let out = u32::from(POLLOUT as u16) << 16;
                if events & out != 0 && capacity > page() && t.available(descriptor) * 2 >= capacity {
                    t.set_number_at(c.args[0] + 4, events & !out);
                    *result = i64::from((events & !out) >> 16 != 0);
                }
            })
        },
    },
    Defect {
        name: "write-after-a-refusal-loses-a-byte",
        correct: "a write that was refused has no effect on the next",
        wrong: "the first that succeeds after EAGAIN loses its last byte",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write", "pipe.consumed-once", "pipe.overflow-overwrites"],
        make: write_after_a_refusal_loses_a_byte,
    },
];

/// FIFOs.
pub const FIFOS: &[Defect] = &[
    Defect {
        name: "fifo-opened-for-both-is-at-its-end",
        correct: "who has a FIFO open for reading and writing is a writer to himself: there is no end",
        wrong: "a read of it is 0 while nothing is in it, if it does not wait",
        subtle: SUBTLE,
        claims: &["fifo.read-eof", "fifo.same-calls"],
        make: || {
            on(READ)
                .when(fifo(0))
                .when(for_both)
                .when(nonblocking(true))
                .when(|t, c| c.args[COUNT] > 0 && t.available(c.args[0]) == 0)
                .answer(0)
        },
    },
    Defect {
        name: "fifo-opened-for-both-has-no-reader",
        correct: "who has a FIFO open for reading and writing is a reader to himself: a write is taken",
        wrong: "it is EPIPE while no other descriptor of the process is open for reading",
        subtle: SUBTLE,
        claims: &["fifo.write-sigpipe", "fifo.same-calls"],
        make: || on(WRITE).when(fifo(0)).when(for_both).when(alone).refuse(EPIPE),
    },
];

fn for_both(tracee: &mut Tracee, call: &Syscall) -> bool {
    tracee.access_mode(call.args[0]) == O_RDWR
}

/// The process has what is behind the first argument open only there.
fn alone(tracee: &mut Tracee, call: &Syscall) -> bool {
    let inode = tracee.inode(call.args[0]);
    tracee.descriptors().into_iter().filter(|other| tracee.inode(*other) == inode).count() == 1
}

fn write_after_a_refusal_loses_a_byte() -> Box<dyn Behaviour> {
    let refused: Rc<RefCell<HashSet<u64>>> = Rc::default();
    let due = Rc::clone(&refused);
    several([
        on(WRITE)
            .when(pipe(0))
            .when(|t, c| c.args[COUNT] > 1 && t.poll(c.args[0], POLLOUT) == POLLOUT)
            .when(move |t, c| due.borrow_mut().remove(&t.inode(c.args[0])))
            .lose_the_last_byte(),
        on(WRITE).when(pipe(0)).when(nonblocking(true)).after(move |t, c, result| {
            if *result == error(EAGAIN) {
                refused.borrow_mut().insert(t.inode(c.args[0]));
            }
        }),
    ])
}
