//! A trace as its processes live through it: when each call begins, who sees to what becomes of it.

use crate::kernel::call::{ActorId, Call};
use crate::kernel::outcome::Outcome;
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

/// In the place of [`Step::begun`]: the step is nothing but the beginning of a call.
const BEGINNING: usize = usize::MAX;

/// The steps of a program; where others acted between the beginning of a call and its end, the beginning is a step too.
///
/// # Errors
/// The call that a process was told to make while it was still in another.
pub(super) fn unfolded(steps: &[Step]) -> Result<Vec<Step>, String> {
    let mut list = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let mut beginning: Vec<&Step> = Vec::new();
        for late in steps[index..].iter().filter(|late| late.begun == Some(index)) {
            match beginning.iter().find(|other| other.actor == late.actor) {
                // It is looked at more than once.
                Some(other) if other.call == late.call => continue,
                None if !is_outstanding(steps, index, late.actor) => beginning.push(late),
                _ => return Err(late.call.to_string()),
            }
        }
        let begins = |late: &&Step| Step {
            outcome: Outcome::Blocked,
            expect: Some(Expect::Blocked),
            begun: Some(BEGINNING),
            ..(*late).clone()
        };
        list.extend(beginning.iter().map(begins));
        if matches!(step.call, Call::Adopt { .. }) {
            list.push(Step { actor: ActorId(0), begun: None, expect: None, ..step.clone() });
        }
        list.push(Step { begun: None, expect: settled(step), ..step.clone() });
    }
    Ok(list)
}

/// Whether an actor is in a call at this point that it began before.
fn is_outstanding(steps: &[Step], index: usize, actor: ActorId) -> bool {
    let next = steps[index..].iter().find(|step| step.actor == actor);
    next.is_some_and(|next| next.begun.is_some_and(|begun| begun < index))
}

/// The step is the beginning of a call, and nobody looks at what becomes of it yet.
pub(super) fn is_beginning(step: &Step) -> bool {
    step.begun == Some(BEGINNING)
}

/// A signal kills in a program as it did in the trace: what is done with it is the same.
fn settled(step: &Step) -> Option<Expect> {
    let refused = matches!(step.outcome, Outcome::Refused(_));
    match &step.expect {
        Some(Expect::AnyOf(list)) if step.actor != ActorId(0) && !refused => {
            let death = list.iter().find(|one| matches!(one, Expect::Died(_)));
            Some(death.cloned().unwrap_or_else(|| Expect::AnyOf(list.clone())))
        }
        Some(Expect::Relation(_)) => match step.outcome {
            Outcome::Exited(status) => Some(Expect::Exited(status)),
            Outcome::Died(signal) => Some(Expect::Died(signal)),
            _ => step.expect.clone(),
        },
        other => other.clone(),
    }
}

/// Who waits for a process that ends in this step: the parent, or where that has ended the first process.
pub(super) fn reaper(steps: &[Step], index: usize) -> ActorId {
    let child = steps[index].actor;
    let forked = steps.iter().find(|step| matches!(step.call, Call::Fork { actor, .. } if actor == child));
    let parent = forked.map_or(ActorId(0), |step| step.actor);
    let ended = |step: &Step| step.actor == parent && matches!(step.expect, Some(Expect::Died(_) | Expect::Exited(_)));
    if steps[..index].iter().any(ended) { ActorId(0) } else { parent }
}
