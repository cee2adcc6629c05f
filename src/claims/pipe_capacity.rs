//! How much a pipe holds, what happens beyond, and which writes are never mixed with others.

use libc::{EAGAIN, EBUSY, EPERM, F_GETPIPE_SZ, F_SETPIPE_SZ};
use proptest::prelude::*;

use super::pipe_stream::any_script;
use super::streams::{Model, OnBoth, Party, exactly, play, require};
use crate::claim::{Claim, Depends, IPC, claim, linux, posix, unspecified};
use crate::input::{Count, Gen, Script, any_count, atomic_count, drawn, once, slots, turned};
use crate::kernel::call::{Call, Library};
use crate::kernel::data::Data;
use crate::kernel::lock;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::stream::{Kind, Stream, would_block};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![kernel_buffer(), overflow_overwrites(), size_4096(), atomic_writes()]
}

fn kernel_buffer() -> Claim {
    claim("pipe.kernel-buffer")
        .states("A pipe is a buffer in kernel memory of limited capacity, which differs between systems.")
        .documents([IPC.at("pipe, features")])
        .holds()
        .basis([
            linux("pipe(7), Pipe capacity"),
            linux("pipe(2), DESCRIPTION"),
            linux("F_GETPIPE_SZ(2const), F_SETPIPE_SZ"),
            unspecified("write, RATIONALE, blocking/immediate"),
            linux("linux commit 46c4c9d, pipe: increase minimum default pipe size to 2 pages (5.14)"),
        ])
        .on_both(["pipe: whole pages", "fifo: whole pages"], 2, fillings(), holds_what_it_reports)
        .on_both(["pipe: other sizes", "fifo: other sizes"], 2, fillings(), holds_less_in_pieces)
        .on_both(["pipe: resized", "fifo: resized"], 1, resizings(), keeps_its_contents)
        .on_both(["pipe: default", "fifo: default"], 1, once(), default_capacity)
        .part("largest", once(), limit_of_one_pipe)
        .depends_on([Depends::Privilege])
        .part("user's limit", once(), limit_of_the_user)
        .depends_on([Depends::Privilege])
}

fn overflow_overwrites() -> Claim {
    claim("pipe.overflow-overwrites")
        .states("The buffer is circular, and data beyond its size overwrites older data.")
        .documents([IPC.at("pipe, data structure")])
        .refuted(
            "A ring it is inside the kernel, but a full pipe makes the writer wait or says EAGAIN; nothing is ever \
             overwritten.",
        )
        .basis([posix("write, DESCRIPTION, pipe or FIFO"), linux("pipe(7), Pipe capacity")])
        .on_both(["pipe", "fifo"], 1, overflows(), nothing_is_overwritten)
        .on_both(["pipe, a waiting writer", "fifo, a waiting writer"], 16, overflows(), a_writer_waits_instead)
}

fn size_4096() -> Claim {
    // Two pages are more than PIPE_BUF whatever the size of a page.
    let named = [Count::pages(2, 0), Count::pipe_buf(1), Count::capacity(1, 0), Count::capacity(1, -1)];
    let counts = drawn("amounts of more than PIPE_BUF and up to the capacity", any_count(1)).also(named);
    claim("pipe.size-4096")
        .states("A pipe holds 4096 bytes (8 x 512, as ulimit and fpathconf print it).")
        .documents([IPC.at("pipe, size"), IPC.at("pipe example 3")])
        .refuted(
            "4096 is PIPE_BUF, the largest atomic write. The default capacity is 16 pages (65,536 bytes with 4 KiB \
             pages), two pages or one for a user above the soft limit.",
        )
        .basis([posix("<limits.h>, {PIPE_BUF}"), linux("pipe(7), Pipe capacity"), linux("pipe(7), PIPE_BUF")])
        .on_both(["pipe", "fifo"], 1, counts, holds_more_than_pipe_buf)
}

