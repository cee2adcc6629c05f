//! A process that outlives the runner by a moment: however the runner ends, what it started ends and what it made is removed.
//!
//! It is the janitor that makes the directory of a run, so that there is no moment at which the directory is there and
//! nobody left to remove it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::kernel::channel::{Channel, Received};
use crate::kernel::{environment, process};

/// How long a janitor may take to make a directory; after that the runner makes its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// The directory of a run, which goes with this value, and at the latest with the process.
#[derive(Debug)]
pub struct Premises {
    directory: PathBuf,
    janitor: Option<Janitor>,
}

/// The runner's side of a janitor.
#[derive(Debug)]
struct Janitor {
    pid: process::ProcessId,
    channel: Option<Mutex<Channel>>,
}

/// What a runner says to its janitor, after the name of the directory to make one in.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// A process group that is to end with the runner.
    Mind(process::ProcessId),
    /// It has ended.
    Forget(process::ProcessId),
}

/// What a janitor answers: the directory, or why there is none.
type Made = Result<OsString, String>;

impl Premises {
    /// Makes a directory in `parent`; with no janitor, where none can be had.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn new(parent: &Path) -> io::Result<Premises> {
        match Janitor::start(parent) {
            Ok((janitor, Ok(directory))) => Ok(Premises { directory: directory.into(), janitor: Some(janitor) }),
            Ok((_, Err(why))) => Err(io::Error::other(why)),
            Err(_) => Ok(Premises { directory: make(parent)?, janitor: None }),
        }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A process group is to end with the runner.
    pub fn mind(&self, group: process::ProcessId) {
        self.tell(&Word::Mind(group));
    }

    /// It has ended.
    pub fn forget(&self, group: process::ProcessId) {
        self.tell(&Word::Forget(group));
    }

    fn tell(&self, word: &Word) {
        if let Some(channel) = self.janitor.as_ref().and_then(|janitor| janitor.channel.as_ref()) {
            let _ = channel.lock().unwrap_or_else(PoisonError::into_inner).send(word);
        }
    }
}

impl Drop for Premises {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

impl Janitor {
    fn start(parent: &Path) -> io::Result<(Janitor, Made)> {
        let (mut mine, theirs) = Channel::pair()?;
        let (from, to) = theirs.numbers();
        let arguments = ["janitor".to_owned(), from.to_string(), to.to_string()];
        let pid = process::start_unbound(&arguments, &theirs.descriptors().collect::<Vec<_>>())?;
        drop(theirs);
        let answer = mine.send(&parent.as_os_str()).map(|()| mine.receive_within(PATIENCE));
        let janitor = Janitor { pid, channel: Some(Mutex::new(mine)) };
        match answer {
            Ok(Received::Frame(made)) => Ok((janitor, made)),
            _ => {
                process::kill(pid);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.channel.take());
        process::ended(self.pid, true);
    }
}

/// The life of a janitor: makes the directory, waits for the runner's end, then ends the groups that are left and removes the directory.
pub fn mind(from: i32, to: i32) -> ! {
    process::own_session();
    environment::ignore_requests_to_end();
    let mut channel = Channel::inherited(from, to);
    let Received::Frame(parent) = channel.receive::<OsString>() else { process::exit(2) };
    let made = make(Path::new(&parent));
    let answer: Made = made.as_ref().map(|directory| directory.clone().into()).map_err(ToString::to_string);
    let _ = channel.send(&answer);
    let mut groups: Vec<process::ProcessId> = Vec::new();
    loop {
        match channel.receive() {
            Received::Frame(Word::Mind(group)) => groups.push(group),
            Received::Frame(Word::Forget(group)) => groups.retain(|known| *known != group),
            _ => break,
        }
    }
    for group in groups {
        process::kill_group(group);
    }
    if let Ok(directory) = made {
        remove(&directory);
    }
    process::exit(0)
}

/// Makes a directory that everyone may look into, whatever the umask is.
fn make(parent: &Path) -> io::Result<PathBuf> {
    let parent = std::path::absolute(parent)?;
    let directory = tempfile::Builder::new().prefix("mmap-conformance.").tempdir_in(parent)?.keep();
    let _ = std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    Ok(directory)
}

/// Removes a directory of the suite's own; what dying processes still make or keep there goes on a later try.
fn remove(directory: &Path) {
    const LIMIT: Duration = Duration::from_secs(5);
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::yield_now(),
            _ => return,
        }
    }
}
