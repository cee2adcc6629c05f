//! When a refusal is the machine's want and not the kernel's fault.

use rustix::process::{Resource, getrlimit};

use super::Lab;
use super::trace::{Step, Stop, Verdict};
use crate::kernel::call::{ActorId, Call, Fd, MmapArgs};
use crate::kernel::names::{EXEC, READ, WRITE};
use crate::kernel::outcome::{Fault, Lack, Outcome};
use crate::kernel::{filter, machine};

impl Lab {
    /// A call that had to succeed and was refused for want of something: then the case is skipped.
    ///
    /// Wherever it can be tried, the want is tried and not believed.
    pub(super) fn excuse(&self, step: usize, outcome: &Outcome) -> Verdict {
        self.undisturbed()?;
        let lack = match outcome {
            Outcome::Lacking(lack) => Some(*lack),
            Outcome::Refused(errno) => {
                let steps = self.steps.borrow();
                steps.get(step).and_then(|step| lack_behind(&step.call, *errno))
            }
            Outcome::Value(count) => self.steps.borrow().get(step).and_then(|step| self.room_behind(step, *count)),
            // A file system that allots a page of a file with holes when it is first used has no errno to refuse it with (mmap(2), SIGBUS).
            Outcome::Fault(Fault { signal: libc::SIGBUS, .. }) => directory_is_full().then_some(Lack::Space),
            _ => None,
        };
        lack.map_or(Ok(()), |lack| Err(Stop::Lacking(lack)))
    }

    /// A write to a file that was cut short by a limit of size (getrlimit(2), RLIMIT_FSIZE) or a full file system (write(2), DESCRIPTION).
    fn room_behind(&self, step: &Step, count: u64) -> Option<Lack> {
        let (fd, data, offset) = match &step.call {
            Call::Write { fd, data } => (*fd, data, None),
            Call::Pwrite { fd, data, offset } => (*fd, data, Some(offset.get() as u64)),
            _ => return None,
        };
        if step.actor != ActorId(0) || count >= data.len() as u64 {
            return None;
        }
        let place = rustix::fs::tell(self.state.borrow().performer.borrowed(fd)).ok()?;
        let end = offset.map_or(place, |offset| offset + count);
        (getrlimit(Resource::Fsize).current == Some(end) || directory_is_full()).then_some(Lack::Space)
    }

    /// Whether a seccomp filter of those who started the suite stands behind an outcome, and not the kernel.
    pub(super) fn is_filtered(&self, step: usize, outcome: &Outcome) -> bool {
        let steps = self.steps.borrow();
        match outcome {
            Outcome::Refused(libc::EPERM | libc::ENOSYS) if filter::is_there() => {
                steps.get(step).is_some_and(|step| filter::may_refuse(&step.call))
            }
            // A case that confines an actor itself has to see what comes of it.
            Outcome::Died(libc::SIGSYS) if filter::is_there() => {
                !steps.iter().any(|step| matches!(step.call, Call::Confine(_) | Call::Reply { .. }))
            }
            _ => false,
        }
    }
}

