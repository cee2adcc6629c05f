//! A pipe as a stream of bytes: how it is written, how it is read, in which order.

use proptest::prelude::*;

use super::streams::{Model, OnBoth, Party, play};
use crate::claim::{Claim, IPC, claim, linux, posix};
use crate::input::{Count, Gen, Script, Turn, any_count, drawn, in_turn, r, scripts, slots, turned, w};
use crate::kernel::call::{Call, Reads};
use crate::kernel::data::Data;
use crate::kernel::page::Size;
use crate::lab::Lab;
use crate::lab::actor::answers;
use crate::lab::stream::Kind;
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// The claims of this topic.
pub(super) fn claims() -> Vec<Claim> {
    vec![byte_stream(), order(), read_count(), write_count()]
}

fn byte_stream() -> Claim {
    claim("pipe.byte-stream")
        .states("A pipe is a byte stream without messages: a read may take any amount, however the bytes were written.")
        .documents([IPC.at("pipe, features")])
        .holds()
        .basis([
            posix("read, DESCRIPTION, return value"),
            posix("write, DESCRIPTION, pipe or FIFO"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .on_both(["pipe", "fifo"], 1, splits(), in_turns)
        .on_both(["pipe, two processes", "fifo, two processes"], 8, splits(), between_processes)
        .on_both(["pipe, each count", "fifo, each count"], 1, first_counts(), each_count)
}

/// How far apart the counts of one case are, in bytes: as many cases meet every count.
const APART: usize = 128;

fn first_counts() -> Gen<usize> {
    in_turn("1 to 128 bytes, each number in its turn, and those that are multiples of 128 more", 1..=APART)
}

/// Writes of so many bytes, of 128 more and so on beyond PIPE_BUF; each is read alone, with a few bytes behind it.
fn each_count(lab: &Lab, kind: Kind, first: &usize) -> Verdict {
    const BEHIND: usize = 3;
    let stream = kind.open_nonblocking(lab)?;
    let most = stream.capacity(lab)?.get().min(libc::PIPE_BUF + APART);
    lab.in_a_word("each as written", || {
        for count in (*first..=most - BEHIND).step_by(APART) {
            let (data, behind) = (Data::pattern(1, count), Data::at(1, count, BEHIND));
            lab.write(stream.write, &data).must_take(count)?;
            lab.write(stream.write, &behind).must_take(BEHIND)?;
            lab.read(stream.read, count).must_yield(&data)?;
            lab.read(stream.read, BEHIND + 1).must_yield(&behind)?;
        }
        Ok(())
    })
}

fn order() -> Claim {
    claim("pipe.order")
        .states("Bytes are read in exactly the order in which they were written.")
        .documents([IPC.at("pipe, features")])
        .holds()
        .basis([
            posix("pipe, DESCRIPTION"),
            posix("write, DESCRIPTION, pipe or FIFO"),
            linux("pipe(7), I/O on pipes and FIFOs"),
        ])
        .on_both(["pipe", "fifo"], 1, any_script(1, 24), |lab, kind, script| play(lab, kind, script, 1))
        .on_both(["pipe, four processes", "fifo, four processes"], 8, any_script(4, 16), |lab, kind, script| {
            play(lab, kind, script, 4)
        })
}

fn read_count() -> Claim {
    claim("pipe.read-count")
        .states("With data in the pipe read returns the number of bytes that it took.")
        .documents([IPC.at("pipe, read and write")])
        .holds()
        .basis([posix("read, DESCRIPTION, return value"), linux("read(2), RETURN VALUE")])
        .on_both(["pipe", "fifo"], 1, any_script(1, 8).and(amounts()), reads_without_waiting)
}

fn write_count() -> Claim {
    claim("pipe.write-count")
        .states("With room in the pipe write stores the data and returns the number of bytes.")
        .documents([IPC.at("pipe, read and write")])
        .holds()
        .basis([posix("write, DESCRIPTION, pipe or FIFO"), linux("pipe(7), PIPE_BUF")])
        .on_both(["pipe", "fifo"], 1, any_script(1, 8).and(amounts()), writes_without_waiting)
}

/// A stream cut into writes, and into reads without regard to them.
#[derive(Clone, Debug)]
struct Splits {
    slots: Option<usize>,
    turned: usize,
    writes: Vec<Count>,
    reads: Vec<Count>,
}

impl Splits {
    /// Those of the list over and over, then larger ones, so that it comes to an end.
    const OFTEN: usize = 64;
    const LARGER: Count = Count::pages(4, 1);

    /// The size of the read with this index.
    fn read(&self, index: usize) -> Count {
        if index < Self::OFTEN { self.reads[index % self.reads.len()] } else { Self::LARGER }
    }

    /// All reads, of a stream that is to have so many bytes.
    fn all(&self, capacity: Size, total: usize) -> Reads {
        let of = |count: &Count| count.of(capacity).max(1);
        let sizes = self.reads.iter().map(of).collect();
        Reads { sizes, often: Self::OFTEN, then: of(&Self::LARGER), unit: 1, most: total + 1 }
    }
}

fn splits() -> Gen<Splits> {
    let some = |most| prop::collection::vec(any_count(most), 1..10);
    let strategy = (slots(), turned(), some(3), some(2)).prop_map(|(slots, turned, writes, reads)| Splits {
        slots,
        turned,
        writes,
        reads,
    });
    let three = [1, 2, 3].map(Count::bytes).to_vec();
    let all = |count| vec![count; 3];
    drawn("streams of one byte to several times the capacity, split into writes and into reads", strategy).also([
        Splits { slots: Some(2), turned: 0, writes: three.clone(), reads: vec![Count::bytes(4)] },
        Splits { slots: Some(2), turned: 0, writes: vec![Count::bytes(6)], reads: three },
        Splits { slots: None, turned: 0, writes: all(Count::capacity(1, 1)), reads: all(Count::pages(1, -1)) },
        Splits { slots: Some(1), turned: 1, writes: all(Count::pages(3, 1)), reads: all(Count::pipe_buf(1)) },
        // A mebibyte and more in all.
        Splits {
            slots: Some(16),
            turned: 0,
            writes: vec![Count::bytes(200_001); 6],
            reads: all(Count::capacity(2, 1)),
        },
        Splits { slots: Some(4), turned: 3, writes: all(Count::pipe_buf(-1)), reads: all(Count::capacity(2, 0)) },
    ])
}

/// Scripts of so many processes, with the ones that matter most first.
pub(super) fn any_script(processes: usize, most: usize) -> Gen<Script> {
    let by = |by, turn: Turn| Turn { by, ..turn };
    let few: Vec<Turn> = (0..3).map(|n| by(n % processes, w(Count::bytes(n + 1)))).collect();
    let few = few.into_iter().chain([by(processes - 1, r(Count::bytes(4))), r(Count::bytes(1))]).collect();
    let page_wise = [w(Count::capacity(1, 0)), r(Count::pages(1, 0)), w(Count::pages(1, 0)), r(Count::pages(1, 1))];
    let behind = [w(Count::pages(1, -1)), w(Count::bytes(1)), w(Count::bytes(1)), r(Count::bytes(1))];
    let about = match processes {
        1 => format!("up to {most} reads and writes of one byte to twice the capacity, from any place of the ring"),
        n => format!("up to {most} reads and writes of one byte to twice the capacity, by {n} processes"),
    };
    let script = |slots, turned, turns| Script { slots, turned, turns };
    drawn(about, scripts(processes, most)).also([
        script(Some(2), 0, few),
        script(Some(2), 1, page_wise.repeat(3)),
        script(None, 0, page_wise.repeat(3)),
        script(Some(4), 3, behind.repeat(4)),
    ])
}

fn amounts() -> Gen<Vec<Count>> {
    let some = vec![Count::bytes(1), Count::bytes(0), Count::bytes(300)];
    drawn("then amounts of all orders", prop::collection::vec(any_count(3), 1..6)).also([some])
}

/// One process writes and, where it finds no room, reads.
fn in_turns(lab: &Lab, kind: Kind, splits: &Splits) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, splits.slots)?;
    stream.turn(lab, splits.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    let mut reads = 0;
    for count in &splits.writes {
        let mut left = count.of(capacity);
        while left > 0 {
            let before = model.unread();
            model.write(lab, &party, Count::bytes(left))?;
            left -= model.unread() - before;
            if left > 0 {
                model.read(&party, splits.read(reads))?;
                reads += 1;
            }
        }
    }
    while model.unread() > 0 {
        model.read(&party, splits.read(reads))?;
        reads += 1;
    }
    model.read(&party, Count::bytes(1))?;
    lab.must(true, "every byte came once, whole and in order", String::new)
}

/// A process that writes and one that reads, each as fast as the other lets it.
fn between_processes(lab: &Lab, kind: Kind, splits: &Splits) -> Verdict {
    let stream = kind.open(lab)?;
    let capacity = stream.resize(lab, splits.slots)?;
    stream.turn(lab, splits.turned)?;
    let (writer, reader) = (lab.fork()?, lab.fork()?);
    writer.close(stream.read).prepared()?;
    reader.close(stream.write).prepared()?;
    lab.close(stream.read).prepared()?;
    lab.close(stream.write).prepared()?;
    let mut total = 0;
    let mut begun = Vec::new();
    let mut counts = Vec::new();
    for count in &splits.writes {
        let data = Data::at(2, total, count.of(capacity));
        total += data.len();
        counts.push(data.len());
        begun.push(writer.begin(Call::Write { fd: stream.write, data }));
    }
    begun.push(writer.begin(Call::Close { fd: stream.write }));
    counts.push(0);
    let seen = reader.call(Call::ReadAll { fd: stream.read, reads: splits.all(capacity, total) });
    let written = answers(begun);
    lab.in_a_word("every byte came once, whole and in order", || seen.must_hold(&Data::pattern(2, total)))?;
    written.into_iter().zip(counts).try_for_each(|(answer, count)| answer.must_take(count))
}

fn reads_without_waiting(lab: &Lab, kind: Kind, (script, counts): &(Script, Vec<Count>)) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, script.slots)?;
    stream.turn(lab, script.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    for turn in &script.turns {
        model.turn(lab, &[party], *turn)?;
    }
    // A read that waited now would be one that has data to take.
    stream.set_flags(lab, stream.read, 0)?;
    for count in counts {
        if model.unread() == 0 {
            model.write(lab, &party, Count::pages(1, 1))?;
        }
        model.read(&party, *count)?;
        model.check(lab, &party)?;
    }
    lab.read(stream.read, 0).must_be_empty()?;
    lab.must(true, "a read returns what it asked for, or all there is if that is less", String::new)
}

fn writes_without_waiting(lab: &Lab, kind: Kind, (script, counts): &(Script, Vec<Count>)) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, script.slots)?;
    stream.turn(lab, script.turned)?;
    let party = Party::of(lab.worker(), &stream);
    let mut model = Model::empty(capacity);
    for turn in &script.turns {
        model.turn(lab, &[party], *turn)?;
    }
    // Only what there is room for is written, so that no write has to wait.
    stream.set_flags(lab, stream.write, 0)?;
    for count in counts {
        let wanted = count.of(capacity);
        if model.room(wanted) < wanted {
            model.read(&party, Count::capacity(1, 0))?;
        }
        let data = model.next(0, wanted.min(capacity.get()));
        lab.write(stream.write, &data).must_take(data.len())?;
        model.put(&data, data.len());
        model.check(lab, &party)?;
    }
    lab.write(stream.write, &Data::zeros(0)).must_take(0)?;
    model.check(lab, &party)?;
    model.drain(&party)?;
    lab.must(true, "a write returns its count, and its bytes are there", String::new)
}
