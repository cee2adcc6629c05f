//! Signals, limits, privileges, and what a process can learn of itself and others.
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, kill_process};

use super::{Performer, done, errno};
use crate::kernel::call::{At, Call, Disposition, Fd};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::{confine, environment};

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// An unprivileged user and group that own nothing (nobody, by convention).
const NOBODY: libc::uid_t = 65534;

impl Performer {
    pub(super) fn others(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Kill { actor, signal } => {
                let process = Pid::from_raw(self.process(*actor));
                // SAFETY: the number names a signal; which one is for the kernel to check.
                match (process, unsafe { rustix::process::Signal::from_raw_unchecked(*signal) }) {
                    (Some(process), signal) => done(kill_process(process, signal)),
                    (None, _) => Outcome::Refused(libc::ESRCH),
                }
            }
            Call::Signal { signal, disposition } => self::signal(*signal, *disposition),
            Call::SignalCount => Outcome::Value(HANDLED.load(Ordering::Relaxed)),
            Call::Limit { resource, soft } => limit(*resource, *soft),
            Call::DropPrivileges => drop_privileges(),
            Call::PageFaults => Outcome::Value(page_faults()),
            Call::Smaps { at, key } => smaps(self.address(*at), key),
            Call::Status { key } => status(key),
            Call::Tmpfs { options, noexec } => own_tmpfs(options, *noexec),
            Call::Confine(confinement) => confine::confine(*confinement),
            Call::ReadOther { actor, at, len } => self.read_other(self.process(*actor), *at, *len),
            Call::Fork { .. }
            | Call::Peer { .. }
            | Call::Exit { .. }
            | Call::Wait { .. }
            | Call::Exec { .. }
            | Call::ExecSelf => {
                unreachable!("{call} is more than one answer, and is for the actor to perform")
            }
            other => unreachable!("{other} is no call of this kind"),
        }
    }

    /// Goes on as another program (execve(2)): this one in the form of a tool, with descriptors under the numbers given.
    ///
    /// Returns only if that fails.
    pub fn exec(&mut self, tool: &[String], keep: &[(Fd, i32)]) -> Outcome {
        for (fd, number) in keep {
            // SAFETY: the numbers that are taken are those of the standard streams.
            if unsafe { libc::dup2(self.number(*fd), *number) } < 0 {
                return errno();
            }
        }
        let program = environment::program().into_os_string().into_encoded_bytes();
        let words = std::iter::once(program)
            .chain(std::iter::once(b"tool".to_vec()))
            .chain(tool.iter().map(|word| word.clone().into_bytes()));
        let words: Vec<CString> = words.filter_map(|word| CString::new(word).ok()).collect();
        let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: the list ends with a null pointer, and its strings live until exec.
        unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
        errno()
    }

    fn read_other(&self, process: i32, at: At, len: usize) -> Outcome {
        let mut bytes = vec![0; len];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
        let remote = libc::iovec { iov_base: self.address(at) as *mut libc::c_void, iov_len: len };
        // SAFETY: the kernel writes at most `len` bytes into the list, which holds as many.
        match unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) } {
            -1 => errno(),
            count => {
                bytes.truncate(count as usize);
                Outcome::Bytes(bytes)
            }
        }
    }
}

fn signal(signal: i32, disposition: Disposition) -> Outcome {
    HANDLED.store(0, Ordering::Relaxed);
    let handler = match disposition {
        Disposition::Ignore => libc::SIG_IGN,
        Disposition::Handle => count as extern "C" fn(libc::c_int) as usize,
        Disposition::Default | Disposition::Block => libc::SIG_DFL,
    };
    // SAFETY: both structures are plain data for which zeros are a value; the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, signal);
        let how = if disposition == Disposition::Block { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
        if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0
            || libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) != 0
        {
            return errno();
        }
    }
    Outcome::DONE
}

