//! Starts a worker for each claim, listens to it, watches it, and goes on when it is lost.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::janitor::Janitor;
use super::job::{Job, PartReport, Report, Seen, Task, Violation};
use super::outcome::{ClaimResult, Failure};
use super::probe::Found;
use super::watch::Watch;
use crate::claim::Claim;
use crate::kernel::call::{ActorId, Call};
use crate::kernel::channel::{Channel, Received};
use crate::kernel::machine;
use crate::kernel::outcome::Outcome;
use crate::kernel::process::{self, ProcessId};
use crate::lab::trace::Step;
use crate::sequences::Extent;
use crate::sequences::situations::Table;

/// How often a silent worker is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a lost case is simplified, with a fresh worker for each try.
const SIMPLIFYING: Duration = Duration::from_secs(10);

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
fn has_room() -> Result<(), Unable> {
    use rustix::process::{Resource, getrlimit};
    let needed = [("RLIMIT_AS", Resource::As, 160 << 20), ("RLIMIT_DATA", Resource::Data, 32 << 20)];
    for (name, resource, needed) in needed {
        if let Some(limit) = getrlimit(resource).current.filter(|limit| *limit < needed) {
            return Err(Unable::Memory(name, limit, needed));
        }
    }
    Ok(())
}

/// A run in a directory of its own, which goes with it.
#[derive(Debug)]
pub struct Runner {
    settings: Settings,
    base: tempfile::TempDir,
    janitor: Option<Janitor>,
    started: AtomicUsize,
    ending: Arc<AtomicBool>,
    situations: Mutex<Table>,
    trouble: Mutex<Option<String>>,
    killed: u64,
}

/// A worker as the runner has it.
struct Session {
    pid: ProcessId,
    channel: Channel,
    progress: Option<File>,
    directory: PathBuf,
}

/// How a session ended.
enum End {
    /// It did all of its task.
    Done,
    /// It was lost, and how.
    Lost(String),
    /// The run was ended.
    Interrupted,
}

