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
    /// It deviates from the rule, as is listed for this system.
    Known,
    /// It keeps the rule, although a deviation is listed for this system.
    Stale,
}

impl Status {
    /// The one word for it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Pass => "pass",
            Status::Fail => "fail",
            Status::Skip => "skip",
            Status::Unobservable => "unobservable",
            Status::Known => "known",
            Status::Stale => "stale",
        }
    }
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

/// A listed deviation that was to be seen on this system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deviation {
    /// The part that deviates; nothing if any part may.
    pub part: Option<String>,
    /// Known if it was seen, stale if not.
    pub result: Status,
    /// Why the system deviates.
    pub reason: String,
    /// Where that is documented.
    pub link: Option<String>,
    /// Where it is listed: file and line.
    pub listed: String,
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
    /// What is listed of it as a deviation of this system.
    pub deviations: Vec<Deviation>,
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
        failures.extend(shortfall(claim, wanted, reports, &failures));
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
        let deviations = Vec::new();
        ClaimResult { id: claim.id.to_owned(), status, parts, failures, deviations, calls, milliseconds }
    }

    /// The listed deviations of this kind: known, or stale.
    pub fn deviations_that_are(&self, result: Status) -> impl Iterator<Item = &Deviation> {
        self.deviations.iter().filter(move |one| one.result == result)
    }

    /// How many cases ran.
    pub fn cases(&self) -> usize {
        self.parts.iter().map(|part| part.cases).sum()
    }
}

/// A part of which fewer cases were heard than it declares, though nothing is known to have ended it: it has not passed.
fn shortfall(
    claim: &crate::claim::Claim,
    wanted: usize,
    reports: &[PartReport],
    failures: &[Failure],
) -> Option<Failure> {
    let ended = |index| failures.iter().any(|failure| failure.part().is_none_or(|part| part == index));
    claim.parts.iter().enumerate().filter(|(index, _)| !ended(*index)).find_map(|(index, part)| {
        let report = reports.iter().find(|report| report.part == index);
        let heard =
            report.map_or(0, |report| report.ran + report.skipped.iter().map(|(_, count)| count).sum::<usize>());
        let declared = claim.cases(part, wanted);
        let why = || format!("part {} ran {heard} of the {declared} cases that it declares", part.name);
        (heard != declared).then(|| Failure::Harness { why: why() })
    })
}

impl ClaimResult {
    /// Whether it failed for no fault of the kernel's that was seen: the suite could not put it, or lost count.
    pub fn is_of_the_suite(&self) -> bool {
        let of_the_suite = |failure: &Failure| matches!(failure, Failure::Harness { .. });
        !self.failures.is_empty() && self.failures.iter().all(of_the_suite)
    }
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
