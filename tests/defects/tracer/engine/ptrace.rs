//! The ptrace requests that the engine makes, each as a safe function over a task's id.
//!
//! Every one of them answers ESRCH when the task has been killed meanwhile; that is ordinary, and its
//! death is reported by `wait` afterwards.
#![expect(unsafe_code, reason = "ptrace, waitpid and kill have no safe form in libc")]

use std::ffi::{c_int, c_long, c_void};
use std::io;

/// A process or thread id.
pub type Pid = libc::pid_t;

/// What `PTRACE_GET_SYSCALL_INFO` says about a stopped task (`struct ptrace_syscall_info`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SyscallInfo {
    op: u8,
    pad: [u8; 3],
    /// AUDIT_ARCH_* of the call.
    pub arch: u32,
    /// Address of the instruction after the system call's.
    pub instruction_pointer: u64,
    /// The task's stack pointer.
    pub stack_pointer: u64,
    words: [u64; 8],
}

/// Where in a system call a task has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Not in a system call.
    None,
    /// Before it, stopped because the task was resumed up to the next system call.
    Entry,
    /// After it.
    Exit,
    /// Before it, stopped by the seccomp filter.
    Filter,
}

impl SyscallInfo {
    /// Where in the call the task is.
    pub fn stage(&self) -> Stage {
        match self.op {
            1 => Stage::Entry,
            2 => Stage::Exit,
            3 => Stage::Filter,
            _ => Stage::None,
        }
    }

    /// The call's number; before the call only.
    pub fn number(&self) -> c_long {
        self.words[0] as c_long
    }

    /// The call's six arguments; before the call only.
    pub fn arguments(&self) -> [u64; 6] {
        let [_, a, b, c, d, e, f, _] = self.words;
        [a, b, c, d, e, f]
    }

    /// The call's result, or a negative errno; after the call only.
    pub fn result(&self) -> i64 {
        self.words[0] as i64
    }
}

/// A signal about to be delivered: the head of the kernel's `siginfo_t`, as faults fill it in.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SignalInfo {
    /// The signal's number.
    pub signal: i32,
    errno: i32,
    /// `si_code`.
    pub code: i32,
    pad: i32,
    /// `si_addr` of a fault.
    pub address: u64,
    rest: [u64; 13],
}

/// How `wait` found a task.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// It has ended; the raw wait status.
    Ended(c_int),
    /// It stopped with this signal and, in the upper bits, this ptrace event.
    Stopped {
        /// The stopping signal, with bit 7 set for a system call.
        signal: c_int,
        /// PTRACE_EVENT_*, or 0.
        event: c_int,
    },
}

/// Which of a task's registers hold the system call, and everything else a stop lets us change.
pub fn registers(task: Pid) -> io::Result<libc::user_regs_struct> {
    // SAFETY: all-zero bytes are a value of this plain structure of integers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    regset(libc::PTRACE_GETREGSET, task, NT_PRSTATUS, &mut registers)?;
    Ok(registers)
}

/// Sets the registers that [`registers`] returned.
pub fn set_registers(task: Pid, registers: &libc::user_regs_struct) -> io::Result<()> {
    let mut copy = *registers;
    regset(libc::PTRACE_SETREGSET, task, NT_PRSTATUS, &mut copy)
}

/// Sets the number of the call that the task is about to make, where it is no general register.
#[cfg(target_arch = "aarch64")]
pub fn set_call_number(task: Pid, mut number: c_int) -> io::Result<()> {
    const NT_ARM_SYSTEM_CALL: usize = 0x404;
    regset(libc::PTRACE_SETREGSET, task, NT_ARM_SYSTEM_CALL, &mut number)
}

const NT_PRSTATUS: usize = 1;

fn regset<T>(request: Request, task: Pid, kind: usize, value: &mut T) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: std::ptr::from_mut(value).cast(), iov_len: size_of::<T>() };
    // SAFETY: the vector describes `value`, which outlives the request.
    unsafe { request4(request, task, kind as *mut c_void, (&raw mut vector).cast()) }
}

/// Asks about the system call at which the task has stopped.
pub fn syscall_info(task: Pid) -> io::Result<SyscallInfo> {
    const PTRACE_GET_SYSCALL_INFO: Request = 0x420e;
    let mut info = SyscallInfo::default();
    let size = size_of::<SyscallInfo>() as *mut c_void;
    // SAFETY: the kernel writes at most `size` bytes, which is the size of `info`.
    unsafe { request4(PTRACE_GET_SYSCALL_INFO, task, size, (&raw mut info).cast())? };
    Ok(info)
}

