//! A kernel without a defect: it shows that the engine itself is not noticed.

use crate::tracer::behaviour::{Behaviour, Deliver, Entry, Syscall, Sysno};
use crate::tracer::call::EXIT;
use crate::tracer::engine::{Pid, SignalInfo};
use crate::tracer::table;
use crate::tracer::tracee::Tracee;

/// How closely calls are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Care {
    /// They stop on their way in.
    Look,
    /// And on their way out.
    Watch,
    /// They are taken back, another call is made, and they are made anew; so again on the way out.
    Repeat,
}

/// Stops at every call that any defect stops at, and lets it do what it does.
pub struct Correct(Care);

impl Correct {
    /// With so much care.
    pub fn kernel(care: Care) -> Box<dyn Behaviour> {
        Box::new(Correct(care))
    }

    fn detour(&self, tracee: &mut Tracee) {
        if self.0 == Care::Repeat {
            // Processes that have given up all other calls may still read.
            tracee.perform(libc::SYS_read, [u64::MAX, 0, 0, 0, 0, 0]);
        }
    }
}

impl Behaviour for Correct {
    fn calls(&self) -> Vec<Sysno> {
        table::all().flat_map(|(_, defect)| (defect.make)().calls()).collect()
    }

    fn enter(&mut self, tracee: &mut Tracee, call: &mut Syscall) -> Entry {
        tracee.count();
        // A process may have given up all calls but this one.
        if !EXIT.contains(&call.number) {
            self.detour(tracee);
        }
        if self.0 == Care::Look { Entry::Pass } else { Entry::Watch }
    }

    fn exit(&mut self, tracee: &mut Tracee, _: &Syscall, _: &mut i64) {
        self.detour(tracee);
    }

    fn signals(&self) -> Vec<i32> {
        vec![libc::SIGSEGV, libc::SIGBUS, libc::SIGPIPE]
    }

    fn signal(&mut self, _: &mut Tracee, _: &mut SignalInfo) -> Deliver {
        Deliver::Pass
    }

    fn started(&mut self, _: Pid, child: &mut Tracee) {
        self.detour(child);
    }
}
