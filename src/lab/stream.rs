//! The two ends of a pipe or of a FIFO: what is claimed of both is put to both by the same code.

use std::collections::VecDeque;

use super::actor::{Actor, Begun};
use super::answer::Answer;
use super::trace::Verdict;
use super::verbs::Calls;
use crate::kernel::call::{Call, Fd, Path};
use crate::kernel::data::Data;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, page, pages};

/// What a stream of bytes goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// pipe(2).
    Pipe,
    /// mkfifo(3) and open(2).
    Fifo,
}

/// Both ends, under the names that they have where they were made and in every process forked since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The end that is read from.
    pub read: Fd,
    /// The end that is written to.
    pub write: Fd,
    /// Its name, if it is a FIFO.
    pub path: Option<Path>,
}

impl Kind {
    /// Both ends in one process; reads and writes that cannot be done at once block.
    ///
    /// # Errors
    /// A skip where the directory takes no FIFO.
    pub fn open<'l>(self, who: impl Calls<'l>) -> Verdict<Stream> {
        let stream = self.make(who, 0)?;
        if self == Kind::Fifo {
            stream.set_flags(who, stream.read, 0)?;
        }
        Ok(stream)
    }

    /// Both ends in one process, with O_NONBLOCK.
    ///
    /// # Errors
    /// Those of [`Kind::open`].
    pub fn open_nonblocking<'l>(self, who: impl Calls<'l>) -> Verdict<Stream> {
        self.make(who, libc::O_NONBLOCK)
    }

    fn make<'l>(self, who: impl Calls<'l>, flags: i32) -> Verdict<Stream> {
        match self {
            Kind::Pipe => {
                let (read, write) = who.pipe(flags)?;
                Ok(Stream { read, write, path: None })
            }
            Kind::Fifo => {
                let path = who.new_fifo()?;
                // In this order neither waits for the other (fifo(7)).
                let read = who.open(path, libc::O_RDONLY | libc::O_NONBLOCK)?;
                let write = who.open(path, libc::O_WRONLY | flags)?;
                Ok(Stream { read, write, path: Some(path) })
            }
        }
    }
}

impl Stream {
    /// F_SETFL, which must succeed.
    ///
    /// # Errors
    /// A violation where it does not.
    pub fn set_flags<'l>(&self, who: impl Calls<'l>, fd: Fd, flags: i32) -> Verdict {
        who.fcntl(fd, libc::F_SETFL, flags as u64).prepared()
    }

    /// The capacity, as the kernel reports it (F_GETPIPE_SZ), in bytes.
    ///
    /// # Errors
    /// A skip where the kernel does not tell.
    pub fn capacity<'l>(&self, who: impl Calls<'l>) -> Verdict<Size> {
        let answer = who.fcntl(self.write, libc::F_GETPIPE_SZ, 0);
        if answer.outcome().errno() == Some(libc::EINVAL) {
            return who.place().0.lacking(Lack::Release);
        }
        Ok(Size(answer.value()? as usize))
    }

    /// Asks for this many pages, and gives the capacity that came of it: a limit may keep it as it is.
    ///
    /// # Errors
    /// Those of [`Stream::capacity`].
    pub fn resize<'l>(&self, who: impl Calls<'l>, slots: Option<usize>) -> Verdict<Size> {
        if let Some(slots) = slots {
            let answer = who.fcntl(self.write, libc::F_SETPIPE_SZ, pages(slots).get() as u64);
            match answer.outcome().errno() {
                None => answer.prepared()?,
                Some(libc::EPERM) => {}
                Some(libc::EINVAL) => return who.place().0.lacking(Lack::Release),
                Some(_) => answer.prepared()?,
            }
        }
        self.capacity(who)
    }

    /// Fills the empty stream with whole pages of a pattern, and leaves the write end blocking.
    ///
    /// # Errors
    /// A violation where it does not take as much as it reports.
    pub fn fill<'l>(&self, who: impl Calls<'l>, seed: u32) -> Verdict<Data> {
        let data = Data::pattern(seed, self.capacity(who)?);
        self.set_flags(who, self.write, libc::O_NONBLOCK)?;
        who.write(self.write, &data).must_take(data.len())?;
        self.set_flags(who, self.write, 0)?;
        Ok(data)
    }

    /// Moves the ring behind the stream on by so many slots: a byte in, the same byte out.
    ///
    /// # Errors
    /// A violation where another byte comes out.
    pub fn turn<'l>(&self, who: impl Calls<'l>, slots: usize) -> Verdict {
        for at in 0..slots {
            let byte = Data::at(1, at, 1);
            who.write(self.write, &byte).must_take(1)?;
            who.read(self.read, 1).must_yield(&byte)?;
        }
        Ok(())
    }
}

