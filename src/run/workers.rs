//! Worker processes: each is started on a task, heard, watched, and ended with all that it started.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::janitor::Premises;
use super::job::{Job, Report, Task};
use super::settings::Settings;
use super::unable::{Unable, has_room};
use super::watch::Watch;
use crate::claims;
use crate::kernel::channel::{Channel, Received};
use crate::kernel::outcome::Outcome;
use crate::kernel::process::{self, ProcessId};
use crate::kernel::{filter, machine};

/// How often a silent worker is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The workers of a run, in a directory of its own, which goes with it.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) settings: Settings,
    premises: Premises,
    started: AtomicUsize,
    ending: Arc<AtomicBool>,
    killed: u64,
}

/// A worker at work.
struct Session {
    pid: ProcessId,
    channel: Channel,
    progress: Option<File>,
    directory: PathBuf,
}

/// How a session ended.
pub(super) enum End {
    /// It did all of its task.
    Done,
    /// It was lost, and how.
    Lost(String),
    /// The run was ended.
    Interrupted,
}

impl Workers {
    /// Makes the directory and checks that there is room for the suite.
    ///
    /// # Errors
    /// [`Unable`]: what stands in the way of any run.
    pub(super) fn new(settings: Settings) -> Result<Workers, Unable> {
        has_room()?;
        let parent = settings.directory.clone().unwrap_or_else(std::env::temp_dir);
        let premises = Premises::new(&parent).map_err(|error| Unable::Directory(parent, error))?;
        Ok(Workers {
            settings,
            premises,
            started: AtomicUsize::new(0),
            ending: Arc::default(),
            killed: machine::killed_for_memory(),
        })
    }

    /// The directory of the run.
    pub(super) fn directory(&self) -> &Path {
        self.premises.directory()
    }

    /// A flag that ends the run when it is raised.
    pub(super) fn ending(&self) -> &Arc<AtomicBool> {
        &self.ending
    }

    /// Whether the run is to end.
    pub(super) fn are_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Starts a worker on a task and hands over what it reports; how it ended, and the case that it had reached.
    ///
    /// # Errors
    /// [`Unable`], where it is not the task that it was lost in.
    pub(super) fn put_to(
        &self,
        id: &str,
        task: Task,
        mut hear: impl FnMut(Report),
    ) -> Result<(End, (u64, u64)), Unable> {
        let mut session = self.start(id, task)?;
        let mut watch = Watch::new(session.pid, self.settings.timeout);
        let mut ready = false;
        let end = loop {
            if self.are_ending() {
                break End::Interrupted;
            }
            match session.channel.receive_within(LOOK) {
                Received::Frame(Report::Ready(name)) if name == id => ready = true,
                Received::Frame(Report::End) => break End::Done,
                Received::Frame(report) => {
                    watch.heard();
                    hear(report);
                }
                Received::Closed => break End::Lost(self.epitaph(&session)),
                Received::Damaged => break End::Lost("what it reported arrived damaged".into()),
                Received::Nothing => {
                    if let Some(how) = watch.hung(session.place()) {
                        break End::Lost(how);
                    }
                }
            }
        };
        let place = session.place();
        self.finish(&session);
        match end {
            End::Lost(how) if how.ends_with("SIGSYS") && filter::is_there() => Err(Unable::Filtered),
            End::Lost(how) if how.ends_with("SIGKILL") && machine::killed_for_memory() != self.killed => {
                Err(Unable::Killed)
            }
            End::Lost(how) if !ready => Err(Unable::Channel(format!("the worker did not get ready: {how}"))),
            end => Ok((end, place)),
        }
    }

    fn start(&self, id: &str, task: Task) -> Result<Session, Unable> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let directory = self.premises.directory().join(number.to_string());
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::create_dir(&directory)
            .and_then(|()| std::fs::set_permissions(&directory, open_to_all))
            .map_err(|error| Unable::Directory(directory.clone(), error))?;
        let progress = tempfile::tempfile_in(self.premises.directory()).ok();
        let (mut mine, theirs) = Channel::pair().map_err(Unable::Process)?;
        let (from, to) = theirs.numbers();
        let spare = progress.as_ref().map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
        let arguments = ["worker".to_owned(), from.to_string(), to.to_string(), spare.to_string(), id.to_owned()];
        let keep: Vec<_> = theirs.descriptors().chain(progress.as_ref().map(AsFd::as_fd)).collect();
        let pid = process::start(&arguments, &keep).map_err(Unable::Process)?;
        drop(keep);
        drop(theirs);
        self.premises.mind(pid);
        let job = Job {
            claim: id.to_owned(),
            topic: claims::topic(id).unwrap_or_default(),
            seed: self.settings.seed,
            cases: self.settings.cases,
            directory: directory.clone().into(),
            extent: self.settings.extent,
            case_limit: (self.settings.timeout / 2).as_millis() as u64,
            task,
        };
        // A worker that cannot take its job is found out when nothing is heard of it.
        let _ = mine.send(&job);
        Ok(Session { pid, channel: mine, progress, directory })
    }

    /// How a worker ended that closed its channel.
    fn epitaph(&self, session: &Session) -> String {
        const PATIENCE: Duration = Duration::from_secs(2);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match process::ended(session.pid, false) {
                // What Rust's runtime exits with after a panic.
                Some(Outcome::Exited(101)) => return "the suite itself failed: standard error says how".into(),
                Some(outcome @ Outcome::Exited(_)) => return format!("the worker {outcome}"),
                Some(outcome @ Outcome::Died(_)) => return format!("the worker was {outcome}"),
                Some(_) => break,
                None => {
                    session.channel.readable(Duration::ZERO);
                    std::thread::yield_now();
                }
            }
        }
        "the worker closed its channel and lives on".into()
    }

    /// Ends a worker with all that it started; one that does not die is left behind and not waited for.
    fn finish(&self, session: &Session) {
        const PATIENCE: Duration = Duration::from_secs(5);
        process::kill_group(session.pid);
        process::kill(session.pid);
        let begun = Instant::now();
        while process::ended(session.pid, false).is_none()
            && process::is_child(session.pid)
            && begun.elapsed() < PATIENCE
        {
            std::thread::yield_now();
        }
        self.premises.forget(session.pid);
        let _ = std::fs::remove_dir_all(&session.directory);
    }
}

impl Session {
    /// The part and the case that the worker last said it was about to run.
    fn place(&self) -> (u64, u64) {
        let mut words = [0; 16];
        let read = self.progress.as_ref().map(|file| file.read_exact_at(&mut words, 0));
        if !matches!(read, Some(Ok(()))) {
            return (0, 0);
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| words[at + i]));
        (word(0), word(8))
    }
}
