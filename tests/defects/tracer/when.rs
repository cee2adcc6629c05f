//! Conditions of rules.

use std::ops::RangeBounds;

use crate::tracer::behaviour::Syscall;
use crate::tracer::call::{DESCRIPTOR, OFFSET};
use crate::tracer::memory::{Mapping, page};
use crate::tracer::process::Role;
use crate::tracer::tracee::Tracee;

/// mmap of a regular file that a test may have made.
pub fn of_file(tracee: &mut Tracee, call: &Syscall) -> bool {
    !call.is_anonymous() && tracee.is_tested_file(call.args[DESCRIPTOR])
}

/// mmap of anonymous memory.
pub fn anonymous(_: &mut Tracee, call: &Syscall) -> bool {
    call.is_anonymous()
}

/// mmap of /dev/zero.
pub fn of_dev_zero(tracee: &mut Tracee, call: &Syscall) -> bool {
    !call.is_anonymous() && tracee.name(call.args[DESCRIPTOR]).as_os_str() == "/dev/zero"
}

/// mmap with MAP_SHARED or MAP_SHARED_VALIDATE.
pub fn shared(_: &mut Tracee, call: &Syscall) -> bool {
    call.is_shared()
}

/// mmap with MAP_PRIVATE.
pub fn private(_: &mut Tracee, call: &Syscall) -> bool {
    call.is_private()
}

/// The range or mapping has so many pages, the last one perhaps in part.
pub fn pages(range: impl RangeBounds<u64>) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |_, call| range.contains(&call.pages())
}

/// mmap: the offset is this many whole pages.
pub fn offset_pages(range: impl RangeBounds<u64>) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |_, call| range.contains(&(call.args[OFFSET] / page()))
}

/// mmap: these rights are all asked for.
pub fn prot(protection: i32) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |_, call| call.wants(protection)
}

/// mmap: these flags are all set.
pub fn flag(flags: i32) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |_, call| call.has(flags)
}

/// The argument at this place has this value, as an int.
pub fn argument(place: usize, value: i32) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |_, call| call.args[place] as i32 == value
}

/// The argument at this place is a descriptor of a regular file that a test may have made.
pub fn file(place: usize) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |tracee, call| tracee.is_tested_file(call.args[place])
}

/// The argument at this place is a descriptor of a pipe or a FIFO.
pub fn pipe(place: usize) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |tracee, call| tracee.is_pipe(call.args[place])
}

/// The argument at this place is a descriptor of a FIFO.
pub fn fifo(place: usize) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |tracee, call| tracee.is_fifo(call.args[place])
}

/// mmap: how the file behind the descriptor was opened, O_RDONLY, O_WRONLY or O_RDWR.
pub fn opened(mode: i32) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |tracee, call| !call.is_anonymous() && tracee.access_mode(call.args[DESCRIPTOR]) == mode
}

/// The open file behind the first argument is non-blocking, or is not.
pub fn nonblocking(wanted: bool) -> impl Fn(&mut Tracee, &Syscall) -> bool {
    move |tracee, call| {
        tracee.open_file(call.args[0]).is_some_and(|(flags, _)| (flags & libc::O_NONBLOCK != 0) == wanted)
    }
}

/// The process has made its preparations.
pub fn settled(tracee: &mut Tracee, _: &Syscall) -> bool {
    tracee.process().settled
}

/// In forked processes only.
pub fn in_child(tracee: &mut Tracee, _: &Syscall) -> bool {
    tracee.process().generation > 0
}

/// In programs executed as peers, and their children, only.
pub fn in_peer(tracee: &mut Tracee, _: &Syscall) -> bool {
    tracee.process().role == Role::Peer
}

/// Every `n`th time that all conditions before this one hold.
pub fn every(n: u64) -> impl FnMut(&mut Tracee, &Syscall) -> bool {
    let mut count = 0;
    move |_, _| {
        count += 1;
        count % n == 0
    }
}

/// What is mapped in the range of a munmap, mprotect or msync, or of a mmap at a place, by address.
pub fn mapped_in_range(tracee: &Tracee, call: &Syscall) -> Vec<Mapping> {
    let range = call.range();
    let mut mappings = tracee.mappings();
    mappings.retain(|mapping| mapping.range.start < range.end && range.start < mapping.range.end);
    mappings
}