fn atomic_writes() -> Claim {
    let scripts = || any_script(1, 30).map(|script| Script { slots: script.slots.map(|n| n.min(4)), ..script });
    claim("pipe.atomic-writes")
        .states("fpathconf(_PC_PIPE_BUF) is 4096.")
        .documents([IPC.at("pipe example 3"), IPC.at("pipe, size")])
        .holds()
        .basis([
            posix("fpathconf, DESCRIPTION, {PIPE_BUF} and requirement 6"),
            posix("<limits.h>, {_POSIX_PIPE_BUF}"),
            posix("write, DESCRIPTION, pipe or FIFO"),
            linux("pipe(7), PIPE_BUF"),
            linux("linux 7.2, include/uapi/linux/limits.h, PIPE_BUF"),
        ])
        .on_both(["pipe", "fifo"], 1, once(), what_fpathconf_says)
        .on_both(["pipe: whole or not at all", "fifo: whole or not at all"], 2, scripts(), |lab, kind, script| {
            play(lab, kind, script, 1)
        })
        .on_both(["pipe: several writers", "fifo: several writers"], 8, choirs(), never_interleaved)
        .on_both(["pipe: waiting writers", "fifo: waiting writers"], 8, choirs(), none_between_the_bytes)
}

/// A stream of some capacity, and writes that fill it.
#[derive(Clone, Debug)]
struct Filling {
    slots: Option<usize>,
    turned: usize,
    write: Count,
}

fn fillings() -> Gen<Filling> {
    let strategy =
        (slots(), turned(), any_count(1)).prop_map(|(slots, turned, write)| Filling { slots, turned, write });
    let filling = |slots, write| Filling { slots, turned: 0, write };
    drawn("capacities of 1 page and more, and writes of any size that fill them", strategy).also([
        filling(Some(2), Count::pages(1, 0)),
        filling(Some(1), Count::pages(1, -1)),
        filling(None, Count::pages(1, 0)),
        filling(Some(32), Count::pages(2, 0)),
        filling(Some(4), Count::bytes(3000)),
        filling(Some(16), Count::bytes(1)),
    ])
}

fn holds_what_it_reports(lab: &Lab, kind: Kind, filling: &Filling) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, filling.slots)?;
    stream.turn(lab, filling.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    let each = Size(filling.write.of(capacity)).round_up().get().max(page());
    while model.unread() < capacity.get() {
        let before = model.unread();
        model.write(lab, &party, Count::bytes(each))?;
        let expected = each.min(capacity.get() - before);
        let taken = model.unread() - before;
        require(lab, taken == expected, "whole pages go in up to the capacity", || format!("{taken} at {before}"))?;
    }
    lab.write(stream.write, &Data::repeat(b'x', 1)).must_fail(EAGAIN)?;
    model.check(lab, &party)?;
    model.drain(&party)?;
    lab.must(true, "whole pages fill it to exactly the capacity that is reported", String::new)
}

/// The model gives the least that fits; the capacity is the most.
fn holds_less_in_pieces(lab: &Lab, kind: Kind, filling: &Filling) -> Verdict {
    const OFTEN: usize = 1 << 12;
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, filling.slots)?;
    stream.turn(lab, filling.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    let each = filling.write.of(capacity).max(1).max(capacity.get() / OFTEN);
    let mut before = usize::MAX;
    while model.unread() != before {
        before = model.unread();
        model.write(lab, &party, Count::bytes(each))?;
    }
    model.check(lab, &party)?;
    model.drain(&party)?;
    lab.must(true, "it takes no more than its capacity, and no less than its pages have room for", String::new)
}

/// Capacities asked for one after the other, while there are bytes in the stream.
#[derive(Clone, Debug)]
struct Resizing {
    first: usize,
    turned: usize,
    writes: Vec<Count>,
    read: Count,
    sizes: Vec<Count>,
}

