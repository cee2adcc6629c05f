//! Surroundings that lack something: never a false pass, never a false violation, nothing left behind, and a word on what was missing.

mod program;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use program::{Ran, program, ran};
use rstest::rstest;
use rustix::process::Signal;
use seccompiler::{SeccompAction, SeccompFilter};
use serde_json::Value;

/// The claims that are put to the kernel here; all of them with MMAP_CONFORMANCE_SURROUNDINGS=all.
const SAMPLE: &[&str] =
    &["mmap.length", "file", "lifetime", "private", "fork.shared-file-mapping", "pipe.order", "fifo.create"];

/// A shell in which `$D` is an empty directory that all may write to, and `run` puts the claims to the kernel there, after `$E`.
fn shell(script: &str, directory: &Path) -> Command {
    let all = std::env::var("MMAP_CONFORMANCE_SURROUNDINGS").is_ok_and(|word| word == "all");
    let claims = if all { String::new() } else { SAMPLE.join(" ") };
    let run = format!("run() {{ $E \"$P\" run {claims} --cases ${{CASES:-8}} --format json --dir \"$D\" \"$@\"; }}");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{run}\n{script}")]).current_dir("/").stdin(Stdio::null());
    command.env("P", program().get_program()).env("D", directory).env("TMPDIR", directory);
    command
}

/// The same with mounts of its own; nothing where they cannot be had.
fn with_mounts(mounts: &str, script: &str, directory: &Path) -> Option<Command> {
    let within = |rest: &str| {
        let inner = shell(&format!("set -e; {mounts}; {rest}"), directory);
        let mut command = Command::new("unshare");
        command.arg("--mount");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.arg(inner.get_program()).args(inner.get_args()).current_dir("/").stdin(Stdio::null());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    };
    let works = within("true").stderr(Stdio::null()).stdout(Stdio::null()).status();
    works.is_ok_and(|status| status.success()).then(|| within(script))
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o1777)).expect("its owner");
    directory
}

/// No claim has been found violated, and whatever has run no case says what was missing.
fn must_be_fair(ran: &Ran) {
    let Ok(report) = serde_json::from_str::<Value>(&ran.out) else { return };
    for claim in report["claims"].as_array().expect("a list") {
        let kind = &claim["violation"]["kind"];
        assert!(kind.is_null() || kind == "harness", "{claim:#}");
        for part in claim["parts"].as_array().expect("a list") {
            let skipped = part["result"] == "skip";
            assert_eq!(skipped, part["reason"].is_string(), "{part:#}");
            assert!(skipped || kind == "harness" || part["cases"] != 0, "{part:#}");
        }
    }
}