impl Runner {
    /// Makes the directory and checks that a process can be started and answers.
    ///
    /// # Errors
    /// [`Unable`]: what stands in the way of any run.
    pub fn new(settings: Settings) -> Result<Runner, Unable> {
        has_room()?;
        let parent = settings.directory.clone().unwrap_or_else(std::env::temp_dir);
        let base = std::path::absolute(&parent)
            .and_then(|parent| tempfile::Builder::new().prefix("mmap-conformance.").tempdir_in(parent))
            .map_err(|error| Unable::Directory(parent, error))?;
        // Whatever the umask is.
        let _ = std::fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755));
        let janitor = Janitor::start(base.path()).ok();
        Ok(Runner {
            settings,
            base,
            janitor,
            started: AtomicUsize::new(0),
            ending: Arc::default(),
            situations: Mutex::default(),
            trouble: Mutex::default(),
            killed: machine::killed_for_memory(),
        })
    }

    /// How this run is made.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The directory under test, below which this run works.
    pub fn directory(&self) -> &Path {
        self.base.path()
    }

    /// A flag that ends the run when it is raised: what has been found by then is returned.
    pub fn ending(&self) -> Arc<AtomicBool> {
        self.ending.clone()
    }

    /// How often sequences have met each pair of call and situation in this run.
    pub fn situations(&self) -> Table {
        self.situations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_situations(&self, met: Vec<((String, String), u64)>) {
        let mut table = self.situations.lock().unwrap_or_else(PoisonError::into_inner);
        for (pair, count) in met {
            *table.entry(pair).or_default() += count;
        }
    }

    /// Performs recorded calls again: what became of them.
    ///
    /// # Errors
    /// In words, if the worker was lost.
    pub fn replay(&self, steps: &[Step]) -> Result<Vec<Outcome>, String> {
        let mut now = Vec::new();
        let ended = self.with_worker("", Task::Replay(steps.to_vec()), |report| {
            if let Report::Replayed(outcomes) = report {
                now = outcomes;
            }
        });
        match ended {
            Ok((End::Done, _)) => Ok(now),
            Ok((End::Lost(how), _)) => Err(format!("the worker was lost: {how}")),
            Ok((End::Interrupted, _)) => Err("interrupted".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the run has been ended.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Puts claims to the kernel, several side by side, and hands each result over as it comes; the results in the order of the claims.
    pub fn run(&self, claims: &[Claim], done: impl Fn(&ClaimResult) + Sync) -> Vec<ClaimResult> {
        self.each(claims, |claim| {
            let result = self.run_claim(claim)?;
            done(&result);
            Some(result)
        })
    }

    /// Sees claims for their snapshots, several side by side; what was seen, or why not, in the order of the claims.
    pub fn see_all(&self, claims: &[Claim]) -> Vec<(&'static str, Result<Vec<Seen>, String>)> {
        self.each(claims, |claim| (!self.is_ending()).then(|| (claim.id, self.see(claim))))
    }

    /// Does something with every claim, several side by side, until there is nothing more to be had.
    fn each<T: Send>(&self, claims: &[Claim], work: impl Fn(&Claim) -> Option<T> + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(claims.len()));
        // Claims are no Sync: each thread makes its own of the id.
        let ids: Vec<&'static str> = claims.iter().map(|claim| claim.id).collect();
        std::thread::scope(|scope| {
            let one_after_another = || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(id) = ids.get(index) else { break };
                    let Some(claim) = crate::claims::find(id) else { continue };
                    let Some(result) = work(&claim) else { break };
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            };
            // Where no further thread can be had this one does it all.
            for _ in 1..self.settings.jobs.clamp(1, ids.len().max(1)) {
                let _ = std::thread::Builder::new().spawn_scoped(scope, one_after_another);
            }
            one_after_another();
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    /// What kept a claim from being put to the kernel, if something did.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts one claim to the kernel; nothing if the run has been ended before it was done.
    pub fn run_claim(&self, claim: &Claim) -> Option<ClaimResult> {
        let begun = Instant::now();
        let mut reports: Vec<PartReport> = Vec::new();
        let mut failures: Vec<Failure> = Vec::new();
        let mut from = 0;
        while from < claim.parts.len() {
            let mut violations: Vec<Violation> = Vec::new();
            let task = Task::Run { from };
            let ended = self.with_worker(claim.id, task, |report| match report {
                Report::Part(part) => reports.push(part),
                Report::Situations(met) => self.add_situations(met),
                // The second report of a violation is the simplified one.
                Report::Violation(violation) => {
                    violations.retain(|known| known.part != violation.part);
                    violations.push(*violation);
                }
                _ => {}
            });
            let violated = violations.iter().map(|violation| violation.part).collect::<Vec<_>>();
            failures.extend(violations.into_iter().map(Failure::Violation));
            match ended {
                Ok((End::Done, _)) => break,
                Ok((End::Interrupted, _)) => return None,
                Ok((End::Lost(how), (part, case))) => {
                    let part = (part as usize).max(from);
                    if !violated.contains(&part) {
                        failures.push(self.simplify_lost(claim, part, case as usize, how));
                    }
                    from = part + 1;
                }
                Err(error) => {
                    self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
                    failures.push(Failure::Harness { why: error.to_string() });
                    break;
                }
            }
        }
        if !failures.is_empty() && !self.base.path().exists() {
            // Whatever was seen may be the doing of who took the directory away.
            let gone = Unable::Directory(self.base.path().into(), std::io::ErrorKind::NotFound.into()).to_string();
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(gone.clone());
            failures = vec![Failure::Harness { why: gone }];
        }
        let milliseconds = begun.elapsed().as_millis() as u64;
        Some(ClaimResult::of(claim, self.settings.cases, &reports, failures, milliseconds))
    }

    /// Runs a few cases of every part from a fixed seed, and returns what was seen.
    ///
    /// # Errors
    /// In words, if the worker was lost.
    pub fn see(&self, claim: &Claim) -> Result<Vec<Seen>, String> {
        let mut all = Vec::new();
        let ended = self.with_worker(claim.id, Task::Snapshot, |report| {
            if let Report::Seen(seen) = report {
                all.push(seen);
            }
        });
        match ended {
            Ok((End::Done, _)) => Ok(all),
            Ok((End::Interrupted, _)) => Err("the run was ended".into()),
            Ok((End::Lost(how), (part, case))) => {
                Err(format!("the worker was lost in part {part}, case {case}: {how}"))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Finds out what the system can do; nothing if the process that tries it is lost.
    pub fn probe(&self) -> Option<Found> {
        let mut found = None;
        let ended = self.with_worker("probe", Task::Probe, |report| {
            if let Report::Probed(everything) = report {
                found = Some(everything);
            }
        });
        ended.ok().and(found)
    }

    /// Derives the case in which a worker was lost anew, and makes it as simple as it gets.
    fn simplify_lost(&self, claim: &Claim, part: usize, case: usize, how: String) -> Failure {
        let begun = Instant::now();
        let mut found = (how, String::new(), Vec::new());
        let mut history = Vec::new();
        let mut first = true;
        while first || begun.elapsed() < SIMPLIFYING && !self.is_ending() {
            let mut input = String::new();
            let mut steps: Vec<Step> = Vec::new();
            let mut simplest = false;
            let task = Task::One { part, case, history: history.clone() };
            let mut departed = None;
            let ended = self.with_worker(claim.id, task, |report| match report {
                Report::Input(shown) => input = shown,
                Report::Call(actor, call) => steps.push(step(actor, *call)),
                Report::Outcome(outcome) => {
                    if let Some(step) = steps.last_mut() {
                        step.outcome = outcome;
                    }
                }
                Report::Violation(violation) => departed = Some(violation),
                Report::Simplest => simplest = true,
                _ => {}
            });
            if simplest {
                break;
            }
            let failed = match (ended, departed) {
                (Ok((End::Lost(how), _)), _) => {
                    found = (how, input, steps);
                    true
                }
                // Another departure on the way is no less a violation, but it is not the one that is looked for.
                _ => false,
            };
            if first && !failed {
                break;
            }
            history.push(failed);
            first = false;
        }
        let (how, input, steps) = found;
        Failure::Lost { part, case, how, input, steps }
    }

    /// Starts a worker on a task and hands over what it reports; how it ended, and the case that it had reached.
    fn with_worker(&self, id: &str, task: Task, mut hear: impl FnMut(Report)) -> Result<(End, (u64, u64)), Unable> {
        let mut session = self.start(id, task)?;
        let mut watch = Watch::new(session.pid, self.settings.timeout);
        let mut ready = false;
        let end = loop {
            if self.is_ending() {
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
            End::Lost(how) if how.ends_with("SIGSYS") && machine::is_filtered() => Err(Unable::Filtered),
            End::Lost(how) if how.ends_with("SIGKILL") && machine::killed_for_memory() != self.killed => {
                Err(Unable::Killed)
            }
            End::Lost(how) if !ready => Err(Unable::Channel(format!("the worker did not get ready: {how}"))),
            end => Ok((end, place)),
        }
    }

    fn start(&self, id: &str, task: Task) -> Result<Session, Unable> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let directory = self.base.path().join(number.to_string());
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::create_dir(&directory)
            .and_then(|()| std::fs::set_permissions(&directory, open_to_all))
            .map_err(|error| Unable::Directory(directory.clone(), error))?;
        let progress = tempfile::tempfile_in(self.base.path()).ok();
        let (mut mine, theirs) = Channel::pair().map_err(Unable::Process)?;
        let (from, to) = theirs.numbers();
        let spare = progress.as_ref().map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
        let arguments = ["worker".to_owned(), from.to_string(), to.to_string(), spare.to_string(), id.to_owned()];
        let keep: Vec<_> = theirs.descriptors().chain(progress.as_ref().map(AsFd::as_fd)).collect();
        let pid = process::start(&arguments, &keep).map_err(Unable::Process)?;
        drop(keep);
        drop(theirs);
        if let Some(janitor) = &self.janitor {
            janitor.mind(pid);
        }
        let job = Job {
            claim: id.to_owned(),
            seed: self.settings.seed,
            cases: self.settings.cases,
            directory: directory.display().to_string(),
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
        if let Some(janitor) = &self.janitor {
            janitor.forget(session.pid);
        }
        let _ = std::fs::remove_dir_all(&session.directory);
    }
}

fn step(actor: ActorId, call: Call) -> Step {
    Step { actor, call, outcome: Outcome::Silent, expect: None, aside: false, begun: None }
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
