//! Descriptors, open files and their offsets, read and write.

use std::os::unix::fs::MetadataExt;

use libc::{O_CLOEXEC, O_EXCL, O_TRUNC};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{COUNT, DUP, DUP2, EXEC, FCNTL, LSEEK, OPEN, PREAD, PWRITE, READ, WRITE, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::{On, on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, file, in_child, in_peer};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "dup-has-an-offset",
        correct: "a descriptor made by dup shares the open file, its offset included",
        wrong: "it has an offset of its own",
        subtle: PLAIN,
        claims: &["fork.descriptor-shared"],
        make: || {
            several([
                on(DUP).when(file(0)).instead(separate),
                on(FCNTL).when(file(0)).when(argument(1, libc::F_DUPFD)).instead(separate),
                on(FCNTL).when(file(0)).when(argument(1, libc::F_DUPFD_CLOEXEC)).instead(separate),
            ])
        },
    },
    Defect {
        name: "dup2-has-an-offset",
        correct: "a descriptor made by dup2 or dup3 shares the open file, its offset included",
        wrong: "it has an offset of its own",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on(DUP2).when(file(0)).instead(|t, c| {
                let new = separate(t, c);
                let flags = if c.number == libc::SYS_dup3 { c.args[2] } else { 0 };
                let result = t.perform(libc::SYS_dup3, [new as u64, c.args[1], flags, 0, 0, 0]);
                t.close(new);
                result
            })
        },
    },
    Defect {
        name: "dup3-with-cloexec-has-an-offset",
        correct: "a descriptor made by dup3 shares the open file, its offset included",
        wrong: "with O_CLOEXEC it has an offset of its own",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on(&[libc::SYS_dup3]).when(file(0)).when(|_, c| c.args[2] != 0).instead(|t, c| {
                let new = separate(t, c);
                let result = t.perform(libc::SYS_dup3, [new as u64, c.args[1], c.args[2], 0, 0, 0]);
                t.close(new);
                result
            })
        },
    },
    Defect {
        name: "open-shares-an-offset",
        correct: "descriptors opened separately on one file have offsets of their own",
        wrong: "the second one opened in the same way shares the first one's",
        subtle: SUBTLE,
        claims: &["fork.reopened-file"],
        make: || {
            on(OPEN).after(|t, _, result| {
                if *result >= 0 && t.is_tested_file(*result as u64) {
                    share_with_another(t, *result as u64);
                }
            })
        },
    },
    Defect {
        name: "open-shares-an-offset-in-the-family",
        correct: "descriptors opened separately on one file have offsets of their own",
        wrong: "the second one of the worker and its children that is opened in the same way shares the first one's",
        subtle: SUBTLE,
        claims: &["fork.reopened-file"],
        make: || {
            on(OPEN).when(|t, c| !in_peer(t, c)).after(|t, _, result| {
                if *result >= 0 && t.is_tested_file(*result as u64) {
                    share_with_another(t, *result as u64);
                }
            })
        },
    },
    Defect {
        name: "open-shares-an-offset-in-children",
        correct: "descriptors opened separately on one file have offsets of their own",
        wrong: "the second one of a forked child that is opened in the same way shares the first one's",
        subtle: SUBTLE,
        claims: &["fork.reopened-file"],
        make: || {
            on(OPEN).when(in_child).when(|t, c| !in_peer(t, c)).after(|t, _, result| {
                if *result >= 0 && t.is_tested_file(*result as u64) {
                    share_with_another(t, *result as u64);
                }
            })
        },
    },
    Defect {
        name: "open-shares-an-offset-in-peers",
        correct: "descriptors opened separately on one file have offsets of their own",
        wrong: "the second one of a peer that is opened in the same way shares the first one's",
        subtle: SUBTLE,
        claims: &["peer.plain-file"],
        make: || {
            on(OPEN).when(in_peer).after(|t, _, result| {
                if *result >= 0 && t.is_tested_file(*result as u64) {
                    share_with_another(t, *result as u64);
                }
            })
        },
    },
    Defect {
        name: "open-trunc-ignored",
        correct: "O_TRUNC empties the file",
        wrong: "it has no effect",
        subtle: PLAIN,
        claims: &["program.server-client"],
        make: || without_flag(O_TRUNC),
    },
    Defect {
        name: "open-excl-ignored",
        correct: "O_CREAT with O_EXCL fails with EEXIST if the file is there",
        wrong: "it is opened",
        subtle: PLAIN,
        claims: &["sequences.many-processes"],
        make: || without_flag(O_EXCL),
    },
    Defect {
        name: "append-ignored",
        correct: "with O_APPEND each write goes to the end of the file",
        wrong: "it goes to the offset",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared", "fork.reopened-file"],
        make: || {
            on(WRITE)
                .when(file(0))
                .when(|t, c| {
                    let open = t.open_file(c.args[0]);
                    open.is_some_and(|(flags, _)| flags & libc::O_APPEND != 0)
                })
                .instead(|t, c| {
                    let flags = t.fcntl(c.args[0], libc::F_GETFL, 0) as u64;
                    t.fcntl(c.args[0], libc::F_SETFL, flags & !bits(libc::O_APPEND));
                    let result = t.make(c);
                    t.fcntl(c.args[0], libc::F_SETFL, flags);
                    result
                })
        },
    },
    Defect {
        name: "pwrite-moves-the-offset",
        correct: "pwrite leaves the offset where it is",
        wrong: "it moves it to the end of what it wrote",
        subtle: PLAIN,
        claims: &["sequences.one-process"],
        make: || moves_offset(on(PWRITE)),
    },
    Defect {
        name: "pread-moves-the-offset",
        correct: "pread leaves the offset where it is",
        wrong: "it moves it to the end of what it read",
        subtle: PLAIN,
        claims: &["mmap.offset.zero-is-start", "sequences.one-process"],
        make: || moves_offset(on(PREAD)),
    },
    Defect {
        name: "lseek-beyond-a-page-ignored",
        correct: "lseek sets the offset",
        wrong: "from one page on it tells the right offset but leaves it where it was",
        subtle: SUBTLE,
        claims: &["file.extend-with-lseek", "peer.plain-file"],
        make: || {
            on(LSEEK)
                .when(file(0))
                .when(argument(2, libc::SEEK_SET))
                .when(|_, c| c.args[1] as i64 >= page() as i64)
                .enter(|_, c| Entry::Answer(c.args[1] as i64))
        },
    },
    Defect {
        name: "read-odd-is-short",
        correct: "read gives as many bytes as are asked for, if the file has them",
        wrong: "of an odd number above one, one is missing",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "peer.plain-file"],
        make: || on(READ).and(PREAD).when(file(0)).when(odd_count).change(|_, c| c.args[COUNT] -= 1),
    },
    Defect {
        name: "read-odd-is-damaged",
        correct: "read gives the file's bytes",
        wrong: "the last one of an odd number is changed",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "peer.plain-file"],
        make: || {
            on(READ).and(PREAD).when(file(0)).after_success(|t, c, result| {
                let last = c.args[1] + *result as u64 - 1;
                if *result % 2 == 1
                    && let Ok(memory) = t.memory()
                    && let Ok(byte) = memory.read(last, 1)
                {
                    // The kernel has just written there.
                    let _ = memory.write(last, &[byte[0] ^ 1]);
                }
            })
        },
    },
    Defect {
        name: "write-loses-the-last-byte",
        correct: "write stores all the bytes that it counts",
        wrong: "of more than a page, the last one is lost",
        subtle: SUBTLE,
        claims: &["peer.plain-file"],
        make: || {
            on(WRITE).and(PWRITE).when(file(0)).carrying(
                |_, c| {
                    let long = c.args[COUNT] > page();
                    c.args[COUNT] -= u64::from(long);
                    long.then_some(())
                },
                |_, c, (), result| *result += i64::from(*result as u64 == c.args[COUNT] - 1),
            )
        },
    },
    Defect {
        name: "cloexec-lost",
        correct: "descriptors with close-on-exec are closed by exec",
        wrong: "those of pipes stay open",
        subtle: SUBTLE,
        claims: &["program.shell-pipeline"],
        make: || {
            on(EXEC).enter(|t, _| {
                for descriptor in t.descriptors() {
                    let flags = t.open_file(descriptor).map_or(0, |(flags, _)| flags);
                    if flags & O_CLOEXEC != 0 && t.is_pipe(descriptor) {
                        t.fcntl(descriptor, libc::F_SETFD, 0);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "dup2-does-nothing",
        correct: "dup2 puts one descriptor in another's place",
        wrong: "it returns the number and does nothing",
        subtle: PLAIN,
        claims: &["program.shell-pipeline"],
        make: || {
            on(DUP2)
                .when(|t, c| t.is_pipe(c.args[0]) && c.args[0] != c.args[1])
                .enter(|_, c| Entry::Answer(c.args[1] as i64))
        },
    },
];

fn odd_count(_: &mut Tracee, call: &Syscall) -> bool {
    call.args[COUNT] > 1 && call.args[COUNT] % 2 == 1
}

/// The first argument, opened anew at its offset.
fn separate(tracee: &mut Tracee, call: &Syscall) -> i64 {
    let (flags, offset) = tracee.open_file(call.args[0]).unwrap_or_default();
    tracee.reopen_at(call.args[0], flags, offset)
}

/// Puts a duplicate of another descriptor of the same file, opened for the same, in place of a new one.
fn share_with_another(tracee: &mut Tracee, new: u64) {
    let Some((mode, 0)) = tracee.open_file(new) else {
        return;
    };
    let inode = tracee.inode(new);
    let other = tracee.descriptors().into_iter().find(|other| {
        *other != new
            && tracee.is_tested_file(*other)
            && tracee.inode(*other) == inode
            && tracee.open_file(*other).is_some_and(|(flags, _)| flags & libc::O_ACCMODE == mode & libc::O_ACCMODE)
    });
    if let Some(other) = other {
        let flags = bits(mode & O_CLOEXEC);
        tracee.perform(libc::SYS_dup3, [other, new, flags, 0, 0, 0]);
        tracee.count();
    }
}

/// Opens of files that are there already lose a flag.
fn without_flag(flag: i32) -> Box<dyn Behaviour> {
    on(OPEN)
        .when(move |t, c| {
            let mut call = *c;
            let path = t.path_argument(c);
            let status = path.and_then(|path| std::fs::metadata(path).ok());
            *call.open_flags() & bits(flag) != 0 && status.is_some_and(|status| status.is_file() && status.size() > 0)
        })
        .change(move |_, c| *c.open_flags() &= !bits(flag))
}

fn moves_offset(on: On) -> Box<dyn Behaviour> {
    on.when(file(0)).after_success(|t, c, result| {
        let to = c.args[3] + *result as u64;
        let seek = [c.args[0], to, bits(libc::SEEK_SET), 0, 0, 0];
        t.perform(libc::SYS_lseek, seek);
    })
}
