//! When a read or a write waits, and what ends the waiting.

use libc::{EINTR, EPIPE, SIGPIPE, SIGUSR1};
use proptest::prelude::*;

use super::streams::{Model, OnBoth, Party, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, any_count, atomic_count, drawn, slots, small_count, turned};
use crate::kernel::call::{Call, Disposition};
use crate::kernel::data::Data;
use crate::kernel::page::pages;
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![read_blocks(), write_blocks()]
}

fn read_blocks() -> Claim {
    claim("pipe.read-blocks")
        .states("With the pipe empty and a write end open, read blocks until there is data.")
        .documents([IPC.at("pipe, function"), IPC.at("pipe, read and write")])
        .holds()
        .basis([
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            linux("pipe(7), I/O on pipes and FIFOs"),
            linux("read(2), ERRORS, EINTR"),
        ])
        .on_both(["pipe", "fifo"], 8, waits(), a_read_waits)
        .on_both(["pipe, several readers", "fifo, several readers"], 16, crowds(), each_byte_wakes_one)
        .on_both(["pipe, interrupted", "fifo, interrupted"], 32, small_counts(), a_signal_ends_the_read)
}

fn write_blocks() -> Claim {
    claim("pipe.write-blocks")
        .states("With the pipe full and a read end open, write blocks until there is room.")
        .documents([IPC.at("pipe, function"), IPC.at("pipe, read and write")])
        .holds()
        .basis([
            posix("write, DESCRIPTION, pipe or FIFO"),
            linux("pipe(7), I/O on pipes and FIFOs"),
            linux("linux 7.2, fs/pipe.c, anon_pipe_write()"),
        ])
        .on_both(["pipe", "fifo"], 8, jams(), a_write_waits)
        .on_both(["pipe, several writers", "fifo, several writers"], 32, crowds(), all_are_let_in)
        .on_both(["pipe, interrupted", "fifo, interrupted"], 32, small_counts(), a_signal_ends_the_write)
}

/// Something that happens to a stream and gives nobody a byte or room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    WriteNothing,
    ReadNothing,
    Ask,
    DuplicateClosed,
    ProcessGone,
    SignalIgnored,
}

fn events() -> BoxedStrategy<Vec<Event>> {
    use Event::{Ask, DuplicateClosed, ProcessGone, ReadNothing, SignalIgnored, WriteNothing};
    let all = vec![WriteNothing, ReadNothing, Ask, DuplicateClosed, SignalIgnored, ProcessGone];
    prop::collection::vec(prop::sample::select(all), 0..4).boxed()
}

/// Lets the event happen; `waiting` is the process that sleeps in a call, of which nothing here should wake it.
fn happen(lab: &Lab, stream: &Stream, waiting: Actor<'_>, event: Event) -> Verdict {
    match event {
        Event::WriteNothing => lab.write(stream.write, &Data::zeros(0)).must_take(0),
        Event::ReadNothing => lab.read(stream.read, 0).must_be_empty(),
        Event::Ask => {
            lab.poll(stream.read, libc::POLLIN).prepared()?;
            lab.poll(stream.write, libc::POLLOUT).prepared()?;
            lab.unread(stream.read).prepared()?;
            lab.worker().call(Call::Fstat { fd: stream.read }).prepared()
        }
        Event::DuplicateClosed => {
            for fd in [stream.read, stream.write] {
                let copy = lab.dup(fd)?;
                lab.close(copy).prepared()?;
            }
            Ok(())
        }
        Event::ProcessGone => {
            lab.fork()?.call(Call::Exit { status: 0 }).quietly(&crate::lab::expect::Expect::Exited(0))
        }
        Event::SignalIgnored => lab.worker().call(Call::Kill { actor: waiting.id(), signal: libc::SIGURG }).prepared(),
    }
}

/// Who does what the waiting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Worker,
    Duplicate,
    Child,
}

fn by() -> BoxedStrategy<By> {
    prop::sample::select(vec![By::Worker, By::Duplicate, By::Child]).boxed()
}

