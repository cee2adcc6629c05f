//! The ends of pipes and FIFOs: wrong only for one of the two, in another process, or after a duplicate or an exit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::rc::Rc;

use libc::{ENXIO, F_GETPIPE_SZ, F_SETPIPE_SZ, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_WRONLY, POLLERR, POLLOUT};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{DUP2, EXIT, FCNTL, OPEN, POLL, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, pipe};

/// Pipes, and FIFOs where they are the same.
pub const PIPES: &[Defect] = &[
    Defect {
        name: "poll-of-full-is-writable",
        correct: "poll says POLLOUT when a write of PIPE_BUF bytes does not wait",
        wrong: "it says so of a full pipe",
        subtle: SUBTLE,
        claims: &["pipe.write-blocks", "pipe.nonblocking-write", "pipe.consumed-once"],
        make: || poll_of_writers(|_, seen| seen | POLLOUT),
    },
    Defect {
        name: "poll-misses-the-lack-of-readers",
        correct: "poll says POLLERR of a write end when every read end is closed",
        wrong: "it does not",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe"],
        make: || poll_of_writers(|_, seen| seen & !POLLERR),
    },
    Defect {
        name: "capacity-told-by-the-write-end-alone",
        correct: "both ends tell the same capacity",
        wrong: "the read end tells 16 pages",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL)
                .when(argument(1, F_GETPIPE_SZ))
                .when(reads)
                .after_success(|_, _, result| *result = 16 * page() as i64)
        },
    },
    Defect {
        name: "capacity-set-by-the-write-end-alone",
        correct: "F_SETPIPE_SZ works through both ends",
        wrong: "through the read end it only says so",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL)
                .when(argument(1, F_SETPIPE_SZ))
                .when(reads)
                .when(|_, c| c.args[2] >= page() && c.args[2] <= 1 << 20)
                .enter(|_, c| Entry::Answer(c.args[2].next_power_of_two() as i64))
        },
    },
    Defect {
        name: "exit-does-not-close-the-write-end",
        correct: "a process that ends has closed its descriptors",
        wrong: "a write end that a process leaves open when it exits counts as open for good",
        subtle: SUBTLE,
        claims: &["pipe.read-eof", "fifo.read-eof"],
        make: || {
            let mut kept: Vec<File> = Vec::new();
            on(EXIT).when(|t, _| t.process().generation > 0).enter(move |t, _| {
                for descriptor in t.descriptors() {
                    let open = t.open_file(descriptor);
                    if open.is_some_and(|(flags, _)| flags & O_ACCMODE == O_WRONLY)
                        && t.is_pipe(descriptor)
                        && let Ok(file) = t.file(descriptor, true)
                    {
                        t.count();
                        kept.push(file);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "fork-gives-pipes-flags-of-their-own",
        correct: "an inherited descriptor shares the open file, O_NONBLOCK included",
        wrong: "those of pipes do not",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared", "pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || {
            on_fork(|_, child| {
                for descriptor in child.descriptors() {
                    if !child.is_pipe(descriptor) {
                        continue;
                    }
                    let (flags, _) = child.open_file(descriptor).unwrap_or_default();
                    let new = child.reopen(descriptor, flags);
                    child.perform(libc::SYS_dup3, [new as u64, descriptor, bits(flags & libc::O_CLOEXEC), 0, 0, 0]);
                    child.close(new);
                    child.count();
                }
            })
        },
    },
    Defect {
        name: "dup2-keeps-close-on-exec",
        correct: "a descriptor made by dup2 stays open over exec",
        wrong: "it has close-on-exec if the one has of which it was made",
        subtle: SUBTLE,
        claims: &["program.shell-pipeline"],
        make: || {
            on(DUP2).when(pipe(0)).carrying(
                |t, c| Some(t.fcntl(c.args[0], libc::F_GETFD, 0) as u64),
                |t, c, flags, result| {
                    if *result >= 0 && c.args[0] != c.args[1] {
                        t.fcntl(c.args[1], libc::F_SETFD, flags);
                    }
                },
            )
        },
    },
];

/// FIFOs.
pub const FIFOS: &[Defect] = &[Defect {
    name: "fifo-reader-elsewhere-unseen",
    correct: "opening a FIFO for writing with O_NONBLOCK succeeds while any process has it open for reading",
    wrong: "it is ENXIO until the same process has had it open for reading",
    subtle: SUBTLE,
    claims: &["fifo.first-in-first-out", "fifo.read-eof"],
    make: || {
        let opened: Rc<RefCell<HashMap<(i32, u64), ()>>> = Rc::default();
        let known = Rc::clone(&opened);
        let inode = |t: &Tracee, c: &Syscall| {
            let status = fs::metadata(t.path_argument(c)?).ok()?;
            status.file_type().is_fifo().then_some(status.ino())
        };
        let opens = |c: &Syscall, mode: i32| *{ *c }.open_flags() & bits(O_ACCMODE) == bits(mode);
        several([
            on(OPEN)
                .when(move |_, c| opens(c, O_WRONLY) && *{ *c }.open_flags() & bits(O_NONBLOCK) != 0)
                .when(move |t, c| inode(t, c).is_some_and(|inode| !known.borrow().contains_key(&(t.id(), inode))))
                .refuse(ENXIO),
            on(OPEN).when(move |_, c| opens(c, O_RDONLY)).enter(move |t, c| {
                if let Some(inode) = inode(t, c) {
                    opened.borrow_mut().insert((t.id(), inode), ());
                }
                Entry::Pass
            }),
        ])
    },
}];

fn reads(tracee: &mut Tracee, call: &Syscall) -> bool {
    tracee.access_mode(call.args[0]) == O_RDONLY
}

/// Changes what poll says of one descriptor that is asked about for writing.
fn poll_of_writers(change: fn(&Tracee, i16) -> i16) -> Box<dyn Behaviour> {
    on(POLL).when(|_, c| c.args[1] == 1).after_success(move |t, c, result| {
        let descriptor = u64::from(t.number_at(c.args[0]).unwrap_or(u32::MAX));
        let events = t.number_at(c.args[0] + 4).unwrap_or(0);
        if events as i16 & POLLOUT != 0 && t.is_pipe(descriptor) {
            let seen = change(t, (events >> 16) as i16);
            t.set_number_at(c.args[0] + 4, events & 0xffff | u32::from(seen as u16) << 16);
            *result = i64::from(seen != 0);
        }
    })
}
