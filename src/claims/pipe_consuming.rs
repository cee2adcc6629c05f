//! What becomes of what was read, and of its room.

use libc::EAGAIN;
use proptest::prelude::*;

use super::pipe_stream::any_script;
use super::streams::{Model, OnBoth, Party, exactly, family, play_on, require};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, Script, drawn, slots, small_count, turned};
use crate::kernel::call::{Call, Reads};
use crate::kernel::data::Data;
use crate::kernel::outcome::Outcome;
use crate::kernel::page::page;
use crate::lab::Lab;
use crate::lab::actor::answers;
use crate::lab::expect::Expect;
use crate::lab::stream::{Kind, would_block};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![consumed_once()]
}

fn consumed_once() -> Claim {
    claim("pipe.consumed-once")
        .states("What has been read is gone from the pipe, and its room is free again.")
        .documents([IPC.at("pipe, features")])
        .qualified(
            "Gone it is, for all readers; but room comes back by whole pages of the buffer, not byte by byte: \
             a full pipe takes the next byte once one page has been emptied.",
        )
        .basis([
            posix("pipe, DESCRIPTION"),
            posix("write, RATIONALE, blocking/immediate"),
            linux("F_GETPIPE_SZ(2const), last paragraph of F_SETPIPE_SZ"),
            linux("linux 7.2, fs/pipe.c, anon_pipe_read() and anon_pipe_write()"),
        ])
        .on_both(["pipe: gone", "fifo: gone"], 8, any_script(3, 10), gone_for_all)
        .on_both(["pipe: readers at once", "fifo: readers at once"], 16, races(), shared_out)
        .on_both(["pipe: room", "fifo: room"], 1, emptyings(), room_by_pages)
}

/// Two more processes and a duplicate read; what one has had none of the others sees.
fn gone_for_all(lab: &Lab, kind: Kind, script: &Script) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, script.slots)?;
    stream.turn(lab, script.turned)?;
    let mut parties = family(lab, &stream, 3)?;
    parties[1].read = parties[1].who.dup(stream.read)?;
    play_on(lab, &parties, capacity, &script.turns)?;
    for party in &parties {
        party.who.read(party.read, 1).must_refuse(EAGAIN)?;
        party.who.unread(party.read).must_take(0)?;
    }
    lab.must(true, "every byte was read once, by one of the readers", String::new)
}

/// Records of eight bytes, read by several processes at once.
#[derive(Clone, Debug)]
struct Race {
    slots: Option<usize>,
    writes: Vec<usize>,
    reads: Vec<usize>,
    readers: usize,
}

const RECORD: usize = 8;

fn races() -> Gen<Race> {
    let records = || prop_oneof![3 => 1_usize..9, 2 => 9_usize..200, 1 => 200_usize..600];
    let writes = prop::collection::vec(records(), 1..8);
    let reads = prop::collection::vec(records(), 1..4);
    let strategy = (slots(), writes, reads, 2_usize..4).prop_map(|(slots, writes, reads, readers)| Race {
        slots,
        writes,
        reads,
        readers,
    });
    drawn("records of 8 bytes in writes of 1 to 599, and 2 or 3 processes that read them at once", strategy)
        .also([Race { slots: Some(1), writes: vec![100; 6], reads: vec![1, 3], readers: 2 }])
}

