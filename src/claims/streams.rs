//! What the claims about pipes and FIFOs have in common: the same property on both, and reads and writes against a model.

use std::collections::VecDeque;

use crate::claim::Claim;
use crate::input::{Count, Gen, Script, Turn};
use crate::kernel::call::Fd;
use crate::kernel::data::Data;
use crate::kernel::outcome::Outcome;
use crate::kernel::page::{Size, pages};
use crate::lab::Lab;
use crate::lab::actor::Actor;
use crate::lab::stream::{Kind, Slots, Stream, would_block};
use crate::lab::trace::Verdict;
use crate::lab::verbs::Calls;

/// A claim whose property is put to pipes and to FIFOs.
pub(super) trait OnBoth {
    /// Two parts, with these names, for a pipe and for a FIFO; each tries one case for `share` that are asked for.
    fn on_both<T, F>(self, names: [&'static str; 2], share: usize, inputs: Gen<T>, body: F) -> Claim
    where
        T: std::fmt::Debug + Clone + 'static,
        F: Fn(&Lab, Kind, &T) -> Verdict + Copy + 'static;
}

impl OnBoth for Claim {
    fn on_both<T, F>(self, names: [&'static str; 2], share: usize, inputs: Gen<T>, body: F) -> Claim
    where
        T: std::fmt::Debug + Clone + 'static,
        F: Fn(&Lab, Kind, &T) -> Verdict + Copy + 'static,
    {
        let [pipe, fifo] = names;
        self.part(pipe, inputs.clone(), move |lab, input| body(lab, Kind::Pipe, &input))
            .one_in(share)
            .part(fifo, inputs, move |lab, input| body(lab, Kind::Fifo, &input))
            .one_in(share)
    }
}

/// A relation that is told only where it does not hold: on the way to what the snapshot speaks of.
pub(super) fn require(lab: &Lab, holds: bool, words: &str, seen: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { lab.must(false, words, seen) }
}

/// A process that takes part, and the ends as it knows them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Party<'l> {
    pub(super) who: Actor<'l>,
    pub(super) read: Fd,
    pub(super) write: Fd,
}

impl<'l> Party<'l> {
    pub(super) fn of(who: Actor<'l>, stream: &Stream) -> Party<'l> {
        Party { who, read: stream.read, write: stream.write }
    }
}

/// The worker and so many processes more: children, a child's child.
pub(super) fn family<'l>(lab: &'l Lab, stream: &Stream, count: usize) -> Verdict<Vec<Party<'l>>> {
    let mut family = vec![Party::of(lab.worker(), stream)];
    for index in 1..count {
        // The third is the child of the second, and the fourth its child.
        let actor = match index {
            2 | 3 => lab.fork_from(family[index - 1].who.id(), false)?,
            _ => lab.fork()?,
        };
        family.push(Party::of(actor, stream));
    }
    Ok(family)
}

/// What is in a stream whose ends do not wait, and what may become of the next call.
#[derive(Debug)]
pub(super) struct Model {
    capacity: Size,
    slots: Slots,
    unread: VecDeque<u8>,
    written: usize,
}

impl Model {
    pub(super) fn empty(capacity: Size) -> Model {
        Model { capacity, slots: Slots::of(capacity), unread: VecDeque::new(), written: 0 }
    }

    pub(super) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// How many of its pages are in use at most.
    pub(super) fn pages(&self) -> usize {
        self.slots.in_use()
    }

    /// It has this capacity from here on.
    pub(super) fn resize(&mut self, capacity: Size) {
        self.capacity = capacity;
        self.slots.resize(capacity);
    }

    /// How many bytes of a write there is room for at least.
    pub(super) fn room(&self, count: usize) -> usize {
        self.slots.room(count)
    }

    /// The next bytes to be written, marked by who writes them and by their position.
    pub(super) fn next(&self, writer: usize, count: usize) -> Data {
        Data::at(writer as u32, self.written, count)
    }

    /// A write of these bytes took the first so many.
    pub(super) fn put(&mut self, data: &Data, taken: usize) {
        self.slots.put(data.len(), taken);
        self.unread.extend(&data.to_vec()[..taken]);
        self.written += taken;
    }

    /// A write of these bytes begins, which may have to wait: how many of them it takes at once.
    pub(super) fn begin(&mut self, data: &Data) -> usize {
        let taken = self.room(data.len());
        self.put(data, taken);
        taken
    }

    /// The write that waits goes on where pages have become free: how many of its bytes it has taken by now.
    pub(super) fn go_on(&mut self, data: &Data, taken: usize) -> usize {
        let more = self.slots.room_for_rest(data.len() - taken);
        self.slots.put_rest(more);
        self.unread.extend(&data.to_vec()[taken..taken + more]);
        self.written += more;
        taken + more
    }

    /// What a read of so many bytes gives.
    pub(super) fn take(&mut self, count: usize) -> Data {
        let count = count.min(self.unread.len());
        self.slots.take(count);
        let left = self.unread.split_off(count);
        Vec::from(std::mem::replace(&mut self.unread, left)).into()
    }

    /// A write without waiting: all or nothing up to PIPE_BUF, a part above, what there is room for at least, and never more than the capacity.
    pub(super) fn write(&mut self, lab: &Lab, party: &Party<'_>, count: Count) -> Verdict {
        let data = self.next(party.who.id().0.into(), count.of(self.capacity));
        let answer = party.who.write(party.write, &data);
        let taken = match answer.outcome() {
            Outcome::Value(taken) => Some(*taken as usize),
            outcome if would_block(outcome) => None,
            _ => return answer.must_take(data.len()),
        };
        let seen = || {
            let taken = taken.map_or("EAGAIN".into(), |taken| format!("{} of {}", Size(taken), Size(data.len())));
            format!("{taken}, with {} unread of {}", Size(self.unread.len()), self.capacity)
        };
        let count = taken.unwrap_or(0);
        let room = self.room(data.len());
        let fits = count <= data.len() && self.unread.len() + count <= self.capacity.get();
        require(lab, fits, "a write takes at most its bytes, and a pipe holds at most its capacity", seen)?;
        require(lab, count >= room, "a write takes what there are free pages for", seen)?;
        let whole = data.len() > libc::PIPE_BUF || count == data.len() || taken.is_none();
        require(lab, whole, "a write of PIPE_BUF bytes or fewer is done whole or not at all", seen)?;
        require(lab, taken != Some(0) || data.is_empty(), "a write without room is EAGAIN", seen)?;
        self.put(&data, count);
        Ok(())
    }

    /// A read without waiting: what there is, up to the count.
    pub(super) fn read(&mut self, party: &Party<'_>, count: Count) -> Verdict {
        let count = count.of(self.capacity);
        let answer = party.who.read(party.read, count);
        match self.take(count) {
            data if data.is_empty() && count > 0 => answer.must_refuse(libc::EAGAIN),
            data => answer.must_yield(&data),
        }
    }

    /// FIONREAD and poll say what the model says: POLLIN exactly if a read would not wait, POLLOUT if a page is free.
    pub(super) fn check(&self, lab: &Lab, party: &Party<'_>) -> Verdict {
        for end in [party.read, party.write] {
            party.who.unread(end).must_take(self.unread.len())?;
        }
        let ready = if self.unread.is_empty() { 0 } else { libc::POLLIN as usize };
        // One end is asked for what is the other's as well, unless it is both.
        let both = libc::POLLIN | libc::POLLOUT;
        let [asked_of_read, asked_of_write] =
            if party.read == party.write { [libc::POLLIN, libc::POLLOUT] } else { [both; 2] };
        party.who.poll(party.read, asked_of_read).must_take(ready)?;
        let out = party.who.poll(party.write, asked_of_write).value()?;
        let full = self.unread.len() == self.capacity.get();
        let right = if full { out == 0 } else { out == libc::POLLOUT as u64 || out == 0 && !self.slots.has_free() };
        require(lab, right, "POLLOUT while a page is free, and not on a full pipe", || {
            format!("{out:#x} with {} unread of {}", Size(self.unread.len()), self.capacity)
        })
    }

    pub(super) fn turn(&mut self, lab: &Lab, parties: &[Party<'_>], turn: Turn) -> Verdict {
        let party = &parties[turn.by % parties.len()];
        // POLLOUT is a promise to the write that comes next.
        let promised = turn.writes && party.who.poll(party.write, libc::POLLOUT).value()? != 0;
        let before = self.unread.len();
        match turn.writes {
            true => self.write(lab, party, turn.count)?,
            false => self.read(party, turn.count)?,
        }
        let nothing = self.unread.len() == before && turn.count.of(self.capacity) > 0;
        require(lab, !(promised && nothing), "after POLLOUT a write is not refused", || "EAGAIN".into())?;
        self.check(lab, party)
    }

    /// Reads all that is left, in pieces, and finds the stream empty.
    pub(super) fn drain(&mut self, party: &Party<'_>) -> Verdict {
        while self.unread() > 0 {
            self.read(party, Count::pages(1, 1))?;
        }
        self.read(party, Count::bytes(1))
    }
}

/// Plays a script on a new stream with so many processes; the model follows, and at the end all has come through.
pub(super) fn play(lab: &Lab, kind: Kind, script: &Script, processes: usize) -> Verdict {
    let stream = kind.open_nonblocking(lab)?;
    let capacity = stream.resize(lab, script.slots)?;
    stream.turn(lab, script.turned)?;
    let parties = family(lab, &stream, processes)?;
    play_on(lab, &parties, capacity, &script.turns)?;
    lab.must(true, "every byte came once, whole and in order", String::new)
}

/// Plays turns on an empty stream, and drains it.
pub(super) fn play_on(lab: &Lab, parties: &[Party<'_>], capacity: Size, turns: &[Turn]) -> Verdict {
    let mut model = Model::empty(capacity);
    for turn in turns {
        model.turn(lab, parties, *turn)?;
    }
    model.drain(&parties[0])
}

/// A capacity that a stream was asked to have, for claims that need to know it: it must have been granted.
pub(super) fn exactly(lab: &Lab, capacity: Size, slots: usize) -> Verdict {
    if capacity == pages(slots) { Ok(()) } else { lab.lacking(crate::kernel::outcome::Lack::PipePages) }
}
