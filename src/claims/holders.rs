//! Who has an end of a stream open, and how one after the other lets go of it.

use proptest::prelude::*;

use crate::kernel::call::{Call, Fd};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::expect::Expect;
use crate::lab::stream::Stream;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// Where an end is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A duplicate in the worker.
    Duplicate,
    /// Opened anew by name, if it has one.
    Opened,
    /// A child that closes it.
    ChildCloses,
    /// A child that ends.
    ChildExits,
    /// A child that is killed.
    ChildDies,
    /// A child's child, which outlives the child.
    Grandchild,
    /// On its way to a process that never takes it from the socket.
    InFlight,
    /// A duplicate in the worker, which dup2 puts something else in the place of.
    Replaced,
}

/// Some holders, in the order in which they let go.
pub(super) fn holders() -> BoxedStrategy<Vec<Holder>> {
    use Holder::{ChildCloses, ChildDies, ChildExits, Duplicate, Grandchild, InFlight, Opened, Replaced};
    let all = [Duplicate, ChildExits, ChildCloses, Opened, InFlight, Grandchild, ChildDies, Replaced];
    let any = prop::sample::select(all.to_vec());
    prop::collection::vec(any, 1..5).boxed()
}

/// One holder, ready to let go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held<'l> {
    Descriptor(Fd),
    Sockets(Fd, Fd),
    Replaced { by: Fd, fd: Fd },
    Closes(Actor<'l>, Fd),
    Exits(Actor<'l>, Fd),
    Dies(Actor<'l>, Fd),
}

/// Lets all of them have the end `fd` and no other, and the worker have none of its own.
pub(super) fn hold<'l>(lab: &'l Lab, stream: &Stream, fd: Fd, holders: &[Holder]) -> Verdict<Vec<Held<'l>>> {
    let other = if fd == stream.read { stream.write } else { stream.read };
    let mut held = Vec::new();
    // Children first: what the worker opens for the others is not to be theirs too.
    for holder in holders {
        held.push(match holder {
            Holder::ChildCloses | Holder::ChildExits | Holder::ChildDies => {
                let child = lab.fork()?;
                child.close(other).prepared()?;
                Some(match holder {
                    Holder::ChildCloses => Held::Closes(child, fd),
                    Holder::ChildExits => Held::Exits(child, fd),
                    _ => Held::Dies(child, fd),
                })
            }
            Holder::Grandchild => {
                let child = lab.fork()?;
                child.close(other).prepared()?;
                let grandchild = lab.fork_from(child.id(), true)?;
                child.call(Call::Exit { status: 0 }).quietly(&Expect::Exited(0))?;
                Some(Held::Exits(grandchild, fd))
            }
            Holder::Duplicate | Holder::Opened | Holder::InFlight | Holder::Replaced => None,
        });
    }
    let mut all = Vec::new();
    for (holder, made) in holders.iter().zip(held) {
        all.push(match (made, holder, stream.path) {
            (Some(held), ..) => held,
            (None, Holder::InFlight, _) => {
                let (one, two) = lab.socketpair()?;
                lab.worker().call(Call::SendFd { over: one, fd }).prepared()?;
                Held::Sockets(one, two)
            }
            (None, Holder::Replaced, _) => Held::Replaced { by: other, fd: lab.dup(fd)? },
            (None, Holder::Opened, Some(path)) => {
                let mode = if fd == stream.read { libc::O_RDONLY } else { libc::O_WRONLY };
                Held::Descriptor(lab.open(path, mode | libc::O_NONBLOCK)?)
            }
            (None, ..) => Held::Descriptor(lab.dup(fd)?),
        });
    }
    lab.close(fd).prepared()?;
    Ok(all)
}

impl<'l> Held<'l> {
    /// Who can use the end, and by which descriptor: nobody while it is in flight.
    pub(super) fn user(self, lab: &'l Lab) -> Option<(Actor<'l>, Fd)> {
        match self {
            Held::Descriptor(fd) | Held::Replaced { fd, .. } => Some((lab.worker(), fd)),
            Held::Sockets(..) => None,
            Held::Closes(child, fd) | Held::Exits(child, fd) | Held::Dies(child, fd) => Some((child, fd)),
        }
    }

    /// Lets go, and has done so on return.
    pub(super) fn let_go(self, lab: &Lab) -> Verdict {
        match self {
            Held::Descriptor(fd) => lab.close(fd).prepared(),
            Held::Sockets(one, two) => {
                lab.close(one).prepared()?;
                lab.close(two).prepared()
            }
            Held::Replaced { by, fd } => lab.dup_onto(by, fd, false),
            Held::Closes(child, fd) => child.close(fd).prepared(),
            Held::Exits(child, _) => child.call(Call::Exit { status: 0 }).quietly(&Expect::Exited(0)),
            Held::Dies(child, _) => {
                lab.worker().call(Call::Kill { actor: child.id(), signal: libc::SIGKILL }).prepared()?;
                child.call(Call::Exit { status: 0 }).quietly(&Expect::Died(libc::SIGKILL))
            }
        }
    }
}
