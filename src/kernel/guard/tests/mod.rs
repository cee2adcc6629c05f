//! What guarded accesses promise, put to memory of every kind.

mod deaths;
mod execution;
mod faults;
mod values;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::io;
use std::ptr;

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, SIGBUS, SIGSEGV, c_int};

use super::{FAST, Fault};

// asm-generic/siginfo.h.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRERR: i32 = 2;

const READ_WRITE: c_int = PROT_READ | PROT_WRITE;

/// How often to repeat what is cheap unless each access forks a child.
const fn times(count: usize) -> usize {
    if FAST { count } else { count.div_ceil(50) }
}

fn page() -> usize {
    // SAFETY: sysconf only looks the value up.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("a page size")
}

/// Whether this is a program for another machine than the kernel's, run by qemu-user.
fn emulated() -> bool {
    let native = match std::env::consts::ARCH {
        "powerpc64" => "ppc64le",
        name => name,
    };
    // Since Linux 6.1; /proc is not translated there.
    std::fs::read_to_string("/proc/sys/kernel/arch").is_ok_and(|arch| arch.trim() != native)
}

/// s390x tells the page of the address only. What else is let pass are mistakes of qemu-user 7.2:
/// on POWER every SIGSEGV is SEGV_MAPERR, and has no address when code was fetched; on s390x the
/// address of a SIGBUS is displaced by half a word.
#[track_caller]
fn assert_fault(fault: Fault, signal: c_int, code: i32, addr: usize) {
    let emulated = |machine| emulated() && std::env::consts::ARCH == machine;
    let code_right = fault.code == code || fault.code == SEGV_MAPERR && signal == SIGSEGV && emulated("powerpc64");
    assert!(fault.signal == signal && code_right, "{fault:x?}, not signal {signal} with code {code}");
    let grain = if cfg!(target_arch = "s390x") { page() } else { 1 };
    let addr_right = fault.addr / grain == addr / grain
        || fault.addr == 0 && emulated("powerpc64")
        || signal == SIGBUS && emulated("s390x");
    assert!(addr_right, "{fault:x?}, not at {addr:x}");
}

#[track_caller]
fn assert_refused(fault: Fault, addr: usize) {
    assert_fault(fault, SIGSEGV, SEGV_ACCERR, addr);
}

/// A mapping, unmapped when dropped.
struct Mapping {
    addr: usize,
    len: usize,
}

impl Mapping {
    fn anonymous(pages: usize, protection: c_int) -> Self {
        Self::new(pages, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    }

    /// A shared mapping of a new file of `bytes` bytes.
    fn file(bytes: usize, pages: usize, protection: c_int) -> Self {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::memfd_create(c"guard".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(file >= 0, "memfd_create: {}", io::Error::last_os_error());
        // SAFETY: ftruncate takes any descriptor and length.
        assert_eq!(unsafe { libc::ftruncate(file, bytes as libc::off_t) }, 0);
        let mapping = Self::new(pages, protection, MAP_SHARED, file);
        // SAFETY: the descriptor is ours.
        unsafe { libc::close(file) };
        mapping
    }

    fn new(pages: usize, protection: c_int, flags: c_int, file: c_int) -> Self {
        let len = pages * page();
        // SAFETY: without an address mmap takes free ones.
        let addr = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, file, 0) };
        assert_ne!(addr, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Self { addr: addr as usize, len }
    }

    fn page(&self, index: usize) -> usize {
        self.addr + index * page()
    }

    fn protect(&self, index: usize, protection: c_int) {
        // SAFETY: the pages belong to this mapping, and no reference points there.
        let result = unsafe { libc::mprotect(self.page(index) as *mut _, page(), protection) };
        assert_eq!(result, 0, "mprotect: {}", io::Error::last_os_error());
    }

    /// Leaves a hole, which only a process of one thread can rely on.
    fn unmap(&self, index: usize) {
        // SAFETY: the pages belong to this mapping, and no reference points there.
        let result = unsafe { libc::munmap(self.page(index) as *mut _, page()) };
        assert_eq!(result, 0, "munmap: {}", io::Error::last_os_error());
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages belong to this mapping, and no reference points there.
        unsafe { libc::munmap(self.addr as *mut _, self.len) };
    }
}

/// Wait status of a forked child that ran `body`: exit status 0 if it was true.
fn in_child(body: impl FnOnce() -> bool) -> c_int {
    // SAFETY: the bodies keep to system calls and guarded access.
    match unsafe { libc::fork() } {
        0 => {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the limit outlives the call; without it each death leaves a core file.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
            let status = c_int::from(!body());
            // SAFETY: it ends the child without running what belongs to the parent.
            unsafe { libc::_exit(status) }
        }
        child => wait(child),
    }
}

fn wait(child: libc::pid_t) -> c_int {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    status
}

#[track_caller]
fn assert_exited_well(status: c_int) {
    assert_eq!(status, 0, "wait status {status:#x}");
}
