//! What only children, their children, programs of their own or what is executed get wrong; and high descriptors.

use libc::{
    EOPNOTSUPP, F_GETFD, F_SETFD, FD_CLOEXEC, MAP_NORESERVE, MAP_POPULATE, MAP_SHARED_VALIDATE, O_CLOEXEC, O_RDWR,
};

use crate::tracer::behaviour::{Entry, Syscall};
use crate::tracer::call::{ADDRESS, DUP2, EXEC, FCNTL, FLAGS, LENGTH, MMAP, MSYNC, OFFSET, WRITE, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{page, page_down};
use crate::tracer::rule::{children_lose, on, on_fork};
use crate::tracer::table::flags::MAP_32BIT;
use crate::tracer::table::fork::{detach_all, each_shared_file, shared_anonymous};
use crate::tracer::table::msync::{has_hole, valid};
use crate::tracer::table::sharing::private_written_at;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, flag, in_child, in_peer, of_file, opened, pipe};

/// mmap's arguments.
pub const ARGUMENTS: &[Defect] = &[
    Defect {
        name: "offset-unaligned-taken-in-grandchildren",
        correct: "an offset that is no multiple of the page size is EINVAL, whoever maps",
        wrong: "a child's child has it rounded down",
        subtle: SUBTLE,
        claims: &["mmap.result.failed"],
        make: || on(MMAP).when(in_grandchild).change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET])),
    },
    Defect {
        name: "offset-unaligned-taken-in-peers",
        correct: "an offset that is no multiple of the page size is EINVAL, whoever maps",
        wrong: "a program of its own has it rounded down",
        subtle: SUBTLE,
        claims: &["mmap.result.failed"],
        make: || on(MMAP).when(in_peer).change(|_, c| c.args[OFFSET] = page_down(c.args[OFFSET])),
    },
    Defect {
        name: "length-beyond-memory-shortened-in-children",
        correct: "a length beyond all memory is ENOMEM, whoever maps",
        wrong: "a child has a page mapped",
        subtle: SUBTLE,
        claims: &["mmap.result.failed"],
        make: || on(MMAP).when(in_child).when(|_, c| c.args[LENGTH] >> 48 != 0).change(|_, c| c.args[LENGTH] = page()),
    },
];

/// Private mappings.
pub const SHARING: &[Defect] = &[Defect {
    name: "private-written-at-exec",
    correct: "stores through a MAP_PRIVATE mapping never reach the file",
    wrong: "they do when the process executes a program",
    subtle: SUBTLE,
    claims: &["private.file-unchanged"],
    make: || private_written_at(on(EXEC)),
}];

/// Memory of no file.
pub const ANONYMOUS: &[Defect] = &[Defect {
    name: "fork-shared-anonymous-is-private-in-great-grandchildren",
    correct: "shared anonymous memory is shared with all descendants",
    wrong: "a child's child's child has a private copy",
    subtle: SUBTLE,
    claims: &["anon.shared-with-child"],
    make: || {
        on_fork(|_, child| {
            if child.process().generation > 2 {
                for mapping in shared_anonymous(child) {
                    detach_all(child, &mapping);
                }
            }
        })
    },
}];

/// msync.
pub const MSYNCS: &[Defect] = &[
    Defect {
        name: "msync-by-peers-does-nothing",
        correct: "after MS_SYNC no page of the range is dirty, whoever stored there",
        wrong: "in a program of its own it returns 0 and writes nothing",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || on(MSYNC).when(in_peer).when(|t, c| !has_hole(t, c)).when(valid).answer(0),
    },
    Defect {
        name: "msync-without-a-descriptor-does-nothing",
        correct: "after MS_SYNC no page of the range is dirty",
        wrong: "once the process has the file open no more it writes nothing",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent"],
        make: || on(MSYNC).when(of_what_is_closed).when(|t, c| !has_hole(t, c)).when(valid).answer(0),
    },
];

/// mmap's flags.
pub const MMAP_FLAGS: &[Defect] = &[
    Defect {
        name: "populate-in-children-ignored",
        correct: "MAP_POPULATE has the pages present",
        wrong: "not in a child",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || on(MMAP).when(in_child).when(flag(MAP_POPULATE)).change(|_, c| c.args[FLAGS] &= !bits(MAP_POPULATE)),
    },
    Defect {
        name: "noreserve-in-children-ignored",
        correct: "MAP_NORESERVE keeps swap space from being reserved",
        wrong: "not in a child",
        subtle: SUBTLE,
        claims: &["flag.noreserve"],
        make: || on(MMAP).when(in_child).when(flag(MAP_NORESERVE)).change(|_, c| c.args[FLAGS] &= !bits(MAP_NORESERVE)),
    },
    Defect {
        name: "32bit-in-children-ignored",
        correct: "MAP_32BIT places the mapping in the first 2 GiB (x86-64)",
        wrong: "not in a child",
        subtle: SUBTLE,
        claims: &["flag.32bit"],
        make: || on(MMAP).when(in_child).when(flag(MAP_32BIT)).change(|_, c| c.args[FLAGS] &= !bits(MAP_32BIT)),
    },
    Defect {
        name: "validate-in-children-is-private",
        correct: "MAP_SHARED_VALIDATE shares as MAP_SHARED does",
        wrong: "in a child the mapping is private",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(in_child).when(validated).change(|_, c| c.share(libc::MAP_PRIVATE)),
    },
    Defect {
        name: "validate-in-peers-is-private",
        correct: "MAP_SHARED_VALIDATE shares as MAP_SHARED does",
        wrong: "in a program of its own the mapping is private",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(in_peer).when(validated).change(|_, c| c.share(libc::MAP_PRIVATE)),
    },
    Defect {
        name: "validate-in-peers-does-not-validate",
        correct: "MAP_SHARED_VALIDATE with an unknown flag is EOPNOTSUPP, whoever maps",
        wrong: "a program of its own may give any",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(in_peer).when(validated).change(|_, c| c.args[FLAGS] &= !UNKNOWN),
    },
    Defect {
        name: "validate-in-children-refuses-einval",
        correct: "MAP_SHARED_VALIDATE with an unknown flag is EOPNOTSUPP, whoever maps",
        wrong: "in a child it is EINVAL",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(in_child).when(validated).error(EOPNOTSUPP, libc::EINVAL),
    },
];