fn limit(resource: u32, soft: u64) -> Outcome {
    // SAFETY: the kernel reads and writes one struct rlimit, which lives on the stack.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(resource as _, &raw mut limit) != 0 {
            return errno();
        }
        limit.rlim_cur = (soft as libc::rlim_t).min(limit.rlim_max);
        if libc::setrlimit(resource as _, &raw const limit) != 0 {
            return errno();
        }
        Outcome::Value(limit.rlim_cur as u64)
    }
}

/// Gives up user, group and capabilities; [`Lack::Unprivileged`] where that cannot be done.
fn drop_privileges() -> Outcome {
    // SAFETY: these calls take numbers; capset reads a header and two empty sets that live on the stack.
    unsafe {
        if libc::geteuid() == 0 {
            libc::syscall(libc::SYS_setgroups, 0, 0);
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY);
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY);
        }
        const VERSION_3: u32 = 0x2008_0522;
        let header = [VERSION_3, 0];
        let none = [0_u32; 6];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) != 0 {
            return Outcome::Lacking(Lack::Unprivileged);
        }
    }
    // A change of user clears the dumpable flag, and with it the view that a parent has of the child in /proc.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable);
    Outcome::DONE
}

pub(super) fn page_faults() -> u64 {
    // SAFETY: the kernel writes one struct rusage, for which zeros are a value.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    (usage.ru_minflt + usage.ru_majflt) as u64
}

/// The value of a line of the mapping that holds the address: bytes of the text behind the colon.
fn smaps(address: usize, key: &str) -> Outcome {
    let Ok(text) = std::fs::read_to_string("/proc/self/smaps") else {
        return Outcome::Lacking(Lack::Proc);
    };
    let mut inside = false;
    for line in text.lines() {
        let head = line.split_ascii_whitespace().next().unwrap_or("");
        if let Some((start, end)) = head.split_once('-')
            && let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        {
            inside = (start..end).contains(&address);
            if inside && key == "range" {
                return Outcome::Bytes(line.as_bytes().to_vec());
            }
        } else if inside && head.strip_suffix(':') == Some(key) {
            let value = line.split_once(':').map_or("", |(_, value)| value.trim());
            return Outcome::Bytes(value.as_bytes().to_vec());
        }
    }
    if inside || !text.is_empty() {
        return Outcome::Refused(libc::ENOENT);
    }
    Outcome::Lacking(Lack::Proc)
}

/// What stands behind a key in /proc/self/status.
fn status(key: &str) -> Outcome {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else {
        return Outcome::Lacking(Lack::Proc);
    };
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map_or(Outcome::Refused(libc::ENOENT), |value| Outcome::Bytes(value.trim().as_bytes().to_vec()))
}

/// Covers the current directory with a tmpfs that no other process sees; [`Lack::Privilege`] where that cannot be done.
fn own_tmpfs(options: &str, noexec: bool) -> Outcome {
    let lacking = Outcome::Lacking(Lack::Privilege);
    let (Ok(directory), Ok(options)) = (std::env::current_dir(), CString::new(options)) else { return lacking };
    // SAFETY: both calls take numbers.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: unshare changes what the calling process sees of the system, and none of its memory.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        // SAFETY: as above.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
            return lacking;
        }
        // Without a name in the new user namespace no file could be made (user_namespaces(7)).
        let _ = std::fs::write("/proc/self/setgroups", "deny");
        let _ = std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"));
        if std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).is_err() {
            return lacking;
        }
    }
    let flags = libc::MS_NOSUID | libc::MS_NODEV | if noexec { libc::MS_NOEXEC } else { 0 };
    // SAFETY: the strings are NUL-terminated and live until the calls return.
    let mounted = unsafe {
        let none = std::ptr::null();
        libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
            && libc::mount(c"tmpfs".as_ptr(), c".".as_ptr(), c"tmpfs".as_ptr(), flags, options.as_ptr().cast()) == 0
    };
    if mounted && std::env::set_current_dir(directory).is_ok() { Outcome::DONE } else { lacking }
}