fn resizings() -> Gen<Resizing> {
    let first = prop::sample::select(vec![4_usize, 1, 2, 8, 16]);
    let size = prop_oneof![
        2 => prop::sample::select(vec![0_isize, 1, -1, 2, 100]).prop_map(|plus| Count::pages(1, plus)),
        4 => ((0_usize..18), prop::sample::select(vec![0_isize, 1, -1])).prop_map(|(n, plus)| Count::pages(n, plus)),
        1 => Just(Count::bytes(0)),
    ];
    let writes = prop::collection::vec(any_count(1), 0..5);
    let sizes = prop::collection::vec(size, 1..6);
    let strategy = (first, turned(), writes, any_count(1), sizes)
        .prop_map(|(first, turned, writes, read, sizes)| Resizing { first, turned, writes, read, sizes });
    let resizing = |writes: &[Count], sizes: &[Count]| Resizing {
        first: 4,
        turned: 0,
        writes: writes.to_vec(),
        read: Count::bytes(1),
        sizes: sizes.to_vec(),
    };
    let (one, three) = (Count::pages(1, 0), Count::pages(3, 0));
    drawn("capacities that are asked for with bytes in the stream, of any number and position", strategy).also([
        resizing(&[], &[one, Count::pages(1, 1), three, Count::pages(2, 1), Count::bytes(0)]),
        resizing(&[Count::bytes(5)], &[one, three, one]),
        resizing(&[Count::pages(2, 0), Count::bytes(9)], &[one, Count::pages(2, 0), three, Count::pages(5, 0)]),
    ])
}

fn keeps_its_contents(lab: &Lab, kind: Kind, resizing: &Resizing) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let mut capacity = stream.resize(lab, Some(resizing.first))?;
    exactly(lab, capacity, resizing.first)?;
    stream.turn(lab, resizing.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    for count in &resizing.writes {
        model.write(lab, &party, *count)?;
    }
    if model.unread() > 0 {
        model.read(&party, resizing.read)?;
    }
    for size in &resizing.sizes {
        let asked = size.of(capacity);
        let rounded = Size(asked.max(1)).in_pages().next_power_of_two();
        let answer = lab.fcntl(stream.write, F_SETPIPE_SZ, asked as u64);
        let busy = model.pages() > rounded;
        match answer.outcome() {
            // A user above the soft limit may keep what there is, and not ask for more.
            Outcome::Refused(EPERM) if pages(rounded) > capacity => {}
            Outcome::Refused(EBUSY) => {
                require(lab, busy, "no EBUSY where the pages in use fit", || format!("{} in use", model.pages()))?;
            }
            _ => {
                answer.must_take(pages(rounded).get())?;
                // What is in use may be packed more tightly than the rule says, but not below what it takes.
                let fits = model.unread() <= pages(rounded).get();
                require(lab, fits, "EBUSY where more pages are in use", || format!("{} unread", model.unread()))?;
                capacity = pages(rounded);
                model.resize(capacity);
            }
        }
        lab.fcntl(stream.read, F_GETPIPE_SZ, 0).must_take(capacity.get())?;
        model.check(lab, &party)?;
        model.write(lab, &party, Count::pages(1, 1))?;
    }
    model.drain(&party)?;
    lab.must(true, "sizes are rounded up to a power of two of pages, and nothing is lost", String::new)
}

/// A stream as the kernel gives it, and its capacity: 16 pages, unless the user's pipes have too many already; then no more
/// can be had by asking either.
fn by_default(lab: &Lab, kind: Kind) -> Verdict<(Stream, Size)> {
    const DEFAULT: usize = 16;
    const TRIES: usize = 8;
    let mut seen = Size::ZERO;
    for _ in 0..TRIES {
        let stream = kind.open_nonblocking(lab)?;
        seen = stream.capacity(lab)?;
        if seen == pages(DEFAULT) {
            return Ok((stream, seen));
        }
        let asked = lab.fcntl(stream.write, F_SETPIPE_SZ, pages(DEFAULT).get() as u64);
        let refused = asked.outcome().errno() == Some(EPERM);
        lab.by_chance();
        if refused {
            return Ok((stream, seen));
        }
        // Other processes of the user come and go: what was refused a moment ago may be had now.
        lab.close(stream.read).prepared()?;
        lab.close(stream.write).prepared()?;
    }
    let known = seen == pages(DEFAULT);
    lab.must(known, "16 pages, or a limit that keeps from asking for them", || seen.to_string())?;
    lab.lacking(Lack::PipePages)
}

