//! What mmap is asked to map, how it is to be shared, and how results and refusals are told.

use libc::{EACCES, EBADF, EINVAL, ENODEV};

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{DESCRIPTOR, FLAGS, MMAP, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, flag, of_file, pages};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "descriptor-bad-is-anonymous",
        correct: "a file mapping through a descriptor that is not open is EBADF",
        wrong: "it maps anonymous memory",
        subtle: PLAIN,
        claims: &["mmap.fd.invalid"],
        make: || on(MMAP).when(bad_descriptor).change(|_, c| c.args[FLAGS] |= bits(libc::MAP_ANONYMOUS)),
    },
    Defect {
        name: "descriptor-closed-is-anonymous",
        correct: "a file mapping through a descriptor that is not open is EBADF",
        wrong: "only -1 is; through a closed one anonymous memory is mapped",
        subtle: SUBTLE,
        claims: &["mmap.fd.invalid"],
        make: || {
            on(MMAP)
                .when(bad_descriptor)
                .when(|_, c| c.args[DESCRIPTOR] as i32 >= 0)
                .change(|_, c| c.args[FLAGS] |= bits(libc::MAP_ANONYMOUS))
        },
    },
    Defect {
        name: "descriptor-out-of-range-is-anonymous",
        correct: "a file mapping through a descriptor that is not open is EBADF",
        wrong: "one above 65,535 maps anonymous memory",
        subtle: SUBTLE,
        claims: &["mmap.fd.invalid"],
        make: || {
            on(MMAP)
                .when(bad_descriptor)
                .when(|_, c| c.args[DESCRIPTOR] as i32 > 0xffff)
                .change(|_, c| c.args[FLAGS] |= bits(libc::MAP_ANONYMOUS))
        },
    },
    Defect {
        name: "descriptor-bad-einval",
        correct: "a file mapping through a descriptor that is not open is EBADF",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["mmap.fd.invalid"],
        make: || on(MMAP).when(bad_descriptor).error(EBADF, EINVAL),
    },
    Defect {
        name: "descriptor-o-path-mapped",
        correct: "a descriptor opened with O_PATH cannot be mapped: EBADF",
        wrong: "it maps the file",
        subtle: SUBTLE,
        claims: &["mmap.fd.invalid", "mmap.fd.kind"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|t, c| t.open_file(c.args[DESCRIPTOR]).is_some_and(|(flags, _)| flags & libc::O_PATH != 0))
                .instead(|t, c| t.map_reopened(c))
        },
    },
    Defect {
        name: "descriptor-directory-einval",
        correct: "a directory cannot be mapped: ENODEV",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["mmap.fd.kind"],
        make: || {
            on(MMAP)
                .when(|t, c| {
                    let status = t.status(c.args[DESCRIPTOR]);
                    !c.is_anonymous() && status.is_ok_and(|status| status.is_dir())
                })
                .error(ENODEV, EINVAL)
        },
    },
    Defect {
        name: "descriptor-pipe-mapped",
        correct: "a pipe cannot be mapped: ENODEV or EACCES",
        wrong: "anonymous memory is mapped",
        subtle: PLAIN,
        claims: &["mmap.fd.kind"],
        make: || {
            on(MMAP)
                .when(|t, c| !c.is_anonymous() && t.is_pipe(c.args[DESCRIPTOR]))
                .change(|_, c| c.args[FLAGS] |= bits(libc::MAP_ANONYMOUS))
        },
    },
    Defect {
        name: "descriptor-null-mapped",
        correct: "/dev/null cannot be mapped: ENODEV",
        wrong: "it is mapped like /dev/zero",
        subtle: SUBTLE,
        claims: &["mmap.fd.kind"],
        make: || {
            on(MMAP)
                .when(|t, c| !c.is_anonymous() && t.name(c.args[DESCRIPTOR]).as_os_str() == "/dev/null")
                .change(|_, c| c.args[FLAGS] |= bits(libc::MAP_ANONYMOUS))
        },
    },
    Defect {
        name: "sharing-none-is-private",
        correct: "neither MAP_SHARED nor MAP_PRIVATE is EINVAL",
        wrong: "it is taken for MAP_PRIVATE",
        subtle: PLAIN,
        claims: &["mmap.sharing.exactly-one"],
        make: || on(MMAP).when(sharing_none).change(|_, c| c.share(libc::MAP_PRIVATE)),
    },
    Defect {
        name: "sharing-none-anonymous",
        correct: "neither MAP_SHARED nor MAP_PRIVATE is EINVAL",
        wrong: "for anonymous memory it is taken for MAP_PRIVATE",
        subtle: SUBTLE,
        claims: &["flag.anonymous-only-with-sharing"],
        make: || on(MMAP).when(sharing_none).when(anonymous).change(|_, c| c.share(libc::MAP_PRIVATE)),
    },
    Defect {
        name: "sharing-none-of-a-long-file",
        correct: "neither MAP_SHARED nor MAP_PRIVATE is EINVAL",
        wrong: "for three pages of a file and more it is taken for MAP_PRIVATE",
        subtle: SUBTLE,
        claims: &["mmap.sharing.exactly-one"],
        make: || on(MMAP).when(sharing_none).when(of_file).when(pages(3..)).change(|_, c| c.share(libc::MAP_PRIVATE)),
    },
    Defect {
        name: "sharing-both-refused",
        correct: "both bits are MAP_SHARED_VALIDATE, a shared mapping of a file",
        wrong: "they are EINVAL",
        subtle: PLAIN,
        claims: &["mmap.sharing.exactly-one", "flag.shared-validate"],
        make: || on(MMAP).when(flag(libc::MAP_SHARED_VALIDATE)).refuse(EINVAL),
    },
    Defect {
        name: "failure-is-null",
        correct: "a failed mmap returns MAP_FAILED and sets errno",
        wrong: "it returns NULL",
        subtle: PLAIN,
        claims: &["mmap.result.failed"],
        make: || {
            on(MMAP).after(|_, _, result| {
                if *result < 0 {
                    *result = 0;
                }
            })
        },
    },
    Defect {
        name: "failure-leaves-a-page",
        correct: "a failed mmap maps nothing",
        wrong: "refused with EACCES, it leaves a page at the next free place",
        subtle: SUBTLE,
        claims: &["perm.not-above-open-mode", "mmap.result.failed"],
        make: || {
            on(MMAP).after(|t, c, result| {
                if *result == error(EACCES) {
                    t.count();
                    let args = [0, page(), 0, bits(PRIVATE_ANONYMOUS), u64::MAX, 0];
                    t.perform(c.number, args);
                }
            })
        },
    },
    Defect {
        name: "result-a-page-on",
        correct: "mmap returns the first address of the mapping",
        wrong: "of two pages and more, it returns that of the second page",
        subtle: PLAIN,
        claims: &["mmap.result.address", "mmap.addr.start-returned"],
        make: || {
            on(MMAP).when(|_, c| c.args[0] == 0).when(pages(2..)).after_success(|_, _, result| *result += page() as i64)
        },
    },
];

const PRIVATE_ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn bad_descriptor(tracee: &mut Tracee, call: &Syscall) -> bool {
    !call.is_anonymous() && tracee.status(call.args[DESCRIPTOR]).is_err()
}

fn sharing_none(_: &mut Tracee, call: &Syscall) -> bool {
    const MAP_TYPE: u64 = 0xf;
    call.args[FLAGS] & MAP_TYPE == 0
}