fn must_leave_nothing(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[rstest]
#[case::descriptors("ulimit -n 24; run")]
#[case::locked_memory("ulimit -l 0; run")]
#[case::core_files("ulimit -c 0; run")]
#[case::address_space("ulimit -v 200000; run")]
#[case::data("ulimit -d 40000; run")]
#[case::stack("ulimit -s 256; run")]
#[case::file_size("ulimit -f 64; run | (ulimit -f unlimited; cat); exit ${PIPESTATUS[0]}")]
#[case::no_file_size("(ulimit -f 0; run) | cat; exit ${PIPESTATUS[0]}")]
#[case::signals_ignored("trap '' PIPE CHLD SEGV BUS TERM HUP USR1 USR2 ALRM XFSZ; run")]
#[case::umask("umask 0777; run")]
#[case::odd_name("D=$D/$'a b\\xff\\n'; mkdir \"$D\"; run; s=$?; rmdir \"$D\"; exit $s")]
fn what_is_scarce_is_no_violation(#[case] script: &str) {
    let directory = directory();
    let ran = ran(&mut shell(script, directory.path()));
    assert_eq!(ran.status, Some(0), "{}\n{}", ran.out, ran.err);
    must_be_fair(&ran);
    must_leave_nothing(directory.path());
}

#[rstest]
#[case::full("mount -t tmpfs -o size=64k,mode=1777 none $D; head -c 1M /dev/zero >$D/fill 2>/dev/null || true")]
#[case::small("mount -t tmpfs -o size=1M,mode=1777 none $D")]
#[case::few_files("mount -t tmpfs -o nr_inodes=12,mode=1777 none $D")]
#[case::noexec("mount -t tmpfs -o noexec,mode=1777 none $D")]
#[case::overlay(
    "mount -t tmpfs none $D; mkdir $D/l $D/u $D/w $D/m; mount -t overlay -o lowerdir=$D/l,upperdir=$D/u,workdir=$D/w none $D/m; D=$D/m"
)]
#[case::no_devices("mount -t tmpfs none /dev; touch /dev/null")]
#[case::no_proc("mount -t tmpfs none /proc")]
// The mode itself is the machine's: what the suite does when it is told of it, and memory is refused.
#[case::strict_overcommit(
    "echo 2 >$D/m; mount --bind $D/m /proc/sys/vm/overcommit_memory; rm -f $D/m; ulimit -d 60000; E='command --'; set -- flag.noreserve"
)]
fn what_is_not_there_is_no_violation(#[case] mounts: &str) {
    let directory = directory();
    let Some(mut command) = with_mounts(mounts, "run", directory.path()) else {
        eprintln!("note: not possible here: {mounts}");
        return;
    };
    let ran = ran(&mut command);
    assert_eq!(ran.status, Some(0), "{}\n{}", ran.out, ran.err);
    must_be_fair(&ran);
    must_leave_nothing(directory.path());
}

#[rstest]
#[case::descriptors("ulimit -n 8; run", "Too many open files")]
#[case::address_space("ulimit -v 65536; run", "RLIMIT_AS is 64 MiB")]
#[case::data("ulimit -d 16384; run", "RLIMIT_DATA is 16 MiB")]
#[case::no_directory("D=/nowhere/at/all; run", "cannot work in")]
// A worker that makes a file at that moment has rm fail: it is at it until the directory is gone.
#[case::vanishing(
    "mkdir $D/x; D=$D/x; CASES=4096; run & until [ -e $D/*/1 ] || ! kill -0 $!; do sleep 0.01; done; until rm -rf $D 2>/dev/null; do :; done; wait $!",
    "cannot work in"
)]
fn what_stands_in_the_way_is_said(#[case] script: &str, #[case] why: &str) {
    let directory = directory();
    let ran = ran(&mut shell(script, directory.path()));
    assert_eq!(ran.status, Some(2), "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains(why), "{}", ran.err);
    must_be_fair(&ran);
    must_leave_nothing(directory.path());
}

#[test]
fn a_directory_that_takes_nothing_is_an_error() {
    let directory = directory();
    let Some(mut command) = with_mounts("mount -t tmpfs -o ro none $D", "run", directory.path()) else {
        eprintln!("note: not possible here");
        return;
    };
    let ran = ran(&mut command);
    assert_eq!((ran.status, ran.err.contains("Read-only file system")), (Some(2), true), "{}", ran.err);
}

#[rstest]
#[case::no_process("ulimit -u 1; E=exec")]
#[case::umask("umask 0777")]
fn an_ordinary_user_is_told_as_well(#[case] limit: &str) {
    let possible = rustix::process::geteuid().is_root()
        && Command::new("setpriv").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    let directory = directory();
    let copy = directory.path().join("program");
    std::fs::copy(program().get_program(), &copy).expect("a copy");
    if !possible {
        eprintln!("note: not possible here");
        return;
    }
    let work = self::directory();
    let script = format!("{limit}; run");
    let inner = shell(&script, work.path());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(inner.get_program());
    command.args(inner.get_args()).current_dir("/").stdin(Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("P", &copy);
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("its owner");
    let ran = ran(&mut command);
    match ran.status {
        Some(0) => {}
        Some(2) => assert!(ran.err.contains("could not be put to the kernel"), "{}", ran.err),
        other => panic!("{other:?}: {}\n{}", ran.out, ran.err),
    }
    must_be_fair(&ran);
    must_leave_nothing(work.path());
}

/// A system call by its number, what is said of it where it is needed, and the claims that may need it.
fn refused(call: libc::c_long, action: SeccompAction, directory: &Path) -> Option<Ran> {
    let rules = [(call, Vec::new())].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().ok()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).ok()?;
    let filter: seccompiler::BpfProgram = filter.try_into().ok()?;
    // A thread of its own is what gives the call up, for itself and for all that it starts.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                seccompiler::apply_filter(&filter).ok()?;
                Some(ran(&mut shell("run anon fork.no-access-to-others", directory)))
            })
            .join()
            .expect("no panic")
    })
}

