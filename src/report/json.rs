//! A run, for programs.

use super::Run;
use super::document::{
    ClaimReport, Document, PartReport, Program, Rows, SCHEMA, Skipped, StepReport, TotalsReport, ViolationReport,
};
use super::violation::Replay;
use crate::claim::Claim;
use crate::kernel::notation::prefix;
use crate::kernel::outcome::Lack;
use crate::lab::trace::Step;
use crate::reproduce::c_program;
use crate::reproduce::saved::Saved;
use crate::run::job::Seen;
use crate::run::outcome::{ClaimResult, Failure, PartResult, Status};

/// The run as one line of JSON.
pub fn text(run: &Run<'_>) -> String {
    let document = Document {
        schema: SCHEMA,
        program: Program { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() },
        profile: &run.profile,
        seed: run.seed,
        cases: run.cases,
        interrupted: run.interrupted,
        result: if run.passed() { Status::Pass } else { Status::Fail },
        claims: run
            .results
            .iter()
            .filter_map(|result| Some(claim_report(run.claim(&result.id)?, result, run.into())))
            .collect(),
        snapshots: run.snapshots.clone(),
        rows: run.rows.clone(),
        totals: TotalsReport { totals: run.totals(), seconds: run.seconds },
    };
    serde_json::to_string(&document).expect("no field can fail to be written as JSON")
}

fn claim_report(claim: &Claim, result: &ClaimResult, replay: Replay<'_>) -> ClaimReport {
    let mut violations = result.failures.iter().map(|failure| violation(claim, failure, replay));
    let reason = match result.status {
        Status::Unobservable => claim.standing.instead().map(str::to_owned),
        Status::Skip => result.parts.iter().find_map(|part| reason(&part.skipped)),
        Status::Known | Status::Stale => result.deviations_that_are(result.status).next().map(|one| one.reason.clone()),
        Status::Pass | Status::Fail => None,
    };
    ClaimReport {
        id: result.id.clone(),
        result: result.status,
        reason,
        cases: result.cases(),
        parts: result.parts.iter().map(part_report).collect(),
        calls: result.calls,
        seconds: result.milliseconds as f64 / 1000.0,
        violation: violations.next(),
        further_violations: violations.collect(),
        deviations: result.deviations.clone(),
    }
}

fn part_report(part: &PartResult) -> PartReport {
    let skipped = part.skipped.iter().map(|(lack, cases)| {
        let (reason, hint) = lack.hint();
        Skipped { reason: reason.into(), hint: hint.into(), cases: *cases }
    });
    PartReport {
        name: part.name.clone(),
        result: part.status,
        cases: part.cases,
        reason: if part.status == Status::Skip { reason(&part.skipped) } else { None },
        skipped: skipped.collect(),
    }
}

fn reason(skipped: &[(Lack, usize)]) -> Option<String> {
    skipped.first().map(|(lack, _)| lack.hint().0.to_owned())
}

fn violation(claim: &Claim, failure: &Failure, replay: Replay<'_>) -> ViolationReport {
    let report = ViolationReport {
        kind: String::new(),
        part: failure.part().and_then(|index| claim.parts.get(index)).map(|part| part.name.to_owned()),
        case: None,
        input: None,
        expected: String::new(),
        seen: String::new(),
        steps: Vec::new(),
        departure: None,
        replay: replay.command(claim.id),
        program: Saved::of(claim, failure).and_then(|saved| c_program(&saved.heading, &saved.steps).ok()),
    };
    match failure {
        Failure::Violation(violation) => ViolationReport {
            kind: "violation".into(),
            case: Some(violation.case),
            input: Some(violation.input.clone()),
            expected: violation.departure.expected.clone(),
            seen: violation.departure.seen.clone(),
            steps: violation.steps.iter().map(step).collect(),
            departure: Some(violation.departure.step),
            ..report
        },
        Failure::Lost { case, how, input, steps, .. } => ViolationReport {
            kind: "lost".into(),
            case: Some(*case),
            input: Some(input.clone()),
            expected: "an answer to every call".into(),
            seen: how.clone(),
            steps: steps.iter().map(step).collect(),
            departure: steps.len().checked_sub(1),
            ..report
        },
        Failure::Harness { why } => ViolationReport {
            kind: "harness".into(),
            expected: "a run of every case that was declared".into(),
            seen: why.clone(),
            ..report
        },
    }
}

/// What was seen of a claim, part by part.
pub fn rows(claim: &Claim, seen: &[Seen]) -> Vec<Rows> {
    let rows = |seen: &Seen| {
        Some(Rows {
            claim: claim.id.to_owned(),
            part: claim.parts.get(seen.part)?.name.to_owned(),
            rows: seen.rows.clone(),
            facts: seen.facts.clone(),
            lacking: seen.lacking.map(|lack| lack.hint().0.to_owned()),
        })
    };
    seen.iter().filter_map(rows).collect()
}

fn step(step: &Step) -> StepReport {
    let prefix = prefix(step.actor);
    let line = step.line();
    StepReport { actor: format!("{:?}", step.actor), line: line.strip_prefix(&prefix).unwrap_or(&line).to_owned() }
}
