//! The calls of a case and what became of them, in order.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::expect::Expect;
use crate::kernel::call::{ActorId, At, Call};
use crate::kernel::data::Excerpt;
use crate::kernel::names;
use crate::kernel::notation::{made, prefix};
use crate::kernel::outcome::{Fault, Lack, Outcome};

/// One call of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Who performed it.
    pub actor: ActorId,
    /// The call.
    pub call: Call,
    /// What became of it; long contents are cut where they are what was asked for.
    pub outcome: Outcome,
    /// What the claim asked for, if it did.
    pub expect: Option<Expect>,
    /// Whether correct systems differ in it, so that no snapshot shows it.
    pub aside: bool,
    /// The step before which an actor had begun the call, if others acted before its outcome was taken.
    #[serde(default)]
    pub begun: Option<usize>,
}

/// What is told of a call while it is made, so that it is known if the worker does not outlive it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Announcement {
    /// An actor is about to perform a call.
    Call(ActorId, Box<Call>),
    /// What became of the call that was announced last.
    Outcome(Outcome),
}

/// Why a case ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// The kernel did otherwise than the rule says.
    Violation(Box<Departure>),
    /// The machine lacks what the case needs.
    Lacking(Lack),
}

/// Where and how a case departed from the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The index of the call among the steps of its trace.
    pub step: usize,
    /// What the rule allows there.
    pub expected: String,
    /// What the kernel did.
    pub seen: String,
    /// Where the range for placement began, to which addresses in the trace compare.
    pub arena: usize,
}

/// The result of a case, and of most of what a claim asks for.
pub type Verdict<T = ()> = Result<T, Stop>;

impl Step {
    /// The line of a snapshot, which every system that keeps the rule gives: the call, and of its outcome what was judged.
    pub fn judged(&self) -> String {
        let name = made(&self.call).filter(|_| self.outcome.is_success());
        let made = name.map(|name| format!(" = {name}")).unwrap_or_default();
        let told = match &self.expect {
            None | Some(Expect::Success) => made,
            Some(Expect::AnyOf(_)) => " -> left open".into(),
            Some(Expect::Relation(words)) => format!("{made}  ({words})"),
            Some(Expect::Number(number)) => format!("{made}  ({number})"),
            Some(Expect::Merged { .. } | Expect::Share { .. }) => " -> contents as expected".into(),
            Some(expect) if self.has_kept(expect) => " -> contents as expected".into(),
            Some(_) => return self.line(),
        };
        format!("{}{}{told}", prefix(self.actor), self.call)
    }

    /// Whether these are contents that no one reads, and what the trace has kept of those seen is as they are.
    fn has_kept(&self, expect: &Expect) -> bool {
        let Outcome::Bytes(kept) = &self.outcome else { return false };
        match expect {
            Expect::Bytes(bytes) => bytes.starts_with(kept) && !is_legible(bytes),
            Expect::Contents { bytes, or } => {
                let as_allowed = |(at, byte): (usize, &u8)| bytes.get(at) == Some(byte) || or.contains(&(at, *byte));
                kept.iter().enumerate().all(as_allowed) && !is_legible(bytes)
            }
            _ => false,
        }
    }

    /// One line in strace's notation.
    pub fn line(&self) -> String {
        let mut line = format!("{}{}", prefix(self.actor), self.call);
        let result = match (&self.outcome, made(&self.call)) {
            (outcome, Some(name)) if outcome.is_success() => format!(" = {name}"),
            (Outcome::Refused(errno), _) => format!(" = -1 {}", names::errno(*errno)),
            (Outcome::Fault(seen), _) => {
                let fault = match &self.expect {
                    Some(expect @ Expect::Fault { at, .. }) if expect.allows(&self.outcome) => {
                        Fault { at: *at, ..*seen }
                    }
                    _ => *seen,
                };
                let mut place = String::new();
                if let Some(at) = address(&self.call) {
                    let _ = write!(place, " at {:?}", at.plus(fault.at as usize));
                }
                format!(" -> {} {}{place}", names::signal(fault.signal), names::code(fault.signal, fault.code))
            }
            (Outcome::Value(0), _) if matches!(self.call, Call::Store { .. } | Call::StoreWord { .. }) => String::new(),
            (Outcome::Value(_), _) => format!(" = {}", self.outcome),
            (Outcome::Bytes(list), _) if list.len() >= Outcome::KEPT => {
                const SHOWN: usize = 24;
                format!(" = {}...", Excerpt(&list[..SHOWN]))
            }
            (Outcome::Bytes(_) | Outcome::Stat(_), _) => format!(" = {}", self.outcome),
            (outcome, _) => format!(" -> {outcome}"),
        };
        line.push_str(&result);
        line
    }
}

impl Step {
    /// The call was begun, and nobody waited for it.
    pub fn is_untold(&self) -> bool {
        self.outcome == Outcome::Silent && self.expect.is_none() && self.begun.is_some()
    }
}

/// The calls that were begun before this step, and went on while others acted: of each the first step that tells of it.
pub fn begun_before(steps: &[Step], index: usize) -> Vec<usize> {
    let is_first = |at: &usize| {
        let step = &steps[*at];
        let before = steps[..*at].iter().rfind(|before| before.actor == step.actor);
        let waits = |before: &Step| before.outcome == Outcome::Blocked && before.expect == Some(Expect::Blocked);
        let same = |before: &Step| before.begun == step.begun && before.call == step.call && waits(before);
        step.begun == Some(index) && !before.is_some_and(same)
    };
    (index..steps.len()).filter(is_first).collect()
}

/// The address that an access names.
fn address(call: &Call) -> Option<At> {
    match call {
        Call::Load { at, .. }
        | Call::Store { at, .. }
        | Call::LoadWord { at, .. }
        | Call::StoreWord { at, .. }
        | Call::Execute { at }
        | Call::StoreReturn { at }
        | Call::CompareExchange { at, .. }
        | Call::FetchAdd { at, .. }
        | Call::LockedAdd { at, .. } => Some(*at),
        _ => None,
    }
}

/// Whether bytes are a short text, which reads as such on every system.
pub(super) fn is_legible(bytes: &[u8]) -> bool {
    const SHORT: usize = 24;
    // No byte of a pattern is below this one, and most texts have a blank, a digit or an end.
    const LEAST_OF_PATTERNS: u8 = 0x40;
    matches!(bytes.len(), 1..=SHORT)
        && bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | 0))
        && bytes.iter().any(|byte| *byte < LEAST_OF_PATTERNS)
}

/// The lines of a trace; the step at which it departed from the rule is marked.
pub fn lines(steps: &[Step], departure: Option<usize>) -> Vec<String> {
    steps
        .iter()
        .enumerate()
        .map(|(index, step)| {
            let mark = if departure == Some(index) { "> " } else { "  " };
            format!("{mark}{}", step.line())
        })
        .collect()
}
