//! FIFOs: making them, opening them, and what stays of them.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::rc::Rc;

use libc::{
    EACCES, EEXIST, ENOENT, ENOTDIR, ENXIO, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_WRONLY, S_IFIFO, S_IFMT, S_IFREG,
};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{ACCESS, BUFFER, CLOSE, MKNOD, OPEN, READ, STAT, WRITE, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{fifo, in_peer};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "mkfifo-ignores-the-umask",
        correct: "a FIFO's mode is the one asked for less the umask",
        wrong: "the umask has no effect",
        subtle: PLAIN,
        claims: &["fifo.create"],
        make: || made_with(|mode| mode & 0o777),
    },
    Defect {
        name: "mkfifo-for-the-owner",
        correct: "a FIFO's mode is the one asked for less the umask",
        wrong: "others than the owner get no right to write",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || {
            on(MKNOD).when(makes_fifo).change(|_, c| {
                c.args[c.mode_place()] &= !0o022;
            })
        },
    },
    Defect {
        name: "mkfifo-makes-a-file",
        correct: "mkfifo makes a FIFO",
        wrong: "it makes an empty regular file",
        subtle: PLAIN,
        claims: &["fifo.create", "fifo.listed-as-file"],
        make: || {
            on(MKNOD).when(makes_fifo).change(|_, c| {
                let place = c.mode_place();
                c.args[place] = c.args[place] & !u64::from(S_IFMT) | u64::from(S_IFREG);
            })
        },
    },
    Defect {
        name: "mkfifo-over-something-accepted",
        correct: "mkfifo is EEXIST if the name is taken",
        wrong: "it is 0, and nothing is done",
        subtle: PLAIN,
        claims: &["fifo.create"],
        make: || {
            on(MKNOD).when(makes_fifo).after(|_, _, result| {
                if *result == error(EEXIST) {
                    *result = 0;
                }
            })
        },
    },
    Defect {
        name: "mkfifo-refused-replaces",
        correct: "a refused mkfifo changes nothing",
        wrong: "if a regular file has the name, it is EEXIST and the file is empty",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || {
            on(MKNOD).when(makes_fifo).after(|t, c, result| {
                if *result == error(EEXIST)
                    && let Some(path) = t.path_argument(c)
                    && fs::metadata(&path).is_ok_and(|status| status.is_file())
                    && let Ok(file) = File::options().write(true).open(path)
                    && file.set_len(0).is_ok()
                {
                    t.count();
                }
            })
        },
    },
    Defect {
        name: "mkfifo-enoent-is-eacces",
        correct: "mkfifo in a directory that is not there is ENOENT",
        wrong: "it is EACCES",
        subtle: PLAIN,
        claims: &["fifo.create"],
        make: || on(MKNOD).when(makes_fifo).error(ENOENT, EACCES),
    },
    Defect {
        name: "mkfifo-enotdir-is-enoent",
        correct: "mkfifo below something that is no directory is ENOTDIR",
        wrong: "it is ENOENT",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || on(MKNOD).when(makes_fifo).error(ENOTDIR, ENOENT),
    },
    Defect {
        name: "fifo-listed-as-a-file",
        correct: "stat tells S_IFIFO",
        wrong: "it tells S_IFREG",
        subtle: PLAIN,
        claims: &["fifo.listed-as-file"],
        make: || {
            tell(|t, buffer, mode_at, _| {
                let mode = t.number_at(buffer + mode_at).unwrap_or(0);
                t.set_number_at(buffer + mode_at, mode & !S_IFMT | S_IFREG);
            })
        },
    },
    Defect {
        name: "fifo-has-a-size",
        correct: "a FIFO's size stays 0",
        wrong: "it is a page",
        subtle: SUBTLE,
        claims: &["fifo.not-on-disk"],
        make: || tell(|t, buffer, _, size_at| t.set_number_at(buffer + size_at, 4096)),
    },
    Defect {
        name: "fifo-not-found-by-access",
        correct: "access with F_OK tells whether a FIFO is there",
        wrong: "it is ENOENT",
        subtle: PLAIN,
        claims: &["fifo.exists-check"],
        make: || on(ACCESS).when(names_fifo).refuse(ENOENT),
    },
    Defect {
        name: "fifo-found-by-access",
        correct: "access with F_OK of a name that is not there is ENOENT",
        wrong: "it is 0",
        subtle: SUBTLE,
        claims: &["fifo.exists-check"],
        make: || {
            on(ACCESS).when(|_, c| c.args[c.path_place() + 1] == bits(libc::F_OK)).after(|_, _, result| {
                if *result == error(ENOENT) {
                    *result = 0;
                }
            })
        },
    },
    Defect {
        name: "open-to-read-does-not-block",
        correct: "opening a FIFO for reading blocks until it is opened for writing",
        wrong: "it succeeds at once",
        subtle: PLAIN,
        claims: &["fifo.open-read-blocks", "program.fifo-chat", "program.fifo-chat-forked"],
        make: || {
            on(OPEN).when(opens_fifo(O_RDONLY, false)).carrying(
                |_, c| {
                    *c.open_flags() |= bits(O_NONBLOCK);
                    Some(())
                },
                |t, _, (), result| {
                    if *result >= 0 {
                        let flags = t.fcntl(*result as u64, libc::F_GETFL, 0) as u64;
                        let blocking = flags & !bits(O_NONBLOCK);
                        t.fcntl(*result as u64, libc::F_SETFL, blocking);
                    }
                },
            )
        },
    },
    Defect {
        name: "open-to-write-does-not-block",
        correct: "opening a FIFO for writing blocks until it is opened for reading",
        wrong: "it succeeds at once",
        subtle: PLAIN,
        claims: &["fifo.open-write-blocks"],
        make: || with_a_reader(false),
    },
    Defect {
        name: "open-to-write-never-enxio",
        correct: "opening a FIFO for writing with O_NONBLOCK is ENXIO without a reader",
        wrong: "it succeeds",
        subtle: SUBTLE,
        claims: &["fifo.open-write-blocks"],
        make: || with_a_reader(true),
    },
    Defect {
        name: "open-enxio-is-enoent",
        correct: "opening a FIFO for writing with O_NONBLOCK is ENXIO without a reader",
        wrong: "it is ENOENT",
        subtle: PLAIN,
        claims: &["fifo.open-write-blocks"],
        make: || on(OPEN).when(opens_fifo(O_WRONLY, true)).error(ENXIO, ENOENT),
    },
    Defect {
        name: "open-enxio-is-enoent-before-any-reader",
        correct: "opening a FIFO for writing with O_NONBLOCK is ENXIO without a reader",
        wrong: "as long as nobody has opened it for reading, it is ENOENT",
        subtle: SUBTLE,
        claims: &["fifo.open-write-blocks"],
        make: || enxio_is_enoent(false),
    },
    Defect {
        name: "open-enxio-is-enoent-after-a-reader",
        correct: "opening a FIFO for writing with O_NONBLOCK is ENXIO without a reader",
        wrong: "once somebody has opened it for reading, it is ENOENT",
        subtle: SUBTLE,
        claims: &["fifo.open-read-blocks"],
        make: || enxio_is_enoent(true),
    },
    Defect {
        name: "open-to-read-enxio",
        correct: "opening a FIFO for reading with O_NONBLOCK succeeds at once",
        wrong: "it is ENXIO without a writer",
        subtle: SUBTLE,
        claims: &["fifo.open-read-blocks"],
        make: || {
            on(OPEN)
                .when(opens_fifo(O_RDONLY, true))
                .when(|t, c| {
                    let path = t.path_argument(c).unwrap_or_default();
                    // Only a reader lets a writer in: there is one if this opens.
                    let mut write = OpenOptions::new();
                    write.write(true).custom_flags(O_NONBLOCK).open(path).is_err()
                })
                .refuse(ENXIO)
        },
    },
    Defect {
        name: "fifo-refused-to-peers",
        correct: "any process that can reach the path can open it",
        wrong: "a program that was executed apart gets EACCES",
        subtle: PLAIN,
        claims: &["fifo.unrelated"],
        make: || on(OPEN).when(in_peer).when(names_fifo).refuse(EACCES),
    },
    Defect {
        name: "fifo-keeps-bytes",
        correct: "bytes not read when the last end closes do not stay",
        wrong: "they are there when it is opened again",
        subtle: PLAIN,
        claims: &["fifo.not-on-disk", "fifo.file-remains"],
        make: keep_open,
    },
    Defect {
        name: "fifo-removed-with-its-last-process",
        correct: "the FIFO's file stays after the processes have ended",
        wrong: "it is removed when a descriptor of it is closed",
        subtle: PLAIN,
        claims: &["fifo.file-remains"],
        make: || {
            on(CLOSE).when(fifo(0)).enter(|t, c| {
                // A name that has gone already cannot go again.
                let _ = fs::remove_file(t.name(c.args[0]));
                Entry::Pass
            })
        },
    },
    Defect {
        name: "fifo-ends-for-good",
        correct: "after the end a new writer revives the FIFO",
        wrong: "once a read has met the end, all do",
        subtle: SUBTLE,
        claims: &["fifo.read-eof"],
        make: || {
            let ended: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let met = Rc::clone(&ended);
            several([
                on(READ).when(fifo(0)).when(move |t, c| met.borrow().contains(&t.inode(c.args[0]))).answer(0),
                on(READ).when(fifo(0)).after(move |t, c, result| {
                    if *result == 0 && c.args[2] > 0 {
                        t.count();
                        ended.borrow_mut().insert(t.inode(c.args[0]));
                    }
                }),
            ])
        },
    },
    Defect {
        name: "fifo-last-in-first-out",
        correct: "bytes come out of a FIFO in the order in which they went in",
        wrong: "of ten bytes and more that are read at once, first and last are changed about",
        subtle: SUBTLE,
        claims: &["fifo.first-in-first-out"],
        make: || {
            on(READ).when(fifo(0)).after_success(|t, c, result| {
                if *result >= 10
                    && let Ok(memory) = t.memory()
                    && let Ok(mut bytes) = memory.read(c.args[BUFFER], *result as usize)
                {
                    let last = bytes.len() - 1;
                    bytes.swap(0, last);
                    // The kernel has just written there.
                    let _ = memory.write(c.args[BUFFER], &bytes);
                }
            })
        },
    },
    Defect {
        name: "fifo-write-dropped",
        correct: "what is written to a FIFO is read from it",
        wrong: "the second and every other write of a process is counted and lost",
        subtle: SUBTLE,
        claims: &["fifo.first-in-first-out", "program.fifo-stream"],
        make: || {
            let mut writes: HashMap<libc::pid_t, u64> = HashMap::new();
            on(WRITE)
                .when(fifo(0))
                .when(move |t, _| {
                    let count = writes.entry(t.id()).or_default();
                    *count += 1;
                    (*count).is_multiple_of(2)
                })
                .enter(|_, c| Entry::Answer(c.args[2] as i64))
        },
    },
];

