//! Shared memory once it is mapped: no further call for the file, none at all to hand data over.

use proptest::prelude::*;

use crate::claim::{Claim, SHM, WHAT, claim, linux, posix, unspecified};
use crate::input::{Backing, Edit, Gen, Window, any_size, any_window, content_seed, drawn, each, edits_within};
use crate::kernel::call::{At, Call, Confinement, Fd};
use crate::kernel::data::Data;
use crate::kernel::guard;
use crate::kernel::names::{READ_WRITE, SHARED};
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::trace::Verdict;
use crate::lab::verbs::{Calls, request};

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![no_read_write_needed(), transfer_without_kernel(), fastest()]
}

fn no_read_write_needed() -> Claim {
    claim("shared.no-read-write-needed")
        .states("Once mapped the file is used like memory, without further open, read or write.")
        .documents([SHM.at("intro"), SHM.at("after open"), WHAT.at("intro")])
        .holds()
        .basis([
            posix("mmap, APPLICATION USAGE: using the data at the address is all that is needed"),
            linux("mmap(2), DESCRIPTION: the descriptor may be closed"),
        ])
        .for_all(confined_use(), loads_and_stores_do)
        .one_in(8)
        .part("what the confined process cannot do", forbidden(), confinement_is_real)
}

fn transfer_without_kernel() -> Claim {
    claim("shared.transfer-without-kernel")
        .states("Handing data over in shared memory needs no kernel, whereas a socket copies in and out of it.")
        .documents([SHM.at("intro")])
        .holds()
        .basis([
            posix("mmap, APPLICATION USAGE: access in the place of read and write"),
            linux("seccomp(2): what a process is confined to"),
            unspecified("no standard speaks of how data travels"),
        ])
        .for_all(conversations(), |lab, talk| answers_come_without_calls(lab, &talk))
        .one_in(16)
        .part("a socket holds a copy", messages(), what_was_sent_stays)
        .one_in(8)
}

fn fastest() -> Claim {
    claim("shared.fastest")
        .states("Shared memory is the fastest way for processes to communicate; a mapping is faster than read and write.")
        .documents([SHM.at("intro"), WHAT.at("intro")])
        .unobservable(
            "Speed is no rule that a kernel could break, and differs with the size of the data; the benchmarks show it.",
        )
        .basis([unspecified("mmap, RATIONALE: no standard ranks the ways to communicate")])
}

/// Who is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Child,
    Peer,
}

fn other() -> BoxedStrategy<Other> {
    prop_oneof![Just(Other::Child), Just(Other::Peer)].boxed()
}

impl Other {
    fn start(self, lab: &Lab) -> Verdict<Actor<'_>> {
        match self {
            Other::Child => lab.fork(),
            Other::Peer => lab.peer(),
        }
    }
}

fn confined_use() -> Gen<(Other, Window, Vec<Edit>)> {
    let strategy = (other(), any_window(20)).prop_flat_map(|(other, window)| {
        let edits = edits_within(window.reach(), 4);
        (Just(other), Just(window), edits)
    });
    drawn("windows on files, and edits made by turns by a confined process and by the worker", strategy)
}

/// The confined process has closed the file and can open none: all that it does with it, it does by loads and stores.
fn loads_and_stores_do(lab: &Lab, (other, window, edits): (Other, Window, Vec<Edit>)) -> Verdict {
    let (path, fd) = lab.new_file(&window.file())?;
    let actor = other.start(lab)?;
    let own = actor.open(path, libc::O_RDWR)?;
    let map = actor.map(request(window.len, READ_WRITE, SHARED, own).offset(window.offset))?;
    actor.close(own).prepared()?;
    actor.call(Call::Confine(Confinement::ChannelOnly)).prepared()?;
    let mut model = window.file().to_vec();
    let (offset, reach) = (window.offset, window.reach());
    for (turn, edit) in edits.iter().enumerate() {
        match turn % 2 {
            0 => actor.store(map.at(edit.at), &edit.data).prepared()?,
            _ => lab.pwrite(fd, &edit.data, offset + edit.at).prepared()?,
        }
        edit.apply(&mut model[offset.get()..]);
        actor.load(map.start(), reach).must_equal(&model[offset.get()..][..reach.get()])?;
        lab.pread(fd, model.len() + 1, 0).must_equal(&model)?;
    }
    actor.call(Call::Exit { status: 0 }).must_exit(0)
}

/// What a confined process tries all the same.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    Open,
    Pread,
    Pwrite,
    Lseek,
    Msync,
    Fcntl,
}

fn forbidden() -> Gen<Attempt> {
    use Attempt::*;
    each("calls that the confined process must not make", [Open, Pread, Pwrite, Lseek, Msync, Fcntl])
}

/// The filter that the main part rests on is in force: any such call would have killed the process.
fn confinement_is_real(lab: &Lab, attempt: Attempt) -> Verdict {
    let (path, fd) = lab.new_file(&Data::pattern(2, pages(1)))?;
    let map = lab.map(request(pages(1), READ_WRITE, SHARED, fd))?;
    let child = lab.fork()?;
    child.call(Call::Confine(Confinement::ChannelOnly)).prepared()?;
    child.load(map.start(), pages(1)).must_hold(&Data::pattern(2, pages(1)))?;
    let answer = match attempt {
        Attempt::Open => child.try_open(path, libc::O_RDONLY, 0).0,
        Attempt::Pread => child.pread(fd, 1, 0),
        Attempt::Pwrite => child.pwrite(fd, &Data::pattern(1, 1), 0),
        Attempt::Lseek => child.lseek(fd, 0, libc::SEEK_SET),
        Attempt::Msync => child.msync(map.start(), pages(1), libc::MS_ASYNC),
        Attempt::Fcntl => child.call(Call::Fcntl { fd, command: libc::F_GETFD, argument: 0 }),
    };
    answer.must_die_of(libc::SIGSYS)
}

