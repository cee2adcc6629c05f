//! PIPE_BUF: which writes are never mixed with others.

use proptest::prelude::*;

use super::pipe_stream::any_script;
use super::streams::{OnBoth, play};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, Script, any_count, atomic_count, drawn, once, slots};
use crate::kernel::call::{Call, Library, Reads};
use crate::kernel::data::Data;
use crate::kernel::page::{Size, page};
use crate::lab::Lab;
use crate::lab::actor::answers;
use crate::lab::answer::Answer;
use crate::lab::expect::Expect;
use crate::lab::stream::{Kind, Stream};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![atomic_writes()]
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
        .on_both(["pipe: beside a longer write", "fifo: beside a longer write"], 8, beside(), none_inside_a_short_one)
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

/// The messages of each writer, one after the other.
fn messages(choir: &Choir, capacity: Size) -> Vec<Vec<Data>> {
    let of_one = |(writer, counts): (u8, &Vec<Count>)| {
        let mut from = 0;
        let next = |count: &Count| {
            let len = count.of(capacity).clamp(1, libc::PIPE_BUF);
            from += len;
            Data::Marked { writer, from: from - len, len }
        };
        counts.iter().map(next).collect()
    };
    (0..).zip(&choir.voices).map(of_one).collect()
}

impl Choir {
    /// Reads until so many bytes have come, or all have closed the stream.
    fn reads(&self, capacity: Size, most: usize) -> Reads {
        let sizes = self.reads.iter().map(|count| count.of(capacity).max(1)).collect();
        Reads { sizes, often: self.reads.len(), then: page(), unit: 1, most }
    }
}

fn total(messages: &[Vec<Data>]) -> usize {
    messages.iter().flatten().map(Data::len).sum()
}

/// Behind what was there every message of up to PIPE_BUF is in one piece, and those of each writer in its order.
fn must_be_whole(lab: &Lab, seen: Answer<'_>, head: Data, writers: Vec<Vec<Data>>) -> Verdict {
    lab.in_a_word("every write of up to PIPE_BUF came through in one piece, each writer's in order", || {
        seen.must(&Expect::Merged { head, writers })
    })
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
            begun.push(writer.begin(Call::Write { fd: stream.write, data: message.clone() }));
        }
        begun.push(writer.begin(Call::Close { fd: stream.write }));
    }
    let reads = choir.reads(capacity, total(&messages) + 1);
    let seen = reader.call(Call::ReadAll { fd: stream.read, reads });
    let written = answers(begun);
    let counts: Vec<usize> = messages.iter().flat_map(|all| all.iter().map(Data::len).chain([0])).collect();
    must_be_whole(lab, seen, Data::zeros(0), messages)?;
    written.into_iter().zip(counts).try_for_each(|(answer, count)| answer.must_take(count))
}

/// Each waits with its first message, in a stream without room for it; then it is read out bit by bit.
fn none_between_the_bytes(lab: &Lab, kind: Kind, choir: &Choir) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, choir.slots)?;
    let full = stream.fill(lab, 2)?;
    read_out(lab, stream, full, first_messages(choir, capacity), |most| choir.reads(capacity, most))
}

fn first_messages(choir: &Choir, capacity: Size) -> Vec<Data> {
    messages(choir, capacity).into_iter().map(|mut all| all.swap_remove(0)).collect()
}

/// All wait to write, one after the other, in a stream that holds `full`; then it is read out.
fn read_out(lab: &Lab, stream: Stream, full: Data, messages: Vec<Data>, reads: impl FnOnce(usize) -> Reads) -> Verdict {
    let reader = lab.fork()?;
    let mut waiting = Vec::new();
    for data in &messages {
        let writer = lab.fork()?;
        writer.close(stream.read).prepared()?;
        let write = writer.begin(Call::Write { fd: stream.write, data: data.clone() });
        write.must_block()?;
        waiting.push(write);
    }
    // Which writer goes on first, and after which read, is the kernel's choice.
    let counts: Vec<usize> = messages.iter().map(Data::len).collect();
    let reads = reads(full.len() + counts.iter().sum::<usize>());
    let seen = reader.call(Call::ReadAll { fd: stream.read, reads });
    let written = answers(waiting);
    must_be_whole(lab, seen, full, messages.into_iter().map(|data| vec![data]).collect())?;
    written.into_iter().zip(counts).try_for_each(|(answer, count)| answer.must_take(count))
}

/// One write of more than PIPE_BUF among those of a choir.
#[derive(Clone, Debug)]
struct Beside {
    choir: Choir,
    /// How many wait before it; if none does, it waits halfway.
    before: usize,
    /// How much longer it is than PIPE_BUF, or than what the stream takes.
    by: Count,
}

fn beside() -> Gen<Beside> {
    let voice = || prop::collection::vec(atomic_count(), 1);
    let reads = prop::collection::vec(any_count(1), 1..4);
    let strategy = (slots(), prop::collection::vec(voice(), 1..4), reads, 0_usize..4, any_count(1)).prop_map(
        |(slots, voices, reads, before, by)| Beside {
            before: before.min(voices.len()),
            choir: Choir { slots, voices, reads },
            by,
        },
    );
    let named = |first, before, by| Beside {
        choir: Choir {
            slots: Some(1),
            voices: vec![vec![first], vec![Count::bytes(9)]],
            reads: vec![Count::bytes(100)],
        },
        before,
        by,
    };
    drawn("a write of more than PIPE_BUF, and 1 to 3 of less that wait behind it or before it", strategy).also([
        named(Count::bytes(1000), 0, Count::bytes(1)),
        named(Count::pipe_buf(0), 0, Count::pages(2, 0)),
        named(Count::pipe_buf(0), 1, Count::pages(1, -1)),
    ])
}

/// A write of more than PIPE_BUF may come in pieces; none of them is inside of a shorter one.
fn none_inside_a_short_one(lab: &Lab, kind: Kind, Beside { choir, before, by }: &Beside) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, choir.slots)?;
    let mut messages = first_messages(choir, capacity);
    let filled = *before > 0;
    let full = if filled { stream.fill(lab, 2)? } else { Data::zeros(0) };
    let least = if filled { libc::PIPE_BUF } else { capacity.get().max(libc::PIPE_BUF) };
    let len = least + by.of(capacity).max(1);
    messages.insert(*before, Data::Marked { writer: messages.len() as u8, from: 0, len });
    read_out(lab, stream, full, messages, |most| choir.reads(capacity, most))
}