/// Each reader gets some of the records, and no two the same.
fn shared_out(lab: &Lab, kind: Kind, race: &Race) -> Verdict {
    const OFTEN: usize = 24;
    let stream = kind.open(lab)?;
    stream.resize(lab, race.slots)?;
    let writer = lab.fork()?;
    writer.close(stream.read).prepared()?;
    let mut readers = Vec::new();
    for _ in 0..race.readers {
        let reader = lab.fork()?;
        reader.close(stream.write).prepared()?;
        readers.push(reader);
    }
    lab.close(stream.write).prepared()?;
    lab.close(stream.read).prepared()?;
    let records = |(seed, count): (u32, &usize)| Data::pattern(2 * seed, count * RECORD);
    let of: Vec<Data> = (1..).zip(&race.writes).map(records).collect();
    let total: usize = of.iter().map(Data::len).sum();
    let mut calls: Vec<_> =
        of.iter().map(|data| writer.begin(Call::Write { fd: stream.write, data: data.clone() })).collect();
    calls.push(writer.begin(Call::Close { fd: stream.write }));
    // After many small reads, ones that are large enough for all that is there.
    let sizes = race.reads.iter().map(|count| count * RECORD).collect();
    let reads = Reads { sizes, often: OFTEN, then: RECORD << 13, unit: RECORD, most: total + 1 };
    let call = || Call::ReadAll { fd: stream.read, reads: reads.clone() };
    let had = answers(readers.iter().map(|reader| reader.begin(call())).collect());
    let written = answers(calls);
    let share = Expect::Share { of: of.clone(), unit: RECORD };
    let mut seen = Vec::new();
    for answer in &had {
        if let Outcome::Bytes(bytes) = answer.outcome() {
            seen.extend_from_slice(bytes);
        }
    }
    // What one has had says nothing without the others.
    let verdicts: Vec<Verdict> = had.into_iter().map(|answer| answer.checked(&share)).collect();
    verdicts.into_iter().collect::<Verdict>()?;
    for (answer, count) in written.into_iter().zip(of.iter().map(Data::len).chain([0])) {
        answer.must_take(count)?;
    }
    let each_once = share.allows(&Outcome::Bytes(seen.clone()));
    lab.must(each_once && seen.len() == total, "every record was read once, by one of the readers", || {
        format!("{} of {}", seen.len() / RECORD, total / RECORD)
    })
}

/// A full pipe that is read from bit by bit.
#[derive(Clone, Debug)]
struct Emptying {
    slots: usize,
    turned: usize,
    reads: Vec<Count>,
    write: Count,
}

fn emptyings() -> Gen<Emptying> {
    let slots = prop::sample::select(vec![2_usize, 1, 4, 8, 16]);
    let reads = prop::collection::vec(small_count(), 1..6);
    let strategy = (slots, turned(), reads, small_count()).prop_map(|(slots, turned, reads, write)| Emptying {
        slots,
        turned,
        reads,
        write,
    });
    let one = |reads: &[Count]| Emptying { slots: 2, turned: 0, reads: reads.to_vec(), write: Count::bytes(1) };
    drawn("full pipes of 1 to 16 pages, emptied by reads of any size until a write fits", strategy).also([
        one(&[Count::bytes(1), Count::pages(1, -2), Count::bytes(1)]),
        one(&[Count::pages(1, -1), Count::bytes(2)]),
        one(&[Count::pages(1, 0)]),
    ])
}

fn room_by_pages(lab: &Lab, kind: Kind, emptying: &Emptying) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, Some(emptying.slots))?;
    exactly(lab, capacity, emptying.slots)?;
    stream.turn(lab, emptying.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    model.write(lab, &party, Count::capacity(1, 0))?;
    let mut read = 0;
    for count in &emptying.reads {
        if read >= page() {
            break;
        }
        let before = model.unread();
        model.read(&party, *count)?;
        read += before - model.unread();
        model.check(lab, &party)?;
        let refused = would_block(lab.write(stream.write, &Data::repeat(b'x', 1)).outcome());
        if read < page() {
            require(lab, refused, "no byte fits while every page holds something", || format!("one at {read}"))?;
        } else {
            require(lab, !refused, "a byte fits once a page is empty", || format!("EAGAIN at {read}"))?;
            model.put(&Data::repeat(b'x', 1), 1);
        }
    }
    if read < page() {
        model.read(&party, Count::bytes(page() - read))?;
    }
    model.write(lab, &party, emptying.write)?;
    model.drain(&party)?;
    lab.must(true, "room for the next byte comes with an empty page, and not before", String::new)
}
