//! A trace as its processes live through it: when each call begins, who sees to what becomes of it.

use std::collections::BTreeSet;

use crate::kernel::call::{ActorId, Call};
use crate::kernel::outcome::Outcome;
use crate::lab::expect::Expect;
use crate::lab::trace::{Step, begun_before};

/// In the place of [`Step::begun`]: the step is nothing but the beginning of a call.
const BEGINNING: usize = usize::MAX;
/// In the place of [`Step::begun`]: the process makes the call when it is done with the one before, whoever's turn it is.
const QUEUED: usize = usize::MAX - 1;

/// The steps of a program; where others acted between the beginning of a call and its end, the beginning is a step too.
///
/// A process that was told of several calls at once makes them one after the other when the first of them begins, and is
/// waited for where the last has ended, if anyone waited for it.
///
/// # Errors
/// The call that a process was told to make while it was still in another, if others acted in between.
pub(super) fn unfolded(steps: &[Step]) -> Result<Vec<Step>, String> {
    let mut list = Vec::with_capacity(steps.len());
    let mut early = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        for queue in queues(steps, index)? {
            list.push(beginning(&steps[queue[0]], BEGINNING));
            let waited_for = queue.last().filter(|last| !steps[**last].is_untold());
            let alone = &queue[..queue.len() - usize::from(waited_for.is_some())];
            list.extend(alone.iter().map(|at| Step { begun: Some(QUEUED), ..unfolded_step(&steps[*at]) }));
            if let Some(last) = waited_for.filter(|_| !alone.is_empty()) {
                list.push(beginning(&steps[*last], QUEUED));
            }
            early.extend(alone.iter().copied());
        }
        if early.contains(&index) {
            continue;
        }
        if matches!(step.call, Call::Adopt { .. }) {
            list.push(Step { actor: ActorId(0), expect: None, ..unfolded_step(step) });
        }
        list.push(unfolded_step(step));
    }
    Ok(list)
}

fn unfolded_step(step: &Step) -> Step {
    Step { begun: None, expect: settled(step), ..step.clone() }
}

fn beginning(step: &Step, begun: usize) -> Step {
    Step { outcome: Outcome::Blocked, expect: Some(Expect::Blocked), begun: Some(begun), ..step.clone() }
}

/// The calls that begin before a step and end later, of each process its own: the steps that tell of them first.
fn queues(steps: &[Step], index: usize) -> Result<Vec<Vec<usize>>, String> {
    let mut queues: Vec<Vec<usize>> = Vec::new();
    for at in begun_before(steps, index) {
        let late = &steps[at];
        match queues.iter_mut().find(|queue| steps[queue[0]].actor == late.actor) {
            None if is_outstanding(steps, index, late.actor) => return Err(late.call.to_string()),
            None => queues.push(vec![at]),
            Some(queue) if queue.last().is_some_and(|at| returns(&steps[*at])) => queue.push(at),
            Some(_) => return Err(late.call.to_string()),
        }
    }
    Ok(queues)
}

/// Whether nothing else is asked of a call than to return.
fn returns(step: &Step) -> bool {
    !matches!(settled(step), Some(Expect::Blocked | Expect::Died(_) | Expect::Exited(_)))
}

/// Whether an actor is in a call at this point that it began before.
fn is_outstanding(steps: &[Step], index: usize, actor: ActorId) -> bool {
    let next = steps[index..].iter().find(|step| step.actor == actor);
    next.is_some_and(|next| next.begun.is_some_and(|begun| begun < index))
}

/// The step is the beginning of a call, and nobody looks at what becomes of it yet.
pub(super) fn is_beginning(step: &Step) -> bool {
    step.begun.is_some() && step.expect == Some(Expect::Blocked)
}

/// The step takes no turn: its process goes on while others have theirs.
pub(super) fn is_queued(step: &Step) -> bool {
    step.begun == Some(QUEUED)
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
