//! Amounts and turns for streams: how they are split into writes and reads, by whom, after what.

use std::fmt;

use proptest::prelude::*;

use super::{is_for_snapshot, reach};
use crate::kernel::page::{Size, page};

/// What an amount is near to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One byte.
    Byte,
    /// The largest write that is atomic (limits.h, PIPE_BUF).
    PipeBuf,
    /// A page, which is what a pipe counts its room in.
    Page,
    /// All that the pipe at hand holds.
    Capacity,
}

/// An amount of bytes, told by what it is near to: systems differ in all of that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What it is near to.
    pub unit: Unit,
    /// So many times that.
    pub times: usize,
    /// And so many bytes more, or fewer.
    pub plus: isize,
}

impl Count {
    /// So many bytes.
    pub const fn bytes(count: usize) -> Count {
        Count { unit: Unit::Byte, times: 0, plus: count as isize }
    }

    /// PIPE_BUF and so many bytes.
    pub const fn pipe_buf(plus: isize) -> Count {
        Count { unit: Unit::PipeBuf, times: 1, plus }
    }

    /// So many pages and bytes.
    pub const fn pages(times: usize, plus: isize) -> Count {
        Count { unit: Unit::Page, times, plus }
    }

    /// So many times the capacity and so many bytes.
    pub const fn capacity(times: usize, plus: isize) -> Count {
        Count { unit: Unit::Capacity, times, plus }
    }

    /// The number of bytes, with a pipe of this capacity.
    pub fn of(self, capacity: Size) -> usize {
        let unit = match self.unit {
            Unit::Byte => 1,
            Unit::PipeBuf => libc::PIPE_BUF,
            Unit::Page => page(),
            Unit::Capacity => capacity.get(),
        };
        (unit * self.times).saturating_add_signed(self.plus)
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { unit, times, plus } = *self;
        match (unit, times) {
            (Unit::Byte, _) => return write!(f, "{}", self.of(Size::ZERO)),
            (Unit::Page, _) => write!(f, "{times}p")?,
            (Unit::PipeBuf, 1) => write!(f, "PIPE_BUF")?,
            (Unit::PipeBuf, _) => write!(f, "{times}xPIPE_BUF")?,
            (Unit::Capacity, 1) => write!(f, "all")?,
            (Unit::Capacity, _) => write!(f, "{times}xall")?,
        }
        if plus == 0 { Ok(()) } else { write!(f, "{plus:+}") }
    }
}

/// Amounts near PIPE_BUF; in a snapshot near a page, for where PIPE_BUF is less than a page a stream of them takes fewer pages.
fn near_pipe_buf(plus: impl Strategy<Value = isize> + 'static) -> BoxedStrategy<Count> {
    let unit: fn(isize) -> Count = if is_for_snapshot() { |plus| Count::pages(1, plus) } else { Count::pipe_buf };
    plus.prop_map(unit).boxed()
}

fn nearby() -> BoxedStrategy<isize> {
    let reach = reach().min(libc::PIPE_BUF) as isize;
    prop_oneof![4 => Just(0), 3 => prop::sample::select(vec![1, -1, 7, -7, 511]), 2 => 1 - reach..reach].boxed()
}

fn few_bytes() -> BoxedStrategy<Count> {
    prop_oneof![2 => Just(1), 3 => 1_usize..20, 2 => (0_usize..300).prop_map(|half| 2 * half + 1)]
        .prop_map(Count::bytes)
        .boxed()
}

/// Amounts of one byte and more, up to a write that is atomic.
pub fn atomic_count() -> BoxedStrategy<Count> {
    let below = (1 - libc::PIPE_BUF as isize)..0;
    prop_oneof![
        3 => few_bytes(),
        2 => prop::sample::select(vec![0, -1, -7]).prop_map(Count::pipe_buf),
        2 => below.prop_map(Count::pipe_buf),
    ]
    .boxed()
}

/// Amounts of up to a few pages: few bytes, odd ones, near PIPE_BUF, near pages.
pub fn small_count() -> BoxedStrategy<Count> {
    let near = |times, unit: fn(usize, isize) -> Count| (times, nearby()).prop_map(move |(n, plus)| unit(n, plus));
    prop_oneof![
        4 => few_bytes(),
        3 => near_pipe_buf(nearby()),
        4 => near((1_usize..5).boxed(), Count::pages),
    ]
    .boxed()
}

/// Amounts of all orders, up to so many times the capacity.
pub fn any_count(most: usize) -> BoxedStrategy<Count> {
    let capacities = prop_oneof![3 => Just(1), 1 => 1..=most.max(1)];
    prop_oneof![
        9 => small_count(),
        2 => (capacities, nearby()).prop_map(|(times, plus)| Count::capacity(times, plus)),
    ]
    .boxed()
}

/// How many pages to ask for as the capacity; as the kernel gives it if `None`.
pub fn slots() -> BoxedStrategy<Option<usize>> {
    let few = prop::sample::select(vec![2, 1, 4]).prop_map(Some);
    prop_oneof![6 => few, 1 => Just(Some(8)), 1 => Just(None), 1 => Just(Some(16))].boxed()
}

/// What one of several processes does next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Which of them.
    pub by: usize,
    /// It writes; else it reads.
    pub writes: bool,
    /// So many bytes.
    pub count: Count,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by > 0 {
            write!(f, "{}:", self.by)?;
        }
        write!(f, "{}{:?}", if self.writes { "w" } else { "r" }, self.count)
    }
}

/// Reads and writes in an order, without waiting.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// The capacity to ask for, in pages.
    pub slots: Option<usize>,
    /// How far the ring has been moved on before.
    pub turned: usize,
    /// The reads and writes.
    pub turns: Vec<Turn>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slots {
            Some(slots) => write!(f, "{slots} slots")?,
            None => write!(f, "default")?,
        }
        if self.turned > 0 {
            write!(f, " turned {}", self.turned)?;
        }
        for (index, turn) in self.turns.iter().enumerate() {
            write!(f, "{}{turn:?}", if index == 0 { ": " } else { " " })?;
        }
        Ok(())
    }
}

/// A write of so many bytes by the first process.
pub const fn w(count: Count) -> Turn {
    Turn { by: 0, writes: true, count }
}

/// A read of so many bytes by the first process.
pub const fn r(count: Count) -> Turn {
    Turn { by: 0, writes: false, count }
}

/// How far a ring has been moved on: not at all, once around, anywhere.
pub fn turned() -> BoxedStrategy<usize> {
    prop_oneof![3 => Just(0), 2 => 1_usize..18, 1 => 18_usize..70].boxed()
}

/// Reads and writes of so many processes, of all orders of amounts, up to `most` of them.
pub fn scripts(processes: usize, most: usize) -> BoxedStrategy<Script> {
    let turn = (0..processes.max(1), prop::bool::weighted(0.55), any_count(2)).prop_map(|(by, writes, count)| Turn {
        by,
        writes,
        count,
    });
    (slots(), turned(), prop::collection::vec(turn, 1..=most))
        .prop_map(|(slots, turned, turns)| Script { slots, turned, turns })
        .boxed()
}
