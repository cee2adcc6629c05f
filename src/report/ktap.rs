//! A run as KTAP version 1 (the kernel's Documentation/dev-tools/ktap.rst): topics, in them claims, in them parts if there are
//! several. The name of each test is the word or id that it has everywhere else.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::paint::Paint;
use super::snapshot::{Comparison, Standing};
use super::{Run, printable, violation};
use crate::claim::Claim;
use crate::run::outcome::{ClaimResult, Failure, PartResult, Status};

/// A test with its subtests, as a result line and what stands before it tell it.
struct Test {
    name: String,
    ok: bool,
    /// What follows the hash: a directive, and why.
    note: String,
    diagnostics: String,
    subtests: Vec<Test>,
}

/// Writes a run.
///
/// # Errors
/// Those of writing.
pub fn report(out: &mut dyn Write, run: &Run<'_>) -> io::Result<()> {
    let mut tests: Vec<Test> = Vec::new();
    for (topic, entries) in run.topics() {
        let claims = entries.into_iter().map(|(claim, result)| match result {
            Some(result) => of_claim(claim, result, run),
            None => Test::leaf(claim.id, false, "ERROR not reached: the run was ended before".into()),
        });
        tests.push(Test::group(topic, claims.collect()));
    }
    if let Some(list) = run.snapshots.as_ref().filter(|list| !list.is_empty()) {
        tests.push(Test::group("snapshots", list.iter().map(of_snapshot).collect()));
    }
    let mut text = String::from("KTAP version 1\n");
    let head = format!(
        "mmap-conformance {} on {}\nseed {}, {} cases a claim",
        env!("CARGO_PKG_VERSION"),
        run.profile,
        run.seed,
        run.cases
    );
    diagnose(&mut text, 0, &head);
    write_all(&mut text, 0, &tests);
    out.write_all(text.as_bytes())
}

fn of_claim(claim: &Claim, result: &ClaimResult, run: &Run<'_>) -> Test {
    let mut diagnostics = String::new();
    for failure in &result.failures {
        diagnostics.push_str(&violation::text(claim, failure, run.into(), Paint::none()));
    }
    for one in &result.deviations {
        let part = one.part.as_ref().map(|part| format!(" of part {part}")).unwrap_or_default();
        let link = one.link.as_ref().map(|link| format!(" ({link})")).unwrap_or_default();
        let word = if one.result == Status::Stale { "gone" } else { "known" };
        let _ = writeln!(diagnostics, "  {word:<9} deviation{part}, {}: {}{link}", one.listed, one.reason);
    }
    let subtests = if result.parts.len() > 1 {
        result.parts.iter().map(|part| of_part(part, result)).collect()
    } else {
        Vec::new()
    };
    let ok = !matches!(result.status, Status::Fail | Status::Stale);
    Test { name: claim.id.into(), ok, note: note(claim, result), diagnostics, subtests }
}

/// The directive of a claim.
fn note(claim: &Claim, result: &ClaimResult) -> String {
    let reason = || result.deviations_that_are(result.status).next().map(|one| one.reason.as_str()).unwrap_or_default();
    match result.status {
        Status::Unobservable => format!("SKIP unobservable: {}", claim.standing.instead().unwrap_or_default()),
        Status::Skip => format!("SKIP {}", result.parts.first().map(lack).unwrap_or_default()),
        Status::Known => format!("XFAIL {}", reason()),
        Status::Stale => format!("a listed deviation has gone: {}", reason()),
        Status::Pass => String::new(),
        Status::Fail => result.failures.iter().find_map(error).unwrap_or_default(),
    }
}

/// The directive of a claim that could not be put to its end.
fn error(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Violation(_) => None,
        Failure::Lost { how, .. } => Some(format!("ERROR the worker was lost: {how}")),
        Failure::Harness { why } => Some(format!("ERROR {why}")),
    }
}

fn of_part(part: &PartResult, result: &ClaimResult) -> Test {
    let listed = |one: &&crate::run::outcome::Deviation| one.part.as_ref().is_none_or(|name| *name == part.name);
    let reason =
        result.deviations_that_are(part.status).find(listed).map(|one| one.reason.as_str()).unwrap_or_default();
    let (ok, note) = match part.status {
        Status::Skip => (true, format!("SKIP {}", lack(part))),
        Status::Known => (true, format!("XFAIL {reason}")),
        Status::Stale => (false, format!("a listed deviation has gone: {reason}")),
        Status::Pass | Status::Unobservable => (true, String::new()),
        Status::Fail => (false, String::new()),
    };
    Test::leaf(&part.name, ok, note)
}

/// Why a part was skipped, and what would help.
fn lack(part: &PartResult) -> String {
    part.skipped.first().map(|(lack, _)| lack.to_string()).unwrap_or_default()
}

fn of_snapshot(one: &Comparison) -> Test {
    let file = one.file.as_ref().map(|file| format!(": {}", file.display())).unwrap_or_default();
    let (ok, note) = match one.result {
        Standing::Same => (true, String::new()),
        Standing::New => (true, format!("SKIP none has been reviewed for such a system{file}")),
        Standing::Known => (true, format!("XFAIL the claim is known to deviate{file}")),
        Standing::Differs => (false, format!("it differs from the reviewed one{file}")),
        Standing::Lost => (false, format!("ERROR the worker was lost: {}", one.reason.as_deref().unwrap_or_default())),
    };
    Test::leaf(&one.name, ok, note)
}

impl Test {
    fn leaf(name: &str, ok: bool, note: String) -> Test {
        Test { name: name.into(), ok, note, diagnostics: String::new(), subtests: Vec::new() }
    }

    /// A test that is what its subtests are: failed if one is, skipped if all are.
    fn group(name: &str, subtests: Vec<Test>) -> Test {
        let ok = subtests.iter().all(|test| test.ok);
        let skipped = subtests.iter().all(|test| test.note.starts_with("SKIP"));
        let note = if skipped { "SKIP all of it was" } else { "" }.to_owned();
        Test { name: name.into(), ok, note, diagnostics: String::new(), subtests }
    }
}

fn write_all(text: &mut String, depth: usize, tests: &[Test]) {
    let indent = "  ".repeat(depth);
    let _ = writeln!(text, "{indent}1..{}", tests.len());
    for (index, test) in tests.iter().enumerate() {
        if !test.subtests.is_empty() {
            let inner = "  ".repeat(depth + 1);
            let _ = writeln!(text, "{inner}KTAP version 1\n{inner}# Subtest: {}", test.name);
            write_all(text, depth + 1, &test.subtests);
        }
        diagnose(text, depth, &test.diagnostics);
        let result = if test.ok { "ok" } else { "not ok" };
        let note = printable(&test.note).replace(['#', '\n'], " ");
        let note = if note.is_empty() { note } else { format!(" # {note}") };
        let _ = writeln!(text, "{indent}{result} {} {}{note}", index + 1, test.name);
    }
}

fn diagnose(text: &mut String, depth: usize, lines: &str) {
    for line in printable(lines).lines() {
        let _ = writeln!(text, "{}# {line}", "  ".repeat(depth));
    }
}
