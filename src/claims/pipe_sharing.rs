//! Which processes can have a pipe.

use libc::EBADF;

use super::pipe_stream::any_script;
use super::streams::{Party, play, play_on};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Script, drawn, small_count};
use crate::kernel::call::{Call, Fd};
use crate::kernel::data::Data;
use crate::kernel::outcome::{Lack, Outcome};
use crate::lab::Lab;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![related_only(), before_fork()]
}

fn related_only() -> Claim {
    claim("pipe.related-only")
        .states("It works only between processes with a common ancestor.")
        .documents([IPC.at("pipe, features and function"), IPC.at("fifo, overview")])
        .qualified(
            "Inheritance is the usual way, but a descriptor sent over a UNIX socket (or taken by pidfd_getfd, or opened \
             under /proc/PID/fd) makes it work between any two processes.",
        )
        .basis([
            posix("fork, DESCRIPTION, file descriptors"),
            linux("pipe(7), DESCRIPTION"),
            linux("unix(7), SCM_RIGHTS"),
        ])
        .part("inherited", any_script(4, 16), |lab, script| play(lab, Kind::Pipe, &script, 4))
        .one_in(16)
        .part("sent", any_script(2, 16), |lab, script| between_strangers(lab, &script))
        .one_in(16)
}

fn before_fork() -> Claim {
    claim("pipe.before-fork")
        .states("The pipe has to be made before the child is.")
        .documents([IPC.at("pipe example 1"), IPC.at("pipe example 2"), IPC.at("pipe, non-blocking")])
        .qualified("A pipe made after fork is not in the other process, unless its descriptor is sent to it.")
        .basis([
            posix("fork, DESCRIPTION, file descriptors"),
            linux("fork(2), file descriptors"),
            linux("unix(7), SCM_RIGHTS"),
        ])
        .part("before", any_script(3, 12), |lab, script| play(lab, Kind::Pipe, &script, 3))
        .one_in(8)
        .part("after", drawn("amounts", small_count()).also([Count::bytes(5)]), made_too_late)
        .one_in(16)
}

fn between_strangers(lab: &Lab, script: &Script) -> Verdict {
    let stream = Kind::Pipe.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, script.slots)?;
    stream.turn(lab, script.turned)?;
    let mut parties = Vec::new();
    for _ in 0..2 {
        let who = lab.peer()?;
        parties.push(Party { who, read: who.adopt(stream.read)?, write: who.adopt(stream.write)? });
    }
    // From here on only the two have it.
    lab.close(stream.read).prepared()?;
    lab.close(stream.write).prepared()?;
    play_on(lab, &parties, capacity, &script.turns)?;
    let [one, two] = parties[..] else { return Ok(()) };
    two.who.fcntl(two.read, libc::F_SETFL, 0).prepared()?;
    let read = two.who.begin(Call::Read { fd: two.read, len: 9 });
    read.must_block()?;
    one.who.write(one.write, &Data::pattern(2, 5)).must_return(5_u64)?;
    read.answer().must_hold(&Data::pattern(2, 5))
}

/// Where a pipe that came too late is put, to be looked for under the same numbers elsewhere.
const PLACES: [Fd; 2] = [Fd::Number(29), Fd::Number(30)];

fn made_too_late(lab: &Lab, count: Count) -> Verdict {
    let (to_one, to_other) = lab.socketpair()?;
    let (one, other) = (lab.fork()?, lab.fork()?);
    for (who, fd) in [one, other].into_iter().flat_map(|who| PLACES.map(|fd| (who, fd))) {
        if !matches!(who.fcntl(fd, libc::F_GETFD, 0).outcome(), Outcome::Refused(EBADF)) {
            return lab.lacking(Lack::Descriptors);
        }
    }
    let (read, write) = one.pipe(0)?;
    one.call(Call::Dup2 { of: read, onto: PLACES[0], cloexec: false }).prepared()?;
    one.call(Call::Dup2 { of: write, onto: PLACES[1], cloexec: false }).prepared()?;
    other.read(PLACES[0], 5).must_fail(EBADF)?;
    other.write(PLACES[1], &Data::pattern(3, 5)).must_fail(EBADF)?;
    let capacity = Stream { read, write, path: None }.capacity(one)?;
    let data = Data::pattern(1, count.of(capacity).clamp(1, libc::PIPE_BUF));
    one.write(PLACES[1], &data).must_take(data.len())?;
    one.read(PLACES[0], data.len()).must_yield(&data)?;
    // Sent, it is there.
    let received = lab.new_fd();
    one.call(Call::SendFd { over: to_one, fd: write }).must_succeed()?;
    other.call(Call::ReceiveFd { over: to_other, fd: received }).must_succeed()?;
    other.write(received, &data).must_take(data.len())?;
    one.read(read, data.len()).must_yield(&data)?;
    lab.must(true, "the pipe is in the other process once its descriptor has been sent", String::new)
}
