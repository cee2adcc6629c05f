//! The harness sees what it should: claims that are right, wrong, or fatal to their worker are planted, and it is looked at
//! what is made of them.

use std::sync::LazyLock;
use std::time::Duration;

use mmap_conformance::claim::Claim;
use mmap_conformance::claims;
use mmap_conformance::kernel::environment;
use mmap_conformance::report::paint::Paint;
use mmap_conformance::report::violation::{self, Replay};
use mmap_conformance::run::job::{PartReport, Violation};
use mmap_conformance::run::outcome::{ClaimResult, Failure, Status};
use mmap_conformance::run::runner::Runner;
use mmap_conformance::run::settings::Settings;
use rstest::rstest;

static RUNNER: LazyLock<Runner> = LazyLock::new(|| {
    environment::set_program(env!("CARGO_BIN_EXE_mmap-conformance").into());
    let settings = Settings { seed: 7, timeout: Duration::from_secs(5), ..Settings::default() };
    Runner::new(settings).expect("a run can be made")
});

fn another(settings: Settings) -> Runner {
    LazyLock::force(&RUNNER);
    Runner::new(settings).expect("a run can be made")
}

fn planted(id: &str) -> Claim {
    claims::find(id).expect("the claim is planted")
}

fn run(id: &str) -> ClaimResult {
    RUNNER.run_claim(&planted(id)).expect("nothing ends the run")
}

fn violation(id: &str) -> Violation {
    let result = run(id);
    assert_eq!(result.status, Status::Fail);
    match result.failures.as_slice() {
        [Failure::Violation(violation)] => violation.clone(),
        other => panic!("one violation is expected, not {other:?}"),
    }
}

#[rstest]
#[case::unmapped("planted.unmapped")]
#[case::forbidden("planted.forbidden")]
#[case::beyond_the_file("planted.beyond")]
#[case::not_executable("planted.not-executable")]
fn a_fault_is_seen_and_survived(#[case] id: &str) {
    assert_eq!(run(id).status, Status::Pass);
}

#[rstest]
#[case::signal("planted.wrong-signal", "SIGSEGV SEGV_MAPERR at +0", "SIGBUS BUS_ADRERR at +0")]
#[case::code("planted.wrong-code", "SIGSEGV SEGV_MAPERR at +0", "SIGSEGV SEGV_ACCERR at +0")]
#[case::place("planted.wrong-place", "SIGSEGV SEGV_ACCERR at +1", "SIGSEGV SEGV_ACCERR at +0")]
#[case::none_at_all("planted.no-fault", "SIGSEGV SEGV_ACCERR at +0", "[00]")]
fn another_fault_is_a_violation(#[case] id: &str, #[case] expected: &str, #[case] seen: &str) {
    let departure = violation(id).departure;
    assert_eq!((departure.expected.as_str(), departure.seen.as_str()), (expected, seen));
}

#[rstest]
fn a_blocked_actor_is_seen_as_blocked() {
    assert_eq!(run("planted.blocked").status, Status::Pass);
}

#[rstest]
#[case::that_returns("planted.never-blocked", "the call blocks", "5")]
#[case::that_does_not("planted.stays-blocked", "5 bytes: \"hello\"", "blocked")]
fn a_call_is_not_taken_for_another(#[case] id: &str, #[case] expected: &str, #[case] seen: &str) {
    let departure = violation(id).departure;
    assert_eq!((departure.expected.as_str(), departure.seen.as_str()), (expected, seen));
}

#[rstest]
#[case::died("planted.dies", "the worker was killed by SIGSEGV")]
#[case::left("planted.leaves", "the worker exited with 0")]
#[case::panicked("planted.panics", "the suite itself failed: standard error says how")]
#[case::lied("planted.lies", "what it reported arrived damaged")]
#[case::blocked("planted.hangs", "blocked in a call that should return")]
fn a_lost_worker_is_a_violation(#[case] id: &str, #[case] expected: &str) {
    assert_eq!(loss(&run(id)), expected);
}

#[rstest]
fn a_worker_that_makes_no_progress_is_a_violation() {
    let runner = another(Settings { timeout: Duration::from_secs(1), ..Settings::default() });
    let result = runner.run_claim(&planted("planted.spins")).expect("nothing ends the run");
    assert_eq!(loss(&result), "no progress within 1 s");
}

fn loss(result: &ClaimResult) -> &str {
    assert_eq!(result.status, Status::Fail);
    match result.failures.as_slice() {
        [Failure::Lost { how, .. }] => how,
        other => panic!("one lost worker is expected, not {other:?}"),
    }
}

