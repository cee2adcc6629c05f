//! Processes: made, looked at, and ended.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, waitpid};

use super::channel::Channel;
use super::outcome::Outcome;

/// A process identifier.
pub type ProcessId = i32;

/// Which side of a fork the caller is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the parent; the child's process identifier.
    Parent(ProcessId),
    /// In the child.
    Child,
}

/// fork(2).
///
/// # Errors
/// EAGAIN at a limit of processes, ENOMEM, ENOSYS.
pub fn fork() -> io::Result<Side> {
    // SAFETY: the one caller with threads, `spawn`, has its child make system calls alone; after all others the child may go on with all.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// A child of the caller's parent (clone(2), CLONE_PARENT): a sibling, which shares no memory with that parent if the caller does not.
///
/// # Errors
/// Those of [`fork`].
pub fn fork_sibling() -> io::Result<Side> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and a new stack this is fork in all but the parent; only what fork's child may do is done.
    let result = unsafe {
        #[cfg(target_arch = "s390x")]
        let result = libc::syscall(libc::SYS_clone, 0, flags, 0, 0, 0);
        #[cfg(not(target_arch = "s390x"))]
        let result = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        result
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as ProcessId)),
    }
}

/// Ends the process at once, with no clean-up of its own (_exit(2)).
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit does not return and runs no code of the process.
    unsafe { libc::_exit(status) }
}

/// Asks to be killed when the parent ends (prctl(2), PR_SET_PDEATHSIG), and is, if `parent` has already gone.
pub fn die_with(parent: ProcessId) {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if parent_id() != parent && parent != 0 {
        exit(1);
    }
}

/// The caller's own process identifier.
pub fn own_id() -> ProcessId {
    rustix::process::getpid().as_raw_pid()
}

/// The process identifier of the caller's parent; 0 if that lies outside of its PID namespace.
pub fn parent_id() -> ProcessId {
    rustix::process::getppid().map_or(0, Pid::as_raw_pid)
}

/// Makes orphaned descendants the caller's children (prctl(2), PR_SET_CHILD_SUBREAPER); nothing where the kernel has no such thing.
pub fn adopt_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Moves the caller into a process group of its own, so that it can be ended with all that it starts.
pub fn own_group() {
    let _ = rustix::process::setpgid(None, None);
}

/// The process group of the caller.
pub fn group() -> ProcessId {
    rustix::process::getpgrp().as_raw_nonzero().get()
}

/// kill(2) with SIGKILL; nothing if the process has gone.
pub fn kill(pid: ProcessId) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// SIGKILL for a whole process group.
pub fn kill_group(leader: ProcessId) {
    if let Some(pid) = Pid::from_raw(leader) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

/// How a child ended: [`Outcome::Died`] or [`Outcome::Exited`]; `None` while it has not, or when it is no child of the caller.
pub fn ended(pid: ProcessId, wait: bool) -> Option<Outcome> {
    let options = if wait { WaitOptions::empty() } else { WaitOptions::NOHANG };
    loop {
        match waitpid(Pid::from_raw(pid), options) {
            Ok(Some((_, status))) => return Some(outcome_of(status)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return None,
        }
    }
}

/// How a child ended, if it does within `limit` (pidfd_open(2)); where the kernel has no such thing, it is waited for.
pub fn ended_within(pid: ProcessId, limit: Duration) -> Option<Outcome> {
    let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(handle) = &handle {
        let limit = Timespec::try_from(limit).ok()?;
        let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&limit));
    }
    ended(pid, handle.is_none())
}

fn outcome_of(status: WaitStatus) -> Outcome {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => Outcome::Died(signal),
        (None, Some(code)) => Outcome::Exited(code),
        (None, None) => Outcome::Silent,
    }
}

/// What a process is doing, as proc(5) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or waits for a processor.
    Running,
    /// It sleeps in a system call, and a signal would wake it.
    Sleeping,
    /// It waits inside the kernel for something that a signal does not interrupt.
    Waiting,
    /// It has ended.
    Ended,
    /// There is no /proc, or it does not say.
    Unknown,
}

/// The state of a process (proc(5), /proc/PID/stat).
pub fn state(pid: ProcessId) -> State {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return if std::path::Path::new("/proc/self/stat").exists() { State::Ended } else { State::Unknown };
    };
    match text.rfind(')').and_then(|end| text[end..].split_ascii_whitespace().nth(1)) {
        Some("R") => State::Running,
        Some("S") => State::Sleeping,
        Some("D" | "T" | "t" | "I") => State::Waiting,
        Some("Z" | "X" | "x") => State::Ended,
        _ => State::Unknown,
    }
}

/// What the processes of a group are doing together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Whether one runs, waits for a processor, or waits inside the kernel: what may only be slow, not stuck.
    pub busy: bool,
    /// The processor time that they and the children they have waited for have used.
    pub used: Duration,
    /// Moves whenever one of them gets or gives up a processor.
    pub switches: u64,
}

