//! A violation as a file, to be performed again on this or another kernel.

use serde::{Deserialize, Serialize};

use super::Heading;
use crate::claim::Claim;
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
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
        let (steps, expected, seen) = match failure {
            Failure::Violation(violation) => {
                let departure = &violation.departure;
                (&violation.steps, departure.expected.clone(), departure.seen.clone())
            }
            Failure::Lost { steps, how, .. } => (steps, "an answer to every call".to_owned(), how.clone()),
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
        let mut kept = now.len() == self.steps.len();
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
            if differs(&step.outcome, outcome) {
                lines.push(format!("      recorded: {}", step.outcome));
            }
        }
        (lines, kept)
    }
}

/// Contents are kept cut in a recording's outcome, and whole in what the rule asks for.
fn allows(expect: &crate::lab::expect::Expect, outcome: &Outcome) -> bool {
    use crate::lab::expect::Expect;
    match (expect, outcome) {
        (Expect::Relation(_), _) => true,
        (Expect::Bytes(bytes), Outcome::Bytes(seen)) => bytes.starts_with(seen),
        (Expect::Contents { bytes, or }, Outcome::Bytes(seen)) => {
            let near = |(at, (one, two)): (usize, (&u8, &u8))| one == two || or.contains(&(at, *two));
            seen.len() <= bytes.len() && bytes.iter().zip(seen).enumerate().all(near)
        }
        _ => expect.allows(outcome),
    }
}

/// Addresses and process identifiers differ from run to run and mean nothing.
fn differs(one: &Outcome, two: &Outcome) -> bool {
    match (one, two) {
        (Outcome::Mapped(_), Outcome::Mapped(_)) => false,
        (Outcome::Stat(one), Outcome::Stat(two)) => (one.mode, one.size, one.links) != (two.mode, two.size, two.links),
        (one, two) => one != two,
    }
}