fn default_capacity(lab: &Lab, kind: Kind, (): &()) -> Verdict {
    let (_, capacity) = by_default(lab, kind)?;
    lab.fact("default capacity", capacity);
    lab.must(true, "16 pages, or fewer where a limit keeps from asking for them", String::new)
}

/// Without the capability the largest size is refused above a limit, which is found by asking.
fn limit_of_one_pipe(lab: &Lab, (): ()) -> Verdict {
    const FAR: usize = 1 << 24;
    let child = lab.fork()?;
    child.call(Call::DropPrivileges).prepared()?;
    let stream = Kind::Pipe.open_nonblocking(child)?;
    let mut capacity = stream.capacity(child)?;
    child.write(stream.write, &Data::pattern(2, 5)).must_take(5)?;
    while capacity.get() <= FAR {
        let more = capacity * 2;
        let answer = child.fcntl(stream.write, F_SETPIPE_SZ, more.get() as u64);
        if answer.outcome().errno() == Some(EPERM) {
            lab.by_chance();
            child.fcntl(stream.write, F_GETPIPE_SZ, 0).must_take(capacity.get())?;
            lab.by_chance();
            child.read(stream.read, 9).must_yield(&Data::pattern(2, 5))?;
            // As much as was granted can be used.
            child.write(stream.write, &Data::pattern(2, capacity)).must_take(capacity.get())?;
            lab.by_chance();
            child.write(stream.write, &Data::pattern(2, 1)).must_fail(EAGAIN)?;
            lab.must(true, "EPERM above the limits, and the pipe is as before", String::new)?;
            return above_the_limit(lab, more);
        }
        answer.must_take(more.get())?;
        lab.by_chance();
        capacity = more;
    }
    lab.lacking(Lack::PipePages)
}

/// Who may exceed the limit gets what was asked for.
fn above_the_limit(lab: &Lab, size: Size) -> Verdict {
    let stream = Kind::Pipe.open_nonblocking(lab)?;
    let granted = lab.fcntl(stream.write, F_SETPIPE_SZ, size.get() as u64).outcome().clone();
    lab.by_chance();
    let capacity = stream.capacity(lab)?;
    lab.by_chance();
    let right = match granted {
        Outcome::Value(value) => value as usize == size.get() && capacity == size,
        outcome => outcome == Outcome::Refused(EPERM) && capacity < size,
    };
    require(lab, right, "the size asked for, or EPERM", || format!("a capacity of {capacity}"))?;
    let data = Data::pattern(2, capacity);
    lab.write(stream.write, &data).must_take(data.len())?;
    lab.by_chance();
    lab.write(stream.write, &Data::pattern(2, 1)).must_fail(EAGAIN)?;
    lab.read(stream.read, capacity).must_yield(&data)?;
    lab.by_chance();
    Ok(())
}

