//! Pipes, FIFOs, sockets and other descriptors that are no regular files.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe, pipe_with};

use super::{Performer, outcome};
use crate::kernel::call::{At, Call, Fd, Special};
use crate::kernel::guard;
use crate::kernel::outcome::Outcome;

impl Performer {
    pub(super) fn pipes(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Pipe { read, write, flags } => {
                let made = if *flags == 0 { pipe() } else { pipe_with(PipeFlags::from_bits_retain(*flags)) };
                self.keep_both(*read, *write, made)
            }
            Call::PipeAt { at, read, write } => self.pipe_at(*at, *read, *write),
            Call::Socketpair { one, two } => {
                let made = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
                self.keep_both(*one, *two, made)
            }
            Call::Poll { fd, events } => {
                let descriptor = self.borrowed(*fd);
                // rustix has the bits as u16 or as c_short, by architecture.
                let asked = PollFlags::from_bits_retain((*events).try_into().unwrap_or_default());
                let mut wanted = [PollFd::new(&descriptor, asked)];
                let answer = poll(&mut wanted, Some(&Timespec::default()));
                let seen = wanted[0].revents().bits();
                outcome(answer, |_| Outcome::Value(i64::from(seen) as u64))
            }
            Call::Fionread { fd } => outcome(rustix::io::ioctl_fionread(self.borrowed(*fd)), Outcome::Value),
            Call::Mkfifo { path, mode, below } => {
                let name = Self::name(*path) + &below.suffix();
                super::done(mknodat(CWD, name, FileType::Fifo, Mode::from_bits_retain(*mode), 0))
            }
            Call::SendFd { over, fd } => super::done(send_descriptor(self.borrowed(*over), self.borrowed(*fd))),
            Call::ReceiveFd { over, fd } => {
                let received = receive_descriptor(self.borrowed(*over));
                self.keep(*fd, received)
            }
            Call::Special { kind, fd } => {
                let made = match kind {
                    Special::Eventfd => eventfd(0, EventfdFlags::CLOEXEC),
                    Special::Epoll => epoll::create(epoll::CreateFlags::CLOEXEC),
                    Special::Socket => socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None),
                };
                self.keep(*fd, made)
            }
            other => unreachable!("{other} is not a call on pipes"),
        }
    }

    fn pipe_at(&mut self, at: At, read: Fd, write: Fd) -> Outcome {
        let address = self.address(at);
        // SAFETY: the kernel stores two descriptors there, or says EFAULT; the case lends the memory for it.
        if unsafe { libc::syscall(libc::SYS_pipe2, address, 0) } != 0 {
            return super::errno();
        }
        let mut numbers = [0_u8; 8];
        if guard::load(address, &mut numbers).is_err() {
            return Outcome::Refused(libc::EFAULT);
        }
        let number = |at: usize| i32::from_ne_bytes(std::array::from_fn(|i| numbers[at + i]));
        self.opened(read, number(0));
        self.opened(write, number(4))
    }

    fn keep_both(&mut self, one: Fd, two: Fd, made: rustix::io::Result<(OwnedFd, OwnedFd)>) -> Outcome {
        match made {
            Ok((first, second)) => {
                self.keep(one, Ok(first));
                self.keep(two, Ok(second))
            }
            Err(errno) => Outcome::Refused(errno.raw_os_error()),
        }
    }
}

/// Hands a descriptor over a socket with one byte of data (unix(7), SCM_RIGHTS).
///
/// # Errors
/// Those of sendmsg(2).
pub(crate) fn send_descriptor(over: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [fd];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(over, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL).map(|_| ())
}

/// Takes the descriptor that [`send_descriptor`] handed over.
///
/// # Errors
/// Those of recvmsg(2); EBADMSG if there came none.
pub(crate) fn receive_descriptor(over: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(over, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or(Errno::BADMSG)
}
