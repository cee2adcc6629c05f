//! The documents' programs about FIFOs: programs that share nothing but the names.

use libc::{EEXIST, ENOENT, O_RDONLY, O_WRONLY};
use proptest::prelude::*;

use super::streams::require;
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Gen, drawn, each};
use crate::kernel::call::{Call, Fd, Path, Reads};
use crate::kernel::data::Data;
use crate::lab::Lab;
use crate::lab::actor::{Actor, answers};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![fifo_stream(), fifo_chat(), fifo_chat_forked()]
}

fn fifo_stream() -> Claim {
    claim("program.fifo-stream")
        .states("A writer sends numbered lines and leaves; the reader gets them all and then sees the end.")
        .documents([IPC.at("fifo example")])
        .holds()
        .basis([
            posix("open, DESCRIPTION, O_NONBLOCK, FIFO"),
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            linux("fifo(7), DESCRIPTION"),
        ])
        .part("line by line", line_counts(40), |lab, lines| lines_and_an_end(lab, lines, true))
        .one_in(16)
        .part("all at once", line_counts(100), |lab, lines| lines_and_an_end(lab, lines, false))
        .one_in(16)
}

fn fifo_chat() -> Claim {
    claim("program.fifo-chat")
        .states("Two FIFOs opened in matching order give a two-way talk in turns.")
        .documents([IPC.at("fifo chat")])
        .holds()
        .basis([
            posix("open, DESCRIPTION, O_NONBLOCK, FIFO"),
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            linux("fifo(7), DESCRIPTION"),
        ])
        .part("matching order", talks(), |lab, talk| in_turns(lab, &talk))
        .one_in(8)
        .part("crossing order", each("what both open first", [First::Writing, First::Reading]), both_wait)
}

fn fifo_chat_forked() -> Claim {
    claim("program.fifo-chat-forked")
        .states("With a process for each direction neither side has to wait its turn.")
        .documents([IPC.at("fifo chat 2")])
        .holds()
        .basis([
            posix("fork, RETURN VALUE and DESCRIPTION, last paragraph"),
            posix("fork, DESCRIPTION, file descriptors"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .part("any order", talks(), |lab, talk| in_any_order(lab, &talk))
        .one_in(16)
}

/// The buffers of the documents' programs.
const LINES: usize = 1024;
const WORDS: usize = 128;

/// No more than the channel of an actor holds of orders and answers at once.
fn line_counts(most: usize) -> Gen<usize> {
    drawn(format!("up to {most} lines"), 0..=most).also([3, 0])
}

fn line(number: usize) -> Data {
    format!("hello, {number}\n").as_str().into()
}

/// mkfifo, if access says that there is none.
fn make(who: Actor<'_>, path: Path) -> Verdict {
    who.call(Call::Access { path }).must_refuse(ENOENT)?;
    who.mkfifo(path, 0o664).prepared()?;
    who.call(Call::Access { path }).prepared()
}

fn lines_and_an_end(lab: &Lab, lines: usize, one_by_one: bool) -> Verdict {
    let path = lab.new_path();
    let (writer, reader) = (lab.peer()?, lab.peer()?);
    // Only the writer makes it: a reader that is earlier finds nothing.
    reader.try_open(path, O_RDONLY, 0).0.must_fail(ENOENT)?;
    make(writer, path)?;
    let (begun, write) = writer.begin_open(path, O_WRONLY);
    begun.must_block()?;
    let read = reader.open(path, O_RDONLY)?;
    begun.answer().must_succeed()?;
    let mut text = Vec::new();
    let mut seen = 0;
    let mut writes = Vec::new();
    for number in 0..lines {
        let line = line(number);
        text.extend(line.to_vec());
        if one_by_one {
            let begun = reader.begin(Call::Read { fd: read, len: LINES });
            begun.must_block()?;
            writer.write(write, &line).must_take(line.len())?;
            begun.answer().must_yield(&line)?;
            seen += line.len();
        } else {
            writes.push((line.len(), writer.begin(Call::Write { fd: write, data: line })));
        }
    }
    writes.push((0, writer.begin(Call::Close { fd: write })));
    let reads = Reads { sizes: Vec::new(), often: 0, then: LINES, unit: 1, most: text.len() + 1 };
    let rest = reader.call(Call::ReadAll { fd: read, reads });
    let (counts, begun): (Vec<usize>, Vec<_>) = writes.into_iter().unzip();
    let written = answers(begun);
    lab.in_a_word("every line came, in order, and then the end", || rest.must_equal(&text[seen..]))?;
    written.into_iter().zip(counts).try_for_each(|(answer, count)| answer.must_take(count))?;
    reader.read(read, LINES).must_hold(&Data::zeros(0))
}

/// Who says something, and how much of it: the first program, or the second.
#[derive(Clone)]
struct Talk(Vec<(bool, usize)>);

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (first, len)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}{len}", if *first { "a" } else { "b" })?;
        }
        Ok(())
    }
}

fn talks() -> Gen<Talk> {
    let said = (any::<bool>(), prop_oneof![3 => 1_usize..20, 1 => 20..WORDS]);
    let strategy = prop::collection::vec(said, 1..12).prop_map(Talk);
    let few = vec![(true, 5), (false, 7), (true, 1), (true, WORDS - 1), (false, 3), (false, 3)];
    drawn("what two programs say, up to 11 times", strategy).also([Talk(few)])
}

/// The server, which writes to the first FIFO and reads from the second, and the client, which does the opposite.
struct Chat<'l> {
    server: Actor<'l>,
    client: Actor<'l>,
    first: Path,
    second: Path,
}

