//! Surroundings that lack something: never a false pass, never a false violation, nothing left behind, and a word on what was missing.

mod program;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use program::{Ran, program, ran};
use rstest::rstest;
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
#[case::vanishing("mkdir $D/x; D=$D/x; (sleep 0.3; rm -rf $D) & CASES=4096 run; s=$?; wait; exit $s", "cannot work in")]
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
