//! What a defect does: the trait that the engine calls.

use std::ffi::{c_int, c_long};

use crate::tracer::engine::{Pid, SignalInfo};
use crate::tracer::tracee::Tracee;

/// A system call's number, `libc::SYS_*`.
pub type Sysno = c_long;

/// A system call at its entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syscall {
    /// Its number.
    pub number: Sysno,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of a call that was looked at on its way in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// It is performed, as changed.
    Pass,
    /// The same, and its result is shown to [`Behaviour::exit`].
    Watch,
    /// It is not performed, and returns this: a value or a negative errno.
    Answer(i64),
}

/// What becomes of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deliver {
    /// It is delivered, as changed.
    Pass,
    /// It never happened: the instruction is tried again.
    Suppress,
}

/// A kernel's deviation from what it should do.
pub trait Behaviour {
    /// The system calls to stop at.
    fn calls(&self) -> Vec<Sysno>;

    /// A call is about to be made; it may be changed.
    fn enter(&mut self, tracee: &mut Tracee, call: &mut Syscall) -> Entry;

    /// A call that was watched has been made, as it stood on entry; its result may be changed.
    /// Calls that a signal interrupted and that start anew are not shown.
    fn exit(&mut self, _tracee: &mut Tracee, _call: &Syscall, _result: &mut i64) {}

    /// The signals to look at.
    fn signals(&self) -> Vec<c_int> {
        Vec::new()
    }

    /// A signal is about to be delivered. Calls made in the task's name suppress it.
    fn signal(&mut self, _tracee: &mut Tracee, _info: &mut SignalInfo) -> Deliver {
        Deliver::Pass
    }

    /// `child`, forked by `parent`, is about to run its first instruction.
    fn started(&mut self, _parent: Pid, _child: &mut Tracee) {}
}