/// A user with too many pipe pages gets pipes of two pages, or of one (Linux before 5.14), and no larger ones.
fn limit_of_the_user(lab: &Lab, (): ()) -> Verdict {
    const MANY: usize = 400;
    let _turn = lock::turn();
    let child = lab.fork()?;
    child.call(Call::DropPrivileges).prepared()?;
    for _ in 0..MANY {
        let (read, write) = (lab.new_fd(), lab.new_fd());
        let made = child.call(Call::Pipe { read, write, flags: libc::O_NONBLOCK as u32 });
        if matches!(made.outcome(), Outcome::Refused(libc::EMFILE | libc::ENFILE)) {
            return lab.lacking(Lack::Descriptors);
        }
        made.prepared()?;
        lab.by_chance();
        let capacity = Size(child.fcntl(write, F_GETPIPE_SZ, 0).value()? as usize);
        lab.by_chance();
        if capacity < pages(16) {
            let few = [pages(1), pages(2)].contains(&capacity);
            lab.must(few, "two pages, or one", || capacity.to_string())?;
            lab.fact("capacity above the soft limit", capacity);
            child.fcntl(write, F_SETPIPE_SZ, pages(16).get() as u64).must_fail(EPERM)?;
            child.fcntl(write, F_GETPIPE_SZ, 0).must_take(capacity.get())?;
            let data = Data::pattern(2, capacity);
            child.write(write, &data).must_take(data.len())?;
            lab.by_chance();
            child.write(write, &Data::pattern(2, 1)).must_fail(EAGAIN)?;
            child.read(read, capacity).must_yield(&data)?;
            lab.by_chance();
            return lab.must(true, "a user above the soft limit gets small pipes, which work", String::new);
        }
        // One large pipe counts for many.
        let mut size = capacity * 2;
        let mut larger = true;
        while larger && size.get() <= 1 << 20 {
            larger = child.fcntl(write, F_SETPIPE_SZ, size.get() as u64).outcome().is_success();
            lab.by_chance();
            size = size * 2;
        }
    }
    lab.lacking(Lack::PipePages)
}

/// Writes to a stream that is full, or nearly.
#[derive(Clone, Debug)]
struct Overflow {
    slots: Option<usize>,
    turned: usize,
    before: Count,
    writes: Vec<Count>,
}

fn overflows() -> Gen<Overflow> {
    let before = prop_oneof![
        3 => Just(Count::capacity(1, 0)),
        2 => prop::sample::select(vec![-1_isize, -7, -300]).prop_map(|plus| Count::capacity(1, plus)),
        1 => any_count(1),
    ];
    let writes = prop::collection::vec(any_count(3), 1..6);
    let strategy = (slots(), turned(), before, writes).prop_map(|(slots, turned, before, writes)| Overflow {
        slots,
        turned,
        before,
        writes,
    });
    let full =
        |slots, writes: &[Count]| Overflow { slots, turned: 0, before: Count::capacity(1, 0), writes: writes.to_vec() };
    drawn("full and nearly full streams, and writes of any size", strategy).also([
        full(Some(2), &[Count::bytes(1)]),
        full(Some(1), &[Count::pages(1, 0), Count::bytes(1)]),
        full(None, &[Count::bytes(1), Count::capacity(3, 1)]),
    ])
}

fn nothing_is_overwritten(lab: &Lab, kind: Kind, overflow: &Overflow) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, overflow.slots)?;
    stream.turn(lab, overflow.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    model.write(lab, &party, overflow.before)?;
    for count in &overflow.writes {
        model.write(lab, &party, *count)?;
        model.check(lab, &party)?;
    }
    if model.unread() == capacity.get() {
        for count in [1, libc::PIPE_BUF, capacity.get() + 1] {
            let refused = would_block(lab.write(stream.write, &Data::repeat(b'x', count)).outcome());
            require(lab, refused, "EAGAIN when it is full", || format!("{count} bytes were taken"))?;
        }
    }
    model.drain(&party)?;
    lab.must(true, "what was in it is what comes out", String::new)
}

fn a_writer_waits_instead(lab: &Lab, kind: Kind, overflow: &Overflow) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, overflow.slots)?;
    stream.turn(lab, overflow.turned)?;
    let full = stream.fill(lab, 2)?;
    let writer = lab.fork()?;
    writer.close(stream.read).prepared()?;
    let data = Data::pattern(1, overflow.writes[0].of(capacity).max(1));
    let write = writer.begin(Call::Write { fd: stream.write, data });
    write.must_block()?;
    // The writer goes with its bytes: what was there has to be there still.
    writer.kill();
    lab.read(stream.read, capacity).must_yield(&full)?;
    lab.unread(stream.read).must_return(0_u64)
}

