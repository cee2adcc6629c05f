//! Processes of a case, driven call by call from the worker.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Lab;
use super::answer::Answer;
use super::state::State;
use super::trace::Verdict;
use super::verbs::Calls;
use crate::kernel::call::{ActorId, Call, Fd};
use crate::kernel::channel::{Channel, Received};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::patience::{Patience, STARVED, Standing};
use crate::kernel::perform::{Performer, receive_descriptor, send_descriptor};
use crate::kernel::process::{self, ProcessId, Side, State as Doing};
use crate::kernel::{environment, guard};

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
pub(super) struct Running {
    pid: ProcessId,
    channel: Channel,
    parent: ActorId,
    over: Option<Outcome>,
}

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
        self.lab.state.borrow().actor(self.id).map_or(0, |actor| actor.pid)
    }

    /// Begins a call without waiting for its end.
    pub fn begin(self, call: Call) -> Begun<'l> {
        self.lab.state.borrow_mut().order(self.id, &call);
        Begun { actor: self, call, at: self.lab.steps.borrow().len() }
    }

    /// Hands the actor a descriptor of the worker's over a socket (unix(7), SCM_RIGHTS): the name of its copy.
    ///
    /// # Errors
    /// A skip where there are no sockets.
    pub fn adopt(self, of: Fd) -> Verdict<Fd> {
        let fd = self.lab.new_fd();
        let call = Call::Adopt { of, fd };
        let outcome = self.lab.state.borrow_mut().hand(self.id, &call, of);
        self.lab.keep(self.id, call, outcome).prepared()?;
        Ok(fd)
    }

    /// Ends the actor by SIGKILL and waits until it has gone.
    pub fn kill(self) {
        self.lab.state.borrow_mut().end_actor(self.id);
    }
}

impl<'l> Begun<'l> {
    /// The actor sleeps in the call; nothing that happened so far has released it.
    ///
    /// # Errors
    /// A violation, if the call has come back.
    pub fn must_block(&self) -> Verdict {
        let outcome = self.actor.lab.state.borrow_mut().look(self.actor.id);
        let blocked = outcome.unwrap_or(Outcome::Blocked);
        let answer = self.actor.lab.keep_begun(self.actor.id, self.call.clone(), blocked, self.at);
        answer.must(&super::expect::Expect::Blocked)
    }

    /// What became of the call if it has come back, else the call, in which the actor sleeps.
    ///
    /// # Errors
    /// The call itself.
    pub fn returned(self) -> Result<Answer<'l>, Begun<'l>> {
        let outcome = self.actor.lab.state.borrow_mut().look(self.actor.id);
        match outcome {
            Some(outcome) => Ok(self.actor.lab.keep_begun(self.actor.id, self.call, outcome, self.at)),
            None => Err(self),
        }
    }

    /// What became of the call, which returns by now, or within the limit of a case.
    pub fn answer(self) -> Answer<'l> {
        let outcome = self.actor.lab.state.borrow_mut().answer(self.actor.id);
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

impl State {
    fn actor(&self, id: ActorId) -> Option<&Running> {
        self.actors.get(usize::from(id.0).checked_sub(1)?)?.as_ref()
    }

    fn actor_mut(&mut self, id: ActorId) -> Option<&mut Running> {
        self.actors.get_mut(usize::from(id.0).checked_sub(1)?)?.as_mut()
    }

    /// Orders a call and waits for what becomes of it.
    pub(super) fn ask(&mut self, id: ActorId, call: &Call) -> Outcome {
        self.order(id, call);
        self.answer(id)
    }

    /// Orders a call, and once it has been taken sends a descriptor of the worker's after it.
    fn hand(&mut self, id: ActorId, call: &Call, of: Fd) -> Outcome {
        if !self.actor(id).is_some_and(|actor| actor.channel.carries_descriptors()) {
            return Outcome::Lacking(Lack::Sockets);
        }
        let taken = self.ask(id, call);
        let descriptor = self.performer.borrowed(of);
        match self.actor(id).map(|actor| send_descriptor(actor.channel.socket(), descriptor)) {
            _ if taken != Outcome::DONE => taken,
            Some(Ok(())) => self.answer(id),
            _ => Outcome::Lacking(Lack::Sockets),
        }
    }

    fn order(&mut self, id: ActorId, call: &Call) {
        if let Some(actor) = self.actor_mut(id) {
            // An actor that has died is found out by its answer.
            let _ = actor.channel.send(call);
        }
    }

