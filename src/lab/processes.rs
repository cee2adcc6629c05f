//! The processes of a case as the worker has them: started, ordered, waited for, and ended.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::serving::{Forks, serve};
use crate::kernel::call::{ActorId, Call, Fd};
use crate::kernel::channel::{Channel, Received};
use crate::kernel::guard;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::patience::{Patience, STARVED, Standing};
use crate::kernel::perform::{Performer, close, send_descriptor};
use crate::kernel::process::{self, ProcessId, Side, State};

/// How long a sleep must have lasted before a call that should return counts as blocked.
const SETTLED: Duration = Duration::from_secs(1);
/// How long to wait for an answer before the actor's state is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// Where there is no /proc: how long an actor must be silent to count as blocked, in processor time of the worker, which gives the
/// processor away at every turn: an actor that could run would have run.
const BLIND: Duration = Duration::from_millis(20);
/// How often to look for the end of a process before sleeping until it comes, which costs more than a short end takes.
const STEPS_TO_THE_END: usize = 50;

/// An actor as the worker has it.
#[derive(Debug)]
struct Running {
    pid: ProcessId,
    channel: Channel,
    parent: ActorId,
    over: Option<Outcome>,
}

/// All processes of a case but the worker.
#[derive(Debug)]
pub(super) struct Processes {
    actors: Vec<Running>,
    /// The program that peers are forked from.
    server: Option<Running>,
    /// Whether what that forks is the worker's child, as far as is known (clone(2), CLONE_PARENT).
    has_siblings: bool,
    case_limit: Duration,
    private: Vec<i32>,
    worker: ProcessId,
    group: ProcessId,
}

/// A sleep that something may still end: since when, and how often the process had been switched to and from by then.
#[derive(Default)]
struct Sleep(Option<(Instant, Option<u64>)>);

impl Sleep {
    /// A sleeping process has not been woken for as long as a call may take that should return.
    fn has_settled(&mut self, pid: ProcessId) -> bool {
        let switches = process::switches(pid);
        match self.0 {
            Some((since, before)) if before == switches => since.elapsed() >= SETTLED,
            _ => {
                self.0 = Some((Instant::now(), switches));
                false
            }
        }
    }
}

impl Processes {
    /// None yet; an actor may take `case_limit` to answer, and keeps none of the descriptors in `private`.
    pub(super) fn new(case_limit: Duration, private: Vec<i32>) -> Processes {
        let (worker, group) = (process::own_id(), process::group());
        Processes { actors: Vec::new(), server: None, has_siblings: true, case_limit, private, worker, group }
    }

    /// The process identifier of an actor; 0 if there is none of this name.
    pub(super) fn pid(&self, id: ActorId) -> ProcessId {
        self.actor(id).map_or(0, |actor| actor.pid)
    }

    fn actor(&self, id: ActorId) -> Option<&Running> {
        self.actors.get(usize::from(id.0).checked_sub(1)?)
    }

    fn actor_mut(&mut self, id: ActorId) -> Option<&mut Running> {
        self.actors.get_mut(usize::from(id.0).checked_sub(1)?)
    }

    /// Orders a call and waits for what becomes of it.
    pub(super) fn ask(&mut self, id: ActorId, call: &Call) -> Outcome {
        self.order(id, call);
        self.answer(id)
    }

    /// Orders a call, and once it has been taken sends a descriptor of the worker's after it.
    pub(super) fn hand(&mut self, performer: &Performer, id: ActorId, call: &Call, of: Fd) -> Outcome {
        if !self.actor(id).is_some_and(|actor| actor.channel.carries_descriptors()) {
            return Outcome::Lacking(Lack::Sockets);
        }
        let taken = self.ask(id, call);
        let descriptor = performer.borrowed(of);
        match self.actor(id).map(|actor| send_descriptor(actor.channel.socket(), descriptor)) {
            _ if taken != Outcome::DONE => taken,
            Some(Ok(())) => self.answer(id),
            _ => Outcome::Lacking(Lack::Sockets),
        }
    }

    /// Orders a call.
    pub(super) fn order(&mut self, id: ActorId, call: &Call) {
        if let Some(actor) = self.actor_mut(id) {
            // An actor that has died is found out by its answer.
            let _ = actor.channel.send(call);
        }
    }

    /// Waits for what becomes of the call that was ordered last.
    pub(super) fn answer(&mut self, id: ActorId) -> Outcome {
        let mut patience = self.patience();
        let mut sleep = Sleep::default();
        loop {
            let Some(actor) = self.actor_mut(id) else { return Outcome::Silent };
            if let Some(over) = &actor.over {
                return over.clone();
            }
            match actor.channel.receive_within(GLANCE) {
                Received::Frame(outcome) => return outcome,
                Received::Closed | Received::Damaged => return self.ended(id),
                Received::Nothing => {}
            }
            match process::state(actor.pid) {
                State::Sleeping if !sleep.has_settled(actor.pid) => {}
                State::Sleeping if patience.look() != Standing::Moving => return Outcome::Blocked,
                State::Sleeping => {}
                State::Unknown if patience.elapsed() >= SETTLED * 10 => return Outcome::Blocked,
                _ => sleep = Sleep::default(),
            }
            if patience.elapsed() >= self.case_limit && patience.look() == Standing::Over {
                return Outcome::Silent;
            }
        }
    }

