//! System calls with nothing of the suite around them: what the benchmarks compare with.

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

fn map(len: usize, flags: MapFlags) -> rustix::io::Result<*mut u8> {
    // SAFETY: without MAP_FIXED the kernel chooses a range that nothing else has.
    let result = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags) };
    result.map(<*mut c_void>::cast)
}

/// mmap(2) of length 0; whether it was refused.
pub fn refused_mmap() -> bool {
    map(0, MapFlags::PRIVATE).is_err()
}

/// mmap(2) of so many bytes, a store of the bytes, a load of them, and munmap(2).
///
/// # Errors
/// ENOMEM.
pub fn map_store_load_unmap(bytes: &[u8], into: &mut [u8]) -> rustix::io::Result<()> {
    let len = bytes.len();
    let start = map(len, MapFlags::PRIVATE)?;
    // SAFETY: the mapping is private, holds `len` bytes, and is unmapped only at the end.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, len);
        std::ptr::copy_nonoverlapping(std::hint::black_box(start), into.as_mut_ptr(), len.min(into.len()));
        munmap(start.cast(), len)
    }
}

/// Memory that is shared with the children that are forked from here on.
#[derive(Debug)]
pub struct SharedMemory {
    start: *mut u8,
    len: usize,
}

/// Its first bytes are for words.
const WORDS: usize = 64;

impl SharedMemory {
    /// Room for so many bytes, and a few words.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(len: usize) -> rustix::io::Result<SharedMemory> {
        Ok(SharedMemory { start: map(WORDS + len, MapFlags::SHARED)?, len })
    }

    /// A word, which starts as 0.
    pub fn word(&self, index: usize) -> &AtomicU32 {
        assert!(index < WORDS / size_of::<u32>());
        // SAFETY: the words lie in the mapping, which lives as long as `self`, are aligned, and are used as atomics alone.
        unsafe { AtomicU32::from_ptr(self.start.cast::<u32>().add(index)) }
    }

    /// Stores bytes; the words say whose turn it is.
    pub fn store(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.len);
        // SAFETY: there is room for as many bytes behind the words, and no reference to them exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(WORDS), bytes.len()) };
    }

    /// Loads bytes; the words say whose turn it is.
    pub fn load(&self, into: &mut [u8]) {
        assert!(into.len() <= self.len);
        // SAFETY: as many bytes lie behind the words, and no reference to them exists.
        unsafe { std::ptr::copy_nonoverlapping(self.start.add(WORDS), into.as_mut_ptr(), into.len()) };
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and no borrow of it is left.
        let _ = unsafe { munmap(self.start.cast(), WORDS + self.len) };
    }
}