    fn answer(&mut self, id: ActorId) -> Outcome {
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
                Doing::Sleeping if !sleep.has_settled(actor.pid) => {}
                Doing::Sleeping if patience.look() != Standing::Moving => return Outcome::Blocked,
                Doing::Sleeping => {}
                Doing::Unknown if patience.elapsed() >= SETTLED * 10 => return Outcome::Blocked,
                _ => sleep = Sleep::default(),
            }
            if patience.elapsed() >= self.case_limit && patience.look() == Standing::Over {
                return Outcome::Silent;
            }
        }
    }

    /// Waits for the actors, which are the rest of the worker's process group.
    fn patience(&self) -> Patience {
        Patience::new(process::group(), process::own_id(), self.case_limit)
    }

    /// Whether a call that was begun has come back: its outcome, or `None` if the actor sleeps in it.
    fn look(&mut self, id: ActorId) -> Option<Outcome> {
        let mut patience = self.patience();
        let begun = worked();
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
                Doing::Sleeping if taken => return None,
                Doing::Unknown if taken && worked() - begun >= BLIND => return None,
                Doing::Unknown => rustix::thread::sched_yield(),
                _ => {
                    actor.channel.readable(Duration::from_micros(50));
                }
            }
            if patience.elapsed() >= self.case_limit && patience.look() == Standing::Over {
                return Some(Outcome::Silent);
            }
        }
    }

    /// How an actor ended whose channel is closed.
    fn ended(&mut self, id: ActorId) -> Outcome {
        let Some(actor) = self.actor(id) else { return Outcome::Silent };
        let (pid, parent) = (actor.pid, actor.parent);
        let outcome = if process::is_child(pid) {
            self.end_of_child(pid)
        } else if parent != ActorId(0) && parent != id {
            self.ask(parent, &Call::Wait { actor: id })
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
            if process::state(pid) != Doing::Sleeping {
                sleep = Sleep::default();
            } else if sleep.has_settled(pid) && patience.look() != Standing::Moving {
                return Outcome::Blocked;
            }
            if patience.elapsed() >= self.case_limit && patience.look() == Standing::Over {
                return Outcome::Silent;
            }
        }
    }

    fn admit(&mut self, pid: ProcessId, channel: Channel, parent: ActorId) -> ActorId {
        self.actors.push(Some(Running { pid, channel, parent, over: None }));
        let id = ActorId(self.actors.len() as u16);
        self.performer.learn_process(id, pid);
        id
    }

    fn fork(&mut self, parent: ActorId, survives: bool) -> (ActorId, Outcome) {
        let id = ActorId(self.actors.len() as u16 + 1);
        let Ok((mine, theirs)) = Channel::pair() else {
            return (id, Outcome::Lacking(Lack::Descriptors));
        };
        if parent == ActorId(0) {
            let worker = process::own_id();
            match process::fork() {
                Ok(Side::Parent(pid)) => {
                    self.admit(pid, mine, parent);
                    (id, Outcome::Value(pid as u64))
                }
                Ok(Side::Child) => {
                    drop(mine);
                    self.become_actor(theirs, worker)
                }
                Err(error) => (id, refused(&error)),
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
                self.admit(pid as ProcessId, mine, parent);
            }
            (id, outcome)
        }
    }

    /// In the child: forgets what belongs to the worker and takes orders until the channel ends.
    fn become_actor(&mut self, channel: Channel, worker: ProcessId) -> ! {
        process::die_with(worker);
        self.actors.clear();
        self.server = None;
        for private in &self.private {
            let _ = crate::kernel::perform::close(*private);
        }
        guard::inherited();
        let performer = std::mem::take(&mut self.performer);
        serve(performer, channel, Forks::Children)
    }

    fn peer(&mut self) -> Result<(ActorId, ProcessId), Lack> {
        if self.server.is_none() {
            self.server = Some(start_server()?);
        }
        let id = ActorId(self.actors.len() as u16 + 1);
        let (mine, theirs) = Channel::pair().map_err(|_| Lack::Descriptors)?;
        if !theirs.carries_descriptors() {
            return Err(Lack::Sockets);
        }
        let server = self.server.as_mut().ok_or(Lack::Processes)?;
        if order_fork(server, id, false, &theirs, self.case_limit * STARVED) != Outcome::DONE {
            return Err(Lack::Processes);
        }
        match server.channel.receive_within(self.case_limit * STARVED) {
            Received::Frame(Outcome::Value(pid)) => {
                Ok((self.admit(pid as ProcessId, mine, ActorId(0)), pid as ProcessId))
            }
            _ => Err(Lack::Processes),
        }
    }

    pub(super) fn end_actor(&mut self, id: ActorId) {
        if let Some(actor) = self.actor_mut(id)
            && actor.over.is_none()
        {
            process::kill(actor.pid);
            actor.over = Some(process::ended(actor.pid, true).unwrap_or(Outcome::Died(libc::SIGKILL)));
        }
    }

    pub(super) fn end_actors(&mut self) {
        for actor in self.actors.drain(..).flatten() {
            if actor.over.is_none() {
                process::kill(actor.pid);
                process::ended(actor.pid, true);
            }
        }
    }
}

