//! Several who wait, what an earlier use leaves behind, and ends that are asked for more than theirs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::rc::Rc;

use libc::{
    EAGAIN, EEXIST, F_SETFL, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, POLLERR, POLLHUP, POLLIN, POLLOUT,
};

use crate::tracer::behaviour::{Behaviour, Entry};
use crate::tracer::call::{BUFFER, COUNT, FCNTL, MKNOD, OPEN, POLL, READ, WRITE, bits, error};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::rule::{on, several};
use crate::tracer::table::pipes::loses_a_byte_at_each;
use crate::tracer::table::stray_streams::{fionread, stay_asleep};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, fifo, nonblocking, pipe};

/// Pipes.
pub const PIPES: &[Defect] = &[
    Defect {
        name: "one-write-wakes-one-reader",
        correct: "a write with enough for two who wait in read wakes both",
        wrong: "it wakes one, and the other's bytes do not come",
        subtle: SUBTLE,
        claims: &["pipe.read-blocks"],
        make: one_write_wakes_one_reader,
    },
    Defect {
        name: "one-read-wakes-one-writer",
        correct: "a read that makes room for two who wait in write wakes both",
        wrong: "the second waits for the next read",
        subtle: SUBTLE,
        claims: &["pipe.write-blocks"],
        make: one_read_wakes_one_writer,
    },
    Defect {
        name: "byte-lost-at-1-mib",
        correct: "every byte that is written is read",
        wrong: "the write that crosses a multiple of 1 MiB loses its last",
        subtle: SUBTLE,
        claims: &["pipe.byte-stream"],
        make: || loses_a_byte_at_each(1 << 20),
    },
    Defect {
        name: "short-write-beside-a-long-one-is-cut",
        correct: "a write of up to PIPE_BUF comes through in one piece, whoever else writes",
        wrong: "while one of more than PIPE_BUF goes on it loses its last byte",
        subtle: SUBTLE,
        claims: &["pipe.atomic-writes"],
        make: short_beside_long_is_cut,
    },
    Defect {
        name: "waiting-write-without-readers-accepted",
        correct: "a write without readers is EPIPE, whether it may wait or not",
        wrong: "one that may wait is taken as written",
        subtle: SUBTLE,
        claims: &["pipe.write-sigpipe"],
        make: || {
            on(WRITE)
                .when(pipe(0))
                .when(nonblocking(false))
                .when(|t, c| c.args[COUNT] > 0 && t.poll(c.args[0], POLLOUT) & POLLERR != 0)
                .instead(|_, c| c.args[COUNT] as i64)
        },
    },
    Defect {
        name: "fionread-zero-without-writers",
        correct: "FIONREAD counts what is left to be read",
        wrong: "it is 0 once there is no writer",
        subtle: SUBTLE,
        claims: &["pipe.read-eof"],
        make: || fionread(|t, c, bytes| if t.poll(c.args[0], POLLIN) & POLLHUP != 0 { 0 } else { bytes }),
    },
    Defect {
        name: "poll-of-the-read-end-is-writable",
        correct: "poll tells POLLIN of a read end, and never POLLOUT",
        wrong: "asked for both it tells both of an end with bytes",
        subtle: SUBTLE,
        claims: &["pipe.order", "pipe.byte-stream", "pipe.read-count", "pipe.consumed-once"],
        make: || {
            revents(|t, descriptor, asked, told| {
                let both = asked & POLLOUT != 0 && told & POLLIN != 0 && t.access_mode(descriptor) == O_RDONLY;
                if both { told | POLLOUT } else { told }
            })
        },
    },
];

