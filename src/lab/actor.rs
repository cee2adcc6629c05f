//! Processes of a case, driven call by call from the worker.

use super::Lab;
use super::answer::Answer;
use super::trace::Verdict;
use super::verbs::Calls;
use crate::kernel::call::{ActorId, Call, Fd};
use crate::kernel::outcome::Outcome;
use crate::kernel::process::ProcessId;

/// A process of the case.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'l> {
    lab: &'l Lab,
    id: ActorId,
}

/// A call that an actor has begun.
#[derive(Debug)]
#[must_use = "a call that nobody waits for proves nothing"]
pub struct Begun<'l> {
    actor: Actor<'l>,
    call: Call,
    /// How many steps the trace had by then.
    at: usize,
}

impl<'l> Calls<'l> for Actor<'l> {
    fn place(self) -> (&'l Lab, ActorId) {
        (self.lab, self.id)
    }
}

impl<'l> Actor<'l> {
    /// Its name.
    pub fn id(self) -> ActorId {
        self.id
    }

    /// Its process identifier.
    pub fn pid(self) -> ProcessId {
        self.lab.state.borrow().processes.pid(self.id)
    }

    /// Begins a call without waiting for its end.
    pub fn begin(self, call: Call) -> Begun<'l> {
        self.lab.state.borrow_mut().processes.order(self.id, &call);
        let at = self.lab.steps.borrow().len();
        self.lab.untold.borrow_mut().push((self.id, call.clone(), at));
        Begun { actor: self, call, at }
    }

    /// Hands the actor a descriptor of the worker's over a socket (unix(7), SCM_RIGHTS): the name of its copy.
    ///
    /// # Errors
    /// A skip where there are no sockets.
    pub fn adopt(self, of: Fd) -> Verdict<Fd> {
        let fd = self.lab.new_fd();
        self.adopt_as(of, fd).prepared()?;
        Ok(fd)
    }

    /// As [`Actor::adopt`], with a name for the copy.
    pub fn adopt_as(self, of: Fd, fd: Fd) -> Answer<'l> {
        let call = Call::Adopt { of, fd };
        let outcome = self.lab.state.borrow_mut().hand(self.id, &call, of);
        self.lab.keep(self.id, call, outcome)
    }

    /// Ends the actor by SIGKILL and waits until it has gone.
    ///
    /// # Errors
    /// A violation, if it does not die of that.
    pub fn kill(self) -> Verdict {
        let worker = self.lab.worker();
        worker.call(Call::Kill { actor: self.id, signal: libc::SIGKILL }).prepared()?;
        let parent = self.lab.state.borrow().processes.parent(self.id);
        self.lab.actor(parent).call(Call::Wait { actor: self.id }).must_die_of(libc::SIGKILL)
    }
}

/// What became of calls, all of which return by now or within the limit of a case, whatever is asked of any of them.
pub fn answers(begun: Vec<Begun<'_>>) -> Vec<Answer<'_>> {
    begun.into_iter().map(Begun::answer).collect()
}

impl<'l> Begun<'l> {
    /// The actor sleeps in the call; nothing that happened so far has released it.
    ///
    /// # Errors
    /// A violation, if the call has come back.
    pub fn must_block(&self) -> Verdict {
        let outcome = self.actor.lab.state.borrow_mut().processes.look(self.actor.id);
        let blocked = outcome.unwrap_or(Outcome::Blocked);
        let answer = self.actor.lab.keep_begun(self.actor.id, self.call.clone(), blocked, self.at);
        answer.must(&super::expect::Expect::Blocked)
    }

    /// What became of the call if it has come back, else the call, in which the actor sleeps.
    ///
    /// # Errors
    /// The call itself.
    pub fn returned(self) -> Result<Answer<'l>, Begun<'l>> {
        let outcome = self.actor.lab.state.borrow_mut().processes.look(self.actor.id);
        match outcome {
            Some(outcome) => Ok(self.actor.lab.keep_begun(self.actor.id, self.call, outcome, self.at)),
            None => Err(self),
        }
    }

    /// What became of the call, which returns by now, or within the limit of a case.
    pub fn answer(self) -> Answer<'l> {
        let outcome = self.actor.lab.state.borrow_mut().processes.answer(self.actor.id);
        self.actor.lab.keep_begun(self.actor.id, self.call, outcome, self.at)
    }
}

impl Lab {
    /// The actor with this name.
    pub fn actor(&self, id: ActorId) -> Actor<'_> {
        Actor { lab: self, id }
    }

    /// The worker's own child (fork(2)): it has all that the worker has.
    ///
    /// # Errors
    /// A skip where no process can be made, a violation where fork fails otherwise.
    pub fn fork(&self) -> Verdict<Actor<'_>> {
        self.fork_from(ActorId(0), false)
    }

    /// The worker as one of the processes of the case, for claims in which any of them acts.
    pub fn worker(&self) -> Actor<'_> {
        Actor { lab: self, id: ActorId(0) }
    }

    /// The child of any actor; one that `survives` is not ended with its parent.
    ///
    /// # Errors
    /// Those of [`Lab::fork`].
    pub fn fork_from(&self, parent: ActorId, survives: bool) -> Verdict<Actor<'_>> {
        let (id, outcome) = self.state.borrow_mut().fork(parent, survives);
        self.keep(parent, Call::Fork { actor: id, survives }, outcome).prepared()?;
        Ok(Actor { lab: self, id })
    }

    /// A process of a program of its own, started by exec, which shares no mapping and no descriptor with the worker.
    ///
    /// # Errors
    /// A skip where no process can be made.
    pub fn peer(&self) -> Verdict<Actor<'_>> {
        let started = self.state.borrow_mut().peer();
        match started {
            Ok((id, pid)) => {
                self.keep(ActorId(0), Call::Peer { actor: id }, Outcome::Value(pid as u64)).prepared()?;
                Ok(Actor { lab: self, id })
            }
            Err(lack) => self.lacking(lack),
        }
    }
}
