//! mmap's other flags.

use libc::{
    EAGAIN, EINVAL, ENOMEM, EOPNOTSUPP, EPERM, MAP_HUGETLB, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE, MAP_PRIVATE,
    MAP_SHARED, MAP_SHARED_VALIDATE, MAP_STACK, MAP_SYNC,
};

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{FLAGS, LENGTH, MMAP, bits, error};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_up};
use crate::tracer::rule::on;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, flag, of_file, pages, shared};

#[cfg(target_arch = "x86_64")]
pub(super) const MAP_32BIT: i32 = libc::MAP_32BIT;
/// Elsewhere the bit has no such meaning, and the defect never shows.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const MAP_32BIT: i32 = 0x40;

/// Bits that are a flag nowhere.
const UNKNOWN: u64 = 0x1f << 21;
const MAP_UNINITIALIZED: i32 = 1 << 26;
/// The size of huge pages, as a logarithm in these bits.
const HUGE_SIZE: u64 = 0x3f << 26;
const HUGE_2MB: u64 = 21 << 26;

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "populate-ignored",
        correct: "MAP_POPULATE fills the pages in beforehand",
        wrong: "it has no effect",
        subtle: PLAIN,
        claims: &["flag.populate"],
        make: || on(MMAP).when(flag(MAP_POPULATE)).change(|_, c| c.args[FLAGS] &= !bits(MAP_POPULATE)),
    },
    Defect {
        name: "populate-leaves-the-last-page",
        correct: "MAP_POPULATE fills all pages in beforehand",
        wrong: "of four anonymous pages and more, the last is left out",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            on(MMAP).when(flag(MAP_POPULATE)).when(anonymous).when(pages(4..)).after_success(|t, c, result| {
                let last = *result as u64 + page_up(c.args[LENGTH]) - page();
                let advice = bits(libc::MADV_DONTNEED);
                t.perform(libc::SYS_madvise, [last, page(), advice, 0, 0, 0]);
            })
        },
    },
    Defect {
        name: "locked-ignored",
        correct: "MAP_LOCKED locks the pages in memory",
        wrong: "it has no effect",
        subtle: PLAIN,
        claims: &["flag.locked"],
        make: || on(MMAP).when(flag(MAP_LOCKED)).change(|_, c| c.args[FLAGS] &= !bits(MAP_LOCKED)),
    },
    Defect {
        name: "locked-is-populate",
        correct: "MAP_LOCKED locks the pages in memory",
        wrong: "it only fills them in",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP).when(flag(MAP_LOCKED)).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_LOCKED);
                c.args[FLAGS] |= bits(MAP_POPULATE);
            })
        },
    },
    Defect {
        name: "locked-private-is-populate",
        correct: "MAP_LOCKED locks the pages",
        wrong: "of private mappings it fills them in and does not lock them",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP).when(flag(MAP_LOCKED)).when(|_, c| c.is_private()).change(|_, c| {
                c.args[FLAGS] &= !bits(MAP_LOCKED);
                c.args[FLAGS] |= bits(MAP_POPULATE);
            })
        },
    },
    Defect {
        name: "locked-beyond-the-limit",
        correct: "without privilege MAP_LOCKED beyond the limit is EAGAIN, or EPERM if the limit is 0",
        wrong: "it is mapped without being locked",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            on(MMAP).when(flag(MAP_LOCKED)).after(|t, c, result| {
                if *result == error(EAGAIN) || *result == error(EPERM) {
                    let mut without = *c;
                    without.args[FLAGS] &= !bits(MAP_LOCKED);
                    *result = t.make(&without);
                }
            })
        },
    },
    Defect {
        name: "32bit-ignored",
        correct: "MAP_32BIT places the mapping in the first 2 GiB (x86-64)",
        wrong: "it has no effect",
        subtle: PLAIN,
        claims: &["flag.32bit"],
        make: || on(MMAP).when(flag(MAP_32BIT)).change(|_, c| c.args[FLAGS] &= !bits(MAP_32BIT)),
    },
    Defect {
        name: "noreserve-ignored",
        correct: "a private mapping with MAP_NORESERVE is not counted against the memory that may be promised",
        wrong: "it has no effect",
        subtle: PLAIN,
        claims: &["flag.noreserve"],
        make: || on(MMAP).when(flag(MAP_NORESERVE)).change(|_, c| c.args[FLAGS] &= !bits(MAP_NORESERVE)),
    },
    Defect {
        name: "noreserve-ignored-but-for-huge-pages",
        correct: "MAP_NORESERVE keeps swap space from being reserved",
        wrong: "it has an effect on huge pages alone",
        subtle: SUBTLE,
        claims: &["flag.noreserve"],
        make: || {
            on(MMAP)
                .when(flag(MAP_NORESERVE))
                .when(|_, c| !c.has(libc::MAP_HUGETLB))
                .change(|_, c| c.args[FLAGS] &= !bits(MAP_NORESERVE))
        },
    },
    Defect {
        name: "validate-does-not-validate",
        correct: "MAP_SHARED_VALIDATE with an unknown flag is EOPNOTSUPP",
        wrong: "the flag is ignored",
        subtle: PLAIN,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(flag(MAP_SHARED_VALIDATE)).change(|_, c| c.args[FLAGS] &= !UNKNOWN),
    },
    Defect {
        name: "validate-overlooks-bit-25",
        correct: "MAP_SHARED_VALIDATE with an unknown flag is EOPNOTSUPP",
        wrong: "bit 25 is ignored",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(flag(MAP_SHARED_VALIDATE)).change(|_, c| c.args[FLAGS] &= !(1 << 25)),
    },
    Defect {
        name: "validate-einval",
        correct: "MAP_SHARED_VALIDATE with an unknown flag is EOPNOTSUPP",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(flag(MAP_SHARED_VALIDATE)).error(EOPNOTSUPP, EINVAL),
    },
    Defect {
        name: "validate-is-private",
        correct: "MAP_SHARED_VALIDATE is MAP_SHARED in all else",
        wrong: "it makes a private mapping",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(flag(MAP_SHARED_VALIDATE))
                .when(|_, c| c.args[FLAGS] & UNKNOWN == 0 && !c.has(MAP_SYNC))
                .when(|t, c| {
                    let open = t.open_file(c.args[4]);
                    open.is_some_and(|(flags, _)| flags & libc::O_ACCMODE == libc::O_RDWR)
                })
                .change(|_, c| c.share(MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-validates",
        correct: "MAP_SHARED ignores unknown flags",
        wrong: "they are EOPNOTSUPP",
        subtle: PLAIN,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(shared).when(|_, c| c.args[FLAGS] & UNKNOWN != 0).refuse(EOPNOTSUPP),
    },
    Defect {
        name: "private-validates",
        correct: "MAP_PRIVATE ignores unknown flags",
        wrong: "they are EINVAL",
        subtle: SUBTLE,
        claims: &["flag.shared-validate"],
        make: || on(MMAP).when(|_, c| c.is_private() && c.args[FLAGS] & UNKNOWN != 0).refuse(EINVAL),
    },
    Defect {
        name: "sync-accepted",
        correct: "MAP_SYNC with MAP_SHARED_VALIDATE is EOPNOTSUPP where the file is not on DAX",
        wrong: "it is accepted and has no effect",
        subtle: PLAIN,
        claims: &["flag.sync"],
        make: || on(MMAP).when(sync_validated).change(|_, c| c.args[FLAGS] &= !bits(MAP_SYNC)),
    },
    Defect {
        name: "sync-accepted-read-only",
        correct: "MAP_SYNC with MAP_SHARED_VALIDATE is EOPNOTSUPP where the file is not on DAX",
        wrong: "it is accepted for mappings that are not written",
        subtle: SUBTLE,
        claims: &["flag.sync"],
        make: || {
            on(MMAP)
                .when(sync_validated)
                .when(|_, c| !c.wants(libc::PROT_WRITE))
                .change(|_, c| c.args[FLAGS] &= !bits(MAP_SYNC))
        },
    },
    Defect {
        name: "sync-einval",
        correct: "MAP_SYNC with MAP_SHARED_VALIDATE is EOPNOTSUPP where the file is not on DAX",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["flag.sync"],
        make: || on(MMAP).when(sync_validated).error(EOPNOTSUPP, EINVAL),
    },
    Defect {
        name: "stack-refused",
        correct: "MAP_STACK has no effect",
        wrong: "it is EINVAL with MAP_SHARED",
        subtle: SUBTLE,
        claims: &["flag.stack"],
        make: || on(MMAP).when(flag(MAP_STACK)).when(shared).refuse(EINVAL),
    },
    Defect {
        name: "stack-grows-down",
        correct: "MAP_STACK has no effect",
        wrong: "private anonymous memory with it grows downwards, as with MAP_GROWSDOWN",
        subtle: SUBTLE,
        claims: &["flag.stack"],
        make: || {
            on(MMAP)
                .when(flag(MAP_STACK | MAP_PRIVATE))
                .when(anonymous)
                .change(|_, c| c.args[FLAGS] |= bits(libc::MAP_GROWSDOWN))
        },
    },
    Defect {
        name: "uninitialized-is-dirty",
        correct: "MAP_UNINITIALIZED is ignored: pages are zero",
        wrong: "they hold what was there before",
        subtle: PLAIN,
        claims: &["flag.uninitialized"],
        make: || {
            on(MMAP).when(anonymous).when(flag(MAP_UNINITIALIZED)).after_success(|t, _, result| {
                if let Ok(memory) = t.memory() {
                    // Shared memory without any right cannot be written.
                    let _ = memory.write(*result as u64, b"remains");
                }
            })
        },
    },
    Defect {
        name: "uninitialized-alone-is-dirty",
        correct: "MAP_UNINITIALIZED does not keep memory from being cleared",
        wrong: "with no bit beside it that could be of a huge page size, it does",
        subtle: SUBTLE,
        claims: &["flag.uninitialized"],
        make: || {
            const SIZES: u64 = 0x3f << 26;
            on(MMAP).when(anonymous).when(|_, c| c.args[FLAGS] & SIZES == bits(MAP_UNINITIALIZED)).after_success(
                |t, _, result| {
                    if let Ok(memory) = t.memory() {
                        // Shared memory without any right cannot be written.
                        let _ = memory.write(*result as u64, b"remains");
                    }
                },
            )
        },
    },
    Defect {
        name: "hugetlb-ignored",
        correct: "MAP_HUGETLB makes a mapping of huge pages, or ENOMEM if none are free",
        wrong: "ordinary pages are mapped",
        subtle: PLAIN,
        claims: &["flag.hugetlb"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(flag(MAP_HUGETLB))
                .change(|_, c| c.args[FLAGS] &= !(bits(MAP_HUGETLB) | HUGE_SIZE))
        },
    },
    Defect {
        name: "hugetlb-empty-einval",
        correct: "MAP_HUGETLB with no huge page free is ENOMEM",
        wrong: "it is EINVAL",
        subtle: PLAIN,
        claims: &["flag.hugetlb"],
        make: || on(MMAP).when(flag(MAP_HUGETLB)).error(ENOMEM, EINVAL),
    },
    Defect {
        name: "huge-size-ignored",
        correct: "a size of huge pages that the machine does not have is refused",
        wrong: "sizes other than 2 MiB are taken for ordinary pages",
        subtle: SUBTLE,
        claims: &["flag.huge-2mb"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(flag(MAP_HUGETLB))
                .when(|_, c| c.args[FLAGS] & HUGE_SIZE != 0 && c.args[FLAGS] & HUGE_SIZE != HUGE_2MB)
                .change(|_, c| c.args[FLAGS] &= !(bits(MAP_HUGETLB) | HUGE_SIZE))
        },
    },
    Defect {
        name: "huge-2mb-refused",
        correct: "MAP_HUGE_2MB picks 2 MiB pages",
        wrong: "it is EINVAL, as a size that the machine does not have",
        subtle: PLAIN,
        claims: &["flag.huge-2mb"],
        make: || on(MMAP).when(flag(MAP_HUGETLB)).when(|_, c| c.args[FLAGS] & HUGE_SIZE == HUGE_2MB).refuse(EINVAL),
    },
    Defect {
        name: "hugetlb-of-file-accepted",
        correct: "MAP_HUGETLB over a file that is not on hugetlbfs is EINVAL",
        wrong: "ordinary pages of the file are mapped",
        subtle: SUBTLE,
        claims: &["flag.hugetlb"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(flag(MAP_HUGETLB))
                .change(|_, c| c.args[FLAGS] &= !(bits(MAP_HUGETLB) | HUGE_SIZE))
        },
    },
    Defect {
        name: "anonymous-is-shared-by-default",
        correct: "MAP_ANONYMOUS needs MAP_SHARED or MAP_PRIVATE beside it",
        wrong: "alone it is shared",
        subtle: PLAIN,
        claims: &["flag.anonymous-only-with-sharing"],
        make: || on(MMAP).when(anonymous).when(|_, c| c.args[FLAGS] & 0xf == 0).change(|_, c| c.share(MAP_SHARED)),
    },
];

fn sync_validated(_: &mut Tracee, call: &Syscall) -> bool {
    call.has(MAP_SHARED_VALIDATE) && call.has(MAP_SYNC)
}