fn makes_fifo(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[call.mode_place()] & u64::from(S_IFMT) == u64::from(S_IFIFO)
}

fn path_of_fifo(tracee: &Tracee, call: &Syscall) -> Option<PathBuf> {
    let path = tracee.path_argument(call)?;
    let status = fs::metadata(&path).ok()?;
    status.file_type().is_fifo().then_some(path)
}

fn names_fifo(tracee: &mut Tracee, call: &Syscall) -> bool {
    path_of_fifo(tracee, call).is_some()
}

/// The call opens a FIFO for this, with O_NONBLOCK or without.
fn opens_fifo(mode: i32, nonblocking: bool) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |t, c| {
        let flags = *{ *c }.open_flags();
        flags & bits(O_ACCMODE) == bits(mode) && (flags & bits(O_NONBLOCK) != 0) == nonblocking && names_fifo(t, c)
    }
}

/// Sets the mode of a FIFO that has been made, out of the one that was asked for.
fn made_with(mode: fn(u32) -> u32) -> Box<dyn Behaviour> {
    on(MKNOD).when(makes_fifo).after_success(move |t, c, _| {
        let asked = c.args[c.mode_place()] as u32;
        if let Some(path) = t.path_argument(c) {
            // It has just been made.
            let _ = fs::set_permissions(path, Permissions::from_mode(mode(asked)));
        }
    })
}

