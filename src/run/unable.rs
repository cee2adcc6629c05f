//! What stands in the way of any run.

use std::path::PathBuf;

/// Why no run could be made.
#[derive(Debug)]
pub enum Unable {
    /// The directory under test takes no directory of ours.
    Directory(PathBuf, std::io::Error),
    /// A limit of memory leaves too little for the suite itself: its name, what it is and what is needed, in bytes.
    Memory(&'static str, u64, u64),
    /// No process can be made.
    Process(std::io::Error),
    /// The system has killed a worker for want of memory.
    Killed,
    /// A seccomp filter has killed a worker.
    Filtered,
    /// Nothing comes through between processes.
    Channel(String),
}

impl std::fmt::Display for Unable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unable::Directory(path, error) => write!(f, "cannot work in {}: {error}", path.display()),
            Unable::Memory(name, limit, needed) => {
                write!(f, "{name} is {} MiB, and the suite needs {} MiB", limit >> 20, needed >> 20)
            }
            Unable::Process(error) => write!(f, "cannot start a process: {error}"),
            Unable::Killed => write!(f, "the system killed a worker for want of memory"),
            Unable::Filtered => write!(f, "a seccomp filter of those who started the suite killed a worker"),
            Unable::Channel(why) => write!(f, "processes cannot speak with each other: {why}"),
        }
    }
}

impl std::error::Error for Unable {}

/// Whether the limits of memory leave room for the suite itself, which could only die without: the arena alone is 64 MiB of addresses.
pub(super) fn has_room() -> Result<(), Unable> {
    use rustix::process::{Resource, getrlimit};
    let needed = [("RLIMIT_AS", Resource::As, 160 << 20), ("RLIMIT_DATA", Resource::Data, 32 << 20)];
    for (name, resource, needed) in needed {
        if let Some(limit) = getrlimit(resource).current.filter(|limit| *limit < needed) {
            return Err(Unable::Memory(name, limit, needed));
        }
    }
    Ok(())
}
