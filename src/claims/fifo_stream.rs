//! A FIFO as a stream of bytes between processes that open it by its name.

use libc::{EAGAIN, EPIPE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, SIGPIPE};
use proptest::prelude::*;

use super::pipe_blocking::{a_write_waits, jams};
use super::pipe_closing::{
    breakings, leavings, nobody_reads_any_more, nobody_to_read, the_end_comes_last, the_end_wakes,
};
use super::pipe_stream::any_script;
use super::streams::{Party, play_on, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, Script, any_count, atomic_count, drawn};
use crate::kernel::call::{Call, Disposition, Path};
use crate::kernel::data::Data;
use crate::kernel::page::pages;
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![unrelated(), first_in_first_out(), read_eof(), write_sigpipe(), full_blocks()]
}

fn unrelated() -> Claim {
    claim("fifo.unrelated")
        .states("All processes that can reach the path can talk through it, related or not.")
        .documents([IPC.at("fifo, overview and differences")])
        .holds()
        .basis([
            posix("open, DESCRIPTION, O_NONBLOCK, FIFO"),
            linux("pipe(7), DESCRIPTION"),
            linux("fifo(7), DESCRIPTION"),
        ])
        .part("peers", any_script(3, 12), |lab, script| between(lab, &script, true))
        .one_in(16)
        .part("relatives", any_script(3, 12), |lab, script| between(lab, &script, false))
        .one_in(16)
        .part("meeting", meetings(), |lab, meeting| strangers_meet(lab, &meeting))
        .one_in(16)
}

