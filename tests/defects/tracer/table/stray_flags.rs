//! Flags that are forgotten where they meet another argument, or for one kind of target.

use libc::{EINVAL, ENODEV, MAP_FIXED, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE, MAP_SHARED_VALIDATE, O_RDONLY};

use crate::tracer::call::{ADDRESS, FLAGS, MMAP, OFFSET, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::page;
use crate::tracer::rule::on;
use crate::tracer::table::flags::MAP_32BIT;
use crate::tracer::when::{anonymous, flag, of_dev_zero, of_file, opened, pages, private};

/// /dev/zero.
pub const ANONYMOUS: &[Defect] = &[Defect {
    name: "dev-zero-opened-read-only-refused",
    correct: "/dev/zero can be mapped",
    wrong: "not if it is open for reading alone",
    subtle: SUBTLE,
    claims: &["anon.dev-zero"],
    make: || on(MMAP).when(of_dev_zero).when(opened(O_RDONLY)).refuse(ENODEV),
}];

/// mmap's flags.
pub const MMAP_FLAGS: &[Defect] = &[
    Defect {
        name: "32bit-of-files-ignored",
        correct: "MAP_32BIT places the mapping in the first 2 GiB (x86-64)",
        wrong: "not that of a file",
        subtle: SUBTLE,
        claims: &["flag.32bit"],
        make: || on(MMAP).when(of_file).when(flag(MAP_32BIT)).change(|_, c| c.args[FLAGS] &= !bits(MAP_32BIT)),
    },
    Defect {
        name: "32bit-with-a-hint-ignored",
        correct: "MAP_32BIT places the mapping in the first 2 GiB (x86-64)",
        wrong: "not if a hint is given",
        subtle: SUBTLE,
        claims: &["flag.32bit"],
        make: || {
            on(MMAP)
                .when(flag(MAP_32BIT))
                .when(|_, c| c.args[ADDRESS] >= page())
                .change(|_, c| c.args[FLAGS] &= !bits(MAP_32BIT))
        },
    },
    Defect {
        name: "populate-at-a-place-ignored",
        correct: "MAP_POPULATE has the pages present",
        wrong: "not with MAP_FIXED",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || on(MMAP).when(flag(MAP_POPULATE | MAP_FIXED)).change(|_, c| c.args[FLAGS] &= !bits(MAP_POPULATE)),
    },
    Defect {
        name: "populate-of-one-page-ignored",
        correct: "MAP_POPULATE has the pages present",
        wrong: "not if there is only one",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(pages(1..=1)).change(|_, c| c.args[FLAGS] &= !bits(MAP_POPULATE))
        },
    },
    Defect {
        name: "validate-at-a-place-does-not-validate",
        correct: "MAP_SHARED_VALIDATE with an unknown flag is EOPNOTSUPP",
        wrong: "not with MAP_FIXED",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(flag(MAP_SHARED_VALIDATE | MAP_FIXED)).change(|_, c| c.args[FLAGS] &= !(0b1_1111 << 21)),
    },
    Defect {
        name: "locked-at-an-offset-ignored",
        correct: "MAP_LOCKED locks the pages",
        wrong: "not those of a file from an offset on",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(flag(MAP_LOCKED))
                .when(|_, c| c.args[OFFSET] > 0)
                .change(|_, c| c.args[FLAGS] &= !bits(MAP_LOCKED))
        },
    },
    Defect {
        name: "noreserve-of-private-files-refused",
        correct: "MAP_NORESERVE is taken for any mapping",
        wrong: "for a private one of a file it is EINVAL",
        subtle: SUBTLE,
        claims: &["flag.noreserve"],
        make: || on(MMAP).when(of_file).when(private).when(flag(MAP_NORESERVE)).refuse(EINVAL),
    },
    Defect {
        name: "locked-of-shared-memory-ignored",
        correct: "MAP_LOCKED locks the pages",
        wrong: "not those of shared anonymous memory",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(|_, c| c.is_shared())
                .when(flag(MAP_LOCKED))
                .change(|_, c| c.args[FLAGS] &= !bits(MAP_LOCKED))
        },
    },
];
