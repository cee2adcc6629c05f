//! Pipes that go wrong only for some amounts, after a change of capacity, after a part was read, or the next time.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::rc::Rc;

use libc::{EAGAIN, EPIPE, F_GETPIPE_SZ, F_SETPIPE_SZ, O_NONBLOCK, POLLHUP, POLLIN, SIGPIPE};

use crate::tracer::behaviour::{Behaviour, Deliver, Entry, Syscall};
use crate::tracer::call::{CLOSE, COUNT, DUP, FCNTL, IOCTL, PIPE, POLL, READ, WRITE, bits, error};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, on_signal, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, every, nonblocking, pipe};

/// The largest write that is atomic.
const PIPE_BUF: u64 = 4096;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "capacity-lowered-in-word",
        correct: "F_SETPIPE_SZ sets the capacity",
        wrong: "where it lowers it, it only says so",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            on(FCNTL)
                .when(argument(1, F_SETPIPE_SZ))
                .when(|t, c| (t.fcntl(c.args[0], F_GETPIPE_SZ, 0) as u64) > c.args[2] && c.args[2] >= page())
                .when(|t, c| t.available(c.args[0]) == 0)
                .enter(|_, c| Entry::Answer(c.args[2].next_power_of_two() as i64))
        },
    },
    Defect {
        name: "capacity-lowered-loses-a-byte",
        correct: "F_SETPIPE_SZ keeps what is in the pipe",
        wrong: "where it lowers the capacity, the last byte is lost",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || resized(|old, new| new < old, |bytes| bytes.truncate(bytes.len() - 1)),
    },
    Defect {
        name: "capacity-raised-reorders",
        correct: "F_SETPIPE_SZ keeps what is in the pipe",
        wrong: "where it raises the capacity, the last two bytes are changed about",
        subtle: SUBTLE,
        claims: &["pipe.kernel-buffer"],
        make: || {
            resized(
                |old, new| new > old,
                |bytes| {
                    let last = bytes.len() - 1;
                    bytes.swap(last, last.saturating_sub(1));
                },
            )
        },
    },
    Defect {
        name: "thirteenth-write-loses-a-byte",
        correct: "every byte that is written is read",
        wrong: "every thirteenth write to a pipe lacks the last",
        subtle: SUBTLE,
        claims: &["pipe.order", "pipe.byte-stream"],
        make: || {
            let mut writes: HashMap<u64, u64> = HashMap::new();
            on(WRITE)
                .when(pipe(0))
                .when(|_, c| c.args[COUNT] > 1)
                .when(move |t, c| nth(&mut writes, t, c, 13))
                .lose_the_last_byte()
        },
    },
    Defect {
        name: "poll-misses-the-rest",
        correct: "poll says POLLIN while there is something to read",
        wrong: "not after a read that has left something",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.consumed-once"],
        make: poll_misses_the_rest,
    },
    Defect {
        name: "rest-lost-after-the-first-read-at-the-end",
        correct: "when every write end is closed the remaining bytes are read first",
        wrong: "one read is given some of them, and the next is at the end",
        subtle: SUBTLE,
        claims: &["pipe.read-eof"],
        make: || {
            let mut ending = HashSet::new();
            on(READ)
                .when(pipe(0))
                .when(|_, c| c.args[COUNT] > 0)
                .when(|t, c| {
                    let seen = t.poll(c.args[0], POLLIN);
                    seen & POLLHUP != 0 && seen & POLLIN != 0
                })
                .when(move |t, c| !ending.insert((t.inode(c.args[0]), t.name(c.args[0]))))
                .answer(0)
        },
    },
    Defect {
        name: "sigpipe-every-second-time",
        correct: "a write without readers sends SIGPIPE",
        wrong: "every second one is EPIPE alone",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe", "fifo.write-sigpipe"],
        make: || {
            let mut count = 0;
            on_signal(&[SIGPIPE], move |_, _| {
                count += 1;
                if count % 2 == 0 { Deliver::Suppress } else { Deliver::Pass }
            })
        },
    },
    Defect {
        name: "sigpipe-with-the-first-reader",
        correct: "a write is EPIPE when every read end is closed",
        wrong: "it is when one of them is, without a signal",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe"],
        make: || {
            let closed: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let broken = Rc::clone(&closed);
            several([
                on(CLOSE).when(pipe(0)).enter(move |t, c| {
                    if t.access_mode(c.args[0]) == libc::O_RDONLY {
                        closed.borrow_mut().insert(t.inode(c.args[0]));
                    }
                    Entry::Pass
                }),
                on(WRITE)
                    .when(pipe(0))
                    .when(|t, c| t.poll(c.args[0], libc::POLLOUT) & libc::POLLERR == 0)
                    .when(move |t, c| broken.borrow().contains(&t.inode(c.args[0])))
                    .refuse(EPIPE),
            ])
        },
    },
    Defect {
        name: "pipe-duplicate-has-flags",
        correct: "a duplicate shares the open file, O_NONBLOCK included",
        wrong: "that of a pipe's end made by dup has flags of its own",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write", "fork.descriptor-shared"],
        make: || {
            on(DUP).when(pipe(0)).enter(|t, c| {
                let (flags, _) = t.open_file(c.args[0]).unwrap_or_default();
                Entry::Answer(t.reopen(c.args[0], flags))
            })
        },
    },
    Defect {
        name: "setfl-of-one-end-changes-both",
        correct: "each end has its own O_NONBLOCK",
        wrong: "set on one end it is set on the other",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || {
            on(FCNTL)
                .when(argument(1, libc::F_SETFL))
                .when(pipe(0))
                .when(|_, c| c.args[2] & bits(O_NONBLOCK) != 0)
                .after_success(|t, c, _| {
                    let inode = t.inode(c.args[0]);
                    for other in t.descriptors() {
                        if other != c.args[0] && t.is_pipe(other) && t.inode(other) == inode {
                            let flags = t.fcntl(other, libc::F_GETFL, 0) as u64;
                            t.fcntl(other, libc::F_SETFL, flags | bits(O_NONBLOCK));
                        }
                    }
                })
        },
    },
    Defect {
        name: "write-of-pipe-buf-partial",
        correct: "a non-blocking write of up to PIPE_BUF bytes is done wholly or not at all",
        wrong: "of exactly PIPE_BUF bytes it does a half where not all fits",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-write", "pipe.atomic-writes"],
        make: || {
            on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] == PIPE_BUF).when(nonblocking(true)).instead(|t, c| {
                let result = t.make(c);
                let mut half = *c;
                half.args[COUNT] /= 2;
                if result == error(EAGAIN) { t.make(&half) } else { result }
            })
        },
    },
    Defect {
        name: "waiting-write-is-short",
        correct: "a blocking write takes all of its bytes, however long it waits",
        wrong: "of more than fits it takes what fits",
        subtle: SUBTLE,
        claims: &["pipe.write-blocks", "pipe.byte-stream"],
        make: || {
            on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] > PIPE_BUF).when(nonblocking(false)).enter(|t, c| match t
                .make_without_blocking(c)
            {
                result if result == error(EAGAIN) => Entry::Pass,
                result => Entry::Answer(result),
            })
        },
    },
    Defect {
        name: "fionread-of-16-bits",
        correct: "FIONREAD tells how many bytes can be read",
        wrong: "of 64 KiB and more it tells the low 16 bits",
        subtle: SUBTLE,
        claims: &["pipe.read-count"],
        make: || {
            on(IOCTL).when(argument(1, libc::FIONREAD as i32)).when(pipe(0)).after_success(|t, c, _| {
                let count = t.number_at(c.args[2]).unwrap_or(0);
                t.set_number_at(c.args[2], count & 0xffff);
            })
        },
    },
    Defect {
        name: "read-of-eight-pages-is-seven",
        correct: "read takes all there is, up to what is asked for",
        wrong: "it takes seven pages at most",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.order"],
        make: || on(READ).when(pipe(0)).change(|_, c| c.args[COUNT] = c.args[COUNT].min(7 * page())),
    },
    Defect {
        name: "empty-write-to-a-full-pipe-is-eagain",
        correct: "a write of 0 bytes is 0, whether there is room or not",
        wrong: "to a full pipe it is EAGAIN",
        subtle: SUBTLE,
        claims: &["pipe.write-count", "pipe.nonblocking-write"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|t, c| c.args[COUNT] == 0 && t.poll(c.args[0], libc::POLLOUT) == 0)
                .refuse(EAGAIN)
        },
    },
    Defect {
        name: "empty-read-of-nothing-is-eagain",
        correct: "a read of 0 bytes is 0, whether there is something or not",
        wrong: "of an empty pipe it is EAGAIN",
        subtle: SUBTLE,
        claims: &["pipe.read-count", "pipe.nonblocking-read"],
        make: || {
            on(READ).when(pipe(0)).when(|t, c| c.args[COUNT] == 0 && t.poll(c.args[0], POLLIN) == 0).refuse(EAGAIN)
        },
    },
    Defect {
        name: "fifth-pipe-blocks",
        correct: "pipe2 with O_NONBLOCK makes ends that do not block",
        wrong: "every fifth time the flag has no effect",
        subtle: SUBTLE,
        claims: &["pipe.ends", "pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || {
            on(PIPE)
                .when(|_, c| c.number == libc::SYS_pipe2 && c.args[1] & bits(O_NONBLOCK) != 0)
                .when(every(5))
                .change(|_, c| c.args[1] &= !bits(O_NONBLOCK))
        },
    },
    Defect {
        name: "third-process-loses-a-byte",
        correct: "every byte that is written is read, whoever writes it",
        wrong: "a process's third child loses the last of each write",
        subtle: SUBTLE,
        claims: &["pipe.order", "pipe.related-only"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(|t, c| t.process().ordinal % 3 == 0 && t.process().ordinal > 0 && c.args[COUNT] > 1)
                .lose_the_last_byte()
        },
    },
];

