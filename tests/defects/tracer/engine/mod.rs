//! Runs a program, and every process that it starts, on a defective kernel.
//!
//! One thread traces all of them. A task stops at the defect's own system calls (by a seccomp filter),
//! at signals, and when a process is made; everything else runs at full speed.

mod births;
pub mod ptrace;
pub mod registers;
mod start;
mod stops;

use std::collections::HashMap;
use std::ffi::c_int;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use crate::tracer::behaviour::{Behaviour, Syscall};
use crate::tracer::process::Process;
use births::Birth;

pub use ptrace::{Change, Pid, SignalInfo, Stage};
pub use start::{NOT_STARTED, Program};

/// What a traced run came to.
#[derive(Debug)]
pub struct Report {
    /// How the program itself ended.
    pub status: ExitStatus,
    /// How often the defect has shown itself.
    pub applied: u64,
    /// Processes that outlived the program and had to be killed.
    pub survivors: usize,
    /// The program was killed because its time was up.
    pub timed_out: bool,
}

/// Runs `program` under `behaviour`, for `limit` at most.
///
/// # Errors
///
/// Whatever keeps the program from being started and traced.
pub fn run(program: &Program, behaviour: Box<dyn Behaviour>, limit: Duration) -> io::Result<Report> {
    let mut calls = behaviour.calls();
    calls.push(libc::SYS_mmap);
    calls.push(libc::SYS_kill);
    calls.sort_unstable();
    calls.dedup();
    let root = start::start(program, &calls, OPTIONS)?;
    let mut engine = Engine {
        root,
        signals: behaviour.signals(),
        behaviour,
        tasks: HashMap::new(),
        processes: HashMap::new(),
        newborn: HashMap::new(),
        announced: HashMap::new(),
        applied: 0,
    };
    engine.add_process(Process::new(root));
    let (finished, end) = mpsc::channel::<()>();
    let clock = thread::spawn(move || {
        let up = end.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
        if up {
            ptrace::kill(root, libc::SIGKILL);
        }
        up
    });
    let status = engine.trace_root();
    drop(finished);
    let timed_out = clock.join().unwrap_or(false);
    let survivors = engine.end_others();
    Ok(Report { status, applied: engine.applied, survivors, timed_out })
}

/// Calls on the address space, which the loader makes too; mmap tells when a process is settled.
pub const PLACED: [libc::c_long; 5] =
    [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_msync, libc::SYS_madvise];

const OPTIONS: c_int = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACESECCOMP
    | libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_EXITKILL;

struct Engine {
    root: Pid,
    behaviour: Box<dyn Behaviour>,
    tasks: HashMap<Pid, Task>,
    processes: HashMap<Pid, Process>,
    /// Tasks that stopped before their parent's event told of them, with the parent's id.
    newborn: HashMap<Pid, Pid>,
    /// Tasks that a parent's event told of, and that have not stopped yet.
    announced: HashMap<Pid, Birth>,
    /// The signals that the behaviour looks at.
    signals: Vec<c_int>,
    applied: u64,
}

/// A traced thread.
struct Task {
    process: Pid,
    /// The call whose end is awaited.
    watched: Option<Syscall>,
    /// The call that it has been sent back to make.
    repeated: Option<Repeated>,
}

/// A call that is made anew after others were made in its place.
struct Repeated {
    /// As the task makes it now.
    made: Syscall,
    /// As the task made it first, if its end is awaited.
    watched: Option<Syscall>,
}

/// A defect that panics leaves nothing to the next one that this thread traces.
impl Drop for Engine {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for process in self.processes.keys().chain(self.newborn.keys()) {
            ptrace::kill(*process, libc::SIGKILL);
        }
        while let Some((task, change)) = ptrace::wait(-1, false) {
            if matches!(change, Change::Stopped { .. }) {
                ptrace::kill(task, libc::SIGKILL);
            }
        }
    }
}

impl Engine {
    fn trace_root(&mut self) -> ExitStatus {
        while let Some((task, change)) = ptrace::wait(-1, false) {
            if let Some(status) = self.advance(task, change) {
                return status;
            }
        }
        ExitStatus::from_raw(libc::SIGKILL)
    }

    /// Ends what the program left behind; true orphans get a moment to end by themselves.
    fn end_others(&mut self) -> usize {
        const MOMENTS: u32 = 400;
        for _ in 0..MOMENTS {
            while let Some((task, change)) = ptrace::wait(-1, true) {
                self.advance(task, change);
            }
            if self.tasks.is_empty() && self.newborn.is_empty() {
                return 0;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let left: Vec<Pid> = self.processes.keys().copied().collect();
        for process in &left {
            ptrace::kill(*process, libc::SIGKILL);
        }
        while let Some((task, change)) = ptrace::wait(-1, false) {
            self.advance(task, change);
        }
        left.len()
    }

    /// Deals with one change; the root's status if it was its end.
    fn advance(&mut self, task: Pid, change: Change) -> Option<ExitStatus> {
        let (signal, event) = match change {
            Change::Ended(status) => {
                self.bury(task);
                return (task == self.root).then(|| ExitStatus::from_raw(status));
            }
            Change::Stopped { signal, event } => (signal, event),
        };
        // A task that has been killed meanwhile answers ESRCH; its end is reported next.
        let ended = self.stopped(task, signal, event).unwrap_or(None);
        ended.and_then(|change| self.advance(task, change))
    }

    fn stopped(&mut self, task: Pid, signal: c_int, event: c_int) -> io::Result<Option<Change>> {
        if !self.tasks.contains_key(&task) {
            return self.first_stop(task);
        }
        match event {
            0 if signal == libc::SIGTRAP | 0x80 => return self.after_call(task),
            0 => return self.before_signal(task, signal),
            libc::PTRACE_EVENT_SECCOMP => return self.before_call(task),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.gave_birth(task, event)?;
            }
            libc::PTRACE_EVENT_EXEC => self.executed(task)?,
            libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => {
                ptrace::listen(task)?;
                return Ok(None);
            }
            _ => {}
        }
        self.resume(task, 0)?;
        Ok(None)
    }

    fn resume(&self, task: Pid, signal: c_int) -> io::Result<()> {
        let watched = self.tasks.get(&task).is_some_and(|task| task.watched.is_some());
        if watched { ptrace::resume_to_syscall(task, signal) } else { ptrace::resume(task, signal) }
    }
}
