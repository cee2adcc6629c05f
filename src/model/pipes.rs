//! Pipes and FIFOs: a queue of bytes, counted in page slots.

use std::collections::VecDeque;

use super::{Object, OpenFile, Prediction, Rule, World};
use crate::kernel::call::{ActorId, Call, Fd};
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
use crate::lab::expect::Expect;

/// A pipe.
#[derive(Clone, Debug, Default)]
pub struct PipeState {
    /// What was written and not read, oldest first.
    queue: VecDeque<u8>,
    /// How many bytes each page slot at most holds, oldest first: a write may share the last one or may not.
    slots: VecDeque<usize>,
    /// The capacity in page slots, once it has been asked for.
    pub capacity: usize,
    /// Open file descriptions for reading.
    pub readers: usize,
    /// Open file descriptions for writing.
    pub writers: usize,
}

impl PipeState {
    /// Bytes that are waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops what is waiting: the last end is closed.
    pub(super) fn forget(&mut self) {
        self.queue.clear();
        self.slots.clear();
    }

    /// Whether so many bytes surely fit, surely do not, or may: page slots are counted as if no write shared one.
    fn room_for(&self, len: usize) -> Option<bool> {
        if self.slots.len() + len.div_ceil(page()) <= self.capacity {
            Some(true)
        } else if self.queue.len() + len > self.capacity * page() {
            Some(false)
        } else {
            None
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
        self.slots.extend(bytes.chunks(page()).map(<[u8]>::len));
    }

    fn pop(&mut self, count: usize) {
        self.queue.drain(..count.min(self.queue.len()));
        let mut left = count;
        while left > 0
            && let Some(first) = self.slots.front_mut()
        {
            let taken = left.min(*first);
            *first -= taken;
            left -= taken;
            if *first == 0 {
                self.slots.pop_front();
            }
        }
    }
}

impl World {
    /// A pipe with no ends yet. The capacity is what every user below the soft limit gets; the driver corrects it by asking.
    pub(super) fn new_pipe(&mut self) -> usize {
        const DEFAULT: usize = 16;
        self.pipes.push(PipeState { capacity: DEFAULT, ..PipeState::default() });
        self.pipes.len() - 1
    }

    pub(super) fn make_pipe(&mut self, who: ActorId, read: Fd, write: Fd, flags: u32) {
        let pipe = self.new_pipe();
        let end = |reads: bool| OpenFile {
            object: Object::Pipe(pipe),
            reads,
            writes: !reads,
            offset: 0,
            append: false,
            nonblocking: flags & libc::O_NONBLOCK as u32 != 0,
            references: 0,
        };
        self.add_descriptor(who, read, end(true));
        self.add_descriptor(who, write, end(false));
    }

