//! Pipes and FIFOs after a fork, a rename, an interruption, a second opening.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::rc::Rc;

use libc::{EAGAIN, EINTR, ENXIO, F_SETFL, F_SETPIPE_SZ, O_ACCMODE, O_NONBLOCK, O_TRUNC, O_WRONLY};

use crate::tracer::behaviour::Entry;
use crate::tracer::call::{COUNT, FCNTL, OPEN, READ, RENAME, WRITE, bits, error};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, fifo, in_child, nonblocking, pipe};

/// Pipes.
pub const PIPES: &[Defect] = &[
    Defect {
        name: "fork-resets-capacity",
        correct: "the capacity of a pipe stays what it was set to",
        wrong: "fork makes it 16 pages again",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on_fork(|_, child| {
                for descriptor in child.descriptors() {
                    if child.is_pipe(descriptor) && !child.is_fifo(descriptor) {
                        child.count();
                        child.fcntl(descriptor, F_SETPIPE_SZ, 16 * page());
                    }
                }
            })
        },
    },
    Defect {
        name: "capacity-answered-as-asked",
        correct: "F_SETPIPE_SZ returns the capacity that came of it",
        wrong: "it returns what was asked for",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL).when(argument(1, F_SETPIPE_SZ)).after(|_, c, result| {
                if *result > c.args[2] as i64 {
                    *result = c.args[2] as i64;
                }
            })
        },
    },
    Defect {
        name: "full-pipe-takes-nothing",
        correct: "a write without room that does not wait is EAGAIN",
        wrong: "it is 0",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write"],
        make: || on(WRITE).when(pipe(0)).when(nonblocking(true)).error(EAGAIN, 0),
    },
    Defect {
        name: "interrupted-write-forgets-its-part",
        correct: "a write that is interrupted tells what it has taken",
        wrong: "it is EINTR though some bytes went",
        subtle: SUBTLE,
        claims: &["pipe.write-blocks"],
        make: || {
            on(WRITE).when(pipe(0)).when(nonblocking(false)).after(|_, c, result| {
                if (1..c.args[COUNT] as i64).contains(result) {
                    *result = error(EINTR);
                }
            })
        },
    },
    Defect {
        name: "setfl-in-children-ignored",
        correct: "a child that sets O_NONBLOCK sets it for all who have the open file",
        wrong: "it succeeds and does nothing",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || on(FCNTL).when(pipe(0)).when(in_child).when(argument(1, F_SETFL)).answer(0),
    },
    Defect {
        name: "read-that-empties-loses-the-rest-of-a-page",
        correct: "a read takes what it says, and no more",
        wrong: "one of exactly a page from a pipe with more takes a byte too many",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream", "pipe.consumed-once", "pipe.order"],
        make: || {
            on(READ)
                .when(pipe(0))
                .when(|t, c| c.args[COUNT] == page() && t.available(c.args[0]) > page())
                .after_success(|t, c, _| take_one(t, c.args[0]))
        },
    },
    Defect {
        name: "fourth-write-in-a-row-goes-first",
        correct: "bytes are read in the order of their writing",
        wrong: "what a fourth write brings, with nothing read in between, loses its first byte",
        subtle: SUBTLE,
        claims: &["pipe.order", "pipe.byte-stream"],
        make: || {
            let writes: Rc<RefCell<HashMap<u64, u32>>> = Rc::default();
            let reads = Rc::clone(&writes);
            several([
                on(READ).when(pipe(0)).enter(move |t, c| {
                    reads.borrow_mut().remove(&t.inode(c.args[0]));
                    Entry::Pass
                }),
                on(WRITE)
                    .when(pipe(0))
                    .when(move |t, c| {
                        let mut writes = writes.borrow_mut();
                        let count = writes.entry(t.inode(c.args[0])).or_default();
                        *count += 1;
                        *count == 4 && c.args[COUNT] > 1
                    })
                    .lose_the_last_byte(),
            ])
        },
    },
];

/// FIFOs.
pub const FIFOS: &[Defect] = &[
    Defect {
        name: "open-trunc-empties-a-fifo",
        correct: "O_TRUNC has no effect on a FIFO",
        wrong: "what is in it is gone",
        subtle: SUBTLE,
        claims: &["fifo.same-calls", "fifo.first-in-first-out", "fifo.open-write-blocks"],
        make: || {
            on(OPEN).when(|_, c| *{ *c }.open_flags() & bits(O_TRUNC) != 0).after_success(|t, _, result| {
                let descriptor = *result as u64;
                if t.is_fifo(descriptor)
                    && t.available(descriptor) > 0
                    && let Ok(mut file) = t.file(descriptor, false)
                {
                    t.count();
                    // It ends with EAGAIN where nothing is left.
                    let _ = file.read_to_end(&mut Vec::new());
                }
            })
        },
    },
    Defect {
        name: "renamed-fifo-has-no-reader",
        correct: "a FIFO is the same, whatever it is called",
        wrong: "after a rename a writer that does not wait finds no reader",
        subtle: SUBTLE,
        claims: &["fifo.file-remains", "fifo.open-write-blocks"],
        make: || {
            let renamed: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let known = Rc::clone(&renamed);
            several([
                on(RENAME).enter(move |t, c| {
                    let inode = t.status_at_path(c).filter(|status| status.file_type().is_fifo());
                    renamed.borrow_mut().extend(inode.map(|status| status.ino()));
                    Entry::Pass
                }),
                on(OPEN)
                    .when(move |t, c| {
                        let flags = *{ *c }.open_flags() as i32;
                        let at_once = flags & (O_ACCMODE | O_NONBLOCK) == O_WRONLY | O_NONBLOCK;
                        at_once && t.status_at_path(c).is_some_and(|status| known.borrow().contains(&status.ino()))
                    })
                    .refuse(ENXIO),
            ])
        },
    },
    Defect {
        name: "fifo-read-of-pages-stops-at-a-page",
        correct: "a read takes what there is, up to its count",
        wrong: "of a FIFO it takes a page at most",
        subtle: SUBTLE,
        claims: &["fifo.same-calls", "fifo.first-in-first-out", "pipe.read-count"],
        make: || on(READ).when(fifo(0)).when(|_, c| c.args[COUNT] > page()).change(|_, c| c.args[COUNT] = page()),
    },
];

/// One byte more is read and forgotten.
fn take_one(tracee: &mut Tracee, descriptor: u64) {
    if let Ok(place) = tracee.scratch() {
        tracee.count();
        tracee.perform(libc::SYS_read, [descriptor, place, 1, 0, 0, 0]);
    }
}