/// The processor time that the worker has used.
fn worked() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn refused(error: &std::io::Error) -> Outcome {
    Outcome::Refused(error.raw_os_error().unwrap_or(libc::EIO))
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

/// What a fork in an actor makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forks {
    /// Children of its own.
    Children,
    /// Children of its parent: peers, which the worker can wait for.
    Siblings,
}

/// The life of the program that peers are forked from: it takes orders over the descriptors that it was started with.
pub fn serve_peers(from: i32, to: i32) -> ! {
    environment::quiet_allocator();
    let channel = Channel::inherited(from, to);
    let _ = rustix::io::fcntl_setfd(channel.socket(), rustix::io::FdFlags::CLOEXEC);
    guard::default_disposition();
    let _ = guard::install();
    serve(Performer::new(0), channel, Forks::Siblings)
}

/// The life of an actor that has executed this program anew: it says so and takes orders as before.
pub fn serve_again(from: i32, to: i32) -> ! {
    environment::quiet_allocator();
    let mut channel = Channel::inherited(from, to);
    for descriptor in channel.descriptors() {
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
    if channel.send(&Outcome::DONE).is_err() {
        process::exit(3);
    }
    guard::default_disposition();
    let _ = guard::install();
    serve(Performer::new(0), channel, Forks::Children)
}

fn serve(mut performer: Performer, mut channel: Channel, mut forks: Forks) -> ! {
    loop {
        let Received::Frame(call) = channel.receive::<Call>() else { process::exit(3) };
        let outcome = match call {
            Call::Exit { status } => process::exit(status),
            Call::Wait { actor } => {
                process::ended(performer.process(actor), true).unwrap_or(Outcome::Refused(libc::ECHILD))
            }
            Call::Fork { actor, survives } => match fork_here(&mut performer, &mut channel, actor, forks, survives) {
                Ok(outcome) => outcome,
                Err(own) => {
                    channel = own;
                    forks = Forks::Children;
                    continue;
                }
            },
            Call::ExecSelf => refused(&process::go_on(&channel)),
            Call::Adopt { fd, .. } => {
                if channel.send(&Outcome::DONE).is_err() {
                    process::exit(3);
                }
                match receive_descriptor(channel.socket()) {
                    Ok(descriptor) => performer.adopt(fd, descriptor),
                    Err(_) => Outcome::Lacking(Lack::Sockets),
                }
            }
            Call::Exec { ref tool, ref keep } => performer.exec(tool, keep),
            ref call => performer.perform(call),
        };
        if channel.send(&outcome).is_err() {
            process::exit(3);
        }
    }
}

/// Forks with the channel that comes behind the order: the outcome in the parent, that channel in the child.
fn fork_here(
    performer: &mut Performer,
    channel: &mut Channel,
    actor: ActorId,
    forks: Forks,
    survives: bool,
) -> Result<Outcome, Channel> {
    if channel.send(&Outcome::DONE).is_err() {
        process::exit(3);
    }
    let Ok(socket) = receive_descriptor(channel.socket()) else {
        return Ok(Outcome::Lacking(Lack::Sockets));
    };
    let (parent, side) = match forks {
        Forks::Children => (process::own_id(), process::fork()),
        Forks::Siblings => (process::parent_id(), process::fork_sibling()),
    };
    match side {
        Ok(Side::Parent(pid)) => {
            performer.learn_process(actor, pid);
            Ok(Outcome::Value(pid as u64))
        }
        Ok(Side::Child) => {
            if !survives {
                process::die_with(parent);
            }
            Err(Channel::socket_of(socket))
        }
        Err(error) => Ok(refused(&error)),
    }
}
