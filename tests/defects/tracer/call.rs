//! System calls by kind, and their arguments by name.

use std::ops::Range;

use crate::tracer::behaviour::{Syscall, Sysno};
use crate::tracer::memory::{page, page_up};

/// mmap.
pub const MMAP: &[Sysno] = &[libc::SYS_mmap];
/// munmap.
pub const MUNMAP: &[Sysno] = &[libc::SYS_munmap];
/// mprotect.
pub const MPROTECT: &[Sysno] = &[libc::SYS_mprotect];
/// msync.
pub const MSYNC: &[Sysno] = &[libc::SYS_msync];
/// ftruncate.
pub const FTRUNCATE: &[Sysno] = &[libc::SYS_ftruncate];
/// lseek.
pub const LSEEK: &[Sysno] = &[libc::SYS_lseek];
/// read, of one buffer.
pub const READ: &[Sysno] = &[libc::SYS_read];
/// write, of one buffer.
pub const WRITE: &[Sysno] = &[libc::SYS_write];
/// pread, of one buffer.
pub const PREAD: &[Sysno] = &[libc::SYS_pread64];
/// pwrite, of one buffer.
pub const PWRITE: &[Sysno] = &[libc::SYS_pwrite64];
/// close.
pub const CLOSE: &[Sysno] = &[libc::SYS_close];
/// dup.
pub const DUP: &[Sysno] = &[libc::SYS_dup];
/// fcntl.
pub const FCNTL: &[Sysno] = &[libc::SYS_fcntl];
/// ioctl.
pub const IOCTL: &[Sysno] = &[libc::SYS_ioctl];
/// execve, but not execveat.
pub const EXEC: &[Sysno] = &[libc::SYS_execve];
/// The end of a process by its own will.
pub const EXIT: &[Sysno] = &[libc::SYS_exit_group];

/// The ways to open a file, of which newer architectures have only one.
#[cfg(target_arch = "x86_64")]
pub const OPEN: &[Sysno] = &[libc::SYS_openat, libc::SYS_open];
/// The ways to open a file.
#[cfg(not(target_arch = "x86_64"))]
pub const OPEN: &[Sysno] = &[libc::SYS_openat];

/// The ways to make a pipe.
#[cfg(target_arch = "x86_64")]
pub const PIPE: &[Sysno] = &[libc::SYS_pipe2, libc::SYS_pipe];
/// The ways to make a pipe.
#[cfg(not(target_arch = "x86_64"))]
pub const PIPE: &[Sysno] = &[libc::SYS_pipe2];

/// The ways to make a FIFO.
#[cfg(target_arch = "x86_64")]
pub const MKNOD: &[Sysno] = &[libc::SYS_mknodat, libc::SYS_mknod];
/// The ways to make a FIFO.
#[cfg(not(target_arch = "x86_64"))]
pub const MKNOD: &[Sysno] = &[libc::SYS_mknodat];

/// The ways to wait for one of some descriptors.
#[cfg(target_arch = "x86_64")]
pub const POLL: &[Sysno] = &[libc::SYS_ppoll, libc::SYS_poll];
/// The ways to wait for one of some descriptors.
#[cfg(not(target_arch = "x86_64"))]
pub const POLL: &[Sysno] = &[libc::SYS_ppoll];

/// The ways to put one descriptor in another's place.
#[cfg(target_arch = "x86_64")]
pub const DUP2: &[Sysno] = &[libc::SYS_dup3, libc::SYS_dup2];
/// The ways to put one descriptor in another's place.
#[cfg(not(target_arch = "x86_64"))]
pub const DUP2: &[Sysno] = &[libc::SYS_dup3];

/// The ways to remove a name.
#[cfg(target_arch = "x86_64")]
pub const UNLINK: &[Sysno] = &[libc::SYS_unlinkat, libc::SYS_unlink];
/// The ways to remove a name.
#[cfg(not(target_arch = "x86_64"))]
pub const UNLINK: &[Sysno] = &[libc::SYS_unlinkat];

/// The ways to give a file another name.
#[cfg(target_arch = "x86_64")]
pub const RENAME: &[Sysno] = &[libc::SYS_renameat2, libc::SYS_renameat, libc::SYS_rename];
/// The ways to give a file another name.
#[cfg(not(target_arch = "x86_64"))]
pub const RENAME: &[Sysno] = &[libc::SYS_renameat2, libc::SYS_renameat];