fn holds_more_than_pipe_buf(lab: &Lab, kind: Kind, count: &Count) -> Verdict {
    let (stream, capacity) = by_default(lab, kind)?;
    if capacity.get() <= libc::PIPE_BUF {
        // One page of 4 KiB is all that a user above the soft limit gets before Linux 5.14.
        return lab.lacking(Lack::PipePages);
    }
    let data = Data::pattern(2, count.of(capacity).clamp(libc::PIPE_BUF + 1, capacity.get()));
    lab.write(stream.write, &data).must_take(data.len())?;
    lab.unread(stream.read).must_take(data.len())?;
    lab.read(stream.read, capacity).must_yield(&data)?;
    lab.must(true, "more than PIPE_BUF bytes are in the pipe at once", String::new)
}

fn what_fpathconf_says(lab: &Lab, kind: Kind, (): &()) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    for fd in [stream.read, stream.write] {
        let value = lab.worker().call(Call::Library(Library::PipeBuf { fd })).value()?;
        lab.must(value == 4096, "4096, whatever the size of a page", || value.to_string())?;
    }
    Ok(())
}

/// Several writers, and what each writes again and again.
#[derive(Clone, Debug)]
struct Choir {
    slots: Option<usize>,
    voices: Vec<Vec<Count>>,
    reads: Vec<Count>,
}

fn choirs() -> Gen<Choir> {
    let voice = prop::collection::vec(atomic_count(), 1..6);
    let reads = prop::collection::vec(any_count(1), 1..4);
    let strategy = (slots(), prop::collection::vec(voice, 2..5), reads).prop_map(|(slots, voices, reads)| Choir {
        slots,
        voices,
        reads,
    });
    let both = |count| Choir {
        slots: Some(1),
        voices: vec![vec![count; 4]; 2],
        reads: vec![Count::bytes(100), Count::pages(1, -1)],
    };
    drawn("2 to 4 writers of up to PIPE_BUF bytes each time, and reads of any size", strategy).also([
        both(Count::bytes(9)),
        both(Count::pipe_buf(0)),
        both(Count::pipe_buf(-1)),
        both(Count::bytes(3000)),
    ])
}

/// A byte that tells who wrote it in two bits, and where among the writer's bytes it belongs in six.
fn marked(writer: usize, from: usize, count: usize) -> Vec<u8> {
    let place = |at: usize| (at.wrapping_mul(0x9e37_79b9) >> 7) as u8 & 0x3f;
    (from..from + count).map(|at| (writer as u8) << 6 | place(at)).collect()
}

/// The messages of each writer, one after the other.
fn messages(choir: &Choir, capacity: Size) -> Vec<Vec<Vec<u8>>> {
    let of_one = |(writer, counts): (usize, &Vec<Count>)| {
        let mut from = 0;
        let next = |count: &Count| {
            let count = count.of(capacity).clamp(1, libc::PIPE_BUF);
            from += count;
            marked(writer, from - count, count)
        };
        counts.iter().map(next).collect()
    };
    choir.voices.iter().enumerate().map(of_one).collect()
}

/// Every message is in the stream in one piece, and those of each writer in its order.
fn must_be_whole(lab: &Lab, stream: &[u8], messages: &[Vec<Vec<u8>>]) -> Verdict {
    let mut next = vec![0; messages.len()];
    let mut at = 0;
    while at < stream.len() {
        let writer = usize::from(stream[at] >> 6);
        let message = messages.get(writer).and_then(|all| all.get(next[writer]));
        let whole = message.is_some_and(|message| stream[at..].starts_with(message));
        require(lab, whole, "a write of PIPE_BUF bytes or fewer stays in one piece", || {
            format!("at {} of the stream another writer's bytes, or others, are in the middle", Size(at))
        })?;
        at += message.map_or(1, Vec::len);
        next[writer] += 1;
    }
    let all = next.iter().zip(messages).all(|(count, all)| *count == all.len());
    lab.must(all, "every write came through in one piece, each writer's in order", || format!("{next:?} came"))
}

