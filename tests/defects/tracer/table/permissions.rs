//! What a mapping may be used for: open modes, PROT_* and mprotect.

use libc::{
    EACCES, ENOMEM, EPERM, MAP_SHARED_VALIDATE, O_RDONLY, O_RDWR, O_WRONLY, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{DESCRIPTOR, LENGTH, MMAP, MPROTECT, PROTECTION, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_down, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{
    anonymous, flag, mapped_in_range, of_file, offset_pages, opened, pages, private, prot, shared,
};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "shared-write-over-rdonly",
        correct: "a shared mapping with PROT_WRITE over O_RDONLY is EACCES",
        wrong: "it is made, and its stores reach the file",
        subtle: PLAIN,
        claims: &["perm.shared-write-needs-write"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(prot(PROT_WRITE))
                .when(opened(O_RDONLY))
                .instead(|t, c| t.map_reopened(c))
        },
    },
    Defect {
        name: "shared-write-only-over-rdonly",
        correct: "a shared mapping with PROT_WRITE over O_RDONLY is EACCES",
        wrong: "PROT_WRITE without PROT_READ is accepted",
        subtle: SUBTLE,
        claims: &["perm.not-above-open-mode"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(|_, c| c.args[PROTECTION] == bits(PROT_WRITE))
                .when(opened(O_RDONLY))
                .instead(|t, c| t.map_reopened(c))
        },
    },
    Defect {
        name: "validated-write-over-rdonly",
        correct: "MAP_SHARED_VALIDATE asks for the same rights as MAP_SHARED",
        wrong: "it lets PROT_WRITE pass over O_RDONLY",
        subtle: SUBTLE,
        claims: &["perm.rdonly-read-write-refused"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(flag(MAP_SHARED_VALIDATE))
                .when(prot(PROT_WRITE))
                .when(opened(O_RDONLY))
                .instead(|t, c| t.map_reopened(c))
        },
    },
    Defect {
        name: "window-write-over-rdonly",
        correct: "a shared mapping with PROT_WRITE over O_RDONLY is EACCES",
        wrong: "a window of two pages and more at an offset is made",
        subtle: SUBTLE,
        claims: &["perm.shared-write-needs-write"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(prot(PROT_WRITE))
                .when(offset_pages(1..))
                .when(pages(2..))
                .when(opened(O_RDONLY))
                .instead(|t, c| t.map_reopened(c))
        },
    },
    Defect {
        name: "missing-access-eperm",
        correct: "a mapping beyond the open mode is EACCES",
        wrong: "it is EPERM",
        subtle: PLAIN,
        claims: &["perm.shared-write-needs-write", "perm.mapping-implies-read"],
        make: || on(MMAP).error(EACCES, EPERM),
    },
    Defect {
        name: "wronly-mapped",
        correct: "a file opened O_WRONLY cannot be mapped: EACCES",
        wrong: "it can",
        subtle: PLAIN,
        claims: &["perm.mapping-implies-read"],
        make: || on(MMAP).when(of_file).when(opened(O_WRONLY)).instead(|t, c| t.map_reopened(c)),
    },
    Defect {
        name: "wronly-none-mapped",
        correct: "a file opened O_WRONLY cannot be mapped, with no right either",
        wrong: "PROT_NONE is accepted",
        subtle: SUBTLE,
        claims: &["perm.mapping-implies-read"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(opened(O_WRONLY))
                .when(|_, c| c.args[PROTECTION] == bits(PROT_NONE))
                .instead(|t, c| t.map_reopened(c))
        },
    },
    Defect {
        name: "wronly-private-mapped",
        correct: "a file opened O_WRONLY cannot be mapped: EACCES",
        wrong: "a private mapping is made",
        subtle: SUBTLE,
        claims: &["perm.mapping-implies-read"],
        make: || on(MMAP).when(of_file).when(private).when(opened(O_WRONLY)).instead(|t, c| t.map_reopened(c)),
    },
    Defect {
        name: "private-write-refused",
        correct: "a private mapping with PROT_WRITE over O_RDONLY is made",
        wrong: "it is EACCES",
        subtle: PLAIN,
        claims: &["perm.private-write-over-rdonly"],
        make: || on(MMAP).when(of_file).when(private).when(prot(PROT_WRITE)).when(opened(O_RDONLY)).refuse(EACCES),
    },
    Defect {
        name: "private-write-refused-at-offset",
        correct: "a private mapping with PROT_WRITE over O_RDONLY is made",
        wrong: "at an offset above 0 it is EACCES",
        subtle: SUBTLE,
        claims: &["perm.private-write-over-rdonly"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(private)
                .when(prot(PROT_WRITE))
                .when(offset_pages(1..))
                .when(opened(O_RDONLY))
                .refuse(EACCES)
        },
    },
    Defect {
        name: "write-only-refused",
        correct: "PROT_WRITE alone is accepted over O_RDWR",
        wrong: "it is EACCES",
        subtle: PLAIN,
        claims: &["perm.write-only-prot"],
        make: || on(MMAP).when(of_file).when(|_, c| c.args[PROTECTION] == bits(PROT_WRITE)).refuse(EACCES),
    },
    Defect {
        name: "write-only-cannot-be-stored-to",
        correct: "stores through a mapping with PROT_WRITE alone work",
        wrong: "they are a fault",
        subtle: PLAIN,
        claims: &["perm.read-needed-to-operate", "perm.write-only-prot"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[PROTECTION] == bits(PROT_WRITE))
                .change(|_, c| c.args[PROTECTION] = bits(PROT_NONE))
        },
    },
    Defect {
        name: "read-write-without-write",
        correct: "PROT_WRITE lets contents be changed",
        wrong: "with PROT_READ beside it, it does not",
        subtle: PLAIN,
        claims: &["perm.prot-write"],
        make: || on(MMAP).when(prot(PROT_READ | PROT_WRITE)).change(|_, c| c.args[PROTECTION] &= !bits(PROT_WRITE)),
    },
    Defect {
        name: "read-implies-write",
        correct: "a store through a PROT_READ mapping is a fault",
        wrong: "it succeeds where the file is open for writing",
        subtle: PLAIN,
        claims: &["perm.prot-read"],
        make: || on(MMAP).when(prot(PROT_READ)).when(may_write).change(|_, c| c.args[PROTECTION] |= bits(PROT_WRITE)),
    },
    Defect {
        name: "read-implies-write-last-page",
        correct: "a store through a PROT_READ mapping is a fault",
        wrong: "in the last of several pages it succeeds",
        subtle: SUBTLE,
        claims: &["perm.prot-read"],
        make: || {
            on(MMAP).when(pages(2..)).when(|_, c| c.args[PROTECTION] == bits(PROT_READ)).when(may_write).after_success(
                |t, c, result| {
                    let last = *result as u64 + page_up(c.args[LENGTH]) - page();
                    t.protect(last, page(), c.args[PROTECTION] | bits(PROT_WRITE));
                },
            )
        },
    },
    Defect {
        name: "none-is-readable",
        correct: "any access to a PROT_NONE mapping is a fault",
        wrong: "it can be read",
        subtle: PLAIN,
        claims: &["perm.prot-none"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[PROTECTION] == bits(PROT_NONE))
                .change(|_, c| c.args[PROTECTION] = bits(PROT_READ))
        },
    },
    Defect {
        name: "none-is-readable-private-file",
        correct: "any access to a PROT_NONE mapping is a fault",
        wrong: "a private mapping of a file can be read",
        subtle: SUBTLE,
        claims: &["perm.prot-none"],
        make: || {
            on(MMAP)
                .when(|_, c| c.args[PROTECTION] == bits(PROT_NONE))
                .when(private)
                .when(of_file)
                .change(|_, c| c.args[PROTECTION] = bits(PROT_READ))
        },
    },
    Defect {
        name: "exec-ignored",
        correct: "PROT_EXEC lets contents be executed",
        wrong: "it has no effect",
        subtle: PLAIN,
        claims: &["perm.prot-exec"],
        make: || on(MMAP).and(MPROTECT).when(prot(PROT_EXEC)).change(|_, c| c.args[PROTECTION] &= !bits(PROT_EXEC)),
    },
    Defect {
        name: "exec-ignored-beside-write",
        correct: "PROT_EXEC lets contents be executed",
        wrong: "not with PROT_WRITE and without PROT_READ",
        subtle: SUBTLE,
        claims: &["perm.prot-combines"],
        make: || {
            on(MMAP)
                .and(MPROTECT)
                .when(prot(PROT_EXEC | PROT_WRITE))
                .when(|_, c| !c.wants(PROT_READ))
                .change(|_, c| c.args[PROTECTION] &= !bits(PROT_EXEC))
        },
    },
    Defect {
        name: "exec-implied",
        correct: "without PROT_EXEC contents cannot be executed",
        wrong: "anonymous memory that can be read and written can be executed",
        subtle: SUBTLE,
        claims: &["perm.prot-exec"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(prot(PROT_READ | PROT_WRITE))
                .change(|_, c| c.args[PROTECTION] |= bits(PROT_EXEC))
        },
    },
    Defect {
        name: "exec-implied-by-file",
        correct: "without PROT_EXEC contents cannot be executed",
        wrong: "those of a file that can be read can be executed",
        subtle: SUBTLE,
        claims: &["perm.prot-exec"],
        make: || on(MMAP).when(of_file).when(prot(PROT_READ)).change(|_, c| c.args[PROTECTION] |= bits(PROT_EXEC)),
    },
    Defect {
        name: "mprotect-does-nothing",
        correct: "mprotect sets the protection of every page of the range",
        wrong: "it returns 0 and does nothing",
        subtle: PLAIN,
        claims: &["perm.prot-combines"],
        make: || on(MPROTECT).answer(0),
    },
    Defect {
        name: "mprotect-leaves-the-last-page",
        correct: "mprotect sets the protection of every page of the range",
        wrong: "of two pages and more it leaves the last as it was",
        subtle: SUBTLE,
        claims: &["perm.prot-read"],
        make: || on(MPROTECT).when(pages(2..)).change(|_, c| c.args[LENGTH] = page_up(c.args[LENGTH]) - page()),
    },
    Defect {
        name: "mprotect-never-takes-away",
        correct: "mprotect can take rights away",
        wrong: "it only adds them",
        subtle: SUBTLE,
        claims: &["perm.prot-combines"],
        make: || {
            on(MPROTECT).when(|t, c| mapped_in_range(t, c).len() == 1).change(|t, c| {
                c.args[PROTECTION] |= mapped_in_range(t, c)[0].protection;
            })
        },
    },
    Defect {
        name: "mprotect-hole-accepted",
        correct: "mprotect over a page that is not mapped is ENOMEM",
        wrong: "it is 0",
        subtle: SUBTLE,
        claims: &["perm.prot-read"],
        make: || {
            on(MPROTECT).after(|_, _, result| {
                if *result == error(ENOMEM) {
                    *result = 0;
                }
            })
        },
    },
    Defect {
        name: "mprotect-write-over-rdonly",
        correct: "mprotect cannot give a shared mapping more rights than the file was opened with: EACCES",
        wrong: "it can",
        subtle: SUBTLE,
        claims: &["perm.not-above-open-mode"],
        make: || {
            on(MPROTECT)
                .when(prot(PROT_WRITE))
                .when(|t, c| {
                    let mapped = mapped_in_range(t, c);
                    mapped.len() == 1 && mapped[0].shared && mapped[0].inode != 0
                })
                .after(|t, c, result| {
                    if *result == error(EACCES) && remap_writable(t, c) {
                        *result = 0;
                    }
                })
        },
    },
    Defect {
        name: "mprotect-unaligned-accepted",
        correct: "mprotect at an address that is not page-aligned is EINVAL",
        wrong: "the address is rounded down",
        subtle: SUBTLE,
        claims: &["perm.prot-read"],
        make: || on(MPROTECT).change(|_, c| c.args[0] = page_down(c.args[0])),
    },
];

fn may_write(tracee: &mut Tracee, call: &Syscall) -> bool {
    call.is_private() || call.is_anonymous() || tracee.access_mode(call.args[DESCRIPTOR]) == O_RDWR
}

/// Maps the same file anew in the range of a mprotect, through a descriptor that may write.
fn remap_writable(tracee: &mut Tracee, call: &Syscall) -> bool {
    let Some(mapping) = mapped_in_range(tracee, call).pop() else {
        return false;
    };
    let path = mapping.name.to_string_lossy().into_owned();
    let open = [bits(libc::AT_FDCWD), 0, bits(O_RDWR), 0, 0, 0];
    let descriptor = tracee.perform_with_path(libc::SYS_openat, open, 1, &path);
    let start = call.args[0];
    let map = [
        start,
        call.args[LENGTH],
        call.args[PROTECTION],
        bits(libc::MAP_SHARED | libc::MAP_FIXED),
        descriptor as u64,
        mapping.offset + start - mapping.range.start,
    ];
    let result = tracee.perform(libc::SYS_mmap, map);
    if descriptor >= 0 {
        tracee.close(descriptor);
    }
    result >= 0
}