/// What the processes of a group are doing (proc(5)), all but `except`; `None` where there is no /proc.
///
/// It looks at every process of the system: for the rare moment in which something seems to be stuck.
pub fn activity(group: ProcessId, except: ProcessId) -> Option<Activity> {
    const GROUP: usize = 2;
    const TIMES: std::ops::RangeInclusive<usize> = 11..=14;
    let mut all = Activity::default();
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<ProcessId>().ok()) else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some(end) = text.rfind(')') else { continue };
        let fields: Vec<&str> = text[end + 1..].split_ascii_whitespace().collect();
        if pid == except || fields.get(GROUP).and_then(|field| field.parse().ok()) != Some(group) {
            continue;
        }
        all.busy |= matches!(fields[0], "R" | "D" | "T" | "t");
        ticks += fields[TIMES].iter().filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        all.switches += switches(pid).unwrap_or(0);
    }
    all.used = Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(1);
    (all.switches != 0).then_some(all)
}

/// The processor time that the caller has used (clock_gettime(2), CLOCK_PROCESS_CPUTIME_ID); 0 where it is not told.
pub fn processor_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec of the caller. The library's function makes do with whatever the vDSO has; rustix's asserts that it has all.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A number that moves whenever the process gets or gives up a processor (proc(5), /proc/PID/status), to see that it has stood still.
pub fn switches(pid: ProcessId) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let count = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').trim().parse::<u64>().ok()
    };
    Some(count("voluntary_ctxt_switches")? + count("nonvoluntary_ctxt_switches")?)
}

/// Whether the process is a child of the caller that has not been waited for.
pub fn is_child(pid: ProcessId) -> bool {
    let options = rustix::process::WaitIdOptions::EXITED
        | rustix::process::WaitIdOptions::NOHANG
        | rustix::process::WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).is_ok())
}

/// Moves the caller into a session of its own, out of reach of the terminal's signals.
pub fn own_session() {
    // SAFETY: setsid takes nothing. That of rustix does not expect 0, which gVisor of 2022 answers.
    unsafe { libc::setsid() };
}

/// Starts this program anew as `arguments` say, to end with the caller, with the descriptors `keep` left open and all others closed on exec.
///
/// # Errors
/// Those of [`fork`]; a program that cannot be executed exits with 127.
pub fn start(arguments: &[String], keep: &[BorrowedFd<'_>]) -> io::Result<ProcessId> {
    spawn(arguments, keep, true)
}

/// As [`start`], but it may outlive the caller.
///
/// # Errors
/// Those of [`fork`].
pub fn start_unbound(arguments: &[String], keep: &[BorrowedFd<'_>]) -> io::Result<ProcessId> {
    spawn(arguments, keep, false)
}

/// Executes this program anew in the calling process, with an actor's channel left open. Returns only if that fails: what execve(2) says.
pub fn go_on(channel: &Channel) -> io::Error {
    for descriptor in channel.descriptors() {
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty());
    }
    let (from, to) = channel.numbers();
    let program = super::environment::program().into_os_string().into_encoded_bytes();
    let words = [program, b"actor".to_vec(), from.to_string().into_bytes(), to.to_string().into_bytes()];
    let words: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: the list ends with a null pointer, and its strings live until exec or its failure.
    unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
    io::Error::last_os_error()
}

fn spawn(arguments: &[String], keep: &[BorrowedFd<'_>], bound: bool) -> io::Result<ProcessId> {
    let program = CString::new(super::environment::program().into_os_string().into_encoded_bytes())?;
    let mut list = vec![program.clone()];
    for argument in arguments {
        list.push(CString::new(argument.as_str())?);
    }
    let mut pointers: Vec<_> = list.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let numbers: Vec<i32> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = own_id();
    match fork()? {
        Side::Parent(pid) => Ok(pid),
        Side::Child => {
            // Whatever a case has open meanwhile would live on in the program.
            leave_open(&numbers);
            // Standard output is the report's: what an emulator below says when it breaks is none of it.
            // SAFETY: dup2 of descriptor numbers touches no memory.
            unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) };
            if bound {
                die_with(parent);
            }
            // SAFETY: the program's path and the list of arguments are NUL-terminated and live until exec or exit.
            unsafe { libc::execv(program.as_ptr(), pointers.as_ptr()) };
            exit(127)
        }
    }
}

/// Closes every descriptor on exec but the three standard ones and these (close_range(2); one by one before Linux 5.11).
fn leave_open(numbers: &[i32]) {
    const MANY: i32 = 1024;
    let set = |number: i32, flags: i32| {
        // SAFETY: fcntl of a descriptor number touches no memory.
        unsafe { libc::fcntl(number, libc::F_SETFD, flags) }
    };
    // SAFETY: close_range of descriptor numbers touches no memory.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done != 0 {
        for number in 3..MANY {
            set(number, libc::FD_CLOEXEC);
        }
    }
    for number in numbers {
        set(*number, 0);
    }
}
