//! Calls that were recorded, performed again.

use std::collections::{BTreeMap, VecDeque};

use crate::kernel::call::{ActorId, Call};
use crate::kernel::outcome::Outcome;
use crate::lab::Lab;
use crate::lab::actor::Begun;
use crate::lab::expect::Expect;
use crate::lab::trace::{Step, Stop, begun_before};
use crate::lab::verbs::Calls;

/// Performs the calls of a recording in their order, each by its actor, and returns what became of them now.
///
/// It ends early where a process of the recording cannot be made.
pub fn replay(lab: &Lab, steps: &[Step]) -> Vec<Outcome> {
    let mut begun: BTreeMap<ActorId, VecDeque<Begun<'_>>> = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        for late in begun_before(steps, index).into_iter().map(|at| &steps[at]) {
            begun.entry(late.actor).or_default().push_back(lab.actor(late.actor).begin(late.call.clone()));
        }
        let waiting = begun.entry(step.actor).or_default();
        let waits = step.outcome == Outcome::Blocked || step.expect == Some(Expect::Blocked);
        let outcome = match &step.call {
            _ if step.is_untold() => Outcome::Silent,
            Call::Fork { survives, .. } => made(&lab.fork_from(step.actor, *survives).map(|_| ())),
            Call::Peer { .. } => made(&lab.peer().map(|_| ())),
            Call::Adopt { of, fd } => lab.actor(step.actor).adopt_as(*of, *fd).outcome().clone(),
            call if waits && step.actor != ActorId(0) => {
                if waiting.is_empty() {
                    waiting.push_back(lab.actor(step.actor).begin(call.clone()));
                }
                match waiting[0].must_block() {
                    Ok(()) => Outcome::Blocked,
                    Err(_) => {
                        waiting.pop_front();
                        lab.steps().last().map_or(Outcome::Silent, |step| step.outcome.clone())
                    }
                }
            }
            call => match waiting.pop_front() {
                Some(waiting) => waiting.answer().outcome().clone(),
                None => lab.actor(step.actor).call(call.clone()).outcome().clone(),
            },
        };
        let ends =
            matches!(outcome, Outcome::Lacking(_)) || matches!(step.call, Call::Fork { .. }) && !outcome.is_success();
        outcomes.push(outcome);
        if ends {
            break;
        }
    }
    outcomes
}

fn made(verdict: &Result<(), Stop>) -> Outcome {
    match verdict {
        Ok(()) => Outcome::DONE,
        Err(Stop::Lacking(lack)) => Outcome::Lacking(*lack),
        Err(Stop::Violation(_)) => Outcome::Refused(libc::EAGAIN),
    }
}
