//! What is told of claims and of a run: for people and for programs.

pub mod condition;
pub mod errata;
pub mod human;
pub mod implementation;
pub mod json;
pub mod known;
pub mod listing;
pub mod paint;
pub mod profile;
pub mod progress;
pub mod snapshot;
pub mod violation;

use crate::claim::Claim;
use crate::run::outcome::{ClaimResult, Status};
use profile::Profile;
use snapshot::{Comparison, Standing};

/// One run: what was asked for, and what was found.
pub struct Run<'c> {
    /// The claims that were asked for.
    pub claims: &'c [Claim],
    /// The seed that every case was drawn from.
    pub seed: u64,
    /// How many cases each part was to try.
    pub cases: usize,
    /// The directory under test, if one was named.
    pub directory: Option<&'c std::path::Path>,
    /// The system.
    pub profile: Profile,
    /// What became of the claims; fewer than asked for if the run was ended early.
    pub results: Vec<ClaimResult>,
    /// How the snapshots compare with the reviewed ones, if that was asked for.
    pub snapshots: Option<Vec<Comparison>>,
    /// How long it took.
    pub seconds: f64,
    /// Someone ended it.
    pub interrupted: bool,
}

/// How much of it there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Totals {
    /// Claims that were asked for.
    pub claims: usize,
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those of which every part was skipped.
    pub skipped: usize,
    /// Those that no program can decide.
    pub unobservable: usize,
    /// Those that deviate, as is listed.
    pub known: usize,
    /// Those that are listed as deviating, and do not.
    pub stale: usize,
    /// Those that were not reached.
    pub missing: usize,
    /// Parts.
    pub parts: usize,
    /// Parts of which every case was skipped.
    pub parts_skipped: usize,
    /// Cases that ran.
    pub cases: usize,
    /// Cases that were skipped.
    pub cases_skipped: usize,
    /// System calls and accesses to memory that were put to the kernel.
    pub calls: u64,
}

impl Run<'_> {
    /// How much of it there was.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { claims: self.claims.len(), ..Totals::default() };
        totals.missing = self.claims.len().saturating_sub(self.results.len());
        for result in &self.results {
            match result.status {
                Status::Pass => totals.passed += 1,
                Status::Fail => totals.failed += 1,
                Status::Skip => totals.skipped += 1,
                Status::Unobservable => totals.unobservable += 1,
                Status::Known => totals.known += 1,
                Status::Stale => totals.stale += 1,
            }
            totals.parts += result.parts.len();
            totals.parts_skipped += result.parts.iter().filter(|part| part.status == Status::Skip).count();
            totals.cases += result.cases();
            totals.cases_skipped += result.parts.iter().flat_map(|part| &part.skipped).map(|(_, n)| n).sum::<usize>();
            totals.calls += result.calls;
        }
        totals
    }

    /// Whether nothing failed or is stale, every claim that was asked for was put to the kernel, and what was seen is what was reviewed.
    pub fn passed(&self) -> bool {
        let totals = self.totals();
        let as_reviewed = |one: &Comparison| matches!(one.result, Standing::Same | Standing::New | Standing::Known);
        totals.failed == 0
            && totals.stale == 0
            && totals.missing == 0
            && self.snapshots.iter().flatten().all(as_reviewed)
    }

    /// The claim with this id, of those that were asked for.
    pub fn claim(&self, id: &str) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == id)
    }
}