/// ENXIO of a FIFO that somebody had opened for reading before, or that nobody had, is ENOENT.
fn enxio_is_enoent(with_history: bool) -> Box<dyn Behaviour> {
    let mut read = HashSet::new();
    on(OPEN).carrying(
        move |t, c| {
            let status = fs::metadata(path_of_fifo(t, c)?).ok()?;
            let this = (status.ino(), status.ctime(), status.ctime_nsec());
            let reads = *{ *c }.open_flags() & bits(O_ACCMODE) == bits(O_RDONLY);
            reads.then(|| read.insert(this));
            (read.contains(&this) == with_history).then_some(())
        },
        |_, _, (), result| *result = if *result == error(ENXIO) { error(ENOENT) } else { *result },
    )
}

/// Lets opens for writing find a reader: this process, for as long as the call takes.
fn with_a_reader(nonblocking: bool) -> Box<dyn Behaviour> {
    on(OPEN).when(opens_fifo(O_WRONLY, nonblocking)).carrying(
        |t, c| {
            let path = path_of_fifo(t, c)?;
            let mut read = OpenOptions::new();
            read.read(true).custom_flags(O_NONBLOCK).open(path).ok()
        },
        |_, _, reader, _| drop(reader),
    )
}

/// Holds every FIFO that was written to open, until the tracer ends.
fn keep_open() -> Box<dyn Behaviour> {
    let mut held: HashMap<u64, File> = HashMap::new();
    on(CLOSE).when(fifo(0)).enter(move |t, c| {
        let inode = t.inode(c.args[0]);
        if t.available(c.args[0]) > 0
            && let Ok(file) = t.file(c.args[0], false)
        {
            held.insert(inode, file);
        }
        Entry::Pass
    })
}

/// Changes what stat tells of FIFOs, given the buffer and where mode and size are in it.
fn tell(change: fn(&Tracee, u64, u64, u64)) -> Box<dyn Behaviour> {
    on(STAT).after(move |t, c, result| {
        let (buffer, mode_at, size_at) = c.status_layout();
        if *result == 0 && t.number_at(buffer + mode_at).unwrap_or(0) & S_IFMT == S_IFIFO {
            t.count();
            change(t, buffer, mode_at, size_at);
        }
    })
}
