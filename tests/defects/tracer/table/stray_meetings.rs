//! Mappings where two conditions meet that are right one by one: a flag and a place, a file's state and a call.

use libc::{
    EACCES, EAGAIN, EINVAL, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE,
    MAP_SHARED_VALIDATE, O_APPEND, PROT_READ, PROT_WRITE,
};

use crate::tracer::behaviour::{Behaviour, Entry, Syscall};
use crate::tracer::call::{
    ADDRESS, DESCRIPTOR, FLAGS, FTRUNCATE, LENGTH, MMAP, MPROTECT, MSYNC, MUNMAP, OFFSET, PROTECTION, bits, error,
};
use crate::tracer::defect::{Defect, SUBTLE};
use crate::tracer::memory::{Mapping, page, page_down};
use crate::tracer::rule::{On, on};
use crate::tracer::table::flags::MAP_32BIT;
use crate::tracer::tracee::Tracee;
use crate::tracer::when::{anonymous, file, flag, mapped_in_range, of_file, prot, shared};

/// mmap's arguments.
pub const ARGUMENTS: &[Defect] = &[
    Defect {
        name: "length-zero-at-a-place-accepted",
        correct: "a length of 0 is EINVAL",
        wrong: "with MAP_FIXED it succeeds and maps nothing",
        subtle: SUBTLE,
        claims: &["mmap.length.zero", "mmap.result.failed"],
        make: || {
            on(MMAP)
                .when(flag(MAP_FIXED))
                .when(|_, c| c.args[LENGTH] == 0 && c.args[ADDRESS].is_multiple_of(page()))
                .enter(|_, c| Entry::Answer(c.args[ADDRESS] as i64))
        },
    },
    Defect {
        name: "length-zero-validated-accepted",
        correct: "a length of 0 is EINVAL",
        wrong: "with MAP_SHARED_VALIDATE it is a page",
        subtle: SUBTLE,
        claims: &["mmap.length.zero", "mmap.result.failed"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(flag(MAP_SHARED_VALIDATE))
                .when(|_, c| c.args[LENGTH] == 0)
                .change(|_, c| c.args[LENGTH] = page())
        },
    },
    Defect {
        name: "mapping-follows-the-file-position",
        correct: "a mapping begins at its offset in the file",
        wrong: "it begins behind that by the pages before the file position",
        subtle: SUBTLE,
        claims: &["mmap.offset.zero-is-start", "mmap.offset.window"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(|t, c| position(t, c.args[DESCRIPTOR]) >= page())
                .when(|_, c| c.args[OFFSET].is_multiple_of(page()) && c.args[OFFSET] < 1 << 40)
                .change(|t, c| c.args[OFFSET] += page_down(position(t, c.args[DESCRIPTOR])))
        },
    },
    Defect {
        name: "mmap-rewinds",
        correct: "mmap leaves the file position",
        wrong: "it is at the start of the file afterwards",
        subtle: SUBTLE,
        claims: &["mmap.offset.zero-is-start", "shared.file-write-visible"],
        make: || on(MMAP).when(of_file).after_success(|t, c, _| rewind(t, c.args[DESCRIPTOR], 0)),
    },
];

/// Where mappings go.
pub const PLACEMENT: &[Defect] = &[
    Defect {
        name: "hint-of-windows-replaces",
        correct: "a hint never puts a mapping over another",
        wrong: "a file's window from an offset on replaces what is there",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || replaces(on(MMAP).when(of_file).when(|_, c| c.args[OFFSET] > 0)),
    },
    Defect {
        name: "hint-with-populate-replaces",
        correct: "a hint never puts a mapping over another",
        wrong: "with MAP_POPULATE it does",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || replaces(on(MMAP).when(flag(MAP_POPULATE))),
    },
    Defect {
        name: "noreplace-of-windows-replaces",
        correct: "MAP_FIXED_NOREPLACE is EEXIST where something is",
        wrong: "a file's window from an offset on replaces it",
        subtle: SUBTLE,
        claims: &["flag.fixed-discouraged"],
        make: || {
            on(MMAP).when(of_file).when(flag(MAP_FIXED_NOREPLACE)).when(|_, c| c.args[OFFSET] > 0).change(|_, c| {
                c.args[FLAGS] = c.args[FLAGS] & !bits(MAP_FIXED_NOREPLACE) | bits(MAP_FIXED);
            })
        },
    },
];

