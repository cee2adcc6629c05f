//! Starts the program under test: stopped until the engine holds it, and with a seccomp filter that
//! stops it, and all that it starts, at the defect's own system calls only.
#![expect(unsafe_code, reason = "fork, seccomp and exec have no safe form in libc")]

use std::ffi::{CString, OsString, c_int, c_long};
use std::fs::File;
use std::io::{self, Write, pipe};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::ptrace::{self, Pid};
use super::registers::AUDIT_ARCH;

/// Exit status of a program that has not become itself: seccomp was refused, or exec.
pub const NOT_STARTED: c_int = 127;

/// A program to be run under a defect.
pub struct Program {
    /// Its file; not searched for in PATH.
    pub path: PathBuf,
    /// Its arguments, without the program's own name.
    pub arguments: Vec<OsString>,
    /// Added to the environment that it inherits.
    pub environment: Vec<(OsString, OsString)>,
    /// Where standard output and standard error go, if not to ours.
    pub output: Option<File>,
}

impl Program {
    /// A program with its arguments, writing where we write.
    pub fn new(path: impl Into<PathBuf>, arguments: &[&str]) -> Program {
        Program {
            path: path.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            output: None,
        }
    }

    fn argv(&self) -> io::Result<Vec<CString>> {
        std::iter::once(self.path.as_os_str())
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .map(|argument| Ok(CString::new(argument.as_bytes())?))
            .collect()
    }

    fn envp(&self) -> io::Result<Vec<CString>> {
        let added = |name: &OsString| self.environment.iter().any(|(other, _)| other == name);
        std::env::vars_os()
            .filter(|(name, _)| !added(name))
            .chain(self.environment.iter().cloned())
            .map(|(name, value)| {
                let mut entry = name.into_vec();
                entry.push(b'=');
                entry.extend_from_slice(value.as_bytes());
                Ok(CString::new(entry)?)
            })
            .collect()
    }
}

/// Forks and executes `program`, traced by this thread with `options` (PTRACE_O_*), its filter
/// stopping at `calls`.
pub fn start(program: &Program, calls: &[c_long], options: c_int) -> io::Result<Pid> {
    let argv = program.argv()?;
    let envp = program.envp()?;
    let filter = filter(calls);
    let (gate, mut open_gate) = pipe()?;
    let image = Image {
        argv: pointers(&argv),
        envp: pointers(&envp),
        filter: libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() },
        gate: gate.as_raw_fd(),
        output: program.output.as_ref().map(AsRawFd::as_raw_fd),
    };
    // SAFETY: the child calls only functions that are safe after fork, and allocates nothing.
    let child = unsafe { libc::fork() };
    if child == 0 {
        image.become_program();
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let held = ptrace::seize(child, options).and_then(|()| open_gate.write_all(b"g"));
    if let Err(error) = held {
        ptrace::kill(child, libc::SIGKILL);
        ptrace::wait(child, false);
        return Err(error);
    }
    Ok(child)
}

/// All that the child needs, made before fork.
struct Image {
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    filter: libc::sock_fprog,
    gate: RawFd,
    output: Option<RawFd>,
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let end = std::iter::once(std::ptr::null());
    strings.iter().map(|s| s.as_ptr()).chain(end).collect()
}

impl Image {
    fn become_program(&self) -> ! {
        let mut token = 0_u8;
        // SAFETY: every pointer is to memory of this process that outlives the calls.
        unsafe {
            if libc::read(self.gate, (&raw mut token).cast(), 1) != 1 {
                libc::_exit(NOT_STARTED);
            }
            if let Some(output) = self.output {
                libc::dup2(output, 1);
                libc::dup2(output, 2);
            }
            // Rust ignores SIGPIPE; a program starts without that.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const self.filter) == 0 {
                libc::execve(self.argv[0], self.argv.as_ptr(), self.envp.as_ptr());
            }
            libc::_exit(NOT_STARTED);
        }
    }
}

/// A seccomp program: the listed calls of this architecture stop for the tracer, all else runs free.
fn filter(calls: &[c_long]) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    const NUMBER_OFFSET: u32 = 0;
    const ARCHITECTURE_OFFSET: u32 = 4;
    let step = |code: u32, k: u32, yes: usize, no: usize| libc::sock_filter {
        code: code as u16,
        jt: yes as u8,
        jf: no as u8,
        k,
    };
    assert!(calls.len() < 250, "jumps are bytes");
    let mut program = vec![
        step(LOAD, ARCHITECTURE_OFFSET, 0, 0),
        step(EQUAL, AUDIT_ARCH, 0, calls.len() + 1),
        step(LOAD, NUMBER_OFFSET, 0, 0),
    ];
    for (index, call) in calls.iter().enumerate() {
        program.push(step(EQUAL, *call as u32, calls.len() - index, 0));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    program.push(step(RETURN, libc::SECCOMP_RET_TRACE, 0, 0));
    program
}