#[rstest]
#[case(1)]
#[case(2)]
#[case(3)]
fn shrinking_ends_in_the_smallest_case(#[case] seed: u64) {
    let runner = another(Settings { seed, ..Settings::default() });
    let input = |id: &str| match &runner.run_claim(&planted(id)).expect("nothing ends the run").failures[..] {
        [Failure::Violation(violation)] => violation.input.clone(),
        [Failure::Lost { input, .. }] => input.clone(),
        other => panic!("one failure is expected, not {other:?}"),
    };
    assert_eq!(input("planted.length"), "3p");
    assert_eq!(input("planted.dies"), "2p");
    assert_eq!(input("planted.named"), "5");
}

#[rstest]
fn what_the_machine_lacks_is_a_skip_with_a_reason() {
    let result = run("planted.skipped");
    assert_eq!(result.status, Status::Skip);
    assert_eq!(result.parts[0].skipped.len(), 1);
}

#[rstest]
#[case::nothing_was_heard(&[], "part main ran 0 of the 256 cases that it declares")]
#[case::less_was_heard(&[report(0, 255)], "part main ran 255 of the 256 cases that it declares")]
#[case::more_was_heard(&[report(0, 257)], "part main ran 257 of the 256 cases that it declares")]
#[case::another_part_was_heard(&[report(1, 256)], "part main ran 0 of the 256 cases that it declares")]
fn cases_that_did_not_run_have_not_passed(#[case] reports: &[PartReport], #[case] expected: &str) {
    let result = ClaimResult::of(&planted("planted.forbidden"), 256, reports, Vec::new(), 0);
    assert_eq!(result.status, Status::Fail);
    assert_eq!(result.failures, [Failure::Harness { why: expected.into() }]);
}

fn report(part: usize, ran: usize) -> PartReport {
    PartReport { part, ran, ..PartReport::default() }
}

#[rstest]
fn a_violation_reads_as_intended() {
    let claim = planted("planted.store");
    let result = run(claim.id);
    let replay = Replay { seed: 7, cases: 256, directory: None };
    let text = violation::text(&claim, &result.failures[0], replay, Paint::none());
    insta::assert_snapshot!(text, @r#"
      rule      Wrong: a store of two pages or more through a shared mapping does not reach the file.
      qualified true of this wrong claim only
      basis     unspecified: planted to test the harness
      part      main: lengths from one byte to 20 pages, most of them few and near page boundaries
      input     2p (the simplest found)
      calls       open("f1", O_RDWR|O_CREAT, 0600) = fd1
                  write(fd1, pattern#0[2p], 2p) = 2p
                  mmap(NULL, 2p, PROT_READ|PROT_WRITE, MAP_SHARED, fd1, 0) = m1
                  store(m1, pattern#1[2p])
                > pread(fd1, buf, 2p, 0) = "HTYwzILLzi{^prKbVLiMiUVl"...
      expected  2p bytes: [e0 eb 9c ec b5 88 ab aa fa e1 89 ae 99 f7 a9 d1 b4 e7 9a 97 f9 dc fd b1]...
      seen      2p of 2p bytes differ, the first at +0: "HTYwzILL" in the place of [e0 eb 9c ec b5 88 ab aa]
      case      0 of seed 7
      replay    mmap-conformance run planted.store --seed 7 --cases 256
    "#);
}

#[rstest]
fn a_lost_worker_reads_as_intended() {
    let claim = planted("planted.dies");
    let result = run(claim.id);
    let replay = Replay { seed: 7, cases: 256, directory: Some("/mnt/xfs".as_ref()) };
    let text = violation::text(&claim, &result.failures[0], replay, Paint::none());
    insta::assert_snapshot!(text, @r"
      rule      Wrong: there is something behind a mapping of two pages or more.
      basis     unspecified: planted to test the harness
      part      main: lengths from one byte to 20 pages, most of them few and near page boundaries
      input     2p
      calls       mmap(NULL, 2p, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = m1
                  munmap(m1, 2p) = 0
                  signal(SIGSEGV, SIG_DFL) = 0
                  signal(SIGBUS, SIG_DFL) = 0
                > load(m1, 2) -> has not come back
      expected  an answer to every call
      seen      the worker was killed by SIGSEGV
      case      0 of seed 7
      replay    mmap-conformance run planted.dies --seed 7 --cases 256 --dir /mnt/xfs
    ");
}
