//! A run, for programs. The names of fields are stable; [`SCHEMA`] counts up when one changes its meaning or goes.

use serde::Serialize;

use super::profile::Profile;
use super::snapshot::Comparison;
use super::violation::Replay;
use super::{Run, Totals};
use crate::claim::Claim;
use crate::kernel::notation::prefix;
use crate::kernel::outcome::Lack;
use crate::lab::trace::Step;
use crate::run::outcome::{ClaimResult, Deviation, Failure, PartResult, Status};

/// The version of the fields' names and meanings.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'r> {
    schema: u32,
    program: Program,
    profile: &'r Profile,
    seed: u64,
    cases: usize,
    interrupted: bool,
    result: &'static str,
    claims: Vec<ClaimReport<'r>>,
    snapshots: Option<&'r [Comparison]>,
    totals: TotalsReport,
}

#[derive(Serialize)]
struct Program {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct TotalsReport {
    #[serde(flatten)]
    totals: Totals,
    seconds: f64,
}

#[derive(Serialize)]
struct ClaimReport<'r> {
    id: &'r str,
    result: Status,
    /// Why it was skipped, cannot be observed, or deviates.
    reason: Option<String>,
    cases: usize,
    parts: Vec<PartReport<'r>>,
    calls: u64,
    seconds: f64,
    violation: Option<ViolationReport<'r>>,
    further_violations: Vec<ViolationReport<'r>>,
    deviations: &'r [Deviation],
}

#[derive(Serialize)]
struct PartReport<'r> {
    name: &'r str,
    result: Status,
    cases: usize,
    /// Why all of it was skipped.
    reason: Option<String>,
    skipped: Vec<Skipped>,
}

#[derive(Serialize)]
struct Skipped {
    reason: &'static str,
    hint: &'static str,
    cases: usize,
}

#[derive(Serialize)]
struct ViolationReport<'r> {
    kind: &'static str,
    part: Option<&'r str>,
    case: Option<usize>,
    input: Option<&'r str>,
    expected: &'r str,
    seen: &'r str,
    steps: Vec<StepReport>,
    departure: Option<usize>,
    replay: String,
}

#[derive(Serialize)]
struct StepReport {
    actor: String,
    line: String,
}

/// The run as one line of JSON.
pub fn text(run: &Run<'_>) -> String {
    let document = Document {
        schema: SCHEMA,
        program: Program { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") },
        profile: &run.profile,
        seed: run.seed,
        cases: run.cases,
        interrupted: run.interrupted,
        result: if run.passed() { "pass" } else { "fail" },
        claims: run
            .results
            .iter()
            .filter_map(|result| Some(claim_report(run.claim(&result.id)?, result, run.into())))
            .collect(),
        snapshots: run.snapshots.as_deref(),
        totals: TotalsReport { totals: run.totals(), seconds: run.seconds },
    };
    serde_json::to_string(&document).expect("no field can fail to be written as JSON")
}

fn claim_report<'r>(claim: &'r Claim, result: &'r ClaimResult, replay: Replay<'_>) -> ClaimReport<'r> {
    let mut violations = result.failures.iter().map(|failure| violation(claim, failure, replay));
    let reason = match result.status {
        Status::Unobservable => claim.standing.instead().map(str::to_owned),
        Status::Skip => result.parts.iter().find_map(|part| reason(&part.skipped)),
        Status::Known | Status::Stale => result.deviations_that_are(result.status).next().map(|one| one.reason.clone()),
        Status::Pass | Status::Fail => None,
    };
    ClaimReport {
        id: &result.id,
        result: result.status,
        reason,
        cases: result.cases(),
        parts: result.parts.iter().map(part_report).collect(),
        calls: result.calls,
        seconds: result.milliseconds as f64 / 1000.0,
        violation: violations.next(),
        further_violations: violations.collect(),
        deviations: &result.deviations,
    }
}

fn part_report(part: &PartResult) -> PartReport<'_> {
    let skipped = part.skipped.iter().map(|(lack, cases)| {
        let (reason, hint) = lack.hint();
        Skipped { reason, hint, cases: *cases }
    });
    PartReport {
        name: &part.name,
        result: part.status,
        cases: part.cases,
        reason: if part.status == Status::Skip { reason(&part.skipped) } else { None },
        skipped: skipped.collect(),
    }
}

fn reason(skipped: &[(Lack, usize)]) -> Option<String> {
    skipped.first().map(|(lack, _)| lack.hint().0.to_owned())
}

fn violation<'r>(claim: &'r Claim, failure: &'r Failure, replay: Replay<'_>) -> ViolationReport<'r> {
    let part = failure.part().and_then(|index| claim.parts.get(index)).map(|part| part.name);
    let replay = replay.command(claim.id);
    match failure {
        Failure::Violation(violation) => ViolationReport {
            kind: "violation",
            part,
            case: Some(violation.case),
            input: Some(&violation.input),
            expected: &violation.departure.expected,
            seen: &violation.departure.seen,
            steps: violation.steps.iter().map(step).collect(),
            departure: Some(violation.departure.step),
            replay,
        },
        Failure::Lost { case, how, input, steps, .. } => ViolationReport {
            kind: "lost",
            part,
            case: Some(*case),
            input: Some(input),
            expected: "an answer to every call",
            seen: how,
            steps: steps.iter().map(step).collect(),
            departure: steps.len().checked_sub(1),
            replay,
        },
        Failure::Harness { why } => ViolationReport {
            kind: "harness",
            part,
            case: None,
            input: None,
            expected: "a run of every case that was declared",
            seen: why,
            steps: Vec::new(),
            departure: None,
            replay,
        },
    }
}

fn step(step: &Step) -> StepReport {
    let prefix = prefix(step.actor);
    let line = step.line();
    StepReport { actor: format!("{:?}", step.actor), line: line.strip_prefix(&prefix).unwrap_or(&line).to_owned() }
}
