//! What a run found.

use serde::{Deserialize, Serialize};

use super::job::{PartReport, Violation};
use crate::kernel::outcome::Lack;
use crate::lab::trace::Step;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every part ran its cases, or was skipped by name, and one at least ran.
    Pass,
    /// The kernel did otherwise than the rule says, or the claim could not be put to its end.
    Fail,
    /// Every part was skipped.
    Skip,
    /// There is nothing to assert.
    Unobservable,
}

/// How a claim failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Failure {
    /// A call had another outcome than the rule allows.
    Violation(Violation),
    /// The worker itself was lost in a case.
    Lost {
        /// The part's index.
        part: usize,
        /// The case's index.
        case: usize,
        /// How it was lost.
        how: String,
        /// The input, after simplification, if it could be found again.
        input: String,
        /// The calls up to the fatal one, if it could be seen again.
        steps: Vec<Step>,
    },
    /// The harness could not do its work.
    Harness {
        /// Why.
        why: String,
    },
}

/// What became of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartResult {
    /// Its name.
    pub name: String,
    /// Pass, fail or skip.
    pub status: Status,
    /// How many cases ran.
    pub cases: usize,
    /// How many were skipped, and for want of what.
    pub skipped: Vec<(Lack, usize)>,
}

/// What became of a claim, and of each of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimResult {
    /// Its name.
    pub id: String,
    /// What became of it.
    pub status: Status,
    /// Part by part.
    pub parts: Vec<PartResult>,
    /// What went wrong.
    pub failures: Vec<Failure>,
    /// How many calls were put to the kernel.
    pub calls: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

impl ClaimResult {
    /// Puts together what the worker reported of the parts that a claim has, when each was to try so many cases.
    pub fn of(
        claim: &crate::claim::Claim,
        wanted: usize,
        reports: &[PartReport],
        mut failures: Vec<Failure>,
        milliseconds: u64,
    ) -> ClaimResult {
        if failures.is_empty() {
            failures.extend(shortfall(claim, wanted, reports));
        }
        let parts: Vec<PartResult> = claim
            .parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                let report = reports.iter().find(|report| report.part == index);
                let failed = failures.iter().any(|failure| failure.part() == Some(index));
                let (cases, skipped) = report.map_or((0, Vec::new()), |report| (report.ran, report.skipped.clone()));
                let status = match (failed, cases, skipped.is_empty()) {
                    (true, ..) => Status::Fail,
                    (false, 0, false) => Status::Skip,
                    // A part that was never heard of, or that ran nothing, has not passed.
                    (false, 0, true) => Status::Fail,
                    (false, ..) => Status::Pass,
                };
                PartResult { name: part.name.to_owned(), status, cases, skipped }
            })
            .collect();
        let any = |status| parts.iter().any(|part| part.status == status);
        let status = if parts.is_empty() {
            Status::Unobservable
        } else if !failures.is_empty() || any(Status::Fail) {
            Status::Fail
        } else if any(Status::Pass) {
            Status::Pass
        } else {
            Status::Skip
        };
        let calls = reports.iter().map(|report| report.calls).sum();
        ClaimResult { id: claim.id.to_owned(), status, parts, failures, calls, milliseconds }
    }

    /// How many cases ran.
    pub fn cases(&self) -> usize {
        self.parts.iter().map(|part| part.cases).sum()
    }
}

/// A part of which fewer cases were heard than it declares: whatever the reason, it has not passed.
fn shortfall(claim: &crate::claim::Claim, wanted: usize, reports: &[PartReport]) -> Option<Failure> {
    claim.parts.iter().enumerate().find_map(|(index, part)| {
        let report = reports.iter().find(|report| report.part == index);
        let heard =
            report.map_or(0, |report| report.ran + report.skipped.iter().map(|(_, count)| count).sum::<usize>());
        let declared = part.cases(wanted);
        let why = || format!("part {} ran {heard} of the {declared} cases that it declares", part.name);
        (heard != declared).then(|| Failure::Harness { why: why() })
    })
}

impl Failure {
    /// The index of the part that failed.
    pub fn part(&self) -> Option<usize> {
        match self {
            Failure::Violation(violation) => Some(violation.part),
            Failure::Lost { part, .. } => Some(*part),
            Failure::Harness { .. } => None,
        }
    }
}
