//! A lock for what all processes of a machine share, such as its huge pages: workers that run side by side, also those of
//! another run, take their turns.
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::environment;

/// The lock, held until it is dropped; where the program file cannot be opened there is none, and only chance keeps workers apart.
#[derive(Debug)]
pub struct Turn(Option<OwnedFd>);

/// Waits for this process's turn (flock(2) on the program's own file).
pub fn turn() -> Turn {
    let file = open(environment::program(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    Turn(file.filter(|file| flock(file, FlockOperation::LockExclusive).is_ok()))
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // Closing would not be enough: actors that were forked meanwhile have the same open file description.
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}