/// Rights.
pub const PERMISSIONS: &[Defect] = &[
    Defect {
        name: "write-only-of-anonymous-refused",
        correct: "PROT_WRITE alone can be asked for",
        wrong: "for anonymous memory it is EACCES",
        subtle: SUBTLE,
        claims: &["perm.write-only-prot", "perm.prot-write", "perm.prot-combines"],
        make: || on(MMAP).when(anonymous).when(|_, c| c.args[PROTECTION] == bits(PROT_WRITE)).refuse(EACCES),
    },
    Defect {
        name: "mprotect-of-a-part-to-write-over-rdonly",
        correct: "mprotect gives no right that the open mode does not permit",
        wrong: "a part of a shared mapping over O_RDONLY becomes writable",
        subtle: SUBTLE,
        claims: &["perm.not-above-open-mode", "perm.shared-write-needs-write", "perm.prot-write"],
        make: || {
            on(MPROTECT).when(prot(PROT_WRITE)).after(|t, c, result| {
                let Some(hit) = t.mapping_at(c.args[ADDRESS]) else { return };
                let part = hit.shared && hit.range != c.range() && c.range().end <= hit.range.end;
                if *result == error(EACCES) && part {
                    *result = map_writable(t, &hit, c);
                }
            })
        },
    },
    Defect {
        name: "mprotect-of-locked-refused",
        correct: "mprotect sets the rights of any pages",
        wrong: "those of locked ones it leaves, with EAGAIN",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || on(MPROTECT).when(locked).refuse(EAGAIN),
    },
];