/// The signal whose delivery the task has stopped before.
pub fn signal_info(task: Pid) -> io::Result<SignalInfo> {
    let mut info = SignalInfo { signal: 0, errno: 0, code: 0, pad: 0, address: 0, rest: [0; 13] };
    // SAFETY: `SignalInfo` has the 128 bytes that the kernel writes.
    unsafe { request4(libc::PTRACE_GETSIGINFO, task, NULL, (&raw mut info).cast())? };
    Ok(info)
}

/// Replaces what [`signal_info`] returned; resume the task with the same signal number.
pub fn set_signal_info(task: Pid, info: &SignalInfo) -> io::Result<()> {
    let mut copy = *info;
    // SAFETY: `SignalInfo` has the 128 bytes that the kernel reads.
    unsafe { request4(libc::PTRACE_SETSIGINFO, task, NULL, (&raw mut copy).cast()) }
}

/// The task's blocked signals, as the kernel's 64 bits.
pub fn signal_mask(task: Pid) -> io::Result<u64> {
    const PTRACE_GETSIGMASK: Request = 0x420a;
    let mut mask = 0_u64;
    let size = size_of::<u64>() as *mut c_void;
    // SAFETY: the kernel writes eight bytes, the size of `mask`.
    unsafe { request4(PTRACE_GETSIGMASK, task, size, (&raw mut mask).cast())? };
    Ok(mask)
}

/// Sets the task's blocked signals.
pub fn set_signal_mask(task: Pid, mut mask: u64) -> io::Result<()> {
    const PTRACE_SETSIGMASK: Request = 0x420b;
    let size = size_of::<u64>() as *mut c_void;
    // SAFETY: the kernel reads eight bytes, the size of `mask`.
    unsafe { request4(PTRACE_SETSIGMASK, task, size, (&raw mut mask).cast()) }
}

/// The number that came with a ptrace event: the new child's id, or the former id of an exec.
pub fn event_message(task: Pid) -> io::Result<Pid> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long, the type of `message`.
    unsafe {
        request4(libc::PTRACE_GETEVENTMSG, task, NULL, (&raw mut message).cast())?;
    };
    Ok(message as Pid)
}

/// Takes hold of a task that nobody traces, with these PTRACE_O_* options.
pub fn seize(task: Pid, options: c_int) -> io::Result<()> {
    // SAFETY: the request reads no memory of ours.
    unsafe { request4(libc::PTRACE_SEIZE, task, NULL, options as usize as *mut c_void) }
}

/// Lets the task run on, delivering `signal` if that is not 0.
pub fn resume(task: Pid, signal: c_int) -> io::Result<()> {
    plain(libc::PTRACE_CONT, task, signal)
}

/// Lets the task run up to the next beginning or end of a system call.
pub fn resume_to_syscall(task: Pid, signal: c_int) -> io::Result<()> {
    plain(libc::PTRACE_SYSCALL, task, signal)
}

/// Leaves the task in its group stop, to be woken by SIGCONT.
pub fn listen(task: Pid) -> io::Result<()> {
    plain(libc::PTRACE_LISTEN, task, 0)
}

fn plain(request: Request, task: Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: these requests read no memory of ours.
    unsafe { request4(request, task, NULL, signal as usize as *mut c_void) }
}

/// Waits for a change in one task of this thread, or, for -1, in any.
///
/// `None` when there is nothing to wait for or, with `now`, nothing to report.
pub fn wait(task: Pid, now: bool) -> Option<(Pid, Change)> {
    // Only this thread's tasks: other threads of a test program have children of their own.
    let mut flags = libc::__WALL | libc::__WNOTHREAD;
    if now {
        flags |= libc::WNOHANG;
    }
    let mut status = 0;
    loop {
        // SAFETY: waitpid writes one int, the type of `status`.
        let found = unsafe { libc::waitpid(task, &raw mut status, flags) };
        if found > 0 {
            let change = if libc::WIFSTOPPED(status) {
                Change::Stopped { signal: libc::WSTOPSIG(status), event: status >> 16 }
            } else {
                Change::Ended(status)
            };
            return Some((found, change));
        }
        let interrupted = io::Error::last_os_error().raw_os_error() == Some(libc::EINTR);
        if found == 0 || !interrupted {
            return None;
        }
    }
}

/// Sends a signal to a process.
pub fn kill(process: Pid, signal: c_int) {
    // SAFETY: kill touches no memory; a process that is gone is no error here.
    unsafe { libc::kill(process, signal) };
}

#[cfg(target_env = "musl")]
type Request = c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

const NULL: *mut c_void = std::ptr::null_mut();

/// # Safety
///
/// `data` has to be what ptrace(2) asks for with `request`.
unsafe fn request4(request: Request, task: Pid, address: *mut c_void, data: *mut c_void) -> io::Result<()> {
    // SAFETY: the caller vouches for the arguments.
    if unsafe { libc::ptrace(request, task, address, data) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