/// All write at once, as fast as they can; one reads.
fn never_interleaved(lab: &Lab, kind: Kind, choir: &Choir) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, choir.slots)?;
    let reader = lab.fork()?;
    reader.close(stream.write).prepared()?;
    let messages = messages(choir, capacity);
    let mut begun = Vec::new();
    let mut writers = Vec::new();
    for _ in &messages {
        let writer = lab.fork()?;
        writer.close(stream.read).prepared()?;
        writers.push(writer);
    }
    lab.close(stream.write).prepared()?;
    lab.close(stream.read).prepared()?;
    for (writer, all) in writers.iter().zip(&messages) {
        for message in all {
            let data = message.clone().into();
            begun.push((message.len(), writer.begin(Call::Write { fd: stream.write, data })));
        }
        begun.push((0, writer.begin(Call::Close { fd: stream.write })));
    }
    let mut seen = Vec::new();
    let mut reads = choir.reads.iter().map(|count| count.of(capacity).max(1)).chain(std::iter::repeat(page()));
    loop {
        let bytes = reader.read(stream.read, reads.next().unwrap_or(1)).bytes()?;
        lab.by_chance();
        if bytes.is_empty() {
            break;
        }
        seen.extend(bytes);
    }
    for (count, call) in begun {
        call.answer().must_take(count)?;
    }
    must_be_whole(lab, &seen, &messages)
}

/// Each waits with its first message, in a stream without room for it; then it is read out bit by bit.
fn none_between_the_bytes(lab: &Lab, kind: Kind, choir: &Choir) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, choir.slots)?;
    let full = stream.fill(lab, 2)?;
    let messages: Vec<Vec<Vec<u8>>> = messages(choir, capacity).into_iter().map(|all| all[..1].to_vec()).collect();
    let mut waiting = Vec::new();
    for all in &messages {
        let writer = lab.fork()?;
        writer.close(stream.read).prepared()?;
        let write = writer.begin(Call::Write { fd: stream.write, data: all[0].clone().into() });
        write.must_block()?;
        waiting.push((all[0].len(), write));
    }
    // The worker must not wait: it reads what there is.
    stream.set_flags(lab, stream.read, libc::O_NONBLOCK)?;
    let total: usize = full.len() + messages.iter().map(|all| all[0].len()).sum::<usize>();
    let mut seen = Vec::new();
    let mut reads = choir.reads.iter().map(|count| count.of(capacity).max(1)).chain(std::iter::repeat(page()));
    while seen.len() < total {
        let before = waiting.len();
        let answer = lab.read(stream.read, reads.next().unwrap_or(1));
        let empty = would_block(answer.outcome());
        if !empty {
            let bytes = answer.bytes()?;
            require(lab, !bytes.is_empty(), "bytes of writers that are still there", || "the end".into())?;
            seen.extend(bytes);
        }
        let mut left = Vec::new();
        for (count, write) in waiting {
            match write.returned() {
                Ok(answer) => answer.must_take(count)?,
                Err(write) => left.push((count, write)),
            }
        }
        waiting = left;
        let moves = !empty || waiting.len() < before;
        require(lab, moves, "an empty stream lets a writer go on", || format!("{} still wait", waiting.len()))?;
    }
    for (count, write) in waiting {
        write.answer().must_take(count)?;
    }
    let kept = seen.starts_with(&full.to_vec());
    require(lab, kept, "what was there comes first", || "other bytes".into())?;
    must_be_whole(lab, &seen[full.len()..], &messages)
}
