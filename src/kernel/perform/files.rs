//! Files and descriptors.
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::{Performer, done, errno, outcome, value};
use crate::kernel::call::{Call, Fd, Reads};
use crate::kernel::data::Data;
use crate::kernel::outcome::{Outcome, Stat};
use crate::kernel::page::Size;

/// close(2) of a number, whatever comes of it.
pub(crate) fn close(number: i32) -> Outcome {
    // SAFETY: closing a number touches no memory; the names of a case hold the only use of it.
    done(unsafe { rustix::io::try_close(number) })
}

/// What a call says of the bytes that it stores into a buffer of this length, and these.
fn read(len: usize, read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Outcome {
    let mut bytes = vec![0; len];
    outcome(read(&mut bytes), |count| {
        bytes.truncate(count);
        bytes.shrink_to_fit();
        Outcome::Bytes(bytes)
    })
}

/// read(2) until the end of the file, an error, or what [`Reads`] names as the last.
fn read_all(from: BorrowedFd<'_>, reads: &Reads) -> Outcome {
    let sizes = reads.sizes.iter().cycle().take(reads.often).copied().chain(std::iter::repeat(reads.then));
    let mut all = Vec::new();
    let mut piece = Vec::new();
    for size in sizes {
        piece.resize(size, 0);
        match rustix::io::read(from, &mut piece[..]) {
            Ok(count) => {
                all.extend_from_slice(&piece[..count]);
                if count == 0 || !count.is_multiple_of(reads.unit) || all.len() >= reads.most {
                    break;
                }
            }
            Err(errno) => return Outcome::Refused(errno.raw_os_error()),
        }
    }
    Outcome::Bytes(all)
}

/// cachestat(2): struct cachestat_range and struct cachestat of linux/mman.h.
#[repr(C)]
#[derive(Default)]
struct Cached {
    pages: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The number of cachestat, the same on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

impl Performer {
    /// The descriptor of a name; not for -1, which no borrowed descriptor may be.
    pub(crate) fn borrowed(&self, fd: Fd) -> BorrowedFd<'static> {
        // SAFETY: the number is only handed to the kernel, which says EBADF if it is not open.
        unsafe { BorrowedFd::borrow_raw(self.number(fd)) }
    }

    pub(super) fn keep(&mut self, fd: Fd, opened: rustix::io::Result<OwnedFd>) -> Outcome {
        outcome(opened, |descriptor| self.opened(fd, descriptor.into_raw_fd()))
    }

    pub(super) fn files(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Open { path, flags, mode, fd } => {
                let opened = fs::open(Self::name(*path), open_flags(*flags), Mode::from_bits_retain(*mode));
                self.keep(*fd, opened)
            }
            Call::OpenPath { path, flags, fd } => {
                let opened = fs::open(path.as_str(), open_flags(*flags), Mode::empty());
                self.keep(*fd, opened)
            }
            Call::Memfd { fd } => {
                let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
                let opened = fs::memfd_create("m", flags);
                self.keep(*fd, opened)
            }
            Call::Close { fd } => {
                let number = self.number(*fd);
                self.open.retain(|open| *open != number);
                close(number)
            }
            Call::Dup { of, fd } => {
                let opened = rustix::io::dup(self.borrowed(*of));
                self.keep(*fd, opened)
            }
            Call::Dup2 { of, onto, cloexec } => self.dup2(*of, *onto, *cloexec),
            Call::Lseek { fd, offset, whence } => self.lseek(*fd, *offset, *whence),
            Call::Read { fd, len } => {
                let descriptor = self.borrowed(*fd);
                read(*len, |into| rustix::io::read(descriptor, into))
            }
            Call::ReadAll { fd, reads } => read_all(self.borrowed(*fd), reads),
            Call::Pread { fd, len, offset } => {
                let descriptor = self.borrowed(*fd);
                read(*len, |into| rustix::io::pread(descriptor, into, offset.get() as u64))
            }
            Call::Write { fd, data } => {
                let descriptor = self.borrowed(*fd);
                value(rustix::io::write(descriptor, self.bytes_of(data)))
            }
            Call::Pwrite { fd, data, offset } => {
                let descriptor = self.borrowed(*fd);
                value(rustix::io::pwrite(descriptor, self.bytes_of(data), offset.get() as u64))
            }
            Call::Ftruncate { fd, len } => done(fs::ftruncate(self.borrowed(*fd), len.get() as u64)),
            Call::Truncate { path, len } => truncate(&Self::name(*path), *len),
            Call::Fsync { fd } => done(fs::fsync(self.borrowed(*fd))),
            Call::Fstat { fd } => outcome(fs::fstat(self.borrowed(*fd)), |stat| stat_of(&stat)),
            Call::Stat { path } => outcome(fs::lstat(Self::name(*path)), |stat| stat_of(&stat)),
            Call::Access { path } => done(fs::access(Self::name(*path), fs::Access::EXISTS)),
            Call::Unlink { path } => done(fs::unlink(Self::name(*path))),
            Call::Rename { from, to } => done(fs::rename(Self::name(*from), Self::name(*to))),
            Call::Link { from, to } => done(fs::link(Self::name(*from), Self::name(*to))),
            Call::Symlink { target, path } => done(fs::symlink(Self::name(*target), Self::name(*path))),
            Call::Mkdir { path, mode } => done(fs::mkdir(Self::name(*path), Mode::from_bits_retain(*mode))),
            Call::Entries => match std::fs::read_dir(".") {
                Ok(entries) => Outcome::Value(entries.count() as u64),
                Err(error) => error.into(),
            },
            Call::Rmdir { path } => done(fs::rmdir(Self::name(*path))),
            Call::Umask { mask } => {
                let before = rustix::process::umask(Mode::from_bits_retain(*mask));
                Outcome::Value(u64::from(before.bits()))
            }
            Call::Fcntl { fd, command, argument } => {
                // SAFETY: the commands of a case take a number or nothing, so that the kernel follows no pointer.
                match unsafe { libc::syscall(libc::SYS_fcntl, self.number(*fd), *command, *argument) } {
                    -1 => errno(),
                    result => Outcome::Value(result as u64),
                }
            }
            Call::Cachestat { fd, offset, len } => self.cachestat(*fd, *offset, *len),
            other => unreachable!("{other} is not a call on files"),
        }
    }

    fn dup2(&mut self, of: Fd, onto: Fd, cloexec: bool) -> Outcome {
        let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
        let (from, to) = (self.number(of), self.number(onto));
        // SAFETY: the descriptor that is replaced is one that the case names.
        match unsafe { if cloexec { libc::dup3(from, to, flags) } else { libc::dup2(from, to) } } {
            -1 => errno(),
            number => self.opened(onto, number),
        }
    }

    fn lseek(&self, fd: Fd, offset: i64, whence: i32) -> Outcome {
        let from = match whence {
            libc::SEEK_SET => SeekFrom::Start(offset as u64),
            libc::SEEK_CUR => SeekFrom::Current(offset),
            _ => SeekFrom::End(offset),
        };
        outcome(fs::seek(self.borrowed(fd), from), Outcome::Value)
    }

    /// The bytes to be written or stored, in a buffer that is used again.
    pub(super) fn bytes_of(&mut self, data: &Data) -> &[u8] {
        if self.scratch.len() < data.len() {
            self.scratch.resize(data.len(), 0);
        }
        let bytes = &mut self.scratch[..data.len()];
        data.fill(bytes);
        bytes
    }

    fn cachestat(&self, fd: Fd, offset: Size, len: Size) -> Outcome {
        let range = [offset.get() as u64, len.get() as u64];
        let mut cached = Cached::default();
        // SAFETY: the kernel reads two words of `range` and writes five of `cached`.
        match unsafe { libc::syscall(SYS_CACHESTAT, self.number(fd), &raw const range, &raw mut cached, 0) } {
            0 => Outcome::Value(cached.dirty + cached.writeback),
            _ => errno(),
        }
    }
}

/// truncate(2) by name, which rustix has not.
fn truncate(name: &str, len: Size) -> Outcome {
    let name = std::ffi::CString::new(name).unwrap_or_default();
    // SAFETY: the name is NUL-terminated and lives until the call returns.
    match unsafe { libc::truncate(name.as_ptr(), len.get() as libc::off_t) } {
        0 => Outcome::DONE,
        _ => errno(),
    }
}

fn open_flags(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags) | OFlags::CLOEXEC
}

fn stat_of(stat: &fs::Stat) -> Outcome {
    Outcome::Stat(Stat {
        mode: stat.st_mode as _,
        size: stat.st_size as _,
        links: stat.st_nlink as _,
        inode: stat.st_ino as _,
        on_device: fs::major(stat.st_dev as _) != 0,
    })
}