fn lack_behind(call: &Call, errno: i32) -> Option<Lack> {
    match (call, errno) {
        (_, libc::EMFILE | libc::ENFILE) => no_descriptors().then_some(Lack::Descriptors),
        (Call::Dup2 { onto: Fd::Number(_), .. }, libc::EBADF) => no_descriptors().then_some(Lack::Descriptors),
        (Call::Mmap { .. } | Call::Mremap { .. } | Call::Mprotect { .. }, libc::ENOMEM) => {
            memory_is_limited().then_some(Lack::Memory)
        }
        (Call::Mmap { args, .. }, libc::EAGAIN | libc::EPERM) if args.flags.0 & libc::MAP_LOCKED as u32 != 0 => {
            Some(Lack::LockedMemory)
        }
        (Call::Mmap { args: MmapArgs { prot, .. }, .. } | Call::Mprotect { prot, .. }, libc::EACCES | libc::EPERM)
            if prot.has(EXEC) && machine::restricts_execution() =>
        {
            Some(Lack::Policy)
        }
        // Kernels for RISC-V took PROT_WRITE without PROT_READ only later (Linux commit 9e2e6042a7ec).
        (Call::Mmap { args: MmapArgs { prot, .. }, .. }, libc::EINVAL)
            if cfg!(target_arch = "riscv64") && prot.has(WRITE) && !prot.has(READ) && machine::is_before(6, 1) =>
        {
            Some(Lack::Release)
        }
        (Call::Mlock { .. }, libc::EPERM | libc::ENOMEM | libc::EAGAIN) => Some(Lack::LockedMemory),
        (Call::Fork { .. }, libc::EAGAIN | libc::ENOMEM) => Some(Lack::Processes),
        (Call::Memfd { .. }, libc::ENOSYS | libc::EPERM | libc::EACCES) => Some(Lack::Memfd),
        (Call::Cachestat { .. }, libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP) => Some(Lack::Cachestat),
        (
            Call::Socketpair { .. } | Call::Special { .. },
            libc::ENOSYS | libc::EPERM | libc::EAFNOSUPPORT | libc::EACCES,
        ) => Some(Lack::Sockets),
        (Call::SendFd { .. } | Call::ReceiveFd { .. }, libc::ENOSYS | libc::EPERM) => Some(Lack::Sockets),
        (Call::OpenPath { path, .. }, libc::ENOENT | libc::EACCES | libc::EPERM) if path == "/dev/zero" => {
            Some(Lack::DevZero)
        }
        (Call::OpenPath { path, .. }, libc::ENOENT | libc::EACCES | libc::EPERM) if path == "/dev/null" => {
            Some(Lack::DevNull)
        }
        (Call::Mkfifo { .. }, libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS) => Some(Lack::Fifos),
        (Call::Link { .. } | Call::Symlink { .. }, libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS) => {
            Some(Lack::FileSystem)
        }
        (_, libc::ENOSPC | libc::EDQUOT | libc::EROFS) => Some(Lack::Space),
        (Call::Write { .. } | Call::Pwrite { .. } | Call::Ftruncate { .. } | Call::Truncate { .. }, libc::EFBIG) => {
            Some(Lack::Space)
        }
        (Call::Write { .. } | Call::Pwrite { .. }, libc::EINVAL) => takes_no_writes().then_some(Lack::FileSystem),
        (_, libc::ENOENT | libc::ESTALE) => directory_has_gone().then_some(Lack::Directory),
        (Call::ReadOther { .. }, libc::ENOSYS | libc::EPERM) => Some(Lack::Policy),
        _ => None,
    }
}

/// Whether one more descriptor cannot be had.
fn no_descriptors() -> bool {
    rustix::io::dup(rustix::stdio::stdin()).is_err_and(|errno| errno != rustix::io::Errno::BADF)
        || getrlimit(Resource::Nofile).current.is_some_and(|limit| limit < 64)
}

/// Whether a limit stands that may refuse memory: of the process, or of the machine (vm.overcommit_memory 2).
fn memory_is_limited() -> bool {
    let limited = |resource| getrlimit(resource).current.is_some();
    let strict = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2");
    limited(Resource::As) || limited(Resource::Data) || strict
}

/// Whether the current directory is on hugetlbfs, whose files are only mapped (hugetlbpage.rst).
fn takes_no_writes() -> bool {
    const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
    rustix::fs::statfs(".").is_ok_and(|fs| fs.f_type as u64 & 0xffff_ffff == HUGETLBFS_MAGIC)
}

/// Whether the file system of the current directory has no block left.
fn directory_is_full() -> bool {
    rustix::fs::statvfs(".").is_ok_and(|room| room.f_blocks > 0 && room.f_bavail == 0)
}

/// Whether the current directory has been removed.
fn directory_has_gone() -> bool {
    rustix::fs::stat(".").map_or(true, |stat| stat.st_nlink == 0)
}
