//! An address range that a worker keeps free, so that placement is tried where nothing else lives.
use std::ffi::c_void;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::page::page;

/// How many pages it has.
pub const PAGES: usize = 4096;

/// How many bytes of addresses it has on a machine with the smallest pages; never more, so that a limit of address space is kept.
pub const LENGTH: usize = 64 << 20;

/// Reserves the range anew, or a part of it, with PROT_NONE and no memory behind.
///
/// `start` is 0 for the first time: the kernel chooses. Returns 0 where it cannot be had.
pub fn reserve(start: usize, len: usize) -> usize {
    let fixed = if start == 0 { MapFlags::empty() } else { MapFlags::FIXED };
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | fixed;
    // SAFETY: only the arena itself is ever replaced, and nothing but the case in hand lives there.
    let result = unsafe { mmap_anonymous(start as *mut c_void, len, ProtFlags::empty(), flags) };
    result.map_or(0, |start| start as usize)
}

/// Gives a part of the range back, so that it is a hole.
pub fn open_hole(start: usize, len: usize) {
    // SAFETY: the part lies in the arena, where nothing but the case in hand lives.
    let _ = unsafe { munmap(start as *mut c_void, len) };
}

/// The number of whole pages of the arena on this machine.
pub fn pages() -> usize {
    (LENGTH / page()).min(PAGES)
}
