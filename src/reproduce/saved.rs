//! A violation as a file, to be performed again on this or another kernel.

use serde::{Deserialize, Serialize};

use super::Heading;
use crate::claim::Claim;
use crate::kernel::call::Call;
use crate::kernel::data::Data;
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
use crate::lab::expect::Expect;
use crate::lab::trace::Step;
use crate::run::outcome::Failure;

/// The version of the form.
const VERSION: u32 = 1;

/// A recording: what was done, what came of it, and what the rule asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The version of this form.
    pub version: u32,
    /// The page size of the kernel that it was recorded on, in bytes.
    pub page_size: usize,
    /// The claim, its rule, and the departure.
    pub heading: Heading,
    /// The calls.
    pub steps: Vec<Step>,
}

impl Saved {
    /// What is worth keeping of a failure: nothing, if there are no calls to perform again.
    pub fn of(claim: &Claim, failure: &Failure) -> Option<Saved> {
        let (steps, expected, seen, arena) = match failure {
            Failure::Violation(violation) => {
                let departure = &violation.departure;
                (&violation.steps, departure.expected.clone(), departure.seen.clone(), departure.arena)
            }
            Failure::Lost { steps, how, .. } => (steps, "an answer to every call".to_owned(), how.clone(), 0),
            Failure::Harness { .. } => return None,
        };
        if steps.is_empty() {
            return None;
        }
        let heading = Heading {
            claim: claim.id.to_owned(),
            rule: claim.statement.to_owned(),
            basis: claim.basis.iter().map(ToString::to_string).collect(),
            expected,
            seen,
            arena,
        };
        Some(Saved { version: VERSION, page_size: page(), heading, steps: steps.clone() })
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// In words: it is no recording, or one of another form.
    pub fn parse(text: &str) -> Result<Saved, String> {
        let saved: Saved = serde_json::from_str(text).map_err(|error| format!("this is no recording: {error}"))?;
        if saved.version != VERSION {
            return Err(format!("a recording of form {}, and this program reads form {VERSION}", saved.version));
        }
        if saved.page_size != page() {
            return Err(format!("recorded with pages of {} bytes, and this kernel has {}", saved.page_size, page()));
        }
        Ok(saved)
    }

    /// Its text.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Line by line: each call, what the rule asks for where it asks, what was recorded, and what happened now; and whether the rule was kept now.
    pub fn compare(&self, now: &[Outcome]) -> (Vec<String>, bool) {
        let mut kept = now.len() == self.steps.len() && !self.relation_fails(now);
        let mut lines = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let Some(outcome) = now.get(index) else {
                lines.push(format!("  {}: not reached", step.call));
                continue;
            };
            let here = Step { outcome: outcome.clone(), ..step.clone() };
            let asked = step.expect.as_ref().filter(|expect| !allows(expect, outcome));
            let mark = if asked.is_some() { ">" } else { " " };
            lines.push(format!("{mark} {}", here.line()));
            if let Some(expect) = asked {
                kept = false;
                lines.push(format!("      the rule: {expect}"));
            }
            if differs(step, outcome) {
                lines.push(format!("      recorded: {}", step.outcome));
            }
        }
        (lines, kept)
    }
}

impl Saved {
    /// Whether a relation between outcomes does not hold now as it did not when it was recorded: for all the outcomes are the
    /// same, or those who shared a stream have not had each piece once.
    fn relation_fails(&self, now: &[Outcome]) -> bool {
        let both = || self.steps.iter().zip(now);
        let mut shares = both().filter_map(|(step, outcome)| match (&step.expect, outcome) {
            (Some(expect @ Expect::Share { of, .. }), Outcome::Bytes(bytes)) => {
                Some((expect, of.iter().map(Data::len).sum::<usize>(), bytes))
            }
            _ => None,
        });
        let all: Vec<u8> = shares.clone().flat_map(|(_, _, bytes)| bytes.iter().copied()).collect();
        if let Some((expect, len, _)) = shares.next_back() {
            return all.len() != len || !expect.allows(&Outcome::Bytes(all));
        }
        let Some(departed) = self.steps.iter().rfind(|step| !step.is_untold()) else { return false };
        matches!(&departed.expect, Some(Expect::Relation(words)) if self.heading.expected.starts_with(words))
            && !matches!(departed.outcome, Outcome::Mapped(_))
            && both().all(|(step, outcome)| !differs(step, outcome))
    }
}

/// What the rule asks for is kept cut where it was had.
fn allows(expect: &Expect, outcome: &Outcome) -> bool {
    match (expect, outcome) {
        (Expect::Relation(_), _) => true,
        (Expect::Bytes(bytes), Outcome::Bytes(seen)) if bytes.len() == Outcome::KEPT => seen.starts_with(bytes),
        _ => expect.allows(outcome),
    }
}

/// Addresses and process identifiers differ from run to run and mean nothing.
fn differs(step: &Step, now: &Outcome) -> bool {
    match (&step.outcome, now) {
        (Outcome::Value(_), Outcome::Value(_)) if matches!(step.call, Call::Fork { .. } | Call::Peer { .. }) => false,
        (Outcome::Mapped(_), Outcome::Mapped(_)) => false,
        (Outcome::Stat(one), Outcome::Stat(two)) => (one.mode, one.size, one.links) != (two.mode, two.size, two.links),
        // Contents that were as they should be are kept cut.
        (Outcome::Bytes(one), Outcome::Bytes(two)) if one.len() == Outcome::KEPT => !two.starts_with(one),
        (one, two) => one != two,
    }
}
