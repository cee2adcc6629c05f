//! Memory without a file: zeros, sharing with children, /dev/zero.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::{env, io, process, thread};

use libc::{EBADF, EINVAL, ENODEV, MAP_PRIVATE, MAP_SHARED};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{DESCRIPTOR, EXIT, FLAGS, LENGTH, MMAP, OFFSET, bits};
use crate::tracer::defect::{Defect, PLAIN, SUBTLE};
use crate::tracer::memory::{page, page_up};
use crate::tracer::rule::{on, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, of_dev_zero, offset_pages, pages, private, shared};

pub const DEFECTS: &[Defect] = &[
    Defect {
        name: "anonymous-not-zero",
        correct: "anonymous memory starts as zeros",
        wrong: "its first byte is 0xa5",
        subtle: PLAIN,
        claims: &["anon.zeroed", "anon.map-anon-alias"],
        make: || on(MMAP).when(anonymous).after_success(|t, _, result| dirty(t, *result as u64)),
    },
    Defect {
        name: "anonymous-not-zero-at-the-end",
        correct: "anonymous memory starts as zeros",
        wrong: "the last byte of three pages and more is 0xa5",
        subtle: SUBTLE,
        claims: &["anon.zeroed"],
        make: || {
            on(MMAP).when(anonymous).when(pages(3..)).after_success(|t, c, result| {
                dirty(t, *result as u64 + page_up(c.args[LENGTH]) - 1);
            })
        },
    },
    Defect {
        name: "anonymous-shared-not-zero",
        correct: "anonymous memory starts as zeros, shared or not",
        wrong: "one byte in the last page of shared memory is 0xa5",
        subtle: SUBTLE,
        claims: &["anon.zeroed"],
        make: || {
            on(MMAP).when(anonymous).when(shared).after_success(|t, c, result| {
                dirty(t, *result as u64 + page_up(c.args[LENGTH]) - page() + 17);
            })
        },
    },
    Defect {
        name: "anonymous-shared-is-private",
        correct: "shared anonymous memory is shared with a child",
        wrong: "it is private",
        subtle: PLAIN,
        claims: &["anon.shared-with-child"],
        make: || on(MMAP).when(anonymous).when(shared).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "anonymous-shared-is-private-of-many-pages",
        correct: "shared anonymous memory is shared with a child",
        wrong: "of three pages and more it is private",
        subtle: SUBTLE,
        claims: &["anon.shared-with-child"],
        make: || on(MMAP).when(anonymous).when(shared).when(pages(3..)).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "anonymous-shared-but-the-last-page",
        correct: "shared anonymous memory is shared with a child",
        wrong: "the last of several pages is private",
        subtle: SUBTLE,
        claims: &["anon.shared-with-child"],
        make: || {
            on(MMAP).when(anonymous).when(shared).when(pages(2..)).after_success(|t, c, result| {
                let last = *result as u64 + page_up(c.args[LENGTH]) - page();
                t.map_zeros(last, page(), c.args[2]);
            })
        },
    },
    Defect {
        name: "anonymous-private-is-shared",
        correct: "private anonymous memory is copied on write after fork",
        wrong: "it is shared",
        subtle: PLAIN,
        claims: &["anon.private-copy-on-write"],
        make: || on(MMAP).when(anonymous).when(private).change(|_, c| c.share(MAP_SHARED)),
    },
    Defect {
        name: "anonymous-private-is-shared-of-two-pages",
        correct: "private anonymous memory is copied on write after fork",
        wrong: "of exactly two pages it is shared",
        subtle: SUBTLE,
        claims: &["anon.private-copy-on-write"],
        make: || on(MMAP).when(anonymous).when(private).when(pages(2..=2)).change(|_, c| c.share(MAP_SHARED)),
    },
    Defect {
        name: "anonymous-private-is-shared-of-five-pages",
        correct: "private anonymous memory is copied on write after fork",
        wrong: "of five pages and more it is shared",
        subtle: SUBTLE,
        claims: &["anon.private-copy-on-write"],
        make: || on(MMAP).when(anonymous).when(private).when(pages(5..)).change(|_, c| c.share(MAP_SHARED)),
    },
    Defect {
        name: "anonymous-needs-a-descriptor",
        correct: "MAP_ANONYMOUS ignores the descriptor",
        wrong: "with -1 it is EBADF",
        subtle: PLAIN,
        claims: &["anon.no-file", "anon.mapping-needs-file"],
        make: || on(MMAP).when(anonymous).when(|_, c| c.args[DESCRIPTOR] as i32 == -1).refuse(EBADF),
    },
    Defect {
        name: "anonymous-refuses-a-descriptor",
        correct: "MAP_ANONYMOUS ignores the descriptor",
        wrong: "with any other than -1 it is EINVAL",
        subtle: SUBTLE,
        claims: &["anon.no-file"],
        make: || on(MMAP).when(anonymous).when(|_, c| c.args[DESCRIPTOR] as i32 != -1).refuse(EINVAL),
    },
    Defect {
        name: "anonymous-refuses-a-closed-descriptor",
        correct: "MAP_ANONYMOUS ignores the descriptor",
        wrong: "one that is neither open nor -1 is EBADF",
        subtle: SUBTLE,
        claims: &["anon.no-file"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(|t, c| c.args[DESCRIPTOR] as i32 != -1 && t.status(c.args[DESCRIPTOR]).is_err())
                .refuse(EBADF)
        },
    },
    Defect {
        name: "anonymous-refuses-an-offset",
        correct: "MAP_ANONYMOUS ignores a page-aligned offset",
        wrong: "an offset above 0 is EINVAL",
        subtle: SUBTLE,
        claims: &["anon.no-file"],
        make: || on(MMAP).when(anonymous).when(offset_pages(1..)).refuse(EINVAL),
    },
    Defect {
        name: "anonymous-maps-the-descriptor",
        correct: "MAP_ANONYMOUS ignores the descriptor",
        wrong: "an open file is mapped in spite of it",
        subtle: SUBTLE,
        claims: &["anon.no-file"],
        make: || {
            on(MMAP)
                .when(anonymous)
                .when(|t, c| t.is_tested_file(c.args[DESCRIPTOR]))
                .change(|_, c| c.args[FLAGS] &= !bits(libc::MAP_ANONYMOUS))
        },
    },
    Defect {
        name: "anonymous-mappings-alias",
        correct: "two anonymous mappings are never the same memory",
        wrong: "all shared ones are, in processes of one program",
        subtle: PLAIN,
        claims: &["anon.related-only"],
        make: || on(MMAP).when(anonymous).when(shared).instead(alias()),
    },
    Defect {
        name: "validated-anonymous-accepted",
        correct: "MAP_SHARED_VALIDATE with MAP_ANONYMOUS is EINVAL",
        wrong: "it is taken for MAP_SHARED",
        subtle: SUBTLE,
        claims: &["mmap.sharing.exactly-one"],
        make: || {
            on(MMAP).when(anonymous).when(|_, c| c.has(libc::MAP_SHARED_VALIDATE)).change(|_, c| c.share(MAP_SHARED))
        },
    },
    Defect {
        name: "dev-zero-shared-is-private",
        correct: "a shared mapping of /dev/zero is shared with a child",
        wrong: "it is private",
        subtle: PLAIN,
        claims: &["anon.dev-zero"],
        make: || on(MMAP).when(of_dev_zero).when(shared).change(|_, c| c.share(MAP_PRIVATE)),
    },
    Defect {
        name: "dev-zero-private-is-shared",
        correct: "a private mapping of /dev/zero is copied on write",
        wrong: "it is shared with a child",
        subtle: SUBTLE,
        claims: &["anon.dev-zero"],
        make: || {
            on(MMAP).when(of_dev_zero).when(private).change(|_, c| {
                c.share(MAP_SHARED);
                c.args[OFFSET] = 0;
            })
        },
    },
    Defect {
        name: "dev-zero-mappings-alias",
        correct: "two mappings of /dev/zero are not the same memory",
        wrong: "all shared ones are",
        subtle: SUBTLE,
        claims: &["anon.dev-zero"],
        make: || on(MMAP).when(of_dev_zero).when(shared).instead(alias()),
    },
    Defect {
        name: "dev-zero-refused",
        correct: "/dev/zero can be mapped",
        wrong: "it is ENODEV",
        subtle: PLAIN,
        claims: &["anon.dev-zero", "mmap.fd.kind"],
        make: || on(MMAP).when(of_dev_zero).refuse(ENODEV),
    },
    Defect {
        name: "shared-memory-ends-with-its-creator",
        correct: "shared memory lives on in those that have it when its creator has gone",
        wrong: "it is zeros when a process exits that was the first to map anonymous memory there",
        subtle: SUBTLE,
        claims: &["anon.outlives-creator"],
        make: forget_with_creator,
    },
];