    /// Waits for the actors, which are the rest of the worker's process group.
    fn patience(&self) -> Patience {
        Patience::new(self.group, self.worker, self.case_limit)
    }

    /// Whether a call that was begun has come back: its outcome, or `None` if the actor sleeps in it.
    pub(super) fn look(&mut self, id: ActorId) -> Option<Outcome> {
        let mut patience = self.patience();
        let begun = process::processor_time();
        loop {
            let actor = self.actor_mut(id)?;
            if let Some(over) = &actor.over {
                return Some(over.clone());
            }
            // In this order: an actor that had taken the order, slept then, and has not answered now, sleeps in the call. One that has not
            // taken it may look asleep while it is about to find that there is an order.
            let taken = actor.channel.is_taken() || patience.elapsed() >= SETTLED / 5;
            let doing = process::state(actor.pid);
            match actor.channel.receive_within(Duration::ZERO) {
                Received::Frame(outcome) => return Some(outcome),
                Received::Closed | Received::Damaged => return Some(self.ended(id)),
                Received::Nothing => {}
            }
            match doing {
                State::Sleeping if taken => return None,
                State::Unknown if taken && process::processor_time() - begun >= BLIND => return None,
                State::Unknown => rustix::thread::sched_yield(),
                _ => {
                    actor.channel.readable(Duration::from_micros(50));
                }
            }
            if patience.elapsed() >= self.case_limit && patience.look() == Standing::Over {
                return Some(Outcome::Silent);
            }
        }
    }

    /// Whose child an actor is.
    pub(super) fn parent(&self, id: ActorId) -> ActorId {
        self.actor(id).map_or(ActorId(0), |actor| actor.parent)
    }

    /// Waits for an actor in its parent's name: how it ended.
    pub(super) fn wait(&mut self, parent: ActorId, id: ActorId) -> Outcome {
        if parent == ActorId(0) {
            return self.ended(id);
        }
        let outcome = self.ask(parent, &Call::Wait { actor: id });
        if let Some(actor) = self.actor_mut(id)
            && matches!(outcome, Outcome::Died(_) | Outcome::Exited(_))
        {
            actor.over = Some(outcome.clone());
        }
        outcome
    }

    /// How an actor ended whose channel is closed.
    fn ended(&mut self, id: ActorId) -> Outcome {
        let Some(actor) = self.actor(id) else { return Outcome::Silent };
        if let Some(over) = &actor.over {
            return over.clone();
        }
        let (pid, parent) = (actor.pid, actor.parent);
        let outcome = if process::is_child(pid) {
            self.end_of_child(pid)
        } else if parent != ActorId(0) && parent != id {
            self.wait(parent, id)
        } else {
            Outcome::Silent
        };
        if outcome == Outcome::Blocked {
            return outcome;
        }
        if let Some(actor) = self.actor_mut(id) {
            actor.over = Some(outcome.clone());
        }
        outcome
    }

    /// A program that the actor has executed holds no channel, and may never end.
    fn end_of_child(&self, pid: ProcessId) -> Outcome {
        // Whoever has just closed the channel by ending has but a few steps left to go.
        for _ in 0..STEPS_TO_THE_END {
            if let Some(outcome) = process::ended(pid, false) {
                return outcome;
            }
            rustix::thread::sched_yield();
        }
        let mut patience = self.patience();
        let mut sleep = Sleep::default();
        loop {
            if let Some(outcome) = process::ended_within(pid, GLANCE) {
                return outcome;
            }
            if process::state(pid) != State::Sleeping {
                sleep = Sleep::default();
            } else if sleep.has_settled(pid) && patience.look() != Standing::Moving {
                return Outcome::Blocked;
            }
            if patience.elapsed() >= self.case_limit && patience.look() == Standing::Over {
                return Outcome::Silent;
            }
        }
    }

    fn admit(&mut self, performer: &mut Performer, pid: ProcessId, channel: Channel, parent: ActorId) {
        let id = self.next_id();
        self.actors.push(Running { pid, channel, parent, over: None });
        performer.learn_process(id, pid);
    }

    fn next_id(&self) -> ActorId {
        ActorId(self.actors.len() as u16 + 1)
    }

