//! O_NONBLOCK: how it is set, whose it is, and what it does.

use libc::{EAGAIN, O_NONBLOCK};
use proptest::prelude::*;

use super::pipe_stream::any_script;
use super::streams::{OnBoth, play, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, any_count, drawn};
use crate::kernel::call::{Call, Fd};
use crate::kernel::data::Data;
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![nonblocking_read(), nonblocking_write()]
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

/// By which means the flag is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    AtTheOpening,
    ByFcntl,
    ThroughADuplicate,
    InAChild,
    InAPeer,
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
    let ways = [Set::ByFcntl, Set::AtTheOpening, Set::ThroughADuplicate, Set::InAChild, Set::InAPeer];
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
    // Who inherits both ends, or is sent them.
    let other = match setting.set {
        Set::InAPeer => lab.peer()?,
        _ => lab.fork()?,
    };
    if setting.set == Set::InAPeer {
        other.adopt_as(stream.read, stream.read).prepared()?;
        other.adopt_as(stream.write, stream.write).prepared()?;
    }
    let copy = lab.dup(fd)?;
    let apart = opened_apart(lab, &stream, fd)?;
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
        Set::InAChild | Set::InAPeer => other.fcntl(fd, libc::F_SETFL, argument).prepared()?,
    }
    let holders = [(lab.worker(), fd), (lab.worker(), copy), (other, fd)];
    for (who, fd) in holders {
        let after = who.fcntl(fd, libc::F_GETFL, 0).value()?;
        require(lab, after == before | O_NONBLOCK as u64, "O_NONBLOCK is set, and every other flag as before", || {
            format!("{after:#o} behind {before:#o}")
        })?;
    }
    if setting.set != Set::AtTheOpening {
        let opposite = if fd == stream.read { stream.write } else { stream.read };
        let flags = lab.fcntl(opposite, libc::F_GETFL, 0).value()?;
        require(lab, flags & O_NONBLOCK as u64 == 0, "the flag of one end is not the other's", || {
            format!("{flags:#o}")
        })?;
    }
    if let Some(apart) = apart {
        let flags = lab.fcntl(apart, libc::F_GETFL, 0).value()?;
        require(lab, flags & O_NONBLOCK as u64 == 0, "the flag is not that of what was opened apart", || {
            format!("{flags:#o}")
        })?;
        lab.close(apart).prepared()?;
    }
    Ok((stream, holders))
}

/// The same end of a FIFO, opened once more and without the flag.
fn opened_apart(lab: &Lab, stream: &Stream, end: Fd) -> Verdict<Option<Fd>> {
    let Some(path) = stream.path else { return Ok(None) };
    let mode = if end == stream.read { libc::O_RDONLY } else { libc::O_WRONLY };
    let apart = lab.open(path, mode | O_NONBLOCK)?;
    lab.fcntl(apart, libc::F_SETFL, 0).prepared()?;
    Ok(Some(apart))
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