/// One direction of it: who writes by which descriptor, who reads by which.
#[derive(Clone, Copy)]
struct Way<'l> {
    writer: Actor<'l>,
    write: Fd,
    reader: Actor<'l>,
    read: Fd,
}

impl<'l> Way<'l> {
    /// The reader waits, the writer writes, the reader has it.
    fn say(&self, lab: &Lab, data: &Data) -> Verdict {
        let begun = self.reader.begin(Call::Read { fd: self.read, len: WORDS });
        begun.must_block()?;
        self.writer.write(self.write, data).must_take(data.len())?;
        let seen = begun.answer().bytes()?;
        require(lab, seen == data.to_vec(), "what the other said", || format!("{} bytes", seen.len()))
    }
}

/// Two programs; both make sure of both FIFOs.
fn programs(lab: &Lab) -> Verdict<Chat<'_>> {
    let (server, client) = (lab.peer()?, lab.peer()?);
    let (first, second) = (lab.new_path(), lab.new_path());
    for path in [first, second] {
        make(server, path)?;
        client.call(Call::Access { path }).prepared()?;
        client.mkfifo(path, 0o664).must_refuse(EEXIST)?;
    }
    Ok(Chat { server, client, first, second })
}

impl<'l> Chat<'l> {
    /// Both open the first FIFO first: each open lets the other one in.
    fn open(&self) -> Verdict<(Way<'l>, Way<'l>)> {
        let Chat { server, client, first, second } = *self;
        let (begun, write) = server.begin_open(first, O_WRONLY);
        begun.must_block()?;
        let read = client.open(first, O_RDONLY)?;
        begun.answer().must_succeed()?;
        let there = Way { writer: server, write, reader: client, read };
        let (begun, read) = server.begin_open(second, O_RDONLY);
        begun.must_block()?;
        let write = client.open(second, O_WRONLY)?;
        begun.answer().must_succeed()?;
        Ok((there, Way { writer: client, write, reader: server, read }))
    }
}

fn in_turns(lab: &Lab, talk: &Talk) -> Verdict {
    let (there, back) = programs(lab)?.open()?;
    for (index, (_, len)) in talk.0.iter().enumerate() {
        let way = if index % 2 == 0 { there } else { back };
        way.say(lab, &Data::at(index as u32, index, *len))?;
    }
    // Whoever leaves is missed by the other.
    there.writer.call(Call::Exit { status: 0 }).must_exit(0)?;
    there.reader.read(there.read, WORDS).must_hold(&Data::zeros(0))?;
    there.reader.write(back.write, &"?".into()).must_die_of(libc::SIGPIPE)
}

/// Which of the two ends that a program needs it opens first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Writing,
    Reading,
}

/// Each opens its own direction first, and waits for the other to come to the same FIFO.
fn both_wait(lab: &Lab, order: First) -> Verdict {
    let Chat { server, client, first, second } = programs(lab)?;
    let writing = order == First::Writing;
    let (servers, clients) = if writing { (first, second) } else { (second, first) };
    let (first_end, other_end) = if writing { (O_WRONLY, O_RDONLY) } else { (O_RDONLY, O_WRONLY) };
    let (at_server, servers_fd) = server.begin_open(servers, first_end);
    at_server.must_block()?;
    let (at_client, clients_fd) = client.begin_open(clients, first_end);
    at_client.must_block()?;
    at_server.must_block()?;
    // A third process at one of them, and all goes on.
    let third = lab.peer()?;
    let helping = third.open(servers, other_end)?;
    at_server.answer().must_succeed()?;
    at_client.must_block()?;
    let servers_other = server.open(clients, other_end)?;
    at_client.answer().must_succeed()?;
    let clients_other = client.open(servers, other_end)?;
    third.close(helping).prepared()?;
    let [there, back] = if writing {
        [
            Way { writer: server, write: servers_fd, reader: client, read: clients_other },
            Way { writer: client, write: clients_fd, reader: server, read: servers_other },
        ]
    } else {
        [
            Way { writer: server, write: servers_other, reader: client, read: clients_fd },
            Way { writer: client, write: clients_other, reader: server, read: servers_fd },
        ]
    };
    there.say(lab, &"hello".into())?;
    back.say(lab, &"and hello".into())?;
    lab.must(true, "both waited in open until a third process came, and then talked", String::new)
}

/// On each side the parent writes and the child reads.
fn in_any_order(lab: &Lab, talk: &Talk) -> Verdict {
    let chat = programs(lab)?;
    let (there, back) = chat.open()?;
    let at_server = lab.fork_from(chat.server.id(), true)?;
    let at_client = lab.fork_from(chat.client.id(), true)?;
    let (there, back) = (Way { reader: at_client, ..there }, Way { reader: at_server, ..back });
    for (index, (first, len)) in talk.0.iter().enumerate() {
        let (way, other) = if *first { (there, back) } else { (back, there) };
        // The reader of the other direction waits all the while, and holds nobody up.
        let waits = other.reader.begin(Call::Read { fd: other.read, len: WORDS });
        waits.must_block()?;
        way.say(lab, &Data::at(index as u32, index, *len))?;
        waits.must_block()?;
        let byte = Data::at(1, index, 1);
        other.writer.write(other.write, &byte).must_take(1)?;
        waits.answer().must_yield(&byte)?;
    }
    // Both processes of a side have both descriptors: the end comes when the second of them goes.
    let waits = at_client.begin(Call::Read { fd: there.read, len: WORDS });
    waits.must_block()?;
    chat.server.call(Call::Exit { status: 0 }).must_exit(0)?;
    waits.must_block()?;
    at_server.call(Call::Exit { status: 0 }).must_exit(0)?;
    waits.answer().must_hold(&Data::zeros(0))
}