/// A read of an empty stream, what happens meanwhile, and what is written at last.
#[derive(Clone, Debug)]
struct Wait {
    turned: usize,
    asks: Count,
    meanwhile: Vec<Event>,
    by: By,
    comes: Count,
    holds_both_ends: bool,
}

fn waits() -> Gen<Wait> {
    let strategy = (turned(), any_count(2), events(), by(), atomic_count(), any::<bool>()).prop_map(
        |(turned, asks, meanwhile, by, comes, holds_both_ends)| {
            let asks = if asks.of(crate::kernel::page::pages(1)) == 0 { Count::bytes(1) } else { asks };
            Wait { turned, asks, meanwhile, by, comes, holds_both_ends }
        },
    );
    let wait = |asks, comes, meanwhile| Wait {
        turned: 0,
        asks: Count::bytes(asks),
        meanwhile,
        by: By::Worker,
        comes: Count::bytes(comes),
        holds_both_ends: false,
    };
    use Event::{Ask, DuplicateClosed, ProcessGone, ReadNothing, SignalIgnored, WriteNothing};
    drawn("reads of an empty stream, what does not end them, and the write that does", strategy).also([
        wait(10, 5, vec![]),
        wait(1, 2, vec![WriteNothing, Ask, ReadNothing]),
        wait(100, 1, vec![DuplicateClosed, ProcessGone, SignalIgnored]),
    ])
}

fn a_read_waits(lab: &Lab, kind: Kind, wait: &Wait) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    stream.turn(lab, wait.turned)?;
    let (reader, other) = (lab.fork()?, lab.fork()?);
    if !wait.holds_both_ends {
        reader.close(stream.write).prepared()?;
    }
    let asks = wait.asks.of(capacity);
    let read = reader.begin(Call::Read { fd: stream.read, len: asks });
    read.must_block()?;
    for event in &wait.meanwhile {
        happen(lab, &stream, reader, *event)?;
        read.must_block()?;
    }
    let data = Data::at(3, 0, wait.comes.of(capacity));
    match wait.by {
        By::Worker => lab.write(stream.write, &data),
        By::Duplicate => lab.write(lab.dup(stream.write)?, &data),
        By::Child => other.write(stream.write, &data),
    }
    .must_take(data.len())?;
    let taken = asks.min(data.len());
    read.answer().must_yield(&Data::at(3, 0, taken))?;
    lab.unread(stream.read).must_take(data.len() - taken)?;
    lab.must(true, "the write released the read", String::new)
}

/// Several readers of an empty stream, or writers of a full one.
#[derive(Clone, Debug)]
struct Crowd {
    readers: usize,
    asks: Count,
    released: Released,
}

/// By what all of them are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Released {
    OneByOne,
    AtOnce,
    ByTheEnd,
}

fn crowds() -> Gen<Crowd> {
    use Released::{AtOnce, ByTheEnd, OneByOne};
    let released = [OneByOne, AtOnce, ByTheEnd];
    let strategy = (2_usize..5, small_count(), prop::sample::select(released.to_vec()))
        .prop_map(|(readers, asks, released)| Crowd { readers, asks, released });
    drawn("2 to 4 that wait, released one by one, by one call, or by the end of the stream", strategy)
        .also([OneByOne, AtOnce].map(|released| Crowd { readers: 2, asks: Count::bytes(5), released }))
}

