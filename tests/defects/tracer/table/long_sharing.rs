//! Memory of many pages that is shared or private as it should be up to a number of them; files that grow by many.

use std::os::unix::fs::FileExt as _;

use libc::{MADV_DONTNEED, MAP_PRIVATE, MAP_SHARED, O_RDWR, PROT_READ, PROT_WRITE};

use crate::tracer::call::{FTRUNCATE, LENGTH, MMAP, PROTECTION, bits};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{page, page_up};
use crate::tracer::rule::{On, on, on_fork};
use crate::tracer::table::fork::{detach_all, each_shared_file, shared_anonymous};
use crate::tracer::when::{anonymous, file, in_peer, of_file, opened, pages, private, prot, settled, shared};

/// Shared and private.
pub const SHARING: &[Defect] = &[
    Defect {
        name: "shared-of-256-pages-is-private",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "not if it has 256 pages or more",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file"],
        make: || shared_file().when(pages(256..)).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "shared-of-a-large-page-is-private-in-peers",
        correct: "processes that map the same file share it",
        wrong: "programs of their own do not with 2 MiB and more",
        subtle: SUBTLE,
        claims: &["peer.same-file", "shared.store-visible-to-peers"],
        make: || {
            shared_file().when(in_peer).when(|_, c| c.args[LENGTH] >= LARGE_PAGE).change(|_, c| c.share(MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-up-to-the-256th-page",
        correct: "stores through a MAP_SHARED mapping change the file",
        wrong: "not those behind the 256th page",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file"],
        make: || {
            shared_file().when(pages(257..)).after_success(|t, c, result| {
                let front = 256 * page();
                t.detach(*result as u64 + front, page_up(c.args[LENGTH]) - front, c.args[PROTECTION]);
            })
        },
    },
];

/// Memory of no file.
pub const ANONYMOUS: &[Defect] = &[
    Defect {
        name: "fork-shared-anonymous-of-2-mib-is-private",
        correct: "shared anonymous memory is shared with the child",
        wrong: "of 2 MiB and more the child has a private copy",
        subtle: SUBTLE,
        claims: &["anon.shared-with-child"],
        make: || {
            on_fork(|_, child| {
                for mapping in shared_anonymous(child) {
                    if mapping.length() >= LARGE_PAGE {
                        detach_all(child, &mapping);
                    }
                }
            })
        },
    },
    Defect {
        name: "anonymous-private-of-512-pages-is-shared",
        correct: "private anonymous memory is copied on write after fork",
        wrong: "of 512 pages and more it is shared",
        subtle: SUBTLE,
        claims: &["anon.private-copy-on-write"],
        make: || {
            on(MMAP)
                .when(settled)
                .when(anonymous)
                .when(private)
                .when(prot(PROT_READ | PROT_WRITE))
                .when(pages(512..))
                .change(|_, c| c.share(MAP_SHARED))
        },
    },
];

/// Files and their sizes.
pub const FILES: &[Defect] = &[Defect {
    name: "growth-by-30-pages-leaves-a-byte",
    correct: "bytes that ftruncate adds read as zero",
    wrong: "of more than 30 pages the last byte is 0xee",
    subtle: SUBTLE,
    claims: &["file.extend-with-truncate"],
    make: || {
        on(FTRUNCATE).when(file(0)).carrying(
            |t, c| t.status(c.args[0]).ok().filter(|old| old.len() + 30 * page() < c.args[1]),
            |t, c, _, result| {
                if *result == 0
                    && let Ok(file) = t.file(c.args[0], true)
                    && file.write_at(&[0xee], c.args[1] - 1).is_ok()
                {
                    t.count();
                }
            },
        )
    },
}];

/// What a child has.
pub const FORKS: &[Defect] = &[
    Defect {
        name: "fork-shared-file-of-2-mib-is-private",
        correct: "a shared file mapping made before fork is shared with the child",
        wrong: "of 2 MiB and more the child has a private copy",
        subtle: SUBTLE,
        claims: &["fork.shared-file-mapping"],
        make: || {
            on_fork(|_, child| {
                each_shared_file(child, |child, mapping| {
                    if mapping.length() >= LARGE_PAGE {
                        detach_all(child, mapping);
                    }
                });
            })
        },
    },
    Defect {
        name: "fork-forgets-private-stores-behind-512-pages",
        correct: "the child sees what the parent stored through a private mapping before fork",
        wrong: "behind the 512th page it sees the file",
        subtle: SUBTLE,
        claims: &["fork.private-mapping"],
        make: || {
            on_fork(|_, child| {
                for hit in child.tested_mappings() {
                    let front = 512 * page();
                    if !hit.shared && hit.length() > front {
                        child.count();
                        let (start, rest) = (hit.range.start + front, hit.length() - front);
                        child.perform(libc::SYS_madvise, [start, rest, bits(MADV_DONTNEED), 0, 0, 0]);
                    }
                }
            })
        },
    },
    Defect {
        name: "private-file-of-512-pages-is-shared",
        correct: "what a child stores to a private mapping is its own",
        wrong: "one of 512 pages and more is shared",
        subtle: SUBTLE,
        claims: &["fork.private-mapping", "private.file-unchanged"],
        make: || {
            on(MMAP).when(of_file).when(private).when(opened(O_RDWR)).when(pages(512..)).change(|_, c| {
                c.share(MAP_SHARED);
            })
        },
    },
];

/// What the machine may map as one.
const LARGE_PAGE: u64 = 2 << 20;

fn shared_file() -> On {
    on(MMAP).when(of_file).when(shared).when(opened(O_RDWR))
}
