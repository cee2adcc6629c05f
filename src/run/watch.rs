//! When a worker counts as hung.

use std::time::Duration;

use crate::kernel::patience::{Patience, Standing};
use crate::kernel::process::ProcessId;

/// The share of the limit for which a worker and its actors must have slept, without a switch, to count as hung.
const STILL: u32 = 10;
/// How long a worker may be quiet before its state is looked at.
const GLANCE: Duration = Duration::from_millis(500);
/// No process.
const NONE: ProcessId = 0;

/// Watches one worker for progress.
#[derive(Debug)]
pub(super) struct Watch {
    pid: ProcessId,
    limit: Duration,
    place: (u64, u64),
    patience: Patience,
}

impl Watch {
    pub(super) fn new(pid: ProcessId, limit: Duration) -> Watch {
        Watch { pid, limit, place: (0, 0), patience: Patience::new(pid, NONE, limit) }
    }

    /// The worker has been heard of.
    pub(super) fn heard(&mut self) {
        self.patience = Patience::new(self.pid, NONE, self.limit);
    }

    /// Whether the worker hangs, in words; `place` is the case that it has reached.
    pub(super) fn hung(&mut self, place: (u64, u64)) -> Option<String> {
        if place != self.place {
            self.place = place;
            self.heard();
            return None;
        }
        if self.patience.elapsed() < GLANCE {
            return None;
        }
        match self.patience.look() {
            Standing::Over => Some(format!("no progress within {} s", self.limit.as_secs())),
            Standing::Asleep(time) if time >= self.limit / STILL => Some("blocked in a call that should return".into()),
            _ => None,
        }
    }
}
