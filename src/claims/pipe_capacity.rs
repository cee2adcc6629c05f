//! How much a pipe holds, and what happens beyond.

use libc::{EAGAIN, EBUSY, EPERM, F_GETPIPE_SZ, F_SETPIPE_SZ};
use proptest::prelude::*;

use super::pipe_limits::{by_default, default_capacity, limit_of_one_pipe, limit_of_the_user};
use super::streams::{Model, OnBoth, Party, exactly, require};
use crate::claim::{Claim, Depends, IPC, claim, linux, posix, unspecified};
use crate::input::{Count, Gen, any_count, drawn, once, slots, turned};
use crate::kernel::call::Call;
use crate::kernel::data::Data;
use crate::kernel::outcome::{Lack, Outcome};
use crate::kernel::page::{Size, page, pages};
use crate::lab::Lab;
use crate::lab::stream::{Kind, would_block};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![kernel_buffer(), overflow_overwrites(), size_4096()]
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
        .on_both(["pipe: with a child", "fifo: with a child"], 1, once(), is_the_same_in_a_child)
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
    for (index, size) in resizing.sizes.iter().enumerate() {
        let asked = size.of(capacity);
        let rounded = Size(asked.max(1)).in_pages().next_power_of_two();
        let end = [stream.write, stream.read][index % 2];
        let answer = lab.fcntl(end, F_SETPIPE_SZ, asked as u64);
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

/// The capacity is the stream's, whoever sets it and whoever asks.
fn is_the_same_in_a_child(lab: &Lab, kind: Kind, (): &()) -> Verdict {
    let stream = kind.open(lab)?;
    let before = stream.resize(lab, Some(4))?;
    let child = lab.fork()?;
    child.fcntl(stream.read, F_GETPIPE_SZ, 0).must_take(before.get())?;
    let after = stream.resize(child, Some(2))?;
    lab.fcntl(stream.read, F_GETPIPE_SZ, 0).must_take(after.get())?;
    lab.must(true, "a child has the same capacity", String::new)
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
        for count in [1, page(), capacity.get() + 1] {
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
    writer.kill()?;
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
