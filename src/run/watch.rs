//! When a worker counts as hung.

use std::time::{Duration, Instant};

use crate::kernel::process::{self, ProcessId, State};

/// The share of the limit for which a worker must have slept in one system call, without a switch, to count as hung.
const STILL: u32 = 10;

/// Watches one worker for progress.
#[derive(Debug)]
pub(super) struct Watch {
    pid: ProcessId,
    limit: Duration,
    moved: Instant,
    place: (u64, u64),
    asleep: Option<(Instant, u64)>,
}

impl Watch {
    pub(super) fn new(pid: ProcessId, limit: Duration) -> Watch {
        Watch { pid, limit, moved: Instant::now(), place: (0, 0), asleep: None }
    }

    /// The worker has been heard of.
    pub(super) fn heard(&mut self) {
        self.moved = Instant::now();
        self.asleep = None;
    }

    /// Whether the worker hangs, in words; `place` is the case that it has reached.
    pub(super) fn hung(&mut self, place: (u64, u64)) -> Option<String> {
        if place != self.place {
            self.place = place;
            self.heard();
            return None;
        }
        if self.moved.elapsed() >= self.limit {
            return Some(format!("no progress within {} s", self.limit.as_secs()));
        }
        match (process::state(self.pid), process::switches(self.pid)) {
            (State::Sleeping, Some(switches)) => match self.asleep {
                Some((since, before)) if before == switches => {
                    (since.elapsed() >= self.limit / STILL).then(|| "blocked in a call that should return".to_owned())
                }
                _ => {
                    self.asleep = Some((Instant::now(), switches));
                    None
                }
            },
            _ => {
                self.asleep = None;
                None
            }
        }
    }
}
