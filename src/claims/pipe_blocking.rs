//! When a read or a write waits, what ends the waiting, and O_NONBLOCK.

use libc::{EAGAIN, EINTR, O_NONBLOCK, SIGUSR1};
use proptest::prelude::*;

use super::pipe_stream::any_script;
use super::streams::{Model, OnBoth, Party, play, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, any_count, atomic_count, drawn, slots, small_count, turned};
use crate::kernel::call::{Call, Disposition, Fd};
use crate::kernel::data::Data;
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![read_blocks(), write_blocks(), nonblocking_read(), nonblocking_write()]
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
        .on_both(["pipe, interrupted", "fifo, interrupted"], 32, small_counts(), a_signal_ends_the_write)
}

fn nonblocking_read() -> Claim {
    claim("pipe.nonblocking-read")
        .states("With O_NONBLOCK set through fcntl, reading an empty pipe returns -1 at once.")
        .documents([IPC.at("pipe, non-blocking")])
        .holds()
        .basis([
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            posix("fcntl, DESCRIPTION, F_SETFL and F_GETFL"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .on_both(["pipe", "fifo"], 8, settings(), reads_that_do_not_wait)
}

fn nonblocking_write() -> Claim {
    claim("pipe.nonblocking-write")
        .states("A non-blocking write to a full pipe fails at once.")
        .documents([IPC.at("pipe, non-blocking")])
        .holds()
        .basis([posix("write, DESCRIPTION, pipe or FIFO"), linux("pipe(7), PIPE_BUF")])
        .on_both(["pipe", "fifo"], 8, settings(), writes_that_do_not_wait)
        .on_both(["pipe, at every level", "fifo, at every level"], 2, any_script(1, 30), |lab, kind, script| {
            play(lab, kind, script, 1)
        })
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

/// Several readers of an empty stream.
#[derive(Clone, Debug)]
struct Crowd {
    readers: usize,
    asks: Count,
    ends: bool,
}

fn crowds() -> Gen<Crowd> {
    let strategy =
        (2_usize..5, small_count(), any::<bool>()).prop_map(|(readers, asks, ends)| Crowd { readers, asks, ends });
    drawn("2 to 4 readers of an empty stream, woken one by one or all by its end", strategy).also([Crowd {
        readers: 2,
        asks: Count::bytes(5),
        ends: false,
    }])
}

/// What comes is for one of those who wait; the end of the file is for all.
fn each_byte_wakes_one(lab: &Lab, kind: Kind, crowd: &Crowd) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.capacity(lab)?;
    let readers: Vec<Actor<'_>> = (0..crowd.readers).map(|_| lab.fork()).collect::<Verdict<_>>()?;
    let mut waiting = Vec::new();
    for reader in readers {
        reader.close(stream.write).prepared()?;
        let read = reader.begin(Call::Read { fd: stream.read, len: crowd.asks.of(capacity).max(1) });
        read.must_block()?;
        waiting.push(read);
    }
    for index in 0.. {
        if waiting.is_empty() {
            break;
        }
        if crowd.ends && index == 1 {
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

/// By which means the flag is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    AtTheOpening,
    ByFcntl,
    ThroughADuplicate,
    InAChild,
}

/// How O_NONBLOCK is set, with which other bits in the argument, and how much is asked for.
#[derive(Clone, Copy, Debug)]
struct Setting {
    set: Set,
    append: bool,
    besides: i32,
    count: Count,
}

fn settings() -> Gen<Setting> {
    let ways = [Set::ByFcntl, Set::AtTheOpening, Set::ThroughADuplicate, Set::InAChild];
    // The access mode and the flags of creation are not for F_SETFL to change.
    let ignored = [0, libc::O_RDWR, libc::O_WRONLY, libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC];
    let ignored = prop::sample::select(ignored.to_vec());
    let strategy = (prop::sample::select(ways.to_vec()), any::<bool>(), ignored, any_count(2))
        .prop_map(|(set, append, besides, count)| Setting { set, append, besides, count });
    let plain = ways.map(|set| Setting { set, append: false, besides: 0, count: Count::bytes(5) });
    drawn("ways to set O_NONBLOCK, with O_APPEND set or not, bits besides that F_SETFL ignores, and amounts", strategy)
        .also(plain)
        .also([Setting { append: true, ..plain[0] }])
}

/// Opens a stream and sets the flag of one end: every descriptor of that end, and who has it.
fn set<'l>(
    lab: &'l Lab,
    kind: Kind,
    setting: &Setting,
    end: fn(&Stream) -> Fd,
) -> Verdict<(Stream, [(Actor<'l>, Fd); 3])> {
    let stream = match setting.set {
        Set::AtTheOpening => kind.open_nonblocking(lab)?,
        _ => kind.open(lab)?,
    };
    let fd = end(&stream);
    let child = lab.fork()?;
    let copy = lab.dup(fd)?;
    if setting.append {
        // Of no use to a pipe, and a flag to be kept.
        let flags = lab.fcntl(fd, libc::F_GETFL, 0).value()? | libc::O_APPEND as u64;
        lab.fcntl(fd, libc::F_SETFL, flags).prepared()?;
    }
    let before = lab.fcntl(fd, libc::F_GETFL, 0).value()?;
    let appends = before & libc::O_APPEND as u64 != 0;
    require(lab, appends == setting.append, "O_APPEND as it was set", || format!("{before:#o}"))?;
    let argument = before | (O_NONBLOCK | setting.besides) as u64;
    match setting.set {
        Set::AtTheOpening => {}
        Set::ByFcntl => lab.fcntl(fd, libc::F_SETFL, argument).prepared()?,
        Set::ThroughADuplicate => lab.fcntl(copy, libc::F_SETFL, argument).prepared()?,
        Set::InAChild => child.fcntl(fd, libc::F_SETFL, argument).prepared()?,
    }
    let holders = [(lab.worker(), fd), (lab.worker(), copy), (child, fd)];
    for (who, fd) in holders {
        let after = who.fcntl(fd, libc::F_GETFL, 0).value()?;
        require(lab, after == before | O_NONBLOCK as u64, "O_NONBLOCK is set, and every other flag as before", || {
            format!("{after:#o} behind {before:#o}")
        })?;
    }
    if setting.set != Set::AtTheOpening {
        let other = if fd == stream.read { stream.write } else { stream.read };
        let flags = lab.fcntl(other, libc::F_GETFL, 0).value()?;
        require(lab, flags & O_NONBLOCK as u64 == 0, "the flag of one end is not the other's", || {
            format!("{flags:#o}")
        })?;
    }
    Ok((stream, holders))
}

fn reads_that_do_not_wait(lab: &Lab, kind: Kind, setting: &Setting) -> Verdict {
    let (stream, holders) = set(lab, kind, setting, |stream| stream.read)?;
    let capacity = stream.capacity(lab)?;
    let count = setting.count.of(capacity).max(1);
    for (who, fd) in holders {
        who.read(fd, count).must_fail(EAGAIN)?;
        lab.write(stream.write, &Data::at(1, 0, 1)).must_take(1)?;
        who.read(fd, count).must_yield(&Data::at(1, 0, 1))?;
    }
    // Without the flag a read waits again.
    let [_, _, (child, fd)] = holders;
    stream.set_flags(lab, stream.read, 0)?;
    let read = child.begin(Call::Read { fd, len: count });
    read.must_block()?;
    lab.write(stream.write, &Data::at(1, 0, 1)).must_take(1)?;
    read.answer().must_yield(&Data::at(1, 0, 1))?;
    // And with it, the end of the file is no reason for EAGAIN.
    stream.set_flags(child, fd, O_NONBLOCK)?;
    child.close(stream.write).prepared()?;
    lab.read(stream.read, count).must_fail(EAGAIN)?;
    lab.close(stream.write).prepared()?;
    for (who, fd) in holders {
        who.read(fd, count).must_hold(&Data::zeros(0))?;
    }
    Ok(())
}

fn writes_that_do_not_wait(lab: &Lab, kind: Kind, setting: &Setting) -> Verdict {
    let (stream, holders) = set(lab, kind, setting, |stream| stream.write)?;
    let capacity = stream.resize(lab, Some(2))?;
    let count = setting.count.of(capacity).max(1);
    let data = Data::at(3, 0, count);
    // Of more than fits the part that fits is taken.
    let all = Data::pattern(2, capacity + count);
    lab.write(stream.write, &all).must_take(capacity.get())?;
    for (who, fd) in holders {
        who.write(fd, &data).must_fail(EAGAIN)?;
    }
    let [_, _, (child, fd)] = holders;
    stream.set_flags(child, fd, 0)?;
    let write = child.begin(Call::Write { fd, data: data.clone() });
    write.must_block()?;
    // Nothing that was refused has left a byte.
    lab.read(stream.read, capacity).must_yield(&Data::pattern(2, capacity))?;
    let mut seen = Vec::new();
    let mut write = write;
    let answer = loop {
        match write.returned() {
            Ok(answer) => break answer,
            Err(waiting) => write = waiting,
        }
        seen.extend(lab.read(stream.read, count).bytes()?);
    };
    answer.must_take(count)?;
    if seen.len() < count {
        seen.extend(lab.read(stream.read, count).bytes()?);
    }
    lab.must(seen == data.to_vec(), "only what was taken came, in order", || format!("{} bytes of {count}", seen.len()))
}
