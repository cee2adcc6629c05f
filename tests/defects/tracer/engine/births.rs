//! How processes and threads come and go.
//!
//! A new task and its parent's report of it arrive in either order; whichever is first waits for the
//! other, so that a defect always knows whose child it has before it.

use std::{fs, io};

use super::{Change, Engine, Pid, Task, ptrace};
use crate::tracer::process::Process;
use crate::tracer::tracee::{Held, Return, Tracee};

/// What a parent's event says of a new task.
pub struct Birth {
    kind: Kind,
    /// The new process; for a thread, the one that it belongs to.
    process: Process,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With a copy of its parent's memory.
    Forked,
    /// A process that borrows its parent's memory, or whose parent died before it could tell.
    Other,
    Thread,
}

impl Engine {
    pub(super) fn add_process(&mut self, process: Process) {
        self.add_task(process.id, process.id);
        self.processes.insert(process.id, process);
    }

    fn add_task(&mut self, task: Pid, process: Pid) {
        let task_of = Task { process, watched: None, repeated: None };
        self.tasks.insert(task, task_of);
    }

    /// A task has reported a child.
    pub(super) fn gave_birth(&mut self, parent: Pid, event: i32) -> io::Result<()> {
        let child = ptrace::event_message(parent)?;
        let Some(process) = self.process_of(parent) else {
            return Ok(());
        };
        let thread = event == libc::PTRACE_EVENT_CLONE
            && fs::exists(format!("/proc/{}/task/{child}", process.id)).unwrap_or(false);
        let birth = if thread {
            Birth { kind: Kind::Thread, process: process.clone() }
        } else {
            let forked = event == libc::PTRACE_EVENT_FORK;
            Birth { kind: if forked { Kind::Forked } else { Kind::Other }, process: process.fork(child) }
        };
        if self.newborn.remove(&child).is_some() {
            // Its death, if any, is reported when its turn comes.
            let _ = self.begin(child, birth);
        } else {
            self.announced.insert(child, birth);
        }
        Ok(())
    }

    /// A task that was not known has stopped before its first instruction.
    pub(super) fn first_stop(&mut self, task: Pid) -> io::Result<Option<Change>> {
        if let Some(birth) = self.announced.remove(&task) {
            self.begin(task, birth)?;
            return Ok(None);
        }
        self.newborn.insert(task, parent_of(task));
        Ok(None)
    }

    fn begin(&mut self, task: Pid, birth: Birth) -> io::Result<()> {
        let Birth { kind, process } = birth;
        if kind == Kind::Thread {
            self.add_task(task, process.id);
            return ptrace::resume(task, 0);
        }
        let parent = process.parent;
        self.add_process(process);
        if kind == Kind::Forked
            && let Some(process) = self.processes.get_mut(&task)
            && process.under_test()
        {
            let mut child = Tracee::new(task, process, Held::Elsewhere, &mut self.applied);
            self.behaviour.started(parent, &mut child);
            if child.ended().is_some() {
                self.bury(task);
                return Ok(());
            }
            child.return_to_path(Return::Same)?;
        }
        ptrace::resume(task, 0)
    }

    /// A task has executed a program; all other threads of its process are gone.
    pub(super) fn executed(&mut self, task: Pid) -> io::Result<()> {
        let former = ptrace::event_message(task)?;
        if former != task {
            self.tasks.remove(&former);
        }
        if let Some(process) = self.process_of(task) {
            process.execute();
        }
        Ok(())
    }

    pub(super) fn process_of(&mut self, task: Pid) -> Option<&mut Process> {
        let process = self.tasks.get(&task)?.process;
        self.processes.get_mut(&process)
    }

    /// A task has ended.
    pub(super) fn bury(&mut self, task: Pid) {
        self.announced.remove(&task);
        self.newborn.remove(&task);
        let Some(Task { process, .. }) = self.tasks.remove(&task) else {
            return;
        };
        if self.tasks.values().any(|other| other.process == process) {
            return;
        }
        let Some(mut process) = self.processes.remove(&process) else {
            return;
        };
        // Children of which it could not tell any more.
        let orphans: Vec<Pid> =
            self.newborn.iter().filter_map(|(child, parent)| (*parent == process.id).then_some(*child)).collect();
        for child in orphans {
            self.newborn.remove(&child);
            let birth = Birth { kind: Kind::Other, process: process.fork(child) };
            // Its death, if any, is reported when its turn comes.
            let _ = self.begin(child, birth);
        }
    }
}

fn parent_of(task: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{task}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.and_then(|id| id.trim().parse().ok()).unwrap_or_default()
}
