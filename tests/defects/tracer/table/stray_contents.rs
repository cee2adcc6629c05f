//! Contents that go astray: beside a mapping of another kind, far into a mapping, after a rename, in a window.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::rc::Rc;

use libc::{EBUSY, EINVAL, ENOMEM, O_RDWR, PROT_WRITE};

use crate::tracer::behaviour::Behaviour;
use crate::tracer::call::{
    ADDRESS, DESCRIPTOR, FTRUNCATE, LENGTH, LSEEK, MMAP, MSYNC, OFFSET, PREAD, PROTECTION, PWRITE, READ, RENAME, STAT,
    WRITE, bits,
};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_up};
use crate::tracer::rule::{on, on_fork, several};
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{argument, file, mapped_in_range, of_file, opened, pages, private, prot, shared};

/// msync's flags.
const HOW: usize = 2;

/// Shared and private mappings.
pub const SHARING: &[Defect] = &[
    Defect {
        name: "private-beside-shared-is-shared",
        correct: "stores to a private mapping stay in it",
        wrong: "not if the process has mapped the file shared before",
        subtle: SUBTLE,
        claims: &["private.invisible-to-peers", "private.file-unchanged"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(private)
                .when(prot(PROT_WRITE))
                .when(opened(O_RDWR))
                .when(|t, c| t.mappings_of(c.args[DESCRIPTOR]).iter().any(|other| other.shared))
                .change(|_, c| c.share(libc::MAP_SHARED))
        },
    },
    Defect {
        name: "shared-beside-private-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "not if the process has mapped the file private before",
        subtle: SUBTLE,
        claims: &["private.invisible-to-peers", "private.copies-the-file", "private.file-unchanged"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(|t, c| t.mappings_of(c.args[DESCRIPTOR]).iter().any(|other| !other.shared))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "write-reaches-private-copies",
        correct: "a page that was stored to privately does not show what is written to the file later",
        wrong: "from the mapping's second page on it does",
        subtle: SUBTLE,
        claims: &["private.copies-the-file"],
        make: write_reaches_private_copies,
    },
    Defect {
        name: "memfd-shared-is-private",
        correct: "a file that never had a name can be mapped shared as any other",
        wrong: "the mapping is private",
        subtle: SUBTLE,
        claims: &["anon.mapping-needs-file", "anon.related-only", "mmap.fd.kind"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(|t, c| t.name(c.args[DESCRIPTOR]).as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-but-the-hundredth-page",
        correct: "every page of a shared mapping is the file's",
        wrong: "the hundredth is a copy",
        subtle: SUBTLE,
        claims: &["shared.store-reaches-file", "shared.file-write-visible"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(pages(100..))
                .after_success(|t, c, result| t.detach(*result as u64 + 99 * page(), page(), c.args[PROTECTION]))
        },
    },
    Defect {
        name: "rename-ends-sharing",
        correct: "a mapping is of its file, whatever that is called",
        wrong: "once the file has another name it is a copy",
        subtle: SUBTLE,
        claims: &["lifetime.until-munmap"],
        make: || {
            on(RENAME).carrying(
                |t, _| Some(t.tested_mappings()),
                |t, _, before, result| {
                    let now = t.tested_mappings();
                    for mapping in before.iter().filter(|mapping| mapping.shared && *result == 0) {
                        let same = |other: &&Mapping| mapping.range == other.range;
                        if now.iter().find(same).is_some_and(|after| after.name != mapping.name) {
                            t.detach(mapping.range.start, mapping.length(), mapping.protection);
                        }
                    }
                },
            )
        },
    },
];

/// Files and their sizes.
pub const FILES: &[Defect] = &[
    Defect {
        name: "read-beyond-the-end-is-einval",
        correct: "a read behind the end of a file is 0",
        wrong: "behind, not at it, it is EINVAL",
        subtle: SUBTLE,
        claims: &["file.extend-with-lseek", "file.peer-limited-by-size", "peer.plain-file"],
        make: || {
            on(READ)
                .and(PREAD)
                .when(file(0))
                .when(|t, c| {
                    let from = if READ.contains(&c.number) { t.open_file(c.args[0]).map(|(_, at)| at) } else { None };
                    let from = from.unwrap_or(if PREAD.contains(&c.number) { c.args[3] } else { 0 });
                    t.status(c.args[0]).is_ok_and(|status| from > status.len())
                })
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "emptying-of-mapped-refused",
        correct: "a file can be cut to nothing though it is mapped",
        wrong: "that is EBUSY",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file", "file.empty-refused"],
        make: || {
            on(FTRUNCATE)
                .when(file(0))
                .when(|t, c| c.args[1] == 0 && !t.mappings_of(c.args[0]).is_empty())
                .refuse(EBUSY)
        },
    },
    Defect {
        name: "truncate-by-name-leaves-mapped",
        correct: "truncate cuts a file that is mapped",
        wrong: "it succeeds and leaves the size",
        subtle: SUBTLE,
        claims: &["fault.beyond-end-of-file", "file.extend-with-truncate"],
        make: || {
            on(&[libc::SYS_truncate])
                .when(|t, c| {
                    let status = t.path_argument(c).and_then(|path| std::fs::metadata(path).ok());
                    let cut = status.filter(|status| c.args[1] < status.len());
                    cut.is_some_and(|cut| t.tested_mappings().iter().any(|mapping| mapping.inode == cut.ino()))
                })
                .answer(0)
        },
    },
    Defect {
        name: "size-told-once-without-what-pwrite-added",
        correct: "stat tells the size that the file has",
        wrong: "after pwrite has made it longer, the first answer is the old size",
        subtle: SUBTLE,
        claims: &["file.extend-with-lseek", "file.store-does-not-extend", "mmap.length.file-size"],
        make: size_told_late,
    },
    Defect {
        name: "seek-end-of-mapped-in-pages",
        correct: "SEEK_END is the size",
        wrong: "of a file that is mapped it is the end of the last page",
        subtle: SUBTLE,
        claims: &["mmap.length.file-size", "file.store-does-not-extend", "file.extend-with-lseek"],
        make: || {
            on(LSEEK)
                .when(file(0))
                .when(argument(2, libc::SEEK_END))
                .when(|t, c| c.args[1] == 0 && !t.mappings_of(c.args[0]).is_empty())
                .after_success(|t, c, result| {
                    *result = page_up(*result as u64) as i64;
                    t.perform(libc::SYS_lseek, [c.args[0], *result as u64, bits(libc::SEEK_SET), 0, 0, 0]);
                })
        },
    },
    Defect {
        name: "tail-of-windows-not-zero-at-its-last-byte",
        correct: "the rest of the file's last page reads as zeros",
        wrong: "mapped at an offset its very last byte does not",
        subtle: SUBTLE,
        claims: &["file.tail-is-zero"],
        make: || {
            on(MMAP).when(of_file).when(|_, c| c.args[OFFSET] > 0).after_success(|t, c, result| {
                let size = t.status(c.args[DESCRIPTOR]).map_or(0, |status| status.len());
                let last = page_up(size).wrapping_sub(1);
                if !size.is_multiple_of(page()) && (c.args[OFFSET]..c.args[OFFSET] + c.pages() * page()).contains(&last)
                {
                    // There is no such page where the call has failed.
                    let _ = t.memory().and_then(|memory| memory.write(*result as u64 + last - c.args[OFFSET], b"x"));
                }
            })
        },
    },
];

/// msync.
pub const MSYNCS: &[Defect] = &[
    Defect {
        name: "msync-of-nothing-in-a-hole-refused",
        correct: "msync of no bytes succeeds at any page",
        wrong: "where nothing is mapped it is ENOMEM",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || {
            on(MSYNC)
                .when(|t, c| {
                    c.args[LENGTH] == 0
                        && c.args[ADDRESS].is_multiple_of(page())
                        && t.mapping_at(c.args[ADDRESS]).is_none()
                })
                .refuse(ENOMEM)
        },
    },
    Defect {
        name: "msync-of-none-refused",
        correct: "msync takes what is mapped, whatever its rights",
        wrong: "a file mapped without any right is ENOMEM",
        subtle: SUBTLE,
        claims: &["msync.arguments", "msync.sync-waits", "msync.async-xor-sync"],
        make: || {
            on(MSYNC)
                .when(|t, c| mapped_in_range(t, c).iter().any(|hit| hit.inode != 0 && hit.protection == 0))
                .refuse(ENOMEM)
        },
    },
    Defect {
        name: "msync-of-anonymous-refused",
        correct: "msync of anonymous memory succeeds",
        wrong: "it is EINVAL",
        subtle: SUBTLE,
        claims: &["msync.arguments", "msync.async-xor-sync"],
        make: || {
            on(MSYNC)
                .when(|t, c| c.args[LENGTH] > 0 && t.mapping_at(c.args[ADDRESS]).is_some_and(|hit| hit.inode == 0))
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "msync-second-time-is-async",
        correct: "every MS_SYNC writes what has been stored since",
        wrong: "only the first of a mapping does",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent", "msync.sync-waits"],
        make: || {
            let mut done = HashSet::new();
            on(MSYNC)
                .when(argument(HOW, libc::MS_SYNC))
                .when(|t, c| t.mapping_at(c.args[ADDRESS]).is_some_and(|hit| hit.shared))
                .when(move |t, c| {
                    let inode = t.mapping_at(c.args[ADDRESS]).map_or(0, |hit| hit.inode);
                    !done.insert((t.id(), inode, c.args[ADDRESS]))
                })
                .change(|_, c| c.args[HOW] = bits(libc::MS_ASYNC))
        },
    },
    Defect {
        name: "msync-of-windows-is-async",
        correct: "MS_SYNC writes whatever part of the file is mapped",
        wrong: "nothing of a mapping that begins behind the file's start",
        subtle: SUBTLE,
        claims: &["msync.makes-consistent", "msync.sync-waits"],
        make: || {
            on(MSYNC)
                .when(argument(HOW, libc::MS_SYNC))
                .when(|t, c| {
                    let hit = t.mapping_at(c.args[ADDRESS]);
                    hit.is_some_and(|hit| hit.shared && hit.offset > 0 && hit.range.start == c.args[ADDRESS])
                })
                .change(|_, c| c.args[HOW] = bits(libc::MS_ASYNC))
        },
    },
];

/// Forked processes.
pub const FORKS: &[Defect] = &[
    Defect {
        name: "fork-loses-none",
        correct: "a child has all of its parent's mappings",
        wrong: "not those of files without any right",
        subtle: SUBTLE,
        claims: &["perm.prot-none", "fork.inherits-mapping-address"],
        make: || {
            on_fork(|_, child| {
                for mapping in child.tested_mappings() {
                    if mapping.protection == 0 {
                        child.count();
                        child.unmap(mapping.range.start, mapping.length());
                    }
                }
            })
        },
    },
    Defect {
        name: "fork-forgets-private-stores-in-grandchildren",
        correct: "what was stored privately before fork is there in the child",
        wrong: "not in a child of a child",
        subtle: SUBTLE,
        claims: &["fork.private-mapping"],
        make: || {
            on_fork(|_, child| {
                if child.process().generation < 2 {
                    return;
                }
                for mapping in child.tested_mappings() {
                    if !mapping.shared {
                        child.count();
                        let args = [mapping.range.start, mapping.length(), bits(libc::MADV_DONTNEED), 0, 0, 0];
                        child.perform(libc::SYS_madvise, args);
                    }
                }
            })
        },
    },
];

/// The bytes of one page of a file, as many as there are.
fn page_of(tracee: &Tracee, descriptor: u64, offset: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; page() as usize];
    let read = tracee.file(descriptor, false).ok()?.read_at(&mut bytes, offset).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

fn write_reaches_private_copies() -> Box<dyn Behaviour> {
    on(WRITE).and(PWRITE).when(file(0)).carrying(
        |t, c| {
            let mut copies = Vec::new();
            let memory = t.memory().ok()?;
            for mapping in t.mappings_of(c.args[0]).into_iter().filter(|mapping| !mapping.shared) {
                for at in (page()..mapping.length().min(64 * page())).step_by(page() as usize) {
                    let (address, offset) = (mapping.range.start + at, mapping.offset + at);
                    let Some(there) = page_of(t, c.args[0], offset) else { continue };
                    let seen = memory.read(address, there.len()).unwrap_or_default();
                    if seen != there {
                        copies.push((address, offset, there));
                    }
                }
            }
            Some(copies)
        },
        |t, c, copies, _| {
            for (address, offset, before) in copies {
                let now = page_of(t, c.args[0], offset).unwrap_or_default();
                for (at, (new, old)) in now.iter().zip(&before).enumerate() {
                    if new != old && t.memory().is_ok_and(|memory| memory.write(address + at as u64, &[*new]).is_ok()) {
                        t.count();
                    }
                }
            }
        },
    )
}

fn size_told_late() -> Box<dyn Behaviour> {
    let sizes: Rc<RefCell<HashMap<u64, u64>>> = Rc::default();
    let told = Rc::clone(&sizes);
    several([
        on(PWRITE).when(file(0)).carrying(
            |t, c| t.status(c.args[0]).ok(),
            move |t, c, before, _| {
                if t.status(c.args[0]).is_ok_and(|now| now.len() > before.len()) {
                    sizes.borrow_mut().insert(before.ino(), before.len());
                }
            },
        ),
        on(STAT).after_success(move |t, c, _| {
            let (at, _, size) = c.status_layout();
            let inode = if c.number == libc::SYS_statx { 32 } else { 8 };
            let Ok(memory) = t.memory() else { return };
            let number =
                memory.read(at + inode, 8).ok().and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
            if let Some(old) = number.and_then(|number| told.borrow_mut().remove(&number)) {
                // The call has just written there.
                let _ = memory.write(at + size, &old.to_ne_bytes());
            }
        }),
    ])
}
