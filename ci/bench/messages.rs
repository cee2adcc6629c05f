//! Which way between two processes is the fastest, by size of message: `cargo bench --bench messages`.
//!
//! `shared.fastest` says shared memory is; here is how far, and where, it is so. A mapping and a file have no way to wait:
//! their readers spin, which is fast as long as each side has a processor of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use divan::counter::BytesCount;
use mmap_conformance::kernel::bare;
use mmap_conformance::kernel::process::{self, ProcessId, Side};

const SIZES: [usize; 5] = [8, 256, 4 << 10, 64 << 10, 1 << 20];

fn main() {
    divan::main();
}

/// One way for messages of one size.
trait Line {
    fn new(size: usize) -> Self;
    fn send(&mut self, message: &[u8]);
    fn receive(&mut self, into: &mut [u8]);
}

/// The ends of a stream of bytes: the one to read from, the one to write to.
type Ends = (OwnedFd, OwnedFd);

/// A way under the name that its figures are printed with.
macro_rules! way {
    ($name:ident, $inner:ty, $new:expr) => {
        struct $name($inner);

        impl Line for $name {
            fn new(size: usize) -> Self {
                let new: fn(usize) -> $inner = $new;
                $name(new(size))
            }

            fn send(&mut self, message: &[u8]) {
                self.0.send(message);
            }

            fn receive(&mut self, into: &mut [u8]) {
                self.0.receive(into);
            }
        }
    };
}

way!(Pipe, Stream, |_| Stream::of(rustix::pipe::pipe().expect("a pipe")));
way!(Fifo, Stream, |_| Stream::of(fifo()));
way!(SocketPair, Stream, |_| Stream::of(sockets()));
way!(SharedMemory, Mailbox<bare::SharedMemory>, Mailbox::new);
way!(ThroughFile, Mailbox<File>, Mailbox::new);

struct Stream {
    from: File,
    to: File,
}

impl Stream {
    fn of((from, to): Ends) -> Stream {
        Stream { from: from.into(), to: to.into() }
    }

    fn send(&mut self, message: &[u8]) {
        self.to.write_all(message).expect("the other side reads");
    }

    fn receive(&mut self, into: &mut [u8]) {
        self.from.read_exact(into).expect("the other side writes");
    }
}

fn sockets() -> Ends {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).expect("sockets")
}

fn fifo() -> Ends {
    use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("fifo");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO");
    // Open for both is how one process opens both ends without waiting for itself (fifo(7)).
    let from = open(&path, OFlags::RDWR, Mode::empty()).expect("a FIFO");
    (from, open(&path, OFlags::WRONLY, Mode::empty()).expect("a FIFO"))
}

/// Room for one message, and a count of those that were put there and of those that were taken.
trait Store {
    fn new(size: usize) -> Self;
    fn count(&self, which: usize) -> u32;
    fn set_count(&self, which: usize, count: u32);
    fn put(&self, message: &[u8]);
    fn take(&self, into: &mut [u8]);
}

const SENT: usize = 0;
const TAKEN: usize = 1;

/// A line over such a room.
struct Mailbox<S> {
    store: S,
    count: u32,
}

impl<S: Store> Mailbox<S> {
    fn new(size: usize) -> Self {
        Mailbox { store: S::new(size), count: 0 }
    }

    fn send(&mut self, message: &[u8]) {
        wait(|| self.store.count(TAKEN) == self.count);
        self.store.put(message);
        self.count += 1;
        self.store.set_count(SENT, self.count);
    }

    fn receive(&mut self, into: &mut [u8]) {
        wait(|| self.store.count(SENT) != self.count);
        self.store.take(into);
        self.count += 1;
        self.store.set_count(TAKEN, self.count);
    }
}

fn wait(happened: impl Fn() -> bool) {
    const SPINS: usize = 1000;
    loop {
        for _ in 0..SPINS {
            if happened() {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

impl Store for bare::SharedMemory {
    fn new(size: usize) -> Self {
        bare::SharedMemory::new(size).expect("memory")
    }

    fn count(&self, which: usize) -> u32 {
        self.word(which).load(Ordering::Acquire)
    }

    fn set_count(&self, which: usize, count: u32) {
        self.word(which).store(count, Ordering::Release);
    }

    fn put(&self, message: &[u8]) {
        self.store(message);
    }

    fn take(&self, into: &mut [u8]) {
        self.load(into);
    }
}

const COUNTS: u64 = 8;

impl Store for File {
    fn new(_: usize) -> Self {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&[0; COUNTS as usize], 0).expect("room");
        file
    }

    fn count(&self, which: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read_exact_at(&mut bytes, which as u64 * 4).expect("the count is there");
        u32::from_ne_bytes(bytes)
    }

    fn set_count(&self, which: usize, count: u32) {
        self.write_all_at(&count.to_ne_bytes(), which as u64 * 4).expect("room");
    }

    fn put(&self, message: &[u8]) {
        self.write_all_at(message, COUNTS).expect("room");
    }

    fn take(&self, into: &mut [u8]) {
        self.read_exact_at(into, COUNTS).expect("the message is there");
    }
}

/// A child that receives messages, and answers one after so many with one of `answer` bytes.
struct Pair<L> {
    to: L,
    from: L,
    message: Vec<u8>,
    answer: Vec<u8>,
    child: ProcessId,
}

impl<L: Line> Pair<L> {
    fn new(size: usize, answer: usize, every: usize) -> Pair<L> {
        let (mut to, mut from) = (L::new(size), L::new(answer));
        let (mut message, answer) = (vec![7; size], vec![9; answer]);
        let parent = process::own_id();
        match process::fork().expect("a process") {
            Side::Parent(child) => Pair { to, from, message, answer, child },
            Side::Child => {
                process::die_with(parent);
                loop {
                    (0..every).for_each(|_| to.receive(&mut message));
                    from.send(&answer);
                }
            }
        }
    }

    fn exchange(&mut self, times: usize) {
        (0..times).for_each(|_| self.to.send(&self.message));
        self.from.receive(&mut self.answer);
    }
}

impl<L> Drop for Pair<L> {
    fn drop(&mut self) {
        process::kill(self.child);
        process::ended(self.child, true);
    }
}

/// A message there and one of the same size back.
#[divan::bench(types = [SharedMemory, Pipe, Fifo, SocketPair, ThroughFile], args = SIZES)]
fn round_trip<L: Line>(bencher: divan::Bencher<'_, '_>, size: usize) {
    let mut pair = Pair::<L>::new(size, size, 1);
    bencher.bench_local(|| pair.exchange(1));
}

/// Messages one way, with an answer of one byte behind every sixteenth.
#[divan::bench(types = [SharedMemory, Pipe, Fifo, SocketPair, ThroughFile], args = SIZES)]
fn throughput<L: Line>(bencher: divan::Bencher<'_, '_>, size: usize) {
    const TIMES: usize = 16;
    let mut pair = Pair::<L>::new(size, 1, TIMES);
    bencher.counter(BytesCount::new(size * TIMES)).bench_local(|| pair.exchange(TIMES));
}
