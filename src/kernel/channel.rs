//! How processes of the suite speak with each other: frames over a socket pair, or over two pipes where there are no sockets.
//!
//! Every frame carries its length and a sum over its bytes: a kernel that loses or damages bytes here is noticed
//! as such, and is not taken for an answer.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One end.
#[derive(Debug)]
pub struct Channel {
    from: OwnedFd,
    /// The same socket as `from` if `None`.
    to: Option<OwnedFd>,
    received: Vec<u8>,
    outgoing: Vec<u8>,
    /// For how long a read waits (socket(7), SO_RCVTIMEO); for ever if zero.
    patience: Duration,
}

/// What came of waiting for a frame.
#[derive(Debug)]
pub enum Received<T> {
    /// A frame.
    Frame(T),
    /// Nothing yet.
    Nothing,
    /// The other end is closed.
    Closed,
    /// Bytes that no sender sends: the kernel lost or damaged some.
    Damaged,
}

const HEADER: usize = 8;
/// How much is read at a time, but for long frames: a child pays for every page that it touches.
const LITTLE: usize = 1 << 10;

fn sum(payload: &[u8]) -> u32 {
    let (words, rest) = payload.as_chunks::<8>();
    let tail = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let sum = words
        .chain((!rest.is_empty()).then_some(tail))
        .fold(0x811c_9dc5_u64, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23));
    (sum ^ sum >> 32) as u32
}