#[rstest]
#[case::mremap(libc::SYS_mremap)]
#[case::memfd_create(libc::SYS_memfd_create)]
#[case::ptrace(libc::SYS_ptrace)]
#[case::process_vm_readv(libc::SYS_process_vm_readv)]
#[case::cachestat(451)]
#[case::close_range(libc::SYS_close_range)]
#[case::pidfd_open(libc::SYS_pidfd_open)]
fn a_filter_is_no_kernel(
    #[case] call: libc::c_long,
    #[values(
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Errno(libc::ENOSYS as u32),
        SeccompAction::KillProcess
    )]
    action: SeccompAction,
) {
    let directory = directory();
    let Some(ran) = refused(call, action.clone(), directory.path()) else {
        eprintln!("note: seccomp filters cannot be had here");
        return;
    };
    match ran.status {
        Some(0) => {}
        Some(2) if action == SeccompAction::KillProcess => assert!(ran.err.contains("seccomp filter"), "{}", ran.err),
        other => panic!("{other:?}: {}\n{}", ran.out, ran.err),
    }
    must_be_fair(&ran);
    must_leave_nothing(directory.path());
}

/// A control group for so many bytes of memory, of either version, which goes with the value; nothing where none can be made.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn of(bytes: u64) -> Option<MemoryGroup> {
        let name = format!("mmap-conformance.{}", std::process::id());
        let limits = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
        limits.into_iter().find_map(|(root, limit)| {
            let group = MemoryGroup(Path::new(root).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            // In a directory of another kind of file system nothing comes into being with it.
            let limit = std::fs::OpenOptions::new().write(true).open(group.0.join(limit));
            std::io::Write::write_all(&mut limit.ok()?, bytes.to_string().as_bytes()).ok()?;
            // Without swap there may be no such file, and none is needed.
            let _ = std::fs::write(group.0.join("memory.swap.max"), "0");
            Some(group)
        })
    }

    /// How many processes it has killed.
    fn killed(&self) -> u64 {
        let texts = ["memory.events", "memory.oom_control"].map(|file| std::fs::read_to_string(self.0.join(file)));
        let lines: Vec<String> = texts.into_iter().flatten().collect();
        let count = lines.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix("oom_kill "));
        count.map_or(0, |count| count.trim().parse().expect("a number"))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Those that were killed leave it a little later.
        soon("the control group is empty", || std::fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

#[test]
fn a_worker_that_is_killed_for_memory_is_no_violation() {
    let mut killed = 0;
    for megabytes in [32, 16, 8, 6] {
        let Some(group) = MemoryGroup::of(megabytes << 20) else {
            eprintln!("note: no memory control group can be made here");
            return;
        };
        let directory = directory();
        let script = format!("echo $$ >{}/cgroup.procs || exit 99; run anon mmap flag", group.0.display());
        let ran = ran(&mut shell(&script, directory.path()));
        match ran.status {
            Some(0) => {}
            // The group may have killed the shell, or the runner itself.
            Some(99 | 137) | None => continue,
            Some(2) => assert!(ran.err.contains("memory"), "{}", ran.err),
            other => panic!("{other:?} in {megabytes} MiB: {}\n{}", ran.out, ran.err),
        }
        must_be_fair(&ran);
        must_leave_nothing(directory.path());
        killed += group.killed();
    }
    eprintln!("note: {killed} processes were killed");
}

/// Waits for something that is about to happen.
fn soon(what: &str, happens: impl Fn() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} within 30 s");
        std::thread::yield_now();
    }
}

