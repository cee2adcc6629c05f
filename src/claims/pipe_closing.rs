//! What becomes of one end when nobody has the other any more.

use libc::{EPIPE, POLLERR, POLLHUP, POLLIN, POLLOUT, SIGPIPE};
use proptest::prelude::*;

use super::holders::{Holder, hold, holders};
use super::streams::{Model, OnBoth, Party, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, any_count, drawn, slots, small_count, turned};
use crate::kernel::call::{Call, Disposition};
use crate::kernel::data::Data;
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::answer::Answer;
use crate::lab::expect::Expect;
use crate::lab::stream::Kind;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![read_eof(), write_sigpipe()]
}

fn read_eof() -> Claim {
    claim("pipe.read-eof")
        .states("When every write end is closed the remaining bytes are read first, and then read returns 0.")
        .documents([IPC.at("pipe, read and write")])
        .holds()
        .basis([
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            posix("read, DESCRIPTION, return value"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .on_both(["pipe", "fifo"], 4, leavings(), the_end_comes_last)
        .on_both(["pipe, a waiting reader", "fifo, a waiting reader"], 8, leavings(), the_end_wakes)
}

fn write_sigpipe() -> Claim {
    claim("pipe.write-sigpipe")
        .states("When every read end is closed, writing kills the process with SIGPIPE.")
        .documents([IPC.at("pipe, read and write")])
        .holds()
        .basis([
            posix("write, ERRORS, [EPIPE]"),
            posix("<signal.h>, SIGPIPE"),
            linux("pipe(7), I/O on pipes and FIFOs"),
            linux("write(2), ERRORS, EPIPE"),
        ])
        .on_both(["pipe", "fifo"], 4, breakings(), nobody_to_read)
        .on_both(["pipe, a waiting writer", "fifo, a waiting writer"], 8, breakings(), nobody_reads_any_more)
}

/// Writers that leave one after the other, and reads meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    slots: Option<usize>,
    turned: usize,
    unread: Count,
    leave: Vec<Holder>,
    last_words: bool,
    reads: Vec<Count>,
}

pub(super) fn leavings() -> Gen<Leaving> {
    let unread = prop_oneof![1 => Just(Count::bytes(0)), 3 => any_count(1)];
    let strategy = (slots(), turned(), unread, holders(), any::<bool>(), prop::collection::vec(small_count(), 1..5))
        .prop_map(|(slots, turned, unread, leave, last_words, reads)| Leaving {
            slots,
            turned,
            unread,
            leave,
            last_words,
            reads,
        });
    let leaving = |unread, leave: &[Holder]| Leaving {
        slots: Some(2),
        turned: 0,
        unread: Count::bytes(unread),
        leave: leave.to_vec(),
        last_words: false,
        reads: vec![Count::bytes(3)],
    };
    use Holder::{ChildCloses, ChildDies, ChildExits, Duplicate, Grandchild, InFlight};
    drawn("bytes in the stream, 1 to 4 holders of its write end that let go in turn, and reads meanwhile", strategy)
        .also([
            leaving(5, &[Duplicate]),
            leaving(7, &[ChildExits, Duplicate]),
            leaving(0, &[Duplicate, ChildCloses, ChildDies]),
            leaving(9, &[Duplicate, Grandchild]),
            leaving(1, &[ChildExits, InFlight]),
        ])
}

pub(super) fn the_end_comes_last(lab: &Lab, kind: Kind, leaving: &Leaving) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, leaving.slots)?;
    stream.turn(lab, leaving.turned)?;
    let reader = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    model.write(lab, &reader, leaving.unread)?;
    let held = hold(lab, &stream, stream.write, &leaving.leave)?;
    let mut reads = leaving.reads.iter().copied();
    for holder in held {
        if let Some(count) = reads.next() {
            model.read(&reader, count)?;
        }
        if let (true, Some((who, write))) = (leaving.last_words, holder.user(lab)) {
            model.write(lab, &Party { who, write, ..reader }, Count::bytes(3))?;
        }
        let ready = if model.unread() > 0 { POLLIN } else { 0 };
        lab.poll(stream.read, POLLIN).must_take(ready as usize)?;
        holder.let_go(lab)?;
    }
    let ready = if model.unread() > 0 { POLLIN | POLLHUP } else { POLLHUP };
    lab.poll(stream.read, POLLIN).must_take(ready as usize)?;
    lab.unread(stream.read).must_take(model.unread())?;
    while model.unread() > 0 {
        model.read(&reader, reads.next().unwrap_or(Count::pages(1, 1)))?;
    }
    lab.must(true, "what remained was read", String::new)?;
    for count in [1, 100, capacity.get()] {
        lab.read(stream.read, count).must_hold(&Data::zeros(0))?;
    }
    lab.unread(stream.read).must_take(0)?;
    lab.poll(stream.read, POLLIN).must_return(POLLHUP as u64)
}