/// FIFOs.
pub const FIFOS: &[Defect] = &[
    Defect {
        name: "fifo-used-before-opens-to-read-at-once",
        correct: "open to read waits for a writer, every time",
        wrong: "not where bytes have gone through before",
        subtle: SUBTLE,
        claims: &["fifo.open-read-blocks"],
        make: || used_before_opens_at_once(O_RDONLY),
    },
    Defect {
        name: "fifo-used-before-opens-to-write-at-once",
        correct: "open to write waits for a reader, every time",
        wrong: "not where bytes have gone through before",
        subtle: SUBTLE,
        claims: &["fifo.open-write-blocks"],
        make: || used_before_opens_at_once(O_WRONLY),
    },
    Defect {
        name: "pollerr-stays-after-a-new-reader",
        correct: "poll tells POLLERR of a write end while there is no reader",
        wrong: "it goes on after a new one has come",
        subtle: SUBTLE,
        claims: &["fifo.write-sigpipe"],
        make: || {
            let broken = RefCell::new(HashSet::new());
            revents(move |t, descriptor, _, told| {
                let key = (t.id(), descriptor, t.inode(descriptor));
                if told & POLLERR != 0 {
                    broken.borrow_mut().insert(key);
                }
                if broken.borrow().contains(&key) { told | POLLERR } else { told }
            })
        },
    },
    Defect {
        name: "setfl-of-a-fifo-reaches-other-opens",
        correct: "O_NONBLOCK is that of one open file",
        wrong: "set on a FIFO it is set on whatever the process has opened of it in that way",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write", "fifo.same-calls"],
        make: || {
            on(FCNTL).when(argument(1, F_SETFL)).when(fifo(0)).after_success(|t, c, _| {
                let (inode, mode_here) = (t.inode(c.args[0]), t.access_mode(c.args[0]));
                for other in t.descriptors() {
                    if t.inode(other) == inode && t.access_mode(other) == mode_here {
                        t.fcntl(other, F_SETFL, c.args[2]);
                    }
                }
            })
        },
    },
    Defect {
        name: "mkfifo-refused-empties",
        correct: "mkfifo where there is a FIFO is EEXIST and leaves it as it is",
        wrong: "what is in it is gone",
        subtle: SUBTLE,
        claims: &["fifo.file-remains"],
        make: || {
            on(MKNOD).after(|t, c, result| {
                if *result == error(EEXIST)
                    && t.status_at_path(c).is_some_and(|status| status.file_type().is_fifo())
                    && let Some(path) = t.path_argument(c)
                    && let Ok(mut fifo) = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)
                {
                    t.count();
                    // It ends with EAGAIN where nothing is left.
                    let _ = fifo.read_to_end(&mut Vec::new());
                }
            })
        },
    },
    Defect {
        name: "waiting-read-without-a-writer-yet-is-eagain",
        correct: "a read of a FIFO that nobody has open for writing is 0, whether it may wait or not",
        wrong: "one that may wait is EAGAIN before the first writer",
        subtle: SUBTLE,
        claims: &["fifo.open-read-blocks"],
        make: || {
            on(READ).when(fifo(0)).when(nonblocking(false)).when(|_, c| c.args[COUNT] > 0).enter(|t, c| {
                // There is no POLLHUP before the first writer.
                if t.poll(c.args[0], POLLIN) == 0 && t.make_without_blocking(c) == 0 {
                    return Entry::Answer(error(EAGAIN));
                }
                Entry::Pass
            })
        },
    },
];

/// What poll tells of one pipe: what it was asked for, and what it should tell.
fn revents(told: impl Fn(&mut Tracee, u64, i16, i16) -> i16 + 'static) -> Box<dyn Behaviour> {
    on(POLL).when(|_, c| c.args[1] == 1).after_success(move |t, c, result| {
        let descriptor = u64::from(t.number_at(c.args[0]).unwrap_or(u32::MAX));
        let both = t.number_at(c.args[0] + 4).unwrap_or(0);
        let (asked, right) = (both as u16 as i16, (both >> 16) as u16 as i16);
        if t.is_pipe(descriptor) {
            let wrong = told(t, descriptor, asked, right);
            t.set_number_at(c.args[0] + 4, u32::from(asked as u16) | u32::from(wrong as u16) << 16);
            *result = i64::from(wrong != 0);
        }
    })
}

/// open in this way does not wait, where bytes have been read from the FIFO before.
fn used_before_opens_at_once(way: i32) -> Box<dyn Behaviour> {
    let used: Rc<RefCell<HashSet<u64>>> = Rc::default();
    let (known, made) = (Rc::clone(&used), Rc::clone(&used));
    several([
        on(MKNOD).after_success(move |t, c, _| {
            made.borrow_mut().remove(&t.status_at_path(c).map_or(0, |status| status.ino()));
        }),
        on(READ).when(fifo(0)).after_success(move |t, c, result| {
            if *result > 0 {
                used.borrow_mut().insert(t.inode(c.args[0]));
            }
        }),
        on(OPEN)
            .when(move |t, c| {
                let flags = *{ *c }.open_flags() as i32;
                let waits = flags & (O_ACCMODE | O_NONBLOCK) == way;
                let here = t.status_at_path(c).filter(|status| status.file_type().is_fifo());
                waits && here.is_some_and(|here| known.borrow().contains(&here.ino()))
            })
            .instead(|t, c| {
                let mut both = *c;
                *both.open_flags() = *both.open_flags() & !bits(O_ACCMODE) | bits(O_RDWR);
                let company = t.make(&both);
                let result = t.make(c);
                t.close(company);
                // The lowest number is the one that the process expects.
                if result >= 0 && t.perform(libc::SYS_dup3, [result as u64, company as u64, 0, 0, 0, 0]) >= 0 {
                    t.close(result);
                    return company;
                }
                result
            }),
    ])
}