fn dirty(tracee: &mut Tracee, address: u64) {
    if let Ok(memory) = tracee.memory() {
        // PROT_NONE memory that is shared cannot be written, and nobody sees what it holds.
        let _ = memory.write(address, &[0xa5]);
    }
}

/// Maps one and the same memory for every request: a file that has lost its name.
fn alias() -> impl FnMut(&mut Tracee, &Syscall) -> i64 {
    let mut common = None;
    move |tracee, call| {
        if common.is_none() {
            common = nameless_file().ok();
        }
        let Some(file) = &common else {
            return i64::from(-libc::ENOMEM);
        };
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let open = [bits(libc::AT_FDCWD), 0, bits(libc::O_RDWR), 0, 0, 0];
        let descriptor = tracee.perform_with_path(libc::SYS_openat, open, 1, &path);
        let mut again = *call;
        again.args[FLAGS] &= !bits(libc::MAP_ANONYMOUS);
        again.args[DESCRIPTOR] = descriptor as u64;
        again.args[OFFSET] = 0;
        let result = tracee.make(&again);
        tracee.close(descriptor);
        result
    }
}

fn nameless_file() -> io::Result<File> {
    const SIZE: u64 = 64 << 20;
    let name = format!("alias-{}-{:?}", process::id(), thread::current().id());
    let path = env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    file.set_len(SIZE)?;
    Ok(file)
}

fn forget_with_creator() -> Box<dyn Behaviour> {
    let created = Rc::new(RefCell::new(HashMap::new()));
    let known = Rc::clone(&created);
    several([
        on(MMAP).when(anonymous).when(shared).after_success(move |t, c, result| {
            let made = (t.id(), page_up(c.args[LENGTH]));
            created.borrow_mut().insert(*result as u64, made);
        }),
        on(EXIT).enter(move |t, _| {
            let id = t.id();
            known.borrow_mut().retain(|start, (creator, length)| {
                if *creator == id
                    && let Ok(memory) = t.memory()
                {
                    const ENOUGH: u64 = 1 << 24;
                    // What is no longer mapped is nobody's loss.
                    let _ = memory.write(*start, &vec![0; (*length).min(ENOUGH) as usize]);
                }
                *creator != id
            });
            Entry::Pass
        }),
    ])
}