/// What is waited for without a word in the snapshot: amounts differ between correct systems.
impl<'l> Answer<'l> {
    /// The write took all of so many bytes.
    ///
    /// # Errors
    /// A violation where it did not.
    pub fn must_take(self, count: usize) -> Verdict {
        self.quietly(&super::expect::Expect::Value(count as u64))
    }

    /// The read gave exactly these bytes.
    ///
    /// # Errors
    /// A violation where it did not.
    pub fn must_yield(self, data: &Data) -> Verdict {
        self.quietly(&super::expect::Expect::Bytes(data.to_vec()))
    }

    /// The read gave no byte, and no error: the end of file, or nothing asked for.
    ///
    /// # Errors
    /// A violation where it did not.
    pub fn must_be_empty(self) -> Verdict {
        self.must_yield(&Data::zeros(0))
    }

    /// The call was refused with this errno.
    ///
    /// # Errors
    /// A violation where it was not.
    pub fn must_refuse(self, errno: i32) -> Verdict {
        self.quietly(&super::expect::Expect::Refused(errno))
    }
}

impl<'l> Actor<'l> {
    /// Begins open(2), which may wait for the other end of a FIFO, and gives the name of what it opens.
    pub fn begin_open(self, path: Path, flags: i32) -> (Begun<'l>, Fd) {
        let fd = self.place().0.new_fd();
        (self.begin(Call::Open { path, flags: flags as u32, mode: 0, fd }), fd)
    }
}

/// The pages of a stream in use, as Linux counts them (linux, fs/pipe.c, anon_pipe_write and anon_pipe_read).
///
/// It gives the least that a write finds room for: a write takes a page of its own for what does not fit behind
/// the last one, and a page is free again when all of it has been read.
#[derive(Clone, Debug)]
pub struct Slots {
    limit: usize,
    /// Of each page: where its bytes end, and how many are unread.
    used: VecDeque<(usize, usize)>,
}

impl Slots {
    /// None in use, of this capacity in bytes.
    pub fn of(capacity: Size) -> Slots {
        Slots { limit: capacity.get() / page(), used: VecDeque::new() }
    }

    /// It has this capacity from here on, in bytes.
    pub fn resize(&mut self, capacity: Size) {
        self.limit = capacity.get() / page();
    }

    /// How many pages are in use.
    pub fn in_use(&self) -> usize {
        self.used.len()
    }

    /// Whether a page is free: then a write of PIPE_BUF bytes does not wait.
    pub fn has_free(&self) -> bool {
        self.used.len() < self.limit
    }

    /// How many bytes of a write of `count` there is room for at least.
    pub fn room(&self, count: usize) -> usize {
        let behind = self.fits_behind(count);
        behind + (count - behind).min(self.limit.saturating_sub(self.used.len()) * page())
    }

    /// How many of the bytes that a write is left with go into free pages.
    pub fn room_for_rest(&self, rest: usize) -> usize {
        rest.min(self.limit.saturating_sub(self.used.len()) * page())
    }

    /// A write that had to wait took so many bytes more, which go into pages of their own.
    pub fn put_rest(&mut self, mut taken: usize) {
        while taken > 0 {
            let part = taken.min(page());
            self.used.push_back((part, part));
            taken -= part;
        }
    }

    /// The part of a write that goes behind the last page's bytes.
    fn fits_behind(&self, count: usize) -> usize {
        let part = count % page();
        match self.used.back() {
            Some((end, _)) if part > 0 && end + part <= page() => part,
            _ => 0,
        }
    }

    /// A write of `count` bytes took the first `taken` of them.
    pub fn put(&mut self, count: usize, taken: usize) {
        let behind = self.fits_behind(count).min(taken);
        if let Some((end, unread)) = self.used.back_mut() {
            *end += behind;
            *unread += behind;
        }
        self.put_rest(taken - behind);
    }

    /// The next `count` bytes have been read.
    pub fn take(&mut self, mut count: usize) {
        while count > 0
            && let Some((_, unread)) = self.used.front_mut()
        {
            let part = count.min(*unread);
            *unread -= part;
            count -= part;
            if *unread == 0 {
                self.used.pop_front();
            }
        }
    }
}

/// Whether the outcome is that the stream is full, or empty, for one that does not wait.
pub fn would_block(outcome: &Outcome) -> bool {
    outcome.errno() == Some(libc::EAGAIN)
}