/// Who waits in a call that would block on a pipe: task, pipe, count.
type Waiting = Rc<RefCell<HashMap<i32, (u64, u64)>>>;

fn forget_the_dead(waiting: &Waiting) {
    waiting.borrow_mut().retain(|task, _| std::path::Path::new(&format!("/proc/{task}")).exists());
}

fn short_beside_long_is_cut() -> Box<dyn Behaviour> {
    let long: Waiting = Rc::default();
    let (entered, left) = (Rc::clone(&long), Rc::clone(&long));
    several([
        on(WRITE).when(pipe(0)).when(|_, c| c.args[COUNT] > libc::PIPE_BUF as u64).carrying(
            move |t, c| Some(entered.borrow_mut().insert(t.task(), (t.inode(c.args[0]), c.args[COUNT]))),
            move |t, _, _, _| {
                left.borrow_mut().remove(&t.task());
            },
        ),
        on(WRITE)
            .when(pipe(0))
            .when(move |t, c| {
                forget_the_dead(&long);
                let inode = t.inode(c.args[0]);
                c.args[COUNT] > 1 && long.borrow().values().any(|(other, _)| *other == inode)
            })
            .lose_the_last_byte(),
    ])
}

fn one_write_wakes_one_reader() -> Box<dyn Behaviour> {
    let waiting: Waiting = Rc::default();
    let (entered, left, known) = (Rc::clone(&waiting), Rc::clone(&waiting), waiting);
    several([
        on(READ).when(pipe(0)).when(nonblocking(false)).carrying(
            move |t, c| {
                let waits = c.args[COUNT] > 0 && t.poll(c.args[0], POLLIN) == 0;
                waits.then(|| entered.borrow_mut().insert(t.task(), (t.inode(c.args[0]), c.args[COUNT])))
            },
            move |t, _, _, _| {
                left.borrow_mut().remove(&t.task());
            },
        ),
        on(WRITE).when(pipe(0)).carrying(
            move |t, c| {
                forget_the_dead(&known);
                let inode = t.inode(c.args[0]);
                let here = known.borrow();
                let asked: Vec<u64> =
                    here.values().filter(|(other, _)| *other == inode).map(|(_, count)| *count).collect();
                let first = asked.iter().copied().max().filter(|first| asked.len() > 1 && *first < c.args[COUNT])?;
                t.count();
                let rest = c.args[COUNT] - first;
                c.args[COUNT] = first;
                Some(rest)
            },
            |_, _, rest, result| {
                if *result >= 0 {
                    *result += rest as i64;
                }
            },
        ),
    ])
}

/// One who began to wait in write behind another.
struct Sleeper {
    pipe: u64,
    reads: u32,
    data: Vec<u8>,
    /// The pipe that it is kept busy with.
    other: std::fs::File,
}

fn one_read_wakes_one_writer() -> Box<dyn Behaviour> {
    let waiting: Waiting = Rc::default();
    let left = Rc::clone(&waiting);
    let sleepers: Rc<RefCell<Vec<Sleeper>>> = Rc::default();
    let known = Rc::clone(&sleepers);
    several([
        on(WRITE).when(pipe(0)).when(nonblocking(false)).carrying(
            move |t, c| {
                if c.args[COUNT] == 0 || t.poll(c.args[0], POLLOUT) != 0 {
                    return None;
                }
                forget_the_dead(&waiting);
                let inode = t.inode(c.args[0]);
                let second = waiting.borrow().values().any(|(other, _)| *other == inode);
                waiting.borrow_mut().insert(t.task(), (inode, c.args[COUNT]));
                if second {
                    let data = t.memory().ok()?.read(c.args[BUFFER], c.args[COUNT] as usize).ok()?;
                    stay_asleep(t, c);
                    let other = t.file(c.args[0], false).ok()?;
                    sleepers.borrow_mut().push(Sleeper { pipe: inode, reads: 0, data, other });
                }
                Some(())
            },
            move |t, _, (), _| {
                left.borrow_mut().remove(&t.task());
            },
        ),
        on(READ).when(pipe(0)).after_success(move |t, c, _| {
            let inode = t.inode(c.args[0]);
            known.borrow_mut().retain_mut(|sleeper| {
                sleeper.reads += u32::from(sleeper.pipe == inode);
                if sleeper.reads < 2 {
                    return true;
                }
                // Written in its name, and it is let go.
                let _ = t.file(c.args[0], true).and_then(|mut pipe| pipe.write_all(&sleeper.data));
                let _ = sleeper.other.read_to_end(&mut Vec::new());
                false
            });
        }),
    ])
}
