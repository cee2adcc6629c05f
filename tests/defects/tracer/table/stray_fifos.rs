//! FIFOs with several names, modes bit by bit, openers that are overlooked; and descriptors.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::rc::Rc;

use libc::{EAGAIN, EEXIST, EISDIR, ENXIO, F_DUPFD, O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};

use crate::tracer::behaviour::{Entry, Syscall};
use crate::tracer::call::{CLOSE, COUNT, DUP2, MKNOD, OPEN, PIPE, READ, bits, error};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::rule::{children_lose, on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{fifo, file, nonblocking, pipe};

/// FIFOs.
pub const FIFOS: &[Defect] = &[
    Defect {
        name: "open-to-write-overlooks-readers-for-both",
        correct: "who has a FIFO open for reading and writing is a reader of it",
        wrong: "not for a writer that does not wait: ENXIO",
        subtle: SUBTLE,
        claims: &["fifo.open-write-blocks", "fifo.same-calls"],
        make: || {
            on(OPEN)
                .when(opens_to_write_at_once)
                .when(|t, c| {
                    let modes = modes_here(t, c);
                    modes.contains(&O_RDWR) && !modes.contains(&O_RDONLY)
                })
                .refuse(ENXIO)
        },
    },
    Defect {
        name: "fifo-of-two-names-has-no-reader",
        correct: "a FIFO is one, whatever the number of its names",
        wrong: "with two, a writer that does not wait finds no reader",
        subtle: SUBTLE,
        claims: &["fifo.unrelated", "fifo.file-remains"],
        make: || {
            on(OPEN)
                .when(opens_to_write_at_once)
                .when(|t, c| t.status_at_path(c).is_some_and(|status| status.nlink() > 1))
                .refuse(ENXIO)
        },
    },
    Defect {
        name: "mkfifo-over-a-directory-is-eisdir",
        correct: "mkfifo where there is something is EEXIST",
        wrong: "where that is a directory it is EISDIR",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || on(MKNOD).when(|t, c| t.status_at_path(c).is_some_and(|status| status.is_dir())).error(EEXIST, EISDIR),
    },
    Defect {
        name: "mkfifo-ignores-the-umask-for-the-group",
        correct: "the umask takes rights away",
        wrong: "not the group's right to write",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || {
            on(MKNOD).instead(|t, c| {
                let mask = t.perform(libc::SYS_umask, [0; 6]) as u64;
                t.perform(libc::SYS_umask, [mask & !0o020, 0, 0, 0, 0, 0]);
                let result = t.make(c);
                t.perform(libc::SYS_umask, [mask, 0, 0, 0, 0, 0]);
                result
            })
        },
    },
    Defect {
        name: "mkfifo-forgets-execution-by-others",
        correct: "a FIFO has the rights that it is made with, less the umask",
        wrong: "never the others' right to execute",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || on(MKNOD).change(|_, c| c.args[c.mode_place()] &= !1),
    },
    Defect {
        name: "fifo-without-a-writer-yet-is-eagain",
        correct: "a read of a FIFO that nobody has open for writing is 0",
        wrong: "it is EAGAIN before the first writer, if it does not wait",
        subtle: SUBTLE,
        claims: &["fifo.read-eof", "fifo.open-read-blocks"],
        make: || {
            let written: Rc<RefCell<HashSet<u64>>> = Rc::default();
            let (known, made) = (Rc::clone(&written), Rc::clone(&written));
            several([
                on(MKNOD).after_success(move |t, c, _| {
                    made.borrow_mut().remove(&t.status_at_path(c).map_or(0, |status| status.ino()));
                }),
                on(OPEN).after_success(move |t, _, result| {
                    let descriptor = *result as u64;
                    if t.is_fifo(descriptor) && t.access_mode(descriptor) != O_RDONLY {
                        written.borrow_mut().insert(t.inode(descriptor));
                    }
                }),
                on(READ).when(fifo(0)).when(nonblocking(true)).when(|_, c| c.args[COUNT] > 0).after(
                    move |t, c, result| {
                        if *result == 0 && !known.borrow().contains(&t.inode(c.args[0])) {
                            *result = error(EAGAIN);
                        }
                    },
                ),
            ])
        },
    },
    Defect {
        name: "fork-closes-write-ends-of-fifos",
        correct: "a child has its parent's descriptors",
        wrong: "not those of FIFOs open for writing",
        subtle: SUBTLE,
        claims: &["fifo.same-calls", "fifo.read-eof", "fifo.unrelated"],
        make: || children_lose(|child, fd| child.is_fifo(fd) && child.access_mode(fd) == O_WRONLY),
    },
];

/// Descriptors.
pub const DESCRIPTORS: &[Defect] = &[
    Defect {
        name: "dup2-onto-itself-closes",
        correct: "dup2 of a descriptor onto itself leaves it as it is",
        wrong: "it is closed",
        subtle: SUBTLE,
        claims: &["program.shell-pipeline", "fork.descriptor-shared"],
        make: || {
            on(DUP2).when(|t, c| c.args[0] == c.args[1] && t.open_file(c.args[0]).is_some()).instead(|t, c| {
                t.close(c.args[0] as i64);
                c.args[1] as i64
            })
        },
    },
    Defect {
        name: "pipe-descriptors-are-not-the-lowest",
        correct: "pipe takes the two lowest free descriptors",
        wrong: "the write end is ten further on",
        subtle: SUBTLE,
        claims: &["pipe.ends"],
        make: || {
            on(PIPE).after(|t, c, result| {
                if *result == 0
                    && let Some(old) = t.number_at(c.args[0] + 4).map(u64::from)
                {
                    let new = t.fcntl(old, F_DUPFD, old + 10);
                    if let Ok(new) = u32::try_from(new) {
                        t.count();
                        t.close(old as i64);
                        t.set_number_at(c.args[0] + 4, new);
                    }
                }
            })
        },
    },
    Defect {
        name: "close-rewinds",
        correct: "closing a descriptor leaves the offset of others of the same open file",
        wrong: "it goes back to the start",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on(CLOSE).when(file(0)).enter(|t, c| {
                t.perform(libc::SYS_lseek, [c.args[0], 0, bits(libc::SEEK_SET), 0, 0, 0]);
                Entry::Pass
            })
        },
    },
    Defect {
        name: "dup2-over-a-write-end-leaves-it-open",
        correct: "dup2 closes what was there",
        wrong: "a write end of a pipe stays open behind it",
        subtle: SUBTLE,
        claims: &["pipe.read-eof", "program.shell-pipeline"],
        make: || {
            on(DUP2).when(pipe(1)).when(|t, c| c.args[0] != c.args[1] && t.access_mode(c.args[1]) == O_WRONLY).enter(
                |t, c| {
                    t.fcntl(c.args[1], F_DUPFD, 200);
                    Entry::Pass
                },
            )
        },
    },
];

/// open of a FIFO with O_WRONLY and O_NONBLOCK.
fn opens_to_write_at_once(tracee: &mut Tracee, call: &Syscall) -> bool {
    let mut call = *call;
    let flags = *call.open_flags() as i32;
    let fifo = |status: std::fs::Metadata| status.file_type().is_fifo();
    flags & (O_ACCMODE | O_NONBLOCK) == O_WRONLY | O_NONBLOCK && tracee.status_at_path(&call).is_some_and(fifo)
}

/// How the process itself has the FIFO at the path open.
fn modes_here(tracee: &Tracee, call: &Syscall) -> Vec<i32> {
    let inode = tracee.status_at_path(call).map_or(0, |status| status.ino());
    let descriptors = tracee.descriptors().into_iter();
    descriptors.filter(|fd| tracee.inode(*fd) == inode).map(|fd| tracee.access_mode(fd)).collect()
}