    pub(super) fn predict_pipe(&self, file: &OpenFile, pipe: &PipeState, call: &Call) -> Option<Prediction> {
        Some(match call {
            Call::Close { .. } => self.by(Rule::Close, Expect::Value(0)),
            Call::Dup { .. } | Call::Dup2 { .. } => self.by(Rule::Duplicate, Expect::Success),
            Call::Lseek { .. } => self.refused(Rule::SeekPipe, libc::ESPIPE),
            Call::Pread { .. } | Call::Pwrite { .. } => self.refused(Rule::SeekPipe, libc::ESPIPE),
            Call::Fcntl { command: libc::F_SETFL, .. } => self.by(Rule::Flags, Expect::Value(0)),
            Call::Fcntl { command: libc::F_GETPIPE_SZ, .. } => {
                self.by(Rule::PipeCapacity, Expect::Value((pipe.capacity * page()) as u64))
            }
            // What is waiting may stand in the way of a smaller size, by slots that writes shared or did not.
            Call::Fcntl { command: libc::F_SETPIPE_SZ, .. } if !pipe.is_empty() => return None,
            Call::Fcntl { command: libc::F_SETPIPE_SZ, argument, .. } => {
                let size = (*argument as usize).div_ceil(page()).next_power_of_two() * page();
                // A user above the limits on pipe pages is refused.
                let either = vec![Expect::Value(size as u64), Expect::Refused(libc::EPERM)];
                self.by(Rule::PipeCapacity, Expect::AnyOf(either))
            }
            Call::Fionread { .. } => self.by(Rule::Read, Expect::Value(pipe.len() as u64)),
            Call::Poll { .. } => self.by(Rule::Poll, self.poll_of(file, pipe)?),
            Call::Ftruncate { .. } => self.refused(Rule::TruncateAccess, libc::EINVAL),
            Call::Read { .. } if !file.reads => self.refused(Rule::ReadAccess, libc::EBADF),
            Call::Read { len: 0, .. } => return None,
            Call::Read { len, .. } if !pipe.is_empty() => {
                let bytes = pipe.queue.iter().take(*len).copied().collect();
                self.by(Rule::PipeRead, Expect::Bytes(bytes))
            }
            Call::Read { .. } if pipe.writers == 0 => self.by(Rule::PipeEnd, Expect::Bytes(Vec::new())),
            Call::Read { .. } if file.nonblocking => self.refused(Rule::PipeEmpty, libc::EAGAIN),
            Call::Read { .. } => self.by(Rule::PipeBlocks, Expect::Blocked),
            Call::Write { .. } if !file.writes => self.refused(Rule::WriteAccess, libc::EBADF),
            Call::Write { data, .. } if data.is_empty() => return None,
            Call::Write { .. } if pipe.readers == 0 => {
                let either = vec![Expect::Refused(libc::EPIPE), Expect::Died(libc::SIGPIPE)];
                self.by(Rule::PipeBroken, Expect::AnyOf(either))
            }
            Call::Write { data, .. } if data.len() <= libc::PIPE_BUF => match pipe.room_for(data.len()) {
                Some(true) => self.by(Rule::PipeWrite, Expect::Value(data.len() as u64)),
                Some(false) if file.nonblocking => self.refused(Rule::PipeWrite, libc::EAGAIN),
                _ if file.nonblocking => {
                    let either = vec![Expect::Value(data.len() as u64), Expect::Refused(libc::EAGAIN)];
                    self.by(Rule::PipeWrite, Expect::AnyOf(either))
                }
                // Whether a blocking write waits is then a matter of how slots are shared: not asked.
                _ => return None,
            },
            Call::Write { data, .. } if pipe.room_for(data.len()) == Some(true) => {
                self.by(Rule::PipeWrite, Expect::Value(data.len() as u64))
            }
            _ => return None,
        })
    }

    /// POLLIN and POLLOUT asked for at once. Room may be reported or not where it depends on shared slots.
    fn poll_of(&self, file: &OpenFile, pipe: &PipeState) -> Option<Expect> {
        if file.reads && file.writes {
            return None;
        }
        let mut events = 0;
        if file.reads {
            events |= if pipe.is_empty() { 0 } else { libc::POLLIN };
            events |= if pipe.writers == 0 { libc::POLLHUP } else { 0 };
            // A FIFO that has had no writer since it was opened is not hung up yet: left open.
            if pipe.writers == 0 && pipe.is_empty() {
                return Some(Expect::AnyOf(vec![Expect::Value(events as u64), Expect::Value(0)]));
            }
            return Some(Expect::Value(events as u64));
        }
        if pipe.readers == 0 {
            let error = Expect::Value(libc::POLLERR as u64);
            let with_room = Expect::Value((libc::POLLERR | libc::POLLOUT) as u64);
            return Some(Expect::AnyOf(vec![error, with_room]));
        }
        let room = Expect::Value(libc::POLLOUT as u64);
        match pipe.slots.len() < pipe.capacity {
            true => Some(room),
            false => Some(Expect::AnyOf(vec![room, Expect::Value(0)])),
        }
    }

    pub(super) fn apply_pipe(&mut self, pipe: usize, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Fcntl { command: libc::F_SETPIPE_SZ, .. }, Outcome::Value(size)) => {
                self.pipes[pipe].capacity = *size as usize / page();
            }
            (Call::Write { data, .. }, Outcome::Value(count)) => {
                let bytes = data.to_vec();
                let count = (*count as usize).min(bytes.len());
                self.pipes[pipe].push(&bytes[..count]);
            }
            (Call::Read { .. }, Outcome::Bytes(seen)) if self.in_force(Rule::PipeReleased) => {
                self.pipes[pipe].pop(seen.len())
            }
            _ => {}
        }
    }
}
