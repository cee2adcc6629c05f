//! How a run is made.

use std::path::PathBuf;
use std::time::Duration;

use crate::sequences::Extent;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed that every case is drawn from.
    pub seed: u64,
    /// How many cases a part tries, where it does not ask for fewer.
    pub cases: usize,
    /// How many claims are put to the kernel side by side.
    pub jobs: usize,
    /// The directory under test; the system's temporary one if `None`.
    pub directory: Option<PathBuf>,
    /// How long one case may take.
    pub timeout: Duration,
    /// How long and wide sequences are.
    pub extent: Extent,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 0,
            cases: 256,
            jobs: 1,
            directory: None,
            timeout: Duration::from_secs(30),
            extent: Extent::default(),
        }
    }
}