    /// The child of any actor, or of the worker, whose place `performer` is.
    pub(super) fn fork(&mut self, performer: &mut Performer, parent: ActorId, survives: bool) -> (ActorId, Outcome) {
        let id = self.next_id();
        let Ok((mine, theirs)) = Channel::pair() else {
            return (id, Outcome::Lacking(Lack::Descriptors));
        };
        if parent == ActorId(0) {
            match process::fork() {
                Ok(Side::Parent(pid)) => {
                    self.admit(performer, pid, mine, parent);
                    (id, Outcome::Value(pid as u64))
                }
                Ok(Side::Child) => {
                    mine.leave();
                    self.become_actor(performer, theirs)
                }
                Err(error) => (id, Outcome::from(error)),
            }
        } else {
            if !theirs.carries_descriptors() {
                return (id, Outcome::Lacking(Lack::Sockets));
            }
            let limit = self.case_limit * STARVED;
            let outcome = match self.actor_mut(parent) {
                Some(running) => order_fork(running, id, survives, &theirs, limit),
                None => Outcome::Silent,
            };
            let outcome = if outcome == Outcome::DONE { self.answer(parent) } else { outcome };
            if let Outcome::Value(pid) = outcome {
                self.admit(performer, pid as ProcessId, mine, parent);
            }
            (id, outcome)
        }
    }

    /// In the child: forgets what belongs to the worker and takes orders until the channel ends.
    fn become_actor(&mut self, performer: &mut Performer, channel: Channel) -> ! {
        process::die_with(self.worker);
        for actor in self.actors.drain(..) {
            actor.channel.leave();
        }
        if let Some(server) = self.server.take() {
            server.channel.leave();
        }
        for private in &self.private {
            let _ = close(*private);
        }
        guard::inherited();
        serve(performer, channel, Forks::Children)
    }

    /// A process of a program of its own.
    pub(super) fn peer(&mut self, performer: &mut Performer) -> Result<(ActorId, ProcessId), Lack> {
        let (pid, channel) = if self.has_siblings { self.forked_peer()? } else { self.lone_peer()? };
        let id = self.next_id();
        self.admit(performer, pid, channel, ActorId(0));
        Ok((id, pid))
    }

    fn forked_peer(&mut self) -> Result<(ProcessId, Channel), Lack> {
        if self.server.is_none() {
            self.server = Some(start_server()?);
        }
        let id = self.next_id();
        let (mine, theirs) = Channel::pair().map_err(|_| Lack::Descriptors)?;
        if !theirs.carries_descriptors() {
            return Err(Lack::Sockets);
        }
        let server = self.server.as_mut().ok_or(Lack::Processes)?;
        if order_fork(server, id, false, &theirs, self.case_limit * STARVED) != Outcome::DONE {
            return Err(Lack::Processes);
        }
        match server.channel.receive_within(self.case_limit * STARVED) {
            Received::Frame(Outcome::Value(pid)) if process::is_child(pid as ProcessId) => Ok((pid as ProcessId, mine)),
            // CLONE_PARENT is refused, or what it made is the server's own child: not every kernel has it.
            Received::Frame(Outcome::Value(_) | Outcome::Refused(libc::EINVAL | libc::ENOSYS)) => {
                self.has_siblings = false;
                self.lone_peer()
            }
            _ => Err(Lack::Processes),
        }
    }

    /// A peer for which the program is started anew, which takes ten times as long.
    fn lone_peer(&self) -> Result<(ProcessId, Channel), Lack> {
        let (mut mine, theirs) = Channel::pair().map_err(|_| Lack::Descriptors)?;
        let (from, to) = theirs.numbers();
        let arguments = ["actor".to_owned(), from.to_string(), to.to_string()];
        let open: Vec<_> = theirs.descriptors().collect();
        let pid = process::start(&arguments, &open).map_err(|_| Lack::Processes)?;
        match mine.receive_within(self.case_limit * STARVED) {
            Received::Frame(Outcome::DONE) => Ok((pid, mine)),
            _ => Err(Lack::Processes),
        }
    }

    /// Ends all that are left.
    pub(super) fn end_all(&mut self) {
        for actor in self.actors.drain(..) {
            if actor.over.is_none() {
                process::kill(actor.pid);
                process::ended(actor.pid, true);
            }
        }
    }
}

fn order_fork(parent: &mut Running, id: ActorId, survives: bool, channel: &Channel, limit: Duration) -> Outcome {
    // The descriptor follows only when the order has been taken: read together with it, it would be lost.
    let sent = parent.channel.send(&Call::Fork { actor: id, survives });
    if sent.is_err() || !matches!(parent.channel.receive_within(limit), Received::Frame(Outcome::DONE)) {
        return Outcome::Silent;
    }
    match send_descriptor(parent.channel.socket(), channel.socket()) {
        Ok(()) => Outcome::DONE,
        Err(_) => Outcome::Lacking(Lack::Sockets),
    }
}

fn start_server() -> Result<Running, Lack> {
    let (mine, theirs) = Channel::pair().map_err(|_| Lack::Descriptors)?;
    let (from, to) = theirs.numbers();
    let arguments = ["peer".to_owned(), from.to_string(), to.to_string()];
    let pid = process::start(&arguments, &[theirs.socket().as_fd()]).map_err(|_| Lack::Processes)?;
    Ok(Running { pid, channel: mine, parent: ActorId(0), over: None })
}