impl Channel {
    /// Both ends of a new channel, close-on-exec.
    ///
    /// # Errors
    /// What socketpair(2) and then pipe(2) say, where neither works.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        match socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
            Ok((one, two)) => Ok((Channel::over(one, None), Channel::over(two, None))),
            Err(Errno::MFILE | Errno::NFILE) => Err(Errno::MFILE.into()),
            Err(_) => {
                let flags = rustix::pipe::PipeFlags::CLOEXEC;
                let (read_one, write_two) = rustix::pipe::pipe_with(flags)?;
                let (read_two, write_one) = rustix::pipe::pipe_with(flags)?;
                Ok((Channel::over(read_one, Some(write_one)), Channel::over(read_two, Some(write_two))))
            }
        }
    }

    fn over(from: OwnedFd, to: Option<OwnedFd>) -> Channel {
        // Had before the fork, so that the child that reads into it needs no allocator.
        Channel { from, to, received: Vec::with_capacity(LITTLE), outgoing: Vec::new(), patience: Duration::ZERO }
    }

    /// The end that was handed over as a socket.
    pub fn socket_of(socket: OwnedFd) -> Channel {
        Channel::over(socket, None)
    }

    /// A second handle on the end with these numbers.
    pub fn duplicate(from: i32, to: i32) -> Option<Channel> {
        // SAFETY: the numbers are those of an open channel, whose owner outlives this call.
        let (read, write) = unsafe { (BorrowedFd::borrow_raw(from), BorrowedFd::borrow_raw(to)) };
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().ok();
        Some(Channel::over(copy(read)?, if from == to { None } else { Some(copy(write)?) }))
    }

    /// The end that a parent left open under these numbers when it started this program.
    pub fn inherited(from: i32, to: i32) -> Channel {
        // SAFETY: the parent passed these two descriptors for this use, and nothing else has taken them.
        let (read, written) = unsafe { (OwnedFd::from_raw_fd(from), (to != from).then(|| OwnedFd::from_raw_fd(to))) };
        Channel::over(read, written)
    }

    /// The descriptors, to be left open for a program that is started: for reading, for writing.
    pub fn numbers(&self) -> (i32, i32) {
        let from = self.from.as_raw_fd();
        (from, self.to.as_ref().map_or(from, AsRawFd::as_raw_fd))
    }

    /// The descriptors themselves.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.from.as_fd()).chain(self.to.as_ref().map(AsFd::as_fd))
    }

    /// Closes an end that a fork has copied, but gives its memory to nobody: a child pays for every page that it touches.
    #[inline]
    pub fn leave(self) {
        for descriptor in ManuallyDrop::new(self).descriptors() {
            // SAFETY: nothing uses the number after this: the owner is not dropped.
            unsafe { rustix::io::close(descriptor.as_raw_fd()) };
        }
    }

    /// Whether descriptors can be handed over it.
    pub fn carries_descriptors(&self) -> bool {
        self.to.is_none()
    }

    /// The descriptor to wait on and to hand descriptors over.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// What write(2) says; EPIPE when the other end has gone.
    pub fn send<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut frame = std::mem::take(&mut self.outgoing);
        frame.clear();
        frame.resize(HEADER, 0);
        let mut frame = postcard::to_extend(value, frame).map_err(io::Error::other)?;
        let length = (frame.len() - HEADER) as u32;
        let sum = sum(&frame[HEADER..]);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        frame[4..HEADER].copy_from_slice(&sum.to_le_bytes());
        let to = self.to.as_ref().unwrap_or(&self.from);
        let mut left = &frame[..];
        while !left.is_empty() {
            match write(to, left) {
                Ok(count) => left = &left[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.outgoing = frame;
        Ok(())
    }

    /// Waits for a frame for as long as it takes.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Received<T> {
        loop {
            match self.take() {
                Received::Nothing => {}
                other => return other,
            }
            if let Some(end) = self.read_more() {
                return end;
            }
        }
    }

    /// Waits for a frame, at most for `limit`.
    pub fn receive_within<T: DeserializeOwned>(&mut self, limit: Duration) -> Received<T> {
        let deadline = Instant::now() + limit;
        let waits = self.waits_in_read(limit);
        loop {
            match self.take() {
                Received::Nothing => {}
                other => return other,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if if waits { left.is_zero() } else { !self.readable(left) } {
                return Received::Nothing;
            }
            if let Some(end) = self.read_more() {
                return end;
            }
        }
    }

    /// Whether a read waits for so long and no longer: then there is no need to ask before whether there is something to read.
    fn waits_in_read(&mut self, limit: Duration) -> bool {
        if self.patience != limit
            && self.to.is_none()
            && set_socket_timeout(&self.from, Timeout::Recv, Some(limit)).is_ok()
        {
            self.patience = limit;
        }
        self.patience == limit && !limit.is_zero()
    }

    /// Whether there is something to read, or the end, within `limit`.
    pub fn readable(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).ok();
        let mut wanted = [PollFd::new(&self.from, PollFlags::IN)];
        matches!(poll(&mut wanted, limit.as_ref()), Ok(1..))
    }

    /// Whether the other end has taken all that was sent (unix(7), SIOCOUTQ; ioctl_pipe(2), FIONREAD); yes where the kernel does not tell.
    pub fn is_taken(&self) -> bool {
        let (number, request) = match &self.to {
            None => (self.from.as_raw_fd(), libc::TIOCOUTQ),
            Some(to) => (to.as_raw_fd(), libc::FIONREAD),
        };
        let mut left: libc::c_int = 0;
        // SAFETY: both requests store one int, which lives on the stack.
        let told = unsafe { libc::ioctl(number, request, &raw mut left) } == 0;
        !told || left == 0
    }

    /// Reads once what there is; the end of the channel, if that is what there is.
    fn read_more<T>(&mut self) -> Option<Received<T>> {
        self.received.reserve(self.wanted());
        match read(&self.from, spare_capacity(&mut self.received)) {
            Ok(0) => Some(Received::Closed),
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => None,
            Err(_) => Some(Received::Closed),
        }
    }

    /// How much room to read into: for what is missing of a long frame, else for any other.
    fn wanted(&self) -> usize {
        const MUCH: usize = 1 << 18;
        let frame = self.received.first_chunk::<4>().map_or(0, |length| HEADER + u32::from_le_bytes(*length) as usize);
        frame.saturating_sub(self.received.len()).clamp(1, MUCH)
    }

    /// A whole frame of what has been read.
    fn take<T: DeserializeOwned>(&mut self) -> Received<T> {
        let Some((header, rest)) = self.received.split_first_chunk::<HEADER>() else {
            return Received::Nothing;
        };
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = number(0) as usize;
        let Some(payload) = rest.get(..length) else {
            // A length beyond anything that is sent means that the stream has lost its place.
            return if length > 1 << 30 { Received::Damaged } else { Received::Nothing };
        };
        if sum(payload) != number(4) {
            return Received::Damaged;
        }
        let value = postcard::from_bytes(payload);
        self.received.drain(..HEADER + length);
        value.map_or(Received::Damaged, Received::Frame)
    }
}
