//! Whose turn it is, and who sees to those that wait or end.

use super::{Program, order};
use crate::kernel::call::{ActorId, Call};
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

impl Program<'_> {
    /// Whose turn a step is.
    pub(super) fn turn_of(&self, index: usize) -> ActorId {
        let step = &self.steps[index];
        // A process that still waits in its call, or has ended in it, cannot take a turn: another one looks at it.
        if self.is_second_look(index) || order::is_queued(step) {
            index.checked_sub(1).map_or(ActorId(0), |index| self.turn_after(index))
        } else if self.ends_inside(index) {
            order::reaper(self.steps, index)
        } else {
            step.actor
        }
    }

    /// Who goes on after a step: not a process that has ended in it, or that waits in it.
    pub(super) fn turn_after(&self, index: usize) -> ActorId {
        match self.waiter(index) {
            Some(waiter) => waiter,
            None => self.turn_of(index),
        }
    }

    /// Who sees to it that a process has ended, or sleeps, in this step.
    pub(super) fn waiter(&self, index: usize) -> Option<ActorId> {
        let step = &self.steps[index];
        let elsewhere = self.is_second_look(index) || self.ends_inside(index) || order::is_queued(step);
        if step.actor == ActorId(0) || elsewhere {
            return None;
        }
        match step.expect {
            Some(Expect::Blocked) => Some(ActorId(0)),
            Some(Expect::Died(_) | Expect::Exited(_)) => Some(order::reaper(self.steps, index)),
            _ => None,
        }
    }

    pub(super) fn parent(&self, child: ActorId) -> ActorId {
        let forked = self.steps.iter().find(|step| matches!(step.call, Call::Fork { actor, .. } if actor == child));
        forked.map_or(ActorId(0), |step| step.actor)
    }

    /// Whether a process has not ended in one of the steps.
    pub(super) fn is_there_at_the_end(&self, actor: ActorId) -> bool {
        let ends = |step: &Step| {
            let ended = match step.call {
                Call::Wait { actor } => actor,
                _ => step.actor,
            };
            ended == actor && matches!(step.expect, Some(Expect::Died(_) | Expect::Exited(_)))
        };
        actor != ActorId(0) && !self.steps.iter().any(ends)
    }

    fn is_blocked(&self, index: usize) -> bool {
        self.steps[index].expect == Some(Expect::Blocked)
    }

    /// The latest step before, of the same process and call, in which it began to wait.
    pub(super) fn begun_before(&self, index: usize) -> Option<usize> {
        let step = &self.steps[index];
        let before = self.steps[..index].iter().rposition(|other| other.actor == step.actor)?;
        (self.is_blocked(before) && self.steps[before].call == step.call).then_some(before)
    }

    pub(super) fn is_second_look(&self, index: usize) -> bool {
        self.is_blocked(index) && self.begun_before(index).is_some()
    }

    /// Whether a process ends in a call that it began in an earlier step.
    pub(super) fn ends_inside(&self, index: usize) -> bool {
        let ends = matches!(self.steps[index].expect, Some(Expect::Died(_) | Expect::Exited(_)));
        ends && self.begun_before(index).is_some()
    }
}
