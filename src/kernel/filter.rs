//! Seccomp filters of those who started the suite: which calls they refuse, found by trying.
use libc::c_long;

use super::call::Call;
use super::names::EXEC;

/// Whether the caller was started under a filter (PR_GET_SECCOMP(2const)).
pub fn is_there() -> bool {
    // SAFETY: this prctl takes no pointer.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) > 0 }
}

/// Whether a filter may be what refused a call with EPERM or ENOSYS, and not the kernel.
///
/// Filters mostly go by the number of a call: it is made with arguments that no kernel takes. Refused in the same way, the filter is
/// what refuses it; refused for its arguments, the kernel was. Calls that cannot be tried like that are believed.
pub fn may_refuse(call: &Call) -> bool {
    number_of(call).is_none_or(is_refused)
}

/// Makes a call of those in [`number_of`] with -1 for each argument.
fn is_refused(number: c_long) -> bool {
    const NOTHING: c_long = -1;
    // SAFETY: for every number in the list -1 is a bad descriptor, a bad address or a bad length, for which the call is refused.
    let result = unsafe { libc::syscall(number, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING) };
    let errno = std::io::Error::last_os_error().raw_os_error();
    result < 0 && matches!(errno, Some(libc::EPERM | libc::ENOSYS))
}

/// The system call behind a call, of those that -1 for each argument does no harm with.
fn number_of(call: &Call) -> Option<c_long> {
    let number = match call {
        // Filters that look at the rights asked for are common.
        Call::Mmap { args, .. } if args.prot.has(EXEC) => return None,
        Call::Mprotect { prot, .. } if prot.has(EXEC) => return None,
        Call::Mmap { .. } => libc::SYS_mmap,
        Call::Mprotect { .. } => libc::SYS_mprotect,
        Call::Munmap { .. } => libc::SYS_munmap,
        Call::Mremap { .. } => libc::SYS_mremap,
        Call::Msync { .. } => libc::SYS_msync,
        Call::Mincore { .. } => libc::SYS_mincore,
        Call::Open { .. } | Call::OpenPath { .. } => libc::SYS_openat,
        Call::Close { .. } => libc::SYS_close,
        Call::Dup { .. } => libc::SYS_dup,
        Call::Dup2 { .. } => libc::SYS_dup3,
        Call::Lseek { .. } => libc::SYS_lseek,
        Call::Read { .. } => libc::SYS_read,
        Call::Write { .. } => libc::SYS_write,
        Call::Pread { .. } => libc::SYS_pread64,
        Call::Pwrite { .. } => libc::SYS_pwrite64,
        Call::Ftruncate { .. } => libc::SYS_ftruncate,
        Call::Fstat { .. } => libc::SYS_fstat,
        Call::Fcntl { .. } => libc::SYS_fcntl,
        Call::Mkfifo { .. } => libc::SYS_mknodat,
        Call::Unlink { .. } => libc::SYS_unlinkat,
        Call::Pipe { .. } => libc::SYS_pipe2,
        _ => return None,
    };
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_filter_the_arguments_are_what_is_refused() {
        let numbers = [libc::SYS_mmap, libc::SYS_mremap, libc::SYS_openat, libc::SYS_write, libc::SYS_pipe2];
        assert_eq!(numbers.map(is_refused), [false; 5]);
    }
}