/// What comes is for one of those who wait, unless it is more than that one asks for; the end of the file is for all.
fn each_byte_wakes_one(lab: &Lab, kind: Kind, crowd: &Crowd) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.capacity(lab)?;
    let asks = crowd.asks.of(capacity).clamp(1, capacity.get() / crowd.readers);
    let readers: Vec<Actor<'_>> = (0..crowd.readers).map(|_| lab.fork()).collect::<Verdict<_>>()?;
    let mut waiting = Vec::new();
    for reader in readers {
        reader.close(stream.write).prepared()?;
        let read = reader.begin(Call::Read { fd: stream.read, len: asks });
        read.must_block()?;
        waiting.push(read);
    }
    if crowd.released == Released::AtOnce {
        let same = Data::repeat(7, asks);
        lab.write(stream.write, &Data::repeat(7, asks * waiting.len())).must_take(asks * waiting.len())?;
        waiting.into_iter().try_for_each(|read| read.answer().must_yield(&same))?;
        return lab.must(true, "one write released all for whom there was enough", String::new);
    }
    for index in 0.. {
        if waiting.is_empty() {
            break;
        }
        if crowd.released == Released::ByTheEnd && index == 1 {
            lab.close(stream.write).prepared()?;
            for read in waiting {
                read.answer().must_be_empty()?;
            }
            break;
        }
        let byte = Data::at(5, index, 1);
        lab.write(stream.write, &byte).must_take(1)?;
        let before = waiting.len();
        let mut left = Vec::new();
        for read in waiting {
            match read.returned() {
                Ok(answer) => answer.must_yield(&byte)?,
                Err(read) => left.push(read),
            }
        }
        waiting = left;
        let woken = before - waiting.len();
        require(lab, woken == 1, "one byte ends one read", || format!("{woken} reads came back"))?;
    }
    lab.must(true, "each byte released one read, and the end all that were left", String::new)
}

fn small_counts() -> Gen<Count> {
    drawn("amounts of up to a few pages", small_count()).also([Count::bytes(5)])
}

fn a_signal_ends_the_read(lab: &Lab, kind: Kind, asks: &Count) -> Verdict {
    let stream = kind.open(lab)?;
    let reader = lab.fork()?;
    reader.signal(SIGUSR1, Disposition::Handle)?;
    let asks = asks.of(stream.capacity(lab)?).max(1);
    let read = reader.begin(Call::Read { fd: stream.read, len: asks });
    read.must_block()?;
    lab.worker().call(Call::Kill { actor: reader.id(), signal: SIGUSR1 }).prepared()?;
    read.answer().must_fail(EINTR)?;
    reader.call(Call::SignalCount).must_take(1)?;
    // Nothing was lost by it.
    lab.write(stream.write, &Data::at(3, 0, 1)).must_take(1)?;
    reader.read(stream.read, asks).must_yield(&Data::at(3, 0, 1))
}

/// A write that may not fit, what happens meanwhile, and the reads that make room.
#[derive(Clone, Debug)]
pub(super) struct Jam {
    slots: Option<usize>,
    turned: usize,
    before: Vec<Count>,
    write: Count,
    meanwhile: Vec<Event>,
    reads: Vec<Count>,
    by: By,
}

pub(super) fn jams() -> Gen<Jam> {
    let before = prop_oneof![
        2 => Just(vec![Count::capacity(1, 0)]),
        1 => Just(vec![]),
        2 => prop::collection::vec(any_count(1), 1..4),
    ];
    let reads = prop::collection::vec(any_count(1), 1..5);
    let strategy = (slots(), turned(), before, any_count(3), events(), reads, by()).prop_map(
        |(slots, turned, before, write, meanwhile, reads, by)| Jam {
            slots,
            turned,
            before,
            write,
            meanwhile,
            reads,
            by,
        },
    );
    use Event::{Ask, DuplicateClosed, ProcessGone, ReadNothing, SignalIgnored, WriteNothing};
    let full = |write, meanwhile, reads: &[Count]| Jam {
        slots: Some(2),
        turned: 0,
        before: vec![Count::capacity(1, 0)],
        write,
        meanwhile,
        reads: reads.to_vec(),
        by: By::Worker,
    };
    let bit_by_bit = [Count::bytes(1), Count::pages(1, -2), Count::bytes(1)];
    drawn("writes to a stream with too little room, what does not end them, and the reads that do", strategy).also([
        full(Count::bytes(1), vec![], &bit_by_bit),
        full(Count::pages(1, 1), vec![WriteNothing, ReadNothing, Ask], &bit_by_bit),
        full(Count::capacity(3, 7), vec![DuplicateClosed, ProcessGone, SignalIgnored], &[Count::pages(1, 0)]),
    ])
}