/// Every `n`th call for each pipe.
fn nth(calls: &mut HashMap<u64, u64>, tracee: &Tracee, call: &Syscall, n: u64) -> bool {
    let count = calls.entry(tracee.inode(call.args[0])).or_default();
    *count += 1;
    count.is_multiple_of(n)
}

/// Changes what is in a pipe whose capacity has been changed so.
fn resized(when: fn(u64, u64) -> bool, change: fn(&mut Vec<u8>)) -> Box<dyn Behaviour> {
    on(FCNTL).when(argument(1, F_SETPIPE_SZ)).carrying(
        |t, c| Some(t.fcntl(c.args[0], F_GETPIPE_SZ, 0) as u64),
        move |t, c, old, result| {
            if *result <= 0 || !when(old, *result as u64) || t.available(c.args[0]) < 2 {
                return;
            }
            let (Ok(mut from), Ok(mut to)) = (t.file(c.args[0], false), t.file(c.args[0], true)) else { return };
            let mut bytes = Vec::new();
            // Ends with EAGAIN when the pipe is empty.
            let _ = from.read_to_end(&mut bytes);
            change(&mut bytes);
            t.count();
            // It had room for as much.
            let _ = to.write_all(&bytes);
        },
    )
}

/// After a read that has left something, poll does not see it until the next write.
fn poll_misses_the_rest() -> Box<dyn Behaviour> {
    let rests: Rc<RefCell<HashSet<u64>>> = Rc::default();
    let [noted, gone, known] = [0; 3].map(|_| Rc::clone(&rests));
    several([
        on(READ).when(pipe(0)).after(move |t, c, result| {
            if *result > 0 && t.available(c.args[0]) > 0 {
                noted.borrow_mut().insert(t.inode(c.args[0]));
            }
        }),
        on(WRITE).when(pipe(0)).enter(move |t, c| {
            gone.borrow_mut().remove(&t.inode(c.args[0]));
            Entry::Pass
        }),
        on(POLL).when(|_, c| c.args[1] == 1).after_success(move |t, c, result| {
            let descriptor = u64::from(t.number_at(c.args[0]).unwrap_or(u32::MAX));
            let events = t.number_at(c.args[0] + 4).unwrap_or(0);
            if t.is_pipe(descriptor) && known.borrow().contains(&t.inode(descriptor)) && events >> 16 != 0 {
                let seen = events & !(u32::from(POLLIN as u16) << 16);
                t.set_number_at(c.args[0] + 4, seen);
                *result = i64::from(seen >> 16 != 0);
            }
        }),
    ])
}
