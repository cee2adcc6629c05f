//! PIPE_BUF: which writes are never mixed with others.

use proptest::prelude::*;

use super::pipe_stream::any_script;
use super::streams::{OnBoth, play, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, Script, any_count, atomic_count, drawn, once, slots};
use crate::kernel::call::{Call, Fd, Library};
use crate::kernel::page::{Size, page};
use crate::lab::Lab;
use crate::lab::actor::Begun;
use crate::lab::stream::{Kind, would_block};
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
    let total = full.len() + messages.iter().map(|all| all[0].len()).sum::<usize>();
    let reads = choir.reads.iter().map(|count| count.of(capacity).max(1)).chain(std::iter::repeat(page()));
    // Which writer goes on first, and after which read, is the kernel's choice.
    let seen = lab.aside(|| read_out(lab, stream.read, total, reads, waiting))?;
    let kept = seen.starts_with(&full.to_vec());
    require(lab, kept, "what was there comes first", || "other bytes".into())?;
    must_be_whole(lab, &seen[full.len()..], &messages)
}

/// Reads until so many bytes have come, and sees every writer return that waits for room.
fn read_out(
    lab: &Lab,
    fd: Fd,
    total: usize,
    mut reads: impl Iterator<Item = usize>,
    mut waiting: Vec<(usize, Begun<'_>)>,
) -> Verdict<Vec<u8>> {
    let mut seen = Vec::new();
    while seen.len() < total {
        let before = waiting.len();
        let answer = lab.read(fd, reads.next().unwrap_or(1));
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
    Ok(seen)
}