pub(super) fn the_end_wakes(lab: &Lab, kind: Kind, leaving: &Leaving) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, leaving.slots)?;
    stream.turn(lab, leaving.turned)?;
    let reader = lab.fork()?;
    reader.close(stream.write).prepared()?;
    let held = hold(lab, &stream, stream.write, &leaving.leave)?;
    let read = reader.begin(Call::Read { fd: stream.read, len: leaving.reads[0].of(capacity).max(1) });
    for holder in held {
        read.must_block()?;
        holder.let_go(lab)?;
    }
    read.answer().must_hold(&Data::zeros(0))?;
    reader.read(stream.read, 1).must_hold(&Data::zeros(0))
}

/// Readers that leave one after the other, and a writer that does this or that with SIGPIPE.
#[derive(Clone, Debug)]
pub(super) struct Breaking {
    signal: Disposition,
    turned: usize,
    unread: Count,
    leave: Vec<Holder>,
    write: Count,
    may_wait: bool,
}

pub(super) fn breakings() -> Gen<Breaking> {
    let signals = [Disposition::Default, Disposition::Ignore, Disposition::Handle, Disposition::Block];
    let unread = prop_oneof![2 => Just(Count::bytes(0)), 3 => any_count(1)];
    let strategy = (prop::sample::select(signals.to_vec()), turned(), unread, holders(), any_count(2), any::<bool>())
        .prop_map(|(signal, turned, unread, leave, write, may_wait)| Breaking {
            signal,
            turned,
            unread,
            leave,
            write,
            may_wait,
        });
    let breaking = |signal, unread, leave: &[Holder]| Breaking {
        signal,
        turned: 0,
        unread: Count::bytes(unread),
        leave: leave.to_vec(),
        write: Count::bytes(5),
        may_wait: unread > 0,
    };
    let plain = signals.map(|signal| breaking(signal, 0, &[Holder::Duplicate]));
    drawn(
        "1 to 4 holders of the read end that let go in turn, what the writer does with SIGPIPE, and amounts",
        strategy,
    )
    .also(plain)
    .also([
        breaking(Disposition::Default, 3, &[Holder::Duplicate, Holder::ChildExits]),
        breaking(Disposition::Ignore, 3, &[Holder::Duplicate, Holder::InFlight]),
    ])
}

/// What becomes of a write that nobody can read, and of the writer.
pub(super) fn must_break(writer: Actor<'_>, write: Answer<'_>, signal: Disposition, taken: usize) -> Verdict {
    match signal {
        Disposition::Default => return write.must_die_of(SIGPIPE),
        // A part that had gone before is told rather than the error.
        _ if taken > 0 => write.may(&[Expect::Value(taken as u64), Expect::Refused(EPIPE)])?,
        _ => write.must_fail(EPIPE)?,
    }
    match signal {
        Disposition::Handle => writer.call(Call::SignalCount).must_return(1_u64),
        // Pending until it is no longer blocked.
        Disposition::Block => {
            writer.call(Call::Signal { signal: SIGPIPE, disposition: Disposition::Default }).must_die_of(SIGPIPE)
        }
        _ => Ok(()),
    }
}

pub(super) fn nobody_to_read(lab: &Lab, kind: Kind, breaking: &Breaking) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    stream.turn(lab, breaking.turned)?;
    let mut model = Model::empty(capacity);
    model.write(lab, &Party::of(lab.worker(), &stream), breaking.unread)?;
    let who = lab.fork()?;
    who.close(stream.read).prepared()?;
    who.signal(SIGPIPE, breaking.signal)?;
    let held = hold(lab, &stream, stream.read, &breaking.leave)?;
    for holder in held {
        model.write(lab, &Party::of(who, &stream), Count::bytes(1))?;
        let events = who.poll(stream.write, POLLOUT).value()?;
        require(lab, events & POLLERR as u64 == 0, "no POLLERR while there is a reader", || format!("{events:#x}"))?;
        holder.let_go(lab)?;
    }
    let events = who.poll(stream.write, POLLOUT).value()?;
    lab.must(events & POLLERR as u64 != 0, "POLLERR when there is no reader", || format!("{events:#x}"))?;
    if breaking.may_wait {
        stream.set_flags(who, stream.write, 0)?;
    }
    who.write(stream.write, &Data::zeros(0)).must_return(0_u64)?;
    let data = Data::pattern(1, breaking.write.of(capacity).max(1));
    let write = who.write(stream.write, &data);
    must_break(who, write, breaking.signal, 0)
}

pub(super) fn nobody_reads_any_more(lab: &Lab, kind: Kind, breaking: &Breaking) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, Some(2))?;
    stream.turn(lab, breaking.turned)?;
    let mut model = Model::empty(capacity);
    model.write(lab, &Party::of(lab.worker(), &stream), breaking.unread)?;
    stream.set_flags(lab, stream.write, 0)?;
    let writer = lab.fork()?;
    writer.close(stream.read).prepared()?;
    writer.signal(SIGPIPE, breaking.signal)?;
    let held = hold(lab, &stream, stream.read, &breaking.leave)?;
    let data = model.next(1, capacity.get() + breaking.write.of(capacity).max(1));
    let taken = model.begin(&data);
    let write = writer.begin(Call::Write { fd: stream.write, data: data.clone() });
    for holder in held {
        write.must_block()?;
        holder.let_go(lab)?;
    }
    must_break(writer, write.answer(), breaking.signal, taken)
}