/// The ways to ask whether a file is there.
#[cfg(target_arch = "x86_64")]
pub const ACCESS: &[Sysno] = &[libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_access];
/// The ways to ask whether a file is there.
#[cfg(not(target_arch = "x86_64"))]
pub const ACCESS: &[Sysno] = &[libc::SYS_faccessat, libc::SYS_faccessat2];

/// The ways to ask for a file's status.
#[cfg(target_arch = "x86_64")]
pub const STAT: &[Sysno] = &[libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_statx];
/// The ways to ask for a file's status.
#[cfg(not(target_arch = "x86_64"))]
pub const STAT: &[Sysno] = &[libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx];

/// Places of mmap's arguments, those of munmap, mprotect and msync being the first of them.
pub const ADDRESS: usize = 0;
/// Length, in bytes.
pub const LENGTH: usize = 1;
/// PROT_*.
pub const PROTECTION: usize = 2;
/// MAP_*.
pub const FLAGS: usize = 3;
/// The file.
pub const DESCRIPTOR: usize = 4;
/// Offset into the file, in bytes.
pub const OFFSET: usize = 5;
/// The place of read's and write's buffer.
pub const BUFFER: usize = 1;
/// The place of read's and write's count.
pub const COUNT: usize = 2;

/// The bits of mmap's flags that say how the mapping is shared.
const MAP_TYPE: u64 = 0xf;

/// An argument as a call takes it.
pub fn bits(flag: i32) -> u64 {
    flag as u32 as u64
}

/// A failed call's result.
pub fn error(errno: i32) -> i64 {
    -i64::from(errno)
}

impl Syscall {
    /// mmap: all of these flags are set.
    pub fn has(&self, flags: i32) -> bool {
        self.args[FLAGS] & bits(flags) == bits(flags)
    }

    /// mmap: all of these rights are asked for.
    pub fn wants(&self, protection: i32) -> bool {
        self.args[PROTECTION] & bits(protection) == bits(protection)
    }

    /// mmap: it is shared, validated or not.
    pub fn is_shared(&self) -> bool {
        let sharing = self.args[FLAGS] & MAP_TYPE;
        sharing == bits(libc::MAP_SHARED) || sharing == bits(libc::MAP_SHARED_VALIDATE)
    }

    /// mmap: it is private.
    pub fn is_private(&self) -> bool {
        self.args[FLAGS] & MAP_TYPE == bits(libc::MAP_PRIVATE)
    }

    /// mmap: sets how it is shared.
    pub fn share(&mut self, sharing: i32) {
        self.args[FLAGS] = self.args[FLAGS] & !MAP_TYPE | bits(sharing);
    }

    /// mmap: it is of anonymous memory.
    pub fn is_anonymous(&self) -> bool {
        self.has(libc::MAP_ANONYMOUS)
    }

    /// mmap, munmap, mprotect, msync: length in pages, rounded up.
    pub fn pages(&self) -> u64 {
        page_up(self.args[LENGTH]) / page()
    }

    /// munmap, mprotect, msync: the addresses from the first to the end of the last page.
    pub fn range(&self) -> Range<u64> {
        let start = self.args[ADDRESS];
        start..page_up(start.saturating_add(self.args[LENGTH])).max(start)
    }

    /// open: its flags.
    pub fn open_flags(&mut self) -> &mut u64 {
        let place = if self.number == libc::SYS_openat { 2 } else { 1 };
        &mut self.args[place]
    }

    /// mknod: the place of its mode.
    pub fn mode_place(&self) -> usize {
        if self.number == libc::SYS_mknodat { 2 } else { 1 }
    }

    /// open, mknod, unlink, rename, access: the place of its path, the old one of two.
    pub fn path_place(&self) -> usize {
        let at = [
            libc::SYS_openat,
            libc::SYS_mknodat,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
        ];
        usize::from(at.contains(&self.number))
    }

    /// stat and its kin: the address of the buffer, and where mode and size are in it.
    ///
    /// The mode of statx has two bytes, and two of padding follow that are zero.
    pub fn status_layout(&self) -> (u64, u64, u64) {
        const MODE: u64 = if cfg!(target_arch = "x86_64") { 24 } else { 16 };
        match self.number {
            libc::SYS_statx => (self.args[4], 28, 40),
            libc::SYS_newfstatat => (self.args[2], MODE, 48),
            _ => (self.args[1], MODE, 48),
        }
    }
}
