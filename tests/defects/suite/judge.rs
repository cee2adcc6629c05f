//! What is looked for by which claims, and whether the suite has found it.

use libtest_mimic::{Completion, Failed};
use mmap_conformance::{claims, sequences};

use super::findings::Findings;
use super::traced::Traced;
use crate::tracer::defect::Defect;

/// How a defect is looked for.
pub struct Looking {
    defect: &'static Defect,
    /// Claims that are put to the kernel; none for all.
    pub claims: Vec<&'static str>,
    /// How many cases each.
    pub cases: usize,
}

/// Claims are tried with so many times the cases that were needed when it was measured, for their inputs change.
const MARGIN: usize = 2;
/// Claims that stand beside the named ones in the same family.
const NEIGHBOURS: usize = 2;

impl Looking {
    /// By the claims named for the defect and some beside them, or by `every` claim.
    pub fn of(defect: &'static Defect, findings: &Findings, every: bool) -> Looking {
        let cases = findings.needed(defect.name).map_or(256, |needed| (needed * MARGIN).clamp(24, 256));
        let claims = if every { Vec::new() } else { with_neighbours(defect.claims) };
        Looking { defect, claims, cases }
    }

    /// Whether it was found: by a claim named for it, in a call's outcome, in a run that was not harmed otherwise.
    pub fn judge(&self, traced: &Traced) -> Result<Completion, Failed> {
        traced.is_whole()?;
        let named = || self.defect.claims.iter().filter_map(|id| traced.results.get(*id));
        let missing: Vec<&str> = self.claims.iter().copied().filter(|id| !traced.results.contains_key(*id)).collect();
        if !missing.is_empty() {
            return Err(format!("no result for {missing:?}\n{}", traced.said).into());
        }
        if traced.report.applied == 0 && named().any(|result| result.lacks_something()) {
            return Ok(Completion::ignored_with("nothing here makes the call that it is about"));
        }
        if !named().any(|result| result.violations().next().is_some()) {
            return Err(format!(
                "{}: {}. Shown {} times, not found by {:?}; failed:{}",
                self.defect.correct,
                self.defect.wrong,
                traced.report.applied,
                self.defect.claims,
                traced.complaints()
            )
            .into());
        }
        match traced.exit_status() {
            Some(1) => Ok(Completion::Completed),
            other => Err(format!("exit status {other:?} of a run in which claims failed\n{}", traced.said).into()),
        }
    }
}

/// These claims, and the next ones in the family of each.
fn with_neighbours(named: &[&'static str]) -> Vec<&'static str> {
    let all: Vec<&'static str> = claims::all().iter().chain(&sequences::claims()).map(|claim| claim.id).collect();
    let mut chosen = named.to_vec();
    for id in named {
        let family = |other: &str| other.split('.').next() == id.split('.').next();
        let at = all.iter().position(|other| other == id).unwrap_or(0);
        let beside = all[at..].iter().chain(&all[..at]).filter(|other| family(other) && !named.contains(other));
        chosen.extend(beside.take(NEIGHBOURS));
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}