/// Shared mappings.
pub const SHARING: &[Defect] = &[
    Defect {
        name: "shared-at-a-place-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "not where MAP_FIXED puts it over another mapping of a file",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(flag(MAP_FIXED))
                .when(|t, c| mapped_in_range(t, c).iter().any(|there| there.inode != 0))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-without-replacing-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "not with MAP_FIXED_NOREPLACE",
        subtle: SUBTLE,
        claims: &["flag.fixed-exact", "flag.fixed-discouraged"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(flag(MAP_FIXED_NOREPLACE))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-with-a-hint-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "not if a hint is given",
        subtle: SUBTLE,
        claims: &["mmap.addr.hint"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(|_, c| c.args[ADDRESS] >= page() && !c.has(MAP_FIXED) && !c.has(MAP_FIXED_NOREPLACE))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-of-append-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "not by a descriptor opened with O_APPEND",
        subtle: SUBTLE,
        claims: &["perm.not-above-open-mode"],
        make: || {
            on(MMAP)
                .when(of_file)
                .when(shared)
                .when(|t, c| t.open_file(c.args[DESCRIPTOR]).is_some_and(|(flags, _)| flags & O_APPEND != 0))
                .change(|_, c| c.share(libc::MAP_PRIVATE))
        },
    },
    Defect {
        name: "shared-populated-is-private",
        correct: "stores to a shared mapping reach the file",
        wrong: "not with MAP_POPULATE",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || on(MMAP).when(of_file).when(shared).when(flag(MAP_POPULATE)).change(|_, c| c.share(libc::MAP_PRIVATE)),
    },
];

/// Files and their sizes.
pub const FILES: &[Defect] = &[Defect {
    name: "cutting-pulls-the-position-back",
    correct: "ftruncate leaves the file position",
    wrong: "one behind the new end is moved there",
    subtle: SUBTLE,
    claims: &["file.extend-with-truncate", "file.extend-with-lseek"],
    make: || {
        on(FTRUNCATE).when(file(0)).when(|t, c| position(t, c.args[0]) > c.args[1]).after_success(|t, c, _| {
            rewind(t, c.args[0], c.args[1]);
        })
    },
}];

/// munmap.
pub const UNMAPPING: &[Defect] = &[Defect {
    name: "munmap-of-locked-refused",
    correct: "munmap removes mappings, locked or not",
    wrong: "locked ones stay: EAGAIN",
    subtle: SUBTLE,
    claims: &["flag.locked"],
    make: || on(MUNMAP).when(locked).refuse(EAGAIN),
}];

/// msync.
pub const MSYNCS: &[Defect] = &[
    Defect {
        name: "msync-of-read-only-refused",
        correct: "msync takes what is mapped, whatever its rights",
        wrong: "a file mapped to be read is EINVAL",
        subtle: SUBTLE,
        claims: &["msync.arguments", "msync.async-xor-sync"],
        make: || {
            on(MSYNC)
                .when(|t, c| {
                    let there = mapped_in_range(t, c);
                    there.iter().any(|hit| hit.inode != 0 && hit.protection == bits(PROT_READ))
                })
                .refuse(EINVAL)
        },
    },
    Defect {
        name: "msync-of-a-part-of-a-page-refused",
        correct: "msync takes any length",
        wrong: "one that does not end with a page is EINVAL",
        subtle: SUBTLE,
        claims: &["msync.arguments"],
        make: || {
            on(MSYNC).when(|_, c| !c.args[LENGTH].is_multiple_of(page()) && c.args[LENGTH] < 1 << 40).refuse(EINVAL)
        },
    },
];

/// mmap's flags.
pub const MMAP_FLAGS: &[Defect] = &[
    Defect {
        name: "locked-at-a-place-ignored",
        correct: "MAP_LOCKED locks the pages",
        wrong: "not with MAP_FIXED",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || without(on(MMAP).when(flag(MAP_LOCKED | MAP_FIXED)), MAP_LOCKED),
    },
    Defect {
        name: "locked-read-only-ignored",
        correct: "MAP_LOCKED locks the pages",
        wrong: "not those that may only be read",
        subtle: SUBTLE,
        claims: &["flag.locked"],
        make: || {
            let reads = |_: &mut Tracee, c: &Syscall| c.args[PROTECTION] == bits(PROT_READ);
            without(on(MMAP).when(flag(MAP_LOCKED)).when(reads), MAP_LOCKED)
        },
    },
    Defect {
        name: "noreserve-at-a-place-ignored",
        correct: "MAP_NORESERVE keeps swap space from being reserved",
        wrong: "not with MAP_FIXED",
        subtle: SUBTLE,
        claims: &["flag.noreserve"],
        make: || without(on(MMAP).when(flag(MAP_NORESERVE | MAP_FIXED)), MAP_NORESERVE),
    },
    Defect {
        name: "populate-with-a-hint-ignored",
        correct: "MAP_POPULATE has the pages present",
        wrong: "not if a hint is given",
        subtle: SUBTLE,
        claims: &["flag.populate"],
        make: || {
            let hinted = |_: &mut Tracee, c: &Syscall| c.args[ADDRESS] >= page() && !c.has(MAP_FIXED);
            without(on(MMAP).when(flag(MAP_POPULATE)).when(hinted), MAP_POPULATE)
        },
    },
    Defect {
        name: "32bit-populated-ignored",
        correct: "MAP_32BIT places the mapping in the first 2 GiB (x86-64)",
        wrong: "not with MAP_POPULATE",
        subtle: SUBTLE,
        claims: &["flag.32bit"],
        make: || without(on(MMAP).when(flag(MAP_32BIT | MAP_POPULATE)), MAP_32BIT),
    },
];

/// What is asked for by the flag is not done.
fn without(on: On, flag: i32) -> Box<dyn Behaviour> {
    on.change(move |_, c| c.args[FLAGS] &= !bits(flag))
}

/// A hint is taken literally.
fn replaces(on: On) -> Box<dyn Behaviour> {
    on.when(|t, c| {
        let hint = c.args[ADDRESS] >= page() && c.args[ADDRESS].is_multiple_of(page());
        hint && !c.has(MAP_FIXED) && !c.has(MAP_FIXED_NOREPLACE) && !mapped_in_range(t, c).is_empty()
    })
    .change(|_, c| c.args[FLAGS] |= bits(MAP_FIXED))
}

fn position(tracee: &Tracee, descriptor: u64) -> u64 {
    tracee.open_file(descriptor).map_or(0, |(_, at)| at)
}

fn rewind(tracee: &mut Tracee, descriptor: u64, to: u64) {
    tracee.perform(libc::SYS_lseek, [descriptor, to, bits(libc::SEEK_SET), 0, 0, 0]);
}

/// Something in the range is locked: /proc/PID/smaps says so.
fn locked(tracee: &mut Tracee, call: &Syscall) -> bool {
    let there = mapped_in_range(tracee, call);
    if there.is_empty() || !tracee.process().settled {
        return false;
    }
    let text = std::fs::read_to_string(format!("/proc/{}/smaps", tracee.id())).unwrap_or_default();
    there.iter().any(|hit| {
        let head = format!("{:x}-{:x} ", hit.range.start, hit.range.end);
        let own = text.split_once(&head).map_or("", |(_, rest)| rest);
        own.lines().find(|line| line.starts_with("VmFlags:")).is_some_and(|line| line.contains(" lo"))
    })
}

/// Maps the range of a mprotect anew, by a descriptor that may write.
fn map_writable(tracee: &mut Tracee, hit: &Mapping, call: &Syscall) -> i64 {
    let path = tracee.mapped_file(hit).to_string_lossy().into_owned();
    let open = [bits(libc::AT_FDCWD), 0, bits(libc::O_RDWR), 0, 0, 0];
    let descriptor = tracee.perform_with_path(libc::SYS_openat, open, 1, &path);
    let (start, how) = (call.args[ADDRESS], bits(libc::MAP_SHARED | MAP_FIXED));
    let offset = hit.offset + start - hit.range.start;
    let args = [start, call.args[LENGTH], call.args[PROTECTION], how, descriptor as u64, offset];
    let result = tracee.perform(libc::SYS_mmap, args);
    tracee.close(descriptor);
    result.min(0)
}
