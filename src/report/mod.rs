//! What is told of claims and of a run: for people and for programs.

pub mod compare;
pub mod condition;
pub mod document;
pub mod errata;
pub mod human;
pub mod implementation;
pub mod json;
pub mod junit;
pub mod known;
pub mod ktap;
pub mod listing;
pub mod page;
pub mod paint;
pub mod profile;
pub mod progress;
pub mod snapshot;
pub mod violation;

use crate::claim::Claim;
use crate::run::outcome::{ClaimResult, Status};
use document::Rows;
use profile::Profile;
use snapshot::{Comparison, Standing};

/// One run: what was asked for, and what was found.
pub struct Run<'c> {
    /// The claims that were asked for.
    pub claims: &'c [Claim],
    /// The seed that every case was drawn from.
    pub seed: u64,
    /// How many cases each claim was to try.
    pub cases: usize,
    /// The directory under test, if one was named.
    pub directory: Option<&'c std::path::Path>,
    /// The system.
    pub profile: Profile,
    /// What became of the claims; fewer than asked for if the run was ended early.
    pub results: Vec<ClaimResult>,
    /// How the snapshots compare with the reviewed ones, if that was asked for.
    pub snapshots: Option<Vec<Comparison>>,
    /// What was seen in the cases that snapshots show, if that was asked for.
    pub rows: Option<Vec<Rows>>,
    /// How long it took.
    pub seconds: f64,
    /// Someone ended it.
    pub interrupted: bool,
}

/// How much of it there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
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

/// A claim, and what became of it; nothing if it was not reached.
type Entry<'r> = (&'r Claim, Option<&'r ClaimResult>);

impl<'c> Run<'c> {
    /// The claims by the first word of their ids.
    fn topics(&self) -> Vec<(&'c str, Vec<Entry<'_>>)> {
        let mut topics: Vec<(&str, Vec<_>)> = Vec::new();
        for claim in self.claims {
            let topic = topic(claim.id);
            let entry = (claim, self.results.iter().find(|result| result.id == claim.id));
            match topics.iter_mut().find(|(name, _)| *name == topic) {
                Some((_, entries)) => entries.push(entry),
                None => topics.push((topic, vec![entry])),
            }
        }
        topics
    }
}

/// The first word of an id.
fn topic(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

/// Text whose characters all show: controls, and what turns the direction of writing, are escaped; lines stay lines.
fn printable(text: &str) -> String {
    let hidden = |c: char| {
        !matches!(c, '\n' | '\t')
            && (c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}'))
    };
    text.chars().flat_map(|c| if hidden(c) { c.escape_default().collect() } else { vec![c] }).collect()
}