pub(super) fn a_write_waits(lab: &Lab, kind: Kind, jam: &Jam) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, jam.slots)?;
    stream.turn(lab, jam.turned)?;
    let mut model = Model::empty(capacity);
    for count in &jam.before {
        model.write(lab, &Party::of(lab.worker(), &stream), *count)?;
    }
    stream.set_flags(lab, stream.write, 0)?;
    let (writer, other) = (lab.fork()?, lab.fork()?);
    let reader = match jam.by {
        By::Worker => Party::of(lab.worker(), &stream),
        By::Duplicate => Party { read: lab.dup(stream.read)?, ..Party::of(lab.worker(), &stream) },
        By::Child => Party::of(other, &stream),
    };
    let data = model.next(7, jam.write.of(capacity));
    let mut taken = model.begin(&data);
    let write = writer.begin(Call::Write { fd: stream.write, data: data.clone() });
    let mut reads = jam.reads.iter().copied().chain(std::iter::repeat(Count::pages(3, 1)));
    let mut meanwhile = jam.meanwhile.iter().copied();
    while taken < data.len() {
        write.must_block()?;
        model.check(lab, &reader)?;
        if let Some(event) = meanwhile.next() {
            happen(lab, &stream, writer, event)?;
            write.must_block()?;
        }
        model.read(&reader, reads.next().unwrap_or(Count::bytes(1)))?;
        taken = model.go_on(&data, taken);
    }
    write.answer().must_take(data.len())?;
    model.drain(&reader)?;
    lab.must(true, "the write was released by room, and all of its bytes came behind what was there", String::new)
}

/// Each of several writers is let in when there is room; when the last reader goes all are told.
fn all_are_let_in(lab: &Lab, kind: Kind, crowd: &Crowd) -> Verdict {
    let stream = kind.open(lab)?;
    stream.resize(lab, Some(2))?;
    let before = stream.fill(lab, 2)?;
    let data = Data::pattern(1, crowd.asks.of(pages(1)).clamp(1, libc::PIPE_BUF));
    let reader = lab.fork()?;
    let mut waiting = Vec::new();
    for _ in 0..crowd.readers {
        let writer = lab.fork()?;
        writer.close(stream.read).prepared()?;
        writer.signal(SIGPIPE, Disposition::Ignore)?;
        let write = writer.begin(Call::Write { fd: stream.write, data: data.clone() });
        write.must_block()?;
        waiting.push(write);
    }
    if crowd.released == Released::ByTheEnd {
        lab.close(stream.read).prepared()?;
        reader.close(stream.read).prepared()?;
        waiting.into_iter().try_for_each(|write| write.answer().must_refuse(EPIPE))?;
        return lab.must(true, "all were told that nobody reads any more", String::new);
    }
    reader.read(stream.read, before.len()).must_yield(&before)?;
    if crowd.released == Released::AtOnce {
        // Two pages are free: there is room for two at least, with nothing read meanwhile.
        let mut left = Vec::new();
        for write in waiting {
            match write.returned() {
                Ok(answer) => answer.must_take(data.len())?,
                Err(write) => left.push(write),
            }
        }
        let in_the_pipe = crowd.readers - left.len();
        require(lab, in_the_pipe >= 2, "one read lets two writers in", || format!("{in_the_pipe} writes came back"))?;
        waiting = left;
    }
    for _ in 0..crowd.readers {
        reader.read(stream.read, data.len()).must_yield(&data)?;
    }
    waiting.into_iter().try_for_each(|write| write.answer().must_take(data.len()))?;
    lab.must(true, "all were let in", String::new)
}

fn a_signal_ends_the_write(lab: &Lab, kind: Kind, count: &Count) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    let writer = lab.fork()?;
    writer.signal(SIGUSR1, Disposition::Handle)?;
    let data = Data::pattern(1, count.of(capacity).max(1) + capacity.get());
    let interrupt = || lab.worker().call(Call::Kill { actor: writer.id(), signal: SIGUSR1 }).prepared();
    // A part has gone: what counts is how much.
    let write = writer.begin(Call::Write { fd: stream.write, data: data.clone() });
    write.must_block()?;
    interrupt()?;
    write.answer().must_take(capacity.get())?;
    // Nothing has gone.
    let write = writer.begin(Call::Write { fd: stream.write, data });
    write.must_block()?;
    interrupt()?;
    write.answer().must_fail(EINTR)?;
    lab.read(stream.read, capacity).must_yield(&Data::pattern(1, capacity))
}
