//! The life of an actor: it takes orders over its channel, performs them, and says what became of each.

use crate::kernel::call::{ActorId, Call};
use crate::kernel::channel::{Channel, Received};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::perform::{Performer, receive_descriptor};
use crate::kernel::process::{self, Side};
use crate::kernel::{environment, guard};

/// What a fork in an actor makes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Forks {
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
    serve(&mut Performer::new(0), channel, Forks::Siblings)
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
    serve(&mut Performer::new(0), channel, Forks::Children)
}

/// Takes orders until the channel ends.
pub(super) fn serve(performer: &mut Performer, mut channel: Channel, mut forks: Forks) -> ! {
    loop {
        let Received::Frame(call) = channel.receive::<Call>() else { process::exit(3) };
        let outcome = match call {
            Call::Exit { status } => process::exit(status),
            Call::Wait { actor } => {
                process::ended(performer.process(actor), true).unwrap_or(Outcome::Refused(libc::ECHILD))
            }
            Call::Fork { actor, survives } => match fork_here(performer, &mut channel, actor, forks, survives) {
                Ok(outcome) => outcome,
                Err(own) => {
                    channel = own;
                    forks = Forks::Children;
                    continue;
                }
            },
            Call::ExecSelf => process::go_on(&channel).into(),
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
        Err(error) => Ok(error.into()),
    }
}