fn first_in_first_out() -> Claim {
    claim("fifo.first-in-first-out")
        .states("Bytes come out in the order in which they went in.")
        .documents([IPC.at("fifo, overview")])
        .holds()
        .basis([
            posix("write, DESCRIPTION, pipe or FIFO"),
            posix("pipe, DESCRIPTION"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .part("one process", any_script(1, 24), |lab, script| opened_by_name(lab, &script))
        .part("writers come and go", successions(), |lab, succession| one_after_the_other(lab, &succession))
        .one_in(8)
}

fn read_eof() -> Claim {
    claim("fifo.read-eof")
        .states("With all writers gone read returns 0; with a writer left and no data it blocks.")
        .documents([IPC.at("fifo, notes")])
        .holds()
        .basis([
            posix("read, DESCRIPTION, empty pipe or FIFO"),
            linux("pipe(7), I/O on pipes and FIFOs"),
            linux("fifo(7), NOTES"),
        ])
        .part("end", leavings(), |lab, leaving| the_end_comes_last(lab, Kind::Fifo, &leaving))
        .one_in(8)
        .part("a waiting reader", leavings(), |lab, leaving| the_end_wakes(lab, Kind::Fifo, &leaving))
        .one_in(16)
        .part("revived", revivals(), |lab, revival| a_new_writer_revives_it(lab, &revival))
        .one_in(8)
        .part("open for both", atomic_amounts(), held_open_for_both)
        .one_in(8)
}

fn write_sigpipe() -> Claim {
    claim("fifo.write-sigpipe")
        .states("With all readers gone a write kills the process with SIGPIPE.")
        .documents([IPC.at("fifo, notes")])
        .holds()
        .basis([posix("write, ERRORS, [EPIPE]"), linux("fifo(7), NOTES")])
        .part("nobody reads", breakings(), |lab, breaking| nobody_to_read(lab, Kind::Fifo, &breaking))
        .one_in(8)
        .part("a waiting writer", breakings(), |lab, breaking| nobody_reads_any_more(lab, Kind::Fifo, &breaking))
        .one_in(16)
        .part("a new reader", revivals(), |lab, revival| a_new_reader_mends_it(lab, &revival))
        .one_in(8)
        .part("open for both", atomic_amounts(), held_open_for_both)
        .one_in(8)
}

fn full_blocks() -> Claim {
    claim("fifo.full-blocks")
        .states("With the FIFO full write blocks; with room it returns the count.")
        .documents([IPC.at("fifo, notes")])
        .holds()
        .basis([posix("write, DESCRIPTION, pipe or FIFO"), linux("pipe(7), I/O on pipes and FIFOs")])
        .part("waits", jams(), |lab, jam| a_write_waits(lab, Kind::Fifo, &jam))
        .one_in(8)
        .part("capacity", drawn("amounts", any_count(2)).also([Count::bytes(1)]), capacity_ends_with_the_last_close)
}

fn atomic_amounts() -> Gen<Count> {
    drawn("amounts up to PIPE_BUF", atomic_count()).also([Count::bytes(1)])
}

/// A descriptor for both counts as a writer and as a reader: nothing is at its end, and nothing is broken.
fn held_open_for_both(lab: &Lab, count: Count) -> Verdict {
    let both = lab.open(lab.new_fifo()?, O_RDWR | O_NONBLOCK)?;
    let data = Data::pattern(1, count.of(pages(1)).clamp(1, libc::PIPE_BUF));
    lab.read(both, 1).must_fail(EAGAIN)?;
    lab.write(both, &data).must_take(data.len())?;
    lab.read(both, data.len()).must_yield(&data)?;
    lab.read(both, 1).must_fail(EAGAIN)
}

/// Opens both ends without waiting, under names of this process's own.
fn open_both<'l>(who: Actor<'l>, path: Path) -> Verdict<Party<'l>> {
    let read = who.open(path, O_RDONLY | O_NONBLOCK)?;
    let write = who.open(path, O_WRONLY | O_NONBLOCK)?;
    Ok(Party { who, read, write })
}

fn stream_of(party: &Party<'_>, path: Path) -> Stream {
    Stream { read: party.read, write: party.write, path: Some(path) }
}

/// Three processes, none of which has a descriptor of another.
fn between(lab: &Lab, script: &Script, strangers: bool) -> Verdict {
    let path = lab.new_fifo()?;
    let mut parties = Vec::new();
    for _ in 0..3 {
        let who = if strangers { lab.peer()? } else { lab.fork()? };
        parties.push(open_both(who, path)?);
    }
    let stream = stream_of(&parties[0], path);
    let capacity = stream.resize(parties[0].who, script.slots)?;
    stream.turn(parties[0].who, script.turned)?;
    play_on(lab, &parties, capacity, &script.turns)?;
    lab.must(true, "every byte came once, whole and in order", String::new)
}

/// Two processes that open one end each, in either order, and what the writer says.
#[derive(Clone, Debug)]
struct Meeting {
    reader_first: bool,
    by_rdwr: bool,
    words: Vec<Count>,
}

fn meetings() -> Gen<Meeting> {
    let strategy = (any::<bool>(), prop::bool::weighted(0.2), prop::collection::vec(any_count(2), 1..4))
        .prop_map(|(reader_first, by_rdwr, words)| Meeting { reader_first, by_rdwr, words });
    let meeting =
        |reader_first| Meeting { reader_first, by_rdwr: false, words: vec![Count::bytes(5), Count::bytes(7)] };
    drawn("two programs that open one end each, in either order, and writes", strategy)
        .also([meeting(true), meeting(false)])
}

fn strangers_meet(lab: &Lab, meeting: &Meeting) -> Verdict {
    let path = lab.new_fifo()?;
    let (reader, writer) = (lab.peer()?, lab.peer()?);
    let write_mode = if meeting.by_rdwr { O_RDWR } else { O_WRONLY };
    let (read, write) = if meeting.reader_first || meeting.by_rdwr {
        let (begun, read) = reader.begin_open(path, O_RDONLY);
        begun.must_block()?;
        let write = writer.open(path, write_mode)?;
        begun.answer().must_succeed()?;
        (read, write)
    } else {
        let (begun, write) = writer.begin_open(path, write_mode);
        begun.must_block()?;
        let read = reader.open(path, O_RDONLY)?;
        begun.answer().must_succeed()?;
        (read, write)
    };
    let capacity = Stream { read, write, path: Some(path) }.capacity(writer)?;
    let mut from = 0;
    for count in &meeting.words {
        let data = Data::at(2, from, count.of(capacity).max(1));
        from += data.len();
        let begun = writer.begin(Call::Write { fd: write, data: data.clone() });
        let mut seen = Vec::new();
        while seen.len() < data.len() {
            let bytes = reader.read(read, data.len() - seen.len()).bytes()?;
            require(lab, !bytes.is_empty(), "bytes, while a writer is there", || "the end".into())?;
            seen.extend(bytes);
        }
        begun.answer().must_take(data.len())?;
        require(lab, seen == data.to_vec(), "the bytes that were written", || "others".into())?;
    }
    writer.close(write).prepared()?;
    reader.read(read, 1).must_hold(&Data::zeros(0))?;
    lab.must(true, "programs that share nothing but the path have talked", String::new)
}

/// One process that has opened it several times over: one stream all the same.
fn opened_by_name(lab: &Lab, script: &Script) -> Verdict {
    let path = lab.new_fifo()?;
    let first = open_both(lab.worker(), path)?;
    let second = open_both(lab.worker(), path)?;
    let both = lab.open(path, O_RDWR | O_NONBLOCK)?;
    let third = Party { read: both, write: both, ..second };
    let stream = stream_of(&first, path);
    let capacity = stream.resize(lab, script.slots)?;
    stream.turn(lab, script.turned)?;
    // The turns go around among the ways in.
    let turns: Vec<_> =
        script.turns.iter().enumerate().map(|(index, turn)| crate::input::Turn { by: index % 3, ..*turn }).collect();
    play_on(lab, &[first, second, third], capacity, &turns)?;
    lab.must(true, "every byte came once, whole and in order", String::new)
}

/// Writers that open it, write and close it, one after the other, while one reader keeps it open.
#[derive(Clone, Debug)]
struct Succession {
    processes: bool,
    words: Vec<Count>,
    ask: Count,
}

fn successions() -> Gen<Succession> {
    let strategy = (any::<bool>(), prop::collection::vec(atomic_count(), 1..8), any_count(1))
        .prop_map(|(processes, words, ask)| Succession { processes, words, ask });
    let few = |processes| Succession { processes, words: [5, 7, 1].map(Count::bytes).to_vec(), ask: Count::bytes(4) };
    drawn("up to 7 writers that come, write and go, and one reader", strategy).also([few(false), few(true)])
}

fn one_after_the_other(lab: &Lab, succession: &Succession) -> Verdict {
    let path = lab.new_fifo()?;
    let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    // Some of what is written does not fit, and then comes later or never: what came is what counts.
    let mut written = Vec::new();
    for (index, count) in succession.words.iter().enumerate() {
        let who = if succession.processes { lab.fork()? } else { lab.worker() };
        let write = who.open(path, O_WRONLY | O_NONBLOCK)?;
        let data = Data::at(index as u32, written.len(), count.of(crate::kernel::page::Size::ZERO).max(1));
        let answer = who.write(write, &data);
        if answer.outcome().errno() != Some(EAGAIN) {
            answer.must_take(data.len())?;
            written.extend(data.to_vec());
        }
        who.close(write).prepared()?;
    }
    let ask = succession.ask.of(crate::kernel::page::pages(1)).max(1);
    let mut seen = Vec::new();
    while seen.len() < written.len() {
        let left = written.len() - seen.len();
        let bytes = lab.read(read, ask).bytes()?;
        require(lab, bytes.len() == ask.min(left), "a read takes what there is", || format!("{} bytes", bytes.len()))?;
        seen.extend(bytes);
    }
    require(lab, seen == written, "what each wrote, in the order of writing", || "other bytes".into())?;
    lab.read(read, 1).must_hold(&Data::zeros(0))?;
    lab.must(true, "what each wrote came out in the order of writing", String::new)
}

/// How often the one side comes anew, and how much passes each time.
#[derive(Clone, Debug)]
struct Revival {
    rounds: Vec<Count>,
    waits: bool,
}

fn revivals() -> Gen<Revival> {
    let strategy = (prop::collection::vec(atomic_count(), 1..5), any::<bool>())
        .prop_map(|(rounds, waits)| Revival { rounds, waits });
    let twice = |waits| Revival { rounds: vec![Count::bytes(5); 2], waits };
    drawn("up to 4 rounds in which one side comes, and goes again", strategy).also([twice(false), twice(true)])
}

fn a_new_writer_revives_it(lab: &Lab, revival: &Revival) -> Verdict {
    let path = lab.new_fifo()?;
    let reader = lab.fork()?;
    let read = reader.open(path, O_RDONLY | O_NONBLOCK)?;
    for count in &revival.rounds {
        // Nobody writes: the end, and not EAGAIN.
        reader.fcntl(read, libc::F_SETFL, O_NONBLOCK as u64).prepared()?;
        reader.read(read, 9).must_hold(&Data::zeros(0))?;
        let write = lab.open(path, O_WRONLY | O_NONBLOCK)?;
        reader.read(read, 9).must_fail(EAGAIN)?;
        reader.poll(read, libc::POLLIN).must_return(0_u64)?;
        let data = Data::pattern(2, count.of(crate::kernel::page::Size::ZERO).clamp(1, libc::PIPE_BUF));
        if revival.waits {
            reader.fcntl(read, libc::F_SETFL, 0).prepared()?;
            let begun = reader.begin(Call::Read { fd: read, len: data.len() });
            begun.must_block()?;
            lab.write(write, &data).must_take(data.len())?;
            begun.answer().must_yield(&data)?;
            let begun = reader.begin(Call::Read { fd: read, len: 1 });
            begun.must_block()?;
            lab.close(write).prepared()?;
            begun.answer().must_hold(&Data::zeros(0))?;
        } else {
            lab.write(write, &data).must_take(data.len())?;
            lab.close(write).prepared()?;
            reader.poll(read, libc::POLLIN).must_take((libc::POLLIN | libc::POLLHUP) as usize)?;
            reader.read(read, data.len()).must_yield(&data)?;
        }
        reader.read(read, 9).must_hold(&Data::zeros(0))?;
        reader.poll(read, libc::POLLIN).must_return(libc::POLLHUP as u64)?;
    }
    Ok(())
}

fn a_new_reader_mends_it(lab: &Lab, revival: &Revival) -> Verdict {
    let path = lab.new_fifo()?;
    let writer = lab.fork()?;
    writer.signal(SIGPIPE, Disposition::Ignore)?;
    let first = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    let write = writer.open(path, O_WRONLY)?;
    lab.close(first).prepared()?;
    for count in &revival.rounds {
        let data = Data::pattern(2, count.of(crate::kernel::page::Size::ZERO).clamp(1, libc::PIPE_BUF));
        writer.write(write, &data).must_fail(EPIPE)?;
        let events = writer.poll(write, libc::POLLOUT).value()?;
        let broken = events & libc::POLLERR as u64 != 0;
        require(lab, broken, "POLLERR while there is no reader", || format!("{events:#x}"))?;
        let read = lab.open(path, O_RDONLY | O_NONBLOCK)?;
        writer.poll(write, libc::POLLOUT).must_take(libc::POLLOUT as usize)?;
        // Nothing that was refused is there.
        lab.unread(read).must_return(0_u64)?;
        writer.write(write, &data).must_take(data.len())?;
        lab.read(read, data.len()).must_yield(&data)?;
        lab.close(read).prepared()?;
    }
    writer.signal(SIGPIPE, Disposition::Default)?;
    writer.write(write, &Data::pattern(2, 1)).must_die_of(SIGPIPE)
}

/// What F_SETPIPE_SZ made of it lasts as long as anyone has it open.
fn capacity_ends_with_the_last_close(lab: &Lab, count: Count) -> Verdict {
    let stream = Kind::Fifo.open_nonblocking(lab)?;
    let Some(path) = stream.path else { return Ok(()) };
    let fresh = stream.capacity(lab)?;
    let small = stream.resize(lab, Some(1))?;
    let other = lab.open(path, O_RDONLY | O_NONBLOCK)?;
    lab.fcntl(other, libc::F_GETPIPE_SZ, 0).must_take(small.get())?;
    let data = Data::pattern(2, small);
    lab.write(stream.write, &data).must_take(small.get())?;
    lab.write(stream.write, &Data::pattern(1, count.of(small).max(1))).must_fail(EAGAIN)?;
    lab.read(other, small).must_yield(&data)?;
    for fd in [stream.read, other, stream.write] {
        lab.close(fd).prepared()?;
    }
    let again = open_both(lab.worker(), path)?;
    let capacity = stream_of(&again, path).capacity(lab)?;
    // A user at the soft limit may get a smaller one than before.
    let right = capacity == fresh || capacity == crate::kernel::page::pages(2) || capacity == small;
    lab.must(right, "its capacity is that of a new one after the last close", || capacity.to_string())
}
