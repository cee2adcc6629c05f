//! How long to wait for processes that may only be slow: on a busy machine time passes in which they do not get a processor,
//! and a second of an emulated processor, or of one that a host has lent to others, is worth less than it says.

use std::hint::black_box;
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
    /// How many times slower than most this machine has been found to be.
    slowness: u32,
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
        Patience { group, except, limit, begun: Instant::now(), used: None, slowness: 1, still: None }
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
        let mut is_over = elapsed >= self.limit * self.slowness && used >= self.limit * self.slowness / 2;
        if is_over {
            self.slowness = self.slowness.max(slowness());
            is_over = elapsed >= self.limit * self.slowness;
        }
        is_over |= elapsed >= self.limit * STARVED;
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

/// How many times longer than on most machines a fixed piece of work takes here and now.
fn slowness() -> u32 {
    const STEPS: u64 = 1 << 22;
    const USUAL: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    black_box((0..STEPS).fold(1_u64, |sum, step| black_box(sum).wrapping_mul(6_364_136_223_846_793_005) ^ step));
    let times = begun.elapsed().as_millis() / USUAL.as_millis();
    u32::try_from(times).unwrap_or(STARVED).clamp(1, STARVED)
}
