//! What happens at a system call and at a signal.

use std::ffi::c_int;
use std::io;

use super::registers::Registers;
use super::{Change, Engine, PLACED, Pid, Repeated, Stage, ptrace};
use crate::tracer::behaviour::{Deliver, Entry, Syscall};
use crate::tracer::call::{DESCRIPTOR, FLAGS, PROTECTION, bits};
use crate::tracer::process::{Dispositions, Process};
use crate::tracer::tracee::{Held, Return, Tracee};

impl Engine {
    /// A task has been stopped by the filter.
    pub(super) fn before_call(&mut self, id: Pid) -> io::Result<Option<Change>> {
        let info = ptrace::syscall_info(id)?;
        let entered = Syscall { number: info.number(), args: info.arguments() };
        let Some(task) = self.tasks.get_mut(&id) else {
            return Ok(None);
        };
        if let Some(repeated) = task.repeated.take()
            && repeated.made == entered
        {
            task.watched = repeated.watched;
            self.resume(id, 0)?;
            return Ok(None);
        }
        let Some(process) = self.processes.get_mut(&task.process) else {
            return Ok(None);
        };
        if is_without_effect(&entered) {
            answer(id, 0)?;
            ptrace::resume(id, 0)?;
            return Ok(None);
        }
        if !process.under_test() || is_housekeeping(&entered) {
            ptrace::resume(id, 0)?;
            return Ok(None);
        }
        if PLACED.contains(&entered.number) && !process.settled {
            process.settled = prepares_no_more(id, process, &entered);
            if !process.settled || is_arena(&entered) {
                ptrace::resume(id, 0)?;
                return Ok(None);
            }
        }
        let mut call = entered;
        let mut tracee = Tracee::new(id, process, Held::BeforeCall, &mut self.applied);
        let entry = self.behaviour.enter(&mut tracee, &mut call);
        if let Some(ended) = tracee.ended() {
            return Ok(Some(ended));
        }
        let watched = (entry == Entry::Watch).then_some(entered);
        match (tracee.has_left_path(), entry) {
            (true, Entry::Answer(result)) => tracee.return_to_path(Return::Result(result))?,
            (true, _) => {
                tracee.return_to_path(Return::Repeat(call))?;
                let made = call;
                task.repeated = Some(Repeated { made, watched });
            }
            (false, Entry::Answer(result)) => answer(id, result)?,
            (false, _) => {
                if call != entered {
                    amend(id, &call)?;
                }
                task.watched = watched;
            }
        }
        self.resume(id, 0)?;
        Ok(None)
    }

    /// A task that was resumed up to the next end of a system call has got there.
    pub(super) fn after_call(&mut self, id: Pid) -> io::Result<Option<Change>> {
        let info = ptrace::syscall_info(id)?;
        let Some(task) = self.tasks.get_mut(&id) else {
            return Ok(None);
        };
        if info.stage() != Stage::Exit {
            self.resume(id, 0)?;
            return Ok(None);
        }
        if let Some(call) = task.watched.take()
            && !starts_anew(info.result())
            && let Some(process) = self.processes.get_mut(&task.process)
        {
            let mut result = info.result();
            let mut tracee = Tracee::new(id, process, Held::Elsewhere, &mut self.applied);
            self.behaviour.exit(&mut tracee, &call, &mut result);
            if let Some(ended) = tracee.ended() {
                return Ok(Some(ended));
            }
            if tracee.has_left_path() {
                tracee.return_to_path(Return::Result(result))?;
            } else if result != info.result() {
                let mut registers = Registers::of(id)?;
                registers.set_result(result);
                registers.set(id)?;
            }
        }
        ptrace::resume(id, 0)?;
        Ok(None)
    }

    /// A signal is about to be delivered to a task.
    pub(super) fn before_signal(&mut self, id: Pid, signal: c_int) -> io::Result<Option<Change>> {
        let Some(task) = self.tasks.get(&id) else {
            return Ok(None);
        };
        let process = self.processes.get_mut(&task.process);
        let Some(process) =
            process.filter(|process| process.under_test() && process.settled && self.signals.contains(&signal))
        else {
            self.resume(id, signal)?;
            return Ok(None);
        };
        let mut info = ptrace::signal_info(id)?;
        let mut tracee = Tracee::new(id, process, Held::Elsewhere, &mut self.applied);
        let deliver = self.behaviour.signal(&mut tracee, &mut info);
        if let Some(ended) = tracee.ended() {
            return Ok(Some(ended));
        }
        if deliver == Deliver::Suppress || tracee.has_left_path() {
            tracee.return_to_path(Return::Same)?;
            self.resume(id, 0)?;
        } else {
            ptrace::set_signal_info(id, &info)?;
            self.resume(id, info.signal)?;
        }
        Ok(None)
    }
}

/// The call sends a signal that its target ignores. A traced process is woken even by that, and its write into a
/// full pipe ends early, as it would not on the same kernel without a tracer: so the signal is not sent.
fn is_without_effect(call: &Syscall) -> bool {
    let [target, signal, ..] = call.args.map(|argument| argument as i32);
    call.number == libc::SYS_kill
        && target > 0
        && signal > 0
        && Dispositions::of(target).is_some_and(|signals| signals.drops(signal))
}

/// A program's loader and its own preparations are over when it maps a file of a test, or reserves the address
/// range that a worker works in: the first PROT_NONE mapping of at least 1,024 pages.
fn prepares_no_more(task: Pid, process: &mut Process, call: &Syscall) -> bool {
    if call.number != libc::SYS_mmap {
        return false;
    }
    let mut none = 0;
    let tracee = Tracee::new(task, process, Held::BeforeCall, &mut none);
    is_arena(call) || !call.is_anonymous() && tracee.is_tested_file(call.args[DESCRIPTOR])
}

fn is_arena(call: &Syscall) -> bool {
    call.args[PROTECTION] == 0 && call.pages() >= 1024
}

/// The worker takes a part of its arena back after a case; a defect there would only harm the next case.
fn is_housekeeping(call: &Syscall) -> bool {
    const ARENA: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    call.number == libc::SYS_mmap && call.args[PROTECTION] == 0 && call.args[FLAGS] == bits(ARENA)
}

/// Has the task not make the call that it is entering, but return `result` from it.
fn answer(task: Pid, result: i64) -> io::Result<()> {
    let mut registers = Registers::of(task)?;
    registers.set_result(result);
    registers.set_entered_call(task, -1)?;
    registers.set(task)
}

/// Changes the call that the task is entering.
fn amend(task: Pid, call: &Syscall) -> io::Result<()> {
    let mut registers = Registers::of(task)?;
    registers.set_arguments(call.args);
    registers.set_entered_call(task, call.number)?;
    registers.set(task)
}

/// Results (ERESTARTSYS and its kin) that no program sees: the call is made again after the signal.
fn starts_anew(result: i64) -> bool {
    (-516..=-512).contains(&result)
}