/// Whether any process works in a directory or has one below it as its own.
fn is_worked_in(directory: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| process.path().join("cwd").read_link().ok()).any(|at| at.starts_with(directory))
}

/// Whether this process ignores a signal, as what a shell starts behind itself ignores SIGINT (proc_pid_status(5), SigIgn).
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[rstest]
fn a_signal_at_any_moment_leaves_nothing(
    #[values(Signal::INT, Signal::TERM, Signal::KILL)] signal: Signal,
    // Milliseconds from the start: before there is a worker, between two, and among many.
    #[values(0, 3, 17, 41, 97, 203, 389)] moment: u64,
) {
    let directory = directory();
    let path = directory.path().canonicalize().expect("it is there");
    let mut command = program();
    command.args(["run", "--jobs", "2", "--format", "json", "--dir"]).arg(&path);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started");
    std::thread::sleep(Duration::from_millis(moment));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("a signal");
    let ran = program::of(child.wait_with_output().expect("an end"));
    if signal == Signal::KILL {
        assert_eq!(ran.status, None, "{}", ran.err);
    } else {
        // A program that has not come to its own handler yet dies of the signal, or does not notice it if it is ignored here.
        let unnoticed = ran.status == Some(0) && is_ignored(signal);
        assert!(unnoticed || matches!(ran.status, Some(2) | None), "{:?} {}", ran.status, ran.err);
        must_be_fair(&ran);
    }
    soon("no process is left", || !is_worked_in(&path));
    soon("no file is left", || std::fs::read_dir(&path).is_ok_and(|mut left| left.next().is_none()));
}

/// The directory of the run comes into being some milliseconds after the start: there must be no moment between that and
/// somebody to remove it.
#[test]
fn killed_while_it_sets_up_a_run_it_leaves_nothing() {
    let directory = directory();
    let path = directory.path().canonicalize().expect("it is there");
    for moment in (0..8_000).step_by(100) {
        let mut command = program();
        command.args(["run", "anon.zeroed", "--dir"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program can be started");
        std::thread::sleep(Duration::from_micros(moment));
        child.kill().expect("a signal");
        child.wait().expect("an end");
        soon("no process is left", || !is_worked_in(&path));
        soon("no file is left", || std::fs::read_dir(&path).is_ok_and(|mut left| left.next().is_none()));
    }
}

#[test]
fn a_clock_of_another_time_is_no_matter() {
    let directory = directory();
    let inner = shell("run", directory.path());
    let in_time = |program: &std::ffi::OsStr| {
        let mut command = Command::new("unshare");
        command.args(["--time", "--fork", "--monotonic", "300000000", "--boottime", "300000000"]).arg(program);
        command
    };
    let works = in_time("true".as_ref()).stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        eprintln!("note: no time namespace can be had here");
        return;
    }
    let mut command = in_time(inner.get_program());
    command.args(inner.get_args()).current_dir("/").stdin(Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = ran(&mut command);
    assert_eq!(ran.status, Some(0), "{}\n{}", ran.out, ran.err);
    must_be_fair(&ran);
    must_leave_nothing(directory.path());
}

/// The clock of the day can be set, and then jumps: it would take the right to do that to see what becomes of a run.
#[test]
fn no_clock_that_can_be_set_is_read() {
    let mut directories = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("the sources").flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(entry.path()).expect("text");
            for clock in ["SystemTime", "ClockId::Realtime", "CLOCK_REALTIME", "gettimeofday"] {
                assert!(!text.contains(clock), "{clock} in {}", entry.path().display());
            }
        }
    }
    assert!(files > 100, "only {files} files were looked at");
}
