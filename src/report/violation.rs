//! A violation as an engineer needs it: the rule and whose it is, the shortest way there, what was expected and what was seen.

use std::fmt::Write as _;

use super::Run;
use super::paint::Paint;
use crate::claim::Claim;
use crate::lab::trace::{Step, lines};
use crate::run::outcome::Failure;

/// What is the same for every violation of a run: how it is found again.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'r> {
    /// The seed of the run.
    pub seed: u64,
    /// How many cases each claim was to try.
    pub cases: usize,
    /// The directory under test, if one was named.
    pub directory: Option<&'r std::path::Path>,
}

impl Replay<'_> {
    /// The command that makes the same cases again.
    pub fn command(&self, claim: &str) -> String {
        let mut command = format!("mmap-conformance run {claim} --seed {} --cases {}", self.seed, self.cases);
        if let Some(directory) = self.directory {
            let _ = write!(command, " --dir {}", directory.display());
        }
        command
    }
}

impl<'r> From<&'r Run<'_>> for Replay<'r> {
    fn from(run: &'r Run<'_>) -> Replay<'r> {
        Replay { seed: run.seed, cases: run.cases, directory: run.directory }
    }
}

/// A failure of a claim, some lines of text.
pub fn text(claim: &Claim, failure: &Failure, replay: Replay<'_>, paint: Paint) -> String {
    let mut out = String::new();
    let mut line = |label: &str, text: &str| {
        let mut label = label;
        for piece in text.lines() {
            let _ = writeln!(out, "  {label:<9} {piece}");
            label = "";
        }
    };
    line("rule", claim.statement);
    if let Some(instead) = claim.standing.instead() {
        line(claim.standing.word(), instead);
    }
    for (index, basis) in claim.basis.iter().enumerate() {
        line(if index == 0 { "basis" } else { "" }, &basis.to_string());
    }
    if let Some(part) = failure.part().and_then(|index| claim.parts.get(index)) {
        line("part", &format!("{}: {}", part.name, part.about));
    }
    match failure {
        Failure::Violation(violation) => {
            line("input", &input(&violation.input, violation.simplified));
            line("calls", &trace(&violation.steps, Some(violation.departure.step), paint));
            line("expected", &paint.good(&violation.departure.expected));
            line("seen", &paint.bad(&violation.departure.seen));
            line("case", &format!("{} of seed {}", violation.case, replay.seed));
        }
        Failure::Lost { case, how, input: shown, steps, .. } => {
            if !shown.is_empty() {
                line("input", &input(shown, 0));
            }
            if !steps.is_empty() {
                line("calls", &trace(steps, Some(steps.len() - 1), paint));
            }
            line("expected", "an answer to every call");
            line("seen", &paint.bad(how));
            line("case", &format!("{case} of seed {}", replay.seed));
        }
        Failure::Harness { why } => line("seen", &paint.bad(why)),
    }
    line("replay", &replay.command(claim.id));
    out
}

fn input(shown: &str, simplified: usize) -> String {
    match (shown, simplified) {
        ("()", _) => "none: there is one case".into(),
        (shown, 0) => shown.to_owned(),
        (shown, _) => format!("{shown} (the simplest found)"),
    }
}

fn trace(steps: &[Step], departure: Option<usize>, paint: Paint) -> String {
    let marked = |line: String| if line.starts_with('>') { paint.bad(line) } else { line };
    lines(steps, departure).into_iter().map(marked).collect::<Vec<_>>().join("\n")
}
