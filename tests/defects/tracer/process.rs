//! What is remembered about each traced process.

use std::fs;

use crate::tracer::engine::Pid;

/// What part a process plays in the suite that is being tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The runner, or a program of no interest: defects leave it alone.
    Bystander,
    /// Executed with `worker` as its first argument, or forked from such a process.
    Worker,
    /// Executed with `peer` as its first argument, or forked from such a process.
    Peer,
    /// Executed by an actor with `tool` or `actor` as its first argument: a member of a pipeline, or itself again.
    Other,
}

/// A traced process; threads share one.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub id: Pid,
    /// Its parent's id.
    pub parent: Pid,
    /// Its part in the suite.
    pub role: Role,
    /// Forks since the last exec: 0 for a worker, 1 for its children.
    pub generation: u32,
    /// Its number among its parent's forked children, from 1; 0 for the program itself.
    pub ordinal: u32,
    /// Forked children it has had since its exec.
    pub children: u32,
    /// The loader and the program's own preparations are over; its forked children have none to make.
    pub settled: bool,
    /// Address of a system call instruction, once found.
    pub instruction: Option<u64>,
}

impl Process {
    /// A process that has not been seen to execute anything yet.
    pub fn new(id: Pid) -> Process {
        Process {
            id,
            parent: 0,
            role: Role::Bystander,
            generation: 0,
            ordinal: 0,
            children: 0,
            settled: false,
            instruction: None,
        }
    }

    /// The process that `self` has just forked.
    pub fn fork(&mut self, id: Pid) -> Process {
        self.children += 1;
        Process {
            id,
            parent: self.id,
            generation: self.generation + 1,
            ordinal: self.children,
            children: 0,
            settled: self.under_test(),
            ..self.clone()
        }
    }

    /// Takes note that the process has executed a program, and which part that plays.
    pub fn execute(&mut self) {
        let command = fs::read(format!("/proc/{}/cmdline", self.id)).unwrap_or_default();
        let role = match command.split(|byte| *byte == 0).nth(1) {
            Some(b"worker") => Role::Worker,
            Some(b"peer") => Role::Peer,
            Some(b"tool" | b"actor") => Role::Other,
            _ => Role::Bystander,
        };
        *self = Process { parent: self.parent, role, ..Process::new(self.id) };
    }

    /// Defects apply to it.
    pub fn under_test(&self) -> bool {
        self.role != Role::Bystander
    }
}

/// What a process does with signals, as proc(5) tells it: one bit for each, the lowest for signal 1.
#[derive(Clone, Copy, Debug)]
pub struct Dispositions {
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Dispositions {
    /// Those of a process's first thread.
    pub fn of(process: Pid) -> Option<Dispositions> {
        let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let mask = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(Dispositions { blocked: mask("SigBlk:")?, ignored: mask("SigIgn:")?, caught: mask("SigCgt:")? })
    }

    /// There is a handler for this signal.
    pub fn catches(&self, signal: i32) -> bool {
        self.caught & bit(signal) != 0
    }

    /// This signal has no effect at all, not even that of waking the process.
    pub fn drops(&self, signal: i32) -> bool {
        const BY_DEFAULT: [i32; 3] = [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH];
        let default = BY_DEFAULT.contains(&signal) && !self.catches(signal);
        self.blocked & bit(signal) == 0 && (self.ignored & bit(signal) != 0 || default)
    }
}

fn bit(signal: i32) -> u64 {
    1_u64.checked_shl(signal as u32 - 1).unwrap_or(0)
}