/// A mapping in which two processes take turns.
#[derive(Clone, Debug)]
struct Conversation {
    backing: Backing,
    other: Other,
    /// Where the word lies that says whose turn it is; the message follows.
    turn: Size,
    len: Size,
    rounds: u32,
    message: u32,
}

/// The alignment of the word that says whose turn it is.
const WORD: usize = size_of::<u32>();

fn conversations() -> Gen<Conversation> {
    let backing = prop::sample::select(vec![Backing::File, Backing::Memfd, Backing::Anonymous]);
    (drawn(
        "messages of one byte to eight pages, anywhere in a mapping, answered once to three times",
        (backing, other(), any_size(0, 4), any_size(1, 8), 1_u32..=3, content_seed()),
    ))
    .map(|(backing, other, turn, len, rounds, message)| {
        let turn = Size(turn.get() / WORD * WORD);
        // Only a file with a name can be mapped by a stranger.
        let other = if backing == Backing::File { other } else { Other::Child };
        Conversation { backing, other, turn, len, rounds, message }
    })
}

/// From its order to its exit the other process makes no system call, or it is killed: messages and answers are memory alone.
fn answers_come_without_calls(lab: &Lab, talk: &Conversation) -> Verdict {
    if !guard::FAST {
        return lab.lacking(Lack::Machine);
    }
    lab.fork()?.call(Call::Confine(Confinement::ChannelOnly)).prepared()?;
    let Conversation { backing, turn, len, rounds, message, .. } = *talk;
    let whole = turn + WORD + len;
    let (mine, other, theirs) = set_up(lab, talk, whole)?;
    let mut model = Data::zeros(whole).to_vec();
    let begun = other.begin(Call::Reply { at: theirs.plus(turn), len: len.get(), rounds });
    for round in 0..rounds {
        let words = Data::at(message, len * round as usize, len);
        lab.store(mine.plus(turn + WORD), &words).prepared()?;
        lab.place().call(Call::FetchAdd { at: mine.plus(turn), add: 1, times: 1 }).prepared()?;
        let answered = 2 * round + 2;
        let seen = lab.place().call(Call::Await { at: mine.plus(turn), value: answered });
        if *seen.outcome() != Outcome::Value(u64::from(answered)) {
            // How the other ended says more than that it did not answer.
            begun.answer().must_exit(0)?;
            return seen.must_return(answered);
        }
        model[turn.get()..][..WORD].copy_from_slice(&answered.to_ne_bytes());
        let complement = words.to_vec().iter().map(|byte| !byte).collect::<Vec<_>>();
        model[(turn + WORD).get()..].copy_from_slice(&complement);
        lab.load(mine, whole).must_equal(&model)?;
    }
    begun.answer().must_exit(0)?;
    lab.must(true, &format!("{backing:?}: answered without a system call"), String::new)
}

/// The worker's mapping, the other process, and where it has the same memory.
fn set_up<'l>(lab: &'l Lab, talk: &Conversation, whole: Size) -> Verdict<(At, Actor<'l>, At)> {
    let ask = |fd: Fd| request(whole, READ_WRITE, SHARED | talk.backing.flags(), fd);
    if talk.backing != Backing::File {
        let mine = lab.map(ask(talk.backing.open(lab, &Data::zeros(whole))?))?;
        return Ok((mine.start(), lab.fork()?, mine.start()));
    }
    let (path, fd) = lab.new_file(&Data::zeros(whole))?;
    let mine = lab.map(ask(fd))?;
    let other = talk.other.start(lab)?;
    let own = other.open(path, libc::O_RDWR)?;
    let theirs = other.map(ask(own))?;
    other.close(own).prepared()?;
    Ok((mine.start(), other, theirs.start()))
}

fn messages() -> Gen<(Size, u32)> {
    // A socket takes less than this at once on every system, so that neither side waits.
    const MOST: usize = 2000;
    let len = prop_oneof![Just(1), Just(8), 1..MOST].prop_map(Size);
    drawn("messages of 1 to 2000 bytes", (len, content_seed()))
}

/// The same message goes by a socket and by shared memory; then the sender stores another one over it.
fn what_was_sent_stays(lab: &Lab, (len, seed): (Size, u32)) -> Verdict {
    let (first, second) = (Data::pattern(seed, len), Data::pattern(seed + 1, len));
    let (here, there) = lab.socketpair()?;
    let (_, fd) = lab.new_file(&Data::zeros(len))?;
    let map = lab.map(request(len, READ_WRITE, SHARED, fd))?;
    let child = lab.fork()?;
    lab.store(map.start(), &first).prepared()?;
    lab.write(here, &first).must_return(len.get() as u64)?;
    child.load(map.start(), len).must_hold(&first)?;
    lab.store(map.start(), &second).prepared()?;
    child.read(there, len).must_hold(&first)?;
    child.load(map.start(), len).must_hold(&second)
}
