//! The opening of FIFOs, which waits for the other end.

use super::files::access;
use super::{Object, Prediction, Rule, World};
use crate::kernel::call::{ActorId, Call};
use crate::lab::expect::Expect;

/// An opening that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Which FIFO, whatever becomes of its name.
    pub pipe: usize,
    /// Whether it is for reading, and not for writing.
    pub reads: bool,
}

impl World {
    pub(super) fn predict_fifo(&self, pipe: usize, flags: u32) -> Option<Prediction> {
        let (reads, writes) = access(flags);
        let waits = flags & libc::O_NONBLOCK as u32 == 0;
        let other_end = match (reads, writes) {
            (true, true) => return Some(self.by(Rule::FifoOpen, Expect::Success)),
            (true, false) => self.pipes[pipe].writers > 0,
            _ => self.pipes[pipe].readers > 0,
        };
        let other_waits = self.opens(Opening { pipe, reads: !reads });
        Some(match (other_end, waits) {
            (true, _) => self.by(Rule::FifoOpen, Expect::Success),
            (false, true) if other_waits => self.by(Rule::FifoOpen, Expect::Success),
            (false, true) => self.by(Rule::FifoWaits, Expect::Blocked),
            (false, false) if reads => self.by(Rule::FifoOpen, Expect::Success),
            // Whether one who waits to read is a reader already is told nowhere.
            (false, false) if other_waits => return None,
            (false, false) => self.refused(Rule::FifoOpen, libc::ENXIO),
        })
    }

    fn opens(&self, opening: Opening) -> bool {
        self.processes.iter().any(|process| process.alive && process.opening == Some(opening))
    }

    /// A call has begun to wait.
    pub fn wait(&mut self, who: ActorId, call: Call) {
        if let Call::Open { path, flags, .. } = &call
            && let Some(Object::Pipe(pipe)) = self.names.get(path)
        {
            self.process_mut(who).opening = Some(Opening { pipe: *pipe, reads: access(*flags).0 });
        }
        self.process_mut(who).blocked = Some(call);
    }

    /// What must have become of an opening that waited; `None` while it goes on waiting.
    pub fn predict_opened(&self, who: ActorId) -> Option<Prediction> {
        let Opening { pipe, reads } = self.process(who).opening?;
        let other = if reads { self.pipes[pipe].writers } else { self.pipes[pipe].readers };
        (other > 0).then(|| self.by(Rule::FifoReleased, Expect::Success))
    }

    /// An opening that waited has come back.
    pub fn opened(&mut self, who: ActorId, call: &Call) {
        if let (Call::Open { flags, fd, .. }, Some(opening)) = (call, self.process_mut(who).opening.take()) {
            self.open_object(who, Object::Pipe(opening.pipe), *flags, *fd);
        }
    }
}