/// What a child has.
pub const FORKS: &[Defect] = &[Defect {
    name: "fork-shared-is-private-in-great-grandchildren",
    correct: "a shared file mapping is shared with all descendants",
    wrong: "a child's child's child has a private copy",
    subtle: SUBTLE,
    claims: &["fork.shared-file-mapping"],
    make: || {
        on_fork(|_, child| {
            if child.process().generation > 2 {
                each_shared_file(child, detach_all);
            }
        })
    },
}];

/// Descriptors.
pub const DESCRIPTORS: &[Defect] = &[
    Defect {
        name: "getfd-from-64-on-forgets-cloexec",
        correct: "F_GETFD tells FD_CLOEXEC as it was set",
        wrong: "not of descriptors from 64 on",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on(FCNTL).when(argument(1, F_GETFD)).when(is_high).after(|_, _, result| {
                if *result > 0 {
                    *result &= !i64::from(FD_CLOEXEC);
                }
            })
        },
    },
    Defect {
        name: "dup3-from-64-on-forgets-cloexec",
        correct: "dup3 with O_CLOEXEC has exec close the descriptor",
        wrong: "not one from 64 on",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on(DUP2).when(|_, c| c.number == libc::SYS_dup3 && c.args[1] >= 64).change(|_, c| {
                c.args[2] &= !bits(O_CLOEXEC);
            })
        },
    },
    Defect {
        name: "exec-keeps-descriptors-from-64-on",
        correct: "exec closes what has FD_CLOEXEC",
        wrong: "not descriptors from 64 on",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || {
            on(EXEC).enter(|t, _| {
                for descriptor in t.descriptors() {
                    if descriptor >= 64 && t.is_tested_file(descriptor) {
                        t.count();
                        t.fcntl(descriptor, F_SETFD, 0);
                    }
                }
                Entry::Pass
            })
        },
    },
    Defect {
        name: "fork-loses-descriptors-from-64-on",
        correct: "a child has its parent's descriptors",
        wrong: "not those of files from 64 on",
        subtle: SUBTLE,
        claims: &["fork.descriptor-shared"],
        make: || children_lose(|child, fd| fd >= 64 && child.is_tested_file(fd)),
    },
];

/// Pipes.
pub const PIPES: &[Defect] = &[
    Defect {
        name: "great-grandchild-loses-a-byte",
        correct: "every byte that is written is read, whoever writes",
        wrong: "what a child's child's child writes loses its last",
        subtle: SUBTLE,
        claims: &["pipe.order"],
        make: || on(WRITE).when(pipe(0)).when(|t, c| t.process().generation > 2 && c.args[2] > 1).lose_the_last_byte(),
    },
    Defect {
        name: "setfl-by-who-received-it-ignored",
        correct: "a descriptor that was sent shares the open file, O_NONBLOCK included",
        wrong: "who received it sets nothing, and is told 0",
        subtle: SUBTLE,
        claims: &["pipe.nonblocking-read", "pipe.nonblocking-write"],
        make: || {
            on(FCNTL)
                .when(pipe(0))
                .when(in_peer)
                .when(|t, c| !t.is_fifo(c.args[0]))
                .when(argument(1, libc::F_SETFL))
                .answer(0)
        },
    },
];

/// The flags of mmap that no kernel knows.
const UNKNOWN: u64 = 0b1_1111 << 21;

fn in_grandchild(tracee: &mut Tracee, _: &Syscall) -> bool {
    tracee.process().generation > 1
}

fn validated(tracee: &mut Tracee, call: &Syscall) -> bool {
    call.args[FLAGS] & 0xf == bits(MAP_SHARED_VALIDATE) && of_file(tracee, call) && opened(O_RDWR)(tracee, call)
}

fn is_high(_: &mut Tracee, call: &Syscall) -> bool {
    (64..1024).contains(&call.args[0])
}

/// The range is of a file of which the process has no descriptor.
fn of_what_is_closed(tracee: &mut Tracee, call: &Syscall) -> bool {
    let inode = tracee.mapping_at(call.args[ADDRESS]).map_or(0, |mapping| mapping.inode);
    let open = tracee.descriptors().into_iter().any(|descriptor| tracee.inode(descriptor) == inode);
    inode != 0 && !open
}
