//! How long to wait for processes that may only be slow: on a busy machine time passes in which they do not get a processor.

use std::time::{Duration, Instant};

use super::process::{self, ProcessId};

/// How many times the limit is waited for processes that wait for a processor, for a disk, or inside the kernel.
pub const STARVED: u32 = 10;

/// Waits for a group of processes that should get on with something.
#[derive(Debug)]
pub struct Patience {
    group: ProcessId,
    except: ProcessId,
    limit: Duration,
    begun: Instant,
    used: Option<Duration>,
    still: Option<(Instant, u64)>,
}

/// How the waiting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They may get on.
    Moving,
    /// All of them have been asleep for so long, and none has had a processor meanwhile.
    Asleep(Duration),
    /// They have had their time, and have not got on.
    Over,
}

impl Patience {
    /// Waits from now on for the processes of a group but for one, with so much processor time for them.
    pub fn new(group: ProcessId, except: ProcessId, limit: Duration) -> Patience {
        Patience { group, except, limit, begun: Instant::now(), used: None, still: None }
    }

    /// For how long it has been waited.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How it stands now. Without /proc it is a matter of time alone.
    pub fn look(&mut self) -> Standing {
        let elapsed = self.elapsed();
        let Some(activity) = process::activity(self.group, self.except) else {
            return if elapsed >= self.limit { Standing::Over } else { Standing::Moving };
        };
        let used = activity.used.saturating_sub(*self.used.get_or_insert(activity.used));
        let is_over = elapsed >= self.limit && used >= self.limit / 2 || elapsed >= self.limit * STARVED;
        if activity.busy {
            self.still = None;
        } else if let Some((since, switches)) = self.still
            && switches == activity.switches
        {
            return Standing::Asleep(since.elapsed());
        } else {
            self.still = Some((Instant::now(), activity.switches));
        }
        if is_over { Standing::Over } else { Standing::Moving }
    }
}
