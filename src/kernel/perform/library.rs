//! The C library: the documents are written for C programs, and say what these see.
use std::ffi::c_void;
use std::hint::black_box;

use super::{Performer, errno};
use crate::kernel::call::{Library, MapId, MmapArgs};
use crate::kernel::outcome::Outcome;

impl Performer {
    pub(super) fn library(&mut self, function: Library) -> Outcome {
        match function {
            Library::Mmap { args, map } => self.library_mmap(&args, map),
            Library::Malloc { len } => malloc(len.get()),
            Library::PipeBuf { fd } => {
                forget_errno();
                // SAFETY: fpathconf takes two numbers and touches no memory of the caller's.
                match unsafe { libc::fpathconf(self.number(fd), libc::_PC_PIPE_BUF) } {
                    -1 => errno(),
                    value => Outcome::Value(value as u64),
                }
            }
            // SAFETY: sysconf takes a number and touches no memory of the caller's.
            Library::PageSize => Outcome::Value(unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64),
        }
    }

    fn library_mmap(&mut self, args: &MmapArgs, map: MapId) -> Outcome {
        let MmapArgs { at, len, prot, flags, fd, offset } = *args;
        let address = self.address(at) as *mut c_void;
        let (prot, flags, number) = (prot.0 as libc::c_int, flags.0 as libc::c_int, self.number(fd));
        forget_errno();
        // SAFETY: a fixed address lies in the arena or in a mapping of the case; any other is the kernel's choice.
        match unsafe { libc::mmap(address, len.get(), prot, flags, number, offset.get() as libc::off_t) } {
            libc::MAP_FAILED => errno(),
            start => self.mapped(map, start as usize, len.get()),
        }
    }
}

/// A stale errno must not pass for that of the call.
fn forget_errno() {
    // SAFETY: the pointer is to the errno of this thread.
    unsafe { *libc::__errno_location() = 0 };
}

fn malloc(len: usize) -> Outcome {
    // SAFETY: malloc takes a number; the compiler may not leave it out, since its result is looked at.
    let memory = black_box(unsafe { libc::malloc(black_box(len)) });
    if memory.is_null() && len > 0 {
        return errno();
    }
    // SAFETY: the block has `len` bytes, and free takes what malloc gave, NULL too.
    unsafe {
        memory.cast::<u8>().write_bytes(0xff, if memory.is_null() { 0 } else { len });
        libc::free(black_box(memory));
    }
    Outcome::Value(u64::from(!memory.is_null()))
}
