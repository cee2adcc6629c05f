//! FIFOs that go wrong only for some names, modes and openings, or the next time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::rc::Rc;

use libc::{EINVAL, O_NONBLOCK, O_RDWR};

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{ACCESS, COUNT, MKNOD, OPEN, READ, STAT, UNLINK, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{every, fifo};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "fifo-ends-for-good-the-second-time",
        correct: "after the end a new writer revives the FIFO",
        wrong: "after a second end it does not",
        subtle: SUBTLE,
        claims: &["fifo.read-eof", "fifo.file-remains"],
        make: || {
            let ends: Rc<RefCell<HashMap<u64, (u32, bool)>>> = Rc::default();
            let met = Rc::clone(&ends);
            several([
                on(READ)
                    .when(fifo(0))
                    .when(move |t, c| met.borrow().get(&t.inode(c.args[0])).is_some_and(|(count, _)| *count > 1))
                    .answer(0),
                on(READ).when(fifo(0)).after(move |t, c, result| {
                    let mut ends = ends.borrow_mut();
                    let (count, over) = ends.entry(t.inode(c.args[0])).or_default();
                    let ended = *result == 0 && c.args[COUNT] > 0;
                    *count += u32::from(ended && !*over);
                    *over = if *result > 0 { false } else { *over || ended };
                }),
            ])
        },
    },
    Defect {
        name: "fifo-unlinked-is-at-its-end",
        correct: "a FIFO lives on without a name while it is open",
        wrong: "what was in it is lost with the name",
        subtle: SUBTLE,
        claims: &["fifo.not-on-disk", "fifo.file-remains"],
        make: || {
            on(UNLINK).carrying(
                |t, c| {
                    let path = t.path_argument(c)?;
                    let is_fifo = fs::symlink_metadata(&path).is_ok_and(|status| status.file_type().is_fifo());
                    let mut open = fs::OpenOptions::new();
                    open.read(true).custom_flags(O_NONBLOCK);
                    if is_fifo { open.open(path).ok() } else { None }
                },
                |t, _, mut file, result| {
                    let mut bytes = Vec::new();
                    if *result == 0 {
                        // Ends with EAGAIN when it is empty.
                        let _ = file.read_to_end(&mut bytes);
                    }
                    if !bytes.is_empty() {
                        t.count();
                    }
                },
            )
        },
    },
    Defect {
        name: "mkfifo-ignores-the-umask-the-second-time",
        correct: "a FIFO's mode is the one asked for less the umask",
        wrong: "of every second one that a process makes it is the one asked for",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || {
            on(MKNOD).when(makes_fifo).when(every(2)).after_success(|t, c, _| {
                if let Some(path) = t.path_argument(c) {
                    // It has just been made.
                    let _ = fs::set_permissions(path, Permissions::from_mode(c.args[c.mode_place()] as u32 & 0o777));
                }
            })
        },
    },
    Defect {
        name: "mkfifo-without-rights-has-some",
        correct: "a FIFO's mode is the one asked for, none included",
        wrong: "without a right for the owner, the owner gets that to read",
        subtle: SUBTLE,
        claims: &["fifo.create"],
        make: || {
            on(MKNOD).when(makes_fifo).when(|_, c| c.args[c.mode_place()] & 0o700 == 0).change(|_, c| {
                c.args[c.mode_place()] |= 0o400;
            })
        },
    },
    Defect {
        name: "fifo-open-for-both-refused",
        correct: "Linux opens a FIFO with O_RDWR at once",
        wrong: "it is EINVAL",
        subtle: SUBTLE,
        claims: &["fifo.open-read-blocks", "fifo.same-calls"],
        make: || {
            on(OPEN)
                .when(names_fifo)
                .when(|_, c| *{ *c }.open_flags() & bits(libc::O_ACCMODE) == bits(O_RDWR))
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "fifo-second-reader-takes-the-bytes-away",
        correct: "opening a FIFO leaves what is in it",
        wrong: "opening it for reading once more loses a byte",
        subtle: SUBTLE,
        claims: &["fifo.same-calls", "fifo.first-in-first-out"],
        make: || {
            on(OPEN).when(names_fifo).after_success(|t, c, result| {
                let reads = *{ *c }.open_flags() & bits(libc::O_ACCMODE) == bits(libc::O_RDONLY);
                if reads
                    && t.available(*result as u64) > 0
                    && let Ok(mut file) = t.file(*result as u64, false)
                {
                    // There is something in it.
                    let _ = file.read(&mut [0]);
                }
            })
        },
    },
    Defect {
        name: "fifo-size-is-what-is-in-it",
        correct: "a FIFO's size stays 0",
        wrong: "from a page on fstat tells what is in it",
        subtle: SUBTLE,
        claims: &["fifo.not-on-disk"],
        make: || {
            on(STAT).when(fifo(0)).after_success(|t, c, _| {
                let inside = t.available(c.args[0]);
                if inside >= page() {
                    let (buffer, _, size_at) = c.status_layout();
                    t.set_number_at(buffer + size_at, inside as u32);
                }
            })
        },
    },
    Defect {
        name: "fifo-without-rights-not-found",
        correct: "access with F_OK tells whether a FIFO is there, whatever its mode",
        wrong: "one without any right is EACCES",
        subtle: SUBTLE,
        claims: &["fifo.exists-check"],
        make: || {
            on(ACCESS)
                .when(names_fifo)
                .when(|t, c| {
                    let path = t.path_argument(c).unwrap_or_default();
                    fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o777 == 0)
                })
                .refuse(libc::EACCES)
        },
    },
];

fn makes_fifo(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[call.mode_place()] & u64::from(libc::S_IFMT) == u64::from(libc::S_IFIFO)
}

fn names_fifo(tracee: &mut Tracee, call: &Syscall) -> bool {
    let path = tracee.path_argument(call);
    path.is_some_and(|path| fs::metadata(path).is_ok_and(|status| status.file_type().is_fifo()))
}
