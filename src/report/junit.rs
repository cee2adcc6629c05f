//! A run as JUnit's XML: a suite for each topic, in it a test case for each claim. Profile and seed are properties of every suite.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::paint::Paint;
use super::snapshot::{Comparison, Standing};
use super::{Run, printable, violation};
use crate::claim::Claim;
use crate::run::outcome::{ClaimResult, Failure, Status};

const NAME: &str = "mmap-conformance";

/// Writes a run.
///
/// # Errors
/// Those of writing.
pub fn report(out: &mut dyn Write, run: &Run<'_>) -> io::Result<()> {
    let mut report = Report::new(NAME);
    report.set_time(Duration::from_secs_f64(run.seconds));
    for (topic, entries) in run.topics() {
        let mut suite = suite(topic, run);
        let milliseconds = entries.iter().filter_map(|(_, result)| *result).map(|result| result.milliseconds).sum();
        suite.set_time(Duration::from_millis(milliseconds));
        for (claim, result) in entries {
            let mut case = match result {
                Some(result) => of_claim(claim, result, run),
                None => TestCase::new(
                    claim.id,
                    failure(NonSuccessKind::Error, "missing", "not reached: the run was ended before", ""),
                ),
            };
            case.set_classname(format!("{NAME}.{topic}"));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    if let Some(list) = run.snapshots.as_ref().filter(|list| !list.is_empty()) {
        let mut suite = suite("snapshots", run);
        suite.add_test_cases(list.iter().map(of_snapshot));
        report.add_test_suite(suite);
    }
    report.serialize(&mut *out).map_err(io::Error::other)?;
    writeln!(out)
}

fn suite(name: &str, run: &Run<'_>) -> TestSuite {
    let mut suite = TestSuite::new(name);
    let profile = &run.profile;
    let properties = [
        ("kernel", profile.kernel.to_owned()),
        ("sysname", profile.sysname.clone()),
        ("release", profile.release.clone()),
        ("version", profile.version.clone()),
        ("machine", profile.machine.clone()),
        ("page_size", profile.page_size.to_string()),
        ("filesystem", profile.filesystem.kind.clone()),
        ("directory", profile.filesystem.directory.clone()),
        ("uid", profile.uid.to_string()),
        ("privileged", profile.privileged.to_string()),
        ("seed", run.seed.to_string()),
        ("cases", run.cases.to_string()),
    ];
    for (name, value) in properties {
        suite.add_property((name, printable(&value).as_str()));
    }
    suite
}

fn of_claim(claim: &Claim, result: &ClaimResult, run: &Run<'_>) -> TestCase {
    let text = || -> String {
        let one = |failure| violation::text(claim, failure, run.into(), Paint::none());
        result.failures.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    let deviation =
        || result.deviations_that_are(result.status).next().map(|one| one.reason.as_str()).unwrap_or_default();
    let status = match result.status {
        Status::Pass => TestCaseStatus::success(),
        Status::Skip => {
            let lack = result.parts.iter().find_map(|part| part.skipped.first());
            skipped("skip", &lack.map(|(lack, _)| lack.to_string()).unwrap_or_default())
        }
        Status::Unobservable => skipped("unobservable", claim.standing.instead().unwrap_or_default()),
        Status::Known => skipped("known", &format!("known deviation: {}", deviation())),
        Status::Stale => {
            failure(NonSuccessKind::Failure, "stale", &format!("a listed deviation has gone: {}", deviation()), "")
        }
        Status::Fail => {
            let (kind, word, message) = headline(&result.failures);
            failure(kind, word, &message, &text())
        }
    };
    let mut case = TestCase::new(claim.id, status);
    case.set_time(Duration::from_millis(result.milliseconds));
    let mut told = String::new();
    for part in &result.parts {
        told.push_str(&format!("{}: {}, {} cases", part.name, part.status.word(), part.cases));
        for (lack, count) in &part.skipped {
            told.push_str(&format!("; {count} skipped: {lack}"));
        }
        told.push('\n');
    }
    if result.status == Status::Known {
        told.push_str(&text());
    }
    case.set_system_out(printable(&told));
    case
}

/// What a failed claim's result is called, and one line on it.
fn headline(failures: &[Failure]) -> (NonSuccessKind, &'static str, String) {
    match failures.first() {
        Some(Failure::Violation(violation)) => {
            let departure = &violation.departure;
            let message = format!("expected {}, seen {}", departure.expected, departure.seen);
            (NonSuccessKind::Failure, "violation", message)
        }
        Some(Failure::Lost { how, .. }) => (NonSuccessKind::Error, "lost", format!("the worker was lost: {how}")),
        Some(Failure::Harness { why }) => (NonSuccessKind::Error, "harness", why.clone()),
        None => (NonSuccessKind::Error, "harness", "a part was not put to the kernel".into()),
    }
}

fn failure(kind: NonSuccessKind, word: &str, message: &str, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(word).set_message(printable(message));
    if !text.is_empty() {
        status.set_description(printable(text));
    }
    status
}

fn skipped(word: &str, why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_type(word).set_message(printable(why));
    status
}

fn of_snapshot(one: &Comparison) -> TestCase {
    let file = one.file.as_ref().map(|file| format!(": {}", file.display())).unwrap_or_default();
    let status = match one.result {
        Standing::Same => TestCaseStatus::success(),
        Standing::New => skipped("new", &format!("none has been reviewed for such a system{file}")),
        Standing::Known => skipped("known", &format!("the claim is known to deviate{file}")),
        Standing::Differs => {
            failure(NonSuccessKind::Failure, "differs", &format!("it differs from the reviewed one{file}"), "")
        }
        Standing::Lost => failure(NonSuccessKind::Error, "lost", one.reason.as_deref().unwrap_or_default(), ""),
    };
    let mut case = TestCase::new(one.name.as_str(), status);
    case.set_classname(format!("{NAME}.snapshots"));
    case
}
