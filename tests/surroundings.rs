//! The same claims in other surroundings: they say the same, and leave nothing behind.

mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use program::{program, ran};
use rstest::rstest;
use tempfile::TempDir;

/// The user and group that own nothing (nobody, by convention).
const NOBODY: u32 = 65534;
/// How long something may take that happens at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The claims that are put to the kernel here, so that tests stay short; all of them with MMAP_CONFORMANCE_SURROUNDINGS=all.
const SAMPLE: &[&str] = &["mmap", "perm", "file", "fork.shared-file-mapping", "pipe.order", "pipe.read-eof"];

fn sample() -> &'static [&'static str] {
    let all = std::env::var("MMAP_CONFORMANCE_SURROUNDINGS").is_ok_and(|word| word == "all");
    if all { &[] } else { SAMPLE }
}

/// A directory that every user may write to.
fn open_directory(parent: &Path) -> TempDir {
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o1777))
        .expect("its owner is the caller");
    directory
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program where there is no /proc; nothing if this machine does not let it be taken away.
fn without_proc() -> Option<Command> {
    let user = if is_root() { &[][..] } else { &["--user", "--map-root-user"] };
    let wrapped = |script: &str| {
        let mut command = Command::new("unshare");
        command.arg("--mount").args(user).args(["sh", "-c", script, env!("CARGO_BIN_EXE_mmap-conformance")]);
        command
    };
    let cover = "mount -t tmpfs none /proc";
    let works = wrapped(cover).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    works.then(|| wrapped(&format!("{cover} && exec \"$0\" \"$@\"")))
}

/// The main snapshots that are not as reviewed, by file name; the reviewed ones are the same for all.
fn main_snapshots(mut command: Command, directory: &Path) -> BTreeMap<String, String> {
    let left = open_directory(&std::env::temp_dir());
    let ran =
        ran(command.args(sample()).args(["--cases", "1", "--snapshots"]).arg(left.path()).arg("--dir").arg(directory));
    assert_ne!(ran.status, Some(2), "{}{}", ran.out, ran.err);
    let files = std::fs::read_dir(left.path()).expect("the directory is there").flatten();
    files
        .map(|file| {
            (file.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(file.path()).expect("text"))
        })
        .filter(|(name, _)| !name.contains('@'))
        .collect()
}

/// The files that differ, with the first lines that do.
fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let text = |all: &BTreeMap<String, String>, name| all.get(name).map_or(String::new(), String::clone);
    let mut differ = Vec::new();
    for name in names {
        let (here, there) = (text(one, name), text(other, name));
        if here != there {
            let mut lines = here.lines().chain([""]).zip(there.lines().chain([""]));
            let (left, right) = lines.find(|(left, right)| left != right).unwrap_or(("", ""));
            differ.push(format!("{name}\n- {left}\n+ {right}"));
        }
    }
    differ
}

static USUAL: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let directory = open_directory(&std::env::temp_dir());
    main_snapshots(program(), directory.path())
});

#[rstest]
#[case::once_more(Some(program()), "/tmp")]
#[case::on_tmpfs(Some(program()), "/dev/shm")]
#[case::as_nobody(as_nobody(), "/tmp")]
#[case::without_proc(without_proc(), "/tmp")]
fn main_snapshots_are_the_same(#[case] command: Option<Command>, #[case] parent: &str) {
    match command {
        Some(command) if Path::new(parent).is_dir() => {
            let directory = open_directory(Path::new(parent));
            let other = main_snapshots(command, directory.path());
            let differ = differences(&USUAL, &other);
            assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), USUAL.len(), differ.join("\n"));
        }
        _ => eprintln!("note: not possible here"),
    }
}

/// The program as an unprivileged user; nothing if the caller is no one who could.
fn as_nobody() -> Option<Command> {
    let mut command = program();
    command.uid(NOBODY).gid(NOBODY);
    let may = is_root() && command.arg("--version").status().is_ok_and(|status| status.success());
    may.then(|| {
        let mut command = program();
        command.uid(NOBODY).gid(NOBODY);
        command
    })
}

#[rstest]
#[case::few_descriptors("ulimit -n 32")]
#[case::no_locked_memory("ulimit -l 0")]
#[case::core_files_wanted("ulimit -c unlimited")]
#[case::nowhere_to_write("cd /proc")]
fn nothing_fails_and_nothing_is_left(#[case] limit: &str) {
    let directory = open_directory(&std::env::temp_dir());
    let script = format!("{limit}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_mmap-conformance")]).args(sample());
    command.args(["--cases", "8", "--dir"]).arg(directory.path());
    let ran = ran(command.current_dir(directory.path()));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert_eq!(entries(directory.path()), Vec::<PathBuf>::new());
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).expect("the directory is there").flatten().map(|entry| entry.path()).collect()
}

/// Waits for something that is about to happen.
fn soon(what: &str, happens: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < PATIENCE, "{what} within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// The processes that work in a directory, there or gone.
fn workers_in(directory: &Path) -> usize {
    let links = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    links
        .filter_map(|process| process.path().join("cwd").read_link().ok())
        .filter(|at| at.starts_with(directory))
        .count()
}

#[rstest]
#[case::a_worker_at_work("planted.spins", rustix::process::Signal::KILL)]
#[case::a_worker_asleep("planted.hangs", rustix::process::Signal::KILL)]
#[case::an_actor_asleep("planted.stays-blocked", rustix::process::Signal::KILL)]
#[case::ended_in_order("planted.stays-blocked", rustix::process::Signal::TERM)]
fn however_a_run_ends_nothing_is_left(#[case] claim: &str, #[case] signal: rustix::process::Signal) {
    let directory = open_directory(&std::env::temp_dir());
    let path = directory.path().canonicalize().expect("the directory is there");
    let mut command = program();
    command.args([claim, "--timeout", "60", "--dir"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program can be started");
    soon("a worker is there", || workers_in(&path) > 0);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("a signal");
    child.wait().expect("an end");
    soon("no process is left", || workers_in(&path) == 0);
    soon("no file is left", || entries(&path).is_empty());
}
